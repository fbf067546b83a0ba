"""Pieces that a thread keeps in shared memory, beside those in its registers.

A word of every thread's piece lies beside the same word of its neighbours' pieces, so that a warp's accesses meet in no
bank. A thread reads only what it wrote: there is no barrier.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .pieces import Array, Integer
from .primitives import cuda, device


@cache
def shelf(words: int, threads: int) -> tuple[Any, Any]:
    """Build the device functions, for pieces of so many words and blocks of a size."""

    @device
    def put(packets: Array, packet: Integer, shelved: Array, piece: Integer) -> None:
        """Keep a packet as a piece."""
        for word in range(words):
            shelved[(piece * words + word) * threads + cuda.threadIdx.x] = packets[packet * words + word]

    @device
    def take(shelved: Array, piece: Integer, packets: Array, packet: Integer) -> None:
        """Get a piece as a packet."""
        for word in range(words):
            packets[packet * words + word] = shelved[(piece * words + word) * threads + cuda.threadIdx.x]

    return put, take
