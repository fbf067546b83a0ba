"""The roofline of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..peers import COPY
from ..roofline import Point
from ..roofline import draw as draw_roofline
from .measure import Result
from .peers import KERNELS, OURS

INK = {OURS: "#1b6ca8", KERNELS: "#0b3d62", "torch": "#d1495b", "cuDNN": "#66923c", "compile": "#8d6a9f"}


def draw(results: Sequence[Result], path: Path) -> None:
    """A panel for each dtype and mode that there is."""
    found = [
        Point(one.row.dtype, one.row.mode, one.row.layout, name, one.row.size, one.bandwidth(name))
        for one in results
        if COPY in one.timings
        for name in one.timings
    ]
    draw_roofline(found, path, INK)
