"""A row: is everyone right, and how long does everyone take?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .peers import COPY, OURS, Candidate, Peer, copy
from .rows import Array, Batch, Row, batch
from .timing import Timing, interleave

SLACK = 1e4  # of others: whether they compute the same thing, not how well
FEATURES = 4  # of others that are checked
SMALL, STEP = 3, 20e6  # a row's part of the time: so much, and one more for every so many bytes

Progress = Callable[[str], None]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Result:
    """What came of a row. Who was wrong was not timed; if ours was, nobody."""

    row: Row
    errors: dict[str, float]
    wrong: list[str]
    timings: dict[str, Timing]

    @property
    def others(self) -> list[str]:
        """Those that ours is compared with."""
        return [name for name in self.timings if name not in (*OURS, COPY)]

    @property
    def ratios(self) -> dict[str, float]:
        """Everyone's median time over ours, given memory over given memory."""
        return {name: self.timings[name].median / self.timings[counterpart(name)].median for name in self.others}

    @property
    def best(self) -> dict[str, float]:
        """The same of the shortest times."""
        return {name: self.timings[name].minimum / self.timings[counterpart(name)].minimum for name in self.others}

    @property
    def least(self) -> dict[str, float]:
        """The lower of both, which is what ours can be sure of."""
        return {name: min(ratio, self.best[name]) for name, ratio in self.ratios.items()}

    @property
    def over_copy(self) -> dict[str, float]:
        """Our median times over that of a copy."""
        return {name: self.timings[name].median / self.timings[COPY].median for name in OURS if name in self.timings}

    @property
    def below(self) -> dict[str, float]:
        """Who was faster, by either."""
        return {name: ratio for name, ratio in self.least.items() if ratio < 1}


def counterpart(name: str) -> str:
    """Which of ours a candidate is compared with."""
    return OURS[name.endswith("out=")]


def every(
    rows: Sequence[Row],
    measure: Callable[[Row, float], Outcome],
    seconds: float,
    progress: Progress,
    least: float = 0.0,
) -> Iterator[Outcome]:
    """Measure the rows, each until a moment of ``time.perf_counter``, with more time for the large ones.

    However long those before it took, a row has ``least`` seconds.
    """
    end = time.perf_counter() + seconds
    weights = [SMALL + row.size / STEP for row in rows]
    for number, row in enumerate(rows):
        left = end - time.perf_counter()
        progress(f"{number + 1} of {len(rows)}, {row}: {max(0, left):.0f} s left")
        share = left * weights[number] / sum(weights[number:])
        yield measure(row, time.perf_counter() + max(least, share))


def measure(peers: Sequence[Peer], row: Row, end: float) -> Result:
    """Check and time everyone on one row, until a moment of ``time.perf_counter``."""
    one = batch(row)
    candidates = [candidate for peer in peers for candidate in peer.candidates(one)]
    errors = check(one, candidates)
    slack = {name: 1.0 if name in OURS else SLACK for name in errors}
    wrong = [name for name in errors if not row.right(errors[name], slack[name])]
    if set(wrong) & set(OURS):
        return Result(row, errors, wrong, {})
    calls = {candidate.name: candidate.call for candidate in (*candidates, copy(one)) if candidate.name not in wrong}
    return Result(row, errors, wrong, interleave(calls, end - time.perf_counter(), random.Random(0)))


def check(batch: Batch, candidates: Sequence[Candidate]) -> dict[str, float]:
    """The errors of first calls, for ours in all features."""
    outputs = {candidate.name: candidate.array(candidate.call()) for candidate in candidates}
    own = {name: y for name, y in outputs.items() if name in OURS}
    others = {name: y for name, y in outputs.items() if name not in OURS}
    return _errors_of_ours(batch, own) | batch.errors(others, FEATURES)


def _errors_of_ours(batch: Batch, own: dict[str, Array]) -> dict[str, float]:
    """The errors in all features, found once if all have the same bits."""
    first, *rest = (y.view(f"u{y.itemsize}") for y in own.values())
    if not all(np.array_equal(first, y) for y in rest):
        return batch.errors(own)
    name = next(iter(own))
    return dict.fromkeys(own, batch.errors({name: own[name]})[name])
