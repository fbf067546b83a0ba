"""Arrays on a GPU: whose memory, how it lies there, and on which stream it is worked with.

``asarray`` takes the arrays of torch and CuPy at the price of a few attributes, and any other through
``__cuda_array_interface__`` or DLPack, after asking the driver whose memory that is. bfloat16, which NumPy has no name
of, is held as uint16.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from ..strides import Shape, dense, memory_order
from .device import gpu
from .primitives import SIMULATED

STORAGE = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {"bfloat16": np.dtype(np.uint16)}
COUNTER = np.dtype(np.int64)
TAKEN: dict[Any, np.dtype[Any]] = {dtype: dtype for dtype in (*STORAGE.values(), COUNTER)}  # one object of each
LEGACY = 0  # raw handle of the default stream


class Library(NamedTuple):
    """Whose arrays: where it queues its work, and how it allocates."""

    stream: Callable[[int], int]  # raw handle of a device's current stream
    allocate: Callable[[int, int, int], tuple[Any, int]]  # bytes, the current device, stream; owner, pointer
    empty_like: Callable[[Any], Any] | None = None  # of its arrays
    contiguous: Callable[[Any], Any] | None = None  # a copy of an array


def _allocate(size: int, device: int, stream: int) -> tuple[Any, int]:
    made: tuple[Any, int] = gpu(device).allocate(size, stream)
    return made


OWN = Library(lambda device: LEGACY, _allocate)


def allocate(library: Library, size: int, device: int, stream: int) -> tuple[Any, int]:
    """Memory of a library, whichever device the calling thread works on: its owner, and the pointer."""
    here = gpu(device)
    if here.is_current():
        return library.allocate(size, device, stream)
    with here.current():
        return library.allocate(size, device, stream)


_made = itertools.count(1)


@functools.lru_cache(maxsize=4096)
def _alike(facts: tuple[Hashable, ...]) -> int:
    """A number for these facts, and none else; another, if they were forgotten."""
    return next(_made)


class DeviceArray:
    """A strided array in the memory of a GPU. What is said of it when it is made stays so.

    Parameters
    ----------
    pointer : int
        Address of the first element.
    shape, strides : tuple of int
        Lengths, and bytes from one element to the next, along each axis; strides may be zero or negative.
    dtype : np.dtype
        Of the elements; uint16 is bfloat16.
    device : int
        Number of the GPU.
    stream : int
        Raw handle of the stream that work with the array is queued on.
    owner : object
        Keeps the memory.
    library : Library
        Allocates what is computed from it.
    readonly : bool, default False
        Must not be written.
    """

    __slots__ = ("_facts", "device", "dtype", "library", "owner", "pointer", "readonly", "shape", "stream", "strides")

    def __init__(
        self,
        pointer: int,
        shape: Shape,
        strides: Shape,
        dtype: np.dtype[Any],
        device: int,
        stream: int,
        owner: Any,
        library: Library = OWN,
        readonly: bool = False,
    ) -> None:
        self.pointer = pointer
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.device = device
        self.stream = stream
        self.owner = owner
        self.library = library
        self.readonly = readonly
        self._facts = 0

    @property
    def facts(self) -> int:
        """A number that arrays share whose dtype, shape, strides, device, stream and ``readonly`` are the same."""
        if not self._facts:
            self._facts = _alike((self.dtype, self.shape, self.strides, self.device, self.stream, self.readonly))
        return self._facts

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Do the elements follow each other in the order of the axes?"""
        steps = zip(self.shape, self.strides, _strides(self.shape, self.dtype.itemsize), strict=True)
        return not self.size or all(length == 1 or found == step for length, found, step in steps)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; bfloat16 as uint16, for it has no name there."""
        return {
            "shape": self.shape,
            "strides": None if self.contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.pointer, self.readonly),
            "version": 3,
            "stream": self.stream or 1,  # 0 is none of the protocol's names of the legacy default stream
        }

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device=cuda:{self.device})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are of the values: a pointer says nothing of another's memory."""
        return to_device, (self.copy_to_host(), self.device)

    def overlaps(self, other: DeviceArray) -> bool:
        """Do the bytes from the first to the last of the two have any in common?"""
        if not (self.size and other.size) or self.device != other.device:
            return False
        (first, end), (start, last) = (
            (one.pointer + low, one.pointer + high)
            for one in (self, other)
            for low, high in [_extent(one.shape, one.strides, one.dtype.itemsize)]
        )
        return first < last and start < end

    def view(self, shape: Shape, strides: Shape) -> DeviceArray:
        """The same memory in another shape."""
        return DeviceArray(
            self.pointer, shape, strides, self.dtype, self.device, self.stream, self.owner, self.library, self.readonly
        )

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same memory in another shape.

        Raises
        ------
        ValueError
            It would take a copy, or the number of elements is another.
        """
        wanted = tuple(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
        return self.view(*_reshaped(self.shape, self.strides, self.dtype, wanted))

    def copy_to_host(self) -> npt.NDArray[Any]:
        """A copy on the host, contiguous, when the work queued on the stream is done."""
        host = np.empty(self.shape, self.dtype)
        if self.contiguous:
            gpu(self.device).download(self.pointer, host, self.stream)
            return host
        low, high = _extent(self.shape, self.strides, self.dtype.itemsize)
        memory = np.empty(high - low, np.uint8)
        gpu(self.device).download(self.pointer + low, memory, self.stream)
        return np.ndarray(self.shape, self.dtype, memory, -low, self.strides).copy()

    def copy_to_device(self, source: Any) -> None:
        """Take over the values of an array of the same shape and dtype, of the host or of the device.

        Raises
        ------
        ValueError
            Shape or dtype is another, or this array is not contiguous or read-only.
        """
        given = to_device(source, self.device) if isinstance(source, np.ndarray) else asarray(source)
        if (given.shape, given.dtype, given.device) != (self.shape, self.dtype, self.device):
            raise ValueError(f"expected {self!r}, found {given!r}")
        if self.readonly or not (self.contiguous and given.contiguous):
            raise ValueError("expected contiguous arrays, the one that is written not read-only")
        here = gpu(self.device)
        if given.stream != self.stream:
            here.order(given.stream, self.stream)
        here.copy(self.pointer, given.pointer, self.nbytes, self.stream)
        if given.stream != self.stream:
            here.order(self.stream, given.stream)


def empty(shape: Any, dtype: npt.DTypeLike, device: int = 0) -> DeviceArray:
    """Uninitialized memory of our own, contiguous, used on the device's default stream."""
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (int(shape),)
    element = storage(np.dtype(dtype))
    owner, pointer = allocate(OWN, math.prod(lengths) * element.itemsize, device, LEGACY)
    return DeviceArray(pointer, lengths, _strides(lengths, element.itemsize), element, device, LEGACY, owner)


