"""The loops: each is compiled once for a dtype and runs without the GIL.

``x`` and ``y`` come as ``(address, *strides)`` in bytes and not as arrays, of which numba would compile for every
layout and mutability anew. The floats of 16 bits, which numba lacks on CPUs, come as integers of the same bits: int16
is float16, uint16 is bfloat16. All arithmetic is in float64, and every vector is.

A *row* is a run of at most ``segment`` values of each feature, so that a long ``inner`` is cut like a long ``outer``.
A *tile* is ``(row, last row, feature, last feature)``, the lasts excluded.

numba's cache of a function does not notice a change in the functions it calls in other files: ``merge`` is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from normspec.runtime.kernels import statistics as formulas

F = TypeVar("F", bound=Callable[..., Any])
Place = tuple[int, int, int, int]
Face = tuple[int, int, int]  # a place whose inner is 1
Line = tuple[int, int]  # address and step of a run
Tile = tuple[int, int, int, int]

BLOCK = 4096  # values of a feature that are summed before they are merged

BITS: dict[Any, ir.Type] = {
    types.int16: ir.IntType(16),
    types.uint16: ir.IntType(16),
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
}
INT16, INT32, DOUBLE = ir.IntType(16), ir.IntType(32), ir.DoubleType()


def jit(**options: Any) -> Callable[[F], F]:
    """`numba.njit` as everything here wants it, typed. What is not said about fastmath, callers would decide."""
    options = {"fastmath": False, **options}
    compiler: Callable[[F], F] = numba.njit(cache=True, nogil=True, error_model="numpy", **options)
    return compiler


def instruction(generator: Callable[..., Any]) -> Any:
    """`numba.extending.intrinsic`, which mypy takes for its generator."""
    return intrinsic(generator)


# A loop is written once, as a template, and compiled twice into its user: with a step that LLVM knows, which it can
# vectorize, and with one that it does not. NaN and infinity keep their meaning.
template = jit(inline="always")
user = jit(fastmath={"reassoc", "contract", "nsz"})
merge = jit()(formulas.merge)


# ------------------------------------------------------------------------------------------------- numbers in memory


def widen(builder: Any, value: Any, dtype: Any) -> Any:
    """Any element to float64."""
    if dtype == types.uint16:
        value = builder.shl(builder.zext(value, INT32), INT32(16))
        value = builder.bitcast(value, ir.FloatType())
    elif dtype == types.int16:
        value = builder.bitcast(value, ir.HalfType())
    return value if dtype == types.float64 else builder.fpext(value, DOUBLE)


def narrow(builder: Any, value: Any, dtype: Any) -> Any:
    """The float64 to the nearest element, ties to even; through float32 if to 16 bits, as processors do."""
    if dtype == types.float64:
        return value
    value = builder.fptrunc(value, ir.FloatType())
    if dtype == types.int16:
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), INT16)
    if dtype == types.uint16:
        bits = builder.bitcast(value, INT32)
        odd = builder.and_(builder.lshr(bits, INT32(16)), INT32(1))
        rounded = builder.add(bits, builder.add(odd, INT32(0x7FFF)))
        quiet = builder.or_(bits, INT32(0x400000))  # rounding could carry a NaN over into infinity
        bits = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
        return builder.trunc(builder.lshr(bits, INT32(16)), INT16)
    return value


def pointer(builder: Any, dtype: Any, address: Any, offset: Any) -> Any:
    """To the element; base and offset stay apart because LLVM vectorizes only what it sees as one base and steps."""
    start = builder.inttoptr(address, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), BITS[dtype].as_pointer())


@instruction
def load(context: Any, address: Any, offset: Any, dtype: Any) -> Any:
    """The element ``offset`` bytes behind the address, as float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(pointer(builder, dtype.dtype, *arguments[:2]))
        value.align = 1
        return widen(builder, value, dtype.dtype)

    return types.float64(types.intp, types.intp, dtype), generate


@instruction
def store(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write a float64 as the element ``offset`` bytes behind the address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = narrow(builder, arguments[3], dtype.dtype)
        builder.store(element, pointer(builder, dtype.dtype, *arguments[:2])).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, types.float64), generate


