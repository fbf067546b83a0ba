"""The CUDA kernels: their suite in the simulator and on a GPU, their PTX, and what is said where there is no CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from on_gpu import processes

from normspec.runtime.kernels import cuda

TESTS = Path(__file__).parent
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"


def python(*arguments: str, simulate: bool) -> subprocess.CompletedProcess[str]:
    """Run Python with or without the simulator, which numba must be told of before it is imported."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(simulate))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=TESTS, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("suite", "device"),
    [
        ("cuda_suite.py", "simulator"),
        ("cuda_suite.py", "gpu"),
        ("cuda_forward.py", "simulator"),
        ("cuda_columns.py", "simulator"),
        ("cuda_backward.py", "simulator"),
        ("cuda_foreign.py", "simulator"),
        ("cuda_modules.py", "simulator"),
    ],
)
def test_suite(suite: str, device: str) -> None:
    if device == "gpu" and (SIMULATED or not cuda.available()):
        pytest.skip(f"no GPU: {cuda.describe()}")
    if device == "simulator":
        pytest.importorskip("greenlet", reason="greenlet is not installed: the simulator would take minutes")
    result = python("-m", "pytest", "-q", "--tb=short", *processes(), suite, simulate=device == "simulator")
    if result.returncode != 0:
        pytest.fail(f"{suite} on the {device}:\n{result.stdout}{result.stderr}", pytrace=False)


def test_the_simulator_as_numba_ships_it_will_do() -> None:
    program = """
import numpy as np
from normspec.runtime.kernels import cuda
x = cuda.to_device(np.float32([[[1, 3]], [[5, 7]]]))
y = cuda.empty_like(x)
cuda.forward_training(x, y, None, None, None, None, 0.0, 0.1, True)
np.testing.assert_allclose(cuda.to_host(y).ravel() * 5**0.5, [-3, -1, 1, 3], rtol=1e-6)
"""
    result = python("-c", program, simulate=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(cuda.available(), reason="nothing is missing here")
def test_what_is_missing_is_said() -> None:
    assert cuda.describe().startswith("unavailable: ")
    with pytest.raises(RuntimeError, match=r"(?s)CUDA is not available: .+normspec\[cuda13\].+NUMBA_ENABLE_CUDASIM=1"):
        cuda.require()
