"""Every program that ``plans`` may launch, for checks: the rules of ``choose`` as lists.

Vectors are listed as float64 beside float64 inputs, else as float32. Those of other dtypes make further programs of the
same kernels, which differ in conversions once a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from . import choose, columns, columns_backward, features_backward, forward, planes, planes_backward
from .primitives import ELEMENTS
from .program import Program

Shape = TypeVar("Shape", bound=tuple[int, ...])

CLUSTERS = (1, 16)  # any number of blocks stands for all of more than one
LARGEST = 1024  # threads of a block


def programs() -> Iterator[Program]:
    """Make them, in the order of a table."""
    for element in ELEMENTS:
        number = "f64" if element == "f64" else "f32"
        for width in ELEMENTS[element].widths:
            yield from of_features(element, number, width)
        for width in ELEMENTS[element].widths[-2:]:
            yield from of_rows(element, number, width)
        yield from of_planes(element, number)
    for real in ("f32", "f64"):
        yield from (forward.moments(real, 1 << power) for power in range(5, LARGEST.bit_length()))


def of_features(element: str, number: str, width: int) -> Iterator[Program]:
    """Channels first, with vectors of a type."""
    vectors = (number,) * 4
    for (threads, unroll, shared), cluster in residents((*choose.SMALL, *choose.LARGE), choose.LARGE):
        yield forward.resident(element, vectors, width, cluster, unroll, threads, shared)
        yield features_backward.resident(element, number, width, cluster, unroll // 2, threads, shared // 2)
    for threads, unroll in choose.SPLIT:
        yield forward.statistics(element, width, unroll, threads)
        yield forward.inference(element, vectors, width, unroll, threads)
        yield forward.normalize(element, vectors, width, unroll, threads)
        for evaluation in (False, True):
            yield features_backward.sums(element, number, width, evaluation, unroll, threads)
        yield features_backward.gradient(element, number, width, unroll, threads)


def of_rows(element: str, number: str, width: int) -> Iterator[Program]:
    """Channels last, with vectors of a type."""
    vectors = (number,) * 4
    parts = ELEMENTS[element].parts(width)
    for (threads, *kept), cluster in residents((choose.SMALL[0], *choose.ROWS), choose.ROWS):
        unroll, shared = (parts * pieces for pieces in kept)
        yield columns.resident(element, vectors, width, cluster, unroll, threads, shared)
        yield columns_backward.resident(element, number, width, cluster, unroll // 2, threads, shared // 2)
    (small, _), (_, packets) = choose.SPLIT
    unroll = parts * packets
    for threads in (small, forward.ROOM):
        yield columns.statistics(element, width, unroll, threads)
        yield columns.moments(element, width, threads)
        yield columns.normalize(element, vectors, width, unroll, threads)
    for threads in (small, columns.THREADS):
        yield columns.inference(element, vectors, width, unroll, threads)
    for threads in (small, features_backward.ROOM):
        for evaluation in (False, True):
            yield columns_backward.sums(element, number, width, evaluation, unroll, threads)
        yield columns_backward.gradient(element, number, width, unroll, threads)


def of_planes(element: str, number: str) -> Iterator[Program]:
    """Small planes, with vectors of a type."""
    threads, unroll = choose.PLANES
    width, packet = ELEMENTS[element].width, ELEMENTS[element].widths[-2]  # elements of the largest and the smallest
    for group in (width >> power for power in range(packet.bit_length() - 1)):
        for cluster in CLUSTERS:
            yield planes.planes(element, (number,) * 4, group, cluster, unroll, threads)
            yield planes_backward.planes(element, number, group, cluster, unroll // 2, threads)
    threads, unroll = choose.SPLIT[-1]
    yield planes.inference(element, (number,) * 4, unroll, threads)


def residents(shapes: tuple[Shape, ...], clustered: tuple[Shape, ...]) -> Iterator[tuple[Shape, int]]:
    """Shapes and clusters of what is kept on chip."""
    for shape in shapes:
        yield from ((shape, cluster) for cluster in (CLUSTERS if shape in clustered else CLUSTERS[:1]))
