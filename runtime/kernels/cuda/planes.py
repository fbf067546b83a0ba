"""The forward passes of small planes: rows of a feature that are no whole packets, as those of 7 × 7 images.

In training, some features side by side, a *group*, make rows that are whole packets. A block takes a group, or a
cluster of blocks some rows of it each. A thread has the same packet of every so many rows: it sums up the rows for each
element of the packet. What came of a feature's elements is then put together by a warp. A feature has no fewer elements
in a row than a packet: none has elements of more than two.

Elements are gone through once: the pivot that deviations are measured from is the mean of a warp's worth of elements,
which is at most sqrt(n / 32) standard deviations from that of all n, and a fifth of one where elements are in no order.
The deviations stay in registers, and are what is normalized. Indices are made 32 bits long where that is enough: with
64, a sixth more instructions.
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
    shuffle_from,
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
    first: Integer  # of these rows
    row: Integer  # the thread's first
    turns: Integer  # rows that the thread has, each some ranks after the one before
    columns: Integer  # packets of a row
    start: Integer  # of the thread's packet in the row, in elements
    lower: Integer  # feature of its first element, in the group
    upper: Integer  # the next, if there is one
    own: Integer  # elements of the first feature from there on


class Functions(NamedTuple):
    """Device functions on groups."""

    locate: Any
    pivot_of: Any
    spread: Any
    leave: Any
    collect: Any


@device
def small(number: Integer) -> Integer:
    """The same number, of which the compiler learns that it fits 32 bits."""
    return np.int64(np.int32(number))


@device
def quotient(a: Integer, share: Number) -> Integer:
    """``a // b`` of a, less than a million, and the reciprocal of b."""
    return np.int64(np.int32((np.float32(a) + np.float32(0.5)) * share))


