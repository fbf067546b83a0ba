"""The forward passes of small planes: rows of a feature that are no whole packets, as those of 7 × 7 images.

In training, some features side by side, a *group*, make rows that are whole packets. A block takes a group, or a
cluster of blocks some rows of it each. A thread has the same packet of every so many rows: it sums up the rows for each
element of the packet. What came of a feature's elements is then put together by a warp.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .forward import ROOM, Vectors, affine, committed, inferring, kept, name_of, scalar, training
from .pieces import SIZES, STRIDES, Array, Integer, Number, Pointer, position, slice_bounds
from .primitives import (
    ELEMENTS,
    LANES,
    access,
    cluster_wait,
    cuda,
    device,
    divide,
    divide_words,
    fma,
    load,
    pointer,
    reciprocal,
    reciprocal_root,
)
from .program import Program
from .reduction import reduction, sum_lanes

BLOCKS = 2  # of a multiprocessor, for the register allocator


def group_of(element: str, inner: int) -> int:
    """Features of a group: the fewest whose rows together are whole packets."""
    width = ELEMENTS[element].width
    return width // math.gcd(width, inner)


def columns_of(element: str, inner: int) -> int:
    """Packets of a group's row."""
    return group_of(element, inner) * inner // ELEMENTS[element].width


def title(kernel: str, element: str, vectors: tuple[str, ...], group: int, unroll: int, threads: int) -> str:
    """Name a program."""
    return name_of(kernel, element, vectors, f"g{group}", f"u{unroll}", f"t{threads}")


class Place(NamedTuple):
    """Where a thread is in a group."""

    ranks: Integer  # rows that the threads of a block have at once
    rows: Integer  # of the block
    row: Integer  # the thread's first
    turns: Integer  # rows that the thread has, each some ranks after the one before
    columns: Integer  # packets of a row
    start: Integer  # of the thread's packet in the row, in elements
    member: Integer  # feature of its first element, in the group
    before: Integer  # elements of that feature before it


class Functions(NamedTuple):
    """Device functions on groups."""

    locate: Any
    spread: Any
    leave: Any
    collect: Any


@cache
def functions_of(element: str, group: int, threads: int) -> Functions:
    """Build them, for blocks of a size, with a warp for each feature of a group."""
    width, real = ELEMENTS[element].width, ELEMENTS[element].real

    @device
    def locate(outer: Integer, inner: Integer, blocks: Integer, rank: Integer) -> Place:
        """Place of a thread, of a block of a rank in its cluster."""
        thread, columns = np.int64(cuda.threadIdx.x), group * inner // width
        ranks, own = divide_words(np.int64(threads), columns), divide_words(thread, columns)
        start = (thread - own * columns) * width
        first, end = slice_bounds(outer, blocks, rank)
        turns = divide_words(max(end - first - own + ranks - 1, np.int64(0)), ranks) if own < ranks else np.int64(0)
        member = divide_words(start, inner)
        return Place(ranks, end - first, first + own, turns, columns, start, member, start - member * inner)

    @device
    def spread(table: Array, line: Integer, place: Place, inner: Integer, values: Array) -> None:
        """Give each element of the thread's packet what a line of the table has for its feature."""
        member, before = place.member, place.before
        for item in range(width):
            values[item] = table[line + member]
            before += 1
            if before == inner:
                member, before = member + 1, np.int64(0)

    @device
    def leave(values: Array, shared: Array, line: Integer) -> None:
        """Leave what came of a thread's elements, for ``collect`` after a barrier."""
        for item in range(width):
            shared[(line * width + item) * threads + cuda.threadIdx.x] = values[item]

    @device
    def collect(shared: Array, line: Integer, place: Place, inner: Integer, member: Integer) -> Number:
        """Sum of what the threads left for a feature; a warp calls it, and every lane gets the result."""
        total, end = real(0), (member + 1) * inner
        element = member * inner + cuda.threadIdx.x % LANES
        while element < end:
            slot, left = (line * width + element % width) * threads + element // width, place.ranks
            while left > 0:
                total += shared[slot]
                slot += place.columns
                left -= 1
            element += LANES
        return sum_lanes(total)

    return Functions(locate, spread, leave, collect)


