"""Tests of the forward kernels on channels-first memory, in the simulator; ``test_kernels_cuda.py`` runs this file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_cases as cases
import simulator
from cuda_cases import EPSILON, Array, all_elements
from normspec.runtime.kernels.cuda import forward
from normspec.runtime.kernels.cuda.primitives import ELEMENTS

simulator.install()

KINDS = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
LAYOUTS = [cases.contiguous, cases.offset, cases.padded, cases.scattered, cases.reversed_axes, cases.channels_last]
THREADS = 64


def kinds(*arrays: Array) -> tuple[str, ...]:
    return tuple(KINDS[array.dtype] for array in arrays)


def width_of(element: str, *arrays: Array) -> int:
    """Elements of a piece: a packet's where arrays can be moved by packets."""
    width = ELEMENTS[element].width
    for view in arrays:
        outer, feature, inner = cases.strides(view)
        if inner != 1 or view.ctypes.data % 16 or view.shape[2] % width or outer % width or feature % width:
            return 1
    return width


def inferred(
    x: Array,
    y: Array,
    mean: Array,
    variance: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    element: str,
    slices: int = 1,
    unroll: int = 2,
) -> Array:
    width = width_of(element, x, y)
    vectors = (mean, variance, cases.absent(weight), cases.absent(bias))
    program = forward.inference(element, kinds(*vectors), width > 1, unroll, THREADS)
    arguments: list[Any] = [cases.pointer(x), *cases.strides(x, width), cases.pointer(y), *cases.strides(y, width)]
    sizes = x.shape[0], x.shape[2] // width
    flags = cases.flags(weight=weight, bias=bias)
    epsilon = cases.arithmetic(element)(EPSILON)
    cases.run(program, (x.shape[1], slices), *arguments, *sizes, *vectors, epsilon, flags)
    return y


@all_elements
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_inference(layout: Any, element: str) -> None:
    for shape in [(3, 2, 48), (5, 3, 7), (1, 1, 1), (70, 1, 16)]:
        x = cases.filled(layout, cases.data(shape, element))
        mean, variance, weight, bias = cases.vectors(shape[1], 4)
        y = inferred(x, layout(shape, x.dtype), mean, variance, weight, bias, element=element, slices=2)
        cases.check(y, cases.affine(x, mean, variance, weight, bias), element)
