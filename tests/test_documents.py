"""Every example that a reader can see runs, and prints what it shows: README, docstrings, reference pages."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from normspec.cli.main import main
from normspec.conformance.examples import run
from suite import CLASSES, DIALECTS, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "generated" / "docs").glob("*.md"))]
BLOCKS = [
    (f"{path.name}:{text[: match.start()].count(chr(10)) + 2}", match[1])
    for path in PAGES
    for text in [path.read_text(encoding="utf-8")]
    for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
]


@pytest.mark.parametrize(("where", "code"), BLOCKS, ids=[where for where, _ in BLOCKS])
def test_a_block_runs(where, code):
    names: dict[str, object] = {"np": importlib.import_module("numpy")}
    if ">>>" in code:
        run(code, names, where)
    else:
        exec(compile(code, where, "exec"), names)


def test_the_readme_has_an_example_of_every_dialect():
    blocks = " ".join(code for where, code in BLOCKS if where.startswith("README"))
    for dialect in DIALECTS:
        assert re.search(rf"normspec(\.| import ){dialect.name}\b", blocks) or dialect.name == "tripy", dialect.name


@pytest.mark.parametrize("name", CLASSES)
def test_the_examples_of_a_docstring_run(name):
    one = CLASSES[name][1]
    cls = getattr(importlib.import_module(f"normspec.{name.rpartition('.')[0]}"), one.name)
    run(inspect.cleandoc(cls.__doc__), {}, name)
    assert (">>>" in cls.__doc__) == bool(one.examples)


def test_show_and_docstring_say_the_same(capsys):
    for name, (_, one) in CLASSES.items():
        assert main(["show", name]) == 0
        page = " ".join(capsys.readouterr().out.split())
        for argument in one.arguments:
            assert " ".join(argument.doc.split()).replace("|", "\\|") in page, argument.name


def test_the_links_of_the_documents_lead_somewhere():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "decisions" / "README.md"):
        prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!http)([^)#]+)", prose):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
