"""The measured page of errors: its reference is right, ours is the best of it, and the page is filled as promised."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from normspec.benchmarks import accuracy
from normspec.benchmarks.publish import fill
from normspec.benchmarks.rows import EPSILON, TOLERANCE, Row
from suite import ROOT

PAGE = ROOT / "docs" / "numerics.md"
SMALL = Row("training", (6, 2, 5), "float32", "channels first")


def told():
    """The numbers of the page: errors by library, by input."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = rows[0][1:]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows[1:]}


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_the_reference_is_the_formula(mode, layout):
    made = accuracy.batch(accuracy.Case("", SMALL._replace(mode=mode, layout=layout), accuracy.with_mean(1e4)))
    exact = accuracy.exact(made)
    for channel in range(2):
        values = [float(value) for value in made.x[:, channel].ravel()]
        weight, bias, mean, variance = (float(vector[channel]) for vector in made.vectors.values())
        if mode == "training":
            mean = math.fsum(values) / len(values)
            variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        expected = [(value - mean) / math.sqrt(variance + EPSILON) * weight + bias for value in values]
        np.testing.assert_allclose(exact[:, channel].ravel().astype(float), expected, rtol=1e-10, atol=1e-10)


def test_everyone_is_measured_and_ours_is_right():
    errors = accuracy.errors(accuracy.Case("", SMALL, accuracy.with_mean(1e4)))
    assert {"ours", "numpy", "one pass"} <= set(errors)
    assert errors["ours"] < 1e-7 < errors["numpy"] < errors["one pass"]


def test_the_page_tells_of_every_input_and_ours_is_never_worse():
    table = told()
    assert list(table) == [case.name for case in accuracy.CASES]
    for case in accuracy.CASES:
        found = {name: float(cell) for name, cell in table[case.name].items() if cell != "–"}
        assert found["ours"] == min(found.values())
        assert found["ours"] <= TOLERANCE[case.row.dtype] * 10
    assert {"torch", "jax", "numpy"} <= set(table["mean 10⁵, deviation 1"])


def test_the_page_is_filled_between_its_marks():
    page = PAGE.read_text(encoding="utf-8")
    filled = fill(page, "accuracy", accuracy.COMMAND, "| a table |\n")
    assert filled.count("| a table |") == 1
    text = re.search("<!-- accuracy: .*?-->\n(.*?)<!-- end of accuracy -->", page, re.DOTALL)[1]
    assert fill(filled, "accuracy", accuracy.COMMAND, text) == page
    with pytest.raises(ValueError, match="has no place for the table"):
        fill("# Another page\n", "accuracy", accuracy.COMMAND, "")
