"""Build the wheel, install it into an empty environment, and import every module of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORT_ALL = """
import importlib, pkgutil, sys
import normspec
names = [one.name for one in pkgutil.walk_packages(normspec.__path__, "normspec.")]
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:  # what is for other libraries needs them
            if error.name not in ("torch", "jax", "cuda", "numba.cuda.np"):
                raise
from normspec.torch import nn
import numpy as np
y = nn.BatchNorm1d(3)(np.random.default_rng(0).normal(2, 3, (64, 3)).astype(np.float32))
assert abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-3
print(f"{len(names)} modules imported from {normspec.__path__[0]}")
"""


def main() -> None:
    """Do it, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        venv.create(Path(folder) / "env", with_pip=True)
        python = str(Path(folder) / "env" / "bin" / "python")
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[codegen,demo]")
        subprocess.run([python, "-c", IMPORT_ALL], check=True, cwd=folder)


def run(*command: str) -> None:
    """Run quietly; what went wrong is printed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
