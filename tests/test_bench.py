"""The benchmark: turns are fair, medians medians, ratios are of the times beside them, a wrong result is refused."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter

import matplotlib.image
import numpy as np
import pytest

from normspec.benchmarks import main, measure, peers, publish, report, roofline, rows, scaling, timing, training
from suite import ROOT


class Fake:
    """A clock that nobody waits for, and calls that take what they are said to."""

    def __init__(self, **durations):
        self.time = 0.0
        self.log = []
        self.clock = timing.Clock(lambda: self.time, self.sleep)
        self.calls = {name: lambda name=name, take=take: self.call(name, take) for name, take in durations.items()}

    def sleep(self, seconds):
        self.time += seconds
        self.log.append("pause")

    def call(self, name, take):
        self.time += take() if callable(take) else take
        self.log.append(name)

    def run(self, seconds):
        return timing.interleave(self.calls, seconds, random.Random(1), self.clock)

    def turns(self):
        """The candidates after each pause, in order."""
        return [self.log[i + 1] for i, name in enumerate(self.log) if name == "pause"]


def test_turns_are_interleaved_in_random_order():
    fake = Fake(a=0.02, b=0.02, c=0.02)
    timings = fake.run(seconds=3)
    turns = fake.turns()
    rounds = [tuple(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
    assert list(timings) == ["a", "b", "c"]
    assert {len(one.turns) for one in timings.values()} == {len(rounds)}


def test_a_turn_is_a_pause_a_warm_call_and_samples():
    fake = Fake(a=0.004)
    timings = fake.run(seconds=0.2)
    assert fake.log[:5] == ["pause", *["a"] * 4]  # 3 × 4 ms are over 10 ms
    assert all(turn == pytest.approx([0.004] * 3) for turn in timings["a"].turns)


def test_short_calls_are_limited_and_long_ones_begin_cold():
    assert {len(turn) for turn in Fake(a=1e-6).run(0.2)["a"].turns} == {timing.SAMPLES}
    long = Fake(a=0.11)
    long.run(0)
    assert long.log == ["pause", "a"] * timing.ROUNDS


@pytest.mark.parametrize("alike", [True, False])
def test_ours_are_each_held_to_numpy_even_if_they_are_alike(alike):
    one = rows.batch(rows.Row("training", (4, 3, 5), "float32", "channels last"))
    y = one.expected(slice(None)).astype(np.float32)
    bad, worse = y.copy(), y.copy()
    bad[0, 0, 0] += 1
    worse[0, 0, 0] += 1 if alike else 2
    errors = measure._errors_of_ours(one, {"ours": bad, "ours out=": worse})
    assert errors == one.errors({"ours": bad}) | one.errors({"ours out=": worse})
    assert (errors["ours"] == errors["ours out="]) == alike


def test_a_call_that_takes_very_long_has_one_turn():
    fake = Fake(a=0.01, long=0.3)
    assert [len(one.turns) for one in fake.run(0).values()] == [timing.ROUNDS, 1]


def test_rows_have_their_least_time_however_long_those_before_took(monkeypatch):
    now = 0.0
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)

    def slow(row, end):
        nonlocal now
        left, now = end - now, now + 100
        return left

    some = [rows.Row("training", (1 << 20 * (2 - one), 1), "float32", "channels first") for one in range(3)]
    first, *others = measure.every(some, slow, 10, lambda text: None, 0.5)
    assert first > 5
    assert others == [0.5, 0.5]


def test_the_time_is_kept_but_for_three_rounds():
    fake = Fake(a=0.01, b=0.01)
    fake.run(seconds=2)
    assert 2 <= fake.time < 2.2
    assert {len(one.turns) for one in Fake(a=0.01, b=0.01).run(seconds=0).values()} == {timing.ROUNDS}


def test_a_slow_one_sits_out():
    timings = Fake(slow=0.3, quick=0.02).run(seconds=4)
    assert timings["slow"].total == pytest.approx(2, abs=0.4)
    assert len(timings["quick"].turns) > 1.5 * len(timings["slow"].turns)


def test_a_burst_of_noise_is_no_median():
    """One turn of a thousand quick calls does not outweigh the others, nor one slow call a turn."""
    one = timing.Timing([[1.0] * 1000, [3.0, 3.0, 90.0], [4.0, 2.0]])
    assert one.medians == [1.0, 3.0, 3.0]
    assert (one.median, one.minimum, one.samples, one.total) == (3.0, 1.0, 1005, 1102.0)


def test_microseconds_have_three_digits_or_more():
    assert [report.microseconds(one) for one in (1.234e-6, 5.678e-5, 1.5e-4, 0.25)] == ["1.2", "56.8", "150", "250000"]


def result(**seconds):
    row = rows.Row("training", (4, 3), "float32", "channels first")
    return measure.Result(row, {}, [], {name: timing.Timing([[one]]) for name, one in seconds.items()})


def test_a_median_of_waiting_threads_does_not_hide_who_is_faster():
    one = result(**{"ours": 2.0, "ours out=": 1.0, "torch": 900.0, "copy": 0.25})
    one.timings["torch"].turns.append([1.0])
    one.timings["torch"].turns.append([800.0])
    assert (one.ratios, one.best, one.below) == ({"torch": 400.0}, {"torch": 0.5}, {"torch": 0.5})
    assert report.both(one, "torch") == "400.00 (0.50)"
    assert report.both(one, "jax") == "–"


def test_given_memory_is_compared_with_given_memory():
    one = result(**{"ours": 2.0, "ours out=": 1.0, "torch": 6.0, "torch out=": 0.5, "copy": 0.25})
    assert one.ratios == {"torch": 3.0, "torch out=": 0.5}
    assert one.over_copy == {"ours": 8.0, "ours out=": 4.0}
    assert one.below == {"torch out=": 0.5}
    assert "| training | 4×3 | – | float32 | 0.50 | 8.00 | 4.00 | torch out= 0.50 |" in " ".join(
        report.below([one]).split()
    )
    assert "No row." in report.below([result(**{"ours": 2.0, "ours out=": 1.0, "torch": 6.0, "copy": 1.0})])


@pytest.mark.parametrize("mode", rows.MODES)
@pytest.mark.parametrize("layout", rows.LAYOUTS)
@pytest.mark.parametrize("dtype", rows.DTYPES)
def test_everyone_here_computes_the_same(mode, layout, dtype):
    batch = rows.batch(rows.Row(mode, (4, 6, 5, 3), dtype, layout))
    found = [*peers.ours(batch), *peers.numpy(batch)]
    assert {one.name for one in found} == {*peers.OURS, "numpy"}
    for name, error in measure.check(batch, found).items():
        assert batch.row.right(error), name
    copy = peers.copy(batch)
    np.testing.assert_array_equal(copy.array(copy.call()).view(batch.x.dtype), batch.memory.ravel())


def test_an_error_anywhere_is_seen():
    batch = rows.batch(rows.Row("training", (8, 5, 3), "float64", "channels last"))
    y = batch.expected(slice(None))
    assert batch.errors({"y": y}) == {"y": 0}
    for wrong in (y[7, 4, 2] + 1e-9 * (1 + abs(y[7, 4, 2])), np.nan):
        bad = y.copy()
        bad[7, 4, 2] = wrong
        assert not batch.row.right(batch.errors({"y": y, "bad": bad})["bad"])


def test_a_wrong_result_of_ours_is_not_timed(monkeypatch, capsys, tmp_path):
    arguments = ["--shape", "4,3", "--dtype", "float32", "--seconds", "0", "--output", str(tmp_path)]
    monkeypatch.setattr("normspec.benchmarks.PEERS", ())
    assert main(arguments) == 0
    monkeypatch.setattr(peers.functional, "batch_norm", lambda x, *_: x)
    assert main(arguments) == 1
    assert "WRONG, not timed: ours, training, float32, channels first, (4, 3)" in capsys.readouterr().out
    timed = {one["mode"]: bool(one["seconds"]) for one in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    assert timed == {"training": False, "evaluation": False, "backward": True}


def test_rows_are_all_combinations():
    found = list(rows.combinations(rows.SHAPES, rows.DTYPES))
    assert len(found) == len(set(found)) == 3 * 4 * (9 * 2 + 3)
    assert Counter(one.layout for one in found) == {"channels first": 144, "channels last": 108}


@pytest.mark.parametrize(
    ("given", "said"), [("4", "at least two sizes"), ("4,0", "of one or more"), ("a,b", "invalid")]
)
def test_a_shape_that_is_none_is_refused(given, said, capsys):
    with pytest.raises(SystemExit):
        main(["--shape", given])
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Run once, in a process of its own, for what is measured brings threads and warnings along."""
    folder = tmp_path_factory.mktemp("bench") / "out"
    command = [sys.executable, "-m", "normspec.cli.main", "bench", "--quick", "--seconds", "2", "--output", str(folder)]
    chosen = ["--shape", "8,16,8,8"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # or torch's threads wait for each other where others work, too
    done = subprocess.run([*command, *chosen], capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, json.loads((folder / "bench.json").read_text(encoding="utf-8"))


def test_the_numbers_have_their_circumstances(quick):
    _, printed, data = quick
    assert data["machine"]["cores"] >= 1
    assert data["machine"]["cpu"]
    assert data["machine"]["versions"]["numpy"] == np.__version__
    assert "bench --quick --seconds 2" in data["machine"]["command"]
    assert "25 ms" in data["method"]
    here = {name for name in ("torch", "jax") if importlib.util.find_spec(name)}
    assert not here & set(data["missing"])
    for name in data["missing"]:
        assert f"Not measured: {name} is not installed (pip install " in printed
    assert {name for row in data["rows"] for name in row["seconds"]} >= {*peers.OURS, "numpy", "copy", *here}
    assert {name for row in data["rows"] for name in row["seconds"]} <= set(data["columns"])


def test_the_ratios_are_those_of_the_times(quick):
    _, _, data = quick
    assert [(row["mode"], row["shape"], row["layout"]) for row in data["rows"]] == [
        (mode, [8, 16, 8, 8], layout) for layout in rows.LAYOUTS for mode in rows.MODES
    ]
    for row in data["rows"]:
        seconds = row["seconds"]
        for one in seconds.values():
            assert len(one["turns"]) >= timing.ROUNDS
            assert one["samples"] >= len(one["turns"])
            assert one["median"] == statistics.median(turn["median"] for turn in one["turns"])
            assert 0 < one["minimum"] == min(turn["minimum"] for turn in one["turns"]) <= one["median"] < 1
        for name, ratio in row["ratios"].items():
            own = "ours out=" if "out=" in name else "ours"
            assert ratio == pytest.approx(seconds[name]["median"] / seconds[own]["median"])
            assert row["best"][name] == pytest.approx(seconds[name]["minimum"] / seconds[own]["minimum"])
        assert set(row["ratios"]) == set(seconds) - {"ours", "ours out=", "copy"}
        least = {name: min(ratio, row["best"][name]) for name, ratio in row["ratios"].items()}
        assert row["below"] == {name: ratio for name, ratio in least.items() if ratio < 1}
        assert all(row["errors"][name] <= row["tolerance"] for name in peers.OURS)


def test_the_table_and_the_plot_are_of_these_numbers(quick):
    folder, printed, data = quick
    page = (folder / "bench.md").read_text(encoding="utf-8")
    assert page in printed
    for row in data["rows"]:
        shape = "×".join(map(str, row["shape"]))
        lines = page.partition(f"## {row['mode'].capitalize()}")[2].splitlines()
        layout = row["layout"].split()[1]
        line = next(line for line in lines if shape in line and f" {layout} " in line)
        assert f" {report.microseconds(row['seconds']['ours']['median'])} " in line
    assert "## Below 1.0" in page
    assert "](bench.png)" in page
    pixels = matplotlib.image.imread(folder / "bench.png")
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.02


needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install torch==2.13.0"
)


@needs_torch
def test_training_inside_torch_is_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "BLOCKS", ((2, 4, 3, 3),))
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    assert training.main(["--quick", "--seconds", "0", "--output", str(tmp_path)]) == 0
    page, data = (tmp_path / f"bench-training.{one}" for one in ("md", "json"))
    assert page.read_text(encoding="utf-8").strip() in capsys.readouterr().out
    found = json.loads(data.read_text(encoding="utf-8"))["rows"]
    assert [one["what"] for one in found] == ["block", "layer"] * 2 + ["step", "training", "evaluation"]
    for one in found:
        names = {"torch", "ours"} | ({"NumPy", "kernel"} if one["what"] in ("training", "evaluation") else set())
        assert set(one["seconds"]) == names
        assert all(0 < each["minimum"] <= each["median"] for each in one["seconds"].values())


