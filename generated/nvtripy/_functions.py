# Generated from specs/nvtripy/ by `normspec generate`. Edit the specs, never this file.
"""The functions of nvtripy that its documents use."""

from __future__ import annotations

from normspec.nvtripy._dialect import Tensor, float32
from normspec.runtime import DTypeLike, Shape
from normspec.runtime.operators import tensor as _tensor

__all__ = ["iota", "ones", "zeros"]


def iota(shape: Shape, dim: int = 0, dtype: DTypeLike = float32) -> Tensor:
    """Fills an output tensor with consecutive values starting from zero along the given dimension.

    Parameters
    ----------
    shape : Shape
        The desired shape of the tensor.
    dim : int, default 0
        Dimension along which to perform the iota operation.
    dtype : dtype, default float32
        Datatype of elements.

    Returns
    -------
    Tensor
    """
    return _tensor.iota(Tensor, shape=shape, dim=dim, dtype=dtype)


def zeros(shape: Shape, dtype: DTypeLike = float32) -> Tensor:
    """A tensor of zeros.

    Parameters
    ----------
    shape : Shape
        Its shape.
    dtype : dtype, default float32
        Element type; None is float32.

    Returns
    -------
    Tensor
    """
    return _tensor.zeros(Tensor, shape=shape, dtype=dtype, requires_grad=False)


def ones(shape: Shape, dtype: DTypeLike = float32) -> Tensor:
    """A tensor of ones.

    Parameters
    ----------
    shape : Shape
        Its shape.
    dtype : dtype, default float32
        Element type; None is float32.

    Returns
    -------
    Tensor
    """
    return _tensor.ones(Tensor, shape=shape, dtype=dtype, requires_grad=False)
