"""Kernels on the memory of torch's tensors; what they write is allocated by torch, in the layout of the input."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from normspec.runtime import devices, kernels

Shape = tuple[int, ...]

REAL = (torch.float32, torch.float64)  # element types of vectors that kernels take


def train(
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


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """The output by given statistics."""
    y = torch.empty_like(x)
    order = _order(y.shape, y.stride())
    vectors = _given(mean), _given(variance), _given(weight), _given(bias)
    _backend(x).normalize(_source(x, order), _target(y, order), *vectors, epsilon)
    return y


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, invstd: Tensor, batch: bool, needed: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of input (if it is needed), weight and bias."""
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
    x = x if order.axes is None else x.permute(order.axes)
    return _array(x).reshape(order.shape) if x.is_cpu else _array(x.reshape(order.shape))


def _target(y: Tensor, order: Order) -> Any:
    """What is written, always a view."""
    y = y if order.axes is None else y.permute(order.axes)
    return _array(y).reshape(order.shape, copy=False) if y.is_cpu else _array(y.view(order.shape))


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
    if tensor.dtype in REAL and tensor.is_contiguous():
        return tensor
    return (tensor if tensor.dtype in REAL else tensor.float()).contiguous()


def _given(tensor: Tensor | None) -> Any:
    return None if tensor is None else _array(_vector(tensor))
