"""The closed list of ways in which dialects differ, as data; behaviour elsewhere in the runtime obeys it.

A generated package holds one ``Dialect``. The same classes are the schema of those parts of specs/*/dialect.yaml, so a
rule that nothing obeys cannot be written, and one that is obeyed cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Rules:
    """Which of the known behaviours a dialect has."""

    input_dtype: Literal["any", "parameter", "parameter_or_half"]
    """Input accepted beside parameters: any float; theirs alone; theirs, or 16-bit beside float32."""
    single_value: Literal["refuse", "accept"]
    """What happens when batch statistics would rest on one value per feature."""
    epsilon: Literal["positive", "any"]
    """Whether a training step refuses an epsilon of zero or less (evaluation: less than zero)."""
    counter_dtype: Literal["int64", "at_least_float32", "none"]
    """Element type of the batch counter: int64, or the parameters' but never of 16 bits; none if there is none."""
    statistics_dtype: Literal["at_least_float32", "parameter"]
    """Element type of the running statistics of a module whose parameters are 16-bit."""
    parameters: Literal["tensors", "parameters"]
    """What a module registers when it is assigned: every tensor, or parameters only."""
    assigned: Literal["shape", "shape_and_dtype"]
    """What a tensor must have of the one in whose place it is assigned."""
    gradients: bool
    """Whether gradients of parameters are wanted unless told otherwise; not where there is no training."""
    containers: bool
    """Whether lists and dicts of modules are children."""
    integer_dtype: Literal["int32", "int64"]
    """Element type of a tensor made from Python integers."""
    dtype_names: Literal["exact", "any_case"]
    """Whether a text that names an element type may have capitals."""
    state_dict: Literal["detached", "kept"]
    """What a state dict holds: tensors of the same memory that want no gradient, or the module's own tensors."""
    load: Literal["copy", "replace"]
    """Whether loading copies values into the tensors of a module or puts the given tensors in their place."""


@dataclass(frozen=True)
class TensorPrinting:
    """How a tensor prints; ``{data}`` is laid out by NumPy."""

    frame: str
    """The text, with {data}, {dtype}, {device}, {shape}, {size} and {extras}."""
    nested: str = ""
    """The text when there is more than one row, if it differs."""
    parameter: str = "{tensor}"
    """The text of a parameter, with {tensor}."""
    numbers: Literal["fixed", "adaptive"] = "fixed"
    """Four decimals always, or as few as the values need and exponents where they help."""
    lines: Literal["text", "columns"] = "text"
    """Whether lines are as full of text as they can be, or of numbers as if all had the width of the widest."""
    threshold: int = 1000
    """More elements than this are abbreviated to three at each end of an axis."""
    plain_dtypes: tuple[str, ...] = ("float32",)
    """Element types that ``{extras}`` does not tell."""
    extras: tuple[Literal["device", "dtype", "requires_grad", "grad_fn"], ...] = ()
    """What ``{extras}`` tells, in this order, where it is not the default; ``grad_fn`` takes requires_grad's place."""


@dataclass(frozen=True)
class Printing:
    """How a dialect prints."""

    dtype: str
    """An element type, with {name}."""
    devices: Mapping[str, str]
    """What stands for each kind of device; ``{index}`` is its number."""
    tensor: TensorPrinting
    module: Literal["arguments", "members"]
    """A module as its arguments and children, or as its tensors and children."""
    member: str = ""
    """A tensor of a module that prints as its members, with {name}, {shape} and {dtype}."""
    child: str = ""
    """A module inside one that prints as its members, with {name} and {module}."""
    scalars: Mapping[str, str] = field(default_factory=dict)
    """What messages call element types, where that is not their name."""
    state_dict: Literal["dict", "lines"] = "dict"
    """A state dict as Python prints a dict, or an entry a line with bare keys."""


@dataclass(frozen=True)
class Message:
    """What a dialect says of one condition, and how it raises it."""

    type: type[Exception]
    text: str


@dataclass(frozen=True)
class Dialect:
    """One library's ways."""

    name: str
    rules: Rules
    printing: Printing
    messages: Mapping[str, Message] = field(repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict)  # further names of element types
