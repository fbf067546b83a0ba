"""Tests of the backward kernels on channels-first memory, in the simulator or on the machine of ``ptx``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_cases as cases
from cuda_cases import Array, all_elements
from normspec.runtime.kernels.cuda import planes_backward
from normspec.runtime.kernels.cuda.features_backward import SIZE, gradient, resident, sums
from normspec.runtime.kernels.cuda.program import INPUT

THREADS = 64
SHAPES = [(1, 1, 1), (3, 2, 48), (5, 3, 7), (2, 1, 300)]
WAYS: list[dict[str, int]] = [
    {"slices": 3},
    {"unroll": 16},
    {"cluster": 4, "unroll": 6},
    {"cluster": 2, "unroll": 7, "shared": 2},
]
PLANES: list[dict[str, int]] = [{"planes": 1}, {"planes": 1, "cluster": 4}]


def ways(some: list[dict[str, int]]) -> Any:
    return pytest.mark.parametrize("way", some, ids=lambda way: "_".join(f"{key}{value}" for key, value in way.items()))


of_any_layout, all_ways = ways(WAYS), ways(WAYS + PLANES)
both_modes = pytest.mark.parametrize("batch", [True, False], ids=["training", "evaluation"])


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
    planes: int = 0,
    cluster: int = 1,
    unroll: int = 2,
    shared: int = 0,
) -> tuple[Array, Array]:
    """dweight and dbias: by ``slices`` in two launches, or by a cluster of blocks, of small ``planes`` or not."""
    width = 1 if planes else cases.width_of(element, x, dy, *([] if dx is None else [dx]))
    outer, features, inner = x.shape
    dweight, dbias = cases.aligned((2, features), np.float64)
    partial = cases.aligned((features * slices * SIZE,), cases.arithmetic(element))
    wanted = cases.flags(weight=weight, batch=batch, input=dx)
    kind = "f64" if weight is not None and weight.dtype == np.float64 else "f32"
    arguments: list[Any] = []
    for view in (x, dy, dy if dx is None else dx):
        arguments += [cases.pointer(view), *cases.strides(view, width)]
    vectors = mean, invstd, cases.absent(weight), partial, dweight, dbias
    arguments += [outer, inner // width, slices, *vectors]
    if planes:
        group, unroll, threads = cases.planes_shape(element, outer, inner, cluster)
        assert features % group == 0
        program = planes_backward.planes(element, kind, group, cluster, unroll, threads)
        cases.run(program, (features // group * cluster, 1), *arguments, wanted)
    elif slices:
        first = sums(element, kind, width, not batch, unroll, THREADS)
        second = gradient(element, kind, width, unroll, THREADS)
        cases.run(first, (features, slices), *arguments, wanted)
        again = batch and dx is not None
        cases.run(
            second, (features, slices if again else 1), *arguments, wanted if again else wanted & ~INPUT
        )  # fmt: skip
    else:
        assert outer * inner // width <= cluster * (unroll + shared) * THREADS
        program = resident(element, kind, width, cluster, unroll, THREADS, shared)
        cases.run(program, (features * cluster, 1), *arguments, wanted)
    return dweight, dbias


def slopes(shape: tuple[int, int, int], element: str, layout: Any = cases.contiguous, offset: float = 3.0) -> Any:
    """x and dy."""
    return [cases.filled(layout, cases.data(shape, element, offset, seed)) for seed in (0, 5)]


@all_elements
@of_any_layout
@both_modes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape: tuple[int, int, int], batch: bool, way: dict[str, int], element: str) -> None:
    x, dy = slopes(shape, element)
    dx, weight = cases.contiguous(shape, x.dtype), cases.vectors(shape[1], 1)[0]
    statistics = cases.backward_statistics(x, batch)
    vectors = differentiate(x, dy, dx, *statistics, weight, batch, element=element, **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, weight, batch, element)


@all_elements
@ways(PLANES)
@both_modes
@pytest.mark.parametrize("shape", [(5, 8, 7), (3, 16, 49), (40, 8, 21), (1, 8, 1)], ids=str)
def test_small_planes(shape: tuple[int, int, int], batch: bool, way: dict[str, int], element: str) -> None:
    test_backward(shape, batch, way, element)


@pytest.mark.parametrize("way", PLANES)
def test_small_planes_of_a_part_of_the_features(way: dict[str, int]) -> None:
    arrays = [cases.contiguous((70, features, 9), np.float32) for features in (16, 12, 20)]
    x, dy, dx = (array[:, 4:12] for array in arrays)
    x[...], dy[...] = slopes(x.shape, "f32")
    statistics = cases.backward_statistics(x, True)
    vectors = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, None, True, "f32")
    assert np.isfinite(arrays[2]).sum() == x.size, "written beside dx"


def test_more_slices_than_a_warp_has_lanes() -> None:
    x, dy = slopes((2, 1, 66), "f32")
    statistics = cases.backward_statistics(x, True)
    vectors = differentiate(x, dy, None, *statistics, None, True, element="f32", slices=33)
    cases.check_gradients(x, dy, None, *vectors, *statistics, None, True, "f32")


@pytest.mark.parametrize("element", ["bf16", "f32"])
@both_modes
@pytest.mark.parametrize("layout", cases.LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("way", [{"slices": 3}, {"cluster": 2, "unroll": 8}], ids=["split", "resident"])
def test_any_strides(way: dict[str, int], layout: Any, batch: bool, element: str) -> None:
    x, dy = slopes((4, 3, 32), element, layout)
    dx, weight = layout(x.shape, x.dtype), cases.vectors(3, 1, np.float64)[0]
    statistics = cases.backward_statistics(x, batch)
    vectors = differentiate(x, dy, dx, *statistics, weight, batch, element=element, **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, weight, batch, element)
    memory = cases.pointer(dx).memory.view(x.dtype)
    assert np.isfinite(memory.astype(float)).sum() == x.size, "written beside dx"


@of_any_layout
def test_layouts_may_differ(way: dict[str, int]) -> None:
    x, dy = slopes((4, 3, 32), "f32")
    x, dy = cases.filled(cases.padded, x), cases.filled(cases.channels_last, dy)
    dx = cases.contiguous(x.shape, x.dtype)
    statistics = cases.backward_statistics(x, True)
    vectors = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, None, True, "f32")


@all_ways
@both_modes
def test_without_dx_nothing_else_is_written(batch: bool, way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    before, statistics = dy.copy(), cases.backward_statistics(x, batch)
    vectors = differentiate(x, dy, None, *statistics, None, batch, element="f32", **way)
    np.testing.assert_array_equal(dy, before)
    cases.check_gradients(x, dy, None, *vectors, *statistics, None, batch, "f32")


@all_ways
@both_modes
@pytest.mark.parametrize("over", ["x", "dy"])
def test_dx_may_be_x_or_dy(over: str, batch: bool, way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    before, statistics = (x.copy(), dy.copy()), cases.backward_statistics(x, batch)
    dx = x if over == "x" else dy
    vectors = differentiate(x, dy, dx, *statistics, None, batch, element="f32", **way)
    cases.check_gradients(*before, dx, *vectors, *statistics, None, batch, "f32")


@all_ways
def test_a_constant_dy_gives_exactly_no_dx(way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    dy[...] = 0.1
    dx = cases.contiguous(x.shape, x.dtype)
    statistics = cases.backward_statistics(x, True)
    dweight, dbias = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
    np.testing.assert_array_equal(dx, np.zeros_like(dx))
    np.testing.assert_array_equal(dweight, np.zeros(3))
    np.testing.assert_allclose(dbias, dy.sum((0, 2), float), rtol=1e-14)


@all_ways
@both_modes
def test_far_from_zero(batch: bool, way: dict[str, int]) -> None:
    """x and dy with means of 1e5 standard deviations and more; the mean has digits that float32 has not."""
    x, dy = slopes((5, 3, 28), "f32", offset=1e5)
    dx = cases.contiguous(x.shape, x.dtype)
    statistics = cases.backward_statistics(x, True)
    vectors = differentiate(x, dy, dx, *statistics, None, batch, element="f32", **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, None, batch, "f32")
    np.testing.assert_allclose(vectors[1], dy.sum((0, 2), dtype=float), rtol=0, atol=5 * 28 * 1e-5)


@all_ways
@pytest.mark.parametrize("place", [(0, 0), (4, 27)])
def test_one_far_slope_spoils_nothing(place: tuple[int, int], way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    dy *= np.float32(1e-4)
    dy[place[0], :, place[1]] = 1e3
    dx = cases.contiguous(x.shape, x.dtype)
    statistics = cases.backward_statistics(x, True)
    vectors = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
    cases.check_gradients(x, dy, dx, *vectors, *statistics, None, True, "f32")


@all_ways
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "dy"])
def test_what_is_not_finite_stays_in_its_feature(where: str, value: float, way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    statistics = cases.backward_statistics(x, True)
    (x if where == "x" else dy)[3, 1, 20] = value
    dx = cases.contiguous(x.shape, x.dtype)
    dweight, dbias = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
    assert not np.isfinite(dx[:, 1].astype(float)).any()
    assert np.isfinite(dx[:, ::2].astype(float)).all()
    np.testing.assert_array_equal(np.isfinite(dweight), [True, False, True])
    np.testing.assert_array_equal(np.isfinite(dbias), [True, where == "x", True])


@all_ways
def test_in_evaluation_dx_does_not_see_x(way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    mean, invstd = cases.backward_statistics(x, False)
    x[3, 1, 20] = np.inf
    dx = cases.contiguous(x.shape, x.dtype)
    differentiate(x, dy, dx, mean, invstd, None, False, element="f32", **way)
    np.testing.assert_allclose(dx, dy * invstd[:, None], rtol=2e-7)


@all_ways
def test_two_runs_give_the_same_bits_whatever_the_other_features(way: dict[str, int]) -> None:
    x, dy = slopes((5, 3, 28), "f32")
    statistics, results = cases.backward_statistics(x, True), []
    for other in range(2):
        dy[:, 2] += other
        dx = cases.contiguous(x.shape, x.dtype)
        vectors = differentiate(x, dy, dx, *statistics, None, True, element="f32", **way)
        results.append([array.tobytes() for array in (dx[:, :2], *(vector[:2] for vector in vectors))])
    assert results[0] == results[1]
