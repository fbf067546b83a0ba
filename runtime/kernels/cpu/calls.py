"""Calls of kernels, for which finding out what to do takes longer than doing it where arrays are small.

All that depends on shape, dtype and layout is known beforehand. All else is arrays. A kernel gets them as one tuple,
looks at the vectors itself, and does everything: no address is kept from call to call, so none can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from normspec.runtime.kernels.cpu import kernels, tables
from normspec.runtime.kernels.cpu.simd import LINE
from normspec.runtime.kernels.cpu.threads import ALONE, Crew, allowed, team

if TYPE_CHECKING:
    from normspec.runtime.kernels.cpu import Array, Float64s, Layout

KNOWN = np.ndarray, None, *map(np.dtype, (np.float32, np.float64, np.int64))  # by their ids; see ``operands``


class Prepared:
    """Calls on arrays of one shape, dtype and layout; see ``normspec.runtime.kernels.Prepared``.

    Vectors will do if they are aligned contiguous NumPy arrays of float32 or float64; the counter may be of int64.
    """

    __slots__ = ("_crew", "_divisors", "_dtype", "_empty", "_facts", "_features", "_lines", "_room", "_scratch")

    def __init__(self, layout: Layout, empty: Callable[[], Array] | None = None) -> None:
        turns, table = -(-8 * layout.turns // LINE) * LINE // 8, layout.lines * layout.plan.features
        self._facts = np.array([*layout.plan, *layout.strides, *map(id, KNOWN), turns, table, layout.scratch])
        self._dtype = layout.dtype
        self._divisors = float(layout.values), max(1.0, layout.values - 1.0)
        self._crew = layout.threads, layout.woken
        self._room, self._scratch = turns + table, layout.scratch
        self._lines, self._features = turns, layout.plan.features
        self._empty: Any = empty  # for the calls that make outputs

    def train(
        self, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool, kept: bool
    ) -> tuple[Array, Any] | None:
        y = self._empty()
        room = self.train_into(y, x, vectors, epsilon, rate, unbiased)
        return None if room is None else (y, self.statistics(room) if kept else None)

    def normalize(self, x: Array, vectors: Sequence[Any], epsilon: float) -> Array | None:
        y = self._empty()
        return y if self.normalize_into(y, x, vectors, epsilon) else None

    def train_into(
        self, y: Array | None, x: Array, vectors: Sequence[Any], epsilon: float, rate: float, unbiased: bool
    ) -> Array | None:
        """``train`` that writes to ``y``, and returns a room with what was found, or None."""
        crew = self._hired()
        room = np.empty(self._room + crew[1] * self._scratch)
        arrays = (x, y, room, *vectors)  # which keeps them while the kernel works
        divisor = self._divisors[bool(unbiased)]
        done = kernels.train(crew, id(arrays), self._facts, self._dtype, float(epsilon), divisor, float(rate))
        return room if done else None

    def normalize_into(self, y: Array, x: Array, vectors: Sequence[Any], epsilon: float) -> bool:
        """``normalize`` that writes to ``y``."""
        crew = self._hired()
        arrays = (x, y, np.empty(self._room + crew[1] * self._scratch), *vectors)
        done: bool = kernels.normalize(crew, id(arrays), self._facts, self._dtype, float(epsilon))
        return done

    def differentiate_into(self, dx: Array | None, x: Array, dy: Array, vectors: Sequence[Any]) -> Array | None:
        """Write a gradient; ``vectors`` are weight, mean, and 1 / standard deviation. Returns a room, or None."""
        crew = self._hired()
        room = np.empty(self._room + crew[1] * self._scratch)
        weight, *known = vectors
        arrays = (x, dx, room, weight, dy, *known)
        return room if kernels.differentiate(crew, id(arrays), self._facts, self._dtype) else None

    def statistics(self, room: Array) -> tuple[Float64s, Float64s]:
        """Mean and 1 / standard deviation, where ``train_into`` has left them."""
        return self.line(room, tables.MEAN), self.line(room, tables.INVSTD)

    def line(self, room: Array, which: int) -> Float64s:
        """What a kernel has left of each feature."""
        start = self._lines + which * self._features
        found: Float64s = room[start : start + self._features].copy()
        return found

    def _hired(self) -> Crew:
        """Who shares the work."""
        threads, woken = self._crew
        threads = min(allowed(), threads) if threads > 1 else 1
        return team.crew(threads, woken) if threads > 1 else ALONE
