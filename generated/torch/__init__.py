# Generated from specs/torch/ by `normspec generate`. Edit the specs, never this file.
"""PyTorch's batch norm without PyTorch: its names, defaults, state dicts and errors. After torch 2.13
(torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d, torch.nn.functional.batch_norm).

https://github.com/pytorch/pytorch
"""

from normspec.torch import nn
from normspec.torch._dialect import Tensor, bfloat16, bool, dtype, float16, float32, float64, int32, int64
from normspec.torch._functions import manual_seed, no_grad, ones, randn, tensor, zeros

__all__ = [
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
