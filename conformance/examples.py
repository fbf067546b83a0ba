"""Run the examples of documents: what they show as printed must be printed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import Any


def run(code: str, names: dict[str, Any], where: str) -> None:
    """Run code in doctest form within ``names``; where the document shows no output, there may be any.

    Unlike doctest, output may have blank lines, as documents have them.
    """
    for source, shown, printed in execute(code, names, where):
        assert not shown or printed == shown, f"{where}:\n{source}shows\n{shown}\nbut printed\n{printed}"


def execute(code: str, names: dict[str, Any], where: str) -> Iterator[tuple[str, str, str]]:
    """Each statement, the output that is shown below it, and what it printed now."""
    for source, shown in blocks(code.splitlines()):
        printed = io.StringIO()
        if not all(line.startswith("#") or not line for line in source.splitlines()):
            with contextlib.redirect_stdout(printed):
                exec(compile(source, where, "single"), names)  # of our own specs: examples are what is tested
        yield source, shown, _trimmed(printed.getvalue())


def blocks(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each statement, and the output that is shown below it."""
    source, shown = "", ""
    for line in lines:
        if line.startswith(">>> "):
            if source:
                yield source, _trimmed(shown)
            source, shown = line[4:] + "\n", ""
        elif line.rstrip() == "..." or line.startswith("... "):
            source += line[4:] + "\n"
        elif source:
            shown += line + "\n"
    if source:
        yield source, _trimmed(shown)


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
