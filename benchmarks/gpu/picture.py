"""The roofline: the bandwidth of everyone against the bytes that must move, below that of a copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..peers import COPY
from .measure import Result
from .peers import KERNELS, OURS
from .rows import MODES

INK = {
    OURS: "#1b6ca8",
    KERNELS: "#0b3d62",
    "torch": "#d1495b",
    "cuDNN": "#66923c",
    "compile": "#8d6a9f",
}
FLOOR = "#555b61"
PANEL = 5.0, 3.6  # inches


def draw(results: Sequence[Result], path: Path) -> None:
    """A panel for each dtype and mode that there is."""
    timed = [result for result in results if COPY in result.timings]
    dtypes = list(dict.fromkeys(result.row.dtype for result in timed))
    modes = [mode for mode in MODES if any(result.row.mode == mode for result in timed)]
    size = PANEL[0] * len(modes), PANEL[1] * len(dtypes) + 1
    figure = Figure(figsize=size, dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(dtypes), len(modes), sharex=True, sharey=True, squeeze=False)
    for dtype, row in zip(dtypes, panels, strict=True):
        for mode, axes in zip(modes, row, strict=True):
            panel(axes, [one for one in timed if (one.row.dtype, one.row.mode) == (dtype, mode)])
            axes.set_title(f"{dtype}, {mode}", fontsize=10, loc="left")
    shown: dict[str, Any] = {}
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown |= zip(labels, handles, strict=True)
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=len(shown), frameon=False)
    figure.supxlabel("MB of x; filled: channels first, open: channels last")
    figure.supylabel("GB/s of what must move")
    figure.savefig(path)


def panel(axes: Axes, results: Sequence[Result]) -> None:
    """Everyone's points, and the copies as a line."""
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    copies = sorted((one.row.size / 1e6, one.bandwidth(COPY) / 1e9) for one in results)
    axes.plot(*zip(*copies, strict=True), color=FLOOR, linewidth=1, label=COPY)
    for name in INK:
        for layout in ("channels first", "channels last"):
            chosen = [one for one in results if name in one.timings and one.row.layout == layout]
            if chosen:
                axes.plot(
                    [one.row.size / 1e6 for one in chosen],
                    [one.bandwidth(name) / 1e9 for one in chosen],
                    linestyle="",
                    marker="o",
                    markersize=4,
                    color=INK[name],
                    markerfacecolor=INK[name] if layout == "channels first" else "none",
                    label=name if layout == "channels first" else None,
                )
