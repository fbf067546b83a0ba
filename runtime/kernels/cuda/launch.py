"""From arrays to launches: the functions of the backend."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from .arrays import DeviceArray, empty
from .kernels import CHUNK, THREADS, Kernels, kernels
from .primitives import SIMULATED
from .strided import arithmetic

SLICE = 4 * CHUNK * THREADS  # elements of a slice, while there are no more slices than threads

Array = Any


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and M2 of each feature, float64."""
    compute, (_, threads), partial = _reduce(x)
    feature = x.shape[1]
    mean, m2 = empty(feature, np.float64), empty(feature, np.float64)
    _launch(compute.moments, (feature, 1), threads, partial, x.shape[0] * x.shape[2], mean, m2)
    return mean, m2


def normalize(
    x: Array,
    y: Array,
    mean: Array,
    variance: Array,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
) -> None:
    """Write ``(x - mean) / sqrt(variance + epsilon) * weight + bias`` to ``y``, with the given statistics."""
    real = arithmetic(x.dtype)
    _launch(kernels(real).infer, *_geometry(x), x, y, mean, variance, _vector(weight), _vector(bias), real(epsilon))


def forward_training(
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
    """Normalize by the statistics of ``x``, then move the running ones; return mean and 1 / standard deviation."""
    feature = x.shape[1]
    mean, invstd = empty(feature, np.float64), empty(feature, np.float64)
    compute, geometry, partial = _reduce(x)
    vectors = [_vector(vector) for vector in (weight, bias, running_mean, running_var)]
    exact = np.result_type(*(vector.dtype for vector in vectors[2:])).type
    scalars = arithmetic(x.dtype)(epsilon), exact(1 - rate), exact(rate), unbiased
    _launch(compute.train, *geometry, x, y, partial, *vectors, mean, invstd, *scalars)
    return mean, invstd


def _geometry(x: Array) -> tuple[tuple[int, int], int]:
    """Grid and threads; they depend on the shape alone, so the same input gives the same bits on every device."""
    total = x.shape[0] * x.shape[2]
    threads = 32
    while threads < THREADS and threads * CHUNK < total:
        threads *= 2
    return (x.shape[1], min(THREADS, -(-total // SLICE))), threads


def _reduce(x: Array) -> tuple[Kernels, tuple[tuple[int, int], int], Array]:
    """Start the statistics of ``x``: per feature and slice, a mean, its residue and M2."""
    real = arithmetic(x.dtype)
    geometry = grid, _ = _geometry(x)
    partial = empty((*grid, 3), real)
    _launch(kernels(real).reduce, *geometry, x, partial)
    return kernels(real), geometry, partial


def _launch(kernel: Any, grid: tuple[int, int], threads: int, *arguments: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")  # a small input makes a small grid
        configured = kernel[grid, threads]
    configured(*(_numba(one) if isinstance(one, DeviceArray) else one for one in arguments))


def _vector(vector: Array | None) -> Array:
    """An absent vector is an empty one: numba takes no None."""
    return _nothing() if vector is None else vector


@cache
def _nothing() -> Array:
    return empty(0, np.float32)


def _numba(array: DeviceArray) -> Any:
    """The same memory as numba's dispatcher takes it."""
    if not SIMULATED:
        return cuda.as_cuda_array(array)
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    from .simulated import ndarray

    return FakeCUDAArray(ndarray(array))
