"""A copy by the threads of the CPU backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from normspec.runtime.kernels.cpu.jit import helper, kernel
from normspec.runtime.kernels.cpu.simd import LINE, loads, stores, zeros
from normspec.runtime.kernels.cpu.threads import Crew, allowed, job, team, together
from normspec.runtime.kernels.cpu.tiles import TURNS, claim

LARGE = 2 << 20  # bytes that take longer than to wake other threads
PART = 256 << 10  # bytes that a thread takes at a time


@helper()
def copy_parts(rank: int, turns: int, target: int, source: int, size: int) -> None:
    """Until there are none left."""
    count = (size + PART - 1) // PART
    turn = claim(turns, rank, count)
    while turn >= 0:
        for i in range(turn * PART, min((turn + 1) * PART, size), LINE):
            stores(target, i, 1.0, loads(source, i, 1.0, zeros(1.0, 1.0), 0, LINE // 8), 0, LINE // 8)
        turn = claim(turns, rank, count)


@kernel
def copy_bytes(crew: Crew, turns: Any, target: Any, source: Any) -> None:
    """Of arrays of bytes, of which there are whole lines."""
    given = turns.ctypes.data, target.ctypes.data, source.ctypes.data, target.size
    together(crew, job(copy_parts, given))


def copier(target: Any, source: Any) -> Callable[[], None]:
    """What copies an array of bytes, if it is small as `numpy.copyto`."""
    threads = allowed()
    if threads == 1 or target.size < LARGE or target.size % LINE:
        return lambda: np.copyto(target, source)
    crew = team.crew(threads, threads - 1)
    return lambda: copy_bytes(crew, np.zeros(TURNS // 8, np.int64), target, source)
