"""Tensors and modules: what comes in comes back, what fails has changed nothing."""

from __future__ import annotations

import copy
import io
import pickle
import re
import struct
import threading
import zipfile

import numpy as np
import pytest

from normspec import lucid, nvtripy, runtime, storch, torch
from normspec import tripy as tp
from normspec.runtime.arrays import feature_views

RANDOM = np.random.default_rng(0)


def npy(shape: str, size: int) -> bytes:
    """NumPy's file of float32 of a shape, with so many bytes of zeros."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(size)


def archive(member: bytes, flags: int = 0, method: int = 0) -> bytes:
    """A zip file of the weight, which claims that it is encrypted, or compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("weight.npy", member)
    content = bytearray(stream.getvalue())
    for header, place in (b"PK\x03\x04", 6), (b"PK\x01\x02", 8):
        start = content.index(header) + place
        content[start : start + 4] = struct.pack("<HH", flags, method)
    return bytes(content)


def state_names(module) -> list[str]:
    return list(module.stateDict() if hasattr(module, "stateDict") else module.state_dict())


class TestTensor:
    def test_shares_numpys_memory_both_ways(self):
        array = np.zeros(3, np.float32)
        tensor = torch.Tensor(array)
        assert tensor.numpy() is array
        assert np.shares_memory(np.asarray(tensor), array)
        assert np.shares_memory(np.from_dlpack(tensor), array)
        assert np.shares_memory(torch.Tensor(tensor).numpy(), array)

    @pytest.mark.parametrize("data", [np.ma.masked_array([1.0, 2.0], [0, 1]), np.ma.masked])
    def test_a_masked_array_is_refused(self, data):
        with pytest.raises(TypeError, match="Tensor: data: expected an array, and its mask apart, found Masked"):
            torch.tensor(data)

    def test_takes_any_dlpack_producer(self):
        class Producer:
            array = np.arange(3.0)

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        tensor = torch.Tensor(Producer())
        assert tensor.dtype == np.float64
        assert np.shares_memory(tensor.numpy(), Producer.array)

    @pytest.mark.parametrize(
        ("package", "data", "dtype"),
        [
            (torch, 1, "int64"),
            (nvtripy, 1, "int32"),
            (nvtripy, 2**31, "int64"),
            (torch, 1.5, "float32"),
            (torch, True, "bool"),
        ],
    )
    def test_takes_its_dtype_from_python_numbers(self, package, data, dtype):
        assert package.Tensor(data).dtype.name == dtype

    def test_refuses_what_is_no_number(self):
        with pytest.raises(TypeError, match="data: expected real numbers, found str"):
            torch.Tensor("text")
        with pytest.raises(TypeError, match="dtype: expected an element type such as 'float32', found 'real'"):
            torch.Tensor([1.0], dtype="real")
        with pytest.raises(TypeError, match="dtype: expected an element type such as 'float32', found tensor"):
            torch.Tensor([1.0], dtype=torch.zeros(2))
        with pytest.raises(ValueError, match=r"device: expected 'cpu' or 'cuda'.*found 'tpu'"):
            torch.Tensor([1.0], device="tpu")

    def test_arithmetic_keeps_the_dialect_and_forgets_the_parameter(self):
        weight = torch.nn.BatchNorm1d(3).weight
        assert type(weight).__name__ == "Parameter"
        assert type(weight * 2) is torch.Tensor
        assert (1 + torch.Tensor([1.0]))[0].item() == 2.0

    def test_arithmetic_in_place_and_onto_arrays(self):
        tensor, array = torch.Tensor([1.0, 2.0]), np.ones(2, np.float32)
        same = tensor
        tensor += 1
        array += tensor
        assert tensor is same
        assert tensor.tolist() == [2.0, 3.0]
        assert array.tolist() == [3.0, 4.0]

    def test_arithmetic_at_indices_and_where_a_tensor_says(self):
        tensor, array, first = torch.Tensor([1.0, 2.0]), np.ones(2, np.float32), torch.Tensor([True, False])
        assert np.add.at(tensor, torch.Tensor([0, 0]), 1) is None
        np.add.at(array, [1], tensor[:1])
        assert (tensor.tolist(), array.tolist()) == ([3.0, 2.0], [1.0, 4.0])
        np.negative(array, where=first, out=array)
        assert array.tolist() == [-1.0, 4.0]
        assert np.add.reduce(array, where=first) == -1.0

    def test_parameters_want_gradients_if_they_can_have_some_and_are_not_told_otherwise(self):
        assert torch.nn.Parameter([1.0]).requires_grad
        assert not torch.nn.Parameter(np.array([1])).requires_grad
        frozen = torch.nn.Parameter([1.0]).requires_grad_(False)
        assert not frozen.to(dtype="float64").requires_grad

    def test_is_in_a_set_or_a_dict_once(self):
        bn = torch.nn.BatchNorm1d(3)
        assert len({*bn.parameters(), bn.weight}) == 2
        assert {bn.weight: "scale", bn.bias: "shift"}[bn.bias] == "shift"

    @pytest.mark.parametrize("data", [np.array(["a"]), np.array([None]), np.array([1j])])
    def test_arrays_of_no_real_numbers_are_refused(self, data):
        with pytest.raises(TypeError, match="expected real numbers"):
            torch.Tensor(data)

    def test_dtypes_are_equal_across_dialects(self):
        assert torch.float32 == lucid.float32 == np.dtype("float32") == storch.float32
        assert torch.float32 != torch.float64
        assert repr(lucid.float32) == "lucid.float32"
        assert repr(tp.float32) == "float32"
        assert tp.bfloat16.itemsize == 2
        assert len({torch.float32, lucid.float32}) == 1

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("half", "float16"),
            ("float", "float32"),
            ("double", "float64"),
            ("Float32", "float32"),
            ("BFLOAT16", "bfloat16"),
        ],
    )
    def test_lucid_names_element_types_as_the_original_does(self, text, name):
        assert lucid.nn.BatchNorm1d(2, dtype=text).weight.dtype.name == name
        assert lucid.nn.BatchNorm1d(2).to(text).weight.dtype.name == name
        assert lucid.zeros(2, dtype=text).dtype.name == lucid.tensor([1], dtype=text).dtype.name == name

    def test_lucid_has_short_names_of_integers(self):
        found = {text: lucid.ones(2, dtype=text).dtype.name for text in ("short", "int", "Long", "bool_")}
        assert found == {"short": "int16", "int": "int32", "Long": "int64", "bool_": "bool"}
        with pytest.raises(ValueError, match=r"^Unknown dtype string: 'f4'\n"):
            lucid.nn.BatchNorm1d(2, dtype="f4")

    @pytest.mark.parametrize("text", ["float", "double", "half", "single", "f4", "Float32"])
    def test_the_others_take_whole_names_alone(self, text):
        for make in (torch.nn.BatchNorm1d, storch.nn.BatchNorm1d, tp.BatchNorm, nvtripy.BatchNorm):
            assert make(2, dtype="float64").weight.dtype.name == "float64"
            with pytest.raises((TypeError, tp.TripyException, nvtripy.TripyException), match=r"dtype|ParamType"):
                make(2, dtype=text)

    def test_prints_as_nvtripys_document_does(self):
        assert repr(nvtripy.iota((2,))) == "tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,))"
        assert (
            repr(nvtripy.iota((1, 2, 1, 1)))
            == "tensor(\n    [[[[0.0000]],\n\n      [[0.0000]]]], \n    dtype=float32, loc=cpu:0, shape=(1, 2, 1, 1))"
        )
        assert repr(nvtripy.Tensor(2)) == "tensor(2, dtype=int32, loc=cpu:0, shape=())"

    def test_prints_as_storch_does(self):
        tensor = storch.Tensor(np.arange(64, dtype=np.float32).reshape(8, 8))
        assert repr(tensor) == (
            "tensor dtype=float32, shape=[8, 8], device=CPU \n"
            "[[0.0000, 1.0000, 2.0000, ..., 5.0000, 6.0000, 7.0000],\n"
            " [8.0000, 9.0000, 10.0000, ..., 13.0000, 14.0000, 15.0000],\n"
            " [16.0000, 17.0000, 18.0000, ..., 21.0000, 22.0000, 23.0000],\n"
            " ...,\n"
            " [40.0000, 41.0000, 42.0000, ..., 45.0000, 46.0000, 47.0000],\n"
            " [48.0000, 49.0000, 50.0000, ..., 53.0000, 54.0000, 55.0000],\n"
            " [56.0000, 57.0000, 58.0000, ..., 61.0000, 62.0000, 63.0000]]"
        )


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, :, ::-1, ::-1],
    "every_second": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "foreign_byte_order": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


