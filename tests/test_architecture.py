"""Who may import whom, and what importing a dialect costs."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from suite import DIALECTS, ROOT

ALLOWED = {
    "generated": {"normspec", "typing_extensions"},
    "codegen": {"normspec.codegen", "normspec.runtime.dialect", "jinja2", "yaml"},
    "runtime": {"normspec.runtime", "numpy", "ml_dtypes"},
    "runtime/kernels": {"normspec.runtime.kernels", "numba", "numpy", "llvmlite", "cuda"},
    "conformance": {"normspec", "numpy"},
    "benchmarks": {"normspec", "numpy", "matplotlib", "torch", "onnx", "onnxruntime", "jax"},
    "functional": {"normspec.functional", "normspec.runtime", "numpy"},
    "interop": {"normspec.interop", "normspec.runtime", "normspec.torch", "torch", "jax", "numpy"},
    "demo": {"normspec", "numpy", "sklearn", "matplotlib", "PIL"},
}
STANDARD = sys.stdlib_module_names


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_down(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        if folder == "runtime" and "kernels" in path.parts:
            continue
        for name in imports(path):
            if name.partition(".")[0] not in STANDARD:
                allowed = any(name == one or name.startswith(f"{one}.") for one in ALLOWED[folder])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def imports(path):
    """Absolute names of everything that ``path`` imports."""
    package = ["normspec", *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("folder", ["codegen", "functional", "generated", "interop", "runtime"])
def test_nothing_private_is_imported_from_others(folder):
    """An upgrade that takes it away would take the import of this package with it."""
    for path in (ROOT / folder).rglob("*.py"):
        others = [name for name in imports(path) if not name.startswith(("normspec", "__future__"))]
        assert not [name for name in others if "._" in f".{name}"], path


def test_every_condition_that_is_raised_is_in_the_specs():
    """``functional`` has a ``fail`` of its own, which takes an argument's name."""
    known = {one.name for dialect in DIALECTS for one in dialect.conditions}
    raised, saying = set(), {"fail", "fail_type", "fail_spelled"}
    for folder, names in (("runtime", saying), ("interop", saying), ("functional", {"_fail"})):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
                    raised |= {one.value for one in node.args[:1] if isinstance(one, ast.Constant)}
    assert {"rank", "read_only", "statistics_gradient", "width"} <= raised
    assert raised <= known, raised - known


def test_generated_code_reaches_the_runtime_alone():
    for path in (ROOT / "generated").rglob("*.py"):
        for name in imports(path):
            dialect = path.relative_to(ROOT / "generated").parts[0]
            assert not name.startswith("normspec.") or name.split(".")[1] in ("runtime", dialect), f"{path}: {name}"


LIGHT = """
import sys
from normspec import {0}
heavy = {{"numba", "yaml", "jinja2", "torch", "jax", "normspec.codegen", "normspec.specs"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("dialect", [one.name for one in DIALECTS])
def test_importing_a_dialect_loads_nothing_heavy(dialect):
    subprocess.run([sys.executable, "-c", LIGHT.format(dialect)], check=True)


TIMED = """
import time
began = time.process_time()
import numpy
between = time.process_time()
import normspec.storch
print(between - began, time.process_time() - between)
"""


def test_importing_a_dialect_takes_no_longer_than_importing_numpy():
    """Beside that: two thirds of it, where measured, a tenth of a second; with numba it would be 2.3 times that."""
    runs = [
        subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    numpys, ours = (min(map(float, times)) for times in zip(*runs, strict=True))
    assert ours < numpys
