"""The clauses that a function has; it keeps nothing, so most do not apply."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from normspec.codegen.model import Callable_, Dialect
from normspec.runtime import DType, Tensor

from .cases import FLOATS, TOLERANCE, resolve
from .clauses import Omitted, Unshared, check_signature
from .oracle import Oracle

SHAPE = (4, 3, 5)


class FunctionCase:
    """A dialect's function for batch normalization."""

    def __init__(self, dialect: Dialect, one: Callable_) -> None:
        self.dialect, self.one = dialect, one
        self.qualified = ".".join(part for part in (dialect.name, one.module, one.name) if part)
        self.function = resolve(self.qualified)
        self.names = {argument.canonical: argument.name for argument in one.arguments}

    def call(self, x: Any, **canonical: Any) -> Any:
        """The function, its arguments given in canonical words."""
        return self.function(x, **{self.names[name]: value for name, value in canonical.items()})


def check(case: FunctionCase, clause: str) -> None:
    """Check one clause; Omitted if a function has none such."""
    if clause not in _CHECKS:
        raise Omitted("a function keeps nothing and has no methods")
    _CHECKS[clause](case)


def _signature(case: FunctionCase) -> None:
    check_signature(case.function, case.one.arguments, skip=0)


def _docstring(case: FunctionCase) -> None:
    doc = " ".join(inspect.cleandoc(case.function.__doc__).split())
    for argument in case.one.arguments:
        assert f"{argument.name} : {argument.type}" in doc, argument.name
        assert " ".join(argument.doc.split()) in doc, argument.name
    for condition in case.one.conditions:
        assert str(condition.raises) in doc, condition.name
        assert condition.doc in doc, condition.name


def _vectors() -> dict[str, Any]:
    random = np.random.default_rng(1)
    names = ("mean", "variance", "scale", "shift")
    return {name: random.uniform(0.5, 2.0, 3).astype(np.float32) for name in names}


def _gradients(case: FunctionCase) -> None:
    random, given = np.random.default_rng(2), _vectors()
    x, dy = random.normal(3, 2, (2, *SHAPE))
    for training in (True, False):
        leaves = {"x": Tensor(x), "scale": Tensor(given["scale"]), "shift": Tensor(given["shift"])}
        for one in leaves.values():
            one.requires_grad_()
        vectors = {name: Tensor(given[name].copy()) if name in ("mean", "variance") else leaves[name] for name in given}
        case.call(leaves["x"], **vectors, training=training).backward(dy)
        for name, expected in _oracle(given).gradients(x, dy, training).items():
            np.testing.assert_allclose(leaves[name].grad.numpy(), expected, rtol=1e-6, atol=1e-6, err_msg=name)


class _Run(NamedTuple):
    """One call, and what it must have computed and remembered."""

    y: Any
    wanted: Any
    vectors: dict[str, Any]
    oracle: Oracle


def _runs(case: FunctionCase) -> Iterator[_Run]:
    """Calls with every element type, set of vectors and mode."""
    sets = (("mean", "variance"), ("mean", "variance", "scale"), ("mean", "variance", "scale", "shift"), ())
    for dtype, given in itertools.product(("float32", "float64"), sets):
        for training in (True, False) if given else (True,):
            vectors = {name: value for name, value in _vectors().items() if name in given}
            x = np.random.default_rng(0).normal(3, 2, SHAPE).astype(dtype)
            oracle = _oracle(vectors)
            missing = {name: None for name in ("mean", "variance") if name not in given}
            y = case.call(x, training=training, **vectors, **missing)
            assert y.dtype == dtype
            yield _Run(y, oracle(x, training), vectors, oracle)


def _output(case: FunctionCase) -> None:
    for run in _runs(case):
        tolerance = TOLERANCE[run.y.dtype.name]
        np.testing.assert_allclose(run.y, run.wanted, rtol=tolerance, atol=tolerance)


def _statistics(case: FunctionCase) -> None:
    for run in _runs(case):
        for name in {"mean", "variance"} & set(run.vectors):
            np.testing.assert_allclose(run.vectors[name], getattr(run.oracle, name), rtol=3e-7, err_msg=name)


def _oracle(vectors: dict[str, Any]) -> Oracle:
    wide = {name: vectors[name].astype(np.float64) if name in vectors else None for name in _vectors()}
    return Oracle(3, 1e-5, 0.1, True, True, wide["scale"], wide["shift"], wide["mean"], wide["variance"])


PROVOKE: dict[str, dict[str, Any]] = {
    "input_type": {"input": "text"},
    "rank": {"input": np.ones(3, np.float32)},
    "input_float": {"input": np.ones(SHAPE, np.int64)},
    "single_value": {"input": np.ones((1, 3, 1), np.float32)},
    "statistics_missing": {"mean": None, "training": False},
    "statistics_single": {"mean": None},
    "input_memory": {"input": Unshared()},
    "read_only": {"mean": np.broadcast_to(np.float32(0), 3)},
    "vector_shape": {"scale": np.ones(5, np.float32)},
    "vector_dtype": {"scale": np.ones(3, np.int64)},
    "update_rate_type": {"update_rate": "fast"},
    "epsilon_type": {"epsilon": "small"},
    "epsilon": {"epsilon": 0.0},
    "epsilon_negative": {"epsilon": -1.0, "training": False},
}


def _errors(case: FunctionCase) -> None:
    assert {one.name for one in case.one.conditions} <= {*PROVOKE, "device_mixed"}  # which takes a second device
    for condition in case.one.conditions:
        if condition.name not in PROVOKE:
            continue
        given = {"input": np.ones(SHAPE, np.float32), "training": True, **_vectors(), **PROVOKE[condition.name]}
        before = {name: np.copy(value) for name, value in given.items()}
        try:
            case.call(given.pop("input"), **given)
        except Exception as error:
            text = re.sub(r"\\{(\w+)\\}", "(.+)", re.escape(condition.text or ""))
            assert type(error).__name__ == condition.raises, f"{condition.name}: {error!r}"
            argument = "|".join(case.names.values())
            assert re.fullmatch(rf"{text}\nbatch_norm: ({argument}): expected .+, found .+", str(error)), error
        else:
            raise AssertionError(f"{condition.name}: nothing was raised")
        for name, value in given.items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)


def _dtypes(case: FunctionCase) -> None:
    vectors = {name: Tensor(value) for name, value in _vectors().items()}
    for dtype in FLOATS:
        x = np.ones(SHAPE).astype(DType(dtype).numpy)
        assert case.call(x, training=False, **vectors).dtype == DType(dtype)


_CHECKS = {
    "signature": _signature,
    "docstring": _docstring,
    "output": _output,
    "statistics": _statistics,
    "gradients": _gradients,
    "dtypes": _dtypes,
    "errors": _errors,
}
