"""Tiles shared among threads.

Not by `numba.prange`: its workqueue layer aborts a process in which two threads call at once, and a fork after its
OpenMP layer has run kills the child. Which thread works on which tile never shows in a result.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numba

T = TypeVar("T")
library: Any = numba  # whose types omit half of what it exports


@functools.cache
def pool() -> ThreadPoolExecutor:
    """The threads beside the calling one, started when there is work for them."""
    return ThreadPoolExecutor(max(1, library.config.NUMBA_NUM_THREADS - 1), "normspec")


if hasattr(os, "register_at_fork"):  # a forked child has the pool, but none of its threads
    os.register_at_fork(after_in_child=pool.cache_clear)


def allowed() -> int:
    """`numba.get_num_threads()`, which would start numba's own threads if nobody has set their number yet."""
    try:
        library.threading_layer()
    except ValueError:
        return int(library.config.NUMBA_NUM_THREADS)
    return int(library.get_num_threads())


def share(work: Callable[[T], object], tiles: Sequence[T]) -> None:
    """Call ``work`` on each tile, here and, with whichever others are free, there."""
    todo = deque(tiles)
    helpers: list[Future[None]] = []

    def drain() -> None:
        while todo:
            try:
                tile = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            work(tile)

    with contextlib.suppress(RuntimeError):  # no new threads when the interpreter ends: work alone
        for _ in range(min(allowed(), len(tiles)) - 1):
            helpers.append(pool().submit(drain))
    try:
        drain()
    finally:
        todo.clear()
        for helper in helpers:
            if not helper.cancel():  # a helper that has not started is not waited for
                helper.result()
