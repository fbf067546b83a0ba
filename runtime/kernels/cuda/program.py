"""A kernel made for one purpose: what is compiled, launched and simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import cuda

# Bits of a kernel's flags: which of its optional vectors are there, and what is asked of it
WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, TRACKED, UNBIASED, BATCH, INPUT = (1 << bit for bit in range(8))


class Program(NamedTuple):
    """A specialised kernel; the blocks of a cluster are neighbours along the grid's first axis.

    Programs of one name have the same machine code, whatever their clusters.
    """

    name: str  # unique, and a C identifier
    function: Callable[..., None]  # Python, not yet compiled: pointers, integers of 64 bits, floating-point numbers
    signature: tuple[Any, ...]  # numba types: CPointer, int64, float32, float64
    threads: int  # of a block, a multiple of 32
    minimum_blocks: int = 1  # that an SM should hold, for the register allocator
    cluster: int = 1  # blocks of a cluster


def simulate(program: Program, grid: tuple[int, ...], *arguments: Any) -> None:
    """Run a program in numba's simulator, on NumPy arrays of one dimension in place of pointers.

    The simulator as numba ships it runs one block after another: it can do no cluster.
    """
    program.function.cluster = program.cluster  # type: ignore[attr-defined]  # the tests' simulator looks for it
    cuda.jit(program.function)[grid, program.threads](*arguments)
