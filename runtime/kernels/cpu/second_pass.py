"""The output of a tile, from the numbers of its features."""

from __future__ import annotations

from typing import Any

import numpy as np

from normspec.runtime.kernels.cpu.features import taken
from normspec.runtime.kernels.cpu.jit import contracted, helper, inlined
from normspec.runtime.kernels.cpu.simd import LINE, load, loads, real, size_of, splat, store, stores, streams, zeros
from normspec.runtime.kernels.cpu.tables import GAIN, MEAN, SCALE, SHIFT, Table, entry, number, part, spread
from normspec.runtime.kernels.cpu.tiles import (
    AHEAD,
    Place,
    Plan,
    Tile,
    ask,
    corner,
    joined,
    moved,
    packed,
    run_of,
    values_before,
)

SMALLEST, GREATEST = 2.0**-126, 2.0**100  # numbers of a feature that float32 normalizes with


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
                strange |= not representable(number(entry(own, kind, i), 0))
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
def output(x: Place, dy: Any, at: int, dtype: Any, numbers: Any, first: int, last: int) -> Any:
    """As many values as lanes, or some of them."""
    upper = None
    if dy is not None:
        upper = loads(dy.address, at, dtype, numbers[0], first, last)
    return normalized(loads(x.address, at, dtype, numbers[0], first, last), upper, numbers)


@inlined
def write(x: Place, dy: Any, y: Place, at: int, dtype: Any, numbers: Any, first: int, last: int, past: bool) -> None:
    """As many values as lanes, some of them, or past the cache all."""
    value = output(x, dy, at, dtype, numbers, first, last)
    if past:
        streams(y.address, at, dtype, value)
    else:
        stores(y.address, at, dtype, value, first, last)


@inlined
def write_columns(
    x: Place, dy: Any, y: Place, i: int, dtype: Any, columns: Table, first: int, last: int, past: bool
) -> None:
    """Values of as many columns as lanes, or of some of them."""
    like, lanes = real(0.0, dtype), LINE // size_of(dtype)
    at, here, nothing = i * size_of(dtype), i * size_of(like), zeros(dtype, like)
    ask(x, at, AHEAD)
    ask(dy, at, AHEAD)
    mean = loads(entry(columns, MEAN, 0), here, like, nothing, 0, lanes)
    scale = loads(entry(columns, SCALE, 0), here, like, nothing, 0, lanes)
    shift, gain = loads(entry(columns, SHIFT, 0), here, like, nothing, 0, lanes), nothing
    if dy is not None:
        gain = loads(entry(columns, GAIN, 0), here, like, nothing, 0, lanes)
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
        if past and target.address % LINE == 0:
            for i in range(begin, whole, lanes):
                write_columns(lower, upper, target, i, dtype, columns, 0, lanes, True)
        else:
            for i in range(begin, whole, lanes):
                write_columns(lower, upper, target, i, dtype, columns, 0, lanes, False)
        if begin <= whole < end:
            write_columns(lower, upper, target, whole, dtype, columns, 0, end - whole, False)


@helper()
def rescale_across(x: Place, dy: Any, y: Place, dtype: Any, plan: Plan, tile: Tile, own: Table, columns: Table) -> None:
    """A tile whose features lie side by side."""
    inner, rows, count = plan.inner, tile.row_end - tile.row, tile.feature_end - tile.feature
    together, width = min(plan.repeat, rows), count * inner
    lower = joined(corner(x, tile.row, tile.feature), together)
    upper = joined(corner(dy, tile.row, tile.feature), together)
    target = joined(corner(y, tile.row, tile.feature), together)
    skip, like = aligned(target.address, dtype), real(0.0, dtype)
    for kind in range(3 if dy is None else 4):
        line = entry(columns, kind, 0) + skip * size_of(like)
        spread(entry(own, kind, 0), count, inner, together, line, like)
    whole = rows // together
    write_across(lower, upper, target, whole, skip, together * width, dtype, plan.past, columns)
    rest = rows - whole * together
    if rest:
        lower, upper, target = corner(lower, whole, 0), corner(upper, whole, 0), corner(target, whole, 0)
        write_across(lower, upper, target, 1, skip, rest * width, dtype, plan.past, columns)


