"""The kernels: one block reduces or normalizes one slice of one feature's elements.

A feature's ``outer * inner`` elements are numbered row by row and cut into ``gridDim.y`` slices. ``reduce`` leaves
``(mean, residue, M2)`` of every slice in ``partial``, and each block of ``train`` merges its feature's slices again by
itself: no atomics, nothing to zero, and the same bits in every run.

A mean is a pair, the nearest number and a residue below its last bit, so that ``(x - mean) - residue`` is right even
where the standard deviation is a hundred thousandth of the mean, and exactly zero where x is constant. Float64 occurs
in the kernels of narrower inputs only where statistics come in or go out, once a block.

A squared deviation must fit the arithmetic: float32 inputs that spread over more than about 1e18 / sqrt(n) get an
infinite variance, hence the bias (or NaN) as output. A feature that holds a NaN or an infinity gets NaN, no other does.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from .. import statistics
from .strided import device, kernel, load, store

THREADS = 256  # of a block, at most; always a power of two
CHUNK = 8  # elements of a thread that are merged into its statistics at once

Array = Any
Integer = Any  # 64 bits, on the device
Number = Any

merge = device(statistics.merge)


class Kernels(NamedTuple):
    """The kernels in one arithmetic."""

    reduce: Any
    moments: Any
    train: Any
    infer: Any


@device
def bounds(total: Integer, slices: Integer, index: Integer) -> tuple[Integer, Integer]:
    """First and end of a slice; empty slices, if any, come last."""
    length = (total + slices - 1) // slices
    return min(total, index * length), min(total, (index + 1) * length)


@device
def add(a: Number, b: Number) -> tuple[Number, Number]:
    """Add without error: the rounded sum, and what the rounding lost (Knuth's TwoSum)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@cache
def kernels(real: Any) -> Kernels:
    """Build the kernels that compute in a type, ``numpy.float32`` or ``numpy.float64``."""

    @device
    def combine(
        count: Integer, mean: Number, residue: Number, m2: Number, more: Integer, distance: Number, more_m2: Number
    ) -> tuple[Integer, Number, Number, Number]:
        """Merge statistics with those of ``more`` elements, whose mean is ``distance`` away."""
        _, step, m2 = merge(real(count), real(0), m2, real(more), distance, more_m2)
        mean, residue = add(mean, residue + step)
        return count + more, mean, residue, m2

    @device
    def gather(count: Integer, mean: Number, residue: Number, m2: Number) -> tuple[Integer, Number, Number, Number]:
        """Merge the statistics of a block's threads, of which none is empty before one that is not."""
        thread = cuda.threadIdx.x
        counts = cuda.shared.array(THREADS, np.int64)
        means = cuda.shared.array(THREADS, real)
        residues = cuda.shared.array(THREADS, real)
        m2s = cuda.shared.array(THREADS, real)
        counts[thread] = count
        means[thread] = mean
        residues[thread] = residue
        m2s[thread] = m2
        half = cuda.blockDim.x >> 1
        while half > 0:
            cuda.syncthreads()
            other = thread + half
            if thread < half and counts[other] > 0:
                distance = (means[other] - mean) + (residues[other] - residue)
                count, mean, residue, m2 = combine(count, mean, residue, m2, counts[other], distance, m2s[other])
                counts[thread] = count
                means[thread] = mean
                residues[thread] = residue
                m2s[thread] = m2
            half >>= 1
        cuda.syncthreads()
        return counts[0], means[0], residues[0], m2s[0]

    @device
    def gather_slices(partial: Array, total: Integer, feature: Integer) -> tuple[Integer, Number, Number, Number]:
        """Merge a feature's slices, of which there are no more than threads."""
        thread = np.int64(cuda.threadIdx.x)
        slices = partial.shape[1]
        count = np.int64(0)
        mean = residue = m2 = real(0)
        if thread < slices:
            start, stop = bounds(total, slices, thread)
            count = stop - start
            mean = partial[feature, thread, 0]
            residue = partial[feature, thread, 1]
            m2 = partial[feature, thread, 2]
        return gather(count, mean, residue, m2)

    @device
    def write(
        x: Array, y: Array, feature: Integer, mean: Number, residue: Number, scale: Number, shift: Number
    ) -> None:
        """Normalize this block's slice."""
        inner, width = x.shape[2], np.int64(cuda.blockDim.x)
        start, stop = bounds(x.shape[0] * inner, np.int64(cuda.gridDim.y), np.int64(cuda.blockIdx.y))
        rows, columns = width // inner, width % inner
        place = start + np.int64(cuda.threadIdx.x)
        row, column = place // inner, place % inner
        while place < stop:
            store(y, row, feature, column, ((load(x, row, feature, column) - mean) - residue) * scale + shift)
            place += width
            row += rows
            column += columns
            if column >= inner:
                row += 1
                column -= inner

    @kernel
    def reduce(x: Array, partial: Array) -> None:
        """Mean, residue and M2 of each slice."""
        feature, index = np.int64(cuda.blockIdx.x), np.int64(cuda.blockIdx.y)
        inner, width = x.shape[2], np.int64(cuda.blockDim.x)
        start, stop = bounds(x.shape[0] * inner, np.int64(cuda.gridDim.y), index)
        rows, columns = width // inner, width % inner
        place = start + np.int64(cuda.threadIdx.x)
        row, column = place // inner, place % inner
        distances = cuda.local.array(CHUNK, real)
        count = np.int64(0)
        mean = residue = m2 = real(0)
        if place < stop:
            mean = load(x, row, feature, column)  # only where the first distances are measured from
        while place < stop:
            size = min(np.int64(CHUNK), (stop - place + width - 1) // width)
            total = square = real(0)
            for item in range(CHUNK):
                if item < size:
                    distances[item] = load(x, row, feature, column) - mean
                    total += distances[item]
                    row += rows
                    column += columns
                    if column >= inner:
                        row += 1
                        column -= inner
            distance = total / real(size)
            for item in range(CHUNK):
                if item < size:
                    square += (distances[item] - distance) * (distances[item] - distance)
            count, mean, residue, m2 = combine(count, mean, residue, m2, size, distance - residue, square)
            place += size * width
        count, mean, residue, m2 = gather(count, mean, residue, m2)
        if cuda.threadIdx.x == 0:
            partial[feature, index, 0] = mean
            partial[feature, index, 1] = residue
            partial[feature, index, 2] = m2

    @kernel
    def moments(partial: Array, total: Integer, means: Array, m2s: Array) -> None:
        """Mean and M2 of each feature."""
        feature = np.int64(cuda.blockIdx.x)
        _, mean, residue, m2 = gather_slices(partial, total, feature)
        if cuda.threadIdx.x == 0:
            means[feature] = np.float64(mean) + np.float64(residue)
            m2s[feature] = m2

    @kernel
    def train(
        x: Array,
        y: Array,
        partial: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        means: Array,
        invstds: Array,
        epsilon: Number,
        keep: Number,
        rate: Number,
        unbiased: bool,
    ) -> None:
        """Normalize by the statistics in ``partial``; then the first block of each feature commits them."""
        feature = np.int64(cuda.blockIdx.x)
        count, mean, residue, m2 = gather_slices(partial, x.shape[0] * x.shape[2], feature)
        invstd = real(1) / real(math.sqrt(m2 / real(count) + epsilon))
        scale = invstd * real(weight[feature]) if weight.size > 0 else invstd
        shift = real(bias[feature]) if bias.size > 0 else real(0)
        write(x, y, feature, mean, residue, scale, shift)
        if cuda.blockIdx.y == 0 and cuda.threadIdx.x == 0:
            means[feature] = np.float64(mean) + np.float64(residue)
            invstds[feature] = invstd
            if running_mean.size > 0:
                running_mean[feature] = keep * running_mean[feature] + rate * mean + rate * residue
            if running_var.size > 0:
                variance = m2 / real(count - 1 if unbiased and count > 1 else count)
                running_var[feature] = keep * running_var[feature] + rate * variance

    @kernel
    def infer(x: Array, y: Array, means: Array, variances: Array, weight: Array, bias: Array, epsilon: Number) -> None:
        """Normalize by given statistics."""
        feature = np.int64(cuda.blockIdx.x)
        mean = real(means[feature])
        residue = real(means[feature] - mean)
        invstd = real(1) / real(math.sqrt(real(variances[feature]) + epsilon))
        scale = invstd * real(weight[feature]) if weight.size > 0 else invstd
        shift = real(bias[feature]) if bias.size > 0 else real(0)
        write(x, y, feature, mean, residue, scale, shift)

    return Kernels(reduce, moments, train, infer)
