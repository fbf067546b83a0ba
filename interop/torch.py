"""Batch norm for torch: its function, its modules and a model's modules, computed by our kernels.

Parameters, buffers, outputs and gradients are torch's tensors, whose memory the kernels read and write where it lies.
"""

from __future__ import annotations

import functools
import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.modules.batchnorm import _BatchNorm as _BatchNormBase
from torch.nn.modules.batchnorm import _LazyNormBase, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from normspec.runtime import devices, kernels
from normspec.runtime.dtypes import FLOATING
from normspec.runtime.errors import listed, one_of
from normspec.torch.nn.functional import _BATCH_NORM as SPOKEN

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "replace_batch_norms", "restore_batch_norms"]

ModelT = TypeVar("ModelT", bound=nn.Module)
Shape = tuple[int, ...]

REAL = (torch.float32, torch.float64)  # element types of vectors that kernels take
DEVICES = ["cpu", "cuda"]
DTYPES = {getattr(torch, name): name for name in FLOATING}


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
        Of the shape, element type, device and memory format of ``input``.

    Raises
    ------
    ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError
        The arguments do not fit; the messages are torch's, with a second line of ours. Nothing was changed.
    """
    vectors = {"mean": running_mean, "variance": running_var, "scale": weight, "shift": bias}
    _check(input, vectors, training, momentum, eps)
    if not input.numel():  # there is nothing to compute, but there are gradients, which are zero
        return _affine(input, weight, bias)
    learned = input, weight, bias
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in learned):
        return cast(Tensor, _BatchNorm.apply(*learned, running_mean, running_var, training, momentum, eps))
    if training:
        return _train(*learned, running_mean, running_var, momentum, eps)[0]
    return _normalize(input, running_mean, running_var, weight, bias, eps)


# --------------------------------------------------------------------------------------------------------- gradients


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
    ) -> Tensor:
        if training:
            y, mean, invstd = _train(x, weight, bias, running_mean, running_var, rate, epsilon)
        else:
            y = _normalize(x, running_mean, running_var, weight, bias, epsilon)
            mean, invstd = running_mean.double(), (running_var.double() + epsilon).rsqrt()
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.training, ctx.epsilon = training, epsilon
        ctx.dtypes = [None if one is None else one.dtype for one in (x, weight, bias)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            if ctx.training:
                mean, invstd = _statistics(x, ctx.epsilon)
            gradients = _gradients(dy, x, weight, mean, invstd, ctx.training)
        else:
            gradients = _backward(dy, x, weight, mean, invstd, ctx.training, ctx.needs_input_grad[0])
        wanted = zip(gradients, ctx.dtypes, ctx.needs_input_grad, strict=False)
        return *(one.to(dtype) if needed and one is not None else None for one, dtype, needed in wanted), *[None] * 5


def _statistics(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each channel, float64 and differentiable."""
    wide, axes = x.double(), _axes(x)
    mean = wide.mean(axes)
    return mean, ((wide - _beside(mean, x)).square().mean(axes) + epsilon).rsqrt()


