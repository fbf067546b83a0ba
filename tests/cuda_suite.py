"""Tests of the CUDA kernels, on the device of this process: a GPU, or the simulator if NUMBA_ENABLE_CUDASIM=1.

``test_kernels_cuda.py`` runs this file on both, ``test_kernels_machine.py`` on the machine that runs PTX in place of a
GPU; numba must be told of the simulator before it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from normspec.runtime.kernels import cuda
from normspec.runtime.kernels.cuda import choose, device, plans
from normspec.runtime.kernels.cuda.primitives import SIMULATED

if SIMULATED:
    import simulator
    from normspec.runtime.kernels.cuda.simulated import SimulatedGpu

    simulator.install()
    SimulatedGpu.clusters = 16

SLOW = SIMULATED or cuda.describe().startswith("stub")  # the machine of ``ptx`` behind a driver that is a stub

Array = np.ndarray[Any, Any]
BFLOAT16 = ml_dtypes.bfloat16
DTYPES = [np.float16, BFLOAT16, np.float32, np.float64]
HALF_ULP = {np.float16: 2.0**-11, BFLOAT16: 2.0**-8, np.float32: 2.0**-24, np.float64: 2.0**-53}  # half of eps
EPSILON = 1e-5
LARGE = (2, 1, 650)  # ragged, and enough for several blocks

all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)


def block(features: int, pieces: int, gpu: Any, fits: Any, room: int, arrays: int) -> choose.Choice:
    kept = -(-pieces // 64)
    return choose.Choice("resident", 64, kept - kept // 2, shared=kept // 2)


def cluster(features: int, pieces: int, gpu: Any, fits: Any, room: int, arrays: int) -> choose.Choice:
    return choose.Choice("resident", 64, -(-pieces // 256), cluster=4)


def split(features: int, pieces: int, gpu: Any, fits: Any, room: int, arrays: int) -> choose.Choice:
    return choose.Choice("split", 64, 2, slices=3)


@pytest.fixture(params=[choose.features_by_size, block, cluster, split], ids=lambda rule: rule.__name__)
def kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of the kernels in turn, in place of the one that is chosen for a shape."""
    if request.param is cluster and device.gpu(0).clusters == 1:
        pytest.skip("this GPU has no clusters")
    with plans.forced(request.param):
        yield


all_kernels = pytest.mark.usefixtures("kernel")


