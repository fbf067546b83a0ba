"""Batch normalization in canonical terms; every generated class is this one under other names."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, NoReturn, cast

import numpy as np

from .. import devices, kernels
from ..arrays import Source, device_views, feature_views, source
from ..dialect import Dialect
from ..dtypes import FLOATING, HALF, DTypeLike, at_least_float32
from ..errors import Speaker, listed, one_of
from ..module import Module
from ..tensor import Array, ArrayT, Tensor

_VECTORS = ("scale", "shift", "mean", "variance")


class BatchNorm(Module):
    """Normalize each feature over every axis but ``axis``. See specs/operators/batch_norm.yaml."""

    accepts: ClassVar[tuple[str, ...]]  # accepted shapes, "..." for any number of axes
    _shifted: bool

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
        """Normalize ``x``; in training, move the running statistics towards those of ``x``."""
        given = source(x)
        if given is None:
            found = type(x).__name__
            self._refuse("input_type", "a tensor or a NumPy array", found, type=found)
        self._check_input(given)
        training = self.training and self._get("learns")
        with self._lock if training else _nothing:
            state: Mapping[str, Tensor | None] = {name: self._state(name) for name in _VECTORS}
            batch = training or state["mean"] is None
            self._check_call(given, batch, training)
            self._check_vectors(state)
            if not given.size:
                return cast(ArrayT, given.wrap(np.empty_like(given.array)))
            count = self._state("count") if training and self._get("track") else None
            y = _normalize(
                given,
                state,
                axis=self._get("axis"),
                epsilon=self._get("epsilon"),
                batch=batch,
                rate=self._rate(count) if training else None,
                unbiased=self._get("unbiased"),
            )
            if count is not None:
                count.array[...] += 1
        return cast(ArrayT, given.wrap(y))

    def kept_dtype(self, name: str, dtype: str) -> str:
        """Statistics and the counter have element types of their own; see ``dialect.Rules``."""
        rules = self.dialect.rules
        canonical = {one.name: one.canonical for one in self.state}.get(name)  # None for a tensor of the user's own
        if canonical == "count":
            return "int64" if rules.counter_dtype == "int64" else at_least_float32(dtype)
        if canonical in ("mean", "variance") and rules.statistics_dtype == "at_least_float32":
            return at_least_float32(dtype)
        return dtype

    def _state(self, canonical: str) -> Any:
        name = self.names.get(canonical)
        return None if name is None else vars(self)[name]

    def _rate(self, count: Tensor | None) -> float | None:
        """Weight of this batch in the running statistics; None if there are none to update."""
        if self._state("mean") is None:
            return None
        rate = self._get("update_rate")
        if rate is not None:
            return float(rate)
        return 1.0 / (1.0 + (0 if count is None else float(count.array)))

    def _check_features(self, features: object) -> None:
        found = type(features).__name__
        argument = self.names["features"]
        if not isinstance(features, (int, np.integer)) or isinstance(features, bool):
            self._fail("features_type", argument, "int", found, type=found)
        if features < 0:
            self._fail("features_negative", argument, "zero or more", str(features), features=features)

    def _check_epsilon(self, epsilon: object) -> None:
        if not isinstance(epsilon, numbers.Real) or isinstance(epsilon, bool) or epsilon != epsilon:
            found, argument = type(epsilon).__name__, self.names["epsilon"]
            self._fail("epsilon_type", argument, "float", found, type=found)

    def _check_update_rate(self, rate: object) -> None:
        if rate is not None and (not isinstance(rate, numbers.Real) or isinstance(rate, bool)):
            found, argument = type(rate).__name__, self.names["update_rate"]
            self._fail("update_rate_type", argument, "float or None", found, type=found)

    def _check_input(self, x: Source) -> None:
        """The input against the class: rank, features, element type, device."""
        shape, rank = x.shape, len(x.shape)
        if not any(least <= rank <= most for least, most in _ranks(self.accepts)):
            ranks = one_of(
                [f"{least}D" if least == most else f"{least}D or more" for least, most in _ranks(self.accepts)]
            )
            shapes = one_of([f"({', '.join(pattern.split())})" for pattern in self.accepts])
            self._refuse("rank", shapes, f"shape {shape}", ranks=ranks, rank=rank, shape=listed(shape))
        axis, features = self._get("axis"), self._get("features")
        if shape[axis] != features:
            self._refuse("features", str(features), str(shape[axis]), shape=listed(shape))
        if x.dtype not in FLOATING:
            self._refuse("input_float", one_of(list(FLOATING)), x.dtype, dtype=_called(self.dialect, x.dtype))
        self._check_beside_parameters(x)

    def _check_beside_parameters(self, x: Source) -> None:
        rule, own = self.dialect.rules.input_dtype, self._get("dtype").name
        halves = HALF if rule == "parameter_or_half" and own == "float32" else ()
        if rule != "any" and x.dtype not in (own, *halves):
            given = self.tensor_type.dtype_type(x.dtype)
            self._refuse("input_dtype", one_of([own, *halves]), x.dtype, dtype=repr(given))
        kept = next((vars(self)[one.name] for one in self.state if vars(self)[one.name] is not None), None)
        if kept is not None and kept.device != x.device:
            self._refuse("device_mixed", kept.device, x.device)

    def _check_vectors(self, state: Mapping[str, Tensor | None]) -> None:
        """What is kept against the number of features, which can be assigned to: kernels trust it."""
        wanted = (self._get("features"),)
        if (state["mean"] is None) != (state["variance"] is None):
            missing = self.names["mean" if state["mean"] is None else "variance"]
            self._fail("statistics_missing", missing, "both running statistics or neither", "None", name=missing)
        for canonical, tensor in state.items():
            if tensor is not None and tensor.shape != wanted:
                sizes = {"name": self.names[canonical], "expected": wanted[0], "found": tensor.size}
                self._fail("vector_shape", self.names[canonical], f"shape {wanted}", f"shape {tensor.shape}", **sizes)

    def _check_call(self, x: Source, batch: bool, training: bool) -> None:
        """What depends on the mode: the epsilon, and whether one value a feature will do."""
        rules, epsilon = self.dialect.rules, self._get("epsilon")
        if rules.epsilon == "positive" and epsilon <= 0:
            argument = self.names["epsilon"]
            if batch:
                self._fail("epsilon", argument, "more than zero", repr(epsilon), epsilon=epsilon)
            if epsilon < 0:
                self._fail("epsilon_negative", argument, "zero or more", repr(epsilon), epsilon=epsilon)
        if batch and rules.single_value == "refuse" and x.size and x.size == x.shape[self._get("axis")]:
            why = "" if training else f" ({self.names['track']} is False, so evaluation needs them too)"
            expected = "more than one value for each feature, to take statistics of" + why
            self._refuse("single_value", expected, f"shape {x.shape}", shape=listed(x.shape))

    def _refuse(self, condition: str, expected: str, found: str, **fields: object) -> NoReturn:
        self._fail(condition, "input", expected, found, **fields)


@cache
def _ranks(accepts: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """The least and the most dimensions of each accepted shape."""
    words = [pattern.split() for pattern in accepts]
    return tuple((len(one) - 1, math.inf) if "..." in one else (len(one), len(one)) for one in words)


class _Nothing:
    """A context that is none, for evaluation, where nothing is changed."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_nothing = _Nothing()


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
    """Normalize by the batch in training, which updates ``mean`` and ``variance`` in place; else by these two."""
    x = source(input)
    if x is None:
        found = type(input).__name__
        speaker.fail("input_type", "input", "a tensor or a NumPy array", found, type=found)
    _check_function_input(speaker, x, training)
    vectors = {"mean": mean, "variance": variance, "scale": scale, "shift": shift}
    for name in ("mean", "variance"):
        if vectors[name] is None and (not training or (mean is None) != (variance is None)):
            speaker.fail("statistics_missing", name, "running statistics", "None")
    updated = ("mean", "variance") if training else ()
    state = {name: _checked_vector(speaker, x, name, one, name in updated) for name, one in vectors.items()}
    if not isinstance(update_rate, numbers.Real):
        found = type(update_rate).__name__
        speaker.fail("update_rate_type", "update_rate", "float", found, type=found)
    if speaker.dialect.rules.epsilon == "positive" and not (epsilon > 0 or (epsilon == 0 and not training)):
        condition, wanted = ("epsilon", "more than zero") if training else ("epsilon_negative", "zero or more")
        speaker.fail(condition, "epsilon", wanted, repr(epsilon), epsilon=epsilon)
    if not x.size:
        return cast(ArrayT, x.wrap(np.empty_like(x.array)))
    rate = update_rate if training and mean is not None else None
    y = _normalize(x, state, axis=1, epsilon=epsilon, batch=training, rate=rate, unbiased=True)
    return cast(ArrayT, x.wrap(y))


