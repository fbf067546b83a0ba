"""What is compiled, and what is launched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Program(NamedTuple):
    """A kernel, specialised."""

    name: str  # unique, and an identifier in C
    function: Callable[..., None]
    signature: tuple[Any, ...]  # numba types: pointers, int64, float32, float64
    threads: int  # of a block
    minimum_blocks: int = 1  # that a multiprocessor should hold, for the register allocator
    cluster: int = 1  # blocks of a cluster
    dynamic: int = 0  # bytes of dynamic shared memory
