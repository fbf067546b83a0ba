"""Every class keeps every promise of its specs; a new dialect is held to all of them without a line here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest

from normspec.codegen import vocabulary
from normspec.codegen.model import Deviation
from normspec.conformance import matrix
from normspec.conformance.clauses import CLAUSES, Omitted
from normspec.conformance.oracle import Oracle
from suite import DIALECTS, ROOT, SEEDS

ROWS = {row.name: row for row in matrix.rows(DIALECTS)}


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("name", ROWS)
def test_conforms(name, clause):
    with contextlib.suppress(Omitted):
        ROWS[name].check(clause)


def test_what_is_omitted_has_a_reason():
    omitted = [cell for cell in matrix.run(DIALECTS[:1]) if cell.result == "omitted"]
    assert all(cell.reason for cell in omitted)
    assert {cell.clause for cell in omitted} <= {"devices", "examples"}


@pytest.mark.parametrize("device", ["simulator", "gpu"])
def test_conforms_on_cuda(device):
    from normspec.runtime.kernels import cuda

    if device == "gpu" and not cuda.available():
        pytest.skip(f"no GPU: {cuda.describe()}")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(device == "simulator"))}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "cuda_conformance.py"]
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_specs_may_name_every_clause_that_there_is():
    assert tuple(CLAUSES) == vocabulary.CLAUSES


def test_every_seed_system_is_checked():
    assert {name.partition(".")[0] for name in ROWS} >= set(SEEDS)


def test_a_broken_promise_is_seen():
    """The clauses can fail: a class with another default is reported by name."""
    row = ROWS["storch.nn.BatchNorm1d"]
    case = row.check.args[0]
    broken = type(case)(case.dialect, _with_default(case.one, "eps", 1e-3))
    cell = matrix.cell(matrix.Row(row.name, lambda clause: CLAUSES[clause](broken), ()), "signature")
    assert (cell.result, "eps=1e-05" in cell.reason) == ("failed", True)


def _with_default(one, name, value):
    import dataclasses

    arguments = tuple(
        dataclasses.replace(each, value=value, default=repr(value)) if each.name == name else each
        for each in one.arguments
    )
    return dataclasses.replace(one, arguments=arguments)


def test_the_page_in_the_documents_is_current():
    from normspec.runtime.kernels import cuda

    if cuda.available():
        pytest.skip("the page is of a machine without a GPU")
    assert matrix.page(list(matrix.run(DIALECTS))) == (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_the_page_has_every_cell_and_reason():
    cells = [
        matrix.Cell(
            "a.B", clause, "omitted" if clause == "devices" else "passed", "no GPU" if clause == "devices" else ""
        )
        for clause in CLAUSES
    ]
    page = matrix.page(cells)
    assert page.count(" ✓ |") == len(CLAUSES) - 1
    assert "\n### devices\n\n" in page
    assert "\n- – no GPU ([`a.B`](../generated/docs/a/B.md))\n" in page
    assert "a.B" in matrix.table(cells)


def test_the_page_shows_the_words_of_a_deviation_and_obeys_none_of_them():
    deviation = Deviation("a*b*", "output", "<i>c</i>", "``d``", None, None)
    cells = [matrix.Cell("a.B", one, "deviation", "", (deviation,) * (one == "output")) for one in CLAUSES]
    line = r"- Δ **a\*b\***: \<i\>c\</i\> *Here:* `d` ([`a.B`](../generated/docs/a/B.md))"
    assert line in matrix.page(cells).splitlines()


def test_the_oracle_is_exact_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(1e8, 1, (4096, 2))
    wide = (x - 1e8).astype(np.longdouble)  # a difference without a rounding error
    expected = (wide - wide.mean(axis=0)) / np.sqrt(wide.var(axis=0) + np.longdouble(1e-5))
    y = Oracle(2, 1e-5, 0.1, True, True, None, None, None, None)(x, training=True)
    assert np.abs(y - expected).max() < 1e-14
