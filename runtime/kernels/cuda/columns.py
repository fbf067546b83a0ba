"""Kernels on memory where the features of a row lie side by side: channels last, and (N, C).

``x`` and ``y`` are matrices of rows, which are a pitch of elements apart. A thread has a *piece* of a row, a packet
where base, pitch and the number of features allow, else one element. Packets of 16-bit elements are of 8 bytes here:
of 16, with statistics of each element, a multiprocessor would have registers for half the threads. A block has a
*slab*, the same ``1 << shift`` pieces of every row, ``slab_limit`` at most; its threads are the slab's *ranks*, each
with a row of its own at a time. Slabs are numbered along the grid's x axis, slices of the rows along its y axis. Sizes
of blocks, slabs and clusters are powers of two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .forward import ROOM, Vectors, affine, committed, inferring, kept, name_of, piece, scalar, shape_of, training
from .pieces import Integer, Number, Pointer, position, slice_bounds
from .primitives import (
    ELEMENTS,
    access,
    cluster_arrive,
    cluster_wait,
    cuda,
    device,
    divide,
    fma,
    launch_next,
    pointer,
    read_peer,
    reciprocal,
    reciprocal_root,
    wait_for_previous,
)
from .program import Program
from .reduction import Sample, combine, reduction
from .shelf import shelf

Array = Any

THREADS = 256  # of a block, but of those that merge slices, which are as large as may be
KEEPING = 512  # threads of a multiprocessor that keep rows on chip: 128 registers each
UNROLL = 4  # rows of a thread that are on their way at once
SIZES = (types.int64,) * 4  # rows, features, shift of a slab's pieces, slices


def matrix(element: str) -> tuple[Any, Any]:
    """Types of a matrix in a kernel's signature: first element and pitch."""
    return pointer(element), types.int64


def slab_limit(element: str, width: int) -> int:
    """Pieces of a slab, at most: 256 bytes in packets, 128 to 512 in elements."""
    return 16 * ELEMENTS[element].parts(width) if width > 1 else 64


def title(
    kernel: str, element: str, vectors: tuple[str, ...], width: int, unroll: int, threads: int, shared: int = 0
) -> str:
    """Name a program."""
    return name_of(f"columns_{kernel}", element, vectors, piece(element, width), *shape_of(unroll, shared, threads))


@device
def locate(slab: Integer, shift: Integer) -> tuple[Integer, Integer, Integer]:
    """Piece of a thread in its rows, its rank, and the number of ranks."""
    thread = np.int64(cuda.threadIdx.x)
    piece = (slab << shift) + (thread & ((1 << shift) - 1))
    return piece, thread >> shift, np.int64(cuda.blockDim.x) >> shift


@device
def share(start: Integer, stop: Integer, rank: Integer, ranks: Integer) -> Integer:
    """How many rows of a slice are a rank's: every ``ranks``-th, from ``start + rank`` on."""
    return divide(stop - start - rank + ranks - 1, ranks)


class Trees(NamedTuple):
    """Device functions that put samples together, in a fixed order."""

    merge_ranks: Any
    merge_cluster: Any


def trees(merge: Callable[[Array, Array], None], size: int, element: str, width: int, threads: int) -> Trees:
    """Build them, for samples that are local arrays of a size; ``merge(sample, other)`` adds to the first."""
    slots, slab, real = threads // 2, slab_limit(element, width), ELEMENTS[element].real
    shared_size, slab_size = size * slots, size * slab

    @device
    def halve(shared: Array, sample: Array, shift: Integer, ranks: Integer) -> None:
        """Merge the samples of a block's first ranks, a power of two, into those of rank 0."""
        other = cuda.local.array(size, real)
        thread, half = np.int64(cuda.threadIdx.x), (ranks << shift) >> 1
        while half >> shift > 0:
            if half <= thread < 2 * half:
                for i in range(size):
                    shared[i * slots + thread - half] = sample[i]
            cuda.syncthreads()
            if thread < half:
                for i in range(size):
                    other[i] = shared[i * slots + thread]
                merge(sample, other)
            cuda.syncthreads()
            half >>= 1

    @device
    def merge_ranks(sample: Array, shift: Integer, ranks: Integer) -> None:
        """Merge the samples of a block's ranks, a power of two, into those of rank 0."""
        shared = cuda.shared.array(shared_size, real)
        halve(shared, sample, shift, ranks)

    @device
    def merge_cluster(sample: Array, shift: Integer, ranks: Integer, blocks: Integer) -> None:
        """Merge the samples of the ranks of all blocks of a cluster, of which there are no more than ranks."""
        shared = cuda.shared.array(shared_size, real)
        outcome = cuda.shared.array(slab_size, real)
        thread = np.int64(cuda.threadIdx.x)
        rank, lane = thread >> shift, thread & ((1 << shift) - 1)
        halve(shared, sample, shift, ranks)
        if rank == 0:
            for i in range(size):
                outcome[i * slab + lane] = sample[i]
        cluster_arrive()
        cluster_wait()
        if rank < blocks:
            for i in range(size):
                sample[i] = read_peer(outcome, i * slab + lane, rank)
        cluster_arrive()
        halve(shared, sample, shift, blocks)
        cluster_wait()  # no block may end while another reads what it shares

    return Trees(merge_ranks, merge_cluster)


