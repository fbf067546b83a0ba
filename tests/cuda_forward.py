"""Tests of the forward kernels on channels-first memory, in the simulator or on the machine of ``ptx``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import cuda_cases as cases
from cuda_cases import EPSILON, Array, all_elements
from normspec.runtime.kernels.cuda import forward, planes, primitives
from normspec.runtime.kernels.cuda.program import Program
from normspec.runtime.kernels.cuda.reduction import reduction

KINDS = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
THREADS, UNROLL = 64, 2
simulated = pytest.mark.skipif(not primitives.SIMULATED, reason="calls a function of kernels from Python")


def kinds(*arrays: Array) -> tuple[str, ...]:
    return tuple(KINDS[array.dtype] for array in arrays)


def described(view: Array, width: int) -> tuple[Any, ...]:
    """Pointer and strides."""
    return cases.pointer(view), *cases.strides(view, width)


def inferred(element: str, x: Array, y: Array, *statistics: Array | None, slices: int = 1) -> Array:
    width = cases.width_of(element, x, y)
    vectors = tuple(map(cases.absent, statistics))
    program = forward.inference(element, kinds(*vectors), width, UNROLL, THREADS)
    given = cases.flags(weight=statistics[2], bias=statistics[3])
    sizes, epsilon = (x.shape[0], x.shape[2] // width), cases.arithmetic(element)(EPSILON)
    data = *described(x, width), *described(y, width), *sizes
    cases.run(program, (x.shape[1], slices), *data, *vectors, epsilon, given)
    return y


def inferred_by_packets(
    element: str, x: Array, y: Array, *statistics: Array | None, slices: int = 1, threads: int = 32
) -> Array:
    outer, feature, inner = x.shape
    vectors = tuple(map(cases.absent, statistics))
    program = planes.inference(element, kinds(*vectors), UNROLL, threads)
    columns, rest = divmod(feature * inner, primitives.ELEMENTS[element].width)
    assert not rest
    given = cases.flags(weight=statistics[2], bias=statistics[3])
    data = *described(x, 1), *described(y, 1), outer, inner, columns
    cases.run(program, (-(-columns // threads), slices), *data, *vectors, cases.arithmetic(element)(EPSILON), given)
    return y


def poison(*shape: int, dtype: Any = np.float64) -> Array:
    return np.full(shape, np.nan, dtype)


class Trained(NamedTuple):
    y: Array
    mean: Array
    invstd: Array
    running_mean: Array | None
    running_var: Array | None
    tracked: int


class Options(NamedTuple):
    weight: Array | None = None
    bias: Array | None = None
    running_mean: Array | None = None
    running_var: Array | None = None
    rate: float = 0.1
    unbiased: bool = True
    tracked: bool = False


def partials(element: str, x: Array, slices: int) -> Array:
    width = cases.width_of(element, x)
    partial = poison(x.shape[1] * slices * 4, dtype=cases.arithmetic(element))
    program = forward.statistics(element, width, UNROLL, THREADS)
    cases.run(program, (x.shape[1], slices), *described(x, width), x.shape[0], x.shape[2] // width, partial)
    return partial


Kernel = Callable[[str, Array, Array, Options], Trained]


def split(slices: int) -> Kernel:
    """Statistics, then normalize."""

    def train(element: str, x: Array, y: Array, options: Options) -> Trained:
        def program(kinds: Any, width: int) -> Program:
            return forward.normalize(element, kinds, width, UNROLL, THREADS)

        return launched(program, (x.shape[1], slices), element, x, y, options, partials(element, x, slices))

    return train


def resident(cluster: int, threads: int = THREADS, part: int = 0) -> Kernel:
    """The whole feature on chip; how many pieces a thread keeps is as the feature needs, a part in shared memory."""

    def train(element: str, x: Array, y: Array, options: Options) -> Trained:
        def program(kinds: Any, width: int) -> Program:
            kept = -(-x[:, 0].size // (width * threads * cluster))
            shared = kept // part if part else 0
            return forward.resident(element, kinds, width, cluster, kept - shared, threads, shared)

        return launched(program, (x.shape[1] * cluster, 1), element, x, y, options)

    return train


def small_planes(cluster: int) -> Kernel:
    """Groups of features."""

    def train(element: str, x: Array, y: Array, options: Options) -> Trained:
        outer, feature, inner = x.shape
        group, unroll, threads = cases.planes_shape(element, outer, inner, cluster)
        assert feature % group == 0

        def program(kinds: Any, width: int) -> Program:
            return planes.planes(element, kinds, group, cluster, unroll, threads)

        return launched(program, (feature // group * cluster, 1), element, x, y, options, width=1)

    return train


def launched(
    make: Callable[[Any, int], Program],
    grid: tuple[int, int],
    element: str,
    x: Array,
    y: Array,
    options: Options,
    *partial: Array,
    width: int = 0,
) -> Trained:
    width = width or cases.width_of(element, x, y)
    vectors = [cases.absent(vector) for vector in options[:2]]
    vectors += [cases.absent(None if vector is None else vector.copy()) for vector in options[2:4]]
    program = make(kinds(*vectors), width)
    outputs = np.array([41], np.int64), poison(x.shape[1]), poison(x.shape[1])
    moving = np.result_type(vectors[2], vectors[3]).type
    scalars = cases.arithmetic(element)(EPSILON), moving(1 - options.rate), moving(options.rate)
    given = cases.flags(**{**options._asdict(), "rate": None})
    data = *described(x, width), *described(y, width), x.shape[0], x.shape[2] // width
    cases.run(program, grid, *data, *partial, *vectors, *outputs, *scalars, given)
    running = [new if old is not None else None for old, new in zip(options[2:4], vectors[2:], strict=True)]
    return Trained(y, *outputs[1:], *running, int(outputs[0][0]))


KERNELS = {
    "split1": split(1),
    "split3": split(3),
    "k1": resident(1),
    "k4": resident(4, 32),
    "s2": resident(2, 32, part=3),
}
all_kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
all_layouts = pytest.mark.parametrize("layout", cases.LAYOUTS, ids=lambda layout: layout.__name__)


def train(kernel: Kernel, element: str, x: Array, layout: Any = cases.contiguous, **options: Any) -> Trained:
    """In a layout, for x and y."""
    return kernel(element, cases.filled(layout, x), layout(x.shape, x.dtype), Options(**options))


def check(result: Trained, x: Array, element: str, **given: Any) -> None:
    options = Options(**given)
    mean, variance = cases.reference(x)
    count = x.shape[0] * x.shape[2]
    cases.check(result.y, cases.affine(x, mean, variance, options.weight, options.bias), element)
    digits = 1e-13 if element == "f64" else 5e-7
    spread = np.sqrt(variance.astype(float))
    np.testing.assert_allclose(result.mean, mean.astype(float), rtol=0, atol=digits * spread.max() + 1e-30)
    np.testing.assert_allclose(result.invstd, 1 / np.sqrt(variance + EPSILON).astype(float), rtol=digits)
    assert result.tracked == 41 + options.tracked
    rate = options.rate
    if options.running_mean is not None and result.running_mean is not None:
        moved = (1 - rate) * options.running_mean + rate * mean
        np.testing.assert_allclose(result.running_mean, moved.astype(float), rtol=5e-7)
    if options.running_var is not None and result.running_var is not None:
        batch = variance * count / max(count - 1, 1) if options.unbiased else variance
        moved = (1 - rate) * options.running_var + rate * batch
        np.testing.assert_allclose(result.running_var, moved.astype(float), rtol=5e-7)


@all_elements
@all_layouts
def test_inference(layout: Any, element: str) -> None:
    for shape in [(3, 2, 48), (5, 3, 7), (1, 1, 1), (70, 1, 16)]:
        x = cases.filled(layout, cases.data(shape, element))
        given = cases.vectors(shape[1], 4)
        y = inferred(element, x, layout(shape, x.dtype), *given, slices=2)
        cases.check(y, cases.affine(x, *given), element)


SHAPES = [(1, 1, 1), (2, 3, 8), (5, 2, 56), (3, 2, 49), (1, 2, 520), (67, 1, 16), (40, 2, 20)]
AFFINE, RUNNING = ("weight", "bias"), ("running_mean", "running_var")


def given(feature: int, dtype: Any = np.float32) -> dict[str, Array]:
    return dict(zip((*AFFINE, *RUNNING), cases.vectors(feature, 4, dtype), strict=True))


@all_kernels
@all_elements
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training(shape: tuple[int, int, int], element: str, kernel: Kernel) -> None:
    x = cases.data(shape, element)
    check(train(kernel, element, x, tracked=True, **given(shape[1])), x, element, tracked=True, **given(shape[1]))


@pytest.mark.parametrize("element", ["f32", "bf16"])
def test_clusters_of_sixteen_blocks(element: str) -> None:
    x = cases.data((3, 1, 200), element)
    check(train(resident(16, 32), element, x), x, element)


@all_kernels
@all_layouts
def test_any_strides(layout: Any, kernel: Kernel) -> None:
    for element in ("f32", "f16"):
        x = cases.data((3, 2, 24), element)
        result = train(kernel, element, x, layout)
        check(result, x, element)
        memory = cases.pointer(result.y).memory.view(x.dtype)
        assert np.isfinite(memory.astype(float)).sum() == x.size, "written beside y"


@all_kernels
def test_a_repeated_input_has_strides_of_zero(kernel: Kernel) -> None:
    x = np.broadcast_to(cases.data((1, 2, 12), "f32"), (5, 2, 12))
    check(kernel("f32", x, cases.contiguous(x.shape, x.dtype), Options()), x, "f32")


@all_kernels
def test_y_may_be_x(kernel: Kernel) -> None:
    x = cases.data((4, 2, 40), "f32")
    both = cases.filled(cases.contiguous, x)
    check(kernel("f32", both, both, Options()), x, "f32")


@all_kernels
@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5, -1e5])
def test_mean_far_beyond_the_standard_deviation(ratio: float, kernel: Kernel) -> None:
    x = cases.data((9, 2, 61), "f32", offset=ratio)
    check(train(kernel, "f32", x), x, "f32")


@all_kernels
@pytest.mark.parametrize("place", [0, 1, 200])
def test_one_far_element_spoils_nothing(place: int, kernel: Kernel) -> None:
    """The first element is where deviations are measured from; it may be anything."""
    x = cases.data((3, 1, 200), "f32", offset=1e4)
    x.reshape(-1)[place] = 0
    check(train(kernel, "f32", x), x, "f32")


@all_kernels
@all_elements
@pytest.mark.parametrize("value", [0.1, 1000.3, -3e4, "largest"])
def test_constant_features_give_exactly_the_bias(value: float | str, element: str, kernel: Kernel) -> None:
    for shape in ((7, 2, 43), (2, 2, 64)):
        limits = ml_dtypes.finfo(cases.DTYPES[element])
        x = np.full(shape, limits.max if value == "largest" else value, cases.DTYPES[element])
        options = {**given(2), "running_var": np.zeros(2, np.float32)}
        result = train(kernel, element, x, **options)
        bias = options["bias"][:, None].astype(x.dtype)
        np.testing.assert_array_equal(result.y, np.broadcast_to(bias, shape))
        np.testing.assert_array_equal(result.mean, x[0, :, 0].astype(float))
        np.testing.assert_array_equal(result.running_var, np.zeros(2))


@all_kernels
@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_feature(value: float, element: str, kernel: Kernel) -> None:
    x = cases.data((5, 3, 24), element)
    x[3, 1, 20] = value
    result = train(kernel, element, x, **given(3))
    assert np.isnan(result.y[:, 1].astype(float)).all()
    for vector in result[1:5]:
        np.testing.assert_array_equal(np.isfinite(vector), [True, False, True])
    rest = {name: vector[::2] for name, vector in given(3).items()}
    check(result._replace(y=result.y[:, ::2], **selected(result)), x[:, ::2], element, **rest)


def selected(result: Trained) -> dict[str, Any]:
    return {name: getattr(result, name)[::2] for name in ("mean", "invstd", *RUNNING)}


@all_kernels
@pytest.mark.parametrize("present", range(4), ids="{:02b}".format)
def test_vectors_are_optional(present: int, kernel: Kernel) -> None:
    x = cases.data((3, 2, 20), "f32")
    for names in (AFFINE, RUNNING):
        options = {name: given(2)[name] for index, name in enumerate(names) if present >> index & 1}
        result = train(kernel, "f32", x, unbiased=False, rate=0.25, **options)
        check(result, x, "f32", unbiased=False, rate=0.25, **options)


@all_kernels
@pytest.mark.parametrize("element", ["f32", "f64"])
def test_float64_vectors_keep_their_digits(element: str, kernel: Kernel) -> None:
    x = cases.data((4, 2, 16), element)
    options = given(2, np.float64)
    result = train(kernel, element, x, **options, unbiased=False)
    check(result, x, element, **options, unbiased=False)
    for name, batch in zip(RUNNING, cases.reference(x), strict=True):
        old, digits = options[name], 1e-15 if element == "f64" else 1e-8
        np.testing.assert_allclose(getattr(result, name) - 0.9 * old, (0.1 * batch).astype(float), rtol=1e-6)
        np.testing.assert_allclose(getattr(result, name), (0.9 * old + 0.1 * batch).astype(float), rtol=digits * 100)


@all_kernels
def test_a_float64_running_mean_has_more_digits_than_x(kernel: Kernel) -> None:
    x = cases.data((4, 2, 16), "f32", offset=1e4)
    result = train(kernel, "f32", x, running_mean=np.zeros(2), rate=1.0)
    np.testing.assert_allclose(result.running_mean, cases.reference(x)[0].astype(float), rtol=0, atol=4e-7)


@all_kernels
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_none_and_all_are_exact(rate: float, kernel: Kernel) -> None:
    x = cases.data((3, 2, 8), "f32")
    old = np.array([12345.678, 1e-3], np.float32)
    result = train(kernel, "f32", x, running_mean=old, running_var=old, rate=rate, unbiased=False)
    if rate == 0:
        np.testing.assert_array_equal(result.running_mean, old)
        np.testing.assert_array_equal(result.running_var, old)
    else:
        np.testing.assert_array_equal(result.running_mean, result.mean.astype(np.float32))
        np.testing.assert_allclose(result.running_var, cases.reference(x)[1].astype(float), rtol=3e-7)


@all_kernels
def test_unbiased_variance_of_a_single_element_is_zero(kernel: Kernel) -> None:
    result = train(kernel, "f32", np.full((1, 1, 1), 5, np.float32), running_var=np.ones(1, np.float32), rate=0.5)
    np.testing.assert_array_equal(result.running_var, [0.5])
    np.testing.assert_array_equal(result.y, np.zeros((1, 1, 1)))


@all_kernels
@all_elements
def test_two_runs_give_the_same_bits(element: str, kernel: Kernel) -> None:
    x = cases.data((3, 2, 72), element)
    first, second = (train(kernel, element, x, **given(2)) for _ in range(2))
    for one, other in zip(first[:5], second[:5], strict=True):
        assert one.tobytes() == other.tobytes()


@all_kernels
def test_a_feature_does_not_depend_on_others(kernel: Kernel) -> None:
    x = cases.data((4, 3, 20), "f32")
    alone = train(kernel, "f32", x[:, 1:2].copy()).y
    assert train(kernel, "f32", x).y[:, 1:2].tobytes() == alone.tobytes()


@all_elements
@pytest.mark.parametrize("slices", [1, 3, 40])
def test_moments(slices: int, element: str) -> None:
    x = cases.data((4, 2, 37 if slices == 3 else 40), element)
    real, (mean, m2) = "f64" if element == "f64" else "f32", (poison(2), poison(2))
    program = forward.moments(real, 64)
    cases.run(program, (2, 1), partials(element, x, slices), slices, mean, m2)
    exact_mean, variance = cases.reference(x)
    digits = 1e-14 if element == "f64" else 5e-7
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=digits)
    np.testing.assert_allclose(m2, (variance * x[:, 0].size).astype(float), rtol=digits)


def test_moments_have_a_mean_beyond_the_digits_of_x() -> None:
    x = cases.data((4, 2, 40), "f32", offset=1e4)
    mean, m2 = poison(2), poison(2)
    cases.run(forward.moments("f32", 64), (2, 1), partials("f32", x, 3), 3, mean, m2)
    np.testing.assert_allclose(mean, cases.reference(x)[0].astype(float), rtol=0, atol=4e-7)


def test_a_float64_mean_is_not_rounded_to_the_arithmetic_of_x() -> None:
    x = cases.data((3, 2, 20), "f32", offset=1e5)
    mean, variance = (statistic.astype(float) for statistic in cases.reference(x))
    y = inferred("f32", x, cases.contiguous(x.shape, x.dtype), mean, variance, None, None)
    cases.check(y, cases.affine(x, mean, variance, None, None), "f32")


@pytest.mark.parametrize("present", range(4), ids="{:02b}".format)
def test_inference_without_weight_or_bias(present: int) -> None:
    x = cases.filled(cases.contiguous, cases.data((3, 2, 20), "f32"))
    mean, variance, *vectors = cases.vectors(2, 4)
    options = [vector if present >> index & 1 else None for index, vector in enumerate(vectors)]
    y = inferred("f32", x, cases.contiguous(x.shape, x.dtype), mean, variance, *options)
    cases.check(y, cases.affine(x, mean, variance, *options), "f32")


def test_every_bfloat16_is_read_and_written() -> None:
    """Rounding to nearest even, infinities and NaN included: bfloat16 to bfloat16 through (x - 0) / 1 * weight."""
    bits = np.arange(0, 1 << 16, 41)[:1592].astype(np.uint16)
    x = cases.filled(cases.contiguous, bits.view(cases.BFLOAT16).reshape(1, 1, -1))
    variance = np.full(1, 1 - EPSILON)
    weight = np.array([1.2345679], np.float32)
    y = inferred("bf16", x, cases.contiguous(x.shape, x.dtype), np.zeros(1), variance, weight, None)
    with np.errstate(all="ignore"):
        expected = (x.astype(np.float32) * weight).astype(cases.BFLOAT16)
    np.testing.assert_array_equal(y.astype(float), expected.astype(float))


all_clusters = pytest.mark.parametrize("cluster", [1, 4], ids="k{}".format)


@all_elements
@all_clusters
@pytest.mark.parametrize("shape", [(3, 8, 7), (1, 16, 1), (5, 8, 49), (2, 8, 12)], ids=str)
def test_small_planes(shape: tuple[int, int, int], cluster: int, element: str) -> None:
    options = {**given(shape[1]), "tracked": True}
    for offset in (3.0, 1e4 if element == "f32" else 10):
        x = cases.data(shape, element, offset)
        check(train(small_planes(cluster), element, x, **options), x, element, **options)


@all_elements
@pytest.mark.parametrize("shape", [(3, 8, 9), (11, 16, 11), (1, 8, 49), (5, 24, 8), (2, 2, 12)], ids=str)
def test_inference_of_small_planes(shape: tuple[int, int, int], element: str) -> None:
    x = cases.filled(cases.contiguous, cases.data(shape, element))
    mean, variance, *vectors = cases.vectors(shape[1], 4)
    for slices, present in (1, 3), (3, 0), (2, 2):
        options = [vector if present >> index & 1 else None for index, vector in enumerate(vectors)]
        y = cases.contiguous(shape, x.dtype)
        inferred_by_packets(element, x, y, mean, variance, *options, slices=slices)
        cases.check(y, cases.affine(x, mean, variance, *options), element)


def test_inference_of_small_planes_of_a_part_of_the_features() -> None:
    """y may be x; what is no number stays in its feature, and a float64 mean is not rounded."""
    whole = cases.filled(cases.contiguous, cases.data((6, 16, 9), "f32", offset=1e5))
    before, part = whole.copy(), whole[:, 4:12]
    part[2, 3, 4] = np.nan
    mean, variance = (statistic.astype(float) for statistic in cases.reference(before[:, 4:12]))
    inferred_by_packets("f32", part, part, mean, variance, None, None)
    expected = cases.affine(before[:, 4:12], mean, variance, None, None)
    assert np.isnan(part[2, 3, 4])
    part[2, 3, 4] = expected[2, 3, 4]
    cases.check(part, expected, "f32")
    np.testing.assert_array_equal(whole[:, [*range(4), *range(12, 16)]], before[:, [*range(4), *range(12, 16)]])


@all_clusters
def test_small_planes_of_a_part_of_the_features(cluster: int) -> None:
    """Rows are contiguous, the stride between them is longer; y may be x."""
    whole = cases.filled(cases.contiguous, cases.data((70, 16, 9), "f32"))
    x = whole[:, 4:12].copy()
    part = whole[:, 4:12]
    check(small_planes(cluster)("f32", part, part, Options()), x, "f32")
    np.testing.assert_array_equal(whole[:, :4], cases.data((70, 16, 9), "f32")[:, :4])
    np.testing.assert_array_equal(whole[:, 12:], cases.data((70, 16, 9), "f32")[:, 12:])
    whole[:, 4:12] = x
    check(small_planes(cluster)("f32", part, cases.contiguous(x.shape, x.dtype), Options()), x, "f32")


@all_clusters
def test_small_planes_one_far_element_spoils_nothing(cluster: int) -> None:
    x = cases.data((40, 4, 9), "f32", offset=1e4)
    x[0, :, 0] = 0
    check(train(small_planes(cluster), "f32", x), x, "f32")


@all_elements
@all_clusters
def test_small_planes_constant_or_not_finite(cluster: int, element: str) -> None:
    x = cases.data((3, 8, 5), element)
    x[:, 1], x[2, 3, 4], x[0, 0, 0] = 0.1, np.nan, np.inf
    result = train(small_planes(cluster), element, x, **given(8))
    bias = given(8)["bias"].astype(x.dtype)
    np.testing.assert_array_equal(result.y[:, 1], np.full((3, 5), bias[1]))
    assert np.isnan(result.y[:, [0, 3]].astype(float)).all()
    fine = [2, 4, 5, 6, 7]
    for vector in result[1:5]:
        np.testing.assert_array_equal(np.isfinite(vector[[0, 3]]), [False, False])
    some = {name: vector[fine] for name, vector in given(8).items()}
    parts = {name: getattr(result, name)[fine] for name in ("mean", "invstd", *RUNNING)}
    check(result._replace(y=result.y[:, fine], **parts), x[:, fine], element, **some)


@simulated
def test_rounding_makes_no_variance_negative() -> None:
    """Of equal elements that are not where deviations are measured from."""
    centred, total = reduction(np.float32, 32).centred, np.float32(0.3)
    square = np.nextafter(total * total / np.float32(3), np.float32(0))
    assert centred(np.float32(3), np.float32(1), total, square).m2 == 0
    assert centred(np.float32(3), np.float32(1), total, np.float32(1)).m2 > 0.9


@simulated
def test_integers_of_any_size_are_divided() -> None:
    random = np.random.default_rng(0)
    for bits in ((20, 10), (40, 10), (40, 35), (62, 3), (62, 61), (31, 32)):
        a, b = (int(random.integers(1 << bit - 1, 1 << bit)) for bit in bits)
        assert primitives.divide(a, b) == a // b
        assert primitives.divide(a // b * b, b) == a // b
        assert primitives.divide(a // b * b + b - 1, b) == a // b