def _check_function_input(speaker: Speaker, x: Source, training: bool) -> None:
    found = f"shape {x.shape}"
    if len(x.shape) < 2:
        fields = {"ranks": "2D or more", "rank": len(x.shape), "shape": listed(x.shape)}
        speaker.fail("rank", "input", "(N, C, ...)", found, **fields)
    if x.dtype not in FLOATING:
        called = _called(speaker.dialect, x.dtype)
        speaker.fail("input_float", "input", one_of(list(FLOATING)), x.dtype, dtype=called)
    if training and x.size and x.size == x.shape[1] and speaker.dialect.rules.single_value == "refuse":
        expected = "more than one value for each feature"
        speaker.fail("single_value", "input", expected, found, shape=listed(x.shape))


def _checked_vector(speaker: Speaker, x: Source, name: str, value: Array | None, updated: bool) -> Tensor | None:
    """A vector of the function as a tensor, of the right length, floating-point and writeable if it is updated."""
    if value is None:
        return None
    tensor = value if isinstance(value, Tensor) else Tensor(value)
    length = x.shape[1]
    if tensor.shape != (length,):
        sizes = {"expected": length, "found": tensor.size}
        speaker.fail("vector_shape", name, f"shape {(length,)}", f"shape {tensor.shape}", **sizes)
    if not tensor.dtype.is_floating_point:
        speaker.fail("vector_dtype", name, one_of(list(FLOATING)), tensor.dtype.name, dtype=tensor.dtype.name)
    if updated and isinstance(tensor.array, np.ndarray) and not tensor.array.flags.writeable:
        speaker.fail("vector_dtype", name, "memory that can be written", "read-only memory", dtype=tensor.dtype.name)
    if tensor.device != x.device:
        speaker.fail("device_mixed", name, x.device, tensor.device)
    return tensor


