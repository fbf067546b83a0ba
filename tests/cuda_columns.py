"""Tests of the kernels on channels-last memory, in the simulator or on the machine of ``ptx``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_cases as cases
from cuda_cases import EPSILON, Array, all_elements
from normspec.runtime.kernels.cuda import columns, columns_backward
from normspec.runtime.kernels.cuda.primitives import ELEMENTS

THREADS = 32
UNROLL = 2
KINDS = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


def rows(shape: tuple[int, int], dtype: Any) -> Array:
    return cases.aligned(shape, dtype)


def pitched(shape: tuple[int, int], dtype: Any) -> Array:
    """Rows a packet further apart than they are long."""
    return cases.aligned((shape[0], shape[1] + 16 // np.dtype(dtype).itemsize), dtype)[:, : shape[1]]


def odd(shape: tuple[int, int], dtype: Any) -> Array:
    """Rows whose distance is no multiple of 16 bytes."""
    return cases.aligned((shape[0], shape[1] + 1), dtype)[:, : shape[1]]


def backwards(shape: tuple[int, int], dtype: Any) -> Array:
    return cases.aligned(shape, dtype)[::-1]


LAYOUTS = [rows, pitched, odd, backwards]
SHAPES = [(1, 1), (7, 3), (37, 24), (70, 40), (5, 136)]
all_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def data(shape: tuple[int, int], element: str, offset: float = 3.0, seed: int = 0) -> Array:
    return cases.data((*shape, 1), element, offset, seed)[:, :, 0]


def kinds(*vectors: Array | None) -> tuple[str, ...]:
    return tuple(KINDS[cases.absent(vector).dtype] for vector in vectors)


def width_of(element: str, *matrices: Array) -> int:
    """Elements of a piece: a packet's where rows can be moved by packets."""
    width = ELEMENTS[element].widths[-2]
    size = width * matrices[0].itemsize
    whole = all(
        view.ctypes.data % size == 0 and view.strides[0] % size == 0 and view.shape[1] % width == 0 for view in matrices
    )
    return width if whole else 1


class Grid:
    """How many slabs and ranks matrices of a shape have, in blocks of ``THREADS``."""

    def __init__(self, shape: tuple[int, int], element: str, width: int, slices: int = 1) -> None:
        pieces = -(-shape[1] // width)
        self.shift = min(2, (pieces - 1).bit_length())
        self.slabs = -(-pieces >> self.shift)
        self.sizes = (*shape, self.shift, slices)
        self.ranks = THREADS >> self.shift


def matrix(view: Array) -> tuple[Any, int]:
    return cases.pointer(view), view.strides[0] // view.itemsize


def partial(slices: int, numbers: int, features: int, element: str) -> Array:
    return cases.aligned((slices * numbers * features,), cases.arithmetic(element))


class Trained:
    """What a training kernel wrote."""

    def __init__(self, features: int, running: list[Array | None]) -> None:
        self.mean, self.invstd = cases.aligned((2, features), np.float64)
        self.running = [None if vector is None else vector.copy() for vector in running]
        self.tracked = np.array([41], np.int64)


def train(
    x: Array,
    y: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    element: str,
    slices: int = 0,
    cluster: int = 1,
    unroll: int = UNROLL,
    shared: int = 0,
    rate: float = 0.1,
    unbiased: bool = True,
) -> Trained:
    """By ``slices`` in two launches, or in a cluster of blocks at once."""
    width = width_of(element, x, y)
    grid = Grid(x.shape, element, width, slices)
    out = Trained(x.shape[1], [running_mean, running_var])
    vectors = weight, bias, *out.running
    real, moving = cases.arithmetic(element), np.result_type(*map(cases.absent, out.running)).type
    flags = cases.flags(
        weight=weight, bias=bias, running_mean=running_mean, running_var=running_var, tracked=True, unbiased=unbiased
    )
    last = (
        *map(cases.absent, vectors), out.tracked, out.mean, out.invstd, real(EPSILON),
        moving(1 - rate), moving(rate), flags,
    )  # fmt: skip
    if slices:
        kept = partial(slices, 3, x.shape[1], element)
        first = columns.statistics(element, width, unroll, THREADS)
        cases.run(first, (grid.slabs, slices), *matrix(x), *grid.sizes, kept)
        program = columns.normalize(element, kinds(*vectors), width, unroll, THREADS)
        cases.run(program, (grid.slabs, slices), *matrix(x), *matrix(y), *grid.sizes, kept, *last)
    else:
        assert x.shape[0] <= cluster * (unroll + shared) * grid.ranks
        program = columns.resident(element, kinds(*vectors), width, cluster, unroll, THREADS, shared)
        cases.run(program, (grid.slabs * cluster, 1), *matrix(x), *matrix(y), *grid.sizes[:3], *last)
    return out


WAYS = [
    {"slices": 1},
    {"slices": 3},
    {"slices": 9},
    {"unroll": 16},
    {"cluster": 4, "unroll": 2, "shared": 2},
    {"cluster": 8},
]
all_ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: "_".join(f"{key}{value}" for key, value in way.items()))


