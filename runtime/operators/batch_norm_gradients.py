"""The way back through batch normalization: by a kernel, or by a formula where the gradients are differentiated too."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import autograd, devices, gradients, kernels, memory
from ..arrays import as_features, device_views, feature_order, native, vector
from ..tensor import Tensor


class Vectors(NamedTuple):
    """What the features are normalized with, each of shape ``(features,)`` if it is there."""

    scale: Tensor | None
    shift: Tensor | None
    mean: Tensor | None
    variance: Tensor | None


class Saved(NamedTuple):
    """What is kept of a call: its input and two numbers a feature, float64, where the input is."""

    x: Tensor
    scale: Tensor | None
    mean: Any
    invstd: Any
    axis: int
    epsilon: float
    batch: bool  # whether the statistics are the input's own, and so depend on it


def record(y: Tensor, x: Tensor, state: Vectors, batch: tuple[Any, Any] | None, *, axis: int, epsilon: float) -> None:
    """Record a call; ``batch`` is mean and 1 / standard deviation of the input if it was normalized by these."""
    mean, invstd = _running(state, epsilon) if batch is None else batch
    saved = Saved(x, state.scale, mean, invstd, axis % x.ndim, epsilon, batch is not None)
    autograd.record(y, "batch_norm", [x, state.scale, state.shift], lambda g: _back(saved, g))


def record_nothing(y: Tensor, x: Tensor, state: Vectors, axis: int) -> None:
    """Record a call that had no elements to normalize."""
    axes = _others(x, axis % x.ndim)
    autograd.record(y, "batch_norm", [x, state.scale, state.shift], lambda g: [g, g.sum(axes), g.sum(axes)])


def _running(state: Vectors, epsilon: float) -> tuple[Any, Any]:
    """Running mean and 1 / standard deviation as they are now."""
    assert state.mean is not None  # checked by the call
    assert state.variance is not None
    mean, variance = (one.numpy().astype(np.float64) for one in (state.mean, state.variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        vectors = mean, 1 / np.sqrt(variance + epsilon)
    if state.mean.device == "cpu":
        return vectors
    return devices.cuda().to_device(vectors[0]), devices.cuda().to_device(vectors[1])


def _back(saved: Saved, dy: Tensor) -> list[Any]:
    """The gradients of input, scale and shift."""
    return _composed(saved, dy) if gradients.wanted() else _by_kernel(saved, dy)


def _by_kernel(saved: Saved, dy: Tensor) -> list[Any]:
    x, axis, wanted = saved.x, saved.axis, saved.x.requires_grad
    if x.device == "cpu":
        backend = kernels.on("cpu")
        array = native(x.array)
        dx = memory.empty_like(array) if wanted else None
        order, shape = feature_order(array if dx is None else dx, axis)
        x3, dy3 = (as_features(one, order, shape) for one in (array, native(dy.array)))
        dx3 = None if dx is None else as_features(dx, order, shape)
    else:
        backend = kernels.on("cuda")
        dx, x3, dx3 = device_views(x.array, axis, devices.cuda().empty_like)
        dy3 = dy.array.reshape(x3.shape)
    scale = None if saved.scale is None else vector(saved.scale)
    dscale, dshift = backend.backward(x3, dy3, dx3 if wanted else None, saved.mean, saved.invstd, scale, saved.batch)
    vectors = [x.plain(one, device=x.device) for one in (dscale, dshift)]
    return [x._beside(dx) if wanted else None, *vectors]


def _composed(saved: Saved, dy: Tensor) -> list[Any]:
    """The same in operations on tensors, float64."""
    x, axis, axes = saved.x, saved.axis, _others(saved.x, saved.axis)
    column = [-1 if one == axis else 1 for one in range(x.ndim)]
    wide, dy = x.to(dtype="float64"), dy.to(dtype="float64")
    if saved.batch:
        deviation = wide - wide.mean(axes, keepdims=True)
        invstd = ((deviation * deviation).mean(axes, keepdims=True) + saved.epsilon) ** -0.5
    else:
        mean, invstd = (x.plain(one, device=x.device).reshape(column) for one in (saved.mean, saved.invstd))
        deviation = wide - mean
    normalized = deviation * invstd
    dscale, dshift = (dy * normalized).sum(axes), dy.sum(axes)
    if saved.batch:
        dy = dy - dy.mean(axes, keepdims=True) - normalized * (dy * normalized).mean(axes, keepdims=True)
    factor = invstd if saved.scale is None else invstd * saved.scale.to(dtype="float64").reshape(column)
    return [factor * dy, dscale, dshift]


def _others(x: Tensor, axis: int) -> tuple[int, ...]:
    return tuple(one for one in range(x.ndim) if one != axis)
