# Generated from specs/nvtripy/ by `normspec generate`. Edit the specs, never this file.
"""What is nvtripy's own: its rules, its printing and its words, and the types that carry them."""

from __future__ import annotations

from normspec import runtime
from normspec.runtime.dialect import Dialect, Message, Printing, Rules, TensorPrinting


class TripyException(Exception):
    """An error of nvtripy."""


DIALECT = Dialect(
    name="nvtripy",
    rules=Rules(
        input_dtype="parameter",
        single_value="accept",
        epsilon="any",
        counter_dtype="none",
        statistics_dtype="parameter",
        parameters="tensors",
        assigned="shape_and_dtype",
        gradients=False,
        containers=True,
        integer_dtype="int32",
        dtype_names="exact",
        state_dict="kept",
        load="replace",
    ),
    printing=Printing(
        dtype="{name}",
        devices={
            "cpu": "cpu:0",
            "cuda": "gpu:{index}",
        },
        tensor=TensorPrinting(
            frame="tensor({data}, dtype={dtype}, loc={device}, shape={shape})",
            nested="tensor(\n    {data}, \n    dtype={dtype}, loc={device}, shape={shape})",
            parameter="{tensor}",
            numbers="fixed",
            lines="text",
            threshold=1000,
            plain_dtypes=("float32",),
            extras=(),
        ),
        module="members",
        member="{name}: Parameter = (shape={shape}, dtype={dtype}),",
        child="{name}: Module = {module},",
        scalars={},
        state_dict="lines",
    ),
    messages={
        "features_type": Message(
            TripyException,
            "For parameter: 'num_features', expected an instance of type: 'int' but got argument of type: '{type}'.",
        ),
        "features_negative": Message(
            TripyException,
            "For parameter: 'num_features', expected zero or more features but got {features}.",
        ),
        "epsilon_type": Message(
            TripyException,
            "For parameter: 'eps', expected an instance of type: 'float' but got argument of type: '{type}'.",
        ),
        "dtype_type": Message(
            TripyException,
            "For parameter: 'dtype', expected an instance of type: 'dtype' but got argument of type: '{type}'.",
        ),
        "dtype_float": Message(
            TripyException,
            "Unsupported data type for {module}: expected a floating-point type but got {dtype}.",
        ),
        "vector_shape": Message(
            TripyException,
            "broadcast dimensions must be conformable",
        ),
        "input_type": Message(
            TripyException,
            "For parameter: 'x', expected an instance of type: 'Tensor' but got argument of type: '{type}'.",
        ),
        "input_memory": Message(
            TripyException,
            "The input cannot be taken as it is.",
        ),
        "rank": Message(
            TripyException,
            "Input is expected to have shape (N, C, ...). Got {shape} which has rank {rank}.",
        ),
        "features": Message(
            TripyException,
            "broadcast dimensions must be conformable",
        ),
        "input_float": Message(
            TripyException,
            "Unsupported data type for '__sub__'.",
        ),
        "input_dtype": Message(
            TripyException,
            "Mismatched data types for '__sub__'. Parameters: 'self' and 'other' must have matching "
            "data types, but got: '{dtype}' and '{expected}' respectively.",
        ),
        "device_mixed": Message(
            TripyException,
            "Expected the input on the device of the parameters, {expected}, but it is on {found}.",
        ),
        "size_type": Message(
            TripyException,
            "For parameter: '{argument}', expected an instance of type: 'int' but got argument of type: '{type}'.",
        ),
        "size_negative": Message(
            TripyException,
            "For parameter: '{argument}', expected zero or more features but got {found}.",
        ),
        "width": Message(
            TripyException,
            "contracting dimension sizes must match for lhs/rhs",
        ),
        "operand_float": Message(
            TripyException,
            "Unsupported data type for '__matmul__'.",
        ),
        "operand_dtype": Message(
            TripyException,
            "Mismatched data types for '__matmul__'. Parameters: 'self' and 'other' must have matching "
            "data types, but got: '{dtype}' and '{expected}' respectively.",
        ),
        "load": Message(
            TripyException,
            "state_dict is incompatible.{problems}",
        ),
        "missing_keys": Message(
            TripyException,
            "Missing keys: [{single}]",
        ),
        "unexpected_keys": Message(
            TripyException,
            "Unexpected keys: [{single}]",
        ),
        "state_shape": Message(
            TripyException,
            "For parameter: {key}, new parameter is not compatible with the existing parameter. New "
            "parameter shape: {found} is not compatible with current shape: {expected}",
        ),
        "state_dtype": Message(
            TripyException,
            "For parameter: {key}, new parameter is not compatible with the existing parameter. New "
            "parameter dtype: {found} is not compatible with current dtype: {expected}",
        ),
        "state_type": Message(
            TripyException,
            "Unrecognized type for module parameter. Expected a tensor for parameter: '{key}', but got: {type}",
        ),
        "state_mapping": Message(
            TripyException,
            "For parameter: 'state_dict', expected an instance of type: 'dict' but got argument of type: '{type}'.",
        ),
        "assign": Message(
            TripyException,
            "Unrecognized type for module parameter. Expected a tensor for parameter: '{key}', but got: {type}",
        ),
        "constant": Message(
            TripyException,
            "Field: '{name}' of class: '{module}' is immutable",
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
    """An array, the device it lives on and its element type; prints as in nvtripy."""

    dialect = DIALECT
    dtype_type = dtype


class Parameter(runtime.Parameter, Tensor):
    """A tensor that a module learns."""