def stacked(x: Array) -> Array:
    """As (outer, feature, inner)."""
    return x[:, :, None]


@all_elements
@all_ways
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training(shape: tuple[int, int], way: dict[str, int], element: str) -> None:
    x = cases.filled(rows, data(shape, element))
    y, (weight, bias, *running) = rows(shape, x.dtype), cases.vectors(shape[1], 4)
    out = train(x, y, weight, bias, *running, element=element, **way)
    mean, variance = cases.reference(stacked(x))
    cases.check(stacked(y), cases.affine(stacked(x), mean, variance, weight, bias), element)
    np.testing.assert_allclose(out.mean, mean.astype(float), rtol=1e-15 if element == "f64" else 2e-7)
    np.testing.assert_allclose(out.invstd, 1 / np.sqrt(variance + EPSILON).astype(float), rtol=5e-7)
    unbiased = variance * shape[0] / max(shape[0] - 1, 1)
    for moved, old, batch in zip(out.running, running, (mean, unbiased), strict=True):
        assert moved is not None
        np.testing.assert_allclose(moved, (0.9 * old + 0.1 * batch).astype(float), rtol=5e-7)
    assert out.tracked[0] == 42


@all_elements
@all_layouts
@pytest.mark.parametrize("way", [{"slices": 3}, {"cluster": 2, "unroll": 4}], ids=["split", "resident"])
def test_training_of_any_rows(layout: Any, way: dict[str, int], element: str) -> None:
    x = cases.filled(layout, data((13, 40), element))
    y = layout(x.shape, x.dtype)
    train(x, y, element=element, **way)
    cases.check(stacked(y), cases.affine(stacked(x), *cases.reference(stacked(x)), None, None), element)
    memory = cases.pointer(y).memory.view(x.dtype)
    assert np.isfinite(memory.astype(float)).sum() == x.size, "written beside y"


@all_ways
@pytest.mark.parametrize("ratio", [1e4, -1e5])
def test_mean_far_beyond_the_standard_deviation(ratio: float, way: dict[str, int]) -> None:
    x = cases.filled(rows, data((37, 24), "f32", ratio))
    y = rows(x.shape, x.dtype)
    train(x, y, element="f32", **way)
    cases.check(stacked(y), cases.affine(stacked(x), *cases.reference(stacked(x)), None, None), "f32")


@all_ways
@pytest.mark.parametrize("place", [0, 8, 36])
def test_one_far_element_spoils_nothing(place: int, way: dict[str, int]) -> None:
    """The first element is where a feature's first distances are measured from; it may be anything."""
    x = cases.filled(rows, data((37, 24), "f32", 1e4))
    x[place] = 0
    y = rows(x.shape, x.dtype)
    train(x, y, element="f32", **way)
    cases.check(stacked(y), cases.affine(stacked(x), *cases.reference(stacked(x)), None, None), "f32")


@all_elements
@all_ways
def test_constant_features_give_exactly_the_bias(way: dict[str, int], element: str) -> None:
    for value in (0.1, 1000.3, -3e4):
        x = cases.filled(rows, np.full((37, 24), value, cases.DTYPES[element]))
        y, (weight, bias, _, var) = rows(x.shape, x.dtype), cases.vectors(24, 4)
        out = train(x, y, weight, bias, None, np.zeros_like(var), element=element, **way)
        np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape).astype(x.dtype))
        np.testing.assert_array_equal(out.mean, x[0].astype(float))
        np.testing.assert_array_equal(out.running[1], np.zeros(24))


