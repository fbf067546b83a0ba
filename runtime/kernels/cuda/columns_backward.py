"""Kernels of the backward pass on memory where the features of a row lie side by side; words as in ``columns``."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .columns import SIZES, THREADS, UNROLL, Array, broadcast, locate, matrix, pivoting, share, title, trees
from .features_backward import ROOM, Cosample, combine, derive, reader
from .forward import kept, scalar
from .pieces import Integer, Pointer, position, slice_bounds
from .primitives import ELEMENTS, access, cuda, device, fma, launch_next, pointer, reciprocal, wait_for_previous
from .program import BATCH, INPUT, Program
from .shelf import shelf


class Comoments(NamedTuple):
    """Device functions on sums: a sample is a ``Cosample`` of each feature of a piece, with their count at its end."""

    size: int
    add_rows: Any
    gather_slices: Any
    merge_ranks: Any
    merge_cluster: Any


@cache
def merger(real: Any, width: int) -> Any:
    """Build the device function that adds a local array of samples to another: ``width`` features, then their count."""
    counted, size = 4 * width, 4 * width + 1

    @device
    def merge(sample: Array, other: Array) -> None:
        """Either may be empty."""
        count, more = sample[counted], other[counted]
        if count == real(0):
            for i in range(size):
                sample[i] = other[i]
        elif more > real(0):
            for i in range(0, counted, 4):
                mine = Cosample(count, sample[i], sample[i + 1], sample[i + 2], sample[i + 3])
                distance = (other[i] - mine.slope) + (other[i + 1] - mine.residue)
                _, sample[i], sample[i + 1], sample[i + 2], sample[i + 3] = combine(
                    mine, more, distance, other[i + 2] - mine.center, other[i + 3]
                )
            sample[counted] = count + more

    return merge


@cache
def comoments(element: str, width: int, unroll: int, threads: int) -> Comoments:
    """Build them."""
    moves, real = access(element, width), ELEMENTS[element].real
    unpack, counted, size = moves.unpack, 4 * width, 4 * width + 1
    merge, pivots = merger(real, width), pivoting(element, width, unroll)

    @device
    def add_rows(xs: Array, dys: Array, rows: Integer, means: Array, sample: Array) -> None:
        """Add the rows in two arrays of packets, at least one, to a sample."""
        x = cuda.local.array(width, real)
        dy = cuda.local.array(width, real)
        totals = cuda.local.array(width, real)
        centers = cuda.local.array(width, real)
        products = cuda.local.array(width, real)
        count, more = sample[counted], real(rows)
        if count == real(0):
            pivots(dys, rows, dy)
            for j in range(width):  # only where the first distances are measured from
                sample[4 * j] = dy[j]
                sample[4 * j + 1] = sample[4 * j + 2] = sample[4 * j + 3] = real(0)
        for j in range(width):
            totals[j] = centers[j] = products[j] = real(0)
        for u in range(unroll):
            if u < rows:
                unpack(xs, u, x, 0)
                unpack(dys, u, dy, 0)
                for j in range(width):
                    distance, deviation = dy[j] - sample[4 * j], x[j] - means[j]
                    totals[j] += distance
                    centers[j] += deviation
                    products[j] = fma(distance, deviation, products[j])
        part = reciprocal(more)
        for j in range(width):
            i, center = 4 * j, centers[j] * part
            mine = Cosample(count, sample[i], sample[i + 1], sample[i + 2], sample[i + 3])
            _, sample[i], sample[i + 1], sample[i + 2], sample[i + 3] = combine(
                mine, more, totals[j] * part - mine.residue, center - mine.center, products[j] - totals[j] * center
            )
        sample[counted] = count + more

    @device
    def gather_slices(
        partial: Pointer,
        rows: Integer,
        slices: Integer,
        features: Integer,
        feature: Integer,
        rank: Integer,
        ranks: Integer,
        sample: Array,
    ) -> None:
        """Add a rank's slices, every ``ranks``-th, to a sample."""
        other = cuda.local.array(size, real)
        while rank < slices:
            start, stop = slice_bounds(rows, slices, rank)
            for j in range(width):
                for k in range(4):
                    other[4 * j + k] = partial[(4 * rank + k) * features + feature + j]
            other[counted] = real(stop - start)
            merge(sample, other)
            rank += ranks

    return Comoments(size, add_rows, gather_slices, *trees(merge, size, element, width, threads))


