# Generated from specs/tripy/ by `normspec generate`. Edit the specs, never this file.
"""Tripy's eager modules as its earlier document shows them: inference with precomputed statistics, any number of
dimensions. After tripy 0.0.x (TensorRT-Incubator, 2024-10 to 2024-11).

https://github.com/NVIDIA/TensorRT-Incubator
"""

from normspec.tripy._dialect import (
    Parameter,
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
from normspec.tripy._functions import iota, ones, zeros
from normspec.tripy.modules import BatchNorm, Module

__all__ = [
    "BatchNorm",
    "Module",
    "Parameter",
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
