# Generated from specs/lucid/ by `normspec generate`. Edit the specs, never this file.
"""What is lucid's own: its rules, its printing and its words, and the types that carry them."""

from __future__ import annotations

from normspec import runtime
from normspec.runtime.dialect import Dialect, Message, Printing, Rules, TensorPrinting


class LucidError(RuntimeError):
    """An error of lucid."""


class ShapeMismatch(LucidError):
    """An error of lucid."""


class DtypeMismatch(LucidError):
    """An error of lucid."""


class DeviceMismatch(LucidError):
    """An error of lucid."""


DIALECT = Dialect(
    name="lucid",
    rules=Rules(
        input_dtype="any",
        single_value="accept",
        epsilon="any",
        counter_dtype="int64",
        statistics_dtype="at_least_float32",
        parameters="parameters",
        assigned="shape",
        gradients=True,
        containers=False,
        integer_dtype="int64",
        dtype_names="any_case",
        state_dict="detached",
        load="copy",
    ),
    printing=Printing(
        dtype="lucid.{name}",
        devices={
            "cpu": "cpu",
            "cuda": "cuda:{index}",
        },
        tensor=TensorPrinting(
            frame="tensor({data}{extras})",
            nested="",
            parameter="Parameter containing:\n{tensor}",
            numbers="adaptive",
            lines="text",
            threshold=1000,
            plain_dtypes=("float32",),
            extras=("device", "dtype", "requires_grad"),
        ),
        module="arguments",
        member="",
        child="",
        scalars={},
        state_dict="dict",
    ),
    messages={
        "features_type": Message(
            TypeError,
            "num_features must be an int, got {type}",
        ),
        "features_negative": Message(
            ValueError,
            "num_features must not be negative, got {features}",
        ),
        "epsilon_type": Message(
            TypeError,
            "eps must be a float, got {type}",
        ),
        "update_rate_type": Message(
            TypeError,
            "momentum must be a float or None, got {type}",
        ),
        "dtype_type": Message(
            ValueError,
            "Unknown dtype string: {dtype}",
        ),
        "dtype_float": Message(
            ValueError,
            "batch_norm: floating-point dtype required, got {dtype}",
        ),
        "vector_shape": Message(
            ShapeMismatch,
            "ShapeMismatch (batch_norm: {name} must have length C): expected [{expected}], got [{found}]",
        ),
        "vector_dtype": Message(
            DtypeMismatch,
            "DtypeMismatch (batch_norm): expected a floating-point {name}, got {dtype}",
        ),
        "read_only": Message(
            ValueError,
            "batch_norm: {argument} cannot be updated in place: it is {found}",
        ),
        "statistics_missing": Message(
            ValueError,
            "batch_norm: {name} is None, but the other running statistic is not",
        ),
        "statistics_single": Message(
            ValueError,
            "batch_norm: {name} is None, but the other running statistic is not",
        ),
        "input_type": Message(
            TypeError,
            "batch_norm: expected Tensor, got {type}",
        ),
        "input_memory": Message(
            ValueError,
            "batch_norm: the input cannot be taken as it is",
        ),
        "rank": Message(
            ValueError,
            "batch_norm: expected {ranks} input, got ndim={rank}",
        ),
        "features": Message(
            ShapeMismatch,
            "ShapeMismatch (batch_norm: γ/β must have length C): expected [{expected}], got {shape}",
        ),
        "input_float": Message(
            DtypeMismatch,
            "DtypeMismatch (batch_norm): expected a floating-point input, got {dtype}",
        ),
        "device_mixed": Message(
            DeviceMismatch,
            "DeviceMismatch (batch_norm): expected {expected}, got {found}",
        ),
        "mode_type": Message(
            TypeError,
            "train() requires a bool, got {type}",
        ),
        "load": Message(
            RuntimeError,
            "Error(s) in loading state_dict for {module}:{problems}",
        ),
        "unexpected_keys": Message(
            RuntimeError,
            "Unexpected key(s) in state_dict: {single}.",
        ),
        "missing_keys": Message(
            RuntimeError,
            "Missing key(s) in state_dict: {single}.",
        ),
        "state_shape": Message(
            RuntimeError,
            "size mismatch for {key}: expected {expected}, got {found}",
        ),
        "state_type": Message(
            RuntimeError,
            "While copying parameter '{key}', expected Tensor, got {type}",
        ),
        "state_mapping": Message(
            TypeError,
            "Expected state_dict to be dict-like, got {type}",
        ),
        "assign": Message(
            TypeError,
            "cannot assign '{type}' object as parameter '{key}'",
        ),
        "device": Message(
            ValueError,
            "Unknown device '{device}'. Use 'cuda' or 'cpu'.",
        ),
    },
    aliases={
        "half": "float16",
        "float": "float32",
        "double": "float64",
        "short": "int16",
        "int": "int32",
        "long": "int64",
        "bool_": "bool",
    },
)


class dtype(runtime.DType):
    """An element type, which prints as ``lucid.float32``."""

    dialect = DIALECT


float16 = dtype("float16")
bfloat16 = dtype("bfloat16")
float32 = dtype("float32")
float64 = dtype("float64")
int32 = dtype("int32")
int64 = dtype("int64")
bool = dtype("bool")


class Tensor(runtime.Tensor):
    """An array, the device it lives on and its element type; prints as in lucid."""

    dialect = DIALECT
    dtype_type = dtype


class Parameter(runtime.Parameter, Tensor):
    """A tensor that a module learns."""
