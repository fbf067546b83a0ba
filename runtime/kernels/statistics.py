"""The one way in which statistics are put together: blocks, tasks, ranks and chunks all go through ``merge``."""

from __future__ import annotations

from typing import Any


def merge(count_a: Any, mean_a: Any, m2_a: Any, count_b: Any, mean_b: Any, m2_b: Any) -> tuple[Any, Any, Any]:
    """Count, mean and M2 of two samples together; either may be empty, not both.

    Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983, eq. 2.1. Works on scalars inside
    numba kernels (CPU and CUDA compile this very function) and on arrays of per-feature values outside them.
    """
    count = count_a + count_b
    delta = mean_b - mean_a
    share = count_b / count
    return count, mean_a + delta * share, m2_a + m2_b + delta * delta * (count_a * share)