@cache
def broadcast(size: int, element: str, width: int) -> Any:
    """Build the device function that gives all ranks a local array of rank 0's."""
    slab, real = slab_limit(element, width), ELEMENTS[element].real
    shared_size = size * slab

    @device
    def from_first_rank(values: Array, shift: Integer) -> None:
        shared = cuda.shared.array(shared_size, real)
        thread = np.int64(cuda.threadIdx.x)
        lane = thread & ((1 << shift) - 1)
        if thread >> shift == 0:
            for i in range(size):
                shared[i * slab + lane] = values[i]
        cuda.syncthreads()
        for i in range(size):
            values[i] = shared[i * slab + lane]

    return from_first_rank


@cache
def pivoting(element: str, width: int, unroll: int) -> Any:
    """Build the device function that says where to measure deviations from, before there is a sample."""
    moves, real = access(element, width), ELEMENTS[element].real
    unpack = moves.unpack

    @device
    def pivots(packets: Array, rows: Integer, means: Array) -> None:
        """The means of the rows in ``packets``, at least one, as near as that: any one row may be far from them."""
        values = cuda.local.array(width, real)
        totals = cuda.local.array(width, real)
        unpack(packets, 0, means, 0)
        for j in range(width):
            totals[j] = real(0)
        for u in range(1, unroll):
            if u < rows:
                unpack(packets, u, values, 0)
                for j in range(width):
                    totals[j] += values[j] - means[j]
        part = reciprocal(real(rows))
        for j in range(width):
            means[j] += totals[j] * part

    return pivots


class Moments(NamedTuple):
    """Device functions on statistics: a sample is mean, residue and M2 of each feature of a piece, then their count."""

    size: int
    add_rows: Any
    accumulate: Any
    gather_slices: Any
    merge_ranks: Any
    merge_cluster: Any


