"""What happens at run time and no spec says: threads, views, sharing, loading, what is returned and printed."""

from __future__ import annotations

import re
import sys
import threading

import numpy as np
import pytest

from normspec import lucid, nvtripy, storch, torch
from normspec import tripy as tp


@pytest.fixture
def eager_switching():
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def trained(bn, *, threads=8, steps=25, features=4000):
    """``bn`` after training steps from several threads at once, each on batches of its own number."""
    start = threading.Barrier(threads)

    def work(number):
        x = np.full((2, features), number, np.float32)
        start.wait()
        for _ in range(steps):
            bn(x)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return bn


@pytest.mark.usefixtures("eager_switching")
class TestThreads:
    def test_every_step_is_counted_and_averaged(self):
        bn = trained(torch.nn.BatchNorm1d(4000, momentum=None))
        assert int(bn.num_batches_tracked) == 8 * 25
        np.testing.assert_allclose(bn.running_mean.numpy(), np.mean(range(8)), rtol=1e-4)

    def test_no_update_of_a_moving_average_is_lost(self):
        bn = trained(torch.nn.BatchNorm1d(4000, momentum=0.001))
        np.testing.assert_allclose(bn.running_var.numpy(), (1 - 0.001) ** (8 * 25), rtol=1e-4)


class TestRunningStatisticsThatNoKernelTakes:
    """They are updated where they lie: mean 0 and variance 1 by a batch of mean 4, variance 2, at momentum 1/2."""

    X = np.array([[3.0, 3.0, 3.0], [5.0, 5.0, 5.0]], np.float32)

    def check(self, mean, var):
        torch.nn.functional.batch_norm(self.X, mean, var, training=True, momentum=0.5)
        np.testing.assert_array_equal(np.asarray(mean), 2.0)
        np.testing.assert_array_equal(np.asarray(var), 1.5)

    def test_strided_views(self):
        mean, var = np.zeros(6, np.float32), np.ones((3, 2), np.float32)
        self.check(mean[::2], var[:, 1])
        np.testing.assert_array_equal(mean, [2, 0, 2, 0, 2, 0])
        np.testing.assert_array_equal(var, [[1, 1.5]] * 3)

    @pytest.mark.parametrize("dtype", ["float16", ">f4"])
    def test_other_element_types(self, dtype):
        mean, var = np.zeros(3, dtype), np.ones(3, dtype)
        self.check(mean, var)
        assert mean.dtype == var.dtype == dtype

    def test_tensors(self):
        array = np.zeros(3, np.float16)
        self.check(torch.Tensor(array), torch.Tensor(np.ones(3, np.float16)))
        np.testing.assert_array_equal(array, 2.0)


class TestSharedTensors:
    @pytest.mark.parametrize("package", [torch, lucid])
    def test_are_given_once(self, package):
        net = package.nn.Module()
        net.one, net.two = package.nn.BatchNorm1d(3), package.nn.BatchNorm1d(3)
        net.two.weight, net.two.running_mean = net.one.weight, net.one.running_mean
        assert [name for name, _ in net.named_parameters()] == ["one.weight", "one.bias", "two.bias"]
        assert len(list(net.parameters())) == 3
        assert "two.running_mean" not in dict(net.named_buffers())
        assert len(list(net.buffers())) == 5
        assert list(net.state_dict())[5:7] == ["two.weight", "two.bias"]

    def test_are_given_once_by_storch(self):
        net = storch.nn.Module()
        net.one, net.two = storch.nn.BatchNorm1d(3), storch.nn.BatchNorm1d(3)
        net.two.bias = net.one.bias
        assert list(net.namedParameters) == ["one.weight", "one.bias", "two.weight"]
        assert len(net.parameters) == 3

    @pytest.mark.parametrize("package", [tp, nvtripy])
    def test_are_given_once_by_tripy(self, package):
        bn = package.BatchNorm(3)
        bn.running_var = bn.weight
        assert [name for name, _ in bn.named_parameters()] == ["weight", "bias", "running_mean"]


class TestReset:
    CHANGED, FIRST = (7.0, 7.0, 7.0, 7.0, 7.0), (1.0, 0.0, 0.0, 1.0, 0.0)

    def values(self, bn):
        return tuple(float(np.max(tensor.numpy())) for tensor in bn.state_dict().values())

    @pytest.fixture
    def bn(self):
        bn = torch.nn.BatchNorm2d(3)
        for tensor in bn.state_dict().values():
            tensor.copy_(torch.Tensor(np.full(tensor.shape, 7.0)))
        assert self.values(bn) == self.CHANGED
        return bn

    def test_of_the_running_statistics_leaves_the_parameters(self, bn):
        bn.reset_running_stats()
        assert self.values(bn) == self.CHANGED[:2] + self.FIRST[2:]

    def test_of_the_parameters_resets_everything(self, bn):
        weight = bn.weight
        bn.reset_parameters()
        assert self.values(bn) == self.FIRST
        assert bn.weight is weight


class TestStorchsRecurse:
    def test_false_leaves_out_what_is_inside(self):
        net = storch.nn.Module()
        net.registerParameter(storch.ones((2,)), n="own")
        net.registerModule(storch.nn.BatchNorm1d(2), "bn")
        assert list(net.namedParameters(recurse=False)) == ["own"]
        assert list(net.namedParameters(recurse=True)) == ["own", "bn.weight", "bn.bias"]
        assert list(net.namedParameters()) == list(net.named_parameters) == list(net.namedParameters)
        assert list(net.namedBuffers(recurse=False)) == []
        assert len(net.parameters(recurse=False)) == 1


