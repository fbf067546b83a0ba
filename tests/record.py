"""Ask the real torch what it does, and write it down: ``python tests/record.py`` (torch 2.13.0, CPU).

What is recorded is what the specs claim: signatures, what modules print, state dicts, error texts, and numbers. The
tests compare ours with the recording, so that a wrong fact in a spec is caught, not only an inconsistent one.
"""

from __future__ import annotations

import inspect
import itertools
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "recorded" / "torch.json"
SHAPES = {
    "BatchNorm1d": [(6, 3), (4, 3, 5)],
    "BatchNorm2d": [(4, 3, 2, 3)],
    "BatchNorm3d": [(2, 3, 2, 3, 2)],
}
SWITCHES: dict[str, list[Any]] = {
    "affine": [True, False],
    "track_running_stats": [True, False],
    "momentum": [0.1, None],
    "bias": [True, False],
}


def record(torch: Any) -> dict[str, Any]:
    """Everything, as JSON will have it."""
    return {
        "library": f"torch {torch.__version__.partition('+')[0]}",
        "signatures": {name: signature(getattr(torch.nn, name)) for name in SHAPES}
        | {"batch_norm": signature(torch.nn.functional.batch_norm)},
        "runs": [run(torch, *one) for one in configurations()],
        "errors": {name: error(torch, mistake) for name, mistake in MISTAKES.items()},
        "printed": {name: repr(make(torch)) for name, make in PRINTED.items()},
    }


def signature(function: Any) -> list[list[Any]]:
    """Name, default ("required" if there is none) and whether it is keyword-only, of each parameter."""
    return [
        [one.name, "required" if one.default is one.empty else one.default, one.kind is one.KEYWORD_ONLY]
        for one in inspect.signature(function).parameters.values()
    ]


def configurations() -> Any:
    for name, shapes in SHAPES.items():
        for values in itertools.product(*SWITCHES.values()):
            arguments = dict(zip(SWITCHES, values, strict=True))
            for shape in shapes:
                yield name, arguments, shape


