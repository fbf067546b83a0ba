"""Training inside torch: a block of a residual network, and single calls. ``normspec bench-training``."""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import random
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from normspec.cli.terminal import Line, lines

from . import machine
from .peers import PEERS
from .report import APART, explained, microseconds, pair
from .rows import LAYOUTS, Shape
from .timing import Call, Timing, interleave

SECONDS, QUICK_SECONDS = 120.0, 10.0
BLOCKS: tuple[Shape, ...] = ((4, 64, 56, 56), (8, 64, 28, 28), (8, 128, 14, 14), (8, 256, 7, 7))
CALLS: tuple[Shape, ...] = ((2, 3, 4, 4), (32, 100), (8, 16, 8, 8), (256, 128))
TOLERANCE = 1e-2  # between gradients, relative to the largest: torch's are sums in float32, 2e-4 off for 32×64×56×56

MEANINGS = {
    "block": "forward, backward and a step of SGD of convolution, batch norm, ReLU, convolution, batch norm, sum with "
    "the input, ReLU. The convolutions are torch's on both sides and take most of the time.",
    "layer": "forward and backward of one batch norm of that size.",
    "step": "the same, on arrays so small that it is the cost of a call.",
    "training": "forward alone in training, under `torch.no_grad()`.",
    "evaluation": "forward alone in evaluation, under `torch.no_grad()`.",
}
COLUMNS = {
    "torch": "torch's modules.",
    "ours": "the same, after `normspec.interop.torch.replace_batch_norms`.",
    "NumPy": "`normspec.torch.nn` on a NumPy array of the same memory.",
    "kernel": "the kernel on views and an output made beforehand: what remains of ours is the layer between.",
}
HEADER = "|".join(["what", "shape", "layout", *(f"{name}, µs" for name in COLUMNS), "torch ÷ ours", "ours ÷ kernel"])


@dataclass(frozen=True)
class Row:
    """Something to do with torch's modules and ours; the candidates are made when its turn has come."""

    what: str
    shape: Shape
    layout: str
    candidates: Callable[[Shape, str], dict[str, Call]]


@dataclass(frozen=True)
class Result:
    """How long everyone took, each by the median of its turns."""

    row: Row
    timings: Mapping[str, Timing]

    def over(self, name: str, other: str) -> str:
        """The ratio of two medians, and that of the shortest times if it is another matter; – if there is none."""
        if not {name, other} <= self.timings.keys():
            return "–"
        one, two = self.timings[name], self.timings[other]
        return pair(one.median / two.median, one.minimum / two.minimum)

    def cells(self) -> list[str]:
        """Its line of the table."""
        row = self.row
        times = [microseconds(self.timings[one].median) if one in self.timings else "–" for one in COLUMNS]
        place = [row.what, "×".join(map(str, row.shape)), row.layout.split()[1] if len(row.shape) > 2 else "–"]
        return [*place, *times, self.over("torch", "ours"), self.over("ours", "kernel")]


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, and write it with the numbers."""
    options = parser().parse_args(argv)
    torch = next(one for one in PEERS if one.name == "torch")
    if not torch.installed:
        print(f"normspec bench-training needs torch: {torch.install}", file=sys.stderr)
        return 1
    before, line = machine.load(), Line()
    chosen = list(rows(options.quick))
    default = QUICK_SECONDS if options.quick else SECONDS
    each = (default if options.seconds is None else options.seconds) / len(chosen)
    results = []
    for number, row in enumerate(chosen):
        left = f"{each * (len(chosen) - number):.0f} s left"
        line(f"{number + 1} of {len(chosen)}, {row.what}, {row.shape}, {row.layout}: {left}")
        results.append(Result(row, interleave(row.candidates(row.shape, row.layout), each, random.Random(0))))
    line.done()
    where = {
        **machine.describe(),
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["normspec", "bench-training", *argv]),
        "load_before": before,
        "load_after": machine.load(),
    }
    text = page(results, where)
    options.output.mkdir(parents=True, exist_ok=True)
    data, table = (options.output / f"bench-training.{suffix}" for suffix in ("json", "md"))
    data.write_text(json.dumps({"machine": where, "rows": list(map(entry, results))}, indent=1) + "\n", "utf-8")
    table.write_text(text, encoding="utf-8")
    print(f"{text}\nwritten to {options.output}: {data.name}, {table.name}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="normspec bench-training", description=__doc__)
    made.add_argument("--quick", action="store_true", help="the smallest of each")
    made.add_argument("--seconds", type=float, help=f"time for all rows ({SECONDS:.0f}; quick: {QUICK_SECONDS:.0f})")
    made.add_argument("--output", type=Path, default=Path("out"), help="folder to write to (%(default)s)")
    return made


def rows(quick: bool) -> Iterator[Row]:
    """What is measured."""
    for shape in BLOCKS[-1:] if quick else BLOCKS:
        for layout in LAYOUTS:
            yield Row("block", shape, layout, blocks)
            yield Row("layer", shape, layout, steps)
    for shape in CALLS[:1] if quick else CALLS:
        yield Row("step", shape, LAYOUTS[0], steps)
        yield Row("training", shape, LAYOUTS[0], lambda shape, _: calls(shape, True))
        yield Row("evaluation", shape, LAYOUTS[0], lambda shape, _: calls(shape, False))


def entry(result: Result) -> dict[str, Any]:
    """A row as JSON has it; times in seconds."""
    row = result.row
    seconds = {name: {"median": one.median, "minimum": one.minimum} for name, one in result.timings.items()}
    return {"what": row.what, "shape": row.shape, "layout": row.layout, "seconds": seconds}


def page(results: Sequence[Result], where: Mapping[str, Any]) -> str:
    """The table, and what is in it."""
    return "\n".join(
        [
            "# Training inside torch\n",
            f"{where['cpu']}, {where['cores']} cores, {where['system']}; {machine.versions(where)}. {where['date']}, "
            f"`{where['command']}`; load {where['load_before']} before and {where['load_after']} after. float32. Turns "
            "in random order in one process, medians of the turns' medians; gradients were compared first. In "
            f"parentheses, where they are a factor of {APART} apart, is the ratio of the shortest times: on a busy "
            "machine torch's threads wait for each other for milliseconds, and a median says more of the machine.\n",
            explained(MEANINGS | COLUMNS),
            "",
            *lines(HEADER, [one.cells() for one in results]),
            "",
        ]
    )


# -------------------------------------------------------------------------------------------------------- candidates


def data(shape: Shape, layout: str, seed: int = 0) -> Any:
    """Normal values in a layout."""
    import torch

    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 1
    return made.to(memory_format=torch.channels_last) if layout == LAYOUTS[1] and len(shape) == 4 else made


def layer(shape: Shape) -> Any:
    """torch's batch norm for a shape."""
    from torch import nn

    return {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](shape[1])


