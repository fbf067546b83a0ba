"""The benchmark of the GPU without one: torch on the CPU computes, a fake clock tells the time."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is what the GPU's benchmark measures beside ours: pip install torch")

from normspec.benchmarks import gpu  # noqa: E402
from normspec.benchmarks.gpu import apart, measure, peers, predict, report, rows, tensors, warm  # noqa: E402
from normspec.benchmarks.rows import LAYOUTS, MODES, Row, combinations  # noqa: E402
from normspec.benchmarks.timing import Clock, Timing  # noqa: E402
from normspec.runtime.kernels.cuda import choose, device  # noqa: E402
from suite import ROOT  # noqa: E402


class Fake:
    """Candidates that take what they are said to."""

    def __init__(self):
        self.time = 0.0
        self.bed = measure.Bed("cpu", 1000, self.turn, Clock(lambda: self.time, lambda seconds: None))

    def turn(self, call, before, clock):
        began = self.time
        call()
        before.host.append((self.time - began) / 10)
        return [self.time - began]

    def peer(self, name, seconds, change=lambda one: one):
        """Right results, or changed ones."""

        def candidates(batch):
            def compute(buffers):
                self.time += seconds
                return {key: change(one) for key, one in batch.expected(slice(0, buffers.x.shape[1])).items()}

            yield peers.Candidate(name, compute, lambda outputs: outputs)

        candidates.__name__ = name
        return candidates

    def measure(self, row, *candidates):
        return measure.measure(candidates, self.bed, 1, row, 0.0)


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    moved = peers.copy

    def copy(batch):
        return moved(batch)._replace(function=lambda buffers: setattr(made, "time", made.time + 1e-6))

    monkeypatch.setattr(measure, "copy", copy)
    return made


ROW = Row("training", (4, 6, 5, 5), "float32", "channels first")


def test_rows_are_the_layers_and_shapes_that_matter():
    found = list(combinations(rows.SHAPES, rows.DTYPES))
    assert len(found) == len(set(found)) == 3 * 3 * (2 * (2 * 12 + 2 + 2) + 3)
    assert Counter(one.mode for one in found) == dict.fromkeys(MODES, len(found) // 3)
    shapes = {one.shape for one in found}
    assert {(32, 64, 112, 112), (256, 2048, 7, 7), (8, 32, 512, 512), (4, 64, 32, 64, 64), (64, 4096)} <= shapes


SMALL = [(8, 6), (4, 6, 5, 3), (2, 6, 3, 2, 4)]


@pytest.mark.parametrize("row", list(combinations(SMALL, rows.DTYPES)), ids=str)
def test_torch_computes_what_is_expected(row):
    batch = tensors.batch(row, "cpu", 0, seed=3)
    result = measure.Result(batch.row)
    candidates = [*peers.native(batch), *peers.ours(batch)]
    assert [one.name for one in candidates] == ["torch"] + ["ours"] * (row.mode != "backward")
    errors = measure.check(batch, candidates, result)
    assert not result.failed
    for name, error in errors.items():
        assert batch.row.right(error, 1 if name == "ours" else 30), name


@pytest.mark.parametrize("output", ["y", "dx", "dweight", "dbias"])
def test_an_error_anywhere_is_seen(output):
    row = ROW._replace(mode="training" if output == "y" else "backward")
    batch = tensors.batch(row, "cpu", 0, seed=0)
    right = batch.expected(slice(0, 6))
    assert batch.errors({"a": right}) == {"a": 0}
    for wrong in (1e-3, float("nan")):
        bad = {name: one.clone() for name, one in right.items()}
        bad[output].view(-1)[-1] += wrong * 100
        assert not batch.row.right(batch.errors({"a": bad})["a"])


def test_buffers_take_turns_and_exceed_the_cache():
    batch = tensors.batch(ROW, "cpu", 30_000, seed=0)
    assert len(batch.sets) == 25, "4 × 30 000 bytes over 2 × 4 × 600"
    assert len({one.x.data_ptr() for one in batch.sets}) == 25
    assert all(torch.equal(one.x, batch.sets[0].x) for one in batch.sets)
    seen = []
    call = peers.Candidate("a", seen.append, dict).call(batch)
    for _ in range(26):
        call()
    assert [id(one) for one in seen] == [id(one) for one in [*batch.sets, batch.sets[0]]]


def test_data_are_fresh_and_can_be_had_again():
    one, other, again = (tensors.batch(ROW, "cpu", 0, seed).sets[0].x for seed in (1, 2, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_ratios_bandwidth_and_share(fake):
    result = fake.measure(ROW, fake.peer("ours", 3e-6), fake.peer("kernels", 2e-6), fake.peer("torch", 6e-6))
    size = 4 * 600
    assert result.bandwidth("copy") == pytest.approx(2 * size / 1e-6)
    assert result.bandwidth("kernels") == pytest.approx(2 * size / 2e-6)
    assert result.share("kernels") == pytest.approx(0.5)
    assert result.peers == {"torch": pytest.approx(2)}
    assert result.best_peer == pytest.approx(2)
    assert result.timings["ours"].host_median == pytest.approx(3e-7)
    back = fake.measure(ROW._replace(mode="backward"), fake.peer("kernels", 2e-6), fake.peer("torch", 6e-6))
    assert back.bandwidth("kernels") == pytest.approx(3 * size / 2e-6)
    assert back.share("kernels") == pytest.approx(0.75)
    assert back.peers == {"torch": pytest.approx(3)}


def test_who_is_wrong_is_not_timed(fake):
    wrong = fake.peer("torch", 1e-6, lambda one: one + 10)
    result = fake.measure(ROW, fake.peer("ours", 1e-6), wrong)
    assert result.wrong == ["torch"]
    assert set(result.timings) == {"ours", "copy"}
    result = fake.measure(ROW, fake.peer("ours", 1e-6, lambda one: one * float("nan")), fake.peer("torch", 1e-6))
    assert (result.wrong, result.timings) == (["ours"], {})


def test_who_fails_says_why_and_stops_nobody(fake):
    def broken(batch):
        raise RuntimeError("no such operator")

    def late(batch):
        yield peers.Candidate("late", lambda buffers: 1 / 0, dict)

    result = fake.measure(ROW, fake.peer("ours", 1e-6), broken, late)
    assert result.failed == {"broken": "RuntimeError: no such operator", "late": "ZeroDivisionError: division by zero"}
    assert set(result.timings) == {"ours", "copy"}
    page = "\n".join(report.traces([result, result]))
    assert page.count("Traceback (most recent call last):") == 2
    assert 'raise RuntimeError("no such operator")' in page


def test_a_row_that_does_not_fit_is_no_end(fake, monkeypatch):
    def full(*_):
        raise MemoryError("out of memory")

    monkeypatch.setattr(measure, "batch", full)
    assert fake.measure(ROW, fake.peer("ours", 1e-6)).failed == {"row": "MemoryError: out of memory"}


class Event:
    """An event of CUDA."""

    now = 0.0
    log: list[str] = []  # noqa: RUF012

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = Event.now
        Event.log.append("record")

    def synchronize(self):
        Event.log.append("synchronize")

    def elapsed_time(self, other):
        return other.at - self.at


def test_a_turn_queues_calls_between_two_events(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: Event.log.append("wait"))

    def call():
        Event.now += 0.5  # milliseconds
        Event.log.append("call")

    before = Timing()
    (seconds,) = measure.on_gpu(call, before, Clock())
    assert seconds == pytest.approx(0.5e-3)
    assert Event.log == ["call", "wait", "record", "call", "call", "call", "record", "synchronize"]
    before.turns.append([seconds])
    Event.log.clear()
    measure.on_gpu(call, before, Clock())
    assert Event.log.count("call") == 5, "4 in 2 ms, and the first"
    before.turns.append([1e-9])
    Event.log.clear()
    measure.on_gpu(call, before, Clock())
    assert Event.log.count("call") == measure.CALLS + 1
    assert len(before.host) == 3


@pytest.fixture
def written(fake, tmp_path, capsys):
    def write(*arguments, candidates=None):
        options = gpu.parser().parse_args(["--output", str(tmp_path), "--seconds", "0", *arguments])
        mine = candidates or (fake.peer("ours", 3e-6), fake.peer("kernels", 2e-6), fake.peer("torch", 6e-6))
        here = functools.partial(measure.measure, mine, fake.bed, options.seed or 1)
        code = gpu.write(options, here, options.seed or 1, "normspec bench-gpu --seconds 0", "a fake GPU")
        return code, json.loads((tmp_path / "bench-gpu.json").read_text(encoding="utf-8")), capsys.readouterr().out

    return write


def test_numbers_tables_and_the_plot_are_written(written, tmp_path):
    code, data, printed = written("--shape", "4,6,5,5", "--dtype", "float32", "--seed", "7")
    assert code == 0
    assert [(row["mode"], row["layout"]) for row in data["rows"]] == [
        (mode, layout) for layout in LAYOUTS for mode in MODES
    ]
    assert data["machine"]["gpu"] == "a fake GPU"
    assert data["machine"]["seed"] == 7
    for row in data["rows"]:
        assert row["peers"]["torch"] == pytest.approx(2)
        assert row["share"]["kernels"] == pytest.approx(0.75 if row["mode"] == "backward" else 0.5)
        assert row["host"]["torch"] == pytest.approx(6e-7)
        assert row["failed"] == {}
    page = (tmp_path / "bench-gpu.md").read_text(encoding="utf-8")
    assert page in printed
    assert "a fake GPU" in page
    assert "6 of 6 rows" in page
    assert "| 4×6×5×5 | first  | float32 | 0.00 |      3.0 |         2.0 |    2 |        50 |" in page
    assert "Rows where a peer is faster: 0 of 6." in page
    assert (tmp_path / "bench-gpu.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_row_leaves_the_others(written, fake):
    calls = []

    def sometimes(batch):
        calls.append(batch)
        if len(calls) == 1:
            raise RuntimeError("no")
        yield from fake.peer("ours", 1e-6)(batch)

    code, data, printed = written("--shape", "4,6", "--dtype", "float32", candidates=(sometimes,))
    assert code == 0, "the copy was timed; who fails is in the page"
    assert "Failed: sometimes, training, float32, channels first, (4, 6): RuntimeError: no" in printed
    assert [list(row["seconds"]) for row in data["rows"]] == [["copy"], ["ours", "copy"], ["ours", "copy"]]


def test_what_was_measured_is_written_before_all_is(written, fake, tmp_path, monkeypatch):
    """A GPU may take the process along."""
    monkeypatch.setattr(gpu, "EVERY", -1.0)
    seen = []

    def watching(batch):
        path = tmp_path / "bench-gpu.json"
        seen.append(len(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else 0)
        yield from fake.peer("ours", 1e-6)(batch)

    written("--shape", "4,6", "--dtype", "float32", candidates=(watching,))
    assert seen == [0, 1, 2]


def test_an_interrupted_run_keeps_what_it_has(written, fake):
    done = []

    def impatient(batch):
        done.append(batch)
        if len(done) == 2:
            raise KeyboardInterrupt
        yield from fake.peer("ours", 1e-6)(batch)

    code, data, printed = written("--shape", "4,6", "--dtype", "float32", candidates=(impatient,))
    assert code == 1
    assert len(data["rows"]) == 1
    assert "1 of 3 rows" in printed


def dangerous(row, end):
    """What may come of a row, by its shape."""
    if row.shape == (1, 1):
        time.sleep(600)
    if row.shape == (2, 2):
        os._exit(1)
    result = measure.Result(row)
    result.errors["process"] = os.getpid()
    if row.shape == (3, 3):
        result.fail("ours", RuntimeError("an illegal memory access was encountered"))
    return result


def never():
    return False


@pytest.mark.parametrize(
    ("size", "said"),
    [(1, "TimeoutError: "), (2, "BrokenProcessPool: "), (3, "RuntimeError: an illegal memory access")],
    ids=["hangs", "dies", "breaks the context"],
)
def test_a_process_that_is_lost_takes_no_other_row_along(size, said, monkeypatch):
    monkeypatch.setattr(apart, "GRACE", 1.0)
    place = apart.Apart(dangerous, never)
    try:
        later = time.perf_counter() + 120  # a process first imports this file, which takes seconds on a busy machine
        before = place(ROW, later).errors["process"]
        assert place(ROW, later).errors["process"] == before != os.getpid()
        (why,) = place(ROW._replace(shape=(size, size)), 0.0).failed.values()
        assert why.startswith(said)
        assert place(ROW, later).errors["process"] != before
    finally:
        place.close()


def test_one_process_after_another_is_the_end(monkeypatch, capsys):
    monkeypatch.setattr(apart, "PROCESSES", 1)
    place = apart.Apart(dangerous, never)
    try:
        results = []
        bad = ROW._replace(shape=(2, 2))
        assert gpu.collect(results, (place(row, 0.0) for row in (bad, ROW)), lambda: None)
    finally:
        place.close()
    assert [one.row for one in results] == [bad]
    assert capsys.readouterr().err == "1 processes hung, died or broke the GPU's context\n"


def test_what_is_measured_on_a_gpu_can_be_sent_to_a_process():
    bed = measure.Bed("cuda:0", 1, measure.on_gpu)
    pickle.dumps(functools.partial(measure.measure, list(peers.PEERS), bed, 1))


def test_the_summary_counts_the_goals(fake):
    large = Row("evaluation", (8, 64, 80, 80), "float32", "channels first")
    good = fake.measure(large, fake.peer("kernels", 1.05e-6), fake.peer("torch", 1e-6))
    bad = fake.measure(large, fake.peer("kernels", 4e-6), fake.peer("torch", 8e-6))
    text = "\n".join(report.summary([good, bad]))
    assert "at 90 % of a copy or more: 1 of 2; the least has 25 %" in text
    assert "where a peer is faster: 1 of 2" in text


H200 = {"capability": (9, 0), "multiprocessors": 132, "clusters": 16}


def test_what_the_rows_need_is_known_before():
    found = [one.name for one in warm.programs(combinations(rows.SHAPES, rows.DTYPES), H200)]
    assert len(found) == len(set(found)) > 90
    for part in ("resident_f32", "planes_clusters_f16", "normalize_bf16", "columns_normalize", "backward_resident"):
        assert any(part in name for name in found), part
    assert warm.feature_plans.gpu is warm.row_plans.gpu is device.gpu, "put back"


@pytest.mark.parametrize("blocks", [80, 132, 264, 528, 592])
def test_what_is_split_fills_waves_of_blocks(blocks):
    """No more than a quarter of them have no work, where there are enough pieces to choose."""
    for number in range(1, 2 * blocks + 1):
        slices = choose.slices(number, blocks, 10000)
        waves = -(-number * slices // blocks)
        assert waves <= choose.WAVES
        assert number * slices > 0.75 * waves * blocks, (number, slices)
    assert choose.slices(64, 528, 10000) == 8
    assert choose.slices(64, 528, 3) == 3, "no more than there are pieces for"


def test_the_rules_split_by_waves():
    """64 channels, room for 1024 threads a multiprocessor or for 512; in blocks of 256, and on rows the largest."""
    here, limits = SimpleNamespace(**H200), choose.Limits(slab=16, parts=1)
    assert [choose.split(64, 10**6, here, room).slices for room in (1024, 512)] == [8, 4]
    assert [choose.split_rows(10**6, 16, here, limits, room, room).slices for room in (1024, 512)] == [132, 132]


def test_the_rules_at_their_bounds():
    here, limits = SimpleNamespace(**H200), choose.Limits(slab=64, parts=1)

    def shape(choice):
        return choice and (choice.threads, choice.unroll, choice.cluster, choice.slices, choice.shift)

    def features(number, pieces, arrays=1):
        return shape(choose.features(number, pieces, here, lambda _: True, 1024, arrays))

    def rows(number):
        return shape(choose.rows(number, 64, here, limits, lambda _: True, 1024))

    assert choose.slices(5, 528, 10000) == 105, "one wave is within a tenth of the best"
    assert choose.split(1, 10**8, here, 1024).slices == 256, "as many as the threads that merge them"
    assert [features(4, pieces) for pieces in (512, 513)] == [(128, 4, 1, 1, 0), (256, 8, 2, 1, 0)]
    assert features(4, 512, arrays=2) == (256, 4, 2, 1, 0), "half as many of each"
    planes = [choose.planes(100, 32, columns, here, lambda _: True) for columns in (15, 16)]
    assert list(map(shape, planes)) == [None, (256, 8, 2, 1, 0)]
    assert [rows(number) for number in (128, 129)] == [(256, 8, 4, 1, 6), (256, 8, 4, 1, 5)], "no rank without a row"
    split = [choose.split_rows(2, pieces, here, limits, 1024, 1024) for pieces in (16, 64)]
    assert list(map(shape, split)) == [(32, 4, 1, 1, 4), (1024, 4, 1, 1, 6)], "no slab is wider than a block"


def test_the_predictions_are_those_of_the_rule():
    notes = (ROOT / "benchmarks" / "NOTES.md").read_text(encoding="utf-8")
    assert predict.table() in notes, "put the output of python -m normspec.benchmarks.gpu.predict there"


def test_a_worker_compiles_its_share(tmp_path, monkeypatch):
    pytest.importorskip("numba_cuda", reason='needs numba-cuda: pip install "normspec[cuda13]"')
    task = {"rows": [("evaluation", (8, 8, 4, 4), "float32", "channels first")], "facts": H200, "count": 1}
    environment = {**os.environ, "NORMSPEC_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "normspec.benchmarks.gpu.warm", "0"]
    subprocess.run(command, input=json.dumps(task), text=True, check=True, env=environment)
    assert [file.name.split("-")[:2] for file in tmp_path.iterdir()] == [["inference_f32_f32_packets_u4_t32", "sm90"]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    command = [sys.executable, "-m", "normspec.cli.main", "bench-gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("normspec bench-gpu: CUDA is unavailable: ")
