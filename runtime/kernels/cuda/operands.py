"""How kernels are told of arrays: letters for dtypes, flags for what is there, strides, and memory to work in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import DeviceArray
from .primitives import ELEMENTS
from .program import BIAS, RUNNING_MEAN, RUNNING_VAR, TRACKED, UNBIASED, WEIGHT

Array = DeviceArray
Allocate = Callable[[int, int, int], tuple[Any, int]]  # bytes, device, stream: an owner and a pointer
Plan = Callable[..., None]  # of how to allocate, a stream, and pointers and numbers that differ from call to call
Workspace = Callable[[Allocate, int], tuple[Any, int]]  # of a stream: the owner is kept until all is launched

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
STEP = WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, UNBIASED, TRACKED  # bits of a training step
LETTERS = {np.dtype(kind.dtype): name for name, kind in ELEMENTS.items()}


def letter(x: Array) -> str:
    """What the kernels call a dtype."""
    return LETTERS[x.dtype]


def letters(vectors: Sequence[Array | None]) -> Any:
    """The same of vectors; of one that is absent, that of any other, so that it makes no program of its own."""
    given = [LETTERS[one.dtype] for one in vectors if one is not None]
    return tuple((given or ["f32"])[0] if one is None else LETTERS[one.dtype] for one in vectors)


def flags(given: Sequence[object], bits: Sequence[int]) -> int:
    """The bits of what is there, which is what is not None."""
    return sum(bit for bit, one in zip(bits, given, strict=True) if one is not None)


def number(*kinds: str) -> Any:
    """The type of numbers beside arrays of some dtypes; a launch takes float for float64."""
    return float if "f64" in kinds else np.float32


@functools.lru_cache(256)
def numbers(real: Any, moving: Any, epsilon: float, rate: float) -> tuple[Any, Any, Any]:
    """Epsilon, and the parts of the old and the new in running statistics; making NumPy's numbers takes a while."""
    return real(epsilon), moving(1 - rate), moving(rate)


def steps(x: Array) -> tuple[int, ...]:
    """Strides in elements; 0 along an axis that has one element."""
    axes = zip(x.shape, x.strides, strict=True)
    return tuple(stride // x.dtype.itemsize if length > 1 else 0 for length, stride in axes)


def workspace(x: Array, size: int) -> Workspace:
    """Memory for so many numbers of the arithmetic with x; whose, a call says, for a plan is for arrays of anyone."""
    device, size = x.device, size * (8 if x.dtype == np.float64 else 4)
    return (lambda allocate, stream: allocate(size, device, stream)) if size else lambda allocate, stream: (None, 0)
