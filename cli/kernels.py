"""``normspec kernels``: every CUDA kernel compiled for several generations of GPUs, and held to what it should be.

That takes numba-cuda and the compiler that comes with it, but no GPU and no driver.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import terminal

if TYPE_CHECKING:
    from normspec.runtime.kernels.cuda.program import Program

PAGE = Path("docs") / "kernels.md"
TABLE = Path("out") / "kernels.md"
CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0))
CLUSTERS = (9, 0)  # the first capability that has them
COMPILERS = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")

SPILLS: dict[str, str] = {}  # patterns of programs that may keep registers in memory, and why

WRITING = re.compile("normalize|resident|inference|evaluation|gradient|planes")  # kernels that write x's like
NAME = re.compile(r"(?P<kernel>\w+?)(_k\d+)?_(?P<element>f16|bf16|f32|f64)_(?P<rest>\w+)")
PER_FEATURE = 6  # instructions that put together a feature's float64 results, at most

INTRODUCTION = """<!-- Written by `make kernels`. -->
# CUDA kernels

The {number} programs that a call may launch, compiled for compute capabilities {capabilities} by
{compilers}. `make kernels` compiles them anew, without a GPU, and writes each of them to `out/kernels.md`.

- **programs**: a kernel for an element type, packets of 16 bytes or single elements, a number of threads and of pieces
  that a thread has at once, and a size of cluster.
- **registers**: of a thread, at most, for each capability.
- **spilled**: bytes of registers that a thread keeps in memory, at most.
- **float64**: instructions that compute in float64, at most, where the arithmetic is narrower: statistics on their way
  in or out, once a block.
- **KB**: of machine code, at most.

"""


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
    """compile every CUDA kernel, which takes no GPU, and describe them in docs/kernels.md (--check: only compare)"""
    parser = argparse.ArgumentParser(prog="normspec kernels", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="parts of names of programs; without any, all are compiled")
    parser.add_argument("--check", action="store_true", help=f"compare with {PAGE} instead of writing it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    names = [name for name in programs() if not options.names or any(part in name for part in options.names)]
    found = compile_all(names, options.jobs)
    problems = [f"{name}: {problem}" for name in found for problem in problems_of(programs()[name], found[name])]
    print(*(every_program(found) if options.names else summary(found)), sep="\n")
    if not options.names:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text("\n".join([*every_program(found), ""]), encoding="utf-8")
        if not options.check:
            PAGE.write_text(page(found), encoding="utf-8")
        elif not current(PAGE.read_text(encoding="utf-8"), page(found)):
            problems.append(f"{PAGE} is not what `make kernels` writes")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


@functools.cache
def programs() -> dict[str, Program]:
    """Every program that a call may launch, by name."""
    from normspec.runtime.kernels.cuda.programs import programs as every

    return {program.name: program for program in every()}


def compile_all(names: Sequence[str], jobs: int) -> Found:
    """Compile programs for every capability that has what they need."""
    progress, found = terminal.Line(), {}
    with ProcessPoolExecutor(jobs) as pool:
        for name, facts in zip(names, pool.map(compile_one, names, chunksize=4), strict=True):
            found[name] = facts
            progress(f"compiled: {len(found)} of {len(names)}, {name}")
    progress.done()
    return found


def compile_one(name: str) -> list[Facts]:
    """Compile a program; PTX is made once for capabilities that share it."""
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
    if any(one.spilled for one in found) and spills(program.name) is None:
        yield f"keeps {[one.spilled for one in found]} bytes of registers in memory"
    features = {"f32": 4, "f64": 2}.get(element, 8) if wide and kernel.startswith("columns") else 1
    for doubles in {one.doubles for one in found if element != "f64"}:
        if len(doubles) > PER_FEATURE * features or not {*doubles} <= {"add.f64", "sub.f64", "mul.f64"}:
            yield f"computes in float64: {', '.join(doubles)}"
    for facts in found:
        arrays = 0 if "moments" in kernel else 2 if "backward" in kernel else 1
        if wide and facts.loads < unroll * arrays:
            yield f"has {facts.loads} loads of 128 bits, expected {unroll * arrays}"
        if wide and WRITING.search(kernel) and facts.stores < (1 if kernel == "planes" else unroll):
            yield f"has {facts.stores} stores of 128 bits, expected {unroll}"


def parsed(name: str) -> tuple[str, str, bool, int]:
    """Kernel, element, whether memory is moved by packets, and how many pieces at once, of a program by its name."""
    match = NAME.fullmatch(name)
    assert match is not None, name
    kernel, element, rest = match["kernel"], match["element"], match["rest"]
    unroll = re.search(r"_u(\d+)", rest)
    return kernel, element, "packets" in rest or kernel == "planes", int(unroll[1]) if unroll else 0


def spills(name: str) -> str | None:
    """Why a program may keep registers in memory, if it may."""
    return next((reason for pattern, reason in SPILLS.items() if re.fullmatch(pattern, name)), None)


def every_program(found: Found) -> Iterable[str]:
    """The table of all programs."""
    header = "program|registers|spilled|loads|stores|float64|KB"
    rows = []
    for name, facts in found.items():
        last = facts[-1]
        registers = " ".join(str(one.registers) for one in facts)
        numbers = max(one.spilled for one in facts), last.loads, last.stores, len(last.doubles), last.size >> 10
        rows.append([name, registers, *map(str, numbers)])
    return terminal.lines(header, rows)


def summary(found: Found) -> Iterable[str]:
    """The table of kernels."""
    versions = [".".join(map(str, one)) for one in CAPABILITIES]
    header = f"kernel|programs|registers {'|'.join(versions)}|spilled|float64|KB"
    kernels: dict[str, list[str]] = {}
    for name in found:
        kernels.setdefault(parsed(name)[0], []).append(name)
    rows = []
    for kernel, names in kernels.items():
        alone = [found[name] for name in names]
        registers = [
            max(facts[at].registers for facts in alone if len(facts) >= -at) for at in range(-len(versions), 0)
        ]
        narrow = [one for name in names for one in found[name] if parsed(name)[1] != "f64"]
        numbers = (
            max(one.spilled for facts in alone for one in facts),
            max(len(one.doubles) for one in narrow),
            max(one.size for facts in alone for one in facts) >> 10,
        )
        rows.append([kernel, str(len(names)), *map(str, registers), *map(str, numbers)])
    return terminal.lines(header, rows)


def page(found: Found) -> str:
    """The page of the documentation."""
    capabilities = ", ".join(".".join(map(str, one)) for one in CAPABILITIES)
    compilers = ", ".join(f"{name} {metadata.version(name)}" for name in COMPILERS)
    head = INTRODUCTION.format(number=len(found), capabilities=capabilities, compilers=compilers)
    reasons = [f"- `{pattern}`: {reason}" for pattern, reason in SPILLS.items()]
    foot = ["", "What is spilled, and why:", "", *reasons] if reasons else []
    return "\n".join([head.rstrip("\n"), "", *summary(found), *foot, ""])


def current(written: str, made: str) -> bool:
    """Is a page what would be written now? Where the compilers are others than then, only kernels are compared."""
    if all(f"{name} {metadata.version(name)}" in written for name in COMPILERS):
        return written == made
    first_columns = [re.findall(r"^\| (\w+) +\| +(\d+)", text, re.MULTILINE) for text in (written, made)]
    return first_columns[0] == first_columns[1]
