"""Between the passes: from sums of features, or given statistics, to the numbers that the second pass takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from normspec.runtime.kernels.cpu.first_pass import merge
from normspec.runtime.kernels.cpu.jit import helper, inlined
from normspec.runtime.kernels.cpu.simd import real
from normspec.runtime.kernels.cpu.tables import (
    DBIAS,
    DWEIGHT,
    EIGHT,
    GAIN,
    INVSTD,
    M2,
    MEAN,
    PARTS,
    SCALE,
    SHIFT,
    Table,
    Vector,
    entry,
    number,
    numbers,
    put,
    puts,
    read,
)
from normspec.runtime.kernels.cpu.tiles import Place, Plan, origin, pieces, samples, values_before


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
def finish_training(
    x: Place, dtype: Any, plan: Plan, first: int, last: int, weight: Vector, bias: Vector, epsilon: float, table: Table
) -> None:
    """From what was measured in pieces of rows to all that is known of features, and the numbers to normalize with.

    The mean is rounded to float64, and again if the dtype is normalized with float32.
    """
    width, scale = last - first, entry(table, SCALE, first)
    read(weight, 1.0, first, width, scale)
    read(bias, 0.0, first, width, entry(table, SHIFT, first))
    count, offsets, m2s = values_before(plan.rows, plan), entry(table, PARTS, first), entry(table, PARTS + 1, first)
    for piece in range(1, pieces(plan)):
        row = piece * plan.row_step
        before, stop = values_before(row, plan), values_before(min(row + plan.row_step, plan.rows), plan)
        other, other_m2s = entry(table, PARTS + 2 * piece, first), entry(table, PARTS + 2 * piece + 1, first)
        for i in range(0, width, EIGHT):
            known, known_m2 = numbers(offsets, i, width), numbers(m2s, i, width)
            own, own_m2 = numbers(other, i, width), numbers(other_m2s, i, width)
            _, offset, squares = merge(before, known, known_m2, stop - before, own, own_m2)
            puts(offsets, i, width, offset)
            puts(m2s, i, width, squares)
    places = samples(x, plan)
    for i in range(width):
        offset, squares = number(offsets, i), number(m2s, i)
        if np.isnan(squares) and np.isfinite(offset):  # squares of finite values have overflowed
            squares = np.inf
        start = origin(places, (first + i) * x.feature_stride, dtype)
        mean, invstd = start + offset, 1.0 / np.sqrt(squares / count + epsilon)
        rounded = mean - start
        low = (start - (mean - rounded)) + (offset - rounded) + (mean - taken(mean, dtype))
        put(entry(table, MEAN, first), i, mean)
        put(entry(table, M2, first), i, squares)
        put(entry(table, INVSTD, first), i, invstd)
        put(scale, i, number(scale, i) * invstd)
        compensate(table, first + i, low)


@helper()
def prepare_evaluation(
    count: int, dtype: Any, mean: Vector, variance: Vector, weight: Vector, bias: Vector, epsilon: float, table: Table
) -> None:
    """The numbers to normalize so many features with by statistics that are given; GAIN has 1 / deviation."""
    scale, invstd = entry(table, SCALE, 0), entry(table, GAIN, 0)
    read(mean, 0.0, 0, count, entry(table, MEAN, 0))
    read(weight, 1.0, 0, count, scale)
    read(bias, 0.0, 0, count, entry(table, SHIFT, 0))
    read(variance, 1.0, 0, count, invstd)
    for i in range(count):
        put(invstd, i, 1.0 / np.sqrt(number(invstd, i) + epsilon))
        put(scale, i, number(scale, i) * number(invstd, i))
        center = number(entry(table, MEAN, 0), i)
        compensate(table, i, center - taken(center, dtype))


@helper()
def finish_backward(
    dtype: Any, plan: Plan, first: int, last: int, mean: Vector, invstd: Vector, weight: Vector, table: Table
) -> None:
    """From sums in pieces of rows to the gradients of features' weights and biases, and the numbers for that of x."""
    dweight, gain = entry(table, DWEIGHT, first), entry(table, GAIN, first)
    read(mean, 0.0, first, last - first, entry(table, MEAN, first))
    read(invstd, 1.0, first, last - first, dweight)
    read(weight, 1.0, first, last - first, gain)
    count = values_before(plan.rows, plan)
    for i in range(last - first):
        dbias = product = 0.0
        for piece in range(pieces(plan)):
            dbias += number(entry(table, PARTS + 2 * piece, first), i)
            product += number(entry(table, PARTS + 2 * piece + 1, first), i)
        inverse, slope = number(dweight, i), number(gain, i) * number(dweight, i)
        product *= inverse
        put(dweight, i, product)
        put(entry(table, DBIAS, first), i, dbias)
        put(gain, i, slope)
        put(entry(table, SCALE, first), i, -slope * (inverse * product / count))
        put(entry(table, SHIFT, first), i, -slope * (dbias / count))
        center = number(entry(table, MEAN, first), i)
        compensate(table, first + i, center - taken(center, dtype))
