"""What the byte counts promise on an H200, unmeasured: ``python -m normspec.benchmarks.gpu.predict`` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from normspec.cli.terminal import lines

from ..report import place
from ..rows import Row, combinations
from .warm import programs

H200 = {"capability": (9, 0), "multiprocessors": 132, "clusters": 16}
BANDWIDTH = 4.3e12  # bytes a second of a copy, guessed from the 4.8 of the data sheet
SHAPES = (
    (32, 64, 112, 112), (32, 256, 56, 56), (32, 512, 28, 28), (32, 1024, 14, 14), (32, 2048, 7, 7), (256, 64, 112, 112),
    (256, 256, 56, 56), (256, 1024, 14, 14), (256, 2048, 7, 7), (8, 32, 512, 512), (4, 64, 32, 64, 64), (4096, 1024),
)  # fmt: skip
# Times the bytes of x, of kernels that keep it on chip, and of others.
PASSES = {"training": (2, 3), "backward": (3, 5)}
HEADER = "shape|layout|dtype|MB|forward|µs|3T, µs|backward|µs|5T, µs"


def table() -> str:
    """The kernels that the rule takes, and the time that their bytes take."""
    return "\n".join(lines(HEADER, cells()))


def cells() -> Iterator[list[str]]:
    """The rows of the table."""
    for row in combinations(SHAPES, ("float32", "float16")):
        if row.mode == "training":
            parts = [part for mode in PASSES for part in prediction(row._replace(mode=mode))]
            yield [*place(row), f"{row.size / 1e6:.1f}", *parts]


def prediction(row: Row) -> list[str]:
    """The kernel with its blocks a cluster, its time, and that of kernels that keep nothing on chip."""
    found = [one for one in programs([row], H200) if ("backward" in one.name) == (row.mode == "backward")]
    least, most = PASSES[row.mode]
    for kernel in ("planes", "resident"):
        for one in found:
            if kernel in one.name:
                return [f"{kernel}, {one.cluster}", time(row, least), time(row, most)]
    return ["split", time(row, most), time(row, most)]


def time(row: Row, passes: int) -> str:
    """Microseconds for so many times the bytes of x."""
    return f"{1e6 * passes * row.size / BANDWIDTH:.1f}"


if __name__ == "__main__":
    print(table())
