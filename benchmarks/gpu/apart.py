"""Rows in a process of their own: a kernel that hangs or breaks the GPU's context takes no other row along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import torch

from ..rows import Row
from .measure import Result

GRACE = 90.0  # seconds that a row has beyond its time: torch.compile takes the most
PROCESSES = 5  # that are lost, and it is enough

Measure = Callable[[Row, float], Result]


class Lost(Exception):
    """Process after process was lost."""


def works() -> bool:
    """Does the GPU do what it is asked in this process?"""
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


class Apart:
    """A measure of rows that is taken in another process, of which a new one follows one that is lost.

    Raises
    ------
    Lost
        When a row is asked for after ``PROCESSES`` were lost.
    """

    def __init__(self, measure: Measure, works: Callable[[], bool] = works) -> None:
        self._measure, self._works = measure, works
        self._lost = 0
        self._start()

    def __call__(self, row: Row, end: float) -> Result:
        if self._lost == PROCESSES:
            raise Lost(f"{PROCESSES} processes hung, died or broke the GPU's context")
        task = self._pool.submit(_attempt, self._measure, self._works, row, end)
        try:
            result, sound = task.result(max(0.0, end - time.perf_counter()) + GRACE)
        except (TimeoutError, BrokenProcessPool) as problem:
            result, sound = Result(row), False
            result.fail("row", problem)
        if not sound:
            self.close()
            self._lost += 1
            self._start()
        return result

    def close(self) -> None:
        """End the process, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        self._pool.shutdown()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._child = self._pool.submit(_ready).result()


def _ready() -> int:
    """The process, when it has imported torch, as this module does."""
    return os.getpid()


def _attempt(measure: Measure, works: Callable[[], bool], row: Row, end: float) -> tuple[Result, bool]:
    result = measure(row, end)
    return result, not result.failed or works()
