"""Which kernels normalize an input in training, and in how many blocks: a rule from its sizes and those of the GPU.

Elements come in pieces: packets of 16 bytes, or of 8 if they are of 16 bits, or single ones. The faster kernels keep a
feature, or a slab of some pieces of every row, on chip; T is the bytes of x:

==========  ===============================================================  ===================  =======
kernel      what it needs                                                    launches             moves
==========  ===============================================================  ===================  =======
planes      rows of single elements; groups of features whose rows are       1                    2T
            packets together, for which a cluster has threads and registers
resident    no more pieces than a cluster of blocks holds on chip            1                    2T
split       nothing                                                          2                    2T – 3T
==========  ===============================================================  ===================  =======

- Groups of small planes: ``PLANES`` blocks, in the smallest cluster that holds one, made larger like those below.
- The smallest of ``SMALL`` and ``LARGE`` blocks, alone or in clusters of 2, 4, 8 or 16 (compute capability 9.0), that
  holds a feature, is taken; a cluster is made larger while multiprocessors are without work and its threads have some.
  The GPU is asked whether it has room for one such cluster; if it has not, the next choice is tried.
- Else a feature is split into as many slices as there are blocks for at once, if all get a few pieces a thread, or two
  to ``WAVES`` times as many, where blocks of the last wave would leave too many multiprocessors without work.
- Rows: slabs are as wide as may be; half as wide if that keeps them on chip. The rest is as above, but that blocks of
  what is split are as large as may be: every block merges all slices of its slab again.

``forced`` puts another choice in place of the rule's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# Threads of a block, and pieces that each can keep in registers and in shared memory
SMALL = ((32, 4, 0), (128, 4, 0))
LARGE = ((256, 8, 0), (256, 16, 0), (256, 16, 11), (512, 16, 0))  # only the last is alone, stores while none loads
SPLIT = ((32, 4), (256, 4))  # threads of a block that goes through a slice, and pieces that each has on their way
PLANES = (256, 8)  # threads of a block on small planes, and packets that each can keep in registers
NARROWEST = 16  # packets of a row of small planes: of fewer, a warp would have sums for few of its lanes
ROWS = ((256, 8, 0), (256, 8, 8))  # the same of blocks on rows
WAVES = 4  # of blocks that run at once, at most, of what is split
IDLE = 1.1  # times the time of the best number of waves, that a smaller number may take
BUSY = 2  # blocks a multiprocessor, that clusters are made larger for


class Choice(NamedTuple):
    """Kernels and their shape."""

    kernel: str  # "planes", "resident" or "split"
    threads: int  # of a block
    unroll: int  # pieces of a thread at once
    cluster: int = 1  # blocks of a cluster
    slices: int = 1  # blocks of a feature or a slab, in no cluster
    shift: int = 0  # binary logarithm of the pieces of a slab
    shared: int = 0  # pieces of a thread in shared memory

    @property
    def kept(self) -> tuple[int, int, int, int]:
        """The last arguments of every ``resident``."""
        return self.cluster, self.unroll, self.threads, self.shared

    def slabs(self, pieces: int) -> int:
        """Slabs of rows of so many pieces."""
        return -(-pieces >> self.shift)


class Limits(NamedTuple):
    """Of pieces of rows."""

    slab: int  # of a slab, at most
    parts: int  # that take a thread the registers of one packet of 16 bytes


Fits = Callable[[Choice], bool]  # is there room for it on the GPU?
Rule = Callable[..., Any]  # a choice; of planes, maybe None


def features(number: int, pieces: int, gpu: Any, fits: Fits, room: int, arrays: int = 1) -> Choice:
    """Choose for so many features of so many pieces, and so many arrays to keep on chip."""
    choice: Choice = _rules["features"](number, pieces, gpu, fits, room, arrays)
    return choice


def rows(number: int, pieces: int, gpu: Any, limits: Limits, fits: Fits, room: int, arrays: int = 1) -> Choice:
    """Choose for so many rows of so many pieces."""
    choice: Choice = _rules["rows"](number, pieces, gpu, limits, fits, room, arrays)
    return choice


def planes(number: int, rows: int, columns: int, gpu: Any, fits: Fits, arrays: int = 1) -> Choice | None:
    """Choose for so many groups of small planes, of so many rows of packets, or None: they are features like others."""
    choice: Choice | None = _rules["planes"](number, rows, columns, gpu, fits, arrays)
    return choice


def split(number: int, pieces: int, gpu: Any, room: int) -> Choice:
    """Slices of features for what is read from memory twice, or once by independent blocks.

    There is ``room`` for so many threads on a multiprocessor at once.
    """
    threads, unroll = next((shape for shape in SPLIT if pieces <= math.prod(shape)), SPLIT[-1])
    most = min(-(-pieces // (threads * unroll)), threads)
    return Choice("split", threads, unroll, slices=slices(number, gpu.multiprocessors * (room // threads), most))


def split_rows(number: int, pieces: int, gpu: Any, limits: Limits, room: int, threads: int) -> Choice:
    """The same of rows, in blocks of so many threads, unless the matrix is small."""
    shift, unroll = slab(pieces, limits.slab), SPLIT[-1][1]
    if number << shift <= math.prod(SPLIT[0]) * limits.parts and 1 << shift <= SPLIT[0][0]:
        threads, unroll = SPLIT[0]
    unroll *= limits.parts
    most = -(-number // (unroll * (threads >> shift)))
    blocks = gpu.multiprocessors * (room // threads)
    return Choice("split", threads, unroll, slices=slices(-(-pieces >> shift), blocks, most), shift=shift)


def slices(number: int, blocks: int, most: int) -> int:
    """Slices of each of so many features or slabs, when so many blocks run at once."""
    tried = [max(1, min(most, waves * blocks // number)) for waves in range(1, WAVES + 1)]
    times = [-(-number * one // blocks) / one for one in tried]
    return next(one for one, time in zip(tried, times, strict=True) if time <= IDLE * min(times))


def slab(pieces: int, limit: int) -> int:
    """Binary logarithm of the pieces of a slab."""
    return (min(pieces, limit) - 1).bit_length()


def features_by_size(number: int, pieces: int, gpu: Any, fits: Fits, room: int, arrays: int) -> Choice:
    """The rule for features."""
    shapes = [(shape, 1) for shape in SMALL] + [(shape, cluster) for shape in LARGE for cluster in _clusters(gpu)]
    for shape, cluster in shapes:
        threads, *kept = shape
        unroll, shared = (pieces // arrays for pieces in kept)
        choice = Choice("resident", threads, unroll, cluster, shared=shared)
        if pieces <= cluster * threads * (unroll + shared) and fits(choice):
            return _spread(choice, number, pieces // threads, gpu, fits) if shape in LARGE else choice
    return split(number, pieces, gpu, room)


def planes_by_size(number: int, rows: int, columns: int, gpu: Any, fits: Fits, arrays: int) -> Choice | None:
    """The rule for small planes."""
    threads, unroll = PLANES
    ranks = threads // columns if columns >= NARROWEST else 0
    for cluster in _clusters(gpu):
        choice = Choice("planes", threads, unroll // arrays, cluster)
        if rows <= cluster * ranks * choice.unroll and fits(choice):
            return _spread(choice, number, rows // ranks, gpu, fits)
    return None


def _spread(choice: Choice, number: int, most: int, gpu: Any, fits: Fits) -> Choice:
    """Make a cluster larger while multiprocessors are without work, up to so many blocks as have some."""
    while number * choice.cluster < BUSY * gpu.multiprocessors:
        larger = choice._replace(cluster=2 * choice.cluster)
        if larger.cluster > min(most, gpu.clusters) or not fits(larger):
            break
        choice = larger
    return choice


def rows_by_size(number: int, pieces: int, gpu: Any, limits: Limits, fits: Fits, room: int, arrays: int) -> Choice:
    """The rule for rows."""
    widest = slab(pieces, limits.slab)
    small = [(SMALL[0], widest, 1)] if 1 << widest <= SMALL[0][0] else []
    shifts = widest, max(0, widest - 1)
    large = [(shape, shift, cluster) for shape in ROWS for shift in shifts for cluster in _clusters(gpu)]
    for (threads, *kept), shift, cluster in small + large:
        ranks = threads >> shift
        unroll, shared = (pieces * limits.parts // arrays for pieces in kept)
        choice = Choice("resident", threads, unroll, cluster, shift=shift, shared=shared)
        if cluster <= ranks and number <= cluster * ranks * (unroll + shared) and fits(choice):
            return choice
    return split_rows(number, pieces, gpu, limits, room, room)


def _clusters(gpu: Any) -> list[int]:
    return [1 << power for power in range(gpu.clusters.bit_length())]


@contextmanager
def forced(choice: Choice | Rule, layout: str) -> Iterator[None]:
    """Put a choice, or a rule, in place of the rule for "features", "planes" or "rows"."""
    before = _rules[layout]
    _rules[layout] = choice if callable(choice) else lambda *_: choice
    try:
        yield
    finally:
        _rules[layout] = before


_rules: dict[str, Rule] = {"features": features_by_size, "planes": planes_by_size, "rows": rows_by_size}
