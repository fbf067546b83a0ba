"""Memory for what is computed of an array, and both as kernels take them: as (outer, feature, inner)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..strides import Shape, dense, memory_order
from .arrays import DeviceArray, allocate
from .foreign import asarray


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


@functools.lru_cache(1024)
def _features(
    shape: Shape, x_strides: Shape, y_strides: Shape, dtype: np.dtype[Any], axis: int
) -> tuple[Shape, Shape, Shape]:
    """Three axes, and the strides of two arrays along them."""
    order, wanted = memory_order(shape, y_strides, axis)
    x, y = (as_strided(np.empty(0, dtype), shape, strides) for strides in (x_strides, y_strides))
    first, second = (one.transpose(order).reshape(wanted, copy=False) for one in (x, y))
    return wanted, first.strides, second.strides
