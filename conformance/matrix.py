"""Every dialect and class against every clause: passed, deviation, omitted with a reason, or failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from normspec.codegen.markdown import prose
from normspec.codegen.model import Deviation, Dialect

from . import functional
from .cases import Case
from .clauses import CLAUSES, Omitted


@dataclass(frozen=True)
class Cell:
    """What came of one clause for one class."""

    row: str
    clause: str
    result: str  # passed, deviation, omitted or failed
    reason: str = ""  # of what is omitted or failed
    deviations: tuple[Deviation, ...] = ()


@dataclass(frozen=True)
class Row:
    """A class or a function, and how to check one clause of it."""

    name: str
    check: Callable[[str], None]
    deviations: Sequence[Deviation]


def rows(dialects: Sequence[Dialect]) -> Iterator[Row]:
    """Everything that is checked."""
    for dialect in dialects:
        for one in dialect.classes:
            yield Row(one.qualified, partial(_check_class, Case(dialect, one)), one.deviations)
        for function in dialect.functions:
            if function.operator == "batch_norm":
                case = functional.FunctionCase(dialect, function)
                differing = [one for one in dialect.deviations if one.operator in (None, function.operator)]
                yield Row(case.qualified, partial(functional.check, case), differing)


def _check_class(case: Case, clause: str) -> None:
    CLAUSES[clause](case)


def run(dialects: Sequence[Dialect]) -> Iterator[Cell]:
    """Check everything, a cell at a time."""
    for row in rows(dialects):
        for clause in CLAUSES:
            yield cell(row, clause)


def cell(row: Row, clause: str) -> Cell:
    """Check one clause of one class."""
    try:
        row.check(clause)
    except Omitted as reason:
        return Cell(row.name, clause, "omitted", str(reason))
    except Exception as error:
        return Cell(row.name, clause, "failed", f"{type(error).__name__}: {error}")
    deviations = tuple(one for one in row.deviations if one.clause == clause)
    return Cell(row.name, clause, "deviation" if deviations else "passed", deviations=deviations)


SIGNS = {"passed": "✓", "deviation": "Δ", "omitted": "–", "failed": "✗"}


def page(cells: Sequence[Cell]) -> str:
    """The matrix as Markdown; below it each clause, with the reason of everything that is not simply passed."""
    names = list(dict.fromkeys(cell.row for cell in cells))
    found = {(cell.row, cell.clause): cell for cell in cells}
    lines = [
        "<!-- Written by `normspec conformance`. -->",
        "# Conformance",
        "",
        "✓ passed, Δ passed and knowingly different from the original, – does not apply, ✗ failed. Below is each",
        "clause, with every reason.",
        "",
        f"| class |{''.join(f' [{clause}](#{clause}) |' for clause in CLAUSES)}",
        f"|---|{'---|' * len(CLAUSES)}",
    ]
    for name in names:
        signs = "".join(f" {SIGNS[found[name, clause].result]} |" for clause in CLAUSES)
        lines.append(f"| {_link(name)} |{signs}")
    lines += ["", "## Clauses", ""]
    for clause, check in CLAUSES.items():
        lines += [f"### {clause}", "", (check.__doc__ or "").strip(), ""]
        reasons: dict[tuple[str, str], list[str]] = {}
        for cell in cells:
            for reason in _reasons(cell) if cell.clause == clause else ():
                reasons.setdefault((SIGNS[cell.result], reason), []).append(_link(cell.row))
        lines += [f"- {sign} {reason} ({', '.join(names)})" for (sign, reason), names in reasons.items()]
        lines += [""] if reasons else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _reasons(cell: Cell) -> Iterator[str]:
    """Why a cell is not simply passed, as Markdown."""
    if cell.reason:
        yield prose(cell.reason)
    for one in cell.deviations:
        yield f"**{prose(one.about)}**: {prose(one.original)} *Here:* {prose(one.here)}"


def _link(name: str) -> str:
    """The page of a class, from where the matrix is written."""
    dialect, _, rest = name.partition(".")
    return f"[`{name}`](../generated/docs/{dialect}/{rest}.md)"


def table(cells: Sequence[Cell]) -> str:
    """The matrix for a terminal."""
    names = list(dict.fromkeys(cell.row for cell in cells))
    found = {(cell.row, cell.clause): SIGNS[cell.result] for cell in cells}
    width = max(map(len, names))
    numbered = "\n".join(f"{number:>3} {clause}" for number, clause in enumerate(CLAUSES, 1))
    lines = [numbered, "", " " * width + "".join(f"{number:>3}" for number, _ in enumerate(CLAUSES, 1))]
    lines += [f"{name:<{width}}" + "".join(f"{found[name, clause]:>3}" for clause in CLAUSES) for name in names]
    return "\n".join(lines)
