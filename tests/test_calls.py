"""What is prepared for calls, and that nothing it relies on can have changed unnoticed."""

from __future__ import annotations

import pickle
import threading
import weakref
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from timing import in_times

from normspec import lucid, storch, torch
from normspec.runtime import kernels, memory
from normspec.runtime.operators import batch_norm as operator

SHAPE = (4, 3, 5, 2)


def forget():
    operator.BatchNorm.__dict__["_prepared"].__func__.cache_clear()


@pytest.fixture
def at_length(monkeypatch):
    """Call something on the long way, that nothing is prepared for."""

    def call(function, *arguments):
        with monkeypatch.context() as changed:
            changed.setattr(operator, "prepared", lambda *_: None)
            forget()
            result = function(*arguments)
        forget()
        return result

    yield call
    forget()


def sample(shape=SHAPE, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 3 + 1).astype(dtype)


def trained(module):
    """With statistics and vectors that are not those of a new one."""
    for name, seed in ("running_mean", 1), ("weight", 2), ("bias", 3):
        if getattr(module, name) is not None:
            getattr(module, name).copy_(torch.Tensor(sample((3,), seed=seed)))
    if module.running_var is not None:
        module.running_var.copy_(torch.Tensor(np.abs(sample((3,), seed=4)) + 0.1))
    return module


def unaligned(array):
    copy = np.frombuffer(bytearray(array.nbytes + 1), np.uint8)[1:].view(array.dtype)
    copy[...] = array
    return copy


def state(module):
    return {name: np.array(tensor.numpy()) for name, tensor in module.state_dict().items()}