@cache
def moments_of(element: str, width: int, unroll: int, threads: int) -> Moments:
    """Build them."""
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, unpack = moves.word, moves.load, moves.unpack
    packed, counted, size = unroll * moves.words, 3 * width, 3 * width + 1
    centred, pivots = reduction(real, threads).centred, pivoting(element, width, unroll)

    @device
    def merge(sample: Array, other: Array) -> None:
        """Add a sample to another; either may be empty."""
        count, more = sample[counted], other[counted]
        if count == real(0):
            for i in range(size):
                sample[i] = other[i]
        elif more > real(0):
            for i in range(0, counted, 3):
                mine = Sample(count, sample[i], sample[i + 1], sample[i + 2])
                distance = (other[i] - mine.mean) + (other[i + 1] - mine.residue)
                _, sample[i], sample[i + 1], sample[i + 2] = combine(mine, more, distance, other[i + 2])
            sample[counted] = count + more

    @device
    def add_rows(packets: Array, rows: Integer, sample: Array) -> None:
        """Add the rows in ``packets``, at least one, to a sample."""
        values = cuda.local.array(width, real)
        totals = cuda.local.array(width, real)
        squares = cuda.local.array(width, real)
        count, more = sample[counted], real(rows)
        if count == real(0):
            pivots(packets, rows, values)
            for j in range(width):  # only where the first distances are measured from
                sample[3 * j], sample[3 * j + 1], sample[3 * j + 2] = values[j], real(0), real(0)
        for j in range(width):
            totals[j] = squares[j] = real(0)
        for u in range(unroll):
            if u < rows:
                unpack(packets, u, values, 0)
                for j in range(width):
                    distance = values[j] - sample[3 * j]
                    totals[j] += distance
                    squares[j] = fma(distance, distance, squares[j])
        for j in range(width):
            i, part = 3 * j, centred(more, real(0), totals[j], squares[j])
            mine = Sample(count, sample[i], sample[i + 1], sample[i + 2])
            _, sample[i], sample[i + 1], sample[i + 2] = combine(mine, more, part.mean - mine.residue, part.m2)
        sample[counted] = count + more

    @device
    def extend(x: Pointer, start: Integer, step: Integer, rows: Integer, sample: Array) -> None:
        """Add so many rows, ``unroll`` at most, whose pieces are ``step`` elements apart, to a sample."""
        packets = cuda.local.array(packed, word)
        for u in range(unroll):
            if u < rows:
                load(x, start + u * step, packets, u)
        add_rows(packets, rows, sample)

    @device
    def accumulate(x: Pointer, start: Integer, step: Integer, rows: Integer, sample: Array) -> None:
        """Add any number of rows to a sample."""
        while rows >= unroll:
            extend(x, start, step, np.int64(unroll), sample)
            start += unroll * step
            rows -= unroll
        if rows > 0:
            extend(x, start, step, rows, sample)

    @device
    def gather_slices(
        partial: Pointer, rows: Integer, slices: Integer, features: Integer, feature: Integer,
        rank: Integer, ranks: Integer, sample: Array,
    ) -> None:  # fmt: skip
        """Add a rank's slices, every ``ranks``-th, to a sample."""
        other = cuda.local.array(size, real)
        while rank < slices:
            start, stop = slice_bounds(rows, slices, rank)
            for j in range(width):
                for k in range(3):
                    other[3 * j + k] = partial[(3 * rank + k) * features + feature + j]
            other[counted] = real(stop - start)
            merge(sample, other)
            rank += ranks

    return Moments(size, add_rows, accumulate, gather_slices, *trees(merge, size, element, width, threads))


@cache
def normalizer(element: str, width: int, unroll: int) -> Any:
    """Build the device functions that write ``y = (x - mean) * scale + shift``.

    ``maps`` is a local array with mean, scale and shift of each feature of a piece.
    """
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, store, unpack, pack = moves.word, moves.load, moves.store, moves.unpack, moves.pack
    packed = unroll * moves.words

    @device
    def apply(packets: Array, packet: Integer, maps: Array) -> None:
        """Normalize a packet."""
        values = cuda.local.array(width, real)
        unpack(packets, packet, values, 0)
        for j in range(width):
            values[j] = fma(values[j] - maps[3 * j], maps[3 * j + 1], maps[3 * j + 2])
        pack(values, 0, packets, packet)

    @device
    def write(
        x: Pointer, x_place: Integer, x_step: Integer, y: Pointer, y_place: Integer, y_step: Integer,
        rows: Integer, maps: Array,
    ) -> None:  # fmt: skip
        """Normalize rows, the last one first: it was read last, and may still be in the cache."""
        packets = cuda.local.array(packed, word)
        x_place += (rows - 1) * x_step
        y_place += (rows - 1) * y_step
        while rows > 0:
            for u in range(unroll):
                if u < rows:
                    load(x, x_place, packets, u)
                    x_place -= x_step
            for u in range(unroll):
                if u < rows:
                    apply(packets, u, maps)
                    store(y, y_place, packets, u)
                    y_place -= y_step
            rows -= unroll

    return apply, write


