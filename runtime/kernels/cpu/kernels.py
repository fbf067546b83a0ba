"""The loops: each is compiled once for a dtype and runs without the GIL.

``x`` and ``y`` come as ``(address, *strides)`` in bytes and not as arrays, of which numba would compile for every
layout and mutability anew. All arithmetic is in float64, and every vector is.

A *tile* is ``(row, last row, feature, last feature)``, the lasts excluded; a kernel works on tiles until ``turn``,
which all threads share, says that there are none left. There are two ways through a tile:

* *along*: a row is a run of at most ``segment`` values of each feature, so that a long ``inner`` is cut like a long
  ``outer``. Runs may have any step.
* *across*: a row is all values of all the tile's features, side by side in *columns* that each have numbers of their
  own; of short rows, ``repeat`` are taken as one. Four rows at a time use the numbers that were loaded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from normspec.runtime.kernels import statistics as formulas
from normspec.runtime.kernels.cpu.simd import LANES, claim, load, loads, size_of, splat, store, stores

F = TypeVar("F", bound=Callable[..., Any])
Place = tuple[int, int, int, int]
Line = tuple[int, int]  # address and step
Tile = tuple[int, int, int, int]
Cut = tuple[int, int, int, int, int, int, int]  # see ``Plan``

BLOCK = 4096  # values of a feature that are summed before they are merged
GROWTH = 32  # times as many as there were before
WORTH = 512  # values of a run from which on aligned stores save more than single values before them cost
LINE = 64  # bytes; a store that straddles two lines of the cache costs two


def jit(**options: Any) -> Callable[[F], F]:
    """`numba.njit` as everything here wants it, typed. What is not said about fastmath, callers would decide."""
    options = {"fastmath": False, "no_cfunc_wrapper": True, **options}
    compiler: Callable[[F], F] = numba.njit(cache=True, nogil=True, error_model="numpy", **options)
    return compiler


def helper(**options: Any) -> Callable[[F], F]:
    """The same for what only kernels call."""
    return jit(no_cpython_wrapper=True, **options)


# A loop is written once, as a template, and compiled twice into its user: with a step that LLVM knows, which it can
# vectorize, and with one that it does not. NaN and infinity keep their meaning.
template = helper(inline="always")
user = helper(fastmath={"reassoc", "contract", "nsz"})
contracted = helper(fastmath={"contract"}, forceinline=True)
merge = helper()(formulas.merge)


# ------------------------------------------------------------------------------------------------------------- tiles


@helper(forceinline=True)
def next_tile(turn: Any, cut: Cut, backwards: bool) -> Tile:
    """The tile whose turn it is, in the order of memory or against it; an empty one if there is none left."""
    rows, row_step, features, feature_step = cut[3:]
    blocks = (features + feature_step - 1) // feature_step
    count = (rows + row_step - 1) // row_step * blocks
    tile = claim(turn.ctypes.data)
    if tile >= count:
        return 0, 0, 0, 0
    if backwards:
        tile = count - 1 - tile
    row, feature = tile // blocks * row_step, tile % blocks * feature_step
    return row, min(row + row_step, rows), feature, min(feature + feature_step, features)


@helper(forceinline=True)
def find(x: Place, row: int, feature: int, inner: int, segment: int) -> tuple[int, int]:
    """Address and length of a feature's run in a row."""
    segments = (inner + segment - 1) // segment
    start = row % segments * segment
    return x[0] + row // segments * x[1] + feature * x[2] + start * x[3], min(segment, inner - start)


@helper(forceinline=True)
def origin(x: Place, dtype: Any, feature: int) -> float:
    """What a feature's values are measured from: one of them, so that a constant feature has no rounding at all."""
    value: float = load(x[0], feature * x[2], dtype)
    return value


