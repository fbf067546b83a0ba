"""Sums of the features of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np

from normspec.runtime.kernels import statistics as formulas
from normspec.runtime.kernels.cpu.jit import helper, inlined
from normspec.runtime.kernels.cpu.simd import (
    LINE,
    count_of,
    keep,
    load,
    loads,
    partial,
    size_of,
    splat,
    stores,
    total,
    zeros,
)
from normspec.runtime.kernels.cpu.tables import EIGHT, Table, entry, gather, number, numbers, put, puts, spread
from normspec.runtime.kernels.cpu.tiles import (
    AHEAD,
    Cut,
    Place,
    Tile,
    ask,
    corner,
    joined,
    origin,
    packed,
    run_of,
    values_before,
)

BLOCK = 4096  # values of a feature that are summed before they are merged
GROWTH = 32  # times as many as there were before
FIRST = 64  # values of a run whose mean the first block is measured from
ROWS = 4  # that are summed at once, if it is of one array: of two, the processor loses track of so many

merge = helper()(formulas.merge)


@inlined
def pair(x: Place, dy: Any, at: int, dtype: Any, center: Any, first: int, last: int) -> Any:
    """Deviations from a center, and what they are multiplied by."""
    deviation = keep(loads(x[0], at, dtype, center, first, last) - center, first, last)
    if dy is None:
        return deviation, deviation
    return deviation, loads(dy[0], at, dtype, center, first, last)


@inlined
def last_pair(x: Place, dy: Any, count: int, rest: int, dtype: Any, center: Any) -> Any:
    """The last of so many, fewer than lanes: with those before them, if there are any, for a mask costs more."""
    lanes = count_of(center)
    if count < lanes:
        return pair(x, dy, 0, dtype, center, 0, rest)
    deviation, factor = pair(x, dy, (count - lanes) * size_of(dtype), dtype, center, 0, lanes)
    return keep(deviation, lanes - rest, lanes), keep(factor, lanes - rest, lanes)


@inlined
def sum_columns(x: Place, dy: Any, rows: int, i: int, dtype: Any, columns: Table, first: int, last: int) -> None:
    """Add to the sums of as many columns as lanes."""
    at, (start, stream), nothing = i * size_of(dtype), columns, partial(dtype)
    lanes = count_of(nothing)
    center = loads(start, 8 * i, 1.0, nothing, 0, lanes)
    sums = loads(start + stream, 8 * i, 1.0, nothing, 0, lanes)
    products = loads(start + 2 * stream, 8 * i, 1.0, nothing, 0, lanes)
    for row in range(rows):
        ask(x, at, row + AHEAD)
        ask(dy, at, row + AHEAD)
        deviation, factor = pair(corner(x, row, 0), corner(dy, row, 0), at, dtype, center, first, last)
        sums, products = sums + factor, products + deviation * factor
    stores(start + stream, 8 * i, 1.0, sums, 0, lanes)
    stores(start + 2 * stream, 8 * i, 1.0, products, 0, lanes)


@inlined
def sum_rows(x: Place, dy: Any, rows: int, width: int, dtype: Any, columns: Table) -> None:
    """Of all columns."""
    lanes = count_of(partial(dtype))
    whole = width // lanes * lanes
    for i in range(0, whole, lanes):
        sum_columns(x, dy, rows, i, dtype, columns, 0, lanes)
    if whole < width:
        sum_columns(x, dy, rows, whole, dtype, columns, 0, width - whole)


@helper()
def sum_across(x: Place, dy: Any, rows: int, width: int, dtype: Any, columns: Table) -> None:
    """Add the values of rows to the sums of their columns."""
    whole = 0
    if dy is None:
        whole = rows // ROWS * ROWS
        for row in range(0, whole, ROWS):
            sum_rows(corner(x, row, 0), dy, ROWS, width, dtype, columns)
    for row in range(whole, rows):
        sum_rows(corner(x, row, 0), corner(dy, row, 0), 1, width, dtype, columns)


@helper()
def add_across(x: Place, dy: Any, dtype: Any, cut: Cut, tile: Tile, center: int, sums: Table, columns: Table) -> None:
    """Set the sums of a tile's features."""
    inner, rows, count = cut[0], tile[1] - tile[0], tile[3] - tile[2]
    together, width, (start, stream) = min(cut[2], rows), count * inner, columns
    spread(center, count, inner, together, start, 1.0)
    for i in range(0, together * width, EIGHT):
        stores(start + stream, 8 * i, 1.0, zeros(1.0, 1.0), 0, EIGHT)
        stores(start + 2 * stream, 8 * i, 1.0, zeros(1.0, 1.0), 0, EIGHT)
    whole = rows // together
    lower, upper = joined(corner(x, tile[0], tile[2]), together), joined(corner(dy, tile[0], tile[2]), together)
    sum_across(lower, upper, whole, together * width, dtype, columns)
    rest = rows - whole * together
    if rest:
        sum_across(corner(lower, whole, 0), corner(upper, whole, 0), 1, rest * width, dtype, columns)
    gather(start + stream, inner, together, count, sums[0])
    gather(start + 2 * stream, inner, together, count, sums[0] + sums[1])


