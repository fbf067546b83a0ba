"""How tensors print: NumPy lays out the data, the dialect frames it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import devices
from .dialect import TensorPrinting
from .errors import listed

if TYPE_CHECKING:
    from .tensor import Tensor

_EDGE = 3
_DECIMALS = 4


def format_tensor(tensor: Tensor) -> str:
    """The text that a tensor prints as in its dialect."""
    if tensor.dialect is None:
        return f"Tensor({tensor.numpy()!r}, device={tensor.device!r})"
    printing = tensor.dialect.printing
    style = printing.tensor
    nested = tensor.ndim > 1 and max(tensor.shape) > 1
    frame = style.nested if nested and style.nested else style.frame
    kind, index = devices.parse(tensor.device)
    device = printing.devices[kind].format(index=index)
    plain = tensor.dtype.name in style.plain_dtypes
    made = tensor.grad_fn is not None and "grad_fn" in style.extras
    default = {
        "device": kind == "cpu",
        "dtype": plain,
        "requires_grad": made or not tensor.requires_grad,
        "grad_fn": not made,
    }
    told = {
        "device": f"device={device!r}",
        "dtype": f"dtype={tensor.dtype!r}",
        "requires_grad": "requires_grad=True",
        "grad_fn": f"grad_fn={tensor.grad_fn!r}",
    }
    text = frame.format(
        data=_data(tensor.numpy(), style, frame.partition("{data}")[0].rpartition("\n")[2]),
        dtype=repr(tensor.dtype),
        device=device,
        shape=tensor.shape,
        size=listed(tensor.shape),
        extras="".join(f", {told[one]}" for one in style.extras if not default[one]),
    )
    return style.parameter.format(tensor=text) if tensor.learned else text


def _data(array: npt.NDArray[Any], style: TensorPrinting, prefix: str) -> str:
    if array.dtype.kind not in "biuf":
        array = array.astype(np.float32)  # bfloat16 is no float to NumPy
    write: Callable[[Any], str] = str if array.dtype.kind in "biu" else _fixed
    if style.numbers == "adaptive":
        write = _aligned(array, _adaptive(array) if array.dtype.kind == "f" else write)
    if not array.ndim:
        return write(array[()]).strip()
    return np.array2string(
        array,
        separator=", ",
        prefix=prefix,
        threshold=style.threshold,
        edgeitems=_EDGE,
        max_line_width=80,
        formatter={"all": write},
    )


def _fixed(value: Any) -> str:
    return f"{value:.{_DECIMALS}f}"


def _exponent(value: Any) -> str:
    return f"{value:.{_DECIMALS}e}"


def _whole(value: Any) -> str:
    return f"{value:.0f}."


def _adaptive(values: npt.NDArray[Any]) -> Callable[[Any], str]:
    """As torch chooses: whole numbers as ``1.``, exponents for a wide range, else four decimals."""
    finite = np.abs(values[np.isfinite(values) & (values != 0)]).astype(np.float64)
    high, low = (finite.max(), finite.min()) if finite.size else (0.0, 1.0)
    whole = bool(np.all(np.ceil(finite) == finite))
    wide = high > 1e8 or high > 1000.0 * low or (not whole and low < 1e-4)
    form = _exponent if wide else _whole if whole else _fixed

    return lambda value: form(value) if np.isfinite(value) else str(value)


def _aligned(values: npt.NDArray[Any], write: Callable[[Any], str]) -> Callable[[Any], str]:
    """All of one width, as torch pads them: that of the finite numbers that are not zero, or of any integers."""
    shown = values.ravel()[:1000]
    if values.dtype.kind == "f":
        shown = shown[np.isfinite(shown) & (shown != 0)]
    width = max((len(write(value)) for value in shown), default=0)
    return lambda value: write(value).rjust(width)
