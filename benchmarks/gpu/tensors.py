"""The tensors that belong to a row, and what should come of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from normspec.runtime.dtypes import at_least_float32

from ..rows import EPSILON, Row

BLOCK = 1 << 26  # values that are checked at a time
SETS = 64  # of buffers, at most


class Buffers(NamedTuple):
    """What one call reads and writes."""

    x: Any
    y: Any
    dy: Any


@dataclass
class Batch:
    """Buffers in turns, so that no call finds in a cache what the one before left there; vectors are shared."""

    row: Row
    sets: list[Buffers]
    weight: Any
    bias: Any
    mean: Any
    variance: Any

    @property
    def training(self) -> bool:
        return self.row.mode != "evaluation"

    def running(self) -> tuple[Any, Any]:
        """Statistics for a candidate to change."""
        return self.mean.clone(), self.variance.clone()

    def expected(self, part: slice) -> dict[str, Any]:
        """What comes of the first buffers in some features, in float64."""
        x, dy = (
            one.narrow(1, part.start, part.stop - part.start).double() for one in (self.sets[0].x, self.sets[0].dy)
        )
        weight, bias = self.weight[part].double(), self.bias[part].double()
        axes, count = [axis for axis in range(x.ndim) if axis != 1], x.numel() // x.shape[1]
        mean, variance = self.mean[part].double(), self.variance[part].double()
        if self.training:
            mean = x.mean(axes)
            variance = (x - _beside(mean, x)).square().mean(axes)
        invstd = (variance + EPSILON).rsqrt()
        centred = (x - _beside(mean, x)) * _beside(invstd, x)
        if self.row.mode != "backward":
            return {"y": centred * _beside(weight, x) + _beside(bias, x)}
        dweight, dbias = (dy * centred).sum(axes), dy.sum(axes)
        dx = dy - _beside(dbias, x) / count - centred * _beside(dweight, x) / count
        return {"dx": dx * _beside(weight * invstd, x), "dweight": dweight, "dbias": dbias}

    def errors(self, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Of each candidate the largest difference in any output, relative to what rounding may make of it."""
        x = self.sets[0].x
        features, count = x.shape[1], x.numel() // x.shape[1]
        step = max(1, BLOCK // count)
        largest = dict.fromkeys(outputs, 0.0)
        for start in range(0, features, step):
            part = slice(start, min(start + step, features))
            for output, wanted in self.expected(part).items():
                scale = 1.0 if output in ("y", "dx") else 3 * math.sqrt(count)  # a sum of so many, in float32
                for name, found in outputs.items():
                    if output in found:
                        own = found[output]
                        own = own[part] if own.ndim == 1 else own.narrow(1, part.start, part.stop - part.start)
                        difference = ((own.double() - wanted).abs() / (scale + wanted.abs())).max().item()
                        largest[name] = difference if difference != difference else max(largest[name], difference)
        return largest


def batch(row: Row, device: str, cache: int, seed: int) -> Batch:
    """Fresh normal values, in as many buffers as exceed a cache of so many bytes four times."""
    random = torch.Generator(device).manual_seed(seed)
    element, kept = getattr(torch, row.dtype), getattr(torch, at_least_float32(row.dtype))
    features = row.shape[1]
    wide = {"dtype": torch.float32, "device": device, "generator": random}
    middle = 3 * torch.randn(features, **wide)
    arrays = 3 if row.mode == "backward" else 2
    sets = min(SETS, max(2, math.ceil(4 * cache / (arrays * row.size))))

    def made(scale: float, shift: Any) -> Any:
        values = torch.randn(row.shape, **wide).mul_(scale).add_(shift).to(element)
        return values if row.layout == "channels first" else values.contiguous(memory_format=_formats[len(row.shape)])

    x, dy = made(2.0, _beside(middle, torch.empty(row.shape, device="meta"))), made(1.0, 0.0)
    buffers = [Buffers(x, torch.empty_like(x), dy)]
    for _ in range(sets - 1):
        clone = dy.clone() if row.mode == "backward" else dy
        buffers.append(Buffers(x.clone(), torch.empty_like(x), clone))

    def vector(low: float, high: float) -> Any:
        return (torch.rand(features, **wide) * (high - low) + low).to(kept)

    return Batch(row, buffers, vector(0.5, 1.5), vector(-1, 1), middle.to(kept), vector(3, 5))


_formats = {4: torch.channels_last, 5: torch.channels_last_3d}


def _beside(vector: Any, x: Any) -> Any:
    """A vector of features, to compute with x."""
    return vector.reshape(-1, *[1] * (x.ndim - 2))
