"""Words of a spec as Markdown that shows them: nothing in them is markup, whoever wrote them."""

from __future__ import annotations

import re
from urllib.parse import quote

_CODE = re.compile(r"``(.+?)``")
_MARKUP = re.compile(r"([\\`*<>$\[\]|~])")


def prose(text: str) -> str:
    """Words in which nothing is markup but ````code````."""
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


def url(text: str) -> str:
    """The target of a link, which cannot end it."""
    return quote(text, safe="/:?=&#%+,@~.-")


def formula(text: str) -> str:
    """LaTeX between dollars, which cannot end it."""
    return " ".join(text.replace("$", "").split())
