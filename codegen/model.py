"""What a template reads: flat, complete, and with nothing left to decide."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from normspec.runtime.dialect import Printing, Rules

from .vocabulary import annotation, resolved

WIDTH = 120


@dataclass(frozen=True)
class Argument:
    """One argument of a signature."""

    name: str
    canonical: str
    twin: str | None
    type: str
    default: str | None  # source text, None when the argument is required
    value: object  # the default itself, a dtype by its name
    keyword: bool
    variadic: bool
    attribute: bool
    constant: bool  # as an attribute
    doc: str
    attribute_doc: str

    @property
    def annotation(self) -> str:
        return annotation(self.type)

    @property
    def attribute_annotation(self) -> str:
        """What the attribute holds: what was given, but an element type in the place of its name."""
        return resolved(self.annotation).replace("DType | None", "DType")

    @property
    def source(self) -> str:
        if self.variadic:
            return f"*{self.name}: {self.annotation}"
        return f"{self.name}: {self.annotation}" + (f" = {self.default}" if self.default is not None else "")


@dataclass(frozen=True)
class Binding:
    """How one canonical parameter is set: by an argument, or by a fixed value."""

    canonical: str
    argument: str | None
    value: object = None

    @property
    def source(self) -> str:
        return self.argument or literal(self.value)


@dataclass(frozen=True)
class Example:
    """Code in doctest form, whose printed output is part of the promise."""

    code: str
    title: str | None
    origin: str


class Called:
    """What has a signature."""

    arguments: tuple[Argument, ...]

    @property
    def signature_parts(self) -> list[str]:
        return list(_starred(self.arguments))

    @property
    def twins(self) -> dict[str, str]:
        return {one.name: one.twin for one in self.arguments if one.twin}


@dataclass(frozen=True)
class Callable_(Called):
    """A function of a dialect, or a method of one of its modules."""

    name: str
    twin: str | None
    kind: str
    operator: str
    function: str
    arguments: tuple[Argument, ...]
    bindings: tuple[Binding, ...]
    result: str
    returns: str
    gives: str | None
    doc: str
    module: str
    examples: tuple[Example, ...]
    conditions: tuple[Condition, ...]
    speaks: bool  # whether it can refuse its arguments, in the dialect's words

    @property
    def told(self) -> list[str]:
        """What a function gets before its arguments: who speaks, if it does; the type of tensors, if it makes one."""
        return [f"_{self.name.upper()}"] * self.speaks + ["Tensor"] * (self.returns == "Tensor")

    @property
    def annotation(self) -> str:
        if self.kind == "view":
            inner = self.returns.removeprefix("Iterator[").removesuffix("]")
            pair = inner.removeprefix("tuple[str, ").removesuffix("]")
            return f"ListView[{annotation(inner)}]" if pair == inner else f"MapView[{annotation(pair)}]"
        if self.result == "sets":
            return "tuple[set[str], set[str]]"
        return "None" if self.result == "nothing" else resolved(annotation(self.returns))

    @property
    def spelling(self) -> dict[str, str]:
        """The names of the arguments, by what they are canonically."""
        return {one.canonical: one.name for one in self.arguments}

    def signature(self, first: str | None = "self") -> str:
        """The ``def`` line, or lines, as a formatter would leave them."""
        texts = ([first] if first else []) + (self.signature_parts if self.kind == "function" else [])
        line = f"def {self.name}({', '.join(texts)}) -> {self.annotation}:"
        indent = "    " if first else ""
        if len(indent + line) <= WIDTH:
            return line
        inner = "".join(f"{indent}    {text},\n" for text in texts)
        return f"def {self.name}(\n{inner}{indent}) -> {self.annotation}:"


@dataclass(frozen=True)
class Kept:
    """One tensor of a module, under its dialect's name."""

    name: str
    canonical: str
    twin: str | None
    shape: tuple[str, ...]
    axes: tuple[str, ...]  # the dialect's arguments for ``shape``
    init: str
    kind: str
    when: tuple[str, ...]
    switches: tuple[str, ...]  # the dialect's arguments for ``when``
    type: str
    dtype: str
    doc: str

    @property
    def annotation(self) -> str:
        return annotation(self.type)

    @property
    def attribute_annotation(self) -> str:
        return self.annotation

    @property
    def dtype_doc(self) -> str:
        """Its element type, in words."""
        own = "the parameters' element type"
        return {"parameter": own, "at_least_float32": f"{own} but float32 at least"}.get(self.dtype, self.dtype)

    @property
    def optional(self) -> bool:
        return "None" in self.type

    @property
    def none_when(self) -> str:
        return " or ".join(f"{switch}=False" for switch in self.switches)


@dataclass(frozen=True)
class Condition:
    """A misuse, and what the dialect makes of it."""

    name: str
    phase: str
    doc: str
    fields: tuple[str, ...]
    of: str | None  # the parameter that is misused
    needs: str | None  # what it must be instead
    raises: str | None
    text: str | None
    never: str | None


@dataclass(frozen=True)
class Deviation:
    """Where we knowingly differ from the original."""

    about: str
    clause: str
    original: str
    here: str
    document: str | None
    prints: str | None
    operator: str | None = None  # whose classes alone differ


