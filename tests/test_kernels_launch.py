"""The way from arrays to launches, on a driver that is built for these tests; and what is said of an unfit driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import stub

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := stub.unfit():
        pytest.skip(reason)
    return stub.build(tmp_path_factory.mktemp("driver"))


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], cwd=TESTS, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("file", "gpus"), [("stub_suite.py", 1), ("stub_pair.py", 2)])
def test_suite(environment, file, gpus):
    result = python("-m", "pytest", "-q", "--tb=short", file, **environment, STUB_DEVICES=str(gpus))
    if result.returncode != 0:
        pytest.fail(f"{file}:\n{result.stdout}{result.stderr}", pytrace=False)


DESCRIBE = "from normspec.runtime.kernels import cuda; print(cuda.describe())"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"STUB_VERSION": "11080"}, "the driver is too old: it is of CUDA 11, cuda-bindings "),
        ({"STUB_DEVICES": "0"}, "the driver finds no GPU that works (CUDA_ERROR_NO_DEVICE)"),
        ({"STUB_MAJOR": "5"}, "compute capability 7.5 or more is needed, the GPU has 5.0"),
    ],
)
def test_an_unfit_driver_is_told_apart(environment, change, said):
    result = python("-c", DESCRIBE, **environment, **change)
    assert result.returncode == 0, result.stderr
    assert f"unavailable: {said}" in result.stdout


LACKING = """
from cuda import pathfinder
load = pathfinder.load_nvidia_dynamic_lib

def search(name):
    if name == "nvvm":
        raise pathfinder.DynamicLibNotFoundError("No such file")
    return load(name)

pathfinder.load_nvidia_dynamic_lib = search
"""


def test_a_missing_part_of_the_compiler_is_named_with_what_to_do(environment):
    result = python("-c", LACKING + DESCRIBE, **environment)
    assert "unavailable: libnvvm is in no package here; if a CUDA toolkit has it, name" in result.stdout
