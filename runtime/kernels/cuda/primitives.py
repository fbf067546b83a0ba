"""What CUDA C++ has and numba.cuda lacks, each primitive said twice: for the GPU, and in Python for the simulator.

A pointer is a numba ``CPointer`` on the GPU; in the simulator an array of one dimension, or what does as one. What it
points to decides how elements are read and written: float16, float32 and float64 as they are, and uint16 as bfloat16.
Arithmetic is float64 for float64, else float32.

A *packet* is what a thread moves in one access of 128 bits, or 64 where 16-bit elements are aligned to no more. It is
kept in a local array as it lies in memory, in words of 32 bits (64 for float64), and unpacked when its elements are
needed: 16-bit elements take half the registers so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

import numba.cuda
import numpy as np
from numba import types
from numba.core import config
from numba.core.cgutils import ir  # llvmlite's
from numba.core.typing import signature
from numba.cuda.extending import intrinsic

SIMULATED = bool(config.ENABLE_CUDASIM)
Function = TypeVar("Function", bound=Callable[..., Any])

HALF, WORD, LONG = ir.IntType(16), ir.IntType(32), ir.IntType(64)
SINGLE, DOUBLE, VOID = ir.FloatType(), ir.DoubleType(), ir.VoidType()
CONSTRAINTS = {HALF: "h", WORD: "r", LONG: "l", SINGLE: "f", DOUBLE: "d"}
GLOBAL, SHARED = 1, 3  # NVVM's numbers of the address spaces
PACKET = 16  # bytes


class Simulated:
    """``numba.cuda`` as a kernel sees it in the simulator: indices, barriers, shared memory."""

    def __init__(self) -> None:
        from numba.cuda.simulator.kernel import _get_kernel_context

        self._kernel = _get_kernel_context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel(), name)


cuda: Any = Simulated() if SIMULATED else numba.cuda  # for kernels and device functions


def device(function: Function) -> Function:
    """Make a device function of Python code, inlined into its callers (others need a driver even to be compiled)."""
    return function if SIMULATED else cast(Function, numba.cuda.jit(device=True, inline="always")(function))


def primitive(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a device function of a numba intrinsic's rule, or of its Python twin in the simulator."""
    return lambda rule: twin if SIMULATED else intrinsic(rule)


