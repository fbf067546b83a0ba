"""Memory for outputs, used again once nobody holds it: fresh pages cost more than the arithmetic done on them."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .kernels.strides import Shape, dense

SMALL = 128 << 10  # bytes up to which NumPy's own allocation is better: malloc has them without new pages
CAPACITY = 512 << 20  # bytes kept while nobody uses them, when another buffer is made
TRACKED = 256  # buffers, used or not
LINE = 64  # bytes, of a cache's line and of the widest vector

Array = npt.NDArray[Any]


class Buffer(NamedTuple):
    """Memory, where in it a line of the cache begins, which NumPy takes long to tell, and how many came before."""

    memory: Array
    start: int
    number: int

    @property
    def holders(self) -> int:
        """References to the memory; what this is counted with is the same for all."""
        return sys.getrefcount(self.memory)


class Pool:
    """Buffers that outputs are views of; a buffer whose memory nothing else refers to is free.

    It must be the memory that is kept, not views of it: NumPy makes the owner the base of every view.
    """

    def __init__(self) -> None:
        self._buffers: dict[int, list[Buffer]] = {}  # by their size
        self._numbers = itertools.count()
        self.lock = threading.Lock()
        self._free = Buffer(np.empty(0), 0, 0).holders

    def __len__(self) -> int:
        return sum(map(len, self._buffers.values()))

    @property
    def nbytes(self) -> int:
        """What is kept, used or not."""
        return sum(size * len(some) for size, some in self._buffers.items())

    def empty(self, size: int, shape: Shape, dtype: np.dtype[Any], strides: Shape | None = None) -> Array:
        """An uninitialized array that begins a line of the cache, C-contiguous or with strides that leave no gaps.

        Its buffer has ``size`` bytes, which is ``needed`` of its own.
        """
        with self.lock:  # until the array holds the memory
            buffer = self._found(size) or self._made(size)
            return np.ndarray(shape, dtype, buffer.memory, buffer.start, strides)

    def _found(self, size: int) -> Buffer | None:
        for one in reversed(self._buffers.get(size, ())):
            if one.holders <= self._free:
                return one
        return None

    def _made(self, size: int) -> Buffer:
        self._let_go(CAPACITY - size)
        memory = np.empty(size, np.uint8)
        made = Buffer(memory, -memory.ctypes.data % LINE, next(self._numbers))
        self._buffers.setdefault(size, []).append(made)
        return made

    def _let_go(self, room: int) -> None:
        """Keep the newest buffers, but of those that nobody uses no more than there is room for."""
        newest = sorted((one for some in self._buffers.values() for one in some), key=lambda one: -one.number)
        self._buffers, kept = {}, 0
        for one in newest:
            idle = one.holders <= self._free
            room -= one.memory.size if idle else 0
            if kept < TRACKED - 1 and (not idle or room >= 0):
                self._buffers.setdefault(one.memory.size, []).insert(0, one)
                kept += 1

    def clear(self) -> None:
        """Give back what nobody uses; what is in use goes with its last user."""
        with self.lock:
            self._buffers = {}


def needed(nbytes: int) -> int:
    """The size of a buffer for so many bytes, from the beginning of a line of the cache."""
    return rounded(nbytes + LINE)


def rounded(size: int) -> int:
    """The size of a buffer: one of eight between a power of two and the next."""
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


_pool = Pool()
if hasattr(os, "register_at_fork"):  # a child in which a thread that is not there holds the lock would wait for ever
    _release = _pool.lock.release
    os.register_at_fork(before=_pool.lock.acquire, after_in_parent=_release, after_in_child=_release)


def maker(like: Array) -> Callable[[], Array]:
    """What makes uninitialized arrays of this shape, dtype and order of axes, and looks at no array for it."""
    if like.nbytes <= SMALL:
        return partial(np.empty_like, like)
    strides = None if like.flags.c_contiguous else dense(like.shape, like.strides, like.itemsize)
    return partial(_pool.empty, needed(like.nbytes), like.shape, like.dtype, strides)


def empty_like(x: Array) -> Array:
    """An uninitialized array of the shape, dtype and order of axes of ``x``."""
    return maker(x)()


def empty_cache() -> None:
    """Give the memory that is kept for outputs of later calls back to the system; arrays in use keep theirs."""
    _pool.clear()
