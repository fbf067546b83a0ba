"""The command that tests on a GPU, where there is none."""

from __future__ import annotations

import subprocess
import sys

import on_gpu
import pytest

from normspec.runtime.kernels import cuda


def test_every_tool_is_run_over_the_kernels():
    commands = {step.name: list(step.command) for step in on_gpu.steps("compute-sanitizer")}
    assert list(commands)[:2] == ["kernels", "conformance"]
    for tool in ("memcheck", "racecheck", "initcheck"):
        assert commands[tool][:3] == ["compute-sanitizer", "--tool", tool]
        assert commands[tool][-1] == "cuda_suite.py"
        assert "--error-exitcode" in commands[tool]


def test_one_failure_or_a_missing_tool_fails_all(capsys):
    def call(command):
        return int("cuda_conformance.py" in command)

    assert on_gpu.run(on_gpu.steps("x"), call) == 1
    assert "conformance      FAILED" in capsys.readouterr().out
    assert on_gpu.run(on_gpu.steps("x"), lambda command: 0) == 0
    assert on_gpu.run(on_gpu.steps(None), lambda command: 0) == 1
    assert "memcheck         not run: compute-sanitizer" in capsys.readouterr().out


def test_what_is_watched_is_there():
    """The names that tools are limited to are those of tests."""
    text = (on_gpu.TESTS / "cuda_suite.py").read_text(encoding="utf-8")
    names = [line.split("(")[0] for line in text.splitlines() if line.startswith("def test_")]
    for part in on_gpu.WATCHED.split(" or "):
        assert any(part in name for name in names), part


@pytest.mark.skipif(cuda.available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, on_gpu.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("make test-gpu needs a GPU; CUDA is unavailable: ")
