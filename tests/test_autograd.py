"""The tape: gradients against finite differences and torch, what is kept for them, and what is refused."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from normspec import lucid, nvtripy, storch, torch
from normspec import tripy as tp
from normspec.runtime import NoGrad, autograd
from normspec.runtime.kernels import cpu

RANDOM = np.random.default_rng(5)
A, B, C = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=4), RANDOM.normal(size=(4, 5))
POSITIVE, STACK = 0.5 + np.abs(A), RANDOM.normal(size=(2, 3, 4))

FUNCTIONS = {
    "add": (lambda a, b: a + b, A, B),
    "subtract": (lambda a, b: a - b, B, A),
    "multiply": (lambda a, b: a * b, A, B),
    "divide": (lambda a, b: a / b, A, 1.5 + np.abs(B)),
    "power": (lambda a, b: a**b, POSITIVE, B),
    "square": (lambda a: a**2, A),
    "cube": (lambda a: a**3, A),
    "of_two": (lambda a: 2**a, A),
    "reciprocal": (lambda a: 1 / a, POSITIVE),
    "negative": (lambda a: -a, A),
    "absolute": (abs, A),
    "exp": (np.exp, A),
    "log": (np.log, POSITIVE),
    "sqrt": (np.sqrt, POSITIVE),
    "np.square": (np.square, A),
    "tanh": (np.tanh, A),
    "maximum": (np.maximum, A, B),
    "minimum": (np.minimum, A, B),
    "relu": (lambda a: np.maximum(a, 0), A),
    "matmul": (lambda a, b: a @ b, A, C),
    "matrix_vector": (lambda a, b: a @ b, A, B),
    "vector_matrix": (lambda a, b: a @ b, B, C),
    "vector_vector": (lambda a, b: a @ b, B, B[::-1].copy()),
    "stack_matrix": (lambda a, b: a @ b, STACK, C),
    "stack_vector": (lambda a, b: a @ b, STACK, B),
    "vector_stack": (lambda a, b: a @ b, B, STACK.transpose(0, 2, 1).copy()),
    "sum": (lambda a: a.sum(), STACK),
    "sum_axes": (lambda a: a.sum((0, -1)), STACK),
    "np.sum": (lambda a: np.sum(a, axis=1, keepdims=True), STACK),
    "mean": (lambda a: a.mean(1), STACK),
    "np.mean": (np.mean, STACK),
    "reshape": (lambda a: a.reshape(2, -1) * a.reshape((2, 12)), STACK),
    "transpose": (lambda a: a.transpose(1, 2, 0) * 2, STACK),
    "transpose_back": (lambda a: a.transpose(-1, 0, -2) * STACK.transpose(2, 0, 1), STACK),
    "np.transpose": (lambda a: np.transpose(a) * STACK.T, STACK),
    "T": (lambda a: a.T @ a, A),
    "getitem": (lambda a: a[1:, [0, 0, 2]] * 3, A),
    "broadcast_to": (lambda a: a.broadcast_to((3, 4)) * A, B),
    "used_twice": (lambda a: a * a + a, A),
    "array_first": (lambda a: A * a - A, B),
}


def leaves(arrays, dtype="float64"):
    return [torch.tensor(one, dtype=dtype, requires_grad=True) for one in arrays]


def differences(function, arrays, step=1e-6):
    """Derivatives of a number with respect to every element of every array, by central differences."""
    results = []
    for which, array in enumerate(arrays):
        slopes = np.empty_like(array)
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = [one.copy() for one in arrays]
                moved[which][index] += sign * step
                with NoGrad():
                    values.append(float(function(*map(torch.Tensor, moved))))
            slopes[index] = (values[0] - values[1]) / (2 * step)
        results.append(slopes)
    return results


def first_and_second(function, arrays, tolerance=1e-8):
    """Gradients of a number, and of a number made of its gradients, against finite differences."""
    found = autograd.grad(function(*(given := leaves(arrays))), given)
    for one, expected in zip(found, differences(function, arrays), strict=True):
        np.testing.assert_allclose(one.numpy(), expected, rtol=tolerance, atol=tolerance)
    weights = [RANDOM.normal(size=array.shape) for array in arrays]

    def of_gradients(*tensors):
        given = [one if one.requires_grad else one.requires_grad_() for one in tensors]
        with_graph = autograd.grad(function(*given), given, create_graph=True)
        return sum((one * weight).sum() for one, weight in zip(with_graph, weights, strict=True))

    def value(*tensors):  # finite differences are taken where nothing is recorded
        given = leaves([one.numpy() for one in tensors])
        gradients = autograd.grad(recorded(function, given), given)
        return sum((one * weight).sum() for one, weight in zip(gradients, weights, strict=True))

    start = of_gradients(*(given := leaves(arrays)))
    second = autograd.grad(start, given) if start.requires_grad else [one * 0 for one in given]
    for one, expected in zip(second, differences(value, arrays), strict=True):
        np.testing.assert_allclose(one.numpy(), expected, rtol=10 * tolerance, atol=10 * tolerance)


def recorded(function, given):
    """Call a function as if outside of every ``NoGrad``."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*given)))
    thread.start()
    thread.join()
    return results[0]


