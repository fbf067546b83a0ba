"""The roofline: the bandwidth of everyone against the bytes of x, below that of a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .peers import COPY, OURS
from .picture import FLOOR, legend
from .rows import LAYOUTS, MOVED

INK = dict(zip((*OURS, "torch", "torch out="), ("#5b9bd5", "#0b3d62", "#e8a0a8", "#b3283c"), strict=True))
PANEL = 4.2, 3.2  # inches


class Point(NamedTuple):
    """How many bytes of x, and how many bytes a second of those that must move."""

    dtype: str
    mode: str
    layout: str
    name: str
    size: float
    bandwidth: float


def points(rows: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """Those of the rows of ``bench.json``, by the shortest times."""
    for row in rows:
        for name, one in row["seconds"].items():
            moved = row["bytes"] * (MOVED[row["mode"]] if name != COPY else 2)
            yield Point(row["dtype"], row["mode"], row["layout"], name, row["bytes"], moved / one["minimum"])


def draw(found: Sequence[Point], path: Path, ink: Mapping[str, str] = INK) -> None:
    """A panel for each dtype and mode that there is."""
    dtypes, modes = (list(dict.fromkeys(getattr(one, name) for one in found)) for name in ("dtype", "mode"))
    size = PANEL[0] * len(modes), PANEL[1] * len(dtypes) + 1
    figure = Figure(figsize=size, dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(dtypes), len(modes), sharex=True, sharey="row", squeeze=False)
    for dtype, row in zip(dtypes, panels, strict=True):
        for mode, axes in zip(modes, row, strict=True):
            panel(axes, [one for one in found if (one.dtype, one.mode) == (dtype, mode)], ink)
            axes.set_title(f"{dtype}, {mode}", fontsize=10, loc="left")
    legend(figure)
    figure.supxlabel("MB of x; filled: channels first, open: channels last")
    figure.supylabel("GB/s of what must move")
    figure.savefig(path)


def panel(axes: Axes, found: Sequence[Point], ink: Mapping[str, str]) -> None:
    """Everyone's points, and the copies as a line."""
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    copies: dict[float, float] = {}  # the fastest of each size
    for one in found:
        if one.name == COPY:
            copies[one.size / 1e6] = max(one.bandwidth / 1e9, copies.get(one.size / 1e6, 0))
    axes.plot(*zip(*sorted(copies.items()), strict=True), color=FLOOR, linewidth=1, label=COPY)
    for name, color in ink.items():
        for layout in LAYOUTS:
            chosen = [one for one in found if (one.name, one.layout) == (name, layout)]
            if chosen:
                axes.plot(
                    [one.size / 1e6 for one in chosen],
                    [one.bandwidth / 1e9 for one in chosen],
                    linestyle="",
                    marker="o",
                    markersize=4,
                    color=color,
                    markerfacecolor=color if layout == LAYOUTS[0] else "none",
                    label=name if layout == LAYOUTS[0] else None,
                )
    axes.set_ylim(bottom=0)
