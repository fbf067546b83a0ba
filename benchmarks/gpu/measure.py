"""A row on a GPU: is everyone right, how long does everyone take of the GPU, and of the host?"""

from __future__ import annotations

import math
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ..measure import SLACK
from ..peers import COPY
from ..rows import MOVED, Row
from ..timing import Call, Clock, Timing, interleave
from .peers import KERNELS, OURS, Candidate, Peer, copy
from .tensors import Batch, batch

TURN = 2e-3  # seconds of work that are queued in a turn
CALLS = 200  # at most, in a turn: a queue that is full makes the host wait


@dataclass
class Result:
    """What came of a row. Who was wrong was not timed; if ours was, nobody. Who failed says why."""

    row: Row
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)

    def fail(self, name: str, problem: Exception) -> None:
        """Keep why somebody failed: a line, and where."""
        self.failed[name] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        self.traces[name] = "".join(traceback.format_exception(problem))

    @property
    def bytes(self) -> int:
        """What must move."""
        return MOVED[self.row.mode] * self.row.size

    def bandwidth(self, name: str) -> float:
        """Bytes a second, of those that must move; a copy moves x twice."""
        moved = 2 * self.row.size if name == COPY else self.bytes
        return moved / self.timings[name].median

    def share(self, name: str) -> float:
        """Bandwidth over that of a copy."""
        return self.bandwidth(name) / self.bandwidth(COPY)

    @property
    def peers(self) -> dict[str, float]:
        """Everyone's time over ours, or where that is not measured over our kernels'."""
        own = next((self.timings[name].median for name in (OURS, KERNELS) if name in self.timings), math.inf)
        others = {name: one for name, one in self.timings.items() if name not in (OURS, KERNELS, COPY)}
        return {name: one.median / own for name, one in others.items()}

    @property
    def best_peer(self) -> float | None:
        """The shortest of these times over ours."""
        return min(self.peers.values(), default=None)


def no_pause(seconds: float) -> None:
    """None is needed before a turn: nothing runs on the GPU."""


class Bed(NamedTuple):
    """Where it is measured: torch's name of the device, the bytes of its cache, and how a turn is taken."""

    device: str
    cache: int
    turn: Callable[[Call, Timing, Clock], list[float]]
    clock: Clock = Clock(sleep=no_pause)


def on_gpu(call: Call, before: Timing, clock: Clock) -> list[float]:
    """The seconds a call took of the GPU, when so many were queued that it had no pause for the host, if it can."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    calls = 3 if not before.turns else max(3, min(CALLS, int(TURN / before.turns[-1][-1])))
    call()
    torch.cuda.synchronize()
    start.record()
    began = clock.now()
    for _ in range(calls):
        call()
    ended = clock.now()
    end.record()
    end.synchronize()
    before.host.append((ended - began) / calls)
    return [start.elapsed_time(end) * 1e-3 / calls]


def measure(peers: Sequence[Peer], bed: Bed, seed: int, row: Row, end: float) -> Result:
    """Check and time everyone on one row, until a moment of ``time.perf_counter``; nothing is raised."""
    result = Result(row)
    try:
        one = batch(row, bed.device, bed.cache, seed)
        candidates = [found for peer in peers for found in built(peer, one, result)]
        result.errors = check(one, candidates, result)
    except Exception as problem:  # the next row may fit into memory
        result.fail("row", problem)
        return result
    slack = {name: 1.0 if name in (OURS, KERNELS) else SLACK for name in result.errors}
    result.wrong = [name for name, error in result.errors.items() if not row.right(error, slack[name])]
    if {OURS, KERNELS} & set(result.wrong):
        return result
    right = [candidate for candidate in candidates if candidate.name in result.errors]
    right = [candidate for candidate in right if candidate.name not in result.wrong]
    calls = {candidate.name: candidate.call(one) for candidate in (*right, copy(one))}
    try:
        result.timings = interleave(calls, end - time.perf_counter(), random.Random(0), bed.clock, bed.turn)
    except Exception as problem:
        result.fail("timing", problem)
    return result


def built(peer: Peer, batch: Batch, result: Result) -> list[Candidate]:
    """A peer's candidates, or a line about why there are none."""
    try:
        return list(peer(batch))
    except Exception as problem:
        result.fail(peer.__name__, problem)
        return []


def check(batch: Batch, candidates: Sequence[Candidate], result: Result) -> dict[str, float]:
    """The errors of first calls."""
    outputs: dict[str, Any] = {}
    for candidate in candidates:
        try:
            outputs[candidate.name] = candidate.outputs(candidate.function(batch.sets[0]))
        except Exception as problem:
            result.fail(candidate.name, problem)
    return batch.errors(outputs)
