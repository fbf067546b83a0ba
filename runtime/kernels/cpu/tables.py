"""Numbers of features, and of columns, in lines of float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from normspec.runtime.kernels.cpu.jit import helper, inlined
from normspec.runtime.kernels.cpu.simd import LINE, data, load, loads, size_of, splat, store, stores, total, zeros
from normspec.runtime.kernels.cpu.tiles import Plan


class Table(NamedTuple):
    """Lines of float64: the address of the first, and the bytes to the next."""

    start: int
    stride: int


class Vector(NamedTuple):
    """The ``id`` of an array of one number a feature, and the bytes of a number; or 0 and 0."""

    array: int
    size: int


EIGHT = LINE // 8  # float64
VECTORS = STREAMS = 4  # numbers of a feature and of a column that a tile needs at once
SPARE = 2 * LINE  # columns beside those that there are, which lanes may reach into

# Rows of a table: what is kept of each feature. Two for each piece of rows follow.
MEAN, SCALE, SHIFT, GAIN, INVSTD, M2, PARTS = range(7)
DWEIGHT, DBIAS = INVSTD, M2


@inlined
def entry(table: Table, row: int, feature: int) -> int:
    """Where a table has a number."""
    return table.start + row * table.stride + 8 * feature


@inlined
def part(table: Table, row: int, feature: int) -> Table:
    """A table from some row and feature on."""
    return Table(entry(table, row, feature), table.stride)


@inlined
def number(vector: int, i: int) -> float:
    """The float64 there."""
    value: float = load(vector, 8 * i, 1.0)
    return value


@inlined
def put(vector: int, i: int, value: float) -> None:
    """Write it."""
    store(vector, 8 * i, 1.0, value)


@inlined
def numbers(vector: int, i: int, count: int) -> Any:
    """Eight float64 from there on, or as many as there are among so many."""
    return loads(vector, 8 * i, 1.0, zeros(1.0, 1.0), 0, min(count - i, EIGHT))


@inlined
def puts(vector: int, i: int, count: int, lanes: Any) -> None:
    """Write them."""
    stores(vector, 8 * i, 1.0, lanes, 0, min(count - i, EIGHT))


@inlined
def rooms(scratch: Table, rank: int, plan: Plan, held: int) -> tuple[Table, Table]:
    """Room for so many features, and for numbers of columns, each kind of which begins at a line of the cache."""
    start = entry(scratch, rank, 0)
    columns = (start + VECTORS * 8 * held + LINE - 1) // LINE * LINE
    width = plan.repeat * min(plan.feature_step, plan.features) * plan.inner
    return Table(start, 8 * held), Table(columns, 8 * (width + SPARE) // LINE * LINE)


@helper()
def read(vector: Vector, default: float, first: int, count: int, target: int) -> None:
    """The numbers of features from the first on, or the default."""
    address = data(vector.array)
    for i in range(count):
        value = default
        if vector.size == 8:
            value = load(address, 8 * (first + i), 1.0)
        elif vector.size == 4:
            value = load(address, 4 * (first + i), np.float32(0))
        put(target, i, value)


@helper()
def spread(numbers: int, count: int, inner: int, repeat: int, columns: int, like: Any) -> None:
    """Give each column the number of its feature, of that type; some that follow are overwritten, too."""
    size = size_of(like)
    lanes = LINE // size
    for _ in range(repeat):
        if inner == 1:
            for i in range(0, count, lanes):
                some = loads(numbers, 8 * i, 1.0, zeros(like, like), 0, min(count - i, lanes))
                stores(columns, size * i, like, some, 0, lanes)
            columns += size * count
        else:
            for i in range(count):
                same = splat(number(numbers, i), zeros(like, like))
                for j in range(0, inner, lanes):
                    stores(columns, size * j, like, same, 0, lanes)
                columns += size * inner


@helper()
def gather(columns: int, inner: int, repeat: int, count: int, sums: int) -> None:
    """Add up the columns of each feature."""
    nothing = zeros(1.0, 1.0)
    if inner == 1:
        for i in range(0, count, EIGHT):
            part, lanes = min(count - i, EIGHT), nothing
            for j in range(repeat):
                lanes = lanes + loads(columns, 8 * (j * count + i), 1.0, nothing, 0, part)
            stores(sums, 8 * i, 1.0, lanes, 0, part)
        return
    for i in range(count):
        lanes = nothing
        for j in range(repeat):
            start = (j * count + i) * inner
            for k in range(0, inner, EIGHT):
                lanes = lanes + loads(columns, 8 * (start + k), 1.0, nothing, 0, min(inner - k, EIGHT))
        put(sums, i, total(lanes))
