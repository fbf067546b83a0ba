"""The training forward of small planes: rows of a feature that are no whole packets, as those of 7 × 7 images.

Some features side by side make rows that are one. A block takes such a group into shared memory, by packets, and works
on its single elements there.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .forward import Vectors, affine, committed, name_of, training
from .pieces import SIZES, STRIDES, Integer, Number, Pointer, advance, walk_by, walk_from
from .primitives import (
    ELEMENTS,
    LANES,
    access,
    cuda,
    device,
    dynamic_shared,
    fetch,
    fma,
    load,
    pointer,
    reciprocal,
    reciprocal_root,
    share,
    store,
)
from .program import Program
from .reduction import reduction

ROOMS = tuple(kilobytes << 10 for kilobytes in (8, 16, 32, 48, 72, 112, 224))


def group_of(element: str, inner: int) -> int:
    """Features that a block takes: the fewest whose rows together are a multiple of 16 bytes."""
    width = ELEMENTS[element].width
    return width // math.gcd(width, inner)


def room_for(element: str, group: int, outer: int, inner: int) -> int | None:
    """Bytes of shared memory for a group, of few sizes; None if there is not so much."""
    size = group * outer * inner * ELEMENTS[element].dtype().itemsize
    return next((room for room in ROOMS if size <= room), None)


@cache
def planes(element: str, vectors: Vectors, group: int, room: int, unroll: int = 4, threads: int = 256) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``forward.normalize``.

    ``x`` and ``y`` are contiguous in feature and inner, at addresses and with strides of outer that are multiples of 16
    bytes, and ``inner`` is in elements. A block takes ``group`` features, see ``group_of``, and ``room`` bytes of
    shared memory hold them: x is read once and y written once, 2T, in one launch. The grid is (feature / group,), which
    must be whole, and ``threads`` are a multiple of 32 for each feature of a group.
    """
    width, team = ELEMENTS[element].width, threads // group
    kind = access(element, width)
    packed, word, real = unroll * kind.words, kind.word, kind.real
    load_piece, store_piece, storage = kind.load, kind.store, ELEMENTS[element].dtype
    functions = reduction(real, team)
    sum_warp, sum_team, centred = functions.sum_warp, functions.sum_block, functions.centred
    (parameters, affine_map), commit = affine(real), training(real)
    warps, sums, team_warps = threads // LANES, 3 * threads // LANES, team // LANES
    chunk = unroll * threads

    @device
    def into_shared(x: Pointer, walk: Any, pieces: Integer, shared: Any) -> None:
        """Copy a group's rows, one after the other."""
        packets = cuda.local.array(packed, word)
        place = np.int64(cuda.threadIdx.x)
        while place < pieces:
            for u in range(unroll):
                if place + u * threads < pieces:
                    load_piece(x, walk.offset, packets, u)
                walk = advance(walk)
            for u in range(unroll):
                if place + u * threads < pieces:
                    share(packets, u, shared, place + u * threads)
            place += chunk

    @device
    def from_shared(shared: Any, pieces: Integer, y: Pointer, walk: Any) -> None:
        """Copy them back."""
        packets = cuda.local.array(packed, word)
        place = np.int64(cuda.threadIdx.x)
        while place < pieces:
            fetch(shared, place, packets, 0)
            store_piece(y, walk.offset, packets, 0)
            walk = advance(walk)
            place += threads

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
        shared, elements = dynamic_shared(word), dynamic_shared(storage)
        partial = cuda.shared.array(sums, real)
        thread = np.int64(cuda.threadIdx.x)
        member, lane = thread // team, thread % team
        feature, start = np.int64(cuda.blockIdx.x) * group + member, np.int64(cuda.blockIdx.x) * group * inner
        gain, offset = parameters(weight, bias, feature, flags)
        row = group * inner // width
        into_shared(x, walk_from(thread, start, row, x_outer, width), outer * row, shared)
        cuda.syncthreads()

        size, count = outer * inner, real(outer * inner)
        begin = walk_by(team, lane, member * inner, inner, group * inner, 1)
        pivot = load(elements, member * inner)
        total = real(0)
        walk = begin
        for _ in range(lane, size, team):
            total += load(elements, walk.offset) - pivot
            walk = advance(walk)
        sum_warp(total, partial, 0)
        cuda.syncthreads()
        pivot += sum_team(partial, member * team_warps) * reciprocal(count)

        total = square = real(0)
        walk = begin
        for _ in range(lane, size, team):
            distance = load(elements, walk.offset) - pivot
            total += distance
            square = fma(distance, distance, square)
            walk = advance(walk)
        sum_warp(total, partial, warps)
        sum_warp(square, partial, 2 * warps)
        cuda.syncthreads()
        total = sum_team(partial, warps + member * team_warps)
        sample = centred(count, pivot, total, sum_team(partial, 2 * warps + member * team_warps))

        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(sample.mean, sample.residue, invstd, gain, offset)
        walk = begin
        for _ in range(lane, size, team):
            store(elements, walk.offset, fma(load(elements, walk.offset) - to.mean, to.scale, to.shift))
            walk = advance(walk)
        cuda.syncthreads()
        from_shared(shared, outer * row, y, walk_from(thread, start, row, y_outer, width))
        if lane == 0:
            commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *committed(element, vectors))
    name = name_of("planes", element, vectors, f"g{group}", f"s{room}", f"u{unroll}", f"t{threads}")
    return Program(name, kernel, signature, threads, dynamic=room)
