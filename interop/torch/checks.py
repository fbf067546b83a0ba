"""What kernels and their views rely on, checked before they see a pointer; a mistake is told in torch's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor

from normspec.runtime.dtypes import FLOATING
from normspec.runtime.errors import one_of
from normspec.runtime.operators.batch_norm import check_input, check_numbers, refuse_one
from normspec.torch.nn.functional import _BATCH_NORM as SPOKEN

DEVICES = ["cpu", "cuda"]
DTYPES = {getattr(torch, name): name for name in FLOATING}


def check(x: Tensor, vectors: Mapping[str, Tensor | None], training: bool, rate: float, epsilon: float) -> None:
    """Everything that kernels and their views rely on."""
    if not isinstance(x, Tensor):
        found = type(x).__name__
        SPOKEN.fail("input_type", "input", "a torch tensor", found, type=found)
    if x.layout is not torch.strided or not (x.is_cpu or x.is_cuda):
        SPOKEN.fail("input_memory", "input", f"a strided tensor on {one_of(DEVICES)}", f"{x.layout} on {x.device.type}")
    shape: tuple[int, ...] = x.shape
    if len(shape) < 2 or x.dtype not in DTYPES or (training and shape[1] == x.numel() > 0):
        check_input(SPOKEN, tuple(shape), str(x.dtype).removeprefix("torch."), training)
    length, device = shape[1], x.device
    for name, vector in vectors.items():
        if vector is None or (vector.shape == (length,) and vector.dtype in DTYPES and vector.device == device):
            continue
        _refuse_vector(x, name, vector)
    _check_statistics(vectors["mean"], vectors["variance"], training)
    if not (type(rate) is type(epsilon) is float and epsilon > 0):
        check_numbers(SPOKEN, rate, epsilon, training)


def _refuse_vector(x: Tensor, name: str, vector: Tensor) -> NoReturn:
    if not isinstance(vector, Tensor):
        found = type(vector).__name__
        SPOKEN.fail("input_type", name, "a torch tensor", found, type=found)
    length = x.shape[1]
    if vector.shape != (length,):
        sizes = {"expected": length, "found": vector.numel()}
        SPOKEN.fail("vector_shape", name, f"shape {(length,)}", f"shape {tuple(vector.shape)}", **sizes)
    if vector.dtype not in DTYPES:
        SPOKEN.fail("vector_dtype", name, one_of(list(FLOATING)), str(vector.dtype), dtype=str(vector.dtype))
    SPOKEN.fail("device_mixed", name, str(x.device), str(vector.device))


def _check_statistics(mean: Tensor | None, variance: Tensor | None, training: bool) -> None:
    if (mean is None) != (variance is None):
        refuse_one(SPOKEN, mean, training)
    for name, one in ("mean", mean), ("variance", variance):
        if one is None:
            if not training:
                SPOKEN.fail("statistics_missing", name, "running statistics", "None")
        elif one.requires_grad and torch.is_grad_enabled():
            SPOKEN.fail("statistics_gradient", name, "a tensor without gradient", "one that requires grad")