class TestNumPyInNumPyOut:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("training", [True, False])
    def test_any_layout_gives_the_same(self, layout, training):
        x = RANDOM.normal(3, 2, (4, 3, 5, 6)).astype(np.float32)
        given = LAYOUTS[layout](x)
        plain = np.ascontiguousarray(given).astype(np.float32)
        one, other = torch.nn.BatchNorm2d(3).train(training), torch.nn.BatchNorm2d(3).train(training)
        y = one(given)
        assert type(y) is np.ndarray
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, other(plain), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(one.running_mean.numpy(), other.running_mean.numpy(), rtol=1e-6)

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last", "fortran"])
    def test_the_output_has_the_layout_of_the_input(self, layout):
        x = LAYOUTS[layout](RANDOM.normal(size=(4, 3, 5, 6)).astype(np.float32))
        assert torch.nn.BatchNorm2d(3)(x).strides == x.strides

    @pytest.mark.parametrize(
        ("layout", "axis"),
        [("contiguous", 1), ("contiguous", 3), ("channels_last", 1), ("fortran", 1), ("fortran", 3), ("reversed", 1)],
    )
    def test_the_input_is_read_where_it_lies(self, layout, axis):
        x = LAYOUTS[layout](RANDOM.normal(size=(4, 3, 5, 6)).astype(np.float32))
        y, x3, y3 = feature_views(x, axis)
        assert np.shares_memory(x3, x)
        assert np.shares_memory(y3, y)
        assert x3.shape == y3.shape == (x3.shape[0], x.shape[axis], x3.shape[2])
        y3[...] = x3
        np.testing.assert_array_equal(y, x)

    def test_a_broadcast_input_is_read_where_it_lies(self):
        x = np.broadcast_to(RANDOM.normal(size=(1, 3, 1, 1)).astype(np.float32), (4, 3, 5, 6))
        assert np.shares_memory(feature_views(x, 1)[1], x)

    def test_an_axis_may_be_counted_from_the_last(self):
        for x, shape in (np.ones((2, 3, 4)), (6, 4, 1)), (np.ones((4, 3, 2)).T, (1, 4, 6)):
            assert [one.shape for one in feature_views(x, -1)] == [(2, 3, 4), shape, shape]

    def test_the_input_is_never_written(self):
        x = RANDOM.normal(size=(4, 3, 5, 6)).astype(np.float32)
        x.flags.writeable = False
        torch.nn.BatchNorm2d(3)(np.broadcast_to(x[:1], x.shape))
        torch.nn.BatchNorm2d(3)(x)

    def test_a_huge_mean_costs_no_accuracy(self):
        x = (1e5 + RANDOM.normal(size=(32, 8, 32, 32))).astype(np.float32)
        wide = x.astype(np.float64)
        mean, std = wide.mean((0, 2, 3), keepdims=True), np.sqrt(wide.var((0, 2, 3), keepdims=True) + 1e-5)
        y = torch.nn.BatchNorm2d(8)(x)
        assert np.max(np.abs(y - (wide - mean) / std) / np.maximum(1, np.abs(y))) < 3e-7

    def test_a_constant_channel_gives_exactly_the_shift(self):
        bn = torch.nn.BatchNorm1d(2)
        bn.bias.copy_(torch.Tensor([0.1, -7.3]))
        y = bn(np.full((50, 2), 1e8 + 0.1, np.float32))
        np.testing.assert_array_equal(y, np.broadcast_to(bn.bias.numpy(), (50, 2)))

    def test_nan_stays_in_its_channel(self):
        x = RANDOM.normal(size=(8, 3, 4)).astype(np.float32)
        clean = torch.nn.BatchNorm1d(3)(x)
        x[2, 1, 3] = np.nan
        bn = torch.nn.BatchNorm1d(3)
        y = bn(x)
        assert np.isnan(y[:, 1]).all()
        np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
        np.testing.assert_array_equal(np.isnan(bn.running_mean.numpy()), [False, True, False])


