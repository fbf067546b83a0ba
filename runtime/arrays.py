"""What may come in, and how to give back the same; how memory is read as (outer, feature, inner)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import memory
from .tensor import Tensor


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


def source(value: object) -> Source | None:
    """The array behind an input, or None if it is no array that can be given back."""
    if isinstance(value, Tensor):
        return Source(value.array, value.device, value._dtype, value._beside)
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):  # whose mask would be lost
        array = np.asarray(value)
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        return Source(array, "cpu", _name(array.dtype), _same)
    return None


_name = cache(lambda dtype: dtype.name)  # NumPy makes the name anew each time it is asked


def _same(result: Any) -> Any:
    return result


def feature_views(x: npt.NDArray[Any], axis: int) -> tuple[Any, Any, Any]:
    """``x``, an output for it, and both as (outer, feature, inner).

    The axes are taken in the order of memory, which a reduction does not mind: so channels first, channels last and
    any transposition of them are read where they lie, and the output has the layout of the input. What steps through
    memory unevenly, like every second row, is copied first.
    """
    y = memory.empty_like(x)
    if x.flags.c_contiguous:
        plain = _around(x.shape, axis)
        return y, x.reshape(plain), y.reshape(plain)
    others = sorted((one for one in range(x.ndim) if one != axis), key=lambda one: -abs(y.strides[one]))
    outer = [one for one in others if abs(y.strides[one]) >= abs(y.strides[axis])]
    order = [*outer, axis, *(one for one in others if one not in outer)]
    shape = (_product(x, outer), x.shape[axis], _product(x, [one for one in others if one not in outer]))
    return y, _view(x.transpose(order), shape), y.transpose(order).reshape(shape, copy=False)


def _view(x: npt.NDArray[Any], shape: tuple[int, ...]) -> Any:
    try:
        return x.reshape(shape, copy=False)
    except ValueError:
        return np.ascontiguousarray(x).reshape(shape)


def _product(x: Any, axes: Iterable[int]) -> int:
    return math.prod(x.shape[one] for one in axes)


def device_views(x: Any, axis: int, empty_like: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """The same for a contiguous array on a device."""
    y = empty_like(x)
    shape = _around(x.shape, axis)
    return y, x.reshape(shape), y.reshape(shape)


@lru_cache(maxsize=1024)
def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
