"""How functions of the CPU backend are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from normspec.runtime.kernels.cpu.cache import Cache

F = TypeVar("F", bound=Callable[..., Any])


def jit(**options: Any) -> Callable[[F], Any]:
    """`numba.njit` as everything here wants it. What is not said about fastmath, callers would decide."""
    options = {"fastmath": False, "no_cfunc_wrapper": True, **options}
    return numba.njit(nogil=True, error_model="numpy", **options)  # type: ignore[no-any-return]


def kernel(function: F) -> Any:
    """What Python calls: kept on disk, unless nothing there can be written to."""
    compiled = jit()(function)
    compiled._cache = Cache(function)
    return compiled


def helper(**options: Any) -> Callable[[F], F]:
    """What only kernels call, and are kept with."""
    return jit(no_cpython_wrapper=True, **options)


inlined = helper(forceinline=True)
contracted = helper(fastmath={"contract"}, forceinline=True)