def rows_block(rows: int, pieces: int, gpu: Any, limits: choose.Limits, fits: Any, *_: int) -> choose.Choice:
    kept = -(-rows // 8)
    return choose.Choice("resident", 32, kept - kept // 2, shift=2, shared=kept // 2)


def rows_cluster(rows: int, pieces: int, gpu: Any, limits: choose.Limits, fits: Any, *_: int) -> choose.Choice:
    return choose.Choice("resident", 32, -(-rows // 32), cluster=4, shift=2)


def rows_split(rows: int, pieces: int, gpu: Any, limits: choose.Limits, fits: Any, *_: int) -> choose.Choice:
    return choose.Choice("split", 32, 2, slices=3, shift=2)


ROW_RULES = [choose.rows_by_size, rows_block, rows_cluster, rows_split]


@pytest.fixture(params=ROW_RULES, ids=lambda rule: rule.__name__)
def row_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same of the kernels on rows."""
    if request.param is rows_cluster and device.gpu(0).clusters == 1:
        pytest.skip("this GPU has no clusters")
    with plans.forced(request.param, "rows"):
        yield


all_row_kernels = pytest.mark.usefixtures("row_kernel")


class Placed:
    """A NumPy view on the device, with its strides and all the memory that it is a view of."""

    def __init__(self, view: Array) -> None:
        owner = view if view.base is None else view.base
        assert isinstance(owner, np.ndarray)
        assert owner.base is None
        assert owner.flags.c_contiguous
        self.dtype, self.shape, self.strides = view.dtype, view.shape, view.strides
        self.offset = view.ctypes.data - owner.ctypes.data
        self.memory = cuda.to_device(owner)
        self.array = cuda.DeviceArray(
            self.memory.pointer + self.offset, self.shape, self.strides, self.memory.dtype, 0, 0, self.memory
        )

    def window(self, owner: Array, dtype: Any) -> Array:
        return np.ndarray(self.shape, dtype, owner, self.offset, self.strides)

    def host(self) -> Array:
        return self.window(cuda.to_host(self.memory), self.dtype)


def contiguous(x: Array) -> Array:
    return x.copy()


def channels_last(x: Array) -> Array:
    return filled(np.empty((x.shape[0], x.shape[2], x.shape[1]), x.dtype).transpose(0, 2, 1), x)


def strided(x: Array) -> Array:
    outer, feature, inner = x.shape
    memory = np.full((outer * 2, feature + 1, inner * 3 + 1), np.nan, x.dtype)
    return filled(memory[1::2, 1:, 1::3], x)


def reversed_axes(x: Array) -> Array:
    return filled(np.full(x.shape, np.nan, x.dtype)[::-1, ::-1, ::-1], x)


def repeated(x: Array, shape: tuple[int, int, int], strides: tuple[int, int, int]) -> Array:
    return np.ndarray(shape, x.dtype, x, 0, strides)


def filled(view: Array, x: Array) -> Array:
    view[...] = x
    return view


LAYOUTS = [contiguous, channels_last, strided, reversed_axes]
all_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def data(shape: tuple[int, int, int], dtype: Any, offset: float = 3.0, seed: int = 0) -> Array:
    """Normal noise of standard deviation 1, each feature about another mean."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (noise + offset * (1 + np.arange(shape[1]))[:, None]).astype(dtype)


def vectors(feature: int, dtype: Any = np.float32, seed: int = 1) -> list[Array]:
    """Weight, bias, running mean and running variance."""
    random = np.random.default_rng(seed)
    return [random.uniform(0.5, 2, feature).astype(dtype) for _ in range(4)]


def reference(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance, more exact than any kernel."""
    wide = x.astype(np.longdouble)
    mean = wide.mean((0, 2), keepdims=True)
    return mean[0, :, 0], ((wide - mean) ** 2).mean((0, 2))


def affine(x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None) -> Array:
    scale = 1 / np.sqrt(variance.astype(np.longdouble) + EPSILON)
    y = (x.astype(np.longdouble) - mean[:, None]) * scale[:, None]
    y = y if weight is None else y * weight[:, None]
    return y if bias is None else y + bias[:, None]


def check(y: Array, expected: Array, dtype: Any) -> None:
    """Half an ulp of the output for its rounding, and a few of the arithmetic's for all that came before."""
    arithmetic = HALF_ULP[np.float64 if dtype is np.float64 else np.float32]
    error = np.abs(y.astype(np.longdouble) - expected)
    allowed = HALF_ULP[dtype] * np.abs(expected) + 4 * arithmetic * (2 + np.abs(expected))
    worst = float((error / allowed).max())
    assert worst <= 1, f"an error is {worst:.3} times what is allowed"
    if dtype is np.float32:  # what the library promises
        assert np.linalg.norm(error.astype(float)) <= 2e-7 * np.linalg.norm(expected.astype(float))


def train(
    x: Array | Placed,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    y: Placed | None = None,
    rate: float = 0.1,
    unbiased: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """forward_training from host to host: y, mean, invstd and the new running statistics."""
    source = x if isinstance(x, Placed) else Placed(x)
    target = y or Placed(np.full(source.shape, np.nan, source.dtype))
    device = [
        None if vector is None else cuda.to_device(vector) for vector in (weight, bias, running_mean, running_var)
    ]
    mean, invstd = cuda.forward_training(source.array, target.array, *device, EPSILON, rate, unbiased)
    moved = [None if vector is None else cuda.to_host(vector) for vector in device[2:]]
    return target.host(), cuda.to_host(mean), cuda.to_host(invstd), moved[0], moved[1]


def normalized(x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None) -> Array:
    y = Placed(np.full(x.shape, np.nan, x.dtype))
    device = [None if vector is None else cuda.to_device(vector) for vector in (mean, variance, weight, bias)]
    cuda.normalize(Placed(x).array, y.array, *device, EPSILON)
    return y.host()


def statistics(x: Array) -> tuple[Array, Array]:
    mean, m2 = cuda.batch_statistics(Placed(x).array)
    return cuda.to_host(mean), cuda.to_host(m2)


def backward(
    shape: tuple[int, int, int],
    dtype: Any,
    batch: bool,
    weighted: bool,
    needed: bool,
    layout: Callable[[Array], Array] = contiguous,
) -> None:
    """Gradients from host to host, beside those that are defined in ``normspec.runtime.kernels``."""
    x, dy = data(shape, dtype, offset=0.1), data(shape, dtype, offset=0.1, seed=9)
    weight = vectors(shape[1])[0] if weighted else None
    mean, variance = (one.astype(float) for one in reference(x))
    invstd = 1 / np.sqrt(variance + EPSILON)
    dx = Placed(layout(np.full(shape, np.nan, dtype))) if needed else None
    given = None if weight is None else cuda.to_device(weight)
    dweight, dbias = cuda.backward(
        Placed(layout(x)).array,
        Placed(dy).array,
        None if dx is None else dx.array,
        cuda.to_device(mean),
        cuda.to_device(invstd),
        given,
        batch,
    )
    centred = (x.astype(np.longdouble) - mean[:, None]) * invstd[:, None]
    wide, count = dy.astype(np.longdouble), shape[0] * shape[2]
    exact_dweight, exact_dbias = (wide * centred).sum((0, 2)), wide.sum((0, 2))
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype is np.float64 else {"rtol": 3e-6, "atol": 3e-6 * count**0.5}
    np.testing.assert_allclose(cuda.to_host(dweight), exact_dweight.astype(float), **tolerance)
    np.testing.assert_allclose(cuda.to_host(dbias), exact_dbias.astype(float), **tolerance)
    scale = (invstd if weight is None else invstd * weight)[:, None]
    if batch:
        wide = wide - exact_dbias[:, None] / count - centred * (exact_dweight / count)[:, None]
    if dx is not None:
        check(dx.host(), scale * wide, dtype)


SHAPES = [(1, 1, 1), (1, 3, 2), (5, 2, 1), (4, 3, 7), (3, 2, 49), (2, 1, 257), (300, 2, 1), (7, 1, 131)]


@all_kernels
@all_dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_of_any_shape(shape: tuple[int, int, int], dtype: Any) -> None:
    x, count = data(shape, dtype), shape[0] * shape[2]
    weight, bias, running_mean, running_var = vectors(shape[1])
    y, mean, invstd, moved_mean, moved_var = train(x, weight, bias, running_mean, running_var)
    exact_mean, variance = reference(x)
    check(y, affine(x, exact_mean, variance, weight, bias), dtype)
    assert mean.dtype == invstd.dtype == np.float64
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=2e-7 if dtype is not np.float64 else 1e-15)
    np.testing.assert_allclose(invstd, 1 / np.sqrt(variance + EPSILON).astype(float), rtol=5e-7)
    unbiased = variance * count / max(count - 1, 1)
    np.testing.assert_allclose(moved_mean, (0.9 * running_mean + 0.1 * exact_mean).astype(float), rtol=5e-7)
    np.testing.assert_allclose(moved_var, (0.9 * running_var + 0.1 * unbiased).astype(float), rtol=5e-7)


@all_dtypes
def test_training_in_several_slices(dtype: Any) -> None:
    x = data(LARGE, dtype)
    y, _, _, _, moved_var = train(x, running_var=np.ones(1, np.float32))
    exact_mean, variance = reference(x)
    check(y, affine(x, exact_mean, variance, None, None), dtype)
    count = x.size
    np.testing.assert_allclose(moved_var, (0.9 + 0.1 * variance * count / (count - 1)).astype(float), rtol=5e-7)


@all_dtypes
@pytest.mark.parametrize("shape", [(1, 2, 1), (4, 3, 37), LARGE], ids=str)
def test_batch_statistics(shape: tuple[int, int, int], dtype: Any) -> None:
    x = data(shape, dtype)
    mean, m2 = statistics(x)
    exact_mean, variance = reference(x)
    digits = 1e-14 if dtype is np.float64 else 5e-7
    assert mean.dtype == m2.dtype == np.float64
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=digits)
    np.testing.assert_allclose(m2, (variance * shape[0] * shape[2]).astype(float), rtol=digits)


def test_means_come_with_more_digits_than_float32_has() -> None:
    x = data((3, 2, 19), np.float32, offset=1e5)
    for mean in (statistics(x)[0], train(x)[1]):
        np.testing.assert_allclose(mean, reference(x)[0].astype(float), rtol=0, atol=5e-7)


@all_dtypes
@pytest.mark.parametrize("vector_dtype", [np.float32, np.float64], ids=["vectors32", "vectors64"])
@pytest.mark.parametrize("shape", [(3, 3, 19), (9, 8, 19)], ids=["elements", "packets"])
def test_normalize_by_given_statistics(shape: tuple[int, int, int], dtype: Any, vector_dtype: Any) -> None:
    x = data(shape, dtype)
    weight, bias, mean, variance = vectors(shape[1], vector_dtype)
    check(normalized(x, mean, variance, weight, bias), affine(x, mean, variance, weight, bias), dtype)


@all_kernels
def test_normalize_in_several_slices() -> None:
    x = data((2, 2, 219), np.float32)
    weight, bias, mean, variance = vectors(2)
    check(normalized(x, mean, variance, weight, bias), affine(x, mean, variance, weight, bias), np.float32)


def test_a_float64_mean_is_not_rounded_to_the_arithmetic_of_x() -> None:
    x = data((3, 2, 19), np.float32, offset=1e5)
    mean, variance = reference(x)
    check(
        normalized(x, mean.astype(float), variance.astype(float), None, None),
        affine(x, mean, variance, None, None),
        np.float32,
    )


@all_kernels
@pytest.mark.parametrize("given", range(4), ids=lambda bits: f"weight={bits & 1},bias={bits >> 1}")
def test_weight_and_bias_are_optional(given: int) -> None:
    x = data((3, 2, 19), np.float32)
    weight, bias, mean, variance = vectors(2)
    options = (weight if given & 1 else None, bias if given & 2 else None)
    check(normalized(x, mean, variance, *options), affine(x, mean, variance, *options), np.float32)
    check(train(x, *options)[0], affine(x, *reference(x), *options), np.float32)


@all_kernels
@pytest.mark.parametrize("given", range(4), ids=lambda bits: f"mean={bits & 1},variance={bits >> 1}")
def test_running_statistics_are_optional(given: int) -> None:
    x = data((3, 2, 19), np.float32)
    mean, variance = reference(x)
    running = vectors(2, np.float64)[2:]
    options = [vector if given >> index & 1 else None for index, vector in enumerate(running)]
    moved = train(x, None, None, *options, rate=0.25, unbiased=False)[3:]
    for new, old, batch in zip(moved, options, (mean, variance), strict=True):
        assert (new is None) == (old is None)
        if new is not None and old is not None:
            np.testing.assert_allclose(new, (0.75 * old + 0.25 * batch).astype(float), rtol=2e-7)


def test_float64_running_statistics_keep_their_digits() -> None:
    x = data((4, 1, 16), np.float64)
    running = [np.array([1 / 3]), np.array([1 / 7])]
    moved = train(x, None, None, *running, unbiased=False)[3:]
    for new, old, batch in zip(moved, running, reference(x), strict=True):
        np.testing.assert_allclose(new, (0.9 * old + 0.1 * batch).astype(float), rtol=1e-15)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_none_and_all_are_exact(rate: float) -> None:
    x = data((3, 2, 5), np.float32)
    mean, m2 = statistics(x)
    old = np.array([12345.678, 1e-3], np.float32)
    moved = train(x, None, None, old, old, rate=rate, unbiased=False)[3:]
    for new, batch in zip(moved, (mean, m2.astype(np.float32) / np.float32(15)), strict=True):
        np.testing.assert_allclose(new, batch if rate else old, rtol=2e-7 if rate else 0)


@all_kernels
@all_row_kernels
def test_batches_are_counted() -> None:
    for shape in ((3, 2, 5), (7, 3, 1)):
        x, count = Placed(data(shape, np.float32)), cuda.to_device(np.array([41]))
        for _ in range(2):
            cuda.forward_training(x.array, x.array, None, None, None, None, EPSILON, 0.0, True, cuda.counter(count))
        assert int(count.copy_to_host()[0]) == 43


def test_unbiased_variance_of_a_single_element_is_zero() -> None:
    y, _, _, _, moved = train(np.full((1, 1, 1), 5, np.float32), None, None, None, np.ones(1, np.float32), rate=0.5)
    np.testing.assert_array_equal(moved, np.float32([0.5]))
    np.testing.assert_array_equal(y, np.zeros((1, 1, 1)))


@all_kernels
@all_dtypes
@all_layouts
def test_any_strides(layout: Callable[[Array], Array], dtype: Any) -> None:
    x = data((4, 3, 21), dtype)
    mean, variance = reference(x)
    poison = layout(np.full(x.shape, np.nan, dtype))
    y = Placed(poison)
    result = train(Placed(layout(x)), y=y)[0]
    check(result, affine(x, mean, variance, None, None), dtype)
    assert np.isfinite(cuda.to_host(y.memory).view(dtype)).sum() == x.size, "written beside y"


@all_dtypes
@all_row_kernels
@pytest.mark.parametrize("shape", [(70, 5), (33, 16), (1, 9)], ids=str)
def test_rows_of_features(shape: tuple[int, int], dtype: Any) -> None:
    """Channels-last memory comes as (rows, feature, 1)."""
    x = data((*shape, 1), dtype, offset=0.1)
    weight, bias, running_mean, running_var = vectors(shape[1])
    y, mean, invstd, moved_mean, _ = train(x, weight, bias, running_mean, running_var)
    exact_mean, variance = reference(x)
    expected = affine(x, exact_mean, variance, weight, bias)
    check(y, expected, dtype)
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=5e-7, atol=1e-7)
    np.testing.assert_allclose(invstd, 1 / np.sqrt(variance + EPSILON).astype(float), rtol=5e-7)
    assert moved_mean is not None
    np.testing.assert_allclose(moved_mean, (0.9 * running_mean + 0.1 * exact_mean).astype(float), rtol=5e-7)
    check(normalized(x, exact_mean.astype(float), variance.astype(float), weight, bias), expected, dtype)
    found, m2 = statistics(x)
    np.testing.assert_allclose(found, exact_mean.astype(float), rtol=5e-7, atol=1e-7)
    np.testing.assert_allclose(m2, (variance * shape[0]).astype(float), rtol=2e-6, atol=1e-6)


@all_dtypes
@all_kernels
@pytest.mark.parametrize("batch", [True, False])
def test_gradients(batch: bool, dtype: Any) -> None:
    backward((3, 2, 24), dtype, batch, weighted=True, needed=True)
    backward((3, 2, 7), dtype, batch, weighted=False, needed=True)
    backward((2, 3, 7), dtype, batch, weighted=True, needed=False)


@pytest.mark.parametrize("layout", [contiguous, channels_last, strided], ids=lambda layout: layout.__name__)
def test_gradients_of_any_strides(layout: Callable[[Array], Array]) -> None:
    backward((3, 2, 12), np.float32, True, weighted=True, needed=True, layout=layout)


@all_dtypes
@all_row_kernels
@pytest.mark.parametrize("batch", [True, False])
def test_rows_of_gradients(batch: bool, dtype: Any) -> None:
    backward((37, 12, 1), dtype, batch, weighted=True, needed=True)
    backward((37, 5, 1), dtype, batch, weighted=False, needed=True)
    backward((9, 5, 1), dtype, batch, weighted=True, needed=False)


def test_a_repeated_input_has_stride_zero() -> None:
    x = repeated(data((1, 3, 11), np.float32), (6, 3, 11), (0, 44, 4))
    check(train(x)[0], affine(x, *reference(x), None, None), np.float32)


@all_kernels
@pytest.mark.parametrize("shape", [(4, 3, 21), (2, 2, 219)], ids=str)
def test_y_may_be_x(shape: tuple[int, int, int]) -> None:
    x = data(shape, np.float32)
    expected = affine(x, *reference(x), None, None)
    both = Placed(x)
    check(train(both, y=both)[0], expected, np.float32)


@all_kernels
@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5, -1e5])
@pytest.mark.parametrize("shape", [(9, 2, 61), LARGE], ids=str)
def test_mean_far_beyond_the_standard_deviation(shape: tuple[int, int, int], ratio: float) -> None:
    x = data(shape, np.float32, offset=ratio)
    check(train(x)[0], affine(x, *reference(x), None, None), np.float32)


@all_kernels
@pytest.mark.parametrize("place", [0, 1, 600])
def test_one_far_element_spoils_nothing(place: int) -> None:
    """The first element is where a feature's first distances are measured from; it may be anything."""
    x = data(LARGE, np.float32, offset=1e4)
    x.reshape(-1)[place] = 0
    check(train(x)[0], affine(x, *reference(x), None, None), np.float32)


@all_kernels
@all_dtypes
@pytest.mark.parametrize("value", [0.1, 1000.3, -3e4])
def test_constant_features_give_exactly_the_bias(value: float, dtype: Any) -> None:
    for shape in ((7, 3, 43), (2, 2, 219)):
        x = np.full(shape, value, dtype)
        weight, bias, *_ = vectors(shape[1])
        y, mean, _, _, moved = train(x, weight, bias, None, np.zeros(shape[1], np.float32))
        np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], shape).astype(dtype))
        np.testing.assert_array_equal(mean, x[0, :, 0].astype(float))
        np.testing.assert_array_equal(moved, np.zeros(shape[1]))


