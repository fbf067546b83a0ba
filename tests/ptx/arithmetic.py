"""Instructions of PTX that compute: what they read, what they write, and the NumPy function between.

PTX ISA 8.0, section 9.7. Numbers are never flushed to zero, as no kernel asks for it. Approximations are as far off as
they may be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core.typing import signature
from numba.extending import intrinsic

Array = Any
TYPES: dict[str, Any] = {
    "pred": np.bool_,
    **{f"{letter}{bits}": np.dtype(f"u{bits // 8}") for letter in "bu" for bits in (16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (16, 32, 64)},
    **{f"f{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
}


class Operation(NamedTuple):
    """``result = compute(*sources)``, with their types."""

    result: str
    sources: tuple[str, ...]
    compute: Callable[..., Array]


@intrinsic  # type: ignore[misc]
def _fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return signature(a, a, a, a), generate


@numba.vectorize(["f4(f4, f4, f4)", "f8(f8, f8, f8)"])  # type: ignore[misc]
def fma(a: Any, b: Any, c: Any) -> Any:
    """Rounded once."""
    return _fused(a, b, c)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
UNARY = {"neg": np.negative, "not": np.invert}
COMPARISONS: dict[str, Callable[..., Array]] = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "neu": np.not_equal,
    "leu": lambda a, b: ~(a > b),
    "ltu": lambda a, b: ~(a >= b),
    "geu": lambda a, b: ~(a < b),
    "gtu": lambda a, b: ~(a <= b),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}


def operation(opcode: str) -> Operation:
    """What an instruction computes.

    Raises
    ------
    NotImplementedError
        It is none that the kernels have.
    """
    name, *modifiers = opcode.split(".")
    kind = modifiers[-1]
    rounding = modifiers[:-1] in ([], ["rn"])
    if name in BINARY and rounding:
        return Operation(kind, (kind, kind), BINARY[name])
    if name in UNARY and rounding:
        return Operation(kind, (kind,), UNARY[name])
    if name == "fma" and modifiers[0] == "rn":
        return Operation(kind, (kind,) * 3, fma)
    if name == "mul" and kind[0] == "f" and rounding:
        return Operation(kind, (kind, kind), np.multiply)
    if opcode in SPECIAL:
        return SPECIAL[opcode]
    if name == "setp" and len(modifiers) == 2:
        return Operation("pred", (kind, kind), _comparison(modifiers[0], kind))
    if name == "selp":
        return Operation(kind, (kind, kind, "pred"), lambda a, b, chosen: np.where(chosen, a, b))
    if name in ("shl", "shr"):
        return Operation(kind, (kind, "u32"), _shift(np.left_shift if name == "shl" else np.right_shift))
    if name == "cvt":
        return _conversion(modifiers)
    raise NotImplementedError(opcode)


def _comparison(name: str, kind: str) -> Callable[..., Array]:
    if name == "ne":
        return (lambda a, b: (a < b) | (a > b)) if kind[0] == "f" else np.not_equal
    return COMPARISONS[name]


def _shift(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda value, amount: function(value, np.asarray(amount).astype(np.asarray(value).dtype))


def _conversion(modifiers: list[str]) -> Operation:
    *rounding, result, source = modifiers
    target = TYPES[result]
    narrowing = source[0] == "f" and target.kind == "f" and target.itemsize < TYPES[source].itemsize
    exact = target.kind != "f" or (source[0] == "f" and not narrowing)
    if rounding != ([] if exact else ["rn"]) or (source[0] == "f" and target.kind != "f"):
        raise NotImplementedError(".".join(("cvt", *modifiers)))
    return Operation(result, (source,), lambda value: np.asarray(value).astype(target))


def bfloat16(value: Array) -> Array:
    """Bits of numbers rounded to nearest even."""
    bits = np.asarray(value).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(value), np.uint32(0x7FFF), rounded).astype(np.uint16)


def float16(value: Array) -> Array:
    """The same."""
    bits = np.asarray(value).astype(np.float16).view(np.uint16)
    return np.where(np.isnan(value), np.uint16(0x7FFF), bits)


def _pair(narrow: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda high, low: narrow(high).astype(np.uint32) << np.uint32(16) | narrow(low)


def _insert(field: Array, into: Array, position: Array, length: Array) -> Array:
    one = np.uint64(1)
    mask = ((one << length.astype(np.uint64)) - one) << position.astype(np.uint64)
    return into & ~mask | field << position.astype(np.uint64) & mask


def _extract(value: Array, position: Array, length: Array) -> Array:
    return value >> position & (np.uint32(1) << length) - np.uint32(1)


def _permute(low: Array, high: Array, selector: Array) -> Array:
    both = np.asarray(high).astype(np.uint64) << np.uint64(32) | low
    result = np.uint32(0)
    for byte in range(4):
        place = (selector >> np.uint32(4 * byte) & np.uint32(7)).astype(np.uint64)
        result = result | (both >> place * np.uint64(8) & np.uint64(255)).astype(np.uint32) << np.uint32(8 * byte)
    return result


def _off(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function of float32, rounded the wrong way: off by up to 2**-23 of its result."""

    def approximate(value: Array) -> Array:
        exact = function(np.asarray(value).astype(np.float64))
        nearest = exact.astype(np.float32)
        beyond = np.nextafter(nearest, np.where(exact < nearest, np.float32(-np.inf), np.float32(np.inf)))
        return np.where((exact == nearest) | ~np.isfinite(beyond), nearest, beyond)

    return approximate


