"""Numbers in memory and in registers: the instructions that numba lacks, for one number or for many at a time.

``Lanes`` are as many numbers as a line of the cache holds elements of some dtype: 8 of float64, 16 of float32, 32 of 16
bits; one to four registers of AVX-512, twice as many of AVX, where lanes to add to are fewer. LLVM's vectors are of any
length, and no instruction here is of one processor. Without them it depends on LLVM's guesses whether a loop becomes
vectors. The numbers are float64 or float32, which is half the work, and converting 16 bits to float32 is one step where
to float64 it is two.

=================================  =====================================================================
``load``, ``store``                one element as float64, of any of the four dtypes
``zeros``, ``splat``               lanes of zeros, as many as elements of a dtype; and one number in all of them
``partial``                        lanes of zeros to add elements to, float64: no more than registers are for
``count_of``                       how many numbers lanes have, a constant
``loads``, ``stores``              the elements side by side, from one to another, excluded, to and from lanes; nothing
                                   need be aligned, and what is outside of them is not touched, and read as 0
``+``, ``-``, ``*``, ``/``         of lanes, or of lanes and a number; product and sum may become one instruction
``streams``                        all of them, aligned to a line, past the cache
``soon``                           a hint that what is at an address will be read
``total``                          the sum of all lanes
``keep``                           lanes from one to another, the others 0
``real``                           a float64 as the numbers that a dtype is normalized with
``size_of``                        bytes of an element, a constant
``add``                            to a counter that threads share; how much it was before
``data``                           where the values of a NumPy array are, by its ``id``
=================================  =====================================================================

The floats of 16 bits, which numba lacks on CPUs, are integers of the same bits: int16 is float16, uint16 is bfloat16.
An argument ``dtype`` is any number of the type of the elements, or a NumPy dtype; ``like`` is any lanes of that kind.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core.cgutils import get_or_insert_function
from numba.core.typing import signature
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model


def wide_registers() -> bool:
    """Whether numba compiles for AVX-512, with 2 KB of registers; other processors have 512 bytes of them."""
    told: str | None = config.CPU_FEATURES
    if told is not None:
        return "+avx512f" in told.split(",")
    return bool(binding.get_host_cpu_features().get("avx512f"))


LINE = 64  # bytes of a line of the cache
SUMMED = 32 if wide_registers() else 8  # float64 of lanes to add to, if four of them are to stay in registers

INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
BITS: dict[Any, ir.Type] = {types.int16: INT16, types.uint16: INT16, types.float32: FLOAT, types.float64: DOUBLE}


class Lanes(types.Type):  # type: ignore[misc]
    """So many numbers, float64 or float32."""

    def __init__(self, real: Any, count: int) -> None:
        super().__init__(name=f"Lanes({real}, {count})")
        self.real, self.count = real, count

    @property
    def key(self) -> tuple[Any, int]:
        return self.real, self.count


def lanes(dtype: Any, real: Any) -> Lanes:
    """As many as a line of the cache has elements."""
    return Lanes(real, 8 * LINE // dtype.bitwidth)


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """How they are kept: as LLVM keeps vectors."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(BITS[kind.real], kind.count))


KINDS = [lanes(dtype, real) for real in (types.float32, types.float64) for dtype in BITS]


