"""The demo: its numbers are right, its picture is one, and what is missing is said in a line."""

import sys

import matplotlib.image
import numpy as np
import pytest

from normspec import demo
from normspec.demo import data, picture, table, work
from suite import CLASSES, SEEDS


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Run once: the folder that it wrote and the page in it."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert demo.main(["--output", str(folder)]) == 0
    return folder, (folder / "demo.md").read_text(encoding="utf-8")


def rows(page, header):
    """A table of the page, as one dict a row."""
    names = header.split("|")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    first = cells.index(names) + 2
    ends = [i for i, row in enumerate(cells) if i >= first and len(row) != len(names)]
    return [dict(zip(names, row, strict=True)) for row in cells[first : min(ends, default=None)]]


def test_channels_come_out_with_mean_0_and_deviation_1(shown):
    _, page = shown
    found = rows(page, table.CHANNELS)
    assert [row["Channel"] for row in found[:3]] == ["red", "green", "blue"]
    for row in found:
        mean, std, step_mean, step_std, running_mean, running_std, eval_mean, eval_std = map(
            float, list(row.values())[2:]
        )
        varies = float(std > 0)
        assert abs(step_mean) < 1e-6
        assert step_std == pytest.approx(varies, abs=1e-5)
        assert running_mean == pytest.approx(mean, abs=0.15 * std)
        assert running_std == pytest.approx(std, rel=0.1)
        assert abs(eval_mean) < 0.15
        assert eval_std == pytest.approx(varies, abs=0.1)


def test_means_before_are_those_of_the_data(shown):
    _, page = shown
    photos = data.photographs()[0].whole.astype(np.float64)
    for row, mean, std in zip(
        rows(page, table.CHANNELS)[:3], photos.mean((0, 2, 3)), photos.std((0, 2, 3)), strict=True
    ):
        assert float(row["Mean"]) == pytest.approx(mean, abs=0.006)
        assert float(row["Std"]) == pytest.approx(std, abs=0.006)


def test_every_class_runs_and_agrees(shown):
    _, page = shown
    found = rows(page, table.CLASSES)
    assert {row["Class"] for row in found} == {
        name for name, (_, one) in CLASSES.items() if one.operator == "batch_norm"
    }
    for row in found:
        if row["Class"].partition(".")[0] in SEEDS:  # another may learn another variance
            assert float(row["Difference"]) < 1e-6, row
            assert 0 < float(row["Error"]) < 1e-5, row
        assert float(row["Eval, ms"]) > 0
        assert row["Step, ms"] == "–" or float(row["Step, ms"]) > 0


def test_batches_are_repeatable():
    for one in data.load():
        first, again = (next(one.batches()) for _ in range(2))
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, again)
        assert len(first.shape) == len(one.axes.split())


def test_a_wrong_output_is_noticed():
    run = work.Run.__new__(work.Run)
    run.difference = run.error = 0.0
    right = np.zeros(3, np.float32)
    run.compare(right + np.float32([0, -2, 1]), right, right + 1.0)
    assert (run.difference, run.error) == (2, 3)
    run.compare(right * np.float32(np.nan), right, right + 1.0)
    run.compare(right, right, right + 1.0)
    assert np.isnan([run.difference, run.error]).all()


def test_picture(shown):
    folder, page = shown
    assert "](demo.png)" in page
    pixels = matplotlib.image.imread(folder / "demo.png")
    assert pixels.shape == (picture.HEIGHT, picture.WIDTH, 3)
    thirds = np.array_split(pixels, 3)
    assert all(half.var() > 0.005 for third in thirds for half in np.array_split(third, 2, axis=1))
    assert (folder / "demo.png").stat().st_size < 400_000


def test_what_is_missing_is_said_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.delattr(demo, "data")
    monkeypatch.delitem(sys.modules, "normspec.demo.data")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert demo.main(["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == 'normspec demo needs sklearn: pip install "normspec[demo]"\n'


def test_a_file_in_the_way_is_said_in_a_line(capsys, tmp_path):
    (tmp_path / "out").write_text("")
    assert demo.main(["--output", str(tmp_path / "out")]) == 1
    assert "File exists" in capsys.readouterr().err
