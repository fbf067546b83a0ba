"""The picture: photographs, their histograms, running means and digits, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from .data import COLORS, Floats
from .work import Result, Run

WIDTH, HEIGHT, DPI = 1200, 740, 100
SPAN = 2.0  # standard deviations between gray and black, or white
INK = {"red": "#d64550", "green": "#2f9e5f", "blue": "#2b6cb8"}
TEXT, FAINT = "#30363d", "#8b949e"
DIGITS = 6


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture, ``WIDTH`` by ``HEIGHT`` pixels; the first result is of the photographs."""
    photos, digits = results[0], next(one for one in results if one.data.axes == "N C")
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    top, middle, bottom = split(figure, 3, 1, height_ratios=[2.4, 2.2, 2.5], hspace=0.03)
    draw_photographs(top, photos)
    before, after = middle.subplots(1, 2)
    draw_histogram(before, photos.data.whole, (0, 256))
    draw_histogram(after, photos.first.output, (-3, 3))
    before.set_xlabel("pixel values")
    after.set_xlabel("normalized by the running statistics: standard deviations from the mean")
    curves, pixels = split(bottom, 1, 2)
    draw_means(curves.subplots(), photos)
    draw_digits(pixels, digits)
    canvas.draw()
    save(np.asarray(canvas.buffer_rgba())[..., :3], path)


def save(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a PNG, of a third of the levels: nobody sees it, and it takes a third off the file."""
    Image.fromarray(np.round(pixels / 3).astype(np.uint8) * np.uint8(3)).save(path, optimize=True)


def draw_photographs(figure: SubFigure, result: Result) -> None:
    """Both photographs as they are, then normalized, a strip of each through each dialect."""
    before, after = split(figure, 1, 2)
    heading(before, "Before")
    heading(after, f"After: one batch norm, {len(dialects(result))} dialects, no seams")
    joined, edges = strips(result)
    for axes, photo in zip(before.subplots(1, 2), result.data.whole, strict=True):
        show(axes, photo.transpose(1, 2, 0) / 255)
    for axes, photo in zip(after.subplots(1, 2), joined, strict=True):
        show(axes, np.clip(photo.transpose(1, 2, 0) / (2 * SPAN) + 0.5, 0, 1))
        axes.set_xticks((edges[1:] + edges[:-1]) / 2, dialects(result), fontsize=7.5)
        axes.set_xticks(edges[1:-1], minor=True)
        axes.tick_params(which="major", length=0, pad=2, labelcolor=TEXT)
        axes.tick_params(which="minor", length=6, width=0.8, color=TEXT)


def strips(result: Result) -> tuple[Floats, npt.NDArray[np.int_]]:
    """The output put together of one vertical strip from each dialect, and where the strips end."""
    runs = [next(run for run in result.runs if run.case.dialect.name == name) for name in dialects(result)]
    edges = np.linspace(0, result.data.whole.shape[3], len(runs) + 1).round().astype(int)
    parts = [run.output[..., edges[i] : edges[i + 1]] for i, run in enumerate(runs)]
    return np.concatenate(parts, axis=3), edges


def dialects(result: Result) -> list[str]:
    """Those that ran."""
    return list(dict.fromkeys(run.case.dialect.name for run in result.runs))


def draw_histogram(axes: Axes, x: Floats, limits: tuple[float, float]) -> None:
    """How the values of each color are spread, with their means as lines."""
    for color, i in COLORS.items():
        values = x[:, i].ravel()
        axes.hist(values, bins=64, range=limits, density=True, histtype="stepfilled", color=INK[color], alpha=0.22)
        axes.hist(values, bins=64, range=limits, density=True, histtype="step", color=INK[color], linewidth=1.2)
        axes.axvline(float(values.mean()), color=INK[color], linewidth=1.6, linestyle=(0, (4, 2)))
    axes.set_xlim(limits)
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_yticks([])
    axes.set_ylabel("frequency (square root)")
    plain(axes, "left")


def draw_means(axes: Axes, result: Result) -> None:
    """The running means of every class that learns, each drawn thinner upon those before it."""
    heading(axes.figure, "Running means while training")
    learners = [run for run in result.runs if run.learns]
    for place, run in enumerate(learners):
        draw_run(axes, run, place, len(learners))
    for color, i in COLORS.items():
        axes.axhline(float(result.data.whole[:, i].mean()), color=INK[color], linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_xlim(0, len(learners[0].means))
    axes.set_ylim(0)
    axes.set_xlabel("training step (dashed: the mean of the photographs)")
    axes.legend(loc="lower right", frameon=False, labelcolor=TEXT, fontsize=9)
    plain(axes)


def draw_run(axes: Axes, run: Run, place: int, places: int) -> None:
    """Its running means, so thin that the wider ones below it stay visible."""
    means = np.stack([np.zeros_like(run.means[0]), *run.means])
    last = place == places - 1
    look: dict[str, Any] = {"linewidth": 1.2, "color": "black", "linestyle": (0, (1, 3))} if last else {}
    for color, i in COLORS.items():
        style = {"linewidth": 9 / (1 + 2 * place), "alpha": 0.3 + 0.4 * place / places, "color": INK[color], **look}
        axes.plot(means[:, i], **style)
    axes.plot([], [], label=run.name, **{**style, "color": look.get("color", FAINT)})


def draw_digits(figure: SubFigure, result: Result) -> None:
    """Some digits, and what is left of them when every pixel is normalized on its own."""
    heading(figure, "Digits, each pixel a feature: red above average, blue below")
    before, after = figure.subplots(2, 1)
    show(before, in_a_row(result.data.whole), cmap="gray_r")
    show(after, in_a_row(result.first.output), cmap="RdBu_r", vmin=-SPAN, vmax=SPAN)


def in_a_row(pixels: Floats) -> Floats:
    """The first digits side by side, with a gap after each."""
    images = pixels[:DIGITS].reshape(DIGITS, 8, 8)
    return np.concatenate(np.pad(images, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan), axis=1)[:, :-1]


def split(figure: Figure | SubFigure, rows: int, columns: int, **options: Any) -> list[SubFigure]:
    """Parts of a figure, each with a heading of its own."""
    return list(np.ravel(np.asarray(figure.subfigures(rows, columns, **options), dtype=object)))


def show(axes: Axes, image: npt.NDArray[Any], **options: Any) -> None:
    """An image and nothing around it."""
    axes.imshow(image, **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def plain(axes: Axes, *hidden: str) -> None:
    """No box, quiet ticks."""
    axes.spines[["top", "right", *hidden]].set_visible(False)
    axes.spines[:].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=TEXT, labelsize=9)
    axes.xaxis.label.set(color=TEXT, fontsize=9)
    axes.yaxis.label.set(color=TEXT, fontsize=9)


def heading(figure: Any, text: str) -> None:
    """A title at the left."""
    figure.suptitle(text, fontsize=11.5, fontweight="bold", color=TEXT, x=0.02, ha="left")
