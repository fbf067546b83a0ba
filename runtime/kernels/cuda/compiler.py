"""``compile_ptx`` of numba-cuda, whatever the version of NumPy.

What numba-cuda loads at the first compilation overloads ``numpy.row_stack``, which NumPy 2.5 has removed, and that will
not be repaired (https://github.com/NVIDIA/numba-cuda/issues/907). So it is loaded here, while there is such a function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda


def _row_stack(*_: Any) -> None:
    """No kernel of ours calls it."""


if not hasattr(np, "row_stack"):
    vars(np)["row_stack"] = _row_stack
    try:
        import numba.cuda.np.arrayobj  # noqa: F401
    finally:
        del vars(np)["row_stack"]

compile_ptx = cuda.compile_ptx
