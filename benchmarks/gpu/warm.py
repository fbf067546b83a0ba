"""Compile what the rows need before they are measured, in processes beside each other: one kernel takes seconds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

import numpy as np

from normspec.runtime.kernels.cuda import cache, feature_plans, plans, row_plans
from normspec.runtime.kernels.cuda.arrays import STORAGE, DeviceArray
from normspec.runtime.kernels.cuda.program import Program

from ..machine import cores
from ..rows import Row

FACTS = ("capability", "multiprocessors", "clusters")


class Collector:
    """In place of a GPU, with the sizes of one: it keeps the programs that it should launch."""

    def __init__(self, facts: dict[str, Any]) -> None:
        vars(self).update(facts)
        self.programs: dict[str, Program] = {}

    def here(self, index: int) -> Collector:
        return self

    def fits(self, program: Program) -> bool:
        return True

    def launcher(self, program: Program, grid: tuple[int, ...], serialized: bool = False) -> None:
        self.programs[program.name] = program


def programs(rows: Iterable[Row], facts: dict[str, Any]) -> list[Program]:
    """Every program that the rows need on a GPU of such facts."""
    collector = Collector(facts)
    with mock.patch.object(feature_plans, "gpu", collector.here), mock.patch.object(row_plans, "gpu", collector.here):
        for row in rows:
            plan(row)
    return [collector.programs[name] for name in sorted(collector.programs)]


def plan(row: Row) -> None:
    """Plan a row, on memory that is not there."""
    outer, feature, inner = row.shape[0], row.shape[1], math.prod(row.shape[2:])
    shape = (outer, feature, inner) if row.layout == "channels first" else (outer * inner, feature, 1)
    x = array(shape, STORAGE[row.dtype])
    vectors = [array((feature,), np.dtype(np.float64 if row.dtype == "float64" else np.float32))] * 4
    layout = plans.layout(x, x)
    if row.mode == "evaluation":
        layout.inference(x, x, vectors)
    else:
        layout.training(x, x, vectors, True)
    if row.mode == "backward":
        layout.training(x, x, [*vectors[:2], None, None], True)
        layout.gradients(x, x, x, vectors[0], True)


def array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
    """A contiguous array at an address that is aligned to anything."""
    strides = tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return DeviceArray(1 << 40, shape, strides, dtype, 0, 0, None)


def warm(rows: Sequence[Row], gpu: Any) -> None:
    """Compile for a GPU what is not yet in the cache; where that fails, the rows will say so."""
    facts = {name: getattr(gpu, name) for name in FACTS}
    count = max(1, cores())
    task = json.dumps({"rows": rows, "facts": facts, "count": count})
    workers = []
    for rank in range(count):
        command = [sys.executable, "-m", __name__, str(rank)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment))
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(task)
        worker.stdin.close()
    for worker in workers:
        worker.wait()


def main() -> None:
    """Do a worker's share."""
    task, rank = json.load(sys.stdin), int(sys.argv[1])
    rows = [Row(mode, tuple(shape), dtype, layout) for mode, shape, dtype, layout in task["rows"]]
    facts = task["facts"] | {"capability": tuple(task["facts"]["capability"])}
    for program in programs(rows, facts)[rank :: task["count"]]:
        cache.cubin(program, facts["capability"])


if __name__ == "__main__":
    main()
