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
from normspec.runtime.kernels.cpu.tables import EIGHT, Table, entry, gather, number, numbers, part, put, puts, spread
from normspec.runtime.kernels.cpu.tiles import (
    AHEAD,
    Place,
    Plan,
    Tile,
    ask,
    corner,
    joined,
    origin,
    packed,
    run_of,
    samples,
    values_before,
)

BLOCK = 4096  # values of a feature that are summed before they are merged
GROWTH = 32  # times as many as there were before
FAR, FARTHER = 0.875, 0.96875  # parts of a sum of squares that cancel; of short rows across, many may by chance
FIRST = 64  # values of a run whose mean the first block is measured from
FEW = 64  # that are summed one after another
ROWS = 4  # that are summed at once, if it is of one array: of two, the processor loses track of so many

CENTERS, SUMS, PRODUCTS = range(3)  # lines of columns

merge = helper()(formulas.merge)


@inlined
def pair(x: Place, dy: Any, at: int, dtype: Any, center: Any, first: int, last: int) -> Any:
    """Deviations from a center, and what they are multiplied by."""
    deviation = keep(loads(x.address, at, dtype, center, first, last) - center, first, last)
    if dy is None:
        return deviation, deviation
    return deviation, loads(dy.address, at, dtype, center, first, last)


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
    """Add values of rows to the sums of as many columns as lanes, or of some of them."""
    at, nothing = i * size_of(dtype), partial(dtype)
    lanes = count_of(nothing)
    center = loads(entry(columns, CENTERS, i), 0, 1.0, nothing, 0, lanes)
    sums = loads(entry(columns, SUMS, i), 0, 1.0, nothing, 0, lanes)
    products = loads(entry(columns, PRODUCTS, i), 0, 1.0, nothing, 0, lanes)
    for row in range(rows):
        ask(x, at, row + AHEAD)
        ask(dy, at, row + AHEAD)
        deviation, factor = pair(corner(x, row, 0), corner(dy, row, 0), at, dtype, center, first, last)
        sums, products = sums + factor, products + deviation * factor
    stores(entry(columns, SUMS, i), 0, 1.0, sums, 0, lanes)
    stores(entry(columns, PRODUCTS, i), 0, 1.0, products, 0, lanes)


@inlined
def sum_rows(x: Place, dy: Any, rows: int, width: int, dtype: Any, columns: Table) -> None:
    """Add values of rows to the sums of all columns."""
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
def add_across(x: Place, dy: Any, dtype: Any, plan: Plan, tile: Tile, center: int, sums: Table, columns: Table) -> None:
    """Set the sums of a tile's features, whose values lie side by side."""
    inner, rows, count = plan.inner, tile.row_end - tile.row, tile.feature_end - tile.feature
    together, width = min(plan.repeat, rows), count * inner
    spread(center, count, inner, together, entry(columns, CENTERS, 0), 1.0)
    for i in range(0, together * width, EIGHT):
        stores(entry(columns, SUMS, i), 0, 1.0, zeros(1.0, 1.0), 0, EIGHT)
        stores(entry(columns, PRODUCTS, i), 0, 1.0, zeros(1.0, 1.0), 0, EIGHT)
    whole = rows // together
    lower = joined(corner(x, tile.row, tile.feature), together)
    upper = joined(corner(dy, tile.row, tile.feature), together)
    sum_across(lower, upper, whole, together * width, dtype, columns)
    rest = rows - whole * together
    if rest:
        sum_across(corner(lower, whole, 0), corner(upper, whole, 0), 1, rest * width, dtype, columns)
    gather(entry(columns, SUMS, 0), inner, together, count, entry(sums, 0, 0))
    gather(entry(columns, PRODUCTS, 0), inner, together, count, entry(sums, 1, 0))


@helper()
def sum_along(x: Place, dy: Any, dtype: Any, count: int, center: float, ahead: int) -> tuple[float, float]:
    """The sums of a run of a feature; values so many bytes ahead are asked for."""
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
    for start in range(0, count, FEW):
        some = product = 0.0
        for i in range(start, min(start + FEW, count)):
            factor = deviation = load(x.address, i * x.value_stride, dtype) - center
            if dy is not None:
                factor = load(dy.address, i * dy.value_stride, dtype)
            some += factor
            product += deviation * factor
        sums += some
        products += product
    return sums, products


