"""A callable that has a mode and keeps tensors and other modules under names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from . import autograd, devices
from .dialect import Dialect
from .dtypes import DType, DTypeLike, at_least_float32
from .errors import Speaker, listed
from .gradients import NoGrad
from .tensor import Parameter, Tensor

if TYPE_CHECKING:  # __class_getitem__, which type checkers do not call
    from abc import ABCMeta

    T = TypeVar("T")

    class Indexed(ABCMeta):
        """``BatchNorm1d[float64]`` takes the arguments of ``BatchNorm1d``, and makes one."""

        def __getitem__(cls: type[T], dtype: DTypeLike) -> type[T]:
            raise NotImplementedError

else:
    Indexed = type

ModuleT = TypeVar("ModuleT", bound="Module")


@dataclass(frozen=True)
class State:
    """One tensor that the classes of an operator keep, as a spec declares it."""

    name: str
    canonical: str
    shape: tuple[str, ...]
    init: str
    kind: str
    dtype: str  # "parameter" and "at_least_float32" stand for that of the parameters
    when: tuple[str, ...]
    optional: bool  # whether there may be none


class Module(metaclass=Indexed):
    """What is called, has a mode, and keeps tensors and modules as its attributes.

    A generated class says which arguments and tensors there are (``_names``, ``_state``); a class of a user's own calls
    ``super().__init__()`` and assigns tensors and modules.
    """

    _dialect: ClassVar[Dialect]
    _tensor_type: ClassVar[type[Tensor]]
    _parameter_type: ClassVar[type[Parameter]]
    _names: ClassVar[Mapping[str, str]] = {}  # canonical argument or state -> the dialect's, and the attribute's
    _spelling: ClassVar[Mapping[str, Mapping[str, str]]] = {}  # function of modules -> its arguments that differ
    _state: ClassVar[tuple[State, ...]] = ()
    _constants: ClassVar[tuple[str, ...]] = ()  # attributes that cannot be assigned to
    training: bool = True
    _buffers: dict[str, None] = {}  # noqa: RUF012  # of a class that does not call super().__init__(); never written
    _lock = threading.RLock()
    forward: Callable[..., Any]

    def __init__(self) -> None:
        self.training = True
        self._buffers = {}  # names of the tensors that are kept but not learned
        self._lock = threading.RLock()

    def __class_getitem__(cls, dtype: DTypeLike) -> Callable[..., Any]:
        """``BatchNorm1d[float64]``: the class with the element type of its parameters set."""
        return partial(cast(Callable[..., Any], cls), dtype=dtype)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call ``forward``."""
        return self.forward(*arguments, **keywords)

    def __setattr__(self, name: str, value: object) -> None:
        own = vars(self)
        if name in self._constants and name in own:
            self._speaker().fail_spelled("constant", name, "no assignment", repr(value), name=name)
        declared = next((one for one in self._state if one.name == name), None)
        if isinstance(value, Tensor):
            value = self._replacing(name, declared, own.get(name), value)
        elif declared is not None and not (value is None and declared.optional):
            wanted, found = "a tensor or None" if declared.optional else "a tensor", type(value).__name__
            self._speaker().fail_spelled("assign", name, wanted, found, key=name, type=found)
        super().__setattr__(name, value)

    def _replacing(self, name: str, declared: State | None, current: object, value: Tensor) -> Tensor:
        """A tensor, if it is like the one whose place it takes; as a parameter, if that is one."""
        rules = self._dialect.rules
        if isinstance(current, Tensor):
            strict = rules.assigned == "shape_and_dtype" and (rules.parameters == "tensors" or current.learned)
            self._check_like(name, current, value, shape=strict or declared is not None, dtype=strict)
        was = isinstance(current, Tensor) and current.learned and name not in self._buffers
        learned = was if declared is None else declared.kind == "parameter"
        if value.learned or not learned or rules.parameters == "tensors":
            return value
        kept = self._parameter_type(value)  # through which gradients go on to what it was made of
        return autograd.record(kept, "parameter", [value], lambda g: [g]) if autograd.needed(value) else kept

    def _check_like(self, name: str, current: Tensor, value: Tensor, *, shape: bool, dtype: bool) -> None:
        if shape and value.shape != current.shape:
            shapes = {"expected": listed(current.shape), "found": listed(value.shape)}
            self._speaker().fail_spelled(
                "state_shape", name, f"shape {current.shape}", f"shape {value.shape}", key=name, **shapes
            )
        if dtype and value.dtype != current.dtype:
            types = {"expected": repr(current.dtype), "found": repr(value.dtype)}
            self._speaker().fail_spelled("state_dtype", name, current.dtype.name, value.dtype.name, key=name, **types)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes, _lock=threading.RLock())

    def __repr__(self) -> str:
        from .operators.module import to_string

        return to_string(self)

    def extra_repr(self) -> str:
        """What prints between the brackets."""
        return ""

    def _kept_dtype(self, name: str, dtype: str) -> str:
        """The element type that the tensor ``name`` gets when the module is converted to ``dtype``."""
        kept = next((one.dtype for one in self._state if one.name == name), "parameter")  # of a user's own tensor
        return {"parameter": dtype, "at_least_float32": at_least_float32(dtype)}.get(kept, kept)

    @classmethod
    def _speaker(cls) -> Speaker:
        """Who tells of mistakes."""
        return Speaker(cls._dialect, cls.__name__, cls._names)

    def _place(self, device: str | None) -> str:
        """The device that was asked for, the CPU by default."""
        try:
            return "cpu" if device is None else devices.name(*devices.parse(device))
        except ValueError:
            known = ", ".join(self._dialect.printing.devices)
            self._speaker().fail_spelled("device", "device", "cpu or cuda", repr(device), device=device, devices=known)

    def _element(self, dtype: DTypeLike | None) -> DType:
        """The element type that was asked for, float32 by default; it must be floating-point."""
        try:
            element = self._tensor_type.dtype_type.of("float32" if dtype is None else dtype)
        except TypeError:
            fields = {"type": type(dtype).__name__, "dtype": repr(dtype)}
            self._speaker().fail_spelled("dtype_type", "dtype", "an element type", repr(dtype), **fields)
        if not element.is_floating_point:
            self._speaker().fail_spelled(
                "dtype_float", "dtype", "a floating-point type", element.name, dtype=element.name
            )
        return element

    def _set(self, **canonical: object) -> None:
        """Keep arguments and tensors under the dialect's names; what has none is kept privately."""
        for name, value in canonical.items():
            vars(self)[self._names.get(name, f"_{name}")] = value

    def _get(self, canonical: str) -> Any:
        return vars(self)[self._names.get(canonical, f"_{canonical}")]

    def _spelled(self, function: str, canonical: str) -> str:
        """The dialect's name of an argument of a function of modules."""
        return self._spelling.get(function, {}).get(canonical, canonical)

    def _build(self, sizes: Mapping[str, int], dtype: str, device: str) -> None:
        """Make the declared tensors."""
        for one in self._state:
            tensor = None
            if all(self._get(switch) for switch in one.when):
                shape = tuple(sizes[word] for word in one.shape)
                where = "cpu" if one.canonical == "count" else device  # counting waits for no device
                tensor = self._initial(one, shape, self._kept_dtype(one.name, dtype), where)
            vars(self)[one.name] = tensor
            if one.kind == "buffer":
                self._buffers[one.name] = None

    def _initial(self, state: State, shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
        from .operators import tensor as make

        learned = state.kind == "parameter" and self._dialect.rules.parameters == "parameters"
        kind: type[Tensor] = self._parameter_type if learned else self._tensor_type
        init = {"zeros": make.zeros, "zero": make.zeros, "ones": make.ones, "arange": make.arange}[state.init]
        with NoGrad():
            return init(kind, shape=shape, dtype=dtype, requires_grad=False).to(device)
