"""Where a measurement was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normspec.cli.doctor import version

PACKAGES = ("normspec", "numpy", "numba", "ml_dtypes", "torch", "onnxruntime", "jax", "jaxlib")


def describe() -> dict[str, Any]:
    """The processor, its cores, the system, and the versions of what is measured."""
    return {
        "cpu": processor(),
        "cores": cores(),
        "memory_gib": memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
    }


def versions(told: Mapping[str, Any]) -> str:
    """Those of a description, in a line."""
    return ", ".join(f"{name} {version}" for name, version in told["versions"].items())


def processor() -> str:
    """Its name, as Linux tells it or else as Python does."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> float | None:
    """Gibibytes in all, where the system says so."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def load() -> float | None:
    """Processes that ran or wanted to, in the last minute's mean, this one included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
