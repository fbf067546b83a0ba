"""The results as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from normspec.cli.terminal import lines

from . import timing
from .machine import versions
from .measure import Result
from .peers import COPY, MEANINGS, OURS, PEERS
from .rows import MODES, TOLERANCE, Row

TIMED = (*OURS, COPY)
OTHERS = [name for name in MEANINGS if name not in TIMED]
SHORT = {"onnxruntime": "ORT", "onnxruntime out=": "ORT out="}
NUMBERS = [
    *(f"{name}, µs" for name in TIMED),
    *(f"{SHORT.get(name, name)} ÷" for name in OTHERS),
    "÷ copy",
    "out= ÷ copy",
]
HEADER = "|".join(["shape", "layout", "dtype", "MB", *NUMBERS])
BELOW = "mode|shape|layout|dtype|worst|÷ copy|out= ÷ copy|who is faster"
APART = 1.5  # ratios of medians and of shortest times that are both shown
RATIOS = "![Times over ours, for every row, and where a copy would be](bench.png)"
ROOFLINE = """## Roofline

Bytes that must move (x and y; backward x, dy and dx) over the shortest time, and a copy's. What lies above the line
writes past the cache, which the copy does not.

![Bandwidth against the size of x, for ours, torch and a copy](bench-roofline.png)"""
METHOD = (
    "All in one process, in turns of random order. A turn is a pause of {pause:.0f} ms (so that threads of the one "
    "before have gone to sleep), a call that is not counted (unless a call takes over {long:.0f} ms), then calls of "
    "one after the other for {turn:.0f} ms, at least one and at most {samples}; results are freed within the time. A "
    "candidate that has had its part of a row's time sits out, after {rounds} turns or {slow:g} seconds of them. A "
    "time is the median of the medians of the turns. A ratio is a candidate's time over ours; names that end in "
    "`out=` are compared with `ours out=`. Beside it in parentheses, where they are a factor of {apart} apart, is "
    "the ratio of the shortest times: a library whose threads wait for each other by spinning (torch's, on virtual "
    "machines) can take milliseconds for what takes it microseconds when it is lucky, and then a median says more of "
    "the machine than of its kernels. The plot and the list of rows below 1.0 go by the lower of both. Where all of "
    "a library's turns were such, neither tells: times that are multiples of 4 ms are a sign of it, and of a machine "
    "that others use. Ours is first held to NumPy in float64, every value, and not timed where it is wrong; of the "
    "others it is checked that they compute the same."
)


def method() -> str:
    """How it was measured."""
    return METHOD.format(
        pause=1e3 * timing.PAUSE,
        long=1e3 * timing.LONG,
        turn=1e3 * timing.TURN,
        samples=timing.SAMPLES,
        rounds=timing.ROUNDS,
        slow=timing.SLOW,
        apart=APART,
    )


def missing() -> dict[str, str]:
    """Libraries that are not here, and how to install them."""
    return {peer.name: peer.install for peer in PEERS if not peer.installed}


def data(results: Iterable[Result], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, as JSON has it; times in seconds."""
    return {
        "machine": dict(machine),
        "method": method(),
        "columns": MEANINGS,
        "missing": missing(),
        "rows": [entry(result) for result in results],
    }


def entry(result: Result) -> dict[str, Any]:
    """A row of it."""
    return {
        **result.row._asdict(),
        "bytes": result.row.size,
        "seconds": {name: times(one) for name, one in result.timings.items()},
        "ratios": result.ratios,
        "best": result.best,
        "over_copy": result.over_copy,
        "below": result.below,
        "errors": result.errors,
        "tolerance": TOLERANCE[result.row.dtype],
        "wrong": result.wrong,
    }


def times(one: timing.Timing) -> dict[str, Any]:
    """What is kept of one candidate's calls."""
    turns = [{"median": middle, "minimum": min(turn)} for middle, turn in zip(one.medians, one.turns, strict=True)]
    return {"median": one.median, "minimum": one.minimum, "samples": one.samples, "turns": turns}


def page(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """The tables, and what is in them."""
    plot = [RATIOS, ROOFLINE] if any(result.timings for result in results) else []
    parts = ["# Performance", *where(machine), method(), explained(MEANINGS), *tables(results)]
    return "\n\n".join([*parts, below(results), *wrong(results), *plot]) + "\n"


def where(machine: Mapping[str, Any]) -> Iterator[str]:
    """The machine, and what was missing on it."""
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, Python "
        f"{machine['python']}; {versions(machine)}. {machine['date']}, `{machine['command']}`, "
        f"{machine['seconds']:.0f} s; load {machine['load_before']} before and {machine['load_after']} after."
    )
    for name, install in missing().items():
        yield f"Not measured: {name} is not installed ({install})."


def explained(words: Mapping[str, str]) -> str:
    """A line for every word of a table."""
    return "\n".join(f"- **{word}**: {meaning}" for word, meaning in words.items())


def tables(results: Sequence[Result]) -> Iterator[str]:
    """One for each mode."""
    for mode in MODES:
        chosen = [result for result in results if result.row.mode == mode and result.timings]
        if chosen:
            yield f"## {mode.capitalize()}"
            yield "\n".join(lines(HEADER, map(line, chosen)))


def line(result: Result) -> list[str]:
    """A row's cells; – for what was not measured."""
    times = [microseconds(result.timings[name].median) for name in TIMED]
    ratios = [both(result, name) for name in OTHERS]
    return [*place(result.row), f"{result.row.size / 1e6:.2f}", *times, *ratios, *map(cell, result.over_copy.values())]


def microseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{1e6 * seconds:.{1 if seconds < 1e-4 else 0}f}"


def place(row: Row) -> list[str]:
    """Which row it is."""
    return ["×".join(map(str, row.shape)), row.layout.split()[1] if len(row.shape) > 2 else "–", row.dtype]


def cell(ratio: float | None) -> str:
    """A ratio, if there is one."""
    return "–" if ratio is None else f"{ratio:.2f}"


def both(result: Result, name: str) -> str:
    """The ratio of the medians, and that of the shortest times if it is another matter."""
    return pair(result.ratios[name], result.best[name]) if name in result.ratios else cell(None)


def pair(ratio: float, best: float) -> str:
    """A ratio of medians, and beside it that of the shortest times if they are far apart."""
    return cell(ratio) if max(ratio, best) < APART * min(ratio, best) else f"{cell(ratio)} ({cell(best)})"


def below(results: Iterable[Result]) -> str:
    """The rows where somebody is faster than ours, worst first, and how far ours is from a copy."""
    found = sorted((result for result in results if result.below), key=lambda one: min(one.below.values()))
    rows = map(behind, found)
    return "\n".join(["## Below 1.0", "", *(lines(BELOW, rows) if found else ["No row."])])


def behind(result: Result) -> list[str]:
    """A line of that table."""
    faster = ", ".join(f"{name} {cell(ratio)}" for name, ratio in result.below.items())
    return [
        result.row.mode,
        *place(result.row),
        cell(min(result.below.values())),
        *map(cell, result.over_copy.values()),
        faster,
    ]


def wrong(results: Iterable[Result]) -> Iterator[str]:
    """Who was not timed, for a wrong result."""
    for result in results:
        for name in result.wrong:
            yield f"WRONG, not timed: {name}, {result.row}: error {result.errors[name]:.1e}."