class TestFunctions:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_first_and_second_derivatives_are_those_of_finite_differences(self, name):
        function, *arrays = FUNCTIONS[name]
        with NoGrad():
            weight = RANDOM.normal(size=np.shape(function(*map(torch.Tensor, arrays))))
        first_and_second(lambda *given: ((function(*given) + 1) ** 2 * weight).sum(), arrays)

    def test_indices_may_be_tensors(self):
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
        x[torch.tensor([0, 0, 2])].sum().backward()
        x[torch.tensor([False, True, False]), 1].sum().backward()
        assert x.grad.tolist() == [[2.0, 2.0], [0.0, 1.0], [1.0, 1.0]]

    def test_powers_at_zero(self):
        for power, slope in ((0, 0.0), (1, 1.0), (2, 0.0)):
            x = torch.tensor([0.0], requires_grad=True)
            (x**power).sum().backward()
            assert x.grad.tolist() == [slope]

    @pytest.mark.parametrize("function", [np.maximum, np.minimum])
    def test_of_two_that_are_the_same_each_has_half_of_the_gradient(self, function):
        a, b = leaves([B, B])
        function(a, b).sum().backward()
        assert a.grad.tolist() == b.grad.tolist() == [0.5] * 4

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    def test_gradients_have_the_element_type_and_shape_of_what_they_are_of(self, dtype):
        narrow, wide = torch.tensor(B, dtype=dtype, requires_grad=True), torch.tensor(A, requires_grad=True)
        (narrow * wide).sum().backward()
        assert narrow.grad.dtype.name == dtype
        assert narrow.grad.shape == (4,)
        np.testing.assert_allclose(narrow.grad.numpy().astype(float), A.sum(0), rtol=1e-2, atol=1e-2)
        assert wide.grad.dtype.name == "float64"
        alone = torch.tensor(B, dtype=dtype, requires_grad=True)
        alone.backward(B)
        assert alone.grad.dtype.name == dtype

    def test_half_precision_sums_are_added_up_in_double(self):
        x = torch.tensor(np.full(4096, 1.0), dtype="float16", requires_grad=True)
        bias = torch.tensor(np.zeros(1), dtype="float16", requires_grad=True)
        (x + bias).sum().backward()
        assert bias.grad.item() == 4096.0

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_means_are_divided_in_double(self, dtype):
        x = torch.tensor(np.full((2, 100_000), 3.0), dtype=dtype, requires_grad=True)
        mean = x.mean(1)
        assert (mean.dtype.name, mean.tolist()) == (dtype, [3.0, 3.0])
        mean.backward(np.full(2, 1000.0, mean.dtype.numpy))
        expected = np.array(0.01, mean.dtype.numpy)
        np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(expected, x.shape))

    def test_other_functions_are_refused_where_the_gradient_would_be_lost(self):
        x = torch.tensor([1.0], requires_grad=True)
        with pytest.raises(RuntimeError, match="sin: expected a function whose gradient is known"):
            np.sin(x)
        with pytest.raises(RuntimeError, match=r"multiply\.reduce: expected a function"):
            np.multiply.reduce(x)
        with pytest.raises(RuntimeError, match="add: expected a function"):
            np.add(x, 1.0, dtype="float64")
        with pytest.raises(RuntimeError, match="modf: expected a function"):
            np.modf(x)
        with torch.no_grad():
            assert np.sin(x).item() == np.sin(np.float32(1))
            assert [one.item() for one in np.modf(x)] == [0.0, 1.0]
        assert not (x > 0).requires_grad

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: np.concatenate([x, [1.0]]),
            lambda x: np.stack([np.zeros(2), x]),
            lambda x: np.where([True, False], x, 0),
            lambda x: np.split(x, 2),
            lambda x: np.clip(x, a_min=0, a_max=1),
            lambda x: np.std(a=x),
            np.std,
        ],
    )
    def test_and_so_are_those_that_are_no_ufuncs(self, function):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(RuntimeError, match=r"(concatenate|stack|where|swapaxes|clip|std): expected a function"):
            function(x)
        np.testing.assert_array_equal(function(x.detach()), function(x.numpy()))

    def test_functions_whose_result_has_no_gradient_are_not(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        assert np.shape(x) == (2,)
        assert np.argmax(x) == 1
        assert np.allclose(x, [1.0, 2.0])
        assert np.zeros_like(x).tolist() == [0.0, 0.0]
        assert np.sum(x).requires_grad

    @pytest.mark.parametrize("step", [np.sign, np.floor, np.ceil, np.trunc, np.rint])
    def test_steps_have_a_gradient_of_zero_as_in_torch(self, step):
        x = torch.tensor([0.5, -1.5, 2.0], requires_grad=True)
        step(x).backward(torch.tensor([1.0, np.nan, np.inf]))
        assert (x.grad.dtype, x.grad.tolist()) == (torch.float32, [0, 0, 0])
        (step(x) * x).sum().backward()
        assert x.grad.tolist() == step(x.numpy()).tolist()

    def test_tensors_on_two_devices_are_refused(self):
        here, there = torch.Tensor([1.0]), torch.Tensor([1.0])
        there.device = "cuda:0"
        with pytest.raises(ValueError, match="add: expected tensors on one device, found cpu and cuda:0"):
            here + there


class TestTape:
    def test_gradients_accumulate_in_place(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        (x * 3).sum().backward()
        first = x.grad
        (x * x).sum().backward()
        assert x.grad is first
        assert x.grad.tolist() == [5.0, 7.0]

    def test_leaves_never_share_the_memory_of_a_gradient(self):
        a, b, c = leaves([A, A, A.reshape(-1)])
        given = torch.Tensor(np.ones((3, 4)))
        (a + b + c.reshape(3, 4)).backward(given)
        arrays = [a.grad.numpy(), b.grad.numpy(), c.grad.numpy(), given.numpy()]
        assert not any(np.shares_memory(*pair) for pair in itertools.combinations(arrays, 2))
        (a.sum() + b.sum()).backward()
        assert np.all(given.numpy() == 1)
        assert all(np.all(one == 2) for one in arrays[:2])
        a.grad = b.grad = None
        ((a + b) * 2).sum().backward()
        assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())

    def test_a_gradient_that_is_the_same_everywhere_is_added_to(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for times in (1, 2):
            x.mean().backward()
            assert x.grad.tolist() == [0.5 * times] * 2

    def test_a_gradient_that_can_be_differentiated_is_not_changed(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y = (x**2).sum()
        y.backward(create_graph=True)  # which retains the graph
        before = x.grad
        y.backward()
        assert (before.tolist(), x.grad.tolist()) == ([2, 4], [4, 8])

    def test_a_second_backward_needs_the_first_to_retain(self):
        x = torch.tensor([2.0], requires_grad=True)
        y = x * x
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [8.0]
        with pytest.raises(RuntimeError, match=r"multiply: .* needs retain_graph=True"):
            y.backward()
        assert x.grad.tolist() == [8.0]

    def test_a_backward_that_raises_has_changed_no_gradient(self):
        x, z = leaves([B, B])
        y = x * x
        both = y.sum() + (z * z).sum()
        y.sum().backward()
        before = x.grad.numpy().copy()
        with pytest.raises(RuntimeError, match="retain_graph"):
            both.backward()
        np.testing.assert_array_equal(x.grad.numpy(), before)
        assert z.grad is None

    @pytest.mark.parametrize("start", [np.ones((4, 3)) * 1j, "s", {}, [[1.0], [2.0, 3.0]], np.ma.ones((4, 3))])
    def test_a_start_that_is_no_tensor_is_refused_by_name(self, start):
        y = torch.nn.BatchNorm1d(3)(torch.randn(4, 3))
        found = f"{type(start).__name__}, of which none can be made"
        with pytest.raises(TypeError, match=rf"backward: gradient: expected a tensor of shape \(4, 3\), found {found}"):
            y.backward(start)

    def test_wrong_starts_are_refused(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(RuntimeError, match=r"gradient: expected one of shape \(2,\).*found None"):
            (x * 2).backward()
        with pytest.raises(ValueError, match=r"gradient: expected shape \(2,\), found shape \(3,\)"):
            (x * 2).backward(np.ones(3))
        elsewhere = torch.tensor([1.0, 2.0])
        elsewhere.device = "cuda:0"
        with pytest.raises(ValueError, match=r"gradient: expected a tensor on cpu, found one on cuda:0"):
            (x * 2).backward(elsewhere)
        with pytest.raises(RuntimeError, match="expected a tensor computed from one that requires gradients"):
            torch.tensor([1.0]).backward()
        with pytest.raises(RuntimeError, match="inputs: expected tensors that require gradients"):
            autograd.grad(x.sum(), [torch.tensor([1.0])])
        with pytest.raises(RuntimeError, match="floating-point tensor, found one of int64"):
            torch.tensor([1], requires_grad=True)
        assert not torch.tensor([1]).requires_grad_(False).requires_grad
        with pytest.raises(RuntimeError, match="was not computed from others"):
            (x * 2).requires_grad = False

    def test_what_is_computed_in_place_cannot_be_recorded(self):
        x = torch.tensor([1.0], requires_grad=True)
        with pytest.raises(RuntimeError, match="add: out: expected tensors that require no gradient"):
            x += 1
        with pytest.raises(RuntimeError, match=r"add\.at: expected tensors that require no gradient"):
            np.add.at(x, [0], 1)
        assert x.tolist() == [1.0]
        with torch.no_grad():
            x -= 0.5
        assert x.tolist() == [0.5]
        assert x.is_leaf

    def test_what_does_not_matter_has_no_gradient_or_zeros(self):
        x, y, z = leaves([B, B, B])
        (x * y.detach()).sum().backward()
        assert y.grad is None
        _, zeros = autograd.grad((x * 2).sum(), [x, z])
        np.testing.assert_array_equal(zeros.numpy(), np.zeros(4))

    def test_gradients_of_what_was_computed_on_the_way(self):
        x = torch.tensor([3.0], requires_grad=True)
        y = x * x
        inner, outer = autograd.grad(y * y, [y, x])
        assert (inner.item(), outer.item()) == (18.0, 108.0)
        assert x.grad is None

    def test_one_tensor_is_an_input_and_not_its_rows(self):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        (found,) = autograd.grad((x * x).sum(), x)
        assert found.tolist() == [2.0, 4.0]

    def test_a_gradient_may_be_differentiated_in_the_place_of_the_start_too(self):
        x, start = leaves([B, B])
        (slope,) = autograd.grad(x**3, [x], start, create_graph=True)
        slope.sum().backward()
        np.testing.assert_allclose(start.grad.numpy(), 3 * B**2)

    def test_long_chains_need_no_deep_stack(self):
        x = torch.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(20_000):
            y = y + 1
        y.backward(retain_graph=True)
        assert x.grad.tolist() == [1.0]
        del y
        gc.collect()

    def test_threads_add_all_their_gradients(self):
        x = torch.tensor(np.zeros(100), requires_grad=True)
        threads = [threading.Thread(target=lambda: [(x * 1).sum().backward() for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(x.grad.numpy(), 200.0)

    def test_gradients_are_added_one_after_the_other(self, monkeypatch):
        locked, x = [], torch.tensor([1.0], requires_grad=True)

        class Lock:
            def __enter__(self):
                locked.append(x.grad)

            def __exit__(self, *_):
                locked.append(x.grad.tolist())

        monkeypatch.setattr(autograd, "_adding", Lock())
        (x * 2).backward()
        assert locked == [None, [2.0]]

    def test_copies_are_not_computed_from_anything(self):
        x = torch.tensor([1.0], requires_grad=True)
        y = x * 2
        for twin in (copy.deepcopy(y), pickle.loads(pickle.dumps(y)), y.copy(), y.detach()):
            assert twin.tolist() == [2.0]
            assert not twin.requires_grad
        assert copy.deepcopy(x).requires_grad
        assert np.shares_memory(y.detach().numpy(), y.numpy())

    def test_prints_in_the_dialects_way(self):
        assert repr(torch.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
        assert repr(torch.tensor([1.0], requires_grad=True) * 2) == "tensor([2.], grad_fn=<multiply>)"
        assert repr(lucid.tensor([1.0], requires_grad=True) * 2) == "tensor([2.], requires_grad=True)"


SHAPES = [(9, 3), (4, 3, 5), (3, 3, 2, 4), (2, 3, 2, 3, 2), (2, 1, 7)]
KINDS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
CONFIGURATIONS = [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}]


def layer(shape, training, dtype="float64", package=torch, **arguments):
    bn = getattr(package.nn, KINDS[len(shape)])(shape[1], dtype=dtype, **arguments).train(training)
    for seed, tensor in enumerate([*bn.parameters(), *bn.buffers()]):
        if tensor.ndim:
            tensor.copy_(torch.Tensor(np.random.default_rng(seed).uniform(0.5, 2, shape[1])))
    return bn


def laid_out(array):
    """The strides that matter."""
    return [stride for stride, size in zip(array.strides, array.shape, strict=True) if size > 1]


class TestBatchNorm:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=str)
    @pytest.mark.parametrize("shape", [(5, 2), (3, 2, 4)])
    def test_first_and_second_derivatives_are_those_of_finite_differences(self, shape, arguments, training):
        bn, weight = layer(shape, training, **arguments), RANDOM.normal(size=shape)
        names = [name for name, _ in bn.named_parameters()]

        def loss(x, *vectors):
            one = copy.deepcopy(bn)
            for name, vector in zip(names, vectors, strict=True):
                setattr(one, name, vector)
            return ((one(x) + 1) ** 2 * weight).sum()

        first_and_second(loss, [RANDOM.normal(size=shape), *(one.numpy() for one in bn.parameters())], 3e-7)

    @pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_gradients_are_torchs(self, shape, dtype, training, last):
        theirs = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
        for arguments in CONFIGURATIONS:
            x, start = RANDOM.normal(1, 2, shape), RANDOM.normal(size=shape)
            if last:
                x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
            bn = layer(shape, training, "float64" if dtype == "float64" else "float32", **arguments)
            given = torch.tensor(x, dtype=dtype, requires_grad=True)
            bn(given).backward(torch.tensor(start, dtype=dtype))

            peer = getattr(theirs.nn, KINDS[len(shape)])(shape[1], dtype=theirs.float64, **arguments).train(training)
            source = layer(shape, training, "float64", **arguments)
            peer.load_state_dict({key: theirs.tensor(one.numpy()) for key, one in source.state_dict().items()})
            exact = theirs.tensor(given.numpy().astype(float), requires_grad=True)
            peer(exact).backward(theirs.tensor(torch.tensor(start, dtype=dtype).numpy().astype(float)))

            rounding = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-11}[dtype]
            assert given.grad.dtype.name == dtype
            assert laid_out(given.grad.numpy()) == laid_out(given.numpy())
            scale = float(exact.grad.abs().max())
            np.testing.assert_allclose(
                given.grad.numpy().astype(float), exact.grad.numpy(), rtol=rounding, atol=rounding * scale
            )
            for name, one in bn.named_parameters():
                expected = getattr(peer, name).grad.numpy()
                tolerance = min(rounding, 2e-6)  # parameters are float32 at least
                np.testing.assert_allclose(one.grad.numpy(), expected, rtol=tolerance, atol=tolerance * 10)

    def test_ill_conditioned_data_cost_no_accuracy(self):
        x = (1e5 + RANDOM.normal(size=(64, 4))).astype(np.float32)
        start = RANDOM.normal(size=x.shape).astype(np.float32)
        bn = torch.nn.BatchNorm1d(4)
        given = torch.tensor(x, requires_grad=True)
        bn(given).backward(start)
        wide, dy = x.astype(np.longdouble), start.astype(np.longdouble)
        deviation = wide - wide.mean(0)
        invstd = 1 / np.sqrt((deviation**2).mean(0) + np.longdouble(1e-5))
        normalized = deviation * invstd
        exact = invstd * (dy - dy.mean(0) - normalized * (dy * normalized).mean(0))
        assert np.abs(given.grad.numpy() - exact).max() < 3e-7 * np.abs(exact).max()
        np.testing.assert_allclose(bn.weight.grad.numpy(), (dy * normalized).sum(0).astype(float), rtol=1e-6)

    def test_both_ways_back_agree(self):
        x, start = leaves([RANDOM.normal(size=(4, 3, 5))]), RANDOM.normal(size=(4, 3, 5))
        for training in (True, False):
            bn = layer((4, 3, 5), training)
            inputs = [*x, bn.weight, bn.bias]
            by_kernel = autograd.grad(bn(*x), inputs, start)
            composed = autograd.grad(bn(*x), inputs, start, create_graph=True)
            for one, other in zip(by_kernel, composed, strict=True):
                np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("gradient", ["broadcast", "reversed", "channels_last", "every_second", "foreign"])
    def test_the_gradient_may_have_any_strides(self, gradient):
        x = RANDOM.normal(size=(4, 3, 5, 6))
        dy = {
            "broadcast": np.broadcast_to(RANDOM.normal(size=(3, 1, 1)), x.shape),
            "reversed": RANDOM.normal(size=x.shape)[::-1, :, ::-1],
            "channels_last": RANDOM.normal(size=(4, 5, 6, 3)).transpose(0, 3, 1, 2),
            "every_second": RANDOM.normal(size=(4, 3, 10, 6))[:, :, ::2],
            "foreign": RANDOM.normal(size=x.shape).astype(">f8"),
        }[gradient]
        results = []
        for given in (dy, np.ascontiguousarray(dy, float)):
            bn, leaf = layer(x.shape, True), torch.tensor(x.astype(given.dtype), requires_grad=True)
            bn(leaf).backward(given)
            results.append([leaf.grad.numpy(), bn.weight.grad.numpy(), bn.bias.grad.numpy()])
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)

    def test_an_input_without_elements_has_gradients_of_zero(self):
        bn = torch.nn.BatchNorm1d(3)
        x = torch.tensor(np.empty((0, 3, 4), np.float32), requires_grad=True)
        bn(x).sum().backward()
        assert x.grad.shape == (0, 3, 4)
        assert bn.weight.grad.tolist() == bn.bias.grad.tolist() == [0.0, 0.0, 0.0]

    def test_a_variance_of_zero_is_told_by_the_values_alone(self):
        bn, x = torch.nn.BatchNorm1d(2, eps=0.0).eval(), torch.tensor(np.ones((3, 2)), requires_grad=True)
        bn.running_var = torch.zeros(2)
        assert np.isinf(bn.to(torch.float64)(x).numpy()).all()

    def test_running_statistics_may_move_before_the_way_back(self):
        x, start = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(6, 3))
        slopes = []
        for moves in (False, True):
            bn, given = layer((6, 3), False), torch.tensor(x, requires_grad=True)
            y = bn(given)
            if moves:
                bn.train()(x + 10)
            y.backward(start)
            slopes.append([given.grad.numpy(), np.broadcast_to(bn.weight.grad.numpy(), (6, 3))])
        np.testing.assert_array_equal(*slopes)

    def test_only_what_is_wanted_is_computed(self, monkeypatch):
        seen, backward = [], cpu.backward
        monkeypatch.setattr(cpu, "backward", lambda x, dy, dx, *rest: (seen.append(dx), backward(x, dy, dx, *rest))[1])
        bn = torch.nn.BatchNorm1d(3)
        bn(torch.tensor(RANDOM.normal(size=(6, 3)).astype(np.float32))).sum().backward()
        assert seen == [None]
        assert bn.weight.grad is not None

    def test_nan_stays_in_its_channel(self):
        x = RANDOM.normal(size=(6, 3))
        x[2, 1] = np.nan
        given, bn = torch.tensor(x, requires_grad=True), torch.nn.BatchNorm1d(3, dtype="float64")
        (bn(given) ** 2).sum().backward()
        np.testing.assert_array_equal(np.isnan(given.grad.numpy()).any(0), [False, True, False])
        np.testing.assert_array_equal(np.isnan(bn.weight.grad.numpy()), [False, True, False])

    def test_torchs_function_is_recorded_too(self):
        x, weight, bias = leaves([RANDOM.normal(size=(6, 3)), RANDOM.normal(size=3), RANDOM.normal(size=3)])
        y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)
        bn = torch.nn.BatchNorm1d(3, dtype="float64")
        bn.weight.copy_(weight)
        bn.bias.copy_(bias)
        start = RANDOM.normal(size=(6, 3))
        found = autograd.grad(y, [x, weight, bias], start)
        expected = autograd.grad(bn(x), [x, bn.weight, bn.bias], start)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


class TestMemory:
    @pytest.mark.parametrize("context", [torch.no_grad, lucid.no_grad, storch.noGrad])
    def test_nothing_is_kept_where_no_gradient_is_recorded(self, context):
        bn, x = torch.nn.BatchNorm1d(3), torch.tensor(np.ones((4, 3), np.float32), requires_grad=True)
        with context():
            kept = [bn(x), bn.eval()(x), x * 2]
        assert all(one.grad_fn is None and not one.requires_grad for one in kept)
        there = weakref.ref(x)
        del x
        assert there() is None

    def test_nothing_is_kept_of_arrays_or_by_modules_that_only_infer(self):
        for bn in (torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3).eval()):
            assert isinstance(bn(np.ones((4, 3), np.float32)), np.ndarray)
        for package in (nvtripy, tp):
            x = package.Tensor(np.ones((4, 2), np.float32))
            y, there = package.BatchNorm(2)(x), weakref.ref(x)
            del x
            assert there() is None
            assert y.grad_fn is None

    def test_the_input_is_kept_while_the_output_is(self):
        x = torch.tensor(np.ones((4, 3), np.float32))
        y, there = torch.nn.BatchNorm1d(3)(x), weakref.ref(x)
        del x
        assert there() is not None
        y.sum().backward()
        assert there() is None
        assert y.grad_fn is not None

    def test_backward_lets_go_of_what_the_gradients_were_of(self):
        x = torch.tensor(np.ones(3), requires_grad=True)
        y, there = x + 1, weakref.ref(x)
        y.backward(np.ones(3))
        del x
        assert there() is None

    def test_adding_keeps_nothing(self):
        x = torch.tensor(np.ones(3), requires_grad=True)
        inner = x * 2
        there = weakref.ref(inner)
        y = inner + 1
        del inner
        assert there() is None
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0, 2.0]

    @pytest.mark.parametrize("training", [True, False])
    def test_beside_the_output_only_vectors_are_allocated(self, training):
        x = torch.tensor(RANDOM.normal(size=(64, 8, 64, 64)).astype(np.float32), requires_grad=True)
        bn = torch.nn.BatchNorm2d(8).train(training)
        bn(x).sum().backward()  # compiles
        x.grad = None
        tracemalloc.start()
        y = bn(x)
        forward = tracemalloc.get_traced_memory()[1]
        start = np.ones_like(y.numpy())
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        y.backward(start)
        backward = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        size = x.numpy().nbytes
        assert forward < 1.2 * size  # the output, rounded up by the pool
        assert backward < 1.2 * size  # the gradient of the input


