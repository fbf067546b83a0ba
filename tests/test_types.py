"""What a type checker and an editor know of the generated classes."""

from __future__ import annotations

import pytest
from mypy import api

RIGHT = """
import numpy as np
from normspec import storch, torch
from normspec.torch import nn

bn: nn.BatchNorm2d = nn.BatchNorm2d(3, eps=1e-3, bias=False).train().eval()
deviation = bn(np.zeros((2, 3, 4, 4))).std()
tensor: torch.Tensor = bn(torch.randn(2, 3, 4, 4))
shape: tuple[int, ...] = bn.running_mean.shape if bn.running_mean is not None else ()
storch.nn.BatchNorm1d(3)
storch.nn.BatchNorm1d(numFeatures=3, trackRunningStats=False)
storch.nn.BatchNorm1d(num_features=3, track_running_stats=False)
storch.nn.BatchNorm1d(3, track_running_stats=False)
double: storch.nn.BatchNorm1d = storch.nn.BatchNorm1d[storch.float64](3)
storch.nn.BatchNorm1d[storch.float64](num_features=3, track_running_stats=False)
names: list[str] = list(storch.nn.BatchNorm1d(3).namedParameters)
"""

WRONG = [
    ("from normspec.torch import nn\nnn.BatchNorm2d('3')\n", "arg-type"),
    ("from normspec.torch import nn\nnn.BatchNorm2d(3, epsilon=1e-3)\n", "call-arg"),
    ("from normspec.torch import nn\nnn.BatchNorm2d(3).running_mean.shape\n", "union-attr"),
    ("from normspec.storch import nn\nnn.BatchNorm1d(features=3)\n", "call-overload"),
    ("from normspec import torch\ntorch.nn.BatchNorm2d[torch.float64]('3')\n", "arg-type"),
    ("from normspec import torch\ntorch.nn.BatchNorm2d[3]\n", "index"),
    ("from normspec import nvtripy as tp\ntp.BatchNorm(3).train()\n", "attr-defined"),
]


def check(code: str) -> str:
    return api.run(["--config-file=", "--strict", "--no-error-summary", "-c", code])[0]


def test_right_use_has_no_complaint():
    assert check(RIGHT) == ""


@pytest.mark.parametrize(("code", "kind"), WRONG, ids=[kind for _, kind in WRONG])
def test_wrong_use_is_seen(code, kind):
    assert f"[{kind}]" in check(code)
