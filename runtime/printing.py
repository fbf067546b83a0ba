"""How tensors print: NumPy lays out the data, the dialect frames it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from . import devices
from .dialect import TensorPrinting
from .errors import listed

if TYPE_CHECKING:
    from .tensor import Tensor

_EDGE = 3
_DECIMALS = 4
_COLUMNS = 80


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
    lead = frame.partition("{data}")[0].rpartition("\n")[2]
    data = _data(tensor.numpy(), style, lead)
    text = frame.format(
        data=data,
        dtype=repr(tensor.dtype),
        device=device,
        shape=tensor.shape,
        size=listed(tensor.shape),
        extras=_extras([told[one] for one in style.extras if not default[one]], style, lead, data),
    )
    return style.parameter.format(tensor=text) if tensor.learned else text


def _extras(told: list[str], style: TensorPrinting, lead: str, data: str) -> str:
    """What follows the data; in columns, on a line of its own where it does not fit."""
    text, end = "", len((lead + data).rpartition("\n")[2]) + 2
    for one in told:
        fits = style.lines == "text" or end + len(one) + 2 <= _COLUMNS
        text += f", {one}" if fits else f",\n{' ' * len(lead)}{one}"
        end = (end + 2 if fits else len(lead)) + len(one)
    return text


def _data(array: npt.NDArray[Any], style: TensorPrinting, lead: str) -> str:
    if array.dtype.kind not in "biuf":
        array = array.astype(np.float32)  # bfloat16 is no float to NumPy
    write: Callable[[Any], str] = str if array.dtype.kind in "biu" else _fixed
    width = 0
    if style.numbers == "adaptive":
        shown = _shown(array, style.threshold)
        write = _adaptive(shown) if array.dtype.kind == "f" else write
        width = _width(shown, write)

    def aligned(value: Any) -> str:
        return write(value).rjust(width)

    if not array.ndim:
        return write(array[()])
    if style.lines == "columns" and array.size:
        return _columns(array, aligned, width, len(lead), array.size > style.threshold)
    return np.array2string(
        array,
        separator=", ",
        prefix=lead,
        threshold=style.threshold,
        edgeitems=_EDGE,
        max_line_width=_COLUMNS,
        formatter={"all": aligned},
    )


def _columns(array: npt.NDArray[Any], write: Callable[[Any], str], width: int, indent: int, ends: bool) -> str:
    """As torch lays out numbers: as many in each line as fit, if all have this width; of long axes only the ends."""
    cut = ends and len(array) > 2 * _EDGE
    values = [*array[:_EDGE], *array[-_EDGE:]] if cut else array
    if array.ndim > 1:
        lines = [_columns(one, write, width, indent + 1, ends) for one in values]
    else:
        lines = [write(one) for one in values]
    if cut:
        lines.insert(_EDGE, "..." if array.ndim > 1 else " ...")
    if array.ndim == 1:
        each = max(1, (_COLUMNS - indent) // (width + len(", ")))
        lines = [", ".join(lines[start : start + each]) for start in range(0, len(lines), each)]
    between = "," + "\n" * max(1, array.ndim - 1) + " " * (indent + 1)
    return f"[{between.join(lines)}]"


def _shown(array: npt.NDArray[Any], threshold: int) -> npt.NDArray[Any]:
    """What is printed: of more elements than the threshold those at the ends of each axis."""
    if array.size <= threshold:
        return array
    ends = (np.r_[:_EDGE, size - _EDGE : size] if size > 2 * _EDGE else np.arange(size) for size in array.shape)
    return cast("npt.NDArray[Any]", array[np.ix_(*ends)])


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


def _width(values: npt.NDArray[Any], write: Callable[[Any], str]) -> int:
    """To which torch pads all: that of the finite numbers that are not zero, or of any integers."""
    values = values.ravel()
    if values.dtype.kind == "f":
        values = values[np.isfinite(values) & (values != 0)]
    return max((len(write(value)) for value in values), default=1)
