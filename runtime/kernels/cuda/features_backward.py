"""Kernels of the backward pass: gradients through ``y = (x - mean) * invstd * weight + bias``, channels first.

``dy`` and ``x - mean`` are put together as x itself is in the forward pass: means, and a comoment, the sum of
``(dy - its mean) * (x - mean)``, by Chan's formula. So a ``dy`` far from zero costs no digits, and a constant one gives
a ``dx`` of exactly zero.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .forward import kept, name_of, piece, scalar, shape_of
from .pieces import SIZES, STRIDES, Integer, Number, Pointer, advance, position, slice_bounds, walk_back, walk_from
from .primitives import (
    LANES,
    access,
    cluster_arrive,
    cluster_leave,
    cluster_wait,
    cuda,
    device,
    fma,
    launch_next,
    pointer,
    read_peer,
    reciprocal,
    shuffle_down,
    shuffle_from,
    wait_for_previous,
)
from .program import BATCH, INPUT, WEIGHT, Program
from .reduction import two_sum
from .shelf import shelf

Array = Any
SIZE = 5  # numbers of a sample in memory
ROOM = 512  # threads of a multiprocessor that go through slices: 128 registers each


class Cosample(NamedTuple):
    """Statistics of ``dy`` and ``x - mean``; of two to be merged only the second may be empty."""

    count: Number
    slope: Number  # mean of dy, a pair
    residue: Number
    center: Number  # mean of x - mean
    comoment: Number


@device
def combine(sample: Cosample, count: Number, distance: Number, drift: Number, comoment: Number) -> Cosample:
    """Merge a sample with another, whose means are ``distance`` and ``drift`` away."""
    total = sample.count + count
    share = count * reciprocal(total)
    slope, residue = two_sum(sample.slope, sample.residue + distance * share)
    between = distance * drift * (sample.count * share)
    return Cosample(total, slope, residue, sample.center + drift * share, sample.comoment + comoment + between)


@device
def derive(
    sample: Cosample, residue: Number, invstd: Number, flags: Integer
) -> tuple[Number, Number, Number, Number, Number]:
    """Offset, rest, tilt of ``dx = ((dy - offset) - ((x - mean) * tilt + rest)) * scale``, then dweight and dbias.

    The sums left out the residue of the mean of x, which costs less here than with every element. If the mean is
    that of the batch, ``x - mean`` has none.
    """
    product = sample.comoment
    if not flags & BATCH:
        product += sample.count * sample.slope * (sample.center - residue)
    dweight = product * invstd
    tilt = dweight * reciprocal(sample.count) * invstd
    dbias = np.float64(sample.count) * (np.float64(sample.slope) + np.float64(sample.residue))
    return sample.slope, sample.residue - residue * tilt, tilt, np.float64(dweight), dbias


@cache
def reader(real: Any) -> Any:
    """Build the device function that reads what is given of a feature, for ``numpy.float32`` or ``numpy.float64``."""

    @device
    def given(
        means: Pointer, invstds: Pointer, weight: Pointer, feature: Integer, flags: Integer
    ) -> tuple[Number, Number, Number, Number]:
        """Mean, its residue, 1 / standard deviation, and the scale, which is that times the weight."""
        mean, invstd = real(means[feature]), real(invstds[feature])
        residue = real(means[feature] - mean)
        scale = invstd
        if flags & WEIGHT:
            scale = invstd * real(weight[feature])
        return mean, residue, invstd, scale

    return given


@cache
def trees(real: Any, threads: int, teams: int = 1) -> tuple[Any, Any]:
    """Build the device functions that merge the samples of a block's threads, and of a cluster's blocks.

    A block may be some teams, as for ``reduction``.
    """
    warps, slots, numbers = threads // LANES, SIZE * threads // LANES, SIZE * teams

    @device
    def merge_lanes(sample: Cosample, lanes: Integer) -> Cosample:
        """Merge the samples of a warp's first lanes, a power of 2; every lane gets the result.

        Nothing here may branch: before compute capability 9.0, a shuffle that not all lanes are sure to come to is a
        call, for which a thread's registers go to memory.
        """
        lanes >>= 1
        while lanes > 0:
            count, comoment = shuffle_down(sample.count, lanes), shuffle_down(sample.comoment, lanes)
            distance = shuffle_down(sample.slope, lanes) - sample.slope
            distance += shuffle_down(sample.residue, lanes) - sample.residue
            drift = shuffle_down(sample.center, lanes) - sample.center
            merged = combine(sample, count, distance, drift, comoment)
            if count > real(0):
                sample = merged
            lanes >>= 1
        return Cosample(
            shuffle_from(sample.count, 0),
            shuffle_from(sample.slope, 0),
            shuffle_from(sample.residue, 0),
            shuffle_from(sample.center, 0),
            shuffle_from(sample.comoment, 0),
        )

    @device
    def merge_block(sample: Cosample) -> Cosample:
        """Merge the samples of a block's threads; every thread gets the result."""
        shared = cuda.shared.array(slots, real)
        warp, lane = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
        sample = merge_lanes(sample, LANES)
        if lane == 0:
            write_cosample(shared, SIZE * warp, sample)
        cuda.syncthreads()
        sample = Cosample(real(0), real(0), real(0), real(0), real(0))
        if lane < warps:
            sample = read_cosample(shared, SIZE * lane)
        return merge_lanes(sample, warps)

    @device
    def merge_cluster(sample: Cosample, blocks: Integer) -> Cosample:
        """Merge the samples of a cluster's blocks, for every thread, which then waits for the cluster at its end."""
        shared = cuda.shared.array(numbers, real)
        lane = cuda.threadIdx.x % LANES
        place = SIZE * (cuda.threadIdx.x // threads) if teams > 1 else 0
        if cuda.threadIdx.x % threads == 0:
            write_cosample(shared, place, sample)
        cluster_arrive()
        cluster_wait()
        sample = Cosample(real(0), real(0), real(0), real(0), real(0))
        if lane < blocks:
            sample = Cosample(
                read_peer(shared, place, lane),
                read_peer(shared, place + 1, lane),
                read_peer(shared, place + 2, lane),
                read_peer(shared, place + 3, lane),
                read_peer(shared, place + 4, lane),
            )
        sample = merge_lanes(sample, blocks)
        cluster_leave()
        return sample

    return merge_block, merge_cluster


@device
def write_cosample(array: Array, place: Integer, sample: Cosample) -> None:
    """Keep a sample in ``array[place : place + SIZE]``."""
    array[place] = sample.count
    array[place + 1] = sample.slope
    array[place + 2] = sample.residue
    array[place + 3] = sample.center
    array[place + 4] = sample.comoment


@device
def read_cosample(array: Array, place: Integer) -> Cosample:
    """Get a sample that was written there."""
    return Cosample(array[place], array[place + 1], array[place + 2], array[place + 3], array[place + 4])


@cache
def adder(element: str, width: int, unroll: int, threads: int) -> Any:
    """Build the device function that adds a thread's pieces of x and dy to a sample."""
    kind = access(element, width)
    unpack, real = kind.unpack, kind.real

    @device
    def add(xs: Array, dys: Array, left: Integer, mean: Number, sample: Cosample) -> Cosample:
        """Add the packets, ``unroll`` or what is left of a slice from the first one on."""
        x = cuda.local.array(width, real)
        dy = cuda.local.array(width, real)
        unpack(dys, 0, dy, 0)
        pivot = sample.slope if sample.count > real(0) else dy[0]  # where distances are measured from
        count = distance = center = comoment = real(0)
        for u in range(unroll):
            if u * threads < left:
                unpack(xs, u, x, 0)
                unpack(dys, u, dy, 0)
                count += real(width)
                for item in range(width):
                    distance += dy[item] - pivot
                    center += x[item] - mean
        part = reciprocal(count)
        distance *= part
        for u in range(unroll):
            if u * threads < left:
                unpack(xs, u, x, 0)
                unpack(dys, u, dy, 0)
                for item in range(width):
                    comoment = fma((dy[item] - pivot) - distance, x[item] - mean, comoment)
        mine = Cosample(sample.count, pivot, sample.residue, sample.center, sample.comoment)
        after: Cosample = combine(mine, count, distance - sample.residue, center * part - sample.center, comoment)
        return after

    return add


class Slopes(NamedTuple):
    """``dx = ((dy - offset) - ((x - mean) * tilt + rest)) * scale``."""

    mean: Number
    scale: Number
    offset: Number
    rest: Number
    tilt: Number


@device
def through_statistics(x: Number, dy: Number, by: Slopes) -> Number:
    """dx before it is scaled, where mean and variance depend on x."""
    return (dy - by.offset) - fma(x - by.mean, by.tilt, by.rest)


@cache
def differentiator(element: str, width: int) -> Any:
    """Build the device function that turns a packet of dy into one of dx."""
    kind = access(element, width)
    unpack, pack, real = kind.unpack, kind.pack, kind.real

    @device
    def apply(xs: Array, dys: Array, packet: Integer, by: Slopes, flags: Integer) -> None:
        x = cuda.local.array(width, real)
        dy = cuda.local.array(width, real)
        unpack(dys, packet, dy, 0)
        if flags & BATCH:
            unpack(xs, packet, x, 0)
            for item in range(width):
                dy[item] = through_statistics(x[item], dy[item], by)
        for item in range(width):
            dy[item] *= by.scale
        pack(dy, 0, dys, packet)

    return apply


@cache
def finisher(real: Any) -> Any:
    """Build the device function that makes slopes of the sums of all elements, and writes dweight and dbias."""
    given = reader(real)

    @device
    def finish(
        sample: Cosample,
        feature: Integer,
        committing: bool,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> Slopes:
        mean, residue, invstd, scale = given(means, invstds, weight, feature, flags)
        offset, rest, tilt, slope, total = derive(sample, residue, invstd, flags)
        if committing:
            dweight[feature] = slope
            dbias[feature] = total
        return Slopes(mean, scale, offset, rest, tilt)

    return finish


def title(kernel: str, element: str, weight: str, width: int, unroll: int, threads: int, shared: int = 0) -> str:
    """Name a program."""
    return name_of(kernel, element, (weight,), piece(element, width), *shape_of(unroll, shared, threads))


def parameters(element: str, weight: str) -> tuple[Any, ...]:
    """Signature of the kernels.

    x, dy and dx with their strides; outer, inner and slices; means, invstds, weight, partial, dweight, dbias; flags.
    """
    data, double = (pointer(element), *STRIDES), pointer("f64")
    vectors = (double, double, pointer(weight), types.CPointer(scalar(element)), double, double)
    return (*data, *data, *data, *SIZES, types.int64, *vectors, types.int64)


@cache
def sums(element: str, weight: str, width: int, evaluation: bool, unroll: int = 4, threads: int = 256) -> Program:
    """Sums of every slice, into ``partial``: (feature, slices, 5) of the arithmetic's type.

    Reads x and dy once, 2T. In ``evaluation``, where dx does not depend on the sums, it is written if flags have INPUT,
    3T in all. The grid is (feature, slices).
    """
    kind = access(element, width)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    add, apply, given = (
        adder(element, width, unroll, threads),
        differentiator(element, width),
        reader(real),
    )
    merge_block, _ = trees(real, threads)

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
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        sample = Cosample(real(0), real(0), real(0), real(0), real(0))
        feature, index = np.int64(cuda.blockIdx.x), np.int64(cuda.blockIdx.y)
        start, stop = slice_bounds(outer * inner, slices, index)
        place = start + np.int64(cuda.threadIdx.x)
        left = stop - place
        mean, _, _, scale = given(means, invstds, weight, feature, flags)
        by = Slopes(mean, scale, real(0), real(0), real(0))
        x_walk = walk_from(place, feature * x_feature, inner, x_outer, x_inner)
        dy_walk = walk_from(place, feature * dy_feature, inner, dy_outer, dy_inner)
        dx_walk = walk_from(place, feature * dx_feature, inner, dx_outer, dx_inner)
        while left > 0:
            for u in range(unroll):
                if u * threads < left:
                    load_piece(x, x_walk.offset, xs, u)
                    load_piece(dy, dy_walk.offset, dys, u)
                x_walk, dy_walk = advance(x_walk), advance(dy_walk)
            sample = add(xs, dys, left, mean, sample)
            if evaluation and flags & INPUT:
                for u in range(unroll):
                    if u * threads < left:
                        apply(xs, dys, u, by, flags)
                        store_piece(dx, dx_walk.offset, dys, u)
                    dx_walk = advance(dx_walk)
            left -= unroll * threads
        sample = merge_block(sample)
        if cuda.threadIdx.x == 0:
            write_cosample(partial, SIZE * (feature * slices + index), sample)
        launch_next()

    kernel_name = "backward_evaluation" if evaluation else "backward_sums"
    name = title(kernel_name, element, weight, width, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, ROOM // threads)


@cache
def gradient(element: str, weight: str, width: int, unroll: int = 4, threads: int = 256) -> Program:
    """Merge the slices of ``sums``, no more than ``threads``; write dweight, dbias and, if flags have INPUT, dx.

    Together they read x and dy twice and write dx once, 5T less what was cached. The grid is (feature, slices), or
    (feature, 1) where no dx is written. They go from the last piece to the first, as in ``forward.normalize``.
    """
    kind = access(element, width)
    packed, word, real, load_piece, store_piece = unroll * kind.words, kind.word, kind.real, kind.load, kind.store
    apply, finish, (merge_block, _) = differentiator(element, width), finisher(real), trees(real, threads)

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
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        sample = Cosample(real(0), real(0), real(0), real(0), real(0))
        feature = np.int64(cuda.gridDim.x - 1 - cuda.blockIdx.x)
        start, stop = slice_bounds(outer * inner, slices, np.int64(cuda.blockIdx.y))
        place = start + np.int64(cuda.threadIdx.x)
        left = stop - place if flags & INPUT else np.int64(0)
        x_walk = walk_back(place, feature * x_feature, outer, inner, x_outer, x_inner)
        dy_walk = walk_back(place, feature * dy_feature, outer, inner, dy_outer, dy_inner)
        dx_walk = walk_back(place, feature * dx_feature, outer, inner, dx_outer, dx_inner)
        wait_for_previous()
        if cuda.threadIdx.x < slices:
            sample = read_cosample(partial, SIZE * (feature * slices + cuda.threadIdx.x))
        sample = merge_block(sample)
        committing = cuda.blockIdx.y == 0 and cuda.threadIdx.x == 0
        by = finish(sample, feature, committing, means, invstds, weight, dweight, dbias, flags)
        while left > 0:
            for u in range(unroll):
                if u * threads < left:
                    load_piece(x, x_walk.offset, xs, u)
                    load_piece(dy, dy_walk.offset, dys, u)
                x_walk, dy_walk = advance(x_walk), advance(dy_walk)
            for u in range(unroll):
                if u * threads < left:
                    apply(xs, dys, u, by, flags)
                    store_piece(dx, dx_walk.offset, dys, u)
                dx_walk = advance(dx_walk)
            left -= unroll * threads

    name = title("backward_gradient", element, weight, width, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, ROOM // threads)


@cache
def resident(
    element: str, weight: str, width: int, cluster: int = 1, unroll: int = 8, threads: int = 512, shared: int = 0
) -> Program:
    """Write dweight, dbias and, if flags have INPUT, dx.

    A feature of x and dy is kept on chip by the blocks of a cluster, a slice each: 3T, in one launch. The grid is
    (feature * cluster,), and a thread has ``shared`` pieces of each in shared memory, no more than the ``unroll`` that
    it has in registers.
    """
    if cluster > 2:
        return resident(element, weight, width, 2, unroll, threads, shared)._replace(cluster=cluster)
    kind = access(element, width)
    words, packed, word, real = kind.words, unroll * kind.words, kind.word, kind.real
    load_piece, store_piece, slots = kind.load, kind.store, max(1, 2 * shared * words * threads)
    add, add_shared = adder(element, width, unroll, threads), adder(element, width, shared, threads)
    apply, given, (put, take) = differentiator(element, width), reader(real), shelf(words, threads)
    finish, (merge_block, merge_cluster), clustered = finisher(real), trees(real, threads), cluster > 1
    first = shared or unroll

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
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        one_x, one_dy = cuda.local.array(words, word), cuda.local.array(words, word)
        shelved = cuda.shared.array(slots, word)
        sample = Cosample(real(0), real(0), real(0), real(0), real(0))
        feature, rank, blocks = position(clustered)
        start, stop = slice_bounds(outer * inner, blocks, rank)
        place = start + np.int64(cuda.threadIdx.x)
        left = stop - place
        rest = left - shared * threads
        x_walk = walk_from(place, feature * x_feature, inner, x_outer, x_inner)
        dy_walk = walk_from(place, feature * dy_feature, inner, dy_outer, dy_inner)
        for u in range(first):
            if u * threads < left:
                load_piece(x, x_walk.offset, xs, u)
                load_piece(dy, dy_walk.offset, dys, u)
            x_walk, dy_walk = advance(x_walk), advance(dy_walk)
        mean, _, _, _ = given(means, invstds, weight, feature, flags)
        if shared > 0:
            if left > 0:
                sample = add_shared(xs, dys, left, mean, sample)
            for u in range(shared):
                if u * threads < left:
                    put(xs, u, shelved, u)
                    put(dys, u, shelved, shared + u)
            for u in range(unroll):
                if u * threads < rest:
                    load_piece(x, x_walk.offset, xs, u)
                    load_piece(dy, dy_walk.offset, dys, u)
                x_walk, dy_walk = advance(x_walk), advance(dy_walk)
        if rest > 0:
            sample = add(xs, dys, rest, mean, sample)
        sample = merge_block(sample)
        if clustered:
            sample = merge_cluster(sample, blocks)
        committing = rank == 0 and cuda.threadIdx.x == 0
        by = finish(sample, feature, committing, means, invstds, weight, dweight, dbias, flags)
        if flags & INPUT:
            dx_walk = walk_from(place, feature * dx_feature, inner, dx_outer, dx_inner)
            for u in range(shared):
                if u * threads < left:
                    take(shelved, u, one_x, 0)
                    take(shelved, shared + u, one_dy, 0)
                    apply(one_x, one_dy, 0, by, flags)
                    store_piece(dx, dx_walk.offset, one_dy, 0)
                dx_walk = advance(dx_walk)
            for u in range(unroll):
                if u * threads < rest:
                    apply(xs, dys, u, by, flags)
                    store_piece(dx, dx_walk.offset, dys, u)
                dx_walk = advance(dx_walk)
        if clustered:
            cluster_wait()

    name = title(kept("backward_resident", cluster), element, weight, width, unroll, threads, shared)
    return Program(name, kernel, parameters(element, weight), threads, max(1, ROOM // threads), cluster)
