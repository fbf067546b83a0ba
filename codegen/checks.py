"""What can be wrong with a spec that has the shape of one."""

from __future__ import annotations

import builtins
import string
from collections.abc import Collection, Iterable, Mapping, Sequence

from .reader import Reader
from .schema import (
    CallableSpec,
    DialectSpec,
    MessageSpec,
    OperatorSpec,
    ParameterSpec,
    SpelledSpec,
    VariantSpec,
)
from .vocabulary import DTYPES, FRAME_FIELDS, MODULE_NAMES, NAMED_DTYPES, TYPES, legal, words

_RESERVED = {"self", "cls"}
_PUBLIC = {"Tensor", "Parameter", "Module", "dtype"}


def named_after(reader: Reader, file: str, name: str, where: str) -> None:
    """A spec says what it is, and so does its file or folder."""
    if file != name:
        reader.complain(where, f"{name!r} is in a file or folder named {file!r}")
    if not legal(name):
        reader.complain(where, f"{name!r} is no Python identifier")


def check_name(reader: Reader, name: str, where: str) -> None:
    """What is to be a name in Python."""
    if not legal(name) or name in _RESERVED or name.startswith("__"):
        reader.complain(where, f"{name!r} cannot be a name in Python")


def _check_parameters(reader: Reader, parameters: Mapping[str, ParameterSpec]) -> None:
    for name, parameter in parameters.items():
        check_name(reader, name, parameter.where)
        check_type(reader, name, parameter.type, parameter.where)


def check_operator(reader: Reader, operator: OperatorSpec) -> None:
    """The names, types and references of an operator."""
    _check_parameters(reader, operator.parameters)
    _check_functions(reader, operator)
    _check_state(reader, operator)
    _check_conditions(reader, operator)
    known = [*operator.parameters, *operator.state]
    for placeholder in placeholders(operator.equation or "", reader, operator.where):
        if placeholder not in known:
            problem = f"the equation has {placeholder!r}, which is nothing"
            reader.complain(operator.where, problem, placeholder, known)


def _check_functions(reader: Reader, operator: OperatorSpec) -> None:
    for called, function in operator.functions.items():
        check_name(reader, called, function.where)
        _check_parameters(reader, function.parameters)
        for name in function.raises:
            if name not in operator.conditions:
                problem = f"a function raises {name!r}, which is no condition"
                reader.complain(function.where, problem, name, operator.conditions)


def _check_state(reader: Reader, operator: OperatorSpec) -> None:
    for name, state in operator.state.items():
        check_name(reader, name, state.where)
        for word in (*state.when, *state.shape):
            if word not in operator.parameters:
                problem = f"{name!r} names {word!r}, which is no parameter"
                reader.complain(state.where, problem, word, operator.parameters)


def _check_conditions(reader: Reader, operator: OperatorSpec) -> None:
    for name, condition in operator.conditions.items():
        if condition.of is not None and condition.of not in operator.parameters:
            problem = f"{name!r} is of {condition.of!r}, which is no parameter"
            reader.complain(condition.where, problem, condition.of, operator.parameters)
        if (condition.of is None) != (condition.needs is None):
            reader.complain(condition.where, f"{name!r} needs both 'of' and 'needs', or neither")


def check_shared(reader: Reader, operators: Mapping[str, OperatorSpec]) -> None:
    """The conditions of other operators that an operator raises, too."""
    known = {name for operator in operators.values() for name in operator.conditions}
    for operator in operators.values():
        for name in operator.raises:
            if name not in known:
                problem = f"{operator.operator} raises {name!r}, which is no condition"
                reader.complain(operator.where, problem, name, known)


def check_type(reader: Reader, name: str, type_: str, where: str) -> bool:
    """What is to be a type, of the words that there are; whether it is one."""
    try:
        unknown = [word for word in words(type_) if word not in TYPES]
    except SyntaxError:
        reader.complain(where, f"the type of {name!r} is {type_!r}, which is no type")
        return False
    for word in unknown:
        reader.complain(where, f"the type of {name!r} has {word!r}, which is no type", word, TYPES)
    return not unknown


def check_counted(reader: Reader, spec: DialectSpec, operator: OperatorSpec, spelled: SpelledSpec) -> None:
    """Who averages over all batches must count them."""
    if spec.rules.counter_dtype != "none" or "count" not in operator.state:
        return
    for name, kept in spelled.state.items():
        if kept.keeps == "count":
            reader.complain(kept.where, f"{name!r} keeps 'count', but counter_dtype is none")
    if spelled.fixed.get("learns") is False:
        return
    needs = "may be None, an average over all batches, but counter_dtype is none: nothing counts them"
    if spelled.fixed.get("update_rate", 0) is None:
        reader.complain(spelled.where, f"'update_rate' {needs}")
    for name, argument in spelled.parameters.items():
        meaning = operator.parameters.get(argument.binds)
        if argument.binds == "update_rate" and meaning and "None" in (argument.type or meaning.type):
            reader.complain(argument.where, f"{name!r} {needs}")


def check_exceptions(reader: Reader, spec: DialectSpec) -> None:
    """A dialect's own exceptions, each of which extends one before it or one of Python's."""
    earlier: list[str] = []
    for name, base in spec.exceptions.items():
        check_name(reader, name, spec.where)
        check_exception(reader, base, spec.where, earlier)
        earlier.append(name)


def check_exception(reader: Reader, name: str | None, where: str, known: Collection[str]) -> None:
    """What is to be an exception: a known one or one of Python's."""
    builtin = getattr(builtins, name, None) if name else Exception
    if name not in known and not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        reader.complain(where, f"{name!r} is no exception", name or "", known)


