"""Collections that modules give out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class MapView(dict[str, T]):
    """A mapping that may be called too: Scala writes ``namedParameters`` and ``namedParameters(recurse = false)``."""

    def __init__(self, collect: Callable[[bool], Iterable[tuple[str, T]]]) -> None:
        super().__init__(collect(True))
        self._collect = collect

    def __call__(self, recurse: bool = True) -> dict[str, T]:
        """The mapping, without what is inside the modules inside if ``recurse`` is False."""
        return dict(self._collect(recurse))


class ListView(list[T]):
    """A list that may be called too: Scala writes ``parameters`` and ``parameters(recurse = false)``."""

    def __init__(self, collect: Callable[[bool], Iterable[T]]) -> None:
        super().__init__(collect(True))
        self._collect = collect

    def __call__(self, recurse: bool = True) -> list[T]:
        """The list, without what is inside the modules inside if ``recurse`` is False."""
        return list(self._collect(recurse))


class StateDict(dict[str, T]):
    """Tensors by name. With ``lines``, it prints an entry a line."""

    lines = False

    def __repr__(self) -> str:
        if not self.lines:
            return super().__repr__()
        entries = (f"    {name}: {_deeper(repr(tensor))},\n" for name, tensor in self.items())
        return "{\n" + "".join(entries) + "}"


def _deeper(text: str) -> str:
    return "\n".join(f"    {line}" if line and number else line for number, line in enumerate(text.split("\n")))


class IncompatibleKeys(NamedTuple):
    """What a state dict lacked, and what it had that the module lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def as_sets(self) -> tuple[set[str], set[str]]:
        """The same as two sets."""
        return set(self.missing_keys), set(self.unexpected_keys)

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"


def quoted(keys: Iterable[Any]) -> dict[str, str]:
    """The ways in which messages list names: bare, in double and in single quotes."""
    names = [str(key) for key in keys]
    return {
        "keys": ", ".join(names),
        "quoted": ", ".join(f'"{name}"' for name in names),
        "single": ", ".join(f"'{name}'" for name in names),
    }
