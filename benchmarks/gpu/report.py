"""What was measured on a GPU, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from normspec.cli.terminal import lines

from ..machine import versions
from ..peers import COPY
from ..report import cell, explained, microseconds, place, times
from ..rows import MODES, TOLERANCE
from .measure import CALLS, TURN, Result
from .peers import KERNELS, MEANINGS, OURS

PEERS = [name for name in MEANINGS if name not in (OURS, KERNELS, COPY)]
HEADER = "|".join(
    [
        "shape", "layout", "dtype", "MB", "ours, µs", "kernels, µs", "GB/s", "% of copy",
        *(f"{name} ÷" for name in PEERS), "best peer ÷", "host, µs", "kernels' host", "best peer's host",
    ]
)  # fmt: skip
LARGE = 8e6  # bytes of x, from where on the ceiling is a goal
METHOD = (
    "Data are fresh normal numbers (seed {seed}). Every candidate is first held to torch in float64 on the GPU, every "
    "value; who is wrong is not timed. Then all take turns of random order in one process. A turn queues a call that "
    "is not counted, waits, and queues calls for {turn:.0f} ms, at least 3 and at most {calls}, between two events of "
    "CUDA; a call takes other buffers than the one before, as many as exceed the GPU's cache four times (64 at most). "
    "A time is the median of the turns; where the host is slower than the GPU it is the host's. GB/s are the bytes "
    "that must move (x and y, in the backward pass x, dy and dx) over the time; % of copy is that over the bandwidth "
    "of `y.copy_(x)` of the same buffers in the same row. ÷ is a time over ours. Host time is that of queueing a call."
)


def data(results: Iterable[Result], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, as JSON has it; times in seconds, bandwidths in bytes a second."""
    return {"machine": dict(machine), "method": method(machine), "columns": MEANINGS, "rows": list(map(entry, results))}


def method(machine: Mapping[str, Any]) -> str:
    """How it was measured."""
    return METHOD.format(seed=machine["seed"], turn=1e3 * TURN, calls=CALLS)


def entry(result: Result) -> dict[str, Any]:
    """A row of it."""
    copied = COPY in result.timings
    return {
        **result.row._asdict(),
        "bytes": result.bytes,
        "seconds": {name: times(one) for name, one in result.timings.items()},
        "host": {name: one.host_median for name, one in result.timings.items() if one.host},
        "bandwidth": {name: result.bandwidth(name) for name in result.timings},
        "share": {name: result.share(name) for name in result.timings if copied},
        "peers": result.peers,
        "errors": result.errors,
        "tolerance": TOLERANCE[result.row.dtype],
        "wrong": result.wrong,
        "failed": result.failed,
        "traces": result.traces,
    }


def page(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """The tables, and what is in them."""
    timed = [result for result in results if result.timings]
    plot = ["![Roofline](bench-gpu.png)"] if timed else []
    parts = ["# Performance on a GPU", where(machine), method(machine), explained(MEANINGS)]
    parts += [*summary(timed), *tables(timed)]
    return "\n\n".join([*parts, *troubles(results), *traces(results), *plot]) + "\n"


def where(machine: Mapping[str, Any]) -> str:
    """The machine."""
    return (
        f"{machine['gpu']}, {machine['system']}, Python {machine['python']}; {versions(machine)}. {machine['date']}, "
        f"`{machine['command']}`, {machine['seconds']:.0f} s, {machine['rows']} of {machine['wanted']} rows."
    )


def summary(timed: Sequence[Result]) -> Iterator[str]:
    """How far the goals are reached."""
    own = [result for result in timed if result.peers or own_share(result) is not None]
    if not own:
        return
    ceiling = max(result.bandwidth(COPY) for result in timed if COPY in result.timings)
    large = [share for result in own if result.row.size > LARGE and (share := own_share(result)) is not None]
    slower = [result for result in own if result.best_peer is not None and result.best_peer < 1]
    yield f"- The fastest copy: {ceiling / 1e9:.0f} GB/s."
    if large:
        reached = f"{sum(share >= 0.9 for share in large)} of {len(large)}; the least has {100 * min(large):.0f} %"
        yield f"- Rows of over {LARGE / 1e6:.0f} MB at 90 % of a copy or more: {reached}."
    yield f"- Rows where a peer is faster: {len(slower)} of {len(own)}."


def own_share(result: Result) -> float | None:
    """Our part of a copy's bandwidth."""
    name = next((name for name in (KERNELS, OURS) if name in result.timings), None)
    return None if name is None or COPY not in result.timings else result.share(name)


def tables(timed: Sequence[Result]) -> Iterator[str]:
    """One for each mode."""
    for mode in MODES:
        chosen = [result for result in timed if result.row.mode == mode]
        if chosen:
            yield f"## {mode.capitalize()}"
            yield "\n".join(lines(HEADER, map(line, chosen)))


def line(result: Result) -> list[str]:
    """A row's cells; – for what was not measured."""
    share = own_share(result)
    name = KERNELS if KERNELS in result.timings else OURS
    bandwidth = f"{result.bandwidth(name) / 1e9:.0f}" if name in result.timings else "–"
    best = min(result.peers, key=lambda one: result.peers[one], default="")
    return [
        *place(result.row),
        f"{result.row.size / 1e6:.2f}",
        *(_time(result, one) for one in (OURS, KERNELS)),
        bandwidth,
        "–" if share is None else f"{100 * share:.0f}",
        *(cell(result.peers.get(peer)) for peer in PEERS),
        cell(result.best_peer),
        *(_host(result, one) for one in (OURS, KERNELS, best)),
    ]


def _time(result: Result, name: str) -> str:
    return microseconds(result.timings[name].median) if name in result.timings else "–"


def _host(result: Result, name: str) -> str:
    timing = result.timings.get(name)
    return "–" if timing is None or not timing.host else microseconds(timing.host_median)


def troubles(results: Iterable[Result]) -> Iterator[str]:
    """Who was wrong, and who failed why."""
    for result in results:
        for name in result.wrong:
            yield f"WRONG, not timed: {name}, {result.row}: error {result.errors[name]:.1e}."
        for name, why in result.failed.items():
            yield f"Failed: {name}, {result.row}: {why}"


def traces(results: Iterable[Result]) -> Iterator[str]:
    """Where who failed, each place once."""
    found = dict.fromkeys(trace for result in results for trace in result.traces.values())
    if found:
        yield "## Tracebacks"
    yield from (f"```text\n{trace.rstrip()}\n```" for trace in found)
