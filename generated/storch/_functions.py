# Generated from specs/storch/ by `normspec generate`. Edit the specs, never this file.
"""The functions of storch that its documents use."""

from __future__ import annotations

from normspec import runtime
from normspec.runtime import DTypeLike, NoGrad, Shape
from normspec.runtime.operators import tensor as _tensor
from normspec.storch._dialect import Tensor, float32

__all__ = ["manualSeed", "manual_seed", "noGrad", "no_grad", "ones", "randn", "zeros"]


@runtime.twins(requiresGrad="requires_grad")
def randn(size: Shape, dtype: DTypeLike | None = float32, *, requiresGrad: bool = False) -> Tensor:
    """A tensor of draws from the standard normal distribution.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default float32
        Element type; None is float32.
    requiresGrad : bool, default False
        Whether gradients of it are wanted. Also spelled ``requires_grad``.

    Returns
    -------
    Tensor
    """
    return _tensor.randn(Tensor, shape=size, dtype=dtype, requires_grad=requiresGrad)


@runtime.twins(requiresGrad="requires_grad")
def zeros(size: Shape, dtype: DTypeLike | None = float32, *, requiresGrad: bool = False) -> Tensor:
    """A tensor of zeros.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default float32
        Element type; None is float32.
    requiresGrad : bool, default False
        Whether gradients of it are wanted. Also spelled ``requires_grad``.

    Returns
    -------
    Tensor
    """
    return _tensor.zeros(Tensor, shape=size, dtype=dtype, requires_grad=requiresGrad)


@runtime.twins(requiresGrad="requires_grad")
def ones(size: Shape, dtype: DTypeLike | None = float32, *, requiresGrad: bool = False) -> Tensor:
    """A tensor of ones.

    Parameters
    ----------
    size : Shape
        Its shape.
    dtype : dtype | None, default float32
        Element type; None is float32.
    requiresGrad : bool, default False
        Whether gradients of it are wanted. Also spelled ``requires_grad``.

    Returns
    -------
    Tensor
    """
    return _tensor.ones(Tensor, shape=size, dtype=dtype, requires_grad=requiresGrad)


def manualSeed(seed: int) -> None:
    """Makes the draws that follow repeatable; the streams are NumPy's, not the original's.

    Parameters
    ----------
    seed : int
        Any integer, zero or more.
    """
    _tensor.manual_seed(seed=seed)


manual_seed = manualSeed


def noGrad() -> NoGrad:
    """Within this context, or a function decorated by it, no gradient is recorded.

    Returns
    -------
    NoGrad
    """
    return _tensor.no_grad()


no_grad = noGrad
