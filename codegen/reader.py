"""Read YAML into dataclasses, naming the line of everything that does not fit."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from .schema import Required

T = TypeVar("T")

_hints = functools.cache(typing.get_type_hints)


class SpecError(Exception):
    """Everything that is wrong with the specs, one ``file:line: problem`` a line."""


class _Yaml(yaml.SafeLoader):
    """YAML as people read it: ``1e-5`` is a number, ``on`` and ``no`` are words."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as its base has it


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null", "n"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", "-+0123456789"),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


class Reader:
    """Reads specs and collects problems, so that one run reports all of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._problems: dict[str, None] = {}  # a set that keeps its order

    def read(self, path: Path, kind: type[T]) -> T | None:
        """The spec at ``path`` as a ``kind``; None, or whole but meaningless, if there were problems."""
        file = path.relative_to(self._root.parent).as_posix()
        try:
            loader = _Yaml(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
        except (RecursionError, UnicodeDecodeError, yaml.YAMLError) as error:
            line, problem = _broken(error)
            self.complain(f"{file}:{line}", problem)
            return None
        if node is None:
            self.complain(f"{file}:1", "the file is empty")
            return None
        return cast(T, _Document(self, file, loader).value(kind, node))

    def complain(self, where: str, problem: str, word: object = "", choices: Iterable[str] = ()) -> None:
        """Remember a problem for ``finish``, with what may have been meant by ``word``, one of ``choices``."""
        self._problems[f"{where}: {problem}{_hint(word, choices)}"] = None

    def finish(self) -> None:
        """Raise everything that was complained of so far, if anything was."""
        if self._problems:
            raise SpecError("\n".join(self._problems))


@dataclasses.dataclass(frozen=True)
class _Document:
    """One YAML file; ``value`` knows each kind of annotation that a schema may use."""

    reader: Reader
    file: str
    loader: _Yaml

    def value(self, kind: Any, node: yaml.Node) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind):
            return self._record(kind, node)
        if origin in (dict, collections.abc.Mapping):
            return {key.value: self.value(arguments[1], value) for key, value in self._items(node)}
        if origin is tuple:
            items = node.value if isinstance(node, yaml.SequenceNode) else [node]
            return tuple(self.value(arguments[0], item) for item in items)
        return self._scalar(kind, node)

    def _scalar(self, kind: Any, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self._complain(node, f"expected {_noun(kind)}, found a {_NODES[type(node)]}")
            return None
        try:
            value = self.loader.construct_object(node)
        except (AttributeError, LookupError, ValueError, yaml.YAMLError):  # a tag that does not fit the word
            self._complain(node, f"expected {_noun(kind)}, found {node.value!r}")
            return None
        self._check_written(node)
        choices = [word for one in _members(kind) for word in typing.get_args(one)]  # those of a Literal
        if choices and value not in choices and value is not None:
            self._complain(node, f"{value!r} is not one of {', '.join(choices)}{_hint(value, choices)}")
        elif value not in choices and type(value) not in _members(kind):
            self._complain(node, f"expected {_noun(kind)}, found {value!r}")
        return value

    def _record(self, kind: Any, node: yaml.Node) -> Any:
        noun = kind.__name__.removesuffix("Spec").lower()
        hints = _hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "where"}
        values: dict[str, Any] = {}
        for key, value in self._items(node):
            if key.value in fields:
                values[key.value] = self.value(hints[key.value], value)
            else:
                self._complain(key, f"{noun} has no key {key.value!r}{_hint(key.value, fields)}")
        for name, field in fields.items():
            if name not in values and field.default is field.default_factory is dataclasses.MISSING:
                self._complain(node, f"{noun} needs a {name!r}")
                values[name] = None
        if "where" in hints:
            values["where"] = self._where(node)
        return kind(**values)

    def _items(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, f"expected a mapping, found {_found(node)}")
            return
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain(key, f"a key must be a word, not a {_NODES[type(key)]}")
                continue
            if key.value in seen:
                self._complain(key, f"{key.value!r} is given twice")
            seen.add(key.value)
            self._check_written(key)
            yield key, value

    def _check_written(self, node: yaml.ScalarNode) -> None:
        """An escape can spell what no text file has, and what Python source must not have."""
        found = self.loader.NON_PRINTABLE.search(node.value)
        if found:
            self._complain(node, f"the character {found[0]!r} cannot be written to a file")

    def _complain(self, node: yaml.Node, problem: str) -> None:
        self.reader.complain(self._where(node), problem)

    def _where(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"


def _broken(error: Exception) -> tuple[int, str]:
    """Line and problem of text that is not YAML at all."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return mark.line + 1 if mark else 1, f"broken YAML: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return 1, f"not UTF-8 text: {error.reason}"
    return 1, "broken YAML: " + " ".join(str(error).split())


_NODES = {yaml.ScalarNode: "word", yaml.SequenceNode: "list", yaml.MappingNode: "mapping"}


def _found(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {_NODES[type(node)]}"


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type that it is."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _noun(kind: Any) -> str:
    """What to call a type in a complaint: ``str or null``."""
    names = {types.NoneType: "null", Required: ""}
    found = (names.get(one, getattr(one, "__name__", "a word")) for one in _members(kind))
    return " or ".join(name for name in found if name)


def _hint(word: object, choices: Iterable[str]) -> str:
    """The end of a complaint about ``word``, if one of ``choices`` looks like what was meant."""
    close = difflib.get_close_matches(str(word), list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
