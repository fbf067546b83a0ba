"""Ours beside torch, cuDNN and torch.compile on a GPU: ``normspec bench-gpu``."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normspec.cli.terminal import Line

from .. import machine, shape
from ..measure import every
from ..rows import LAYOUTS, MODES, Row, combinations
from .rows import DTYPES, QUICK, SHAPES

if TYPE_CHECKING:  # they need torch
    from .apart import Measure
    from .measure import Result

SECONDS, QUICK_SECONDS = 480.0, 60.0  # and compiling before
EVERY = 15.0  # seconds, between one saving of results and the next


def main(argv: Sequence[str]) -> int:
    """Check, measure, print the tables, and write them with the numbers and a plot; 2 where there is no GPU."""
    options = parser().parse_args(argv)
    trouble = unfit()
    if trouble:
        print(f"normspec bench-gpu: {trouble}", file=sys.stderr)
        return 2
    import torch

    from normspec.runtime.kernels.cuda.device import gpu

    from .apart import Apart
    from .measure import Bed, measure, on_gpu
    from .peers import PEERS, compiled
    from .warm import warm

    print("compiling what is not in the cache yet", file=sys.stderr)
    try:
        warm(chosen(options), gpu(0))
    except Exception:  # then the rows compile, or say why they cannot
        traceback.print_exc()
    facts = torch.cuda.get_device_properties(0)
    bed = Bed("cuda:0", facts.L2_cache_size, on_gpu)
    peers = [peer for peer in PEERS if peer is not compiled or not options.no_compile]
    seed = options.seed if options.seed is not None else time.time_ns() % 2**31
    apart = Apart(functools.partial(measure, peers, bed, seed))
    try:
        return write(options, apart, seed, shlex.join(["normspec", "bench-gpu", *argv]), facts.name)
    finally:
        apart.close()


def unfit() -> str | None:
    """What is missing for this benchmark, or None."""
    from normspec.runtime.kernels import cuda

    try:
        import torch
    except ImportError:
        return "needs torch with CUDA: pip install torch"
    if not cuda.available():
        return f"CUDA is {cuda.describe()}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU"
    return None


def write(options: argparse.Namespace, measure: Measure, seed: int, command: str, gpu: str) -> int:
    """Measure, and write what there is, even if it is not all."""
    from . import picture, report  # needs matplotlib, which is said before the time is spent

    options.output.mkdir(parents=True, exist_ok=True)
    default, rows = QUICK_SECONDS if options.quick else SECONDS, chosen(options)
    results: list[Result] = []
    began, line = time.perf_counter(), Line()
    seconds = default if options.seconds is None else options.seconds
    data, table, plot = (options.output / f"bench-gpu.{suffix}" for suffix in ("json", "md", "png"))
    described = {**machine.describe(), "gpu": gpu, "seed": seed, "date": datetime.date.today().isoformat()}

    def save() -> str:
        """Write the numbers and the tables of what there is."""
        where = {
            **described,
            "command": command,
            "seconds": round(time.perf_counter() - began, 1),
            "rows": len(results),
            "wanted": len(rows),
        }
        data.write_text(json.dumps(report.data(results, where), indent=1) + "\n", encoding="utf-8")
        page = report.page(results, where)
        table.write_text(page, encoding="utf-8")
        return page

    found = every(rows, measure, seconds, line)
    interrupted = collect(results, found, save)
    line.done()
    page = save()
    if any(result.timings for result in results):
        picture.draw(results, plot)
    print(f"{page}\nwritten to {options.output}: {data.name}, {table.name}, {plot.name}")
    sound = all(result.timings and not result.wrong for result in results)
    return 0 if sound and results and not interrupted else 1


def chosen(options: argparse.Namespace) -> list[Row]:
    """The rows that are asked for."""
    rows = combinations(options.shape or (QUICK if options.quick else SHAPES), options.dtype or DTYPES)
    return [row for row in rows if row.mode in (options.mode or MODES) and row.layout in (options.layout or LAYOUTS)]


def collect(results: list[Result], found: Iterable[Result], save: Callable[[], object]) -> bool:
    """Append what is found, and save it now and then, for a GPU may take the process along; was it interrupted?"""
    from .apart import Lost

    saved = time.perf_counter()
    try:
        for result in found:
            results.append(result)
            if time.perf_counter() - saved > EVERY:
                save()
                saved = time.perf_counter()
    except KeyboardInterrupt:
        return True
    except Lost as problem:
        print(problem, file=sys.stderr)
        return True
    return False


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="normspec bench-gpu", description=__doc__)
    made.add_argument("--quick", action="store_true", help="a handful of shapes")
    made.add_argument("--seconds", type=float, help=f"time for all rows ({SECONDS:.0f}; quick: {QUICK_SECONDS:.0f})")
    made.add_argument("--shape", type=shape, action="append", help="only this one, such as 32,64,112,112; repeatable")
    made.add_argument("--dtype", choices=(*DTYPES, "float64"), action="append", help="only this one; repeatable")
    made.add_argument("--mode", choices=MODES, action="append", help="only this one; repeatable")
    made.add_argument("--layout", choices=LAYOUTS, action="append", help="only this one; repeatable")
    made.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    made.add_argument("--seed", type=int, help="of the data (fresh)")
    made.add_argument("--output", type=Path, default=Path("out"), help="folder to write to (%(default)s)")
    return made
