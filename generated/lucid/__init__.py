# Generated from specs/lucid/ by `normspec generate`. Edit the specs, never this file.
"""lucid's normalization layers: its names, defaults and promises, on a CPU or an NVIDIA GPU instead of Apple
silicon. After lucid 3.8.0 (lucid.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d).

https://github.com/ChanLumerico/lucid
"""

from normspec.lucid import nn
from normspec.lucid._dialect import (
    DeviceMismatch,
    DtypeMismatch,
    LucidError,
    ShapeMismatch,
    Tensor,
    bfloat16,
    bool,
    dtype,
    float16,
    float32,
    float64,
    int32,
    int64,
)
from normspec.lucid._functions import manual_seed, no_grad, ones, randn, tensor, zeros

__all__ = [
    "DeviceMismatch",
    "DtypeMismatch",
    "LucidError",
    "ShapeMismatch",
    "Tensor",
    "bfloat16",
    "bool",
    "dtype",
    "float16",
    "float32",
    "float64",
    "int32",
    "int64",
    "manual_seed",
    "nn",
    "no_grad",
    "ones",
    "randn",
    "tensor",
    "zeros",
]
