"""Access to elements of three-dimensional arrays, for ``kernels``; goes with it.

The storage dtype of an array decides how its elements are read and written: float16, float32 and float64 as they are,
and uint16 as bfloat16, which device arrays cannot name. Arithmetic is float64 for float64 arrays, else float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import cuda, types
from numba.core import config
from numba.core.cgutils import ir  # llvmlite's
from numba.core.typing import signature
from numba.cuda.extending import intrinsic

SIMULATED = bool(config.ENABLE_CUDASIM)
Function = TypeVar("Function", bound=Callable[..., Any])
GLOBAL = 1  # NVVM's number of the global address space


def primitive(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a device function of a numba intrinsic's rule, or of its Python twin in the simulator."""
    return lambda rule: twin if SIMULATED else intrinsic(rule)


def device(function: Function) -> Function:
    """Make a device function of Python code, inlined into its callers (others need a driver even to be compiled)."""
    return function if SIMULATED else cast(Function, cuda.jit(device=True, inline="always")(function))


def kernel(function: Callable[..., Any]) -> Any:
    """Make a kernel, compiled on its first launch for the types of its arguments."""
    return cuda.jit(function)


def arithmetic(dtype: np.dtype[Any]) -> Any:
    """The type that elements of a storage dtype are computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def _arithmetic(array: Any) -> Any:
    return types.float64 if array.dtype == types.float64 else types.float32


def _element(context: Any, builder: Any, array_type: Any, array: Any, *place: Any) -> Any:
    """Pointer to an element: no bounds, no wraparound, strides of any sign."""
    view = context.make_array(array_type)(context, builder, array)
    address = builder.ptrtoint(view.data, ir.IntType(64))
    for axis, index in enumerate(place):
        address = builder.add(address, builder.mul(index, builder.extract_value(view.strides, axis)))
    return builder.inttoptr(address, ir.PointerType(view.data.type.pointee, GLOBAL))


def _convert(builder: Any, instruction: str, value: Any, kind: Any, registers: str) -> Any:
    return builder.call(ir.InlineAsm(ir.FunctionType(kind, [value.type]), f"{instruction} $0, $1;", registers), [value])


def _load(x: Any, outer: Any, feature: Any, inner: Any) -> Any:
    value = x[outer, feature, inner]
    if x.dtype == np.uint16:
        return (np.uint32(value) << np.uint32(16)).view(np.float32)
    return value if x.dtype == np.float64 else np.float32(value)


@primitive(_load)
def load(typing: Any, x: Any, outer: Any, feature: Any, inner: Any) -> Any:
    """``x[outer, feature, inner]`` in the arithmetic of x."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_element(context, builder, x, *arguments))
        if x.dtype == types.float16:
            return _convert(builder, "cvt.f32.f16", value, ir.FloatType(), "=f,h")
        if x.dtype == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(value, ir.IntType(32)), ir.IntType(32)(16)), ir.FloatType())
        return value

    return signature(_arithmetic(x), x, types.int64, types.int64, types.int64), generate


def _store(y: Any, outer: Any, feature: Any, inner: Any, value: Any) -> None:
    if y.dtype == np.uint16:
        bits = int(np.float32(value).view(np.uint32))
        value = 0x7FFF if np.isnan(value) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    y[outer, feature, inner] = value


@primitive(_store)
def store(typing: Any, y: Any, outer: Any, feature: Any, inner: Any, value: Any) -> Any:
    """``y[outer, feature, inner] = value``, rounded to nearest even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, value = arguments
        word = ir.IntType(32)
        if y.dtype == types.float16:
            value = _convert(builder, "cvt.rn.f16.f32", value, ir.IntType(16), "=h,f")
        elif y.dtype == types.uint16:  # cvt.rn.bf16.f32 would need an Ampere GPU
            bits = builder.bitcast(value, word)
            even = builder.and_(builder.lshr(bits, word(16)), word(1))
            rounded = builder.lshr(builder.add(builder.add(bits, word(0x7FFF)), even), word(16))
            bits = builder.select(builder.fcmp_unordered("uno", value, value), word(0x7FFF), rounded)
            value = builder.trunc(bits, ir.IntType(16))
        builder.store(value, _element(context, builder, y, *place))
        return context.get_dummy_value()

    return signature(types.void, y, types.int64, types.int64, types.int64, _arithmetic(y)), generate
