"""What a person writes in specs/: these dataclasses are the schema, reader.py enforces them.

An operator says what is computed, a dialect how one library spells it, a variant which class takes which input.
specs/README.md tells the same in prose; generated/schema/ holds it as JSON Schema, for editors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from normspec.runtime.dialect import Printing, Rules

Default = int | float | bool | str | None


class Required:
    """Stands for the default that a required argument has not; never written in a spec."""


REQUIRED = Required()


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter of an operator or of one of its functions; its key is its canonical name."""

    type: str
    doc: str
    where: str = ""


@dataclass(frozen=True)
class StateSpec:
    """A tensor that an operator keeps between calls, while the parameters ``when`` are true.

    A dialect's rule says its ``dtype``; if none does, it is that of the parameters.
    """

    shape: tuple[str, ...]
    init: Literal["zeros", "ones", "arange", "zero"]
    kind: Literal["parameter", "buffer"]
    doc: str
    dtype: Literal["counter_dtype", "statistics_dtype"] | None = None
    when: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class ConditionSpec:
    """A misuse that is refused; ``fields`` may stand in a dialect's message, ``of`` is the parameter that it is of."""

    phase: Literal["construct", "call", "load", "mode", "move"]
    fields: tuple[str, ...]
    doc: str
    of: str | None = None
    needs: str | None = None
    where: str = ""


@dataclass(frozen=True)
class FunctionSpec:
    """A function of the runtime that dialects give a name of their own; ``raises`` are conditions."""

    doc: str
    returns: str
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)
    raises: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class OperatorSpec:
    """specs/operators/NAME.yaml: the semantics, said once, in canonical names; ``raises``: of others' conditions."""

    operator: str
    title: str
    doc: str
    equation: str | None = None
    latex: str | None = None
    source: str | None = None
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)
    state: dict[str, StateSpec] = field(default_factory=dict)
    functions: dict[str, FunctionSpec] = field(default_factory=dict)
    raises: tuple[str, ...] = ()
    conditions: dict[str, ConditionSpec] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class ArgumentSpec:
    """A dialect's spelling of one canonical parameter."""

    binds: str
    type: str | None = None
    default: Default | Required = REQUIRED
    keyword: bool = False
    variadic: bool = False
    attribute: bool = True
    constant: bool = False
    doc: str | None = None
    attribute_doc: str | None = None
    where: str = ""


@dataclass(frozen=True)
class ExampleSpec:
    """An example as the document has it, in its Python form; what it prints is checked."""

    code: str
    title: str | None = None
    origin: Literal["document", "ours"] = "document"
    where: str = ""


@dataclass(frozen=True)
class CallableSpec:
    """A method or function of a dialect: which function of the runtime it is, and how its arguments are spelled."""

    does: str
    parameters: dict[str, ArgumentSpec] = field(default_factory=dict)
    fixed: dict[str, Default] = field(default_factory=dict)
    kind: Literal["function", "property", "view"] = "function"
    result: Literal["same", "nothing", "sets"] = "same"
    returns: str | None = None
    gives: str | None = None
    doc: str | None = None
    module: str = ""
    examples: tuple[ExampleSpec, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class TraitSpec:
    """A supertype of the classes of a dialect."""

    doc: str
    extends: tuple[str, ...] = ()
    methods: dict[str, CallableSpec] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class KeptSpec:
    """How a dialect names a state of the operator."""

    keeps: str
    init: Literal["zeros", "ones", "arange", "zero"] | None = None
    kind: Literal["parameter", "buffer"] | None = None
    type: str | None = None
    alias: str | None = None
    doc: str | None = None
    where: str = ""


@dataclass(frozen=True)
class MessageSpec:
    """What a dialect says of a condition; or why it never arises."""

    raises: str | None = None
    text: str | None = None
    never: str | None = None
    where: str = ""


@dataclass(frozen=True)
class DeviationSpec:
    """Where we knowingly differ: from the original's code, or from the letter of its document.

    In classes of one ``operator``, or in all.
    """

    about: str
    original: str
    here: str
    clause: str
    operator: str | None = None
    document: str | None = None
    prints: str | None = None
    where: str = ""


@dataclass(frozen=True)
class CallSpec:
    """How a module of this dialect is called."""

    method: Literal["forward", "apply", "__call__"]
    input: str
    doc: str
    returns: str


@dataclass(frozen=True)
class SpelledSpec:
    """How one operator is spelled: the parameters, the state and the words of its classes."""

    parameters: dict[str, ArgumentSpec]
    fixed: dict[str, Default]
    state: dict[str, KeptSpec]
    omits: dict[str, str] = field(default_factory=dict)
    call: str | None = None
    returns: str | None = None
    text: str = ""
    notes: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class DialectSpec:
    """specs/DIALECT/dialect.yaml: one library's names, order, defaults and ways."""

    dialect: str
    title: str
    reference: str
    source: str
    doc: str
    imports: tuple[str, ...]
    operators: dict[str, SpelledSpec]
    call: CallSpec
    rules: Rules
    printing: Printing
    dtypes: tuple[str, ...]
    messages: dict[str, MessageSpec]
    module: str = ""
    twins: bool = False
    aliases: dict[str, str] = field(default_factory=dict)
    exceptions: dict[str, str] = field(default_factory=dict)
    methods: dict[str, CallableSpec] = field(default_factory=dict)
    traits: dict[str, TraitSpec] = field(default_factory=dict)
    functions: dict[str, CallableSpec] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    deviations: tuple[DeviationSpec, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class VariantSpec:
    """specs/DIALECT/CLASS.yaml: one class, named after its file."""

    variant: str
    operator: str
    summary: str
    input: tuple[str, ...]
    repr: str
    supertypes: tuple[str, ...]
    origin: str
    module: str = ""
    extension: str | None = None
    text: str = ""
    shape: str | None = None
    output: str = "the same shape"
    notes: tuple[str, ...] = ()
    examples: tuple[ExampleSpec, ...] = ()
    deviations: tuple[DeviationSpec, ...] = ()
    where: str = ""
