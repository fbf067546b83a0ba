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

from normspec.runtime.kernels.cpu import kernels, tables
from normspec.runtime.kernels.cpu.cache import Cache
from normspec.runtime.kernels.cpu.calls import Prepared
from normspec.runtime.kernels.cpu.simd import LINE, wide_registers
from normspec.runtime.kernels.cpu.tiles import TURNS, Plan

Array = npt.NDArray[Any]
Float64s = npt.NDArray[np.float64]
Strides = tuple[int, int, int]  # in bytes
Shape = tuple[int, int, int]

SEGMENT = 8192  # values in the longest run that is summed at once
CACHED = 256 << 10  # bytes that stay in a core's cache from the first pass to the second
SHARED = 2 << 20  # and in the one that cores share
WIDE = 6 << 10  # bytes of a row that are worth going to its pages for
LEAST = 64 << 10  # of a tile that there is more than one of
SHARES = 8  # tiles at least of more than that, for threads to take
COLUMNS = 512  # whose sums stay in the first cache; in evaluation twice as many do, and of 16 bits four times
SHORT = 96  # values in a run whose statistics cost less across than along, if rows are more than few
FEW_ROWS = 32
# With AVX-512, and where registers are fewer and masks dearer (measured on a Zen 5 and a Zen 3), by bytes of a value:
# the same of few rows; values in a run whose normalization costs less across; and bytes in a run that is worth writing
# past the cache.
SHORT_OF_FEW = {2: 96, 4: 96, 8: 96} if wide_registers() else {2: 64, 4: 24, 8: 24}
TINY = {2: 128, 4: 30, 8: 16} if wide_registers() else {2: 64, 4: 16, 8: 16}
LONG = 0 if wide_registers() else 1536
ENOUGH = 16  # blocks of features that keep the threads busy
PIECES = 64
SOME = 64 << 10  # values that are read before it is worth it to share them with a thread that is awake
FEW = 256 << 10  # and to wake another one (measured on two cores)
MANY = 1 << 20  # for each of which another one is worth it
PAST = 32 << 20  # bytes of inputs and output, if no cache keeps all of them until the output is read


STANDING_FOR = {"float16": np.int16, "bfloat16": np.uint16}