@dataclass(frozen=True)
class Class(Called):
    """One generated class."""

    name: str
    dialect: str
    library: str  # the dialect's title
    operator: str
    module: str
    origin: str
    extension: str | None
    summary: str
    paragraphs: tuple[str, ...]
    equation: str
    latex: str
    source: str | None
    inputs: tuple[str, ...]
    shape: str | None
    output: str
    arguments: tuple[Argument, ...]
    bindings: tuple[Binding, ...]
    state: tuple[Kept, ...]
    names: Mapping[str, str]
    repr: str
    supertypes: tuple[str, ...]
    notes: tuple[str, ...]
    examples: tuple[Example, ...]
    deviations: tuple[Deviation, ...]
    omits: Mapping[str, str]
    conditions: tuple[Condition, ...]
    method: str
    input: str
    call_doc: str
    call_returns: str
    imports: tuple[str, ...]
    qualified: str
    meanings: Mapping[str, str]  # of the canonical parameters and states, in the operator's words

    @property
    def learns(self) -> bool:
        return bool(self.fixed("learns"))

    @property
    def spoken(self) -> dict[str, str]:
        """The names of arguments and states, by what they are canonically."""
        named: list[Argument | Kept] = [*self.arguments, *self.state]
        return {one.canonical: one.name for one in named}

    def fixed(self, canonical: str) -> object:
        """The value of a canonical parameter that is no argument."""
        return next((one.value for one in self.bindings if one.canonical == canonical and not one.argument), None)

    def nullable(self, canonical: str) -> bool:
        """Whether the argument for a canonical parameter may be None."""
        return any("None" in one.type for one in self.arguments if one.canonical == canonical)

    def kept(self, canonical: str) -> Kept | None:
        return next((one for one in self.state if one.canonical == canonical), None)

    @property
    def shapes(self) -> str:
        """The accepted inputs, for people: ``(N, C) or (N, C, L)``."""
        return " or ".join(f"({', '.join(shape.split())})" for shape in self.inputs)

    @property
    def twin_signature(self) -> list[str]:
        return list(_starred(dataclasses.replace(one, name=one.twin or one.name) for one in self.arguments))

    @property
    def attributes(self) -> list[Argument]:
        return [one for one in self.arguments if one.attribute]

    @property
    def constants(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.attributes if one.constant)

    def constraint(self, argument: Argument) -> str:
        """What an argument must be, as far as the dialect refuses anything else: ``an integer, zero or more``."""
        needs = (one.needs for one in self.conditions if one.of == argument.canonical and one.raises)
        return ", ".join(need for need in needs if need)

    @property
    def raises(self) -> list[Condition]:
        return [one for one in self.conditions if one.raises and one.phase in ("construct", "call")]

    @property
    def twinned(self) -> list[Argument | Kept]:
        """The attributes that have a second spelling."""
        spelled: list[Argument | Kept] = [*self.attributes, *self.state]
        return [one for one in spelled if one.twin]

    @property
    def call_name(self) -> str:
        return "forward" if self.method == "forward" else "__call__"

    @property
    def formula(self) -> str:
        """The arguments of the printed module, as source: ``f"eps={self.eps}"``."""
        kept = {one.name: one.name if one.attribute else f"_{one.canonical}" for one in self.arguments}
        text = self.repr.removeprefix(f"{self.name}(").removesuffix(")")
        body = text.format_map({name: f"{{self.{attribute}}}" for name, attribute in kept.items()})
        pieces = textwrap.wrap(body, 100, drop_whitespace=False, break_on_hyphens=False) or [""]
        lines = [f'f"{piece}"' if "{" in piece else f'"{piece}"' for piece in pieces]
        indent = "\n" + " " * 12
        return lines[0] if len(lines) == 1 else f"({indent}{indent.join(lines)}\n{' ' * 8})"


@dataclass(frozen=True)
class Trait:
    """A supertype of the classes of a dialect."""

    name: str
    extends: tuple[str, ...]
    doc: str
    methods: tuple[Callable_, ...]


@dataclass(frozen=True)
class Dialect:
    """One generated package."""

    name: str
    title: str
    reference: str
    source: str
    doc: str
    imports: tuple[str, ...]
    module: str
    twinned: bool
    rules: Rules
    printing: Printing
    dtypes: tuple[str, ...]
    aliases: Mapping[str, str]
    exceptions: Mapping[str, str]
    conditions: tuple[Condition, ...]
    methods: tuple[Callable_, ...]
    base: Trait  # Module, which all of them extend
    traits: tuple[Trait, ...]
    functions: tuple[Callable_, ...]
    names: tuple[str, ...]
    classes: tuple[Class, ...]
    deviations: tuple[Deviation, ...]
    method: str

    def classes_in(self, module: str) -> list[Class]:
        return [one for one in self.classes if one.module == module]

    def functions_in(self, module: str) -> list[Callable_]:
        return [one for one in self.functions if one.module == module]

    @property
    def spelling(self) -> dict[str, dict[str, str]]:
        """What methods call the arguments of the runtime's functions, as far as these call them otherwise."""
        pairs = ((one, one.spelling.items()) for one in self.methods)
        differ = {one.function: {key: name for key, name in names if key != name} for one, names in pairs}
        return {function: names for function, names in differ.items() if names}

    @property
    def messages(self) -> list[Condition]:
        return [one for one in self.conditions if one.text]

    @cached_property
    def modules(self) -> list[str]:
        """The dotted names of the public modules below the package, parents first."""
        named = {one.module for one in self.classes} | {one.module for one in self.functions}
        parents = {name.rpartition(".")[0] for name in named}
        return sorted((named | parents) - {""})


def literal(value: object) -> str:
    """A value as source; a string in the quotes that a formatter would choose: those that need fewer escapes."""
    if not isinstance(value, str):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    if value.count('"') > value.count("'"):
        return "'" + text[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
    return text


def _starred(arguments: Iterable[Argument]) -> Iterator[str]:
    """Source text for each argument, with a ``*`` before the first keyword-only one."""
    starred = False
    for argument in arguments:
        if argument.keyword and not starred:
            yield "*"
        starred = starred or argument.keyword or argument.variadic
        yield argument.source
