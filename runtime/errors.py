"""How misuse is told: in the dialect's words, then in ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from .dialect import Dialect


@dataclass(frozen=True)
class Speaker:
    """A class or function of a dialect: what it calls itself and its arguments, for its errors.

    What it raises is what the dialect raises for a condition. The first line is the original's own text, so that what
    was written against the original still matches. The second names the class, the argument, what was expected and
    what was found.
    """

    dialect: Dialect
    who: str
    names: Mapping[str, str]

    def fail(self, condition: str, canonical: str, wanted: str, given: str, **fields: object) -> NoReturn:
        """Raise of an argument by what it is canonically."""
        argument = self.names.get(canonical, canonical)
        self.fail_spelled(condition, argument, wanted, given, **{"name": argument, **fields})

    def fail_type(self, condition: str, canonical: str, wanted: str, value: object) -> NoReturn:
        """Raise of an argument whose value is of a wrong type."""
        found = type(value).__name__
        self.fail(condition, canonical, wanted, found, type=found)

    def fail_spelled(self, condition: str, argument: str, wanted: str, given: str, **fields: object) -> NoReturn:
        """Raise of what has only one name: an argument of a method, or an attribute."""
        ours = f"{self.who}: {argument}: expected {wanted}, found {given}"
        if condition not in self.dialect.messages:  # the original knows no such error
            raise ValueError(ours)
        message = self.dialect.messages[condition]
        told = {"module": self.who, "argument": argument, "expected": wanted, "found": given, **fields}
        raise message.type(f"{message.text.format_map(told)}\n{ours}")


def listed(shape: tuple[int, ...]) -> str:
    """A shape as libtorch writes it: ``[1, 3]``."""
    return f"[{', '.join(map(str, shape))}]"


def one_of(words: list[str]) -> str:
    """``2D or 3D``."""
    return " or ".join(words)
