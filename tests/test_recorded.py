"""The specs tell the truth about torch: same signatures, texts and numbers as tests/record.py wrote down."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import record

from normspec import torch as ours

RECORDED = json.loads(record.FILE.read_text(encoding="utf-8"))
RUNS = RECORDED["runs"]


def test_the_recording_is_of_the_version_that_the_spec_names():
    from suite import DIALECTS

    (dialect,) = (one for one in DIALECTS if one.name == "torch")
    assert RECORDED["library"] == "torch 2.13.0"
    assert "2.13" in dialect.reference


@pytest.mark.parametrize("name", RECORDED["signatures"])
def test_the_signature_is_torchs(name):
    function = ours.nn.functional.batch_norm if name == "batch_norm" else getattr(ours.nn, name)
    assert record.signature(function) == RECORDED["signatures"][name]


@pytest.mark.parametrize(
    "one", RUNS, ids=[f"{one['class']}-{one['shape']}-{list(one['arguments'].values())}" for one in RUNS]
)
def test_a_run_is_torchs(one):
    found = record.run(Adapter(), one["class"], one["arguments"], tuple(one["shape"]))
    assert found["repr"] == one["repr"]
    assert list(found["state"].items()) == list(one["state"].items())
    for step, (mine, theirs) in enumerate(zip(found["steps"], one["steps"], strict=True)):
        assert mine["num_batches_tracked"] == theirs["num_batches_tracked"]
        for key in ("y", "running_mean", "running_var"):
            assert (mine[key] is None) == (theirs[key] is None), key
            if theirs[key] is not None:
                np.testing.assert_allclose(mine[key], theirs[key], rtol=2e-6, atol=2e-6, err_msg=f"step {step}, {key}")


@pytest.mark.parametrize("name", record.MISTAKES)
def test_an_error_is_torchs(name):
    kind, text = record.error(Adapter(), record.MISTAKES[name])
    words, _, mine = text.rpartition("\n")
    assert [kind, words] == RECORDED["errors"][name]
    assert "expected" in mine
    assert "found" in mine


@pytest.mark.parametrize("name", record.PRINTED)
def test_what_prints_is_torchs(name):
    assert repr(record.PRINTED[name](Adapter())) == RECORDED["printed"][name]


class Adapter:
    """Our torch with the few functions of the real one that recording needs and documents do not call."""

    def __getattr__(self, name):
        return getattr(ours, name)

    @staticmethod
    def tensor(data, dtype=None, requires_grad=False):
        return Tensor(data, dtype).requires_grad_(requires_grad)


class Tensor(ours.Tensor):
    """With the methods of torch's tensors that the recording uses."""

    def reshape(self, shape):
        return Tensor(self.numpy().reshape(shape))

    def flatten(self):
        return Tensor(self.numpy().ravel())


needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="the real torch is not installed: pip install torch==2.13.0"
)


@needs_torch
def test_the_recording_is_what_torch_does_today():
    import torch

    if not torch.__version__.startswith("2.13.0"):
        pytest.skip(f"recorded from torch 2.13.0, found {torch.__version__}")
    assert record.as_json(record.record(torch)) == record.FILE.read_text(encoding="utf-8")


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_random_images_come_out_as_from_torch(dtype, channels_last):
    import torch

    random = np.random.default_rng(5)
    wide = "float64" if dtype == "float64" else "float32"
    theirs, mine = (
        torch.nn.BatchNorm2d(7, dtype=getattr(torch, wide)),
        ours.nn.BatchNorm2d(7, dtype=getattr(ours, wide)),
    )
    tolerance = {"float64": 1e-12, "float32": 3e-6, "float16": 2e-3}[dtype]
    for step in range(4):
        x = random.normal(1, 2, (5, 7, 6, 9)).astype(dtype)
        if channels_last:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        theirs.train(step < 3)
        mine.train(step < 3)
        np.testing.assert_allclose(
            mine(x).astype("f8"),
            theirs(torch.from_numpy(x)).detach().numpy().astype("f8"),
            rtol=tolerance,
            atol=tolerance,
        )
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(getattr(mine, key).numpy(), value.numpy(), rtol=3e-6, atol=1e-6, err_msg=key)


@needs_torch
def test_a_state_dict_goes_both_ways():
    import torch

    theirs, mine = torch.nn.BatchNorm1d(3), ours.nn.BatchNorm1d(3)
    theirs(torch.randn(8, 3))
    assert mine.load_state_dict({key: value.detach() for key, value in theirs.state_dict().items()}) == ([], [])
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(getattr(mine, key).numpy(), value.numpy(), err_msg=key)
    back = torch.nn.BatchNorm1d(3)
    back.load_state_dict({key: torch.from_dlpack(tensor) for key, tensor in mine.state_dict().items()})
    assert torch.equal(back.running_var, theirs.running_var)
