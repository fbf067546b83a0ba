"""Kernels on the memory of torch's tensors; what they write is allocated by torch, laid out as by its batch norm."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from normspec.runtime import kernels
from normspec.runtime.kernels import cpu as _cpu  # noqa: F401  # a fork while a thread imports it would never get it
from normspec.runtime.kernels.strides import Shape, memory_order

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes
REAL = (torch.float32, torch.float64)  # element types of vectors that kernels take
KEPT = {torch.float32: np.float32, torch.float64: np.float64, torch.int64: np.int64}  # of those and a counter


def train(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    rate: float,
    epsilon: float,
    tracked: Tensor | None = None,
    kept: bool = True,
) -> tuple[Tensor, Any, Any]:
    """Output, and if they are kept mean and inverse standard deviation; moves the statistics and counts the batch."""
    y = like(x)
    ready, vectors = _prepared(x, True), (weight, bias, running_mean, running_var, tracked)
    if ready is not None and (arrays := _vectors(vectors)) is not None:
        room = ready.train_into(_array(y), _array(x), arrays, epsilon, rate, True)
        if room is not None:
            increment_version([one for one in vectors[2:] if one is not None])  # whose memory the kernel wrote to
            return y, *(map(_tensor, ready.statistics(room)) if kept else (None, None))
    order = _order(y.shape, y.stride())
    counter = _counter(tracked, x)
    mean_moved, var_moved = (None if one is None else _vector(one) for one in (running_mean, running_var))
    for own, moved in (running_mean, mean_moved), (running_var, var_moved):
        if own is not None and moved is not own:
            own.copy_(moved)  # changes nothing, but raises before anything has changed if it cannot be written
    if tracked is not None and counter is None:
        tracked.add_(0)
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
        counter,
    )
    for own, moved in (running_mean, mean_moved), (running_var, var_moved):
        if own is not None and moved is own:
            increment_version(own)
        elif own is not None:
            own.copy_(moved)
    if counter is not None:
        increment_version(tracked)
    elif tracked is not None:
        tracked.add_(1)
    return y, *(map(_tensor, (mean, invstd)) if kept else (None, None))


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """The output by given statistics."""
    y = like(x)
    ready, vectors = _prepared(x, False), (weight, bias, mean, variance, None)
    if (
        ready is not None
        and (arrays := _vectors(vectors)) is not None
        and ready.normalize_into(_array(y), _array(x), arrays, epsilon)
    ):
        return y
    order = _order(y.shape, y.stride())
    given = _given(mean), _given(variance), _given(weight), _given(bias)
    _backend(x).normalize(_source(x, order), _target(y, order), *given, epsilon)
    return y


def backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, invstd: Tensor, batch: bool, needed: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of input (if it is needed), weight and bias."""
    dx = gradient_like(x) if needed else None
    order = _order(x.shape, x.stride() if dx is None else dx.stride())
    target = None if dx is None else _target(dx, order)
    dweight, dbias = _backend(x).backward(
        _source(x, order), _source(dy, order), target, _array(mean), _array(invstd), _given(weight), batch
    )
    return dx, _tensor(dweight), _tensor(dbias)


def like(x: Tensor) -> Tensor:
    """Memory for an output: as torch's batch norm lays it out, in channels_last if the input is and else contiguous."""
    if x.is_contiguous():
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    last = LAST.get(x.ndim)
    if last is not None and x.is_contiguous(memory_format=last):
        return torch.empty_like(x, memory_format=last)
    return gradient_like(x)


def gradient_like(x: Tensor) -> Tensor:
    """Memory for an input's gradient. Sizes of 1 make memory formats ambiguous, and torch decides another way here."""
    last = _channels_last(x.shape, x.stride())
    return torch.empty_like(x, memory_format=LAST[x.ndim] if last else torch.contiguous_format)


def _channels_last(shape: Shape, strides: Shape) -> bool:
    """Whether channels come last in the order of strides, with gaps or without: torch's ``suggest_memory_format``."""
    if len(shape) not in LAST or strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if strides[axis] < least or (axis == 0 and strides[1] == least):
            return False
        least = strides[axis] * max(shape[axis], 1)
    return True


