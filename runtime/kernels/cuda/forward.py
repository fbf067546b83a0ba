"""Kernels of the forward pass on memory where a feature's elements lie side by side (channels first).

``pieces`` says how x and y are described to a kernel. T is the bytes of x in what is said of a kernel's traffic.

Float64 occurs in the kernels of narrower elements only where statistics come in or go out, once a block. A squared
deviation must fit the arithmetic: float32 elements that spread over more than about 1e18 / sqrt(n) get an infinite
variance. A feature that holds a NaN or an infinity becomes NaN, and no other does.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .pieces import (
    SIZES,
    STRIDES,
    Array,
    Integer,
    Number,
    Pointer,
    Walk,
    advance,
    position,
    slice_bounds,
    walk_back,
    walk_from,
)
from .primitives import (
    ELEMENTS,
    LANES,
    access,
    cluster_wait,
    cuda,
    device,
    fma,
    launch_next,
    load,
    pointer,
    reciprocal,
    reciprocal_root,
    wait_for_previous,
)
from .program import BIAS, RUNNING_MEAN, RUNNING_VAR, TRACKED, UNBIASED, WEIGHT, Program
from .reduction import Sample, broadcast, combine, read_sample, reduction, sum_warp, write_sample
from .shelf import shelf

Vectors = tuple[str, str, str, str]  # types of four vectors, "f32" or "f64"
ROOM = 1024  # threads of a multiprocessor that go through slices: 64 registers each


class Affine(NamedTuple):
    """``y = (x - mean) * scale + shift``."""

    mean: Number
    scale: Number
    shift: Number


@cache
def affine(real: Any) -> tuple[Any, Any]:
    """Build the device functions that make an affine map of statistics."""

    @device
    def parameters(weight: Pointer, bias: Pointer, feature: Integer, flags: Integer) -> tuple[Number, Number]:
        """Weight and bias of a feature; read them early, they take long to come."""
        gain, offset = real(1), real(0)
        if flags & WEIGHT:
            gain = real(weight[feature])
        if flags & BIAS:
            offset = real(bias[feature])
        return gain, offset

    @device
    def affine_map(mean: Number, residue: Number, invstd: Number, gain: Number, offset: Number) -> Affine:
        """Normalize, then scale and shift.

        The residue of the mean becomes a part of the shift: where it matters, x - mean is exact.
        """
        scale = invstd * gain
        return Affine(mean, scale, offset - residue * scale)

    return parameters, affine_map


@cache
def inferring(real: Any) -> Any:
    """Build the device function that makes an affine map of given statistics."""
    parameters, affine_map = affine(real)

    @device
    def given(
        means: Pointer,
        variances: Pointer,
        weight: Pointer,
        bias: Pointer,
        epsilon: Number,
        feature: Integer,
        flags: Integer,
    ) -> Affine:
        """That of a feature."""
        mean = real(means[feature])
        residue = real(means[feature] - mean)
        invstd = reciprocal_root(real(variances[feature]) + epsilon)
        gain, offset = parameters(weight, bias, feature, flags)
        to: Affine = affine_map(mean, residue, invstd, gain, offset)
        return to

    return given


@cache
def training(real: Any) -> Any:
    """Build the device function that commits the statistics of a batch."""

    @device
    def commit(
        sample: Sample,
        invstd: Number,
        feature: Integer,
        running_mean: Pointer,
        running_var: Pointer,
        tracked: Pointer,
        means: Pointer,
        invstds: Pointer,
        keep: Number,
        rate: Number,
        flags: Integer,
    ) -> None:
        """Move the running statistics, count the batch, and leave the mean and 1 / standard deviation; one thread."""
        means[feature] = np.float64(sample.mean) + np.float64(sample.residue)
        invstds[feature] = invstd
        if flags & RUNNING_MEAN:
            running_mean[feature] = keep * running_mean[feature] + rate * sample.mean + rate * sample.residue
        if flags & RUNNING_VAR:
            count = sample.count
            if flags & UNBIASED and count > real(1):
                count -= real(1)
            running_var[feature] = keep * running_var[feature] + rate * (sample.m2 * reciprocal(count))
        if flags & TRACKED and feature == 0:
            tracked[0] += 1

    return commit


@cache
def writer(element: str, width: int, unroll: int, threads: int) -> Any:
    """Build the device function that normalizes a thread's pieces: x is read once and y written once."""
    kind = access(element, width)
    packed, word, real = unroll * kind.words, kind.word, kind.real
    load_piece, store_piece, unpack, pack = kind.load, kind.store, kind.unpack, kind.pack

    @device
    def write(x: Pointer, x_walk: Walk, y: Pointer, y_walk: Walk, left: Integer, to: Affine) -> None:
        """Normalize what is ``left`` of a slice, from this thread's piece on."""
        packets = cuda.local.array(packed, word)
        values = cuda.local.array(width, real)
        while left > 0:
            for u in range(unroll):
                if u * threads < left:
                    load_piece(x, x_walk.offset, packets, u)
                x_walk = advance(x_walk)
            for u in range(unroll):
                if u * threads < left:
                    unpack(packets, u, values, 0)
                    for item in range(width):
                        values[item] = fma(values[item] - to.mean, to.scale, to.shift)
                    pack(values, 0, packets, u)
                    store_piece(y, y_walk.offset, packets, u)
                y_walk = advance(y_walk)
            left -= unroll * threads

    return write


