"""The numbers, as a page of Markdown that reads as well in a terminal."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from normspec.cli.terminal import lines

from .work import Result

CHANNELS = "Data|Channel|Mean|Std|Step mean|Step std|Running mean|Running std|Eval mean|Eval std"
CLASSES = "Class|Data|Evaluated|Step, ms|Eval, ms|Difference|Error"


def page(results: Sequence[Result], title: str = "") -> str:
    """Both tables, and what is in them."""
    first = results[0].first
    machine = f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"
    return "\n".join(
        [
            *([f"# {title}", ""] if title else []),
            f"Channel by channel, through `{first.case.dialect.name}`: of the data, of the output of the last training",
            "step (mean 0 and deviation 1, by the batch itself), what was learned, and of the output in evaluation.",
            "",
            *lines(CHANNELS, channels(results)),
            "",
            f"Every class on the same batches: milliseconds a call ({machine}), and the",
            f"largest difference of any output from `{first.case.dialect.name}` and from NumPy in float64. Classes",
            "without a training mode (–) were given what the first had learned.",
            "",
            *lines(CLASSES, classes(results)),
            "",
            "Each in its own words:",
            "",
            *(f"- `{run.case.dialect.name}`: `{run.call}`" for run in results[0].runs),
        ]
    )


def channels(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    """A row for each channel that is shown: before, after, learned."""
    for result in results:
        run = result.first
        before, step, output = map(moments, (result.data.whole, run.step, run.output))
        mean, variance = run.state("mean").numpy(), run.state("variance").numpy()
        for name, i in result.data.channels.items():
            numbers = f"{before[0][i]:.2f}|{before[1][i]:.2f}|{signed(step[0][i])}|{step[1][i]:.6f}|{mean[i]:.2f}"
            numbers += f"|{np.sqrt(variance[i]):.2f}|{output[0][i]:.3f}|{output[1][i]:.3f}"
            yield result.data.name, name, *numbers.split("|")


def classes(results: Iterable[Result]) -> Iterable[Sequence[str]]:
    """A row for each class on each data set."""
    for result in results:
        for run in result.runs:
            step = f"{1e3 * median(run.training):.2f}" if run.learns else "–"
            evaluation = f"{1e3 * median(run.evaluation):.2f}"
            shape = "×".join(map(str, result.data.whole.shape))
            difference = "0" if run.difference == 0 else f"{run.difference:.0e}"
            yield run.name, result.data.name, shape, step, evaluation, difference, f"{run.error:.0e}"


def moments(x: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each channel."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64)


def signed(number: float) -> str:
    """A number that is zero but for rounding."""
    return "0" if number == 0 else f"{number:.0e}"
