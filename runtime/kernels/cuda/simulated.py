"""The same as ``gpu.py`` in numba's simulator: memory is the host's, kernels run at once, one after the other."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .program import Program, simulate

_blocks: weakref.WeakValueDictionary[int, npt.NDArray[Any]] = weakref.WeakValueDictionary()


class SimulatedGpu:
    """What stands for a GPU: few multiprocessors, to keep grids small, and no clusters, unless a test adds them."""

    capability, multiprocessors, clusters, name = (9, 0), 4, 1, "the simulator"

    def __init__(self, index: int) -> None:
        self.index = index

    @staticmethod
    def count() -> int:
        return 1

    @staticmethod
    def allocation(pointer: int) -> tuple[int, int, int]:
        """Device, start and bytes of the allocation that a pointer points into."""
        for start, block in _blocks.items():
            if start <= pointer < start + block.nbytes:
                return 0, start, block.nbytes
        raise ValueError(f"expected memory of a GPU, found pointer {pointer:#x}, which is of the host or was freed")

    def is_current(self) -> bool:
        return True

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def allocate(self, size: int, stream: int) -> tuple[Any, int]:
        """Memory that is NaN wherever nobody writes, for a test to see it."""
        block = np.full(size + 256, 0xFF, np.uint8)
        return block, own(block)

    def upload(self, pointer: int, host: npt.NDArray[Any], stream: int) -> None:
        if host.nbytes:
            _bytes(pointer, host.nbytes)[:] = host.reshape(-1).view(np.uint8)

    def download(self, pointer: int, host: npt.NDArray[Any], stream: int) -> None:
        if host.nbytes:
            host.reshape(-1).view(np.uint8)[:] = _bytes(pointer, host.nbytes)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        if size:
            _bytes(target, size)[:] = _bytes(source, size)

    def order(self, first: int, second: int) -> None: ...

    def fits(self, program: Program) -> bool:
        return True

    def launcher(self, program: Program, grid: tuple[int, ...], serialized: bool = False) -> Any:
        types = [getattr(one, "dtype", None) for one in program.signature]

        def call(stream: int, *arguments: Any) -> None:
            given = [value if one is None else Pointer(value, one) for value, one in zip(arguments, types, strict=True)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a small input makes a small grid
                simulate(program, grid, *given)

        return call


def own(block: npt.NDArray[Any]) -> int:
    """Remember host memory as that of the device; it is forgotten with the array. Returns a pointer to it, aligned."""
    address: int = -(-block.ctypes.data // 256) * 256
    _blocks[block.ctypes.data] = block
    return address


class Pointer:
    """A pointer in a kernel: elements before and after it, within the allocation that it points into."""

    def __init__(self, address: int, dtype: Any) -> None:
        self.dtype, self.address = np.dtype(str(dtype)), address
        self._memory, self._place = np.empty(0, self.dtype), 0
        if address:  # else it is of nothing, and not used
            _, start, size = SimulatedGpu.allocation(address)
            first, item = (address - start) % self.dtype.itemsize, self.dtype.itemsize
            self._memory = _bytes(start + first, (size - first) // item * item).view(self.dtype)
            self._place = (address - start) // item

    def __getitem__(self, index: Any) -> Any:
        return self._memory[self._within(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._memory[self._within(index)] = value

    def _within(self, index: Any) -> Any:
        """The place of an element, or the places of a slice of them, in the allocation."""
        ends = (index.start, index.stop) if isinstance(index, slice) else (index, index + 1)
        first, end = (int(one) + self._place for one in ends)
        if not 0 <= first <= end <= len(self._memory):
            raise IndexError(f"elements {first} to {end} of an allocation of {len(self._memory)}")
        return slice(first, end) if isinstance(index, slice) else first


def _bytes(pointer: int, size: int) -> npt.NDArray[np.uint8]:
    _, start, _ = SimulatedGpu.allocation(pointer)
    return _blocks[start].reshape(-1).view(np.uint8)[pointer - start : pointer - start + size]


def ndarray(array: Any) -> npt.NDArray[Any]:
    """The memory of a device array."""
    if not array.size:
        return np.empty(array.shape, array.dtype)
    _, start, _ = SimulatedGpu.allocation(array.pointer)
    block = _blocks[start].reshape(-1).view(np.uint8)
    return np.ndarray(array.shape, array.dtype, block, array.pointer - start, array.strides)
