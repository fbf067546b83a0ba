"""Functions that make tensors; the first argument is the dialect's type of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import cast

import numpy as np

from ..dtypes import DTypeLike
from ..gradients import NoGrad
from ..tensor import Shape, Tensor, TensorT

_random = np.random.default_rng()


def tensor(
    kind: type[TensorT], data: object, dtype: DTypeLike | None, device: str | None, requires_grad: bool
) -> TensorT:
    """A tensor of given values."""
    return _learning(kind(data, dtype, device), requires_grad)


def zeros(kind: type[TensorT], shape: Shape | Sequence[Shape], dtype: DTypeLike | None, requires_grad: bool) -> TensorT:
    """A tensor of zeros."""
    return _learning(kind(np.zeros(_shape(shape), _numpy(kind, dtype))), requires_grad)


def ones(kind: type[TensorT], shape: Shape | Sequence[Shape], dtype: DTypeLike | None, requires_grad: bool) -> TensorT:
    """A tensor of ones."""
    return _learning(kind(np.ones(_shape(shape), _numpy(kind, dtype))), requires_grad)


def arange(
    kind: type[TensorT], shape: Shape | Sequence[Shape], dtype: DTypeLike | None, requires_grad: bool
) -> TensorT:
    """A tensor whose values count up from zero, in the order of memory."""
    sizes = _shape(shape)
    return _learning(kind(np.arange(math.prod(sizes)).astype(_numpy(kind, dtype)).reshape(sizes)), requires_grad)


def iota(kind: type[TensorT], shape: Shape | Sequence[Shape], dim: int, dtype: DTypeLike | None) -> TensorT:
    """A tensor in which each value is its index along ``dim``."""
    sizes = _shape(shape)
    if not -len(sizes) <= dim < len(sizes):
        raise ValueError(f"iota: dim: expected {-len(sizes)} to {len(sizes) - 1}, found {dim}")
    return kind(np.indices(sizes, dtype=np.int64)[dim].astype(_numpy(kind, dtype)))


def randn(kind: type[TensorT], shape: Shape | Sequence[Shape], dtype: DTypeLike | None, requires_grad: bool) -> TensorT:
    """A tensor of draws from the standard normal distribution."""
    return _learning(kind(_random.standard_normal(_shape(shape)).astype(_numpy(kind, dtype))), requires_grad)


def _learning(made: TensorT, requires_grad: bool) -> TensorT:
    return made.requires_grad_() if requires_grad else made


def manual_seed(seed: int) -> None:
    """Make the draws that follow repeatable."""
    global _random
    _random = np.random.default_rng(seed)


def no_grad() -> NoGrad:
    """A context, or a decorator, in which no gradient is recorded."""
    return NoGrad()


def _numpy(kind: type[Tensor], dtype: DTypeLike | None) -> np.dtype[np.generic]:
    return kind.dtype_type.of("float32" if dtype is None else dtype).numpy


def _shape(shape: Shape | Sequence[Shape]) -> tuple[int, ...]:
    """A shape given as a number, a sequence, or the arguments of ``randn(2, 3)`` and ``randn((2, 3))``."""
    if isinstance(shape, Sequence) and len(shape) == 1 and isinstance(shape[0], Sequence):
        shape = shape[0]
    sizes = tuple(map(operator.index, cast("Sequence[int]", shape) if isinstance(shape, Sequence) else (shape,)))
    if any(size < 0 for size in sizes):  # NumPy's reshape takes a negative one for what is left
        raise ValueError(f"shape: expected sizes of zero or more, found {sizes}")
    return sizes
