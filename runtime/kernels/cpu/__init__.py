"""The backend of NumPy arrays: which tiles a batch is cut into, and what is done to each.

A feature's result depends on how its rows are cut, which depends on nothing but shape, dtype and layout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.runtime.kernels.cpu import kernels
from normspec.runtime.kernels.cpu.cache import Cache
from normspec.runtime.kernels.cpu.simd import LINE
from normspec.runtime.kernels.cpu.small import Prepared
from normspec.runtime.kernels.cpu.threads import ALONE, allowed, team

Array = npt.NDArray[Any]
Float64s = npt.NDArray[np.float64]
Steps = tuple[int, int, int]  # in bytes
Shape = tuple[int, int, int]

SEGMENT = 8192  # values in the longest run that is summed at once
CACHED = 256 << 10  # bytes that stay in a core's cache from the first pass to the second
COLUMNS = 512  # whose numbers stay in the first cache, if they are float64
SHORT = 200  # values in a run whose statistics cost less across than along
TINY = {2: 128, 4: 30, 8: 16}  # and in one whose normalization does, by the bytes of a value
ENOUGH = 16  # blocks of features that keep the threads busy
PIECES = 64
FEW = 256 << 10  # values that are read before it is worth it to wake another thread (measured on two cores)
MANY = 1 << 20  # for each of which another one is worth it
PAST = 32 << 20  # bytes of inputs and output, if no cache keeps all of them until the output is read


STANDING_FOR = {"float16": np.int16, "bfloat16": np.uint16}


class Plan(NamedTuple):
    """How a batch is cut, as kernels take it: a tile is so many rows of so many features, or what is left of them."""

    inner: int
    segment: int
    repeat: int  # rows that are taken as one where features lie side by side; 0 if they do not
    rows: int
    row_step: int
    features: int
    feature_step: int
    past: bool  # the cache: an output that it does not hold is written to memory only, which need not be read for it

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """Ranges of rows."""
        return [(start, min(start + self.row_step, self.rows)) for start in range(0, self.rows, self.row_step)]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Ranges of features."""
        step, end = self.feature_step, self.features
        return [(start, min(start + step, end)) for start in range(0, end, step)]


