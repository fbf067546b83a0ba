"""The reference pages: Markdown that reads on its own, and that ``make docs`` makes into a site."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jinja2

from . import compare, graph
from .model import Callable_, Class, Dialect, Trait

ANCESTOR = "torch"  # the dialect that the others are compared with

LINE = 88  # what fits on a page without scrolling

Files = Iterator[tuple[str, str]]  # paths and texts


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

    def source(self, name: str, method: str = "") -> str:
        """The line of the generated code at which something is defined, or a method of it, as a link from a page."""
        for path, text in self.files.items():
            found = re.search(rf"^(class|def) {name}\b", text, re.MULTILINE)
            if found and method:
                found = re.compile(rf"^    (def )?{method}\b", re.MULTILINE).search(text, found.start())
            if found:
                line = text.count("\n", 0, found.start()) + 1
                return f"../../{self.dialect.name}/{path}#L{line}"
        raise KeyError(name)

    def counterparts(self, one: Callable_) -> list[Class]:
        """The classes that compute what a function does."""
        return [each for each in self.dialect.classes if each.operator == one.operator]

    def users(self, name: str) -> list[tuple[str, str]]:
        """The classes and methods whose examples use something, with links to them."""
        found = [(one.qualified, self.page(one.name), one.examples) for one in self.dialect.classes if one.name != name]
        found += [
            (f"{trait.name}.{one.name}", f"{self.page(trait.name)}#{one.name.lower()}", one.examples)
            for trait in self.bases
            for one in trait.methods
        ]
        used = re.compile(rf"\.{name}\(")
        return [(label, link) for label, link, examples in found if any(used.search(one.code) for one in examples)]

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
            trait = next(one for one in (*self.dialect.traits, self.dialect.base) if one.name == origin)
            for method in trait.methods:
                found.setdefault(method.name, Inherited(method, origin))
        return sorted(found.values(), key=lambda one: one.method.name.lower())

    @property
    def bases(self) -> list[Trait]:
        """What classes extend, the most general first."""
        return [self.dialect.base, *self.dialect.traits]

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
    def computing(self) -> list[Callable_]:
        """The functions that compute what a class does, and have a page of their own."""
        return [one for one in self.dialect.functions if self.counterparts(one)]

    @property
    def making(self) -> list[Callable_]:
        return [one for one in self.dialect.functions if not self.counterparts(one)]


def render(pages: jinja2.Environment, dialects: Sequence[Dialect], sources: Mapping[str, Mapping[str, str]]) -> Files:
    """Every page and drawing, by its path under generated/docs/."""
    every = [Reference(dialect, sources[dialect.name]) for dialect in dialects]
    ancestor = next((one for one in every if one.dialect.name == ANCESTOR), None)
    for reference in every:
        yield from _of_dialect(pages, reference, every, ancestor)
    columns = [(one, normalizer) for one in every if (normalizer := compare.normalizer(one.dialect))]
    tables = compare.tables([one.dialect for one, _ in columns])
    yield "spellings.md", pages.get_template("spellings.md.j2").render(columns=columns, **tables)
    yield "statistics.md", pages.get_template("statistics.md.j2").render(columns=columns)


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
        other = None if ancestor is None or ancestor is reference else compare.counterpart(one, ancestor.dialect)
        differences = compare.differences(other, one, ancestor.dialect, reference.dialect) if other and ancestor else []
        yield page(
            reference.page(one.name),
            "class.md.j2",
            one=one,
            switch=[(each, compare.counterpart(one, each.dialect)) for each in every],
            other=other,
            differences=differences,
        )
    for trait in (*reference.dialect.traits, reference.dialect.base):
        yield page(reference.page(trait.name), "trait.md.j2", one=trait)
    for function in reference.computing:
        name = reference.place(function).partition(".")[2]
        yield page(f"{name}.md", "function.md.j2", one=function, name=reference.place(function))
    for name in reference.parents:
        yield f"{folder}/{reference.page(name).removesuffix('.md')}.svg", graph.draw(name, reference.parents)


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
