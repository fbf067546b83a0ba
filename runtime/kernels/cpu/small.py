"""Calls on small arrays, for which finding out what to do takes longer than doing it.

All that depends on shape, dtype and layout is known beforehand. The kernel gets everything else, which is arrays, as one
tuple, looks at the vectors itself, and does it all: no address is kept from call to call, so none can be out of date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normspec.runtime.kernels.cpu import kernels

if TYPE_CHECKING:
    from normspec.runtime.kernels.cpu import Array, Float64s, Layout

KNOWN = np.ndarray, None, *map(np.dtype, (np.float32, np.float64, np.int64))  # by their ids; see ``kernels``
TURNS = kernels.TURNS // 8  # numbers


class Prepared:
    """What one thread can do: normalize by the statistics of ``x``, or by given ones."""

    __slots__ = ("_dtype", "_facts", "_features", "_kept", "_room", "_values")

    def __init__(self, cut: Layout, features: int, fused: bool) -> None:
        table = cut.lines * features if fused else 0
        self._facts = np.array([*cut.cut, *map(id, KNOWN), table])
        self._dtype = cut.dtype
        self._features = features
        self._values = cut.values
        self._room = TURNS + table + cut.scratch
        self._kept = kernels.MEAN, kernels.INVERSE if fused else kernels.GAIN

    def train(
        self, x: Array, y: Array, vectors: tuple[Any, ...], epsilon: float, rate: float, unbiased: bool
    ) -> Array | None:
        """Normalize, move the running statistics and count; None, and nothing is done, if the vectors will not do.

        Parameters
        ----------
        x, y : array
            Of the shape, dtype and layout that this is for.
        vectors : tuple
            Weight, bias, running mean and variance, and a counter of batches, or None for any of them. They will do if
            they are aligned contiguous NumPy arrays of float32 or float64, or in the counter's case int64.
        epsilon, rate : float
            As for ``forward_training``.
        unbiased : bool
            Likewise.

        Returns
        -------
        array or None
            What ``statistics`` takes.
        """
        room = np.empty(self._room)
        arrays = (x, y, room, *vectors)
        divisor = max(1.0, float(self._values - unbiased))
        done = kernels.train_prepared(id(arrays), self._facts, self._dtype, float(epsilon), divisor, float(rate))
        return room if done else None

    def normalize(self, x: Array, y: Array, vectors: tuple[Any, ...], epsilon: float) -> Array | None:
        """Normalize by given statistics; as ``train``."""
        room = np.empty(self._room)
        arrays = (x, y, room, *vectors)
        return room if kernels.normalize_prepared(id(arrays), self._facts, self._dtype, float(epsilon)) else None

    def statistics(self, room: Array) -> tuple[Float64s, Float64s]:
        """Mean and 1 / standard deviation that a call has normalized by."""
        size = self._features
        mean, inverse = (TURNS + line * size for line in self._kept)
        return room[mean : mean + size].copy(), room[inverse : inverse + size].copy()