def arithmetic(operation: Callable[..., Any], instruction: str) -> None:
    """Teach numba an operation on lanes."""

    @infer_global(operation)
    class Typing(ConcreteTemplate):  # type: ignore[misc]
        cases = tuple(signature(kind, kind, other) for kind in KINDS for other in (kind, kind.real))

    @lower_builtin(operation, Lanes, Lanes)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))

    @lower_builtin(operation, Lanes, types.Float)  # type: ignore[untyped-decorator]
    def lower_one(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        both = arguments[0], spread(builder, arguments[1], signature.args[0].count)
        return lower(context, builder, signature, both)


arithmetic(operator.add, "fadd")
arithmetic(operator.sub, "fsub")
arithmetic(operator.mul, "fmul")
arithmetic(operator.truediv, "fdiv")


def instruction(generator: Callable[..., Any]) -> Any:
    """`numba.extending.intrinsic`, which mypy takes for its generator."""
    return intrinsic(generator)


def element(dtype: Any) -> Any:
    """The numba type that an argument ``dtype`` stands for."""
    return getattr(dtype, "dtype", dtype)


def shaped(value: Any, kind: ir.Type, number: Any = None) -> Any:
    """The type, or the constant, that is to ``kind`` what a value is to its elements."""
    if isinstance(value.type, ir.VectorType):
        kind = ir.VectorType(kind, value.type.count)
        number = None if number is None else [number] * value.type.count
    return kind if number is None else ir.Constant(kind, number)


def convert(builder: Any, value: Any, kind: Any) -> Any:
    """A float, or a vector of them, to another type of float."""
    kinds = FLOAT, DOUBLE
    source, target = kinds.index(getattr(value.type, "element", value.type)), kinds.index(kind)
    if source == target:
        return value
    return (builder.fpext if source < target else builder.fptrunc)(value, shaped(value, kind))


def widen(builder: Any, value: Any, dtype: Any, kind: Any) -> Any:
    """Any element to a float."""
    if dtype == types.uint16:
        value = builder.zext(value, shaped(value, INT32))
        value = builder.shl(value, shaped(value, INT32, 16))
        value = builder.bitcast(value, shaped(value, FLOAT))
    elif dtype == types.int16:
        value = builder.bitcast(value, shaped(value, HALF))
        value = builder.fpext(value, shaped(value, FLOAT))
    return convert(builder, value, kind)


def upper_halves(builder: Any, bits: Any) -> Any:
    """The upper 16 of 32 bits."""
    if isinstance(bits.type, ir.VectorType):  # one shuffle of halves instead of a shift and a conversion
        halves = builder.bitcast(bits, ir.VectorType(INT16, 2 * bits.type.count))
        odd = ir.Constant(ir.VectorType(INT32, bits.type.count), list(range(1, 2 * bits.type.count, 2)))
        return builder.shuffle_vector(halves, ir.Constant(halves.type, ir.Undefined), odd)
    return builder.trunc(builder.lshr(bits, INT32(16)), INT16)


def narrow(builder: Any, value: Any, dtype: Any) -> Any:
    """A float to the nearest element, ties to even; through float32 if to 16 bits, as processors do."""
    value = convert(builder, value, DOUBLE if dtype == types.float64 else FLOAT)
    if dtype == types.int16:
        return builder.bitcast(builder.fptrunc(value, shaped(value, HALF)), shaped(value, INT16))
    if dtype == types.uint16:
        bits = builder.bitcast(value, shaped(value, INT32))
        last = builder.and_(bits, shaped(bits, INT32, 0x10000))
        odd = builder.icmp_unsigned("!=", last, shaped(bits, INT32, 0))
        half = builder.select(odd, shaped(bits, INT32, 0x8000), shaped(bits, INT32, 0x7FFF))
        quiet = builder.or_(bits, shaped(bits, INT32, 0x400000))  # rounding could carry a NaN over into infinity
        bits = builder.select(builder.fcmp_unordered("uno", value, value), quiet, builder.add(bits, half))
        return upper_halves(builder, bits)
    return value


def pointer(builder: Any, kind: ir.Type, address: Any, offset: Any) -> Any:
    """To what is there; base and offset stay apart because LLVM vectorizes only what it sees as one base and steps."""
    start = builder.inttoptr(address, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())


def within(builder: Any, count: int, first: Any, last: Any) -> Any:
    """Which lanes are between them; all, for the constants 0 and count, which leave no trace in the machine code."""
    ends = [spread(builder, builder.trunc(end, INT32), count) for end in (first, last)]
    numbers = ir.Constant(ends[0].type, list(range(count)))
    return builder.and_(builder.icmp_signed(">=", numbers, ends[0]), builder.icmp_signed("<", numbers, ends[1]))


def spread(builder: Any, value: Any, count: int) -> Any:
    """A value in all lanes."""
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, count), ir.Undefined), value, INT32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, count), [0] * count))


def call(builder: Any, name: str, result: Any, arguments: tuple[Any, ...], **options: Any) -> Any:
    """One of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(get_or_insert_function(builder.module, kind, name), arguments, **options)


ONE = ir.Constant(INT32, 1)  # bytes to which nothing need be aligned beyond


def suffix(kind: ir.VectorType) -> str:
    """What LLVM calls a vector of these."""
    return f"v{kind.count}{ {FLOAT: 'f32', DOUBLE: 'f64', INT16: 'i16'}[kind.element] }"


@instruction
def load(context: Any, address: Any, offset: Any, dtype: Any) -> Any:
    """The element ``offset`` bytes behind the address, as float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(pointer(builder, BITS[element(dtype)], *arguments[:2]))
        value.align = 1
        return widen(builder, value, element(dtype), DOUBLE)

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
def zeros(context: Any, dtype: Any, real: Any) -> Any:
    """Lanes of zeros: as many as a line of the cache has elements, of the type of a number."""
    kind = lanes(element(dtype), real)
    return kind(dtype, real), lambda context, builder, *_: ir.Constant(context.get_value_type(kind), None)


