"""``normspec kernels``: programs are told apart by their names, and what is wrong with one is said."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from normspec.cli import kernels
from normspec.cli.kernels import Facts

RESIDENT = next(name for name in kernels.programs() if name.startswith("resident_f32_f32_packets_"))
UNROLL = kernels.parsed(RESIDENT)[3]
GOOD = Facts(registers=100, spilled=0, loads=UNROLL, stores=UNROLL, doubles=("add.rn.f64",), size=10000)


def problems(**changes):
    return list(kernels.problems_of(kernels.programs()[RESIDENT], [GOOD, GOOD._replace(**changes)]))


def test_names_say_what_programs_do():
    assert kernels.parsed("resident_f32_f32_packets_u8_t512") == ("resident", "f32", True, 8)
    assert kernels.parsed("columns_resident_clusters_bf16_f32_elements_u4_t256")[:2] == (
        "columns_resident_clusters",
        "bf16",
    )
    assert kernels.parsed("planes_f16_f32_g4_u4_t256")[2]


def test_a_good_program_has_no_problem():
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spilled": 16}, "keeps [0, 16] bytes of registers in memory"),
        ({"doubles": ("fma.rn.f64",)}, "computes in float64: fma.rn.f64"),
        ({"doubles": ("mul.rn.f64",) * 7}, "computes in float64: mul.rn.f64, mul.rn.f64"),
        ({"loads": 1}, "has 1 loads of packets, expected "),
        ({"stores": 0}, "has 0 stores of packets, expected "),
    ],
)
def test_a_bad_program_has_one(changes, said):
    (problem,) = problems(**changes)
    assert problem.startswith(said)


def test_a_kernel_is_compiled(capsys, tmp_path, monkeypatch):
    try:
        importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('needs numba-cuda, pip install "normspec[cuda13]"')
    monkeypatch.chdir(tmp_path)
    assert kernels.main(["columns_inference_f32_f32_packets_u4_t256", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "| columns_inference_f32_f32_packets_u4_t256 |" in printed
    page = (tmp_path / "out" / "kernels.md").read_text()
    assert page.endswith(printed[: printed.rindex("\n1 programs, 0 problems")] + "\n")


def test_a_name_that_no_program_has_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        kernels.main(["residant", "colums"])
    assert "no program has residant or colums in its name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_has_every_program():
    """Registers are the compiler's, and change with it; names are ours."""
    page = (Path(__file__).parents[1] / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+_t\d+) ", page, re.MULTILINE) == list(kernels.programs())


def test_progress_is_shown_where_nobody_watches(capsys):
    progress = kernels.terminal.Line()
    for number in range(3):
        progress(f"compiled {number // 2 * 5} % of 3 programs: name{number}")
    assert capsys.readouterr().err.splitlines() == ["compiled 0 % of 3 programs", "compiled 5 % of 3 programs"]
