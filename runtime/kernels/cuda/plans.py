"""From arrays to launches: the functions of the backend.

What depends on shapes, strides, dtypes and the device alone is worked out once, as a plan, and looked up afterwards. A
call then allocates its results with the library that ``x`` is from, and launches on the stream of ``x``: it never waits
for the GPU, and it can be captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import choose, forward
from .arrays import DeviceArray
from .device import gpu
from .primitives import ELEMENTS
from .program import BIAS, RUNNING_MEAN, RUNNING_VAR, UNBIASED, WEIGHT

Array = DeviceArray
Plan = Callable[..., None]  # of a stream, pointers and numbers

FLOAT64 = np.dtype(np.float64)
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
    key = ("normalize", *_described(x), y.strides, (x.pointer | y.pointer) % 16, *map(_dtype, vectors))
    plan = _plans.get(key)
    if plan is None:
        plan = _plans[key] = _inference(x, y, vectors)
    pointers = x.pointer, y.pointer, *map(_pointer, vectors)
    _launch(plan, x, (y, *vectors), *pointers, epsilon)


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and M2 of each feature, float64."""
    key = ("statistics", *_described(x), x.pointer % 16)
    plan = _plans.get(key)
    if plan is None:
        plan = _plans[key] = _statistics(x)
    mean, m2 = _results(x)
    _launch(plan, x, (), x.pointer, mean.pointer, m2.pointer)
    return mean, m2


def forward_training(
    x: Array,
    y: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    epsilon: float,
    rate: float,
    unbiased: bool,
) -> tuple[Array, Array]:
    """Normalize by the statistics of ``x``, then move the running ones; return mean and 1 / standard deviation."""
    vectors = weight, bias, running_mean, running_var
    key = ("training", *_described(x), y.strides, (x.pointer | y.pointer) % 16, *map(_dtype, vectors), unbiased)
    plan = _plans.get(key)
    if plan is None:
        plan = _plans[key] = _training(x, y, vectors, unbiased)
    mean, invstd = _results(x)
    pointers = x.pointer, y.pointer, *map(_pointer, vectors), 0, mean.pointer, invstd.pointer
    _launch(plan, x, (y, *vectors), pointers, epsilon, rate)
    return mean, invstd


@contextmanager
def forced(choice: choose.Choice | choose.Rule) -> Iterator[None]:
    """Put a choice, or a rule, in place of the rule of ``choose``, for benchmarks and tests."""
    _plans.clear()
    with choose.forced(choice):
        yield
    _plans.clear()


def _training(x: Array, y: Array, vectors: tuple[Array | None, ...], unbiased: bool) -> Plan:
    """``pointers`` are x, y, weight, bias, running mean and variance, counter, mean and 1 / standard deviation."""
    here, real = gpu(x.device), _real(x)
    outer, feature, inner = x.shape
    width = _width(x, y)
    pieces = inner // width
    letters = _letters(vectors)
    moving = float if "f64" in letters[2:] else np.float32
    xs, ys = _steps(x, width), _steps(y, width)
    flags = _flags(vectors, (WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR)) | (UNBIASED if unbiased else 0)
    kernel, threads, unroll, cluster, slices = choose.training(feature, outer * pieces, here)
    given = LETTERS[x.dtype], letters, width > 1
    if kernel == "resident":
        program = forward.resident(*given, cluster, unroll, threads)
        run = here.launcher(program, (feature * cluster,))

        def plan(stream: int, pointers: tuple[int, ...], epsilon: float, rate: float) -> None:
            x, y, *others = pointers
            numbers = real(epsilon), moving(1 - rate), moving(rate)
            run(stream, x, *xs, y, *ys, outer, pieces, *others, *numbers, flags)

        return plan
    first = here.launcher(forward.statistics(given[0], given[2], unroll, threads), (feature, slices))
    program = forward.normalize(*given, unroll, threads)
    second = here.launcher(program, (feature, slices), serialized=True)
    workspace = _workspace(x, feature * slices * forward.SAMPLE)

    def plan_split(stream: int, pointers: tuple[int, ...], epsilon: float, rate: float) -> None:
        x, y, *others = pointers
        numbers = real(epsilon), moving(1 - rate), moving(rate)
        _memory, partial = workspace(stream)
        first(stream, x, *xs, outer, pieces, partial)
        second(stream, x, *xs, y, *ys, outer, pieces, partial, *others, *numbers, flags)

    return plan_split


def _statistics(x: Array) -> Plan:
    here = gpu(x.device)
    outer, feature, inner = x.shape
    width = _width(x)
    pieces, xs, letter = inner // width, _steps(x, width), LETTERS[x.dtype]
    _, threads, unroll, _, slices = choose.split(feature, outer * pieces, here)
    first = here.launcher(forward.statistics(letter, width > 1, unroll, threads), (feature, slices))
    program = forward.moments("f64" if letter == "f64" else "f32", 32 * -(-slices // 32))
    second = here.launcher(program, (feature,), serialized=True)
    workspace = _workspace(x, feature * slices * forward.SAMPLE)

    def plan(stream: int, x: int, mean: int, m2: int) -> None:
        _memory, partial = workspace(stream)
        first(stream, x, *xs, outer, pieces, partial)
        second(stream, partial, slices, mean, m2)

    return plan


def _inference(x: Array, y: Array, vectors: tuple[Array | None, ...]) -> Plan:
    here, real = gpu(x.device), _real(x)
    outer, feature, inner = x.shape
    width = _width(x, y)
    pieces = inner // width
    _, threads, unroll, _, slices = choose.split(feature, outer * pieces, here)
    program = forward.inference(LETTERS[x.dtype], _letters(vectors), width > 1, unroll, threads)
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


def _results(x: Array) -> tuple[Array, Array]:
    """Two float64 vectors, in one allocation."""
    feature, device, stream, library = x.shape[1], x.device, x.stream, x.library
    owner, pointer = library.allocate(16 * feature, device, stream)
    first = DeviceArray(pointer, (feature,), (8,), FLOAT64, device, stream, owner, library)
    return first, DeviceArray(pointer + 8 * feature, (feature,), (8,), FLOAT64, device, stream, owner, library)


def _workspace(x: Array, size: int) -> Callable[[int], tuple[Any, int]]:
    """How to get memory for so many numbers beside x, which is used until its owner is dropped."""
    allocate, device, number = x.library.allocate, x.device, 8 if x.dtype == np.float64 else 4
    return lambda stream: allocate(size * number, device, stream)


def _described(x: Array) -> tuple[Hashable, ...]:
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
