"""How far from float64 everyone's outputs are: ``python -m normspec.benchmarks.accuracy``, the table of a page.

Every output is compared with the formula in NumPy's longest float (80 bits on x86), on the very values that the
libraries are given; so what is told is an error of computing, not of storing a large mean in 24 bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.runtime.dtypes import DType, at_least_float32

from . import machine
from .peers import PEERS, Candidate, Peer, ours
from .publish import fill
from .rows import EPSILON, Array, Batch, Row

COMMAND = "python -m normspec.benchmarks.accuracy"
SHAPE = (16, 8, 28, 28)
RATIOS = tuple(10.0**power for power in range(8))
PANELS = (("training", "channels first"), ("training", "channels last"), ("evaluation", "channels first"))


class Case(NamedTuple):
    """A kind of input, and what it is called in the table."""

    name: str
    row: Row
    values: Callable[[np.random.Generator, tuple[int, ...]], Array]


def with_mean(mean: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    """Normal values of a mean and deviation 1."""
    return lambda random, shape: random.standard_normal(shape) + mean


CASES = (
    Case("mean 10⁵, deviation 1", Row("training", SHAPE, "float32", "channels first"), with_mean(1e5)),
    Case("the same, channels last", Row("training", SHAPE, "float32", "channels last"), with_mean(1e5)),
    Case("the same, evaluation", Row("evaluation", SHAPE, "float32", "channels first"), with_mean(1e5)),
    Case("mean 10⁸, float64", Row("training", SHAPE, "float64", "channels first"), with_mean(1e8)),
    Case("mean 4, float16", Row("training", SHAPE, "float16", "channels first"), with_mean(4)),
    Case("mean 4, bfloat16", Row("training", SHAPE, "bfloat16", "channels first"), with_mean(4)),
    Case(
        "every value 0.1",
        Row("training", SHAPE, "float32", "channels first"),
        lambda random, shape: np.full(shape, 0.1),
    ),
    Case("2²⁴ values of one channel", Row("training", (1 << 24, 1), "float32", "channels first"), with_mean(3)),
    Case(
        "deviation 10⁻³, mean 1",
        Row("training", SHAPE, "float32", "channels first"),
        lambda random, shape: 1 + 1e-3 * random.standard_normal(shape),
    ),
)


def one_pass(batch: Batch) -> Iterator[Candidate]:
    """E[x²] − E[x]² and x · a + c, in the precision of the input: what a fused kernel is tempted to do."""
    axes = tuple(axis for axis in range(batch.memory.ndim) if axis != batch.axis)
    sides = [-1 if axis == batch.axis else 1 for axis in range(batch.memory.ndim)]
    kept = at_least_float32(batch.row.dtype)
    weight, bias, mean, variance = (vector.astype(kept) for vector in batch.vectors.values())

    def compute() -> Array:
        wide = batch.memory.astype(kept)
        own, spread = mean, variance
        if batch.training:
            own = wide.mean(axis=axes)
            spread = np.maximum(0, (wide * wide).mean(axis=axes) - own * own)
        scale = weight / np.sqrt(spread + np.asarray(EPSILON, kept))
        shift = bias - own * scale
        y: Array = wide * scale.reshape(sides) + shift.reshape(sides)
        return y.astype(batch.memory.dtype)

    yield Candidate("one pass", compute, batch.first)


def everyone() -> list[Peer]:
    """Ours, what is installed, and the formula that is not to be used."""
    return [Peer("ours", (), "", ours), *(peer for peer in PEERS if peer.installed), Peer("one pass", (), "", one_pass)]


def batch(case: Case) -> Batch:
    """The values in the layout and element type of a case, with true statistics for evaluation."""
    random, row = np.random.default_rng(0), case.row
    narrow = case.values(random, row.shape).astype(DType(row.dtype).numpy)
    kept, axes = at_least_float32(row.dtype), tuple(axis for axis in range(len(row.shape)) if axis != 1)
    wide = narrow.astype(np.float64)
    features = row.shape[1]
    vectors = {
        "weight": random.uniform(0.5, 1.5, features),
        "bias": random.uniform(-1, 1, features),
        "mean": wide.mean(axis=axes),
        "variance": wide.var(axis=axes),
    }
    memory = narrow if row.layout == "channels first" else np.ascontiguousarray(np.moveaxis(narrow, 1, -1))
    return Batch(row, memory, {name: vector.astype(kept) for name, vector in vectors.items()})


def exact(made: Batch) -> npt.NDArray[np.longdouble]:
    """The output as precisely as NumPy can have it, a channel at a time."""
    y = np.empty(made.x.shape, np.longdouble)
    for channel, (weight, bias, mean, variance) in enumerate(zip(*made.vectors.values(), strict=True)):
        x = made.x[:, channel].astype(np.longdouble)
        if made.training:
            mean = x.mean()
        x -= mean
        if made.training:
            variance = (x * x).mean()
        y[:, channel] = x / np.sqrt(variance + np.longdouble(EPSILON)) * weight + bias
    return y


def errors(case: Case) -> dict[str, float]:
    """The largest difference of each one's output from the exact one, relative to one more than that."""
    made = batch(case)
    expected = exact(made)
    found: dict[str, float] = {}
    for peer in everyone():
        for candidate in peer.candidates(made):
            if not candidate.name.endswith("out="):
                with np.errstate(all="ignore"):
                    y = candidate.array(candidate.call())
                    found[candidate.name] = float(
                        (np.abs(y.astype(np.float64) - expected) / (1 + np.abs(expected))).max()
                    )
    return found


def curves() -> dict[tuple[str, str], dict[str, list[float]]]:
    """For each panel of the plot and each library its errors, a number for each ratio of mean to deviation."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for mode, layout in PANELS:
        for ratio in RATIOS:
            for name, error in errors(Case("", Row(mode, SHAPE, "float32", layout), with_mean(ratio))).items():
                found.setdefault((mode, layout), {}).setdefault(name, []).append(error)
    return found


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The errors as Markdown; a library that does not do a case has a dash."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| input | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for case, row in rows.items():
        cells = (f"{row[name]:.1e}" if name in row else "–" for name in names)
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def where() -> str:
    """What was measured, and with which versions."""
    told = machine.describe()
    where = f"{told['cpu']}, {told['cores']} cores, Python {told['python']}"
    return f"`{COMMAND}` on {where}: {machine.versions(told)}.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it into the page and draw the plot beside it."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--page", type=Path, help="Markdown page with a place for the table; the plot gets its name")
    page = parser.parse_args(argv).page
    text = f"{table({case.name: errors(case) for case in CASES})}\n{where()}"
    print(text)
    if page is not None:
        from . import accuracy_picture

        page.write_text(fill(page.read_text(encoding="utf-8"), "accuracy", COMMAND, text), encoding="utf-8")
        accuracy_picture.draw(curves(), RATIOS, page.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