@instruction
def size_of(context: Any, dtype: Any) -> Any:
    """Bytes of an element, a constant: a loop whose step is one is vectorized."""
    return types.intp(dtype), lambda context, builder, *_: ir.IntType(64)(dtype.dtype.bitwidth // 8)


@jit(forceinline=True)
def find(x: Place, row: int, feature: int, inner: int, segment: int) -> tuple[int, int]:
    """Address and length of a feature's run in a row."""
    segments = (inner + segment - 1) // segment
    start = row % segments * segment
    return x[0] + row // segments * x[1] + feature * x[2] + start * x[3], min(segment, inner - start)


@jit(forceinline=True)
def face(x: Place, row: int, feature: int) -> Face:
    """A part that starts at a row and a feature, if inner is 1."""
    return x[0] + row * x[1] + feature * x[2], x[1], x[2]


@jit(forceinline=True)
def origin(x: Place, dtype: Any, feature: int) -> float:
    """What a feature's values are measured from: one of them, so that a constant feature has no rounding at all."""
    value: float = load(x[0], feature * x[2], dtype)
    return value


# -------------------------------------------------------------------------------------------------------- statistics


@jit(forceinline=True)
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


@template
def _each_sum_across(x: Any, rows: int, dtype: Any, center: Any, total: Any, squares: Any) -> None:
    for row in range(rows):
        for i in range(len(center)):
            deviation = difference(load(x[0] + row * x[1], i * x[2], dtype), center[i])
            total[i] += deviation
            squares[i] += deviation * deviation


@user
def sum_along(address: int, step: int, dtype: Any, count: int, center: float) -> tuple[float, float]:
    """Sum of the deviations of a feature's run, and of their squares."""
    if step == size_of(dtype):
        return _each_sum_along(address, size_of(dtype), dtype, count, center)
    return _each_sum_along(address, step, dtype, count, center)


@user
def sum_across(x: Face, rows: int, dtype: Any, center: Any, total: Any, squares: Any) -> None:
    """Add the deviations of rows of one value of each feature, and their squares."""
    if x[2] == size_of(dtype):
        _each_sum_across((x[0], x[1], size_of(dtype)), rows, dtype, center, total, squares)
    else:
        _each_sum_across(x, rows, dtype, center, total, squares)


@jit()
def add_rows(
    x: Place,
    dtype: Any,
    inner: int,
    segment: int,
    rows: tuple[int, int],
    first: int,
    center: Any,
    total: Any,
    squares: Any,
) -> int:
    """Add the deviations in rows, and their squares, to the sums of each feature; how many those were."""
    if inner == 1:
        sum_across(face(x, rows[0], first), rows[1] - rows[0], dtype, center, total, squares)
        return rows[1] - rows[0]
    added = 0
    for row in range(rows[0], rows[1]):
        address, count = find(x, row, first, inner, segment)
        for i in range(len(center)):
            sums = sum_along(address + i * x[2], x[3], dtype, count, center[i])
            total[i] += sums[0]
            squares[i] += sums[1]
        added += count
    return added


@jit()
def statistics(x: Place, dtype: Any, inner: int, segment: int, tile: Tile, mean: Any, m2: Any) -> None:
    """Mean less origin, and M2, of each feature of a tile in that tile.

    A block is measured from the mean of those before it: its sum of squares then exceeds its M2 by no more than
    merging adds again, and nothing cancels. The first, measured from the origin, is short, for that may be an outlier.
    """
    row, last_row, first, last = tile
    origins, center, total, squares = np.empty((4, last - first))
    for i in range(last - first):
        origins[i] = origin(x, dtype, first + i)
        mean[i] = m2[i] = 0.0
    before = 0
    while row < last_row:
        stop = min(row + max(1, min(BLOCK // segment, 8 * (row - tile[0]))), last_row)
        for i in range(last - first):
            center[i] = origins[i] + mean[i]
            total[i] = squares[i] = 0.0
        count = add_rows(x, dtype, inner, segment, (row, stop), first, center, total, squares)
        for i in range(last - first):
            rest = total[i] / count
            _, mean[i], m2[i] = merge(
                before, mean[i], m2[i], count, center[i] - origins[i] + rest, squares[i] - total[i] * rest
            )
        before += count
        row = stop


@jit()
def combine(x: Place, dtype: Any, first: int, counts: Any, means: Any, m2s: Any, mean: Any, low: Any, m2: Any) -> None:
    """Merge what `statistics` found in tiles of the same features; ``mean + low`` is the mean in twice the digits."""
    for i in range(len(mean)):
        count, offset, m2[i] = counts[0], means[0, i], m2s[0, i]
        for tile in range(1, len(counts)):
            count, offset, m2[i] = merge(count, offset, m2[i], counts[tile], means[tile, i], m2s[tile, i])
        start = origin(x, dtype, first + i)
        mean[i] = start + offset
        shifted = mean[i] - start
        low[i] = (start - (mean[i] - shifted)) + (offset - shifted)


# ----------------------------------------------------------------------------------------------------- normalization


@jit()
def normalized(value: float, mean: float, low: float, scale: float, bias: float) -> float:
    """A mean folded into the bias would cancel digits."""
    return ((value - mean) - low) * scale + bias


@template
def _each_along(x: Any, y: Any, dtype: Any, count: int, mean: float, low: float, scale: float, bias: float) -> None:
    for i in range(count):
        store(y[0], i * y[1], dtype, normalized(load(x[0], i * x[1], dtype), mean, low, scale, bias))


@template
def _each_across(x: Any, y: Any, rows: int, dtype: Any, mean: Any, low: Any, scale: Any, bias: Any) -> None:
    for row in range(rows):
        for i in range(len(mean)):
            value = load(x[0] + row * x[1], i * x[2], dtype)
            value = normalized(value, mean[i], low[i], scale[i], bias[i])
            store(y[0] + row * y[1], i * y[2], dtype, value)


@user
def normalize_along(
    x: Line, y: Line, dtype: Any, count: int, mean: float, low: float, scale: float, bias: float
) -> None:
    """Normalize a run of a feature; in place is told apart, for LLVM would take it for an overlap."""
    size = size_of(dtype)
    if x[1] == size and x == y:
        _each_along((x[0], size), (x[0], size), dtype, count, mean, low, scale, bias)
    elif x[1] == size and y[1] == size:
        _each_along((x[0], size), (y[0], size), dtype, count, mean, low, scale, bias)
    else:
        _each_along(x, y, dtype, count, mean, low, scale, bias)


@user
def normalize_across(x: Face, y: Face, rows: int, dtype: Any, mean: Any, low: Any, scale: Any, bias: Any) -> None:
    """Normalize rows of one value of each feature."""
    size = size_of(dtype)
    if x[2] == size and x == y:
        _each_across((x[0], x[1], size), (x[0], x[1], size), rows, dtype, mean, low, scale, bias)
    elif x[2] == size and y[2] == size:
        _each_across((x[0], x[1], size), (y[0], y[1], size), rows, dtype, mean, low, scale, bias)
    else:
        _each_across(x, y, rows, dtype, mean, low, scale, bias)


@jit()
def normalize(
    x: Place, y: Place, dtype: Any, inner: int, segment: int, tile: Tile, mean: Any, low: Any, scale: Any, bias: Any
) -> None:
    """Write ``(x - mean - low) * scale + bias`` to a tile of y."""
    row, last_row, first, last = tile
    if inner == 1:
        part, own = (face(x, row, first), face(y, row, first)), slice(first, last)
        normalize_across(part[0], part[1], last_row - row, dtype, mean[own], low[own], scale[own], bias[own])
        return
    while row < last_row:
        source, count = find(x, row, first, inner, segment)
        target, _ = find(y, row, first, inner, segment)
        for i in range(first, last):
            normalize_along((source, x[3]), (target, y[3]), dtype, count, mean[i], low[i], scale[i], bias[i])
            source += x[2]
            target += y[2]
        row += 1


@jit()
def train(
    x: Place,
    dtype: Any,
    inner: int,
    segment: int,
    y: Place,
    tile: Tile,
    weight: Any,
    bias: Any,
    epsilon: float,
    count: int,
    mean: Any,
    low: Any,
    m2: Any,
    scale: Any,
) -> None:
    """Statistics of features and their normalization while they are in the cache."""
    first, own = tile[2], slice(tile[2], tile[3])
    offset, spread = np.empty((1, tile[3] - first)), np.empty((1, tile[3] - first))
    statistics(x, dtype, inner, segment, tile, offset[0], spread[0])
    combine(x, dtype, first, np.array([count]), offset, spread, mean[own], low[own], m2[own])
    for feature in range(first, tile[3]):
        scale[feature] = weight[feature] * (1.0 / np.sqrt(m2[feature] / count + epsilon))
    normalize(x, y, dtype, inner, segment, tile, mean, low, scale, bias)