@all_elements
@all_ways
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_feature(value: float, way: dict[str, int], element: str) -> None:
    x = cases.filled(rows, data((37, 16), element))
    x[20, 5] = value
    others = np.arange(16) != 5
    y = rows(x.shape, x.dtype)
    out = train(x, y, None, None, *cases.vectors(16, 2), element=element, **way)
    assert np.isnan(y[:, 5].astype(float)).all()
    for result in (out.mean, out.invstd, *out.running):
        np.testing.assert_array_equal(np.isfinite(result), others)
    rest = stacked(x[:, others])
    cases.check(stacked(y[:, others]), cases.affine(rest, *cases.reference(rest), None, None), element)


@pytest.mark.parametrize("way", [{"slices": 3}, {"cluster": 2, "unroll": 4}], ids=["split", "resident"])
@pytest.mark.parametrize("given", range(16), ids=lambda bits: f"{bits:04b}")
def test_vectors_are_optional_and_of_two_types(given: int, way: dict[str, int]) -> None:
    x = cases.filled(rows, data((13, 8), "f32"))
    y = rows(x.shape, x.dtype)
    dtypes = [np.float64 if given in (5, 15) else np.float32] * 2 + [
        np.float64 if given in (10, 15) else np.float32
    ] * 2
    vectors = [
        vector.astype(dtype) if given >> bit & 1 else None
        for bit, (vector, dtype) in enumerate(zip(cases.vectors(8, 4), dtypes, strict=True))
    ]
    out = train(x, y, *vectors, element="f32", rate=0.25, unbiased=False, **way)
    mean, variance = cases.reference(stacked(x))
    cases.check(stacked(y), cases.affine(stacked(x), mean, variance, *vectors[:2]), "f32")
    for moved, old, batch in zip(out.running, vectors[2:], (mean, variance), strict=True):
        if moved is not None and old is not None:
            np.testing.assert_allclose(moved, (0.75 * old + 0.25 * batch).astype(float), rtol=2e-7)


@all_ways
def test_y_may_be_x(way: dict[str, int]) -> None:
    x = data((37, 24), "f32")
    both = cases.filled(rows, x)
    train(both, both, element="f32", **way)
    cases.check(stacked(both), cases.affine(stacked(x), *cases.reference(stacked(x)), None, None), "f32")


@all_ways
def test_a_feature_does_not_depend_on_others(way: dict[str, int]) -> None:
    x, other = cases.filled(rows, data((37, 24), "f32")), cases.filled(rows, data((37, 24), "f32", seed=7))
    other[:, 9] = x[:, 9]
    results = [rows(x.shape, x.dtype) for _ in range(2)]
    for source, y in zip((x, other), results, strict=True):
        train(source, y, element="f32", **way)
    assert results[0][:, 9].tobytes() == results[1][:, 9].tobytes()


@all_elements
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments(shape: tuple[int, int], element: str) -> None:
    x = cases.filled(rows, data(shape, element))
    width, kept = width_of(element, x), partial(5, 3, shape[1], element)
    grid = Grid(shape, element, width, 5)
    cases.run(columns.statistics(element, width, UNROLL, THREADS), (grid.slabs, 5), *matrix(x), *grid.sizes, kept)
    mean, m2 = cases.aligned((2, shape[1]), np.float64)
    cases.run(columns.moments(element, width, THREADS), (grid.slabs, 1), *grid.sizes, kept, mean, m2)
    exact, variance = cases.reference(stacked(x))
    digits = 1e-14 if element == "f64" else 5e-7
    np.testing.assert_allclose(mean, exact.astype(float), rtol=digits)
    np.testing.assert_allclose(m2, (variance * shape[0]).astype(float), rtol=digits)


def test_moments_have_a_mean_beyond_the_digits_of_x() -> None:
    x = cases.filled(rows, data((70, 8), "f32", 1e4))
    grid, kept = Grid(x.shape, "f32", True, 5), partial(5, 3, 8, "f32")
    cases.run(columns.statistics("f32", True, UNROLL, THREADS), (grid.slabs, 5), *matrix(x), *grid.sizes, kept)
    mean, m2 = cases.aligned((2, 8), np.float64)
    cases.run(columns.moments("f32", True, THREADS), (grid.slabs, 1), *grid.sizes, kept, mean, m2)
    np.testing.assert_allclose(mean, cases.reference(stacked(x))[0].astype(float), rtol=0, atol=4e-7)


def infer(x: Array, y: Array, *vectors: Array | None, element: str, slices: int = 3) -> None:
    width = width_of(element, x, y)
    grid = Grid(x.shape, element, width, slices)
    program = columns.inference(element, kinds(*vectors), width, UNROLL, THREADS)
    flags = cases.flags(weight=vectors[2], bias=vectors[3])
    last = (*map(cases.absent, vectors), cases.arithmetic(element)(EPSILON), flags)
    cases.run(program, (grid.slabs, slices), *matrix(x), *matrix(y), *grid.sizes, *last)


