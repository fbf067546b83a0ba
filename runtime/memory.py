"""Memory for outputs, used again once nobody holds it: fresh pages cost more than the arithmetic done on them."""

from __future__ import annotations

import math
import sys
import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SMALLEST = 64 << 10  # bytes below which NumPy's own allocation is as good
CAPACITY = 512 << 20  # bytes kept while nobody uses them
TRACKED = 256  # buffers, used or not
LINE = 64  # bytes, of a cache's line and of the widest vector

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Buffer(NamedTuple):
    """Memory, and where in it a line of the cache begins, which NumPy takes long to tell."""

    memory: Array
    start: int

    @property
    def holders(self) -> int:
        """References to the memory; what this is counted with is the same for all."""
        return sys.getrefcount(self.memory)


class Pool:
    """Buffers that outputs are views of; a buffer whose memory nothing else refers to is free.

    It must be the memory that is kept, not views of it: NumPy makes the owner the base of every view.
    """

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._lock = threading.Lock()
        self._free = Buffer(np.empty(0), 0).holders

    def empty(self, shape: Shape, dtype: np.dtype[Any], strides: Shape | None = None) -> Array:
        """An uninitialized array that begins a line of the cache, C-contiguous or with strides that leave no gaps."""
        wanted = rounded(math.prod(shape) * dtype.itemsize + LINE)
        with self._lock:
            buffer = self._found(wanted) or self._made(wanted)
        return np.ndarray(shape, dtype, buffer.memory, buffer.start, strides)

    def _found(self, wanted: int) -> Buffer | None:
        for one in reversed(self._buffers):
            if one.memory.size == wanted and one.holders <= self._free:
                return one
        return None

    def _made(self, wanted: int) -> Buffer:
        room = CAPACITY - wanted
        kept: list[Buffer] = []  # the newest, as far as there is room
        for one in reversed(self._buffers):
            idle = one.holders <= self._free
            if idle:
                room -= one.memory.size
            if len(kept) < TRACKED - 1 and (not idle or room >= 0):
                kept.append(one)
        memory = np.empty(wanted, np.uint8)
        self._buffers = [*reversed(kept), Buffer(memory, -memory.ctypes.data % LINE)]
        return self._buffers[-1]

    def clear(self) -> None:
        """Give back what nobody uses; what is in use goes with its last user."""
        with self._lock:
            self._buffers = []


def rounded(size: int) -> int:
    """The size of a buffer: one of eight between a power of two and the next."""
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


_pool = Pool()


@lru_cache(maxsize=1024)
def dense(shape: Shape, strides: Shape, itemsize: int) -> Shape:
    """The strides of an array without gaps whose axes are in the order of these."""
    steps = [0] * len(shape)
    for axis in sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))[::-1]:
        steps[axis], itemsize = itemsize, itemsize * shape[axis]
    return tuple(steps)


def empty_like(x: Array) -> Array:
    """An uninitialized array of the shape, dtype and order of axes of ``x``."""
    if x.nbytes < SMALLEST:
        return np.empty_like(x)
    strides = None if x.flags.c_contiguous else dense(x.shape, x.strides, x.itemsize)
    return _pool.empty(x.shape, x.dtype, strides)


def empty_cache() -> None:
    """Give memory kept for the outputs of later calls back to the system: at most 512 MiB, no array's own."""
    _pool.clear()