class Element(NamedTuple):
    """How elements of a dtype are stored and computed."""

    storage: Any  # numba's type
    dtype: Any  # of arrays that hold it
    real: Any  # type of the arithmetic
    word: Any  # type of a packet's words
    lanes: int  # elements of a word

    @property
    def words(self) -> int:
        """Words of a packet."""
        return PACKET // int(np.dtype(self.word).itemsize)

    @property
    def width(self) -> int:
        """Elements of a packet."""
        return self.words * self.lanes

    @property
    def widths(self) -> tuple[int, ...]:
        """Elements that one access may move: those of a packet, of half a packet if they are of 16 bits, or one."""
        return (self.width, self.width // 2, 1) if self.lanes > 1 else (self.width, 1)

    def parts(self, width: int) -> int:
        """Pieces of so many elements, if not of one, that make a packet of 16 bytes."""
        return self.width // width if width > 1 else 1


ELEMENTS = {
    "f16": Element(types.float16, np.float16, np.float32, np.uint32, 2),
    "bf16": Element(types.uint16, np.uint16, np.float32, np.uint32, 2),
    "f32": Element(types.float32, np.float32, np.float32, np.uint32, 1),
    "f64": Element(types.float64, np.float64, np.float64, np.uint64, 1),
}


def pointer(name: str) -> Any:
    """Type of a pointer to elements: "f16", "bf16", "f32" or "f64"."""
    return types.CPointer(ELEMENTS[name].storage)


def real_type(storage: Any) -> Any:
    """Type that elements of a type are computed in."""
    return types.float64 if storage == types.float64 else types.float32


# -- code for the GPU


def assembly(builder: Any, text: str, result: Any, *arguments: Any) -> Any:
    """Call PTX: $0 is the result, if any (several results are $0, $1 ...), then come the arguments.

    It stays where it is among other such calls, barriers and stores.
    """
    results = result.elements if isinstance(result, ir.LiteralStructType) else [] if result is VOID else [result]
    constraints = ["=" + CONSTRAINTS[kind] for kind in results] + [CONSTRAINTS[value.type] for value in arguments]
    function = ir.FunctionType(result, [value.type for value in arguments])
    code = ir.InlineAsm(function, text, ",".join([*constraints, "~{memory}"]), side_effect=True)
    return builder.call(code, arguments)


def convert(builder: Any, text: str, result: Any, *arguments: Any) -> Any:
    """Call PTX that does nothing but compute its result."""
    results = result.elements if isinstance(result, ir.LiteralStructType) else [result]
    constraints = ["=" + CONSTRAINTS[kind] for kind in results] + [CONSTRAINTS[value.type] for value in arguments]
    function = ir.FunctionType(result, [value.type for value in arguments])
    return builder.call(ir.InlineAsm(function, text, ",".join(constraints)), arguments)


def address(builder: Any, base: Any, index: Any) -> Any:
    """Address of an element, as an integer."""
    return builder.ptrtoint(builder.gep(base, [index]), LONG)


def element(context: Any, builder: Any, kind: Any, base: Any, index: Any) -> Any:
    """Pointer to an element of global memory, or of a shared array."""
    if isinstance(kind, types.Array):
        return slots(context, builder, kind, base, index, 1)[0]
    return builder.inttoptr(address(builder, base, index), ir.PointerType(base.type.pointee, GLOBAL))


def slots(context: Any, builder: Any, kind: Any, array: Any, start: Any, size: int) -> list[Any]:
    """Pointers to ``array[start : start + size]``, a local or shared array."""
    data = context.make_array(kind)(context, builder, array).data
    return [builder.gep(data, [builder.add(start, LONG(index))]) for index in range(size)]


def widen(builder: Any, name: str, word: Any) -> list[Any]:
    """Elements of a word, the first in its low bits."""
    if name == "bf16":
        halves = builder.shl(word, WORD(16)), builder.and_(word, WORD(0xFFFF0000))
        return [builder.bitcast(half, SINGLE) for half in halves]
    if name == "f16":
        text = "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; }"
        pair = convert(builder, text, ir.LiteralStructType([SINGLE, SINGLE]), word)
        return [builder.extract_value(pair, 0), builder.extract_value(pair, 1)]
    return [builder.bitcast(word, SINGLE if name == "f32" else DOUBLE)]


def narrow(builder: Any, name: str, elements: list[Any]) -> Any:
    """Word of elements, rounded to nearest even."""
    if name in ("f32", "f64"):
        return builder.bitcast(elements[0], WORD if name == "f32" else LONG)
    return convert(builder, f"cvt.rn.{name}x2.f32 $0, $2, $1;", WORD, *elements)


# Instructions that GPUs before a compute capability lack, as patterns, and what they do instead
_ROUNDED = (
    "mov.b32 {0}, {1}; bfe.u32 odd, {0}, 16, 1; add.u32 {0}, {0}, odd; add.u32 {0}, {0}, 0x7fff; "
    "setp.nan.f32 nan, {1}, {1}; selp.b32 {0}, 0x7fffffff, {0}, nan; "
)  # bfloat16 in the high bits of {0}
NEWER: tuple[tuple[tuple[int, int], str, str], ...] = (
    ((9, 0), r"griddepcontrol\.\w+;", ""),
    (
        (8, 0),
        r"cvt\.rn\.f16x2\.f32 (%\w+), (%\w+), (%\w+);",
        r"{ .reg .b16 a, b; cvt.rn.f16.f32 a, \3; cvt.rn.f16.f32 b, \2; mov.b32 \1, {a, b}; }",
    ),
    (
        (8, 0),
        r"cvt\.rn\.bf16x2\.f32 (%\w+), (%\w+), (%\w+);",
        "{ .reg .b32 a, b, odd; .reg .pred nan; "
        + _ROUNDED.format("a", r"\3")
        + _ROUNDED.format("b", r"\2")
        + r"prmt.b32 \1, a, b, 0x7632; }",
    ),
    (
        (8, 0),
        r"cvt\.rn\.bf16\.f32 (%\w+), (%\w+);",
        "{ .reg .b32 a, odd; .reg .pred nan; "
        + _ROUNDED.format("a", r"\2")
        + r"shr.u32 a, a, 16; cvt.u16.u32 \1, a; }",
    ),
)


def for_older(ptx: str, capability: tuple[int, int]) -> str:
    """PTX without the instructions that GPUs of a compute capability lack."""
    for first, pattern, instead in NEWER:
        if capability < first:
            ptx = re.sub(pattern, instead, ptx)
    return ptx


# -- code for the simulator


def bfloat16_bits(values: Any) -> Any:
    """float32 rounded to nearest even, as uint16."""
    values = np.asarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


def decode(stored: Any) -> Any:
    """Elements as numbers to compute with."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored if stored.dtype == np.float64 else stored.astype(np.float32)


def encode(values: Any, dtype: Any) -> Any:
    """Numbers as elements, rounded to nearest even."""
    return bfloat16_bits(values) if dtype == np.uint16 else np.asarray(values).astype(dtype)


def window(base: Any, index: Any, size: int) -> Any:
    """Elements that one access moves; it must be aligned to its size."""
    assert index >= 0 or not isinstance(base, np.ndarray), f"index {index}"
    part = np.asarray(base[index : index + size])
    assert part.size == size, f"elements {index} to {index + size} are not all there"
    assert part.ctypes.data % (size * part.itemsize) == 0, f"access of {size} elements at {index} is not aligned"
    return part


# -- one element


def _load(base: Any, index: Any) -> Any:
    return decode(window(base, index, 1))[0]


@primitive(_load)
def load(typing: Any, base: Any, index: Any) -> Any:
    """``base[index]``, in the arithmetic of its type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(element(context, builder, base, *arguments))
        if base.dtype == types.float16:
            return convert(builder, "cvt.f32.f16 $0, $1;", SINGLE, value)
        if base.dtype == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(value, WORD), WORD(16)), SINGLE)
        return value

    return signature(real_type(base.dtype), base, types.int64), generate


