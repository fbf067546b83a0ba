# Generated from specs/storch/ by `normspec generate`. Edit the specs, never this file.
"""PyTorch for Scala 3, in Python: the names, defaults and promises of its Scala documents. Every camelCase name
has a snake_case twin. After storch 2dfa3884 (Scala 3, libtorch 2.1.2).

https://github.com/sbrunk/storch
"""

from normspec.storch import nn
from normspec.storch._dialect import Tensor, bfloat16, bool, dtype, float16, float32, float64, int32, int64
from normspec.storch._functions import manual_seed, manualSeed, no_grad, noGrad, ones, randn, zeros
from normspec.storch.nn import Module

__all__ = [
    "Module",
    "Tensor",
    "bfloat16",
    "bool",
    "dtype",
    "float16",
    "float32",
    "float64",
    "int32",
    "int64",
    "manualSeed",
    "manual_seed",
    "nn",
    "noGrad",
    "no_grad",
    "ones",
    "randn",
    "zeros",
]
