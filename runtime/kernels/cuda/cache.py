"""Machine code on disk, for kernels are compiled in seconds and loaded in less than a millisecond.

A file's name has everything that its content depends on: the program, the compute capability, and a digest of this
package's sources and of the compilers' versions. Whatever is not what it should be, is built anew, and a folder that
cannot be written does no harm.
"""

from __future__ import annotations

import functools
import hashlib
from contextlib import suppress
from pathlib import Path

from ..files import folder, read, versions, write
from .program import Program

Capability = tuple[int, ...]

PACKAGES = ("numba", "numba-cuda", "llvmlite", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink")
FILES = (*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parents[1] / "statistics.py")
SOURCES = b"".join(path.read_bytes() for path in FILES)  # as they are when this process begins


def cubin(program: Program, capability: Capability) -> bytes:
    """A program's machine code, from disk if it is there and whole, else built and kept."""
    return read(_path(program, capability)) or rebuilt(program, capability)


def rebuilt(program: Program, capability: Capability) -> bytes:
    """A program's machine code, built and kept."""
    from .build import build

    major, minor = capability
    code = build(program, (major, minor)).cubin
    with suppress(OSError):
        write(_path(program, capability), code)
    return code


@functools.cache
def digest() -> str:
    """What the machine code of every program depends on."""
    return hashlib.sha256(versions(PACKAGES) + SOURCES).hexdigest()[:16]


def _path(program: Program, capability: Capability) -> Path:
    return folder() / f"{program.name}-sm{''.join(map(str, capability))}-{digest()}.cubin"
