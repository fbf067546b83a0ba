"""docs/adding.md as it stands: its files are written, generated from, held to the clauses and called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from normspec.codegen.__main__ import main
from suite import ROOT

PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SCRIPT = """
import sys
from pathlib import Path
import normspec
import normspec.runtime.operators
folder = Path(sys.argv[1])
normspec.__path__.insert(0, str(folder / "generated"))
normspec.runtime.operators.__path__.insert(0, str(folder / "runtime" / "operators"))
from normspec.codegen.resolve import load
from normspec.conformance import matrix
from normspec.conformance.examples import run
run((folder / "examples.txt").read_text(encoding="utf-8"), {}, "docs/adding.md")
added = ("torch.nn.BatchNorm", "mini.Norm", "mini.Scale")
rows = [row for row in matrix.rows(load(folder / "specs")) if row.name in added]
assert len(rows) == 3
for row in rows:
    for clause in matrix.CLAUSES:
        cell = matrix.cell(row, clause)
        assert cell.result != "failed", cell
        print(cell.row, cell.clause, cell.result)
"""


def under(key, text, lines):
    """A file of YAML with some more lines under a key, which it may not have had."""
    return (text if key in text else text + key).replace(key, key + lines, 1)


def written(folder):
    """A copy of the specs with the page's files in it; the examples of the page, one after the other."""
    shutil.copytree(ROOT / "specs", folder / "specs", ignore=shutil.ignore_patterns("*.py"))
    examples = ""
    for _, code in BLOCKS:
        where = re.match(r"# ((?:specs|runtime)/\S+?\.\w+)(?:: under (\w+))?\n", code)
        if where is None:
            examples += code if code.startswith(">>>") else ""
            continue
        path = folder / where[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        if where[2]:
            code = under(f"{where[2]}:\n", path.read_text(encoding="utf-8"), code.partition("\n")[2])
        path.write_text(code, encoding="utf-8")
    (folder / "examples.txt").write_text(examples, encoding="utf-8")


def test_what_the_page_adds_works(tmp_path, capsys):
    written(tmp_path)
    assert main(["--specs", str(tmp_path / "specs"), "--output", str(tmp_path / "generated")]) == 0, (
        capsys.readouterr().err
    )
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.nn.BatchNorm output deviation" in done.stdout
    assert "mini.Norm output passed" in done.stdout
    assert "mini.Scale output omitted" in done.stdout
    assert "mini.Scale state_dict passed" in done.stdout
    page = (tmp_path / "generated" / "docs" / "mini" / "Norm.md").read_text(encoding="utf-8")
    assert "channels must be an int, not {type}" in page
    page = (tmp_path / "generated" / "docs" / "mini" / "scaled.md").read_text(encoding="utf-8")
    assert "y = x \\cdot \\gamma" in page
    assert "[`mini.Scale`](Scale.md)" in page
    assert "[`mini.scaled`](scaled.md)" in (tmp_path / "generated/docs/mini/Scale.md").read_text(encoding="utf-8")


def test_a_function_that_refuses_is_told_who_speaks(tmp_path):
    written(tmp_path)
    scaling = tmp_path / "specs" / "operators" / "scaling.yaml"
    text = scaling.read_text(encoding="utf-8").replace("    returns:", "    raises: [scale_zero]\n    returns:")
    scaling.write_text(f"{text}\nconditions:\n  scale_zero: {{phase: call, fields: [], doc: It is zero.}}\n")
    for path in (tmp_path / "specs").glob("*/dialect.yaml"):
        message = '{raises: ValueError, text: "zero"}' if path.parent.name == "mini" else "{never: Nothing scales.}"
        path.write_text(under("messages:\n", path.read_text(encoding="utf-8"), f"  scale_zero: {message}\n"))
    assert main(["--specs", str(tmp_path / "specs"), "--output", str(tmp_path / "generated")]) == 0
    code = (tmp_path / "generated" / "mini" / "_functions.py").read_text(encoding="utf-8")
    assert "_SCALED = Speaker(" in code
    assert "return _scaling.scaled(_SCALED, input=x, scale=gamma)" in code


def test_the_mistake_that_the_page_shows_is_told_so(tmp_path, capsys):
    written(tmp_path)
    path = tmp_path / "specs" / "torch" / "BatchNorm.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("summary:", "sumary:"), encoding="utf-8")
    assert main(["--specs", str(tmp_path / "specs"), "--output", str(tmp_path / "generated")]) == 1
    (shown,) = (code for language, code in BLOCKS if language == "text")
    assert shown in capsys.readouterr().err