@cache
def statistics(element: str, width: int, unroll: int = UNROLL, threads: int = THREADS) -> Program:
    """Mean, residue and M2 of each slice: ``partial[slice, (mean, residue, M2), feature]``, of the arithmetic's type.

    Reads x once, T. The grid is (slabs, slices).
    """
    real = ELEMENTS[element].real
    size, _, accumulate, _, merge_ranks, _ = moments_of(element, width, unroll, threads)

    def kernel(
        x: Pointer,
        pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        partial: Pointer,
    ) -> None:
        sample = cuda.local.array(size, real)
        sample[size - 1] = real(0)
        index = np.int64(cuda.blockIdx.y)
        start, stop = slice_bounds(rows, slices, index)
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        feature = width * column
        if feature < features:
            accumulate(x, (start + rank) * pitch + feature, ranks * pitch, share(start, stop, rank, ranks), sample)
        merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            for j in range(width):
                for k in range(3):
                    partial[(3 * index + k) * features + feature + j] = sample[3 * j + k]
        launch_next()

    signature = (*matrix(element), *SIZES, types.CPointer(scalar(element)))
    name = title("statistics", element, (), width, unroll, threads)
    return Program(name, kernel, signature, threads, ROOM // threads)


@cache
def moments(element: str, width: int, threads: int = THREADS) -> Program:
    """Mean and M2 of each feature, float64, from what ``statistics`` left; the grid is (slabs,)."""
    real = ELEMENTS[element].real
    size, _, _, gather_slices, merge_ranks, _ = moments_of(element, width, 1, threads)

    def kernel(
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        partial: Pointer,
        means: Pointer,
        m2s: Pointer,
    ) -> None:
        sample = cuda.local.array(size, real)
        sample[size - 1] = real(0)
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        feature = width * column
        wait_for_previous()
        if feature < features:
            gather_slices(partial, rows, slices, features, feature, rank, ranks, sample)
        merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            for j in range(width):
                means[feature + j] = np.float64(sample[3 * j]) + np.float64(sample[3 * j + 1])
                m2s[feature + j] = sample[3 * j + 2]

    signature = (*SIZES, types.CPointer(scalar(element)), pointer("f64"), pointer("f64"))
    return Program(title("moments", element, (), width, 1, threads), kernel, signature, threads)


@cache
def finisher(element: str, width: int) -> Any:
    """Build the device function that makes maps of the statistics of all rows, and commits them."""
    real = ELEMENTS[element].real
    counted = 3 * width
    (parameters, affine_map), commit = affine(real), training(real)

    @device
    def finish(
        sample: Array,
        maps: Array,
        first: Integer,
        committing: bool,
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
        for j in range(width):
            i, feature = 3 * j, first + j
            one = Sample(sample[counted], sample[i], sample[i + 1], sample[i + 2])
            invstd = reciprocal_root(one.m2 * reciprocal(one.count) + epsilon)
            gain, offset = parameters(weight, bias, feature, flags)
            maps[i], maps[i + 1], maps[i + 2] = affine_map(one.mean, one.residue, invstd, gain, offset)
            if committing:
                commit(
                    one, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags
                )  # fmt: skip

    return finish


@cache
def normalize(element: str, vectors: Vectors, width: int, unroll: int = UNROLL, threads: int = THREADS) -> Program:
    """Normalize by the statistics that ``statistics`` left, and commit them.

    ``vectors`` are the types of weight, bias, running mean and running variance. The grid is that of ``statistics``;
    every block merges the slices of its slab again by itself. Together they read x twice and write y once, 3T less
    what was cached.
    """
    real = ELEMENTS[element].real
    size, _, _, gather_slices, merge_ranks, _ = moments_of(element, width, unroll, threads)
    maps_size = 3 * width
    finish, from_first_rank = finisher(element, width), broadcast(maps_size, element, width)
    _, write = normalizer(element, width, unroll)

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        y: Pointer,
        y_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
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
        sample = cuda.local.array(size, real)
        maps = cuda.local.array(maps_size, real)
        sample[size - 1] = real(0)
        index = slices - 1 - np.int64(cuda.blockIdx.y)  # what was read last may still be in the L2 cache
        start, stop = slice_bounds(rows, slices, index)
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        feature = width * column
        wait_for_previous()
        if feature < features:
            gather_slices(partial, rows, slices, features, feature, rank, ranks, sample)
        merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            finish(
                sample, maps, feature, index == 0, weight, bias, running_mean, running_var, tracked,
                means, invstds, epsilon, keep, rate, flags,
            )  # fmt: skip
        from_first_rank(maps, shift)
        if feature < features:
            x_place, y_place = (start + rank) * x_pitch + feature, (start + rank) * y_pitch + feature
            write(x, x_place, ranks * x_pitch, y, y_place, ranks * y_pitch, share(start, stop, rank, ranks), maps)

    signature = (
        *matrix(element), *matrix(element), *SIZES, types.CPointer(scalar(element)), *committed(element, vectors)
    )  # fmt: skip
    name = title("normalize", element, vectors, width, unroll, threads)
    return Program(name, kernel, signature, threads, ROOM // threads)


@cache
def resident(
    element: str,
    vectors: Vectors,
    width: int,
    cluster: int = 1,
    unroll: int = 8,
    threads: int = THREADS,
    shared: int = 0,
) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``normalize``.

    A slab is kept on chip by the blocks of a cluster, a slice each: x is read once and y written once, 2T, in one
    launch. The grid is (slabs * cluster,); there may be ``cluster * (unroll + shared) * ranks`` rows, and no more
    blocks in a cluster than ranks, which are ``threads >> shift``. A thread has ``shared`` pieces in shared memory, no
    more than the ``unroll`` that it has in registers. Clusters of several blocks need compute capability 9.0.
    """
    if cluster > 2:
        return resident(element, vectors, width, 2, unroll, threads, shared)._replace(cluster=cluster)
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, store, words, packed = moves.word, moves.load, moves.store, moves.words, unroll * moves.words
    size, add_rows, _, _, merge_ranks, merge_cluster = moments_of(element, width, unroll, threads)
    maps_size, slots, (put, take) = 3 * width, max(1, shared * words * threads), shelf(words, threads)
    finish, from_first_rank = finisher(element, width), broadcast(maps_size, element, width)
    (apply, _), clustered = normalizer(element, width, unroll), cluster > 1

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        y: Pointer,
        y_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
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
        sample = cuda.local.array(size, real)
        maps = cuda.local.array(maps_size, real)
        packets, packet = cuda.local.array(packed, word), cuda.local.array(words, word)
        shelved = cuda.shared.array(slots, word)
        sample[size - 1] = real(0)
        slab, block, blocks = position(clustered)
        start, stop = slice_bounds(rows, blocks, block)
        column, rank, ranks = locate(slab, shift)
        feature, row = width * column, start + rank
        mine: Integer = share(start, stop, rank, ranks) if feature < features else 0
        rest = mine - shared
        for u in range(shared):
            if u < mine:
                load(x, (row + u * ranks) * x_pitch + feature, packets, u)
        if shared > 0 and mine > 0:
            add_rows(packets, min(mine, shared), sample)
        for u in range(shared):
            if u < mine:
                put(packets, u, shelved, u)
        for u in range(unroll):
            if u < rest:
                load(x, (row + (shared + u) * ranks) * x_pitch + feature, packets, u)
        if rest > 0:
            add_rows(packets, rest, sample)
        if clustered:
            merge_cluster(sample, shift, ranks, blocks)
        else:
            merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            finish(
                sample, maps, feature, block == 0, weight, bias, running_mean, running_var, tracked,
                means, invstds, epsilon, keep, rate, flags,
            )  # fmt: skip
        from_first_rank(maps, shift)
        for u in range(shared):
            if u < mine:
                take(shelved, u, packet, 0)
                apply(packet, 0, maps)
                store(y, (row + u * ranks) * y_pitch + feature, packet, 0)
        for u in range(unroll):
            if u < rest:
                apply(packets, u, maps)
                store(y, (row + (shared + u) * ranks) * y_pitch + feature, packets, u)

    signature = (*matrix(element), *matrix(element), *SIZES[:3], *committed(element, vectors))
    name = title(kept("resident", cluster), element, vectors, width, unroll, threads, shared)
    return Program(name, kernel, signature, threads, KEEPING // threads, cluster)


@cache
def inference(element: str, vectors: Vectors, width: int, unroll: int = UNROLL, threads: int = THREADS) -> Program:
    """Normalize by given statistics: mean, variance, weight and bias, of the types in ``vectors``.

    Reads x once and writes y once, 2T. The grid is (slabs, slices).
    """
    real = ELEMENTS[element].real
    size = 3 * width
    given, (_, write) = inferring(real), normalizer(element, width, unroll)

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        y: Pointer,
        y_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        means: Pointer,
        variances: Pointer,
        weight: Pointer,
        bias: Pointer,
        epsilon: Number,
        flags: Integer,
    ) -> None:
        maps = cuda.local.array(size, real)
        start, stop = slice_bounds(rows, slices, np.int64(cuda.blockIdx.y))
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        first = width * column
        if first < features:
            for j in range(width):
                to = given(means, variances, weight, bias, epsilon, first + j, flags)
                maps[3 * j], maps[3 * j + 1], maps[3 * j + 2] = to.mean, to.scale, to.shift
            x_place, y_place = (start + rank) * x_pitch + first, (start + rank) * y_pitch + first
            write(x, x_place, ranks * x_pitch, y, y_place, ranks * y_pitch, share(start, stop, rank, ranks), maps)

    signature = (
        *matrix(element), *matrix(element), *SIZES, *map(pointer, vectors), scalar(element), types.int64
    )  # fmt: skip
    name = title("inference", element, vectors, width, unroll, threads)
    return Program(name, kernel, signature, threads, ROOM // threads)