def _store(base: Any, index: Any, value: Any) -> None:
    window(base, index, 1)[:] = encode(value, base.dtype)


@primitive(_store)
def store(typing: Any, base: Any, index: Any, value: Any) -> Any:
    """``base[index] = value``, rounded to nearest even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, value = arguments
        if base.dtype in (types.float16, types.uint16):
            name = "f16" if base.dtype == types.float16 else "bf16"
            value = convert(builder, f"cvt.rn.{name}.f32 $0, $1;", HALF, value)
        builder.store(value, element(context, builder, base, *place))
        return context.get_dummy_value()

    return signature(types.void, base, types.int64, real_type(base.dtype)), generate


# -- a thread's share of memory at once: packets where they are aligned, else single elements


class Access(NamedTuple):
    """How a thread reads and writes some elements that lie side by side, ``width``, at once.

    ``load(base, index, packets, p)`` and ``store(base, index, packets, p)`` move the elements from ``base[index]`` on;
    ``unpack(packets, p, values, v)`` and ``pack(values, v, packets, p)`` turn the packet into numbers and back.
    ``packets`` and ``values`` are local arrays: packet ``p`` takes ``words`` items from ``packets[p * words]`` on, and
    its elements are ``values[v : v + width]``.
    """

    words: int
    word: Any
    real: Any
    load: Any
    store: Any
    unpack: Any
    pack: Any


@cache
def access(name: str, width: int) -> Access:
    """Access to so many elements of a type at once, one of its ``widths``; they are aligned to as many bytes."""
    return packets_of(name, width) if width > 1 else elements_of(name)


def elements_of(name: str) -> Access:
    """Access to one element at a time: its packets are numbers already."""
    real = ELEMENTS[name].real

    @device
    def load_element(base: Any, index: Any, packets: Any, packet: Any) -> None:
        packets[packet] = load(base, index)

    @device
    def store_element(base: Any, index: Any, packets: Any, packet: Any) -> None:
        store(base, index, packets[packet])

    @device
    def unpack(packets: Any, packet: Any, values: Any, place: Any) -> None:
        values[place] = packets[packet]

    @device
    def pack(values: Any, place: Any, packets: Any, packet: Any) -> None:
        packets[packet] = values[place]

    return Access(1, real, real, load_element, store_element, unpack, pack)


def packets_of(name: str, width: int) -> Access:
    """Access to 16 bytes at a time, or 8."""
    kind = ELEMENTS[name]
    lanes, words, bits = kind.lanes, width // kind.lanes, 8 * np.dtype(kind.word).itemsize
    letters = f"v{words}.b{bits}"

    def _load_packet(base: Any, index: Any, packets: Any, packet: Any) -> None:
        packets[packet * words : (packet + 1) * words] = window(base, index, width).view(kind.word)

    @primitive(_load_packet)
    def load_packet(typing: Any, base: Any, index: Any, packets: Any, packet: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base, index, array, packet = arguments
            outputs = ", ".join(f"${word}" for word in range(words))
            text = f"ld.global.L1::no_allocate.{letters} {{{outputs}}}, [${words}];"
            integer = ir.IntType(bits)
            packed = assembly(builder, text, ir.LiteralStructType([integer] * words), address(builder, base, index))
            start = builder.mul(packet, LONG(words))
            for word, slot in enumerate(slots(context, builder, packets, array, start, words)):
                builder.store(builder.extract_value(packed, word), slot)
            return context.get_dummy_value()

        return signature(types.void, base, types.int64, packets, types.int64), generate

    def _store_packet(base: Any, index: Any, packets: Any, packet: Any) -> None:
        window(base, index, width)[:] = packets[packet * words : (packet + 1) * words].view(kind.dtype)

    @primitive(_store_packet)
    def store_packet(typing: Any, base: Any, index: Any, packets: Any, packet: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base, index, array, packet = arguments
            start = builder.mul(packet, LONG(words))
            values = [builder.load(slot) for slot in slots(context, builder, packets, array, start, words)]
            inputs = ", ".join(f"${1 + word}" for word in range(words))
            text = f"st.global.cs.{letters} [$0], {{{inputs}}};"
            assembly(builder, text, VOID, address(builder, base, index), *values)
            return context.get_dummy_value()

        return signature(types.void, base, types.int64, packets, types.int64), generate

    def _unpack(packets: Any, packet: Any, values: Any, place: Any) -> None:
        values[place : place + width] = decode(packets[packet * words : (packet + 1) * words].view(kind.dtype))

    @primitive(_unpack)
    def unpack(typing: Any, packets: Any, packet: Any, values: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, packet, target, place = arguments
            sources = slots(context, builder, packets, array, builder.mul(packet, LONG(words)), words)
            targets = slots(context, builder, values, target, place, width)
            for word, source in enumerate(sources):
                for lane, value in enumerate(widen(builder, name, builder.load(source))):
                    builder.store(value, targets[word * lanes + lane])
            return context.get_dummy_value()

        return signature(types.void, packets, types.int64, values, types.int64), generate

    def _pack(values: Any, place: Any, packets: Any, packet: Any) -> None:
        packets[packet * words : (packet + 1) * words] = encode(values[place : place + width], kind.dtype).view(
            kind.word
        )

    @primitive(_pack)
    def pack(typing: Any, values: Any, place: Any, packets: Any, packet: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, place, array, packet = arguments
            sources = slots(context, builder, values, source, place, width)
            targets = slots(context, builder, packets, array, builder.mul(packet, LONG(words)), words)
            for word, target in enumerate(targets):
                elements = [builder.load(slot) for slot in sources[word * lanes : (word + 1) * lanes]]
                builder.store(narrow(builder, name, elements), target)
            return context.get_dummy_value()

        return signature(types.void, values, types.int64, packets, types.int64), generate

    return Access(words, kind.word, kind.real, load_packet, store_packet, unpack, pack)


# -- arithmetic


def _fma(a: Any, b: Any, c: Any) -> Any:
    return type(a)(np.float64(a) * np.float64(b) + np.float64(c))


@primitive(_fma)
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once (the simulator's float64 rounds twice)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return convert(builder, f"fma.rn.f{a.bitwidth} $0, $1, $2, $3;", arguments[0].type, *arguments)

    return signature(a, a, a, a), generate


# Exact divisions and roots call a function in rare cases, for which the register allocator keeps room, and after which
# the threads of a warp may be out of step. These are an ulp off, and do not.


def newton(builder: Any, steps: int, guess: Any, error: Callable[[Any], Any], share: float) -> Any:
    """Improve a guess by ``guess * error(guess) * share``, so many times."""
    for _ in range(steps):
        part = builder.fmul(guess, guess.type(share))
        guess = builder.fma(part, error(guess), guess)
    return guess


def _reciprocal(a: Any) -> Any:
    return type(a)(1) / a


@primitive(_reciprocal)
def reciprocal(typing: Any, a: Any) -> Any:
    """``1 / a`` of a finite number that is not subnormal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (number,) = arguments
        single, one = a == types.float32, number.type(1)
        guess = convert(builder, f"rcp.approx.{'f32' if single else 'ftz.f64'} $0, $1;", number.type, number)
        negative = builder.fmul(number, number.type(-1))
        return newton(builder, 1 if single else 3, guess, lambda guess: builder.fma(negative, guess, one), 1)

    return signature(a, a), generate


