"""Modules and tensors on a GPU, above the kernels: copied, moved, empty, counted; in the simulator.

``test_kernels_cuda.py`` runs this file; numba must be told of the simulator before it is imported.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import simulator
from normspec import functional, nvtripy
from normspec import torch as torch_dialect
from normspec.torch import Tensor, nn

simulator.install()

VALUES = np.random.default_rng(0).normal(1, 2, (2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_copy_of_a_module_has_memory_of_its_own(again, dtype):
    module = nn.BatchNorm2d(3, dtype=dtype).to("cuda")
    module(Tensor(VALUES, dtype).to("cuda"))
    made = again(module)
    before = {name: one.numpy().copy() for name, one in module.state_dict().items()}
    for name, one in made.state_dict().items():
        assert (one.device, one.dtype) == (module.state_dict()[name].device, module.state_dict()[name].dtype)
        np.testing.assert_array_equal(one.numpy(), before[name])
    made(Tensor(VALUES + 9, dtype).to("cuda"))
    made.weight.copy_(made.weight + 1)
    for name, one in module.state_dict().items():
        np.testing.assert_array_equal(one.numpy(), before[name])
    assert made.running_mean.numpy()[0] > before["running_mean"][0]


@pytest.mark.parametrize("place", [{"device": "cuda"}, {"dtype": "float64"}])
def test_what_two_modules_share_they_share_elsewhere(place):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.second.weight = self.first.weight

    pair = Pair().to(**place)
    assert pair.second.weight is pair.first.weight
    assert pair.second.bias is not pair.first.bias
    assert len(list(pair.parameters())) == 3


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_normalized_on_the_gpu(training):
    module, x = nn.BatchNorm2d(3).to("cuda").train(training), Tensor(VALUES[:0]).to("cuda").requires_grad_()
    y = module(x)
    assert (y.shape, y.device, y.dtype) == (x.shape, "cuda:0", torch_dialect.float32)
    assert y.numpy().shape == (0, 3, 4, 5)
    y.backward(y.detach())
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(module.weight.grad.numpy(), np.zeros(3))
    assert functional.batch_norm(x.detach(), training=True).output.shape == x.shape


@pytest.mark.parametrize("momentum", [0.25, None])
def test_a_counter_may_be_on_the_gpu(momentum):
    there, here = (nn.BatchNorm2d(3, momentum=momentum).to(device) for device in ("cuda", "cpu"))
    there.num_batches_tracked = there.num_batches_tracked.to("cuda")
    for scale in (1, 2):
        there(Tensor(VALUES * scale).to("cuda"))
        here(Tensor(VALUES * scale))
    assert there.num_batches_tracked.device == "cuda:0"
    for one, other in zip(there.state_dict().values(), here.state_dict().values(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_the_element_type_of_a_tensor_is_kept():
    """On a GPU, bfloat16 is held as uint16."""
    x = Tensor(np.uint16([1, 2])).to("cuda")
    assert x.detach().dtype == x.to("cpu").dtype == np.uint16
    half = Tensor(VALUES, "bfloat16").to("cuda")
    assert half.detach().dtype == half.to("cpu").dtype == torch_dialect.bfloat16


@pytest.mark.parametrize("place", [{"device": "cuda"}, {"dtype": "float64"}])
def test_a_frozen_parameter_stays_frozen(place):
    frozen = nn.Parameter(Tensor(VALUES)).requires_grad_(False)
    assert not frozen.to(**place).requires_grad
    assert frozen.requires_grad_().to(**place).requires_grad


def test_tensors_that_are_loaded_go_where_the_module_is():
    """Also in a dialect that puts them in the place of its own."""
    module, other = nvtripy.BatchNorm(3), nvtripy.BatchNorm(3)
    for name in ("weight", "bias", "running_mean", "running_var"):
        setattr(module, name, getattr(module, name).to("cuda"))
    module.load_state_dict(other.state_dict())
    assert {one.device for one in module.state_dict().values()} == {"cuda:0"}
    back = nvtripy.BatchNorm(3)
    back.load_state_dict(module.state_dict())
    assert {one.device for one in back.state_dict().values()} == {"cpu"}


def test_a_linear_layer_takes_what_is_on_a_gpu():
    layer = nvtripy.Linear(5, 2)
    layer.weight, layer.bias = nvtripy.Tensor(VALUES[0, 0, :2]), nvtripy.Tensor(VALUES[0, 0, 3, :2])
    expected = layer(nvtripy.Tensor(VALUES)).numpy()
    with pytest.raises(nvtripy.TripyException, match=r"Linear: x: expected cpu, found cuda:0"):
        layer(nvtripy.Tensor(VALUES).to("cuda"))
    layer.weight, layer.bias = layer.weight.to("cuda"), layer.bias.to("cuda")
    y = layer(nvtripy.Tensor(VALUES).to("cuda"))
    assert (y.device, y.array.device) == ("cuda:0", 0)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