@cache
def differentiator(element: str, width: int) -> Any:
    """Build the device function that turns a packet of ``dy`` into one of ``dx``.

    ``maps`` is a local array with scale, mean, offset, rest and tilt of each feature of a piece; see ``backward``.
    """
    moves, real = access(element, width), ELEMENTS[element].real
    unpack, pack = moves.unpack, moves.pack

    @device
    def apply(xs: Array, dys: Array, packet: Integer, maps: Array, flags: Integer) -> None:
        x = cuda.local.array(width, real)
        dy = cuda.local.array(width, real)
        unpack(dys, packet, dy, 0)
        if flags & BATCH:
            unpack(xs, packet, x, 0)
            for j in range(width):
                i = 5 * j
                dy[j] = (dy[j] - maps[i + 2]) - fma(x[j] - maps[i + 1], maps[i + 4], maps[i + 3])
        for j in range(width):
            dy[j] *= maps[5 * j]
        pack(dy, 0, dys, packet)

    return apply


@cache
def finisher(element: str, width: int) -> Any:
    """Build the device function that makes maps of the sums of all rows, and writes gradients of weight and bias."""
    real = ELEMENTS[element].real
    counted = 4 * width
    given = reader(real)

    @device
    def finish(
        sample: Array,
        maps: Array,
        first: Integer,
        committing: bool,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> None:
        for j in range(width):
            i, k, feature = 4 * j, 5 * j, first + j
            one = Cosample(sample[counted], sample[i], sample[i + 1], sample[i + 2], sample[i + 3])
            maps[k + 1], residue, invstd, maps[k] = given(means, invstds, weight, feature, flags)
            maps[k + 2], maps[k + 3], maps[k + 4], slope, total = derive(one, residue, invstd, flags)
            if committing:
                dweight[feature], dbias[feature] = slope, total

    return finish


def parameters(element: str, weight: str) -> tuple[Any, ...]:
    """Signature of the kernels: x, dy and dx; sizes; means, invstds and weight; partial, dweight and dbias; flags."""
    double = pointer("f64")
    vectors = (double, double, pointer(weight), types.CPointer(scalar(element)), double, double)
    return (*matrix(element), *matrix(element), *matrix(element), *SIZES, *vectors, types.int64)


@cache
def sums(
    element: str, weight: str, width: int, evaluation: bool, unroll: int = UNROLL, threads: int = THREADS
) -> Program:
    """Sums of each slice: ``partial[slice, (slope, residue, center, comoment), feature]``, of the arithmetic's type.

    Reads x and dy once, 2T. In ``evaluation``, where dx does not depend on the sums, it is written if flags have INPUT,
    3T in all. The grid is (slabs, slices).
    """
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, store, packed = moves.word, moves.load, moves.store, unroll * moves.words
    size, add_rows, _, merge_ranks, _ = comoments(element, width, unroll, threads)
    given, apply = reader(real), differentiator(element, width)
    maps_size = 5 * width

    @device
    def extend(
        x: Pointer, x_place: Integer, x_step: Integer, dy: Pointer, dy_place: Integer, dy_step: Integer,
        rows: Integer, xs: Array, dys: Array, center: Array, sample: Array,
    ) -> None:  # fmt: skip
        """Load so many rows, ``unroll`` at most, and add them to a sample."""
        for u in range(unroll):
            if u < rows:
                load(x, x_place + u * x_step, xs, u)
                load(dy, dy_place + u * dy_step, dys, u)
        add_rows(xs, dys, rows, center, sample)

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        dy: Pointer,
        dy_pitch: Integer,
        dx: Pointer,
        dx_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        partial: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> None:
        sample = cuda.local.array(size, real)
        center = cuda.local.array(width, real)
        maps = cuda.local.array(maps_size, real)
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        sample[size - 1] = real(0)
        index = np.int64(cuda.blockIdx.y)
        start, stop = slice_bounds(rows, slices, index)
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        feature = width * column
        if feature < features:
            for j in range(width):
                center[j], _, _, maps[5 * j] = given(means, invstds, weight, feature + j, flags)
            row, mine = start + rank, share(start, stop, rank, ranks)
            x_step, dy_step = ranks * x_pitch, ranks * dy_pitch
            while mine > 0:
                x_place, dy_place = row * x_pitch + feature, row * dy_pitch + feature
                if mine >= unroll:  # most often: nothing is asked of each row
                    extend(x, x_place, x_step, dy, dy_place, dy_step, np.int64(unroll), xs, dys, center, sample)
                else:
                    extend(x, x_place, x_step, dy, dy_place, dy_step, mine, xs, dys, center, sample)
                if evaluation and flags & INPUT:
                    for u in range(unroll):
                        if u < mine:
                            apply(xs, dys, u, maps, flags)
                            store(dx, (row + u * ranks) * dx_pitch + feature, dys, u)
                row += unroll * ranks
                mine -= unroll
        merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            for j in range(width):
                for k in range(4):
                    partial[(4 * index + k) * features + feature + j] = sample[4 * j + k]
        launch_next()

    kind = "evaluation" if evaluation else "sums"
    name = title(f"backward_{kind}", element, (weight,), width, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, ROOM // threads)


@cache
def gradient(element: str, weight: str, width: int, unroll: int = UNROLL, threads: int = THREADS) -> Program:
    """Merge the slices of ``sums``; write dweight, dbias and, if flags have INPUT, dx.

    Together they read x and dy twice and write dx once, 5T less what was cached. The grid is (slabs, slices), or
    (slabs, 1) where no dx is written.
    """
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, store, packed = moves.word, moves.load, moves.store, unroll * moves.words
    size, _, gather_slices, merge_ranks, _ = comoments(element, width, unroll, threads)
    finish, apply = finisher(element, width), differentiator(element, width)
    maps_size = 5 * width
    from_first_rank = broadcast(maps_size, element, width)

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        dy: Pointer,
        dy_pitch: Integer,
        dx: Pointer,
        dx_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        partial: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> None:
        sample = cuda.local.array(size, real)
        maps = cuda.local.array(maps_size, real)
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        sample[size - 1] = real(0)
        index = np.int64(cuda.blockIdx.y)
        start, stop = slice_bounds(rows, slices, slices - 1 - index)  # what was read last may still be in the cache
        column, rank, ranks = locate(np.int64(cuda.blockIdx.x), shift)
        feature = width * column
        wait_for_previous()
        if feature < features:
            gather_slices(partial, rows, slices, features, feature, rank, ranks, sample)
        merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            finish(sample, maps, feature, index == 0, means, invstds, weight, dweight, dbias, flags)
        from_first_rank(maps, shift)
        if feature < features and flags & INPUT:
            mine = share(start, stop, rank, ranks)
            row = start + rank + (mine - 1) * ranks
            while mine > 0:
                for u in range(unroll):
                    if u < mine:
                        load(x, (row - u * ranks) * x_pitch + feature, xs, u)
                        load(dy, (row - u * ranks) * dy_pitch + feature, dys, u)
                for u in range(unroll):
                    if u < mine:
                        apply(xs, dys, u, maps, flags)
                        store(dx, (row - u * ranks) * dx_pitch + feature, dys, u)
                row -= unroll * ranks
                mine -= unroll

    name = title("backward_gradient", element, (weight,), width, unroll, threads)
    return Program(name, kernel, parameters(element, weight), threads, ROOM // threads)


@cache
def resident(
    element: str, weight: str, width: int, cluster: int = 1, unroll: int = 8, threads: int = THREADS, shared: int = 0
) -> Program:
    """Write dweight, dbias and, if flags have INPUT, dx.

    A slab of x and dy is kept on chip by the blocks of a cluster: 3T, in one launch. Grid and limits are those of
    ``columns.resident``.
    """
    if cluster > 2:
        return resident(element, weight, width, 2, unroll, threads, shared)._replace(cluster=cluster)
    moves, real = access(element, width), ELEMENTS[element].real
    word, load, store, words, packed = moves.word, moves.load, moves.store, moves.words, unroll * moves.words
    size, add_rows, _, merge_ranks, merge_cluster = comoments(element, width, unroll, threads)
    finish, apply, first = finisher(element, width), differentiator(element, width), shared or unroll
    maps_size, slots, (put, take) = 5 * width, max(1, 2 * shared * words * threads), shelf(words, threads)
    from_first_rank, given, clustered = broadcast(maps_size, element, width), reader(real), cluster > 1

    def kernel(
        x: Pointer,
        x_pitch: Integer,
        dy: Pointer,
        dy_pitch: Integer,
        dx: Pointer,
        dx_pitch: Integer,
        rows: Integer,
        features: Integer,
        shift: Integer,
        slices: Integer,
        means: Pointer,
        invstds: Pointer,
        weight: Pointer,
        partial: Pointer,
        dweight: Pointer,
        dbias: Pointer,
        flags: Integer,
    ) -> None:
        sample = cuda.local.array(size, real)
        center = cuda.local.array(width, real)
        maps = cuda.local.array(maps_size, real)
        xs = cuda.local.array(packed, word)
        dys = cuda.local.array(packed, word)
        one_x, one_dy = cuda.local.array(words, word), cuda.local.array(words, word)
        shelved = cuda.shared.array(slots, word)
        sample[size - 1] = real(0)
        slab, block, blocks = position(clustered)
        start, stop = slice_bounds(rows, blocks, block)
        column, rank, ranks = locate(slab, shift)
        feature, row = width * column, start + rank
        mine: Integer = share(start, stop, rank, ranks) if feature < features else 0
        rest = mine - shared
        for u in range(first):
            if u < mine:
                load(x, (row + u * ranks) * x_pitch + feature, xs, u)
                load(dy, (row + u * ranks) * dy_pitch + feature, dys, u)
        if feature < features:
            for j in range(width):
                center[j], _, _, _ = given(means, invstds, weight, feature + j, flags)
        if shared > 0:
            if mine > 0:
                add_rows(xs, dys, min(mine, shared), center, sample)
            for u in range(shared):
                if u < mine:
                    put(xs, u, shelved, u)
                    put(dys, u, shelved, shared + u)
            for u in range(unroll):
                if u < rest:
                    load(x, (row + (shared + u) * ranks) * x_pitch + feature, xs, u)
                    load(dy, (row + (shared + u) * ranks) * dy_pitch + feature, dys, u)
        if rest > 0:
            add_rows(xs, dys, rest, center, sample)
        if clustered:
            merge_cluster(sample, shift, ranks, blocks)
        else:
            merge_ranks(sample, shift, ranks)
        if rank == 0 and feature < features:
            finish(sample, maps, feature, block == 0, means, invstds, weight, dweight, dbias, flags)
        from_first_rank(maps, shift)
        if flags & INPUT:
            for u in range(shared):
                if u < mine:
                    take(shelved, u, one_x, 0)
                    take(shelved, shared + u, one_dy, 0)
                    apply(one_x, one_dy, 0, maps, flags)
                    store(dx, (row + u * ranks) * dx_pitch + feature, one_dy, 0)
            for u in range(unroll):
                if u < rest:
                    apply(xs, dys, u, maps, flags)
                    store(dx, (row + (shared + u) * ranks) * dx_pitch + feature, dys, u)

    name = title(kept("backward_resident", cluster), element, (weight,), width, unroll, threads, shared)
    return Program(name, kernel, parameters(element, weight), threads, ROOM // threads, cluster)
