"""A batch in tiles, which threads take one after the other, and places of values in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from normspec.runtime.kernels.cpu.jit import inlined
from normspec.runtime.kernels.cpu.simd import add, load, size_of, soon
from normspec.runtime.kernels.cpu.threads import peek


class Plan(NamedTuple):
    """How a batch is cut: a tile is so many rows of so many features, or what is left of them."""

    inner: int
    segment: int
    repeat: int  # rows that are taken as one where features lie side by side; 0 if they do not
    rows: int
    row_step: int
    features: int
    feature_step: int
    past: bool  # the cache: an output that it does not hold is written to memory only, which need not be read for it


class Tile(NamedTuple):
    """Rows and features, the ends excluded."""

    row: int
    row_end: int
    feature: int
    feature_end: int


class Place(NamedTuple):
    """Where values are: an address, and the bytes to the next row, the next feature, and the next value of a run."""

    address: int
    row_stride: int
    feature_stride: int
    value_stride: int


# What threads count: tiles that were taken, by the caller, by others, and done; those of the second pass; those done of
# each block of features. In bytes.
DONE, SECOND, TURNS = 24, 32, 56

AHEAD = 4  # rows that are asked for before they are needed


@inlined
def plan_of(facts: Any) -> Plan:
    """The plan, with which the facts begin."""
    return Plan(facts[0], facts[1], facts[2], facts[3], facts[4], facts[5], facts[6], facts[7] != 0)


@inlined
def pieces(plan: Plan) -> int:
    """Tiles of the same features."""
    return (plan.rows + plan.row_step - 1) // plan.row_step


@inlined
def blocks(plan: Plan) -> int:
    """Tiles of the same rows."""
    return (plan.features + plan.feature_step - 1) // plan.feature_step


@inlined
def claim(turns: int, rank: int, count: int) -> int:
    """The next of so many tiles, or -1: the caller's are the first ones, so that each cache is left with neighbours."""
    if add(turns, 1) >= count:
        return -1
    turn: int = add(turns + 8, 1) if rank == 0 else count - 1 - add(turns + 16, 1)
    return turn


@inlined
def claim_again(turns: int, rank: int, count: int) -> int:
    """A tile of the second pass, or -1: all begin with what they had last in the first, which is still cached."""
    turn = claim(turns + SECOND, rank, count)
    if turn < 0:
        return -1
    tile: int = (peek(turns + 8) - 1 - turn) % count
    return tile


@inlined
def is_last(turns: int, tile: Tile, plan: Plan) -> bool:
    """Whether all other tiles of the same features have been here."""
    done: int = add(turns + TURNS + 8 * (tile.feature // plan.feature_step), 1)
    return done == pieces(plan) - 1


@inlined
def tile_of(turn: int, plan: Plan) -> Tile:
    """In the order of memory."""
    across = blocks(plan)
    row, feature = turn // across * plan.row_step, turn % across * plan.feature_step
    row_end, feature_end = min(row + plan.row_step, plan.rows), min(feature + plan.feature_step, plan.features)
    return Tile(row, row_end, feature, feature_end)


@inlined
def moved(x: Any, offset: int) -> Any:
    """A place so many bytes further, if there is one."""
    if x is None:
        return x
    return Place(x.address + offset, x.row_stride, x.feature_stride, x.value_stride)


@inlined
def corner(x: Any, row: int, feature: int) -> Any:
    """The place from some row and feature on."""
    if x is None:
        return x
    return moved(x, row * x.row_stride + feature * x.feature_stride)


@inlined
def joined(x: Any, repeat: int) -> Any:
    """A place in which so many rows are one."""
    if x is None:
        return x
    return Place(x.address, repeat * x.row_stride, x.feature_stride, x.value_stride)


@inlined
def run_of(x: Any, row: int, feature: int, plan: Plan) -> Any:
    """The place of a feature's run in a row."""
    if x is None:
        return x
    segments = (plan.inner + plan.segment - 1) // plan.segment
    return moved(corner(x, row // segments, feature), row % segments * plan.segment * x.value_stride)


@inlined
def packed(x: Any, dtype: Any) -> bool:
    """Whether the values of a run are side by side."""
    if x is None:
        return True
    side_by_side: bool = x.value_stride == size_of(dtype)
    return side_by_side


@inlined
def values_before(row: int, plan: Plan) -> int:
    """Values of a feature in the rows before."""
    segments = (plan.inner + plan.segment - 1) // plan.segment
    return row // segments * plan.inner + row % segments * plan.segment


@inlined
def samples(x: Place, plan: Plan) -> tuple[int, int, int]:
    """Where the first, the middle and the last value of the first feature are."""
    middle, last = plan.rows // 2, plan.rows - 1
    inside = (values_before(middle + 1, plan) - values_before(middle, plan)) // 2
    end = values_before(plan.rows, plan) - values_before(last, plan) - 1
    half = run_of(x, middle, 0, plan).address + inside * x.value_stride
    return x.address, half, run_of(x, last, 0, plan).address + end * x.value_stride


@inlined
def origin(places: tuple[int, int, int], offset: int, dtype: Any) -> float:
    """What a feature's values are measured from: one of them, so that a constant feature has no rounding at all.

    In float64 it is the median of three: the distance of the mean from an outlier would take the digits of the mean.
    """
    first: float = load(places[0], offset, dtype)
    if size_of(dtype) < 8:
        return first
    half, last = load(places[1], offset, dtype), load(places[2], offset, dtype)
    median: float = max(min(first, half), min(max(first, half), last))
    return median


@inlined
def ask(x: Any, at: int, rows: int) -> None:
    """For values of a later row."""
    if x is not None:
        soon(x.address + at + rows * x.row_stride)
