"""The function, differentiable any number of times."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import compiled, memory
from .checks import check

# How many modes stand over torch. A torch without this name would be recorded in traces and compiled code only.
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel, as ``torch.nn.functional.batch_norm`` does, with its arguments.

    Differentiable any number of times with respect to ``input``, ``weight`` and ``bias``. For backward it keeps
    ``input`` and two vectors of C. Ioffe and Szegedy, "Batch Normalization", 2015.

    Parameters
    ----------
    input : Tensor
        Shape (N, C, ...), float16, bfloat16, float32 or float64, strided in any way.
    running_mean, running_var : Tensor or None
        Shape (C,). Updated in place in training, where both may be None; used in evaluation.
    weight, bias : Tensor or None, default None
        Shape (C,), any floating-point type; None is 1 and 0.
    training : bool, default False
        Whether to normalize by the statistics of this batch and move the running ones towards them.
    momentum : float, default 0.1
        Weight of this batch in the running statistics.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    Tensor
        Of the shape, element type and device of ``input``; channels_last if ``input`` is, and else contiguous.

    Raises
    ------
    ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError
        The arguments do not fit; the messages are torch's, with a second line of ours. Nothing was changed.
    """
    return tracked(input, running_mean, running_var, weight, bias, training, momentum, eps, None)


def tracked(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    count: Tensor | None,
) -> Tensor:
    """``batch_norm`` that adds one to ``count``, a number of batches, if there is anything in the input."""
    vectors = {"mean": running_mean, "variance": running_var, "scale": weight, "shift": bias}
    check(input, vectors, training, momentum, eps)
    if not input.numel():  # there is nothing to compute, but there are gradients, which are zero
        return _affine(input, weight, bias)
    if getattr(forward_ad, "_current_level", 0) >= 0:  # a torch without this name is asked in every call
        _refuse_tangents(input=input, weight=weight, bias=bias)
    if _recorded():
        y = compiled.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        if count is not None:
            count.add_(1)
        return y
    learned = input, weight, bias
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in learned):
        return cast(Tensor, _BatchNorm.apply(*learned, running_mean, running_var, training, momentum, eps, count))
    if training:
        return memory.train(*learned, running_mean, running_var, momentum, eps, count, kept=False)[0]
    return memory.normalize(input, running_mean, running_var, weight, bias, eps)


def _refuse_tangents(**learned: Tensor | None) -> None:
    """Forward-mode derivatives would be lost in kernels, and where nothing requires grad, torch would not tell."""
    for name, one in learned.items():
        if one is not None and forward_ad.unpack_dual(one).tangent is not None:
            wanted = "a tensor without forward-mode derivatives"
            raise NotImplementedError(f"batch_norm: {name}: expected {wanted}, found a dual tensor")


def _recorded() -> bool:
    """Whether torch, or a mode that stands over it, writes down what it does, where our kernels would be missing."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or bool(_modes())


class _BatchNorm(torch.autograd.Function):
    """Backward runs our kernel, or, where its result is to be differentiated too, the same formula in torch's words."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Any,
        running_var: Any,
        training: bool,
        rate: float,
        epsilon: float,
        count: Any,
    ) -> Tensor:
        if training:
            y, mean, invstd = memory.train(x, weight, bias, running_mean, running_var, rate, epsilon, count)
        else:
            y = memory.normalize(x, running_mean, running_var, weight, bias, epsilon)
            mean, invstd = running_mean.to(torch.float64, copy=True), (running_var.double() + epsilon).rsqrt()
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.training, ctx.epsilon = training, epsilon
        ctx.dtypes = [None if one is None else one.dtype for one in (x, weight, bias)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            deviation = x.double() - _beside(mean, x)
            if ctx.training:
                deviation, invstd = _statistics(deviation, ctx.epsilon)
            gradients = _gradients(dy, deviation, weight, invstd, ctx.training)
        else:
            gradients = memory.backward(dy, x, weight, mean, invstd, ctx.training, ctx.needs_input_grad[0])
        wanted = zip(gradients, ctx.dtypes, ctx.needs_input_grad, strict=False)
        return *(one.to(dtype) if needed and one is not None else None for one, dtype, needed in wanted), *[None] * 6


def _statistics(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Deviations and the inverse of the standard one of each channel, of values that are near their mean."""
    axes = _axes(x)
    deviation = x - _beside(x.mean(axes), x)
    return deviation, (deviation.square().mean(axes) + epsilon).rsqrt()


def _gradients(
    dy: Tensor, deviation: Tensor, weight: Tensor | None, invstd: Tensor, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What the backward kernel computes, in float64 and differentiable."""
    wide, axes, count = dy.double(), _axes(dy), dy.numel() // dy.shape[1]
    normalized = deviation * _beside(invstd, dy)
    dweight, dbias = (wide * normalized).sum(axes), wide.sum(axes)
    scale = invstd if weight is None else invstd * weight.double()
    if batch:
        wide = wide - _beside(dbias, dy) / count - normalized * (_beside(dweight, dy) / count)
    return _beside(scale, dy) * wide, dweight, dbias


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = x if weight is None else x * _beside(weight, x)
    return (y.clone() if bias is None else y + _beside(bias, x)).to(x.dtype)


def _axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _beside(vector: Tensor, x: Tensor) -> Tensor:
    """One number a channel, in a shape that goes with ``x``."""
    return vector.view(-1, *[1] * (x.ndim - 2))
