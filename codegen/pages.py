"""The reference pages: Markdown that reads on its own, and that ``make docs`` makes into a site."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jinja2

from normspec.runtime.dialect import Rules

from . import graph
from .model import Argument, Callable_, Class, Dialect, Kept, Trait

ANCESTOR = "torch"  # the dialect that the others are compared with

LINE = 88  # what fits on a page without scrolling


class Row(NamedTuple):
    """A line of a table that compares."""

    about: str
    doc: str
    cells: tuple[str, ...]


class Inherited(NamedTuple):
    """A method, and the supertype that has it."""

    method: Callable_
    origin: str


@dataclass(frozen=True)
class Reference:
    """The pages of one dialect."""

    dialect: Dialect
    files: Mapping[str, str]  # every generated Python file, to link to its lines

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """What extends what."""
        traits = {one.name: one.extends for one in self.dialect.traits}
        return {"Module": (), **traits, **{one.name: one.supertypes for one in self.dialect.classes}}

    @property
    def base(self) -> Trait:
        """``Module`` in the shape of a trait."""
        doc = "A callable that keeps tensors and other modules under names; every class of this dialect is one."
        return Trait("Module", (), doc, self.dialect.methods)

    def qualified(self, name: str) -> str:
        """Where something is imported from: ``storch.nn.HasWeight``."""
        for one in self.dialect.classes:
            if one.name == name:
                return one.qualified
        module = "_module" if name.startswith("_") else self.dialect.module
        return ".".join(part for part in (self.dialect.name, module, name) if part)

    def place(self, one: Callable_) -> str:
        """Where a function is imported from."""
        return ".".join(part for part in (self.dialect.name, one.module, one.name) if part)

    def page(self, name: str) -> str:
        """The file of the page of a class or trait, beside the index."""
        return f"{self.qualified(name).partition('.')[2]}.md"

    def source(self, name: str) -> str:
        """The line of the generated code at which something is defined, as a link from a page."""
        for path, text in self.files.items():
            found = re.search(rf"^(class|def) {name}\b", text, re.MULTILINE)
            if found:
                line = text.count("\n", 0, found.start()) + 1
                return f"../../{self.dialect.name}/{path}#L{line}"
        raise KeyError(name)

    def ancestors(self, name: str) -> list[str]:
        return graph.ancestors(name, self.parents)

    def descendants(self, name: str) -> list[str]:
        return graph.descendants(name, self.parents)

    def alt(self, name: str) -> str:
        return graph.describe(name, self.parents)

    def inherited(self, name: str) -> list[Inherited]:
        """The methods that come from supertypes, with where they come from; the nearest one counts."""
        found: dict[str, Inherited] = {}
        for origin in self.ancestors(name):
            trait = next(one for one in (*self.dialect.traits, self.base) if one.name == origin)
            for method in trait.methods:
                found.setdefault(method.name, Inherited(method, origin))
        return sorted(found.values(), key=lambda one: one.method.name.lower())

    @property
    def bases(self) -> list[Trait]:
        """What classes extend, the most general first."""
        return [self.base, *self.dialect.traits]

    @property
    def methods(self) -> list[Inherited]:
        """Every method that any module has."""
        found = [Inherited(method, trait.name) for trait in self.bases for method in trait.methods]
        return sorted(found, key=lambda one: one.method.name.lower())

    @property
    def constructing(self) -> set[str]:
        """The conditions that are on the pages of classes, and not on that of ``Module``."""
        return {condition.name for one in self.dialect.classes for condition in one.conditions}

    @property
    def normalizing(self) -> list[Callable_]:
        """The functions that have a page of their own."""
        return [one for one in self.dialect.functions if one.operator == "batch_norm"]

    @property
    def making(self) -> list[Callable_]:
        return [one for one in self.dialect.functions if one.operator != "batch_norm"]


def render(pages: jinja2.Environment, dialects: Sequence[Dialect], sources: Mapping[str, Mapping[str, str]]) -> Files:
    """Every page and drawing, by its path under generated/docs/."""
    every = [Reference(dialect, sources[dialect.name]) for dialect in dialects]
    ancestor = next((one for one in every if one.dialect.name == ANCESTOR), None)
    for reference in every:
        yield from _of_dialect(pages, reference, every, ancestor)
    columns = [(reference, one) for reference in every if (one := _normalizer(reference.dialect))]
    references, classes = [reference for reference, _ in columns], [one for _, one in columns]
    tables = {
        "parameters": _parameters(classes),
        "state": _state(classes),
        "methods": _methods(references),
        "rules": _rules([one.dialect for one in references]),
        "errors": _errors(classes),
    }
    yield "spellings.md", pages.get_template("spellings.md.j2").render(columns=columns, **tables)
    yield "statistics.md", pages.get_template("statistics.md.j2").render(columns=columns)


Files = Iterator[tuple[str, str]]


def _of_dialect(
    pages: jinja2.Environment, reference: Reference, every: Sequence[Reference], ancestor: Reference | None
) -> Files:
    folder = reference.dialect.name

    def page(file: str, template: str, **context: object) -> tuple[str, str]:
        text = pages.get_template(template).render(dialect=reference.dialect, reference=reference, **context)
        return f"{folder}/{file}", text

    yield page("index.md", "dialect.md.j2")
    yield page("functions.md", "functions.md.j2")
    for one in reference.dialect.classes:
        other = None if ancestor is None or ancestor is reference else counterpart(one, ancestor.dialect)
        differences = _differences(other, one, ancestor.dialect, reference.dialect) if other and ancestor else []
        yield page(
            reference.page(one.name),
            "class.md.j2",
            one=one,
            switch=[(each, counterpart(one, each.dialect)) for each in every],
            other=other,
            differences=differences,
        )
    for trait in (*reference.dialect.traits, reference.base):
        yield page(reference.page(trait.name), "trait.md.j2", one=trait)
    for function in reference.normalizing:
        name = reference.place(function).partition(".")[2]
        yield page(f"{name}.md", "function.md.j2", one=function, name=reference.place(function))
    for name in reference.parents:
        yield f"{folder}/{reference.page(name).removesuffix('.md')}.svg", graph.draw(name, reference.parents)


def counterpart(one: Class, dialect: Dialect) -> Class | None:
    """The same class in another dialect: of the same name, else one of the same operator that takes its inputs."""
    same = [each for each in dialect.classes if each.operator == one.operator]
    named = [each for each in same if each.name == one.name]
    if named or not same:
        return named[0] if named else None
    return next((each for each in same if any("..." in shape for shape in each.inputs)), same[0])


def _normalizer(dialect: Dialect) -> Class | None:
    return next((one for one in dialect.classes if one.operator == "batch_norm"), None)


def _parameters(columns: Sequence[Class]) -> list[Row]:
    names = dict.fromkeys(binding.canonical for one in columns for binding in one.bindings)
    return [Row(name, columns[0].meanings[name], tuple(_bound(one, name) for one in columns)) for name in names]


def _state(columns: Sequence[Class]) -> list[Row]:
    names = dict.fromkeys(kept.canonical for one in columns for kept in one.state)
    return [Row(name, columns[0].meanings[name], tuple(_kept(one, name) for one in columns)) for name in names]


def _methods(columns: Sequence[Reference]) -> list[Row]:
    spelled = [
        {one.function: one for one in [*reference.base.methods, *_of_traits(reference)] if _plain(one)}
        for reference in columns
    ]
    names = sorted({name for each in spelled for name in each})
    rows = []
    for name in names:
        doc = next(each[name].doc for each in spelled if name in each)
        rows.append(Row(name, doc, tuple(code(each[name].name) if name in each else "–" for each in spelled)))
    return rows


def _of_traits(reference: Reference) -> list[Callable_]:
    return [method for trait in reference.dialect.traits for method in trait.methods]


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


def _differences(old: Class, new: Class, before: Dialect, after: Dialect) -> list[Row]:
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
            rows.append(Row(markdown(doc.rstrip(".")), "", (code(left), code(right))))
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


def declaration(one: Class | Callable_) -> str:
    """A signature as one reads it: on one line if it fits, else an argument a line."""
    if isinstance(one, Callable_) and one.kind != "function":
        return f"{one.name}: {one.annotation}"
    head, result = (f"class {one.name}", "") if isinstance(one, Class) else (one.name, f" -> {one.annotation}")
    line = f"{head}({', '.join(one.signature_parts)}){result}"
    if len(line) <= LINE:
        return line
    return f"{head}(\n" + "".join(f"    {part},\n" for part in one.signature_parts) + f"){result}"


def prelude(one: Class | Dialect, prompt: bool = True) -> str:
    """The imports that examples begin with."""
    return "".join(f"{'>>> ' if prompt else ''}{line}\n" for line in one.imports)


_CODE = re.compile(r"``(.+?)``")
_MARKUP = re.compile(r"([\\`*<>$\[\]|~])")


def markdown(text: str) -> str:
    """Words of a spec as Markdown that shows them: nothing in them is markup but ````code````."""
    pieces = _CODE.split(" ".join(text.split()))
    return "".join(code(piece) if i % 2 else _MARKUP.sub(r"\\\1", piece) for i, piece in enumerate(pieces))


def code(text: object) -> str:
    """A text as inline code, within a table or without."""
    plain = " ".join(str(text).split()).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{ticks} {plain} {ticks}" if plain.startswith("`") or plain.endswith("`") else f"{ticks}{plain}{ticks}"


def fence(text: str, language: str = "python") -> str:
    """Text as a block of code."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    lines = "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())
    return f"{ticks}{language}\n{lines}{ticks}"