def check_traits(reader: Reader, spec: DialectSpec) -> None:
    """The supertypes of a dialect, each of which extends some before it."""
    earlier = ["Module"]
    for name, trait in spec.traits.items():
        check_name(reader, name, trait.where)
        if not trait.extends:
            reader.complain(trait.where, f"{name!r} extends nothing")
        for other in trait.extends:
            if other not in earlier:
                reader.complain(trait.where, f"{name!r} extends {other!r}, which is no trait", other, earlier)
        earlier.append(name)


def check_printing(reader: Reader, spec: DialectSpec) -> None:
    """The texts of what prints, and their fields."""
    printing, where = spec.printing, spec.where
    texts: list[tuple[str, Sequence[str]]] = [(printing.dtype, ["name"]), (printing.tensor.parameter, ["tensor"])]
    texts += [(frame, FRAME_FIELDS) for frame in (printing.tensor.frame, printing.tensor.nested)]
    texts += [(device, ["index"]) for device in printing.devices.values()]
    texts += [(printing.member, ["name", "shape", "dtype"]), (printing.child, ["name", "module"])]
    for text, fields in texts:
        for placeholder in placeholders(text, reader, where):
            if placeholder not in fields:
                reader.complain(where, f"{text!r} has no field {placeholder!r}", placeholder, fields)
    if printing.module == "members" and not (printing.member and printing.child):
        reader.complain(where, "modules that print as members need 'member' and 'child', how each of these prints")
    for kind in printing.devices.keys() ^ {"cpu", "cuda"}:
        reader.complain(where, f"the devices must be cpu and cuda; {kind!r} is missing or not one")


def check_exported(reader: Reader, spec: DialectSpec) -> None:
    """What a dialect exports by name."""
    for dtype in spec.dtypes:
        if dtype not in DTYPES:
            reader.complain(spec.where, f"{dtype!r} is no element type", dtype, DTYPES)
    for name, dtype in spec.aliases.items():
        if dtype not in NAMED_DTYPES:
            problem = f"{name!r} stands for {dtype!r}, which is no element type"
            reader.complain(spec.where, problem, dtype, NAMED_DTYPES)
    for name in spec.names:
        if name not in _PUBLIC:
            reader.complain(spec.where, f"{name!r} cannot be exported", name, _PUBLIC)


def check_modules(reader: Reader, placed: Iterable[DialectSpec | VariantSpec | CallableSpec]) -> None:
    """Where classes and functions are."""
    for one in placed:
        if one.module and not all(legal(part) for part in one.module.split(".")):
            reader.complain(one.where, f"{one.module!r} cannot be a module in Python")


def check_variant(reader: Reader, spec: DialectSpec, variant: VariantSpec) -> None:
    """The supertypes and shapes of a class."""
    if not variant.supertypes:
        reader.complain(variant.where, "there must be a supertype, Module at least")
    for shape in variant.input:
        axes = shape.split()
        if len(axes) < 2 or not all(axis == "..." or legal(axis) for axis in axes):
            reader.complain(variant.where, f"{shape!r} is no shape: at least two words, such as N C or N C ...")
    for supertype in variant.supertypes:
        if supertype != "Module" and supertype not in spec.traits:
            reader.complain(variant.where, f"{supertype!r} is no supertype", supertype, spec.traits)


def check_repr(reader: Reader, variant: VariantSpec, names: list[str]) -> None:
    """The text of a printed class."""
    if not (variant.repr.startswith(f"{variant.variant}(") and variant.repr.endswith(")")):
        reader.complain(variant.where, f"the repr must read {variant.variant}(...)")
    if any(letter in variant.repr for letter in "\"'\\\n") or "{{" in variant.repr or "}}" in variant.repr:
        reader.complain(variant.where, "the repr must have no quotes, backslashes, line ends or doubled braces")
    for placeholder in placeholders(variant.repr, reader, variant.where):
        if placeholder not in names:
            reader.complain(variant.where, f"the repr has {placeholder!r}, which is no parameter", placeholder, names)


def check_members(reader: Reader, names: Sequence[str], where: str) -> None:
    """The names of a class's attributes and methods."""
    check_shadows(reader, [*MODULE_NAMES, *names], where)
    for name in names:
        if name.startswith("_"):
            reader.complain(where, f"{name!r} begins with an underscore, as names of the runtime do")


def check_shadows(reader: Reader, names: Iterable[str], where: str) -> None:
    """Names beside each other, of which none may be given twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            reader.complain(where, f"{name!r} shadows another {name!r}")
        seen.add(name)


def check_message(reader: Reader, spec: DialectSpec, name: str, message: MessageSpec, fields: Collection[str]) -> None:
    """What a dialect says of a condition that has these fields."""
    if (message.text is None) == (message.never is None) or (message.text is None) != (message.raises is None):
        reader.complain(message.where, f"{name!r} needs either 'raises' and 'text' or 'never'")
    check_exception(reader, message.raises, message.where, spec.exceptions)
    for placeholder in placeholders(message.text or "", reader, message.where):
        if placeholder not in fields:
            reader.complain(message.where, f"{name!r} has no field {placeholder!r}", placeholder, fields)


def placeholders(text: str, reader: Reader, where: str) -> list[str]:
    """The names in braces; a format or an attribute of one is refused."""
    try:
        fields = [field[1:] for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        reader.complain(where, f"{text!r} has unbalanced braces: {error}")
        return []
    for name, form, conversion in fields:
        if form or conversion or not str(name).isidentifier():
            reader.complain(where, f"{text!r} may have plain {{names}} only")
    return [name for name, _, _ in fields if name and name.isidentifier()]
