"""What tests of CUDA kernels share: data, a more exact oracle, tolerances, pointers, and what runs a program.

That is the simulator if NUMBA_ENABLE_CUDASIM=1, else the machine of ``ptx``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from normspec.runtime.kernels.cuda.primitives import SIMULATED
from normspec.runtime.kernels.cuda.program import Program, simulate

if SIMULATED:
    import simulator

    simulator.install()
else:
    from ptx import programs

Array = np.ndarray[Any, Any]
Layout = Callable[[Array], Array]

BFLOAT16 = ml_dtypes.bfloat16
DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": BFLOAT16, "f32": np.float32, "f64": np.float64}
HALF_ULP = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24, "f64": 2.0**-53}  # half of eps
EPSILON = 1e-5

all_elements = pytest.mark.parametrize("element", DTYPES)


def arithmetic(element: str) -> Any:
    return np.float64 if element == "f64" else np.float32


def data(shape: tuple[int, int, int], element: str, offset: float = 3.0, seed: int = 0) -> Array:
    """Normal noise of standard deviation 1, each feature about another mean."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (noise + offset * (1 + np.arange(shape[1]))[:, None]).astype(DTYPES[element])


def vectors(feature: int, number: int, dtype: Any = np.float32, seed: int = 1) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.uniform(0.5, 2, feature).astype(dtype) for _ in range(number)]


