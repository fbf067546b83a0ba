"""The measured page of errors: its reference is right, ours is the best of it, and the page is filled as promised."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from normspec import functional, torch
from normspec.benchmarks import accuracy
from normspec.benchmarks.publish import fill
from normspec.benchmarks.rows import EPSILON, TOLERANCE, Row
from normspec.runtime import autograd
from normspec.runtime.kernels import on
from suite import ROOT

PAGE = ROOT / "docs" / "numerics.md"
cpu = on("cpu")
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


def deviations(values):
    """From the mean, and the variance, as fractions."""
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    return [value - mean for value in exact], sum((value - mean) ** 2 for value in exact) / len(exact)


@pytest.mark.parametrize("each", [False, True], ids=["one mask", "a mask for each feature"])
@pytest.mark.parametrize("mean", [0.0, 1e5, 1e8, -1e12])
def test_a_masked_mean_keeps_what_rounding_loses(mean, each):
    random = np.random.default_rng(0)
    x = random.standard_normal((12, 2, 25)) + mean
    mask = random.random((12, 2, 25)) < 0.5 if each else random.random((12, 1, 25)) < 0.5
    scale, shift = np.array([1.5, -0.5]), np.array([0.25, 3.0])
    for vectors in (None, None), (scale, shift):
        y = functional.batch_norm(x, None, None, *vectors, training=True, mask=mask).output
        for channel, kept in enumerate(np.moveaxis(np.broadcast_to(mask, x.shape), 1, 0)):
            own, variance = deviations(x[:, channel][kept])
            slope, start = (1.0, 0.0) if vectors[0] is None else (scale[channel], shift[channel])
            wanted = [float(one) / math.sqrt(float(variance) + EPSILON) * slope + start for one in own]
            np.testing.assert_allclose(y[:, channel][kept], wanted, rtol=4e-15, atol=4e-15)


def test_a_masked_constant_gives_exactly_the_shift():
    x, mask = np.full((7, 2, 5), 1e12 / 3), np.random.default_rng(0).random((7, 5)) < 0.5
    shift = np.array([0.25, 7.0])
    y = functional.batch_norm(x, None, None, None, shift, training=True, mask=mask, epsilon=1e-300).output
    np.testing.assert_array_equal(y, np.broadcast_to(shift[:, None], y.shape))


@pytest.mark.parametrize("mean", [1e8, 1e200, -1e160, np.inf])
def test_merging_with_no_values_changes_no_bit(mean):
    one, nothing = functional.batch_stats(np.full((5, 2), mean)), functional.batch_stats(np.empty((0, 2)))
    one = one._replace(mean=np.full(2, mean))
    for merged in functional.merge_stats(one, nothing), functional.merge_stats(nothing, one):
        np.testing.assert_array_equal(merged, one)


FAR = 2.0**40  # from which eighths have all their digits


@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_the_tape_do_not_depend_on_the_mean(masked):
    random = np.random.default_rng(0)
    near, dy = random.integers(-20, 20, (7, 2, 3)) / 8, random.standard_normal((7, 2, 3))
    mask = torch.tensor(random.random((7, 3)) < 0.7) if masked else None

    def derivatives(x):
        x = torch.tensor(x, requires_grad=True)
        y = functional.batch_norm(x, training=True, mask=mask).output
        first = autograd.grad(y, [x], dy, create_graph=True)
        return *first, *autograd.grad((first[0] ** 3).sum(), [x])

    for one, other in zip(derivatives(near), derivatives(near + FAR), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-13, atol=1e-13)


def test_derivatives_of_a_constant_are_those_of_a_constant():
    """Not those of what rounding its mean would leave."""
    dy = np.random.default_rng(0).standard_normal((7, 2, 41))
    mask = np.ones((7, 41), bool)
    found = functional.batch_norm_backward(dy, np.full((7, 2, 41), 1e15 / 3), mask=mask)
    wanted = functional.batch_norm_backward(dy, np.zeros((7, 2, 41)), mask=mask)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def normalized(x):
    own, variance = deviations(x.ravel())
    deviation = math.sqrt(float(variance + Fraction(EPSILON)))
    return np.array([float(one) / deviation for one in own]).reshape(x.shape)


OUTLYING = {
    "the first 64, and a constant": lambda z: np.where(np.arange(z.size) < 64, 1.1, 0.0),
    "the first 64": lambda z: z + np.where(np.arange(z.size) < 64, 1e8 / 7, 0.0),
    "a border of zeros": lambda z: np.where(np.arange(z.size) < 64, 0.0, z + 1e6 / 3),
    "the first": lambda z: z + np.where(np.arange(z.size) < 1, 1e9 / 3, 0.0),
    "the first, zero": lambda z: np.where(np.arange(z.size) < 1, 0.0, z + 1e9 / 3),
}


@pytest.mark.parametrize("kind", OUTLYING)
@pytest.mark.parametrize("shape", [(1, 1, 8192), (8192, 1, 1), (128, 1, 64), (90, 1, 95), (3, 1, 8192)])
def test_float64_beside_outliers_that_come_first(shape, kind):
    """What values are measured from must not be among them: squares cancel, or the mean has no digits left."""
    x = OUTLYING[kind](np.random.default_rng(0).standard_normal(math.prod(shape))).reshape(shape)
    y = np.empty_like(x)
    cpu.forward_training(x, y, None, None, None, None, EPSILON, 0.1, True)
    # 170 units of 1 for sums of 8192 equal terms, whose roundings all go one way; 12 for others
    tolerance = 4e-14 if "constant" in kind else 4e-15
    wanted = normalized(x)
    assert np.max(np.abs(y - wanted) / np.maximum(1, np.abs(wanted))) <= tolerance


@pytest.mark.parametrize("shape", [(1, 1, 300), (300, 1, 1), (3, 1, 100), (5, 1, 2000)])
@pytest.mark.parametrize("great", [1e155, 1e200, 1e300])
def test_squares_that_overflow_give_the_shift_in_every_layout(great, shape):
    """Their variance is infinite, and nothing is NaN."""
    x = np.random.default_rng(0).standard_normal(shape) * great
    y = np.empty_like(x)
    cpu.forward_training(x, y, None, np.array([0.25]), None, None, EPSILON, 0.1, True)
    assert np.all(y == 0.25)


def test_float64_in_memory_that_is_not_side_by_side():
    """Its values are added one by one, but few in a row: of sorted ones, all roundings would go one way."""
    x = np.zeros((1, 1, 16384))[..., ::2]
    x[...] = np.sort(np.random.default_rng(0).standard_normal(8192))
    y = np.empty_like(x)
    cpu.forward_training(x, y, None, None, None, None, EPSILON, 0.1, True)
    assert np.max(np.abs(y - normalized(x))) <= 2e-15
