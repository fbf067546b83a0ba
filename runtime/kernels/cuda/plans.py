"""The functions of the backend: from arrays to launches.

What depends on shapes, strides, dtypes and the device alone is worked out once, as a plan, and looked up afterwards. A
call then allocates its results with the library that ``x`` is from, and launches on the stream of ``x``: it never waits
for the GPU, and it can be captured in a graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from ..strides import Shape, dense
from . import choose, feature_plans, row_plans
from .arrays import DeviceArray, allocate, storage, to_device
from .device import gpu
from .operands import FLOAT32, FLOAT64, Allocate, Array, Plan
from .outputs import empty_like, feature_views

MOST = 4096  # plans that are kept: shapes that come once only should not fill the memory

_plans: dict[Hashable, Plan] = {}


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and M2 of each feature, float64."""
    key = ("statistics", x.device, x.dtype, x.shape, x.strides, x.pointer % 16)
    plan = _plans.get(key)
    if plan is None:
        plan = _keep(key, layout(x).statistics(x))
    mean, m2 = _results(x)
    _launch(plan, x, (x.pointer, mean.pointer, m2.pointer))
    return mean, m2


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
    key = (
        "inference", x.device, x.dtype, x.shape, x.strides, y.strides, (x.pointer | y.pointer) % 16,
        x.stream, y.stream, *_kinds(vectors),
    )  # fmt: skip
    plan = _plans.get(key)
    if plan is None:
        plan = _keep(key, _ordered(layout(x, y).inference(x, y, vectors), x, y, *vectors))
    _launch(plan, x, (x.pointer, y.pointer, *_pointers(vectors)), epsilon)


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
    tracked: Array | None = None,
) -> tuple[Array, Array]:
    """Normalize by the statistics of ``x``, then move the running ones; return mean and 1 / standard deviation.

    ``tracked`` is a ``counter`` of batches: the kernel adds one, without another launch.
    """
    vectors = weight, bias, running_mean, running_var
    given = *vectors, tracked
    key = (
        "training", x.device, x.dtype, x.shape, x.strides, y.strides, (x.pointer | y.pointer) % 16,
        x.stream, y.stream, unbiased, *_kinds(given),
    )  # fmt: skip
    plan = _plans.get(key)
    if plan is None:
        made = layout(x, y).training(x, y, vectors, unbiased, tracked is not None)
        plan = _keep(key, _ordered(made, x, y, *given))
    mean, invstd = _results(x)
    _launch(plan, x, (x.pointer, y.pointer, *_pointers(given), mean.pointer, invstd.pointer), epsilon, rate)
    return mean, invstd


def backward(
    x: Array, dy: Array, dx: Array | None, mean: Array, invstd: Array, weight: Array | None, batch: bool
) -> tuple[Array, Array]:
    """Gradients of weight and bias, float64; that of the input is written to ``dx``, unless that is None."""
    vectors = mean, invstd, weight
    key = (
        "backward", x.device, x.dtype, x.shape, x.strides, dy.strides, None if dx is None else (dx.strides, dx.stream),
        (x.pointer | dy.pointer | _pointer(dx)) % 16, x.stream, dy.stream, batch, *_kinds(vectors),
    )  # fmt: skip
    plan = _plans.get(key)
    if plan is None:
        made = layout(x, dy) if dx is None else layout(x, dy, dx)
        plan = _keep(key, _ordered(made.gradients(x, dy, dx, weight, batch), x, dy, dx, *vectors))
    dweight, dbias = _results(x)
    _launch(plan, x, (*_pointers((x, dy, dx, *vectors)), dweight.pointer, dbias.pointer))
    return dweight, dbias


def inverted(mean: Array, variance: Array, epsilon: float) -> tuple[Array, Array]:
    """The mean, and ``1 / sqrt(variance + epsilon)``, of vectors, float64 and without waiting for them.

    Both are what ``normalize`` makes of constants: 0 + mean, and (1 - 0) / sqrt(variance + epsilon).
    """
    shape, zero, one = (1, mean.size, 1), _constant(0.0, mean), _constant(1.0, mean)
    widened, invstd = (made.reshape(shape) for made in _results(mean.reshape(shape)))
    normalize(zero.reshape(shape), widened, zero, one, None, mean, 0.0)
    normalize(one.reshape(shape), invstd, zero, variance, None, None, epsilon)
    return widened.reshape(mean.shape), invstd.reshape(mean.shape)