def run(torch: Any, name: str, arguments: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Two training steps and one of evaluation, on numbers that float32 holds exactly."""
    module = getattr(torch.nn, name)(3, **arguments)
    module.load_state_dict(
        {"weight": torch.tensor([0.5, 1.0, 2.0]), "bias": torch.tensor([0.25, 0.0, -1.0])}, strict=False
    )
    described = {
        "class": name,
        "arguments": arguments,
        "shape": shape,
        "repr": repr(module),
        "state": {
            key: [str(one.dtype), list(one.shape), one.requires_grad] for key, one in module.state_dict().items()
        },
    }
    steps = []
    for step, training in enumerate((True, True, False)):
        y = module.train(training)(torch.tensor(values(shape, step)).reshape(shape))
        kept = {key: module.state_dict().get(key) for key in ("running_mean", "running_var", "num_batches_tracked")}
        steps.append(
            {
                "y": [round(one, 6) for one in y.flatten().tolist()],
                **{key: None if one is None else one.tolist() for key, one in kept.items()},
            }
        )
    return described | {"steps": steps}


def values(shape: tuple[int, ...], step: int) -> list[float]:
    """Multiples of 1/8 without a pattern, the same for whoever asks."""
    count = 1
    for length in shape:
        count *= length
    return [((7919 * (index + 1) * (step + 3)) % 129 - 40) / 8 for index in range(count)]


def error(torch: Any, mistake: Any) -> list[str]:
    """Type and text of what is raised."""
    try:
        mistake(torch)
    except Exception as raised:
        return [type(raised).__name__, str(raised)]
    raise AssertionError("nothing was raised")


def load(torch: Any, drop: tuple[str, ...] = (), **changes: Any) -> None:
    module = torch.nn.BatchNorm1d(3)
    state = {key: value for key, value in module.state_dict().items() if key not in drop}
    module.load_state_dict(state | changes)


# Every one of these runs on the real torch and, in the tests, on ours.
MISTAKES: dict[str, Any] = {
    "features_type": lambda torch: torch.nn.BatchNorm1d(2.5),
    "features_negative": lambda torch: torch.nn.BatchNorm1d(-1),
    "rank 1d": lambda torch: torch.nn.BatchNorm1d(3)(torch.ones(2, 3, 4, 5)),
    "rank 2d": lambda torch: torch.nn.BatchNorm2d(3)(torch.ones(2, 3, 4)),
    "rank 3d": lambda torch: torch.nn.BatchNorm3d(3)(torch.ones(2, 3, 4)),
    "features": lambda torch: torch.nn.BatchNorm1d(3)(torch.ones(2, 4)),
    "input_dtype": lambda torch: torch.nn.BatchNorm1d(3)(torch.ones(2, 3, dtype=torch.float64)),
    "input_float": lambda torch: torch.nn.BatchNorm1d(3)(torch.ones(2, 3, dtype=torch.int32)),
    "single_value": lambda torch: torch.nn.BatchNorm1d(3)(torch.ones(1, 3)),
    "single_value 2d": lambda torch: torch.nn.BatchNorm2d(3)(torch.ones(1, 3, 1, 1)),
    "epsilon": lambda torch: torch.nn.BatchNorm1d(3, eps=0.0)(torch.ones(2, 3)),
    "epsilon_negative": lambda torch: torch.nn.BatchNorm1d(3, eps=-1.0).eval()(torch.ones(2, 3)),
    "mode_type": lambda torch: torch.nn.BatchNorm1d(3).train(1),
    "missing_keys": lambda torch: load(torch, drop=("bias", "running_mean")),
    "unexpected_keys": lambda torch: load(torch, foo=torch.ones(3)),
    "state_shape": lambda torch: load(torch, weight=torch.ones(4)),
    "everything": lambda torch: load(torch, drop=("bias",), foo=torch.ones(3), weight=torch.ones(4)),
    "assign": lambda torch: setattr(torch.nn.BatchNorm1d(3), "weight", [1.0]),
    "functional single": lambda torch: torch.nn.functional.batch_norm(torch.ones(1, 3), None, None, training=True),
}

PRINTED: dict[str, Any] = {
    "whole": lambda torch: torch.tensor([1.0, 2.0, -3.0]),
    "fixed": lambda torch: torch.tensor([[0.5, -1.25], [100.0, 3.0]]),
    "wide": lambda torch: torch.tensor([1e-6, 1.0, 12345.678]),
    "nan": lambda torch: torch.tensor([float("nan"), 1.0, float("inf")]),
    "float64": lambda torch: torch.tensor([0.5], dtype=torch.float64),
    "long": lambda torch: torch.tensor([one / 8 for one in range(-10, 20)], dtype=torch.float64),
    "matrix": lambda torch: torch.tensor([[one * 10.0**row for one in range(-4, 8)] for row in range(2)]),
    "ends": lambda torch: torch.tensor([float(one) for one in range(-2, 1000)]),
    "ends of integers": lambda torch: torch.tensor([[[row, -row] * 4] * 2 for row in range(200)]),
    "extras": lambda torch: torch.tensor([[0.125] * 7], dtype=torch.float64, requires_grad=True),
    "scalar": lambda torch: torch.tensor(3),
    "integers": lambda torch: torch.tensor([[1, 20], [300, 4]]),
    "parameter": lambda torch: torch.nn.BatchNorm1d(3).weight,
    "buffer": lambda torch: torch.nn.BatchNorm1d(3).num_batches_tracked,
    "dtype": lambda torch: torch.bfloat16,
    "keys": lambda torch: torch.nn.BatchNorm1d(3).load_state_dict(torch.nn.BatchNorm1d(3).state_dict()),
}


def main() -> None:
    """Write the recording."""
    import torch

    FILE.write_text(as_json(record(torch)), encoding="utf-8", newline="\n")
    print(f"wrote {FILE}")


def as_json(recorded: dict[str, Any]) -> str:
    """A run a line, so that a difference can be read."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in recorded.items() if key != "runs"]
    runs = ",\n  ".join(json.dumps(one) for one in recorded["runs"])
    return "{\n" + ",\n".join(lines) + f',\n"runs": [\n  {runs}\n]\n}}\n'


if __name__ == "__main__":
    main()