@all_kernels
@all_dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_feature(value: float, dtype: Any) -> None:
    x = data((5, 3, 23), dtype)
    x[3, 1, 20] = value
    y, mean, invstd, moved_mean, moved_var = train(x, None, None, *vectors(3)[2:])
    assert moved_mean is not None
    assert moved_var is not None
    assert np.isnan(y[:, 1].astype(float)).all()
    for result in (mean, invstd, moved_mean, moved_var):
        np.testing.assert_array_equal(np.isfinite(result), [True, False, True])
    check(y[:, ::2], affine(x[:, ::2], *reference(x[:, ::2]), None, None), dtype)


def test_every_bfloat16_is_read_and_written() -> None:
    """Rounding to nearest even, infinities and NaN included: bfloat16 to bfloat16 through (x - 0) / 1 * weight."""
    bits = np.arange(0, 1 << 16, 41 if SLOW else 1).astype(np.uint16)
    x = bits.view(BFLOAT16).reshape(1, 1, -1)
    one, zero, weight = np.ones(1, np.float32), np.zeros(1, np.float32), np.array([1.2345679], np.float32)
    y = Placed(np.zeros(x.shape, BFLOAT16))
    cuda.normalize(Placed(x.copy()).array, y.array, *(cuda.to_device(v) for v in (zero, one, weight, zero)), 0.0)
    with np.errstate(all="ignore"):
        expected = (x.astype(np.float32) * weight).astype(BFLOAT16)
    np.testing.assert_array_equal(y.host().astype(float), expected.astype(float))