def _called(dialect: Dialect, dtype: str) -> str:
    """What the messages of a dialect call an element type."""
    return dialect.printing.scalars.get(dtype, dtype)


def _normalize(
    x: Source,
    state: Mapping[str, Tensor | None],
    *,
    axis: int,
    epsilon: float,
    batch: bool,
    rate: float | None,
    unbiased: bool,
) -> Any:
    """Run the kernels. Vectors that a kernel cannot use go in as copies, and come back only after it succeeded."""
    kind = x.device.partition(":")[0]
    backend = kernels.on(kind)
    if kind == "cpu":
        y, x3, y3 = feature_views(x.array, axis)
    else:
        y, x3, y3 = device_views(x.array, axis, devices.cuda().empty_like)
    vectors = {name: None if one is None else _vector(one, kind) for name, one in state.items()}
    if not batch:
        mean, variance = vectors["mean"], vectors["variance"]
        backend.normalize(x3, y3, mean, variance, vectors["scale"], vectors["shift"], epsilon)
        return y
    running = {name: vectors[name] if rate is not None else None for name in ("mean", "variance")}
    backend.forward_training(
        x3,
        y3,
        vectors["scale"],
        vectors["shift"],
        running["mean"],
        running["variance"],
        epsilon,
        0.0 if rate is None else rate,
        unbiased,
    )
    for name, vector in running.items():
        tensor = state[name]
        if vector is not None and tensor is not None and vector is not tensor.array:
            tensor.copy_(Tensor(vector))
    return y


def _vector(tensor: Tensor, kind: str) -> Any:
    """A contiguous float32 or float64 array for a kernel: the tensor's own if it is one already."""
    dtype = tensor.dtype.name
    if kind == "cpu":
        array = tensor.array
        fits = dtype in ("float32", "float64") and array.flags.c_contiguous and array.dtype.isnative
        return array if fits else np.ascontiguousarray(array, at_least_float32(dtype))
    if dtype in ("float32", "float64"):
        return tensor.array
    return devices.cuda().to_device(tensor.numpy().astype(at_least_float32(dtype)))
