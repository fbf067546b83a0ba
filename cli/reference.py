"""What ``normspec show`` and ``normspec list`` tell: the docstrings, which is what ``help()`` tells."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import normspec
from normspec.runtime import Module

LIBRARY = ("functional", "interop.jax", "interop.torch", "runtime")  # what has no dialect


def dialects() -> list[str]:
    """The generated packages: those with a dialect of their own."""
    found = pkgutil.iter_modules(normspec.__path__)
    return [
        one.name for one in found if any((Path(path) / one.name / "_dialect.py").exists() for path in normspec.__path__)
    ]


def packages() -> list[str]:
    """What ``normspec show`` knows: the dialects, and what has none."""
    return [*dialects(), *LIBRARY]


def members(dialect: str) -> dict[str, Any]:
    """The public classes and functions of a dialect or package, by the names that they are imported by."""
    return {
        f"{module.__name__.removeprefix('normspec.')}.{name}": value
        for module in _modules(importlib.import_module(f"normspec.{dialect}"))
        for name in sorted(module.__all__)
        if isinstance(value := getattr(module, name), (type, FunctionType))
    }


def normalizing(dialect: str) -> list[str]:
    """The names of the classes that compute something, and of the functions that do it without one."""
    return [
        name
        for name, one in members(dialect).items()
        if (isinstance(one, type) and issubclass(one, Module) and "_accepts" in vars(one))
        or (isinstance(one, FunctionType) and not one.__module__.endswith("._functions"))
    ]


def of_dialect(dialect: str) -> str:
    """What a dialect or package is, and a line for each of its members."""
    doc = inspect.getdoc(importlib.import_module(f"normspec.{dialect}"))
    lines = [
        f"{name}\n    {(inspect.getdoc(one) or '').partition(chr(10))[0]}" for name, one in members(dialect).items()
    ]
    return "\n".join([f"{doc}\n", *lines])


def of_member(dialect: str, name: str) -> str | None:
    """The signature and docstring of a class or function, or of a method of a class; None if there is none such."""
    for path, one in members(dialect).items():
        for spelling in (path.partition(".")[2], path.rpartition(".")[2]):
            if name == spelling:
                return _text(f"normspec.{path}", one)
            method = getattr(one, name.removeprefix(f"{spelling}."), None)
            if name.startswith(f"{spelling}.") and method is not None and isinstance(one, type):
                return _text(f"normspec.{path}.{name.removeprefix(f'{spelling}.')}", method)
    return None


def _modules(package: Any) -> Iterator[Any]:
    yield package
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.ismodule(value):
            yield from _modules(value)


def _text(name: str, one: Any) -> str:
    with contextlib.suppress(TypeError, ValueError):  # a property has no signature, nor has a class of dict's
        signature = inspect.signature(one)
        spoken = [each for each in signature.parameters.values() if each.name != "self"]
        name += str(signature.replace(parameters=spoken)).replace("'", "")
    return f"{name}\n\n{inspect.getdoc(one)}"
