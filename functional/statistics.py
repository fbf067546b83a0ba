"""Count, mean and sum of squared deviations of each feature: taken of all values or of some, merged, moved towards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.runtime import Tensor, kernels
from normspec.runtime.arrays import device_views, feature_views, native
from normspec.runtime.kernels.statistics import merge

Vector = npt.NDArray[Any]


class Moments(NamedTuple):
    """Of each feature, on the host: int64, float64 and float64."""

    count: Any  # a tuple has a method of that name
    mean: Vector
    m2: Vector

    def variance(self, unbiased: bool) -> Vector:
        """M2 by the count, or by one less; of no values zero."""
        variance: Vector = self.m2 / np.maximum(1, self.count - unbiased)
        return variance


def moments(x: Tensor, axis: int, mask: npt.NDArray[np.bool_] | None) -> Moments:
    """Those of an array, or of the values at which a mask is true; of no values mean and M2 are zero."""
    features = x.shape[axis]
    if not x.size:
        return _none(features)
    if mask is None:
        views = feature_views if x.device == "cpu" else device_views
        array = native(x.array)
        try:
            _, x3, _ = views(array, axis, array)
        except ValueError:  # it has gaps, and is on a GPU: its library makes a copy
            _, x3, _ = views(array, axis)
        backend = kernels.on("cpu") if x.device == "cpu" else kernels.on("cuda")
        statistics = backend.batch_statistics(x3)
        count = np.full(features, x.size // features)
        return Moments(count, *(Tensor(one, device="cpu").numpy() for one in statistics))
    values, where = np.moveaxis(native(x.array), axis, -1), np.moveaxis(mask, axis, -1)
    if where.shape[-1] == 1:
        return _rows(values[np.broadcast_to(where[..., 0], values.shape[:-1])])
    where = np.broadcast_to(where, values.shape)
    each = [_rows(values[..., one][where[..., one]][:, None]) for one in range(features)]
    return Moments(*(np.concatenate(one) for one in zip(*each, strict=True)))


def rounded_off(x: Tensor, axis: int, mask: npt.NDArray[np.bool_], mean: Vector) -> Vector:
    """What means have lost by rounding; zero where it is no number."""
    sides = [-1 if one == axis else 1 for one in range(x.ndim)]
    with np.errstate(over="ignore", invalid="ignore"):  # of values that do not count, too
        deviations = Tensor(x.numpy() - mean.reshape(sides))
    lost = moments(deviations, axis, mask).mean
    return np.where(np.isfinite(lost), lost, 0)


def _rows(values: npt.NDArray[Any]) -> Moments:
    """Of an array of shape (values, features)."""
    count, features = values.shape
    if not values.size:
        return _none(features)
    return Moments(np.full(features, count), *kernels.on("cpu").batch_statistics(values[:, :, None]))


def _none(features: int) -> Moments:
    return Moments(np.zeros(features, np.int64), *np.zeros((2, features)))


def merged(one: Moments, other: Moments) -> Moments:
    """Those of two samples together, either of which may be empty for any feature: then they are those of the other."""
    empty = one.count + other.count == 0
    with np.errstate(over="ignore", invalid="ignore"):
        _, mean, m2 = merge(one.count + empty, one.mean, one.m2, other.count, other.mean, other.m2)
    parts = [one.count == 0, other.count == 0]  # for zero times the square of a great mean would be NaN
    mean, m2 = np.select(parts, [other.mean, one.mean], mean), np.select(parts, [other.m2, one.m2], m2)
    return Moments(one.count + other.count, mean, m2)


def moved(running: Vector, batch: Vector, count: Vector, rate: float) -> Vector:
    """A running statistic moved towards that of a batch, in float64; left alone where there were no values."""
    wide = running.astype(np.float64)
    return np.where(count > 0, (1 - rate) * wide + rate * batch, wide)
