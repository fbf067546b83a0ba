"""The training forward of small planes: rows of a feature that are no whole packets, as those of 7 × 7 images.

Some features side by side, a *group*, make rows that are whole packets. A block takes a group, or a cluster of blocks
some rows each, into shared memory by packets, and works on its single elements there: a *team* of its threads on each
feature.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .forward import Vectors, affine, committed, kept, name_of, training
from .pieces import (
    SIZES,
    STRIDES,
    Integer,
    Number,
    Pointer,
    Walk,
    advance,
    position,
    slice_bounds,
    walk_by,
    walk_from,
)
from .primitives import (
    ELEMENTS,
    LANES,
    access,
    cluster_wait,
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

THREADS = 256  # of a block


def group_of(element: str, inner: int) -> int:
    """Features of a group: the fewest whose rows together are whole packets."""
    width = ELEMENTS[element].width
    return width // math.gcd(width, inner)


def title(kernel: str, element: str, vectors: tuple[str, ...], group: int, unroll: int, threads: int) -> str:
    """Name a program."""
    return name_of(kernel, element, vectors, f"g{group}", f"u{unroll}", f"t{threads}")


@cache
def mover(element: str, unroll: int, threads: int) -> tuple[Any, Any]:
    """Build the device functions that copy rows of a group to and from shared memory, where they have no gaps."""
    kind = access(element, ELEMENTS[element].width)
    packed, word, load_piece, store_piece = unroll * kind.words, kind.word, kind.load, kind.store

    @device
    def into_shared(x: Pointer, walk: Walk, pieces: Integer, shared: Any, origin: Integer) -> None:
        """Copy to the shared packets from ``origin`` on."""
        packets = cuda.local.array(packed, word)
        place = np.int64(cuda.threadIdx.x)
        while place < pieces:
            for u in range(unroll):
                if place + u * threads < pieces:
                    load_piece(x, walk.offset, packets, u)
                walk = advance(walk)
            for u in range(unroll):
                if place + u * threads < pieces:
                    share(packets, u, shared, origin + place + u * threads)
            place += unroll * threads

    @device
    def from_shared(shared: Any, origin: Integer, pieces: Integer, y: Pointer, walk: Walk) -> None:
        """Copy them back."""
        packets = cuda.local.array(packed, word)
        place = np.int64(cuda.threadIdx.x)
        while place < pieces:
            fetch(shared, origin + place, packets, 0)
            store_piece(y, walk.offset, packets, 0)
            walk = advance(walk)
            place += threads

    return into_shared, from_shared


@cache
def planes(
    element: str, vectors: Vectors, group: int, cluster: int = 1, unroll: int = 4, threads: int = THREADS
) -> Program:
    """Normalize by the statistics of x, and commit them; ``vectors`` as for ``forward.normalize``.

    ``x`` and ``y`` are contiguous in feature and inner, at addresses and with strides of outer that are multiples of 16
    bytes, and ``inner`` is in elements. A group of features, see ``group_of``, is kept in dynamic shared memory, some
    rows by each block of a cluster: x is read once and y written once, 2T, in one launch. The grid is
    (feature / group * cluster,), and ``threads`` are a multiple of 32 for each feature of a group.
    """
    if cluster > 2:
        return planes(element, vectors, group, 2, unroll, threads)._replace(cluster=cluster)
    width, team, clustered = ELEMENTS[element].width, threads // group, cluster > 1
    word, real, storage = ELEMENTS[element].word, ELEMENTS[element].real, ELEMENTS[element].dtype
    functions, (into_shared, from_shared) = reduction(real, team, group), mover(element, unroll, threads)
    sum_warp, sum_team, centred = functions.sum_warp, functions.sum_block, functions.centred
    merge_cluster = functions.merge_cluster
    (parameters, affine_map), commit = affine(real), training(real)
    warps, sums, team_warps = threads // LANES, 3 * threads // LANES, team // LANES

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
        index, rank, blocks = position(clustered)
        first, end = slice_bounds(outer, blocks, rank)
        feature, start, row = index * group + member, index * group * inner, group * inner // width
        pieces, size = (end - first) * row, (end - first) * inner
        gain, offset = parameters(weight, bias, feature, flags)
        into_shared(x, walk_from(thread, start + first * x_outer, row, x_outer, width), pieces, shared, np.int64(0))
        cuda.syncthreads()

        count = real(size)
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
        if clustered:
            sample = merge_cluster(sample, blocks)

        invstd = reciprocal_root(sample.m2 * reciprocal(sample.count) + epsilon)
        to = affine_map(sample.mean, sample.residue, invstd, gain, offset)
        walk = begin
        for _ in range(lane, size, team):
            store(elements, walk.offset, fma(load(elements, walk.offset) - to.mean, to.scale, to.shift))
            walk = advance(walk)
        cuda.syncthreads()
        from_shared(shared, np.int64(0), pieces, y, walk_from(thread, start + first * y_outer, row, y_outer, width))
        if rank == 0 and lane == 0:
            commit(sample, invstd, feature, running_mean, running_var, tracked, means, invstds, keep, rate, flags)
        if clustered:
            cluster_wait()

    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *committed(element, vectors))
    name = title(kept("planes", cluster), element, vectors, group, unroll, threads)
    return Program(name, kernel, signature, threads, cluster=cluster)