class Order(NamedTuple):
    """How memory is read as (outer, feature, inner)."""

    axes: Shape | None  # None if they are in order already
    shape: tuple[int, int, int]


@functools.lru_cache(maxsize=1024)
def _order(shape: Shape, strides: Shape) -> Order:
    """The axes in the order of memory, which makes a dense tensor's three axes views of it."""
    axes, sizes = memory_order(shape, strides, 1)
    return Order(None if axes == tuple(range(len(shape))) else axes, sizes)


def _prepared(x: Tensor, batch: bool) -> kernels.HostPrepared | None:
    """What the CPU's backend has prepared for such inputs, or None."""
    return None if not x.is_cpu or x.is_neg() else _planned(x.shape, x.stride(), x.dtype, batch)


@functools.lru_cache(maxsize=1024)
def _planned(shape: Shape, strides: Shape, dtype: torch.dtype, batch: bool) -> kernels.HostPrepared | None:
    """The same by the facts that it depends on."""
    x = torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
    y = like(x)
    order = _order(y.shape, y.stride())
    views = [one if order.axes is None else one.permute(order.axes) for one in (x, y)]
    try:
        steps = [tuple(one.itemsize * step for step in one.view(order.shape).stride()) for one in views]
    except RuntimeError:  # no three steps lead through x
        return None
    return kernels.on("cpu").prepared(order.shape, _array(y).dtype, batch, *steps)


def _vectors(tensors: Sequence[Tensor | None]) -> list[Any] | None:
    """NumPy's arrays for the time of a call, or None if some are not as kernels take them."""
    arrays: list[Any] = []
    for one in tensors:
        if one is not None and (one.dtype not in KEPT or not one.is_contiguous() or one.is_neg()):
            return None
        arrays.append(None if one is None else _header(one.data_ptr(), one.shape, one.dtype))
    return arrays


@functools.lru_cache(maxsize=4096)
def _header(address: int, shape: Shape, dtype: torch.dtype) -> Any:
    """An array of memory that somebody else keeps. It holds no more than these, so that it is never out of date."""
    element: np.dtype[Any] = np.dtype(KEPT[dtype])
    memory: Any = (ctypes.c_char * (math.prod(shape) * element.itemsize)).from_address(address)
    return np.ndarray(shape, element, memory)


def _counter(tracked: Tensor | None, x: Tensor) -> Any:
    """What the kernel counts the batch in, if it is one that can."""
    if tracked is None or not x.is_cuda or tracked.device != x.device or tracked.dtype is not torch.int64:
        return None
    return kernels.on("cuda").counter(tracked)


def _source(x: Tensor, order: Order) -> Any:
    """What is read: a view if there is one, else a copy."""
    x = x if order.axes is None else x.permute(order.axes)
    return _array(x).reshape(order.shape) if x.is_cpu else _array(x.reshape(order.shape))


def _target(y: Tensor, order: Order) -> Any:
    """What is written, always a view."""
    y = y if order.axes is None else y.permute(order.axes)
    return _array(y).reshape(order.shape, copy=False) if y.is_cpu else _array(y.view(order.shape))


def _backend(x: Tensor) -> kernels.Backend:
    return kernels.on("cpu") if x.is_cpu else kernels.on("cuda")


def _array(tensor: Tensor) -> Any:
    """The memory of a tensor, on a GPU with torch's current stream; kernels take uint16 for bfloat16."""
    tensor = tensor.resolve_neg()
    if tensor.is_cuda:
        return kernels.on("cuda").asarray(tensor)
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.detach().view(torch.uint16)
    return tensor.numpy(force=True)  # whether it requires grad or not


def _tensor(array: Any) -> Tensor:
    """What a kernel returned, where it lies; torch would copy to the host what it is told no device of."""
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array)
    return torch.as_tensor(array, device=torch.device("cuda", array.device))


def _vector(tensor: Tensor) -> Tensor:
    """Contiguous and float32 or float64, and not the negative of what lies there: itself if it is."""
    if tensor.dtype in REAL and tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return (tensor if tensor.dtype in REAL else tensor.float()).resolve_neg().contiguous()


def _given(tensor: Tensor | None) -> Any:
    return None if tensor is None else _array(_vector(tensor))
