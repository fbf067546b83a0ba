"""The kernels of normalization, one backend a kind of device; what a backend is, is said here.

A backend is a module with the functions of ``Backend``; that of the CPU has those of ``HostBackend`` too, any other
those of ``DeviceBackend``. Kernels know nothing of modules, dialects or dtypes' names:

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
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from .strides import Shape

Array = Any  # NumPy's on the CPU, a DeviceArray on a GPU


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
        tracked: Array | None = None,
    ) -> tuple[Array, Array]:
        """Normalize by the statistics of ``x`` itself, then move the running ones towards them.

        ``running += rate * (batch - running)`` for mean and variance; the batch's variance is divided by ``n - 1``
        when ``unbiased`` (by 1 if ``n == 1``), else by ``n``. ``tracked``, one int64, counts the batch. Returns the
        mean and ``1 / sqrt(variance + epsilon)`` (always the biased variance) of each feature, which is all that a
        backward pass needs beside ``x``.
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


class HostPrepared(Prepared, Protocol):
    """The same to outputs that are there."""

    def train_into(
        self, y: Array | None, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool
    ) -> Any:
        """``train`` that writes to ``y``, and returns what ``statistics`` takes, or None."""

    def statistics(self, trained: Any) -> tuple[Array, Array]:
        """Mean and 1 / standard deviation."""

    def normalize_into(self, y: Array, x: Array, vectors: Sequence[Any], epsilon: float) -> bool:
        """``normalize`` that writes to ``y``; whether it did."""


class HostBackend(Backend, Protocol):
    """The CPU's, for arrays that its callers make."""

    def prepared(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        batch: bool,
        x_strides: Shape,
        y_strides: Shape,
        *,
        empty: Callable[[], Array] | None = None,
    ) -> HostPrepared:
        """Calls on such three-dimensional arrays, by their own statistics if ``batch``; ``empty`` makes outputs."""


class DeviceBackend(Backend, Protocol):
    """Any other's, whose arrays are in memory of its own, and queue their work on a stream.

    What callers may ask of an array is what ``cuda.DeviceArray`` has; bfloat16 is held as uint16.
    """

    def require(self) -> None:
        """Raise RuntimeError, with what is missing and how to get it, unless kernels can run here."""

    def prepared(self, shape: Shape, strides: Shape, dtype: np.dtype[Any], axis: int) -> Prepared:
        """Calls on arrays of any rank with the features along ``axis``, to outputs from their own library."""

    def inverted(self, mean: Array, variance: Array, epsilon: float) -> tuple[Array, Array]:
        """The mean, and ``1 / sqrt(variance + epsilon)``, of vectors, float64."""

    def converted(self, vector: Array, dtype: np.dtype[Any]) -> Array:
        """A vector in another element type."""

    def asarray(self, value: Any) -> Array:
        """Another library's array on the device, without a copy; TypeError or ValueError if it is none."""

    def shared(self, value: Any) -> Array:
        """The same of arrays of int64, too."""

    def counter(self, value: Any) -> Array:
        """Another library's int64 of one element, for ``forward_training`` to count in."""

    def empty_like(self, array: Array) -> Array:
        """Uninitialized memory of the same shape, dtype and order of axes, from the same library."""

    def feature_views(self, x: Array, axis: int, out: Array | None = None) -> tuple[Array, Array, Array]:
        """An output for ``x``, or ``out``, and both as (outer, feature, inner); ValueError if memory does not allow."""

    def to_device(self, array: npt.NDArray[Any], device: int = 0) -> Array:
        """A copy on the device of a number."""

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """A copy on the host, when the work queued before is done."""


@overload
def on(kind: Literal["cpu"]) -> HostBackend: ...
@overload
def on(kind: Literal["cuda"]) -> DeviceBackend: ...
@functools.cache
def on(kind: str) -> Backend:
    """The backend of a kind of device, loaded when it is first asked for.

    Raises
    ------
    RuntimeError
        It does not work here; the message says what is missing and how to get it.
    """
    if kind == "cpu":
        from . import cpu

        host: HostBackend = cpu
        return host
    from . import cuda

    device: DeviceBackend = cuda
    device.require()
    return device
