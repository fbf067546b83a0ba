"""Kernels of the forward pass on memory where a feature's elements lie side by side (channels first).

``x`` and ``y`` are (outer, feature, inner). A thread moves a *piece* at once: a packet of 16 bytes where an array's
base, strides and ``inner`` allow, else one element. Kernels get ``inner`` in pieces, and strides in elements, that of
``inner`` from piece to piece. A feature's ``outer * inner`` pieces are numbered row by row; a block works on a slice.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import types

from .primitives import ELEMENTS, access, cuda, device, fma, pointer
from .program import BIAS, WEIGHT, Program
from .reduction import slice_bounds

Number = Any
Integer = Any  # 64 bits, on the device
Pointer = Any
STRIDES = (types.int64,) * 3  # of outer, feature and inner
SIZES = (types.int64,) * 2  # of outer and inner


def label(kernel: str, element: str, vectors: tuple[str, ...], aligned: bool, unroll: int, threads: int) -> str:
    """Name a program."""
    kinds = vectors[0] if len(set(vectors)) == 1 else "".join(vectors)
    return f"{kernel}_{element}_{kinds}_{'packets' if aligned else 'elements'}_u{unroll}_t{threads}"


@device
def locate(place: Integer, inner: Integer, outer_stride: Integer, inner_stride: Integer) -> tuple[Integer, Integer]:
    """Offset and column of a feature's piece."""
    row = place // inner
    column = place - row * inner
    return row * outer_stride + column * inner_stride, column


@device
def advance(
    offset: Integer, column: Integer, step: Integer, columns: Integer, inner: Integer, wrap: Integer
) -> tuple[Integer, Integer]:
    """Go on by the step of which ``locate`` told offset and columns; ``wrap`` is from a row's end to the next."""
    offset += step
    column += columns
    if column >= inner:
        offset += wrap
        column -= inner
    return offset, column


@cache
def affine(real: Any) -> Any:
    """Build the device function that makes an affine map of statistics."""

    @device
    def affine_map(
        residue: Number, invstd: Number, weight: Pointer, bias: Pointer, feature: Integer, flags: Integer
    ) -> tuple[Number, Number]:
        """Scale and shift of ``y = (x - mean) * scale + shift``.

        The residue of the mean is part of the shift: ``x - mean`` is exact where the residue matters.
        """
        scale = invstd
        if flags & WEIGHT:
            scale = invstd * real(weight[feature])
        shift = -residue * scale
        if flags & BIAS:
            shift += real(bias[feature])
        return scale, shift

    return affine_map


@cache
def writer(element: str, aligned: bool, unroll: int) -> Any:
    """Build the device function that normalizes a slice: x is read once and y written once."""
    kind = access(element, aligned)
    width, packed, numbers = kind.width, unroll * kind.words, kind.width
    load, store, unpack, pack, word, real = kind.load, kind.store, kind.unpack, kind.pack, kind.word, kind.real

    @device
    def write(
        x: Pointer,
        x_start: Integer,
        x_outer: Integer,
        x_inner: Integer,
        y: Pointer,
        y_start: Integer,
        y_outer: Integer,
        y_inner: Integer,
        inner: Integer,
        start: Integer,
        stop: Integer,
        mean: Number,
        scale: Number,
        shift: Number,
    ) -> None:
        packets = cuda.local.array(packed, word)
        values = cuda.local.array(numbers, real)
        threads = np.int64(cuda.blockDim.x)
        place = start + np.int64(cuda.threadIdx.x)
        x_offset, x_column = locate(place, inner, x_outer, x_inner)
        y_offset, y_column = locate(place, inner, y_outer, y_inner)
        x_step, columns = locate(threads, inner, x_outer, x_inner)
        y_step, columns = locate(threads, inner, y_outer, y_inner)
        x_wrap, y_wrap = x_outer - inner * x_inner, y_outer - inner * y_inner
        while place < stop:
            for u in range(unroll):
                if place + u * threads < stop:
                    load(x, x_start + x_offset, packets, u)
                x_offset, x_column = advance(x_offset, x_column, x_step, columns, inner, x_wrap)
            for u in range(unroll):
                if place < stop:
                    unpack(packets, u, values, 0)
                    for item in range(width):
                        values[item] = fma(values[item] - mean, scale, shift)
                    pack(values, 0, packets, u)
                    store(y, y_start + y_offset, packets, u)
                y_offset, y_column = advance(y_offset, y_column, y_step, columns, inner, y_wrap)
                place += threads

    return write


@cache
def inference(
    element: str, vectors: tuple[str, str, str, str], aligned: bool, unroll: int = 4, threads: int = 256
) -> Program:
    """Normalize by given statistics: mean, variance, weight and bias of the types in ``vectors``.

    The grid is (feature, slices). It moves 2T, T the bytes of x.
    """
    real = ELEMENTS[element].real
    write, affine_map = writer(element, aligned, unroll), affine(real)

    def infer(
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
        mean = real(means[feature])
        residue = real(means[feature] - mean)
        invstd = real(1) / real(math.sqrt(real(variances[feature]) + epsilon))
        scale, shift = affine_map(residue, invstd, weight, bias, feature, flags)
        x_start, y_start = feature * x_feature, feature * y_feature
        write(
            x, x_start, x_outer, x_inner, y, y_start, y_outer, y_inner, inner, start, stop, mean, scale, shift
        )  # fmt: skip

    number = ELEMENTS["f64" if element == "f64" else "f32"].storage
    data = (pointer(element), *STRIDES)
    signature = (*data, *data, *SIZES, *map(pointer, vectors), number, types.int64)
    return Program(label("inference", element, vectors, aligned, unroll, threads), infer, signature, threads)