def _gradients(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, invstd: Tensor, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What the backward kernel computes, in float64 and differentiable."""
    wide, axes, count = dy.double(), _axes(x), x.numel() // x.shape[1]
    normalized = (x.double() - _beside(mean, x)) * _beside(invstd, x)
    dweight, dbias = (wide * normalized).sum(axes), wide.sum(axes)
    scale = invstd if weight is None else invstd * weight.double()
    if batch:
        wide = wide - _beside(dbias, x) / count - normalized * (_beside(dweight, x) / count)
    return _beside(scale, x) * wide, dweight, dbias


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = x if weight is None else x * _beside(weight, x)
    return (y.clone() if bias is None else y + _beside(bias, x)).to(x.dtype)


def _axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _beside(vector: Tensor, x: Tensor) -> Tensor:
    """One number a channel, in a shape that goes with ``x``."""
    return vector.view(-1, *[1] * (x.ndim - 2))


# ----------------------------------------------------------------------------------------------------------- kernels


def _train(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    rate: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and inverse standard deviation; moves the running statistics."""
    y = torch.empty_like(x)
    order = _order(y.shape, y.stride())
    mean_moved, var_moved = (None if one is None else _vector(one) for one in (running_mean, running_var))
    mean, invstd = _backend(x).forward_training(
        _source(x, order),
        _target(y, order),
        _given(weight),
        _given(bias),
        _given(mean_moved),
        _given(var_moved),
        epsilon,
        rate,
        True,
    )
    for kept, moved in (running_mean, mean_moved), (running_var, var_moved):
        if kept is not None and moved is kept:
            increment_version(kept)  # whose memory the kernel wrote to
        elif kept is not None:
            kept.copy_(moved)
    return y, _tensor(mean), _tensor(invstd)


def _normalize(
    x: Tensor, mean: Any, variance: Any, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    y = torch.empty_like(x)
    order = _order(y.shape, y.stride())
    vectors = _given(mean), _given(variance), _given(weight), _given(bias)
    _backend(x).normalize(_source(x, order), _target(y, order), *vectors, epsilon)
    return y


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, invstd: Tensor, batch: bool, needed: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    dx = torch.empty_like(x) if needed else None
    order = _order(x.shape, x.stride() if dx is None else dx.stride())
    target = None if dx is None else _target(dx, order)
    dweight, dbias = _backend(x).backward(
        _source(x, order), _source(dy, order), target, _array(mean), _array(invstd), _given(weight), batch
    )
    return dx, _tensor(dweight), _tensor(dbias)


class Order(NamedTuple):
    """How memory is read as (outer, feature, inner)."""

    axes: Shape | None  # None if they are in order already
    shape: tuple[int, int, int]


@functools.lru_cache(maxsize=1024)
def _order(shape: Shape, strides: Shape) -> Order:
    """The axes in the order of memory, which makes a dense tensor's three axes views of it."""
    others = sorted((axis for axis in range(len(shape)) if axis != 1), key=lambda axis: -strides[axis])
    outer = [axis for axis in others if strides[axis] >= strides[1]]
    inner = others[len(outer) :]
    axes = (*outer, 1, *inner)
    sizes = math.prod(shape[axis] for axis in outer), shape[1], math.prod(shape[axis] for axis in inner)
    return Order(None if axes == tuple(range(len(shape))) else axes, sizes)


def _source(x: Tensor, order: Order) -> Any:
    """What is read: a view if there is one, else a copy."""
    return _array((x if order.axes is None else x.permute(order.axes)).reshape(order.shape))


def _target(y: Tensor, order: Order) -> Any:
    """What is written, always a view."""
    return _array((y if order.axes is None else y.permute(order.axes)).view(order.shape))


def _backend(x: Tensor) -> kernels.Backend:
    return kernels.on("cpu") if x.is_cpu else cast(kernels.Backend, devices.cuda())


def _array(tensor: Tensor) -> Any:
    """The memory of a tensor, on a GPU with torch's current stream; kernels take uint16 for bfloat16."""
    if tensor.is_cuda:
        return devices.cuda().asarray(tensor)
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.detach().view(torch.uint16)
    return tensor.numpy(force=True)  # whether it requires grad or not


def _tensor(array: Any) -> Tensor:
    """What a kernel returned, where it lies."""
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.as_tensor(array)


def _vector(tensor: Tensor) -> Tensor:
    """Contiguous and float32 or float64: itself if it is."""
    return (tensor if tensor.dtype in REAL else tensor.float()).contiguous()


def _given(tensor: Tensor | None) -> Any:
    return None if tensor is None else _array(_vector(tensor))


# ------------------------------------------------------------------------------------------------------------ checks


def _check(x: Tensor, vectors: Mapping[str, Tensor | None], training: bool, rate: float, epsilon: float) -> None:
    """Everything that kernels and their views rely on."""
    if not isinstance(x, Tensor):
        found = type(x).__name__
        SPOKEN.fail("input_type", "input", "a torch tensor", found, type=found)
    if x.layout is not torch.strided or x.device.type not in DEVICES:
        SPOKEN.fail("input", "input", f"a strided tensor on {one_of(DEVICES)}", f"{x.layout} on {x.device.type}")
    shape = tuple(x.shape)
    if len(shape) < 2:
        fields = {"ranks": "2D or more", "rank": len(shape), "shape": listed(shape)}
        SPOKEN.fail("rank", "input", "(N, C, ...)", f"shape {shape}", **fields)
    if x.dtype not in DTYPES:
        name = str(x.dtype).removeprefix("torch.")
        called = SPOKEN.dialect.printing.scalars.get(name, name)
        SPOKEN.fail("input_float", "input", one_of(list(FLOATING)), name, dtype=called)
    if training and shape[1] == x.numel() > 0:
        wanted = "more than one value for each feature"
        SPOKEN.fail("single_value", "input", wanted, f"shape {shape}", shape=listed(shape))
    for name, vector in vectors.items():
        if vector is not None:
            _check_vector(x, name, vector)
    _check_statistics(vectors["mean"], vectors["variance"], training)
    if not isinstance(rate, numbers.Real):
        found = type(rate).__name__
        SPOKEN.fail("update_rate_type", "update_rate", "float", found, type=found)
    if not (epsilon > 0 or (epsilon == 0 and not training)):
        condition, wanted = ("epsilon", "more than zero") if training else ("epsilon_negative", "zero or more")
        SPOKEN.fail(condition, "epsilon", wanted, repr(epsilon), epsilon=epsilon)


def _check_vector(x: Tensor, name: str, vector: Tensor) -> None:
    length = x.shape[1]
    if tuple(vector.shape) != (length,):
        sizes = {"expected": length, "found": vector.numel()}
        SPOKEN.fail("vector_shape", name, f"shape {(length,)}", f"shape {tuple(vector.shape)}", **sizes)
    if vector.dtype not in DTYPES:
        SPOKEN.fail("vector_dtype", name, one_of(list(FLOATING)), str(vector.dtype), dtype=str(vector.dtype))
    if vector.device != x.device:
        SPOKEN.fail("device_mixed", name, str(x.device), str(vector.device))


def _check_statistics(mean: Tensor | None, variance: Tensor | None, training: bool) -> None:
    for name, one in ("mean", mean), ("variance", variance):
        if one is None and (not training or mean is not variance):
            SPOKEN.fail("statistics_missing", name, "running statistics", "None")
        if one is not None and one.requires_grad and torch.is_grad_enabled():
            SPOKEN.fail("requires_grad", name, "a tensor without gradient", "one that requires grad")


# ----------------------------------------------------------------------------------------------------------- modules


class _Ours(_BatchNormBase):
    """The forward of ours; everything else is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize; in training, move the running statistics and count the batch, after it succeeded."""
        self._check_input_dim(input)
        count, tracked = self.num_batches_tracked, self.running_mean is not None
        counted = self.training and self.track_running_stats and count is not None
        rate = self.momentum
        if rate is None:
            rate = 1 / (int(count) + 1) if counted else 0.0
        moving = not self.training or self.track_running_stats
        y = batch_norm(
            input,
            self.running_mean if moving else None,
            self.running_var if moving else None,
            self.weight,
            self.bias,
            self.training or not tracked,
            rate,
            self.eps,
        )
        if counted and input.numel():
            count.add_(1)
        return y


class BatchNorm1d(_Ours, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


class BatchNorm2d(_Ours, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


class BatchNorm3d(_Ours, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


# ------------------------------------------------------------------------------------------------------------ models

OURS: dict[type, type] = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d, nn.BatchNorm3d: BatchNorm3d}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
REASONS = {
    nn.SyncBatchNorm: "it takes its statistics from all processes",
    _InstanceNorm: "it takes statistics of each sample, so it is no batch norm",
    _LazyNormBase: "it has no parameters before its first call: call the model once",
}


def replace_batch_norms(model: ModelT, strict: bool = True) -> ModelT:
    """Let every batch norm of a model compute with our kernels, in place.

    A module only changes its class: it stays the same object, with its parameters, buffers, hooks, mode, arguments
    and places in the model, so optimizers and references to it stay good. ``restore_batch_norms`` is the way back.

    Parameters
    ----------
    model : nn.Module
        A model that has ``torch.nn.BatchNorm1d``, ``2d`` or ``3d`` in it, or is one.
    strict : bool, default True
        Whether to raise, rather than warn, if something that normalizes cannot be replaced.

    Returns
    -------
    nn.Module
        The model itself.

    Raises
    ------
    TypeError
        Some modules cannot be replaced; each is named with the reason, and nothing was changed.
    """
    refused = {name: why for name, one in model.named_modules() if (why := _why_not(one))}
    if refused:
        told = "".join(f"\n    {name or 'the model itself'}: {why}" for name, why in refused.items())
        if strict:
            raise TypeError(f"replace_batch_norms: cannot replace (strict=False leaves them as they are):{told}")
        warnings.warn(f"replace_batch_norms: left as they are:{told}", stacklevel=2)
    return _exchange(model, OURS)


def restore_batch_norms(model: ModelT) -> ModelT:
    """Undo ``replace_batch_norms``: let torch compute again, with the weights and statistics as they are now."""
    return _exchange(model, THEIRS)


def _exchange(model: ModelT, classes: Mapping[type, type]) -> ModelT:
    for one in model.modules():
        if type(one) in classes and "forward" not in vars(one):
            one.__class__ = classes[type(one)]
    return model


def _why_not(module: nn.Module) -> str | None:
    """Why a module that normalizes cannot be replaced; None for all others."""
    kind, name = type(module), type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", "")
        return f"{name} was compiled by TorchScript" if name in {one.__name__ for one in OURS} else None
    if not isinstance(module, _NormBase) or kind in THEIRS:
        return None
    if kind in OURS:
        return f"{name} has a forward of its own" if "forward" in vars(module) else None
    whys = (why for known, why in REASONS.items() if isinstance(module, known))
    return f"{name}: {next(whys, 'a subclass may compute something else')}"
