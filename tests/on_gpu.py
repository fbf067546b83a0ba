"""``make test-gpu``: the tests of the CUDA kernels on a GPU, and again under the tools of compute-sanitizer.

That two runs give the same bits is among the tests. With pytest-xdist and pytest-timeout they run in several processes,
of which another one takes the place of one that hangs or has broken the GPU's context. The exit status is 0 if all
passed, 1 if any failed or could not be run, 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from normspec.benchmarks.machine import cores

TESTS = Path(__file__).parent
LOGS = TESTS.parent / "out"
SECONDS = 3600.0  # of all
HANGS = 300  # seconds of a test
PROCESSES = 8  # each compiles, and has a context on the GPU
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
NAMES = ("kernels", "conformance", "torch", *TOOLS)
CALM = ("-p", "no:benchmark", "-W", "default")  # versions and plugins that nobody has tried may warn
OPTIONS = {"memcheck": ("--report-api-errors", "no")}  # to ask for a context where there is none is no mistake
WATCHED = "any_shape or any_strides or rows or gradients or far or y_may_be_x"  # under a tool kernels are much slower


class Step(NamedTuple):
    """A command, or why there is none."""

    name: str
    command: Sequence[str] = ()
    missing: str = ""


def steps(sanitizer: str | None) -> list[Step]:
    """What is run, in order."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--tb=short", *CALM, "-p", "lost_gpu"]
    found = [
        Step("kernels", [*pytest, *processes(), "cuda_suite.py"]),
        Step("conformance", [*pytest, *processes(), "cuda_conformance.py"]),
        Step("torch", [*pytest, *processes(), "-k", "not costs", "test_interop_torch.py"]),
    ]
    for tool in TOOLS:
        if sanitizer is None:
            found.append(Step(tool, missing="compute-sanitizer, of the CUDA toolkit, is not in PATH or CUDA_HOME/bin"))
            continue
        watch = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--target-processes", "all"]
        watch += OPTIONS.get(tool, ())
        found.append(Step(tool, [*watch, *pytest, "-x", "-k", WATCHED, "cuda_suite.py"]))
    return found


def processes() -> list[str]:
    """Options for several processes, if there are the plugins."""
    if not (find_spec("xdist") and find_spec("pytest_timeout")):
        return []
    return [
        "-n",
        str(max(1, min(PROCESSES, cores()))),
        "--dist",
        "worksteal",
        "--timeout",
        str(HANGS),
        "--timeout-method",
        "thread",
    ]


def find_sanitizer() -> str | None:
    """NVIDIA's tool that watches kernels."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(str(Path(home) / "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run(wanted: Sequence[Step], call: Callable[[Step], int]) -> int:
    """Run all, whatever fails, the tools beside each other, and sum up."""
    tools = [step for step in wanted if step.name in TOOLS]
    outcomes = [outcome(step, call) for step in wanted if step not in tools]
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        outcomes += pool.map(functools.partial(outcome, call=call), tools)
    print("\n" + "\n".join(f"{name:16} {told}" for name, told, _ in outcomes))
    return int(any(failed for *_, failed in outcomes))


def outcome(step: Step, call: Callable[[Step], int]) -> tuple[str, str, bool]:
    """Run a step: its name, what came of it, and whether it failed."""
    began = time.perf_counter()
    failed = bool(step.missing) or call(step) != 0
    told = f"not run: {step.missing}" if step.missing else "FAILED" if failed else "passed"
    return step.name, f"{told} ({time.perf_counter() - began:.0f} s)", failed


def main() -> int:
    """Run the steps on this machine's GPU."""
    from normspec.runtime.kernels import cuda

    made = parser()
    options = made.parse_args()
    if unknown := set(options.steps) - set(NAMES):
        made.error(f"expected {', '.join(NAMES)}, found {', '.join(sorted(unknown))}")
    if not cuda.available() or os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        print(f"make test-gpu needs a GPU; CUDA is {cuda.describe()}", file=sys.stderr)
        return 2
    print(cuda.describe(), flush=True)
    wanted = [step for step in steps(find_sanitizer()) if step.name in (options.steps or NAMES)]
    return run(wanted, functools.partial(execute, end=time.perf_counter() + options.seconds))


def execute(step: Step, end: float) -> int:
    """Run a step until a moment of ``time.perf_counter``, and print what it has printed until then."""
    LOGS.mkdir(exist_ok=True)
    path = LOGS / f"test-gpu-{step.name}.txt"
    with path.open("wb") as log:
        process = subprocess.Popen(step.command, cwd=TESTS, stdout=log, stderr=log, start_new_session=True)
        try:
            status, ended = process.wait(max(0.0, end - time.perf_counter())), ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status, ended = process.wait(), "stopped, for the time is up"
    print(f"== {step.name}\n{path.read_text(encoding='utf-8', errors='replace')}{ended}", flush=True)
    return status


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="tests/on_gpu.py", description=__doc__)
    made.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(NAMES)} (all)")
    made.add_argument("--seconds", type=float, default=SECONDS, help="when to stop (%(default).0f)")
    return made


if __name__ == "__main__":
    sys.exit(main())
