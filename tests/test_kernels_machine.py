"""What the compiler makes of the kernels, run without a GPU: by the machine of ``ptx``, behind a stub of a driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from on_gpu import processes

import stub

TESTS = Path(__file__).parent
FEW = "bfloat16 and (any_shape or test_gradients)"  # a fifth of the programs
AS_MANY = "float16 and not bfloat16 and (any_shape or test_gradients)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := stub.unfit():
        pytest.skip(reason)
    return stub.build(tmp_path_factory.mktemp("driver"))


def check(environment, suite, *options, capability=(9, 0)):
    major, minor = map(str, capability)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "virtual_gpu", *processes(), *options, suite]
    chosen = {**environment, "STUB_MAJOR": major, "STUB_MINOR": minor}
    result = subprocess.run(command, cwd=TESTS, env=chosen, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.fail(f"{suite}:\n{result.stdout}{result.stderr}", pytrace=False)


def test_some_of_the_suite(environment):
    check(environment, "cuda_suite.py", "-k", FEW)


def test_barriers(environment):
    check(environment, "machine_suite.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "words", "capability"),
    [
        ("cuda_suite.py", AS_MANY, (9, 0)),
        ("cuda_suite.py", FEW, (7, 5)),  # which lacks most instructions
        ("cuda_conformance.py", "", (9, 0)),
    ],
)
def test_more_of_the_suites(environment, suite, words, capability):
    check(environment, suite, "-k", words, capability=capability)


@pytest.mark.hour
@pytest.mark.parametrize(
    ("suite", "capability"),
    [
        ("cuda_suite.py", (9, 0)),
        ("cuda_suite.py", (8, 0)),
        ("cuda_suite.py", (7, 5)),
        ("cuda_conformance.py", (9, 0)),
        ("cuda_forward.py", (9, 0)),
        ("cuda_columns.py", (9, 0)),
        ("cuda_backward.py", (9, 0)),
    ],
)
def test_suite(environment, suite, capability):
    """Programs are compiled when they are first asked for, some 600, and kept for the others."""
    check(environment, suite, capability=capability)
