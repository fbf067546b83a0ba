"""The loops: each is compiled once for a dtype and runs without the GIL.

Arrays come as their ``id`` and a table of their steps, and not as arrays, of which numba would compile for every
layout and mutability anew, and which it takes longer to take than a small batch takes to normalize.

All arithmetic is in float64, and every vector is, but for the second pass of 16 bits: float32 has more than twice the
digits that are kept, so an output is the exact value rounded once, or, where that is within three roundings to float32
of the middle between two of 16 bits, maybe the other of them. What float32 leaves of the mean is in the shift. Features
with a number that float32 lacks are normalized with float64, one value at a time; see ``ordinary``.

A *tile* is ``(row, last row, feature, last feature)``, the lasts excluded; a kernel's threads work on tiles until
``turns``, which all of them share, says that there are none left. There are two ways through a tile:

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

from typing import Any

import numpy as np

from normspec.runtime.kernels import statistics as formulas
from normspec.runtime.kernels.cpu.jit import contracted, helper, inlined, kernel
from normspec.runtime.kernels.cpu.simd import (
    LINE,
    add,
    data,
    keep,
    load,
    loads,
    real,
    size_of,
    soon,
    splat,
    store,
    stores,
    streams,
    total,
    zeros,
)
from normspec.runtime.kernels.cpu.threads import Crew, job, peek, together, wait

Place = tuple[int, int, int, int]  # address and steps in bytes
Table = tuple[int, int]  # address of a line of float64, and bytes to the next
Tile = tuple[int, int, int, int]
Cut = tuple[int, int, int, int, int, int, int, int]  # see ``Plan``
Vector = tuple[int, int]  # the ``id`` of an array of one number a feature, and the bytes of a number; or 0 and 0

BLOCK = 4096  # values of a feature that are summed before they are merged
GROWTH = 32  # times as many as there were before
ROWS = 4  # that are summed at once, if it is of one array: of two, the processor loses track of so many
EIGHT = LINE // 8  # float64
SEVERAL = 128  # values in a run of which whole lines are written, if the next run is as well
AHEAD = 4  # rows that are asked for before they are needed
SMALLEST, GREATEST = 2.0**-126, 2.0**100  # numbers of a feature that float32 normalizes with
VECTORS = STREAMS = 4  # numbers of a feature and of a column that a tile needs at once
SPARE = 2 * LINE  # columns beside those that there are, which lanes may reach into

# Rows of a table: what is kept of each feature. Two for each piece of rows follow.
MEAN, SCALE, SHIFT, GAIN, INVERSE, M2, PARTS = range(7)
DWEIGHT, DBIAS = INVERSE, M2

# What threads count: tiles that were taken, by the caller, by others, and done; those of the second pass; those done of
# each block of features. In bytes.
DONE, SECOND, TURNS = 24, 32, 56


merge = helper()(formulas.merge)


# ------------------------------------------------------------------------------------------------------------- tiles


@inlined
def plan_of(cut: Any) -> Cut:
    """How a batch is cut."""
    return cut[0], cut[1], cut[2], cut[3], cut[4], cut[5], cut[6], cut[7]


@inlined
def tiles(cut: Cut) -> int:
    """How many there are."""
    return (cut[3] + cut[4] - 1) // cut[4] * ((cut[5] + cut[6] - 1) // cut[6])


@inlined
def claim(turns: int, rank: int, count: int) -> int:
    """The next of so many tiles, or -1: the caller's are the first ones, so that each cache is left with neighbours."""
    if add(turns, 1) >= count:
        return -1
    turn: int = add(turns + 8, 1) if rank == 0 else count - 1 - add(turns + 16, 1)
    return turn


@inlined
def claim_again(turns: int, rank: int, count: int) -> int:
    """The same once more, beginning with what the caller, and with what the others had last: it is still cached."""
    turn = claim(turns + SECOND, rank, count)
    if turn < 0:
        return -1
    tile: int = (peek(turns + 8) - 1 - turn) % count
    return tile


