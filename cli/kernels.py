"""``normspec kernels``: every CUDA kernel compiled for several generations of GPUs, and held to what it should be.

That takes numba-cuda and the compiler that comes with it, but no GPU and no driver.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import terminal

if TYPE_CHECKING:
    from normspec.runtime.kernels.cuda.program import Program

TABLE = Path("out") / "kernels.md"
CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0))
CLUSTERS = (9, 0)  # the first capability that has them

HEADING = """# CUDA kernels

Every kernel that a call may launch, as the compiler left it for GPUs of compute capability 7.5, 8.0, 9.0 and 10.0
(clusters: 9.0 and 10.0). `make kernels-check` compiles them anew, without a GPU, and fails on what this page does not
allow; `normspec kernels --output docs/kernels.md` wrote the page.

A name has the kernel, the dtype of the data and of the vectors, and how much is done at once: packets of 16 bytes,
pairs of words (8 bytes) or single elements, `u` such pieces a thread, `s` more in shared memory, `t` threads a block.
Clusters of 2, 4, 8 or 16 blocks share a program.

- **registers** of a thread, for each capability;
- **spilled**: bytes of registers that a thread keeps in memory, the most for any capability. It must be 0;
- **loads**, **stores**: instructions that move packets or pairs. Except where single elements are moved, there must be
  one for every piece of x, in the backward pass also of dy, and of what is written;
- **float64**: instructions that compute in float64. Kernels of narrower dtypes have a few where a feature's statistics
  come in or go out, an addition or multiplication for each, and none for the elements;
- **KB** of machine code.
"""

WRITING = re.compile("normalize|resident|inference|evaluation|gradient|planes")  # kernels that write x's like
NAME = re.compile(r"(?P<kernel>\w+?)_(?P<element>f16|bf16|f32|f64)_(?P<rest>\w+)")
PER_FEATURE = 6  # instructions that put together a feature's float64 results, at most


class Facts(NamedTuple):
    """What the compiler makes of a program, for GPUs of one capability."""

    registers: int
    spilled: int
    loads: int
    stores: int
    doubles: tuple[str, ...]
    size: int


Found = Mapping[str, Sequence[Facts]]  # by the name of a program, one for each capability that has what it needs


def main(arguments: Sequence[str]) -> int:
    """compile every CUDA kernel, without a GPU; fail if one spills, computes in float64 or moves single words"""
    parser = argparse.ArgumentParser(prog="normspec kernels", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="parts of names of programs; without any, all are compiled")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--output", type=Path, default=TABLE, help="a page with the table (%(default)s)")
    options = parser.parse_args(arguments)
    names = [name for name in programs() if not options.names or any(part in name for part in options.names)]
    if not names:
        parser.error(f"no program has {' or '.join(options.names)} in its name")
    found = compile_all(names, options.jobs)
    lines = list(table(found))
    print(*lines, sep="\n")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join([HEADING, *lines, ""]), encoding="utf-8")
    problems = [f"{name}: {problem}" for name in found for problem in problems_of(programs()[name], found[name])]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(found)} programs, {len(problems)} problems; written to {options.output}")
    return 1 if problems else 0


@functools.cache
def programs() -> dict[str, Program]:
    """Every program that a call may launch, by name."""
    from normspec.runtime.kernels.cuda.programs import programs as every

    return {program.name: program for program in every()}


def compile_all(names: Sequence[str], jobs: int) -> Found:
    """Compile programs for every capability that has what they need."""
    progress, found = terminal.Line(), {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for number, (name, facts) in enumerate(zip(names, pool.map(compile_one, names), strict=True), 1):
            found[name] = facts
            progress(f"compiled {100 * number // len(names) // 5 * 5} % of {len(names)} programs: {name}")
    progress.done()
    return found


def compile_one(name: str) -> list[Facts]:
    """Compile a program for every capability."""
    from normspec.runtime.kernels.cuda import build

    program = programs()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        binaries = [build.build(program, one) for one in CAPABILITIES if program.cluster == 1 or one >= CLUSTERS]
    return [
        Facts(
            one.registers,
            max(one.spilled, one.stack),
            one.wide_loads,
            one.wide_stores,
            tuple(one.doubles),
            len(one.cubin),
        )
        for one in binaries
    ]


def problems_of(program: Program, found: Sequence[Facts]) -> Iterator[str]:
    """What is wrong with a program."""
    kernel, element, wide, unroll = parsed(program.name)
    if any(one.spilled for one in found):
        yield f"keeps {[one.spilled for one in found]} bytes of registers in memory"
    features = {"f32": 4, "f64": 2}.get(element, 8) if wide and kernel.startswith("columns") else 1
    for doubles in {one.doubles for one in found if element != "f64"}:
        if len(doubles) > PER_FEATURE * features or not {*doubles} <= {"add.rn.f64", "sub.rn.f64", "mul.rn.f64"}:
            yield f"computes in float64: {', '.join(doubles)}"
    for facts in found:
        arrays = 0 if "moments" in kernel else 2 if "backward" in kernel else 1
        if wide and facts.loads < unroll * arrays:
            yield f"has {facts.loads} loads of packets, expected {unroll * arrays}"
        if wide and WRITING.search(kernel) and facts.stores < (1 if kernel.startswith("planes") else unroll):
            yield f"has {facts.stores} stores of packets, expected {unroll}"


def parsed(name: str) -> tuple[str, str, bool, int]:
    """Kernel, element, whether it moves packets or pairs, and how many pieces at once, of a program by its name."""
    match = NAME.fullmatch(name)
    assert match is not None, name
    kernel, element, rest = match["kernel"], match["element"], match["rest"]
    unroll = re.search(r"_u(\d+)", rest)
    return kernel, element, "elements" not in rest, int(unroll[1]) if unroll else 0


def table(found: Found) -> Iterable[str]:
    """The programs and their facts; registers are those for each capability, the rest is for the newest."""
    header = "program|registers|spilled|loads|stores|float64|KB"
    rows = []
    for name, facts in found.items():
        last = facts[-1]
        registers = " ".join(str(one.registers) for one in facts)
        numbers = max(one.spilled for one in facts), last.loads, last.stores, len(last.doubles), last.size >> 10
        rows.append([name, registers, *map(str, numbers)])
    return terminal.lines(header, rows)
