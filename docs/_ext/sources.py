"""Links to the repository's other files, highlighted, at a line: those of the text, and one beside each signature."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, guess_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).resolve().parents[2]


def page(path: str) -> str:
    """The page of a file."""
    return f"files/{path}"


def keep_line(app: Sphinx, docname: str, source: list[str]) -> None:
    """MyST forgets the line that a link to a file names, but not its title."""
    source[0] = re.sub(r"\]\(([^()\s#]+)#(L\d+)\)", r'](\1 "\2")', source[0])


class Link(SphinxTransform):
    """Turns what would be a download into a link to a page of ours; remembers which pages are wanted."""

    default_priority = 800

    def apply(self, **keywords: object) -> None:
        """Replace every download of a text file."""
        here = PurePosixPath(self.env.docname)
        for download in list(self.document.findall(addnodes.download_reference)):
            target, line = download["reftarget"], download.get("reftitle", "")
            path = (ROOT / here.parent / target).resolve()
            if not path.is_file():
                continue
            download.replace_self(link(self.env, path, line, *download.children))


class Source(SphinxTransform):
    """Puts a link to the source beside each signature that is rendered from a docstring."""

    default_priority = 810

    def apply(self, **keywords: object) -> None:
        """Add the links."""
        for signature in self.document.findall(addnodes.desc_signature):
            found = definition(signature.get("module", ""), signature.get("fullname", ""))
            if found is not None:
                signature += link(self.env, *found, nodes.inline("", "[source]"), classes=["source"])


def definition(module: str, name: str) -> tuple[Path, str] | None:
    """The file and line where something is defined; None if it is no class or function, or cannot be imported here."""
    try:
        one: Any = operator.attrgetter(name)(importlib.import_module(module))
        one = inspect.unwrap(getattr(one, "fget", one))  # of a property its function
        return Path(inspect.getsourcefile(one) or "").resolve(), f"L{inspect.getsourcelines(one)[1]}"
    except (ImportError, AttributeError, TypeError):
        return None


def link(env: BuildEnvironment, path: Path, line: str, *shown: nodes.Node, **attributes: Any) -> nodes.reference:
    """A link to the page of a file, which there will be."""
    name = path.relative_to(ROOT).as_posix()
    wanted(env).setdefault(env.docname, set()).add(name)
    uri = relative_uri(f"{env.docname}.html", f"{page(name)}.html") + (f"#{line}" if line else "")
    return nodes.reference("", "", *shown, refuri=uri, internal=True, **attributes)


def wanted(env: BuildEnvironment) -> dict[str, set[str]]:
    """The files that pages link to, by page."""
    if not hasattr(env, "normspec_sources"):
        env.normspec_sources = {}  # type: ignore[attr-defined]
    return env.normspec_sources  # type: ignore[attr-defined, no-any-return]


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """A page is read again."""
    wanted(env).pop(docname, None)


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file that is linked to."""
    for name in sorted(set().union(*wanted(app.env).values())):
        text = (ROOT / name).read_text(encoding="utf-8")
        try:
            lexer = guess_lexer_for_filename(name, text)
        except ClassNotFound:
            lexer = TextLexer()
        code = highlight(text, lexer, HtmlFormatter(linespans="L", anchorlinenos=True, linenos="inline"))
        code = code.replace('"L-', '"L').replace('"#L-', '"#L')  # as other sites number lines
        yield page(name), {"title": name, "body": f"<h1>{name}</h1>\n{code}"}, "page.html"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the transform, and the pages that it asks for."""
    app.add_transform(Link)
    app.add_transform(Source)
    app.connect("source-read", keep_line)
    app.connect("env-purge-doc", forget)
    app.connect("html-collect-pages", pages)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False, "parallel_write_safe": True}