@cache
def functions_of(element: str, group: int, threads: int) -> Functions:
    """Build them, for blocks of a size, with a warp for each feature of a group."""
    width, real = ELEMENTS[element].width, ELEMENTS[element].real
    share, shift, spacing = real(1 / LANES), width.bit_length() - 1, LANES.bit_length() - width.bit_length()

    @device
    def locate(outer: Integer, inner: Integer, blocks: Integer, rank: Integer) -> Place:
        """Place of a thread, of a block of a rank in its cluster."""
        outer, inner, thread = small(outer), small(inner), np.int64(cuda.threadIdx.x)
        columns = small(group * inner) >> shift
        part = reciprocal(np.float32(columns))
        ranks, own = quotient(np.int64(threads), part), quotient(thread, part)
        start = small(thread - own * columns) << shift
        length = divide_words(small(outer + blocks - 1), blocks)
        first = min(outer, small(rank * length))
        rows = min(small(outer - first), length)
        turns = quotient(max(small(rows - own + ranks - 1), np.int64(0)), reciprocal(np.float32(ranks)))
        lower = quotient(start, reciprocal(np.float32(inner)))
        return Place(
            ranks,
            rows,
            first,
            small(first + own),
            np.int32(turns if own < ranks else np.int64(0)),
            columns,
            start,
            np.uint64(lower),
            np.uint64(min(small(lower + 1), np.int64(group - 1))),
            np.int32((lower + 1) * inner - start),
        )

    @device
    def pivot_of(array: Pointer, origin: Integer, stride: Integer, outer: Integer, place: Place) -> Number:
        """About the mean of a feature's elements in a block: that of a packet's worth of some rows. A warp calls it."""
        lane = np.int64(cuda.threadIdx.x & (LANES - 1))
        row = small(place.first + (small((lane >> shift) * place.rows) >> spacing))
        value = load(array, origin + min(row, small(outer - 1)) * stride + (lane & (width - 1)))
        first = shuffle_from(value, 0)
        return fma(sum_lanes(value - first), share, first)

    @device
    def spread(table: Array, line: int, place: Place, values: Array) -> None:
        """Give each element of the thread's packet what a line of the table has for its feature."""
        lower, upper = table[np.uint64(line) + place.lower], table[np.uint64(line) + place.upper]
        values[0] = lower
        for item in range(1, width):
            values[item] = lower if item < place.own else upper

    @device
    def leave(values: Array, shared: Array, line: Integer) -> None:
        """Leave what came of a thread's elements, for ``collect`` after a barrier."""
        for item in range(width):  # unsigned: what may be negative is compared with zero
            shared[np.uint64((line * width + item) * threads) + np.uint64(cuda.threadIdx.x)] = values[item]

    @device
    def collect(shared: Array, lines: int, sums: Array, place: Place, inner: Integer, member: Integer) -> None:
        """Sums of what the threads left in lines for a feature; a warp calls it, and every lane gets the result."""
        for line in range(lines):
            sums[line] = real(0)
        lane = cuda.threadIdx.x & (LANES - 1)
        element, left = small(member * inner + lane), np.int32(inner - lane)
        first, size = small((element & (width - 1)) * threads + (element >> shift)), small(place.ranks * place.columns)
        while left > 0:
            slot, end = np.int32(first), np.int32(first + size)
            while slot < end:
                for line in range(lines):
                    sums[line] += shared[np.uint64(line * width * threads) + np.uint64(slot)]
                slot = np.int32(slot + place.columns)
            first, left = small(first + LANES // width), np.int32(left - LANES)
        for line in range(lines):
            sums[line] = sum_lanes(sums[line])

    return Functions(locate, pivot_of, spread, leave, collect)


@cache
def planes(
    element: str, vectors: Vectors, group: int, cluster: int = 1, unroll: int = 8, threads: int = 256
) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``forward.normalize``.

    ``x`` and ``y`` are contiguous in feature and inner, at addresses and with strides of outer that are multiples of 16
    bytes, and ``inner`` is in elements, no fewer than a packet's. A group of features, see ``group_of``, is kept on
    chip by the blocks of a cluster: x is read once and y written once, 2T, in one launch. The grid is
    (feature / group * cluster,). A block has a warp for each feature of a group and a thread for each packet of its
    row, and no more rows than ``unroll`` times the ``threads`` are for.
    """
    if cluster > 2:
        return planes(element, vectors, group, 2, unroll, threads)._replace(cluster=cluster)
    width, clustered = ELEMENTS[element].width, cluster > 1
    kind, (locate, pivot_of, spread, leave, collect) = access(element, width), functions_of(element, group, threads)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    unpack, pack, functions = kind.unpack, kind.pack, reduction(real, LANES, threads // LANES)
    centred, merge_cluster = functions.centred, functions.merge_cluster
    (parameters, affine_map), commit = affine(real), training(real)
    numbers, slots, lines = unroll * width, 2 * width * threads, 2 * group

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
        values, pivots = cuda.local.array(numbers, real), cuda.local.array(width, real)
        totals, squares = cuda.local.array(width, real), cuda.local.array(width, real)
        scales, shifts = cuda.local.array(width, real), cuda.local.array(width, real)
        sums = cuda.local.array(2, real)
        shared = cuda.shared.array(slots, real)
        table = cuda.shared.array(lines, real)
        index, rank, blocks = position(clustered)
        place = locate(outer, inner, blocks, rank)
        origin, warp = index * group * inner, np.int64(cuda.threadIdx.x >> 5)
        member: Integer = min(warp, np.int64(group - 1))  # of the warp, or any
        feature, count = index * group + member, real(place.rows * inner)
        gain, offset = parameters(weight, bias, feature, flags)
        if place.turns > 0:  # a branch, or the assembler has these loads wait for that of the pivot
            x_place = origin + place.start + place.row * x_outer
            for u in range(unroll):
                if u < place.turns:
                    load_piece(x, x_place, packets, u)
                x_place += place.ranks * x_outer
        pivot = pivot_of(x, origin + member * inner, x_outer, outer, place)
        leader = warp < group and cuda.threadIdx.x & (LANES - 1) == 0
        if leader:
            table[member] = pivot
        cuda.syncthreads()

        spread(table, 0, place, pivots)
        for item in range(width):
            totals[item] = squares[item] = real(0)
        for u in range(unroll):
            if u < place.turns:
                unpack(packets, u, values, u * width)
                for item in range(width):
                    distance = values[u * width + item] - pivots[item]
                    values[u * width + item] = distance
                    totals[item] += distance
                    squares[item] = fma(distance, distance, squares[item])
        leave(totals, shared, 0)
        leave(squares, shared, 1)
        cuda.syncthreads()
        collect(shared, 2, sums, place, inner, member)
        sample = centred(count, pivot, sums[0], sums[1])
        if clustered:
            sample = merge_cluster(sample, blocks)

        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(pivot, (sample.mean - pivot) + sample.residue, invstd, gain, offset)
        if leader:
            table[member] = to.scale
            table[group + member] = to.shift
            if rank == 0:
                commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)
        cuda.syncthreads()
        spread(table, 0, place, scales)
        spread(table, group, place, shifts)
        y_place = origin + place.start + place.row * y_outer
        for u in range(unroll):
            if u < place.turns:
                for item in range(width):
                    values[u * width + item] = fma(values[u * width + item], scales[item], shifts[item])
                pack(values, u * width, packets, u)
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
