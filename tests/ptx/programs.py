"""Programs as kernels for the machine. What was compiled is kept in the folder of the cache, for it takes minutes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from normspec.runtime.kernels.cuda import build
from normspec.runtime.kernels.cuda.program import Program

from .machine import launch
from .memory import Global
from .syntax import Kernel, parse


def kept(written: Callable[[Program], str]) -> Callable[[Program], str]:
    """PTX of programs, from files if another test or process wrote them."""

    def read(program: Program) -> str:
        path = Path(os.environ["NORMSPEC_CACHE"]) / f"{program.name}.ptx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            own = path.with_suffix(f".{os.getpid()}")
            own.write_text(written(program), encoding="utf-8")
            own.replace(path)
        return path.read_text(encoding="utf-8")

    return read


build.written = kept(build.written)


def kernel_of(program: Program, capability: tuple[int, int]) -> Kernel:
    """What a GPU of a capability would run."""
    return parse(build.translate(program, capability))


def run(program: Program, grid: tuple[int, ...], memory: list[np.ndarray[Any, Any]], bits: list[int]) -> None:
    """Run a program of its own, on the memory of arrays, with arguments as bits."""

    def allocation(address: int) -> tuple[int, int]:
        blocks = ((array.ctypes.data, array.nbytes) for array in memory)
        return next((block for block in blocks if 0 <= address - block[0] < block[1]), (address, 0))

    kernel = kernel_of(program, (9, 0))
    launch(kernel, Global(allocation), grid, program.threads, program.cluster, bits)
