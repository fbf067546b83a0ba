"""The command that tests on a GPU, where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import on_gpu
import pytest

import stub
from normspec.runtime.kernels import cuda


def test_every_tool_is_run_over_the_kernels():
    commands = {step.name: list(step.command) for step in on_gpu.steps("compute-sanitizer")}
    assert list(commands)[:2] == ["kernels", "conformance"]
    for tool in ("memcheck", "racecheck", "initcheck"):
        assert commands[tool][:3] == ["compute-sanitizer", "--tool", tool]
        assert commands[tool][-1] == "cuda_suite.py"
        assert "--error-exitcode" in commands[tool]


def test_only_memcheck_is_told_to_mind_no_failing_calls():
    for step in on_gpu.steps("x")[3:]:
        assert ("--report-api-errors no" in " ".join(step.command)) == (step.name == "memcheck")


LOUD = """
import warnings

def pytest_configure():
    warnings.warn("said by a plugin that nobody has tried")

def test_passes():
    warnings.warn("said by a version that nobody has tried")
"""


@pytest.mark.parametrize(("options", "fails"), [(on_gpu.CALM, False), ((), True)], ids=["calm", "as elsewhere"])
def test_what_warns_on_a_machine_that_was_never_tried_fails_no_test(options, fails, tmp_path):
    (tmp_path / "test_loud.py").write_text(LOUD)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error")
    command = [sys.executable, "-m", "pytest", *options, "-p", "test_loud", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr


def test_one_failure_or_a_missing_tool_fails_all(capsys):
    def call(step):
        return int(step.name == "conformance")

    assert on_gpu.run(on_gpu.steps("x"), call) == 1
    assert "conformance      FAILED" in capsys.readouterr().out
    assert on_gpu.run(on_gpu.steps("x"), lambda step: 0) == 0
    assert on_gpu.run(on_gpu.steps(None), lambda step: 0) == 1
    assert "memcheck         not run: compute-sanitizer" in capsys.readouterr().out


def test_the_steps_have_the_names_that_choose_them():
    assert tuple(step.name for step in on_gpu.steps("x")) == on_gpu.NAMES
    done = subprocess.run([sys.executable, on_gpu.__file__, "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        "expected kernels, conformance, torch, memcheck, racecheck, initcheck, synccheck, found nothing" in done.stderr
    )


def test_the_tools_run_beside_each_other():
    meet = threading.Barrier(len(on_gpu.TOOLS), timeout=60)

    def call(step):
        if step.name in on_gpu.TOOLS:
            meet.wait()
        return 0

    assert on_gpu.run(on_gpu.steps("x"), call) == 0


def test_what_hangs_is_stopped_with_its_children_and_leaves_what_it_said(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(on_gpu, "LOGS", tmp_path)
    code = "import subprocess; print('so far', flush=True); subprocess.run(['sleep', '600'])"
    began = time.perf_counter()
    assert on_gpu.execute(on_gpu.Step("hangs", [sys.executable, "-c", code]), began + 2) != 0
    assert time.perf_counter() - began < 60
    assert capfd.readouterr().out == "== hangs\nso far\nstopped, for the time is up\n"


BREAKING = """
import stub
from normspec.runtime.kernels.cuda.device import gpu

def test_breaks_it():
    with gpu(0).current():
        stub.Driver().fail(700)

def test_comes_after():
    pass
"""


@pytest.mark.parametrize(
    ("options", "last"),
    [
        (["-n", "1"], "1 failed, 2 passed"),  # the crash is a failure of a test that had passed
        ([], "test_breaks_it broke the GPU's context: CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
    ids=["another process", "the end"],
)
def test_who_breaks_the_context_takes_no_other_test_along(options, last, tmp_path):
    if reason := stub.unfit():
        pytest.skip(reason)
    (tmp_path / "test_breaking.py").write_text(BREAKING)
    environment = {**stub.build(tmp_path), "PYTHONPATH": str(on_gpu.TESTS)}
    command = [sys.executable, "-m", "pytest", "-p", "lost_gpu", "-p", "no:cacheprovider", *options, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert last in done.stdout


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
