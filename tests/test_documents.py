"""Every block of code that a reader can see is tried, and prints what it shows: documents, docstrings, reference."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normspec.cli.main import main
from normspec.codegen.reader import SpecError
from normspec.codegen.resolve import load
from normspec.conformance.examples import run
from normspec.runtime import DType
from normspec.runtime.kernels import cuda
from suite import CLASSES, ROOT, SEEDS

PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "specs/README.md", "benchmarks/NOTES.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "generated" / "docs").rglob("*.md")),
]
NAMES = {path: path.relative_to(ROOT).as_posix() for path in PAGES}
BLOCK = re.compile(r"^(`{3,})([\w{}-]*)[^\n]*\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
README, CONTRIBUTING = PAGES[:2]


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


QUICK = {"normspec doctor", "normspec list", "normspec show", "normspec warmup"}  # run here; all else runs in CI:
OFFLINE = "python -m pip install --no-index --no-deps --no-build-isolation --editable ."
ON_A_GPU = ("python tests/on_gpu.py ", "normspec bench-gpu ")
ELSEWHERE = {  # a command, a file, and what in it runs the command
    "make demo": (".ci/run", "make demo"),
    "make test": (".ci/run", "make generate conformance test"),
    "make generate conformance test": (".ci/run", "make generate conformance test"),
    "pip install normspec": (".ci/wheel.py", 'run(python, "-m", "pip", "install", "--quiet", f"{wheel}'),
    "pip install normspec[cuda13]": (".ci/run", '--editable ".[cuda13,'),
    OFFLINE: (".ci/run", OFFLINE.removeprefix("python ")),
    "export CUDA_HOME=/usr/local/cuda": ("tests/on_gpu.py", '"/usr/local/cuda"'),
}


@having("sh", "bash", "console")
def test_the_commands_of_a_page_run(path, capfd):
    """What is quick runs here; the rest is run by CI, in these words."""
    for where, code in blocks(path, "sh", "bash", "console"):
        for line in code.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if " ".join(words[:2]) in QUICK:
                assert main(words[1:]) == 0, where
                assert capfd.readouterr().out, where
            elif line.startswith(ON_A_GPU):
                assert cuda.available() or refused(words), where
            elif words:
                file, text = ELSEWHERE[" ".join(words)]
                assert text in (ROOT / file).read_text(encoding="utf-8"), where


def refused(words):
    """Has a command no more to complain of than a GPU or torch that are not there?"""
    command = [Path(sys.executable).with_name(words[0]), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode == 2 and re.search("CUDA is unavailable|needs torch", done.stderr)


def test_every_block_of_a_page_is_of_a_kind_that_is_tried():
    """Beside Python, signatures and commands there are a few, each with a test; nothing else is on the pages."""
    others = {
        ("docs/adding.md", "yaml"),  # test_adding.py, as all of that page
        ("docs/adding.md", "pycon"),
        ("docs/adding.md", "text"),
        ("CONTRIBUTING.md", "yaml"),  # the next two tests
        ("CONTRIBUTING.md", "text"),
        ("README.md", "text"),
    }
    for path in PAGES:
        kinds = {match[2] for match in BLOCK.finditer(path.read_text(encoding="utf-8"))}
        allowed = {kind for page, kind in others if page == NAMES[path]}
        allowed |= (
            {"text"} if "generated/docs" in NAMES[path] else set()
        )  # a formula in a dialect's words: test_site.py
        assert kinds <= allowed | {"python", "py", "sh", "{toctree}", "{eval-rst}", "{include}"}, NAMES[path]


def test_the_worked_example_of_contributing(tmp_path):
    """Its YAML can stand in place of the class's own, and the mistake below it is told so."""
    (_, code), ((_, told),) = blocks(CONTRIBUTING, "yaml")[0], blocks(CONTRIBUTING, "text")
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs)
    path = specs / "torch" / "BatchNorm3d.yaml"
    path.write_text(code, encoding="utf-8")
    (dialect,) = (one for one in load(specs) if one.name == "torch")
    assert "BatchNorm3d" in {one.name for one in dialect.classes}
    path.write_text(code.replace("summary:", "sumary:"), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load(specs)
    assert told.strip() in str(error.value).splitlines()


def test_the_list_of_decisions_has_their_titles():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^(\d+\. )\[(.+)\]\((.+)\)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    heads = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in folder.glob("0*.md")}
    assert {name: f"# {number}{title}" for number, title, name in listed} == heads


def test_the_folders_of_the_readme_are_those_that_there_are():
    ((_, tree),) = blocks(README, "text")
    listed = re.findall(r"(?:^|/ )(\w+)(?=/)", tree, re.MULTILINE)
    made = re.compile(r"[._].*|build|dist|out|.*\.egg-info")  # by Python, Git and the Makefile
    assert sorted(listed) == sorted(one.name for one in ROOT.iterdir() if one.is_dir() and not made.fullmatch(one.name))


def test_the_readme_has_an_example_of_every_dialect():
    code = " ".join(code for _, code in blocks(ROOT / "README.md", "python"))
    for name in SEEDS:
        assert re.search(rf"normspec(\.| import ){name}\b", code), name


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
