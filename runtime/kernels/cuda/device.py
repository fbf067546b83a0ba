"""Is there a GPU, what is missing if not, and how arrays come and go."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from .primitives import SIMULATED

HELP = (
    'It needs an NVIDIA GPU with its driver and `pip install "normspec[cuda13]"` (or `[cuda12]` for a CUDA 12 driver). '
    "To try the kernels without a GPU, slowly, set NUMBA_ENABLE_CUDASIM=1 before Python starts."
)

DeviceArray = Any


@cache
def missing() -> str | None:
    """Say what keeps CUDA from working here, or None if it works."""
    if SIMULATED:
        return None
    try:
        version("numba-cuda")
    except PackageNotFoundError:
        return "numba-cuda is not installed"
    if not cuda.is_available():
        error = cuda.cuda_error()
        return f"no CUDA driver was found ({' '.join(str(error).split())})" if error else "the driver finds no GPU"
    try:
        cuda.compile_ptx(lambda: None, (), cc=cuda.get_current_device().compute_capability)
    except Exception as error:  # NVVM, libdevice or NVRTC is missing or unfit: each says so in its own way
        return f"the CUDA compiler does not work ({error})"
    return None


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
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    capability = ".".join(map(str, device.compute_capability))
    packages = ", ".join(f"{package} {version(package)}" for package in ("numba-cuda", "numba"))
    runtime = ".".join(map(str, cuda.runtime.get_version()))
    return f"{name}, compute capability {capability}, CUDA {runtime}, {packages}"


def to_device(array: npt.NDArray[Any]) -> DeviceArray:
    """Copy to the device, contiguously; bfloat16 becomes the uint16 that stands for it there."""
    return cuda.to_device(np.asarray(array.view(storage(array.dtype)), order="C"))


def to_host(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy to the host, when all work on the device is done; bfloat16 comes as uint16."""
    host: npt.NDArray[Any] = array.copy_to_host()
    return host


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """Uninitialized memory on the device."""
    return cuda.device_array(shape, storage(np.dtype(dtype)))


def empty_like(array: DeviceArray) -> DeviceArray:
    """Uninitialized memory of the same shape, dtype and order of axes."""
    return cuda.device_array_like(array)


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a device array holds a dtype in."""
    return np.dtype(np.uint16) if dtype.name == "bfloat16" else dtype