LAYOUTS = {
    "packed": lambda x: x,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "backwards": lambda x: x[::-1, :, ::-1],
    "every second": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 3)[::2, :, :, ::2],
    "broadcast": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    "other order of bytes": lambda x: x.astype(x.dtype.newbyteorder()) if x.dtype.kind == "f" else x,
}
KINDS = {
    "plain": {},
    "no vectors": {"affine": False},
    "no shift": {"bias": False},
    "no statistics": {"track_running_stats": False},
    "averages": {"momentum": None},
    "float64": {"dtype": "float64"},
    "float16": {"dtype": "float16"},
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("place", LAYOUTS)
def test_the_short_way_gives_the_bits_of_the_long_one(at_length, place, dtype):
    x = LAYOUTS[place](sample().astype(torch.nn.BatchNorm2d._tensor_type.dtype_type(dtype).numpy))
    own = "float64" if dtype == "float64" else "float32"
    for training in (True, False):
        short, long = (trained(torch.nn.BatchNorm2d(3, dtype=own)).train(training) for _ in range(2))
        for _ in range(2):
            y, expected = short(x), at_length(long, x)
            np.testing.assert_array_equal(y.astype(np.float64), expected.astype(np.float64))
            assert (y.strides, y.dtype) == (expected.strides, expected.dtype)
        for name, tensor in state(short).items():
            np.testing.assert_array_equal(tensor, state(long)[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_every_kind_of_module_is_as_it_was(at_length, kind, training):
    x = torch.Tensor(sample(dtype=KINDS[kind].get("dtype", "float32")))
    short, long = (trained(torch.nn.BatchNorm2d(3, **KINDS[kind])).train(training) for _ in range(2))
    for _ in range(2):
        y, expected = short(x), at_length(long, x)
        np.testing.assert_array_equal(y.numpy(), expected.numpy())
    for name, tensor in state(short).items():
        np.testing.assert_array_equal(tensor, state(long)[name], err_msg=name)


@pytest.mark.parametrize("dialect", [storch, lucid, torch])
def test_counters_of_every_type_count(dialect):
    module = dialect.nn.BatchNorm2d(3)
    for _ in range(3):
        module(dialect.Tensor(sample()))
    (count,) = (tensor for name, tensor in module.state_dict().items() if "racked" in name)
    assert count.item() == 3


@pytest.mark.parametrize("batch", [True, False])
def test_gradients_are_those_of_the_long_way(at_length, batch):
    def gradients(module):
        x = torch.Tensor(sample()).requires_grad_()
        (module(x) * torch.Tensor(sample(seed=9))).sum().backward()
        return [one.grad.numpy() for one in (x, module.weight, module.bias)]

    short, long = (trained(torch.nn.BatchNorm2d(3)).train(batch) for _ in range(2))
    for one, other in zip(gradients(short), at_length(gradients, long), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_function_records_with_vectors_of_numpy():
    x = torch.Tensor(sample(dtype=np.float64)).requires_grad_()
    scale = sample((3,), np.float64)
    y = torch.nn.functional.batch_norm(x, None, None, scale, None, True)
    from normspec.runtime.autograd import grad

    (first,) = grad((y * y * y).sum(), [x], create_graph=True)
    (second,) = grad((first * first).sum(), [x])
    assert second.shape == x.shape


# ------------------------------------------------------------------------------------------------- what can be changed


CHANGES = {
    "weight": lambda m: setattr(m, "weight", torch.nn.Parameter(np.full(3, 5, np.float32))),
    "weight of another type": lambda m: setattr(m, "weight", torch.Tensor(np.full(3, 5, np.float64))),
    "weight of 16 bits": lambda m: setattr(m, "weight", torch.Tensor(np.full(3, 5, np.float16))),
    "no weight": lambda m: setattr(m, "weight", None),
    "the array of a weight": lambda m: setattr(m.weight, "array", np.full(3, 5, np.float32)),
    "a strided array": lambda m: setattr(m.weight, "array", np.full(6, 5, np.float32)[::2]),
    "an array backwards": lambda m: setattr(m.weight, "array", np.arange(3, dtype=np.float32)[::-1]),
    "arrays that are not aligned": lambda m: [
        setattr(one, "array", unaligned(one.array)) for one in (m.weight, m.bias, m.running_mean, m.running_var)
    ],
    "arrays that were pickled": lambda m: [
        setattr(one, "array", pickle.loads(pickle.dumps(one.array)))
        for one in (m.weight, m.bias, m.running_mean, m.running_var)
    ],
    "the values": lambda m: m.bias.copy_(torch.Tensor(np.full(3, 5, np.float32))),
    "statistics": lambda m: setattr(m, "running_mean", torch.Tensor(np.full(3, 5, np.float32))),
    "no statistics": lambda m: [setattr(m, name, None) for name in ("running_mean", "running_var")],
    "a state": lambda m: m.load_state_dict({n: np.full_like(t.numpy(), 2) for n, t in m.state_dict().items()}),
    "eps": lambda m: setattr(m, "eps", 1.0),
    "momentum": lambda m: setattr(m, "momentum", 0.75),
    "averages": lambda m: setattr(m, "momentum", None),
    "an integer for momentum": lambda m: setattr(m, "momentum", 1),
    "tracking": lambda m: setattr(m, "track_running_stats", False),
    "element type": lambda m: m.to("float64"),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eps", None),
        ("eps", True),
        ("eps", [1e-5]),
        ("eps", np.ones(2)),
        ("momentum", "0.1"),
        ("momentum", True),
        ("momentum", [0.1]),
    ],
)
def test_what_is_no_number_may_be_assigned_but_not_used(name, value):
    bn = torch.nn.BatchNorm1d(3)
    setattr(bn, name, value)
    with pytest.raises(TypeError, match=f"BatchNorm1d: {name}: expected float"):
        bn(np.eye(3, dtype=np.float32))
    assert int(bn.num_batches_tracked) == 0


@pytest.mark.parametrize("value", [np.ones(2), torch.Tensor([1.0, 2.0])])
def test_an_epsilon_that_is_an_array_is_refused_by_name(value):
    with pytest.raises(TypeError, match=f"BatchNorm1d: eps: expected float, found {type(value).__name__}"):
        torch.nn.BatchNorm1d(3, eps=value)


@pytest.mark.parametrize("name", ["eps", "momentum"])
@pytest.mark.parametrize(
    "value", [10**400, 10**5000, -(10**5000), Fraction(10**400)], ids=["large", "long", "negative", "fraction"]
)
def test_a_number_beyond_those_of_float_is_refused_by_name(name, value):
    found, x = f"{name}: expected a number in the range of float, found {type(value).__name__} beyond", np.eye(3)
    with pytest.raises(ValueError, match=f"BatchNorm1d: {found}"):
        torch.nn.BatchNorm1d(3, **{name: value})
    bn = torch.nn.BatchNorm1d(3, dtype="float64")
    setattr(bn, name, value)
    with pytest.raises(ValueError, match=f"BatchNorm1d: {found}"):
        bn(x)
    assert int(bn.num_batches_tracked) == 0
    with pytest.raises(ValueError, match=f"batch_norm: {found}"):
        torch.nn.functional.batch_norm(x, np.zeros(3), np.ones(3), training=True, **{name: value})


@pytest.mark.parametrize("name", ["eps", "momentum"])
def test_a_truth_value_is_no_number_to_the_function(name):
    with pytest.raises(TypeError, match=f"batch_norm: {name}: expected float, found bool"):
        torch.nn.functional.batch_norm(np.eye(3), np.zeros(3), np.ones(3), training=True, **{name: True})


@pytest.mark.parametrize("value", [None, "1e-5", 1j, np.ones(2)])
def test_an_epsilon_of_the_function_that_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="batch_norm: eps: expected float, found "):
        torch.nn.functional.batch_norm(np.eye(3, dtype=np.float32), None, None, training=True, eps=value)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("training", [True, False])
def test_a_change_shows_in_the_next_call(at_length, change, training):
    x = torch.Tensor(sample())
    modules = [trained(torch.nn.BatchNorm2d(3)).train(training) for _ in range(2)]
    for module in modules:
        module(x)
        CHANGES[change](module)
    given = x.to(dtype="float64") if change == "element type" else x
    y, expected = modules[0](given), at_length(modules[1], given)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    for name, tensor in state(modules[0]).items():
        np.testing.assert_array_equal(tensor, state(modules[1])[name], err_msg=name)


def test_the_mode_shows_in_the_next_call():
    module, x = torch.nn.BatchNorm2d(3), sample()
    first, evaluated = module(x), module.eval()(x)
    assert np.abs(first - evaluated).max() > 0.1
    np.testing.assert_array_equal(module.train()(x), first)
    assert module.num_batches_tracked.item() == 2


def test_inputs_of_other_shapes_take_turns():
    module = torch.nn.BatchNorm2d(3, momentum=None)
    for _ in range(2):
        for rows in (2, 5, 1):
            x = sample((rows, 3, 4, 4))
            np.testing.assert_allclose(module(x).mean((0, 2, 3)), 0, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"input: expected length 3 of axis 1, found shape \(2, 4, 4, 4\)"):
        module(sample((2, 4, 4, 4)))


def grown(module):
    module.running_mean.array.resize(5, refcheck=False)


def reshaped(module):
    module.weight.array.shape = (3, 1)


@pytest.mark.parametrize("change", [grown, reshaped])
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # of NumPy 2.5 and later
def test_an_array_that_changed_its_shape_in_place_is_refused(change):
    module, x = torch.nn.BatchNorm2d(3), sample()
    module(x)
    change(module)
    before = state(module)
    with pytest.raises(RuntimeError, match=r"expected shape \(3,\), found shape"):
        module(x)
    for name, tensor in state(module).items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)


def test_a_statistic_without_the_other_is_refused():
    module, x = torch.nn.BatchNorm2d(3).eval(), sample()
    module(x)
    module.running_var = None
    with pytest.raises(RuntimeError, match="both running statistics or neither"):
        module(x)


@pytest.mark.parametrize("name", ["running_mean", "running_var", "num_batches_tracked"])
def test_state_that_cannot_be_written_is_refused(name):
    module, x = torch.nn.BatchNorm2d(3), sample()
    module(x)
    before = state(module)
    getattr(module, name).array.flags.writeable = False
    with pytest.raises(ValueError, match=f"{name}: expected memory that can be written, found read-only memory"):
        module(x)
    for name, tensor in state(module).items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)
    module.eval()(x)


