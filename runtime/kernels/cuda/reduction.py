"""Statistics of elements that are spread over threads, warps, blocks and clusters.

The mean of a sample is a pair, the nearest number and a residue below its last bit, so that ``(x - mean) - residue`` is
right even where the standard deviation is a hundred thousandth of the mean, and exactly zero where x is constant.
Samples are put together by Chan's formula in a fixed order: every run gives the same bits.

Deviations are measured from a *pivot*: first from any element, then from about the mean. The mean of m of n elements
is at most sqrt(n / m) standard deviations from that of all, so what is rounded off is small against the spread.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from .primitives import (
    LANES,
    cluster_arrive,
    cluster_leave,
    cluster_wait,
    cuda,
    device,
    read_peer,
    reciprocal,
    shuffle_down,
    shuffle_from,
    shuffle_xor,
)

Number = Any
Integer = Any  # 64 bits, on the device
Array = Any


class Sample(NamedTuple):
    """Statistics of some elements; of two to be merged only the second may be empty."""

    count: Number
    mean: Number
    residue: Number
    m2: Number


@device
def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """Add without error: the rounded sum, and what the rounding lost (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@device
def broadcast(sample: Sample) -> Sample:
    """The sample of the first lane of a warp."""
    return Sample(
        shuffle_from(sample.count, 0),
        shuffle_from(sample.mean, 0),
        shuffle_from(sample.residue, 0),
        shuffle_from(sample.m2, 0),
    )


@device
def combine(sample: Sample, count: Number, distance: Number, m2: Number) -> Sample:
    """Merge a sample with another, whose mean is ``distance`` away: Chan's formula, as in ``statistics.merge``."""
    total = sample.count + count
    share = count * reciprocal(total)
    mean, residue = two_sum(sample.mean, sample.residue + distance * share)
    return Sample(total, mean, residue, sample.m2 + m2 + distance * distance * (sample.count * share))


@device
def sum_lanes(value: Number) -> Number:
    """Sum over a warp; every lane gets the result."""
    mask = LANES >> 1
    while mask > 0:
        value += shuffle_xor(value, mask)
        mask >>= 1
    return value


@device
def sum_warp(value: Number, shared: Array, place: Integer) -> None:
    """Leave each warp's sum in ``shared[place : place + warps]``, for ``sum_block`` after a barrier."""
    warp, lane = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
    value = sum_lanes(value)
    if lane == 0:
        shared[place + warp] = value


@device
def write_sample(array: Array, place: Integer, sample: Sample) -> None:
    """Keep a sample in ``array[place : place + 4]``."""
    array[place] = sample.count
    array[place + 1] = sample.mean
    array[place + 2] = sample.residue
    array[place + 3] = sample.m2


@device
def read_sample(array: Array, place: Integer) -> Sample:
    """Get a sample that was written there."""
    return Sample(array[place], array[place + 1], array[place + 2], array[place + 3])


class Reduction(NamedTuple):
    """The device functions that depend on the arithmetic or on the size of blocks."""

    centred: Any
    merge_lanes: Any
    merge_block: Any
    merge_cluster: Any
    sum_block: Any


@cache
def reduction(real: Any, threads: int, teams: int = 1) -> Reduction:
    """Build the functions that compute in a type, ``numpy.float32`` or ``numpy.float64``, for blocks of a size.

    A block may be some teams, of so many threads each, that have a sample of their own; ``merge_block`` is for one.
    """
    warps, slots, numbers = threads // LANES, 4 * threads // LANES, 4 * teams

    @device
    def centred(count: Number, pivot: Number, total: Number, square: Number) -> Sample:
        """Sample of elements of which deviations from a pivot near their mean, and their squares, were summed."""
        distance = total * reciprocal(count)
        mean, residue = two_sum(pivot, distance)
        m2 = square - total * distance
        return Sample(count, mean, residue, real(0) if m2 < real(0) else m2)

    @device
    def merge_lanes(sample: Sample, lanes: Integer) -> Sample:
        """Merge the samples of a warp's first lanes, a power of 2; the first lane gets the result."""
        lanes >>= 1
        while lanes > 0:
            count, m2 = shuffle_down(sample.count, lanes), shuffle_down(sample.m2, lanes)
            distance = shuffle_down(sample.mean, lanes) - sample.mean
            distance += shuffle_down(sample.residue, lanes) - sample.residue
            merged = combine(sample, count, distance, m2)
            if count > real(0):
                sample = merged
            lanes >>= 1
        return sample

    @device
    def merge_block(sample: Sample) -> Sample:
        """Merge the samples of a block's threads; every thread gets the result."""
        shared = cuda.shared.array(slots, real)
        warp, lane = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
        sample = merge_lanes(sample, LANES)
        if lane == 0:
            write_sample(shared, 4 * warp, sample)
        cuda.syncthreads()
        sample = Sample(real(0), real(0), real(0), real(0))
        if lane < warps:
            sample = read_sample(shared, 4 * lane)
        return broadcast(merge_lanes(sample, warps))

    @device
    def merge_cluster(sample: Sample, blocks: Integer) -> Sample:
        """Merge the samples of a cluster's blocks; every thread gets the result, and waits for the cluster at its end.

        Until then its peers may read the block's shared memory.
        """
        shared = cuda.shared.array(numbers, real)
        lane = cuda.threadIdx.x % LANES
        place = 4 * (cuda.threadIdx.x // threads) if teams > 1 else 0
        if cuda.threadIdx.x % threads == 0:
            write_sample(shared, place, sample)
        cluster_arrive()
        cluster_wait()
        sample = Sample(real(0), real(0), real(0), real(0))
        if lane < blocks:
            sample = Sample(
                read_peer(shared, place, lane),
                read_peer(shared, place + 1, lane),
                read_peer(shared, place + 2, lane),
                read_peer(shared, place + 3, lane),
            )
        sample = broadcast(merge_lanes(sample, blocks))
        cluster_leave()
        return sample

    @device
    def sum_block(shared: Array, place: Integer) -> Number:
        """Sum over the warps."""
        total = real(0)
        for warp in range(warps):
            total += shared[place + warp]
        return total

    return Reduction(centred, merge_lanes, merge_block, merge_cluster, sum_block)
