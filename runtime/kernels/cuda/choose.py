"""Which kernels normalize an input in training, and in how many blocks: a rule from its sizes and those of the GPU.

A feature's elements come in pieces, packets of 16 bytes or single elements. The faster kernels keep a feature on chip:

==========  =========================================================  ==================================  =======
kernel      what it needs                                              grid                                moves
==========  =========================================================  ==================================  =======
resident    as many pieces as a cluster of blocks holds in registers   features × blocks of a cluster      2T
split       nothing                                                    features × slices, twice            2T – 3T
==========  =========================================================  ==================================  =======

- The smallest of ``SMALL`` and ``LARGE`` blocks, alone or in clusters of 2, 4, 8 or 16 (compute capability 9.0), that
  holds a feature, is taken; a cluster is made larger while multiprocessors are without work and its threads have some.
- Else a feature is split so that there are ``WAVES`` blocks a multiprocessor, each with a few pieces a thread.

T is the bytes of x. ``forced`` puts another choice in place of the rule's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SMALL = ((32, 4), (128, 4))  # threads of a block, and pieces that each can keep in registers
LARGE = ((512, 8), (512, 16))
SPLIT = ((32, 4), (256, 4))  # threads of a block that goes through a slice, and pieces that each has on their way
WAVES = 4  # blocks a multiprocessor, of features that are split
BUSY = 2  # blocks a multiprocessor, that clusters are made larger for


class Choice(NamedTuple):
    """Kernels and their shape."""

    kernel: str  # "resident" or "split"
    threads: int  # of a block
    unroll: int  # pieces of a thread at once
    cluster: int = 1  # blocks of a feature that are a cluster
    slices: int = 1  # blocks of a feature that are not


Rule = Callable[[int, int, Any, int], Choice]


def training(features: int, pieces: int, gpu: Any, arrays: int = 1) -> Choice:
    """Choose for so many features of so many pieces, and so many arrays to keep on chip."""
    return _rule(features, pieces, gpu, arrays)


def split(features: int, pieces: int, gpu: Any) -> Choice:
    """Slices for what is read from memory twice, or once by independent blocks."""
    threads, unroll = next((shape for shape in SPLIT if pieces <= math.prod(shape)), SPLIT[-1])
    wanted = -(-WAVES * gpu.multiprocessors // features)
    most = -(-pieces // (threads * unroll))
    return Choice("split", threads, unroll, slices=max(1, min(wanted, most, threads)))


def by_size(features: int, pieces: int, gpu: Any, arrays: int) -> Choice:
    """The rule."""
    wanted = BUSY * gpu.multiprocessors
    clusters = [1 << power for power in range(gpu.clusters.bit_length())]
    shapes = [(*shape, 1) for shape in SMALL] + [(*shape, cluster) for shape in LARGE for cluster in clusters]
    for threads, unroll, cluster in shapes:
        if pieces <= cluster * threads * (unroll // arrays):
            if (threads, unroll) in LARGE:
                while 2 * cluster <= gpu.clusters and pieces >= 2 * cluster * threads and features * cluster < wanted:
                    cluster *= 2
            return Choice("resident", threads, unroll // arrays, cluster)
    return split(features, pieces, gpu)


@contextmanager
def forced(choice: Choice | Rule) -> Iterator[None]:
    """Put a choice, or a rule, in place of the rule, for benchmarks and tests."""
    global _rule
    before = _rule
    _rule = choice if callable(choice) else lambda *_: choice
    try:
        yield
    finally:
        _rule = before


_rule: Rule = by_size
