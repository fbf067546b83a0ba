"""The way back through batch normalization: by a kernel, or by a formula where the gradients are differentiated too."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import autograd, gradients, kernels, memory
from ..arrays import as_features, device_views, feature_order, native, vector
from ..dtypes import DType
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
    mask: Any = None  # which values they are of, a NumPy array that broadcasts to the input; None is all


def record(
    y: Tensor,
    x: Tensor,
    state: Vectors,
    known: tuple[Any, Any],
    batch: bool,
    *,
    axis: int,
    epsilon: float,
    mask: Any = None,
) -> None:
    """Record a call; ``known`` is mean and 1 / standard deviation, of the input itself if ``batch``."""
    saved = Saved(x, state.scale, *known, axis % x.ndim, epsilon, batch, mask)
    vectors = state.scale, state.shift
    dtypes = [None if one is None else one._dtype for one in vectors]
    autograd.record(y, "batch_norm", [x, *vectors], lambda g: _back(saved, g, dtypes))


def record_nothing(y: Tensor, x: Tensor, state: Vectors, axis: int) -> None:
    """Record a call that had no elements to normalize."""
    axes = _others(x, axis % x.ndim)
    autograd.record(y, "batch_norm", [x, state.scale, state.shift], lambda g: [g, g.sum(axes), g.sum(axes)])


def inverted(state: Vectors, epsilon: float) -> tuple[Any, Any]:
    """Mean and 1 / standard deviation as they are now, where they are."""
    assert state.mean is not None  # checked by the call
    assert state.variance is not None
    if state.mean.device != "cpu":
        return kernels.on("cuda").inverted(vector(state.mean), vector(state.variance), epsilon)
    mean, variance = (one.numpy().astype(np.float64) for one in (state.mean, state.variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean, 1 / np.sqrt(variance + epsilon)


def _back(saved: Saved, dy: Tensor, dtypes: list[str | None]) -> list[Any]:
    """The gradients of input, scale and shift; a GPU converts them itself, for the host would wait for it."""
    if gradients.wanted() or saved.mask is not None:
        return composed(saved, dy)
    x = saved.x
    dx, *vectors = by_kernel(saved, dy, x.requires_grad)
    if x.device != "cpu":
        vectors = [
            one if name in (None, "float64") else kernels.on("cuda").converted(one, DType(name).numpy)
            for one, name in zip(vectors, dtypes, strict=True)
        ]
    return [None if dx is None else x._beside(dx), *(x.plain(one, device=x.device) for one in vectors)]


def by_kernel(saved: Saved, dy: Tensor, wanted: bool, out: Any = None) -> tuple[Any, Any, Any]:
    """The gradients of input, if wanted, scale and shift; that of the input is written to ``out`` if it is given."""
    x, axis = native(saved.x.array), saved.axis
    backend: kernels.Backend
    if saved.x.device == "cpu":
        backend = kernels.on("cpu")
        dx = out if out is not None or not wanted else memory.empty_like(x)
        order, shape = feature_order(x if dx is None else dx, axis)
        x3, dy3 = (as_features(one, order, shape) for one in (x, native(dy.array)))
        dx3 = None if dx is None else as_features(dx, order, shape)
    else:
        backend = kernels.on("cuda")
        dx, x3, dx3 = device_views(x, axis, out)
        _, dy3, _ = device_views(dy.array, axis, dx)
    scale = None if saved.scale is None else vector(saved.scale)
    dscale, dshift = backend.backward(x3, dy3, dx3 if wanted else None, saved.mean, saved.invstd, scale, saved.batch)
    if dx3 is not None and saved.x.device == "cpu" and not np.may_share_memory(dx, dx3):
        dx[...] = dx3.reshape([dx.shape[one] for one in order]).transpose(np.argsort(order))
    return dx if wanted else None, dscale, dshift


def composed(saved: Saved, dy: Tensor) -> list[Any]:
    """The same in operations on tensors, float64; and where the statistics are of a part of the input."""
    x, axis, axes = saved.x, saved.axis, _others(saved.x, saved.axis)
    column = [-1 if one == axis else 1 for one in range(x.ndim)]
    wide, dy = x.to(dtype="float64"), dy.to(dtype="float64")
    part: Any = 1.0
    count: Any = math.prod(x.shape[one] for one in axes)
    alive: Any = 1.0
    if saved.mask is not None:
        part = saved.mask.astype(np.float64)
        wide = _cleaned(wide, saved.mask)
        count = np.broadcast_to(saved.mask, x.shape).sum(axes, keepdims=True)
        alive, count = count > 0, np.maximum(count, 1)
    mean, invstd = (x.plain(one, device=x.device).reshape(column) for one in (saved.mean, saved.invstd))
    deviation = wide - mean
    if saved.batch:  # a constant that keeps the sums from losing digits
        deviation = deviation - (deviation * part).sum(axes, keepdims=True) / count
        invstd = ((deviation * deviation * part).sum(axes, keepdims=True) / count + saved.epsilon) ** -0.5 * alive
    normalized = deviation * invstd
    dscale, dshift = (dy * normalized).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
    if saved.batch:
        dy = dy - part * (dshift + normalized * dscale) / count
    factor = invstd if saved.scale is None else invstd * saved.scale.to(dtype="float64").reshape(column)
    return [factor * dy, dscale.reshape(-1), dshift.reshape(-1)]


def _cleaned(x: Tensor, mask: Any) -> Any:
    """What is no number where nothing counts becomes zero: there, zero times it must be zero."""
    kept = mask | np.isfinite(x.numpy())
    result = x.plain(np.where(kept, x.numpy(), 0), device=x.device)
    return autograd.record(result, "where", [x], lambda g: [g * kept]) if autograd.needed(x) else result


def _others(x: Tensor, axis: int) -> tuple[int, ...]:
    return tuple(one for one in range(x.ndim) if one != axis)
