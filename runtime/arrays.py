"""What may come in, and how to give back the same; how memory is read as (outer, feature, inner)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from . import foreign, kernels, memory
from .dtypes import at_least_float32
from .kernels.strides import Order, Shape, memory_order
from .tensor import Tensor, dtype_name

WIDE = ("float32", "float64")


class Source(NamedTuple):
    """An input: its array, device and element type, and the way from a result back to what the caller has."""

    array: Any
    device: str
    dtype: str
    wrap: Callable[[Any], Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return tuple(self.array.shape)


_source = partial(tuple.__new__, Source)  # ``Source`` of a tuple, without the frame of a function


class Unusable(ValueError):
    """Memory that kernels cannot take."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


def source(value: object) -> Source | None:
    """The array behind an input, or None if it is no array that can be given back.

    Raises
    ------
    Unusable
        It is one, of which no kernel can take the memory, or which wants gradients of its own library.
    """
    if isinstance(value, Tensor):
        array = value.array
        return _source((array if array.dtype.isnative else native(array), value.device, value._dtype, value._beside))
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):  # whose mask would be lost
        array = native(np.asarray(value))
        return _source((array, "cpu", dtype_name(array), _same))
    try:
        found = None if isinstance(value, np.ndarray) else foreign.read(value)
    except (*foreign.CANNOT, RuntimeError, ValueError) as error:
        kind = type(value).__name__
        raise Unusable("an array that can be shared", f"a {kind} that cannot: {error}") from None
    if found is None:
        return None
    if found.differentiated:
        raise Unusable(
            "a tensor that needs no gradient",
            "one that requires grad: normspec.interop has a batch norm for that, and its detach() is one that does not",
        )
    return Source(found.array, found.device, dtype_name(found.array), found.wrap)


def native(array: Any) -> Any:
    """The values in this machine's order of bytes."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _same(result: Any) -> Any:
    return result


def feature_views(x: npt.NDArray[Any], axis: int, out: npt.NDArray[Any] | None = None) -> tuple[Any, Any, Any]:
    """An output for ``x``, and both as (outer, feature, inner).

    The axes are taken in the order of memory, which a reduction does not mind: so channels first, channels last and
    any transposition of them are read where they lie, and the output has the layout of the input. What steps through
    memory unevenly, like every second row, is copied first. The output is ``out`` if its strides allow that.
    """
    if out is not None:
        order, shape = feature_order(out, axis)
        if np.may_share_memory(out, as_features(out, order, shape)):
            return out, as_features(x, order, shape), as_features(out, order, shape)
    y = memory.empty_like(x)
    if x.flags.c_contiguous:
        plain = _around(x.shape, axis)
        return y, x.reshape(plain), y.reshape(plain)
    order, shape = feature_order(y, axis)
    return y, as_features(x, order, shape), as_features(y, order, shape)


def feature_order(x: npt.NDArray[Any], axis: int) -> Order:
    """``memory_order`` of an array."""
    return memory_order(x.shape, x.strides, axis)


def as_features(x: npt.NDArray[Any], order: Shape, shape: tuple[int, int, int]) -> Any:
    """``x`` as (outer, feature, inner) where it lies; a copy if its strides do not allow that."""
    x = x.transpose(order)
    try:
        return x.reshape(shape, copy=False)
    except ValueError:
        return np.ascontiguousarray(x).reshape(shape)


@lru_cache(maxsize=1024)
def prepared(
    device: str, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], axis: int, batch: bool
) -> kernels.Prepared | None:
    """What the backend has prepared for inputs like this.

    Parameters
    ----------
    device, shape, strides, dtype
        Of the input's array.
    axis : int
        That of the features.
    batch : bool
        Whether it is normalized by its own statistics.

    Returns
    -------
    normspec.runtime.kernels.Prepared or None
        None if the input is empty, or cannot be read where it lies.
    """
    if not math.prod(shape):
        return None
    if device != "cpu":
        return kernels.on("cuda").prepared(shape, strides, dtype, axis)
    like = as_strided(np.empty(0, dtype), shape, strides)  # no element is looked at
    empty = memory.maker(like)
    y = empty()
    order, three = feature_order(y, axis)
    if like.flags.c_contiguous:
        order, three = tuple(range(len(shape))), _around(shape, axis)
    try:
        x_strides, y_strides = (one.transpose(order).reshape(three, copy=False).strides for one in (like, y))
    except ValueError:
        return None
    return kernels.on("cpu").prepared(three, dtype, batch, x_strides, y_strides, empty=empty)


def vector(tensor: Tensor) -> Any:
    """An aligned contiguous float32 or float64 array for a kernel: the tensor's own if it is one already."""
    array, dtype = tensor.array, tensor._dtype
    if tensor.device != "cpu":
        if dtype in WIDE and array.contiguous:
            return array
        return kernels.on("cuda").to_device(tensor.numpy().astype(at_least_float32(dtype)), array.device)
    flags = array.flags
    if dtype in WIDE and flags.c_contiguous and flags.aligned and array.dtype.isnative:
        known = np.dtype(dtype)  # the one object that kernels know; what was pickled has another
        return array if array.dtype is known else array.view(known)
    return np.require(array, at_least_float32(dtype), ("C", "A"))


def read_only(array: Any) -> bool:
    """Whether an array, of the host or of a device, must not be written."""
    return not array.flags.writeable if isinstance(array, np.ndarray) else bool(array.readonly)


def repeated(array: Any) -> bool:
    """Whether elements are one and the same in memory, as where something is broadcast."""
    return any(step == 0 and length > 1 for step, length in zip(array.strides, array.shape, strict=True))


def unwritable(array: Any) -> str | None:
    """What was found instead of memory that can be written to in place, or None."""
    if read_only(array):
        return "read-only memory"
    if repeated(array):
        return "memory that elements share"
    gaps = not isinstance(array, np.ndarray) and not array.contiguous
    return f"memory with gaps, of strides {array.strides}" if gaps else None


def device_views(x: Any, axis: int, out: Any = None) -> tuple[Any, Any, Any]:
    """The same for an array on a device; what does not lie as ``out`` does is copied by way of the host."""
    backend = kernels.on("cuda")
    try:
        return backend.feature_views(x, axis, out)
    except ValueError:
        if out is None:
            raise
    try:
        _, _, y = backend.feature_views(out, axis, out)
    except ValueError:
        raise ValueError(f"out: expected memory without gaps, found strides {out.strides} of bytes") from None
    order, shape = feature_order(out, axis)
    return out, backend.to_device(as_features(backend.to_host(x), order, shape), x.device), y


@lru_cache(maxsize=1024)
def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
