"""The kernels: each is compiled once for a dtype and runs without the GIL.

Arrays come as their ``id`` and a table of their strides, and not as arrays, of which numba would compile for every
layout and mutability anew, and which it takes longer to take than a small batch takes to normalize.

All arithmetic is in float64, and every vector is, but for the second pass of 16 bits: float32 has more than twice the
digits that are kept, so an output is the exact value rounded once, or, where that is within three roundings to float32
of the middle between two of 16 bits, maybe the other of them. What float32 leaves of the mean is in the shift. Features
with a number that float32 lacks are normalized with float64, one value at a time; see ``ordinary``.

A *tile* is ``(row, last row, feature, last feature)``, the lasts excluded; a kernel's threads work on tiles until
``turns``, which all of them share, says that there are none left. There are two ways through a tile:

* *along*: a row is a run of at most ``segment`` values of each feature, so that a long ``inner`` is cut like a long
  ``outer``. Runs may have any step.
* *across*: a row is all values of all the tile's features, side by side in *columns* that each have numbers of their
  own; of short rows, ``repeat`` are taken as one. Rows are taken one by one, in the order of memory.

Backward passes go the same ways as forward ones, with one array more: ``dy``, or None. Between the passes of a feature,
``features`` makes of its sums the numbers of the second.

=========  ==========================================  =============================================================
           first pass: sums of each feature            second pass
=========  ==========================================  =============================================================
forward    ``x - center`` and its square               ``y = (x - mean) * scale + shift``
backward   ``dy`` and ``(x - mean) * dy``              ``dx = (x - mean) * scale + shift + dy * gain``
=========  ==========================================  =============================================================

A kernel allocates nothing and raises nothing: a tile that is taken is done, so no thread waits in vain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from normspec.runtime.kernels.cpu.features import finish_backward, finish_training, prepare_evaluation
from normspec.runtime.kernels.cpu.first_pass import add_tile, measure
from normspec.runtime.kernels.cpu.jit import helper, inlined, kernel
from normspec.runtime.kernels.cpu.operands import (
    BATCH_INVSTD,
    BATCH_MEAN,
    BIAS,
    DY,
    FEATURES,
    READ,
    RUNNING_MEAN,
    RUNNING_VAR,
    WEIGHT,
    WRITTEN,
    X,
    Y,
    counter,
    place,
    rewound,
    vector,
)
from normspec.runtime.kernels.cpu.second_pass import rescale
from normspec.runtime.kernels.cpu.simd import add, data, load, store
from normspec.runtime.kernels.cpu.tables import M2, MEAN, PARTS, Table, Vector, entry, number, part, put, read, rooms
from normspec.runtime.kernels.cpu.threads import Crew, job, peek, together, wait
from normspec.runtime.kernels.cpu.tiles import (
    DONE,
    Place,
    blocks,
    claim,
    claim_again,
    is_last,
    pieces,
    plan_of,
    tile_of,
)


@inlined
def wait_for(done: int, count: int) -> None:
    """All tiles of the first pass, and what comes of them; other threads may have the last."""
    looks = 0
    while peek(done) < count:
        looks = wait(looks)


@helper()
def train_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    y: Place,
    dtype: Any,
    facts: Any,
    weight: Vector,
    bias: Vector,
    epsilon: float,
    table: Table,
) -> None:
    """Measure and normalize tiles until there are none left."""
    plan = plan_of(facts)
    whole, count = pieces(plan) == 1, pieces(plan) * blocks(plan)
    vectors, columns = rooms(scratch, rank, plan, min(plan.features, plan.feature_step))
    turn = claim(turns, rank, count)
    while turn >= 0:
        tile = tile_of(turn, plan)
        found = part(table, PARTS + 2 * (tile.row // plan.row_step), tile.feature)
        measure(x, dtype, plan, tile, found, vectors, columns)
        if is_last(turns, tile, plan):
            finish_training(x, dtype, plan, tile.feature, tile.feature_end, weight, bias, epsilon, table)
        if whole and y.address:
            rescale(x, None, y, dtype, plan, tile, table, columns)
        add(turns + DONE, 1)
        turn = claim(turns, rank, count)
    if not whole and y.address:
        wait_for(turns + DONE, count)
        turn = claim_again(turns, rank, count)
        while turn >= 0:
            rescale(x, None, y, dtype, plan, tile_of(turn, plan), table, columns)
            turn = claim_again(turns, rank, count)


@helper()
def normalize_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    y: Place,
    dtype: Any,
    facts: Any,
    mean: Vector,
    variance: Vector,
    weight: Vector,
    bias: Vector,
    epsilon: float,
) -> None:
    """Normalize tiles by given statistics until there are none left."""
    plan = plan_of(facts)
    count = pieces(plan) * blocks(plan)
    turn = claim(turns, rank, count)
    if turn < 0:
        return
    table, columns = rooms(scratch, rank, plan, plan.features)
    prepare_evaluation(plan.features, dtype, mean, variance, weight, bias, epsilon, table)
    while turn >= 0:
        rescale(x, None, y, dtype, plan, tile_of(turn, plan), table, columns)
        turn = claim(turns, rank, count)


@helper()
def differentiate_tiles(
    rank: int,
    turns: int,
    scratch: Table,
    x: Place,
    dy: Place,
    dx: Place,
    dtype: Any,
    facts: Any,
    mean: Vector,
    invstd: Vector,
    weight: Vector,
    table: Table,
) -> None:
    """Take gradients of tiles until there are none left."""
    plan = plan_of(facts)
    whole, count = pieces(plan) == 1, pieces(plan) * blocks(plan)
    vectors, columns = rooms(scratch, rank, plan, min(plan.features, plan.feature_step))
    turn = claim(turns, rank, count)
    while turn >= 0:
        tile = tile_of(turn, plan)
        read(mean, 0.0, tile.feature, tile.feature_end - tile.feature, entry(vectors, 0, 0))
        found = part(table, PARTS + 2 * (tile.row // plan.row_step), tile.feature)
        add_tile(x, dy, dtype, plan, tile, entry(vectors, 0, 0), found, columns)
        if is_last(turns, tile, plan):
            finish_backward(dtype, plan, tile.feature, tile.feature_end, mean, invstd, weight, table)
        if whole and dx.address:
            rescale(x, dy, dx, dtype, plan, tile, table, columns)
        add(turns + DONE, 1)
        turn = claim(turns, rank, count)
    if not whole and dx.address:
        wait_for(turns + DONE, count)
        turn = claim_again(turns, rank, count)
        while turn >= 0:
            rescale(x, dy, dx, dtype, plan, tile_of(turn, plan), table, columns)
            turn = claim_again(turns, rank, count)


@inlined
def move(running: Vector, values: int, count: int, divisor: float, rate: float) -> None:
    """Move a running statistic a step towards a batch's."""
    address = data(running.array)
    for i in range(count):
        step = rate * (number(values, i) / divisor)
        if running.size == 8:
            put(address, i, (1.0 - rate) * number(address, i) + step)
        elif running.size == 4:
            store(address, 4 * i, np.float32(0), (1.0 - rate) * load(address, 4 * i, np.float32(0)) + step)


