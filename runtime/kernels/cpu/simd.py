"""Numbers in memory and in registers: the instructions that numba lacks, one or eight numbers at a time.

Eight float64 are one register of AVX-512, two of AVX, four of SSE or NEON: LLVM's vectors are of any length, and no
instruction here is of one processor. Without them it depends on LLVM's guesses whether a loop becomes vectors.

=================================  =====================================================================
``load``, ``store``                one element as float64, of any of the four dtypes
``loads``, ``stores``              those of eight side by side, as ``Lanes``, from one to another, excluded; nothing
                                   need be aligned, and what is outside of them is not touched, and read as 0
``+``, ``-``, ``*``                of ``Lanes``; a product and a sum may become one instruction
``streams``                        all eight, aligned to themselves, past the cache
``soon``                           a hint that what is at an address will be read
``splat``, ``total``               one number in all lanes; the sum of all lanes
``keep``                           lanes from one to another, the others 0
``size_of``                        bytes of an element, a constant
``add``                            to a counter that threads share; how much it was before
``data``                           where the values of a NumPy array are, by its ``id``
``word``                           eight bytes in memory, as they are
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
from numba.core.cgutils import get_or_insert_function
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


def within(builder: Any, first: Any, last: Any) -> Any:
    """Which lanes are between them; all, for the constants 0 and 8, which leave no trace in the machine code."""
    ends = [spread(builder, builder.trunc(end, INT32)) for end in (first, last)]
    numbers = ir.Constant(ends[0].type, list(range(LANES)))
    return builder.and_(builder.icmp_signed(">=", numbers, ends[0]), builder.icmp_signed("<", numbers, ends[1]))


def spread(builder: Any, value: Any) -> Any:
    """A value in all lanes."""
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))


def call(builder: Any, name: str, result: Any, arguments: tuple[Any, ...], **options: Any) -> Any:
    """One of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(get_or_insert_function(builder.module, kind, name), arguments, **options)


ONE = ir.Constant(INT32, 1)  # bytes to which nothing need be aligned beyond


def suffix(kind: ir.Type) -> str:
    """What LLVM calls a vector of these."""
    return f"v{LANES}{ {FLOAT: 'f32', DOUBLE: 'f64', INT16: 'i16'}[kind] }"


@instruction
def load(context: Any, address: Any, offset: Any, dtype: Any) -> Any:
    """The element ``offset`` bytes behind the address, as float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(pointer(builder, BITS[element(dtype)], *arguments[:2]))
        value.align = 1
        return widen(builder, value, element(dtype))

    return types.float64(types.intp, types.intp, dtype), generate


@instruction
def store(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write a float64 as the element ``offset`` bytes behind the address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], element(dtype))
        builder.store(value, pointer(builder, value.type, *arguments[:2])).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, types.float64), generate


@instruction
def loads(context: Any, address: Any, offset: Any, dtype: Any, first: Any, last: Any) -> Any:
    """Of the eight elements ``offset`` bytes behind the address those from the first to the last, excluded; else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = BITS[element(dtype)]
        kind = ir.VectorType(one, LANES)
        source = pointer(builder, kind, *arguments[:2])
        chosen = source, ONE, within(builder, *arguments[3:]), ir.Constant(kind, None)
        value = call(builder, f"llvm.masked.load.{suffix(one)}.p0", kind, chosen)
        return widen(builder, value, element(dtype))

    return lanes(types.intp, types.intp, dtype, types.intp, types.intp), generate


@instruction
def stores(context: Any, address: Any, offset: Any, dtype: Any, value: Any, first: Any, last: Any) -> Any:
    """Write lanes from the first to the last, excluded, as elements ``offset`` bytes behind the address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], element(dtype))
        target = pointer(builder, value.type, *arguments[:2])
        chosen = value, target, ONE, within(builder, *arguments[4:])
        call(builder, f"llvm.masked.store.{suffix(BITS[element(dtype)])}.p0", ir.VoidType(), chosen)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, lanes, types.intp, types.intp), generate


@instruction
def streams(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write eight elements past the cache, where they are aligned. Others see them after the next ``add``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], element(dtype))
        stored = builder.store(value, pointer(builder, value.type, *arguments[:2]))
        stored.align = LANES * element(dtype).bitwidth // 8
        stored.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, lanes), generate


@instruction
def splat(context: Any, value: Any) -> Any:
    """A float64 in all lanes."""
    return lanes(types.float64), lambda context, builder, signature, arguments: spread(builder, arguments[0])


@instruction
def keep(context: Any, value: Any, first: Any, last: Any) -> Any:
    """Lanes from the first to the last, excluded; else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, *ends = arguments
        return builder.select(within(builder, *ends), value, ir.Constant(value.type, [0.0] * LANES))

    return lanes(lanes, types.intp, types.intp), generate


@instruction
def total(context: Any, value: Any) -> Any:
    """The sum of all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = ir.Constant(DOUBLE, -0.0), arguments[0]
        return call(builder, f"llvm.vector.reduce.fadd.{suffix(DOUBLE)}", DOUBLE, given, fastmath=("reassoc",))

    return types.float64(lanes), generate


@instruction
def size_of(context: Any, dtype: Any) -> Any:
    """Bytes of an element, a constant: a loop whose step is one is vectorized."""
    return types.intp(dtype), lambda context, builder, *_: INT64(element(dtype).bitwidth // 8)


@instruction
def add(context: Any, address: Any, number: Any) -> Any:
    """Add to the number at an address; what it was before. What threads wrote before they added, they see after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("add", counter, arguments[1], "acq_rel")

    return types.int64(types.intp, types.int64), generate


@instruction
def data(context: Any, array: Any) -> Any:
    """Where an array's values are, by its ``id``; 0 for 0.

    It is the first field behind the header of every object (NumPy's C API, ``PyArrayObject_fields``). NumPy takes
    ten times as long to tell, and numba would compile anew for every layout that it is handed.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        field = builder.add(arguments[0], INT64(object.__basicsize__))
        here = builder.icmp_signed("!=", arguments[0], INT64(0))
        with builder.if_else(here) as (then, otherwise):
            with then:
                address, known = builder.load(builder.inttoptr(field, INT64.as_pointer())), builder.block
            with otherwise:
                unknown = builder.block
        found = builder.phi(INT64)
        found.add_incoming(address, known)
        found.add_incoming(INT64(0), unknown)
        return found

    return types.intp(types.intp), generate


@instruction
def word(context: Any, address: Any, offset: Any) -> Any:
    """The eight bytes ``offset`` bytes behind the address, as an integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(pointer(builder, INT64, *arguments))

    return types.int64(types.intp, types.intp), generate


@instruction
def soon(context: Any, address: Any) -> Any:
    """A hint that what is at an address, if anything, will be read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        read, everywhere, values = (ir.Constant(INT32, option) for option in (0, 3, 1))
        call(builder, "llvm.prefetch.p0", ir.VoidType(), (line, read, everywhere, values))
        return context.get_dummy_value()

    return types.void(types.intp), generate