def converted(vector: Array, dtype: np.dtype[Any]) -> Array:
    """A float32 or float64 vector in another element type, without waiting for it: 0 + vector, by ``normalize``."""
    element, size, device, stream = storage(dtype), vector.size, vector.device, vector.stream
    owner, pointer = allocate(vector.library, size * element.itemsize, device, stream)
    made = DeviceArray(pointer, (size,), (element.itemsize,), element, device, stream, owner, vector.library)
    x = _constant(0.0, vector, element).reshape(1, size, 1)
    normalize(x, made.reshape(1, size, 1), _constant(0.0, vector), _constant(1.0, vector), None, vector, 0.0)
    return made


def _constant(value: float, like: Array, dtype: np.dtype[Any] = FLOAT64) -> Array:
    """A vector of one value, of the length and on the stream of another."""
    return _filled(value, dtype, like.size, like.device, like.stream)


@functools.lru_cache(maxsize=256)
def _filled(value: float, dtype: np.dtype[Any], size: int, device: int, stream: int) -> Array:
    """The values are there when they are asked for, so that any stream may read them."""
    made = to_device(np.full(size, value, dtype), device)
    return DeviceArray(made.pointer, made.shape, made.strides, made.dtype, device, stream, made.owner)


class Prepared:
    """Calls on arrays of one shape, dtype, layout and device; see ``normspec.runtime.kernels.Prepared``.

    Vectors will do if they are contiguous ``DeviceArray`` of float32 or float64 on the device of ``x``, and a counter
    if it is on the host. A launch takes nothing but pointers, so that views of x and y are made for new plans only.
    """

    __slots__ = ("_axis", "_features", "_like", "_size")

    def __init__(self, shape: Shape, strides: Shape, dtype: np.dtype[Any], axis: int) -> None:
        self._axis, self._features = axis, shape[axis]
        self._like = shape, dense(shape, strides, dtype.itemsize), dtype
        self._size = -(-math.prod(shape) * dtype.itemsize // 8) * 8

    def train(
        self, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool, kept: bool
    ) -> tuple[Array, Any] | None:
        here = gpu(x.device)
        if not here.is_current():
            with here.current():
                return self.train(x, vectors, epsilon, rate, unbiased, kept)
        *vectors, count = vectors
        if count is not None and type(count) is not np.ndarray:
            return None
        y, known, mean, invstd = self._results(x, kept)
        aligned = (x.pointer | y.pointer) % 16
        key = (self, unbiased, aligned, x.device, x.stream, y.stream, y.strides, *_facts(vectors))
        plan = _plans.get(key)
        if plan is None:
            views = self._views(x, y, vectors, vectors[2:])
            if views is None:
                return None
            plan = _keep(key, _ordered(layout(*views).training(*views, vectors, unbiased), x, y, *vectors))
        pointers = x.pointer, y.pointer, *_pointers(vectors), 0, mean, invstd
        plan(x.library.allocate, x.stream, pointers, epsilon, rate)
        if count is not None:
            count[()] = count.item() + 1
        return y, known

    def normalize(self, x: Array, vectors: Sequence[Any], epsilon: float) -> Array | None:
        here = gpu(x.device)
        if not here.is_current():
            with here.current():
                return self.normalize(x, vectors, epsilon)
        weight, bias, mean, variance, _ = vectors
        y, others = self._output(x), (mean, variance, weight, bias)
        aligned = (x.pointer | y.pointer) % 16
        key = (self, aligned, x.stream, y.stream, y.strides, *_facts(others))
        plan = _plans.get(key)
        if plan is None:
            views = self._views(x, y, others, ())
            if views is None:
                return None
            plan = _keep(key, _ordered(layout(*views).inference(*views, others), x, y, *others))
        plan(x.library.allocate, x.stream, (x.pointer, y.pointer, *_pointers(others)), epsilon)
        return y

    def _output(self, x: Array, behind: int = 0) -> Array:
        """Memory for y, and for so many bytes behind it if the library of x is our own."""
        if x.library.empty_like is not None:
            return empty_like(x)
        shape, strides, dtype = self._like
        owner, pointer = x.library.allocate(self._size + behind, x.device, x.stream)
        return DeviceArray(pointer, shape, strides, dtype, x.device, x.stream, owner, x.library)

    def _results(self, x: Array, kept: bool) -> tuple[Array, Any, int, int]:
        """Memory for y and two float64 vectors, which are arrays of their own if they are kept."""
        if kept or x.library.empty_like is not None:
            mean, invstd = _results(x)
            return self._output(x), (mean, invstd), mean.pointer, invstd.pointer
        y = self._output(x, 16 * self._features)
        return y, None, y.pointer + self._size, y.pointer + self._size + 8 * self._features

    def _views(self, x: Array, y: Array, vectors: Sequence[Any], written: Sequence[Any]) -> tuple[Array, Array] | None:
        """What a plan is made for, if kernels can take it where it is."""
        expected = (self._features,), (FLOAT32, FLOAT64), x.device
        for one in vectors:
            if one is not None and not (type(one) is DeviceArray and one.contiguous and _fits(one, *expected)):
                return None
        if any(one is not None and one.readonly for one in written):
            return None
        _, x3, y3 = feature_views(x, self._axis, y)
        return (x3, y3) if x3.pointer == x.pointer else None


@functools.lru_cache(maxsize=1024)
def prepared(shape: Shape, strides: Shape, dtype: np.dtype[Any], axis: int) -> Prepared:
    """Calls on such arrays."""
    return Prepared(shape, strides, dtype, axis)


def _fits(vector: Array, shape: Shape, dtypes: Sequence[np.dtype[Any]], device: int) -> bool:
    return vector.shape == shape and vector.dtype in dtypes and vector.device == device


def _kinds(vectors: Sequence[Array | None]) -> list[Hashable]:
    """All of contiguous vectors that plans depend on."""
    return [None if one is None else (one.dtype, one.stream) for one in vectors]


def _facts(arrays: Sequence[Any]) -> list[Hashable]:
    """The same, in a number each, of vectors that are there for many calls, and may be anything."""
    return [
        one._facts or one.facts if type(one) is DeviceArray else cast(Hashable, type(one))  # spares a call
        for one in arrays
    ]


@contextmanager
def forced(choice: choose.Choice | choose.Rule, layout: str = "features") -> Iterator[None]:
    """Put a choice, or a rule, in place of the rule of ``choose`` for a layout, for benchmarks and tests."""
    _plans.clear()
    with choose.forced(choice, layout):
        yield
    _plans.clear()


def _keep(key: Hashable, plan: Plan) -> Plan:
    if len(_plans) >= MOST:
        _plans.clear()
    _plans[key] = plan
    return plan


def layout(*arrays: Array) -> Any:
    """Where plans for such arrays are made."""
    return row_plans if row_plans.fit(*arrays) else feature_plans


def _ordered(plan: Plan, x: Array, *others: Array | None) -> Plan:
    """A plan that waits for the other streams that arrays are of, which then wait for it."""
    foreign, here = {one.stream for one in others if one is not None} - {x.stream}, gpu(x.device)
    if not foreign:
        return plan

    def ordered(allocate: Allocate, stream: int, *arguments: Any) -> None:
        for other in foreign:
            here.order(other, stream)
        plan(allocate, stream, *arguments)
        for other in foreign:
            here.order(stream, other)

    return ordered


def _launch(plan: Plan, x: Array, *arguments: Any) -> None:
    """Run a plan on the stream and the device of ``x``, in memory of its library."""
    here = gpu(x.device)
    if here.is_current():
        plan(x.library.allocate, x.stream, *arguments)
        return
    with here.current():
        plan(x.library.allocate, x.stream, *arguments)


def _pointer(array: Array | None) -> int:
    return 0 if array is None else array.pointer


def _pointers(arrays: Sequence[Array | None]) -> list[int]:
    return [0 if one is None else one.pointer for one in arrays]


def _results(x: Array) -> tuple[Array, Array]:
    """Two float64 vectors, in one allocation."""
    feature, device, stream, library = x.shape[1], x.device, x.stream, x.library
    shape, strides = (feature,), (8,)
    owner, pointer = allocate(library, 16 * feature, device, stream)
    first = DeviceArray(pointer, shape, strides, FLOAT64, device, stream, owner, library)
    return first, DeviceArray(pointer + 8 * feature, shape, strides, FLOAT64, device, stream, owner, library)