@helper()
def write_packed(x: Place, dy: Any, y: Place, dtype: Any, count: int, past: bool, numbers: Any) -> None:
    """A run of a feature whose values are side by side.

    What is left at its ends is written with what is beside it, for a mask costs more: it is read before it may be
    overwritten.
    """
    size, lanes = size_of(dtype), LINE // size_of(dtype)
    like = zeros(dtype, numbers[0])
    same = splat(numbers[0], like), splat(numbers[1], like), splat(numbers[2], like), splat(numbers[3], like)
    if count < lanes:
        write(x, dy, y, 0, dtype, same, 0, count, False)
        return
    end = (count - lanes) * size
    first, last = output(x, dy, 0, dtype, same, 0, lanes), output(x, dy, end, dtype, same, 0, lanes)
    if past and y.address % size == 0:
        begin = -y.address % LINE // size
        whole = begin + (count - begin) // lanes * lanes
        for i in range(begin, whole, lanes):
            write(x, dy, y, i * size, dtype, same, 0, lanes, True)
        if begin:
            stores(y.address, 0, dtype, first, 0, begin)
        if whole < count:
            stores(y.address, end, dtype, last, lanes - count + whole, lanes)
    else:
        for i in range(lanes, count - lanes, lanes):
            write(x, dy, y, i * size, dtype, same, 0, lanes, False)
        stores(y.address, 0, dtype, first, 0, lanes)
        stores(y.address, end, dtype, last, 0, lanes)


@helper()
def write_strided(x: Place, dy: Any, y: Place, dtype: Any, count: int, numbers: Any) -> None:
    """A run of a feature with any step."""
    for i in range(count):
        upper = None
        if dy is not None:
            upper = real(load(dy.address, i * dy.value_stride, dtype), dtype)
        value = normalized(real(load(x.address, i * x.value_stride, dtype), dtype), upper, numbers)
        store(y.address, i * y.value_stride, dtype, value)


@helper()
def rescale_along(x: Place, dy: Any, y: Place, dtype: Any, plan: Plan, tile: Tile, own: Table) -> None:
    """A tile whose runs lie anywhere."""
    side_by_side = packed(x, dtype) and packed(dy, dtype) and packed(y, dtype)
    for row in range(tile.row, tile.row_end):
        count = values_before(row + 1, plan) - values_before(row, plan)
        lower, upper = run_of(x, row, tile.feature, plan), run_of(dy, row, tile.feature, plan)
        target = run_of(y, row, tile.feature, plan)
        for i in range(tile.feature_end - tile.feature):
            places = corner(lower, 0, i), corner(upper, 0, i), corner(target, 0, i)
            mean, scale = taken(number(entry(own, MEAN, i), 0), dtype), number(entry(own, SCALE, i), 0)
            shift, gain = number(entry(own, SHIFT, i), 0), 0.0
            if dy is not None:
                gain = number(entry(own, GAIN, i), 0)
            numbers = real(mean, dtype), real(scale, dtype), real(shift, dtype), real(gain, dtype)
            if not ordinary(part(own, 0, i), 1, 3 if dy is None else 4, dtype):
                write_strided(*places, dtype, count, (mean, scale, shift, gain))
            elif side_by_side:
                write_packed(*places, dtype, count, plan.past, numbers)
            else:
                write_strided(*places, dtype, count, numbers)


@inlined
def rescale(x: Place, dy: Any, y: Place, dtype: Any, plan: Plan, tile: Tile, table: Table, columns: Table) -> None:
    """Write the output of a tile."""
    own = part(table, 0, tile.feature)
    if plan.repeat and ordinary(own, tile.feature_end - tile.feature, 3 if dy is None else 4, dtype):
        rescale_across(x, dy, y, dtype, plan, tile, own, columns)
    else:
        rescale_along(x, dy, y, dtype, plan, tile, own)
