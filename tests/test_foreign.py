"""Arrays of other libraries through every dialect: read where they lie, and given back as what they were."""

from __future__ import annotations

import importlib

import array_api_strict
import numpy as np
import pytest

from normspec.runtime.arrays import source
from normspec.torch import Tensor, nn
from suite import CLASSES

VALUES = np.random.default_rng(0).normal(1, 2, (4, 3, 5, 6)).astype(np.float32)


class Producer:
    """What speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def torch_tensor(array):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    return torch.from_numpy(array), torch.Tensor


def jax_array(array):
    jax = pytest.importorskip("jax", reason='JAX is not installed: pip install "normspec[jax]"')
    return jax.numpy.asarray(array), jax.Array


LIBRARIES = {
    "torch": torch_tensor,
    "jax": jax_array,
    "array_api_strict": lambda array: (array_api_strict.asarray(array), type(array_api_strict.asarray(array))),
    "DLPack": lambda array: (Producer(array), np.ndarray),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("training", [True, False])
def test_what_comes_in_comes_back(library, training):
    given, kind = LIBRARIES[library](VALUES.copy())
    mine, numpys = nn.BatchNorm2d(3).train(training), nn.BatchNorm2d(3).train(training)
    y = mine(given)
    assert isinstance(y, kind)
    assert str(y.dtype).endswith("float32")
    np.testing.assert_array_equal(np.asarray(y), numpys(VALUES))
    np.testing.assert_array_equal(mine.running_mean.numpy(), numpys.running_mean.numpy())
    if library != "DLPack":
        np.testing.assert_array_equal(np.asarray(given), VALUES)


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_is_read_where_it_lies(library):
    given, _ = LIBRARIES[library](VALUES.copy())
    first, second = (source(given).array for _ in range(2))
    assert np.shares_memory(first, second)
    assert np.shares_memory(Tensor(given).numpy(), first)


@pytest.mark.parametrize("name", [name for name, (_, one) in CLASSES.items() if one.operator == "batch_norm"])
def test_every_dialect_takes_torchs_tensors(name):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    package, _, cls = name.rpartition(".")
    module = getattr(importlib.import_module(f"normspec.{package}"), cls)(3)
    shape = {"1": (4, 3), "2": (4, 3, 5, 5), "3": (4, 3, 2, 5, 5)}.get(cls[-2], (4, 3, 5, 5))
    assert type(module(torch.ones(shape))) is torch.Tensor


def test_the_layout_and_type_of_a_torch_tensor_come_back():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    x = torch.from_numpy(VALUES).to(memory_format=torch.channels_last).bfloat16()
    y = nn.BatchNorm2d(3)(x)
    assert (y.dtype, y.stride()) == (x.dtype, x.stride())


def test_a_torch_tensor_that_wants_gradients_is_refused_where_there_would_be_none():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    module, x = nn.BatchNorm2d(3), torch.from_numpy(VALUES).requires_grad_()
    with pytest.raises(ValueError, match=r"\nBatchNorm2d: input: expected .* requires grad: normspec\.interop"):
        module(x)
    assert int(module.num_batches_tracked) == 0
    with torch.no_grad():
        module(x)
    module(x.detach())


@pytest.mark.parametrize("change", ["to_sparse", "float8", "meta"])
def test_a_torch_tensor_that_cannot_be_shared_is_refused(change):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    ways = {"float8": lambda x: x.to(torch.float8_e4m3fn), "meta": lambda x: x.to("meta")}
    x, module = ways.get(change, torch.Tensor.to_sparse)(torch.ones(3, 3)), nn.BatchNorm1d(3)
    with pytest.raises(
        ValueError, match=r"\nBatchNorm1d: input: expected an array that can be shared, found a Tensor "
    ):
        module(x)
    with pytest.raises(RuntimeError, match=r'(?s)copying the parameter named "weight".* found 1 problem'):
        module.load_state_dict({"weight": x[0]}, strict=False)


@pytest.mark.parametrize("change", ["neg", "expand"])
def test_statistics_of_torch_that_cannot_be_written_are_refused(change):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    mean = torch._neg_view(torch.zeros(3)) if change == "neg" else torch.zeros(1).expand(3)
    with pytest.raises(ValueError, match="batch_norm: running_mean: expected memory that can be written, found "):
        nn.functional.batch_norm(torch.from_numpy(VALUES), mean, torch.ones(3), training=True)
    assert not mean.any()


@pytest.mark.parametrize("kind", [BufferError, RuntimeError, ValueError])
def test_a_producer_that_refuses_is_told_of(kind):
    class Elsewhere(Producer):
        def __dlpack__(self, **options):
            raise kind("not from here")

    with pytest.raises(ValueError, match=r"\nBatchNorm2d: input: .* found a Elsewhere that cannot: not from here"):
        nn.BatchNorm2d(3)(Elsewhere(VALUES))


def test_a_tracer_of_jax_is_told_where_to_go():
    jax = pytest.importorskip("jax", reason='JAX is not installed: pip install "normspec[jax]"')
    where = "JAX traces it, so it has no values yet; normspec.interop.jax has a batch norm for that"
    for transform in (jax.jit, jax.vmap, lambda function: jax.grad(lambda x: function(x).sum())):
        with pytest.raises(ValueError, match=f"BatchNorm1d: input: expected .* found a .*Tracer that cannot: {where}"):
            transform(nn.BatchNorm1d(3))(VALUES[..., 0])
    with pytest.raises(TypeError, match=f"batch_norm: running_mean: expected a tensor, found .*Tracer, .*{where}"):
        jax.jit(lambda mean: nn.functional.batch_norm(VALUES, mean, mean))(np.ones(3, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_statistics_of_torch_are_updated_in_place(dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    mean, variance = torch.zeros(3, dtype=getattr(torch, dtype)), torch.ones(3, dtype=getattr(torch, dtype))
    nn.functional.batch_norm(torch.from_numpy(VALUES), mean, variance, training=True, momentum=1.0)
    np.testing.assert_allclose(mean.double(), VALUES.mean((0, 2, 3)), rtol=1e-2)
    np.testing.assert_allclose(variance.double(), VALUES.var((0, 2, 3), ddof=1), rtol=1e-2)


def test_what_is_no_array_is_refused():
    for value in ([1.0], "text", None, object(), np.ma.zeros((4, 3, 5, 5))):
        assert source(value) is None