def even(length: int, most: int) -> int:
    """The step that cuts a length into as few parts of at most so many as it takes, all but the last equally long."""
    return -(-length // -(-length // most))


@functools.lru_cache(maxsize=1024)
def plan(
    outer: int, features: int, inner: int, itemsize: int, packed: bool = True, fused: bool = True, arrays: int = 1
) -> Plan:
    """The tiles of a batch.

    ``packed``: each row's features lie side by side. ``fused``: statistics are taken first, of so many ``arrays``, and
    blocks of features alone, if there are enough of them, can be normalized while in the cache; else the order of
    memory is best.
    """
    cached, past = CACHED // arrays, (arrays + 1) * outer * features * inner * itemsize >= PAST
    if packed and inner < (SHORT if fused else TINY[itemsize]):
        columns = 2 * COLUMNS if itemsize == 2 and not fused else COLUMNS
        lines = LINE // math.gcd(LINE, inner * itemsize)  # features after which a line of the cache begins again
        width = features if features * inner <= columns else even(features, max(1, columns // inner // lines) * lines)
        repeat = max(1, min(columns // (features * inner), outer // 8))
        row_step = max(1, cached // (width * inner * itemsize))
        if fused and inner > 1 and -(-features // width) >= ENOUGH:
            row_step = outer
        elif fused:
            row_step = max(row_step, -(-outer // PIECES))
        return Plan(inner, inner, repeat, outer, even(outer, row_step), features, width, past)
    segment = even(inner, SEGMENT if fused else cached // itemsize)
    rows = outer * -(-inner // segment)
    if not fused:
        width = max(1, cached // (segment * itemsize))
        return Plan(inner, segment, 0, rows, max(1, width // features), features, width, past)
    size = outer * inner * itemsize
    width = even(features, max(1, cached // size))
    parts = 1 if -(-features // width) >= ENOUGH else min(PIECES, rows, -(-size * width // cached))
    return Plan(inner, segment, 0, rows, -(-rows // parts), features, width, past)


class Layout(NamedTuple):
    """All about arrays but their values and where they are."""

    plan: Plan
    dtype: Any  # a number of the type that stands for their own
    cut: npt.NDArray[np.int64]  # the plan, and the steps of the arrays
    lines: int  # of a table
    scratch: int  # numbers that a thread needs room for
    threads: int  # that find work
    woken: int  # members of the team for whom it is worth it
    turns: int  # numbers that they count in
    values: int  # of a feature


@functools.lru_cache(maxsize=1024)
def layout(shape: tuple[int, int, int], dtype: np.dtype[Any], fused: bool, *steps: Steps) -> Layout:
    """Of arrays with these strides; few calls differ from all before them."""
    outer, features, inner = shape
    size = dtype.itemsize
    packed = all(side_by_side(one, shape, size) for one in steps)
    if inner == 1 and not packed:  # rows and columns change roles: a column with any step is a run with that step
        outer, inner = inner, outer
        steps = tuple(one[::-1] for one in steps)
    cut = plan(outer, features, inner, size, packed, fused, max(1, len(steps) - 1))
    tiles = -(-cut.rows // cut.row_step) * -(-features // cut.feature_step)
    values = outer * features * inner * (len(steps) if fused else 1)  # that are read
    kind: Any = STANDING_FOR.get(dtype.name, dtype.type)
    table = np.array([*cut, *(step for one in steps for step in one)])
    lines = kernels.PARTS + 2 * -(-cut.rows // cut.row_step)
    turns = kernels.TURNS // 8 + -(-features // cut.feature_step)
    width = min(cut.feature_step, features)
    scratch = kernels.VECTORS * (width if fused else features)
    scratch += kernels.STREAMS * (cut.repeat * width * cut.inner + kernels.SPARE) + LINE // 8
    threads = 1 if values < FEW else tiles
    return Layout(cut, kind(0), table, lines, scratch, threads, -(-values // MANY), turns, outer * inner)


def side_by_side(strides: Steps, shape: tuple[int, int, int], itemsize: int) -> bool:
    """Whether the values of a row are packed, and rows that may be taken as one follow each other."""
    outer, features, inner = shape
    row = features * inner * itemsize
    return (
        (inner == 1 or strides[2] == itemsize)
        and (features == 1 or strides[1] == inner * itemsize)
        and (outer == 1 or strides[0] == row)
    )


def vector(values: Array | None) -> kernels.Vector:
    """A contiguous array of float32 or float64, or nothing, as kernels take it."""
    return (0, 0) if values is None else (id(values), values.itemsize)


def run(kernel: Callable[..., None], cut: Layout, *arguments: Any) -> None:
    """A kernel on all tiles, by as many threads as are worth it."""
    threads = min(allowed(), cut.threads) if cut.threads > 1 else 1
    crew = team.crew(threads, cut.woken) if threads > 1 else ALONE
    kernel(crew, np.zeros(cut.turns, np.int64), np.empty((threads, cut.scratch)), *arguments)


def batch_statistics(x: Array) -> tuple[Float64s, Float64s]:
    """Mean and M2 of each feature."""
    cut = layout(x.shape, x.dtype, True, x.strides, x.strides)
    table = np.empty((cut.lines, x.shape[1]))
    run(kernels.train, cut, id(x), 0, cut.dtype, cut.cut, (0, 0), (0, 0), 1.0, table)
    return table[kernels.MEAN].copy(), table[kernels.M2].copy()


def normalize(
    x: Array,
    y: Array,
    mean: Array | None,
    variance: Array | None,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
) -> None:
    """Normalize by the given statistics, or by mean 0 and variance 1."""
    cut = layout(x.shape, x.dtype, False, x.strides, y.strides)
    vectors = vector(mean), vector(variance), vector(weight), vector(bias)
    run(kernels.normalize, cut, id(x), id(y), cut.dtype, cut.cut, *vectors, epsilon)


def forward_training(
    x: Array,
    y: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    epsilon: float,
    rate: float,
    unbiased: bool,
) -> tuple[Float64s, Float64s]:
    """Normalize by the statistics of ``x`` itself, then move the running ones towards them."""
    cut = layout(x.shape, x.dtype, True, x.strides, y.strides)
    table = np.empty((cut.lines, x.shape[1]))
    vectors = vector(weight), vector(bias)
    run(kernels.train, cut, id(x), id(y), cut.dtype, cut.cut, *vectors, epsilon, table)
    if running_mean is not None or running_var is not None:
        divisor = max(1, cut.values - unbiased)
        kernels.advance(vector(running_mean), vector(running_var), table, divisor, rate)
    return table[kernels.MEAN].copy(), table[kernels.INVERSE].copy()


def backward(
    x: Array, dy: Array, dx: Array | None, mean: Array, invstd: Array, weight: Array | None, batch: bool
) -> tuple[Float64s, Float64s]:
    """Gradients of the weight, the bias and, unless ``dx`` is None, the input."""
    target = dx if batch else None
    cut = layout(x.shape, x.dtype, True, x.strides, (x if target is None else target).strides, dy.strides)
    table = np.empty((cut.lines, x.shape[1]))
    vectors = vector(mean), vector(invstd), vector(weight)
    places = id(x), id(dy), 0 if target is None else id(target)
    run(kernels.differentiate, cut, *places, cut.dtype, cut.cut, *vectors, table)
    if dx is not None and not batch:
        normalize(dy, dx, None, None, invstd if weight is None else invstd * weight, None, 0.0)
    return table[kernels.DWEIGHT].copy(), table[kernels.DBIAS].copy()


def warm(dtypes: Iterable[np.dtype[Any]]) -> Iterator[str]:
    """Compile every kernel for these element types, or load it from disk; names each beforehand."""
    Cache.told = True
    mean, variance = np.zeros(1), np.ones(1)
    vectors = None, None, mean, variance, None

    def small(x: Array, fused: bool) -> Prepared:
        steps: Any = x.strides, x.strides
        return Prepared(layout((2, 1, 3), x.dtype, fused, *steps), 1, fused, np.empty_like)

    for dtype in dtypes:
        x = np.ones((2, 1, 3), dtype)
        yield f"{dtype.name}, training"
        forward_training(x, x, None, None, mean, variance, 1.0, 0.0, False)
        small(x, True).train(x, vectors, 1.0, 0.0, False, False)
        yield f"{dtype.name}, evaluation"
        normalize(x, x, mean, variance, None, None, 1.0)
        small(x, False).normalize(x, vectors, 1.0, False)
        yield f"{dtype.name}, backward"
        backward(x, x, x, mean, variance, None, True)


def cache_path() -> str | None:
    """The folder that kernels were kept in or loaded from, if there is one."""
    found: str | None = kernels.train.stats.cache_path
    return found


def prepared(
    shape: Shape,
    dtype: np.dtype[Any],
    fused: bool,
    x_steps: Steps,
    y_steps: Steps,
    empty_like: Callable[[Array], Array],
) -> Prepared | None:
    """Calls on ``x`` and ``y`` with these strides; None if several threads should work on them."""
    cut = layout(shape, dtype, fused, x_steps, y_steps)
    return Prepared(cut, shape[1], fused, empty_like) if cut.threads == 1 else None
