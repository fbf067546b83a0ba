"""A driver that runs no kernel, built from ``stub_driver.c`` for tests of everything up to the launch."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("stub_driver.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_void_p),
)


def unfit() -> str | None:
    """Why the stub is of no use here, or None."""
    if COMPILER is None:
        return "needs a C compiler, cc or gcc, to build the stub of a driver"
    for package in ("numba-cuda", "cuda-core"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f'needs {package}: pip install "normspec[cuda13]"'
    return None


def build(folder: Path) -> dict[str, str]:
    """Build it, and return the environment in which Python finds it as its driver, with a cache of its own."""
    assert COMPILER is not None
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": path,
        "NUMBA_ENABLE_CUDASIM": "0",
        "NORMSPEC_CACHE": str(folder / "cache"),
    }


class Launch(NamedTuple):
    """What the driver was asked to launch."""

    name: str
    grid: tuple[int, ...]
    threads: int
    shared: int
    cluster: int
    serialized: bool
    stream: int
    arguments: tuple[int, ...]  # bits


class Driver:
    """The stub in this process."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.library.stub_log.restype = ctypes.c_char_p
        self.library.stub_allocation.restype = ctypes.c_size_t

    def expect(self, name: str, signature: tuple[Any, ...]) -> None:
        """Let the stub know how large a kernel's arguments are."""
        sizes = bytes(4 if str(one) == "float32" else 8 for one in signature)
        self.library.stub_parameters(name.encode(), sizes, len(sizes))

    def clear(self) -> None:
        self.library.stub_clear()

    def quiet(self, on: bool) -> None:
        self.library.stub_quiet(int(on))

    def fail(self, error: int) -> None:
        self.library.stub_fail(error)

    def capture(self, stream: int) -> None:
        """Make a graph of what is queued on a stream from now on; 0 is for none."""
        self.library.stub_capture(ctypes.c_void_p(stream))

    def clusters(self, most: int) -> None:
        """Have room for clusters of so many blocks, at most; 0 is for any."""
        self.library.stub_clusters(most)

    def run(self, launch: Callable[[str, tuple[int, ...], int, int, Any], int]) -> None:
        """Let a function do what is launched: of name, grid, threads, cluster, and pointers to arguments.

        It returns 0, or the number of an error.
        """
        self.callback = CALLBACK(lambda name, grid, *rest: launch(name.decode(), tuple(grid[:3]), *rest))
        self.library.stub_run(self.callback)

    def allocation(self, address: int) -> tuple[int, int]:
        """Start and bytes of the allocation around an address; 0 bytes if there is none."""
        start = ctypes.c_size_t()
        size = self.library.stub_allocation(ctypes.c_void_p(address), ctypes.byref(start))
        return start.value, size

    def blocks(self) -> int:
        """Allocations that were not freed."""
        return int(self.library.stub_blocks())

    def lines(self) -> list[str]:
        return self.library.stub_log().decode().splitlines()

    def launches(self) -> list[Launch]:
        return [_launch(line.split()) for line in self.lines() if line.startswith("launch ")]


def _launch(words: list[str]) -> Launch:
    _, name, grid, threads, shared, cluster, serialized, stream, *arguments = words
    sizes = tuple(map(int, grid.split(",")))
    return Launch(
        name,
        sizes,
        int(threads),
        int(shared),
        int(cluster),
        bool(int(serialized)),
        0 if stream == "(nil)" else int(stream, 16),
        tuple(int(one, 16) for one in arguments),
    )
