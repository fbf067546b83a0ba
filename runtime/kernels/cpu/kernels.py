"""The loops: each is compiled once for a dtype and runs without the GIL.

Arrays come as their ``id`` and a table of their steps, and not as arrays, of which numba would compile for every
layout and mutability anew, and which it takes longer to take than a small batch takes to normalize. All arithmetic is
in float64, and every vector is.

A *tile* is ``(row, last row, feature, last feature)``, the lasts excluded; a kernel works on tiles until ``turns``,
which all threads share, says that there are none left. There are two ways through a tile:

* *along*: a row is a run of at most ``segment`` values of each feature, so that a long ``inner`` is cut like a long
  ``outer``. Runs may have any step.
* *across*: a row is all values of all the tile's features, side by side in *columns* that each have numbers of their
  own; of short rows, ``repeat`` are taken as one. Rows are taken one by one, in the order of memory.

Backward passes go the same ways as forward ones, with one array more: ``dy``, or None.

=========  ==========================================  =============================================================
           first pass: sums of each feature            second pass
=========  ==========================================  =============================================================
forward    ``x - center`` and its square               ``y = (x - mean) * scale + shift``
backward   ``dy`` and ``(x - mean) * dy``              ``dx = (x - mean) * scale + shift + dy * gain``
=========  ==========================================  =============================================================

A kernel allocates nothing and raises nothing: a tile that is taken is done, so no thread waits in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from normspec.runtime.kernels import statistics as formulas
from normspec.runtime.kernels.cpu.simd import (
    LANES,
    add,
    data,
    keep,
    load,
    loads,
    size_of,
    soon,
    splat,
    store,
    stores,
    streams,
    total,
    word,
)

F = TypeVar("F", bound=Callable[..., Any])
Place = tuple[int, int, int, int]  # address and steps in bytes
Table = tuple[int, int]  # address of a line of float64, and bytes to the next
Tile = tuple[int, int, int, int]
Cut = tuple[int, int, int, int, int, int, int, int]  # see ``Plan``
Vector = tuple[int, int]  # the ``id`` of an array of one number a feature, and the bytes of a number; or 0 and 0

BLOCK = 4096  # values of a feature that are summed before they are merged
GROWTH = 32  # times as many as there were before
ROWS = 4  # that are summed at once, if it is of one array: of two, the processor loses track of so many
AHEAD = 4  # rows that are asked for before they are needed
LINE = 64  # bytes of a line of the cache
PATIENCE = 2000  # times that a thread looks whether others are done before it lets them have its processor
VECTORS = STREAMS = 4  # numbers of a feature and of a column that a tile needs at once
SPARE = 3 * LANES  # columns beside those that there are

# Rows of a table: what is kept of each feature. Two for each piece of rows follow.
MEAN, SCALE, SHIFT, GAIN, INVERSE, M2, PARTS = range(7)
DWEIGHT, DBIAS = INVERSE, M2


def jit(**options: Any) -> Callable[[F], Any]:
    """`numba.njit` as everything here wants it. What is not said about fastmath, callers would decide."""
    options = {"fastmath": False, "no_cfunc_wrapper": True, **options}
    return numba.njit(nogil=True, error_model="numpy", **options)  # type: ignore[no-any-return]


def kernel(function: F) -> Any:
    """What Python calls: kept on disk, unless nothing there can be written to."""
    try:
        return jit(cache=True)(function)
    except RuntimeError:
        return jit()(function)


def helper(**options: Any) -> Callable[[F], F]:
    """What only kernels call, and are kept with."""
    return jit(no_cpython_wrapper=True, **options)


inlined = helper(forceinline=True)
contracted = helper(fastmath={"contract"}, forceinline=True)
merge = helper()(formulas.merge)


# ------------------------------------------------------------------------------------------------------------- tiles


@inlined
def plan_of(cut: Any) -> Cut:
    """How a batch is cut."""
    return cut[0], cut[1], cut[2], cut[3], cut[4], cut[5], cut[6], cut[7]


@inlined
def place(array: int, cut: Any, which: int) -> Place:
    """Where an array lies, of which the table of steps is that."""
    return data(array), cut[8 + 3 * which], cut[9 + 3 * which], cut[10 + 3 * which]


@inlined
def tiles(cut: Cut) -> int:
    """How many there are."""
    return (cut[3] + cut[4] - 1) // cut[4] * ((cut[5] + cut[6] - 1) // cut[6])


@inlined
def next_tile(turn: int, cut: Cut, backwards: bool) -> Tile:
    """The tile whose turn it is, in the order of memory or against it; an empty one if there is none left."""
    rows, row_step, features, feature_step = cut[3:7]
    blocks, count = (features + feature_step - 1) // feature_step, tiles(cut)
    tile = add(turn, 1)
    if tile >= count:
        return 0, 0, 0, 0
    if backwards:
        tile = count - 1 - tile
    row, feature = tile // blocks * row_step, tile % blocks * feature_step
    return row, min(row + row_step, rows), feature, min(feature + feature_step, features)


@inlined
def moved(x: Any, offset: int) -> Any:
    """A place so many bytes further, if there is one."""
    if x is None:
        return x
    return x[0] + offset, x[1], x[2], x[3]


@inlined
def corner(x: Any, row: int, feature: int) -> Any:
    """The place from some row and feature on."""
    if x is None:
        return x
    return moved(x, row * x[1] + feature * x[2])


@inlined
def joined(x: Any, repeat: int) -> Any:
    """A place in which so many rows are one."""
    if x is None:
        return x
    return x[0], repeat * x[1], x[2], x[3]


@inlined
def run_of(x: Any, row: int, feature: int, cut: Cut) -> Any:
    """The place of a feature's run in a row."""
    if x is None:
        return x
    segments = (cut[0] + cut[1] - 1) // cut[1]
    return moved(x, row // segments * x[1] + feature * x[2] + row % segments * cut[1] * x[3])


@inlined
def packed(x: Any, dtype: Any) -> bool:
    """Whether the values of a run are side by side."""
    if x is None:
        return True
    side_by_side: bool = x[3] == size_of(dtype)
    return side_by_side


@inlined
def values_before(row: int, cut: Cut) -> int:
    """Values of a feature in the rows before."""
    segments = (cut[0] + cut[1] - 1) // cut[1]
    return row // segments * cut[0] + row % segments * cut[1]


@inlined
def origin(x: Place, dtype: Any, feature: int) -> float:
    """What a feature's values are measured from: one of them, so that a constant feature has no rounding at all."""
    value: float = load(x[0], feature * x[2], dtype)
    return value


@inlined
def entry(table: Table, row: int, feature: int) -> int:
    """Where a table has a number."""
    return table[0] + row * table[1] + 8 * feature


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
def rooms(start: int, cut: Cut, held: int) -> tuple[Table, Table]:
    """Room for so many features, and for numbers of columns, each kind of which begins at a line of the cache."""
    columns = start + VECTORS * 8 * held
    width = cut[2] * min(cut[6], cut[5]) * cut[0]
    return (start, 8 * held), ((columns + LINE - 1) // LINE * LINE, 8 * ((width + SPARE) // LANES * LANES))


@helper()
def read(vector: Vector, default: float, first: int, count: int, target: int) -> None:
    """The numbers of features from the first on, or the default."""
    address, size = data(vector[0]), vector[1]
    for i in range(count):
        value = default
        if size == 8:
            value = load(address, 8 * (first + i), 1.0)
        elif size == 4:
            value = load(address, 4 * (first + i), np.float32(0))
        put(target, i, value)


@helper()
def spread(numbers: int, count: int, inner: int, repeat: int, columns: int) -> None:
    """Give each column the number of its feature; some that follow are overwritten, too."""
    for _ in range(repeat):
        if inner == 1:
            for i in range(0, count, LANES):
                stores(columns, 8 * i, 1.0, loads(numbers, 8 * i, 1.0, 0, min(count - i, LANES)), 0, LANES)
            columns += 8 * count
        else:
            for i in range(count):
                lanes = splat(number(numbers, i))
                for j in range(0, inner, LANES):
                    stores(columns, 8 * j, 1.0, lanes, 0, LANES)
                columns += 8 * inner


@helper()
def gather(columns: int, inner: int, repeat: int, count: int, sums: int) -> None:
    """Add up the columns of each feature."""
    if inner == 1:
        for i in range(0, count, LANES):
            part, lanes = min(count - i, LANES), splat(0.0)
            for j in range(repeat):
                lanes = lanes + loads(columns, 8 * (j * count + i), 1.0, 0, part)
            stores(sums, 8 * i, 1.0, lanes, 0, part)
        return
    for i in range(count):
        lanes = splat(0.0)
        for j in range(repeat):
            start = (j * count + i) * inner
            for k in range(0, inner, LANES):
                lanes = lanes + loads(columns, 8 * (start + k), 1.0, 0, min(inner - k, LANES))
        put(sums, i, total(lanes))


# ---------------------------------------------------------------------------------------------------- the first pass


@inlined
def pair(x: Place, dy: Any, at: int, dtype: Any, center: Any, first: int, last: int) -> Any:
    """Deviations from a center, and what they are multiplied by."""
    deviation = keep(loads(x[0], at, dtype, first, last) - center, first, last)
    if dy is None:
        return deviation, deviation
    return deviation, loads(dy[0], at, dtype, first, last)


@inlined
def ask(x: Any, at: int, rows: int) -> None:
    """For values of a later row."""
    if x is not None:
        soon(x[0] + at + rows * x[1])


@inlined
def sum_columns(x: Place, dy: Any, rows: int, i: int, dtype: Any, columns: Table, first: int, last: int) -> None:
    """Add to the sums of eight columns."""
    at, (start, stream) = i * size_of(dtype), columns
    center = loads(start, 8 * i, 1.0, 0, LANES)
    sums, products = loads(start + stream, 8 * i, 1.0, 0, LANES), loads(start + 2 * stream, 8 * i, 1.0, 0, LANES)
    for row in range(rows):
        ask(x, at, row + AHEAD)
        ask(dy, at, row + AHEAD)
        deviation, factor = pair(corner(x, row, 0), corner(dy, row, 0), at, dtype, center, first, last)
        sums, products = sums + factor, products + deviation * factor
    stores(start + stream, 8 * i, 1.0, sums, 0, LANES)
    stores(start + 2 * stream, 8 * i, 1.0, products, 0, LANES)


@inlined
def sum_rows(x: Place, dy: Any, rows: int, width: int, dtype: Any, columns: Table) -> None:
    """Of all columns."""
    whole = width // LANES * LANES
    for i in range(0, whole, LANES):
        sum_columns(x, dy, rows, i, dtype, columns, 0, LANES)
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
    spread(center, count, inner, together, start)
    for i in range(0, together * width, LANES):
        stores(start + stream, 8 * i, 1.0, splat(0.0), 0, LANES)
        stores(start + 2 * stream, 8 * i, 1.0, splat(0.0), 0, LANES)
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
        size, middle = size_of(dtype), splat(center)
        a = b = c = d = aa = bb = cc = dd = splat(0.0)
        whole = count // (4 * LANES) * 4 * LANES
        for i in range(0, whole, 4 * LANES):
            for line in range(0, 4 * LANES * size, LINE):
                ask(x, i * size + line + ahead, 0)
                ask(dy, i * size + line + ahead, 0)
            deviation, factor = pair(x, dy, i * size, dtype, middle, 0, LANES)
            a, aa = a + factor, aa + deviation * factor
            deviation, factor = pair(x, dy, (i + LANES) * size, dtype, middle, 0, LANES)
            b, bb = b + factor, bb + deviation * factor
            deviation, factor = pair(x, dy, (i + 2 * LANES) * size, dtype, middle, 0, LANES)
            c, cc = c + factor, cc + deviation * factor
            deviation, factor = pair(x, dy, (i + 3 * LANES) * size, dtype, middle, 0, LANES)
            d, dd = d + factor, dd + deviation * factor
        for i in range(whole, count, LANES):
            deviation, factor = pair(x, dy, i * size, dtype, middle, 0, min(count - i, LANES))
            a, aa = a + factor, aa + deviation * factor
        return total((a + b) + (c + d)), total((aa + bb) + (cc + dd))
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
    merging adds again, and nothing cancels. The first, measured from the origin, is short, for that may be an outlier.
    """
    row, last_row, first, last = tile
    mean, m2 = entry(found, 0, 0), entry(found, 1, 0)
    origins, center, sums, squares = (
        entry(vectors, 0, 0),
        entry(vectors, 1, 0),
        entry(vectors, 2, 0),
        entry(vectors, 3, 0),
    )
    for i in range(last - first):
        put(origins, i, origin(x, dtype, first + i))
        put(mean, i, 0.0)
        put(m2, i, 0.0)
    before, start = 0, values_before(row, cut)
    while row < last_row:
        stop = min(row + max(1, min(BLOCK // cut[1], GROWTH * (row - tile[0]))), last_row)
        for i in range(last - first):
            put(center, i, number(origins, i) + number(mean, i))
        add_tile(x, None, dtype, cut, (row, stop, first, last), center, (sums, vectors[1]), columns)
        count = values_before(stop, cut) - start - before
        for i in range(last - first):
            rest = number(sums, i) / count
            offset, own = number(center, i) - number(origins, i) + rest, number(squares, i) - number(sums, i) * rest
            _, merged, merged_m2 = merge(before, number(mean, i), number(m2, i), count, offset, own)
            put(mean, i, merged)
            put(m2, i, merged_m2)
        before += count
        row = stop


@helper()
def finish(
    x: Place, dtype: Any, cut: Cut, first: int, last: int, weight: Vector, bias: Vector, epsilon: float, table: Table
) -> None:
    """From what was measured in pieces of rows to all that is known of features, and the numbers to normalize with.

    What rounding the mean to float64 lost goes into the shift, where it costs no digit: it is less than the last of
    the mean.
    """
    scale, shift = entry(table, SCALE, first), entry(table, SHIFT, first)
    read(weight, 1.0, first, last - first, scale)
    read(bias, 0.0, first, last - first, shift)
    count, offsets, m2s = values_before(cut[3], cut), entry(table, PARTS, first), entry(table, PARTS + 1, first)
    for piece in range(1, (cut[3] + cut[4] - 1) // cut[4]):
        before, stop = values_before(piece * cut[4], cut), values_before(min((piece + 1) * cut[4], cut[3]), cut)
        other = entry(table, PARTS + 2 * piece, first)
        for i in range(last - first):
            own = number(other, i), number(other + table[1], i)
            _, offset, squares = merge(before, number(offsets, i), number(m2s, i), stop - before, own[0], own[1])
            put(offsets, i, offset)
            put(m2s, i, squares)
    for i in range(last - first):
        offset, squares = number(offsets, i), number(m2s, i)
        start = origin(x, dtype, first + i)
        mean, inverse = start + offset, 1.0 / np.sqrt(squares / count + epsilon)
        rounded = mean - start
        low = (start - (mean - rounded)) + (offset - rounded)
        put(entry(table, MEAN, first), i, mean)
        put(entry(table, M2, first), i, squares)
        put(entry(table, INVERSE, first), i, inverse)
        put(scale, i, number(scale, i) * inverse)
        if low != 0.0:
            put(shift, i, number(shift, i) - low * number(scale, i))


# --------------------------------------------------------------------------------------------------- the second pass


@contracted
def normalized(value: Any, mean: Any, scale: Any, shift: Any) -> Any:
    """Of a number or of lanes. A mean folded into the shift would cancel digits."""
    return (value - mean) * scale + shift


@inlined
def aligned(y: int, dtype: Any) -> int:
    """Elements between an address and the one before it at which stores of eight do not straddle lines of the cache."""
    size: int = size_of(dtype)
    return y % (LANES * size) // size


@inlined
def write(x: Place, dy: Any, y: Place, at: int, dtype: Any, numbers: Any, first: int, last: int, past: bool) -> None:
    """Eight values, some of them, or past the cache all."""
    mean, scale, shift, gain = numbers
    value = normalized(loads(x[0], at, dtype, first, last), mean, scale, shift)
    if dy is not None:
        value = value + loads(dy[0], at, dtype, first, last) * gain
    if past:
        streams(y[0], at, dtype, value)
    else:
        stores(y[0], at, dtype, value, first, last)


@inlined
def write_columns(
    x: Place, dy: Any, y: Place, i: int, dtype: Any, columns: Table, first: int, last: int, past: bool
) -> None:
    """Eight columns."""
    at, (start, stream) = i * size_of(dtype), columns
    ask(x, at, AHEAD)
    ask(dy, at, AHEAD)
    mean, scale = loads(start, 8 * i, 1.0, 0, LANES), loads(start + stream, 8 * i, 1.0, 0, LANES)
    shift, gain = loads(start + 2 * stream, 8 * i, 1.0, 0, LANES), loads(start + 3 * stream, 8 * i, 1.0, 0, LANES)
    write(x, dy, y, at, dtype, (mean, scale, shift, gain), first, last, past)


@helper()
def write_across(
    x: Place, dy: Any, y: Place, rows: int, skip: int, width: int, dtype: Any, past: bool, columns: Table
) -> None:
    """Rows by the numbers of their columns, which begin some elements behind the places of rows."""
    end, begin, size = skip + width, LANES if skip else 0, size_of(dtype)
    whole = end // LANES * LANES
    for row in range(rows):
        lower, upper = moved(corner(x, row, 0), -skip * size), moved(corner(dy, row, 0), -skip * size)
        target = moved(corner(y, row, 0), -skip * size)
        if skip:
            write_columns(lower, upper, target, 0, dtype, columns, skip, min(end, LANES), False)
        if past and target[0] % (LANES * size) == 0:
            for i in range(begin, whole, LANES):
                write_columns(lower, upper, target, i, dtype, columns, 0, LANES, True)
        else:
            for i in range(begin, whole, LANES):
                write_columns(lower, upper, target, i, dtype, columns, 0, LANES, False)
        if begin <= whole < end:
            write_columns(lower, upper, target, whole, dtype, columns, 0, end - whole, False)


@helper()
def rescale_across(
    x: Place, dy: Any, y: Place, dtype: Any, cut: Cut, tile: Tile, past: bool, own: Table, columns: Table
) -> None:
    """A tile whose features lie side by side."""
    inner, rows, count = cut[0], tile[1] - tile[0], tile[3] - tile[2]
    together, width = min(cut[2], rows), count * inner
    lower, target = joined(corner(x, tile[0], tile[2]), together), joined(corner(y, tile[0], tile[2]), together)
    upper = joined(corner(dy, tile[0], tile[2]), together)
    skip = aligned(target[0], dtype)
    for kind in range(3 if dy is None else 4):
        spread(entry(own, kind, 0), count, inner, together, entry(columns, kind, skip))
    whole = rows // together
    write_across(lower, upper, target, whole, skip, together * width, dtype, past, columns)
    rest = rows - whole * together
    if rest:
        lower, upper, target = corner(lower, whole, 0), corner(upper, whole, 0), corner(target, whole, 0)
        write_across(lower, upper, target, 1, skip, rest * width, dtype, past, columns)


@helper()
def write_along(
    x: Place,
    dy: Any,
    y: Place,
    dtype: Any,
    count: int,
    past: bool,
    mean: float,
    scale: float,
    shift: float,
    gain: float,
) -> None:
    """A run of a feature."""
    if packed(x, dtype) and packed(dy, dtype) and packed(y, dtype):
        size, skip = size_of(dtype), aligned(y[0], dtype)
        end, begin = skip + count, LANES if skip else 0
        whole = end // LANES * LANES
        lower, upper, target = moved(x, -skip * size), moved(dy, -skip * size), moved(y, -skip * size)
        numbers = splat(mean), splat(scale), splat(shift), splat(gain)
        if skip:
            write(lower, upper, target, 0, dtype, numbers, skip, min(end, LANES), False)
        if past and target[0] % (LANES * size) == 0:
            for i in range(begin, whole, LANES):
                write(lower, upper, target, i * size, dtype, numbers, 0, LANES, True)
        else:
            for i in range(begin, whole, LANES):
                write(lower, upper, target, i * size, dtype, numbers, 0, LANES, False)
        if begin <= whole < end:
            write(lower, upper, target, whole * size, dtype, numbers, 0, end - whole, False)
        return
    for i in range(count):
        value = normalized(load(x[0], i * x[3], dtype), mean, scale, shift)
        if dy is not None:
            value = value + load(dy[0], i * dy[3], dtype) * gain
        store(y[0], i * y[3], dtype, value)


@helper()
def rescale_along(x: Place, dy: Any, y: Place, dtype: Any, cut: Cut, tile: Tile, past: bool, own: Table) -> None:
    """The same where runs lie anywhere."""
    for row in range(tile[0], tile[1]):
        count = values_before(row + 1, cut) - values_before(row, cut)
        lower, upper, target = run_of(x, row, tile[2], cut), run_of(dy, row, tile[2], cut), run_of(y, row, tile[2], cut)
        for i in range(tile[3] - tile[2]):
            places = corner(lower, 0, i), corner(upper, 0, i), corner(target, 0, i)
            mean, scale, shift = (
                number(entry(own, MEAN, i), 0),
                number(entry(own, SCALE, i), 0),
                number(entry(own, SHIFT, i), 0),
            )
            gain = 0.0 if dy is None else number(entry(own, GAIN, i), 0)
            write_along(*places, dtype, count, past, mean, scale, shift, gain)


@inlined
def rescale(x: Place, dy: Any, y: Place, dtype: Any, cut: Cut, tile: Tile, table: Table, columns: Table) -> None:
    """Either of them."""
    past, own = cut[7] != 0, (entry(table, 0, tile[2]), table[1])
    if cut[2]:
        rescale_across(x, dy, y, dtype, cut, tile, past, own, columns)
    else:
        rescale_along(x, dy, y, dtype, cut, tile, past, own)


# ----------------------------------------------------------------------------------------------------------- kernels


@inlined
def waited(done: int, count: int) -> bool:
    """Whether all tiles of the first pass are done, and what comes of them; other threads may have the last."""
    looks = 0
    while add(done, 0) <= count and looks < PATIENCE:
        looks += 1
    return looks < PATIENCE


@helper()
def train_tiles(
    turn: int,
    scratch: int,
    x: Place,
    y: Place,
    dtype: Any,
    plan: Cut,
    weight: Vector,
    bias: Vector,
    epsilon: float,
    table: Table,
) -> bool:
    """The work of a thread on ``train``."""
    whole, count, second = plan[4] >= plan[3], tiles(plan), False
    vectors, columns = rooms(scratch, plan, min(plan[5], plan[6]))
    while True:
        tile = next_tile(turn, plan, second)
        if tile[0] == tile[1]:
            if second or whole or y[0] == 0:
                return True
            if not waited(turn + 8, count):
                return False
            turn, second = turn + 16, True  # backwards: the last that were read are still in the cache
            continue
        if not second:
            found = entry(table, PARTS + 2 * (tile[0] // plan[4]), tile[2]), table[1]
            measure(x, dtype, plan, tile, found, vectors, columns)
            last = not whole and add(turn + 8, 1) == count - 1
            if whole or last:
                features = (tile[2], tile[3]) if whole else (0, plan[5])
                finish(x, dtype, plan, features[0], features[1], weight, bias, epsilon, table)
            if last:
                add(turn + 8, 1)
        if y[0] and (second or whole):
            rescale(x, None, y, dtype, plan, tile, table, columns)


@kernel
def train(
    turns: Any,
    scratch: Any,
    x_id: int,
    y_id: int,
    dtype: Any,
    cut: Any,
    weight: Vector,
    bias: Vector,
    epsilon: float,
    known: Any,
) -> bool:
    """Statistics, and unless y is 0 the normalization by them: of a tile at once if it has all rows, else of all.

    False if others were not done: call again.
    """
    x, y, table = place(x_id, cut, 0), place(y_id, cut, 1), (known.ctypes.data, known.strides[0])
    return train_tiles(
        turns.ctypes.data, scratch.ctypes.data, x, y, dtype, plan_of(cut), weight, bias, epsilon, table
    )  # fmt: skip


@helper()
def normalize_tiles(
    turn: int,
    scratch: int,
    x: Place,
    y: Place,
    dtype: Any,
    plan: Cut,
    mean: Vector,
    variance: Vector,
    weight: Vector,
    bias: Vector,
    epsilon: float,
) -> bool:
    """The work of a thread on ``normalize``; mean and 1 / standard deviation are left in lines MEAN and GAIN."""
    table, columns = rooms(scratch, plan, plan[5])
    scale, inverse = entry(table, SCALE, 0), entry(table, GAIN, 0)
    read(mean, 0.0, 0, plan[5], entry(table, MEAN, 0))
    read(weight, 1.0, 0, plan[5], scale)
    read(bias, 0.0, 0, plan[5], entry(table, SHIFT, 0))
    read(variance, 1.0, 0, plan[5], inverse)
    for i in range(plan[5]):
        put(inverse, i, 1.0 / np.sqrt(number(inverse, i) + epsilon))
        put(scale, i, number(scale, i) * number(inverse, i))
    while True:
        tile = next_tile(turn, plan, False)
        if tile[0] == tile[1]:
            return True
        rescale(x, None, y, dtype, plan, tile, table, columns)


@kernel
def normalize(
    turns: Any,
    scratch: Any,
    x_id: int,
    y_id: int,
    dtype: Any,
    cut: Any,
    mean: Vector,
    variance: Vector,
    weight: Vector,
    bias: Vector,
    epsilon: float,
) -> bool:
    """By statistics that are given."""
    x, y, turn, room = place(x_id, cut, 0), place(y_id, cut, 1), turns.ctypes.data, scratch.ctypes.data
    return normalize_tiles(turn, room, x, y, dtype, plan_of(cut), mean, variance, weight, bias, epsilon)


@helper()
def conclude(cut: Cut, first: int, last: int, mean: Vector, inverse: Vector, weight: Vector, table: Table) -> None:
    """From sums in pieces of rows to the gradients of features' weights and biases, and the numbers for that of x."""
    dweight, gain = entry(table, DWEIGHT, first), entry(table, GAIN, first)
    read(mean, 0.0, first, last - first, entry(table, MEAN, first))
    read(inverse, 1.0, first, last - first, dweight)
    read(weight, 1.0, first, last - first, gain)
    count, pieces = values_before(cut[3], cut), (cut[3] + cut[4] - 1) // cut[4]
    for i in range(last - first):
        dbias = product = 0.0
        for piece in range(pieces):
            own = entry(table, PARTS + 2 * piece, first)
            dbias += number(own, i)
            product += number(own + table[1], i)
        inverted, slope = number(dweight, i), number(gain, i) * number(dweight, i)
        product *= inverted
        put(dweight, i, product)
        put(entry(table, DBIAS, first), i, dbias)
        put(gain, i, slope)
        put(entry(table, SCALE, first), i, -slope * (inverted * product / count))
        put(entry(table, SHIFT, first), i, -slope * (dbias / count))


@kernel
def differentiate(
    turns: Any,
    scratch: Any,
    x_id: int,
    dy_id: int,
    dx_id: int,
    dtype: Any,
    cut: Any,
    mean: Vector,
    inverse: Vector,
    weight: Vector,
    known: Any,
) -> bool:
    """Gradients of weight, bias and, unless dx is 0, x, from which the statistics were taken; as ``train``."""
    plan, x, dx, dy = plan_of(cut), place(x_id, cut, 0), place(dx_id, cut, 1), place(dy_id, cut, 2)
    turn, whole, count, second = turns.ctypes.data, plan[4] >= plan[3], tiles(plan), False
    table, room = (known.ctypes.data, known.strides[0]), scratch.ctypes.data
    vectors, columns = rooms(room, plan, min(plan[5], plan[6]))
    while True:
        tile = next_tile(turn, plan, second)
        if tile[0] == tile[1]:
            if second or whole or dx[0] == 0:
                return True
            if not waited(turn + 8, count):
                return False
            turn, second = turn + 16, True
            continue
        if not second:
            read(mean, 0.0, tile[2], tile[3] - tile[2], vectors[0])
            found = entry(table, PARTS + 2 * (tile[0] // plan[4]), tile[2]), table[1]
            add_tile(x, dy, dtype, plan, tile, vectors[0], found, columns)
            last = not whole and add(turn + 8, 1) == count - 1
            if whole or last:
                features = (tile[2], tile[3]) if whole else (0, plan[5])
                conclude(plan, features[0], features[1], mean, inverse, weight, table)
            if last:
                add(turn + 8, 1)
        if dx[0] and (second or whole):
            rescale(x, dy, dx, dtype, plan, tile, table, columns)


@inlined
def move(running: Vector, values: int, count: int, divisor: float, rate: float) -> None:
    """A running statistic a step nearer to a batch's."""
    address = data(running[0])
    for i in range(count):
        step = rate * (number(values, i) / divisor)
        if running[1] == 8:
            put(address, i, (1.0 - rate) * number(address, i) + step)
        elif running[1] == 4:
            store(address, 4 * i, np.float32(0), (1.0 - rate) * load(address, 4 * i, np.float32(0)) + step)


@kernel
def advance(mean: Vector, variance: Vector, known: Any, divisor: float, rate: float) -> None:
    """Both of them."""
    table = known.ctypes.data, known.strides[0]
    move(mean, entry(table, MEAN, 0), known.shape[1], 1.0, rate)
    move(variance, entry(table, M2, 0), known.shape[1], divisor, rate)


# ---------------------------------------------------------------------------------------------------- prepared calls
#
# All arrays come in one tuple, by its ``id``. What is known of x and y is in a table; vectors are looked at here.

X, Y, ROOM, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, COUNT = range(8)  # places in the tuple

# Behind the plan and the steps of x and y, the ids of types, of None and of dtypes, and numbers that a table takes.
ARRAY, NONE, FLOAT32, FLOAT64, INT64, TABLE = range(14, 20)

TUPLE, OBJECT = tuple.__basicsize__, object.__basicsize__  # bytes before what is in a tuple, and in an array
TYPE, RANK, LENGTHS, DTYPE, FLAGS = OBJECT - 8, OBJECT + 8, OBJECT + 16, OBJECT + 40, OBJECT + 48  # of an array
LOW = 0xFFFFFFFF  # half a word: rank and flags, on processors that keep it first, as all do that numba knows
READ, WRITTEN = 0x101, 0x501  # NumPy's flags: contiguous and aligned, and writeable
TURNS = LINE  # bytes


@inlined
def item(arrays: int, which: int) -> int:
    """The ``id`` of what a tuple has in a place."""
    found: int = word(arrays, TUPLE + 8 * which)
    return found


@inlined
def kind_of(array: int, facts: Any, rank: int, flags: int) -> int:
    """The ``id`` of the dtype of an array of such a rank with such flags; 0 if it is none."""
    if word(array, TYPE) != facts[ARRAY] or word(array, RANK) & LOW != rank or word(array, FLAGS) & flags != flags:
        return 0
    kind: int = word(array, DTYPE)
    return kind


@inlined
def vector(arrays: int, which: int, facts: Any, flags: int) -> Vector:
    """One number a feature, or none; its size is negative if kernels cannot take it as it is."""
    array = item(arrays, which)
    if array == facts[NONE]:
        return 0, 0
    kind = kind_of(array, facts, 1, flags)
    if kind == 0 or word(word(array, LENGTHS), 0) != facts[5]:
        return 0, -1
    if kind == facts[FLOAT32]:
        return array, 4
    return array, 8 if kind == facts[FLOAT64] else -1


@inlined
def counter(arrays: int, facts: Any) -> Vector:
    """The number of batches; its size is 0 if there is none, 1 if it is an integer."""
    array = item(arrays, COUNT)
    if array == facts[NONE]:
        return 0, 0
    kind = kind_of(array, facts, 0, WRITTEN)
    if kind == facts[INT64]:
        return array, 1
    if kind == facts[FLOAT32]:
        return array, 4
    return array, 8 if kind == facts[FLOAT64] else -1


@inlined
def rewound(room: int) -> int:
    """The turns, of which none was taken."""
    for i in range(3):
        put(room, i, 0.0)
    return room


@kernel
def train_prepared(arrays: int, facts: Any, dtype: Any, epsilon: float, divisor: float, rate: float) -> bool:
    """``train``, ``advance`` and count the batch; False, and nothing is done, if a vector is not as they take it."""
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, WRITTEN), vector(arrays, RUNNING_VAR, facts, WRITTEN)
    count = counter(arrays, facts)
    if min(weight[1], bias[1], mean[1], variance[1], count[1]) < 0:
        return False
    plan, turn = plan_of(facts), rewound(data(item(arrays, ROOM)))
    table, x, y = (turn + TURNS, 8 * plan[5]), place(item(arrays, X), facts, 0), place(item(arrays, Y), facts, 1)
    train_tiles(turn, table[0] + 8 * facts[TABLE], x, y, dtype, plan, weight, bias, epsilon, table)
    move(mean, entry(table, MEAN, 0), plan[5], 1.0, rate)
    move(variance, entry(table, M2, 0), plan[5], divisor, rate)
    if count[1] == 1:
        add(data(count[0]), 1)
    else:
        move_by_one(count)
    return True


@inlined
def move_by_one(count: Vector) -> None:
    """Count, in floating-point numbers."""
    address = data(count[0])
    if count[1] == 8:
        put(address, 0, number(address, 0) + 1.0)
    elif count[1] == 4:
        store(address, 0, np.float32(0), load(address, 0, np.float32(0)) + 1.0)


@kernel
def normalize_prepared(arrays: int, facts: Any, dtype: Any, epsilon: float) -> bool:
    """``normalize``; False, and nothing is done, if a vector is not as it takes it."""
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, READ), vector(arrays, RUNNING_VAR, facts, READ)
    if min(weight[1], bias[1], mean[1], variance[1]) < 0:
        return False
    turn, plan = rewound(data(item(arrays, ROOM))), plan_of(facts)
    x, y = place(item(arrays, X), facts, 0), place(item(arrays, Y), facts, 1)
    return normalize_tiles(turn, turn + TURNS, x, y, dtype, plan, mean, variance, weight, bias, epsilon)
