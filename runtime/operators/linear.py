"""A linear layer, as much of one as the documents' examples call."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .. import autograd
from ..arrays import Unusable, source
from ..dtypes import FLOATING, HALF, DTypeLike, at_least_float32
from ..errors import listed, one_of
from ..module import Module
from ..tensor import ArrayT, Tensor


class Linear(Module):
    """Multiply by a matrix and add a vector, computed on the CPU. See specs/operators/linear.yaml."""

    _shifted: bool

    def __init__(self, *, in_features: int, out_features: int, shifted: bool, dtype: DTypeLike | None) -> None:
        super().__init__()
        element = self._element(dtype)
        self._check_size("in_features", in_features)
        self._check_size("out_features", out_features)
        self._set(in_features=in_features, out_features=out_features, shifted=shifted, dtype=element)
        self._build({"in_features": in_features, "out_features": out_features}, element.name, "cpu")

    def compute(self, x: ArrayT) -> ArrayT:
        """``x @ weight.T + bias``."""
        speaker, width = self._speaker(), self._get("in_features")
        try:
            given = source(x)
        except Unusable as error:
            speaker.fail("input_memory", "input", error.expected, error.found)
        if given is None:
            speaker.fail_type("input_type", "input", "a tensor or a NumPy array", x)
        self._check_dtype(given.dtype)
        if given.shape[-1:] != (width,):
            fields = {"expected": width, "found": given.shape[-1] if given.shape else 0, "shape": listed(given.shape)}
            speaker.fail("width", "input", f"(..., {width})", f"shape {given.shape}", **fields)
        wide, weight, shift = at_least_float32(given.dtype), self._get("weight"), self._get("shift")
        for one in (weight, shift):
            if one is not None and one.device != given.device:
                speaker.fail("device_mixed", "input", one.device, given.device)
        y: Any = Tensor(given.array).numpy().astype(wide) @ weight.numpy().astype(wide).T
        if shift is not None:
            y += shift.numpy().astype(wide)
        result = given.wrap(Tensor(y, given.dtype, given.device).array)
        if isinstance(x, Tensor) and autograd.needed(x, weight, shift):
            autograd.record(result, "linear", [x, weight, shift], _backward(x, weight))
        return cast(ArrayT, result)

    def _check_size(self, canonical: str, size: object) -> None:
        speaker = self._speaker()
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
            speaker.fail_type("size_type", canonical, "int", size)
        if size < 0:
            speaker.fail("size_negative", canonical, "zero or more", str(size))

    def _check_dtype(self, dtype: str) -> None:
        speaker, own, rule = self._speaker(), self._get("dtype").name, self._dialect.rules.input_dtype
        if dtype not in FLOATING:
            speaker.fail("operand_float", "input", one_of(list(FLOATING)), dtype, dtype=dtype)
        halves = HALF if rule == "parameter_or_half" and own == "float32" else ()
        if rule != "any" and dtype not in (own, *halves):
            given = self._tensor_type.dtype_type(dtype)
            speaker.fail("operand_dtype", "input", one_of([own, *halves]), dtype, dtype=repr(given))


def _backward(x: Tensor, weight: Tensor) -> autograd.Back:
    """The way back to ``x``, ``weight`` and the shift."""

    def back(g: Tensor) -> list[Any]:
        rows, inputs = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        return [g @ weight, rows.T @ inputs, rows]

    return back
