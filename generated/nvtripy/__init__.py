# Generated from specs/nvtripy/ by `normspec generate`. Edit the specs, never this file.
"""Tripy's eager modules as its later documents show them: inference with precomputed statistics, any number of
dimensions. After nvtripy 0.0.x (TensorRT-Incubator, 2024-12 to 2025-04).

https://github.com/NVIDIA/TensorRT-Incubator
"""

from normspec.nvtripy._dialect import (
    Tensor,
    TripyException,
    bfloat16,
    bool,
    dtype,
    float16,
    float32,
    float64,
    int32,
    int64,
)
from normspec.nvtripy._functions import iota, ones, zeros
from normspec.nvtripy.modules import BatchNorm, Linear, Module

__all__ = [
    "BatchNorm",
    "Linear",
    "Module",
    "Tensor",
    "TripyException",
    "bfloat16",
    "bool",
    "dtype",
    "float16",
    "float32",
    "float64",
    "int32",
    "int64",
    "iota",
    "ones",
    "zeros",
]
