"""The CPU backend against plain formulas in extended precision, one feature at a time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numba
import numpy as np
import pytest

from normspec.runtime.kernels import on
from normspec.runtime.kernels.cpu import cut, layout, prepared
from normspec.runtime.kernels.cpu.jit import helper, kernel
from normspec.runtime.kernels.cpu.simd import add
from normspec.runtime.kernels.cpu.threads import ALONE, Crew, Team, job, peek, team, together, wait
from normspec.runtime.kernels.cpu.tiles import blocks, pieces, plan_of, tile_of

Array = Any
cpu = on("cpu")
EPSILON = 1e-5
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
# Half a unit in the last place of a result below 1, or the same part of a larger one, and a little more.
TOLERANCE = {"float16": 2**-11 * 1.001, "bfloat16": 2**-8 * 1.001, "float32": 1e-7, "float64": 4e-15}

SHAPES = {
    "image": (3, 5, 37),
    "one value": (1, 4, 1),
    "one feature": (2, 1, 9),
    "features last": (31, 7, 1),
    "wide": (3, 2100, 1),
    "long run": (2, 2, 20001),
    "long rows": (9000, 3, 1),
    "blocks of features": (40, 70, 49),
    "split rows": (3, 2, 70001),
}


def contiguous(x: Array) -> Array:
    return x.copy()


def transposed(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(2, 1, 0)).transpose(2, 1, 0)


def features_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1)


def backwards(x: Array) -> Array:
    return x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]


def every_other(x: Array) -> Array:
    outer, features, inner = x.shape
    view = np.zeros((outer, 2 * features, 3 * inner), x.dtype)[:, ::2, 1::3]
    view[...] = x
    return view


def unaligned(x: Array) -> Array:
    view = np.zeros(x.shape, [("pad", np.uint8), ("value", x.dtype)])["value"]
    view[...] = x
    return view


LAYOUTS = [contiguous, transposed, features_last, backwards, every_other, unaligned]


def extended(x: Array) -> Array:
    return x.astype(np.float64).astype(np.longdouble)


def expected(x: Array, weight: Array, bias: Array, epsilon: float = EPSILON) -> tuple[Array, Array, Array]:
    """y, mean and biased variance, by the textbook, in extended precision and from some value of each feature."""
    last = extended(x)[-1:, :, -1:]
    wide = extended(x) - last
    mean = wide.mean(axis=(0, 2), keepdims=True)
    variance = ((wide - mean) ** 2).mean(axis=(0, 2), keepdims=True)
    scale = 1 if weight is None else extended(weight)[:, None]
    shift = 0 if bias is None else extended(bias)[:, None]
    return (wide - mean) / np.sqrt(variance + epsilon) * scale + shift, (last + mean).ravel(), variance.ravel()


def off(y: Array, reference: Array) -> float:
    """The greatest error, relative to results above 1 and absolute below."""
    return float(np.max(np.abs(extended(y) - reference) / np.maximum(1, np.abs(reference))))


def sample(shape: tuple[int, ...], dtype: Any = np.float32, mean: float = 0.5, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) + mean).astype(dtype)


def train(x: Array, y: Array, *vectors: Any, rate: float = 0.1, unbiased: bool = True, **options: Any) -> Any:
    """Forward, with as many of weight, bias, running mean and running variance as are given."""
    given = [*vectors, None, None, None, None][:4]
    return cpu.forward_training(x, y, *given, options.get("epsilon", EPSILON), rate, unbiased)


@pytest.fixture
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one processor")
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", DTYPES)
def test_every_shape_and_dtype(shape: tuple[int, int, int], name: str) -> None:
    x = sample(shape, DTYPES[name])
    y = np.full_like(x, np.nan)
    weight, bias = sample((shape[1],), seed=1), sample((shape[1],), np.float64, seed=2)
    reference, mean, variance = expected(x, weight, bias)
    got_mean, inverse = train(x, y, weight, bias)
    assert off(y, reference) <= TOLERANCE[name]
    assert got_mean.dtype == inverse.dtype == np.float64
    np.testing.assert_allclose(got_mean, mean.astype(np.float64), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(variance.astype(np.float64) + EPSILON), rtol=1e-13)

    got_mean, m2 = cpu.batch_statistics(x)
    np.testing.assert_allclose(got_mean, mean.astype(np.float64), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(m2, (variance * x[:, 0].size).astype(np.float64), rtol=1e-13)

    y[...] = np.nan
    cpu.normalize(x, y, got_mean, m2 / x[:, 0].size, weight, bias, EPSILON)
    assert off(y, reference) <= TOLERANCE[name]


@pytest.mark.parametrize("shape", [(5, 6, 11), (301, 9, 1), (2, 3, 9001)])
@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_layout_changes_no_bit(source: Callable[[Array], Array], target: Callable[[Array], Array], shape: Any) -> None:
    plain = sample(shape)
    x, y = source(plain), target(np.zeros_like(plain))
    reference, mean, _ = expected(plain, None, None)
    train(x, y)
    assert np.array_equal(x, plain)
    assert off(y, reference) <= TOLERANCE["float32"]
    y[...] = np.nan
    cpu.normalize(x, y, mean.astype(np.float64), np.ones(shape[1]), None, None, 0.0)
    assert np.array_equal(y, (plain - mean.astype(np.float64)[:, None]).astype(np.float32))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("source", LAYOUTS)
def test_layouts_of_other_dtypes(source: Callable[[Array], Array], name: str) -> None:
    for shape in [(5, 6, 11), (301, 9, 1)]:
        plain = sample(shape, DTYPES[name])
        x, y = source(plain), source(np.zeros_like(plain))
        train(x, y)
        assert off(y, expected(plain, None, None)[0]) <= TOLERANCE[name]


@pytest.mark.parametrize("axis", [0, 2])
def test_broadcast_input(axis: int) -> None:
    shape = (6, 3, 8)
    x = np.broadcast_to(sample(shape).take([0], axis=axis), shape)
    y = np.empty(shape, np.float32)
    train(x, y)
    assert off(y, expected(x, None, None)[0]) <= TOLERANCE["float32"]


@pytest.mark.parametrize("shape", [(32, 8, 1024), (32768, 8, 1), (4, 70, 49)])
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5, -1e5])
def test_float32_is_exact_at_any_mean(shape: tuple[int, int, int], mean: float) -> None:
    x = sample(shape, mean=mean)
    y = np.empty_like(x)
    train(x, y)
    assert off(y, expected(x, None, None)[0]) <= TOLERANCE["float32"]


@pytest.mark.parametrize(
    ("shape", "first", "tolerance"),
    [
        ((8, 4, 5000), 0.0, 4e-15),
        ((20000, 4, 1), 0.0, 4e-15),
        ((8, 4, 5000), 1e3, 1e-13),
        ((8, 4, 8191), 1e6, 1e-13),
        ((20000, 4, 1), 1e3, 1e-13),
    ],
)
def test_float64_is_exact_at_any_mean(shape: tuple[int, int, int], first: float, tolerance: float) -> None:
    """A mean rounded to float64 would cost digits, and measuring from an outlier all along would too."""
    x = sample(shape, np.float64, mean=1e8 + 1 / 3)
    x[0, :, 0] += first
    y = np.empty_like(x)
    train(x, y)
    assert off(y, expected(x, None, None)[0]) <= tolerance


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(3, 2, 20001), (50000, 2, 1), (7, 2, 3)])
def test_constant_feature_gives_the_bias(shape: tuple[int, int, int], name: str) -> None:
    x = np.full(shape, 10000.1).astype(DTYPES[name])
    y = np.empty_like(x)
    bias = np.array([0.3, -7.0])
    mean, inverse = train(x, y, np.array([3.0, 5.0]), bias)
    assert np.all(mean == float(x[0, 0, 0]))
    assert np.all(inverse == 1 / np.sqrt(EPSILON))
    assert np.array_equal(y, np.broadcast_to(bias[:, None].astype(x.dtype), shape))
    assert np.all(cpu.batch_statistics(x)[1] == 0)


def test_drift_and_great_spread() -> None:
    drift = (np.linspace(-100, 100, 60000) + 1e-3 * sample((60000,), np.float64)).astype(np.float32).reshape(2, 1, -1)
    huge = (sample((8, 3, 400)) * np.float32(1e20)).astype(np.float32)
    for x in (drift, huge):
        y = np.empty_like(x)
        train(x, y)
        assert off(y, expected(x, None, None)[0]) <= TOLERANCE["float32"]
    assert y.std() > 0.9


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(6, 9, 50), (64, 9, 1)])
@pytest.mark.parametrize("where", [0, -1])
def test_what_is_not_finite_stays_in_its_feature(poison: float, name: str, shape: Any, where: int) -> None:
    clean = sample(shape, DTYPES[name])
    x, y, untouched = clean.copy(), np.empty_like(clean), np.empty_like(clean)
    x[where, 4, where] = poison
    mean, _ = train(x, y)
    train(clean, untouched)
    others = np.arange(9) != 4
    assert np.array_equal(y[:, others], untouched[:, others])
    assert np.isnan(extended(y)[:, 4]).all()
    assert np.isfinite(mean[others]).all()
    assert not np.isfinite(mean[4])


def test_infinity_and_nan_pass_through_normalize() -> None:
    for name, dtype in DTYPES.items():
        x = np.array([np.inf, -np.inf, np.nan, 2.0]).astype(dtype).reshape(1, 1, 4)
        y = np.empty_like(x)
        cpu.normalize(x, y, np.ones(1), np.ones(1), None, None, 0.0)
        np.testing.assert_equal(y.astype(np.float64).ravel(), [np.inf, -np.inf, np.nan, 1.0], name)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_value_of_16_bits_survives(name: str) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(DTYPES[name]).reshape(1, 1, -1)
    y = np.empty_like(x)
    cpu.normalize(x, y, np.zeros(1), np.ones(1), None, None, 0.0)
    np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))


def test_no_nan_is_rounded_away() -> None:
    for dtype in DTYPES.values():
        x = np.ones((1, 2, 1), dtype)
        full = np.array([2**63 - 1, 2**64 - 1], np.uint64).view(np.float64)  # NaNs of which every bit is set
        cpu.normalize(x, x, np.zeros(2), np.ones(2), None, full, 0.0)
        assert np.isnan(x.astype(np.float64)).all()


def test_rounding_to_bfloat16_is_to_even() -> None:
    x = np.ones((1, 4, 1), ml_dtypes.bfloat16)
    y = np.empty_like(x)
    unit = 2.0**-7
    bias = np.array([unit / 2, 3 * unit / 2, unit * 0.51, unit * 0.49])
    cpu.normalize(x, y, np.zeros(4), np.ones(4), None, bias, 0.0)
    assert y.astype(np.float64).ravel().tolist() == [1, 1 + 2 * unit, 1 + unit, 1]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(6, 9, 50), (64, 9, 1), (3, 2, 70001)])
def test_in_place(shape: tuple[int, int, int], name: str) -> None:
    x = sample(shape, DTYPES[name])
    statistics = np.full(shape[1], 0.25), np.full(shape[1], 2.0)
    for call in (lambda x, y: cpu.normalize(x, y, *statistics, None, None, EPSILON), train):
        y, same = np.empty_like(x), x.copy()
        call(x, y)
        call(same, same)
        assert np.array_equal(y, same)


def gradients(x: Array, dy: Array, mean: Array, invstd: Array, weight: Array, batch: bool) -> tuple[Array, ...]:
    """dx, dweight and dbias by the formula, in extended precision."""
    normal = (extended(x) - mean.astype(np.longdouble)[:, None]) * invstd.astype(np.longdouble)[:, None]
    upper = extended(dy)
    dweight, dbias = (dy_x.sum(axis=(0, 2)) for dy_x in (upper * normal, upper))
    if batch:
        count = x[:, 0].size
        upper = upper - dbias[:, None] / count - normal * dweight[:, None] / count
    scale = extended(invstd) * (1 if weight is None else extended(weight))
    return upper * scale[:, None], dweight, dbias


def check_backward(x: Array, dy: Array, dx: Array, weight: Array, batch: bool, tolerance: float) -> None:
    """Against the formula; ``dx`` may be one of the others, or None."""
    mean, m2 = cpu.batch_statistics(x)
    invstd = 1 / np.sqrt(m2 / x[:, 0].size + EPSILON)
    wanted, dweight, dbias = gradients(x, dy, mean, invstd, weight, batch)
    found = cpu.backward(x, dy, dx, mean, invstd, weight, batch)
    for one, right in zip(found, (dweight, dbias), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, right.astype(np.float64), rtol=1e-12, atol=1e-12 * x[:, 0].size)
    if dx is not None:
        assert off(dx, wanted) <= tolerance


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("batch", [True, False])
def test_backward_of_every_shape_and_dtype(shape: tuple[int, int, int], name: str, batch: bool) -> None:
    x, dy = sample(shape, DTYPES[name]), sample(shape, DTYPES[name], 0.25, seed=1)
    weight = sample((shape[1],), seed=2)
    if x[:, 0].size == 1:
        weight *= 1e-3  # one over the root of epsilon is 300: dx would not fit in float16
    tolerance = 3 * TOLERANCE[name] if name == "float64" else TOLERANCE[name]  # its terms are larger than it is
    check_backward(x, dy, np.full_like(x, np.nan), weight, batch, tolerance)
    check_backward(x, dy, None, weight, batch, tolerance)


@pytest.mark.parametrize("shape", [(5, 6, 11), (301, 9, 1), (2, 3, 9001)])
@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_layouts_of_backward(source: Callable[[Array], Array], target: Callable[[Array], Array], shape: Any) -> None:
    plain, upper = sample(shape), sample(shape, seed=1)
    for x, dy, dx in [(source, target, source), (source, source, target), (target, source, source)]:
        check_backward(x(plain), dy(upper), dx(np.zeros_like(plain)), None, True, TOLERANCE["float32"])


HALVES = ["float16", "bfloat16"]
ULP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # of 1


def unit(reference: Array, name: str) -> Array:
    """The distance from one value of 16 bits to the next, where a number is."""
    least = {"float16": 2.0**-14, "bfloat16": 2.0**-126}[name]
    return 2.0 ** np.floor(np.log2(np.maximum(np.abs(reference).astype(np.float64), least))) * ULP[name]


def check_rounding(y: Array, reference: Array, terms: Array, name: str) -> None:
    """Half a unit of 16 bits and three roundings to float32 of the terms; hardly a value is not the nearest."""
    error = np.abs(extended(y) - reference)
    assert np.all(error <= unit(reference, name) / 2 + 3 * 2.0**-24 * terms)
    assert np.mean(y == reference.astype(np.float64).astype(y.dtype)) > 0.998


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("mean", [0.0, 3.0, -300.0])
@pytest.mark.parametrize("shape", [(40, 8, 900), (3000, 70, 1), (32, 40, 49)])
def test_16_bits_are_rounded_once(shape: tuple[int, int, int], mean: float, name: str) -> None:
    x, dy = sample(shape, DTYPES[name], mean), sample(shape, DTYPES[name], seed=1)
    weight, bias = sample((shape[1],), seed=2), sample((shape[1],), seed=3)
    y, dx = np.empty_like(x), np.empty_like(x)
    reference, center, variance = expected(x, weight, bias)
    shift = np.abs(extended(bias))[:, None]
    got_mean, inverse = train(x, y, weight, bias)
    check_rounding(y, reference, np.abs(reference) + 2 * shift, name)
    cpu.normalize(x, y, center.astype(np.float64), variance.astype(np.float64), weight, bias, EPSILON)
    check_rounding(y, reference, np.abs(reference) + 2 * shift, name)
    cpu.backward(x, dy, dx, got_mean, inverse, weight, True)
    wanted = gradients(x, dy, got_mean, inverse, weight, True)[0]
    slope = np.abs(weight * inverse)[:, None]
    check_rounding(dx, wanted, np.abs(wanted) + 2 * slope * np.abs(extended(dy)), name)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("shape", [(5, 6, 11), (301, 9, 1), (2, 3, 9001)])
@pytest.mark.parametrize("source", LAYOUTS)
def test_layout_changes_no_bit_of_16(source: Callable[[Array], Array], shape: Any, name: str) -> None:
    plain, upper = sample(shape, DTYPES[name], 3.0), sample(shape, DTYPES[name], seed=1)
    vectors = np.full(shape[1], 3.01), np.full(shape[1], 0.7), sample((shape[1],), seed=2), sample((shape[1],), seed=3)
    results = []
    for arrange in (contiguous, source):
        x, dy = arrange(plain), arrange(upper)
        y, dx = arrange(np.zeros_like(plain)), arrange(np.zeros_like(plain))
        cpu.normalize(x, y, *vectors, EPSILON)
        cpu.backward(x, dy, dx, *vectors[:3], True)
        results.append((y, dx))
    assert np.array_equal(results[0][0], results[1][0])
    unequal = np.mean(results[0][1] != results[1][1])  # its sums may be added in another order
    assert unequal < 1e-3


STRANGE = {  # statistics and parameters whose quotients float32 lacks, and features of which values are within range
    "great deviation": (1e38, 0.0, 1e-3),
    "tiny deviation": (1e-39, 0.0, 1.0),
    "great mean": (3e37, 1e37, 1.0),
    "tiny weight": (1.0, 0.0, 1e-38),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("shape", [(40, 3, 900), (300, 3, 1), (32, 3, 49)])
def test_bfloat16_as_far_as_it_goes(shape: tuple[int, int, int], kind: str) -> None:
    """And the features beside it are normalized to the same bit, though with other numbers."""
    deviation, mean, slope = STRANGE[kind]
    plain = np.clip(sample(shape, np.float64, 0.0), -2.5, 2.5)
    scale, shift = np.array([1.0, deviation, 1.0]), np.array([0.0, mean, 0.0])
    x = (plain * scale[:, None] + shift[:, None]).astype(ml_dtypes.bfloat16)
    weight = np.array([1.0, slope, 1.0])
    y, dx, clean = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    reference, center, variance = expected(x, weight, None, 0.0)
    got_mean, inverse = train(x, y, weight, epsilon=0.0)
    error = np.abs(extended(y) - reference)
    assert np.all(error <= 0.502 * np.maximum(unit(reference, "bfloat16"), 2.0**-133))
    cpu.normalize(x, y, center.astype(np.float64), variance.astype(np.float64), weight, None, 0.0)
    assert np.all(np.abs(extended(y) - reference) <= 0.502 * np.maximum(unit(reference, "bfloat16"), 2.0**-133))
    ordinary = x.copy()
    ordinary[:, 1] = ordinary[:, 0]
    train(ordinary, clean, np.ones(3), epsilon=0.0)
    train(x, y, weight, epsilon=0.0)
    assert np.array_equal(y[:, ::2], clean[:, ::2])
    dy = sample(shape, ml_dtypes.bfloat16, seed=1)
    cpu.backward(x, dy, dx, got_mean, inverse, weight / inverse, True)
    wanted = gradients(x, dy, got_mean, inverse, weight / inverse, True)[0]
    assert np.all(np.abs(extended(dx) - wanted)[:, 1] <= (unit(wanted, "bfloat16") / 2 + 1e-6 * weight[1])[:, 1])


@pytest.mark.parametrize("name", HALVES)
def test_the_ends_of_16_bits(name: str) -> None:
    """Deviations of 1e20, whose squares float32 lacks, and the greatest of float16."""
    great = 65504.0 if name == "float16" else 1e20
    for shape in [(8, 3, 400), (300, 3, 1)]:
        x = (np.sign(sample(shape, mean=0.0)) * great).astype(DTYPES[name])
        y = np.empty_like(x)
        _, inverse = train(x, y)
        reference, _, variance = expected(x, None, None)
        assert off(y, reference) <= TOLERANCE[name]
        np.testing.assert_allclose(inverse, 1 / np.sqrt(variance.astype(np.float64)), rtol=1e-13)


def test_infinite_statistics_of_16_bits() -> None:
    """A mean or a deviation that is infinite, or that float32 lacks, does what it does in float64."""
    for name in HALVES:
        x = np.array([1.0, -2.0, 0.0], DTYPES[name]).reshape(1, 1, 3).repeat(5, axis=1)
        y = np.empty_like(x)
        means, variances = np.array([np.inf, 1e300, 0, 0, 0]), np.array([1.0, 1e300, np.inf, 0.0, 1e-80])
        cpu.normalize(x, y, means, variances, None, None, 0.0)
        with np.errstate(all="ignore"):
            wanted = (x.astype(np.float64) - means[:, None]) / np.sqrt(variances)[:, None]
            np.testing.assert_array_equal(y.astype(np.float64), wanted.astype(x.dtype).astype(np.float64), name)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(6, 9, 50), (64, 9, 1), (3, 2, 70001)])
@pytest.mark.parametrize("batch", [True, False])
def test_backward_in_place(shape: tuple[int, int, int], name: str, batch: bool) -> None:
    x, dy = sample(shape, DTYPES[name]), sample(shape, DTYPES[name], seed=1)
    vectors = np.full(shape[1], 0.25), np.full(shape[1], 2.0), None
    wanted = np.empty_like(x)
    sums = cpu.backward(x, dy, wanted, *vectors, batch)
    for given in (0, 1):
        arrays = x.copy(), dy.copy()
        found = cpu.backward(*arrays, arrays[given], *vectors, batch)
        assert np.array_equal(arrays[given], wanted)
        np.testing.assert_array_equal(found, sums)


@pytest.mark.parametrize("mean", [1e3, 1e5])
@pytest.mark.parametrize("shape", [(32, 8, 1024), (32768, 8, 1), (4, 70, 49)])
def test_backward_at_any_mean(shape: tuple[int, int, int], mean: float) -> None:
    check_backward(sample(shape, mean=mean), sample(shape, seed=1), np.empty(shape, np.float32), None, True, 1e-7)


def test_the_gradient_of_one_value_is_zero() -> None:
    x, dx = sample((1, 4, 1)), np.full((1, 4, 1), np.nan, np.float32)
    cpu.backward(x, x, dx, x.ravel().astype(np.float64), np.full(4, 300.0), None, True)
    assert not dx.any()


@pytest.mark.parametrize("missing", range(16))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_vector_may_be_missing(missing: int, dtype: Any) -> None:
    x = sample((4, 5, 6))
    y = np.empty_like(x)
    start = [sample((5,), dtype, seed=i) for i in range(4)]
    vectors = [None if missing >> i & 1 else vector.copy() for i, vector in enumerate(start)]
    weight, bias, running_mean, running_var = vectors
    train(x, y, *vectors, rate=0.25)
    reference, mean, variance = expected(x, weight, bias)
    assert off(y, reference) <= TOLERANCE["float32"]
    for running, before, batch in zip([running_mean, running_var], start[2:], [mean, variance * 24 / 23], strict=True):
        if running is not None:
            assert running.dtype == dtype
            wanted = 0.75 * before.astype(np.float64) + 0.25 * batch.astype(np.float64)
            np.testing.assert_allclose(running, wanted.astype(dtype), rtol=1e-7 if dtype == np.float32 else 1e-14)


def test_running_variance_of_one_value_and_biased() -> None:
    one, several = sample((1, 2, 1)), sample((2, 2, 3))
    for x, unbiased, divisor in [(one, True, 1), (one, False, 1), (several, True, 5), (several, False, 6)]:
        running = np.full(2, 3.0)
        train(x, np.empty_like(x), None, None, None, running, unbiased=unbiased, rate=0.5)
        np.testing.assert_allclose(running, 1.5 + 0.5 * cpu.batch_statistics(x)[1] / divisor, rtol=1e-14)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rate_at_its_ends_is_exact(rate: float) -> None:
    x = sample((4, 3, 6), mean=1e5)
    running = np.array([1e-3, 1.0, 1e9])
    mean, _ = train(x, np.empty_like(x), None, None, after := running.copy(), rate=rate)
    assert np.array_equal(after, mean if rate else running)


def test_a_kernel_that_fails_has_moved_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    x, running = sample((4, 3, 6)), [np.zeros(3), np.ones(3)]
    monkeypatch.setattr("normspec.runtime.kernels.cpu.kernels.train", fail)
    with pytest.raises(MemoryError):
        train(x, np.empty_like(x), None, None, *running)
    assert not running[0].any()
    assert (running[1] == 1).all()


@kernel
def list_tiles(facts: Any, found: Any) -> None:
    plan = plan_of(facts)
    for turn in range(pieces(plan) * blocks(plan)):
        tile = tile_of(turn, plan)
        found[turn, 0], found[turn, 1] = tile.row, tile.row_end
        found[turn, 2], found[turn, 3] = tile.feature, tile.feature_end


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES.values(), (1, 1, 1), (17, 1025, 1), (1, 3, 2**28), (2**31 + 64, 1, 1)])
def test_plan_covers_every_value_once(shape: tuple[int, int, int], fused: bool, packed: bool) -> None:
    plan = cut(*shape, 4, packed, fused)
    assert plan.rows == shape[0] * -(-plan.inner // plan.segment)
    across = -(-plan.features // plan.feature_step)
    found = np.zeros((-(-plan.rows // plan.row_step), across, 4), np.int64)
    list_tiles(np.array(plan), found.reshape(-1, 4))
    rows, features = found[:, 0, :2], found[0, :, 2:]
    assert (found == np.concatenate(np.broadcast_arrays(rows[:, None], features[None]), axis=2)).all()
    for ranges, end in (rows, plan.rows), (features, plan.features):
        assert ranges[0, 0] == 0
        assert (ranges[:-1, 1] == ranges[1:, 0]).all()
        assert (ranges[:, 0] < ranges[:, 1]).all()
        assert ranges[-1, 1] == end


@pytest.fixture(params=["across", "along", "across, past the cache", "along, past the cache"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How tiles are gone through, whatever is best here."""
    longest = 2**30 if "across" in request.param else 0
    each = dict.fromkeys((2, 4, 8), longest)
    chosen = {"SHORT": longest, "SHORT_OF_FEW": each, "TINY": each, "LONG": 0}
    for name, value in (chosen | {"PAST": 0 if "past" in request.param else 2**40}).items():
        monkeypatch.setattr(cpu, name, value)
    for remembered in (cpu.cut, cpu.prepared):
        remembered.cache_clear()
    yield
    for remembered in (cpu.cut, cpu.prepared):
        remembered.cache_clear()


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(
    "shape", [(5, 3, 600), (9, 700, 1), (50, 3, 1), (40, 16, 7), (3, 2, 1500), (2, 5, 49), (3, 4, 64), (2, 3, 17)]
)
def test_wherever_memory_begins(shape: tuple[int, int, int], name: str, way: None) -> None:
    """Values before and after the aligned part of a run, and those of rows that are not whole vectors."""
    x, slope = sample(shape, DTYPES[name]), sample(shape, DTYPES[name], seed=1)
    wanted, evaluated, gradient = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    statistics = np.full(shape[1], 0.25), np.full(shape[1], 2.0)

    def evaluate(x: Array, y: Array) -> None:
        cpu.normalize(x, y, *statistics, None, None, EPSILON)

    def differentiate(x: Array, y: Array) -> None:
        cpu.backward(x, slope, y, *statistics, None, True)

    train(x, wanted)
    evaluate(x, evaluated)
    differentiate(x, gradient)
    assert off(wanted, expected(x, None, None)[0]) <= TOLERANCE[name]
    deviation, dy = (extended(x) - 0.25) * 2, extended(slope)
    dx = 2 * (dy - dy.mean((0, 2), keepdims=True) - deviation * (deviation * dy).mean((0, 2), keepdims=True))
    assert off(gradient, dx) <= 3 * TOLERANCE[name], "its terms are larger than it is"
    for skip in (1, 4, 7, 12, 15):
        room = np.zeros(x.size + 32, x.dtype)
        y = room[skip : skip + x.size].reshape(shape)
        for reference, call in (wanted, train), (evaluated, evaluate), (gradient, differentiate):
            room[...] = 3
            call(x, y)
            assert np.array_equal(y, reference)
            assert (room[:skip] == 3).all()
            assert (room[skip + x.size :] == 3).all()
            y[...] = x
            call(y, y)
            assert np.array_equal(y, reference), "in place"


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("inner", [1, 3, 8, 17, 49])
def test_what_lies_between_rows_stays(inner: int, name: str) -> None:
    x = sample((3, 4, inner), DTYPES[name])
    room = np.full((3, 9, inner), 3, x.dtype)
    for call in (train, lambda x, y: cpu.normalize(x, y, np.zeros(4), np.ones(4), None, None, 0.0)):
        y = room[:, 2:6]
        call(x, y)
        call(x, whole := np.empty_like(x))
        assert off(y, whole.astype(np.float64)) <= TOLERANCE[name]
        assert (room[:, :2] == 3).all()
        assert (room[:, 6:] == 3).all()


