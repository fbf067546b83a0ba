"""Calls on small arrays, for which finding out what to do takes longer than doing it.

All that depends on shape, dtype and layout is known beforehand. All else is arrays. The kernel gets them as one tuple,
looks at the vectors itself, and does everything: no address is kept from call to call, so none can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from normspec.runtime.kernels.cpu import kernels
from normspec.runtime.kernels.cpu.simd import LINE

if TYPE_CHECKING:
    from normspec.runtime.kernels.cpu import Array, Float64s, Layout

KNOWN = np.ndarray, None, *map(np.dtype, (np.float32, np.float64, np.int64))  # by their ids; see ``kernels``


class Prepared:
    """What one thread can do; see ``normspec.runtime.kernels.Prepared``.

    Vectors will do if they are aligned contiguous NumPy arrays of float32 or float64; the counter may be of int64.
    """

    __slots__ = ("_divisors", "_dtype", "_empty_like", "_facts", "_features", "_kept", "_room")

    def __init__(self, cut: Layout, features: int, fused: bool, empty_like: Callable[[Array], Array]) -> None:
        turns, table = -(-8 * cut.turns // LINE) * LINE // 8, cut.lines * features if fused else 0
        self._facts = np.array([*cut.cut, *map(id, KNOWN), turns, table])
        self._dtype = cut.dtype
        self._features = features
        self._divisors = float(cut.values), max(1.0, cut.values - 1.0)
        self._room = turns + table + cut.scratch
        self._kept = [turns + line * features for line in (kernels.MEAN, kernels.INVERSE if fused else kernels.GAIN)]
        self._empty_like = empty_like

    def train(
        self, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool, kept: bool
    ) -> tuple[Array, Any] | None:
        y = self._empty_like(x)
        room = self.train_into(y, x, vectors, epsilon, rate, unbiased)
        return None if room is None else (y, self.statistics(room) if kept else None)

    def normalize(self, x: Array, vectors: Sequence[Any], epsilon: float, kept: bool) -> tuple[Array, Any] | None:
        y = self._empty_like(x)
        room = self.normalize_into(y, x, vectors, epsilon)
        return None if room is None else (y, self.statistics(room) if kept else None)

    def train_into(
        self, y: Array, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool
    ) -> Array | None:
        """``train`` that writes to ``y``, and returns what ``statistics`` takes, or None."""
        room = np.empty(self._room)
        arrays = (x, y, room, *vectors)  # which keeps them while the kernel works
        divisor = self._divisors[bool(unbiased)]
        done = kernels.train_prepared(id(arrays), self._facts, self._dtype, float(epsilon), divisor, float(rate))
        return room if done else None

    def normalize_into(self, y: Array, x: Array, vectors: Sequence[Any], epsilon: float) -> Array | None:
        """``normalize``, likewise."""
        room = np.empty(self._room)
        arrays = (x, y, room, *vectors)
        return room if kernels.normalize_prepared(id(arrays), self._facts, self._dtype, float(epsilon)) else None

    def statistics(self, room: Array) -> tuple[Float64s, Float64s]:
        """Mean and 1 / standard deviation, where the kernel has left them."""
        mean, inverse = (room[start : start + self._features].copy() for start in self._kept)
        return mean, inverse