def reference(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance, more exact than any kernel."""
    wide = x.astype(np.longdouble)
    mean = wide.mean((0, 2), keepdims=True)
    return mean[0, :, 0], ((wide - mean) ** 2).mean((0, 2))


def affine(x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None) -> Array:
    """``(x - mean) / sqrt(variance + EPSILON) * weight + bias``."""
    scale = 1 / np.sqrt(variance.astype(np.longdouble) + EPSILON)
    y = (x.astype(np.longdouble) - mean[:, None]) * scale[:, None]
    y = y if weight is None else y * weight[:, None]
    return y if bias is None else y + bias[:, None]


def check(y: Array, expected: Array, element: str) -> None:
    """Half an ulp of the output for its rounding, and a few of the arithmetic's for all that came before."""
    exact = HALF_ULP["f64" if element == "f64" else "f32"]
    error = np.abs(y.astype(np.longdouble) - expected)
    worst = float((error / (HALF_ULP[element] * np.abs(expected) + 4 * exact * (2 + np.abs(expected)))).max())
    assert worst <= 1, f"an error is {worst:.3} times what is allowed"
    if element == "f32":  # what the library promises
        assert np.linalg.norm(error.astype(float)) <= 2e-7 * np.linalg.norm(expected.astype(float))


def aligned(shape: Sequence[int], dtype: Any) -> Array:
    """NaN everywhere, aligned to 16 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 16, 0xFF, np.uint8)
    start = -memory.ctypes.data % 16
    array = memory[start : start + size].view(dtype).reshape(shape)
    array.view(np.uint16 if array.itemsize == 2 else dtype)[...] = 0x7FFF if array.itemsize == 2 else np.nan
    return array


def contiguous(shape: Sequence[int], dtype: Any) -> Array:
    return aligned(shape, dtype)


def offset(shape: Sequence[int], dtype: Any) -> Array:
    """One element off any alignment."""
    return aligned([int(np.prod(shape)) + 1], dtype)[1:].reshape(shape)


def half_aligned(shape: Sequence[int], dtype: Any) -> Array:
    """8 bytes off an alignment to 16."""
    lead = 8 // np.dtype(dtype).itemsize
    return aligned([int(np.prod(shape)) + lead], dtype)[lead:].reshape(shape)


def padded(shape: Sequence[int], dtype: Any) -> Array:
    """Every feature and every row of 16 bytes more than needed: strides are not those of the shape."""
    outer, feature, inner = shape
    return aligned((outer, feature + 1, inner + 16 // np.dtype(dtype).itemsize), dtype)[:, 1:, :inner]


def scattered(shape: Sequence[int], dtype: Any) -> Array:
    outer, feature, inner = shape
    return aligned((outer * 2, feature + 1, inner * 3 + 1), dtype)[1::2, 1:, 1::3]


def reversed_axes(shape: Sequence[int], dtype: Any) -> Array:
    return aligned(shape, dtype)[::-1, ::-1, ::-1]


def channels_last(shape: Sequence[int], dtype: Any) -> Array:
    outer, feature, inner = shape
    return aligned((outer, inner, feature), dtype).transpose(0, 2, 1)


LAYOUTS = [contiguous, offset, half_aligned, padded, scattered, reversed_axes, channels_last]


def filled(make: Callable[[Sequence[int], Any], Array], x: Array) -> Array:
    """The same values in another layout."""
    view = make(x.shape, x.dtype)
    view[...] = x
    return view


class Pointer:
    """A pointer into an array of one dimension, for indices of either sign."""

    def __init__(self, memory: Array, origin: int) -> None:
        self.memory, self.origin, self.dtype = memory, origin, memory.dtype

    def __getitem__(self, index: slice) -> Array:
        first, end = index.start + self.origin, index.stop + self.origin
        assert 0 <= first <= end <= len(self.memory), f"elements {first} to {end} of {len(self.memory)}"
        part: Array = self.memory[first:end]
        return part


def pointer(view: Array) -> Pointer:
    """What a kernel gets of an array."""
    memory = view
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    storage = np.dtype(np.uint16) if view.dtype == BFLOAT16 else view.dtype
    start = view.ctypes.data - memory.ctypes.data
    shift = start % storage.itemsize
    size = (memory.nbytes - shift) // storage.itemsize
    flat = np.ndarray(size, storage, memory, shift)
    return Pointer(flat, start // storage.itemsize)


def strides(view: Array, width: int = 1) -> tuple[int, int, int]:
    """Of outer, feature and inner, in elements; that of inner is from piece to piece of ``width``."""
    outer, feature, inner = (stride // view.itemsize for stride in view.strides)
    return outer, feature, inner * width


def width_of(element: str, *arrays: Array) -> int:
    """Elements that one access may move: 16 bytes of them, 8 if they are of 16 bits, or one."""
    size = np.dtype(DTYPES[element]).itemsize
    for number in (16, 8) if size == 2 else (16,):
        numbers = [number for view in arrays for number in (view.ctypes.data, view.shape[2] * size, *view.strides[:2])]
        if all(view.strides[2] == size for view in arrays) and not np.any(np.mod(numbers, number)):
            return number // size
    return 1


def planes_shape(element: str, outer: int, inner: int, cluster: int) -> tuple[int, int, int]:
    """Features of a group of small planes, rows of a thread, and threads of a block, of which a warp is not needed."""
    from normspec.runtime.kernels.cuda.planes import columns_of, group_of

    group, columns = group_of(element, inner), columns_of(element, inner)
    threads = 32 * (1 + max(group, -(-columns // 32)))
    return group, -(-outer // (cluster * (threads // columns))), threads


def absent(vector: Array | None) -> Array:
    """An optional vector: where there is none, any pointer will do."""
    return np.full(0, np.nan, np.float32) if vector is None else vector


def flags(**given: Any) -> int:
    from normspec.runtime.kernels.cuda import program

    return sum(
        getattr(program, name.upper()) for name, value in given.items() if value is not None and value is not False
    )


def run(program: Program, grid: tuple[int, int], *arguments: Any) -> None:
    """Simulate, or run what it is compiled to, after a look at the arguments: one for each item of the signature."""
    assert len(arguments) == len(program.signature), f"{len(arguments)} arguments for {len(program.signature)}"
    assert grid[0] % program.cluster == 0
    if SIMULATED:
        simulate(program, grid, *arguments)
    else:
        bits = [as_bits(value, kind) for value, kind in zip(arguments, program.signature, strict=True)]
        memory = [memory_of(value) for value in arguments if isinstance(value, Pointer | np.ndarray)]
        programs.run(program, (*grid, 1), memory, bits)


def as_bits(value: Any, kind: Any) -> int:
    """An argument as a kernel gets it."""
    if isinstance(value, Pointer):
        return int(value.memory.ctypes.data) + value.origin * value.dtype.itemsize
    if isinstance(value, np.ndarray):
        return int(value.ctypes.data)
    if str(kind) == "int64":
        return int(value) % (1 << 64)
    return int(np.array(value, str(kind)).view(np.uint32 if str(kind) == "float32" else np.uint64))


def memory_of(value: Pointer | Array) -> Array:
    return value.memory if isinstance(value, Pointer) else value


def backward_statistics(x: Array, batch: bool) -> tuple[Array, Array]:
    """Mean and 1 / standard deviation: those of x, or any."""
    if not batch:
        mean, variance = vectors(x.shape[1], 2, np.float64, seed=3)
        return mean, 1 / np.sqrt(variance + EPSILON)
    mean, variance = reference(x)
    return mean.astype(float), (1 / np.sqrt(variance + EPSILON)).astype(float)


def check_gradients(
    x: Array,
    dy: Array,
    dx: Array | None,
    dweight: Array,
    dbias: Array,
    mean: Array,
    invstd: Array,
    weight: Array | None,
    batch: bool,
    element: str,
) -> None:
    """Compare with the formula, in units of the terms that it adds up."""
    exact = HALF_ULP["f64" if element == "f64" else "f32"]
    slope, normal = dy.astype(np.longdouble), (x.astype(np.longdouble) - mean[:, None]) * invstd[:, None]
    offset = slope.mean((0, 2))[:, None] if batch else 0
    tilt = ((slope - offset) * normal).mean((0, 2))[:, None]  # with an offset, whatever the mean of x was rounded to
    count = x.shape[0] * x.shape[2]
    assert (np.abs(dbias - slope.sum((0, 2))) <= 8 * exact * np.abs(slope).sum((0, 2))).all()
    assert (np.abs(dweight - count * tilt[:, 0]) <= 8 * exact * np.abs(slope * normal).sum((0, 2))).all()
    if dx is None:
        return
    scale = invstd[:, None] if weight is None else (weight * invstd.astype(np.longdouble))[:, None]
    expected = scale * (slope - offset - normal * tilt if batch else slope)
    spread = np.abs(slope - offset)
    terms = spread + spread.mean((0, 2))[:, None] + np.abs(normal) * (spread * np.abs(normal)).mean((0, 2))[:, None]
    allowed = HALF_ULP[element] * np.abs(expected) + 4 * exact * np.abs(scale) * (terms if batch else spread)
    worst = float((np.abs(dx - expected) / np.maximum(allowed, np.finfo(float).tiny)).max())
    assert worst <= 1, f"an error is {worst:.3} times what is allowed"
