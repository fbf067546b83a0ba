"""Arrays of other libraries on a GPU, taken as they are: without a copy, on the stream that their library works on.

``asarray`` takes the arrays of torch and CuPy at the price of a few attributes, and any other through
``__cuda_array_interface__`` or DLPack, after asking the driver whose memory that is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from ..strides import Shape, extent, row_major
from .arrays import LEGACY, OWN, STORAGE, DeviceArray, Library, storage
from .device import gpu
from .primitives import SIMULATED

COUNTER = np.dtype(np.int64)
TAKEN: dict[Any, np.dtype[Any]] = {dtype: dtype for dtype in (*STORAGE.values(), COUNTER)}  # one object of each


def asarray(value: Any) -> DeviceArray:
    """A library's array on a GPU as a DeviceArray, without a copy and without waiting.

    Parameters
    ----------
    value : object
        A DeviceArray, a torch tensor, a CuPy or numba array, or whatever has ``__cuda_array_interface__`` or DLPack.

    Raises
    ------
    TypeError
        It is none of these, or its elements are not of float16, bfloat16, float32 or float64.
    ValueError
        Its memory is not on a GPU, was freed, or is smaller than its shape says.
    """
    made: DeviceArray = value if type(value) is DeviceArray else shared(value)
    if made.dtype is COUNTER:
        _refuse_dtype(COUNTER)
    return made


def shared(value: Any) -> DeviceArray:
    """The same of arrays of int64, too, which count batches and values.

    Raises
    ------
    TypeError, ValueError
        See ``asarray``.
    """
    made: DeviceArray = value if type(value) is DeviceArray else _importer(cast(Hashable, type(value)))(value)
    return made


def counter(value: Any) -> DeviceArray:
    """A library's int64 array of one element on a GPU, for ``forward_training`` to count batches in.

    Raises
    ------
    TypeError, ValueError
        It is none; see ``asarray``.
    """
    made = shared(value)
    if made.dtype != COUNTER or made.size != 1 or made.readonly:
        raise TypeError(f"expected one int64 that can be written, found {made!r}")
    return made


def to_host(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy to the host, when the work queued before is done; bfloat16 comes as uint16."""
    return shared(array).copy_to_host()


@functools.cache
def _importer(kind: Any) -> Callable[[Any], DeviceArray]:
    """How arrays of a type are taken."""
    libraries = {one.__module__.partition(".")[0] for one in kind.__mro__}
    if "torch" in libraries and hasattr(kind, "data_ptr"):
        return _torch()
    if "cupy" in libraries:
        return _cupy()
    if SIMULATED and hasattr(kind, "copy_to_host"):
        return _from_simulator
    if hasattr(kind, "__cuda_array_interface__"):
        return _from_interface
    if hasattr(kind, "__dlpack__"):
        return _from_dlpack
    raise TypeError(f"expected an array on a GPU, found {kind.__qualname__}")


@functools.cache
def _torch() -> Callable[[Any], DeviceArray]:
    """Of a torch tensor, which is trusted to have the memory that it says; on torch's current stream."""
    torch = sys.modules["torch"]
    dtypes = {getattr(torch, name): dtype for name, dtype in (*STORAGE.items(), ("int64", COUNTER))}
    devices = functools.cache(lambda index: torch.device("cuda", index))
    stream = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
        lambda index: torch.cuda.current_stream(index).cuda_stream
    )

    def allocate(size: int, device: int, stream: int) -> tuple[Any, int]:
        owner = torch.empty(size, dtype=torch.uint8, device=devices(device))
        return owner, owner.data_ptr()

    library = Library(stream, allocate, torch.empty_like, torch.Tensor.contiguous)

    def convert(tensor: Any) -> DeviceArray:
        dtype = dtypes.get(tensor.dtype)
        if dtype is None:
            _refuse_dtype(tensor.dtype)
        if not tensor.is_cuda:
            raise ValueError(f"expected a tensor on a GPU, found one on {tensor.device}")
        device, size, pointer = tensor.get_device(), dtype.itemsize, tensor.data_ptr()
        strides = tuple([size * step for step in tensor.stride()])
        if not pointer and tensor.numel():
            raise ValueError("expected a tensor with memory, found one whose storage was freed")
        return DeviceArray(pointer, tensor.shape, strides, dtype, device, stream(device), tensor, library)

    return convert


