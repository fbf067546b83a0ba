"""How misuse is told: in the dialect's words, then in ours."""

from __future__ import annotations

from typing import NoReturn

from .dialect import Dialect


def fail(
    dialect: Dialect, condition: str, *, who: str, argument: str, expected: str, found: str, **fields: object
) -> NoReturn:
    """Raise what the dialect raises for a condition.

    The first line is the original's own text, so that what was written against the original still matches. The
    second names the class, the argument, what was expected and what was found.
    """
    ours = f"{who}: {argument}: expected {expected}, found {found}"
    if condition not in dialect.messages:  # the original knows no such error
        raise ValueError(ours)
    message = dialect.messages[condition]
    words = message.text.format_map({"expected": expected, "found": found, "argument": argument, **fields})
    raise message.type(f"{words}\n{ours}")


def listed(shape: tuple[int, ...]) -> str:
    """A shape as libtorch writes it: ``[1, 3]``."""
    return f"[{', '.join(map(str, shape))}]"


def one_of(words: list[str]) -> str:
    """``2D or 3D``."""
    return " or ".join(words)
