"""A batch in tiles, which threads take one after the other, and places of values in memory."""

from __future__ import annotations

from typing import Any

from normspec.runtime.kernels.cpu.jit import inlined
from normspec.runtime.kernels.cpu.simd import add, load, size_of, soon
from normspec.runtime.kernels.cpu.threads import peek

Place = tuple[int, int, int, int]  # address and steps in bytes
Tile = tuple[int, int, int, int]
Cut = tuple[int, int, int, int, int, int, int, int]  # see ``Plan``

# What threads count: tiles that were taken, by the caller, by others, and done; those of the second pass; those done of
# each block of features. In bytes.
DONE, SECOND, TURNS = 24, 32, 56

AHEAD = 4  # rows that are asked for before they are needed


@inlined
def plan_of(cut: Any) -> Cut:
    """How a batch is cut."""
    return cut[0], cut[1], cut[2], cut[3], cut[4], cut[5], cut[6], cut[7]


@inlined
def tiles(cut: Cut) -> int:
    """How many there are."""
    return (cut[3] + cut[4] - 1) // cut[4] * ((cut[5] + cut[6] - 1) // cut[6])


@inlined
def claim(turns: int, rank: int, count: int) -> int:
    """The next of so many tiles, or -1: the caller's are the first ones, so that each cache is left with neighbours."""
    if add(turns, 1) >= count:
        return -1
    turn: int = add(turns + 8, 1) if rank == 0 else count - 1 - add(turns + 16, 1)
    return turn


@inlined
def claim_again(turns: int, rank: int, count: int) -> int:
    """The same once more, beginning with what the caller, and with what the others had last: it is still cached."""
    turn = claim(turns + SECOND, rank, count)
    if turn < 0:
        return -1
    tile: int = (peek(turns + 8) - 1 - turn) % count
    return tile


@inlined
def is_last(turns: int, tile: Tile, cut: Cut) -> bool:
    """Whether all other tiles of the same features have been here."""
    done: int = add(turns + TURNS + 8 * (tile[2] // cut[6]), 1)
    return done == (cut[3] + cut[4] - 1) // cut[4] - 1


@inlined
def tile_of(turn: int, cut: Cut) -> Tile:
    """In the order of memory."""
    rows, row_step, features, feature_step = cut[3:7]
    blocks = (features + feature_step - 1) // feature_step
    row, feature = turn // blocks * row_step, turn % blocks * feature_step
    return row, min(row + row_step, rows), feature, min(feature + feature_step, features)


@inlined
def moved(x: Any, offset: int) -> Any:
    """A place so many bytes further, if there is one."""
    if x is None:
        return x
    return x[0] + offset, x[1], x[2], x[3]


@inlined
def corner(x: Any, row: int, feature: int) -> Any:
    """The place from some row and feature on."""
    if x is None:
        return x
    return moved(x, row * x[1] + feature * x[2])


@inlined
def joined(x: Any, repeat: int) -> Any:
    """A place in which so many rows are one."""
    if x is None:
        return x
    return x[0], repeat * x[1], x[2], x[3]


@inlined
def run_of(x: Any, row: int, feature: int, cut: Cut) -> Any:
    """The place of a feature's run in a row."""
    if x is None:
        return x
    segments = (cut[0] + cut[1] - 1) // cut[1]
    return moved(x, row // segments * x[1] + feature * x[2] + row % segments * cut[1] * x[3])


@inlined
def packed(x: Any, dtype: Any) -> bool:
    """Whether the values of a run are side by side."""
    if x is None:
        return True
    side_by_side: bool = x[3] == size_of(dtype)
    return side_by_side


@inlined
def values_before(row: int, cut: Cut) -> int:
    """Values of a feature in the rows before."""
    segments = (cut[0] + cut[1] - 1) // cut[1]
    return row // segments * cut[0] + row % segments * cut[1]


@inlined
def origin(x: Place, dtype: Any, feature: int) -> float:
    """What a feature's values are measured from: one of them, so that a constant feature has no rounding at all."""
    value: float = load(x[0], feature * x[2], dtype)
    return value


@inlined
def ask(x: Any, at: int, rows: int) -> None:
    """For values of a later row."""
    if x is not None:
        soon(x[0] + at + rows * x[1])
