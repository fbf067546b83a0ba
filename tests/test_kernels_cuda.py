"""The CUDA kernels: their suite in the simulator and on a GPU, their PTX, and what is said where there is no CUDA."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import cuda as numba_cuda
from numba import types

from normspec.runtime.kernels import cuda
from normspec.runtime.kernels.cuda.kernels import THREADS, kernels

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
    ],
)
def test_suite(suite: str, device: str) -> None:
    if device == "gpu" and (SIMULATED or not cuda.available()):
        pytest.skip(f"no GPU: {cuda.describe()}")
    if device == "simulator":
        pytest.importorskip("greenlet", reason="greenlet is not installed: the simulator would take minutes")
    result = python("-m", "pytest", "-q", "--tb=short", suite, simulate=device == "simulator")
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


FLOATS = {16: types.float16, "bfloat16": types.uint16, 32: types.float32, 64: types.float64}
SIGNATURES = ["reduce", "moments", "train", "infer"]


def arguments(name: str, storage: Any) -> tuple[Any, ...]:
    real = types.float64 if storage is types.float64 else types.float32
    x, partial = types.Array(storage, 3, "A"), types.Array(real, 3, "C")
    vector, wide = types.Array(types.float32, 1, "C"), types.Array(types.float64, 1, "C")
    scalars = (real, types.float32, types.float32, types.boolean)
    return {
        "reduce": (x, partial),
        "moments": (partial, types.int64, wide, wide),
        "train": (x, x, partial, vector, vector, vector, vector, wide, wide, *scalars),
        "infer": (x, x, wide, wide, vector, vector, real),
    }[name]


def ptx_of(function: Any, signature: tuple[Any, ...]) -> str:
    ptx: str = numba_cuda.compile_ptx(function, signature, cc=(9, 0), launch_bounds=THREADS)[0]
    return ptx


@pytest.fixture(scope="module")
def compiler() -> None:
    """Skip where CUDA kernels cannot be compiled; neither a GPU nor a driver is needed for that."""
    if SIMULATED:
        pytest.skip("the simulator compiles nothing")
    try:
        importlib.metadata.version("numba-cuda")
        numba_cuda.compile_ptx(lambda: None, (), cc=(9, 0))
    except Exception as error:
        pytest.skip(f'needs numba-cuda with NVVM, pip install "normspec[cuda13]": {type(error).__name__}: {error}')


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("storage", FLOATS.values(), ids=[f"{name}" for name in FLOATS])
@pytest.mark.parametrize("name", SIGNATURES)
def test_ptx(name: str, storage: Any) -> None:
    """A kernel compiles without a driver, keeps its arrays in registers, and computes in its own arithmetic."""
    real = np.float64 if storage is types.float64 else np.float32
    ptx = ptx_of(getattr(kernels(real), name).py_func, arguments(name, storage))
    assert ".visible .entry" in ptx
    assert "call" not in ptx
    assert ".local" not in ptx
    if real is np.float32:
        operations = re.findall(r"^\s+(?:@%p\d+ )?([a-z]+)[\w.]*\.f64", ptx, re.MULTILINE)
        # float64 statistics come in as two float32 and go out as their sum, once a block
        assert set(operations) <= {"cvt", "add", "sub", "ld", "st"}
        assert len(operations) <= 8