class TestModules:
    @pytest.mark.parametrize(
        ("package", "forget"), [(torch, "zero_grad"), (lucid, "zero_grad"), (storch, "zeroGrad"), (storch, "zero_grad")]
    )
    def test_parameters_accumulate_until_they_are_told_to_forget(self, package, forget):
        bn = package.nn.BatchNorm1d(3)
        x = package.zeros((4, 3)) + 1
        bn(x).sum().backward()
        bn(x).sum().backward()
        assert bn.bias.grad.tolist() == [8.0, 8.0, 8.0]
        assert type(bn.bias.grad) is package.Tensor
        getattr(bn, forget)()
        assert bn.bias.grad is None

    def test_storchs_tensors_have_both_spellings(self):
        x = storch.ones((2, 3), requiresGrad=True)
        assert x.requiresGrad
        assert x.isLeaf
        x.requiresGrad = False
        assert not x.requires_grad

    def test_zeros_in_the_place_of_none(self):
        bn = torch.nn.BatchNorm1d(3)
        bn(torch.ones(4, 3)).sum().backward()
        bn.zero_grad(set_to_none=False)
        assert bn.bias.grad.tolist() == [0.0, 0.0, 0.0]

    def test_frozen_parameters_have_no_gradient_and_stay_frozen(self):
        bn = torch.nn.BatchNorm1d(3).requires_grad_(False)
        assert not bn(torch.ones(4, 3)).requires_grad
        assert not bn.double().weight.requires_grad
        assert bn.requires_grad_().weight.requires_grad

    def test_conversion_takes_the_gradients_along(self):
        bn = torch.nn.BatchNorm1d(3)
        bn(torch.ones(4, 3)).sum().backward()
        bn.double()
        assert bn.bias.grad.tolist() == [4.0, 4.0, 4.0]
        assert bn.bias.grad.dtype == torch.float64
        assert bn.bias.is_leaf
        assert type(bn.bias).__name__ == "Parameter"

    def test_linear(self):
        linear = nvtripy.Linear(3, 2, dtype=nvtripy.float64)
        weight, bias = RANDOM.normal(size=(2, 3)), RANDOM.normal(size=2)

        def loss(x, weight, bias):
            linear.weight, linear.bias = weight, bias
            return (linear(x) ** 2).sum()

        for shape in ((3,), (4, 3), (2, 4, 3)):
            first_and_second(loss, [RANDOM.normal(size=shape), weight, bias], 1e-6)

    def test_a_network_learns(self):
        lucid.manual_seed(0)

        class Net(lucid.nn.Module):
            def __init__(self):
                super().__init__()
                self.bn = lucid.nn.BatchNorm1d(8)
                self.inward = lucid.nn.Parameter(lucid.randn(2, 8))
                self.outward = lucid.nn.Parameter(lucid.randn(8, 1))

            def forward(self, x):
                return np.tanh(self.bn(x @ self.inward)) @ self.outward

        net, x = Net(), lucid.randn(64, 2)
        target = (x[:, :1] * x[:, 1:]).numpy()
        losses = []
        for _ in range(200):
            net.zero_grad()
            loss = ((net(x) - target) ** 2).mean()
            loss.backward()
            with lucid.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * parameter.grad
            losses.append(loss.item())
        assert losses[-1] < 0.1 * losses[0]
        assert int(net.bn.num_batches_tracked) == 200