@all_elements
@all_layouts
@pytest.mark.parametrize("vector", [np.float32, np.float64], ids=["vectors32", "vectors64"])
def test_inference(vector: Any, layout: Any, element: str) -> None:
    for shape in SHAPES:
        x = cases.filled(layout, data(shape, element))
        y, vectors = layout(shape, x.dtype), cases.vectors(shape[1], 4, vector)
        infer(x, y, *vectors, element=element)
        cases.check(stacked(y), cases.affine(stacked(x), *vectors), element)


def test_a_float64_mean_is_not_rounded_to_the_arithmetic_of_x() -> None:
    x = cases.filled(rows, data((19, 8), "f32", 1e5))
    y, (mean, variance) = rows(x.shape, x.dtype), cases.reference(stacked(x))
    infer(x, y, mean.astype(float), variance.astype(float), None, None, element="f32")
    cases.check(stacked(y), cases.affine(stacked(x), mean, variance, None, None), "f32")


class Differentiated:
    """What a backward kernel wrote."""

    def __init__(self, features: int) -> None:
        self.dweight, self.dbias = cases.aligned((2, features), np.float64)


def differentiate(
    x: Array,
    dy: Array,
    dx: Array | None,
    mean: Array,
    invstd: Array,
    weight: Array | None,
    batch: bool,
    *,
    element: str,
    slices: int = 0,
    cluster: int = 1,
    unroll: int = UNROLL,
    shared: int = 0,
) -> Differentiated:
    """By ``slices`` in two launches, or in a cluster of blocks at once."""
    width = width_of(element, x, dy, *([] if dx is None else [dx]))
    grid = Grid(x.shape, element, width, slices)
    out, kept = Differentiated(x.shape[1]), partial(slices, 4, x.shape[1], element)
    target = matrix(dy) if dx is None else matrix(dx)
    vectors = mean, invstd, cases.absent(weight), kept, out.dweight, out.dbias
    wanted = cases.flags(weight=weight, batch=batch, input=dx)
    arguments = (*matrix(x), *matrix(dy), *target, *grid.sizes, *vectors)
    (kind,) = kinds(weight)
    if slices:
        again = wanted if batch else wanted & ~cases.flags(input=True)
        first = columns_backward.sums(element, kind, width, not batch, UNROLL, THREADS)
        second = columns_backward.gradient(element, kind, width, UNROLL, THREADS)
        cases.run(first, (grid.slabs, slices), *arguments, wanted)
        cases.run(second, (grid.slabs, slices if batch and dx is not None else 1), *arguments, again)
    else:
        assert x.shape[0] <= cluster * (unroll + shared) * grid.ranks
        program = columns_backward.resident(element, kind, width, cluster, unroll, THREADS, shared)
        cases.run(program, (grid.slabs * cluster, 1), *arguments, wanted)
    return out


@all_elements
@all_ways
@pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape: tuple[int, int], batch: bool, way: dict[str, int], element: str) -> None:
    x, dy = (cases.filled(rows, data(shape, element, seed=seed)) for seed in (0, 5))
    dx, weight = rows(shape, x.dtype), cases.vectors(shape[1], 1)[0]
    mean, invstd = cases.backward_statistics(stacked(x), batch)
    out = differentiate(x, dy, dx, mean, invstd, weight, batch, element=element, **way)
    cases.check_gradients(
        stacked(x), stacked(dy), stacked(dx), out.dweight, out.dbias, mean, invstd, weight, batch, element
    )


@all_elements
@all_layouts
@pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("way", [{"slices": 3}, {"cluster": 2, "unroll": 4}], ids=["split", "resident"])
def test_backward_of_any_rows(way: dict[str, int], batch: bool, layout: Any, element: str) -> None:
    x, dy = (cases.filled(layout, data((13, 40), element, seed=seed)) for seed in (0, 5))
    dx = layout(x.shape, x.dtype)
    mean, invstd = cases.backward_statistics(stacked(x), batch)
    out = differentiate(x, dy, dx, mean, invstd, None, batch, element=element, **way)
    cases.check_gradients(
        stacked(x), stacked(dy), stacked(dx), out.dweight, out.dbias, mean, invstd, None, batch, element
    )
    memory = cases.pointer(dx).memory.view(x.dtype)
    assert np.isfinite(memory.astype(float)).sum() == x.size, "written beside dx"