@functools.cache
def _cupy() -> Callable[[Any], DeviceArray]:
    """Of a CuPy array; on CuPy's current stream."""
    cupy = sys.modules["cupy"]

    def allocate(size: int, device: int, stream: int) -> tuple[Any, int]:
        owner = cupy.cuda.alloc(size)
        return owner, owner.ptr

    def stream(device: int) -> int:
        return _handle(cupy.cuda.get_current_stream(device).ptr)

    def there(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function of CuPy, which allocates on the current device, on that of its array."""

        def call(array: Any) -> Any:
            here = gpu(array.device.id)
            with nullcontext() if here.is_current() else here.current():
                return function(array)

        return call

    library = Library(stream, allocate, there(cupy.empty_like), there(lambda array: cupy.ascontiguousarray(array)))

    def convert(array: Any) -> DeviceArray:
        dtype = _taken(array.dtype)
        device, pointer = array.device.id, array.data.ptr
        return DeviceArray(pointer, array.shape, array.strides, dtype, device, stream(device), array, library)

    return convert


def _from_interface(value: Any) -> DeviceArray:
    """Of ``__cuda_array_interface__``; on the stream that it names, else on the default one."""
    interface = value.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError("expected an array without a mask")
    shape, dtype = tuple(interface["shape"]), _taken(np.dtype(interface["typestr"]))
    strides = interface.get("strides") or row_major(shape, dtype.itemsize)
    pointer, readonly = interface["data"]
    device = _checked(pointer, shape, tuple(strides), dtype)
    stream = _handle(interface.get("stream") or LEGACY)
    library = OWN if stream == LEGACY else OWN._replace(allocate=functools.partial(_beside, value))
    return DeviceArray(pointer, shape, tuple(strides), dtype, device, stream, value, library, readonly)


def _beside(producer: Any, size: int, device: int, stream: int) -> tuple[Any, int]:
    """Memory of ours for what is computed on a producer's stream, which is not destroyed while it is kept."""
    owner, pointer = OWN.allocate(size, device, stream)
    return (owner, producer), pointer


def _from_dlpack(value: Any) -> DeviceArray:
    """Of a DLPack producer, which makes the default stream wait for what it has queued elsewhere."""
    from cuda.core.utils import StridedMemoryView

    kind, _ = value.__dlpack_device__()
    if int(kind) not in (2, 13):  # kDLCUDA, kDLCUDAManaged
        raise ValueError(f"expected memory of a GPU, found DLPack's device type {int(kind)}")
    view = StridedMemoryView.from_dlpack(value, stream_ptr=1)
    dtype = _taken(np.dtype(view.dtype))
    strides = tuple(dtype.itemsize * step for step in view.strides or row_major(view.shape, 1))
    device = _checked(view.ptr, view.shape, strides, dtype)
    return DeviceArray(view.ptr, view.shape, strides, dtype, device, LEGACY, view, OWN, view.readonly)


def _from_simulator(value: Any) -> DeviceArray:
    """Of an array of numba's simulator."""
    from .simulated import own

    array = value._ary
    dtype = _taken(array.dtype)
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    own(base)
    return DeviceArray(array.ctypes.data, array.shape, array.strides, dtype, 0, LEGACY, value)


def _taken(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The storage of a dtype, if it is one that is taken."""
    taken = TAKEN.get(storage(dtype))
    return _refuse_dtype(dtype) if taken is None else taken


def _refuse_dtype(found: Any) -> NoReturn:
    raise TypeError(f"expected elements of {', '.join(STORAGE)}, found {found}")


def _checked(pointer: int, shape: Shape, strides: Shape, dtype: np.dtype[Any]) -> int:
    """The device that a foreign array is on, after a look at its memory."""
    if 0 in shape:
        return 0
    low, high = extent(shape, strides, dtype.itemsize)
    device: int
    device, start, size = gpu(0).allocation(pointer)
    if size and not start <= pointer + low <= pointer + high <= start + size:
        raise ValueError(f"expected {high - low} bytes for shape {shape}, found an allocation of {size}")
    return device


def _handle(stream: int) -> int:
    """The raw handle of a stream; the legacy default stream has two names."""
    return LEGACY if stream == 1 else stream
