"""The plot: for every row, how many times longer than ours everyone takes, and where the floor is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .measure import Result
from .peers import OURS
from .report import OTHERS
from .rows import LAYOUTS, MODES

INK = {"torch": "#d1495b", "onnxruntime": "#3d7ea6", "jax": "#66923c", "numpy": "#8d6a9f"}
FLOOR = "#555b61"
WIDTH, ROW, MARGIN = 4.2, 0.25, 1.0  # inches
TICKS = (0.1, 0.3, 1, 3, 10, 30)
LIMITS = 0.05, 40.0  # what is beyond is drawn on the edge


def draw(results: Sequence[Result], path: Path) -> None:
    """A panel for each dtype, mode and layout that there is."""
    timed = [result for result in results if result.timings]
    columns = [(mode, layout) for mode in MODES for layout in LAYOUTS if chosen(timed, mode=mode, layout=layout)]
    dtypes = list(dict.fromkeys(result.row.dtype for result in timed))
    shapes = list(dict.fromkeys(result.row.shape for result in timed))
    height = len(dtypes) * (ROW * len(shapes) + MARGIN) + MARGIN
    figure = Figure(figsize=(WIDTH * len(columns) + 1, height), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(dtypes), len(columns), sharex=True, sharey=True, squeeze=False)
    for dtype, line in zip(dtypes, panels, strict=True):
        for (mode, layout), axes in zip(columns, line, strict=True):
            panel(axes, chosen(timed, mode=mode, layout=layout, dtype=dtype), shapes)
            axes.set_title(f"{dtype}, {mode}, {layout}", fontsize=10, loc="left")
    legend(figure)
    figure.supxlabel("time ÷ ours: right of 1 is slower than ours; filled: allocation included, open: out= given")
    figure.savefig(path)


def legend(figure: Figure) -> None:
    """One legend, above the panels, of what is in any of them."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        shown |= zip(labels, handles, strict=True)
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=len(shown), frameon=False)


def chosen(results: Sequence[Result], **wanted: str) -> list[Result]:
    """The results of rows that have these values."""
    return [one for one in results if all(getattr(one.row, name) == value for name, value in wanted.items())]


def panel(axes: Axes, results: Sequence[Result], shapes: Sequence[tuple[int, ...]]) -> None:
    """Ratios on a logarithmic axis, a line for each shape, the largest on top."""
    axes.axvline(1, color="black", linewidth=1)
    heights = {shape: -number for number, shape in enumerate(shapes)}
    floors = [(within(1 / result.over_copy[OURS[1]]), heights[result.row.shape]) for result in results]
    if floors:
        axes.plot(
            *zip(*floors, strict=True),
            "|",
            color=FLOOR,
            markersize=11,
            markeredgewidth=2.5,
            label="copy (÷ ours out=)",
        )
    for name in OTHERS:
        points = [(within(one.least[name]), heights[one.row.shape]) for one in results if name in one.least]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, **look(name))
    axes.set_xscale("log")
    axes.set_xlim(LIMITS[0] * 0.9, LIMITS[1] * 1.1)
    axes.set_xticks(TICKS)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([*heights.values()], ["×".join(map(str, shape)) for shape in shapes], fontsize=8)
    axes.set_ylim(-len(shapes) + 0.4, 0.6)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def within(ratio: float) -> float:
    """A ratio as it is drawn."""
    return min(max(ratio, LIMITS[0]), LIMITS[1])


def look(name: str) -> dict[str, Any]:
    """A color for a library, an open marker for memory that was given."""
    library, _, given = name.partition(" ")
    color = INK[library]
    return {
        "linestyle": "",
        "marker": "o",
        "markersize": 6,
        "color": color,
        "markerfacecolor": "none" if given else color,
        "alpha": 0.85,
    }