def _gross_reciprocal(value: Array) -> Array:
    """Of the upper half of a number, with zeros in the lower half; subnormal numbers are zeros."""
    upper = np.uint64(0xFFFFFFFF00000000)
    cut = (np.asarray(value).view(np.uint64) & upper).view(np.float64)
    cut = np.where(np.abs(cut) < np.finfo(np.float64).tiny, np.copysign(0.0, cut), cut)
    result = 1 / cut
    result = np.where(np.abs(result) < np.finfo(np.float64).tiny, np.copysign(0.0, result), result)
    return (result.view(np.uint64) & upper).view(np.float64)


SPECIAL = {
    "min.s64": Operation("s64", ("s64", "s64"), np.minimum),
    "max.s64": Operation("s64", ("s64", "s64"), np.maximum),
    "mul.lo.s64": Operation("s64", ("s64", "s64"), np.multiply),
    "mul.lo.s32": Operation("s32", ("s32", "s32"), np.multiply),
    "mul.wide.s32": Operation("s64", ("s32", "s32"), lambda a, b: a.astype(np.int64) * b.astype(np.int64)),
    "mul.wide.u32": Operation("u64", ("u32", "u32"), lambda a, b: a.astype(np.uint64) * b.astype(np.uint64)),
    "div.u32": Operation("u32", ("u32", "u32"), lambda a, b: a // np.where(b == 0, np.uint32(1), b)),
    "rem.u32": Operation("u32", ("u32", "u32"), lambda a, b: a % np.where(b == 0, np.uint32(1), b)),
    "div.rn.f64": Operation("f64", ("f64", "f64"), np.divide),
    "sqrt.rn.f64": Operation("f64", ("f64",), np.sqrt),
    "rcp.rn.f64": Operation("f64", ("f64",), lambda a: 1 / a),
    "rcp.approx.f32": Operation("f32", ("f32",), _off(lambda a: 1 / a)),
    "rsqrt.approx.f32": Operation("f32", ("f32",), _off(lambda a: 1 / np.sqrt(a))),
    "rcp.approx.ftz.f64": Operation("f64", ("f64",), _gross_reciprocal),
    "bfi.b64": Operation("b64", ("b64", "b64", "u32", "u32"), _insert),
    "bfe.u32": Operation("u32", ("u32", "u32", "u32"), _extract),
    "prmt.b32": Operation("b32", ("b32", "b32", "b32"), _permute),
    "cvta.to.global.u64": Operation("u64", ("u64",), np.positive),
    "cvt.rn.f16.f32": Operation("b16", ("f32",), float16),
    "cvt.rn.bf16.f32": Operation("b16", ("f32",), bfloat16),
    "cvt.rn.f16x2.f32": Operation("b32", ("f32", "f32"), _pair(float16)),
    "cvt.rn.bf16x2.f32": Operation("b32", ("f32", "f32"), _pair(bfloat16)),
    "cvt.f32.f16": Operation("f32", ("f16",), lambda a: np.asarray(a).astype(np.float32)),
}
