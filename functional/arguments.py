"""What may be given: arrays of one library, in one place, all checked before anything is computed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from normspec.runtime import Tensor, foreign
from normspec.runtime.arrays import Source, native, read_only, repeated, unwritable
from normspec.runtime.autograd import needed
from normspec.runtime.dtypes import FLOATING, DTypeLike


class Given(NamedTuple):
    """An array: its memory as a tensor, and the way from an array of ours to one of its library."""

    value: Any
    tensor: Tensor
    library: str
    wrap: Callable[[Any], Any]

    @property
    def source(self) -> Source:
        """As the operator takes it."""
        return Source(native(self.tensor.array), self.tensor.device, self.tensor.dtype.name, self.wrap)

    def give(self, values: Any, dtype: DTypeLike | None = None) -> Any:
        """New values as an array of its library, where it is."""
        return self.wrap(Tensor(values, dtype, self.tensor.device).array)

    def updatable(self) -> Tensor:
        """The tensor, if it can be written to; else a copy."""
        if unwritable(self.tensor.array) is None:
            return self.tensor
        return Tensor(self.tensor.numpy().copy(), device=self.tensor.device)

    def back(self, updated: Tensor) -> Any:
        """What was given, now that it is updated; or the copy, as an array of its library."""
        return self.value if updated is self.tensor else self.wrap(updated.array)


class Caller:
    """A function whose arguments are read, for its errors."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, argument: str, expected: str, found: str, kind: type[Exception] = ValueError) -> NoReturn:
        """Raise, with what was expected of an argument and what was found."""
        raise kind(f"{self.name}: {argument}: expected {expected}, found {found}")

    def read(self, argument: str, value: Any, beside: Given | None = None) -> Given:
        """An array, of the library and on the device of another one if there is one."""
        given = self._any(argument, value)
        if beside is not None and given.library != beside.library:
            self.fail(argument, f"an array of {beside.library}, like the others", f"one of {given.library}", TypeError)
        if beside is not None and given.tensor.device != beside.tensor.device:
            self.fail(argument, f"an array on {beside.tensor.device}, like the others", f"one on {given.tensor.device}")
        return given

    def _any(self, argument: str, value: Any) -> Given:
        if isinstance(value, Tensor):
            return Given(value, value, "normspec", lambda array: value.plain(array, device=value.device))
        if isinstance(value, np.ma.MaskedArray):
            self.fail(argument, "an array, and its mask apart", "a masked array", TypeError)
        if isinstance(value, np.ndarray):
            return Given(value, self._tensor(argument, np.asarray(value)), "numpy", lambda array: array)
        kind = type(value)
        try:
            found = foreign.read(value)
        except (*foreign.CANNOT, RuntimeError, ValueError) as error:
            self.fail(argument, "an array that can be shared", f"a {kind.__name__} that cannot: {error}")
        if found is None:
            self.fail(argument, "an array", kind.__name__, TypeError)
        if found.differentiated:
            expected = "an array that requires no gradient (normspec.interop has a batch norm for those)"
            self.fail(argument, expected, f"a {kind.__name__} that does")
        return Given(value, self._tensor(argument, found.array), kind.__module__.partition(".")[0], found.wrap)

    def _tensor(self, argument: str, array: npt.NDArray[Any]) -> Tensor:
        if array.dtype.name not in FLOATING and array.dtype.kind not in "iub":
            self.fail(argument, "real numbers", f"elements of {array.dtype}", TypeError)
        return Tensor(array)

    def floats(self, argument: str, given: Given) -> Given:
        """The same array, if its elements are floating-point."""
        if given.tensor.dtype.name not in FLOATING:
            self.fail(argument, " or ".join(FLOATING), f"elements of {given.tensor.dtype.name}", TypeError)
        return given

    def constant(self, argument: str, given: Given | None) -> None:
        """Refuse a tensor whose gradient would be lost."""
        if given is not None and needed(given.value):
            self.fail(
                argument,
                "a tensor of which no gradient is wanted (call detach(), or this function within no_grad)",
                "one that requires it",
                RuntimeError,
            )

    def axis(self, x: Given, axis: int) -> int:
        """A feature axis, counted from the first."""
        rank = x.tensor.ndim
        if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
            self.fail("axis", "an int", repr(axis), TypeError)
        if not -rank <= axis < rank:
            self.fail("axis", f"an axis of x, which has shape {x.tensor.shape}", str(axis))
        return int(axis) % rank

    def vector(self, argument: str, value: Any, x: Given, features: int) -> Given | None:
        """One number a feature, beside ``x``."""
        if value is None:
            return None
        given = self.floats(argument, self.read(argument, value, x))
        if given.tensor.shape != (features,):
            self.fail(argument, f"shape {(features,)}", f"shape {given.tensor.shape}")
        return given

    def number(self, argument: str, value: Any, least: float, *, above: bool = False) -> float:
        """A finite number that is not too small."""
        if not isinstance(value, (numbers.Real, np.floating)) or isinstance(value, bool):
            self.fail(argument, "a number", type(value).__name__, TypeError)
        try:
            number = float(value)
        except OverflowError:
            self.fail(argument, "a number in the range of float", f"{type(value).__name__} beyond it")
        if not math.isfinite(number) or number < least or (above and number == least):
            self.fail(argument, f"a number {'above' if above else 'of at least'} {least:g}", f"{value!r}")
        return number

    def switch(self, argument: str, value: Any) -> bool:
        """True or False, of what is either."""
        try:
            return bool(value)
        except (TypeError, ValueError):  # of several
            self.fail(argument, "True or False", type(value).__name__, TypeError)

    def both(self, mean: Any, variance: Any, required: bool) -> None:
        """Refuse one statistic without the other; and none, where they are required."""
        for argument, value, other in ("mean", mean, variance), ("variance", variance, mean):
            if value is None and (required or other is not None):
                self.fail(argument, "an array, like the other statistic" if not required else "an array", "None")

    def mask(self, value: Any, x: Given, axis: int) -> npt.NDArray[np.bool_] | None:
        """Which elements of ``x`` count, as an array that broadcasts to it."""
        if value is None:
            return None
        given = self.read("mask", value, x)
        if x.tensor.device != "cpu":
            self.fail("mask", "None for an input that is not on the CPU", f"an array on {x.tensor.device}")
        mask, shape = given.tensor.numpy(), x.tensor.shape
        if mask.dtype != np.bool_:
            self.fail("mask", "elements of bool", f"elements of {mask.dtype}", TypeError)
        if mask.ndim == len(shape) - 1:
            mask = np.expand_dims(mask, axis)
        if mask.ndim != len(shape) or any(one not in (1, size) for one, size in zip(mask.shape, shape, strict=True)):
            expected = f"a shape that broadcasts to {shape}, with axis {axis} or without it"
            self.fail("mask", expected, str(given.tensor.shape))
        return mask

    def like(self, argument: str, value: Any, x: Given) -> Given:
        """An array of the shape and element type of ``x``."""
        given, expected = self.read(argument, value, x), x.tensor
        if given.tensor.shape != expected.shape:
            self.fail(argument, f"shape {expected.shape}", f"shape {given.tensor.shape}")
        if given.tensor.dtype != expected.dtype:
            self.fail(
                argument, f"elements of {expected.dtype.name}", f"elements of {given.tensor.dtype.name}", TypeError
            )
        return given

    def statistics(self, argument: str, value: Any, beside: tuple[Given, ...] = ()) -> tuple[Given, Given, Given]:
        """Count, mean and M2."""
        if not isinstance(value, tuple) or len(value) != 3:
            self.fail(argument, "count, mean and M2 as batch_stats returns them", type(value).__name__, TypeError)
        first = beside[0] if beside else None
        given = []
        for name, one in zip(("count", "mean", "m2"), value, strict=True):
            read = self.read(f"{argument}.{name}", one, first)
            first = first or read
            if read.tensor.ndim != 1 or read.tensor.shape != first.tensor.shape:
                expected = first.tensor.shape if first.tensor.ndim == 1 else "of one axis"
                self.fail(f"{argument}.{name}", f"shape {expected}", f"shape {read.tensor.shape}")
            given.append(read)
        return given[0], given[1], given[2]

    def out(self, value: Any, x: Given, alias: tuple[Given, ...], apart: list[Given]) -> Any:
        """Where a result like ``x`` is to go: writeable, and apart from what is read or the very same as ``alias``."""
        if value is None:
            return None
        given = self.like("out", value, x)
        self.constant("out", given)
        array = given.tensor.array
        if read_only(array):
            self.fail("out", "memory that can be written", "read-only memory")
        if array.size and repeated(array):
            self.fail("out", "memory of its own for each element", "memory that elements share")
        if not array.dtype.isnative:
            self.fail("out", "this machine's order of bytes", "the other one")
        for one in (x, *alias, *apart):
            other = one.tensor.array
            if _overlap(array, other) and not (_among(one, alias) and _place(array) == _place(other)):
                self.fail(
                    "out", "memory of its own, or where it is allowed the very same", "memory shared with an input"
                )
        return array


def _among(one: Given, others: tuple[Given, ...]) -> bool:
    return any(one is each for each in others)  # not ``in``, which compares the arrays


def _place(array: Any) -> tuple[Any, ...]:
    """What two arrays share that are the same memory read in the same way."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.pointer, array.shape, array.strides


def _overlap(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray):
        return bool(a.overlaps(b))
    most: Any = 10_000  # steps of a search that can be long; what is not found out by then is taken to overlap
    try:
        return np.shares_memory(a, b, max_work=most)
    except np.exceptions.TooHardError:
        return True
