"""Memory for outputs, used again once nobody holds it: fresh pages cost more than the arithmetic done on them."""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST = 64 << 10  # bytes below which NumPy's own allocation is as good
CAPACITY = 512 << 20  # bytes kept while nobody uses them
TRACKED = 256  # buffers, used or not
LINE = 64  # bytes, of a cache's line and of the widest vector

Array = npt.NDArray[Any]


class Pool:
    """Buffers that outputs are views of; a buffer that nothing else refers to is free.

    It must be the buffers that are kept, not views of them: NumPy makes the owner the base of every view.
    """

    def __init__(self) -> None:
        self._buffers: list[Array] = []
        self._lock = threading.Lock()
        self._free = next(map(sys.getrefcount, [np.empty(0)]))  # references to what only a list holds

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An uninitialized C-contiguous array that begins a line of the cache."""
        wanted = rounded(math.prod(shape) * dtype.itemsize + LINE)
        with self._lock:
            buffer = self._take(wanted)
        return np.ndarray(shape, dtype, buffer, -buffer.ctypes.data % LINE)

    def _take(self, wanted: int) -> Array:
        idle = [count <= self._free for count in map(sys.getrefcount, self._buffers)]
        for position in range(len(idle) - 1, -1, -1):
            if idle[position] and self._buffers[position].size == wanted:
                return self._buffers[position]
        room = CAPACITY - wanted
        kept: list[Array] = []  # the newest, as far as there is room
        for position in range(len(idle) - 1, -1, -1):
            if idle[position]:
                room -= self._buffers[position].size
            if len(kept) < TRACKED - 1 and (not idle[position] or room >= 0):
                kept.append(self._buffers[position])
        self._buffers = [*reversed(kept), np.empty(wanted, np.uint8)]
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


def empty_like(x: Array) -> Array:
    """An uninitialized array of the shape, dtype and order of axes of ``x``."""
    if x.nbytes < SMALLEST:
        return np.empty_like(x)
    if x.flags.c_contiguous:
        return _pool.empty(x.shape, x.dtype)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    y = _pool.empty(tuple(x.shape[axis] for axis in order), x.dtype)
    return y.transpose(np.argsort(order))


def empty_cache() -> None:
    """Give memory kept for the outputs of later calls back to the system: at most 512 MiB, no array's own."""
    _pool.clear()
