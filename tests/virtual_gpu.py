"""A pytest plugin: the driver that ``stub.py`` builds runs what it is asked to launch, in ``ptx.machine``."""

from __future__ import annotations

import ctypes
import traceback
from typing import Any

from normspec.runtime.kernels.cuda import cache
from normspec.runtime.kernels.cuda.program import Program
from ptx.machine import launch
from ptx.memory import Global
from ptx.programs import kernel_of
from ptx.syntax import Kernel
from stub import Driver

LAUNCH_FAILED = 719  # CUDA_ERROR_LAUNCH_FAILED


class VirtualGpu:
    """What runs the launches of a process."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.memory = Global(self.driver.allocation)
        self.kernels: dict[str, Kernel] = {}
        self.launched: list[str] = []
        self.failure: Exception | None = None  # of the last launch

    def load(self, program: Program, capability: tuple[int, int]) -> bytes:
        """In place of ``cache.cubin``: machine code is nobody's to run."""
        self.kernels[program.name] = kernel_of(program, capability)
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
        self.failure = None
        try:
            launch(kernel, self.memory, grid, threads, cluster, arguments)
        except Exception as failure:
            self.failure = failure
            traceback.print_exc()
            return LAUNCH_FAILED
        return 0


GPU = VirtualGpu()
cache.cubin = GPU.load
GPU.driver.run(GPU.launch)