@helper()
def add_along(x: Place, dy: Any, dtype: Any, plan: Plan, tile: Tile, center: int, sums: Table) -> None:
    """Set the sums of a tile's features, along their runs."""
    features, totals, products = tile.feature_end - tile.feature, entry(sums, 0, 0), entry(sums, 1, 0)
    for i in range(features):
        put(totals, i, 0.0)
        put(products, i, 0.0)
    for row in range(tile.row, tile.row_end):
        count = values_before(row + 1, plan) - values_before(row, plan)
        lower, upper = run_of(x, row, tile.feature, plan), run_of(dy, row, tile.feature, plan)
        ahead = run_of(x, min(row + 1, tile.row_end - 1), tile.feature, plan).address - lower.address
        for i in range(features):
            found = sum_along(corner(lower, 0, i), corner(upper, 0, i), dtype, count, number(center, i), ahead)
            put(totals, i, number(totals, i) + found[0])
            put(products, i, number(products, i) + found[1])


@helper()
def approach(x: Place, dtype: Any, plan: Plan, tile: Tile, center: int) -> None:
    """Move what a tile's first runs are measured from to about their mean, for it may be an outlier."""
    row, count = run_of(x, tile.row, tile.feature, plan), min(values_before(1, plan), FIRST)
    for i in range(tile.feature_end - tile.feature):
        before = number(center, i)
        moved = before + sum_along(corner(row, 0, i), None, dtype, count, before, 0)[0] / count
        if np.isfinite(moved):
            put(center, i, moved)


@helper()
def recentered(center: int, sums: int, squares: int, count: int, width: int, most: float) -> bool:
    """Move the centers of features whose squares mostly cancel to the block's mean; whether there were any."""
    far = False
    for i in range(width):
        added, square = number(sums, i), number(squares, i)
        if count * most * square < added * added < np.inf:
            put(center, i, number(center, i) + added / count)
            far = True
    return far


@inlined
def add_tile(x: Place, dy: Any, dtype: Any, plan: Plan, tile: Tile, center: int, sums: Table, columns: Table) -> None:
    """Set the sums of a tile's features."""
    if plan.repeat:
        add_across(x, dy, dtype, plan, tile, center, sums, columns)
    else:
        add_along(x, dy, dtype, plan, tile, center, sums)


@helper()
def measure(x: Place, dtype: Any, plan: Plan, tile: Tile, found: Table, vectors: Table, columns: Table) -> None:
    """Mean less origin, and M2, of each feature of a tile in that tile.

    A block is measured from the mean of those before it: its sum of squares then exceeds its M2 by no more than
    merging adds again, and nothing cancels. The first is measured from the origin, which may be an outlier: it is
    short, or measured from the mean of some values. In float64, squares that cancel all the same, for these were
    outliers too, are summed again from the block's own mean.
    """
    mean, m2, width = entry(found, 0, 0), entry(found, 1, 0), tile.feature_end - tile.feature
    origins, center = entry(vectors, 0, 0), entry(vectors, 1, 0)
    sums, squares = entry(vectors, 2, 0), entry(vectors, 3, 0)
    places, most = samples(x, plan), FARTHER if plan.repeat else FAR
    for i in range(width):
        put(origins, i, origin(places, (tile.feature + i) * x.feature_stride, dtype))
    for i in range(0, width, EIGHT):
        puts(mean, i, width, zeros(1.0, 1.0))
        puts(m2, i, width, zeros(1.0, 1.0))
    row, before, start = tile.row, 0, values_before(tile.row, plan)
    while row < tile.row_end:
        stop = min(row + max(1, min(BLOCK // plan.segment, GROWTH * (row - tile.row))), tile.row_end)
        for i in range(0, width, EIGHT):
            puts(center, i, width, numbers(origins, i, width) + numbers(mean, i, width))
        if before == 0 and not plan.repeat:
            approach(x, dtype, plan, tile, center)
        rows = Tile(row, stop, tile.feature, tile.feature_end)
        add_tile(x, None, dtype, plan, rows, center, part(vectors, 2, 0), columns)
        count = values_before(stop, plan) - start - before
        if size_of(dtype) == 8 and before < count and recentered(center, sums, squares, count, width, most):
            add_tile(x, None, dtype, plan, rows, center, part(vectors, 2, 0), columns)
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