BIG = [(16, 64, 900), (16, 64, 100), (512, 256, 1), (60000, 33, 1), (2, 3, 90000), (300, 3000, 1), (32, 512, 49)]


@pytest.mark.parametrize("shape", BIG)
def test_threads_change_no_bit(shape: tuple[int, int, int], two_threads: None) -> None:
    x = sample(shape)
    results = []
    for count in (1, 2):
        numba.set_num_threads(count)
        prepared.cache_clear()
        y, z = np.empty_like(x), np.empty_like(x)
        mean, inverse = train(x, y)
        cpu.normalize(x, z, mean, inverse, None, None, EPSILON)
        results.append((y, z, mean, inverse, *cpu.batch_statistics(x)))
    for one, two in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes()


@helper()
def meet(rank: int, seen: int, wanted: int) -> None:
    """Count who comes, and stay until so many have, but not forever."""
    add(seen, 1)
    looks = 0
    while peek(seen) < wanted and looks < 10**7:
        looks = wait(looks)


@kernel
def gather(crew: Crew, seen: Any, wanted: int) -> None:
    together(crew, job(meet, (seen.ctypes.data, wanted)))


def sharers(threads: int, wanted: int) -> int:
    """How many share a job of so many threads, which ends when that many have come, or nobody comes for long."""
    seen = np.zeros(1, np.int64)
    gather(team.crew(threads, threads - 1), seen, wanted)
    return int(seen[0])


