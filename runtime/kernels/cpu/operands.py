"""What kernels are given: all arrays in one tuple, by its ``id``.

What is known of x, y and dy is in a table, the *facts*; vectors are looked at here.
"""

from __future__ import annotations

from typing import Any

from normspec.runtime.kernels.cpu.jit import inlined
from normspec.runtime.kernels.cpu.simd import data
from normspec.runtime.kernels.cpu.tables import Table, Vector, put
from normspec.runtime.kernels.cpu.threads import peek
from normspec.runtime.kernels.cpu.tiles import Place, Plan

X, Y, ROOM, WEIGHT = range(4)  # places in the tuple
BIAS, RUNNING_MEAN, RUNNING_VAR, COUNT = range(4, 8)
DY, BATCH_MEAN, BATCH_INVSTD = range(4, 7)

# Places in the facts: the plan's number of features, and behind the plan the strides of x, y and dy; ids of NumPy's
# array, None and dtypes; and how many numbers the turns, a table and one thread's scratch take.
FEATURES, STRIDES = Plan._fields.index("features"), len(Plan._fields)
ARRAY, NONE, FLOAT32, FLOAT64, INT64, COUNTED, TABLE, SCRATCH = range(STRIDES + 9, STRIDES + 17)

TUPLE, OBJECT = tuple.__basicsize__, object.__basicsize__  # bytes before what is in a tuple, and in an array
TYPE, RANK, LENGTHS, DTYPE, FLAGS = OBJECT - 8, OBJECT + 8, OBJECT + 16, OBJECT + 40, OBJECT + 48  # of an array
LOW = 0xFFFFFFFF  # half a word: rank and flags, on processors that keep it first, as all do that numba knows
READ, WRITTEN = 0x101, 0x501  # NumPy's flags: contiguous and aligned, and writeable


@inlined
def item(arrays: int, which: int, facts: Any) -> int:
    """The ``id`` of what a tuple has in a place; 0 of None."""
    found = peek(arrays + TUPLE + 8 * which)
    return 0 if found == facts[NONE] else found


@inlined
def place(arrays: int, which: int, facts: Any, strides: int) -> Place:
    """Where an array lies, whose strides are those."""
    first = STRIDES + 3 * strides
    return Place(data(item(arrays, which, facts)), facts[first], facts[first + 1], facts[first + 2])


@inlined
def kind_of(array: int, facts: Any, rank: int, flags: int) -> int:
    """The ``id`` of the dtype of an array of such a rank with such flags; 0 if it is none."""
    if peek(array + TYPE) != facts[ARRAY] or peek(array + RANK) & LOW != rank or peek(array + FLAGS) & flags != flags:
        return 0
    kind: int = peek(array + DTYPE)
    return kind


@inlined
def vector(arrays: int, which: int, facts: Any, flags: int) -> Vector:
    """One number a feature, or none; its size is negative if kernels cannot take it as it is."""
    array = item(arrays, which, facts)
    if array == 0:
        return Vector(0, 0)
    kind = kind_of(array, facts, 1, flags)
    if kind == 0 or peek(peek(array + LENGTHS)) != facts[FEATURES]:
        return Vector(0, -1)
    if kind == facts[FLOAT32]:
        return Vector(array, 4)
    return Vector(array, 8 if kind == facts[FLOAT64] else -1)


@inlined
def counter(arrays: int, facts: Any) -> Vector:
    """The number of batches; its size is 0 if there is none, 1 if it is an integer."""
    array = item(arrays, COUNT, facts)
    if array == 0:
        return Vector(0, 0)
    kind = kind_of(array, facts, 0, WRITTEN)
    if kind == facts[INT64]:
        return Vector(array, 1)
    if kind == facts[FLOAT32]:
        return Vector(array, 4)
    return Vector(array, 8 if kind == facts[FLOAT64] else -1)


@inlined
def rewound(arrays: int, facts: Any) -> tuple[int, Table, Table]:
    """The turns, of which none was taken, and behind them the table, and the scratch of threads."""
    turns = data(item(arrays, ROOM, facts))
    for i in range(facts[COUNTED]):
        put(turns, i, 0.0)
    table = turns + 8 * facts[COUNTED]
    return turns, Table(table, 8 * facts[FEATURES]), Table(table + 8 * facts[TABLE], 8 * facts[SCRATCH])
