"""What is measured: the rows of the table, and the batch that belongs to each."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normspec.conformance.oracle import Oracle
from normspec.runtime.dtypes import DType, at_least_float32

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

SHAPES: tuple[Shape, ...] = (
    (32, 64, 112, 112),
    (32, 256, 56, 56),
    (32, 512, 28, 28),
    (32, 1024, 14, 14),
    (32, 2048, 7, 7),
    (8, 32, 16, 64, 64),
    (4096, 1024),
    (256, 128),
    (16, 64, 200),
    (8, 16, 8, 8),
    (32, 100),
    (2, 3, 4, 4),
)
QUICK: tuple[Shape, ...] = ((32, 2048, 7, 7), (256, 128), (2, 3, 4, 4))
DTYPES = ("float32", "float64", "float16", "bfloat16")
LAYOUTS = ("channels first", "channels last")
MODES = ("training", "evaluation", "backward")  # each a case in `Batch.expected` and in every function of peers.py

MOVED = {"training": 2, "evaluation": 2, "backward": 3}  # times the bytes of x that must move: x, y; x, dy, dx

EPSILON, RATE = 1e-5, 0.1
BLOCK = 1 << 21  # values that are checked at a time, by a thread
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-12}


class Row(NamedTuple):
    """One line of the table."""

    mode: str
    shape: Shape
    dtype: str
    layout: str

    @property
    def size(self) -> int:
        """Bytes of the input."""
        return math.prod(self.shape) * DType(self.dtype).itemsize

    def right(self, error: float, slack: float = 1.0) -> bool:
        """Whether an error is one of rounding; a NaN is not."""
        return error <= TOLERANCE[self.dtype] * slack

    def __str__(self) -> str:
        return f"{self.mode}, {self.dtype}, {self.layout}, {self.shape}"


def combinations(shapes: Iterable[Shape], dtypes: Sequence[str]) -> Iterator[Row]:
    """Every combination; for an array of two dimensions both layouts are the same."""
    for shape in shapes:
        for dtype in dtypes:
            for layout in LAYOUTS if len(shape) > 2 else LAYOUTS[:1]:
                for mode in MODES:
                    yield Row(mode, shape, dtype, layout)


@dataclass
class Batch:
    """An input with its parameters. Arrays that a call changes are made anew for each candidate."""

    row: Row
    memory: Array = field(repr=False)  # contiguous, the channels where the layout has them
    vectors: dict[str, Array] = field(repr=False)  # weight, bias, mean, variance

    @property
    def axis(self) -> int:
        """Where ``memory`` has its channels."""
        return 1 if self.row.layout == "channels first" else self.memory.ndim - 1

    @property
    def training(self) -> bool:
        return self.row.mode == "training"

    @functools.cached_property
    def upper(self) -> Array:
        """For a backward pass the gradient of the output, in the order of ``memory``: the same values in another."""
        return np.ascontiguousarray(self.memory[::-1])

    @functools.cached_property
    def statistics(self) -> tuple[Array, Array]:
        """For a backward pass what forward leaves for it: mean, and one over the root of variance and epsilon."""
        channels = [channel.astype(np.float64) for channel in np.moveaxis(self.x, 1, 0)]
        mean, variance = np.array([(one.mean(), one.var()) for one in channels]).T
        return mean.copy(), 1 / np.sqrt(variance + EPSILON)

    @functools.cached_property
    def x(self) -> Array:
        """The same memory as (N, C, ...)."""
        return self.first(self.memory)

    def first(self, y: Array) -> Array:
        """An output in the order of ``memory``, as (N, C, ...)."""
        return np.moveaxis(y, self.axis, 1)

    def parameters(self) -> dict[str, Array]:
        """The vectors, copied."""
        return {name: vector.copy() for name, vector in self.vectors.items()}

    def expected(self, features: slice) -> Array:
        """What the features should come out as, in float64 and by an oracle that shares no code with ours."""
        scale, shift, mean, variance = (vector[features].astype(np.float64) for vector in self.vectors.values())
        oracle = Oracle(
            features=len(scale),
            epsilon=EPSILON,
            update_rate=RATE,
            learns=True,
            unbiased=True,
            scale=scale,
            shift=shift,
            mean=mean,
            variance=variance,
        )
        x = self.x[:, features]
        if self.row.mode == "backward":
            return oracle.gradients(x, self.first(self.upper)[:, features], training=True)["x"]
        return oracle(x, self.training)

    def errors(self, outputs: Mapping[str, Array], features: int | None = None) -> dict[str, float]:
        """Their largest differences, relative to one more than what is expected, in all or in the first features."""
        count = self.x.shape[1] if features is None else min(features, self.x.shape[1])
        step = max(1, BLOCK * self.x.shape[1] // self.x.size)
        parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(functools.partial(self._differences, outputs.values()), parts))
        return dict(zip(outputs, np.max(found, axis=0).tolist(), strict=True))  # a NaN stays

    def _differences(self, outputs: Iterable[Array], part: slice) -> list[float]:
        expected = self.expected(part)
        allowed = 1 + np.abs(expected)
        return [(np.abs(y[:, part].astype(np.float64) - expected) / allowed).max() for y in outputs]


@functools.lru_cache(maxsize=1)
def values(shape: Shape) -> Array:
    """Normal values of mean 1 and deviation 2."""
    found = np.random.default_rng(0).standard_normal(shape, np.float32)
    found *= 2
    found += 1
    return found


def batch(row: Row) -> Batch:
    """The same values for every mode, dtype and layout."""
    narrow = values(row.shape).astype(DType(row.dtype).numpy)
    memory = narrow if row.layout == "channels first" else np.ascontiguousarray(np.moveaxis(narrow, 1, -1))
    random, features, kept = np.random.default_rng(1), row.shape[1], at_least_float32(row.dtype)
    ranges = {"weight": (0.5, 1.5), "bias": (-1, 1), "mean": (0.8, 1.2), "variance": (3, 5)}
    return Batch(row, memory, {name: random.uniform(*ends, features).astype(kept) for name, ends in ranges.items()})
