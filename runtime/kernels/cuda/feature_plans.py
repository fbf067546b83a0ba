"""Plans for memory of any strides, best where a feature's elements lie side by side (channels first)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import choose, features_backward, forward, planes, planes_backward
from .device import gpu
from .operands import STEP, Allocate, Array, Plan, flags, letter, letters, number, numbers, steps, workspace
from .primitives import ELEMENTS, PACKET
from .program import BATCH, BIAS, INPUT, WEIGHT, Program

Make = Callable[[int, int, int, int], Program]


def statistics(x: Array) -> Plan:
    """Pointers are x, mean and M2."""
    here = gpu(x.device)
    outer, feature, inner = x.shape
    width = packet(x)
    pieces, xs, kind = inner // width, walk(x, width), letter(x)
    choice = choose.split(feature, outer * pieces, here, forward.ROOM)
    slices = choice.slices
    first = here.launcher(forward.statistics(kind, width, choice.unroll, choice.threads), (feature, slices))
    program = forward.moments("f64" if kind == "f64" else "f32", 32 * (1 << (-(-slices // 32) - 1).bit_length()))
    second = here.launcher(program, (feature,), serialized=True)
    memory = workspace(x, feature * slices * forward.SAMPLE)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int]) -> None:
        x, mean, m2 = pointers
        _kept, partial = memory(allocate, stream)
        first(stream, x, *xs, outer, pieces, partial)
        second(stream, partial, slices, mean, m2)

    return plan


def training(x: Array, y: Array, vectors: Sequence[Array | None], unbiased: bool, tracked: bool = False) -> Plan:
    """Pointers are x, y, weight, bias, running mean and variance, counter, mean and 1 / standard deviation."""
    here, kind, kinds = gpu(x.device), letter(x), letters(vectors)
    outer, feature, inner = x.shape
    width = packet(x, y)
    real, moving = number(kind), number(*kinds[2:])
    given = flags((*vectors, unbiased or None, tracked or None), STEP)
    small = small_planes(lambda *shape: planes.planes(kind, kinds, *shape), 1, x, y) if width == 1 else None
    if small is not None:
        (program, grid), pieces = small, inner
    else:
        pieces = inner // width

        def resident(choice: choose.Choice) -> Program:
            return forward.resident(kind, kinds, width, *choice.kept)

        choice = choose.features(
            feature, outer * pieces, here, lambda choice: here.fits(resident(choice)), forward.ROOM
        )
        if choice.kernel == "split":
            return split(x, y, kinds, given, choice)
        program, grid = resident(choice), (feature * choice.cluster,)
    run, xs, ys = here.launcher(program, grid), walk(x, width), walk(y, width)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float, rate: float) -> None:
        x, y, *others = pointers
        run(
            stream, x, *xs, y, *ys, outer, pieces, *others, *numbers(real, moving, epsilon, rate), given
        )  # fmt: skip

    return plan


def split(x: Array, y: Array, kinds: tuple[str, str, str, str], given: int, choice: choose.Choice) -> Plan:
    """``training`` in two launches."""
    here, kind = gpu(x.device), letter(x)
    outer, feature, inner = x.shape
    width, shape, grid = packet(x, y), (choice.unroll, choice.threads), (feature, choice.slices)
    pieces, real, moving = inner // width, number(kind), number(*kinds[2:])
    first = here.launcher(forward.statistics(kind, width, *shape), grid)
    second = here.launcher(forward.normalize(kind, kinds, width, *shape), grid, serialized=True)
    memory, xs, ys = workspace(x, math.prod(grid) * forward.SAMPLE), walk(x, width), walk(y, width)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float, rate: float) -> None:
        x, y, *others = pointers
        _kept, partial = memory(allocate, stream)
        first(stream, x, *xs, outer, pieces, partial)
        second(
            stream, x, *xs, y, *ys, outer, pieces, partial, *others,
            *numbers(real, moving, epsilon, rate), given,
        )  # fmt: skip

    return plan


def inference(x: Array, y: Array, vectors: Sequence[Array | None]) -> Plan:
    """Pointers are x, y, mean, variance, weight and bias."""
    here, kind = gpu(x.device), letter(x)
    outer, feature, inner = x.shape
    width = packet(x, y)
    if width < ELEMENTS[kind].width <= inner and whole_packets(x, y):
        return planes_inference(x, y, vectors)
    pieces, real, given = inner // width, number(kind), flags(vectors[2:], (WEIGHT, BIAS))
    choice = choose.split(feature, outer * pieces, here, forward.ROOM)
    program = forward.inference(kind, letters(vectors), width, choice.unroll, choice.threads)
    run, xs, ys = here.launcher(program, (feature, choice.slices)), walk(x, width), walk(y, width)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float) -> None:
        x, y, *others = pointers
        run(stream, x, *xs, y, *ys, outer, pieces, *others, real(epsilon), given)

    return plan


def planes_inference(x: Array, y: Array, vectors: Sequence[Array | None]) -> Plan:
    """``inference`` of rows that are whole packets only of all features."""
    here, kind = gpu(x.device), letter(x)
    outer, feature, inner = x.shape
    columns, real, given = feature * inner // ELEMENTS[kind].width, number(kind), flags(vectors[2:], (WEIGHT, BIAS))
    threads, unroll = choose.SPLIT[-1]
    blocks, room = -(-columns // threads), here.multiprocessors * (forward.ROOM // threads)
    grid = blocks, choose.slices(blocks, room, -(-outer // unroll))
    run = here.launcher(planes.inference(kind, letters(vectors), unroll, threads), grid)
    xs, ys = walk(x, 1), walk(y, 1)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int], epsilon: float) -> None:
        x, y, *others = pointers
        run(stream, x, *xs, y, *ys, outer, inner, columns, *others, real(epsilon), given)

    return plan


def gradients(x: Array, dy: Array, dx: Array | None, weight: Array | None, batch: bool) -> Plan:
    """Pointers are x, dy, dx, mean, 1 / standard deviation, weight, dweight and dbias."""
    arrays = (x, dy) if dx is None else (x, dy, dx)
    here, kind, (weights,) = gpu(x.device), letter(x), letters([weight])
    outer, feature, inner = x.shape
    width = packet(*arrays)
    pieces, walks = inner // width, [(0, 0, 0) if one is None else walk(one, width) for one in (x, dy, dx)]
    written = 0 if dx is None else INPUT
    given = flags([weight], [WEIGHT]) | (BATCH if batch else 0)
    total = outer * pieces

    def resident(choice: choose.Choice) -> Program:
        return features_backward.resident(kind, weights, width, *choice.kept)

    def fits(choice: choose.Choice) -> Any:
        return here.fits(resident(choice))

    small = None
    if width == 1:
        small = small_planes(lambda *shape: planes_backward.planes(kind, weights, *shape), 2, *arrays)
    room = features_backward.ROOM
    choice = choose.features(feature, total, here, fits, room, 2) if batch else choose.split(feature, total, here, room)
    slices, shape = choice.slices, (choice.unroll, choice.threads)
    if small is not None:
        first, run = None, here.launcher(*small)
    elif choice.kernel == "resident":
        first, run = None, here.launcher(resident(choice), (feature * choice.cluster,))
    else:
        first = here.launcher(features_backward.sums(kind, weights, width, not batch, *shape), (feature, slices))
        program = features_backward.gradient(kind, weights, width, *shape)
        run = here.launcher(program, (feature, slices if batch and written else 1), serialized=True)
    memory = workspace(x, 0 if first is None else feature * slices * features_backward.SIZE)

    def plan(allocate: Allocate, stream: int, pointers: Sequence[int]) -> None:
        x, dy, dx, mean, invstd, weight, dweight, dbias = pointers
        _kept, partial = memory(allocate, stream)
        arguments = (
            x, *walks[0], dy, *walks[1], dx, *walks[2], outer, pieces, slices,
            mean, invstd, weight, partial, dweight, dbias,
        )  # fmt: skip
        if first is not None:
            first(stream, *arguments, given | written)
        run(stream, *arguments, given | (written if batch or first is None else 0))

    return plan


def walk(x: Array, width: int) -> tuple[int, int, int]:
    """Strides of outer, feature and pieces of so many elements."""
    outer, feature, inner = steps(x)
    return outer, feature, (inner or 1) * width


def packet(*arrays: Array) -> int:
    """Elements that can be moved at once: those of a packet, or fewer."""
    widths = ELEMENTS[letter(arrays[0])].widths
    return next(width for width in widths if width == 1 or all(has_packets(x, width) for x in arrays))


def has_packets(x: Array, width: int) -> bool:
    """Are rows made of so many elements side by side, aligned to as many bytes?"""
    outer, feature, inner = steps(x)
    whole = not any(number % width for number in (x.shape[2], outer, feature))
    return inner == 1 and whole and not x.pointer % (PACKET * width // ELEMENTS[letter(x)].width)


def small_planes(make: Make, number: int, *arrays: Array) -> tuple[Program, tuple[int, ...]] | None:
    """Program and grid for groups of features that are moved by packets, so many arrays of them kept on chip.

    None if there are no such groups, or no room for them. The program is made of group, cluster, unroll and threads.
    """
    outer, feature, inner = arrays[0].shape
    kind, here = letter(arrays[0]), gpu(arrays[0].device)
    group, columns = planes.group_of(kind, inner), planes.columns_of(kind, inner)
    if not whole_packets(*arrays):
        return None

    def program(choice: choose.Choice) -> Program:
        return make(group, choice.cluster, choice.unroll, choice.threads)

    choice = choose.planes(feature // group, outer, columns, here, lambda choice: here.fits(program(choice)), number)
    return None if choice is None else (program(choice), (feature // group * choice.cluster,))


def whole_packets(*arrays: Array) -> bool:
    """Are rows of all features whole packets, side by side?"""
    _, feature, inner = arrays[0].shape
    whole = not feature * inner % ELEMENTS[letter(arrays[0])].width
    return whole and all(side_by_side(one) and not one.pointer % PACKET for one in arrays)


def side_by_side(x: Array) -> bool:
    """Are a row's elements of all features contiguous, and rows whole packets apart?"""
    outer, feature, inner = steps(x)
    _, features, length = x.shape
    return feature == length * (features > 1) and inner == (length > 1) and not outer % ELEMENTS[letter(x)].width
