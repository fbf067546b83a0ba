"""Times of calls as ratios in one run: seconds would differ from machine to machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np


def in_times(functions: Mapping[str, Callable[[], object]], calls: int = 100, rounds: int = 80) -> list[float]:
    """Times of calls, in times of the first: medians of rounds, as clocks change.

    What counts is this thread's time: others may have the processor in between.
    """
    times: list[list[float]] = []
    for _ in range(rounds):
        times.append([])
        for function in functions.values():
            began = time.thread_time()
            for _ in range(calls):
                function()
            times[-1].append((time.thread_time() - began) / calls)
    print(*(f"{name} {1e6 * best:.2f} µs" for name, best in zip(functions, np.min(times, 0), strict=True)), sep=", ")
    return [float(np.median([one[place] / one[0] for one in times])) for place in range(1, len(functions))]
