"""Machine code of the CPU backend on disk: kernels are compiled in seconds and loaded in milliseconds.

In place of numba's own cache, which does not see that a function in another file has changed, uses no folder that it
cannot write to, and lets processes that write at once overwrite each other's list of files. What is kept, and how, is
numba's: a file is a pickle, so whoever can write to a folder can have its readers run anything; as with any program.
How numba keeps code is its own affair, and may change: then nothing is kept, and every process compiles.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import config

from normspec.runtime.kernels import files

FILES = (*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parents[1] / "statistics.py")
SOURCES = b"".join(path.read_bytes() for path in FILES)  # as they are when this process begins
PACKAGES = ("numba", "llvmlite", "numpy")
MESSAGE = "compiling kernels for this machine, which takes some seconds; `normspec warmup` does it beforehand"

logger = logging.getLogger("normspec")


class Cache:
    """What numba asks for compiled code before it compiles a function, and gives it to afterwards.

    Code is read from the first folder that has it, and written to the first that takes it, so that who sets a folder
    and warms it finds everything there: ``$NORMSPEC_CACHE`` and ``$NUMBA_CACHE_DIR`` if they are set, ``__pycache__``
    beside the source, and the user's folder for caches.
    """

    told = False  # that a first call takes long, once in a process

    def __init__(self, function: Callable[..., Any]) -> None:
        source = Path(inspect.getfile(function))
        given = [files.folder()] if files.folder() != files.users() else []
        if config.CACHE_DIR:
            given.append(Path(config.CACHE_DIR))
        self._folders = [*given, source.parent / "__pycache__", files.users()]
        self._name = function.__name__
        self._digest = hashlib.sha256(files.versions(PACKAGES) + SOURCES + source.read_bytes())
        self._used: Path | None = None

    @property
    def cache_path(self) -> str | None:
        """The folder that was last read from or written to."""
        return None if self._used is None else str(self._used)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for that signature, if there is one."""
        with _if_numba_lets():
            from numba.core.compiler import CompileResult

            target_context.refresh()
            name = self._file(sig, target_context.codegen())
            for number, folder in enumerate(self._folders):
                content = files.read(folder / name)
                if content is not None:
                    made = CompileResult._rebuild(target_context, *pickle.loads(content))
                    self._used = folder
                    self._keep(name, content, self._folders[:number])
                    return made
        tell()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where one can, unless it has addresses of this process in it."""
        with _if_numba_lets():
            from numba.core.serialize import dumps

            if not data.library.has_dynamic_globals:
                self._keep(self._file(sig, data.codegen), dumps(data._reduce()), self._folders)

    def _keep(self, name: str, content: bytes, folders: list[Path]) -> None:
        for folder in folders:
            with suppress(OSError):
                files.write(folder / name, content)
                self._used = folder
                return

    def _file(self, sig: Any, codegen: Any) -> str:
        made = self._digest.copy()
        made.update(f"{sig} {codegen.magic_tuple()}".encode())
        return f"{self._name}-{made.hexdigest()[:24]}.nbc"


@contextmanager
def _if_numba_lets() -> Iterator[None]:
    """Go without what fails, and log why."""
    try:
        yield
    except Exception:
        logger.info("compiled code cannot be kept", exc_info=True)


def tell() -> None:
    """Say once why a call takes long: to whoever watches, and to whoever logs what this package does."""
    if not Cache.told:
        Cache.told = True
        logger.info(MESSAGE)
        if sys.stderr is not None and sys.stderr.isatty() and not logger.isEnabledFor(logging.INFO):
            print(f"normspec: {MESSAGE}", file=sys.stderr, flush=True)
