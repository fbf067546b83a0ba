"""Specs are data from strangers: whatever stands in them, generated Python does what the templates say and no more."""

from __future__ import annotations

import ast
import shutil

import pytest

from normspec.codegen.reader import SpecError
from normspec.codegen.render import render
from normspec.codegen.resolve import load
from suite import SPECS

DIALECT, CLASS = "torch/dialect.yaml", "torch/BatchNorm1d.yaml"
BREAK = '\'"""; PWNED; """\''  # out of a docstring
ATTEMPTS = [
    (DIALECT, "title: PyTorch", f"title: {BREAK}"),
    (DIALECT, "source: https", f"source: {BREAK} # "),
    (DIALECT, "reference: torch", f"reference: {BREAK} # "),
    (DIALECT, 'dtype: "torch.{name}"', 'dtype: \'{name}"""; PWNED; """\''),
    (DIALECT, "title: PyTorch", "title: 'ends in a backslash \\'"),
    (DIALECT, "title: PyTorch", "title: 'says \"hi\"'"),
    (DIALECT, "state_dict: {does: module.state_dict", "state_dict: {doc: 'says \"hi\"', does: module.state_dict"),
    (
        DIALECT,
        "state_dict: {does: module.state_dict",
        'state_dict: {doc: "a\\\\\\"\\"\\"; PWNED", does: module.state_dict',
    ),
    (DIALECT, "\nmodule: nn", "\nmodule: 'nn; import PWNED'"),
    (DIALECT, "manual_seed: {", "manual_seed: {module: 'a; import PWNED', "),
    (DIALECT, "load: {raises: RuntimeError", "load: {raises: 'PWNED'"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, type: 'PWNED()'}"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, type: 'int # PWNED'}"),
    (DIALECT, "data: {binds: data}", "data: {binds: data, doc: " + BREAK + "}"),
    ("storch/dialect.yaml", "n: {binds: name, default: module}", "n: {binds: name, default: 'a\" + str(PWNED) + \"'}"),
    ("storch/dialect.yaml", "n: {binds: name, default: module}", "n: {binds: name, default: 'a\\'}"),
    (CLASS, 'repr: "BatchNorm1d(', 'repr: "BatchNorm1d({{PWNED}}'),
    (CLASS, 'repr: "BatchNorm1d(', 'repr: "BatchNorm1d({{'),
    (CLASS, "summary: ", f"summary: {BREAK} # "),
    (CLASS, "origin: ", f"origin: {BREAK} # "),
    (CLASS, "module: nn", "module: ../../../evil"),
    (CLASS, "summary: ", "summary: !!python/object/apply:os.system ['true'] # "),
]


@pytest.mark.parametrize(("file", "good", "bad"), ATTEMPTS, ids=[bad for *_, bad in ATTEMPTS])
def test_an_attempt_is_refused_or_stays_text(tmp_path, file, good, bad):
    specs = tmp_path / "specs"
    shutil.copytree(SPECS, specs)
    text = (specs / file).read_text()
    assert good in text
    (specs / file).write_text(text.replace(good, bad, 1))
    try:
        files = render(load(specs))
    except SpecError:
        return
    for name, source in files.items():
        assert not {"..", ";", " "} & set(name.replace("/", " / ").split(" / ")), name
        if name.endswith(".py"):
            nodes = list(ast.walk(ast.parse(source)))
            names = {node.id for node in nodes if isinstance(node, ast.Name)}
            modules = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
            assert "PWNED" not in names | modules, name


def test_the_attempts_would_be_seen():
    names = {node.id for node in ast.walk(ast.parse('"""a"""; PWNED; """b"""')) if isinstance(node, ast.Name)}
    assert names == {"PWNED"}