@cache
def planes(
    element: str, vectors: Vectors, group: int, cluster: int = 1, unroll: int = 8, threads: int = 256
) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``forward.normalize``.

    ``x`` and ``y`` are contiguous in feature and inner, at addresses and with strides of outer that are multiples of 16
    bytes, and ``inner`` is in elements. A group of features, see ``group_of``, is kept on chip by the blocks of a
    cluster: x is read once and y written once, 2T, in one launch. The grid is (feature / group * cluster,). A block has
    a warp for each feature of a group and a thread for each packet of its row, and no more rows than ``unroll`` times
    the ``threads`` are for.
    """
    if cluster > 2:
        return planes(element, vectors, group, 2, unroll, threads)._replace(cluster=cluster)
    width, clustered = ELEMENTS[element].width, cluster > 1
    kind, (locate, spread, leave, collect) = access(element, width), functions_of(element, group, threads)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    unpack, pack, functions = kind.unpack, kind.pack, reduction(real, LANES, threads // LANES)
    centred, merge_cluster = functions.centred, functions.merge_cluster
    (parameters, affine_map), commit = affine(real), training(real)
    slots, lines = 2 * width * threads, 3 * group

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
        packets = cuda.local.array(packed, word)
        values, pivots = cuda.local.array(width, real), cuda.local.array(width, real)
        totals, squares = cuda.local.array(width, real), cuda.local.array(width, real)
        scales, shifts = cuda.local.array(width, real), cuda.local.array(width, real)
        shared = cuda.shared.array(slots, real)
        table = cuda.shared.array(lines, real)
        index, rank, blocks = position(clustered)
        place = locate(outer, inner, blocks, rank)
        origin, warp = index * group * inner, np.int64(cuda.threadIdx.x) // LANES
        member: Integer = min(warp, group - 1)  # of the warp, or any
        feature, count = index * group + member, real(place.rows * inner)
        gain, offset = parameters(weight, bias, feature, flags)
        pivot = load(x, origin + member * inner)
        leader = warp < group and cuda.threadIdx.x % LANES == 0
        if leader:
            table[member] = pivot
        x_place = origin + place.start + place.row * x_outer
        for u in range(unroll):
            if u < place.turns:
                load_piece(x, x_place, packets, u)
            x_place += place.ranks * x_outer
        cuda.syncthreads()

        spread(table, 0, place, inner, pivots)
        for item in range(width):
            totals[item] = real(0)
        for u in range(unroll):
            if u < place.turns:
                unpack(packets, u, values, 0)
                for item in range(width):
                    totals[item] += values[item] - pivots[item]
        leave(totals, shared, 0)
        cuda.syncthreads()
        pivot += collect(shared, 0, place, inner, member) * reciprocal(count)
        if leader:
            table[member] = pivot
        cuda.syncthreads()

        spread(table, 0, place, inner, pivots)
        for item in range(width):
            totals[item] = squares[item] = real(0)
        for u in range(unroll):
            if u < place.turns:
                unpack(packets, u, values, 0)
                for item in range(width):
                    distance = values[item] - pivots[item]
                    totals[item] += distance
                    squares[item] = fma(distance, distance, squares[item])
        leave(totals, shared, 0)
        leave(squares, shared, 1)
        cuda.syncthreads()
        total, square = collect(shared, 0, place, inner, member), collect(shared, 1, place, inner, member)
        sample = centred(count, pivot, total, square)
        if clustered:
            sample = merge_cluster(sample, blocks)

        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(sample.mean, sample.residue, invstd, gain, offset)
        if leader:
            table[member] = to.mean
            table[group + member] = to.scale
            table[2 * group + member] = to.shift
            if rank == 0:
                commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)
        cuda.syncthreads()
        spread(table, 0, place, inner, pivots)
        spread(table, group, place, inner, scales)
        spread(table, 2 * group, place, inner, shifts)
        y_place = origin + place.start + place.row * y_outer
        for u in range(unroll):
            if u < place.turns:
                unpack(packets, u, values, 0)
                for item in range(width):
                    values[item] = fma(values[item] - pivots[item], scales[item], shifts[item])
                pack(values, 0, packets, u)
                store_piece(y, y_place, packets, u)
            y_place += place.ranks * y_outer
        if clustered:
            cluster_wait()

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *committed(element, vectors))
    name = title(kept("planes", cluster), element, vectors, group, unroll, threads)
    return Program(name, kernel, signature, threads, BLOCKS, cluster)


@cache
def inference(element: str, vectors: Vectors, unroll: int = 4, threads: int = 256) -> Program:
    """Normalize by given statistics; ``vectors`` as for ``forward.inference``.

    ``x`` and ``y`` are as for ``planes``, but that ``inner`` is no less than a packet; ``columns`` are the packets of a
    row of all features. Reads x once and writes y once, 2T. The grid is (columns / threads, slices of rows): a thread
    has the same packet of every row of a slice, and the numbers for its elements in registers.
    """
    width = ELEMENTS[element].width
    kind = access(element, width)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    unpack, pack, given = kind.unpack, kind.pack, inferring(real)

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
        columns: Integer,
        means: Pointer,
        variances: Pointer,
        weight: Pointer,
        bias: Pointer,
        epsilon: Number,
        flags: Integer,
    ) -> None:
        packets = cuda.local.array(packed, word)
        values, pivots = cuda.local.array(width, real), cuda.local.array(width, real)
        scales, shifts = cuda.local.array(width, real), cuda.local.array(width, real)
        column = np.int64(cuda.blockIdx.x) * threads + np.int64(cuda.threadIdx.x)
        if column >= columns:
            return
        start, stop = slice_bounds(outer, np.int64(cuda.gridDim.y), np.int64(cuda.blockIdx.y))
        place = column * width
        feature = divide(place, inner)
        own = inner - (place - feature * inner)  # elements of the first feature
        lower = given(means, variances, weight, bias, epsilon, feature, flags)
        upper = lower if own >= width else given(means, variances, weight, bias, epsilon, feature + 1, flags)
        for item in range(width):
            to = lower if item < own else upper
            pivots[item], scales[item], shifts[item] = to.mean, to.scale, to.shift
        x_place, y_place, left = place + start * x_outer, place + start * y_outer, stop - start
        while left > 0:
            for u in range(unroll):
                if u < left:
                    load_piece(x, x_place, packets, u)
                x_place += x_outer
            for u in range(unroll):
                if u < left:
                    unpack(packets, u, values, 0)
                    for item in range(width):
                        values[item] = fma(values[item] - pivots[item], scales[item], shifts[item])
                    pack(values, 0, packets, u)
                    store_piece(y, y_place, packets, u)
                y_place += y_outer
            left -= unroll

    data = (pointer(element), *STRIDES)
    signature = (
        *data, *data, *SIZES, types.int64, *map(pointer, vectors), scalar(element), types.int64
    )  # fmt: skip
    name = name_of("planes_inference", element, vectors, f"u{unroll}", f"t{threads}")
    return Program(name, kernel, signature, threads, ROOM // threads)