def even(length: int, most: int) -> int:
    """The step that cuts a length into as few parts of at most so many as it takes, all but the last equally long."""
    return -(-length // -(-length // most))


@functools.lru_cache(maxsize=1024)
def cut(
    outer: int, features: int, inner: int, itemsize: int, packed: bool = True, fused: bool = True, arrays: int = 1
) -> Plan:
    """Cut a batch into tiles.

    ``packed``: each row's features lie side by side. ``fused``: statistics are taken first, of so many ``arrays``, and
    blocks of features alone, if there are enough of them, can be normalized while in the cache; else the order of
    memory is best.
    """
    total = outer * features * inner * itemsize
    cached, past = min(CACHED // arrays, max(LEAST, total // SHARES)), (arrays + 1) * total >= PAST
    short = SHORT if outer > FEW_ROWS else SHORT_OF_FEW[itemsize]
    if packed and inner < (short if fused else TINY[itemsize]):
        columns = COLUMNS if fused else 4 * COLUMNS if itemsize == 2 else 2 * COLUMNS
        lines = LINE // math.gcd(LINE, inner * itemsize)  # features after which a line of the cache begins again
        width = features if features * inner <= columns else even(features, max(1, columns // inner // lines) * lines)
        repeat = max(1, min(columns // (features * inner), outer // 8))
        row_step = max(1, cached // (width * inner * itemsize))
        if fused and inner > 1 and -(-features // width) >= ENOUGH:
            row_step = outer
        elif fused:
            row_step = max(row_step, -(-outer // PIECES))
        return Plan(inner, inner, repeat, outer, even(outer, row_step), features, width, past)
    run, past = inner * itemsize, past and inner * itemsize >= LONG
    segment = even(inner, SEGMENT if fused else cached // itemsize)
    rows = outer * -(-inner // segment)
    if not fused:
        width = max(1, cached // (segment * itemsize))
        return Plan(inner, segment, 0, rows, max(1, width // features), features, width, past)
    size = outer * run
    wide = min(-(-WIDE // run), SHARED // size, features // ENOUGH)
    width = even(features, max(1, cached // size, wide))
    parts = 1 if -(-features // width) >= ENOUGH else min(PIECES, rows, -(-size * width // cached))
    return Plan(inner, segment, 0, rows, -(-rows // parts), features, width, past)


class Layout(NamedTuple):
    """All about arrays but their values and where they are."""

    plan: Plan
    dtype: Any  # a number of the type that stands for their own
    strides: tuple[int, ...]  # of x, y and dy
    lines: int  # of a table, which calls that take sums have
    scratch: int  # numbers that a thread needs room for
    threads: int  # that find work
    woken: int  # members of the team for whom it is worth it
    turns: int  # numbers that they count in
    values: int  # of a feature


def layout(shape: Shape, dtype: np.dtype[Any], fused: bool, *strides: Strides) -> Layout:
    """What is known of two or three arrays with these strides."""
    outer, features, inner = shape
    size = dtype.itemsize
    packed = all(side_by_side(one, shape, size) for one in strides)
    if inner == 1 and not packed:  # rows and columns change roles: a column with any step is a run with that step
        outer, inner = inner, outer
        strides = tuple(one[::-1] for one in strides)
    plan = cut(outer, features, inner, size, packed, fused, max(1, len(strides) - 1))
    pieces, blocks = -(-plan.rows // plan.row_step), -(-features // plan.feature_step)
    values = outer * features * inner * (len(strides) if fused else 1)  # that are read
    kind: Any = STANDING_FOR.get(dtype.name, dtype.type)
    flat = tuple(stride for one in (*strides, (0, 0, 0))[:3] for stride in one)
    lines = tables.PARTS + 2 * pieces if fused else 0
    turns = TURNS // 8 + blocks
    width = min(plan.feature_step, features)
    scratch = tables.VECTORS * (width if fused else features)
    scratch += tables.STREAMS * (plan.repeat * width * plan.inner + tables.SPARE) + LINE // 8
    threads = 1 if values < SOME else pieces * blocks
    woken = 0 if values < FEW else -(-values // MANY)
    return Layout(plan, kind(0), flat, lines, scratch, threads, woken, turns, outer * inner)


def side_by_side(strides: Strides, shape: tuple[int, int, int], itemsize: int) -> bool:
    """Whether the values of a row are packed, and rows that may be taken as one follow each other."""
    outer, features, inner = shape
    row = features * inner * itemsize
    return (
        (inner == 1 or strides[2] == itemsize)
        and (features == 1 or strides[1] == inner * itemsize)
        and (outer == 1 or strides[0] == row)
    )


@functools.lru_cache(maxsize=1024)
def prepared(
    shape: Shape,
    dtype: np.dtype[Any],
    fused: bool,
    *strides: Strides,
    empty: Callable[[], Array] | None = None,
) -> Prepared:
    """Calls on arrays with these strides, to outputs that ``empty`` makes, or to those that are given."""
    return Prepared(layout(shape, dtype, fused, *strides), empty)


def batch_statistics(x: Array) -> tuple[Float64s, Float64s]:
    """Mean and M2 of each feature."""
    call = prepared(x.shape, x.dtype, True, x.strides, x.strides)
    room = _done(call.train_into(None, x, (None,) * 5, 1.0, 0.0, False))
    return call.line(room, tables.MEAN), call.line(room, tables.M2)


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
    call = prepared(x.shape, x.dtype, False, x.strides, y.strides)
    _done(call.normalize_into(y, x, (weight, bias, mean, variance), epsilon) or None)


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
    tracked: Array | None = None,
) -> tuple[Float64s, Float64s]:
    """Normalize by the statistics of ``x`` itself, then move the running ones towards them."""
    call = prepared(x.shape, x.dtype, True, x.strides, y.strides)
    vectors = weight, bias, running_mean, running_var, tracked
    return call.statistics(_done(call.train_into(y, x, vectors, epsilon, rate, unbiased)))


def backward(
    x: Array, dy: Array, dx: Array | None, mean: Array, invstd: Array, weight: Array | None, batch: bool
) -> tuple[Float64s, Float64s]:
    """Gradients of the weight, the bias and, unless ``dx`` is None, the input."""
    target = dx if batch else None
    call = prepared(x.shape, x.dtype, True, x.strides, (x if target is None else target).strides, dy.strides)
    room = _done(call.differentiate_into(target, x, dy, (weight, mean, invstd)))
    if dx is not None and not batch:
        normalize(dy, dx, None, None, invstd if weight is None else invstd * weight, None, 0.0)
    return call.line(room, tables.DWEIGHT), call.line(room, tables.DBIAS)


def _done(room: Any) -> Any:
    """What a call has left, if it took the vectors."""
    if room is None:
        raise ValueError("vectors: expected aligned contiguous arrays of a float32 or float64 a feature, or None")
    return room


def warm(dtypes: Iterable[np.dtype[Any]]) -> Iterator[str]:
    """Compile every kernel for these element types, or load it from disk; names each beforehand."""
    Cache.told = True
    mean, variance = np.zeros(1), np.ones(1)
    for dtype in dtypes:
        x = np.ones((2, 1, 3), dtype)
        yield f"{dtype.name}, training"
        forward_training(x, x, None, None, mean, variance, 1.0, 0.0, False)
        yield f"{dtype.name}, evaluation"
        normalize(x, x, mean, variance, None, None, 1.0)
        yield f"{dtype.name}, backward"
        backward(x, x, x, mean, variance, None, True)


def cache_path() -> str | None:
    """The folder that kernels were kept in or loaded from, if there is one."""
    found: str | None = kernels.train.stats.cache_path
    return found