@helper()
def sum_along(x: Place, dy: Any, dtype: Any, count: int, center: float, ahead: int) -> tuple[float, float]:
    """Of a run of a feature; values so many bytes ahead are asked for."""
    if packed(x, dtype) and packed(dy, dtype):
        size, a = size_of(dtype), partial(dtype)
        lanes, b, aa, bb = count_of(a), a, a, a
        middle, line = splat(center, a), LINE // size
        step = max(2 * lanes, line)
        whole = count // step * step
        for i in range(0, whole, step):
            for j in range(i, i + step, line):
                ask(x, j * size + ahead, 0)
                ask(dy, j * size + ahead, 0)
            for j in range(i, i + step, 2 * lanes):
                deviation, factor = pair(x, dy, j * size, dtype, middle, 0, lanes)
                a, aa = a + factor, aa + deviation * factor
                deviation, factor = pair(x, dy, (j + lanes) * size, dtype, middle, 0, lanes)
                b, bb = b + factor, bb + deviation * factor
        for i in range(whole, count - lanes + 1, lanes):
            deviation, factor = pair(x, dy, i * size, dtype, middle, 0, lanes)
            a, aa = a + factor, aa + deviation * factor
        rest = count % lanes
        if rest:
            deviation, factor = last_pair(x, dy, count, rest, dtype, middle)
            a, aa = a + factor, aa + deviation * factor
        return total(a + b), total(aa + bb)
    sums = products = 0.0
    for i in range(count):
        factor = deviation = load(x[0], i * x[3], dtype) - center
        if dy is not None:
            factor = load(dy[0], i * dy[3], dtype)
        sums += factor
        products += deviation * factor
    return sums, products


@helper()
def add_along(x: Place, dy: Any, dtype: Any, cut: Cut, tile: Tile, center: int, sums: Table) -> None:
    """The same along the runs of features."""
    features, products = tile[3] - tile[2], sums[0] + sums[1]
    for i in range(features):
        put(sums[0], i, 0.0)
        put(products, i, 0.0)
    for row in range(tile[0], tile[1]):
        count = values_before(row + 1, cut) - values_before(row, cut)
        lower, upper = run_of(x, row, tile[2], cut), run_of(dy, row, tile[2], cut)
        ahead = run_of(x, min(row + 1, tile[1] - 1), tile[2], cut)[0] - lower[0]
        for i in range(features):
            found = sum_along(corner(lower, 0, i), corner(upper, 0, i), dtype, count, number(center, i), ahead)
            put(sums[0], i, number(sums[0], i) + found[0])
            put(products, i, number(products, i) + found[1])


@helper()
def approach(x: Place, dtype: Any, cut: Cut, tile: Tile, center: int) -> None:
    """Move what a tile's first runs are measured from to about their mean, for it may be an outlier."""
    row, count = run_of(x, tile[0], tile[2], cut), min(values_before(1, cut), FIRST)
    for i in range(tile[3] - tile[2]):
        before = number(center, i)
        moved = before + sum_along(corner(row, 0, i), None, dtype, count, before, 0)[0] / count
        if np.isfinite(moved):
            put(center, i, moved)


@inlined
def add_tile(x: Place, dy: Any, dtype: Any, cut: Cut, tile: Tile, center: int, sums: Table, columns: Table) -> None:
    """Either of them."""
    if cut[2]:
        add_across(x, dy, dtype, cut, tile, center, sums, columns)
    else:
        add_along(x, dy, dtype, cut, tile, center, sums)


@helper()
def measure(x: Place, dtype: Any, cut: Cut, tile: Tile, found: Table, vectors: Table, columns: Table) -> None:
    """Mean less origin, and M2, of each feature of a tile in that tile.

    A block is measured from the mean of those before it: its sum of squares then exceeds its M2 by no more than
    merging adds again, and nothing cancels. The first is measured from the origin, which may be an outlier: it is
    short, or measured from the mean of some values.
    """
    row, last_row, first, last = tile
    mean, m2 = entry(found, 0, 0), entry(found, 1, 0)
    origins, center, sums, squares = (
        entry(vectors, 0, 0),
        entry(vectors, 1, 0),
        entry(vectors, 2, 0),
        entry(vectors, 3, 0),
    )
    width = last - first
    for i in range(width):
        put(origins, i, origin(x, dtype, first + i))
    for i in range(0, width, EIGHT):
        puts(mean, i, width, zeros(1.0, 1.0))
        puts(m2, i, width, zeros(1.0, 1.0))
    before, start = 0, values_before(row, cut)
    while row < last_row:
        stop = min(row + max(1, min(BLOCK // cut[1], GROWTH * (row - tile[0]))), last_row)
        for i in range(0, width, EIGHT):
            puts(center, i, width, numbers(origins, i, width) + numbers(mean, i, width))
        if before == 0 and not cut[2]:
            approach(x, dtype, cut, tile, center)
        add_tile(x, None, dtype, cut, (row, stop, first, last), center, (sums, vectors[1]), columns)
        count = values_before(stop, cut) - start - before
        for i in range(0, width, EIGHT):
            added = numbers(sums, i, width)
            rest = added / float(count)
            offset = numbers(center, i, width) - numbers(origins, i, width) + rest
            own = numbers(squares, i, width) - added * rest
            _, merged, merged_m2 = merge(before, numbers(mean, i, width), numbers(m2, i, width), count, offset, own)
            puts(mean, i, width, merged)
            puts(m2, i, width, merged_m2)
        before += count
        row = stop
