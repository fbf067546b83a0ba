"""The function for ``torch.compile`` and for what traces: operators that are called and not looked into."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from . import memory


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    rate: float,
    epsilon: float,
) -> Tensor:
    """Normalize; what was checked is known when it is traced."""
    operator = torch.ops.normspec
    if not training:
        return cast(Tensor, operator.batch_norm_evaluate(x, running_mean, running_var, weight, bias, epsilon))
    y, mean, variance, _ = operator.batch_norm_train(x, weight, bias, epsilon)
    for running, found in (running_mean, mean), (running_var, variance):
        if running is not None:
            running.copy_((1 - rate) * running.double() + rate * found.detach())
    return cast(Tensor, y)


def trained(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, mean, unbiased variance and inverse standard deviation: an operator with gradients may change nothing."""
    mean, variance = torch.zeros((2, x.shape[1]), dtype=torch.float64, device=x.device)
    y, _, invstd = memory.train(x, weight, bias, mean, variance, 1.0, epsilon)  # moved all the way
    return y, *_own(mean, variance, invstd)


def gradients(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, invstd: Tensor, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """All of them, needed or not."""
    dx, dweight, dbias = memory.backward(dy, x, weight, mean, invstd, batch, True)
    assert dx is not None
    return dx, *_own(dweight, dbias)


def _own(*vectors: Tensor) -> tuple[Any, ...]:
    """Each in memory of its own that torch gave: the graphs of CUDA keep account of it."""
    return tuple(one.clone() for one in vectors)


train = torch.library.custom_op("normspec::batch_norm_train", trained, mutates_args=())
evaluate = torch.library.custom_op("normspec::batch_norm_evaluate", memory.normalize, mutates_args=())
backward = torch.library.custom_op("normspec::batch_norm_backward", gradients, mutates_args=())


def _vectors(x: Tensor, count: int) -> list[Tensor]:
    """What stands for vectors while shapes are worked out."""
    return [x.new_empty(x.shape[1], dtype=torch.float64) for _ in range(count)]


train.register_fake(lambda x, *_: (memory.like(x), *_vectors(x, 3)))
evaluate.register_fake(lambda x, *_: memory.like(x))
backward.register_fake(lambda dy, x, *_: (memory.gradient_like(x), *_vectors(x, 2)))


def _keep(ctx: Any, x: Tensor, weight: Any, bias: Any, mean: Tensor, invstd: Tensor, training: bool) -> None:
    ctx.save_for_backward(x, weight, mean, invstd)
    ctx.training, ctx.dtypes = training, [None if one is None else one.dtype for one in (weight, bias)]


def _keep_training(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, _ = inputs
    _, mean, _, invstd = output
    _keep(ctx, x, weight, bias, mean, invstd, True)


def _keep_evaluation(ctx: Any, inputs: Any, output: Any) -> None:
    x, mean, variance, weight, bias, epsilon = inputs
    _keep(ctx, x, weight, bias, mean.to(torch.float64, copy=True), (variance.double() + epsilon).rsqrt(), False)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, mean, invstd = ctx.saved_tensors
    dx, *vectors = torch.ops.normspec.batch_norm_backward(dy, x, weight, mean, invstd, ctx.training)
    return dx, *(None if dtype is None else one.to(dtype) for one, dtype in zip(vectors, ctx.dtypes, strict=True))


def _differentiate_training(ctx: Any, dy: Tensor, *_: Any) -> tuple[Any, ...]:
    return *_differentiate(ctx, dy), None


def _differentiate_evaluation(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    dx, dweight, dbias = _differentiate(ctx, dy)
    return dx, None, None, dweight, dbias, None


train.register_autograd(_differentiate_training, setup_context=_keep_training)
evaluate.register_autograd(_differentiate_evaluation, setup_context=_keep_evaluation)