def test_what_was_replaced_is_let_go():
    module, x = torch.nn.BatchNorm2d(3), sample()
    module(x)
    before = [weakref.ref(getattr(module, name).array) for name in ("weight", "running_mean", "num_batches_tracked")]
    module.weight = torch.nn.Parameter(np.ones(3, np.float32))
    module.running_mean = torch.Tensor(np.zeros(3, np.float32))
    module.num_batches_tracked = torch.Tensor(np.array(0))
    assert [one() for one in before] == [None] * 3


@pytest.mark.parametrize("short", [True, False])
def test_a_call_that_fails_has_changed_nothing(monkeypatch, at_length, short):
    def fail(*_):
        raise MemoryError

    module, x = torch.nn.BatchNorm2d(3), sample()
    module(x)
    before = state(module)
    monkeypatch.setattr("normspec.runtime.kernels.cpu.kernels.train", fail)
    with pytest.raises(MemoryError):
        module(x) if short else at_length(module, x)
    for name, tensor in state(module).items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)


def test_threads_call_one_module_at_once():
    module, inputs = torch.nn.BatchNorm2d(3, momentum=None), [sample(seed=seed) for seed in range(4)]
    evaluated = trained(torch.nn.BatchNorm2d(3)).eval()
    expected, wrong = [evaluated(x) for x in inputs], []

    def work(number):
        for _ in range(300):
            module(inputs[number])
            if not np.array_equal(evaluated(inputs[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    assert module.num_batches_tracked.item() == 1200
    means = np.mean([x.mean((0, 2, 3), dtype=np.float64) for x in inputs], 0)
    np.testing.assert_allclose(module.running_mean.numpy(), means, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------ in the backend


def ready(x, fused):
    return kernels.on("cpu").prepared(x.shape, x.dtype, fused, x.strides, x.strides, empty=memory.maker(x))


class Derived(np.ndarray):
    pass


UNFIT = {
    "a list": [1.0, 1.0, 1.0],
    "a number": 1.0,
    "a string": "weight",
    "NumPy's number": np.float64(1),
    "a subclass": np.ones(3).view(Derived),
    "too short": np.ones(2),
    "too long": np.ones(4),
    "too many axes": np.ones((3, 1)),
    "no axis": np.array(1.0),
    "with gaps": np.ones(6)[::2],
    "backwards": np.ones(3)[::-1],
    "integers": np.ones(3, np.int32),
    "float16": np.ones(3, np.float16),
    "the other order of bytes": np.ones(3, np.dtype(np.float64).newbyteorder()),
    "unaligned": unaligned(np.ones(3)),
}


@pytest.mark.parametrize("what", UNFIT)
@pytest.mark.parametrize("place", range(4))
def test_vectors_that_kernels_cannot_take_are_noticed(what, place):
    x, vectors = sample((4, 3, 6)), [np.ones(3), np.zeros(3), np.zeros(3), np.ones(3), count := np.array(7)]
    vectors[place] = UNFIT[what]
    before = [np.array(one) for one in vectors[2:]]
    assert ready(x, True).train(x, vectors, 1e-5, 0.5, True, False) is None
    assert ready(x, False).normalize(x, vectors, 1e-5) is None
    for one, other in zip(vectors[2:], before, strict=True):
        np.testing.assert_array_equal(np.array(one), other)
    assert count == 7


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("place", [2, 3, 4])
def test_what_cannot_be_written_is_not(place):
    x, vectors = sample((4, 3, 6)), [None, None, np.zeros(3), np.ones(3), np.array(7)]
    frozen(vectors[place])
    assert ready(x, True).train(x, vectors, 1e-5, 0.5, True, False) is None
    assert ready(x, False).normalize(x, vectors, 1e-5) is not None
    assert (vectors[2].tolist(), vectors[3].tolist(), vectors[4].item()) == ([0.0] * 3, [1.0] * 3, 7)


@pytest.mark.parametrize("count", [np.array([7]), np.array(7, np.int32), 7, np.array(7, np.uint64)])
def test_counters_that_kernels_cannot_take_are_noticed(count):
    x, mean = sample((4, 3, 6)), np.zeros(3)
    assert ready(x, True).train(x, (None, None, mean, None, count), 1e-5, 0.5, True, False) is None
    assert not mean.any()


# -------------------------------------------------------------------------- the time of the host, as ratios in one run


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["function", "module"])
def test_a_call_that_was_prepared_costs_less(monkeypatch, kind, training):
    """Than one of as many elements that was not: 0.26 to 0.5 times that, where measured."""
    prepared, other = operator.prepared, (2, 3, 2, 8)

    def known(device, shape, *rest):
        return None if shape == other else prepared(device, shape, *rest)

    monkeypatch.setattr(operator, "prepared", known)
    forget()
    module = torch.nn.BatchNorm2d(3).train(training)
    vectors = [one.numpy() for one in (module.running_mean, module.running_var, module.weight, module.bias)]

    def function(x):
        torch.nn.functional.batch_norm(x, *vectors, training)

    call = {"function": function, "module": module}[kind]
    (ratio,) = in_times({"unprepared": partial(call, sample(other)), "prepared": partial(call, sample((2, 3, 4, 4)))})
    forget()
    assert ratio < 0.75
