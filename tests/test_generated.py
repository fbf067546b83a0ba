"""generated/ is what the generator writes: current, the same everywhere, and quickly made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from jsonschema import Draft202012Validator
from timing import in_times

from normspec.codegen.__main__ import main
from normspec.codegen.reader import _Yaml
from normspec.codegen.render import render
from suite import DIALECTS, ROOT, SPECS


def run(*arguments: str) -> int:
    return main(["--specs", str(SPECS), *arguments])


def test_generated_is_current(capsys):
    assert run("--check", "--output", str(ROOT / "generated")) == 0, capsys.readouterr().err


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "generated", tmp_path / "generated", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "generated"


def test_a_changed_file_is_reported(copy, capsys):
    path = copy / "storch" / "nn.py"
    path.write_text(path.read_text().replace("eps: float = 1e-05", "eps: float = 1e-06"))
    assert run("--check", "--output", str(copy)) == 1
    assert "-        eps: float = 1e-06,\n+        eps: float = 1e-05,\n" in capsys.readouterr().err


def test_a_missing_file_is_reported(copy, capsys):
    (copy / "storch" / "nn.py").unlink()
    assert run("--check", "--output", str(copy)) == 1
    assert "--- /dev/null\n+++ b/storch/nn.py\n" in capsys.readouterr().err


def test_an_extra_file_is_reported_and_removed(copy, capsys):
    shutil.copy(copy / "storch" / "nn.py", copy / "storch" / "extra.py")
    assert run("--check", "--output", str(copy)) == 1
    assert "--- a/storch/extra.py\n+++ /dev/null\n" in capsys.readouterr().err
    assert run("--output", str(copy)) == 0
    assert not (copy / "storch" / "extra.py").exists()


def test_a_class_that_is_no_more_takes_its_files_along(copy, tmp_path, capsys):
    specs = shutil.copytree(SPECS, tmp_path / "specs")
    (specs / "storch" / "BatchNorm3d.yaml").unlink()
    before = {path.name for path in copy.rglob("nn.BatchNorm3d.*") if path.parent.name == "storch"}
    assert main(["--specs", str(specs), "--output", str(copy)]) == 0, capsys.readouterr().err
    assert before == {"nn.BatchNorm3d.md", "nn.BatchNorm3d.svg"}
    assert not [path for path in copy.rglob("nn.BatchNorm3d.*") if path.parent.name == "storch"]


def test_an_installed_package_asks_where_to_write(monkeypatch, capsys):
    monkeypatch.setattr("normspec.codegen.__main__.HOME", None)
    with pytest.raises(SystemExit):
        run()
    assert "--output: expected a folder to write, found none" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"my thesis\n", b"\xff\xfe binary"])
def test_what_the_generator_did_not_write_is_never_removed(copy, capsys, content):
    (copy / "thesis.txt").write_bytes(content)
    (copy / "storch" / "nn.py").unlink()
    assert run("--check", "--output", str(copy)) == 1
    assert run("--output", str(copy)) == 1
    assert "has files that are not generated: thesis.txt" in capsys.readouterr().err
    assert (copy / "thesis.txt").read_bytes() == content
    assert not (copy / "storch" / "nn.py").exists()


def test_a_folder_without_specs_generates_nothing(copy, tmp_path, capsys):
    (tmp_path / "typo").mkdir()
    assert main(["--specs", str(tmp_path / "typo"), "--output", str(copy)]) == 1
    assert "typo:1: there is no dialect here" in capsys.readouterr().err
    assert (copy / "storch" / "nn.py").exists()


SCRIPT = """
import hashlib, sys
from pathlib import Path
from normspec.codegen.render import render
from normspec.codegen.resolve import load
print(hashlib.sha256(repr(sorted(render(load(Path(sys.argv[1]))).items())).encode()).hexdigest())
"""


def digest(python: str, seed: str, path: str = "") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    return subprocess.run(
        [python, "-c", SCRIPT, str(SPECS)], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_output_does_not_depend_on_the_hash_seed():
    assert len({digest(sys.executable, seed) for seed in ("0", "1", "2")}) == 1


def test_generating_takes_a_few_times_as_long_as_parsing_the_specs():
    """2.7 times that, where measured: a second, most of it in PyYAML and Jinja."""
    from normspec.codegen.resolve import load

    def parse():
        for path in SPECS.glob("*/*.yaml"):
            _Yaml(path.read_text(encoding="utf-8")).get_single_node()

    (ratio,) = in_times({"parsing": parse, "generating": lambda: render(load(SPECS))}, calls=1, rounds=3)
    assert ratio < 5


def test_no_line_is_ragged_or_too_wide():
    for name, text in render(DIALECTS).items():
        assert text == "" or text.endswith("\n"), name
        for number, line in enumerate(text.splitlines(), 1):
            assert line == line.rstrip(), f"{name}:{number}"
            assert len(line) <= 120 or not name.endswith(".py"), f"{name}:{number}"


@pytest.mark.parametrize("path", sorted(SPECS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_spec_satisfies_the_schema_that_editors_are_given(path):
    first, begin = path.read_text().splitlines()[0], "# yaml-language-server: $schema="
    document = yaml.load(path.read_text(), _Yaml)
    kind = "operator" if path.parent.name == "operators" else "dialect" if path.stem == "dialect" else "variant"
    generated = ROOT / "generated" / "schema" / f"{kind}.json"
    if first.startswith(begin):
        assert (path.parent / first.removeprefix(begin)).resolve() == generated
    Draft202012Validator(json.loads(generated.read_text())).validate(document)


def test_the_schema_refuses_a_wrong_key():
    schema = json.loads((ROOT / "generated" / "schema" / "variant.json").read_text())
    document = yaml.load((SPECS / "storch" / "BatchNorm1d.yaml").read_text(), _Yaml)
    assert not list(Draft202012Validator(schema).iter_errors(document))
    assert list(Draft202012Validator(schema).iter_errors(document | {"sumary": "x"}))
