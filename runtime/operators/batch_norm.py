"""Batch normalization in canonical terms; every generated class is this one under other names."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, ClassVar, NoReturn, SupportsFloat, cast

import numpy as np

from .. import autograd, foreign, kernels
from ..arrays import Source, Unusable, device_views, feature_views, prepared, source, unwritable, vector
from ..dialect import Dialect
from ..dtypes import FLOATING, HALF, DTypeLike
from ..errors import Speaker, listed, one_of
from ..module import Module
from ..tensor import Array, ArrayT, Tensor
from .batch_norm_gradients import Vectors, inverted, record, record_nothing

_MOST_FEATURES = sys.maxsize // 8  # of which a vector of float64 has an address for each byte


class BatchNorm(Module):
    """Normalize each feature over every axis but ``axis``. See specs/operators/batch_norm.yaml."""

    _accepts: ClassVar[tuple[str, ...]]  # accepted shapes, "..." for any number of axes
    _shifted: bool
    _absent: ClassVar[None] = None
    _arguments: ClassVar[attrgetter[tuple[Any, ...]]]  # reads what may have been assigned to since the last call
    _tensors: ClassVar[attrgetter[tuple[Tensor | None, ...]]]  # Vectors, then the counter; None for what there is not

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        arguments = ("learns", "features", "axis", "epsilon", "update_rate", "track", "unbiased", "dtype")
        *others, dtype = (cls._names.get(name, f"_{name}") for name in arguments)
        cls._arguments = attrgetter(*others, f"{dtype}.name")
        cls._tensors = attrgetter(*(cls._names.get(name, "_absent") for name in (*Vectors._fields, "count")))

    def __init__(
        self,
        *,
        features: int,
        axis: int,
        epsilon: float,
        update_rate: float | None,
        affine: bool,
        shifted: bool,
        track: bool,
        unbiased: bool,
        learns: bool,
        device: str | None,
        dtype: DTypeLike | None,
    ) -> None:
        super().__init__()
        self._check_features(features)
        self._check_epsilon(epsilon)
        self._check_update_rate(update_rate)
        for name, switch in ("affine", affine), ("shift", shifted), ("track", track):
            self._check_switch(name, switch)
        element = self._element(dtype)
        self._set(
            features=int(features),
            axis=axis,
            epsilon=epsilon,
            update_rate=update_rate,
            affine=affine,
            shifted=shifted and affine,
            track=track,
            unbiased=unbiased,
            learns=learns,
            device=device,
            dtype=element,
        )
        self._build({"features": int(features)}, element.name, self._place(device))

    def compute(self, x: ArrayT) -> ArrayT:
        """Normalize ``x``; in training, move the running statistics towards those of ``x``.

        Few calls differ from an earlier one in more than values: ``_prepared`` knows that an input like this has passed
        the checks, and what the backend has prepared for it, which looks at the vectors and does the rest. What it does
        not take, a mistake or memory that takes a copy, goes the long way: check the vectors, make views, run kernels.
        """
        try:
            given = source(x)
        except Unusable as error:
            self._speaker().fail("input_memory", "input", error.expected, error.found)
        if given is None:
            self._speaker().fail_type("input_type", "input", "a tensor or a NumPy array", x)
        learns, *arguments = self._arguments(self)
        if not (self.training and learns):
            return self._computed(x, given, False, *arguments)
        with self._lock:
            return self._computed(x, given, True, *arguments)

    def _computed(
        self,
        x: ArrayT,
        given: Source,
        training: bool,
        features: int,
        axis: int,
        epsilon: float,
        update_rate: float | None,
        track: bool,
        unbiased: bool,
        own: str,
    ) -> ArrayT:
        if not isinstance(epsilon, float) or epsilon != epsilon:  # but another number, or whatever was assigned since
            self._check_epsilon(epsilon)
        if not isinstance(update_rate, float):
            self._check_update_rate(update_rate)
        array, device, dtype, _ = given
        scale, shift, mean, variance, count = self._tensors(self)
        if training and not track:  # which can be assigned to, when there are statistics
            mean = variance = count = None
        counted = count if training else None
        batch = training or mean is None
        ready = self._prepared(
            device, array.shape, array.strides, array.dtype, dtype, features, axis, epsilon, own, batch, training
        )
        rate = self._cumulative(counted) if update_rate is None else update_rate
        state = scale, shift, mean, variance
        if ready is not None and (mean is None) == (variance is None):
            vectors = [None if one is None else one.array for one in (*state, counted)]
            y = at_once(ready, x, given, vectors, state, axis, epsilon, batch, rate, unbiased)
            if y is not None:
                return y
        state = Vectors(*state)
        self._check_vectors(state, features, device, training)
        if training:
            self._check_written(mean=mean, variance=variance, count=counted)
        if not array.size:
            return nothing(x, given, state, axis)
        y = normalize(x, given, state, axis=axis, epsilon=epsilon, batch=batch, rate=rate, unbiased=unbiased)
        if counted is not None:
            counted.copy_(Tensor(counted.numpy() + 1))
        return y

    @classmethod
    @lru_cache(maxsize=4096)
    def _prepared(
        cls,
        device: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        element: np.dtype[Any],
        dtype: str,
        features: int,
        axis: int,
        epsilon: float,
        own: str,
        batch: bool,
        training: bool,
    ) -> kernels.Prepared | None:
        """What is prepared for inputs like this, which has passed the checks."""
        cls._check_call(shape, dtype, features, axis, epsilon, own, batch, training)
        return prepared(device, shape, strides, element, axis, batch)

    def _check_features(self, features: object) -> None:
        if not isinstance(features, (int, np.integer)) or isinstance(features, bool):
            self._speaker().fail_type("features_type", "features", "int", features)
        if abs(int(features)) > _MOST_FEATURES:  # and may be too long to print
            found = f"one of {int(features).bit_length()} bits"
            self._speaker().fail("number_range", "features", f"a number of at most {_MOST_FEATURES}", found)
        if features < 0:
            self._speaker().fail("features_negative", "features", "zero or more", str(features), features=features)

    def _check_epsilon(self, epsilon: object) -> None:
        if not isinstance(epsilon, numbers.Real) or isinstance(epsilon, bool):
            self._speaker().fail_type("epsilon_type", "epsilon", "float", epsilon)
        if epsilon != epsilon:
            self._speaker().fail("epsilon_type", "epsilon", "float", "nan", type="nan")
        _check_range(self._speaker(), "epsilon", epsilon)

    def _check_update_rate(self, rate: object) -> None:
        if rate is not None and (not isinstance(rate, numbers.Real) or isinstance(rate, bool)):
            self._speaker().fail_type("update_rate_type", "update_rate", "float or None", rate)
        if rate is not None:
            _check_range(self._speaker(), "update_rate", rate)

    def _check_switch(self, canonical: str, value: object) -> None:
        try:
            bool(value)
        except (TypeError, ValueError):  # of an array of several elements, which is neither
            self._speaker().fail_type("switch", canonical, "True or False", value)

    @classmethod
    def _check_call(
        cls,
        shape: tuple[int, ...],
        dtype: str,
        features: int,
        axis: int,
        epsilon: float,
        own: str,
        batch: bool,
        training: bool,
    ) -> None:
        """The input and the mode against the class: rank, features, element type, epsilon, values of a feature."""
        rules, rank, speaker = cls._dialect.rules, len(shape), cls._speaker()
        if not any(least <= rank <= most for least, most in _ranks(cls._accepts)):
            ranks = one_of(
                [f"{least}D" if least == most else f"{least}D or more" for least, most in _ranks(cls._accepts)]
            )
            shapes = one_of([f"({', '.join(pattern.split())})" for pattern in cls._accepts])
            speaker.fail("rank", "input", shapes, f"shape {shape}", ranks=ranks, rank=rank, shape=listed(shape))
        if shape[axis] != features:
            wanted, sizes = f"length {features} of axis {axis}", {"expected": features, "found": shape[axis]}
            speaker.fail("features", "input", wanted, f"shape {shape}", shape=listed(shape), **sizes)
        if dtype not in FLOATING:
            speaker.fail("input_float", "input", one_of(list(FLOATING)), dtype, dtype=_called(cls._dialect, dtype))
        halves = HALF if rules.input_dtype == "parameter_or_half" and own == "float32" else ()
        if rules.input_dtype != "any" and dtype not in (own, *halves):
            given = cls._tensor_type.dtype_type(dtype)
            speaker.fail("input_dtype", "input", one_of([own, *halves]), dtype, dtype=repr(given))
        if rules.epsilon == "positive" and epsilon <= 0:
            if batch:
                speaker.fail("epsilon", "epsilon", "more than zero", repr(epsilon), epsilon=epsilon)
            if epsilon < 0:
                speaker.fail("epsilon_negative", "epsilon", "zero or more", repr(epsilon), epsilon=epsilon)
        size = math.prod(shape)
        if batch and rules.single_value == "refuse" and size and size == shape[axis]:
            why = "" if training else f" ({cls._names['track']} is False, so evaluation needs them too)"
            expected = "more than one value for each feature, to take statistics of" + why
            speaker.fail("single_value", "input", expected, f"shape {shape}", shape=listed(shape))

    def _check_vectors(self, state: Vectors, features: int, device: str, training: bool) -> None:
        """What is kept, which can be assigned to: as many floats as features, on the device of the input."""
        if (state.mean is None) != (state.variance is None):
            refuse_one(self._speaker(), state.mean, training)
        shape = (features,)
        for tensor in state:
            if tensor is None:
                continue
            if tensor.device != device or tensor.array.shape != shape or tensor._dtype not in FLOATING:
                self._refuse_vector(state, tensor, shape, device)

    def _check_written(self, **tensors: Tensor | None) -> None:
        """What a step writes to, before anything is written."""
        for canonical, tensor in tensors.items():
            found = None if tensor is None else unwritable(tensor.array)
            if found is not None:
                self._speaker().fail("read_only", canonical, "memory that can be written", found)

    def _cumulative(self, counted: Tensor | None) -> float:
        """The weight of a batch that makes the running statistics plain averages; none where nothing is counted."""
        if counted is None:
            return 0.0
        batches = 1.0 + float(counted)
        if not batches:
            self._speaker().fail("count", "count", "a number of batches seen, to average over them", "-1")
        return 1.0 / batches

    def _refuse_vector(self, state: Vectors, tensor: Tensor, shape: tuple[int], device: str) -> NoReturn:
        speaker = self._speaker()
        if tensor.device != device:
            speaker.fail("device_mixed", "input", tensor.device, device)
        canonical = next(name for name, one in zip(Vectors._fields, state, strict=True) if one is tensor)
        sizes = {"expected": shape[0], "found": tensor.size}
        if tensor.array.shape == shape:
            speaker.fail("vector_dtype", canonical, one_of(list(FLOATING)), tensor._dtype, dtype=tensor._dtype)
        speaker.fail("vector_shape", canonical, f"shape {shape}", f"shape {tensor.shape}", **sizes)


def refuse_one(speaker: Speaker, mean: object, training: bool) -> NoReturn:
    """One running statistic without the other."""
    condition = "statistics_single" if training else "statistics_missing"
    missing = "mean" if mean is None else "variance"
    speaker.fail(condition, missing, "both running statistics or neither", "None")


def _check_range(speaker: Speaker, canonical: str, number: SupportsFloat) -> None:
    """A number must be one as a float, too; it may be too long to print."""
    try:
        float(number)
    except OverflowError:
        wanted, found = "a number in the range of float", f"{type(number).__name__} beyond it"
        speaker.fail("number_range", canonical, wanted, found)


@cache
def _ranks(accepts: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """The least and the most dimensions of each accepted shape."""
    words = [pattern.split() for pattern in accepts]
    return tuple((len(one) - 1, math.inf) if "..." in one else (len(one), len(one)) for one in words)


def batch_norm(
    speaker: Speaker,
    input: ArrayT,
    mean: Array | None,
    variance: Array | None,
    scale: Array | None,
    shift: Array | None,
    training: bool,
    update_rate: float,
    epsilon: float,
) -> ArrayT:
    """Normalize by the batch in training, which updates ``mean`` and ``variance`` in place; else by these two.

    As ``BatchNorm.compute`` it looks for the ordinary first, and tells what is wrong with anything else afterwards.
    """
    try:
        x = source(input)
    except Unusable as error:
        speaker.fail("input_memory", "input", error.expected, error.found)
    if x is None:
        speaker.fail_type("input_type", "input", "a tensor or a NumPy array", input)
    if _ordinary(x, mean, variance, training, update_rate, epsilon):
        array, state = x.array, (scale, shift, mean, variance)
        ready = prepared(x.device, array.shape, array.strides, array.dtype, 1, bool(training))
        if ready is not None:
            vectors = [one.array if isinstance(one, Tensor) else one for one in (*state, None)]
            y = at_once(ready, input, x, vectors, state, 1, epsilon, training, update_rate, True)
            if y is not None:
                return y
    check_input(speaker, x.array.shape, x.dtype, training)
    if (mean is None) != (variance is None):
        refuse_one(speaker, mean, training)
    if mean is None and not training:
        speaker.fail("statistics_missing", "mean", "running statistics", "None")
    state = Vectors(
        _checked_vector(speaker, x, "scale", scale, False),
        _checked_vector(speaker, x, "shift", shift, False),
        _checked_vector(speaker, x, "mean", mean, training),
        _checked_vector(speaker, x, "variance", variance, training),
    )
    check_numbers(speaker, update_rate, epsilon, training)
    if not x.array.size:
        return nothing(input, x, state, axis=1)
    return normalize(input, x, state, axis=1, epsilon=epsilon, batch=training, rate=update_rate, unbiased=True)


def _ordinary(
    x: Source, mean: Array | None, variance: Array | None, training: bool, update_rate: float, epsilon: float
) -> bool:
    """Whether the arguments of the function are such that nothing but its vectors can be wrong."""
    shape = x.array.shape
    return (
        len(shape) > 1
        and x.dtype in FLOATING
        and (x.array.size != shape[1] if training else mean is not None)
        and (mean is None) == (variance is None)
        and isinstance(update_rate, float)
        and isinstance(epsilon, float)
        and epsilon > 0
    )


def check_input(speaker: Speaker, shape: tuple[int, ...], dtype: str, training: bool) -> None:
    """The input of the function: its rank, its element type, and that there is more than one value of a feature."""
    if len(shape) < 2:
        fields = {"ranks": "2D or more", "rank": len(shape), "shape": listed(shape)}
        speaker.fail("rank", "input", "(N, C, ...)", f"shape {shape}", **fields)
    if dtype not in FLOATING:
        speaker.fail("input_float", "input", one_of(list(FLOATING)), dtype, dtype=_called(speaker.dialect, dtype))
    if training and shape[1] == math.prod(shape) > 0 and speaker.dialect.rules.single_value == "refuse":
        expected = "more than one value for each feature"
        speaker.fail("single_value", "input", expected, f"shape {shape}", shape=listed(shape))


def check_numbers(speaker: Speaker, update_rate: object, epsilon: float, training: bool) -> None:
    """The numbers of the function."""
    if not isinstance(update_rate, numbers.Real) or isinstance(update_rate, bool):
        speaker.fail_type("update_rate_type", "update_rate", "float", update_rate)
    if not isinstance(epsilon, numbers.Real) or isinstance(epsilon, bool):
        speaker.fail_type("epsilon_type", "epsilon", "float", epsilon)
    _check_range(speaker, "update_rate", update_rate)
    _check_range(speaker, "epsilon", epsilon)
    if speaker.dialect.rules.epsilon == "positive" and not (epsilon > 0 or (epsilon == 0 and not training)):
        condition, wanted = ("epsilon", "more than zero") if training else ("epsilon_negative", "zero or more")
        speaker.fail(condition, "epsilon", wanted, repr(epsilon), epsilon=epsilon)


def _checked_vector(speaker: Speaker, x: Source, name: str, value: Array | None, updated: bool) -> Tensor | None:
    """A vector of the function as a tensor, of the right length, floating-point and writeable if it is updated."""
    if value is None:
        return None
    try:
        tensor = value if isinstance(value, Tensor) else Tensor(value)
    except foreign.CANNOT as error:
        given = f"{type(value).__name__}, of which none can be made ({error})"
        raise TypeError(f"{speaker.who}: {speaker.names.get(name, name)}: expected a tensor, found {given}") from None
    array, dtype, length = tensor.array, tensor._dtype, x.array.shape[1]
    if array.shape != (length,):
        sizes = {"expected": length, "found": tensor.size}
        speaker.fail("vector_shape", name, f"shape {(length,)}", f"shape {tensor.shape}", **sizes)
    if dtype not in FLOATING:
        speaker.fail("vector_dtype", name, one_of(list(FLOATING)), dtype, dtype=dtype)
    found = unwritable(array) if updated else None
    if found is not None:
        speaker.fail("read_only", name, "memory that can be written", found)
    if tensor.device != x.device:
        speaker.fail("device_mixed", name, x.device, tensor.device)
    return tensor


def _called(dialect: Dialect, dtype: str) -> str:
    """What the messages of a dialect call an element type."""
    return dialect.printing.scalars.get(dtype, dtype)


def nothing(x: ArrayT, given: Source, state: Vectors, axis: int) -> ArrayT:
    """What becomes of an input without elements; its gradients are zero."""
    like = np.empty_like if given.device == "cpu" else kernels.on("cuda").empty_like
    result = cast(ArrayT, given.wrap(like(given.array)))
    if isinstance(x, Tensor) and autograd.needed(x, state.scale, state.shift):
        record_nothing(cast(Tensor, result), x, state, axis)
    return result


def at_once(
    ready: kernels.Prepared,
    x: ArrayT,
    given: Source,
    vectors: Sequence[Any],
    state: tuple[Any, Any, Any, Any],
    axis: int,
    epsilon: float,
    batch: bool,
    rate: float,
    unbiased: bool,
) -> ArrayT | None:
    """Do what was prepared; None, and nothing is done, if it does not take the vectors, the arrays of the state."""
    kept = isinstance(x, Tensor) and autograd.needed(x, state[0], state[1])
    if batch:
        y, known = ready.train(given.array, vectors, epsilon, rate, unbiased, kept) or (None, None)
    else:
        y, known = ready.normalize(given.array, vectors, epsilon), None
    if y is None:
        return None
    result = cast(ArrayT, given.wrap(y))
    if kept:
        tensors = Vectors(*(one if one is None or isinstance(one, Tensor) else Tensor(one) for one in state))
        known = known or inverted(tensors, epsilon)
        record(cast(Tensor, result), cast(Tensor, x), tensors, known, batch, axis=axis, epsilon=epsilon)
    return result


def normalize(
    x: ArrayT,
    given: Source,
    state: Vectors,
    *,
    axis: int,
    epsilon: float,
    batch: bool,
    rate: float = 0.0,
    unbiased: bool = False,
    out: Any = None,
) -> ArrayT:
    """Run the kernels. Vectors that a kernel cannot use go in as copies, and come back only after it succeeded."""
    on_cpu = given.device == "cpu"
    backend = kernels.on("cpu") if on_cpu else kernels.on("cuda")
    views = feature_views if on_cpu else device_views
    y, x3, y3 = views(given.array, axis, out)
    scale, shift, mean, variance = [None if one is None else vector(one) for one in state]
    saved = None
    if not batch:
        backend.normalize(x3, y3, mean, variance, scale, shift, epsilon)
    else:
        saved = backend.forward_training(x3, y3, scale, shift, mean, variance, epsilon, rate, unbiased)
        copied = [
            (tensor, Tensor(moved, tensor.dtype))  # which may raise
            for moved, tensor in ((mean, state.mean), (variance, state.variance))
            if moved is not None and tensor is not None and moved is not tensor.array
        ]
        for tensor, values in copied:
            tensor.copy_(values)
    if out is not None and y is not out:  # whose strides no kernel takes
        out[...] = y
    result = cast(ArrayT, given.wrap(y if out is None else out))
    if isinstance(x, Tensor) and autograd.needed(x, state.scale, state.shift):
        record(cast(Tensor, result), x, state, saved or inverted(state, epsilon), batch, axis=axis, epsilon=epsilon)
    return result
