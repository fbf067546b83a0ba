"""The conformance clause about devices, on CUDA: a GPU, or the simulator if NUMBA_ENABLE_CUDASIM=1.

``test_conformance.py`` runs this file; numba must be told of the simulator before it is imported.
"""

from __future__ import annotations

import numpy as np
import pytest

from normspec import functional, torch
from normspec.conformance import matrix
from normspec.conformance.clauses import Omitted
from normspec.runtime import grad
from normspec.runtime.kernels.cuda.primitives import SIMULATED
from suite import DIALECTS

if SIMULATED:
    import simulator

    simulator.install()

ROWS = {row.name: row for row in matrix.rows(DIALECTS)}


@pytest.mark.parametrize("name", ROWS)
def test_devices(name):
    try:
        ROWS[name].check("devices")
    except Omitted as reason:
        pytest.skip(str(reason))


def test_a_module_on_the_device_wants_its_input_there():
    bn = torch.nn.BatchNorm1d(3, device="cuda")
    assert bn.weight.device == bn.running_var.device == "cuda:0"
    assert bn.num_batches_tracked.device == "cpu"
    x = np.float32([[1, 2, 3], [3, 4, 5]])
    with pytest.raises(RuntimeError, match="found at least two devices, cpu and cuda:0!"):
        bn(x)
    assert int(bn.num_batches_tracked) == 0
    y = bn(torch.Tensor(x, device="cuda"))
    assert "device='cuda:0'" in repr(y)
    np.testing.assert_allclose(y.numpy(), np.sign(x - x.mean(0)), rtol=1e-5)
    assert int(bn.num_batches_tracked) == 1


def test_a_module_moves_and_computes_the_same():
    x = np.random.default_rng(0).normal(2, 3, (4, 3, 5)).astype(np.float32)
    here, there = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3).to("cuda")
    np.testing.assert_allclose(there(torch.Tensor(x).to("cuda")).numpy(), here(x), rtol=1e-6, atol=1e-6)
    back = there.to("cpu")
    np.testing.assert_allclose(back.running_var.numpy(), here.running_var.numpy(), rtol=1e-6)
    np.testing.assert_allclose(back.eval()(x), here.eval()(x), rtol=1e-6, atol=1e-6)


def test_bfloat16_travels_as_bits_and_comes_back():
    x = torch.Tensor(np.float32([[1.5, -2.25], [3, 4]]), dtype="bfloat16")
    there = x.to("cuda")
    assert there.dtype == torch.bfloat16
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    assert repr(there.to("cpu")) == repr(x)


def test_state_dicts_load_across_devices():
    here, there = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3, device="cuda")
    here(np.random.default_rng(0).normal(2, 3, (4, 3)).astype(np.float32))
    there.load_state_dict(here.state_dict())
    assert there.running_mean.device == "cuda:0"
    np.testing.assert_array_equal(there.running_mean.numpy(), here.running_mean.numpy())


@pytest.mark.parametrize("training", [True, False])
def test_gradients_come_back_to_the_device(training):
    random = np.random.default_rng(0)
    x, dy = random.normal(2, 3, (2, 4, 3, 5)).astype(np.float32)
    results = []
    for device in ("cpu", "cuda"):
        bn = torch.nn.BatchNorm1d(3).to(device).train(training)
        given = torch.Tensor(x, device=device).requires_grad_()
        y = bn(given)
        (y * torch.Tensor(dy, device=device)).sum().backward(retain_graph=True)
        by_kernel = [given.grad, bn.weight.grad, bn.bias.grad]
        assert {one.device for one in (y, *by_kernel)} == {given.device}
        composed = grad(y, [given, bn.weight, bn.bias], torch.Tensor(dy, device=device), create_graph=True)
        assert {one.device for one in composed} == {given.device}
        results.append([one.numpy() for one in (*by_kernel, *composed)])
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)


def test_functions_of_tensors_on_the_device():
    random = np.random.default_rng(0)
    x, dy = random.normal(2, 3, (2, 4, 3, 5)).astype(np.float32)
    results = []
    for device in ("cpu", "cuda"):
        given, start, mean, variance, scale = (
            torch.Tensor(one, device=device) for one in (x, dy, *np.float32([[0, 0, 0], [1, 1, 1], [0.5, 1, 2]]))
        )
        y, *_ = functional.batch_norm(given, mean, variance, scale, training=True)
        out = torch.Tensor(np.zeros_like(x), device=device)
        assert functional.normalize(given, mean, variance, out=out) is out
        statistics = functional.batch_stats(given)
        functional.update_running_stats(mean, variance, functional.merge_stats(statistics, statistics))
        found = [y, mean, variance, out, *statistics, statistics.variance()]
        found += functional.batch_norm_backward(start, given, scale=scale)
        found += functional.batch_norm_backward(start, given, mean, variance, training=False)
        assert {one.device for one in found} == {given.device}
        results.append([one.numpy() for one in found])
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="mask: expected None for an input that is not on the CPU"):
        functional.batch_stats(torch.Tensor(x, device="cuda"), mask=torch.Tensor(np.ones((4, 5), bool), device="cuda"))
