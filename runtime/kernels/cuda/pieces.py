"""How a thread goes through the elements of a feature.

``x`` is (outer, feature, inner). A thread moves a *piece* at once: a packet of 16 or 8 bytes where an array's base,
strides and ``inner`` allow, else one element. Kernels get ``inner`` in pieces, and strides in elements, that of
``inner`` from piece to piece. A feature's ``outer * inner`` pieces are numbered row by row; a block works on a slice of
them, side by side: its threads move neighbouring pieces, and then each goes on by as many as there are threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from .primitives import cluster_size, cuda, device, divide, divide_words

Number = Any
Integer = Any  # 64 bits, on the device
Pointer = Any
Array = Any  # local or shared

STRIDES = (types.int64,) * 3  # of outer, feature and inner
SIZES = (types.int64,) * 2  # outer and inner


class Walk(NamedTuple):
    """Where a thread is, and how it goes on."""

    offset: Integer  # of the piece, in elements
    column: Integer  # of the piece, in its row
    step: Integer  # in elements
    columns: Integer  # of a step, beyond whole rows
    inner: Integer  # pieces of a row
    wrap: Integer  # elements from the end of a row to the next row


@device
def slice_bounds(total: Integer, slices: Integer, index: Integer) -> tuple[Integer, Integer]:
    """First and end of a slice; empty slices, if any, come last."""
    length = divide(total + slices - 1, slices)
    return min(total, index * length), min(total, (index + 1) * length)


@device
def position(clustered: bool) -> tuple[Integer, Integer, Integer]:
    """Number of a cluster along the grid's first axis, rank of the block in it, and its size."""
    block = np.int64(cuda.blockIdx.x)
    if clustered:
        blocks = cluster_size()
        index = divide_words(block, blocks)
        return index, block - index * blocks, blocks
    return block, np.int64(0), np.int64(1)


@device
def walk_by(
    pieces: Integer, place: Integer, origin: Integer, inner: Integer, outer_stride: Integer, inner_stride: Integer
) -> Walk:
    """Start at a piece of the feature whose first element is at ``origin``, to go on by so many pieces at a time."""
    row, rows = divide(place, inner), divide(pieces, inner)
    column, columns = place - row * inner, pieces - rows * inner
    offset = origin + row * outer_stride + column * inner_stride
    step = rows * outer_stride + columns * inner_stride
    return Walk(offset, column, step, columns, inner, outer_stride - inner * inner_stride)


@device
def walk_from(place: Integer, origin: Integer, inner: Integer, outer_stride: Integer, inner_stride: Integer) -> Walk:
    """Start at a piece, to go on by as many as the block has threads."""
    return walk_by(cuda.blockDim.x, place, origin, inner, outer_stride, inner_stride)


@device
def walk_back(
    place: Integer, origin: Integer, outer: Integer, inner: Integer, outer_stride: Integer, inner_stride: Integer
) -> Walk:
    """The same from the last piece to the first, which is so many places before it."""
    last = origin + (outer - 1) * outer_stride + (inner - 1) * inner_stride
    return walk_from(place, last, inner, -outer_stride, -inner_stride)


@device
def advance(walk: Walk) -> Walk:
    """Go on."""
    offset, column = walk.offset + walk.step, walk.column + walk.columns
    if column >= walk.inner:
        offset += walk.wrap
        column -= walk.inner
    return Walk(offset, column, walk.step, walk.columns, walk.inner, walk.wrap)