@all_kernels
def test_every_nan_is_written_as_nan() -> None:
    """A GPU's own NaN, 0x7FFFFFFF, would round up to a bfloat16 zero."""
    x = data((1, 1, 2), BFLOAT16)
    nan = np.array([0x7FFFFFFF], np.uint32).view(np.float32)
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    assert np.isnan(normalized(x, zero, one, nan, None).astype(float)).all()


@all_kernels
@all_dtypes
def test_two_runs_give_the_same_bits(dtype: Any) -> None:
    x = data((2, 2, 219), dtype)
    running = vectors(2)[2:]
    first, second = train(x, None, None, *running), train(x, None, None, *running)
    for one, other in zip(first, second, strict=True):
        assert one is not None
        assert other is not None
        assert one.tobytes() == other.tobytes()


@all_kernels
def test_a_feature_does_not_depend_on_others() -> None:
    x = data((4, 3, 21), np.float32)
    assert train(x)[0][:, 1:2].tobytes() == train(x[:, 1:2].copy())[0].tobytes()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)], ids=str)
def test_features_are_read_where_they_lie(order: tuple[int, ...]) -> None:
    """Any transposition of contiguous memory is seen as three axes, and so is the output."""
    memory = data((5, 2, 12), np.float32).reshape(5, 2, 3, 4).transpose(np.argsort(order)).copy()
    given = Placed(memory.transpose(order))
    y, x3, y3 = cuda.feature_views(given.array, 1)
    assert x3.shape[1] == given.shape[1]
    assert x3.pointer == given.array.pointer
    assert y.strides == given.strides
    cuda.forward_training(x3, y3, None, None, None, None, EPSILON, 0.1, True)
    x = given.host()
    flat = x.reshape(*x.shape[:2], -1)
    check(cuda.to_host(y).reshape(flat.shape), affine(flat, *reference(flat), None, None), np.float32)


