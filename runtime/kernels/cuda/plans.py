"""From arrays to launches: the functions of the backend.

What depends on shapes, strides, dtypes and the device alone is worked out once, as a plan, and looked up afterwards. A
call then allocates its results with the library that ``x`` is from, and launches on the stream of ``x``: it never waits
for the GPU, and it can be captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from . import forward, launch
from .arrays import DeviceArray
from .device import gpu
from .primitives import ELEMENTS
from .program import BIAS, WEIGHT

Array = DeviceArray
Plan = Callable[..., None]  # of a stream, pointers and numbers

LETTERS = {np.dtype(kind.dtype): name for name, kind in ELEMENTS.items()}

_plans: dict[Hashable, Plan] = {}


def normalize(
    x: Array,
    y: Array,
    mean: Array,
    variance: Array,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
) -> None:
    """Write ``(x - mean) / sqrt(variance + epsilon) * weight + bias`` to ``y``, with the given statistics."""
    vectors = mean, variance, weight, bias
    key = ("normalize", *_memory(x), y.strides, (x.pointer | y.pointer) % 16, *map(_dtype, vectors))
    plan = _plans.get(key)
    if plan is None:
        plan = _plans[key] = _inference(x, y, vectors)
    pointers = x.pointer, y.pointer, *map(_pointer, vectors)
    _launch(plan, x, (y, *vectors), *pointers, epsilon)


batch_statistics, forward_training = launch.batch_statistics, launch.forward_training


def _inference(x: Array, y: Array, vectors: tuple[Array | None, ...]) -> Plan:
    here, real = gpu(x.device), _real(x)
    outer, feature, inner = x.shape
    width = _width(x, y)
    program = forward.inference(LETTERS[x.dtype], _letters(vectors), width > 1)
    pieces = inner // width
    slices = min(65535, -(-outer * pieces // (4 * program.threads)))
    kernel = here.launcher(program, (feature, slices))
    xs, ys, flags = _steps(x, width), _steps(y, width), _flags(vectors[2:])

    def plan(stream: int, x: int, y: int, mean: int, variance: int, weight: int, bias: int, epsilon: float) -> None:
        kernel(stream, x, *xs, y, *ys, outer, pieces, mean, variance, weight, bias, real(epsilon), flags)

    return plan


def _launch(plan: Plan, x: Array, others: tuple[Array | None, ...], *arguments: Any) -> None:
    """Run a plan on the stream and the device of ``x``."""
    stream, device = x.stream, x.device
    here = gpu(device)
    foreign = {one.stream for one in others if one is not None and one.stream != stream}
    if not foreign and here.is_current():
        plan(stream, *arguments)
        return
    with here.current():
        for other in foreign:
            here.order(other, stream)
        plan(stream, *arguments)
        for other in foreign:
            here.order(stream, other)


# -- what plans are made of


def _memory(x: Array) -> tuple[Hashable, ...]:
    return x.device, x.dtype, x.shape, x.strides


def _dtype(vector: Array | None) -> Any:
    return None if vector is None else vector.dtype


def _pointer(vector: Array | None) -> int:
    return 0 if vector is None else vector.pointer


def _real(x: Array) -> Any:
    """The type of numbers beside x."""
    return float if x.dtype == np.float64 else np.float32


def _letters(vectors: tuple[Array | None, ...]) -> Any:
    """Types of vectors; of one that is absent, that of any other, so that it makes no program of its own."""
    given = [LETTERS[one.dtype] for one in vectors if one is not None]
    return tuple(LETTERS[one.dtype] if one is not None else (given or ["f32"])[0] for one in vectors)


def _flags(vectors: tuple[Array | None, ...], bits: tuple[int, ...] = (WEIGHT, BIAS)) -> int:
    return sum(bit for bit, one in zip(bits, vectors, strict=True) if one is not None)


def _steps(x: Array, width: int) -> tuple[int, int, int]:
    """Strides in elements, the last one from piece to piece of so many; 0 along an axis that has one element."""
    axes = zip(x.shape, x.strides, strict=True)
    outer, feature, inner = (stride // x.dtype.itemsize if length > 1 else 0 for length, stride in axes)
    return outer, feature, inner * width


def _width(*arrays: Array) -> int:
    """Elements that can be moved at once: a packet of 16 bytes, or one."""
    width: int = ELEMENTS[LETTERS[arrays[0].dtype]].width
    for x in arrays:
        outer, feature, inner = _steps(x, 1)
        if inner not in (0, 1) or x.pointer % 16 or x.shape[2] % width or outer % width or feature % width:
            return 1
    return width
