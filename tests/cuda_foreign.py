"""Arrays of CuPy and torch on a GPU through our kernels, in the simulator: memory of the host that says it is a GPU's.

``test_kernels_cuda.py`` runs this file; numba must be told of the simulator before it is imported.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from numba import cuda

import simulator
from normspec import functional
from normspec.runtime.kernels.cuda.simulated import ndarray, own
from normspec.torch import Tensor, nn

simulator.install()

SHAPE = (2, 3, 4, 5)
STATISTICS = np.float32([0.5, -1, 2]), np.float32([0.5, 1, 2])
STREAM = 7
VALUES, SLOPES = np.random.default_rng(0).normal(1, 2, (2, *SHAPE)).astype(np.float32)


def placed(array):
    """A copy in the memory of the simulated GPU."""
    block = np.zeros(array.nbytes + 256, np.uint8)
    address = own(block)
    there = np.ndarray(array.shape, array.dtype, block, address - block.ctypes.data)
    there[...] = array
    return there


class CupyArray:
    """As much of ``cupy.ndarray`` as is looked at."""

    __module__ = "cupy"

    def __init__(self, memory):
        self.memory, self.dtype, self.shape, self.strides = memory, memory.dtype, memory.shape, memory.strides
        self.device, self.data = types.SimpleNamespace(id=0), types.SimpleNamespace(ptr=memory.ctypes.data)

    __cuda_array_interface__ = property()


@pytest.fixture
def cupy(monkeypatch):
    made = types.ModuleType("cupy")
    made.empty_like = lambda array: CupyArray(
        np.ndarray(
            array.shape,
            array.dtype,
            placed(np.full(array.memory.size, np.nan, array.dtype)),
            strides=np.empty_like(array.memory).strides,
        )
    )
    made.asarray = lambda array: CupyArray(ndarray(array))
    made.ascontiguousarray = lambda array: CupyArray(placed(array.memory))
    made.cuda = types.SimpleNamespace(
        alloc=lambda size: types.SimpleNamespace(
            ptr=(block := placed(np.zeros(size, np.uint8))).ctypes.data, kept=block
        ),
        get_current_stream=lambda device: types.SimpleNamespace(ptr=STREAM),
    )
    monkeypatch.setitem(sys.modules, "cupy", made)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("training", [True, False])
def test_a_cupy_array_comes_back_as_one(training):
    there, here = nn.BatchNorm2d(3).to("cuda").train(training), nn.BatchNorm2d(3).train(training)
    given = CupyArray(placed(VALUES))
    y = there(given)
    assert type(y) is CupyArray
    np.testing.assert_allclose(y.memory, here(VALUES), rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(given.memory, VALUES)
    np.testing.assert_allclose(there.running_var.numpy(), here.running_var.numpy(), rtol=1e-6)


def test_numbas_arrays_are_taken():
    there, here = nn.BatchNorm2d(3).to("cuda"), nn.BatchNorm2d(3)
    given = cuda.to_device(VALUES)
    y = there(given)
    np.testing.assert_allclose(y.copy_to_host(), here(VALUES), rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(given.copy_to_host(), VALUES)
    assert y.__cuda_array_interface__["shape"] == SHAPE


def gapped(array):
    """A copy of which every second element is there."""
    whole = placed(np.repeat(array, 2))
    return CupyArray(whole[::2])


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("training", [True, False])
def test_vectors_with_gaps_are_read_as_they_are(training):
    there, here = (nn.BatchNorm2d(3).train(training) for _ in range(2))
    there.to("cuda")
    for one in (there, here):
        one.weight = nn.Parameter(gapped(STATISTICS[0]) if one is there else STATISTICS[0])
        one.bias = nn.Parameter(gapped(STATISTICS[1]) if one is there else STATISTICS[1])
    if not training:
        there.running_mean, there.running_var = (Tensor(gapped(one)) for one in STATISTICS)
        here.running_mean, here.running_var = map(Tensor, STATISTICS)
    assert not there.weight.array.contiguous
    x = [Tensor(VALUES).to(device).requires_grad_(True) for device in ("cuda", "cpu")]
    y = [module(one) for module, one in zip((there, here), x, strict=True)]
    for one in y:
        one.backward(one)
    for found, expected in [y, [one.grad for one in x], (there.weight.grad, here.weight.grad)]:
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-6, atol=1e-5)
    function = [
        nn.functional.batch_norm(
            module.weight.plain(VALUES).to(module.weight.device),
            module.running_mean,
            module.running_var,
            module.weight,
            module.bias,
            training=False,
        )
        for module in (there, here)
    ]
    np.testing.assert_allclose(*(one.numpy() for one in function), rtol=2e-6, atol=1e-5)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("gaps", [True, False])
def test_statistics_that_cannot_be_written_are_refused(name, gaps):
    module = nn.BatchNorm2d(3).to("cuda")
    setattr(module, name, Tensor(gapped(STATISTICS[1])) if gaps else getattr(module, name))
    getattr(module, name).array.readonly = not gaps
    before = [one.numpy() for one in module.state_dict().values()]
    found = "memory with gaps, of strides \\(8,\\)" if gaps else "read-only memory"
    with pytest.raises(ValueError, match=f"{name}: expected memory that can be written, found {found}"):
        module(Tensor(VALUES).to("cuda"))
    with pytest.raises(ValueError, match=f"expected memory that can be written, found {found}"):
        nn.functional.batch_norm(Tensor(VALUES).to("cuda"), module.running_mean, module.running_var, training=True)
    for one, other in zip(module.state_dict().values(), before, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)


@pytest.mark.usefixtures("cupy")
def test_nothing_is_loaded_if_something_cannot_be_written():
    module = nn.BatchNorm2d(3).to("cuda")
    module.running_var = Tensor(gapped(STATISTICS[1]))
    with pytest.raises(ValueError, match="BatchNorm2d: running_var: expected memory that can be written, found memory"):
        module.load_state_dict({name: one + 1 for name, one in module.state_dict().items()})
    np.testing.assert_array_equal(module.weight.numpy(), np.ones(3))


@pytest.mark.usefixtures("cupy")
def test_statistics_with_gaps_are_returned_updated():
    x, mean, variance = (CupyArray(placed(VALUES)), *map(gapped, STATISTICS))
    y = functional.batch_norm(x, mean, variance, training=True)
    expected = functional.batch_norm(VALUES, *(one.copy() for one in STATISTICS), training=True)
    for found, one in zip(y, expected, strict=True):
        np.testing.assert_allclose(found.memory, one, rtol=2e-6, atol=2e-6)


def plain(array):
    return CupyArray(placed(array))


def last(array):
    """A copy with the channels last in memory."""
    return CupyArray(placed(np.moveaxis(array, 1, -1).copy()).transpose(0, 3, 1, 2))


def sliced(array):
    """A copy inside something larger, which no three steps lead through."""
    return CupyArray(placed(np.pad(array, ((0, 0), (0, 0), (0, 1), (0, 3))))[:, :, :-1, :-3])


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("slopes", [plain, last, sliced])
@pytest.mark.parametrize("values", [plain, last, sliced])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_may_lie_in_another_order_than_the_input(values, slopes, training):
    found = []
    for device, of_x, of_dy in ("cuda", values, slopes), ("cpu", np.copy, np.copy):
        module, x = nn.BatchNorm2d(3).to(device).train(training), Tensor(of_x(VALUES)).requires_grad_()
        module(x).backward(Tensor(of_dy(SLOPES)))
        found.append([x.grad, module.weight.grad, module.bias.grad])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-5)


def test_gradients_of_our_own_may_lie_in_another_order_than_the_input():
    """Neither we nor numba make contiguous copies on the GPU."""
    x = Tensor(cuda.to_device(VALUES.transpose(0, 2, 3, 1).copy()).transpose((0, 3, 1, 2))).requires_grad_()
    nn.BatchNorm2d(3).to("cuda")(x).backward(Tensor(SLOPES).to("cuda"))
    expected = functional.batch_norm_backward(SLOPES, VALUES).x
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("cupy")
def test_an_array_and_a_module_on_different_devices_are_refused():
    with pytest.raises(RuntimeError, match="input: expected cpu, found cuda:0"):
        nn.BatchNorm2d(3)(CupyArray(placed(VALUES)))


@pytest.mark.usefixtures("cupy")
class TestFunctional:
    """Functions of CuPy's arrays."""

    def test_all_that_is_updated_or_returned_is_on_the_gpu(self):
        here = [VALUES, np.zeros(3, np.float32), np.ones(3, np.float32)]
        there = [CupyArray(placed(one)) for one in here]
        y = functional.batch_norm(*there, training=True)
        expected = functional.batch_norm(*here, training=True)
        assert type(y.output) is CupyArray
        assert y.mean is there[1]
        for one, other in zip(y, expected, strict=True):
            np.testing.assert_allclose(one.memory, other, rtol=2e-6, atol=2e-6)

    def test_the_output_goes_where_it_is_told(self):
        x, mean, variance, out = (CupyArray(placed(one)) for one in (VALUES, *STATISTICS, VALUES * 0))
        assert functional.normalize(x, mean, variance, out=out) is out
        np.testing.assert_allclose(out.memory, functional.normalize(VALUES, *STATISTICS), rtol=2e-6, atol=2e-6)

    def test_statistics_and_gradients_are_its_arrays(self):
        x, dy, scale = (CupyArray(placed(one)) for one in (VALUES, SLOPES, STATISTICS[1]))
        found = [*functional.batch_stats(x), *functional.batch_norm_backward(dy, x, scale=scale)]
        expected = functional.batch_norm_backward(SLOPES, VALUES, scale=STATISTICS[1])
        for one, other in zip(found, [*functional.batch_stats(VALUES), *expected], strict=True):
            assert type(one) is CupyArray
            np.testing.assert_allclose(one.memory, other, rtol=1e-5, atol=1e-5)

    def test_statistics_are_merged_and_moved_towards(self):
        whole, halves = CupyArray(placed(VALUES)), [CupyArray(placed(one[None])) for one in VALUES]
        merged = functional.merge_stats(*map(functional.batch_stats, halves))
        for one, other in zip(merged, functional.batch_stats(whole), strict=True):
            np.testing.assert_allclose(one.memory, other.memory, rtol=1e-6)
        running = [CupyArray(placed(one)) for one in STATISTICS]
        moved = functional.update_running_stats(*running, merged)
        assert moved[0] is running[0]
        expected = functional.update_running_stats(*map(np.copy, STATISTICS), functional.batch_stats(VALUES))
        for one, other in zip(moved, expected, strict=True):
            np.testing.assert_allclose(one.memory, other, rtol=1e-6)

    def test_libraries_and_places_are_not_mixed(self):
        with pytest.raises(TypeError, match="mean: expected an array of cupy, like the others, found one of numpy"):
            functional.normalize(CupyArray(placed(VALUES)), *STATISTICS)

    def test_statistics_of_what_has_gaps(self):
        for one, other in zip(functional.batch_stats(sliced(VALUES)), functional.batch_stats(VALUES), strict=True):
            np.testing.assert_allclose(one.memory, other, rtol=1e-5)

    @pytest.mark.parametrize("out", [plain, last])
    @pytest.mark.parametrize("values", [plain, last, sliced])
    def test_the_output_may_lie_in_another_order_than_the_input(self, values, out):
        target, slopes = out(VALUES * 0), plain(SLOPES)
        assert functional.batch_norm(values(VALUES), training=True, out=target).output is target
        expected = functional.batch_norm(VALUES, training=True).output
        np.testing.assert_allclose(target.memory, expected, rtol=2e-6, atol=2e-6)
        assert functional.batch_norm_backward(slopes, values(VALUES), out=target).x is target
        expected = functional.batch_norm_backward(SLOPES, VALUES).x
        np.testing.assert_allclose(target.memory, expected, rtol=1e-5, atol=1e-5)

    def test_an_output_that_cannot_be_written_is_refused(self):
        x, mean, variance = map(plain, (VALUES, *STATISTICS))
        with pytest.raises(ValueError, match=r"out: expected memory without gaps, found strides \(480, 160, 32, 4\)"):
            functional.normalize(x, mean, variance, out=sliced(VALUES))
        fixed = Tensor(plain(VALUES))
        fixed.array.readonly = True
        with pytest.raises(ValueError, match="out: expected memory that can be written, found read-only memory"):
            functional.normalize(*map(Tensor, (x, mean, variance)), out=fixed)

    def test_an_output_may_overlap_nothing_that_is_read(self):
        memory = placed(np.concatenate([VALUES, VALUES]))
        x, other = CupyArray(memory[:2]), CupyArray(memory[1:3])
        mean, variance = map(plain, STATISTICS)
        shared = "out: expected memory of its own, or where it is allowed the very same, found memory shared"
        with pytest.raises(ValueError, match=shared):
            functional.normalize(x, mean, variance, out=other)
        with pytest.raises(ValueError, match=shared):
            functional.batch_norm(x, training=True, out=x)
        np.testing.assert_array_equal(memory[:2], VALUES)
        expected = functional.normalize(VALUES, *STATISTICS)
        assert functional.normalize(x, mean, variance, out=x) is x
        np.testing.assert_allclose(x.memory, expected, rtol=2e-6, atol=2e-6)

    def test_a_mask_is_for_the_cpu(self):
        x = CupyArray(placed(VALUES))
        with pytest.raises(ValueError, match="mask: expected None for an input that is not on the CPU"):
            functional.batch_stats(x, mask=x)


