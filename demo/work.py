"""The main job: every class of every dialect trains on the same batches, then evaluates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from normspec.codegen.model import Class, Dialect
from normspec.conformance.cases import Case

from .data import Data, Floats

SETTINGS = {"epsilon": 1e-5, "update_rate": 0.1}  # the same for all, whatever each calls them
Progress = Callable[[str], None]


@dataclass
class Run:
    """One class at work on one data set, and what came of it."""

    case: Case
    arguments: dict[str, Any]
    module: Any
    training: list[float] = field(default_factory=list)  # seconds a call
    evaluation: list[float] = field(default_factory=list)
    means: list[npt.NDArray[Any]] = field(default_factory=list)  # running, after each step
    step: Floats = field(default_factory=lambda: np.empty(0, np.float32))  # output of the last training step
    output: Floats = field(default_factory=lambda: np.empty(0, np.float32))  # of the evaluation of the whole
    difference: float = 0.0  # largest, to the first dialect
    error: float = 0.0  # largest, to NumPy in float64

    @property
    def name(self) -> str:
        return self.case.one.qualified

    @property
    def call(self) -> str:
        """How the module was made."""
        return f"{self.case.one.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"

    @property
    def learns(self) -> bool:
        return bool(self.case.canonical(self.arguments)["learns"])

    def state(self, canonical: str) -> Any:
        """A tensor that the module keeps, whatever its dialect calls it."""
        return getattr(self.module, self.spoken(canonical))

    def spoken(self, canonical: str) -> str:
        return next(one.name for one in self.case.one.state if one.canonical == canonical)

    def compare(self, y: Floats, first: Floats, reference: npt.NDArray[np.float64]) -> None:
        self.difference = float(np.maximum(self.difference, largest(y, first)))  # keeps a NaN, as max would not
        self.error = float(np.maximum(self.error, largest(y, reference)))


@dataclass(frozen=True)
class Result:
    """What came of one data set."""

    data: Data
    runs: tuple[Run, ...]
    last: Floats  # the last training batch

    @property
    def first(self) -> Run:
        """The run that the others are compared with, of a class that learns."""
        return next(run for run in self.runs if run.learns)


def every(dialects: Sequence[Dialect], sets: Iterable[Data], progress: Progress) -> Iterator[Result]:
    """Run everything, a data set at a time."""
    for data in sets:
        runs = tuple(start(dialect, one, data) for dialect in dialects for one in dialect.classes if takes(one, data))
        if any(run.learns for run in runs):
            yield work(data, runs, progress)


def takes(one: Class, data: Data) -> bool:
    """Whether a class normalizes batches, of this shape."""
    return one.operator == "batch_norm" and any(data.fits(pattern) for pattern in one.inputs)


def start(dialect: Dialect, one: Class, data: Data) -> Run:
    """A module in the words of its dialect, as the others are in theirs."""
    case = Case(dialect, one)
    settings = {"features": data.features, **SETTINGS}
    arguments = {spoken: value for name, value in settings.items() if (spoken := case.spoken(name))}
    return Run(case, arguments, case.cls(**arguments))


def work(data: Data, runs: tuple[Run, ...], progress: Progress) -> Result:
    """Train all that can be, on the same batches at the same time; the others are given what the first learned."""
    learners = [run for run in runs if run.learns]
    reference = learners[0].case.oracle(learners[0].module, **learners[0].arguments)
    title = f"{data.name} {tuple(data.whole.shape)}"
    for run in learners:
        run.case.set_mode(run.module, True)
    for number, batch in enumerate(islice(data.batches(), data.steps), 1):
        compiling = ", the first may compile" if number == 1 else ""
        names = ", ".join(run.case.dialect.name for run in learners)
        progress(f"{title}: training {names}: step {number} of {data.steps}{compiling}")
        train(learners, batch, reference(batch, training=True))
    for run in runs:
        progress(f"{title}: evaluating: {run.case.dialect.name}")
        if not run.learns:
            teach(run, learners[0])
        run.case.set_mode(run.module, False)
        run.output, run.evaluation = timed(run.module, data.whole, 5)
    expected = reference(data.whole, training=False)
    for run in runs:
        run.compare(run.output, learners[0].output, expected)
    return Result(data, runs, batch)


def train(learners: Sequence[Run], batch: Floats, expected: npt.NDArray[np.float64]) -> None:
    """One step of each, on the same batch."""
    for run in learners:
        run.step, seconds = timed(run.module, batch, 1)
        run.training += seconds
        run.means.append(run.state("mean").numpy().copy())
        run.compare(run.step, learners[0].step, expected)


def teach(run: Run, teacher: Run) -> None:
    """Load what another module has learned, by the dialect's own method and tensors."""
    learned = {
        one.name: run.case.package.Tensor(teacher.state(one.canonical).numpy().copy())
        for one in run.case.one.state
        if one.canonical != "count"
    }
    methods = {f"{one.operator}.{one.function}": one.name for one in run.case.dialect.methods}
    getattr(run.module, methods["module.load_state_dict"])(learned)


def timed(module: Any, x: Floats, calls: int) -> tuple[Floats, list[float]]:
    """What a module makes of ``x``, and the seconds that each call took."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        y = module(x)
        seconds.append(time.perf_counter() - began)
    return y, seconds


def largest(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The largest absolute difference."""
    return float(np.max(np.abs(a - b)))