def test_a_job_has_as_many_threads_as_it_asked_for(two_threads: None) -> None:
    assert sharers(1, 1) == 1
    assert sharers(1, 2) == 1
    for pause in (0, 0.02, 0):  # whose members look for work, or wait
        time.sleep(pause)
        assert sharers(2, 2) == 2


def test_work_is_shared_only_as_allowed(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(type(team), "crew", lambda self, *wanted: asked.append(wanted[0]) or ALONE)
    x = sample(BIG[0])
    for count in (1, 2):
        numba.set_num_threads(count)
        train(x, np.empty_like(x))
        assert numba.get_num_threads() == count
    assert asked == [2]


def test_small_jobs_wake_a_member_only_in_a_row(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    crew, now = Team(), [10.0]
    monkeypatch.setattr("normspec.runtime.kernels.cpu.threads.time.monotonic", lambda: now[0])
    woken = []
    for pause in (0, 1e-2, 5e-5, 5e-5, 2e-4, 5e-5):
        now[0] += pause
        woken.append(crew.crew(2, 0)[2])
    assert woken == [0, 0, 1, 1, 0, 1]
    assert crew.crew(2, 1)[2] == 1
    crew.stop()


def test_what_is_shared_with_whoever_is_awake() -> None:
    for values, threads, woken in ((16 << 10, 1, 0), (64 << 10, 4, 0), (512 << 10, 8, 1), (4 << 20, 16, 4)):
        x = np.empty((16, 64, values >> 10), np.float32)
        found = layout(x.shape, x.dtype, False, x.strides, x.strides)
        assert (min(found.threads, threads), found.woken) == (threads, woken), values


def test_a_member_that_never_comes_is_not_waited_for(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Team()
    monkeypatch.setattr("normspec.runtime.kernels.cpu.threads.serve", lambda team, member: None)
    assert idle.crew(2, 1)[0]
    monkeypatch.setattr("normspec.runtime.kernels.cpu.calls.team", idle)
    x = sample(BIG[0])
    y, z = np.empty_like(x), np.empty_like(x)
    train(x, y)
    monkeypatch.undo()
    train(x, z)
    assert np.array_equal(y, z)


def test_no_more_threads_can_be_started(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr("normspec.runtime.kernels.cpu.calls.team", Team())
    x = sample(BIG[0])
    y = np.empty_like(x)
    train(x, y)
    assert off(y, expected(x, None, None)[0]) <= TOLERANCE["float32"]


def test_members_use_no_time_when_there_is_nothing_to_do(two_threads: None) -> None:
    sharers(2, 2)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def ended(code: str) -> str:
    """What a process of its own prints; it must end well, and soon."""
    lines = ["import numpy, threading, sys", "from normspec.runtime.kernels import on, cpu"]
    lines += ["x = numpy.ones((64, 64, 900), numpy.float32)", "vectors = numpy.zeros(64), numpy.ones(64)"]
    lines += ["def call(): cpu.normalize(x, x, *vectors, None, None, 0.0)", code]
    ran = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("pause", ["", "import time; time.sleep(0.01)"])
def test_an_interpreter_ends_with_members_at_work_or_asleep(pause: str, two_threads: None) -> None:
    code = f"call(); {pause}\nprint(sum(thread.name == 'normspec' for thread in threading.enumerate()))"
    assert ended(code) == "1\n"


def test_calls_while_the_interpreter_ends() -> None:
    assert ended("import atexit\natexit.register(lambda: (call(), print(x.mean())))\ncall()") == "1.0\n"
    assert ended("import atexit\natexit.register(lambda: (call(), print(x.mean())))") == "1.0\n"


def test_an_interpreter_ends_while_a_daemon_calls() -> None:
    code = "def on():\n    while True: call()\nthreading.Thread(target=on, daemon=True).start()\ncall()\nprint('end')"
    assert ended(code) == "end\n"


@pytest.mark.parametrize("shape", BIG[:3])
def test_a_feature_does_not_see_the_others(shape: tuple[int, int, int]) -> None:
    x = sample(shape)
    other = x.copy()
    other[:, 0::2] *= 1e10
    y, z = np.empty_like(x), np.empty_like(x)
    train(x, y)
    train(other, z)
    assert y[:, 1::2].tobytes() == z[:, 1::2].tobytes()


def test_two_threads_at_once() -> None:
    inputs = [sample((16, 64, 900), seed=i) for i in range(4)]
    wanted = [np.empty_like(x) for x in inputs]
    for x, y in zip(inputs, wanted, strict=True):
        train(x, y)
    wrong = []

    def check(x: Array, reference: Array) -> None:
        for _ in range(10):
            y = np.empty_like(x)
            train(x, y)
            if not np.array_equal(y, reference):
                wrong.append(1)

    callers = [threading.Thread(target=check, args=pair) for pair in zip(inputs, wanted, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not wrong
    assert not any(caller.is_alive() for caller in callers)


def in_child(x: Array, queue: Any) -> None:
    y = np.empty_like(x)
    train(x, y)
    allowed = min(2, numba.config.NUMBA_NUM_THREADS)
    queue.put((float(y.std()), sharers(allowed, allowed) == allowed))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")  # of JAX, which other tests have imported
def test_fork_after_use() -> None:
    x = sample((16, 64, 900))
    train(x, np.empty_like(x))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=in_child, args=(x, queue))
    child.start()
    child.join(40)
    if child.is_alive():
        child.kill()
        pytest.fail("the child hangs")
    assert child.exitcode == 0
    spread, shared = queue.get()
    assert spread == pytest.approx(1, abs=1e-4)
    assert shared, "the child has no threads of its own"


def test_where_an_array_is_needs_no_numpy() -> None:
    x = np.zeros((2, 3, 1))
    for made in (np.ones(3), np.ones(6)[::2][:3].copy(), np.ones((2, 3), np.float32)[1]):
        cpu.forward_training(x, x, None, None, made, None, 1.0, 0.75, True)
        assert made.tolist() == [0.25] * 3


def test_the_batch_is_counted_where_a_counter_is_given() -> None:
    x, count = sample((4, 3, 5)), np.array(6)
    cpu.forward_training(x, x, None, None, None, None, EPSILON, 0.1, True, count)
    assert count == 7
    with pytest.raises(ValueError, match="vectors"):
        cpu.forward_training(x, x, None, None, None, None, EPSILON, 0.1, True, np.array(7, np.int32))


@pytest.mark.parametrize("shape", [(64, 40, 900), (60000, 33, 1), (2, 3, 900000), (300, 3000, 1), (32, 1024, 49)])
def test_memory_beyond_input_and_output_is_small(shape: tuple[int, int, int]) -> None:
    """A few numbers a feature for each thread and for each of at most 64 pieces of rows."""
    x = np.zeros(shape, np.float32)
    y, vectors = np.empty_like(x), (np.zeros(shape[1]), np.ones(shape[1]))
    allowed = 8 * (200 * shape[1] + 20000 * numba.config.NUMBA_NUM_THREADS)
    for call in (
        lambda: train(x, y),
        lambda: cpu.normalize(x, y, *vectors, None, None, EPSILON),
        lambda: cpu.backward(x, x, y, *vectors, None, True),
    ):
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < allowed