@needs_torch
def test_what_trains_another_way_is_not_timed(monkeypatch):
    monkeypatch.setattr(training, "both", lambda model: {"torch": model, "ours": type(model)(4, eps=1.0)})
    with pytest.raises(RuntimeError, match="differ by"):
        training.steps((8, 4), "channels first")


def test_ratios_are_of_medians_and_of_the_shortest_times():
    row = training.Row("step", (2, 3), "channels first", training.steps)
    calm, spinning = timing.Timing([[2.0, 2.0]]), timing.Timing([[1.0, 9.0, 9.0]])
    assert training.Result(row, {"torch": spinning, "ours": calm}).over("torch", "ours") == "4.50 (0.50)"
    assert training.Result(row, {"torch": calm}).over("torch", "ours") == "–"


def test_scaling_grows_one_axis_at_a_time(tmp_path):
    for axis, position in {"N": 0, "C": 1, "HW": 2}.items():
        shapes = [scaling.GROWING[axis](10**power) for power in range(2, 9)]
        assert [math.prod(shape) for shape in shapes] == [one[position] * 64 for one in shapes]
        assert all(0.6 * 10**power < math.prod(shape) <= 10**power for power, shape in enumerate(shapes, 2))
    assert all(shape_of(1) == (1, 1, 1) for shape_of in scaling.GROWING.values())
    assert scaling.main(tmp_path, decades=4) == 0
    points = json.loads((tmp_path / "scaling.json").read_text())["points"]
    assert len(points) == 4 * 3 * len(rows.MODES)
    assert all(point["seconds"] > 0 for point in points)
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    for axis in scaling.GROWING:
        chosen = [one for one in points if (one["axis"], one["mode"]) == (axis, "training")]
        line = next(line for line in page.splitlines() if re.match(rf"\| {axis} +\| training", line))
        assert f" {report.microseconds(chosen[2]['seconds'])} " in line
        assert f" {chosen[3]['seconds'] / chosen[2]['seconds']:.1f} |" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process's largest size")
