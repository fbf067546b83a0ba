"""Every block of code that a reader can see is tried, and prints what it shows: documents, docstrings, reference."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from importlib import metadata

import pytest

from normspec.cli.main import COMMANDS, main
from normspec.conformance.examples import run
from normspec.runtime import DType
from suite import CLASSES, DIALECTS, ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "specs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "generated" / "docs").rglob("*.md")),
]
NAMES = {path: path.relative_to(ROOT).as_posix() for path in PAGES}
BLOCK = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


def blocks(path, *languages):
    """The code blocks of a page, with where they are."""
    text = path.read_text(encoding="utf-8")
    return [
        (f"{NAMES[path]}:{text.count(chr(10), 0, match.start()) + 2}", match[3])
        for match in BLOCK.finditer(text)
        if match[2] in languages
    ]


def having(*languages):
    """The pages that have such blocks, as cases of a test."""
    found = [path for path in PAGES if blocks(path, *languages)]
    return pytest.mark.parametrize("path", found, ids=[NAMES[path] for path in found])


@having("python")
def test_the_python_of_a_page_runs(path, tmp_path, monkeypatch):
    """One block after the other, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"np": importlib.import_module("numpy")}
    for library in ("torch", "jax"):
        if any(code.startswith(f">>> import {library}") for _, code in blocks(path, "python")):
            pytest.importorskip(library, reason=f"the page is about {library}, which is not installed")
    for where, code in blocks(path, "python"):
        if ">>>" in code:
            run(code, names, where)
        else:
            exec(compile(code, where, "exec"), names)


@having("py")
def test_the_signatures_of_a_page_are_those_of_the_code(path):
    """A block of ``py`` is a signature, of what the page or the line above it names."""
    text = path.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[2] == "py":
            name, arguments = re.fullmatch(r"(?:class )?(\w+)(?:\((.*)\))?.*\n", match[3], re.DOTALL).groups()
            owner = re.findall(r"`normspec\.([\w.]+)`", text[: match.start()])[-1]
            module, _, last = owner.rpartition(".")
            one = getattr(importlib.import_module(f"normspec.{module}"), last)
            one = one if one.__name__ == name else getattr(one, name)
            if arguments is None:
                assert isinstance(one, property), name
                continue
            found = [each for each in inspect.signature(one).parameters.values() if each.name != "self"]
            shown = ast.parse(f"def f({arguments}): pass").body[0].args
            spoken = [*shown.args, *([shown.vararg] if shown.vararg else []), *shown.kwonlyargs]
            assert [each.arg for each in spoken] == [each.name for each in found], name
            defaults = [ast.unparse(each) for each in (*shown.defaults, *shown.kw_defaults) if each is not None]
            assert defaults == [
                str(one.default) if isinstance(one.default, DType) else repr(one.default)
                for one in found
                if one.default is not one.empty
            ], name


@having("sh", "bash", "console")
def test_the_commands_of_a_page_exist(path):
    """Targets of make, commands of ours and extras of the package; the longer ones run in tests of their own."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = set(metadata.metadata("normspec").get_all("Provides-Extra") or ())
    for where, code in blocks(path, "sh", "bash", "console"):
        for line in code.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if not words:
                continue
            command, *arguments = words
            if command == "make":
                assert all(
                    re.search(rf"^{target}:", makefile, re.MULTILINE) for target in arguments if "=" not in target
                )
            elif command.endswith("normspec"):
                assert arguments[0] in COMMANDS, where
                if arguments[0] in ("list", "show"):
                    assert main(arguments) == 0, where
            elif words[:2] == ["pip", "install"]:
                for named in re.findall(r"normspec\[([\w,]+)\]", line):
                    assert set(named.split(",")) <= extras, where
            else:
                assert command in ("python", ".venv/bin/python", "git", "pre-commit"), (
                    f"{where}: nobody has tried {line}"
                )


def test_the_readme_has_an_example_of_every_dialect():
    code = " ".join(code for _, code in blocks(ROOT / "README.md", "python"))
    for dialect in DIALECTS:
        assert re.search(rf"normspec(\.| import ){dialect.name}\b", code) or dialect.name == "tripy", dialect.name


@pytest.mark.parametrize("name", CLASSES)
def test_the_examples_of_a_docstring_run(name):
    one = CLASSES[name][1]
    cls = getattr(importlib.import_module(f"normspec.{name.rpartition('.')[0]}"), one.name)
    run(inspect.cleandoc(cls.__doc__), {}, name)
    assert (">>>" in cls.__doc__) == bool(one.examples)


def test_show_tells_the_docstring(capsys):
    for name, (dialect, one) in CLASSES.items():
        assert main(["show", name]) == 0
        cls = getattr(importlib.import_module(f"normspec.{name.rpartition('.')[0]}"), one.name)
        assert capsys.readouterr().out.endswith(f"\n\n{inspect.getdoc(cls)}\n")
        for method in dialect.methods:
            assert main(["show", f"{dialect.name}.{one.name}.{method.name}"]) == 0
            assert capsys.readouterr().out.endswith(f"\n\n{inspect.getdoc(getattr(cls, method.name))}\n")


@pytest.mark.parametrize("path", PAGES, ids=NAMES.values())
def test_the_links_of_a_page_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!http)([^)#]+)", re.sub(r"`[^`]*`", "", prose)):
        assert (path.parent / target).exists(), target
