"""Arrays of other libraries: known by where their type comes from, read where they lie, given back as they came.

No library is imported for that: whoever has an array of one has imported it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, cast

import numpy as np

from . import devices, kernels
from .dtypes import DType

GPU = (2, 13)  # kDLCUDA and kDLCUDAManaged
# What libraries raise of arrays that are sparse, traced, on no device, or of elements that NumPy lacks.
CANNOT = (AttributeError, BufferError, NotImplementedError, TypeError)


class Foreign(NamedTuple):
    """The memory of another library's array: of NumPy, or of the device that it is on."""

    array: Any
    device: str
    wrap: Callable[[Any], Any]  # from such an array to that library's
    differentiated: bool = False  # whether that library is to know what is computed from it


def read(value: Any) -> Foreign | None:
    """What is behind a value that is neither ours nor NumPy's; None if it is no array."""
    reader = _reader(cast(Hashable, type(value)))
    return None if reader is None else reader(value)


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Foreign] | None:
    libraries = {one.__module__.partition(".")[0] for one in kind.__mro__}
    if "torch" in libraries and hasattr(kind, "data_ptr"):
        return _torch
    if "jaxlib" in libraries and hasattr(kind, "__array__"):
        return _jax
    if "jax" in libraries and hasattr(kind, "__dlpack__"):
        return _traced
    if "cupy" in libraries:
        return _cupy
    if hasattr(kind, "__cuda_array_interface__") or hasattr(kind, "copy_to_host"):
        return _device
    return _dlpack if hasattr(kind, "__dlpack__") else None


def _torch(tensor: Any) -> Foreign:
    torch = sys.modules["torch"]
    differentiated = tensor.requires_grad and torch.is_grad_enabled()
    copied = tensor.is_neg() or not tensor.is_cpu
    tensor = tensor.detach().resolve_neg()
    if tensor.is_cuda:
        return _device(tensor, _torch_shared)._replace(differentiated=differentiated)
    half = tensor.dtype is torch.bfloat16
    array = (tensor.view(torch.int16) if half else tensor).numpy(force=True)
    if copied:
        array.flags.writeable = False  # what is written to a copy would be lost
    if not half:
        return Foreign(array, "cpu", torch.from_numpy, differentiated)
    array = array.view(DType("bfloat16").numpy)
    return Foreign(array, "cpu", lambda y: torch.from_numpy(y.view(np.int16)).view(torch.bfloat16), differentiated)


def _torch_shared(array: Any) -> Any:
    """Memory of ours on a GPU, in which bfloat16 is uint16; torch copies to the host what it is told no device of."""
    torch = sys.modules["torch"]
    tensor = torch.as_tensor(array, device=torch.device("cuda", array.device))
    return tensor.view(torch.bfloat16) if tensor.dtype is torch.uint16 else tensor


def _jax(array: Any) -> Foreign:
    """A JAX array is read-only; one on a GPU comes as a copy."""
    return Foreign(np.asarray(array), "cpu", sys.modules["jax"].numpy.asarray)


def _traced(_: Any) -> Foreign:
    raise TypeError("JAX traces it, so it has no values yet; normspec.interop.jax has a batch norm for that")


def _cupy(array: Any) -> Foreign:
    return _device(array, sys.modules["cupy"].asarray)


def _device(value: Any, share: Callable[[Any], Any] = lambda array: array) -> Foreign:
    """Memory that its library allocated goes back as the library's own array; ours is shared with it."""
    array = kernels.on("cuda").shared(value)

    def wrap(array: Any) -> Any:
        return share(array) if array.library.empty_like is None else array.owner

    return Foreign(array, devices.name("cuda", array.device), wrap)


def _dlpack(value: Any) -> Foreign:
    """Any other producer; NumPy's array comes back if it tells of no functions to make one of its own."""
    if int(value.__dlpack_device__()[0]) in GPU:
        return _device(value)
    namespace = getattr(value, "__array_namespace__", lambda: np)()
    return Foreign(np.from_dlpack(value), "cpu", getattr(namespace, "from_dlpack", namespace.asarray))
