"""Compiled code on disk, which processes and users may share.

A file's name says everything that its content depends on; its first bytes are a digest of the rest. So nobody needs a
list of files, half a file is none, of several writers the last wins, and it wrote what the others did.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DIGEST = hashlib.sha256().digest_size


def folder() -> Path:
    """Where files are kept: ``$NORMSPEC_CACHE``, else the user's folder for caches."""
    given = os.environ.get("NORMSPEC_CACHE")
    return Path(given) if given else users()


def users() -> Path:
    """The user's folder for caches; for one without a home, where nothing can be: code is not read from anywhere."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        given = Path(os.environ.get("LOCALAPPDATA") or home)
    else:
        given = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return (given if given.is_absolute() else Path(os.devnull)) / "normspec"


def versions(packages: Iterable[str]) -> bytes:
    """Those of Python and of the packages that are there, as part of what code depends on."""
    found = [sys.version]
    for name in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{name}={version(name)}")
    return ";".join(found).encode()


def read(path: Path) -> bytes | None:
    """What was written there, if it is there and whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    check, code = content[:DIGEST], content[DIGEST:]
    return code if code and hashlib.sha256(code).digest() == check else None


def write(path: Path, code: bytes) -> None:
    """Write under another name first, so that nobody reads half a file and the last of several writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        name.write_bytes(hashlib.sha256(code).digest() + code)
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