def _reciprocal_root(a: Any) -> Any:
    return type(a)(1) / np.sqrt(a)


@primitive(_reciprocal_root)
def reciprocal_root(typing: Any, a: Any) -> Any:
    """``1 / sqrt(a)``, infinite for 0 and 0 for infinity."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (number,) = arguments
        if a == types.float64:  # its approximation takes subnormal numbers for zeros
            root = convert(builder, "sqrt.rn.f64 $0, $1;", DOUBLE, number)
            return builder.fdiv(DOUBLE(1), root)
        guess = convert(builder, "rsqrt.approx.f32 $0, $1;", SINGLE, number)
        negative, one = builder.fmul(number, number.type(-1)), SINGLE(1)
        result = newton(builder, 1, guess, lambda y: builder.fma(builder.fmul(negative, y), y, one), 0.5)
        usual = builder.and_(
            builder.fcmp_ordered(">", number, SINGLE(0)), builder.fcmp_ordered("<", number, SINGLE(float("inf")))
        )
        return builder.select(usual, result, guess)

    return signature(a, a), generate


def _divide_words(a: Any, b: Any) -> Any:
    assert max(a, b) < 1 << 31
    return a // b


@primitive(_divide_words)
def divide_words(typing: Any, a: Any, b: Any) -> Any:
    """``a // b`` of integers from 0 to 2**31 - 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.udiv(*(builder.trunc(number, WORD) for number in arguments)), LONG)

    return signature(types.int64, types.int64, types.int64), generate


