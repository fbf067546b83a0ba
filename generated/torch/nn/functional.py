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

    Raises
    ------
    TypeError
        The epsilon is not a real number. The weight of a batch in the running statistics is neither a
        real number nor None.
    RuntimeError
        Running statistics, weight or bias have another length than the input has features. Running
        statistics, weight or bias are not floating-point. A running statistic is missing in evaluation.
        The input lives on another device than the module.
    ValueError
        Running statistics, or their counter, that are to be updated cannot be written. One of the running
        statistics is missing in training, and not the other. The input cannot be shared, as what is
        sparse or of another kind of device, or wants gradients of its own library. The input does not
        have one of the accepted numbers of dimensions. Statistics of the batch are needed and there is
        one value per feature. The epsilon is zero or negative in training. The epsilon is negative in
        evaluation.
    AttributeError
        The input is neither a tensor nor a NumPy array.
    NotImplementedError
        The input is not floating-point.

    Examples
    --------
    >>> # Evaluation, by statistics that are given; training moves them
    >>> x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    >>> mean, variance = torch.zeros(2), torch.ones(2)
    >>> nn.functional.batch_norm(x, mean, variance, eps=0.0)
    tensor([[ 1., 10.],
            [ 3., 30.]])
    >>> y = nn.functional.batch_norm(x, mean, variance, training=True)
    >>> mean
    tensor([0.2000, 2.0000])
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
