"""The kernels on NVIDIA GPUs, compiled by numba.cuda; see ``normspec.runtime.kernels`` for the contract.

Arrays are ``DeviceArray``; ``asarray`` makes one of what torch, CuPy, numba and others have on a GPU. An ``x`` of
uint16 holds bfloat16. Work is queued on the current stream of the library that ``x`` is from. Statistics are float64.
"""

from .arrays import DeviceArray, empty, to_device
from .device import available, describe, require
from .foreign import asarray, counter, shared, to_host
from .outputs import empty_like, feature_views
from .plans import backward, batch_statistics, converted, forward_training, inverted, normalize, prepared

__all__ = [
    "DeviceArray",
    "asarray",
    "available",
    "backward",
    "batch_statistics",
    "converted",
    "counter",
    "describe",
    "empty",
    "empty_like",
    "feature_views",
    "forward_training",
    "inverted",
    "normalize",
    "prepared",
    "require",
    "shared",
    "to_device",
    "to_host",
]
