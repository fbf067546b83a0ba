"""The kernels on NVIDIA GPUs, compiled by numba.cuda; see ``normspec.runtime.kernels`` for the contract.

Arrays are numba device arrays (``numba.cuda.as_cuda_array`` makes one of anything with ``__cuda_array_interface__``).
An ``x`` of uint16 holds bfloat16. Work is queued on the default stream. Statistics are returned as float64.
"""

from .device import available, describe, empty, empty_like, require, to_device, to_host
from .launch import batch_statistics, forward_training, normalize

__all__ = [
    "available",
    "batch_statistics",
    "describe",
    "empty",
    "empty_like",
    "forward_training",
    "normalize",
    "require",
    "to_device",
    "to_host",
]