class TestState:
    def test_a_refused_call_has_changed_nothing(self):
        bn = torch.nn.BatchNorm1d(3, momentum=None)
        bn(RANDOM.normal(size=(5, 3)).astype(np.float32))
        before = {key: tensor.numpy().copy() for key, tensor in bn.state_dict().items()}
        for bad in (np.ones((1, 3), np.float32), np.ones((5, 4), np.float32), np.ones((5, 3)), "text"):
            with pytest.raises((ValueError, RuntimeError, AttributeError)):
                bn(bad)
        for key, tensor in bn.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), before[key], err_msg=key)

    def test_a_refused_load_has_changed_nothing(self):
        bn = torch.nn.BatchNorm1d(3)
        bad = {**bn.state_dict(), "weight": torch.Tensor([5.0, 5.0, 5.0]), "running_var": torch.Tensor([1.0])}
        with pytest.raises(RuntimeError, match="size mismatch for running_var"):
            bn.load_state_dict(bad)
        np.testing.assert_array_equal(bn.weight.numpy(), 1.0)

    def test_all_that_is_wrong_with_a_load_is_said_at_once(self):
        with pytest.raises(RuntimeError) as error:
            torch.nn.BatchNorm1d(3).load_state_dict({"weight": torch.Tensor([1.0]), "extra": torch.Tensor([1.0])})
        for words in (
            'Missing key(s) in state_dict: "bias"',
            'Unexpected key(s) in state_dict: "extra"',
            "size mismatch",
        ):
            assert words in str(error.value)
        assert str(error.value).endswith(", found 3 problems")

    def test_what_is_wrong_with_a_load_is_said_in_the_order_of_the_dialect(self):
        with pytest.raises(RuntimeError, match=r"(?s)Unexpected key.*Missing key.*size mismatch.*found 3 problems$"):
            lucid.nn.BatchNorm1d(3).load_state_dict({"weight": lucid.Tensor([1.0]), "extra": lucid.Tensor([1.0])})
        with pytest.raises(RuntimeError, match=r"found 1 problem$"):
            lucid.nn.BatchNorm1d(3).load_state_dict({"weight": lucid.Tensor([1.0])}, strict=False)

    def test_a_load_into_memory_that_cannot_be_written_has_changed_nothing(self):
        bn = torch.nn.BatchNorm1d(2)
        bn.running_var.array.flags.writeable = False
        with pytest.raises(ValueError, match="BatchNorm1d: running_var: expected memory that can be written"):
            bn.load_state_dict({name: np.full(2, 5.0) for name in ("weight", "running_var")}, strict=False)
        assert bn.weight.tolist() == [1, 1]

    def test_a_tensor_that_cannot_be_moved_keeps_all_from_being_put_in_place(self):
        bn = nvtripy.BatchNorm(3)

        class Stuck(type(bn.running_var)):
            def to(self, device=None, dtype=None):
                raise RuntimeError("no room there")

        before = bn.state_dict()
        given = {**nvtripy.BatchNorm(3).state_dict(), "running_var": Stuck(np.ones(3, np.float32))}
        with pytest.raises(RuntimeError, match="no room there"):
            bn.load_state_dict(given)
        assert all(bn.state_dict()[key] is tensor for key, tensor in before.items())

    def test_an_older_state_dict_may_lack_the_counter(self):
        bn = torch.nn.BatchNorm1d(3)
        state = {key: tensor for key, tensor in bn.state_dict().items() if key != "num_batches_tracked"}
        assert bn.load_state_dict(state) == ([], [])

    def test_one_of_ours_may_not(self):
        bn = torch.nn.BatchNorm1d(3)
        state = bn.state_dict()
        del state["num_batches_tracked"]
        with pytest.raises(RuntimeError, match=r'Missing key.*"num_batches_tracked"'):
            bn.load_state_dict(state)

    def test_copies_and_pickles_of_our_own_making_work(self):
        bn = torch.nn.BatchNorm1d(3)
        for twin in (copy.deepcopy(bn), pickle.loads(pickle.dumps(bn))):
            twin(RANDOM.normal(size=(5, 3)).astype(np.float32))
            assert int(twin.num_batches_tracked) == 1
            assert len({id(one._lock) for one in (bn, twin, torch.nn.Module)}) == 3, "nobody waits for another"
        assert int(bn.num_batches_tracked) == 0

    def test_a_file_from_a_stranger_runs_nothing(self, tmp_path):
        path = tmp_path / "state.npz"
        np.savez(path, weight=np.array([print], dtype=object))
        with pytest.raises(ValueError, match="allow_pickle=False"):
            storch.nn.BatchNorm1d(3).load(path)

    @pytest.mark.parametrize("content", ["empty", "text", "array", "torn", "short", "huge", "encrypted", "compressed"])
    def test_a_file_that_save_did_not_write_is_refused(self, tmp_path, content):
        path = tmp_path / "state.npz"
        made = {
            "empty": b"",
            "text": b"not a zip file",
            "array": npy("(3,)", 12),
            "torn": archive(npy("(3,)", 12))[:-30],
            "short": archive(npy("(3,)", 11)),
            "huge": archive(npy(f"({1 << 60},)", 12)),
            "encrypted": archive(npy("(3,)", 12), flags=1),
            "compressed": archive(npy("(3,)", 12), method=99),
        }
        path.write_bytes(made[content])
        bn = storch.nn.BatchNorm1d(3)
        with pytest.raises(ValueError, match=r"state\.npz: expected a \.npz file that save wrote"):
            bn.load(path)
        assert bn.weight.tolist() == [1, 1, 1]
        path.write_bytes(archive(npy("(3,)", 12)))
        bn.load(path)
        assert bn.weight.tolist() == [0, 0, 0]
        with pytest.raises(FileNotFoundError):
            bn.load(tmp_path / "other.npz")

    def test_to_changes_everything_or_nothing(self):
        bn = torch.nn.BatchNorm1d(3).to(torch.float64)
        assert {key: tensor.dtype.name for key, tensor in bn.state_dict().items()} == {
            "weight": "float64",
            "bias": "float64",
            "running_mean": "float64",
            "running_var": "float64",
            "num_batches_tracked": "int64",
        }
        assert bn(np.ones((2, 3))).dtype == np.float64
        assert torch.nn.BatchNorm1d(3).to(torch.float16).running_var.dtype == torch.float32

    def test_to_converts_what_is_inside_and_what_is_shared_once(self):
        net = torch.nn.Module()
        net.one, net.two = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
        net.two.weight = net.one.weight
        net.to(torch.float64)
        assert net.two.weight is net.one.weight
        assert net.one(np.ones((2, 3))).dtype == np.float64

    def test_a_module_without_a_gpu_says_what_is_missing(self):
        from normspec.runtime.kernels import cuda

        if cuda.available():
            pytest.skip("there is a GPU here")
        with pytest.raises(RuntimeError, match="CUDA") as error:
            torch.nn.BatchNorm1d(3).to("cuda")
        assert "pip install" in str(error.value)

    def test_training_steps_from_many_threads_all_count(self):
        bn, x = torch.nn.BatchNorm1d(3, momentum=None), RANDOM.normal(2, 1, (16, 3)).astype(np.float32)
        threads = [threading.Thread(target=lambda: [bn(x) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int(bn.num_batches_tracked) == 200
        np.testing.assert_allclose(bn.running_mean.numpy(), x.mean(0), rtol=1e-5)

    def test_the_cumulative_average_weighs_every_batch_the_same(self):
        bn = torch.nn.BatchNorm1d(1, momentum=None)
        for value in (2.0, 6.0, 7.0):
            bn(np.array([[value - 1], [value + 1]], np.float32))
        assert bn.running_mean.item() == 5.0
        assert bn.running_var.item() == 2.0

    @pytest.mark.parametrize("name", ["affine", "bias", "track_running_stats"])
    def test_a_switch_without_a_truth_value_is_refused_by_name(self, name):
        with pytest.raises(ValueError, match=f"BatchNorm1d: {name}: expected True or False, found ndarray"):
            torch.nn.BatchNorm1d(3, **{name: np.ones(2)})

    @pytest.mark.parametrize("features", [2**62, 2**70, -(2**70), 10**5000], ids=int.bit_length)
    def test_more_features_than_addresses_are_refused_by_name(self, features):
        found = rf"num_features: expected a number of at most \d+, found one of {features.bit_length()} bits"
        with pytest.raises(ValueError, match=f"BatchNorm1d: {found}"):
            torch.nn.BatchNorm1d(features, affine=False, track_running_stats=False)

    @pytest.mark.parametrize("kind", [torch.nn.BatchNorm1d, lucid.nn.BatchNorm1d])
    @pytest.mark.parametrize("count", [np.array(np.nan), np.array(-np.inf), np.uint64(2**63), np.float32(2**63)])
    def test_a_counter_beyond_its_integers_is_not_loaded(self, kind, count):
        bn = kind(3)
        found = rf"state_range: key num_batches_tracked, expected values of int64, found {count.item()}"
        with pytest.raises(RuntimeError, match=re.escape(found)):
            bn.load_state_dict({**bn.state_dict(), "weight": torch.zeros(3), "num_batches_tracked": count})
        assert (int(bn.num_batches_tracked), bn.weight.tolist()) == (0, [1, 1, 1])

    @pytest.mark.parametrize("values", [[-1e30, 0.0], [0.0, 1e30]])
    def test_integers_of_ones_own_are_looked_at_all(self, values):
        module = torch.nn.Module()
        module.register_buffer("seen", torch.zeros(2, dtype=torch.int64))
        with pytest.raises(RuntimeError, match="state_range: key seen, expected values of int64"):
            module.load_state_dict({"seen": np.array(values)})
        module.register_buffer("none", torch.zeros(0, dtype=torch.int64))
        module.load_state_dict({"seen": np.ones(2), "none": np.ones(0)})
        assert module.seen.tolist() == [1, 1]

    @pytest.mark.parametrize("count", [np.array(7.0), np.uint64(2**63 - 1), np.array(-1, np.int8)])
    def test_a_counter_of_another_type_is_loaded(self, count):
        bn = torch.nn.BatchNorm1d(3)
        bn.load_state_dict({**bn.state_dict(), "num_batches_tracked": count})
        assert int(bn.num_batches_tracked) == int(count)

    @pytest.mark.parametrize("kind", [torch.nn.BatchNorm1d, lucid.nn.BatchNorm1d])
    def test_a_masked_array_is_not_loaded(self, kind):
        bn = kind(3)
        with pytest.raises(RuntimeError, match=r"weight.*MaskedArray"):
            bn.load_state_dict({**bn.state_dict(), "weight": np.ma.masked_array(np.zeros(3), [0, 1, 0])})
        assert bn.weight.tolist() == [1, 1, 1]

    @pytest.mark.parametrize("name", ["running_mean", "running_var", "weight", "bias"])
    @pytest.mark.parametrize("value", [np.ma.masked_array(np.ones(3, np.float32), [0, 1, 0]), np.ones(3) * 1j])
    def test_a_vector_of_the_function_that_is_no_array_is_refused_by_name(self, name, value):
        vectors = {"running_mean": np.zeros(3), "running_var": np.ones(3), name: value}
        found = f"{name}: expected a tensor, found {type(value).__name__}"
        with pytest.raises(TypeError, match=f"batch_norm: {found}"):
            torch.nn.functional.batch_norm(np.eye(3, dtype=np.float32), **vectors)

    def test_evaluation_takes_an_epsilon_of_zero(self):
        bn, x = torch.nn.BatchNorm1d(3, eps=0.0).eval(), np.eye(3, dtype=np.float32)
        np.testing.assert_array_equal(bn(x), x)
        np.testing.assert_array_equal(torch.nn.functional.batch_norm(x, np.zeros(3), np.ones(3), eps=0.0), x)

    @pytest.mark.parametrize("training", [True, False])
    def test_why_a_single_value_is_too_few_is_told(self, training):
        bn, x = torch.nn.BatchNorm1d(3, track_running_stats=False).train(training), np.ones((1, 3), np.float32)
        with pytest.raises(ValueError, match="input: expected more than one value") as error:
            bn(x)
        assert ("(track_running_stats is False, so evaluation needs them too)" in str(error.value)) is not training

    def test_an_empty_batch_is_refused_what_others_are(self):
        bn, x = torch.nn.BatchNorm1d(3), np.ones((0, 3), np.float32)
        bn.running_var.array.flags.writeable = False
        with pytest.raises(ValueError, match="running_var: expected memory that can be written"):
            bn(x)
        bn.eval().running_var = None
        with pytest.raises(RuntimeError, match="both running statistics or neither"):
            bn(x)

    def test_evaluation_does_not_look_at_the_counter(self):
        bn, x = torch.nn.BatchNorm1d(3, momentum=None), np.eye(3, dtype=np.float32)
        expected = bn.eval()(x)
        bn.num_batches_tracked.copy_(torch.tensor(np.array(-1)))
        np.testing.assert_array_equal(bn(x), expected)

    def test_a_counter_that_no_average_is_over_is_refused(self):
        bn = torch.nn.BatchNorm1d(3, momentum=None)
        bn.num_batches_tracked.copy_(torch.tensor(np.array(-1)))
        with pytest.raises(ValueError, match=r"BatchNorm1d: num_batches_tracked: expected a number of batches .* -1"):
            bn(np.eye(3, dtype=np.float32))
        assert (bn.running_mean.tolist(), int(bn.num_batches_tracked)) == ([0, 0, 0], -1)

    @pytest.mark.parametrize("kind", [torch.nn.BatchNorm1d, lucid.nn.BatchNorm1d])
    def test_without_a_counter_there_is_no_average(self, kind):
        bn = kind(3, momentum=None)
        bn.num_batches_tracked = None
        bn(np.eye(3, dtype=np.float32))
        assert (bn.running_mean.tolist(), bn.running_var.tolist()) == ([0, 0, 0], [1, 1, 1])

    def test_a_load_that_cannot_be_converted_has_changed_nothing(self):
        bn = torch.nn.BatchNorm1d(3)
        bad = {"weight": np.full(3, 9.0), "running_var": np.array(["a", "b", "c"]), "bias": np.full(3, 1j)}
        with pytest.raises(RuntimeError, match=r"running_var.*ndarray") as error:
            bn.load_state_dict(bad, strict=False)
        assert '"bias"' in str(error.value)
        np.testing.assert_array_equal(bn.weight.numpy(), 1.0)

    def test_a_load_that_overflows_where_that_is_an_error_has_changed_nothing(self):
        bn = torch.nn.BatchNorm1d(2)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            bn.load_state_dict({"weight": np.full(2, 9.0), "bias": np.full(2, 1e300)}, strict=False)
        np.testing.assert_array_equal(bn.weight.numpy(), 1.0)

    @pytest.mark.parametrize(("package", "switch"), [(torch, "track_running_stats"), (storch, "trackRunningStats")])
    def test_statistics_that_are_no_longer_tracked_stand_still(self, package, switch):
        bn, x = package.nn.BatchNorm1d(2), np.array([[1.0, 5.0], [3.0, 9.0]], np.float32)
        setattr(bn, switch, False)
        np.testing.assert_allclose(bn(x), [[-1, -1], [1, 1]], rtol=1e-4)
        assert (bn.running_mean.tolist(), bn.running_var.tolist(), int(bn.num_batches_tracked)) == ([0, 0], [1, 1], 0)
        bn.eval()
        np.testing.assert_allclose(bn(x), x, rtol=1e-5)

    def test_only_what_is_tracked_and_learned_is_reset(self):
        bn = torch.nn.BatchNorm1d(2)
        bn.load_state_dict({name: np.full(2, 7.0) for name in ("weight", "running_mean")}, strict=False)
        bn.track_running_stats = False
        bn.reset_parameters()
        assert (bn.weight.tolist(), bn.running_mean.tolist()) == ([1, 1], [7, 7])

    @pytest.mark.parametrize("state", [None, [1], [("weight", np.ones(2, np.float32))]])
    def test_a_state_that_is_no_mapping_is_refused(self, state):
        with pytest.raises(
            TypeError,
            match=r"^Expected state_dict to be dict-like.*\nBatchNorm1d: state_dict: expected a mapping of names ",
        ):
            torch.nn.BatchNorm1d(2).load_state_dict(state, strict=False)

    def test_an_epsilon_that_is_no_number_is_told(self):
        with pytest.raises(TypeError, match="BatchNorm1d: eps: expected float, found nan"):
            torch.nn.BatchNorm1d(2, eps=float("nan"))
        bn = torch.nn.BatchNorm1d(2)
        bn.eps = float("nan")
        with pytest.raises(TypeError, match="BatchNorm1d: eps: expected float, found nan"):
            bn(np.ones((3, 2), np.float32))

    @pytest.mark.parametrize("dtype", ["foo", "complex64", "U5", 3])
    def test_what_is_no_element_type_is_told(self, dtype):
        with pytest.raises(TypeError, match=f"^dtype: expected an element type such as 'float32', found {dtype!r}$"):
            torch.tensor([1.0, 2.0], dtype=dtype)
        bn = torch.nn.BatchNorm1d(2)
        for call in (lambda: bn.to(dtype=dtype), lambda: torch.nn.BatchNorm1d(2, dtype=dtype)):
            with pytest.raises(TypeError, match=f"\nBatchNorm1d: dtype: expected an element type, found {dtype!r}$"):
                call()
        assert bn.weight.dtype == torch.float32

    def test_only_tensors_of_the_same_shape_are_copied(self):
        weight = torch.nn.BatchNorm1d(3).weight
        with pytest.raises(TypeError, match=r"^Parameter.copy_: other: expected a tensor, found ndarray$"):
            weight.copy_(np.ones(3, np.float32))
        for shape in ((1,), (4,), (3, 1)):
            with pytest.raises(
                ValueError, match=rf"^Parameter.copy_: other: expected shape \(3,\), found \({shape[0]},"
            ):
                weight.copy_(torch.ones(shape))

    def test_linear_takes_no_integers(self):
        with pytest.raises(nvtripy.TripyException, match=r"^Unsupported data type for Linear: .*\nLinear: dtype: "):
            nvtripy.Linear(3, 2, dtype=nvtripy.int32)
        with pytest.raises(Exception, match=r"Linear: x: expected float16 or .*, found int64"):
            nvtripy.Linear(3, 2)(np.ones((1, 3), np.int64))

    def test_loads_of_the_same_modules_lock_them_in_the_same_order(self):
        locked = []

        class Lock:
            def __enter__(self):
                locked.append(self)

            def __exit__(self, *_):
                pass

        children = [torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)]
        for child in children:
            child._lock = Lock()
        for first, second in (children, children[::-1]):
            module = torch.nn.Module()
            module.first, module.second = first, second
            module.load_state_dict(module.state_dict())
        assert len(locked) == 4
        assert locked[:2] == locked[2:]

    def test_vectors_of_integers_are_refused(self):
        bn = torch.nn.BatchNorm1d(2)
        bn.running_mean = torch.zeros(2, dtype=torch.int64)
        with pytest.raises(RuntimeError, match=r"BatchNorm1d: running_mean: expected float16 or .*, found int64"):
            bn(np.ones((4, 2), np.float32))
        assert bn.running_var.tolist() == [1, 1]

    @pytest.mark.parametrize("name", ["file", "allow_pickle", "arr_0"])
    def test_every_name_can_be_saved(self, name, tmp_path):
        module, other = storch.nn.Module(), storch.nn.Module()
        for one, values in (module, [1.0, 2.0]), (other, [0.0, 0.0]):
            one.registerBuffer(name, storch.Tensor(values))
        module.save(tmp_path / "state.npz")
        other.load(tmp_path / "state.npz")
        assert getattr(other, name).tolist() == [1, 2]

    def test_bfloat16_is_saved_as_numbers_that_numpy_reads(self, tmp_path):
        module = storch.nn.Module()
        module.registerBuffer("seen", storch.Tensor([1.5, -2.0]).to(dtype="bfloat16"))
        module.save(tmp_path / "state.npz")
        with np.load(tmp_path / "state.npz") as archive:
            assert archive["seen"].dtype == np.float32
        module.seen.copy_(storch.zeros((2,)))
        module.load(tmp_path / "state.npz")
        assert (module.seen.tolist(), module.seen.dtype.name) == ([1.5, -2.0], "bfloat16")

    @pytest.mark.parametrize("package", [torch, lucid, storch, nvtripy, tp])
    def test_a_tensor_of_another_shape_cannot_be_assigned(self, package):
        bn = package.BatchNorm(3) if hasattr(package, "BatchNorm") else package.nn.BatchNorm1d(3)
        with pytest.raises(Exception, match=r"weight: expected shape \(3,\), found shape \(2,\)"):
            bn.weight = package.Tensor([1.0, 2.0])
        np.testing.assert_array_equal(bn(np.ones((4, 3), np.float32)).shape, (4, 3))

    @pytest.mark.parametrize("cls", [torch.nn.BatchNorm1d, lucid.nn.BatchNorm1d, storch.nn.BatchNorm1d, tp.BatchNorm])
    def test_a_tensor_that_is_assigned_to_a_parameter_becomes_one(self, cls):
        bn, fresh = cls(2), cls(2)
        load, names = (getattr(fresh, "loadStateDict", None) or fresh.load_state_dict), state_names(bn)
        plain = bn._tensor_type([3.0, 4.0])
        bn.weight = plain
        assert type(bn.weight) is cls._parameter_type
        assert np.shares_memory(bn.weight.numpy(), plain.numpy())
        assert bn.weight.requires_grad == bn.bias.requires_grad
        assert state_names(bn) == names
        load({name: getattr(bn, name) for name in state_names(bn)})
        assert fresh.weight.tolist() == [3, 4]
        if cls is not tp.BatchNorm:  # which has no buffers
            bn.running_mean = plain
            assert bn.running_mean is plain

    def test_gradients_go_on_to_the_tensor_that_was_assigned(self):
        bn, factor = torch.nn.BatchNorm1d(2), torch.ones(2, requires_grad=True)
        bn.weight = factor * 2
        assert next(iter(bn.state_dict())) == "weight"
        (bn(torch.tensor([[1.0, 1.0], [3.0, 5.0]])) ** 2).sum().backward()
        np.testing.assert_allclose(factor.grad.numpy(), [16, 16], rtol=1e-4)

    def test_a_tensor_in_the_place_of_a_parameter_of_a_users_module_becomes_one(self):
        net = torch.nn.Module()
        net.scale, net.other = torch.nn.Parameter([1.0]), torch.zeros(1)
        net.scale = net.other = torch.ones(2)
        assert list(net.state_dict()) == ["scale"]

    def test_tripys_other_tensors_may_have_any(self):
        module = tp.Module()
        for values in ([1.0, 2.0], [1, 2, 3]):
            module.seen = tp.Tensor(values)
            assert module.seen.tolist() == values

    @pytest.mark.parametrize("package", [tp, nvtripy])
    def test_tripys_parameters_keep_their_shape_and_element_type(self, package):
        bn, what = package.BatchNorm(2), "new parameter is not compatible with the existing parameter. New parameter"
        with pytest.raises(
            package.TripyException, match=rf"^For parameter: weight, {what} dtype: float16 is not .*32\n"
        ):
            bn.weight = package.zeros((2,), dtype=package.float16)
        with pytest.raises(
            package.TripyException, match=rf"^For parameter: weight, {what} shape: \[3\] is not .* \[2\]\n"
        ):
            bn.weight = package.zeros((3,))
        with pytest.raises(
            package.TripyException, match=r"'weight', but got: NoneType\n.*expected a tensor, found NoneT"
        ):
            bn.weight = None
        assert list(bn.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
        net = package.Module()
        net.scale = bn.weight
        with pytest.raises(package.TripyException, match=rf"^For parameter: scale, {what} dtype"):
            net.scale = package.zeros((2,), dtype=package.int32)

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (lambda: tp.BatchNorm(2), "num_features"),
            (lambda: nvtripy.BatchNorm(2), "num_features"),
            (lambda: nvtripy.BatchNorm(2), "dtype"),
            (lambda: nvtripy.Linear(2, 2), "in_features"),
            (lambda: nvtripy.Linear(2, 2), "dtype"),
        ],
    )
    def test_what_is_constant_is_not_assigned_to(self, make, name):
        module = make()
        before = getattr(module, name)
        with pytest.raises(
            (tp.TripyException, nvtripy.TripyException), match=rf"^Field: '{name}' of class: '.*' is imm"
        ):
            setattr(module, name, nvtripy.float64 if name == "dtype" else 5)
        assert getattr(module, name) == before

    def test_nvtripys_linear_may_lose_its_bias_and_batch_norm_its_eps(self):
        linear, bn = nvtripy.Linear(2, 2), nvtripy.BatchNorm(2)
        linear.bias, bn.eps = None, 0.5
        assert list(linear.state_dict()) == ["weight"]
        with pytest.raises(nvtripy.TripyException, match="expected a tensor or None, found list"):
            linear.bias = [1.0, 2.0]

    def test_one_running_statistic_without_the_other_is_refused(self):
        told = {
            True: (ValueError, "must either both be None or neither"),
            False: (RuntimeError, "^running_var must be"),
        }
        for training, (kind, match) in told.items():
            bn = torch.nn.BatchNorm1d(3).train(training)
            bn.running_var = None
            with pytest.raises(kind, match=match):
                bn(np.ones((4, 3), np.float32))
            assert int(bn.num_batches_tracked) == 0

    def test_a_buffer_of_the_users_own_is_converted_with_the_rest(self):
        bn = torch.nn.BatchNorm1d(3)
        bn.register_buffer("mine", torch.zeros(2))
        assert bn.to(torch.float64).mine.dtype == torch.float64

    @pytest.mark.parametrize(("package", "kind"), [(storch, RuntimeError), (lucid, ValueError)])
    def test_one_running_statistic_without_the_other_is_refused_in_the_dialects_words(self, package, kind):
        bn = package.nn.BatchNorm1d(2)
        bn.running_var = None
        with pytest.raises(kind, match=r"running_var.*\nBatchNorm1d: running_var: expected both running statistics or"):
            bn(np.ones((3, 2), np.float32))

    @pytest.mark.parametrize("package", [tp, nvtripy])
    def test_a_state_that_is_no_mapping_is_refused_by_tripy_in_its_words(self, package):
        with pytest.raises(package.TripyException, match=r"'state_dict', expected .* got argument of type: 'NoneType'"):
            package.BatchNorm(2).load_state_dict(None)

    def test_linears_input_is_refused_in_nvtripys_words(self):
        linear = nvtripy.Linear(2, 2)
        for x, told in (
            (
                nvtripy.ones((3, 3)),
                r"^contracting dimension .*\nLinear: x: expected \(\.\.\., 2\), found shape \(3, 3\)$",
            ),
            (
                nvtripy.ones((3, 2), nvtripy.float16),
                r"^Mismatched data types for '__matmul__'.* 'float16' and 'float32'",
            ),
            ("text", r"'x', expected an instance of type: 'Tensor'.*: 'str'"),
        ):
            with pytest.raises(nvtripy.TripyException, match=told):
                linear(x)

    def test_more_features_than_there_are_statistics_are_refused(self):
        bn = lucid.nn.BatchNorm1d(2)
        bn.num_features = 100
        with pytest.raises(lucid.ShapeMismatch, match=r"expected shape \(100,\), found shape \(2,\)"):
            bn(np.ones((4, 100), np.float32))

    def test_an_unrelated_file_is_told_from_one_that_save_wrote(self, tmp_path):
        np.savez(tmp_path / "other.npz", x=np.ones(3))
        with pytest.raises(ValueError, match="expected tensors of BatchNorm1d, found x"):
            storch.nn.BatchNorm1d(3).load(tmp_path / "other.npz")
        np.save(tmp_path / "other.npy", np.ones(3))
        (tmp_path / "empty.npz").touch()
        for name in ("other.npy", "empty.npz"):
            with pytest.raises(ValueError, match=f"{name}: expected a .npz file that save wrote"):
                storch.nn.BatchNorm1d(3).load(tmp_path / name)

    def test_converting_to_integers_is_refused(self):
        with pytest.raises(RuntimeError, match="dtype: expected a floating-point type, found int32"):
            torch.nn.BatchNorm1d(3).to(dtype="int32")


class TestFunction:
    vectors = staticmethod(lambda: [np.zeros(3, np.float32), np.ones(3, np.float32)])

    def test_errors_speak_torchs_words(self):
        batch_norm, x = torch.nn.functional.batch_norm, np.ones((4, 3), np.float32)
        with pytest.raises(
            RuntimeError, match=r"^weight should contain 3 elements not 5\nbatch_norm: weight: expected"
        ):
            batch_norm(x, *self.vectors(), weight=np.ones(5, np.float32))
        with pytest.raises(RuntimeError, match=r"^running_mean must be defined in evaluation mode"):
            batch_norm(x, None, None)
        with pytest.raises(ValueError, match=r"both be None or neither be None\nbatch_norm: running_var: expected"):
            batch_norm(x, np.zeros(3, np.float32), None, training=True)
        with pytest.raises(TypeError, match="must be float, not NoneType"):
            batch_norm(x, *self.vectors(), training=True, momentum=None)

    @pytest.mark.parametrize("change", [lambda v: v.astype(np.int64), lambda v: v.astype(np.complex64)])
    def test_statistics_that_cannot_be_updated_are_refused_before_anything_changes(self, change):
        mean, variance = self.vectors()
        with pytest.raises((RuntimeError, TypeError)):
            torch.nn.functional.batch_norm(np.ones((4, 3), np.float32), mean, change(variance), training=True)
        variance.flags.writeable = False
        with pytest.raises(ValueError, match=r"\nbatch_norm: running_var: expected memory that can be written"):
            torch.nn.functional.batch_norm(np.ones((4, 3), np.float32), mean, variance, training=True)
        np.testing.assert_array_equal(mean, 0.0)


class TestModules:
    def test_a_module_that_is_there_twice_has_two_paths_in_its_state(self):
        net = torch.nn.Module()
        net.one = net.two = torch.nn.BatchNorm1d(3, affine=False)
        assert [key.partition(".")[0] for key in net.state_dict()] == ["one"] * 3 + ["two"] * 3
        assert net.load_state_dict(net.state_dict()) == ([], [])

    def test_a_module_inside_itself_is_followed_once(self):
        net, one, two = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
        net.one, one.two, two.one, two.seen = one, two, one, torch.nn.Parameter([1.0])
        assert list(net.state_dict()) == ["one.two.seen"]
        assert [name for name, _ in net.named_modules()] == ["", "one", "one.two"]

    def test_what_is_deep_inside_is_reached(self):
        net, outer = storch.nn.Module(), storch.nn.Module()
        net.registerModule(outer, "outer")
        outer.registerModule(storch.nn.BatchNorm1d(3), "bn")
        net.eval()
        assert not outer.bn.isTraining
        assert net.hasBias()
        outer.bn.bias = None
        assert not net.hasBias()

    def test_a_tensor_that_wants_gradients_does_so_elsewhere(self):
        net = torch.nn.Module()
        net.register_buffer("one", torch.zeros(2).requires_grad_())
        net.register_buffer("other", torch.zeros(2))
        net.to(torch.float64)
        assert (net.one.requires_grad, net.other.requires_grad) == (True, False)

    def test_taken_names_and_wrong_values_cannot_be_registered(self):
        m = torch.nn.BatchNorm1d(3)
        for name in ("state_dict", "weight", "eps"):
            with pytest.raises(KeyError, match=f"expected a free name, found '{name}'"):
                m.register_buffer(name, torch.zeros(3))
        with pytest.raises(KeyError, match="BatchNorm1d: n: expected a free name, found 'eps'"):
            storch.nn.BatchNorm1d(3).registerBuffer(storch.zeros(3), "eps")
        with pytest.raises(ValueError, match=r"name: expected an identifier, found 'a\.b'"):
            m.register_buffer("a.b", torch.zeros(3))
        with pytest.raises(TypeError, match="mine: expected a Tensor, found str"):
            m.register_buffer("mine", "text")
        with pytest.raises(TypeError, match="inner: expected a Module, found int"):
            m.register_module("inner", 3)

    def test_storchs_two_forms_of_register_buffer(self):
        m = storch.nn.Module()
        m.registerBuffer(storch.zeros(2), "one")
        m.registerBuffer("two", storch.zeros(2))
        assert list(m.namedBuffers) == ["one", "two"]
        assert storch.nn.BatchNorm1d(3).runningMean.shape == (3,)

    def test_one_no_grad_may_be_shared_by_threads(self):
        from normspec.runtime import gradients

        shared, both, seen = lucid.no_grad(), threading.Barrier(2), []

        def work():
            with shared:
                both.wait()
                seen.append(gradients.wanted())
                both.wait()
            seen.append(gradients.wanted())

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [False, False, True, True]

    def test_a_module_that_forgot_its_init_says_what_it_keeps_all_the_same(self):
        class Forgetful(torch.nn.Module):
            def __init__(self):
                self.bn = torch.nn.BatchNorm1d(3)

        assert len(Forgetful().state_dict()) == 5

    def test_user_modules_nest(self):
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.bn = torch.nn.BatchNorm1d(3)

            def forward(self, x):
                return self.bn(x)

        net = Net()
        assert net(np.ones((2, 3), np.float32)).shape == (2, 3)
        assert [name for name, _ in net.named_parameters()] == ["bn.weight", "bn.bias"]
        assert [name for name, _ in net.named_modules()] == ["", "bn"]
        assert repr(net) == f"Net(\n  (bn): {net.bn!r}\n)"
        assert net.eval() is net
        assert not net.bn.training
        seen = []
        net.apply(lambda module: seen.append(type(module).__name__))
        assert seen == ["BatchNorm1d", "Net"]

    @pytest.mark.parametrize(
        "name",
        ["accepts", "dialect", "kept_dtype", "names", "parameter_type", "spelling", "state", "tensor_type"],
    )
    def test_user_modules_may_call_their_attributes_what_they_like(self, name):
        net = torch.nn.Module()
        setattr(net, name, torch.nn.Parameter([1.0]))
        net.bn = torch.nn.BatchNorm1d(3)
        net.register_buffer("seen", torch.zeros(2))
        net.to(torch.float64).load_state_dict(net.state_dict())
        assert getattr(net, name).dtype == net.bn.weight.dtype == torch.float64
        assert list(net.state_dict())[:1] == [name]

    def test_a_shared_module_is_counted_once(self):
        net = torch.nn.Module()
        net.one = net.two = torch.nn.BatchNorm1d(3)
        assert len(list(net.parameters())) == 2
        assert len(list(net.modules())) == 2

    def test_storchs_functions_of_modules(self):
        m, x = storch.nn.BatchNorm1d(3), storch.randn((5, 3))
        assert m.andThen(lambda y: y.shape)(x) == (5, 3)
        assert m.compose(lambda shape: storch.ones(shape))((5, 3)).shape == (5, 3)
        assert m.apply(x).shape == (5, 3)
        outer = storch.nn.Module()
        outer.registerModule(m, "inner")
        seen = []
        storch.nn.TensorModule.apply(outer, seen.append)
        assert seen == [m, outer]
        assert outer.summarize == "Module(\n  (inner): BatchNorm1d(numFeatures=3)\n)"
        assert outer.namedModules == {"": outer, "inner": m}
        assert outer.modules == [m]
        assert outer.parameters(recurse=False) == []

    def test_what_one_spelling_sets_the_other_has(self):
        m, mean = storch.nn.BatchNorm1d(3), storch.ones((3,))
        m.runningMean, m.track_running_stats, m.num_features = mean, False, 4
        assert m.running_mean is mean
        assert (m.trackRunningStats, m.numFeatures) == (False, 4)
        with pytest.raises(TypeError, match="running_mean: Tensor expected, found str"):
            m.runningMean = "text"

    def test_views_are_values_and_calls(self):
        m = storch.nn.BatchNorm1d(3)
        assert list(m.namedParameters) == list(m.named_parameters()) == ["weight", "bias"]
        assert len(m.parameters) == len(m.parameters()) == 2

    def test_a_buffer_of_ones_own(self):
        m = lucid.nn.Module()
        m.register_buffer("seen", lucid.zeros(2))
        assert list(m.state_dict()) == ["seen"]
        assert list(m.parameters()) == []
        with pytest.raises(KeyError, match="training"):
            m.register_buffer("training", lucid.zeros(2))
        m.seen = lucid.nn.Parameter([1.0])
        m.seen = lucid.zeros(1)
        assert not m.seen.learned
        twin = copy.copy(m)
        del m.seen
        assert list(m.state_dict()) == list(m.buffers()) == []
        assert list(twin.state_dict()) == ["seen"]

    def test_no_grad_is_a_context_and_a_decorator(self):
        from normspec.runtime import gradients

        @lucid.no_grad()
        def wanted():
            return gradients.wanted()

        assert not wanted()
        with lucid.no_grad():
            assert not gradients.wanted()
        assert gradients.wanted()

    def test_traits_are_classes(self):
        m = storch.nn.BatchNorm1d(3)
        for trait in (
            storch.nn.HasParams,
            storch.nn.HasWeight,
            storch.nn.TensorModule,
            storch.nn.Module,
            runtime.Module,
        ):
            assert isinstance(m, trait)
        assert not isinstance(storch.nn.Module(), storch.nn.HasWeight)