@cache
def sampler(element: str, width: int, unroll: int, threads: int) -> Any:
    """Build the device function that makes a sample of a thread's pieces: x is read once."""
    kind = access(element, width)
    packed, numbers, word = unroll * kind.words, unroll * width, kind.word
    real, load_piece, unpack = kind.real, kind.load, kind.unpack
    chunk = unroll * threads

    @device
    def extend(x: Pointer, walk: Walk, left: Integer, sample: Sample) -> tuple[Walk, Sample]:
        """Merge the next pieces, ``unroll`` or what is left, into a sample; its mean is the pivot."""
        packets = cuda.local.array(packed, word)
        values = cuda.local.array(numbers, real)
        for u in range(unroll):
            if u * threads < left:
                load_piece(x, walk.offset, packets, u)
            walk = advance(walk)
        count = total = square = real(0)
        unpack(packets, 0, values, 0)
        pivot = sample.mean if sample.count > real(0) else values[0]
        for u in range(unroll):
            if u * threads < left:
                unpack(packets, u, values, u * width)
                count += real(width)
                for item in range(u * width, (u + 1) * width):
                    values[item] -= pivot
                    total += values[item]
        distance = total * reciprocal(count)
        for u in range(unroll):
            if u * threads < left:
                for item in range(u * width, (u + 1) * width):
                    square = fma(values[item] - distance, values[item] - distance, square)
        return walk, combine(
            Sample(sample.count, pivot, sample.residue, sample.m2), count, distance - sample.residue, square
        )

    @device
    def gather(x: Pointer, walk: Walk, left: Integer) -> Sample:
        """Sample of what is ``left`` of a slice, from this thread's piece on."""
        sample = Sample(real(0), real(0), real(0), real(0))
        while left > chunk - threads:
            walk, sample = extend(x, walk, chunk, sample)
            left -= chunk
        if left > 0:
            walk, sample = extend(x, walk, left, sample)
        return sample

    return gather


def name_of(kernel: str, element: str, vectors: tuple[str, ...], *numbers: str) -> str:
    """Name a program."""
    kinds = vectors if len(set(vectors)) > 1 else vectors[:1]
    return "_".join((kernel, element, *kinds, *numbers))


def piece(element: str, width: int) -> str:
    """Say what a thread moves at once: a pair is half a packet, two words."""
    return "elements" if width == 1 else "packets" if width == ELEMENTS[element].width else "pairs"


def kept(kernel: str, cluster: int) -> str:
    """Say how a feature is kept on chip; the code of a kernel is the same for clusters of any size."""
    return f"{kernel}_clusters" if cluster > 1 else kernel


def shape_of(unroll: int, shared: int, threads: int) -> tuple[str, ...]:
    """Say how many pieces a thread keeps in registers and in shared memory, and how many threads a block has."""
    return (f"u{unroll}", *([f"s{shared}"] if shared else []), f"t{threads}")


