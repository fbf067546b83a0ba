"""Plans for memory where the features of a row lie side by side: channels last, and (N, C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import choose, columns, columns_backward, features_backward, forward
from .device import gpu
from .operands import STEP, Allocate, Array, Plan, flags, letter, letters, number, numbers, steps, workspace
from .primitives import ELEMENTS
from .program import BATCH, BIAS, INPUT, WEIGHT, Program


def fit(*arrays: Array) -> bool:
    """Are these matrices of rows?"""
    _, feature, inner = arrays[0].shape
    return inner == 1 and feature > 1 and all(steps(one)[1] == 1 for one in arrays)


class Shape(NamedTuple):
    """Of the matrices."""

    kind: str
    rows: int
    features: int
    width: int
    columns: int  # pieces of a row
    limits: choose.Limits


def shape_of(*arrays: Array) -> Shape:
    """Pieces are packets, the narrowest, if every row of every array is aligned to them."""
    rows, features, _ = arrays[0].shape
    kind = letter(arrays[0])
    width, size = ELEMENTS[kind].widths[-2], arrays[0].dtype.itemsize
    if features % width or any(one.pointer % (width * size) or steps(one)[0] % width for one in arrays):
        width = 1
    limits = choose.Limits(columns.slab_limit(kind, width), ELEMENTS[kind].parts(width))
    return Shape(kind, rows, features, width, features // width, limits)


def statistics(x: Array) -> Plan:
    """Pointers are x, mean and M2."""
    here, (kind, rows, features, width, pieces, limits) = gpu(x.device), shape_of(x)
    choice = choose.split_rows(rows, pieces, here, limits, forward.ROOM, forward.ROOM)
    threads, slabs, slices = choice.threads, choice.slabs(pieces), choice.slices
    pitch, sizes = steps(x)[0], (rows, features, choice.shift, slices)
    first = here.launcher(columns.statistics(kind, width, choice.unroll, threads), (slabs, slices))
    second = here.launcher(columns.moments(kind, width, threads), (slabs,), serialized=True)
    memory = workspace(x, 3 * slices * features)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int]) -> None:
        x, mean, m2 = pointers
        _kept, partial = memory(allocate, stream)
        first(stream, x, pitch, *sizes, partial)
        second(stream, *sizes, partial, mean, m2)

    return plan


def training(x: Array, y: Array, vectors: Sequence[Array | None], unbiased: bool, tracked: bool = False) -> Plan:
    """Pointers are x, y, weight, bias, running mean and variance, counter, mean and 1 / standard deviation."""
    here, (kind, rows, features, width, pieces, limits) = gpu(x.device), shape_of(x, y)
    kinds = letters(vectors)
    real, moving = number(kind), number(*kinds[2:])
    given = flags((*vectors, unbiased or None, tracked or None), STEP)
    x_pitch, y_pitch = steps(x)[0], steps(y)[0]

    def resident(choice: choose.Choice) -> Program:
        return columns.resident(kind, kinds, width, *choice.kept)

    def fits(choice: choose.Choice) -> Any:
        return here.fits(resident(choice))

    choice = choose.rows(rows, pieces, here, limits, fits, forward.ROOM)
    slabs, slices, shape = choice.slabs(pieces), choice.slices, (choice.unroll, choice.threads)
    sizes = (rows, features, choice.shift, slices)
    if choice.kernel == "resident":
        run = here.launcher(resident(choice), (slabs * choice.cluster,))

        def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float, rate: float) -> None:
            x, y, *others = pointers
            run(
                stream, x, x_pitch, y, y_pitch, *sizes[:3], *others,
                *numbers(real, moving, epsilon, rate), given,
            )  # fmt: skip

        return plan
    first = here.launcher(columns.statistics(kind, width, *shape), (slabs, slices))
    second = here.launcher(columns.normalize(kind, kinds, width, *shape), (slabs, slices), serialized=True)
    memory = workspace(x, 3 * slices * features)

    def plan_split(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float, rate: float) -> None:
        x, y, *others = pointers
        _kept, partial = memory(allocate, stream)
        first(stream, x, x_pitch, *sizes, partial)
        second(
            stream, x, x_pitch, y, y_pitch, *sizes, partial, *others,
            *numbers(real, moving, epsilon, rate), given,
        )  # fmt: skip

    return plan_split


def inference(x: Array, y: Array, vectors: Sequence[Array | None]) -> Plan:
    """Pointers are x, y, mean, variance, weight and bias."""
    here, (kind, rows, features, width, pieces, limits) = gpu(x.device), shape_of(x, y)
    real, given = number(kind), flags(vectors[2:], (WEIGHT, BIAS))
    choice = choose.split_rows(rows, pieces, here, limits, forward.ROOM, columns.THREADS)
    program = columns.inference(kind, letters(vectors), width, choice.unroll, choice.threads)
    run = here.launcher(program, (choice.slabs(pieces), choice.slices))
    x_pitch, y_pitch, sizes = steps(x)[0], steps(y)[0], (rows, features, choice.shift, choice.slices)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float) -> None:
        x, y, *others = pointers
        run(stream, x, x_pitch, y, y_pitch, *sizes, *others, real(epsilon), given)

    return plan


def gradients(x: Array, dy: Array, dx: Array | None, weight: Array | None, batch: bool) -> Plan:
    """Pointers are x, dy, dx, mean, 1 / standard deviation, weight, dweight and dbias."""
    arrays = (x, dy) if dx is None else (x, dy, dx)
    here, (kind, rows, features, width, pieces, limits) = gpu(x.device), shape_of(*arrays)
    (weights,) = letters([weight])
    pitches = [0 if one is None else steps(one)[0] for one in (x, dy, dx)]
    written = 0 if dx is None else INPUT
    given = flags([weight], [WEIGHT]) | (BATCH if batch else 0)

    def resident(choice: choose.Choice) -> Program:
        return columns_backward.resident(kind, weights, width, *choice.kept)

    def fits(choice: choose.Choice) -> Any:
        return here.fits(resident(choice))

    room = features_backward.ROOM
    if batch:
        choice = choose.rows(rows, pieces, here, limits, fits, room, 2)
    else:
        choice = choose.split_rows(rows, pieces, here, limits, room, room)
    slabs, slices, shape = choice.slabs(pieces), choice.slices, (choice.unroll, choice.threads)
    sizes = (rows, features, choice.shift, slices)
    if choice.kernel == "resident":
        first, run = None, here.launcher(resident(choice), (slabs * choice.cluster,))
    else:
        first = here.launcher(columns_backward.sums(kind, weights, width, not batch, *shape), (slabs, slices))
        program = columns_backward.gradient(kind, weights, width, *shape)
        run = here.launcher(program, (slabs, slices if batch and written else 1), serialized=True)
    memory = workspace(x, 0 if first is None else 4 * slices * features)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int]) -> None:
        x, dy, dx, mean, invstd, weight, dweight, dbias = pointers
        _kept, partial = memory(allocate, stream)
        arguments = x, pitches[0], dy, pitches[1], dx, pitches[2], *sizes, mean, invstd, weight, partial, dweight, dbias
        if first is not None:
            first(stream, *arguments, given | written)
        run(stream, *arguments, given | (written if batch or first is None else 0))

    return plan
