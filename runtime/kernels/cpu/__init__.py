"""The backend of NumPy arrays: which tiles a batch is cut into, and what is done to each.

A feature's result depends on how its rows are cut, which depends on nothing but shape and dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.runtime.kernels.cpu import kernels
from normspec.runtime.kernels.cpu.kernels import Place, Tile
from normspec.runtime.kernels.cpu.threads import share

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

SEGMENT = 8192  # values in the longest run of a row
CACHED = 256 << 10  # bytes that stay in a core's cache from the statistics to the normalization
ACROSS = 1024  # features whose sums stay in the first cache
ENOUGH = 16  # blocks of features that keep the threads busy
PIECES = 64
ALONE = 2 << 20  # bytes that one thread has done before others have woken up (measured, two cores)

STANDING_FOR = {"float16": np.dtype(np.int16), "bfloat16": np.dtype(np.uint16)}


class Plan(NamedTuple):
    """How a batch is cut: every piece of rows with every block of features is a tile."""

    segment: int
    pieces: list[tuple[int, int]]
    counts: npt.NDArray[np.int64]  # values of a feature in each piece
    blocks: list[tuple[int, int]]

    @property
    def tiles(self) -> list[Tile]:
        """In the order of memory."""
        return [(*piece, *block) for piece in self.pieces for block in self.blocks]


def cut(length: int, parts: int) -> list[tuple[int, int]]:
    """``range(length)`` in at most so many parts, all but the last equally long."""
    step = -(-length // parts)
    return [(start, min(start + step, length)) for start in range(0, length, step)]


@functools.lru_cache(maxsize=512)
def plan(outer: int, features: int, inner: int, itemsize: int) -> Plan:
    """Blocks of features alone if there are enough of them, for these can be normalized while in the cache."""
    count = outer * inner
    width = ACROSS if inner == 1 else max(1, CACHED // (count * itemsize))
    blocks = cut(features, -(-features // width))
    runs = cut(inner, -(-inner // SEGMENT))
    rows = outer * len(runs)
    size = count * itemsize * blocks[0][1]
    parts = 1 if len(blocks) >= ENOUGH else min(PIECES, rows, -(-size // CACHED))
    pieces = cut(rows, parts)
    before = [row // len(runs) * inner + row % len(runs) * runs[0][1] for row, _ in [*pieces, (rows, rows)]]
    return Plan(runs[0][1], pieces, np.diff(before), blocks)


class Batch:
    """An array as kernels take it: address and strides, the dtype that stands for its own, and its plan."""

    def __init__(self, x: Array) -> None:
        outer, self.features, self.inner = x.shape
        self.count = outer * self.inner
        self.plan = plan(outer, self.features, self.inner, x.itemsize)
        self.small = x.size * x.itemsize < ALONE
        self.arguments = place(x), STANDING_FOR.get(x.dtype.name, x.dtype), self.inner, self.plan.segment

    def each(self, work: Callable[[Tile], None], tiles: list[Tile]) -> None:
        """Call ``work`` on each tile, by as many threads as are worth it."""
        if self.small:
            for tile in tiles:
                work(tile)
        else:
            share(work, tiles)


def place(x: Array) -> Place:
    """Where an array of three dimensions lies: address and strides."""
    outer, feature, inner = x.strides
    return x.ctypes.data, outer, feature, inner


def vector(values: Array | None, features: int, default: float) -> Vector:
    """One number a feature, float64."""
    return np.full(features, default) if values is None else np.array(values, np.float64)


def moments(x: Array, batch: Batch) -> tuple[Vector, Vector, Vector]:
    """Mean, what rounding it to float64 lost, and M2."""
    source, dtype, inner, segment = batch.arguments
    pieces = {piece: i for i, piece in enumerate(batch.plan.pieces)}
    means, m2s = np.empty((2, len(pieces), batch.features))

    def work(tile: Tile) -> None:
        own = pieces[tile[:2]], slice(*tile[2:])
        kernels.statistics(source, dtype, inner, segment, tile, means[own], m2s[own])

    batch.each(work, batch.plan.tiles)
    mean, low, m2 = np.empty((3, batch.features))
    kernels.combine(source, dtype, 0, batch.plan.counts, means, m2s, mean, low, m2)
    return mean, low, m2


def rescale(
    x: Array, y: Array, batch: Batch, mean: Vector, low: Vector, scale: Vector, bias: Vector, tiles: list[Tile]
) -> None:
    """Write ``(x - mean - low) * scale + bias`` to y."""
    source, dtype, inner, segment = batch.arguments
    target = place(y)
    batch.each(
        lambda tile: kernels.normalize(source, target, dtype, inner, segment, tile, mean, low, scale, bias), tiles
    )


def moved(running: Array, batch: Vector, rate: float) -> Vector:
    """Running statistics a step nearer to a batch's."""
    return (1 - rate) * running.astype(np.float64) + rate * batch


def batch_statistics(x: Array) -> tuple[Vector, Vector]:
    """Mean and M2 of each feature."""
    mean, _, m2 = moments(x, Batch(x))
    return mean, m2


@np.errstate(all="ignore")
def normalize(
    x: Array, y: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None, epsilon: float
) -> None:
    """Normalize by the given statistics."""
    batch = Batch(x)
    features = batch.features
    scale = vector(weight, features, 1.0) / np.sqrt(vector(variance, features, 1.0) + epsilon)
    center, shift = vector(mean, features, 0.0), vector(bias, features, 0.0)
    rescale(x, y, batch, center, np.zeros(features), scale, shift, batch.plan.tiles)


@np.errstate(all="ignore")
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
    batch = Batch(x)
    features, count = batch.features, batch.count
    factor, shift = vector(weight, features, 1.0), vector(bias, features, 0.0)
    if len(batch.plan.pieces) == 1:
        arguments = *batch.arguments, place(y)
        mean, low, m2, scale = np.empty((4, features))

        def work(tile: Tile) -> None:
            kernels.train(*arguments, tile, factor, shift, epsilon, count, mean, low, m2, scale)

        batch.each(work, batch.plan.tiles)
        inverse = 1 / np.sqrt(m2 / count + epsilon)
    else:
        mean, low, m2 = moments(x, batch)
        inverse = 1 / np.sqrt(m2 / count + epsilon)
        # The last rows read are still in the cache.
        rescale(x, y, batch, mean, low, factor * inverse, shift, batch.plan.tiles[::-1])

    changes = []
    if running_mean is not None:
        changes.append((running_mean, moved(running_mean, mean, rate)))
    if running_var is not None:
        changes.append((running_var, moved(running_var, m2 / max(1, count - unbiased), rate)))
    for running, value in changes:
        running[...] = value
    return mean, inverse
