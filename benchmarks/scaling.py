"""How time and memory grow with N, C and HW, from one value to a hundred million. ``normspec bench --scaling``."""

from __future__ import annotations

import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from normspec.cli.terminal import Line, lines
from normspec.runtime import kernels

from . import machine
from .report import microseconds
from .rows import EPSILON, MODES, RATE, Array
from .timing import uncollected

DECADES = 9
Grown = Callable[[int], tuple[int, int, int]]  # from values to (outer, feature, inner) of so many or a few less
GROWING: dict[str, Grown] = {  # by what grows; C last, for its memory
    "N": lambda size: (max(1, size // PART), min(size, 8), max(1, min(size, PART) // 8)),
    "HW": lambda size: (max(1, min(size, PART) // 8), min(size, 8), max(1, size // PART)),
    "C": lambda size: (max(1, min(size, PART) // 8), max(1, size // PART), min(size, 8)),
}
ENOUGH = 0.05  # seconds of calls a point
PART = 64  # of the values along what grows, so that the other axes are 64 values together
WHAT = (
    "Float32, channels first, the functions of the CPU backend on memory that is there: what grows has all but 64 of "
    "the values. Times are medians in µs, for so many values; the last decade takes so many times as long as the one "
    "before. Peak memory is by how much the process has been larger than before the first call: beside x and y, which "
    "were there, the vectors of C values and what the threads work in."
)
PICTURE = "![Time of a call as N, HW and C grow, beside a line of slope one](scaling.png)"


class Point(NamedTuple):
    """The median time of a call, and by how many bytes the process has grown at most since before the first."""

    axis: str
    mode: str
    values: int
    seconds: float
    grown: int | None


def main(output: Path, decades: int = DECADES) -> int:
    """Measure and write the numbers and a plot."""
    output.mkdir(parents=True, exist_ok=True)
    line, points = Line(), []
    for point in measured(decades):
        points.append(point)
        line(f"scaling, {point.axis}, {point.mode}: {point.values:.0e} values")
    line.done()
    where = {**machine.describe(), "date": datetime.date.today().isoformat(), "load_after": machine.load()}
    data = {**where, "points": [point._asdict() for point in points]}
    (output / "scaling.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (output / "scaling.md").write_text(page(points, where), encoding="utf-8")
    draw(points, output / "scaling.png")
    print(f"{page(points, where)}\nwritten to {output}: scaling.json, scaling.md, scaling.png")
    return 0


def measured(decades: int, axes: Iterable[str] = GROWING) -> Iterator[Point]:
    """Axes and modes, at each power of ten."""
    memory = np.random.default_rng(0).standard_normal(10 ** (decades - 1), np.float32)
    target = np.ones_like(memory)  # written to, so that it is there
    for call in calls(memory[:1].reshape(1, 1, 1), target[:1].reshape(1, 1, 1)):
        call()
    before = peak()
    for axis in axes:
        for power in range(decades):
            shape = GROWING[axis](10**power)
            size = int(np.prod(shape))
            x, y = memory[:size].reshape(shape), target[:size].reshape(shape)
            for mode, call in zip(MODES, calls(x, y), strict=True):
                seconds = median(call)
                after = peak()
                yield Point(axis, mode, size, seconds, None if before is None or after is None else after - before)


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


def peak() -> int | None:
    """The most bytes that the process has had; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def page(points: Sequence[Point], where: dict[str, Any]) -> str:
    """A table, a line for what grows and each mode, and how near to linear that is."""
    sizes = [10**power for power in range(0, DECADES, 2)]
    header = "|".join(["grows", "mode", *(f"{size:,}" for size in sizes), "last decade", "peak, MiB"])
    rows = []
    for axis in GROWING:
        for mode in MODES:
            chosen = [point for point in points if (point.axis, point.mode) == (axis, mode)]
            cells = [microseconds(min(chosen, key=lambda one: abs(one.values - size)).seconds) for size in sizes]
            last = f"{chosen[-1].seconds / chosen[-2].seconds:.1f}"
            grown = max(point.grown or 0 for point in chosen) / 2**20
            rows.append([axis, mode, *cells, last, f"{grown:.1f}"])
    command = f"{where['date']}, `normspec bench --scaling`; load {where['load_after']} after"
    told = f"{where['cpu']}, {where['cores']} cores, {command}."
    return "\n\n".join(["# Scaling", WHAT, told, "\n".join(lines(header, rows)), PICTURE]) + "\n"


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