@all_ways
@pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])
def test_backward_without_dx_writes_none(batch: bool, way: dict[str, int]) -> None:
    x, dy = (cases.filled(rows, data((37, 24), "f32", seed=seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), batch)
    before = dy.copy()
    out = differentiate(x, dy, None, mean, invstd, None, batch, element="f32", **way)
    np.testing.assert_array_equal(dy, before)
    cases.check_gradients(stacked(x), stacked(dy), None, out.dweight, out.dbias, mean, invstd, None, batch, "f32")


@all_ways
@pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("over", ["x", "dy"])
def test_dx_may_be_x_or_dy(over: str, batch: bool, way: dict[str, int]) -> None:
    x, dy = (cases.filled(rows, data((37, 24), "f32", seed=seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), batch)
    before = x.copy(), dy.copy()
    dx = x if over == "x" else dy
    out = differentiate(x, dy, dx, mean, invstd, None, batch, element="f32", **way)
    cases.check_gradients(
        *map(stacked, before), stacked(dx), out.dweight, out.dbias, mean, invstd, None, batch, "f32"
    )  # fmt: skip


@all_ways
def test_a_constant_dy_gives_exactly_no_dx(way: dict[str, int]) -> None:
    x, dy = cases.filled(rows, data((37, 24), "f32")), cases.filled(rows, np.full((37, 24), 0.1, np.float32))
    mean, invstd = cases.backward_statistics(stacked(x), True)
    dx = rows(x.shape, x.dtype)
    out = differentiate(x, dy, dx, mean, invstd, None, True, element="f32", **way)
    np.testing.assert_array_equal(dx, np.zeros_like(dx))
    np.testing.assert_array_equal(out.dweight, np.zeros(24))
    np.testing.assert_allclose(out.dbias, dy.sum(0, float), rtol=1e-14)


@all_ways
@pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])
def test_backward_far_from_zero(batch: bool, way: dict[str, int]) -> None:
    """x and dy with means of 1e5 standard deviations; the mean has digits that float32 has not."""
    x, dy = (cases.filled(rows, data((37, 24), "f32", 1e5, seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), True)
    dx = rows(x.shape, x.dtype)
    out = differentiate(x, dy, dx, mean, invstd, None, batch, element="f32", **way)
    cases.check_gradients(
        stacked(x), stacked(dy), stacked(dx), out.dweight, out.dbias, mean, invstd, None, batch, "f32"
    )
    np.testing.assert_allclose(out.dbias, dy.sum(0, dtype=float), rtol=0, atol=37 * 1e-5)


@all_ways
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_in_backward_stays_in_its_feature(value: float, way: dict[str, int]) -> None:
    x, dy = (cases.filled(rows, data((37, 16), "f32", seed=seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), True)
    dy[20, 5] = value
    dx = rows(x.shape, x.dtype)
    out = differentiate(x, dy, dx, mean, invstd, None, True, element="f32", **way)
    others = np.arange(16) != 5
    assert np.isnan(dx[:, 5]).all()
    for result in (out.dweight, out.dbias, dx[0]):
        np.testing.assert_array_equal(np.isfinite(result), others)


@all_ways
def test_in_evaluation_dx_does_not_see_x(way: dict[str, int]) -> None:
    x, dy = (cases.filled(rows, data((37, 16), "f32", seed=seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), False)
    x[20, 5] = np.inf
    dx = rows(x.shape, x.dtype)
    differentiate(x, dy, dx, mean, invstd, None, False, element="f32", **way)
    np.testing.assert_allclose(dx, dy * invstd, rtol=2e-7)


@all_ways
def test_two_runs_give_the_same_bits(way: dict[str, int]) -> None:
    x, dy = (cases.filled(rows, data((37, 24), "f32", seed=seed)) for seed in (0, 5))
    mean, invstd = cases.backward_statistics(stacked(x), True)
    results = []
    for _ in range(2):
        y, dx = rows(x.shape, x.dtype), rows(x.shape, x.dtype)
        forward = train(x, y, element="f32", **way)
        back = differentiate(x, dy, dx, mean, invstd, None, True, element="f32", **way)
        results.append([array.tobytes() for array in (y, forward.mean, dx, back.dweight, back.dbias)])
    assert results[0] == results[1]
