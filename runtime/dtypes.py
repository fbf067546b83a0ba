"""Element types: a name, a NumPy dtype, and the way a dialect prints it."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, TypeAlias, TypeVar, Union, cast

import numpy as np

from .dialect import Dialect

DTypeT = TypeVar("DTypeT", bound="DType")
DTypeLike: TypeAlias = Union["DType", str, "np.dtype[Any]", type]

FLOATING = ("float16", "bfloat16", "float32", "float64")
HALF = ("float16", "bfloat16")
REAL = "biuf"  # NumPy's kinds; bfloat16 is of none of them


class DType:
    """An element type.

    Two element types are equal if their names are, whatever their dialects; so is the NumPy dtype of that name.

    Parameters
    ----------
    name : str
        NumPy's name of it; "bfloat16" is that of ``ml_dtypes``.
    """

    dialect: ClassVar[Dialect | None] = None

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def of(cls: type[DTypeT], value: DTypeLike) -> DTypeT:
        """The element type that a name, a NumPy dtype or an element type of any dialect stands for.

        Raises
        ------
        TypeError
            It stands for no element type.
        """
        if isinstance(value, DType):
            return cls(value.name)
        name = cls.named(value) if isinstance(value, str) else _read(value)
        if name is None:
            raise TypeError(f"dtype: expected an element type such as 'float32', found {value!r}")
        return cls(name)

    @classmethod
    def named(cls, text: str) -> str | None:
        """The name that a text stands for: any text of NumPy's, or in a dialect a whole name or one of its aliases."""
        if cls.dialect is None:
            return _read(text)
        known = text.lower() if cls.dialect.rules.dtype_names == "any_case" else text
        known = cls.dialect.aliases.get(known, known)
        return known if _read(known) == known else None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return _numpy(self.name)

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.numpy.itemsize

    @property
    def is_floating_point(self) -> bool:
        """Whether it is one of float16, bfloat16, float32 and float64."""
        return self.name in FLOATING

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (DType, np.dtype)):
            return self.name == other.name
        if isinstance(other, type) and issubclass(other, np.generic):
            return self.name == np.dtype(other).name
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.dialect.printing.dtype.format(name=self.name) if self.dialect else self.name


def _read(value: DTypeLike) -> str | None:
    """The name of what NumPy takes for an element type of real numbers."""
    if isinstance(value, str) and value == "bfloat16":
        return value
    try:
        found: np.dtype[Any] = np.dtype(cast(Any, value))
    except (TypeError, ValueError):
        return None
    return found.name if found.kind in REAL or found.name == "bfloat16" else None


@cache
def _numpy(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError('bfloat16 needs ml_dtypes: pip install "normspec[bfloat16]"') from None
    return cast("np.dtype[Any]", np.dtype(ml_dtypes.bfloat16))


def at_least_float32(name: str) -> str:
    """The name of the narrowest of float32 and float64 that holds an element type."""
    return "float64" if name == "float64" else "float32"
