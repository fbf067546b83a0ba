"""Memory of a GPU, and who touches it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
NOBODY, SEVERAL = -1, -2
WINDOW = 1 << 24  # bytes of a block's shared memory, as its cluster sees it: a block's begins at 1 + its rank of these


class Fault(Exception):
    """What a GPU must not be asked to do."""


class Threads(NamedTuple):
    """Some threads at an instruction: their numbers in the grid, and what each has behind it."""

    number: Array
    block: Array
    cluster: Array
    syncs: Array  # barriers of its block
    arrivals: Array  # at barriers of its cluster
    waits: Array  # for them, that ended

    def of(self, chosen: Array) -> Threads:
        """Those of an index or a mask."""
        return Threads(*(every[chosen] for every in self))


def aligned(addresses: Array, size: int) -> None:
    if (addresses % np.uint64(size)).any():
        raise Fault(f"an access of {size} bytes is not aligned")


def accesses(words: int) -> Threads:
    """For each word which thread was there last, and when: nobody yet."""
    return Threads(*(np.full(words, NOBODY, np.int64) for _ in Threads._fields))


def note(last: Threads, words: Array, threads: Threads) -> None:
    """Threads are at words."""
    for before, now in zip(last, threads, strict=True):
        before[words] = now


class Allocation:
    """Its bytes, and who wrote every two of them last in this launch."""

    def __init__(self, start: int, size: int) -> None:
        room = (ctypes.c_uint8 * (size + -size % 8)).from_address(start)
        self.memory = np.ctypeslib.as_array(room)
        self.written = accesses(size // 2 + 1)

    def conflict(self, words: Array, threads: Threads) -> bool:
        """Did others write these, before or after, without a barrier between?"""
        by = self.written.of(words)
        apart = (by.block == threads.block) & (by.syncs != threads.syncs)
        apart |= (by.cluster == threads.cluster) & ((by.arrivals < threads.waits) | (threads.arrivals < by.waits))
        return bool(((by.number != NOBODY) & (by.number != threads.number) & ~apart).any())


class Global:
    """Allocations; blocks have nothing in common in a launch but what they read."""

    def __init__(self, allocation: Callable[[int], tuple[int, int]]) -> None:
        self._allocation = allocation  # start and bytes of that around an address; 0 bytes where there is none
        self.begin()

    def begin(self) -> None:
        """A launch begins."""
        self._touched: dict[int, Allocation] = {}
        self._reads: list[tuple[Allocation, Array, Threads]] = []

    def end(self) -> None:
        """It is over: reads are looked at now, as others may have written later what they read."""
        if any(touched.conflict(words, threads) for touched, words, threads in self._reads):
            raise Fault("a thread reads global memory that another one writes")

    def load(self, addresses: Array, threads: Threads, dtype: Any, count: int) -> Array:
        """``count`` values from each address, on the first axis."""
        values = np.empty((count, addresses.size), dtype)
        for lanes, touched, offsets in self._parts(addresses, dtype, count):
            values[:, lanes] = touched.memory.view(dtype)[offsets // dtype.itemsize + np.arange(count)[:, None]]
            words = offsets // 2 + np.arange(count * dtype.itemsize // 2)[:, None]
            self._reads.append((touched, words, threads.of(lanes)))
        return values

    def store(self, addresses: Array, threads: Threads, values: Array) -> None:
        """Values to each address, on the first axis."""
        count, dtype = len(values), values.dtype
        for lanes, touched, offsets in self._parts(addresses, dtype, count):
            touched.memory.view(dtype)[offsets // dtype.itemsize + np.arange(count)[:, None]] = values[:, lanes]
            words, by = offsets // 2 + np.arange(count * dtype.itemsize // 2)[:, None], threads.of(lanes)
            conflict = touched.conflict(words, by)
            note(touched.written, words, by)
            if conflict or touched.conflict(words, by):
                raise Fault("two threads write the same global memory")

    def _parts(self, addresses: Array, dtype: Any, count: int) -> Iterator[tuple[Array, Allocation, Array]]:
        """For each allocation: which of the addresses are in it, and the offsets in it."""
        size = count * dtype.itemsize
        aligned(addresses, size)
        left = np.arange(addresses.size)
        while left.size:
            first = int(addresses[left[0]])
            start, length = self._allocation(first)
            offsets = (addresses[left] - np.uint64(start)).astype(np.int64)
            inside = (offsets >= 0) & (offsets <= length - size)
            if not inside[0]:
                raise Fault(f"{size} bytes at {first:#x} are in no allocation")
            if start not in self._touched:
                self._touched[start] = Allocation(start, length)
            yield left[inside], self._touched[start], offsets[inside]
            left = left[~inside]


class Shared:
    """Shared memory of some blocks, and who wrote and who read every four bytes last.

    Another thread's access must be behind a barrier: of the block, or of the cluster, at which that thread arrived
    after its own.
    """

    def __init__(self, first: int, blocks: int, size: int, cluster: int) -> None:
        self._first, self._cluster = first, cluster
        self._words = -(-size // 8) * 2  # of a block
        self._memory = np.full(blocks * self._words, 0xFFFFFFFF, np.uint32)
        self._written, self._read = accesses(self._memory.size), accesses(self._memory.size)

    def load(self, addresses: Array, threads: Threads, dtype: Any) -> Array:
        words = self._of(addresses, threads, dtype)
        if (self._written.number[words] == NOBODY).any():
            raise Fault("shared memory is read before it is written")
        if conflict(self._written, words, threads):
            raise Fault("a thread reads what another one wrote, without a barrier between them")
        self._add_readers(words, threads)
        return self._memory.view(dtype)[words[0] * 4 // dtype.itemsize]

    def store(self, addresses: Array, threads: Threads, values: Array) -> None:
        words = self._of(addresses, threads, values.dtype)
        if conflict(self._written, words, threads) or conflict(self._read, words, threads):
            raise Fault("a thread overwrites what another one wrote or reads, without a barrier between them")
        self._read.number[words] = NOBODY  # who comes next need not know of them
        note(self._written, words, threads)
        if (self._written.number[words] != threads.number).any():
            raise Fault("two threads write the same shared memory at once")
        self._memory.view(values.dtype)[words[0] * 4 // values.dtype.itemsize] = values

    def leave(self, threads: Threads) -> None:
        """Threads end, and their block's memory with them: another block must be done with it."""
        for block in np.unique(threads.block) if self._cluster > 1 else ():
            start = (block - self._first) * self._words
            read = self._read.of(np.arange(start, start + self._words))
            others = (read.number != NOBODY) & (read.block != block)
            if (others & (read.arrivals >= threads.waits[threads.block == block].min())).any():
                raise Fault("a block ends while another one may read its shared memory")

    def owners(self, addresses: Array, threads: Threads) -> Array:
        """The blocks whose shared memory addresses are in."""
        window = addresses.astype(np.int64) // WINDOW
        if (window > self._cluster).any():
            raise Fault("an access outside of the cluster")
        return np.where(window == 0, threads.block, threads.cluster * self._cluster + window - 1)

    def _of(self, addresses: Array, threads: Threads, dtype: Any) -> Array:
        """Words behind addresses: those of an access on the first axis."""
        aligned(addresses, dtype.itemsize)
        offset = addresses.astype(np.int64) % WINDOW
        if (offset + dtype.itemsize > self._words * 4).any():
            raise Fault("an access outside of shared memory")
        row = self.owners(addresses, threads) - self._first
        return row * self._words + offset // 4 + np.arange(dtype.itemsize // 4)[:, None]

    def _add_readers(self, words: Array, threads: Threads) -> None:
        """Threads read words: several of a block leave no number there, several of a cluster no block."""
        by = self._read.of(words)
        fresh = by.number == NOBODY
        note(self._read, words, threads)
        now = self._read.of(words)  # one of those that read the same word at once
        self._read.number[words[~fresh & (by.number != threads.number) | (now.number != threads.number)]] = SEVERAL
        self._read.block[words[~fresh & (by.block != threads.block) | (now.block != threads.block)]] = SEVERAL


def conflict(last: Threads, words: Array, threads: Threads) -> bool:
    """Was another thread there, without a barrier since?"""
    by = last.of(words)
    since = ((by.block == threads.block) & (by.syncs < threads.syncs)) | (by.arrivals < threads.waits)
    return bool(((by.number != NOBODY) & (by.number != threads.number) & ~since).any())
