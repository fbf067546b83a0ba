"""Statistics of elements that are spread over threads, warps and blocks.

A sample is ``(count, mean, residue, M2)``: its mean is a pair, the nearest number and a residue below its last bit, so
that ``(x - mean) - residue`` is right even where the standard deviation is a hundred thousandth of the mean, and just
zero where x is constant. Samples are put together by Chan's formula in a fixed order: every run gives the same bits. Of
two samples only the second may be empty, so the threads that have no elements come last.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from .. import statistics
from .primitives import LANES, cuda, device, shuffle_down, shuffle_from

Number = Any
Integer = Any  # 64 bits, on the device
Sample = tuple[Number, Number, Number, Number]
WARPS = 32  # of a block, at most

merge = device(statistics.merge)


@device
def slice_bounds(total: Integer, slices: Integer, index: Integer) -> tuple[Integer, Integer]:
    """First and end of a slice; empty slices, if any, come last."""
    length = (total + slices - 1) // slices
    return min(total, index * length), min(total, (index + 1) * length)


@device
def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """Add without error: the rounded sum, and what the rounding lost (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


class Reduction(NamedTuple):
    """The device functions in one arithmetic."""

    combine: Any
    merge_warp: Any
    merge_block: Any


@cache
def reduction(real: Any) -> Reduction:
    """Build the functions that compute in a type, ``numpy.float32`` or ``numpy.float64``."""

    @device
    def combine(
        count: Number, mean: Number, residue: Number, m2: Number, more: Number, distance: Number, more_m2: Number
    ) -> Sample:
        """Merge a sample with another, of ``more`` elements, whose mean is ``distance`` away."""
        total, step, m2 = merge(count, real(0), m2, more, distance, more_m2)
        mean, residue = two_sum(mean, residue + step)
        return total, mean, residue, m2

    @device
    def merge_warp(count: Number, mean: Number, residue: Number, m2: Number) -> Sample:
        """Merge the samples of a warp's lanes; only lane 0 gets the result."""
        lanes = LANES >> 1
        while lanes > 0:
            more = shuffle_down(count, lanes)
            other = shuffle_down(mean, lanes)
            distance = (other - mean) + (shuffle_down(residue, lanes) - residue)
            more_m2 = shuffle_down(m2, lanes)
            if more > real(0):
                count, mean, residue, m2 = combine(count, mean, residue, m2, more, distance, more_m2)
            lanes >>= 1
        return count, mean, residue, m2

    @device
    def merge_block(count: Number, mean: Number, residue: Number, m2: Number) -> Sample:
        """Merge the samples of a block's threads; every thread gets the result."""
        shared = cuda.shared.array(4 * WARPS, real)
        thread, warps = cuda.threadIdx.x, cuda.blockDim.x // LANES
        warp, lane = thread // LANES, thread % LANES
        count, mean, residue, m2 = merge_warp(count, mean, residue, m2)
        if lane == 0:
            shared[4 * warp] = count
            shared[4 * warp + 1] = mean
            shared[4 * warp + 2] = residue
            shared[4 * warp + 3] = m2
        cuda.syncthreads()
        count = mean = residue = m2 = real(0)
        if lane < warps:
            count, mean = shared[4 * lane], shared[4 * lane + 1]
            residue, m2 = shared[4 * lane + 2], shared[4 * lane + 3]
        count, mean, residue, m2 = merge_warp(count, mean, residue, m2)
        return shuffle_from(count, 0), shuffle_from(mean, 0), shuffle_from(residue, 0), shuffle_from(m2, 0)

    return Reduction(combine, merge_warp, merge_block)
