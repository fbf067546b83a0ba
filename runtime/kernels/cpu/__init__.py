"""The backend of NumPy arrays: which tiles a batch is cut into, and what is done to each.

A feature's result depends on how its rows are cut, which depends on nothing but shape, dtype and layout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.runtime.kernels.cpu import kernels
from normspec.runtime.kernels.cpu.kernels import LINE, Place
from normspec.runtime.kernels.cpu.threads import allowed, share

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

SEGMENT = 8192  # values in the longest run that is summed at once
CACHED = 256 << 10  # bytes that stay in a core's cache from the statistics to the normalization
COLUMNS = 512  # whose numbers stay in the first cache
SHORT = 200  # values in a run whose statistics cost less across than along
TINY = 16  # and in one whose normalization does, which along keeps its numbers in registers
ENOUGH = 16  # blocks of features that keep the threads busy
PIECES = 64
ALONE = 2 << 20  # bytes that one thread has done before others have woken up (measured, two cores)


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

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """Ranges of rows."""
        return [(start, min(start + self.row_step, self.rows)) for start in range(0, self.rows, self.row_step)]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Ranges of features."""
        step, end = self.feature_step, self.features
        return [(start, min(start + step, end)) for start in range(0, end, step)]

    def counts(self) -> npt.NDArray[np.int64]:
        """Values of a feature in each piece."""
        runs = -(-self.inner // self.segment)
        edges = [*(start for start, _ in self.pieces), self.rows]
        return np.diff([row // runs * self.inner + row % runs * self.segment for row in edges])


def even(length: int, most: int) -> int:
    """The step that cuts a length into as few parts of at most so many as it takes, all but the last equally long."""
    return -(-length // -(-length // most))


@functools.lru_cache(maxsize=1024)
def plan(outer: int, features: int, inner: int, itemsize: int, packed: bool = True, fused: bool = True) -> Plan:
    """The tiles of a batch.

    ``packed``: each row's features lie side by side. ``fused``: statistics are taken first, and blocks of features
    alone, if there are enough of them, can be normalized while in the cache; else the order of memory is best.
    """
    if packed and inner < (SHORT if fused else TINY):
        lines = LINE // math.gcd(LINE, inner * itemsize)  # features after which a line of the cache begins again
        width = features if features * inner <= COLUMNS else even(features, max(1, COLUMNS // inner // lines) * lines)
        repeat = max(1, min(COLUMNS // (features * inner), outer // 8))
        row_step = max(1, CACHED // (width * inner * itemsize))
        if fused and inner > 1 and -(-features // width) >= ENOUGH:
            row_step = outer
        elif fused:
            row_step = max(row_step, -(-outer // PIECES))
        return Plan(inner, inner, repeat, outer, even(outer, row_step), features, width)
    segment = even(inner, SEGMENT if fused else CACHED // itemsize)
    rows = outer * -(-inner // segment)
    if not fused:
        width = max(1, CACHED // (segment * itemsize))
        return Plan(inner, segment, 0, rows, max(1, width // features), features, width)
    size = outer * inner * itemsize
    width = even(features, max(1, CACHED // size))
    parts = 1 if -(-features // width) >= ENOUGH else min(PIECES, rows, -(-size * width // CACHED))
    return Plan(inner, segment, 0, rows, -(-rows // parts), features, width)


class Layout(NamedTuple):
    """All about arrays but their values and where they are."""

    plan: Plan
    arguments: tuple[Any, tuple[int, ...]]  # the type that stands for their own, and the plan as numba takes it fastest
    swap: bool  # rows and columns change roles: a column with any step is a run with that step
    threads: int  # that find work
    values: int  # of a feature


@functools.lru_cache(maxsize=1024)
def layout(
    shape: tuple[int, int, int],
    source: tuple[int, int, int],
    target: tuple[int, int, int],
    dtype: np.dtype[Any],
    fused: bool,
) -> Layout:
    """Of an input and an output with these strides; few calls differ from all before them."""
    outer, features, inner = shape
    size = dtype.itemsize
    packed = side_by_side(source, shape, size) and side_by_side(target, shape, size)
    swap = inner == 1 and not packed
    if swap:
        outer, inner = inner, outer
    cut = plan(outer, features, inner, size, packed, fused)
    tiles = -(-cut.rows // cut.row_step) * -(-features // cut.feature_step)
    alone = outer * features * inner * size < ALONE
    kind: Any = STANDING_FOR.get(dtype.name, dtype.type)
    return Layout(cut, (kind(0), tuple(cut)), swap, 1 if alone else tiles, outer * inner)


class Batch:
    """Arrays as kernels take them: addresses and strides, and their layout."""

    def __init__(self, x: Array, y: Array, fused: bool) -> None:
        self.features = x.shape[1]
        self.plan, self.arguments, swap, self.threads, self.count = layout(
            x.shape, x.strides, y.strides, x.dtype, fused
        )
        self.x = place(x, swap)
        self.y = self.x if y is x else place(y, swap)

    def run(self, kernel: Callable[..., None], places: tuple[Place, ...], *arguments: Any) -> None:
        """A kernel on all tiles, by as many threads as are worth it."""
        turn = np.zeros(1, np.int64)
        if self.threads == 1:
            kernel(*places, *self.arguments, turn, *arguments)
        else:
            workers = range(min(allowed(), self.threads))
            share(lambda _: kernel(*places, *self.arguments, turn, *arguments), workers)


def side_by_side(strides: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether the values of a row are packed, and rows that may be taken as one follow each other."""
    outer, features, inner = shape
    row = features * inner * itemsize
    return (
        (inner == 1 or strides[2] == itemsize)
        and (features == 1 or strides[1] == inner * itemsize)
        and (outer == 1 or strides[0] == row)
    )


def place(x: Array, swap: bool) -> Place:
    """Where an array of three dimensions lies: address and strides."""
    outer, feature, inner = x.strides
    return (x.ctypes.data, inner, feature, outer) if swap else (x.ctypes.data, outer, feature, inner)


def vector(values: Array | None, features: int, default: float) -> Vector:
    """One number a feature, float64."""
    return np.full(features, default) if values is None else np.array(values, np.float64)


def moments(batch: Batch) -> tuple[Vector, Vector, Vector]:
    """Mean, what rounding it to float64 lost, and M2."""
    counts = batch.plan.counts()
    means, m2s = np.empty((2, len(counts), batch.features))
    batch.run(kernels.statistics, (batch.x,), means, m2s)
    mean, low, m2 = np.empty((3, batch.features))
    kernels.combine(batch.x, batch.arguments[0], 0, counts, means, m2s, mean, low, m2)
    return mean, low, m2


def batch_statistics(x: Array) -> tuple[Vector, Vector]:
    """Mean and M2 of each feature."""
    mean, _, m2 = moments(Batch(x, x, fused=True))
    return mean, m2


def normalize(
    x: Array, y: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None, epsilon: float
) -> None:
    """Normalize by the given statistics."""
    batch = Batch(x, y, fused=False)
    features = batch.features
    low, inverse, scale = np.zeros(features), np.empty(features), np.empty(features)
    kernels.invert(vector(variance, features, 1.0), 1.0, epsilon, vector(weight, features, 1.0), inverse, scale)
    center, shift = vector(mean, features, 0.0), vector(bias, features, 0.0)
    batch.run(kernels.normalize, (batch.x, batch.y), False, center, low, scale, shift)


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
) -> tuple[Vector, Vector]:
    """Normalize by the statistics of ``x`` itself, then move the running ones towards them."""
    batch = Batch(x, y, fused=True)
    features, count, places = batch.features, batch.count, (batch.x, batch.y)
    factor, shift = vector(weight, features, 1.0), vector(bias, features, 0.0)
    inverse, scale = np.empty(features), np.empty(features)
    if batch.plan.row_step >= batch.plan.rows:
        mean, low, m2 = np.empty(features), np.empty(features), np.empty(features)
        batch.run(kernels.train, places, count, epsilon, factor, shift, mean, low, m2, inverse, scale)
    else:
        mean, low, m2 = moments(batch)
        kernels.invert(m2, count, epsilon, factor, inverse, scale)
        # The last rows read are still in the cache.
        batch.run(kernels.normalize, places, True, mean, low, scale, shift)

    changes = []
    for running, values, divisor in (running_mean, mean, 1), (running_var, m2, max(1, count - unbiased)):
        if running is not None:
            moved = np.array(running, np.float64)
            kernels.move(moved, values, divisor, rate)
            changes.append((running, moved))
    for running, moved in changes:
        running[...] = moved
    return mean, inverse


def backward(
    x: Array, dy: Array, dx: Array | None, mean: Array, invstd: Array, weight: Array | None, batch: bool
) -> tuple[Vector, Vector]:
    """Gradients of the weight, the bias and, unless ``dx`` is None, the input."""
    features = x.shape[1]
    dweight, dbias = np.empty((2, features))
    kind: Any = STANDING_FOR.get(x.dtype.name, x.dtype.type)
    places = place(x, False), place(dy, False), (0, 0, 0, 0) if dx is None else place(dx, False)
    factor = vector(weight, features, 1.0)
    kernels.differentiate(*places, kind(0), x.shape, batch, mean, invstd, factor, dweight, dbias)
    return dweight, dbias
