"""How time grows with N, C and HW, from one value to a hundred million. ``normspec bench --scaling``."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from normspec.cli.terminal import Line
from normspec.runtime import kernels

from . import machine
from .rows import EPSILON, MODES, RATE, Array
from .timing import uncollected

DECADES = 9
GROWING: dict[
    str, Callable[[int], tuple[int, int, int]]
] = {  # what grows, and the shape (outer, feature, inner) of so many values or a few less
    "N": lambda size: (max(1, size // 64), min(size, 8), max(1, min(size, 64) // 8)),
    "C": lambda size: (max(1, min(size, 64) // 8), max(1, size // 64), min(size, 8)),
    "HW": lambda size: (max(1, min(size, 64) // 8), min(size, 8), max(1, size // 64)),
}
ENOUGH = 0.05  # seconds of calls a point


class Point(NamedTuple):
    """The median time of a call."""

    axis: str
    mode: str
    values: int
    seconds: float


def main(output: Path, decades: int = DECADES) -> int:
    """Measure and write the numbers and a plot."""
    output.mkdir(parents=True, exist_ok=True)
    line, points = Line(), []
    for point in measured(decades):
        points.append(point)
        line(f"scaling, {point.axis}, {point.mode}: {point.values:.0e} values")
    line.done()
    data = {**machine.describe(), "points": [point._asdict() for point in points]}
    (output / "scaling.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    draw(points, output / "scaling.png")
    print(f"written to {output}: scaling.json, scaling.png")
    return 0


def measured(decades: int) -> Iterator[Point]:
    """Every axis and mode, at each power of ten."""
    memory = np.random.default_rng(0).standard_normal(10 ** (decades - 1), np.float32)
    target = np.zeros_like(memory)
    for axis, shape_of in GROWING.items():
        for power in range(decades):
            shape = shape_of(10**power)
            size = int(np.prod(shape))
            x, y = memory[:size].reshape(shape), target[:size].reshape(shape)
            for mode, call in zip(MODES, calls(x, y), strict=True):
                yield Point(axis, mode, size, median(call))


def calls(x: Array, y: Array) -> tuple[Callable[[], object], ...]:
    """The functions of the backend, in the order of the modes."""
    backend, features = kernels.on("cpu"), x.shape[1]
    mean, variance = np.zeros(features), np.ones(features)
    return (
        lambda: backend.forward_training(x, y, None, None, mean, variance, EPSILON, RATE, True),
        lambda: backend.normalize(x, y, mean, variance, None, None, EPSILON),
        lambda: backend.backward(x, x, y, mean, variance, None, True),
    )


def median(call: Callable[[], object]) -> float:
    """Seconds of a call: in batches, for a clock has its own price, and after one that may compile."""
    call()
    began = time.perf_counter()
    call()
    once = time.perf_counter() - began
    number = max(1, int(1e-4 / once))
    samples: list[float] = []
    with uncollected():
        while not samples or (sum(samples) * number < ENOUGH and len(samples) < 100):
            began = time.perf_counter()
            for _ in range(number):
                call()
            samples.append((time.perf_counter() - began) / number)
    return statistics.median(samples)


def draw(points: list[Point], path: Path) -> None:
    """A panel for what grows; a line of slope one beside the times."""
    figure = Figure(figsize=(4.2 * len(GROWING), 4), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(GROWING), sharex=True, sharey=True, squeeze=False)[0]
    for axes, axis in zip(panels, GROWING, strict=True):
        for mode in MODES:
            chosen = [point for point in points if (point.axis, point.mode) == (axis, mode)]
            axes.loglog([one.values for one in chosen], [one.seconds for one in chosen], "o-", label=mode, markersize=4)
        last = max((point for point in points if point.axis == axis), key=lambda point: point.values)
        ends = np.array([1e3, last.values])
        axes.loglog(ends, last.seconds * ends / last.values, ":", color="#999999", label="linear")
        axes.set_title(f"{axis} grows", loc="left", fontsize=10)
        axes.set_xlabel("values")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds a call")
    panels[0].legend(frameon=False)
    figure.savefig(path)
