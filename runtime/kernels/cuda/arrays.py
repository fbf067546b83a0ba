"""Arrays on a GPU: whose memory, how it lies there, and on which stream it is worked with.

bfloat16, which NumPy has no name of, is held as uint16. ``foreign`` takes the arrays of other libraries.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from ..strides import Shape, extent, row_major
from .device import gpu

STORAGE = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {"bfloat16": np.dtype(np.uint16)}
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
        steps = zip(self.shape, self.strides, row_major(self.shape, self.dtype.itemsize), strict=True)
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
            for low, high in [extent(one.shape, one.strides, one.dtype.itemsize)]
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
        low, high = extent(self.shape, self.strides, self.dtype.itemsize)
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
        from .foreign import asarray  # which makes arrays of this class

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
    return DeviceArray(pointer, lengths, row_major(lengths, element.itemsize), element, device, LEGACY, owner)


def to_device(array: npt.NDArray[Any], device: int = 0) -> DeviceArray:
    """Copy to a device, contiguously; bfloat16 becomes the uint16 that stands for it there."""
    host = np.asarray(array.view(storage(array.dtype)), order="C")
    made = empty(host.shape, host.dtype, device)
    gpu(device).upload(made.pointer, host, made.stream)
    return made


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a device array holds a dtype in."""
    return STORAGE["bfloat16"] if dtype.name == "bfloat16" else dtype


@functools.lru_cache(1024)
def _reshaped(shape: Shape, strides: Shape, dtype: np.dtype[Any], wanted: Shape) -> tuple[Shape, Shape]:
    made = as_strided(np.empty(0, dtype), shape, strides).reshape(wanted, copy=False)  # no element is looked at
    return made.shape, made.strides