def test_memory_grows_with_the_channels_alone():
    """In a process of its own, for the largest size that it ever had is what is told."""
    code = "from normspec.benchmarks import scaling; print(max(one.grown for one in scaling.measured(8, [{!r}])))"
    found = {}
    for axis in ("HW", "C"):
        done = subprocess.run([sys.executable, "-c", code.format(axis)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[axis] = int(done.stdout)
    assert found["HW"] < 16 * 2**20  # x has 40 MB
    assert found["C"] < 16 * 2**20 + 150 * 10**7 // scaling.PART  # bytes a channel, vectors included


def run_in(folder):
    """What a bench would have written: numbers of one row, and pages with pictures."""
    for name in publish.PLACES:
        (folder / f"{name}.md").write_text(f"# A title\n\nmeasured by {name}\n\n![A plot]({name}.png)\n")
        (folder / f"{name}.png").write_bytes(name.encode())


def test_what_was_measured_goes_into_the_pages(tmp_path, capsys):
    results, docs = tmp_path / "out", tmp_path / "docs"
    results.mkdir()
    shutil.copytree(ROOT / "docs", docs)
    assert publish.main(["--results", str(results), "--docs", str(docs)]) == 0
    assert capsys.readouterr().out == ""  # nothing was run, so the pages stay
    run_in(results)
    before = (docs / "performance.md").read_text(encoding="utf-8")
    for _ in range(2):
        assert publish.main(["--results", str(results), "--docs", str(docs)]) == 0
    for name, (file, command) in publish.PLACES.items():
        page = (docs / file).read_text(encoding="utf-8")
        assert page.count(f"measured by {name}\n") == page.count(f"]({name}.png)") == 1
        assert f"written by `{command}`" in page
        assert (docs / f"{name}.png").read_bytes() == name.encode()
    after = (docs / "performance.md").read_text(encoding="utf-8")
    assert after.partition("<!-- bench:")[0] == before.partition("<!-- bench:")[0] != ""
    with pytest.raises(ValueError, match="the page has no place"):
        publish.fill("# Another page\n", "bench", "make bench", "")


def test_the_roofline_is_of_the_bytes_that_must_move(tmp_path):
    seconds = {name: {"minimum": 1e-3} for name in ("ours", "torch", "copy")}
    row = {"dtype": "float32", "layout": "channels first", "bytes": 10**6, "seconds": seconds}
    found = list(roofline.points([{**row, "mode": "training"}, {**row, "mode": "backward"}]))
    assert {(one.mode, one.name): one.bandwidth / 1e9 for one in found} == pytest.approx(
        {
            (mode, name): 2 if name == "copy" else bytes
            for mode, bytes in (("training", 2), ("backward", 3))
            for name in seconds
        }
    )
    roofline.draw(found, tmp_path / "roofline.png")
    assert matplotlib.image.imread(tmp_path / "roofline.png")[..., :3].std() > 0.02
