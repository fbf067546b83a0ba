"""The kernels of normalization, one backend a kind of device; what a backend is, is said here.

A backend is a module with the functions of ``Backend``. Kernels know nothing of modules, dialects or dtypes' names:

* ``x`` and ``y`` are three-dimensional, ``(outer, feature, inner)``, of the same shape, dtype and device, with any
  strides (``inner`` is 1 for channels-last memory). ``y`` never overlaps ``x`` unless it *is* ``x`` (same pointer,
  shape and strides), and is written everywhere.
* dtypes: float16, bfloat16, float32, float64. Vectors are contiguous ``(feature,)``, float32 or float64, or None.
* ``outer * inner >= 1`` and ``feature >= 1``: empty batches never reach a kernel.
* Statistics and gradients of vectors are returned as float64, ``(feature,)``.
* Everything was checked by the caller. A kernel raises only when the device or its memory fails, and then has changed
  no running statistic.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

Array = Any  # NumPy array on the CPU, numba device array on CUDA


class Backend(Protocol):
    """What every kind of device can do."""

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and M2 (the sum of squared deviations from the mean) of each feature, float64."""

    def normalize(
        self,
        x: Array,
        y: Array,
        mean: Array,
        variance: Array,
        weight: Array | None,
        bias: Array | None,
        epsilon: float,
    ) -> None:
        """Write ``(x - mean) / sqrt(variance + epsilon) * weight + bias`` to ``y``, with the given statistics."""

    def forward_training(
        self,
        x: Array,
        y: Array,
        weight: Array | None,
        bias: Array | None,
        running_mean: Array | None,
        running_var: Array | None,
        epsilon: float,
        rate: float,
        unbiased: bool,
    ) -> tuple[Array, Array]:
        """Normalize by the statistics of ``x`` itself, then move the running ones towards them.

        ``running += rate * (batch - running)`` for mean and variance; the batch's variance is divided by ``n - 1``
        when ``unbiased`` (by 1 if ``n == 1``), else by ``n``. Returns the mean and ``1 / sqrt(variance + epsilon)``
        (always the biased variance) of each feature, which is all that a backward pass needs beside ``x``.
        """

    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array | None,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        batch: bool,
    ) -> tuple[Array, Array]:
        """Gradients through ``y = (x - mean) * invstd * weight + bias``, of ``dy`` with the dtype and shape of ``x``.

        Returns ``dweight = sum(dy * (x - mean) * invstd)`` and ``dbias = sum(dy)`` of each feature. ``mean`` and
        ``invstd`` are float64. Writes ``dx`` unless it is None: if the statistics are those of ``x`` itself
        (``batch``), ``weight * invstd * (dy - dbias / n - (x - mean) * invstd * dweight / n)``, else
        ``weight * invstd * dy``. ``dx`` may be ``x`` or ``dy`` itself; otherwise it overlaps neither.
        """


class Prepared(Protocol):
    """Calls on inputs of one shape, dtype, layout and device, which need no more Python than they must.

    ``vectors`` are weight, bias, running mean, running variance and, for ``train``, a counter of batches; each may be
    None. They may be anything, and are looked at: a call with some that kernels cannot take returns None, and has done
    nothing. Otherwise it returns the output, of the shape, dtype and order of axes of ``x``.
    """

    def train(
        self, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool, kept: bool
    ) -> tuple[Array, Any] | None:
        """``forward_training``, which then counts the batch; the output, and what is returned there if it is kept."""

    def normalize(self, x: Array, vectors: Sequence[Any], epsilon: float) -> Array | None:
        """``Backend.normalize``; returns the output."""


@functools.cache
def on(kind: str) -> Backend:
    """The backend of a kind of device, "cpu" or "cuda", loaded when it is first asked for."""
    return cast(Backend, importlib.import_module(f"{__name__}.{kind}"))