@cache
def inference(element: str, vectors: Vectors, width: int, unroll: int = 4, threads: int = 256) -> Program:
    """Normalize by given statistics: mean, variance, weight and bias, of the types in ``vectors``.

    Reads x once and writes y once, 2T, whatever the shape. The grid is (feature, slices).
    """
    real = ELEMENTS[element].real
    write, given = writer(element, width, unroll, threads), inferring(real)

    def kernel(
        x: Pointer,
        x_outer: Integer,
        x_feature: Integer,
        x_inner: Integer,
        y: Pointer,
        y_outer: Integer,
        y_feature: Integer,
        y_inner: Integer,
        outer: Integer,
        inner: Integer,
        means: Pointer,
        variances: Pointer,
        weight: Pointer,
        bias: Pointer,
        epsilon: Number,
        flags: Integer,
    ) -> None:
        feature = np.int64(cuda.blockIdx.x)
        start, stop = slice_bounds(outer * inner, np.int64(cuda.gridDim.y), np.int64(cuda.blockIdx.y))
        place = start + np.int64(cuda.threadIdx.x)
        to = given(means, variances, weight, bias, epsilon, feature, flags)
        x_walk = walk_from(place, feature * x_feature, inner, x_outer, x_inner)
        y_walk = walk_from(place, feature * y_feature, inner, y_outer, y_inner)
        write(x, x_walk, y, y_walk, stop - place, to)

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *map(pointer, vectors), scalar(element), types.int64)
    return Program(
        name_of("inference", element, vectors, piece(element, width), f"u{unroll}", f"t{threads}"),
        kernel,
        signature,
        threads,
        ROOM // threads,
    )


def scalar(*elements: str) -> Any:
    """Type of the arithmetic with elements: float64 if any of them is."""
    return types.float64 if "f64" in elements else types.float32


SAMPLE = 4  # numbers of a sample in memory


