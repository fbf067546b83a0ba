# Generated from specs/torch/ by `normspec generate`. Edit the specs, never this file.
"""The functions of PyTorch: ``torch.nn.functional``."""

from __future__ import annotations

from normspec.runtime import Array, ArrayT, Speaker
from normspec.runtime.operators import batch_norm as _batch_norm
from normspec.torch._dialect import DIALECT

__all__ = ["batch_norm"]

_BATCH_NORM = Speaker(
    DIALECT,
    "batch_norm",
    {
        "input": "input",
        "mean": "running_mean",
        "variance": "running_var",
        "scale": "weight",
        "shift": "bias",
        "training": "training",
        "update_rate": "momentum",
        "epsilon": "eps",
    },
)


def batch_norm(
    input: ArrayT,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> ArrayT:
    """Apply Batch Normalization for each channel across a batch of data. See BatchNorm1d, BatchNorm2d,
    BatchNorm3d for details.

    Parameters
    ----------
    input : ArrayT
        Input of shape (N, C, ...).
    running_mean : Array | None
        Running mean of shape (C,), updated in place in training.
    running_var : Array | None
        Running variance of shape (C,), updated in place in training.
    weight : Array | None, default None
        Scale of shape (C,); None is 1.
    bias : Array | None, default None
        Shift of shape (C,); None is 0.
    training : bool, default False
        Whether to use the statistics of this batch and update the running ones.
    momentum : float, default 0.1
        Weight of this batch in the running statistics.
    eps : float, default 1e-05
        Added to the variance, so that no division is by zero.

    Returns
    -------
    ArrayT
    """
    return _batch_norm.batch_norm(
        _BATCH_NORM,
        input=input,
        mean=running_mean,
        variance=running_var,
        scale=weight,
        shift=bias,
        training=training,
        update_rate=momentum,
        epsilon=eps,
    )