@helper()
def lined(count: int, width: int, head: int) -> Any:
    """Arrays of numbers of columns in which column ``head`` begins a line of the cache."""
    step = (width + LANES - 1) // LANES * LANES
    room = np.empty(count * step + LANES)
    skip = -(room.ctypes.data // 8 + head) % LANES
    return room[skip : skip + count * step].reshape((count, step))


@helper()
def spread(values: Any, inner: int, repeat: int, columns: Any) -> None:
    """Give each column the number of its feature."""
    column = 0
    for _ in range(repeat):
        if inner == 1:
            for i in range(len(values)):
                columns[column + i] = values[i]
            column += len(values)
        else:
            for value in values:
                for i in range(column, column + inner):
                    columns[i] = value
                column += inner


@user
def gather(columns: Any, inner: int, repeat: int, values: Any) -> None:
    """Add up the columns of each feature."""
    for i in range(len(values)):
        values[i] = 0.0
    column = 0
    for _ in range(repeat):
        if inner == 1:
            for i in range(len(values)):
                values[i] += columns[column + i]
            column += len(values)
        else:
            for i in range(len(values)):
                total = 0.0
                for j in range(inner):
                    total += columns[column + j]
                values[i] += total
                column += inner


# -------------------------------------------------------------------------------------------------------- statistics


@helper(forceinline=True)
def difference(a: float, b: float) -> float:
    """Subtract, exempt from the caller's leave to reassociate, which would sum first and cancel afterwards."""
    return a - b


@template
def _each_sum_along(address: int, step: int, dtype: Any, count: int, center: float) -> tuple[float, float]:
    total = squares = 0.0
    for i in range(count):
        deviation = difference(load(address, i * step, dtype), center)
        total += deviation
        squares += deviation * deviation
    return total, squares


@user
def sum_along(address: int, step: int, dtype: Any, count: int, center: float) -> tuple[float, float]:
    """Sum of the deviations of a feature's run, and of their squares."""
    if step == size_of(dtype):
        return _each_sum_along(address, size_of(dtype), dtype, count, center)
    return _each_sum_along(address, step, dtype, count, center)


@helper()
def sum_across(x: Line, rows: int, width: int, dtype: Any, center: Any, total: Any, squares: Any) -> None:
    """Add the deviations in each column of rows, and their squares."""
    size, whole, four = size_of(dtype), width // LANES * LANES, rows // 4 * 4
    centers, totals, all_squares = center.ctypes.data, total.ctypes.data, squares.ctypes.data
    for row in range(0, four, 4):
        first = x[0] + row * x[1]
        second, third, fourth = first + x[1], first + 2 * x[1], first + 3 * x[1]
        for i in range(0, whole, LANES):
            middle = loads(centers, 8 * i, 1.0)
            a, b = loads(first, i * size, dtype) - middle, loads(second, i * size, dtype) - middle
            c, d = loads(third, i * size, dtype) - middle, loads(fourth, i * size, dtype) - middle
            stores(totals, 8 * i, 1.0, loads(totals, 8 * i, 1.0) + ((a + b) + (c + d)))
            stores(all_squares, 8 * i, 1.0, loads(all_squares, 8 * i, 1.0) + ((a * a + b * b) + (c * c + d * d)))
    for row in range(four, rows):
        for i in range(0, whole, LANES):
            a = loads(x[0] + row * x[1], i * size, dtype) - loads(centers, 8 * i, 1.0)
            stores(totals, 8 * i, 1.0, loads(totals, 8 * i, 1.0) + a)
            stores(all_squares, 8 * i, 1.0, loads(all_squares, 8 * i, 1.0) + a * a)
    for row in range(rows):
        for i in range(whole, width):
            deviation = load(x[0] + row * x[1], i * size, dtype) - center[i]
            total[i] += deviation
            squares[i] += deviation * deviation


@helper()
def add_across(
    x: Place, dtype: Any, inner: int, repeat: int, tile: Tile, center: Any, total: Any, squares: Any, columns: Any
) -> int:
    """Set the sums of a tile's features to those of their deviations; how many values of each there are."""
    rows, width = tile[1] - tile[0], len(center) * inner
    together = min(repeat, rows)
    start, step = x[0] + tile[0] * x[1] + tile[2] * x[2], together * x[1]
    for i in range(together * width):
        columns[1, i] = columns[2, i] = 0.0
    spread(center, inner, together, columns[0])
    whole = rows // together
    sum_across((start, step), whole, together * width, dtype, columns[0], columns[1], columns[2])
    rest = rows - whole * together
    sum_across((start + whole * step, step), min(rest, 1), rest * width, dtype, columns[0], columns[1], columns[2])
    gather(columns[1], inner, together, total)
    gather(columns[2], inner, together, squares)
    return rows * inner


@helper()
def add_along(x: Place, dtype: Any, inner: int, segment: int, tile: Tile, center: Any, total: Any, squares: Any) -> int:
    """The same along their runs."""
    for i in range(len(center)):
        total[i] = squares[i] = 0.0
    added = 0
    for row in range(tile[0], tile[1]):
        address, count = find(x, row, tile[2], inner, segment)
        for i in range(len(center)):
            sums = sum_along(address + i * x[2], x[3], dtype, count, center[i])
            total[i] += sums[0]
            squares[i] += sums[1]
        added += count
    return added


@helper()
def measure(x: Place, dtype: Any, cut: Cut, tile: Tile, mean: Any, m2: Any) -> None:
    """Mean less origin, and M2, of each feature of a tile in that tile.

    A block is measured from the mean of those before it: its sum of squares then exceeds its M2 by no more than
    merging adds again, and nothing cancels. The first, measured from the origin, is short, for that may be an outlier.
    """
    inner, segment, repeat = cut[:3]
    row, last_row, first, last = tile
    origins, center, total, squares = np.empty((4, last - first))
    columns = lined(3, repeat * (last - first) * inner, 0)
    for i in range(last - first):
        origins[i] = origin(x, dtype, first + i)
        mean[i] = m2[i] = 0.0
    before = 0
    while row < last_row:
        stop = min(row + max(1, min(BLOCK // segment, GROWTH * (row - tile[0]))), last_row)
        for i in range(last - first):
            center[i] = origins[i] + mean[i]
        block = row, stop, first, last
        if repeat:
            count = add_across(x, dtype, inner, repeat, block, center, total, squares, columns)
        else:
            count = add_along(x, dtype, inner, segment, block, center, total, squares)
        for i in range(last - first):
            rest = total[i] / count
            _, mean[i], m2[i] = merge(
                before, mean[i], m2[i], count, center[i] - origins[i] + rest, squares[i] - total[i] * rest
            )
        before += count
        row = stop


@jit()
def combine(x: Place, dtype: Any, first: int, counts: Any, means: Any, m2s: Any, mean: Any, low: Any, m2: Any) -> None:
    """Merge what was measured in tiles of the same features; ``mean + low`` is the mean in twice the digits."""
    for i in range(len(mean)):
        mean[i], m2[i] = means[0, i], m2s[0, i]
    before = counts[0]
    for tile in range(1, len(counts)):
        for i in range(len(mean)):
            _, mean[i], m2[i] = merge(before, mean[i], m2[i], counts[tile], means[tile, i], m2s[tile, i])
        before += counts[tile]
    for i in range(len(mean)):
        start, offset = origin(x, dtype, first + i), mean[i]
        mean[i] = start + offset
        shifted = mean[i] - start
        low[i] = (start - (mean[i] - shifted)) + (offset - shifted)


@jit()
def statistics(x: Place, dtype: Any, cut: Cut, turn: Any, means: Any, m2s: Any) -> None:
    """Measure tiles; a row of ``means`` and ``m2s`` belongs to a piece of rows."""
    while True:
        tile = next_tile(turn, cut, False)
        if tile[0] == tile[1]:
            return
        own = slice(tile[2], tile[3])
        measure(x, dtype, cut, tile, means[tile[0] // cut[4], own], m2s[tile[0] // cut[4], own])


# ----------------------------------------------------------------------------------------------------- normalization


@contracted
def normalized(value: Any, mean: Any, low: Any, scale: Any, bias: Any) -> Any:
    """Of a number or of lanes. A mean folded into the bias would cancel digits."""
    return ((value - mean) - low) * scale + bias


@helper(forceinline=True)
def aligned(y: int, count: int, size: int) -> tuple[int, int]:
    """Between which elements whole vectors are, which begin at lines of the cache if there are enough to pay for it."""
    head = -y % LINE // size if count >= WORTH else 0
    return head, head + (count - head) // LANES * LANES


@helper()
def normalize_each(
    x: Line, y: Line, dtype: Any, start: int, stop: int, mean: float, low: float, scale: float, bias: float
) -> None:
    """Normalize some of a run of a feature one by one."""
    for i in range(start, stop):
        store(y[0], i * y[1], dtype, normalized(load(x[0], i * x[1], dtype), mean, low, scale, bias))


@helper()
def normalize_along(
    x: Line, y: Line, dtype: Any, count: int, mean: float, low: float, scale: float, bias: float
) -> None:
    """Normalize a run of a feature."""
    size = size_of(dtype)
    head = stop = count
    if x[1] == size and y[1] == size:
        head, stop = aligned(y[0], count, size)
        means, lows, scales, biases = splat(mean), splat(low), splat(scale), splat(bias)
        for i in range(head, stop, LANES):
            values = normalized(loads(x[0], i * size, dtype), means, lows, scales, biases)
            stores(y[0], i * size, dtype, values)
    normalize_each(x, y, dtype, 0, head, mean, low, scale, bias)
    normalize_each(x, y, dtype, stop, count, mean, low, scale, bias)


@helper()
def normalize_columns(x: Line, y: Line, rows: int, start: int, stop: int, dtype: Any, numbers: Any) -> None:
    """Normalize some columns one by one."""
    size = size_of(dtype)
    mean, low, scale, bias = numbers
    for row in range(rows):
        for i in range(start, stop):
            value = load(x[0] + row * x[1], i * size, dtype)
            store(y[0] + row * y[1], i * size, dtype, normalized(value, mean[i], low[i], scale[i], bias[i]))


@helper()
def normalize_across(x: Line, y: Line, rows: int, width: int, dtype: Any, numbers: Any) -> None:
    """Normalize rows by the numbers of their columns."""
    size, four = size_of(dtype), rows // 4 * 4
    head, stop = aligned(y[0], width, size)
    means, lows = numbers[0].ctypes.data, numbers[1].ctypes.data
    scales, biases = numbers[2].ctypes.data, numbers[3].ctypes.data
    for row in range(0, four, 4):
        x0, y0 = x[0] + row * x[1], y[0] + row * y[1]
        x1, x2, x3 = x0 + x[1], x0 + 2 * x[1], x0 + 3 * x[1]
        for i in range(head, stop, LANES):
            mean, low = loads(means, 8 * i, 1.0), loads(lows, 8 * i, 1.0)
            scale, bias = loads(scales, 8 * i, 1.0), loads(biases, 8 * i, 1.0)
            a = normalized(loads(x0, i * size, dtype), mean, low, scale, bias)
            b = normalized(loads(x1, i * size, dtype), mean, low, scale, bias)
            c = normalized(loads(x2, i * size, dtype), mean, low, scale, bias)
            d = normalized(loads(x3, i * size, dtype), mean, low, scale, bias)
            stores(y0, i * size, dtype, a)
            stores(y0 + y[1], i * size, dtype, b)
            stores(y0 + 2 * y[1], i * size, dtype, c)
            stores(y0 + 3 * y[1], i * size, dtype, d)
    for row in range(four, rows):
        for i in range(head, stop, LANES):
            mean, low = loads(means, 8 * i, 1.0), loads(lows, 8 * i, 1.0)
            scale, bias = loads(scales, 8 * i, 1.0), loads(biases, 8 * i, 1.0)
            value = normalized(loads(x[0] + row * x[1], i * size, dtype), mean, low, scale, bias)
            stores(y[0] + row * y[1], i * size, dtype, value)
    normalize_columns(x, y, rows, 0, head, dtype, numbers)
    normalize_columns(x, y, rows, stop, width, dtype, numbers)


@helper()
def rescale_across(
    x: Place, y: Place, dtype: Any, inner: int, repeat: int, tile: Tile, mean: Any, low: Any, scale: Any, bias: Any
) -> None:
    """Write ``(x - mean - low) * scale + bias`` to a tile of y whose features lie side by side."""
    row, last_row, first, last = tile
    rows, width, own = last_row - row, (last - first) * inner, slice(first, last)
    together = min(repeat, rows)
    source, target = x[0] + row * x[1] + first * x[2], y[0] + row * y[1] + first * y[2]
    head, _ = aligned(target, together * width, size_of(dtype))
    numbers = lined(4, together * width, head)
    spread(mean[own], inner, together, numbers[0])
    spread(low[own], inner, together, numbers[1])
    spread(scale[own], inner, together, numbers[2])
    spread(bias[own], inner, together, numbers[3])
    whole, steps = rows // together, (together * x[1], together * y[1])
    normalize_across((source, steps[0]), (target, steps[1]), whole, together * width, dtype, numbers)
    source, target, rest = source + whole * steps[0], target + whole * steps[1], rows - whole * together
    normalize_across((source, steps[0]), (target, steps[1]), min(rest, 1), rest * width, dtype, numbers)


@helper()
def rescale_along(
    x: Place, y: Place, dtype: Any, inner: int, segment: int, tile: Tile, mean: Any, low: Any, scale: Any, bias: Any
) -> None:
    """The same where runs lie anywhere."""
    for row in range(tile[0], tile[1]):
        source, count = find(x, row, tile[2], inner, segment)
        target, _ = find(y, row, tile[2], inner, segment)
        for i in range(tile[2], tile[3]):
            normalize_along((source, x[3]), (target, y[3]), dtype, count, mean[i], low[i], scale[i], bias[i])
            source += x[2]
            target += y[2]


@helper()
def rescale(x: Place, y: Place, dtype: Any, cut: Cut, tile: Tile, mean: Any, low: Any, scale: Any, bias: Any) -> None:
    """Either of them."""
    inner, segment, repeat = cut[:3]
    if repeat:
        rescale_across(x, y, dtype, inner, repeat, tile, mean, low, scale, bias)
    else:
        rescale_along(x, y, dtype, inner, segment, tile, mean, low, scale, bias)


@jit()
def normalize(
    x: Place,
    y: Place,
    dtype: Any,
    cut: Cut,
    turn: Any,
    backwards: bool,
    mean: Any,
    low: Any,
    scale: Any,
    bias: Any,
) -> None:
    """Write ``(x - mean - low) * scale + bias`` to tiles of y."""
    while True:
        tile = next_tile(turn, cut, backwards)
        if tile[0] == tile[1]:
            return
        rescale(x, y, dtype, cut, tile, mean, low, scale, bias)


@jit()
def invert(variance: Any, divisor: float, epsilon: float, weight: Any, inverse: Any, scale: Any) -> None:
    """``1 / sqrt(variance / divisor + epsilon)``, and that times the weight."""
    for i in range(len(variance)):
        inverse[i] = 1.0 / np.sqrt(variance[i] / divisor + epsilon)
        scale[i] = weight[i] * inverse[i]


@jit()
def train(
    x: Place,
    y: Place,
    dtype: Any,
    cut: Cut,
    turn: Any,
    count: int,
    epsilon: float,
    weight: Any,
    bias: Any,
    mean: Any,
    low: Any,
    m2: Any,
    inverse: Any,
    scale: Any,
) -> None:
    """Statistics of features and their normalization while they are in the cache; a tile has all rows."""
    while True:
        tile = next_tile(turn, cut, False)
        if tile[0] == tile[1]:
            return
        own = slice(tile[2], tile[3])
        offset, squares = np.empty((1, tile[3] - tile[2])), np.empty((1, tile[3] - tile[2]))
        measure(x, dtype, cut, tile, offset[0], squares[0])
        combine(x, dtype, tile[2], np.array([count]), offset, squares, mean[own], low[own], m2[own])
        invert(m2[own], count, epsilon, weight[own], inverse[own], scale[own])
        rescale(x, y, dtype, cut, tile, mean, low, scale, bias)


@jit()
def move(running: Any, batch: Any, divisor: float, rate: float) -> None:
    """Running statistics a step nearer to a batch's."""
    for i in range(len(running)):
        running[i] = (1.0 - rate) * running[i] + rate * (batch[i] / divisor)


# ---------------------------------------------------------------------------------------------------------- backward


@jit()
def differentiate(
    x: Place,
    dy: Place,
    dx: Place,
    dtype: Any,
    shape: tuple[int, int, int],
    batch: bool,
    mean: Any,
    inverse: Any,
    weight: Any,
    dweight: Any,
    dbias: Any,
) -> None:
    """Gradients of features; ``dx`` is not written if its address is 0."""
    outer, features, inner = shape
    for i in range(features):
        total = product = 0.0
        for row in range(outer):
            source, upper = x[0] + row * x[1] + i * x[2], dy[0] + row * dy[1] + i * dy[2]
            for j in range(inner):
                slope = load(upper, j * dy[3], dtype)
                total += slope
                product += slope * (load(source, j * x[3], dtype) - mean[i])
        dbias[i], dweight[i] = total, product * inverse[i]
        scale, offset, tilt = weight[i] * inverse[i], 0.0, 0.0
        if batch:
            offset, tilt = total / (outer * inner), inverse[i] * dweight[i] / (outer * inner)
        for row in range(outer if dx[0] else 0):
            source, upper = x[0] + row * x[1] + i * x[2], dy[0] + row * dy[1] + i * dy[2]
            target = dx[0] + row * dx[1] + i * dx[2]
            for j in range(inner):
                value = load(upper, j * dy[3], dtype)
                if batch:
                    value = value - offset - (load(source, j * x[3], dtype) - mean[i]) * tilt
                store(target, j * dx[3], dtype, value * scale)