class TestTripysFunctions:
    @pytest.mark.parametrize("package", [tp, nvtripy])
    def test_nested_tensors_print_on_lines_of_their_own(self, package):
        after = "dtype=float32, loc=cpu:0, shape"
        assert repr(package.zeros((3,))) == f"tensor([0.0000, 0.0000, 0.0000], {after}=(3,))"
        assert repr(package.zeros((1, 1))) == f"tensor([[0.0000]], {after}=(1, 1))"
        assert repr(package.iota((2, 2))) == (
            f"tensor(\n    [[0.0000, 0.0000],\n     [1.0000, 1.0000]], \n    {after}=(2, 2))"
        )

    @pytest.mark.parametrize("package", [tp, nvtripy])
    def test_iota_counts_along_a_dimension(self, package):
        assert package.iota((2, 3)).tolist() == [[0, 0, 0], [1, 1, 1]]
        assert package.iota((2, 3), dim=1).tolist() == [[0, 1, 2], [0, 1, 2]]
        assert package.iota((2, 3), dim=-1).tolist() == package.iota((2, 3), dim=1).tolist()
        assert package.iota((2, 3), 1, package.int32).dtype == package.int32

    def test_sizes_below_zero_are_refused(self):
        for make in (lambda: nvtripy.ones((2, -1)), lambda: nvtripy.iota((-1,))):
            with pytest.raises(ValueError, match="shape: expected sizes of zero or more, found"):
                make()

    @pytest.mark.parametrize("name", ["in_features", "out_features"])
    @pytest.mark.parametrize(
        ("size", "first", "told"),
        [
            ("a", "expected an instance of type: 'int' but got argument of type: 'str'.", "int, found str"),
            (True, "expected an instance of type: 'int' but got argument of type: 'bool'.", "int, found bool"),
            (-2, "expected zero or more features but got -2.", "zero or more, found -2"),
        ],
    )
    def test_sizes_of_a_linear_layer_are_checked(self, name, size, first, told):
        whole = f"For parameter: '{name}', {first}\nLinear: {name}: expected {told}"
        with pytest.raises(nvtripy.TripyException, match=f"^{re.escape(whole)}$"):
            nvtripy.Linear(**{"in_features": 2, "out_features": 3, name: size})


@pytest.mark.parametrize(
    ("seed", "draw"),
    [
        (torch.manual_seed, lambda: torch.randn(5)),
        (lucid.manual_seed, lambda: lucid.randn(5)),
        (storch.manualSeed, lambda: storch.randn((5,))),
        (storch.manual_seed, lambda: storch.randn((5,))),
    ],
    ids=["torch", "lucid", "storch", "storch, in snake_case"],
)
def test_a_seed_repeats_the_draws(seed, draw):
    seed(3)
    first, second = draw().tolist(), draw().tolist()
    seed(3)
    assert [draw().tolist(), draw().tolist()] == [first, second]
    assert first != second
    seed(4)
    assert draw().tolist() != first


class TestLoading:
    @pytest.mark.parametrize("package", [lucid, torch, storch])
    def test_copies(self, package):
        bn, other = package.nn.BatchNorm1d(2), package.nn.BatchNorm1d(2)
        other(np.array([[0, 10], [2, 30]], np.float32))
        mean, state = bn.running_mean, other.state_dict()
        bn.load_state_dict(state)
        assert bn.running_mean is mean
        assert mean.tolist() == other.running_mean.tolist() != [0, 0]
        assert all(one is not two for one, two in zip(bn.state_dict().values(), state.values(), strict=True))
        before = mean.tolist()
        other(np.zeros((2, 2), np.float32))
        assert mean.tolist() == before

    @pytest.mark.parametrize("package", [nvtripy, tp])
    def test_replaces_in_tripy(self, package):
        bn, other = package.BatchNorm(2), package.BatchNorm(2)
        weight, state = bn.weight, other.state_dict()
        bn.load_state_dict(state)
        assert bn.weight is not weight
        assert all(bn.state_dict()[name] is tensor for name, tensor in state.items())


class TestTheCounter:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_of_storch_has_the_type_of_the_parameters(self, dtype):
        bn = storch.nn.BatchNorm1d(3, dtype=dtype)
        assert bn.num_batches_tracked.dtype.name == bn.weight.dtype.name == dtype

    @pytest.mark.parametrize("package", [torch, lucid])
    def test_of_the_others_is_int64(self, package):
        for dtype in ("float16", "float32", "float64"):
            bn = package.nn.BatchNorm1d(3, dtype=dtype)
            assert bn.num_batches_tracked.dtype.name == "int64"
            assert bn.double().num_batches_tracked.dtype.name == "int64"

    @pytest.mark.parametrize("package", [torch, lucid])
    def test_of_ones_own_stays_an_integer(self, package):
        net = package.nn.Module()
        net.register_buffer("seen", package.tensor(3))
        assert net.half().seen.dtype.name == "int64"


class TestModes:
    @pytest.mark.parametrize("package", [torch, lucid])
    def test_train_and_eval_return_the_module(self, package):
        bn = package.nn.BatchNorm1d(3)
        assert bn.eval() is bn
        assert not bn.training
        assert bn.train() is bn
        assert bn.training
        assert bn.train(False) is bn
        assert not bn.training

    def test_they_return_nothing_in_storch(self):
        bn = storch.nn.BatchNorm1d(3)
        assert bn.eval() is None
        assert not bn.isTraining
        assert bn.train() is None
        assert bn.isTraining
        assert bn.train(on=False) is None
        assert not bn.is_training
