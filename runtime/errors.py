"""How misuse is told: in the dialect's words, then in ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from .dialect import Dialect


def fail(
    dialect: Dialect,
    condition: str,
    *,
    who: str,
    argument: str,
    wanted: str,
    given: str,
    fields: Mapping[str, object],
) -> NoReturn:
    """Raise what the dialect raises for a condition.

    The first line is the original's own text, so that what was written against the original still matches. The
    second names the class, the argument, what was expected and what was found.
    """
    ours = f"{who}: {argument}: expected {wanted}, found {given}"
    if condition not in dialect.messages:  # the original knows no such error
        raise ValueError(ours)
    message = dialect.messages[condition]
    words = message.text.format_map({"module": who, "argument": argument, "expected": wanted, "found": given, **fields})
    raise message.type(f"{words}\n{ours}")


@dataclass(frozen=True)
class Speaker:
    """A function of a dialect: what it calls itself and its arguments, for its errors."""

    dialect: Dialect
    who: str
    names: Mapping[str, str]

    def fail(self, condition: str, canonical: str, wanted: str, given: str, **fields: object) -> NoReturn:
        """Raise what the dialect raises for a condition of an argument."""
        argument = self.names.get(canonical, canonical)
        named = {"name": argument, **fields}
        fail(self.dialect, condition, who=self.who, argument=argument, wanted=wanted, given=given, fields=named)


def listed(shape: tuple[int, ...]) -> str:
    """A shape as libtorch writes it: ``[1, 3]``."""
    return f"[{', '.join(map(str, shape))}]"


def one_of(words: list[str]) -> str:
    """``2D or 3D``."""
    return " or ".join(words)
