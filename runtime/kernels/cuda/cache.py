"""Machine code on disk, for kernels are compiled in seconds and loaded in less than a millisecond.

A file's name has everything that its content depends on: the program, the compute capability, and a digest of this
package's sources and of the compilers' versions. Its first bytes are a digest of the rest. Whatever is not what it
should be, is built anew, and a folder that cannot be written does no harm.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .program import Program

Capability = tuple[int, ...]

PACKAGES = ("numba", "numba-cuda", "llvmlite", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink")
FILES = (*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parents[1] / "statistics.py")
SOURCES = b"".join(path.read_bytes() for path in FILES)  # as they are when this process begins
DIGEST = hashlib.sha256().digest_size


def cubin(program: Program, capability: Capability) -> bytes:
    """A program's machine code, from disk if it is there and whole, else built and kept."""
    return _read(_path(program, capability)) or rebuilt(program, capability)


def rebuilt(program: Program, capability: Capability) -> bytes:
    """A program's machine code, built and kept."""
    from .build import build

    major, minor = capability
    code = build(program, (major, minor)).cubin
    with suppress(OSError):
        _write(_path(program, capability), code)
    return code


def folder() -> Path:
    """Where files are kept: ``$NORMSPEC_CACHE``, else the user's folder for caches."""
    given = os.environ.get("NORMSPEC_CACHE")
    if given:
        return Path(given)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home) / "normspec"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "normspec"


@functools.cache
def digest() -> str:
    """What the machine code of every program depends on."""
    made = hashlib.sha256(sys.version.encode())
    for name in PACKAGES:
        made.update(f"{name}={_version(name)};".encode())
    made.update(SOURCES)
    return made.hexdigest()[:16]


def _path(program: Program, capability: Capability) -> Path:
    return folder() / f"{program.name}-sm{''.join(map(str, capability))}-{digest()}.cubin"


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    check, code = content[:DIGEST], content[DIGEST:]
    return code if code and hashlib.sha256(code).digest() == check else None


def _write(path: Path, code: bytes) -> None:
    """Write under another name first, so that nobody reads half a file and the last of several writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