@inlined
def move_by_one(count: Vector) -> None:
    """Count a batch."""
    address = data(count.array)
    if count.size == 1:
        add(address, 1)
    elif count.size == 8:
        put(address, 0, number(address, 0) + 1.0)
    elif count.size == 4:
        store(address, 0, np.float32(0), load(address, 0, np.float32(0)) + 1.0)


@kernel
def train(crew: Crew, arrays: int, facts: Any, dtype: Any, epsilon: float, divisor: float, rate: float) -> bool:
    """Statistics, and with a y the normalization by them: of a tile at once if it has all rows, else of all.

    Then the running statistics move, and the counter. False, and nothing is done, if a vector is not one that is taken.
    """
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, WRITTEN), vector(arrays, RUNNING_VAR, facts, WRITTEN)
    count = counter(arrays, facts)
    if min(weight.size, bias.size, mean.size, variance.size, count.size) < 0:
        return False
    turns, table, scratch = rewound(arrays, facts)
    x, y = place(arrays, X, facts, 0), place(arrays, Y, facts, 1)
    together(crew, job(train_tiles, (turns, scratch, x, y, dtype, facts, weight, bias, epsilon, table)))
    move(mean, entry(table, MEAN, 0), facts[FEATURES], 1.0, rate)
    move(variance, entry(table, M2, 0), facts[FEATURES], divisor, rate)
    move_by_one(count)
    return True


@kernel
def normalize(crew: Crew, arrays: int, facts: Any, dtype: Any, epsilon: float) -> bool:
    """Normalize by statistics that are given; False, and nothing is done, if a vector is not one that is taken."""
    weight, bias = vector(arrays, WEIGHT, facts, READ), vector(arrays, BIAS, facts, READ)
    mean, variance = vector(arrays, RUNNING_MEAN, facts, READ), vector(arrays, RUNNING_VAR, facts, READ)
    if min(weight.size, bias.size, mean.size, variance.size) < 0:
        return False
    turns, _, scratch = rewound(arrays, facts)
    x, y = place(arrays, X, facts, 0), place(arrays, Y, facts, 1)
    together(crew, job(normalize_tiles, (turns, scratch, x, y, dtype, facts, mean, variance, weight, bias, epsilon)))
    return True


@kernel
def differentiate(crew: Crew, arrays: int, facts: Any, dtype: Any) -> bool:
    """Gradients of weight, bias and, if there is a y for it, x, from which the statistics were taken; as ``train``."""
    weight, mean = vector(arrays, WEIGHT, facts, READ), vector(arrays, BATCH_MEAN, facts, READ)
    invstd = vector(arrays, BATCH_INVSTD, facts, READ)
    if min(weight.size, mean.size, invstd.size) < 0:
        return False
    turns, table, scratch = rewound(arrays, facts)
    x, dx, dy = place(arrays, X, facts, 0), place(arrays, Y, facts, 1), place(arrays, DY, facts, 2)
    together(crew, job(differentiate_tiles, (turns, scratch, x, dy, dx, dtype, facts, mean, invstd, weight, table)))
    return True
