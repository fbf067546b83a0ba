# Generated from specs/storch/ by `normspec generate`. Edit the specs, never this file.
"""What is storch's own: its rules, its printing and its words, and the types that carry them."""

from __future__ import annotations

from normspec import runtime
from normspec.runtime.dialect import Dialect, Message, Printing, Rules, TensorPrinting

DIALECT = Dialect(
    name="storch",
    rules=Rules(
        input_dtype="parameter_or_half",
        single_value="refuse",
        epsilon="any",
        counter_dtype="at_least_float32",
        statistics_dtype="at_least_float32",
        parameters="parameters",
        assigned="shape",
        gradients=True,
        containers=False,
        integer_dtype="int32",
        dtype_names="exact",
        state_dict="kept",
        load="copy",
    ),
    printing=Printing(
        dtype="{name}",
        devices={
            "cpu": "CPU",
            "cuda": "CUDA:{index}",
        },
        tensor=TensorPrinting(
            frame="tensor dtype={dtype}, shape={size}, device={device} \n{data}",
            nested="",
            parameter="{tensor}",
            numbers="fixed",
            lines="text",
            threshold=0,
            plain_dtypes=("float32",),
            extras=(),
        ),
        module="arguments",
        member="",
        child="",
        scalars={
            "bool": "Bool",
            "uint8": "Byte",
            "int8": "Char",
            "int16": "Short",
            "int32": "Int",
            "int64": "Long",
            "complex64": "ComplexFloat",
            "complex128": "ComplexDouble",
        },
        state_dict="dict",
    ),
    messages={
        "features_type": Message(
            TypeError,
            "numFeatures: Int expected, found {type}",
        ),
        "features_negative": Message(
            RuntimeError,
            "Trying to create tensor with negative dimension {features}: [{features}]",
        ),
        "epsilon_type": Message(
            TypeError,
            "eps: Double expected, found {type}",
        ),
        "update_rate_type": Message(
            TypeError,
            "momentum: Double expected, found {type}",
        ),
        "dtype_type": Message(
            TypeError,
            "ParamType: FloatNN expected, found {dtype}",
        ),
        "dtype_float": Message(
            TypeError,
            "ParamType: FloatNN expected, found {dtype}",
        ),
        "vector_shape": Message(
            RuntimeError,
            "{name} should contain {expected} elements not {found}",
        ),
        "vector_dtype": Message(
            RuntimeError,
            "mixed dtype (CPU): expect parameter to have scalar type of Float",
        ),
        "read_only": Message(
            RuntimeError,
            "{argument} cannot be updated in place: it is {found}",
        ),
        "statistics_missing": Message(
            RuntimeError,
            "{name} must be defined in evaluation mode",
        ),
        "statistics_single": Message(
            RuntimeError,
            "running_mean and running_var must either both be None or neither be None",
        ),
        "input_type": Message(
            TypeError,
            "Tensor expected, found {type}",
        ),
        "input_memory": Message(
            RuntimeError,
            "the input cannot be taken as it is",
        ),
        "rank": Message(
            RuntimeError,
            "expected {ranks} input (got {rank}D input)",
        ),
        "features": Message(
            RuntimeError,
            "running_mean should contain {found} elements not {expected}",
        ),
        "input_float": Message(
            RuntimeError,
            "\"batch_norm\" not implemented for '{dtype}'",
        ),
        "input_dtype": Message(
            RuntimeError,
            "mixed dtype (CPU): all inputs must share same datatype.",
        ),
        "single_value": Message(
            RuntimeError,
            "Expected more than 1 value per channel when training, got input size {shape}",
        ),
        "device_mixed": Message(
            RuntimeError,
            "Expected all tensors to be on the same device, but found at least two devices, {expected} and {found}!",
        ),
        "mode_type": Message(
            TypeError,
            "on: Boolean expected, found {type}",
        ),
        "load": Message(
            RuntimeError,
            "Error(s) in loading state_dict for {module}:{problems}",
        ),
        "state_shape": Message(
            RuntimeError,
            "The size of tensor {key} {expected} must match {found}",
        ),
        "state_type": Message(
            RuntimeError,
            "{key}: Tensor expected, found {type}",
        ),
        "state_mapping": Message(
            TypeError,
            "stateDict: Map expected, found {type}",
        ),
        "assign": Message(
            TypeError,
            "{key}: Tensor expected, found {type}",
        ),
        "device": Message(
            RuntimeError,
            "Expected one of {devices} device type at start of device string: {device}",
        ),
    },
)


class dtype(runtime.DType):
    """An element type, which prints as ``float32``."""

    dialect = DIALECT


float16 = dtype("float16")
bfloat16 = dtype("bfloat16")
float32 = dtype("float32")
float64 = dtype("float64")
int32 = dtype("int32")
int64 = dtype("int64")
bool = dtype("bool")


class Tensor(runtime.Tensor):
    """An array, the device it lives on and its element type; prints as in storch."""

    dialect = DIALECT
    dtype_type = dtype
    requiresGrad = runtime.Tensor.requires_grad
    isLeaf = runtime.Tensor.is_leaf


class Parameter(runtime.Parameter, Tensor):
    """A tensor that a module learns."""