def empty_like(array: DeviceArray) -> DeviceArray:
    """Uninitialized memory of the same shape, dtype and order of axes, from the same library."""
    if array.library.empty_like is not None:
        return asarray(array.library.empty_like(array.owner))
    owner, pointer = allocate(array.library, array.nbytes, array.device, array.stream)
    strides = dense(array.shape, array.strides, array.dtype.itemsize)
    return DeviceArray(pointer, array.shape, strides, array.dtype, array.device, array.stream, owner, array.library)


def feature_views(
    x: DeviceArray, axis: int, out: DeviceArray | None = None
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """An output for ``x``, and both as (outer, feature, inner), the features along ``axis``.

    The axes are taken in the order of memory, which a reduction does not mind: channels first, channels last and any
    transposition of them are read where they lie.

    Raises
    ------
    ValueError
        The strides are those of no three axes, and the library of ``x`` has no contiguous copies.
    """
    y = empty_like(x) if out is None else out
    try:
        shape, x_strides, y_strides = _features(x.shape, x.strides, y.strides, x.dtype, axis)
    except ValueError:
        copied = contiguous(x)
        if copied.strides == x.strides:
            raise
        return feature_views(copied, axis, out)
    return y, x.view(shape, x_strides), y.view(shape, y_strides)


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array, or a contiguous copy that its library makes on its current stream.

    Raises
    ------
    ValueError
        A copy is needed, and the library makes none.
    """
    if array.contiguous:
        return array
    if array.library.contiguous is None:
        raise ValueError(f"expected a contiguous array or a transposed one, found strides {array.strides} of bytes")
    return asarray(array.library.contiguous(array.owner))


def to_device(array: npt.NDArray[Any], device: int = 0) -> DeviceArray:
    """Copy to a device, contiguously; bfloat16 becomes the uint16 that stands for it there."""
    host = np.asarray(array.view(storage(array.dtype)), order="C")
    made = empty(host.shape, host.dtype, device)
    gpu(device).upload(made.pointer, host, made.stream)
    return made


def to_host(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy to the host, when the work queued before is done; bfloat16 comes as uint16."""
    return shared(array).copy_to_host()


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a device array holds a dtype in."""
    return STORAGE["bfloat16"] if dtype.name == "bfloat16" else dtype


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
    strides = interface.get("strides") or _strides(shape, dtype.itemsize)
    pointer, readonly = interface["data"]
    device = _checked(pointer, shape, tuple(strides), dtype)
    stream = _handle(interface.get("stream") or LEGACY)
    return DeviceArray(pointer, shape, tuple(strides), dtype, device, stream, value, OWN, readonly)


def _from_dlpack(value: Any) -> DeviceArray:
    """Of a DLPack producer, which makes the default stream wait for what it has queued elsewhere."""
    from cuda.core.utils import StridedMemoryView

    kind, _ = value.__dlpack_device__()
    if int(kind) not in (2, 13):  # kDLCUDA, kDLCUDAManaged
        raise ValueError(f"expected memory of a GPU, found DLPack's device type {int(kind)}")
    view = StridedMemoryView.from_dlpack(value, stream_ptr=1)
    dtype = _taken(np.dtype(view.dtype))
    strides = tuple(dtype.itemsize * step for step in view.strides or _strides(view.shape, 1))
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
    low, high = _extent(shape, strides, dtype.itemsize)
    device: int
    device, start, size = gpu(0).allocation(pointer)
    if size and not start <= pointer + low <= pointer + high <= start + size:
        raise ValueError(f"expected {high - low} bytes for shape {shape}, found an allocation of {size}")
    return device


def _handle(stream: int) -> int:
    """The raw handle of a stream; the legacy default stream has two names."""
    return LEGACY if stream == 1 else stream


def _strides(shape: Shape, itemsize: int) -> Shape:
    """Strides of a contiguous array."""
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _extent(shape: Shape, strides: Shape, itemsize: int) -> tuple[int, int]:
    """First and end of the bytes that an array covers, relative to its first element."""
    reach = [(length - 1) * step for length, step in zip(shape, strides, strict=True)]
    return sum(min(one, 0) for one in reach), sum(max(one, 0) for one in reach) + itemsize


@functools.lru_cache(1024)
def _reshaped(shape: Shape, strides: Shape, dtype: np.dtype[Any], wanted: Shape) -> tuple[Shape, Shape]:
    made = as_strided(np.empty(0, dtype), shape, strides).reshape(wanted, copy=False)  # no element is looked at
    return made.shape, made.strides


@functools.lru_cache(1024)
def _features(
    shape: Shape, x_strides: Shape, y_strides: Shape, dtype: np.dtype[Any], axis: int
) -> tuple[Shape, Shape, Shape]:
    """Three axes, and the strides of two arrays along them."""
    order, wanted = memory_order(shape, y_strides, axis)
    x, y = (as_strided(np.empty(0, dtype), shape, strides) for strides in (x_strides, y_strides))
    first, second = (one.transpose(order).reshape(wanted, copy=False) for one in (x, y))
    return wanted, first.strides, second.strides
