"""Ours beside other libraries, measured honestly: ``normspec bench``."""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normspec.cli.terminal import Line

from . import machine, measure, report
from .measure import Result
from .peers import PEERS, Peer, ours
from .rows import DTYPES, QUICK, SHAPES, Shape, combinations

SECONDS, QUICK_SECONDS = 250.0, 20.0
LEAST = 0.6  # seconds of each row, should the large ones before it take longer than their part


def main(argv: Sequence[str]) -> int:
    """Measure, print the tables, and write them with the numbers and a plot."""
    options = parser().parse_args(argv)
    if options.scaling:
        from . import scaling

        return scaling.main(options.output)
    for name, install in left_out().items():
        print(f"{name} is left out: {install}", file=sys.stderr)
    from . import picture, roofline  # needs matplotlib, which is said before the time is spent

    options.output.mkdir(parents=True, exist_ok=True)
    results, where = run(options, shlex.join(["normspec", "bench", *argv]))
    data, table, plot = (options.output / f"bench.{suffix}" for suffix in ("json", "md", "png"))
    numbers = report.data(results, where)
    data.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    page = report.page(results, where)
    table.write_text(page, encoding="utf-8")
    if any(result.timings for result in results):
        picture.draw(results, plot)
        roofline.draw(list(roofline.points(numbers["rows"])), options.output / "bench-roofline.png")
    print(f"{page}\nwritten to {options.output}: {data.name}, {table.name}, {plot.name}")
    return 0 if all(result.timings for result in results) else 1


def run(options: argparse.Namespace, command: str) -> tuple[list[Result], dict[str, Any]]:
    """The results, and where and how they were measured."""
    dtypes = [one for one in options.dtype or DTYPES[: 1 if options.quick else None] if one not in left_out()]
    chosen = list(combinations(options.shape or (QUICK if options.quick else SHAPES), dtypes))
    default = QUICK_SECONDS if options.quick else SECONDS
    peers = [Peer("ours", (), "", ours), *(peer for peer in PEERS if peer.installed)]
    before, began, line = machine.load(), time.perf_counter(), Line()
    seconds = default if options.seconds is None else options.seconds
    least = min(LEAST, seconds / len(chosen))
    results = list(measure.every(chosen, functools.partial(measure.measure, peers), seconds, line, least))
    line.done()
    return results, {
        **machine.describe(),
        "date": datetime.date.today().isoformat(),
        "command": command,
        "seconds": round(time.perf_counter() - began, 1),
        "load_before": before,
        "load_after": machine.load(),
    }


def left_out() -> dict[str, str]:
    """Libraries and dtypes that are not here, and how to install them."""
    halves = {} if importlib.util.find_spec("ml_dtypes") else {"bfloat16": 'pip install "normspec[bfloat16]"'}
    return report.missing() | halves


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="normspec bench", description=__doc__)
    made.add_argument(
        "--scaling",
        action="store_true",
        help="instead, ours alone from 1 to 10^8 values: time and memory, a table and a plot",
    )
    made.add_argument("--quick", action="store_true", help="a handful of rows")
    made.add_argument("--seconds", type=float, help=f"time for all rows ({SECONDS:.0f}; quick: {QUICK_SECONDS:.0f})")
    made.add_argument("--shape", type=shape, action="append", help="only this one, such as 32,64,112,112; repeatable")
    made.add_argument("--dtype", choices=DTYPES, action="append", help="only this one; repeatable")
    made.add_argument("--output", type=Path, default=Path("out"), help="folder to write to (%(default)s)")
    return made


def shape(text: str) -> Shape:
    """Sizes with commas between them, (N, C, ...)."""
    sizes = tuple(int(part) for part in text.strip("() ").split(","))
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected at least two sizes of one or more, found {text!r}")
    return sizes