def test_strides_that_no_kernel_takes_are_refused() -> None:
    array = Placed(np.full((4, 3, 4, 8), 1, np.float32)[:, :, ::2, ::3]).array
    with pytest.raises(ValueError, match="expected a contiguous array or a transposed one, found strides"):
        cuda.feature_views(array, 1)


def test_arrays_come_and_go() -> None:
    for dtype in DTYPES:
        host = data((2, 3, 5), dtype)
        device = cuda.to_device(host[:, ::-1])
        assert device.dtype == (np.uint16 if dtype is BFLOAT16 else dtype)
        np.testing.assert_array_equal(cuda.to_host(device).view(dtype), host[:, ::-1])
        assert cuda.empty((2, 3), dtype).dtype == device.dtype
        like = cuda.empty_like(Placed(channels_last(host)).array)
        assert (like.shape, like.dtype) == (host.shape, device.dtype)
        assert np.argmin(like.strides) == 1, "the order of axes is lost"


def test_the_device_is_described() -> None:
    assert cuda.available()
    cuda.require()
    assert "numba" in cuda.describe()


large = pytest.mark.skipif(SLOW, reason="2e9 elements and more take days without a GPU")


@large
def test_counts_and_indices_have_64_bits() -> None:
    x = data((1, 1, 1 << 16), np.float32)
    mean, m2 = statistics(repeated(x, (1 << 16, 1, 1 << 16), (0, 0, 4)))
    exact_mean, variance = reference(x)
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=1e-6)
    np.testing.assert_allclose(m2, (variance * 2.0**32).astype(float), rtol=1e-4)


@large
def test_what_is_written_may_have_more_than_2_to_the_31_elements() -> None:
    many, length = (1 << 15) + 1, 1 << 16
    row, slope = (data((1, 1, length), np.float16, seed=seed) for seed in (0, 1))
    x, dy = (Placed(repeated(one, (many, 1, length), (0, 0, 2))).array for one in (row, slope))
    out = cuda.empty(x.shape, np.float16)  # 4 GB

    def last() -> Array:
        place = out.pointer + (many - 1) * 2 * length
        return cuda.to_host(cuda.DeviceArray(place, row.shape, row.strides, out.dtype, 0, 0, out))

    mean, invstd = cuda.forward_training(x, out, None, None, None, None, EPSILON, 0.1, True)
    exact_mean, variance = reference(row)
    check(last(), affine(row, exact_mean, variance, None, None), np.float16)
    cuda.backward(x, dy, out, mean, invstd, None, True)
    scale = 1 / np.sqrt(variance + EPSILON)[:, None]
    normal, centred = (row - exact_mean[:, None]) * scale, slope - slope.mean(dtype=np.longdouble)
    check(last(), scale * (centred - normal * (centred * normal).mean()), np.float16)
