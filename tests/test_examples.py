"""The programs in examples/ run, and do what they say."""

from __future__ import annotations

import ast
import runpy

from suite import ROOT


def test_numpy_only(capsys):
    path = ROOT / "examples" / "numpy_only.py"
    without, with_norm = runpy.run_path(str(path))["main"]()
    assert with_norm.recalibrated > 0.99
    assert max(with_norm.accuracy) > 0.9 > max(without.accuracy)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["epoch", "without", "with", "batch", "norm"]
    assert f"{with_norm.recalibrated:.1%}" in table[-1]
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported == {"__future__", "itertools", "typing", "numpy", "normspec"}
