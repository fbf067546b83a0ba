"""The backward pass of small planes, see ``planes``; the formulas are those of ``features_backward``."""

from __future__ import annotations

from functools import cache

import numpy as np

from .features_backward import Cosample, Slopes, finisher, parameters, reader, through_statistics, trees
from .forward import kept
from .pieces import Integer, Pointer, position
from .planes import BLOCKS, functions_of, title
from .primitives import ELEMENTS, LANES, access, cluster_wait, cuda, fma, load, reciprocal
from .program import BATCH, INPUT, Program
from .reduction import two_sum


@cache
def planes(element: str, weight: str, group: int, cluster: int = 1, unroll: int = 4, threads: int = 256) -> Program:
    """Write dweight, dbias and, if flags have INPUT, dx.

    Arrays are as for the forward pass, and a group of x and dy is kept on chip: 3T, in one launch. The grid is
    (feature / group * cluster,).
    """
    if cluster > 2:
        return planes(element, weight, group, 2, unroll, threads)._replace(cluster=cluster)
    width, clustered = ELEMENTS[element].width, cluster > 1
    kind, (locate, spread, leave, collect) = access(element, width), functions_of(element, group, threads)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    unpack, pack, given, finish = kind.unpack, kind.pack, reader(real), finisher(real)
    _, merge_cluster = trees(real, LANES, threads // LANES)
    slots, lines = 2 * width * threads, 5 * group

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
        xs, dys = cuda.local.array(packed, word), cuda.local.array(packed, word)
        values, slopes = cuda.local.array(width, real), cuda.local.array(width, real)
        centers, pivots = cuda.local.array(width, real), cuda.local.array(width, real)
        totals, offsets, products = (
            cuda.local.array(width, real),
            cuda.local.array(width, real),
            cuda.local.array(width, real),
        )
        scales, rests, tilts = (
            cuda.local.array(width, real),
            cuda.local.array(width, real),
            cuda.local.array(width, real),
        )
        shared = cuda.shared.array(slots, real)
        table = cuda.shared.array(lines, real)
        index, rank, blocks = position(clustered)
        place = locate(outer, inner, blocks, rank)
        origin, warp = index * group * inner, np.int64(cuda.threadIdx.x) // LANES
        member: Integer = min(warp, group - 1)  # of the warp, or any
        feature, count = index * group + member, real(place.rows * inner)
        mean, _, _, _ = given(means, invstds, weight, feature, flags)
        pivot = load(dy, origin + member * inner)
        leader = warp < group and cuda.threadIdx.x % LANES == 0
        if leader:
            table[member] = mean
            table[group + member] = pivot
        x_place = origin + place.start + place.row * x_outer
        dy_place = origin + place.start + place.row * dy_outer
        for u in range(unroll):
            if u < place.turns:
                load_piece(x, x_place, xs, u)
                load_piece(dy, dy_place, dys, u)
            x_place += place.ranks * x_outer
            dy_place += place.ranks * dy_outer
        cuda.syncthreads()

        spread(table, 0, place, inner, centers)
        spread(table, group, place, inner, pivots)
        for item in range(width):
            totals[item] = offsets[item] = real(0)
        for u in range(unroll):
            if u < place.turns:
                unpack(xs, u, values, 0)
                unpack(dys, u, slopes, 0)
                for item in range(width):
                    totals[item] += slopes[item] - pivots[item]
                    offsets[item] += values[item] - centers[item]
        leave(totals, shared, 0)
        leave(offsets, shared, 1)
        cuda.syncthreads()
        part = reciprocal(count)
        center = collect(shared, 1, place, inner, member) * part
        pivot += collect(shared, 0, place, inner, member) * part
        if leader:
            table[group + member] = pivot
        cuda.syncthreads()

        spread(table, group, place, inner, pivots)
        for item in range(width):
            totals[item] = products[item] = real(0)
        for u in range(unroll):
            if u < place.turns:
                unpack(xs, u, values, 0)
                unpack(dys, u, slopes, 0)
                for item in range(width):
                    distance = slopes[item] - pivots[item]
                    totals[item] += distance
                    products[item] = fma(distance, values[item] - centers[item], products[item])
        leave(totals, shared, 0)
        leave(products, shared, 1)
        cuda.syncthreads()
        total, product = collect(shared, 0, place, inner, member), collect(shared, 1, place, inner, member)
        slope, residue = two_sum(pivot, total * part)
        sample = Cosample(count, slope, residue, center, product - total * center)
        if clustered:
            sample = merge_cluster(sample, blocks)

        committing = leader and rank == 0
        by = finish(sample, feature, committing, means, invstds, weight, dweight, dbias, flags)
        if leader:
            table[group + member] = by.offset
            table[2 * group + member] = by.rest
            table[3 * group + member] = by.tilt
            table[4 * group + member] = by.scale
        cuda.syncthreads()
        if flags & INPUT:
            spread(table, group, place, inner, offsets)
            spread(table, 2 * group, place, inner, rests)
            spread(table, 3 * group, place, inner, tilts)
            spread(table, 4 * group, place, inner, scales)
            dx_place = origin + place.start + place.row * dx_outer
            for u in range(unroll):
                if u < place.turns:
                    unpack(dys, u, slopes, 0)
                    if flags & BATCH:
                        unpack(xs, u, values, 0)
                        for item in range(width):
                            to = Slopes(centers[item], scales[item], offsets[item], rests[item], tilts[item])
                            slopes[item] = through_statistics(values[item], slopes[item], to)
                    for item in range(width):
                        slopes[item] *= scales[item]
                    pack(slopes, 0, dys, u)
                    store_piece(dx, dx_place, dys, u)
                dx_place += place.ranks * dx_outer
        if clustered:
            cluster_wait()

    name = title(kept("planes_backward", cluster), element, (weight,), group, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, BLOCKS, cluster)
