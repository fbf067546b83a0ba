"""The command helps, and answers a wrong word with the right one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from normspec.cli.main import COMMANDS, main
from suite import CLASSES


def test_without_a_command_it_helps(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in COMMANDS:
        assert name in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generat"], "no command 'generat'; did you mean 'generate'?"),
        (["show", "storhc.BatchNorm1d"], "no dialect 'storhc'; did you mean 'storch'?"),
        (["show", "storch.BatchNorm7d"], "storch has no 'BatchNorm7d'; did you mean 'storch.nn.BatchNorm"),
    ],
)
def test_a_wrong_word_is_answered(arguments, said, capsys):
    assert main(arguments) != 0
    assert said in capsys.readouterr().err


def test_list_has_every_class(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in [*CLASSES, "torch.nn.functional.batch_norm"]:
        assert f" {name}\n" in printed


def test_show_finds_a_class_by_its_short_name(capsys):
    assert main(["show", "storch.BatchNorm1d"]) == 0
    assert capsys.readouterr().out.startswith("normspec.storch.nn.BatchNorm1d(numFeatures: int, eps: float = 1e-05, ")


def test_show_finds_a_function(capsys):
    assert main(["show", "torch.nn.functional.batch_norm"]) == 0
    assert "\nrunning_var : Array | None\n" in capsys.readouterr().out


def test_show_finds_a_method_and_an_attribute(capsys):
    assert main(["show", "storch.BatchNorm1d.load_state_dict"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "normspec.storch.nn.BatchNorm1d.load_state_dict(stateDict: Mapping[str, Tensor]) -> None\n"
    )
    assert main(["show", "storch.nn.BatchNorm1d.isTraining"]) == 0
    assert "Whether the module is in training mode." in capsys.readouterr().out
    assert main(["show", "storch.BatchNorm1d.nothing"]) == 1


def test_show_finds_what_has_no_dialect(capsys):
    assert main(["show", "functional.batch_stats"]) == 0
    assert capsys.readouterr().out.startswith("normspec.functional.batch_stats(x: Any, *, axis: int = 1,")
    assert main(["show", "runtime.StateDict"]) == 0
    assert capsys.readouterr().out.startswith("normspec.runtime.StateDict\n\nTensors by name.")
    assert main(["show", "runtime.Tensor.backward"]) == 0
    assert "create_graph : bool, default False" in capsys.readouterr().out
    assert main(["show", "interop.torch"]) == (0 if importlib.util.find_spec("torch") else 1)


def test_show_tells_a_dialect(capsys):
    assert main(["show", "storch"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("PyTorch for Scala 3")
    assert "storch.nn.BatchNorm1d\n    Applies Batch Normalization over a 2D or 3D input.\n" in printed


def test_doctor_says_what_works(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "cpu            works; " in printed
    assert "\ncuda           " in printed


def test_warmup_compiles_what_a_first_call_would_wait_for(tmp_path):
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "from normspec.runtime.kernels import cpu; import numpy; print(*cpu.warm([numpy.dtype('float32')]), sep=';')"
    cold = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    assert cold.stdout == "float32, training;float32, evaluation;float32, backward\n"
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert sum(path.suffix == ".nbc" for path in compiled) == 3  # training, evaluation, backward
    warm = """
import numpy
from normspec.runtime.kernels import cpu
x = numpy.ones((2, 3, 16), "float32")
cpu.forward_training(x, x, None, None, None, None, 1e-5, 0.1, True)
"""
    subprocess.run([sys.executable, "-c", warm], env=kept, check=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == compiled


def run(command, **environment):
    """What a shell gets: exit status, what was printed, and what was complained about."""
    done = subprocess.run(
        f"{sys.executable} -m normspec.cli.main {command}",
        shell=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_terminal_without_greek_letters_gets_question_marks():
    status, printed, complaints = run("show torch.nn.BatchNorm1d", PYTHONIOENCODING="ascii")
    assert (status, complaints) == (0, "")
    assert "The learnable vector ? of size C, ones at first." in printed


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_read_enough_is_no_fault(unbuffered):
    status, printed, complaints = run("show torch | true", PYTHONUNBUFFERED=unbuffered)
    assert (status, printed, complaints) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_what_cannot_be_written_is_told_in_a_line():
    status, _, complaints = run("list > /dev/full")
    assert status == 1
    assert complaints.startswith("normspec list: [Errno 28] ")
    assert complaints.count("\n") == 1


def test_the_command_is_installed():
    found = subprocess.run([sys.executable, "-m", "normspec.cli.main"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "usage: normspec" in found.stdout
