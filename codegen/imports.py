"""The import statements of a generated file, sorted as a linter would have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from .model import WIDTH, Callable_
from .vocabulary import TYPES, resolved, words

Lines: TypeAlias = dict[str, list[str]]  # the names to import, by the module that has them


def of_types(dialect: str, types: Iterable[str]) -> Lines:
    """Which names the annotations of some types need."""
    needed: dict[str, set[str]] = {}
    for word in (word for type_ in types for word in words(type_)):
        name, module = TYPES[word]
        if module:
            place = module.replace("DIALECT", f"normspec.{dialect}")
            needed.setdefault(place, set()).add(name.partition("[")[0])
    return {module: sorted(names) for module, names in sorted(needed.items())}


def of_callables(dialect: str, callables: Sequence[Callable_]) -> Lines:
    """The imports that annotations and calls need."""
    lines = of_types(dialect, [each.type for one in callables if one.kind == "function" for each in one.arguments])
    for one in callables:
        for module, names in _of_result(dialect, one).items():
            lines.setdefault(module, []).extend(names)
    lines["normspec.runtime.operators"] = sorted({f"{one.operator} as _{one.operator}" for one in callables})
    return lines


def _of_result(dialect: str, one: Callable_) -> Lines:
    """The names that the annotation of what is returned needs."""
    if one.result in ("nothing", "sets"):
        return {}
    if one.kind != "view":
        names = of_types(dialect, [one.returns])
        return {module: [*map(resolved, each)] for module, each in names.items()}
    view, _, inner = one.annotation.removesuffix("]").partition("[")
    names = of_types(dialect, [inner])
    names.setdefault("normspec.runtime", []).append(view)
    return names


def block(lines: Mapping[str, Iterable[str]]) -> str:
    """The statements; what only annotations need at type-checking time comes last."""
    standard = sorted(module for module in lines if module in ("collections.abc", "os", "typing"))
    ours = sorted(module for module in lines if module.startswith("normspec"))
    typing_only = "typing_extensions" in lines
    names = {module: sorted(set(lines[module]), key=_order) for module in lines if lines[module]}
    if typing_only:
        names["typing"] = sorted({*names.get("typing", []), "TYPE_CHECKING"}, key=_order)
        standard = sorted({*standard, "typing"})
    groups = [[_statement(module, names[module]) for module in group if module in names] for group in (standard, ours)]
    blocks = ["\n".join(group) for group in groups]
    if typing_only:
        blocks.append(f"if TYPE_CHECKING:\n    from typing_extensions import {', '.join(names['typing_extensions'])}")
    return "\n\n".join(block for block in blocks if block)


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as isort has it."""
    bare = name.partition(" ")[0]
    kind = 0 if bare.isupper() and len(bare) > 1 else 1 if bare[:1].isupper() else 2
    return kind, bare.lower()


def _statement(module: str, names: Sequence[str]) -> str:
    renamed = [f"from {module} import {name}" for name in names if " as " in name]
    plain = [name for name in names if " as " not in name]
    line = f"from {module} import {', '.join(plain)}"
    if len(line) > WIDTH:
        line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in plain) + ")"
    return "\n".join([*([line] if plain else []), *renamed])
