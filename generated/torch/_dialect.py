# Generated from specs/torch/ by `normspec generate`. Edit the specs, never this file.
"""What is PyTorch's own: its rules, its printing and its words, and the types that carry them."""

from __future__ import annotations

from normspec import runtime
from normspec.runtime.dialect import Dialect, Message, Printing, Rules, TensorPrinting

DIALECT = Dialect(
    name="torch",
    rules=Rules(
        input_dtype="parameter_or_half",
        single_value="refuse",
        epsilon="positive",
        counter_dtype="int64",
        statistics_dtype="at_least_float32",
        parameters="parameters",
        assigned="shape",
        gradients=True,
        containers=False,
        integer_dtype="int64",
        dtype_names="exact",
        state_dict="detached",
        load="copy",
    ),
    printing=Printing(
        dtype="torch.{name}",
        devices={
            "cpu": "cpu",
            "cuda": "cuda:{index}",
        },
        tensor=TensorPrinting(
            frame="tensor({data}{extras})",
            nested="",
            parameter="Parameter containing:\n{tensor}",
            numbers="adaptive",
            lines="columns",
            threshold=1000,
            plain_dtypes=("float32", "int64", "bool"),
            extras=("device", "dtype", "requires_grad", "grad_fn"),
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
            "empty(): argument 'size' (position 1) must be tuple of ints, not {type}",
        ),
        "features_negative": Message(
            RuntimeError,
            "Trying to create tensor with negative dimension {features}: [{features}]",
        ),
        "epsilon_type": Message(
            TypeError,
            "'<=' not supported between instances of '{type}' and 'float'",
        ),
        "update_rate_type": Message(
            TypeError,
            "batch_norm(): argument 'momentum' (position 7) must be float, not {type}",
        ),
        "dtype_type": Message(
            TypeError,
            "empty(): argument 'dtype' must be torch.dtype, not {type}",
        ),
        "dtype_float": Message(
            RuntimeError,
            "Only Tensors of floating point and complex dtype can require gradients",
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
            ValueError,
            "{argument} cannot be updated in place: it is {found}",
        ),
        "statistics_missing": Message(
            RuntimeError,
            "{name} must be defined in evaluation mode",
        ),
        "statistics_single": Message(
            ValueError,
            "running_mean and running_var must either both be None or neither be None",
        ),
        "input_type": Message(
            AttributeError,
            "'{type}' object has no attribute 'dim'",
        ),
        "input_memory": Message(
            ValueError,
            "the input cannot be taken as it is",
        ),
        "rank": Message(
            ValueError,
            "expected {ranks} input (got {rank}D input)",
        ),
        "features": Message(
            RuntimeError,
            "running_mean should contain {found} elements not {expected}",
        ),
        "input_float": Message(
            NotImplementedError,
            "\"batch_norm\" not implemented for '{dtype}'",
        ),
        "input_dtype": Message(
            RuntimeError,
            "mixed dtype (CPU): all inputs must share same datatype.",
        ),
        "single_value": Message(
            ValueError,
            "Expected more than 1 value per channel when training, got input size torch.Size({shape})",
        ),
        "epsilon": Message(
            ValueError,
            "batch_norm eps must be positive during training, but got {epsilon}",
        ),
        "epsilon_negative": Message(
            ValueError,
            "batch_norm eps must be non-negative, but got {epsilon}",
        ),
        "statistics_gradient": Message(
            RuntimeError,
            "The function 'native_batch_norm' is not differentiable with respect to argument "
            "'{argument}'. This input cannot have requires_grad True.",
        ),
        "device_mixed": Message(
            RuntimeError,
            "Expected all tensors to be on the same device, but found at least two devices, {found} and {expected}!",
        ),
        "mode_type": Message(
            ValueError,
            "training mode is expected to be boolean",
        ),
        "load": Message(
            RuntimeError,
            "Error(s) in loading state_dict for {module}:{problems}",
        ),
        "missing_keys": Message(
            RuntimeError,
            "Missing key(s) in state_dict: {quoted}. ",
        ),
        "unexpected_keys": Message(
            RuntimeError,
            "Unexpected key(s) in state_dict: {quoted}. ",
        ),
        "state_shape": Message(
            RuntimeError,
            "size mismatch for {key}: copying a param with shape torch.Size({found}) from checkpoint, "
            "the shape in current model is torch.Size({expected}).",
        ),
        "state_type": Message(
            RuntimeError,
            'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object '
            "from checkpoint but received <class '{type}'>",
        ),
        "state_mapping": Message(
            TypeError,
            "Expected state_dict to be dict-like, got <class '{type}'>.",
        ),
        "assign": Message(
            TypeError,
            "cannot assign '{type}' as parameter '{key}' (torch.nn.Parameter or None expected)",
        ),
        "device": Message(
            RuntimeError,
            "Expected one of {devices} device type at start of device string: {device}",
        ),
    },
)


class dtype(runtime.DType):
    """An element type, which prints as ``torch.float32``."""

    dialect = DIALECT


float16 = dtype("float16")
bfloat16 = dtype("bfloat16")
float32 = dtype("float32")
float64 = dtype("float64")
int32 = dtype("int32")
int64 = dtype("int64")
bool = dtype("bool")


class Tensor(runtime.Tensor):
    """An array, the device it lives on and its element type; prints as in PyTorch."""

    dialect = DIALECT
    dtype_type = dtype


class Parameter(runtime.Parameter, Tensor):
    """A tensor that a module learns."""