@device
def divide(a: Any, b: Any) -> Any:
    """``a // b`` of integers that are not negative: quickly if they are small, as they most often are."""
    if (a | b) >> 31 == 0:
        quotient = divide_words(a, b)
    else:
        part, quotient = b, 0
        while part <= a - part:
            part += part
        while part >= b:
            quotient += quotient
            if a >= part:
                a -= part
                quotient += 1
            part >>= 1
    return quotient


# -- warps: every thread of the block calls them together, in blocks of whole warps

LANES = 32  # threads of a warp


def _exchange(value: Any, choose: Callable[[int], int]) -> Any:
    thread = cuda.threadIdx.x
    lane = thread % LANES
    source = choose(lane)
    values, meet = cuda.shared.array(1024, np.float64), cuda.syncthreads
    values[thread] = value
    meet()
    received = type(value)(values[thread - lane + source if source < LANES else thread])
    meet()
    return received


def shuffle(mode: str, twin: Callable[..., Any]) -> Any:
    """Make a shuffle of floating-point numbers, of a mode of PTX."""

    @primitive(twin)
    def exchange(typing: Any, value: Any, operand: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            number, operand = arguments
            instruction = f"shfl.sync.{mode}.b32"
            if number.type is SINGLE or number.type == SINGLE:
                return assembly(builder, f"{instruction} $0, $1, $2, 0x1f, 0xffffffff;", SINGLE, number, operand)
            halves = "{ .reg .b32 a, b; mov.b64 {a, b}, $1; "
            moves = "".join(f"{instruction} {half}, {half}, $2, 0x1f, 0xffffffff; " for half in "ab")
            return assembly(builder, halves + moves + "mov.b64 $0, {a, b}; }", DOUBLE, number, operand)

        return signature(value, value, types.int32), generate

    return exchange


# value of the lane whose number differs in the bits of a mask
shuffle_xor = shuffle("bfly", lambda value, mask: _exchange(value, lambda lane: lane ^ mask))
# value of the lane that many places up; of the lane itself where there is none
shuffle_down = shuffle("down", lambda value, distance: _exchange(value, lambda lane: lane + distance))
# value of a given lane
shuffle_from = shuffle("idx", lambda value, source: _exchange(value, lambda lane: source))


# -- clusters: blocks that can read each other's shared memory, from compute capability 9.0 on


def _arrive() -> None:
    cuda.cluster_arrive()


def _wait() -> None:
    cuda.cluster_wait()


def cluster_barrier(instruction: str, twin: Callable[[], None]) -> Any:
    """Make a primitive of a ``barrier.cluster`` instruction."""

    @primitive(twin)
    def barrier(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            assembly(builder, f"barrier.cluster.{instruction}.aligned;", VOID)
            return context.get_dummy_value()

        return signature(types.void), generate

    return barrier


cluster_arrive = cluster_barrier("arrive.release", _arrive)  # what this thread wrote may be read after the barrier
cluster_leave = cluster_barrier("arrive.relaxed", _arrive)  # it used what it read, and wrote nothing for others
cluster_wait = cluster_barrier("wait.acquire", _wait)  # until all threads of the cluster have arrived


def _cluster_size() -> Any:
    return cuda.cluster_size()


@primitive(_cluster_size)
def cluster_size(typing: Any) -> Any:
    """Blocks of the cluster."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(convert(builder, "mov.u32 $0, %cluster_nctarank;", WORD), LONG)

    return signature(types.int64), generate


def _read_peer(array: Any, index: Any, rank: Any) -> Any:
    return cuda.peer_shared(array, rank)[index]


@primitive(_read_peer)
def read_peer(typing: Any, array: Any, index: Any, rank: Any) -> Any:
    """``array[index]`` of the shared array of another block of the cluster."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shared, index, rank = arguments
        slot = slots(context, builder, array, shared, index, 1)[0]
        place = builder.ptrtoint(builder.addrspacecast(slot, ir.PointerType(slot.type.pointee, SHARED)), WORD)
        kind = slot.type.pointee
        text = f"mapa.shared::cluster.u32 a, $1, $2; ld.shared::cluster.f{array.dtype.bitwidth} $0, [a];"
        return assembly(builder, f"{{ .reg .b32 a; {text} }}", kind, place, rank)

    return signature(array.dtype, array, types.int64, types.int32), generate


# -- programmatic dependent launch: a kernel's start overlaps the end of the one before; nothing before 9.0, see NEWER


def _nothing() -> None:
    pass


def dependency(instruction: str) -> Any:
    """Make a primitive of a ``griddepcontrol`` instruction."""

    @primitive(_nothing)
    def control(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            assembly(builder, f"griddepcontrol.{instruction};", VOID)
            return context.get_dummy_value()

        return signature(types.void), generate

    return control


wait_for_previous = dependency("wait")  # until the kernel before is done and its writes are seen
launch_next = dependency("launch_dependents")  # let the next kernel start when all blocks have called this
