"""Batch normalization once more, in float64 NumPy, sharing no code with the runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass
class Oracle:
    """What a module in a given configuration must compute and remember, in canonical words."""

    features: int
    epsilon: float
    update_rate: float | None
    learns: bool
    unbiased: bool
    scale: Floats | None
    shift: Floats | None
    mean: Floats | None
    variance: Floats | None
    count: int = field(default=0)

    def __call__(self, x: npt.NDArray[Any], training: bool) -> Floats:
        """The output for ``x``, of shape (N, C, ...); in training, the running statistics move."""
        wide = x.astype(np.float64)
        rows = np.moveaxis(wide, 1, -1).reshape(-1, self.features)
        training = training and self.learns
        if training or self.mean is None or self.variance is None:
            deviations, mean, variance = _moments(rows)
            if training and self.mean is not None and self.variance is not None:
                self._remember(mean, variance, len(rows))
        else:
            deviations, variance = rows - self.mean, self.variance
        y = deviations / np.sqrt(variance + self.epsilon)
        if self.scale is not None:
            y = y * self.scale
        if self.shift is not None:
            y = y + self.shift
        return np.moveaxis(y.reshape(*np.moveaxis(wide, 1, -1).shape), -1, 1)

    def gradients(self, x: npt.NDArray[Any], dy: npt.NDArray[Any], training: bool) -> dict[str, Floats]:
        """Derivatives of ``sum(y * dy)`` with respect to input, scale and shift."""
        rows, slopes = (np.moveaxis(one.astype(np.float64), 1, -1).reshape(-1, self.features) for one in (x, dy))
        batch = (training and self.learns) or self.mean is None
        if batch or self.mean is None or self.variance is None:
            deviations, _, variance = _moments(rows)
        else:
            deviations, variance = rows - self.mean, self.variance
        inverse = 1 / np.sqrt(variance + self.epsilon)
        normalized = deviations * inverse
        of_rows = slopes * inverse * (1 if self.scale is None else self.scale)
        if batch:  # what the chain rule adds by way of the mean and the variance
            of_mean = -of_rows.sum(axis=0)
            of_variance = -(of_rows * normalized).sum(axis=0) * inverse / 2
            of_rows = of_rows + of_mean / len(rows) + of_variance * 2 * deviations / len(rows)
        moved = np.moveaxis(x, 1, -1).shape
        return {
            "x": np.moveaxis(of_rows.reshape(moved), -1, 1),
            "scale": (slopes * normalized).sum(axis=0),
            "shift": slopes.sum(axis=0),
        }

    def _remember(self, mean: Floats, variance: Floats, n: int) -> None:
        assert self.mean is not None
        assert self.variance is not None
        self.count += 1
        rate = 1 / self.count if self.update_rate is None else self.update_rate
        if self.unbiased and n > 1:
            variance = variance * n / (n - 1)
        self.mean = (1 - rate) * self.mean + rate * mean
        self.variance = (1 - rate) * self.variance + rate * variance


def _moments(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Deviations, mean and variance of the columns. The mean is taken twice: one rounding is seen at 1e8."""
    rough = rows.mean(axis=0)
    rest = (rows - rough).mean(axis=0)
    deviations = (rows - rough) - rest
    return deviations, rough + rest, (deviations**2).mean(axis=0)
