"""Numbers in memory and in registers: the instructions that numba lacks, one or eight numbers at a time.

Eight float64 are one register of AVX-512, two of AVX, four of SSE or NEON: LLVM's vectors are of any length, and no
instruction here is of one processor. Without them it depends on LLVM's guesses whether a loop becomes vectors.

=================================  =====================================================================
``load``, ``store``                one element as float64, of any of the four dtypes
``loads``, ``stores``              eight of them side by side, as ``Lanes``; nothing need be aligned
``+``, ``-``, ``*``                of ``Lanes``; a product and a sum may become one instruction
``splat``                          one number in all lanes
``size_of``                        bytes of an element, a constant
``claim``                          the next number of a counter that threads share
=================================  =====================================================================

The floats of 16 bits, which numba lacks on CPUs, are integers of the same bits: int16 is float16, uint16 is bfloat16.
An argument ``dtype`` is any number of the type of the elements, or a NumPy dtype.

numba's cache of a function does not notice a change in the functions it calls in other files, like these.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8

INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
BITS: dict[Any, ir.Type] = {types.int16: INT16, types.uint16: INT16, types.float32: FLOAT, types.float64: DOUBLE}


class Lanes(types.Type):  # type: ignore[misc]
    """Eight float64."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """How they are kept: as LLVM keeps vectors."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(DOUBLE, LANES))


def arithmetic(operation: Callable[..., Any], instruction: str) -> None:
    """Teach numba an operation on lanes."""

    @infer_global(operation)
    class Typing(ConcreteTemplate):  # type: ignore[misc]
        cases = (signature(lanes, lanes, lanes),)

    @lower_builtin(operation, lanes, lanes)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))


arithmetic(operator.add, "fadd")
arithmetic(operator.sub, "fsub")
arithmetic(operator.mul, "fmul")


def instruction(generator: Callable[..., Any]) -> Any:
    """`numba.extending.intrinsic`, which mypy takes for its generator."""
    return intrinsic(generator)


def element(dtype: Any) -> Any:
    """The numba type that an argument ``dtype`` stands for."""
    return getattr(dtype, "dtype", dtype)


def like(value: Any, kind: ir.Type, number: Any = None) -> Any:
    """The type, or the constant, that is to ``kind`` what a value is to its elements."""
    if isinstance(value.type, ir.VectorType):
        kind = ir.VectorType(kind, value.type.count)
        number = None if number is None else [number] * value.type.count
    return kind if number is None else ir.Constant(kind, number)


def widen(builder: Any, value: Any, dtype: Any) -> Any:
    """Any element to float64."""
    if dtype == types.uint16:
        value = builder.zext(value, like(value, INT32))
        value = builder.shl(value, like(value, INT32, 16))
        value = builder.bitcast(value, like(value, FLOAT))
    elif dtype == types.int16:
        value = builder.bitcast(value, like(value, HALF))
    return value if dtype == types.float64 else builder.fpext(value, like(value, DOUBLE))


def narrow(builder: Any, value: Any, dtype: Any) -> Any:
    """The float64 to the nearest element, ties to even; through float32 if to 16 bits, as processors do."""
    if dtype == types.float64:
        return value
    value = builder.fptrunc(value, like(value, FLOAT))
    if dtype == types.int16:
        return builder.bitcast(builder.fptrunc(value, like(value, HALF)), like(value, INT16))
    if dtype == types.uint16:
        bits = builder.bitcast(value, like(value, INT32))
        sixteen = like(bits, INT32, 16)
        odd = builder.and_(builder.lshr(bits, sixteen), like(bits, INT32, 1))
        rounded = builder.add(bits, builder.add(odd, like(bits, INT32, 0x7FFF)))
        quiet = builder.or_(bits, like(bits, INT32, 0x400000))  # rounding could carry a NaN over into infinity
        bits = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
        return builder.trunc(builder.lshr(bits, sixteen), like(bits, INT16))
    return value


def pointer(builder: Any, kind: ir.Type, address: Any, offset: Any) -> Any:
    """To what is there; base and offset stay apart because LLVM vectorizes only what it sees as one base and steps."""
    start = builder.inttoptr(address, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())


def loading(dtype: Any, kind: Callable[[ir.Type], ir.Type]) -> Callable[..., Any]:
    """How ``load`` and ``loads`` read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(pointer(builder, kind(BITS[dtype]), *arguments[:2]))
        value.align = 1
        return widen(builder, value, dtype)

    return generate


def storing(dtype: Any) -> Callable[..., Any]:
    """How ``store`` and ``stores`` write."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], dtype)
        builder.store(value, pointer(builder, value.type, *arguments[:2])).align = 1
        return context.get_dummy_value()

    return generate


@instruction
def load(context: Any, address: Any, offset: Any, dtype: Any) -> Any:
    """The element ``offset`` bytes behind the address, as float64."""
    return types.float64(types.intp, types.intp, dtype), loading(element(dtype), lambda one: one)


@instruction
def loads(context: Any, address: Any, offset: Any, dtype: Any) -> Any:
    """The eight elements ``offset`` bytes behind the address."""
    return lanes(types.intp, types.intp, dtype), loading(element(dtype), lambda one: ir.VectorType(one, LANES))


@instruction
def store(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write a float64 as the element ``offset`` bytes behind the address."""
    return types.void(types.intp, types.intp, dtype, types.float64), storing(element(dtype))


@instruction
def stores(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write eight elements ``offset`` bytes behind the address."""
    return types.void(types.intp, types.intp, dtype, lanes), storing(element(dtype))


@instruction
def splat(context: Any, value: Any) -> Any:
    """A float64 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, first = ir.VectorType(DOUBLE, LANES), ir.Constant(INT32, 0)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[0], first)
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))

    return lanes(types.float64), generate


@instruction
def size_of(context: Any, dtype: Any) -> Any:
    """Bytes of an element, a constant: a loop whose step is one is vectorized."""
    return types.intp(dtype), lambda context, builder, *_: INT64(element(dtype).bitwidth // 8)


@instruction
def claim(context: Any, address: Any) -> Any:
    """The number at an address, which becomes one more; no two threads get the same."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("add", counter, INT64(1), "monotonic")

    return types.int64(types.intp), generate
