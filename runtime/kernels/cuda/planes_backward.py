"""The backward pass of small planes, see ``planes``; the formulas are those of ``features_backward``."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .features_backward import Cosample, finisher, gradients, parameters, through_statistics, trees
from .forward import kept
from .pieces import Integer, Number, Pointer, advance, position, slice_bounds, walk_by, walk_from
from .planes import THREADS, mover, title
from .primitives import ELEMENTS, LANES, cluster_wait, cuda, device, dynamic_shared, fma, load, reciprocal, store
from .program import BATCH, INPUT, Program
from .reduction import reduction, two_sum


@cache
def cocentred(real: Any) -> Any:
    """Build the device function that makes a sample of sums of ``dy`` about a pivot near its mean, and of x."""

    @device
    def make(count: Number, pivot: Number, total: Number, centers: Number, product: Number) -> Cosample:
        part = reciprocal(count)
        slope, residue = two_sum(pivot, total * part)
        center = centers * part
        return Cosample(count, slope, residue, center, product - total * center)

    return make


@cache
def planes(element: str, weight: str, group: int, cluster: int = 1, unroll: int = 4, threads: int = THREADS) -> Program:
    """Write dweight, dbias and, if flags have INPUT, dx.

    Arrays are as for the forward pass, and dynamic shared memory holds a block's rows of x and of dy: 3T, in one
    launch. The grid is (feature / group * cluster,).
    """
    if cluster > 2:
        return planes(element, weight, group, 2, unroll, threads)._replace(cluster=cluster)
    width, team, clustered = ELEMENTS[element].width, threads // group, cluster > 1
    word, real, storage = ELEMENTS[element].word, ELEMENTS[element].real, ELEMENTS[element].dtype
    functions, (into_shared, from_shared) = reduction(real, team), mover(element, unroll, threads)
    sum_warp, sum_team, sample_of = functions.sum_warp, functions.sum_block, cocentred(real)
    (_, merge_cluster), finish, given = trees(real, team, group), finisher(real), gradients(real).given
    warps, sums, team_warps = threads // LANES, 4 * threads // LANES, team // LANES

    def kernel(
        x: Pointer,
        x_outer: Integer,
        x_feature: Integer,
        x_inner: Integer,
        dy: Pointer,
        dy_outer: Integer,
        dy_feature: Integer,
        dy_inner: Integer,
        dx: Pointer,
        dx_outer: Integer,
        dx_feature: Integer,
        dx_inner: Integer,
        outer: Integer,
        inner: Integer,
        slices: Integer,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        partial: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> None:
        shared, elements = dynamic_shared(word), dynamic_shared(storage)
        sums_of_warps = cuda.shared.array(sums, real)
        thread = np.int64(cuda.threadIdx.x)
        member, lane = thread // team, thread % team
        index, rank, blocks = position(clustered)
        first, end = slice_bounds(outer, blocks, rank)
        feature, start, row = index * group + member, index * group * inner, group * inner // width
        pieces, size = (end - first) * row, (end - first) * inner
        mean, _, _, _ = given(means, invstds, weight, feature, flags)
        into_shared(x, walk_from(thread, start + first * x_outer, row, x_outer, width), pieces, shared, np.int64(0))
        into_shared(dy, walk_from(thread, start + first * dy_outer, row, dy_outer, width), pieces, shared, pieces)
        cuda.syncthreads()

        count, slopes = real(size), pieces * width  # where dy begins
        begin = walk_by(team, lane, member * inner, inner, group * inner, 1)
        pivot = load(elements, slopes + member * inner)
        total = real(0)
        walk = begin
        for _ in range(lane, size, team):
            total += load(elements, slopes + walk.offset) - pivot
            walk = advance(walk)
        sum_warp(total, sums_of_warps, 0)
        cuda.syncthreads()
        pivot += sum_team(sums_of_warps, member * team_warps) * reciprocal(count)

        total = centers = product = real(0)
        walk = begin
        for _ in range(lane, size, team):
            distance, center = load(elements, slopes + walk.offset) - pivot, load(elements, walk.offset) - mean
            total += distance
            centers += center
            product = fma(distance, center, product)
            walk = advance(walk)
        sum_warp(total, sums_of_warps, warps)
        sum_warp(centers, sums_of_warps, 2 * warps)
        sum_warp(product, sums_of_warps, 3 * warps)
        cuda.syncthreads()
        total = sum_team(sums_of_warps, warps + member * team_warps)
        centers = sum_team(sums_of_warps, 2 * warps + member * team_warps)
        product = sum_team(sums_of_warps, 3 * warps + member * team_warps)
        sample = sample_of(count, pivot, total, centers, product)
        if clustered:
            sample = merge_cluster(sample, blocks)

        committing = rank == 0 and lane == 0
        by = finish(sample, feature, committing, means, invstds, weight, dweight, dbias, flags)
        if flags & INPUT:
            walk = begin
            for _ in range(lane, size, team):
                slope = load(elements, slopes + walk.offset)
                if flags & BATCH:
                    slope = through_statistics(load(elements, walk.offset), slope, by)
                store(elements, slopes + walk.offset, slope * by.scale)
                walk = advance(walk)
            cuda.syncthreads()
            to = walk_from(thread, start + first * dx_outer, row, dx_outer, width)
            from_shared(shared, pieces, pieces, dx, to)
        if clustered:
            cluster_wait()

    name = title(kept("planes_backward", cluster), element, (weight,), group, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, cluster=cluster)
