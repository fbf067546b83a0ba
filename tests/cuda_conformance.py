"""The conformance clause about devices, on CUDA: a GPU, or the simulator if NUMBA_ENABLE_CUDASIM=1.

``test_conformance.py`` runs this file; numba must be told of the simulator before it is imported.
"""

from __future__ import annotations

import numpy as np
import pytest

from normspec import torch
from normspec.conformance import matrix
from normspec.conformance.clauses import Omitted
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
