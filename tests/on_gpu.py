"""``make test-gpu``: the tests of the CUDA kernels on a GPU, and again under the tools of compute-sanitizer.

That two runs give the same bits is among the tests. The exit status is 0 if all passed, 1 if any failed or could not be
run, 2 where there is no GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PATIENCE = 3600  # seconds of a step
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
WATCHED = "any_shape or any_strides or rows or gradients or far or y_may_be_x"  # under a tool kernels are much slower


class Step(NamedTuple):
    """A command, or why there is none."""

    name: str
    command: Sequence[str] = ()
    missing: str = ""


def steps(sanitizer: str | None) -> list[Step]:
    """What is run, in order."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--tb=short"]
    found = [
        Step("kernels", [*pytest, "cuda_suite.py"]),
        Step("conformance", [*pytest, "cuda_conformance.py"]),
        Step("torch's tensors", [*pytest, "test_interop_torch.py"]),
    ]
    for tool in TOOLS:
        if sanitizer is None:
            found.append(Step(tool, missing="compute-sanitizer, of the CUDA toolkit, is not in PATH or CUDA_HOME/bin"))
            continue
        watch = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--target-processes", "all"]
        found.append(Step(tool, [*watch, *pytest, "-x", "-k", WATCHED, "cuda_suite.py"]))
    return found


def find_sanitizer() -> str | None:
    """NVIDIA's tool that watches kernels."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(str(Path(home) / "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run(wanted: Sequence[Step], call: Callable[[Sequence[str]], int]) -> int:
    """Run all, whatever fails, and sum up."""
    outcomes = []
    for step in wanted:
        began = time.perf_counter()
        print(f"== {step.name}", flush=True)
        failed = bool(step.missing) or call(step.command) != 0
        outcome = f"not run: {step.missing}" if step.missing else "FAILED" if failed else "passed"
        outcomes.append((step.name, f"{outcome} ({time.perf_counter() - began:.0f} s)", failed))
    print("\n" + "\n".join(f"{name:16} {outcome}" for name, outcome, _ in outcomes))
    return int(any(failed for *_, failed in outcomes))


def main() -> int:
    """Run the steps on this machine's GPU."""
    from normspec.runtime.kernels import cuda

    if not cuda.available() or os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        print(f"make test-gpu needs a GPU; CUDA is {cuda.describe()}", file=sys.stderr)
        return 2
    print(cuda.describe())
    return run(steps(find_sanitizer()), execute)


def execute(command: Sequence[str]) -> int:
    """Run a step; one that hangs is a failure."""
    try:
        return subprocess.run(command, cwd=TESTS, check=False, timeout=PATIENCE).returncode
    except subprocess.TimeoutExpired:
        print(f"stopped after {PATIENCE} s", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