@cache
def statistics(element: str, width: int, unroll: int = 4, threads: int = 256) -> Program:
    """Count, mean, residue and M2 of every slice, into ``partial``: (feature, slices, 4) of the arithmetic's type.

    Reads x once, T. The grid is (feature, slices).
    """
    real = ELEMENTS[element].real
    gather, merge_block = sampler(element, width, unroll, threads), reduction(real, threads).merge_block

    def kernel(
        x: Pointer,
        x_outer: Integer,
        x_feature: Integer,
        x_inner: Integer,
        outer: Integer,
        inner: Integer,
        partial: Pointer,
    ) -> None:
        launch_next()
        feature, index, slices = np.int64(cuda.blockIdx.x), np.int64(cuda.blockIdx.y), np.int64(cuda.gridDim.y)
        start, stop = slice_bounds(outer * inner, slices, index)
        place = start + np.int64(cuda.threadIdx.x)
        sample = gather(x, walk_from(place, feature * x_feature, inner, x_outer, x_inner), stop - place)
        sample = merge_block(sample)
        if cuda.threadIdx.x == 0:
            write_sample(partial, SAMPLE * (feature * slices + index), sample)

    signature = (pointer(element), *STRIDES, *SIZES, types.CPointer(scalar(element)))
    name = name_of("statistics", element, (), piece(element, width), f"u{unroll}", f"t{threads}")
    return Program(name, kernel, signature, threads, ROOM // threads)


@cache
def slice_merger(real: Any, threads: int) -> Any:
    """Build the device function that merges the samples of a feature's slices."""
    functions = reduction(real, threads)
    merge_lanes, merge_block = functions.merge_lanes, functions.merge_block

    @device
    def merge_slices(partial: Pointer, feature: Integer, slices: Integer) -> Sample:
        """Merge the slices, of which there are no more than threads; every thread gets the result.

        Every warp merges few slices by itself, faster than if it waited for others.
        """
        few = slices <= LANES
        index = cuda.threadIdx.x % LANES if few else cuda.threadIdx.x
        sample = Sample(real(0), real(0), real(0), real(0))
        if index < slices:
            sample = read_sample(partial, SAMPLE * (feature * slices + index))
        return broadcast(merge_lanes(sample, LANES)) if few else merge_block(sample)

    return merge_slices


@cache
def moments(real: str, threads: int = 32) -> Program:
    """Mean and M2 of each feature, from what ``statistics`` left; the grid is (feature,), ``threads`` >= slices."""
    merge_slices = slice_merger(ELEMENTS[real].real, threads)

    def kernel(partial: Pointer, slices: Integer, means: Pointer, m2s: Pointer) -> None:
        feature = np.int64(cuda.blockIdx.x)
        wait_for_previous()
        sample = merge_slices(partial, feature, slices)
        if cuda.threadIdx.x == 0:
            means[feature] = np.float64(sample.mean) + np.float64(sample.residue)
            m2s[feature] = sample.m2

    signature = (pointer(real), types.int64, pointer("f64"), pointer("f64"))
    return Program(f"moments_{real}_t{threads}", kernel, signature, threads)


@cache
def normalize(element: str, vectors: Vectors, width: int, unroll: int = 4, threads: int = 256) -> Program:
    """Normalize by the statistics that ``statistics`` left, and commit them.

    ``vectors`` are the types of weight, bias, running mean and running variance. Every block merges its feature's
    slices again by itself, no more than ``threads``: no atomics, nothing to zero. The grid is (feature, slices), and
    features and their slices are gone through from the last to the first: what ``statistics`` read last may still be in
    the L2 cache. Together they read x twice and write y once, 3T less what was cached, whatever the shape.
    """
    real = ELEMENTS[element].real
    write, (parameters, affine_map) = writer(element, width, unroll, threads), affine(real)
    merge_slices, commit = slice_merger(real, threads), training(real)

    def kernel(
        x: Pointer,
        x_outer: Integer,
        x_feature: Integer,
        x_inner: Integer,
        y: Pointer,
        y_outer: Integer,
        y_feature: Integer,
        y_inner: Integer,
        outer: Integer,
        inner: Integer,
        partial: Pointer,
        weight: Pointer,
        bias: Pointer,
        running_mean: Pointer,
        running_var: Pointer,
        tracked: Pointer,
        means: Pointer,
        invstds: Pointer,
        epsilon: Number,
        keep: Number,
        rate: Number,
        flags: Integer,
    ) -> None:
        slices = np.int64(cuda.gridDim.y)
        feature, index = np.int64(cuda.gridDim.x - 1 - cuda.blockIdx.x), np.int64(cuda.blockIdx.y)
        start, stop = slice_bounds(outer * inner, slices, index)
        place = start + np.int64(cuda.threadIdx.x)
        x_walk = walk_back(place, feature * x_feature, outer, inner, x_outer, x_inner)
        y_walk = walk_back(place, feature * y_feature, outer, inner, y_outer, y_inner)
        gain, offset = parameters(weight, bias, feature, flags)
        wait_for_previous()
        sample = merge_slices(partial, feature, slices)
        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(sample.mean, sample.residue, invstd, gain, offset)
        write(x, x_walk, y, y_walk, stop - place, to)
        if index == 0 and cuda.threadIdx.x == 0:
            commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, types.CPointer(scalar(element)), *committed(element, vectors))
    name = name_of("normalize", element, vectors, piece(element, width), f"u{unroll}", f"t{threads}")
    return Program(name, kernel, signature, threads, ROOM // threads)


def committed(element: str, vectors: Vectors) -> tuple[Any, ...]:
    """Types of a training kernel's last arguments, from weight on."""
    outputs = (types.CPointer(types.int64), pointer("f64"), pointer("f64"))
    moving = scalar(*vectors[2:])
    return (*map(pointer, vectors), *outputs, scalar(element), moving, moving, types.int64)


def threads_resident(element: str, unroll: int) -> int:
    """Threads of a multiprocessor, so many that none has to spill registers, when each keeps ``unroll`` pieces."""
    if element == "f64" or unroll > 8:
        return 512
    return 1024 if unroll <= 4 else 768


@cache
def resident(
    element: str, vectors: Vectors, width: int, cluster: int = 1, unroll: int = 8, threads: int = 512, shared: int = 0
) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``normalize``.

    A feature is kept on chip by the blocks of a cluster, a slice each: x is read once and y written once, 2T, in one
    launch. The grid is (feature * cluster,), and a thread has ``shared`` pieces in shared memory, no more than the
    ``unroll`` that it has in registers. Clusters of more than one block need compute capability 9.0, and those of more
    than 8 a permission.

    While a block waits for memory, others of the same multiprocessor compute and write: better small blocks than large.
    """
    if cluster > 2:
        return resident(element, vectors, width, 2, unroll, threads, shared)._replace(cluster=cluster)
    kind = access(element, width)
    words, packed, word, real = kind.words, unroll * kind.words, kind.word, kind.real
    load_piece, store_piece, unpack, pack = kind.load, kind.store, kind.unpack, kind.pack
    functions, clustered, (put, take) = reduction(real, threads), cluster > 1, shelf(words, threads)
    sum_block, centred, merge_cluster = functions.sum_block, functions.centred, functions.merge_cluster
    (parameters, affine_map), commit = affine(real), training(real)
    warps, sums, slots = threads // LANES, 3 * threads // LANES, max(1, shared * words * threads)
    minimum_blocks = max(1, threads_resident(element, unroll) // threads)

    @device
    def sum_up(packets: Array, packet: Integer, pivot: Number, total: Number) -> Number:
        """Add a packet's deviations from a pivot."""
        values = cuda.local.array(width, real)
        unpack(packets, packet, values, 0)
        for item in range(width):
            total += values[item] - pivot
        return total

    @device
    def sum_squares(
        packets: Array, packet: Integer, pivot: Number, total: Number, square: Number
    ) -> tuple[Number, Number]:
        """Add them and their squares."""
        values = cuda.local.array(width, real)
        unpack(packets, packet, values, 0)
        for item in range(width):
            distance = values[item] - pivot
            total += distance
            square = fma(distance, distance, square)
        return total, square

    @device
    def normalize_packet(packets: Array, packet: Integer, to: Affine) -> None:
        """Normalize it where it is."""
        values = cuda.local.array(width, real)
        unpack(packets, packet, values, 0)
        for item in range(width):
            values[item] = fma(values[item] - to.mean, to.scale, to.shift)
        pack(values, 0, packets, packet)

    def kernel(
        x: Pointer,
        x_outer: Integer,
        x_feature: Integer,
        x_inner: Integer,
        y: Pointer,
        y_outer: Integer,
        y_feature: Integer,
        y_inner: Integer,
        outer: Integer,
        inner: Integer,
        weight: Pointer,
        bias: Pointer,
        running_mean: Pointer,
        running_var: Pointer,
        tracked: Pointer,
        means: Pointer,
        invstds: Pointer,
        epsilon: Number,
        keep: Number,
        rate: Number,
        flags: Integer,
    ) -> None:
        packets, packet = cuda.local.array(packed, word), cuda.local.array(words, word)
        partial = cuda.shared.array(sums, real)
        shelved = cuda.shared.array(slots, word)
        feature, rank, blocks = position(clustered)
        start, stop = slice_bounds(outer * inner, blocks, rank)
        place = start + np.int64(cuda.threadIdx.x)
        left = stop - place
        rest = left - shared * threads
        x_walk = walk_from(place, feature * x_feature, inner, x_outer, x_inner)
        pivot = load(x, feature * x_feature)
        gain, offset = parameters(weight, bias, feature, flags)
        total = real(0)
        for u in range(shared):
            if u * threads < left:
                load_piece(x, x_walk.offset, packets, u)
            x_walk = advance(x_walk)
        for u in range(shared):
            if u * threads < left:
                put(packets, u, shelved, u)
                total = sum_up(packets, u, pivot, total)
        for u in range(unroll):
            if u * threads < rest:
                load_piece(x, x_walk.offset, packets, u)
            x_walk = advance(x_walk)
        for u in range(unroll):
            if u * threads < rest:
                total = sum_up(packets, u, pivot, total)
        sum_warp(total, partial, 0)
        cuda.syncthreads()
        count = real((stop - start) * width)
        pivot += sum_block(partial, 0) * reciprocal(count)

        total = square = real(0)
        for u in range(shared):
            if u * threads < left:
                take(shelved, u, packet, 0)
                total, square = sum_squares(packet, 0, pivot, total, square)
        for u in range(unroll):
            if u * threads < rest:
                total, square = sum_squares(packets, u, pivot, total, square)
        sum_warp(total, partial, warps)
        sum_warp(square, partial, 2 * warps)
        cuda.syncthreads()
        sample = centred(count, pivot, sum_block(partial, warps), sum_block(partial, 2 * warps))
        if clustered:
            sample = merge_cluster(sample, blocks)

        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(sample.mean, sample.residue, invstd, gain, offset)
        y_walk = walk_from(place, feature * y_feature, inner, y_outer, y_inner)
        for u in range(shared):
            if u * threads < left:
                take(shelved, u, packet, 0)
                normalize_packet(packet, 0, to)
                store_piece(y, y_walk.offset, packet, 0)
            y_walk = advance(y_walk)
        for u in range(unroll):
            if u * threads < rest:
                normalize_packet(packets, u, to)
                store_piece(y, y_walk.offset, packets, u)
            y_walk = advance(y_walk)
        if rank == 0 and cuda.threadIdx.x == 0:
            commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)
        if clustered:
            cluster_wait()

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *committed(element, vectors))
    shape = shape_of(unroll, shared, threads)
    name = name_of(kept("resident", cluster), element, vectors, piece(element, width), *shape)
    return Program(name, kernel, signature, threads, minimum_blocks, cluster)
