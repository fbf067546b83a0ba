"""A pytest plugin: the driver that ``stub.py`` builds runs what it is asked to launch, in ``ptx.machine``."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normspec.runtime.kernels.cuda import build, cache
from normspec.runtime.kernels.cuda.program import Program
from ptx.machine import launch
from ptx.memory import Global
from ptx.syntax import Kernel, parse
from stub import Driver

LAUNCH_FAILED = 719  # CUDA_ERROR_LAUNCH_FAILED


class VirtualGpu:
    """What runs the launches of a process."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.memory = Global(self.driver.allocation)
        self.kernels: dict[str, Kernel] = {}
        self.launched: list[str] = []

    def load(self, program: Program, capability: tuple[int, int]) -> bytes:
        """In place of ``cache.cubin``: machine code is nobody's to run."""
        self.kernels[program.name] = parse(build.translate(program, capability))
        return b"\177ELF"

    def launch(self, name: str, grid: tuple[int, ...], threads: int, cluster: int, parameters: Any) -> int:
        """Run a kernel, and say what it did wrong in the output of the test."""
        kernel = self.kernels[name]
        self.launched.append(name)
        sizes = {"f32": ctypes.c_uint32}
        arguments = [
            ctypes.cast(parameters[index], ctypes.POINTER(sizes.get(kind, ctypes.c_uint64)))[0]
            for index, kind in enumerate(kernel.parameters.values())
        ]
        try:
            launch(kernel, self.memory, grid, threads, cluster, arguments)
        except Exception:
            traceback.print_exc()
            return LAUNCH_FAILED
        return 0


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
GPU = VirtualGpu()
cache.cubin = GPU.load
GPU.driver.run(GPU.launch)
