# Generated from specs/lucid/ by `normspec generate`. Edit the specs, never this file.
"""The functions of lucid that its documents use."""

from __future__ import annotations

from normspec.lucid._dialect import Tensor
from normspec.runtime import DTypeLike, NoGrad, Shape
from normspec.runtime.operators import tensor as _tensor

__all__ = ["manual_seed", "no_grad", "ones", "randn", "tensor", "zeros"]


def randn(*size: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of draws from the standard normal distribution.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default None
        Element type; None is float32.
    requires_grad : bool, default False
        Whether gradients of it are wanted.

    Returns
    -------
    Tensor
    """
    return _tensor.randn(Tensor, shape=size, dtype=dtype, requires_grad=requires_grad)


def zeros(*size: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default None
        Element type; None is float32.
    requires_grad : bool, default False
        Whether gradients of it are wanted.

    Returns
    -------
    Tensor
    """
    return _tensor.zeros(Tensor, shape=size, dtype=dtype, requires_grad=requires_grad)


def ones(*size: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default None
        Element type; None is float32.
    requires_grad : bool, default False
        Whether gradients of it are wanted.

    Returns
    -------
    Tensor
    """
    return _tensor.ones(Tensor, shape=size, dtype=dtype, requires_grad=requires_grad)


def tensor(
    data: object,
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of given values.

    Parameters
    ----------
    data : object
        Numbers, nested sequences of them, an array, or any DLPack producer.
    dtype : dtype | None, default None
        Element type; None takes it from the data, Python floats being float32.
    device : DeviceLike | None, default None
        Where the tensor is to live; None is where the data is.
    requires_grad : bool, default False
        Whether gradients of it are wanted.

    Returns
    -------
    Tensor
    """
    return _tensor.tensor(Tensor, data=data, dtype=dtype, device=device, requires_grad=requires_grad)


def no_grad() -> NoGrad:
    """Within this context, or a function decorated by it, no gradient is recorded.

    Returns
    -------
    NoGrad
    """
    return _tensor.no_grad()


def manual_seed(seed: int) -> None:
    """Makes the draws that follow repeatable; the streams are NumPy's, not the original's.

    Parameters
    ----------
    seed : int
        Any integer, zero or more.
    """
    _tensor.manual_seed(seed=seed)