@pytest.fixture
def on_gpu(monkeypatch):
    """Make a torch tensor that says that it is on a GPU; whatever torch allocates there is such a one."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    from normspec.runtime.kernels.cuda import simulated

    class Tensor(torch.Tensor):
        is_cuda, is_cpu, device = True, False, torch.device("cuda", 0)
        __torch_function__ = torch._C._disabled_torch_function_impl

        def get_device(self):
            return 0

        def detach(self):
            return self.as_subclass(torch.Tensor).detach().as_subclass(Tensor)

        def resolve_neg(self):
            return make(self.as_subclass(torch.Tensor).resolve_neg()) if self.is_neg() else self

        def permute(self, axes):
            return self.as_subclass(torch.Tensor).permute(axes).as_subclass(Tensor)

        def reshape(self, shape):
            return self.as_subclass(torch.Tensor).reshape(shape).as_subclass(Tensor)

        view = reshape

    def make(tensor):
        memory = torch.from_numpy(placed(np.zeros(tensor.numel(), np.dtype(str(tensor.numpy().dtype)))))
        there = memory.as_strided(tensor.shape, tensor.stride()).copy_(tensor)
        return there.as_subclass(Tensor)

    def empty(size, *, device, **options):
        return make(torch.zeros(size, **options))

    def empty_like(tensor, real=torch.empty_like, **options):
        made = real(tensor.as_subclass(torch.Tensor), **options)
        return make(made.fill_(np.nan)) if tensor.is_cuda else made

    def as_tensor(array, device="cpu"):
        tensor = torch.from_numpy(simulated.ndarray(array))
        return tensor.as_subclass(Tensor) if torch.device(device).type == "cuda" else tensor.clone()

    for one in (empty, empty_like, as_tensor):
        monkeypatch.setattr(torch, one.__name__, one)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: STREAM, raising=False)
    return make


@pytest.mark.parametrize("last", [False, True])
def test_torch_tensors_on_a_gpu_are_normalized_there(on_gpu, last):
    import torch

    from normspec.interop.torch import batch_norm

    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.from_numpy(VALUES).contiguous(memory_format=layout)
    found = []
    for place in (torch.clone, on_gpu):
        given, (mean, variance, *learned) = place(x), map(place, vectors())
        outputs = [batch_norm(given, mean, variance, *learned, training) for training in (True, False)]
        assert {type(one) for one in outputs} == {type(given)}
        assert {one.stride() for one in outputs} == {x.stride()}
        found.append([*outputs, mean, variance])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("last", [False, True])
def test_torch_tensors_on_a_gpu_are_differentiated_there(on_gpu, last):
    import torch

    from normspec.interop.torch import batch_norm

    layout = torch.channels_last if last else torch.contiguous_format
    x, dy = (torch.from_numpy(one).contiguous(memory_format=layout) for one in (VALUES, SLOPES))
    found = []
    for place in (torch.clone, on_gpu):
        given, weight, bias = (place(one).requires_grad_() for one in (x, *vectors()[2:]))
        y = batch_norm(given, None, None, weight, bias, True)
        gradients = torch.autograd.grad(y, (given, weight, bias), place(dy))
        assert type(gradients[0]) is type(given)
        assert gradients[0].stride() == x.stride()
        found.append(gradients)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("last", [False, True])
def test_a_dialect_gives_back_torchs_tensors_on_a_gpu(on_gpu, last):
    import torch

    layout = torch.channels_last if last else torch.contiguous_format
    x = on_gpu(torch.from_numpy(VALUES).contiguous(memory_format=layout))
    y = nn.BatchNorm2d(3).to("cuda")(x)
    assert y.stride() == x.stride()
    np.testing.assert_allclose(y.numpy(), nn.BatchNorm2d(3)(VALUES), rtol=2e-6, atol=2e-6)


def test_the_negative_of_what_lies_on_a_gpu_is_read(on_gpu):
    """As a view of the imaginary part of a conjugate is."""
    import torch

    from normspec.interop.torch import batch_norm

    found = []
    for place in (torch.clone, on_gpu):
        x, mean, variance, weight, bias = map(place, (torch.from_numpy(VALUES), *vectors()))
        x, weight = (torch._neg_view(one.as_subclass(torch.Tensor)).as_subclass(type(one)) for one in (x, weight))
        found.append(batch_norm(x, mean, variance, weight, bias, True))
    np.testing.assert_allclose(found[1].numpy(), found[0].numpy(), rtol=5e-6, atol=5e-6)
    y = nn.BatchNorm2d(3).to("cuda")(x)
    np.testing.assert_allclose(y.numpy(), nn.BatchNorm2d(3)(-VALUES), rtol=2e-6, atol=2e-6)


def vectors():
    """Running statistics, weight and bias."""
    import torch

    return [torch.from_numpy(one) for one in np.random.default_rng(1).uniform(0.5, 1.5, (4, 3)).astype(np.float32)]
