"""Every class keeps every promise of its specs; a new dialect is held to all of them without a line here."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest

from normspec.codegen import vocabulary
from normspec.codegen.model import Binding, Deviation, Example
from normspec.conformance import functional, matrix
from normspec.conformance.clauses import CLAUSES, Omitted
from normspec.conformance.oracle import Oracle
from normspec.runtime.dialect import TensorPrinting
from suite import DIALECTS, ROOT, SEEDS

ROWS = {row.name: row for row in matrix.rows(DIALECTS)}


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize("name", ROWS)
def test_conforms(name, clause):
    with contextlib.suppress(Omitted):
        ROWS[name].check(clause)


def test_what_is_omitted_has_a_reason():
    omitted = [cell for cell in matrix.run(DIALECTS[:1]) if cell.result == "omitted"]
    assert all(cell.reason for cell in omitted)
    assert {cell.clause for cell in omitted} <= {"devices", "examples"}


@pytest.mark.parametrize("device", ["simulator", "gpu"])
def test_conforms_on_cuda(device):
    from normspec.runtime.kernels import cuda

    if device == "gpu" and not cuda.available():
        pytest.skip(f"no GPU: {cuda.describe()}")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(device == "simulator"))}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "cuda_conformance.py"]
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_specs_may_name_every_clause_that_there_is():
    assert tuple(CLAUSES) == vocabulary.CLAUSES


def test_every_combination_of_switches_is_checked():
    found = [tuple(one.items()) for one in ROWS["torch.nn.BatchNorm1d"].check.args[0].configurations()]
    assert len(set(found)) == 2**4
    for pair in ("affine", False), ("bias", False), ("track_running_stats", False), ("momentum", None):
        assert any(pair in one for one in found), pair


def test_every_seed_system_is_checked():
    assert {name.partition(".")[0] for name in ROWS} >= set(SEEDS)


def _with(name, /, **changes):
    """A class of which the arguments, states, bindings, ... that have a name have changed."""
    ((kind, changed),) = changes.items()

    def change(case):
        found = getattr(case.one, kind)
        every = [replace(one, **changed) if one.name == name else one for one in found]
        assert every != list(found)
        return replace(case, one=replace(case.one, **{kind: tuple(every)}))

    return change


def _of_class(**changes):
    return lambda case: replace(case, one=replace(case.one, **changes))


def _of_dialect(**changes):
    return lambda case: replace(case, dialect=replace(case.dialect, **changes))


def _of_printing(**changes):
    return lambda case: _of_dialect(printing=replace(case.dialect.printing, **changes))(case)


def _of_rules(**changes):
    return lambda case: _of_dialect(rules=replace(case.dialect.rules, **changes))(case)


def _bound(canonical, value):
    """A class with another value of a canonical parameter, of which the class itself knows nothing."""

    def change(case):
        others = [one for one in case.one.bindings if one.canonical != canonical]
        return replace(case, one=replace(case.one, bindings=(*others, Binding(canonical, None, value))))

    return change


def _each(kind, /, **changes):
    """A dialect, or a class, all of whose functions, methods or conditions have changed."""

    def change(case):
        owner = "dialect" if hasattr(case.dialect, kind) else "one"
        whole = getattr(case, owner)
        every = tuple(replace(one, **changes) for one in getattr(whole, kind))
        return replace(case, **{owner: replace(whole, **{kind: every})})

    return change


def _behaving(**members):
    """A class that behaves otherwise."""

    def change(case):
        cls = type(case.cls.__name__, (case.cls,), {name: make(case.cls) for name, make in members.items()})
        return type("Broken", (type(case),), {"cls": cls})(case.dialect, case.one)

    return change


@pytest.mark.parametrize(
    ("clause", "change"),
    [
        ("signature", _with("eps", arguments={"value": 1e-3, "default": "0.001"})),
        ("signature", _with("eps", arguments={"keyword": True})),
        ("signature", _with("eps", arguments={"type": "int"})),
        ("attributes", _with("eps", arguments={"value": 1e-3})),
        ("attributes", _with("running_mean", state={"init": "ones"})),
        ("attributes", _with("running_mean", state={"dtype": "float64"})),
        ("attributes", _with("running_mean", state={"kind": "parameter"})),
        ("attributes", _with("running_mean", state={"when": ()})),
        ("supertypes", _of_class(supertypes=("_BatchNorm", "Tensor"))),
        ("docstring", _of_class(summary="Something else.")),
        ("docstring", _of_class(notes=("Never told.",))),
        ("docstring", _with("eps", arguments={"doc": "Never told."})),
        ("docstring", _with("running_mean", state={"kind": "parameter"})),
        ("docstring", _with("rank", conditions={"doc": "Never told."})),
        ("state_dict", lambda case: _of_class(state=case.one.state[::-1])(case)),
        ("state_dict", _of_rules(state_dict="kept")),
        ("load_state_dict", _of_rules(load="replace")),
        ("load_state_dict", _each("methods", result="nothing")),
        ("load_state_dict", _behaving(load_state_dict=lambda cls: partialmethod(cls.load_state_dict, strict=False))),
        (
            "load_state_dict",
            _behaving(load_state_dict=lambda cls: lambda *given: (cls.load_state_dict(*given), ([], []))[1]),
        ),
        ("output", _bound("epsilon", 1.0)),
        ("output", _bound("update_rate", 0.5)),
        ("statistics", _bound("update_rate", 0.5)),
        ("statistics", _bound("unbiased", False)),
        ("gradients", _bound("epsilon", 1.0)),
        ("dtypes", _with("running_mean", state={"dtype": "float64"})),
        ("dtypes", _bound("epsilon", 1.0)),
        ("errors", _each("conditions", raises="KeyError")),
        ("errors", _each("conditions", text="Never told.")),
        ("errors", _of_class(input="x")),
        ("errors", _behaving(train=lambda cls: lambda self, mode=True: self)),
        ("methods", _each("methods", kind="property")),
        ("methods", _each("methods", arguments=())),
        ("methods", _behaving(training=lambda cls: property(lambda self: True, lambda self, value: None))),
        ("functions", _each("functions", arguments=())),
        ("printing", _of_class(repr="BatchNorm1d()")),
        ("printing", _of_printing(dtype="{name}!")),
        ("printing", lambda case: _of_printing(tensor=TensorPrinting(frame="{data}!"))(case)),
        ("examples", _of_class(examples=(Example(">>> 1 + 1\n3", None, "ours"),))),
    ],
)
def test_a_broken_promise_is_seen(clause, change):
    """Every clause can fail: what keeps no such promise is reported."""
    case = ROWS["torch.nn.BatchNorm1d"].check.args[0]
    broken = change(case)
    cell = matrix.cell(matrix.Row("broken", lambda clause: CLAUSES[clause](broken), ()), clause)
    assert (cell.result, cell.reason.partition(":")[0]) == ("failed", "AssertionError"), cell.reason


def _returning(change):
    """A function whose result has changed."""
    return lambda case: {"function": lambda *arguments, **keywords: change(case.function(*arguments, **keywords))}


def _forgetting(case):
    def function(x, running_mean, running_var, **keywords):
        return case.function(x, np.copy(running_mean) if np.ndim(running_mean) else None, running_var, **keywords)

    return {"function": function}


@pytest.mark.parametrize(
    ("clause", "change"),
    [
        ("signature", lambda case: {"one": replace(case.one, arguments=case.one.arguments[::-1])}),
        ("docstring", lambda case: {"one": replace(case.one, arguments=(replace(case.one.arguments[0], doc="No."),))}),
        (
            "docstring",
            lambda case: {"one": replace(case.one, conditions=(replace(case.one.conditions[0], doc="No."),))},
        ),
        ("output", _returning(lambda y: y * 1.001)),
        ("statistics", _forgetting),
        ("gradients", _returning(lambda y: y * 1.001)),
        ("dtypes", _returning(np.float64)),
        ("errors", lambda case: {"one": replace(case.one, conditions=(replace(case.one.conditions[0], text="No."),))}),
        ("errors", lambda case: {"function": lambda *_, **__: None}),
        ("errors", lambda case: {"names": {**case.names, "input": "x"}}),
    ],
)
def test_a_broken_promise_of_a_function_is_seen(clause, change):
    case = ROWS["torch.nn.functional.batch_norm"].check.args[0]
    broken = copy.copy(case)
    vars(broken).update(change(case))
    with pytest.raises(AssertionError):
        functional.check(broken, clause)


def test_a_broken_promise_is_told():
    broken = _with("eps", arguments={"value": 1e-3, "default": "0.001"})(ROWS["storch.nn.BatchNorm1d"].check.args[0])
    cell = matrix.cell(matrix.Row("broken", lambda clause: CLAUSES[clause](broken), ()), "signature")
    assert (cell.result, "eps=1e-05" in cell.reason) == ("failed", True)


def test_the_page_in_the_documents_is_current():
    from normspec.runtime.kernels import cuda

    if cuda.available():
        pytest.skip("the page is of a machine without a GPU")
    assert matrix.page(list(matrix.run(DIALECTS))) == (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_the_page_has_every_cell_and_reason():
    cells = [
        matrix.Cell(
            "a.B", clause, "omitted" if clause == "devices" else "passed", "no GPU" if clause == "devices" else ""
        )
        for clause in CLAUSES
    ]
    page = matrix.page(cells)
    assert page.count(" ✓ |") == len(CLAUSES) - 1
    assert "\n### devices\n\n" in page
    assert "\n- – no GPU ([`a.B`](../generated/docs/a/B.md))\n" in page
    assert "a.B" in matrix.table(cells)


def test_the_page_shows_the_words_of_a_deviation_and_obeys_none_of_them():
    deviation = Deviation("a*b*", "output", "<i>c</i>", "``d``", None, None)
    cells = [matrix.Cell("a.B", one, "deviation", "", (deviation,) * (one == "output")) for one in CLAUSES]
    line = r"- Δ **a\*b\***: \<i\>c\</i\> *Here:* `d` ([`a.B`](../generated/docs/a/B.md))"
    assert line in matrix.page(cells).splitlines()


def test_the_oracle_is_exact_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(1e8, 1, (4096, 2))
    wide = (x - 1e8).astype(np.longdouble)  # a difference without a rounding error
    expected = (wide - wide.mean(axis=0)) / np.sqrt(wide.var(axis=0) + np.longdouble(1e-5))
    y = Oracle(2, 1e-5, 0.1, True, True, None, None, None, None)(x, training=True)
    assert np.abs(y - expected).max() < 1e-14
