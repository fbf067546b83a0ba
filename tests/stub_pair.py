"""Two GPUs, on a driver that runs nothing: ``test_kernels_launch.py`` runs this file with that driver."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from normspec import torch as torch_dialect
from normspec.runtime.kernels import cuda
from normspec.runtime.kernels.cuda import device, gpu, plans

pytest_plugins = ["stub_suite"]  # whose fixtures these are


@pytest.fixture
def launched(driver, monkeypatch):
    """The GPUs of what is launched: that which it was loaded for, and that which the thread works on."""
    plans._plans.clear()
    log, launcher = [], gpu.Gpu.launcher

    def logged(self, *arguments, **keywords):
        run = launcher(self, *arguments, **keywords)

        def call(*given):
            log.append((self.index, [one for one in (0, 1) if device.gpu(one).is_current()]))
            run(*given)

        return call

    monkeypatch.setattr(gpu.Gpu, "launcher", logged)
    return log


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("vectors", [True, False])
def test_a_module_works_where_its_input_is(launched, mode, vectors):
    """Even one without vectors, of which a plan would know where it is."""
    for index in (0, 1, 0, 1):
        name = f"cuda:{index}"
        module = torch_dialect.nn.BatchNorm2d(3, affine=vectors, track_running_stats=vectors).to(name).train(mode)
        x = torch_dialect.Tensor(np.ones((2, 3, 4, 4), np.float32)).to(name)
        launched.clear()
        with torch_dialect.no_grad():
            y = module(x)
        assert y.device == name
        assert y.array.device == index
        assert launched == [(index, [index])]
        assert device.gpu(0).is_current(), "as it was before"


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", ["weight", "running_mean"])
def test_a_vector_on_another_gpu_is_refused(launched, mode, name):
    module = torch_dialect.nn.BatchNorm2d(3).to("cuda:0").train(mode)
    setattr(module, name, getattr(module, name).detach().to("cuda:1"))
    with pytest.raises(RuntimeError, match="expected cuda:1, found cuda:0"):
        module(torch_dialect.Tensor(np.ones((2, 3, 4, 4), np.float32)).to("cuda:0"))
    assert launched == []


@pytest.mark.parametrize("index", [0, 1])
def test_a_thread_is_left_on_the_gpu_that_it_worked_on(launched, index):
    """None is as good as the first: other libraries allocate there unless they are told otherwise."""

    def work():
        module = torch_dialect.nn.BatchNorm2d(3, device=f"cuda:{index}")
        module(torch_dialect.Tensor(np.ones((2, 3, 4, 4), np.float32), device=f"cuda:{index}"))
        return device.gpu(1).is_current()

    with ThreadPoolExecutor(1) as fresh:
        assert not fresh.submit(work).result()
    assert launched == [(index, [index])]


def test_functions_of_the_backend_work_where_x_is(launched):
    for index in (0, 1):
        x, y, dx = (cuda.to_device(np.ones((2, 3, 16), np.float32), index) for _ in range(3))
        mean, variance = (cuda.to_device(np.ones(3), index) for _ in range(2))
        launched.clear()
        results = [
            *cuda.batch_statistics(x),
            *cuda.forward_training(x, y, None, None, None, None, 0.5, 0.25, True),
            *cuda.backward(x, y, dx, mean, variance, None, True),
        ]
        cuda.normalize(x, y, mean, variance, None, None, 0.5)
        assert {one.device for one in results} == {index}
        assert {tuple(map(str, one)) for one in launched} == {(str(index), str([index]))}


def test_tensors_go_where_they_are_sent(driver):
    first = torch_dialect.Tensor(np.ones(3, np.float32)).to("cuda")
    second = first.to("cuda:1")
    second.copy_(first)
    assert [one.array.device for one in (first, second, second.to("cuda"))] == [0, 1, 0]
    assert second.array.pointer != first.array.pointer


def test_what_a_call_copies_goes_where_its_input_is(launched, monkeypatch):
    """Vectors of 16 bits, and what evaluation leaves for the way back."""
    module = torch_dialect.nn.BatchNorm2d(3, dtype=torch_dialect.float16).to("cuda:1")
    x = torch_dialect.Tensor(np.ones((2, 3, 4, 4), np.float16)).to("cuda:1")
    copied, to_device = [], cuda.to_device
    monkeypatch.setattr(cuda, "to_device", lambda *given: copied.append(to_device(*given).device) or to_device(*given))
    for mode in (True, False):
        y = module.train(mode)(x)
        with np.errstate(all="ignore"):  # of memory that nobody has written
            y.backward(y)
    assert set(copied) == {1}
    assert set(map(str, launched)) == {"(1, [1])"}
    assert module.weight.grad.device == "cuda:1"
    assert module.weight.grad.array.device == 1


def test_what_a_library_allocates_is_where_its_array_is(driver, monkeypatch):
    """CuPy allocates on the current device, on whose stream it is asked for; here it is that of another array."""

    class Array:
        __module__ = "cupy"

        def __init__(self, index):
            self.memory = cuda.empty((2, 3, 4, 4), np.float32, index)
            self.dtype, self.shape, self.strides = np.dtype(np.float32), self.memory.shape, self.memory.strides
            self.device, self.data = SimpleNamespace(id=index), SimpleNamespace(ptr=self.memory.pointer)

    def current():
        return next(one for one in (0, 1) if device.gpu(one).is_current())

    cupy = ModuleType("cupy")
    cupy.empty_like = cupy.ascontiguousarray = lambda array: Array(current())
    cupy.cuda = SimpleNamespace(get_current_stream=lambda index: SimpleNamespace(ptr=0x5550 + index))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda.foreign, "_cupy", cuda.foreign._cupy.__wrapped__)
    for index in (1, 0):
        x = cuda.asarray(Array(index))
        assert x.stream == 0x5550 + index
        x.strides = (384, 128, 32, 4)  # with gaps
        assert [one.device for one in (cuda.empty_like(x), cuda.outputs.contiguous(x))] == [index, index]
        assert current() == 0
