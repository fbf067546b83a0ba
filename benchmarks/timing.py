"""Time calls against each other: in turns, in random order, with a pause before each."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

Call = Callable[[], object]

PAUSE = 0.025  # seconds before a turn: OpenMP's threads spin for milliseconds after their last work
TURN = 0.01  # seconds of samples in a turn, or a single one
SAMPLES = 100  # at most, in a turn
LONG = 0.1  # seconds; a longer call is a turn of its own, for waking threads takes a hundredth of that
ROUNDS = 3  # at least, whatever the time
SLOW = 0.25  # seconds, after which fewer will do


@dataclass(frozen=True)
class Clock:
    """What tells the time and waits, so that tests need not."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Timing:
    """The seconds of every call of one candidate, a list a turn."""

    turns: list[list[float]] = field(default_factory=list)
    host: list[float] = field(default_factory=list)  # that a call took of the host, a turn, if others did the work

    @property
    def samples(self) -> int:
        return sum(map(len, self.turns))

    @property
    def medians(self) -> list[float]:
        """The median of each turn."""
        return [statistics.median(turn) for turn in self.turns]

    @property
    def median(self) -> float:
        """The median of the turns' medians: every turn counts once, however many calls fitted in."""
        return statistics.median(self.medians)

    @property
    def host_median(self) -> float:
        return statistics.median(self.host)

    @property
    def minimum(self) -> float:
        return min(map(min, self.turns))

    @property
    def total(self) -> float:
        return sum(map(sum, self.turns))


Turn = Callable[[Call, Timing, Clock], list[float]]


def interleave(
    calls: Mapping[str, Call],
    seconds: float,
    order: random.Random,
    clock: Clock | None = None,
    turn: Turn | None = None,
) -> dict[str, Timing]:
    """Give every call turns until the time is up, three at the least, or a quarter of a second of them.

    Parameters
    ----------
    calls : Mapping[str, Call]
        What to time.
    seconds : float
        When to stop, pauses and calls that are not counted included. A call that has had its part of them sits out, so
        that a slow one does not leave the others without samples.
    order : random.Random
        Shuffles the calls anew in each round.
    clock : Clock, optional
        Another clock than the computer's.
    turn : Turn, optional
        Another way to take a turn than ``by_clock``.

    Returns
    -------
    dict[str, Timing]
        In the order of ``calls``.
    """
    clock, take = clock or Clock(), turn or by_clock
    timings = {name: Timing() for name in calls}
    end = clock.now() + seconds
    rounds = 0
    while rounds < ROUNDS or clock.now() < end:
        some, share = (SLOW if rounds < ROUNDS else 0.0), seconds / len(calls)
        ready = [name for name in calls if timings[name].total < max(some, share)]
        if not ready:
            break
        order.shuffle(ready)
        for name in ready:
            clock.sleep(PAUSE)
            timings[name].turns.append(take(calls[name], timings[name], clock))
        rounds += 1
    return timings


def by_clock(call: Call, before: Timing, clock: Clock) -> list[float]:
    """The seconds of calls in a row, after one that wakes threads and fills caches, or of that one if it is long."""
    seconds: list[float] = []
    with uncollected():
        first = timed(call, clock)
        if first >= LONG:
            return [first]
        while not seconds or (sum(seconds) < TURN and len(seconds) < SAMPLES):
            seconds.append(timed(call, clock))
    return seconds


def timed(call: Call, clock: Clock) -> float:
    """The seconds of a call."""
    began = clock.now()
    call()
    return clock.now() - began


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, as in ``timeit``."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
