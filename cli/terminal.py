"""What commands show: a line of progress, and tables that read as well in a page as in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


class Line:
    """A line of progress that overwrites itself; where nobody watches, only what is new before the last colon."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.shown = ""

    def __call__(self, text: str) -> None:
        if self.live:
            print(f"\r{text[:110]:<110}", end="", file=sys.stderr, flush=True)
        elif (phase := text.rpartition(":")[0] or text) != self.shown:
            self.shown = phase
            print(phase, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.live:
            print(f"\r{'':<110}\r", end="", file=sys.stderr, flush=True)


def lines(header: str, rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """A Markdown table in aligned columns, numbers to the right."""
    names = header.split("|")
    table = [names, *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(names))]
    numeric = [all(row[i][:1] in "-–0123456789" for row in table[1:]) for i in range(len(names))]
    rule = [("-" * (width - 1) + ":" if right else "-" * width) for width, right in zip(widths, numeric, strict=True)]
    for row in [table[0], rule, *table[1:]]:
        cells = zip(row, widths, numeric, strict=True)
        yield f"| {' | '.join(text.rjust(width) if right else text.ljust(width) for text, width, right in cells)} |"
