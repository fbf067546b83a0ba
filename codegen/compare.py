"""Dialects beside each other: what each calls a thing, and where a class is not as its counterpart."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Sequence
from typing import NamedTuple

from normspec.runtime.dialect import Rules

from .markdown import code, prose
from .model import Argument, Callable_, Class, Dialect, Kept

OPERATOR = "batch_norm"  # whose spellings are put side by side


class Row(NamedTuple):
    """A line of a table that compares."""

    about: str
    doc: str
    cells: tuple[str, ...]


def tables(dialects: Sequence[Dialect]) -> dict[str, list[Row]]:
    """Parameters, state, methods, rules and errors of the operator, a column for each dialect that has it."""
    classes = [one for dialect in dialects if (one := normalizer(dialect))]
    return {
        "parameters": _parameters(classes),
        "state": _state(classes),
        "methods": _methods(dialects),
        "rules": _rules(dialects),
        "errors": _errors(classes),
    }


def counterpart(one: Class, dialect: Dialect) -> Class | None:
    """The same class in another dialect: of the same name, else one of the same operator that takes its inputs."""
    same = [each for each in dialect.classes if each.operator == one.operator]
    named = [each for each in same if each.name == one.name]
    if named or not same:
        return named[0] if named else None
    return next((each for each in same if any("..." in shape for shape in each.inputs)), same[0])


def normalizer(dialect: Dialect) -> Class | None:
    """The class that stands for the dialect in a table."""
    return next((one for one in dialect.classes if one.operator == OPERATOR), None)


def _parameters(columns: Sequence[Class]) -> list[Row]:
    names = dict.fromkeys(binding.canonical for one in columns for binding in one.bindings)
    return [Row(name, columns[0].meanings[name], tuple(_bound(one, name) for one in columns)) for name in names]


def _state(columns: Sequence[Class]) -> list[Row]:
    names = dict.fromkeys(kept.canonical for one in columns for kept in one.state)
    return [Row(name, columns[0].meanings[name], tuple(_kept(one, name) for one in columns)) for name in names]


def _methods(columns: Sequence[Dialect]) -> list[Row]:
    spelled = [{one.function: one for one in _every_method(dialect) if _plain(one)} for dialect in columns]
    names = sorted({name for each in spelled for name in each})
    rows = []
    for name in names:
        doc = next(each[name].doc for each in spelled if name in each)
        rows.append(Row(name, doc, tuple(code(each[name].name) if name in each else "–" for each in spelled)))
    return rows


def _every_method(dialect: Dialect) -> list[Callable_]:
    return [*dialect.methods, *(method for trait in dialect.traits for method in trait.methods)]


def _plain(one: Callable_) -> bool:
    """Whether a method is the spelling of its function, and not one of several with something fixed."""
    return not any(binding.argument is None and binding.value in ("cpu", "cuda") for binding in one.bindings) and not (
        one.function == "to" and not one.arguments
    )


def _rules(dialects: Sequence[Dialect]) -> list[Row]:
    rows = []
    for name, doc in _field_docs(Rules).items():
        cells = (str(getattr(dialect.rules, name)) for dialect in dialects)
        rows.append(Row(name, doc, tuple(map(code, cells))))
    return rows


def _errors(columns: Sequence[Class]) -> list[Row]:
    names = {one.name: one.doc for column in columns for one in column.conditions}
    found = [{one.name: one for one in column.conditions} for column in columns]
    return [
        Row(name, doc, tuple(code(each[name].raises) if each[name].raises else "–" for each in found))
        for name, doc in names.items()
    ]


def differences(old: Class, new: Class, before: Dialect, after: Dialect) -> list[Row]:
    """Where a class is not as its counterpart, in parameters, state, calls and rules."""
    rows = [
        Row(code(_shown(old, new, canonical) or canonical), "", (left, right))
        for canonical in old.meanings
        if (left := _facts(old, canonical)) != (right := _facts(new, canonical))
    ]
    pairs = [
        ("input", old.shapes, new.shapes),
        ("call", f"{old.call_name}({old.input})", f"{new.call_name}({new.input})"),
        ("prints", old.repr, new.repr),
    ]
    rows += [Row(about, "", (code(left), code(right))) for about, left, right in pairs if left != right]
    for name, doc in _field_docs(Rules).items():
        left, right = (str(getattr(dialect.rules, name)) for dialect in (before, after))
        if left != right:
            rows.append(Row(prose(doc.rstrip(".")), "", (code(left), code(right))))
    return rows


def _shown(old: Class, new: Class, canonical: str) -> str:
    """What a canonical parameter or state is called, by the counterpart first."""
    for one in (old, new):
        spoken: list[Argument | Kept] = [*one.arguments, *one.state]
        for each in spoken:
            if each.canonical == canonical:
                return each.name
    return ""


def _facts(one: Class, canonical: str) -> str:
    is_state = canonical in {kept.canonical for kept in one.state} or canonical not in {
        binding.canonical for binding in one.bindings
    }
    return _kept(one, canonical) if is_state else _bound(one, canonical)


def _bound(one: Class, canonical: str) -> str:
    """How a class says a parameter: ``` `eps` = `1e-05` ```, its place in the signature where it has one."""
    positional = [each.name for each in one.arguments if not each.keyword]
    for argument in one.arguments:
        if argument.canonical == canonical:
            place = f"no. {positional.index(argument.name) + 1}" if argument.name in positional else "by keyword"
            default = "required" if argument.default is None else f"default {code(argument.default)}"
            return f"{code(argument.name)}, {place}, {default}"
    for binding in one.bindings:
        if binding.canonical == canonical:
            return f"always {code(binding.source)}"
    return "–"


def _kept(one: Class, canonical: str) -> str:
    for kept in one.state:
        if kept.canonical == canonical:
            return f"{code(kept.name)}, {kept.kind}, initially {kept.init}"
    return "–"


def _field_docs(kind: type) -> dict[str, str]:
    """The strings below the fields of a dataclass."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = [
        one.value.value if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) else ""
        for one in body.body
    ][1:]
    docs = [str(text) for text in texts if text]
    return dict(zip((field.name for field in dataclasses.fields(kind)), docs, strict=True))
