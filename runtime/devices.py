"""Where arrays live: "cpu", or "cuda" with a number."""

from __future__ import annotations

import re


def parse(device: str) -> tuple[str, int]:
    """Kind and number of a device: "cuda:1" is ("cuda", 1), "cpu" is ("cpu", 0).

    Raises
    ------
    ValueError
        There is no such kind of device.
    """
    match = re.fullmatch(r"(cpu|cuda|gpu)(?::(\d+))?", str(device).lower())
    if match is None:
        raise ValueError(f"device: expected 'cpu' or 'cuda', alone or with a number as in 'cuda:0', found {device!r}")
    kind, index = match.groups()
    return ("cuda" if kind == "gpu" else kind), int(index or 0)


def name(kind: str, index: int) -> str:
    """The inverse of ``parse``."""
    return kind if kind == "cpu" else f"{kind}:{index}"
