"""``normspec doctor``: which backends work here, with which versions, and what to install for the rest."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from importlib import metadata

PACKAGES = {
    "numpy": "",
    "numba": "",
    "ml_dtypes": "bfloat16",
    "numba-cuda": "cuda13",
    "cuda-core": "cuda13",
    "pyyaml": "codegen",
    "jinja2": "codegen",
    "scikit-learn": "demo",
    "matplotlib": "demo",
}


def main(arguments: Sequence[str]) -> int:
    """which backends work here, and what to install for the rest"""
    argparse.ArgumentParser(prog="normspec doctor", description=main.__doc__).parse_args(arguments)
    print(f"normspec {version('normspec')}, Python {platform.python_version()}, {platform.platform()}\n")
    for name, extra in PACKAGES.items():
        missing = f'not installed: pip install "normspec[{extra}]"'
        print(f"{name:14} {version(name) or missing}")
    print(f"\ncpu            {_cpu()}")
    print(f"cuda           {_cuda()}")
    return 0


def version(name: str) -> str:
    """That of an installed package, or nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    """Normalize something, twice: the first call may compile."""
    import numpy as np

    from normspec.runtime.kernels.cpu.threads import allowed
    from normspec.torch import nn

    layer, x = nn.BatchNorm2d(8), np.random.default_rng(0).normal(size=(4, 8, 16, 16)).astype(np.float32)
    began = time.perf_counter()
    layer(x)
    middle = time.perf_counter()
    error = float(abs(layer(x).mean()))
    ended = time.perf_counter()
    works = "works" if error < 1e-6 else f"WRONG: the output has mean {error}"
    first, second = middle - began, (ended - middle) * 1e6
    return f"{works}; {allowed()} threads; first call {first:.2f} s, second {second:.0f} µs"


def _cuda() -> str:
    from normspec.runtime.kernels import cuda

    return cuda.describe()