@inlined
def is_last(turns: int, tile: Tile, cut: Cut) -> bool:
    """Whether all other tiles of the same features have been here."""
    done: int = add(turns + TURNS + 8 * (tile[2] // cut[6]), 1)
    return done == (cut[3] + cut[4] - 1) // cut[4] - 1


@inlined
def tile_of(turn: int, cut: Cut) -> Tile:
    """In the order of memory."""
    rows, row_step, features, feature_step = cut[3:7]
    blocks = (features + feature_step - 1) // feature_step
    row, feature = turn // blocks * row_step, turn % blocks * feature_step
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
def followed(x: Any, y: Place, cut: Cut, dtype: Any) -> bool:
    """Whether runs of features follow each other in both, which are not the same memory, or the first is nothing."""
    step = cut[0] * size_of(dtype)
    return x is None or (x[0] != y[0] and x[2] == step and y[2] == step)


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
def numbers(vector: int, i: int, count: int) -> Any:
    """Eight float64 from there on, or as many as there are among so many."""
    return loads(vector, 8 * i, 1.0, zeros(1.0, 1.0), 0, min(count - i, EIGHT))


@inlined
def puts(vector: int, i: int, count: int, lanes: Any) -> None:
    """Write them."""
    stores(vector, 8 * i, 1.0, lanes, 0, min(count - i, EIGHT))


@inlined
def rooms(scratch: Table, rank: int, cut: Cut, held: int) -> tuple[Table, Table]:
    """Room for so many features, and for numbers of columns, each kind of which begins at a line of the cache."""
    start = scratch[0] + rank * scratch[1]
    columns = start + VECTORS * 8 * held
    width = cut[2] * min(cut[6], cut[5]) * cut[0]
    return (start, 8 * held), ((columns + LINE - 1) // LINE * LINE, (8 * width + 8 * SPARE) // LINE * LINE)


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


# ---------------------------------------------------------------------------------------------------- the first pass


@inlined
def pair(x: Place, dy: Any, at: int, dtype: Any, center: Any, first: int, last: int) -> Any:
    """Deviations from a center, and what they are multiplied by."""
    deviation = keep(loads(x[0], at, dtype, center, first, last) - center, first, last)
    if dy is None:
        return deviation, deviation
    return deviation, loads(dy[0], at, dtype, center, first, last)


@inlined
def ask(x: Any, at: int, rows: int) -> None:
    """For values of a later row."""
    if x is not None:
        soon(x[0] + at + rows * x[1])


@inlined
def sum_columns(x: Place, dy: Any, rows: int, i: int, dtype: Any, columns: Table, first: int, last: int) -> None:
    """Add to the sums of as many columns as lanes."""
    at, (start, stream), nothing, lanes = i * size_of(dtype), columns, zeros(dtype, 1.0), LINE // size_of(dtype)
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
    lanes = LINE // size_of(dtype)
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
        size, lanes = size_of(dtype), LINE // size_of(dtype)
        a = b = aa = bb = zeros(dtype, 1.0)
        middle = splat(center, a)
        whole = count // (2 * lanes) * 2 * lanes
        for i in range(0, whole, 2 * lanes):
            for start in (i * size, i * size + LINE):
                ask(x, start + ahead, 0)
                ask(dy, start + ahead, 0)
            deviation, factor = pair(x, dy, i * size, dtype, middle, 0, lanes)
            a, aa = a + factor, aa + deviation * factor
            deviation, factor = pair(x, dy, i * size + LINE, dtype, middle, 0, lanes)
            b, bb = b + factor, bb + deviation * factor
        for i in range(whole, count, lanes):
            deviation, factor = pair(x, dy, i * size, dtype, middle, 0, min(count - i, lanes))
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


@inlined
def taken(mean: float, dtype: Any) -> float:
    """A mean as values are measured from it: rounded to the numbers that they are normalized with, if it is of them."""
    rounded = float(real(mean, dtype))
    return rounded if abs(rounded) < np.inf else mean


@inlined
def compensate(table: Table, i: int, low: float) -> None:
    """Put what the mean of a feature lost by rounding into its shift, where it costs no digit."""
    if 0.0 < abs(low) < np.inf:
        shift, scale = entry(table, SHIFT, i), number(entry(table, SCALE, i), 0)
        put(shift, 0, number(shift, 0) - low * scale)


@helper()
def finish(
    x: Place, dtype: Any, cut: Cut, first: int, last: int, weight: Vector, bias: Vector, epsilon: float, table: Table
) -> None:
    """From what was measured in pieces of rows to all that is known of features, and the numbers to normalize with.

    The mean is rounded to float64, and again if the dtype is normalized with float32.
    """
    width, scale = last - first, entry(table, SCALE, first)
    read(weight, 1.0, first, last - first, scale)
    read(bias, 0.0, first, last - first, entry(table, SHIFT, first))
    count, offsets, m2s = values_before(cut[3], cut), entry(table, PARTS, first), entry(table, PARTS + 1, first)
    for piece in range(1, (cut[3] + cut[4] - 1) // cut[4]):
        before, stop = values_before(piece * cut[4], cut), values_before(min((piece + 1) * cut[4], cut[3]), cut)
        other = entry(table, PARTS + 2 * piece, first)
        for i in range(0, width, EIGHT):
            own = numbers(other, i, width), numbers(other + table[1], i, width)
            known = numbers(offsets, i, width), numbers(m2s, i, width)
            _, offset, squares = merge(before, known[0], known[1], stop - before, own[0], own[1])
            puts(offsets, i, width, offset)
            puts(m2s, i, width, squares)
    for i in range(last - first):
        offset, squares = number(offsets, i), number(m2s, i)
        start = origin(x, dtype, first + i)
        mean, inverse = start + offset, 1.0 / np.sqrt(squares / count + epsilon)
        rounded = mean - start
        low = (start - (mean - rounded)) + (offset - rounded) + (mean - taken(mean, dtype))
        put(entry(table, MEAN, first), i, mean)
        put(entry(table, M2, first), i, squares)
        put(entry(table, INVERSE, first), i, inverse)
        put(scale, i, number(scale, i) * inverse)
        compensate(table, first + i, low)


# --------------------------------------------------------------------------------------------------- the second pass


@inlined
def representable(value: float) -> bool:
    """Whether float32 has it with all digits, and room for its products with 16 bits; or it is 0 or not finite."""
    return not 0.0 < abs(value) < SMALLEST and not GREATEST < abs(value) < np.inf


@inlined
def ordinary(own: Table, count: int, kinds: int, dtype: Any) -> bool:
    """Whether features can be normalized with the numbers of the dtype, and need not be with float64."""
    strange = 0
    if size_of(dtype) == 2:
        for kind in range(kinds):
            for i in range(count):
                strange |= not representable(number(own[0] + kind * own[1], i))
    return strange == 0


@contracted
def normalized(value: Any, upper: Any, numbers: Any) -> Any:
    """Of a number or of lanes. A mean folded into the shift would cancel digits."""
    mean, scale, shift, gain = numbers
    if upper is None:
        return (value - mean) * scale + shift
    return (value - mean) * scale + shift + upper * gain


@inlined
def aligned(y: int, dtype: Any) -> int:
    """Elements between an address and the line of the cache that it is in."""
    size: int = size_of(dtype)
    return y % LINE // size


@inlined
def write(x: Place, dy: Any, y: Place, at: int, dtype: Any, numbers: Any, first: int, last: int, past: bool) -> None:
    """As many values as lanes, some of them, or past the cache all."""
    like, upper = numbers[0], None
    if dy is not None:
        upper = loads(dy[0], at, dtype, like, first, last)
    value = normalized(loads(x[0], at, dtype, like, first, last), upper, numbers)
    if past:
        streams(y[0], at, dtype, value)
    else:
        stores(y[0], at, dtype, value, first, last)


@inlined
def write_columns(
    x: Place, dy: Any, y: Place, i: int, dtype: Any, columns: Table, first: int, last: int, past: bool
) -> None:
    """As many columns."""
    like, lanes, (start, stream) = real(0.0, dtype), LINE // size_of(dtype), columns
    at, here, nothing = i * size_of(dtype), start + i * size_of(like), zeros(dtype, like)
    ask(x, at, AHEAD)
    ask(dy, at, AHEAD)
    mean, scale = loads(here, 0, like, nothing, 0, lanes), loads(here, stream, like, nothing, 0, lanes)
    shift, gain = loads(here, 2 * stream, like, nothing, 0, lanes), nothing
    if dy is not None:
        gain = loads(here, 3 * stream, like, nothing, 0, lanes)
    write(x, dy, y, at, dtype, (mean, scale, shift, gain), first, last, past)


@helper()
def write_across(
    x: Place, dy: Any, y: Place, rows: int, skip: int, width: int, dtype: Any, past: bool, columns: Table
) -> None:
    """Rows by the numbers of their columns, which begin some elements behind the places of rows."""
    size, lanes, end = size_of(dtype), LINE // size_of(dtype), skip + width
    begin, whole = lanes if skip else 0, end // lanes * lanes
    for row in range(rows):
        lower, upper = moved(corner(x, row, 0), -skip * size), moved(corner(dy, row, 0), -skip * size)
        target = moved(corner(y, row, 0), -skip * size)
        if skip:
            write_columns(lower, upper, target, 0, dtype, columns, skip, min(end, lanes), False)
        if past and target[0] % LINE == 0:
            for i in range(begin, whole, lanes):
                write_columns(lower, upper, target, i, dtype, columns, 0, lanes, True)
        else:
            for i in range(begin, whole, lanes):
                write_columns(lower, upper, target, i, dtype, columns, 0, lanes, False)
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
    skip, like = aligned(target[0], dtype), real(0.0, dtype)
    for kind in range(3 if dy is None else 4):
        line = entry(columns, kind, 0) + skip * size_of(like)
        spread(entry(own, kind, 0), count, inner, together, line, like)
    whole = rows // together
    write_across(lower, upper, target, whole, skip, together * width, dtype, past, columns)
    rest = rows - whole * together
    if rest:
        lower, upper, target = corner(lower, whole, 0), corner(upper, whole, 0), corner(target, whole, 0)
        write_across(lower, upper, target, 1, skip, rest * width, dtype, past, columns)


@helper()
def write_packed(x: Place, dy: Any, y: Place, dtype: Any, count: int, past: bool, numbers: Any) -> None:
    """A run of a feature whose values are side by side."""
    size, lanes, skip = size_of(dtype), LINE // size_of(dtype), aligned(y[0], dtype)
    end, begin = skip + count, lanes if skip else 0
    whole = end // lanes * lanes
    lower, upper, target = moved(x, -skip * size), moved(dy, -skip * size), moved(y, -skip * size)
    like = zeros(dtype, numbers[0])
    same = splat(numbers[0], like), splat(numbers[1], like), splat(numbers[2], like), splat(numbers[3], like)
    if skip:
        write(lower, upper, target, 0, dtype, same, skip, min(end, lanes), False)
    if past and target[0] % LINE == 0:
        for i in range(begin, whole, lanes):
            write(lower, upper, target, i * size, dtype, same, 0, lanes, True)
    else:
        for i in range(begin, whole, lanes):
            write(lower, upper, target, i * size, dtype, same, 0, lanes, False)
    if begin <= whole < end:
        write(lower, upper, target, whole * size, dtype, same, 0, end - whole, False)


@inlined
def write_over(x: Place, dy: Any, y: Place, dtype: Any, count: int, numbers: Any) -> None:
    """A run of a line or more, and less than a line of the next, which is written afterwards. Masks cost more."""
    size, lanes = size_of(dtype), LINE // size_of(dtype)
    like = zeros(dtype, numbers[0])
    same = splat(numbers[0], like), splat(numbers[1], like), splat(numbers[2], like), splat(numbers[3], like)
    for i in range(0, count, lanes):
        write(x, dy, y, i * size, dtype, same, 0, lanes, False)


@helper()
def write_strided(x: Place, dy: Any, y: Place, dtype: Any, count: int, numbers: Any) -> None:
    """A run of a feature with any step."""
    for i in range(count):
        upper = None
        if dy is not None:
            upper = real(load(dy[0], i * dy[3], dtype), dtype)
        value = normalized(real(load(x[0], i * x[3], dtype), dtype), upper, numbers)
        store(y[0], i * y[3], dtype, value)


@helper()
def rescale_along(x: Place, dy: Any, y: Place, dtype: Any, cut: Cut, tile: Tile, past: bool, own: Table) -> None:
    """The same where runs lie anywhere."""
    side_by_side = packed(x, dtype) and packed(dy, dtype) and packed(y, dtype)
    over = side_by_side and not past and cut[0] * size_of(dtype) >= LINE and cut[0] < SEVERAL
    over = over and followed(x, y, cut, dtype) and followed(dy, y, cut, dtype)
    for row in range(tile[0], tile[1]):
        count = values_before(row + 1, cut) - values_before(row, cut)
        lower, upper, target = run_of(x, row, tile[2], cut), run_of(dy, row, tile[2], cut), run_of(y, row, tile[2], cut)
        for i in range(tile[3] - tile[2]):
            places = corner(lower, 0, i), corner(upper, 0, i), corner(target, 0, i)
            mean, scale = taken(number(entry(own, MEAN, i), 0), dtype), number(entry(own, SCALE, i), 0)
            shift, gain = number(entry(own, SHIFT, i), 0), 0.0
            if dy is not None:
                gain = number(entry(own, GAIN, i), 0)
            numbers = real(mean, dtype), real(scale, dtype), real(shift, dtype), real(gain, dtype)
            if not ordinary((entry(own, 0, i), own[1]), 1, 3 if dy is None else 4, dtype):
                write_strided(*places, dtype, count, (mean, scale, shift, gain))
            elif over and i + 1 < tile[3] - tile[2]:
                write_over(*places, dtype, count, numbers)
            elif side_by_side:
                write_packed(*places, dtype, count, past, numbers)
            else:
                write_strided(*places, dtype, count, numbers)


@inlined
def rescale(x: Place, dy: Any, y: Place, dtype: Any, cut: Cut, tile: Tile, table: Table, columns: Table) -> None:
    """Either of them."""
    past, own = cut[7] != 0, (entry(table, 0, tile[2]), table[1])
    if cut[2] and ordinary(own, tile[3] - tile[2], 3 if dy is None else 4, dtype):
        rescale_across(x, dy, y, dtype, cut, tile, past, own, columns)
    else:
        rescale_along(x, dy, y, dtype, cut, tile, past, own)


# ----------------------------------------------------------------------------------------------------------- kernels


@inlined
def wait_for(done: int, count: int) -> None:
    """All tiles of the first pass, and what comes of them; other threads may have the last."""
    looks = 0
    while peek(done) < count:
        looks = wait(looks)


@helper()
def train_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    y: Place,
    dtype: Any,
    cut: Any,
    weight: Vector,
    bias: Vector,
    epsilon: float,
    table: Table,
) -> None:
    """Until there are none left."""
    plan = plan_of(cut)
    whole, count = plan[4] >= plan[3], tiles(plan)
    vectors, columns = rooms(scratch, rank, plan, min(plan[5], plan[6]))
    turn = claim(turns, rank, count)
    while turn >= 0:
        tile = tile_of(turn, plan)
        found = entry(table, PARTS + 2 * (tile[0] // plan[4]), tile[2]), table[1]
        measure(x, dtype, plan, tile, found, vectors, columns)
        if is_last(turns, tile, plan):
            finish(x, dtype, plan, tile[2], tile[3], weight, bias, epsilon, table)
        if whole and y[0]:
            rescale(x, None, y, dtype, plan, tile, table, columns)
        add(turns + DONE, 1)
        turn = claim(turns, rank, count)
    if not whole and y[0]:
        wait_for(turns + DONE, count)
        turn = claim_again(turns, rank, count)
        while turn >= 0:
            rescale(x, None, y, dtype, plan, tile_of(turn, plan), table, columns)
            turn = claim_again(turns, rank, count)


@helper()
def normalize_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    y: Place,
    dtype: Any,
    cut: Any,
    mean: Vector,
    variance: Vector,
    weight: Vector,
    bias: Vector,
    epsilon: float,
) -> None:
    """Until there are none left; mean and 1 / standard deviation stay in lines MEAN and GAIN of the scratch."""
    plan = plan_of(cut)
    tile = claim(turns, rank, tiles(plan))
    if tile < 0:
        return
    table, columns = rooms(scratch, rank, plan, plan[5])
    scale, inverse = entry(table, SCALE, 0), entry(table, GAIN, 0)
    read(mean, 0.0, 0, plan[5], entry(table, MEAN, 0))
    read(weight, 1.0, 0, plan[5], scale)
    read(bias, 0.0, 0, plan[5], entry(table, SHIFT, 0))
    read(variance, 1.0, 0, plan[5], inverse)
    for i in range(plan[5]):
        put(inverse, i, 1.0 / np.sqrt(number(inverse, i) + epsilon))
        put(scale, i, number(scale, i) * number(inverse, i))
        center = number(entry(table, MEAN, 0), i)
        compensate(table, i, center - taken(center, dtype))
    while tile >= 0:
        rescale(x, None, y, dtype, plan, tile_of(tile, plan), table, columns)
        tile = claim(turns, rank, tiles(plan))


@helper()
def conclude(
    dtype: Any, cut: Cut, first: int, last: int, mean: Vector, inverse: Vector, weight: Vector, table: Table
) -> None:
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
        center = number(entry(table, MEAN, first), i)
        compensate(table, first + i, center - taken(center, dtype))


@helper()
def differentiate_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    dy: Place,
    dx: Place,
    dtype: Any,
    cut: Any,
    mean: Vector,
    inverse: Vector,
    weight: Vector,
    table: Table,
) -> None:
    """Until there are none left."""
    plan = plan_of(cut)
    whole, count = plan[4] >= plan[3], tiles(plan)
    vectors, columns = rooms(scratch, rank, plan, min(plan[5], plan[6]))
    turn = claim(turns, rank, count)
    while turn >= 0:
        tile = tile_of(turn, plan)
        read(mean, 0.0, tile[2], tile[3] - tile[2], vectors[0])
        found = entry(table, PARTS + 2 * (tile[0] // plan[4]), tile[2]), table[1]
        add_tile(x, dy, dtype, plan, tile, vectors[0], found, columns)
        if is_last(turns, tile, plan):
            conclude(dtype, plan, tile[2], tile[3], mean, inverse, weight, table)
        if whole and dx[0]:
            rescale(x, dy, dx, dtype, plan, tile, table, columns)
        add(turns + DONE, 1)
        turn = claim(turns, rank, count)
    if not whole and dx[0]:
        wait_for(turns + DONE, count)
        turn = claim_again(turns, rank, count)
        while turn >= 0:
            rescale(x, dy, dx, dtype, plan, tile_of(turn, plan), table, columns)
            turn = claim_again(turns, rank, count)


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


@inlined
def move_by_one(count: Vector) -> None:
    """A counter of batches."""
    address = data(count[0])
    if count[1] == 1:
        add(address, 1)
    elif count[1] == 8:
        put(address, 0, number(address, 0) + 1.0)
    elif count[1] == 4:
        store(address, 0, np.float32(0), load(address, 0, np.float32(0)) + 1.0)


# ------------------------------------------------------------------------------------------------------------- calls
#
# All arrays come in one tuple, by its ``id``. What is known of x, y and dy is in a table; vectors are looked at here.

X, Y, ROOM, WEIGHT = range(4)  # places in the tuple
BIAS, RUNNING_MEAN, RUNNING_VAR, COUNT = range(4, 8)
DY, BATCH_MEAN, BATCH_INVERSE = range(4, 7)

# Behind the plan and the steps of x, y and dy: ids of NumPy's array, None and dtypes; numbers that turns, a table and
# one thread's scratch take.
ARRAY, NONE, FLOAT32, FLOAT64, INT64, COUNTED, TABLE, SCRATCH = range(17, 25)

TUPLE, OBJECT = tuple.__basicsize__, object.__basicsize__  # bytes before what is in a tuple, and in an array
TYPE, RANK, LENGTHS, DTYPE, FLAGS = OBJECT - 8, OBJECT + 8, OBJECT + 16, OBJECT + 40, OBJECT + 48  # of an array
LOW = 0xFFFFFFFF  # half a word: rank and flags, on processors that keep it first, as all do that numba knows
READ, WRITTEN = 0x101, 0x501  # NumPy's flags: contiguous and aligned, and writeable


@inlined
def item(arrays: int, which: int, facts: Any) -> int:
    """The ``id`` of what a tuple has in a place; 0 of None."""
    found = peek(arrays + TUPLE + 8 * which)
    return 0 if found == facts[NONE] else found


@inlined
def place(arrays: int, which: int, facts: Any, steps: int) -> Place:
    """Where an array lies, of which the table of steps is that."""
    first = 8 + 3 * steps
    return data(item(arrays, which, facts)), facts[first], facts[first + 1], facts[first + 2]


@inlined
def kind_of(array: int, facts: Any, rank: int, flags: int) -> int:
    """The ``id`` of the dtype of an array of such a rank with such flags; 0 if it is none."""
    if peek(array + TYPE) != facts[ARRAY] or peek(array + RANK) & LOW != rank or peek(array + FLAGS) & flags != flags:
        return 0
    kind: int = peek(array + DTYPE)
    return kind


@inlined
def vector(arrays: int, which: int, facts: Any, flags: int) -> Vector:
    """One number a feature, or none; its size is negative if kernels cannot take it as it is."""
    array = item(arrays, which, facts)
    if array == 0:
        return 0, 0
    kind = kind_of(array, facts, 1, flags)
    if kind == 0 or peek(peek(array + LENGTHS)) != facts[5]:
        return 0, -1
    if kind == facts[FLOAT32]:
        return array, 4
    return array, 8 if kind == facts[FLOAT64] else -1


@inlined
def counter(arrays: int, facts: Any) -> Vector:
    """The number of batches; its size is 0 if there is none, 1 if it is an integer."""
    array = item(arrays, COUNT, facts)
    if array == 0:
        return 0, 0
    kind = kind_of(array, facts, 0, WRITTEN)
    if kind == facts[INT64]:
        return array, 1
    if kind == facts[FLOAT32]:
        return array, 4
    return array, 8 if kind == facts[FLOAT64] else -1


@inlined
def rewound(arrays: int, facts: Any) -> tuple[int, Table, Table]:
    """The turns, of which none was taken, and behind them the table, and the scratch of threads."""
    turns = data(item(arrays, ROOM, facts))
    for i in range(facts[COUNTED]):
        put(turns, i, 0.0)
    table = turns + 8 * facts[COUNTED]
    return turns, (table, 8 * facts[5]), (table + 8 * facts[TABLE], 8 * facts[SCRATCH])


@kernel
def train(crew: Crew, arrays: int, facts: Any, dtype: Any, epsilon: float, divisor: float, rate: float) -> bool:
    """Statistics, and with a y the normalization by them: of a tile at once if it has all rows, else of all.

    Then the running statistics move, and the counter. False, and nothing is done, if a vector is not one that is taken.
    """
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, WRITTEN), vector(arrays, RUNNING_VAR, facts, WRITTEN)
    count = counter(arrays, facts)
    if min(weight[1], bias[1], mean[1], variance[1], count[1]) < 0:
        return False
    turns, table, scratch = rewound(arrays, facts)
    x, y = place(arrays, X, facts, 0), place(arrays, Y, facts, 1)
    together(crew, job(train_tiles, (turns, scratch, x, y, dtype, facts, weight, bias, epsilon, table)))
    move(mean, entry(table, MEAN, 0), facts[5], 1.0, rate)
    move(variance, entry(table, M2, 0), facts[5], divisor, rate)
    move_by_one(count)
    return True


@kernel
def normalize(crew: Crew, arrays: int, facts: Any, dtype: Any, epsilon: float) -> bool:
    """By statistics that are given; False, and nothing is done, if a vector is not one that is taken."""
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, READ), vector(arrays, RUNNING_VAR, facts, READ)
    if min(weight[1], bias[1], mean[1], variance[1]) < 0:
        return False
    turns, _, scratch = rewound(arrays, facts)
    x, y = place(arrays, X, facts, 0), place(arrays, Y, facts, 1)
    together(crew, job(normalize_tiles, (turns, scratch, x, y, dtype, facts, mean, variance, weight, bias, epsilon)))
    return True


@kernel
def differentiate(crew: Crew, arrays: int, facts: Any, dtype: Any) -> bool:
    """Gradients of weight, bias and, if there is a y for it, x, from which the statistics were taken; as ``train``."""
    weight, mean = vector(arrays, WEIGHT, facts, READ), vector(arrays, BATCH_MEAN, facts, READ)
    inverse = vector(arrays, BATCH_INVERSE, facts, READ)
    if min(weight[1], mean[1], inverse[1]) < 0:
        return False
    turns, table, scratch = rewound(arrays, facts)
    x, dx, dy = place(arrays, X, facts, 0), place(arrays, Y, facts, 1), place(arrays, DY, facts, 2)
    together(crew, job(differentiate_tiles, (turns, scratch, x, dy, dx, dtype, facts, mean, inverse, weight, table)))
    return True
