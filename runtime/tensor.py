"""An array, the device it lives on and its element type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import autograd, devices, foreign, kernels
from .autograd import Variable
from .dialect import Dialect
from .dtypes import FLOATING, REAL, DType, DTypeLike
from .printing import format_tensor

Shape: TypeAlias = Sequence[int] | int
TensorT = TypeVar("TensorT", bound="Tensor")


class Tensor(NDArrayOperatorsMixin, Variable):
    """An n-dimensional array on one device.

    Parameters
    ----------
    data : object
        Numbers, nested sequences of them, a NumPy array, a tensor of any dialect, a device array, or any DLPack
        producer on the CPU. Arrays are shared, not copied, unless ``dtype`` or ``device`` asks for a change.
    dtype : element type, default None
        None takes it from the data; Python floats are float32.
    device : str, default None
        "cpu" or "cuda", or with a number "cuda:0"; None is where the data is.

    Attributes
    ----------
    array : numpy.ndarray or device array
        The memory.
    device : str
        Where it is, "cpu" or such as "cuda:0".
    grad : Tensor or None
        What ``backward`` has added up; None before.

    Raises
    ------
    TypeError
        The data are not numbers, or are masked.
    ValueError, RuntimeError
        There is no such device, or it does not work here.
    """

    dialect: ClassVar[Dialect | None] = None
    dtype_type: ClassVar[type[DType]] = DType
    plain: ClassVar[type[Tensor]]  # this class, or for parameters the class of what is computed from them
    learned: ClassVar[bool] = False
    __hash__ = object.__hash__  # by identity, for sets and dicts of parameters; == is of elements

    def __init_subclass__(cls) -> None:
        if not cls.learned:
            cls.plain = cls

    def __init__(self, data: object, dtype: DTypeLike | None = None, device: str | None = None) -> None:
        array, where = _array(data, "int64" if self.dialect is None else self.dialect.rules.integer_dtype)
        wanted = where if device is None else devices.name(*devices.parse(device))
        name = data._dtype if isinstance(data, Tensor) else dtype_name(array)
        element = None if dtype is None else self.dtype_type.of(dtype)
        if element is not None and element.name != name:
            array, where = _host(array, name).astype(element.numpy), "cpu"
            name = element.name
        if wanted != where:
            array = _moved(array, name, wanted)
        self.array: Any = array
        self.device: str = wanted
        self._dtype: str = name

    def _beside(self, array: Any) -> Tensor:
        """A tensor of a new array of this one's device and element type."""
        tensor = self.plain.__new__(self.plain)
        tensor.array, tensor.device, tensor._dtype = array, self.device, self._dtype
        return tensor

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.dtype_type(self._dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.array.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.array.shape, dtype=np.int64))

    def numpy(self) -> npt.NDArray[Any]:
        """The values as a NumPy array: the very memory on the CPU, a copy from another device."""
        return _host(self.array, self._dtype)

    def item(self) -> Any:
        """The one element, as a Python number."""
        return self.numpy().item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def to(self: TensorT, device: str | None = None, dtype: DTypeLike | None = None) -> TensorT:
        """This tensor on another device or of another element type; itself if it is so already."""
        same_device = device is None or devices.name(*devices.parse(device)) == self.device
        if same_device and (dtype is None or self.dtype_type.of(dtype) == self.dtype):
            return self
        if not autograd.needed(self):
            made = type(self)(self, dtype, device)
            made._wants = made._wants and self._wants
            return made
        moved, here = self.plain(self, dtype, device), self.device
        return cast(TensorT, autograd.record(moved, "to", [self], lambda g: [g.to(here)]))

    def detach(self) -> Any:
        """A tensor of the same memory that was not computed from any other."""
        return self.plain(self)

    def copy(self) -> Any:
        """A tensor of the same values in memory of its own, not computed from any other."""
        return self.plain(self.numpy().copy(), device=self.device)

    def copy_(self, other: Tensor) -> None:
        """Take over the values of a tensor of the same shape, converted to this element type; never recorded.

        Raises
        ------
        TypeError, ValueError
            ``other`` is no tensor, or has another shape.
        """
        if not isinstance(other, Tensor):
            raise TypeError(f"{type(self).__name__}.copy_: other: expected a tensor, found {type(other).__name__}")
        if other.shape != self.shape:
            raise ValueError(f"{type(self).__name__}.copy_: other: expected shape {self.shape}, found {other.shape}")
        values = other.numpy().astype(self.dtype.numpy, copy=False)
        if self.device == "cpu":
            self.array[...] = values
        else:
            self.array.copy_to_device(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """What NumPy computes, on the host; the result goes where the tensors are."""
        out = inputs[:1] if method == "at" else options.pop("out", ())
        tensors = [one for one in (*inputs, *out, *options.values()) if isinstance(one, Tensor)]
        device = tensors[0].device
        if any(one.device != device for one in tensors):
            found = " and ".join(sorted({one.device for one in tensors}))
            raise ValueError(f"{ufunc.__name__}: expected tensors on one device, found {found}")
        recorded = autograd.needed(*inputs, *out)
        arrays, options = [*map(_values, inputs)], {name: _values(one) for name, one in options.items()}
        if method == "at":
            return _write(f"{ufunc.__name__}.at", out, arrays[:1], partial(ufunc.at, *arrays), recorded)
        if out:
            into = tuple(map(_values, out))
            compute = partial(getattr(ufunc, method), *arrays, out=into, **options)
            _write(f"{ufunc.__name__}: out", out, into, compute, recorded)
            return out[0] if len(out) == 1 else out
        result = getattr(ufunc, method)(*arrays, **options)
        made = [self.plain(one, device=device) for one in (result if isinstance(result, tuple) else (result,))]
        if recorded:
            made = [autograd.record_ufunc(one, ufunc, method, inputs, options) for one in made]
        return tuple(made) if isinstance(result, tuple) else made[0]

    def __array_function__(self, function: Callable[..., Any], types: Any, arguments: Any, options: Any) -> Any:
        """What NumPy's other functions compute; refused where an array without gradients comes of one that has some."""
        result = np.ndarray.__array_function__(_NOTHING, function, (), arguments, options)
        if function not in _LIKE and _floats(result) and autograd.needed(*_tensors((arguments, options))):
            raise autograd.unknown(function.__name__)
        return result

    def sum(
        self, axis: int | Sequence[int] | None = None, dtype: None = None, out: None = None, keepdims: bool = False
    ) -> Any:
        """The sum over axes, all by default, added up in float64; NumPy passes ``dtype`` and ``out``, as None."""
        _check_reduction("sum", dtype, out)
        return self._reduced("sum", axis, keepdims)

    def mean(
        self, axis: int | Sequence[int] | None = None, dtype: None = None, out: None = None, keepdims: bool = False
    ) -> Any:
        """The mean over axes, all by default, added up in float64; NumPy passes ``dtype`` and ``out``, as None."""
        _check_reduction("mean", dtype, out)
        return self._reduced("mean", axis, keepdims, math.prod(self.shape[one] for one in _axes(axis, self.ndim)))

    def _reduced(self, name: str, axis: int | Sequence[int] | None, keepdims: bool, count: int | None = None) -> Any:
        """The sum over axes, divided by a count before anything is rounded: a sum of float16 soon overflows."""
        axes, floating = _axes(axis, self.ndim), self.dtype.is_floating_point
        total = np.sum(self.numpy(), axes, np.float64 if floating else None, keepdims=keepdims)
        total = total if count is None else total / count
        result = self.plain(total.astype(self.dtype.numpy) if floating else total, device=self.device)
        if not autograd.needed(self):
            return result
        kept, shape = tuple(1 if axis in axes else size for axis, size in enumerate(self.shape)), self.shape

        def back(g: Tensor) -> list[Any]:
            share = g if count is None else (g.to(dtype="float64") / count).to(dtype=g.dtype)
            return [share.reshape(kept).broadcast_to(shape)]

        return autograd.record(result, name, [self], back)

    def reshape(self, *shape: Any) -> Any:
        """The same values in the order of the axes, under another shape; -1 stands for what is left."""
        before = self.shape
        result = self.plain(self.numpy().reshape(*shape), device=self.device)
        if not autograd.needed(self):
            return result
        return autograd.record(result, "reshape", [self], lambda g: [g.reshape(before)])

    def transpose(self, *axes: Any) -> Any:
        """The axes in another order, reversed by default."""
        array = self.numpy()
        result = self.plain(array.transpose(*axes), device=self.device)
        if not autograd.needed(self):
            return result
        order = np.arange(self.ndim)[::-1] if axes in ((), (None,)) else np.array(axes).reshape(-1) % self.ndim
        return autograd.record(result, "transpose", [self], lambda g: [g.transpose(tuple(np.argsort(order)))])

    @property
    def T(self) -> Any:
        """The axes reversed."""
        return self.transpose()

    def broadcast_to(self, shape: Sequence[int]) -> Any:
        """The same values at every index along axes that are added or had length one, read-only."""
        result = self.plain(np.broadcast_to(self.numpy(), tuple(shape)), device=self.device)
        return autograd.record(result, "broadcast_to", [self], lambda g: [g]) if autograd.needed(self) else result

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[Any, int]:
        return self.numpy().__dlpack_device__()

    def __getitem__(self, index: Any) -> Any:
        index = tuple(map(_values, index)) if isinstance(index, tuple) else _values(index)
        result = self.plain(self.numpy()[index], device=self.device)
        if not autograd.needed(self):
            return result
        shape = self.shape
        return autograd.record(result, "getitem", [self], lambda g: [_scattered(g, index, shape)])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_node"}

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __repr__(self) -> str:
        return format_tensor(self)


class Parameter(Tensor):
    """A tensor that a module learns."""

    learned = True

    def __init__(self, data: object, dtype: DTypeLike | None = None, device: str | None = None) -> None:
        super().__init__(data, dtype, device)
        self._wants = self.dtype.is_floating_point and (self.dialect is None or self.dialect.rules.gradients)


Tensor.plain = Tensor
Array: TypeAlias = Tensor | npt.NDArray[Any]
ArrayT = TypeVar("ArrayT")


def _check_reduction(name: str, dtype: object, out: object) -> None:
    if dtype is not None or out is not None:
        raise TypeError(f"{name}: dtype and out: expected None, found something else")


def _axes(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axis is None else normalize_axis_tuple(axis, rank)


def _values(one: Any) -> Any:
    """The values of a tensor; whatever else it is, itself."""
    return one.numpy() if isinstance(one, Tensor) else one


def _write(where: str, out: Sequence[Any], into: Sequence[Any], compute: Callable[[], Any], recorded: bool) -> None:
    """Compute in place: into arrays, which are the values of what is there."""
    if recorded:
        raise RuntimeError(
            f"{where}: expected tensors that require no gradient, found one that does: what is computed in place "
            "cannot be recorded"
        )
    compute()
    for one, values in zip(out, into, strict=True):
        if isinstance(one, Tensor) and values is not one.array:
            one.copy_(Tensor(values))


_NOTHING = np.empty(0)
_LIKE = {np.empty_like, np.full_like, np.ones_like, np.zeros_like}  # whose result depends on no value


def _floats(result: Any) -> bool:
    """Whether there are arrays of real numbers in a result of NumPy."""
    if isinstance(result, (tuple, list)):
        return any(map(_floats, result))
    return isinstance(result, (np.ndarray, np.generic)) and dtype_name(result) in FLOATING


def _tensors(given: Any) -> Iterator[Tensor]:
    """The tensors in arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list, dict)):
        for one in given.values() if isinstance(given, dict) else given:
            yield from _tensors(one)


def _scattered(values: Tensor, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros to which ``values`` are added at an index."""
    array = np.zeros(shape, values.dtype.numpy)
    np.add.at(array, index, values.numpy())
    result = values.plain(array, device=values.device)
    return autograd.record(result, "scatter", [values], lambda g: [g[index]]) if autograd.needed(values) else result


def _array(data: object, integers: str) -> tuple[Any, str]:
    """The array behind ``data`` and its device."""
    if isinstance(data, Tensor):
        return data.array, data.device
    if isinstance(data, (np.ndarray, np.generic)):
        return _numeric(np.asarray(data), data), "cpu"
    found = foreign.read(data)
    if found is not None:
        return found.array, found.device
    array = _numeric(np.asarray(data), data)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    elif array.dtype == np.int64 and integers == "int32" and np.all(np.abs(array) < 2**31):
        array = array.astype(np.int32)
    return array, "cpu"


def _numeric(array: npt.NDArray[Any], data: object) -> npt.NDArray[Any]:
    """The array, if it is one of real numbers; bfloat16 is none to NumPy, and a mask would be lost."""
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(f"Tensor: data: expected an array, and its mask apart, found {type(data).__name__}")
    if array.dtype.kind not in REAL and array.dtype.name != "bfloat16":
        raise TypeError(f"Tensor: data: expected real numbers, found {type(data).__name__} of {array.dtype.name}")
    return array


_name = cache(lambda dtype: str(dtype.name))  # NumPy makes the name anew each time it is asked


def dtype_name(array: Any) -> str:
    """The element type of an array; 16-bit unsigned on a device is how bfloat16 travels."""
    name = _name(array.dtype)
    return "bfloat16" if name == "uint16" and not isinstance(array, np.ndarray) else name


def _moved(array: Any, dtype: str, device: str) -> Any:
    """A copy on a device, from wherever it is."""
    kind, index = devices.parse(device)
    host = _host(array, dtype)
    return host if kind == "cpu" else kernels.on("cuda").to_device(host, index)


def _host(array: Any, dtype: str) -> npt.NDArray[Any]:
    if isinstance(array, np.ndarray):
        return array
    values = kernels.on("cuda").to_host(array)
    return cast(npt.NDArray[Any], values.view(DType(dtype).numpy) if dtype == "bfloat16" else values)
