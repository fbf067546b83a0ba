"""The table of generated/docs/statistics.md against what the classes do: read as a person reads it."""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import pytest

from suite import CLASSES, DIALECTS, ROOT, SEEDS

LINES = (ROOT / "generated" / "docs" / "statistics.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("| ")]
COLUMNS = {heading.partition("]")[0].strip("["): number for number, heading in enumerate(ROWS[0]) if number}
TOLD = {name: {row[0]: row[number] for row in ROWS[1:]} for name, number in COLUMNS.items()}
X = np.array([[0.0], [1.0], [5.0], [6.0]])
FIRST = {
    dialect.name: next(name for name, (_, one) in CLASSES.items() if name.startswith(f"{dialect.name}.") and one.learns)
    if any(one.learns for one in dialect.classes)
    else f"{dialect.name}.BatchNorm"
    for dialect in DIALECTS
}


@pytest.fixture(params=sorted(SEEDS))  # by the names that these have
def case(request):
    """What the page says of a dialect, and a way to make its module, in float64 and of one feature."""
    name = FIRST[request.param]
    package = importlib.import_module(f"normspec.{request.param}")
    cls = getattr(importlib.import_module(f"normspec.{name.rpartition('.')[0]}"), name.rpartition(".")[2])

    def make(**arguments):
        bn = cls(1, **{"dtype": package.float64, "eps": 0.25, **arguments})
        bn.weight, bn.bias = (type(one)([value], "float64") for one, value in ((bn.weight, 1.0), (bn.bias, 0.0)))
        if not hasattr(bn, "train"):
            bn.running_mean, bn.running_var = (type(bn.weight)([value], "float64") for value in (2.0, 3.75))
        return bn

    return TOLD[request.param], make


def normalized(mean, variance):
    return (X - mean) / np.sqrt(variance + 0.25)


def test_every_dialect_is_in_the_table():
    assert set(TOLD) == {dialect.name for dialect in DIALECTS}


def test_what_training_normalizes_by(case):
    told, make = case
    by = {"the batch: its mean, its variance over n": (3, 6.5), "there is no training": (2, 3.75)}
    np.testing.assert_allclose(make()(X), normalized(*by[told["training normalizes by"]]))


def test_how_the_running_statistics_move(case):
    told, make = case
    bn = make()
    mean, variance = bn.running_mean.item(), bn.running_var.item()
    bn(X)
    if "nothing" in told["training moves the running mean by"]:
        assert (bn.running_mean.item(), bn.running_var.item()) == (mean, variance)
        assert told["the running variance takes in"] == "nothing"
        return
    assert bn.running_mean.item() == pytest.approx(mean + bn.momentum * (3 - mean))
    freedom = {"the batch's variance over n − 1": 1, "the batch's variance over n": 0}
    taken = X.var(ddof=freedom[told["the running variance takes in"]])
    assert bn.running_var.item() == pytest.approx(variance + bn.momentum * (taken - variance))


def test_how_they_move_without_a_rate(case):
    told, make = case
    if told["… and, where that is None, by"] == "–":
        return
    bn = make(momentum=None)
    for value in (2, 6):
        bn(np.array([[value], [value]], float))
    assert bn.running_mean.item() == 4


def test_a_single_value_and_none_at_all(case):
    told, make = case
    single = told["one value per channel in training"]
    bn = make()
    before = bn.running_mean.item()
    with pytest.raises((ValueError, RuntimeError)) if single == "is refused" else contextlib.nullcontext():
        y = bn(np.array([[7.0]]))
        if single == "is taken: the output is the shift":
            assert y == bn.bias.item()
    bn = make()
    bn(np.zeros((0, 1)))
    assert bn.running_mean.item() == before


def test_what_evaluation_normalizes_by(case):
    told, make = case
    bn = make()
    mean, variance = told["evaluation normalizes by"].replace("`", "").split(", ")
    for name, value in ((mean, 4.0), (variance, 1.0)):
        setattr(bn, name, type(getattr(bn, name))([value], "float64"))
    if hasattr(bn, "eval"):
        bn.eval()
    np.testing.assert_allclose(bn(X), normalized(4, 1))
    without = told["evaluation without running statistics"]
    if not without.startswith("cannot be"):
        switch, value = without.partition("`: ")[0].strip("`").split("=")
        bn = make(**{switch: {"False": False}[value]})
        bn.eval()
        assert without.endswith("the batch")
        np.testing.assert_allclose(bn(X), normalized(3, 6.5))


def test_how_they_begin_and_are_counted(case):
    told, make = case
    first = {"zeros": 0, "ones": 1, "arange": 0}
    begin = [first[word] for word in told["running statistics begin as"].split(", ")]
    bn = type(make())(1)
    assert [bn.running_mean.item(), bn.running_var.item()] == begin
    narrow = type(make())(1, dtype="float16")
    wide = told["their element type"].endswith("float32 at least")
    assert narrow.running_mean.dtype.name == ("float32" if wide else "float16")
    counted = told["batches are counted in"]
    if counted == "nothing":
        assert not hasattr(bn, "num_batches_tracked")
    else:
        name, dtype = counted.split(", ")
        expected = "int64" if dtype == "int64" else "float32"
        assert getattr(narrow, name.strip("`")).dtype.name == expected