@instruction
def partial(context: Any, dtype: Any) -> Any:
    """Lanes of zeros to add elements to: float64, as many as elements, but no more than registers are for."""
    kind = Lanes(types.float64, min(8 * LINE // element(dtype).bitwidth, SUMMED))
    return kind(dtype), lambda context, builder, *_: ir.Constant(context.get_value_type(kind), None)


@instruction
def count_of(context: Any, like: Any) -> Any:
    """How many lanes, a constant."""
    return types.intp(like), lambda context, builder, *_: INT64(like.count)


@instruction
def splat(context: Any, value: Any, like: Any) -> Any:
    """A number in all lanes."""
    return like(like.real, like), lambda context, builder, signature, given: spread(builder, given[0], like.count)


@instruction
def loads(context: Any, address: Any, offset: Any, dtype: Any, like: Any, first: Any, last: Any) -> Any:
    """Of the elements ``offset`` bytes behind the address those from the first to the last, excluded; else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(BITS[element(dtype)], like.count)
        source = pointer(builder, kind, *arguments[:2])
        chosen = source, ONE, within(builder, like.count, *arguments[4:]), ir.Constant(kind, None)
        value = call(builder, f"llvm.masked.load.{suffix(kind)}.p0", kind, chosen)
        return widen(builder, value, element(dtype), BITS[like.real])

    return like(types.intp, types.intp, dtype, like, types.intp, types.intp), generate


@instruction
def stores(context: Any, address: Any, offset: Any, dtype: Any, value: Any, first: Any, last: Any) -> Any:
    """Write lanes from the first to the last, excluded, as elements ``offset`` bytes behind the address."""
    count = value.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], element(dtype))
        target = pointer(builder, value.type, *arguments[:2])
        chosen = value, target, ONE, within(builder, count, *arguments[4:])
        call(builder, f"llvm.masked.store.{suffix(value.type)}.p0", ir.VoidType(), chosen)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, value, types.intp, types.intp), generate


@instruction
def streams(context: Any, address: Any, offset: Any, dtype: Any, value: Any) -> Any:
    """Write all lanes past the cache, where they are aligned. Others see them after the next ``add``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = narrow(builder, arguments[3], element(dtype))
        stored = builder.store(value, pointer(builder, value.type, *arguments[:2]))
        stored.align = LINE
        stored.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, dtype, value), generate


@instruction
def keep(context: Any, value: Any, first: Any, last: Any) -> Any:
    """Lanes from the first to the last, excluded; else 0."""
    count = value.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, *ends = arguments
        return builder.select(within(builder, count, *ends), value, ir.Constant(value.type, None))

    return value(value, types.intp, types.intp), generate


@instruction
def total(context: Any, value: Any) -> Any:
    """The sum of all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        given = ir.Constant(kind.element, -0.0), arguments[0]
        return call(builder, f"llvm.vector.reduce.fadd.{suffix(kind)}", kind.element, given, fastmath=("reassoc",))

    return value.real(value), generate


@instruction
def real(context: Any, value: Any, dtype: Any) -> Any:
    """A float64 as the numbers that a dtype is normalized with: float32 if it has 16 bits."""
    kind = types.float32 if element(dtype).bitwidth == 16 else types.float64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return convert(builder, arguments[0], BITS[kind])

    return kind(types.float64, dtype), generate


@instruction
def size_of(context: Any, dtype: Any) -> Any:
    """Bytes of an element, a constant: a loop whose step is one is vectorized."""
    return types.intp(dtype), lambda context, builder, *_: INT64(element(dtype).bitwidth // 8)


@instruction
def add(context: Any, address: Any, number: Any) -> Any:
    """Add to the number at an address; what it was before. What threads wrote before they added, they see after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("add", counter, arguments[1], "seq_cst")

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
def soon(context: Any, address: Any) -> Any:
    """A hint that what is at an address, if anything, will be read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        read, everywhere, values = (ir.Constant(INT32, option) for option in (0, 3, 1))
        call(builder, "llvm.prefetch.p0", ir.VoidType(), (line, read, everywhere, values))
        return context.get_dummy_value()

    return types.void(types.intp), generate
