"""How the axes of an array lie in memory: by what steps, in which order."""

from __future__ import annotations

import math
from functools import lru_cache

Shape = tuple[int, ...]
# Axes, and the lengths of those outside, of the features, and of those inside.
Order = tuple[Shape, tuple[int, int, int]]


@lru_cache(maxsize=1024)
def memory_order(shape: Shape, strides: Shape, axis: int) -> Order:
    """The axes in the order of memory, but ``axis`` between those outside and inside it; and the three's lengths."""
    axis %= len(shape)
    others = sorted((one for one in range(len(shape)) if one != axis), key=lambda one: -abs(strides[one]))
    outer = [one for one in others if abs(strides[one]) >= abs(strides[axis])]
    inner = [one for one in others if one not in outer]
    before, after = (math.prod(shape[one] for one in some) for some in (outer, inner))
    return (*outer, axis, *inner), (before, shape[axis], after)


@lru_cache(maxsize=1024)
def dense(shape: Shape, strides: Shape, itemsize: int) -> Shape:
    """The strides, in bytes, of an array without gaps whose axes are in the order of these."""
    steps = [0] * len(shape)
    for axis in sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))[::-1]:
        steps[axis], itemsize = itemsize, itemsize * shape[axis]
    return tuple(steps)


def row_major(shape: Shape, itemsize: int) -> Shape:
    """Strides of a contiguous array."""
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def extent(shape: Shape, strides: Shape, itemsize: int) -> tuple[int, int]:
    """First and end of the bytes that an array covers, relative to its first element."""
    reach = [(length - 1) * step for length, step in zip(shape, strides, strict=True)]
    return sum(min(one, 0) for one in reach), sum(max(one, 0) for one in reach) + itemsize
