"""The plot of errors over the ratio of mean to deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .picture import INK, legend

COLOURS = {"ours": "black", **INK, "one pass": "#c98a1b"}
MARKERS = {"ours": "o", "torch": "s", "onnxruntime": "D", "jax": "^", "numpy": "v", "one pass": "x"}
FLOOR, CEILING = 3e-8, 1e3


def draw(curves: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], ratios: Sequence[float], path: Path) -> None:
    """A panel for each mode and layout; what is beyond an error of 1000 is drawn at the edge."""
    figure = Figure(figsize=(4.2 * len(curves), 4), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), sharex=True, sharey=True, squeeze=False)[0]
    for axes, ((mode, layout), lines) in zip(panels, curves.items(), strict=True):
        for name, errors in lines.items():
            within = [min(max(error, FLOOR), CEILING) for error in errors]
            style = {"color": COLOURS.get(name), "marker": MARKERS.get(name), "linewidth": 2 if name == "ours" else 1}
            axes.loglog(ratios, within, label=name, markersize=5, zorder=3 if name == "ours" else 2, **style)
        axes.axhline(2.0**-24, color="#999999", linewidth=1, linestyle=":")
        axes.set_title(f"{mode}, {layout}", loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        axes.set_ylim(FLOOR / 1.5, CEILING * 1.5)
    panels[0].set_ylabel("largest error of an output")
    legend(figure)
    figure.supxlabel("mean ÷ deviation of a float32 input; dotted: half a unit in the last place of 1")
    figure.savefig(path)
