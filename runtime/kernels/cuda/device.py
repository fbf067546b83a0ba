"""Is there a GPU, and what is missing if not."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .primitives import SIMULATED

HELP = (
    'It needs an NVIDIA GPU with its driver and `pip install "normspec[cuda13]"` (or `[cuda12]` for a CUDA 12 driver). '
    "To try the kernels without a GPU, slowly, set NUMBA_ENABLE_CUDASIM=1 before Python starts."
)
OLDEST = (7, 5)  # compute capability


@cache
def missing() -> str | None:
    """Say what keeps CUDA from working here, or None if it works."""
    if SIMULATED:
        return None
    for package in ("numba-cuda", "cuda-core"):
        try:
            version(package)
        except PackageNotFoundError:
            return f"{package} is not installed"
    return _unfit_driver() or _unfit_gpu() or _missing_compiler()


def available() -> bool:
    """Can kernels run here, on a GPU or in the simulator?"""
    return missing() is None


def require() -> None:
    """Raise RuntimeError, with what is missing and how to get it, unless kernels can run here."""
    if missing() is not None:
        raise RuntimeError(f"CUDA is not available: {missing()}. {HELP}")


def describe() -> str:
    """The device and the versions in use, or why there is none, in one line."""
    if missing() is not None:
        return f"unavailable: {missing()}"
    if SIMULATED:
        return f"the CUDA simulator of numba {version('numba')}, on the CPU"
    first = gpu(0)
    packages = ", ".join(f"{package} {version(package)}" for package in ("numba-cuda", "numba", "cuda-core"))
    major, minor = first.capability
    return f"{first.name}, compute capability {major}.{minor}, {packages}"


@cache
def gpu(index: int) -> Any:
    """The GPU of a number, or the simulated one.

    Raises
    ------
    RuntimeError
        CUDA does not work here; the message says what is missing.
    ValueError
        There is no GPU of this number.
    """
    require()
    kind = _kind()
    count = kind.count()
    if not 0 <= index < count:
        raise ValueError(f"device: expected cuda:0 to cuda:{count - 1}, found cuda:{index}")
    return kind(index)


def _kind() -> Any:
    if SIMULATED:
        from .simulated import SimulatedGpu

        return SimulatedGpu
    from .gpu import Gpu

    return Gpu


def _unfit_driver() -> str | None:
    from cuda.bindings import __version__, driver

    try:
        (error,) = driver.cuInit(0)
    except RuntimeError as problem:  # no libcuda
        return f"no CUDA driver was found ({' '.join(str(problem).split())})"
    if error:
        return f"the driver finds no GPU that works ({error.name})"
    found, wanted = driver.cuDriverGetVersion()[1] // 1000, int(__version__.partition(".")[0])
    if found < wanted:
        return f"the driver is too old: it is of CUDA {found}, cuda-bindings {__version__} is of CUDA {wanted}"
    return None


def _unfit_gpu() -> str | None:
    from cuda.core import Device

    found = tuple(Device(0).compute_capability)
    if found < OLDEST:
        wanted, has = (".".join(map(str, one)) for one in (OLDEST, found))
        return f"compute capability {wanted} or more is needed, the GPU has {has}"
    return None


def _missing_compiler() -> str | None:
    """NVVM makes PTX, NVRTC tells it of architectures, nvJitLink assembles."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    for name in ("nvvm", "nvrtc", "nvJitLink"):
        try:
            load_nvidia_dynamic_lib(name)
        except RuntimeError:  # whose words list whole folders
            return (
                f"lib{name} is in no package here; if a CUDA toolkit has it, "
                f"name the toolkit's folder in CUDA_HOME, or that of lib{name}.so in LD_LIBRARY_PATH"
            )
    return None