def both(model: Any) -> dict[str, Any]:
    """A model of torch's, and a copy with our batch norms."""
    from normspec.interop.torch import replace_batch_norms

    return {"torch": model, "ours": replace_batch_norms(copy.deepcopy(model))}


def checked(models: Mapping[str, Any], run: Callable[[Any], Any]) -> None:
    """Run both once and compare what comes out."""
    theirs, mine = (run(model) for model in models.values())
    for one, other in zip(theirs, mine, strict=True):
        error = float((one - other).abs().max() / one.abs().max())
        if not error <= TOLERANCE:
            raise RuntimeError(f"torch's and ours differ by {error:.1e} of the largest value")


def steps(shape: Shape, layout: str) -> dict[str, Call]:
    """Forward and backward of a batch norm."""
    import torch

    x, dy, models = data(shape, layout).requires_grad_(), data(shape, layout, 1), both(layer(shape))

    def run(model: Any) -> Any:
        y = model(x)
        return y.detach(), *torch.autograd.grad(y, (x, model.weight, model.bias), dy)

    checked(models, run)
    return {name: partial(run, model) for name, model in models.items()}


def blocks(shape: Shape, layout: str) -> dict[str, Call]:
    """A training step of a residual block."""
    import torch
    from torch import nn

    channels = shape[1]

    def convolution() -> Any:
        return nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    torch.manual_seed(0)
    body = nn.Sequential(convolution(), layer(shape), nn.ReLU(), convolution(), layer(shape))
    x, dy, models = data(shape, layout), data(shape, layout, 1), both(body)
    if layout == LAYOUTS[1]:
        models = {name: model.to(memory_format=torch.channels_last) for name, model in models.items()}

    def forward(model: Any) -> Any:
        return (model(x) + x).relu()

    def gradients(model: Any) -> Any:
        y = forward(model)
        return y.detach(), *torch.autograd.grad(y, list(model.parameters()), dy)

    def step(model: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        forward(model).backward(dy)
        optimizer.step()

    checked(models, gradients)
    rate = 1e-6  # as long as it takes, and weights stay what they are
    made = {name: (model, torch.optim.SGD(model.parameters(), rate)) for name, model in models.items()}
    return {name: partial(step, *given) for name, given in made.items()}


def calls(shape: Shape, training: bool) -> dict[str, Call]:
    """A forward call, by torch's module, ours, our dialect's on NumPy, and the kernel alone."""
    import torch

    from normspec import torch as dialect
    from normspec.runtime import kernels
    from normspec.runtime.arrays import feature_views

    x, models = data(shape, LAYOUTS[0]), both(layer(shape).train(training))
    array = x.numpy()
    own = getattr(dialect.nn, type(models["torch"]).__name__)(shape[1]).train(training)
    _, source, target = feature_views(array, 1)
    weight, bias, mean, variance = (
        tensor.numpy() for tensor in (own.weight, own.bias, own.running_mean, own.running_var)
    )
    backend = kernels.on("cpu")

    def run(model: Any) -> Any:
        with torch.no_grad():
            return model(x)

    def kernel() -> None:
        if training:
            backend.forward_training(source, target, weight, bias, mean, variance, 1e-5, 0.1, True)
        else:
            backend.normalize(source, target, mean, variance, weight, bias, 1e-5)

    checked(models, lambda model: [run(model)])
    return {
        **{name: partial(run, model) for name, model in models.items()},
        "NumPy": partial(own, array),
        "kernel": kernel,
    }
