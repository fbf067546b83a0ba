"""The functions of ``normspec.functional``: values, masks, where results go, and what is refused."""

from __future__ import annotations

import inspect
import tracemalloc

import array_api_strict
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from normspec import functional, lucid, torch
from normspec.conformance.examples import run
from normspec.functional import (
    Statistics,
    batch_norm,
    batch_norm_backward,
    batch_stats,
    merge_stats,
    normalize,
    update_running_stats,
)
from normspec.runtime import DType, autograd
from normspec.runtime.dtypes import FLOATING

RANDOM = np.random.default_rng(11)
SHAPES = [((9, 3), 1), ((4, 3, 5), 1), ((4, 3, 5), -1), ((3, 4, 5), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 3)]


def others(shape, axis):
    return tuple(one for one in range(len(shape)) if one != axis % len(shape))


def column(vector, shape, axis):
    sides = [1] * len(shape)
    sides[axis] = -1
    return np.asarray(vector, np.float64).reshape(sides)


def oracle(x, mean, variance, scale, shift, epsilon, axis):
    mean, variance, scale, shift = (column(one, x.shape, axis) for one in (mean, variance, scale, shift))
    return (x.astype(np.float64) - mean) / np.sqrt(variance + epsilon) * scale + shift


def masked(x, axis, mask):
    """Count, mean and variance of each feature by a loop in float64."""
    features = np.moveaxis(x.astype(np.float64), axis, 0)
    where = np.moveaxis(np.broadcast_to(mask, x.shape), axis, 0)
    values = [one[kept] for one, kept in zip(features, where, strict=True)]
    return tuple(np.array([f(one) for one in values]) for f in (np.size, np.mean, np.var))


def vectors(features, dtype=np.float32):
    return [RANDOM.uniform(0.5, 2, features).astype(dtype) for _ in range(4)]


LIBRARIES = {
    "numpy": lambda array: array.copy(),
    "array_api_strict": lambda array: array_api_strict.asarray(array.copy()),
    "torch_dialect": lambda array: torch.Tensor(array.copy()),
    "lucid": lambda array: lucid.tensor(array.copy()),
}


@pytest.fixture(params=[*LIBRARIES, "torch"])
def library(request):
    if request.param == "torch":
        real = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
        return lambda array: real.from_numpy(array.copy())
    return LIBRARIES[request.param]


class TestValues:
    @pytest.mark.parametrize(("shape", "axis"), SHAPES)
    @pytest.mark.parametrize("unbiased", [True, False])
    def test_training(self, shape, axis, unbiased):
        x = RANDOM.normal(3, 2, shape).astype(np.float32)
        mean, variance, scale, shift = vectors(shape[axis])
        before = mean.copy(), variance.copy()
        own = x.astype(float).mean(others(shape, axis)), x.astype(float).var(others(shape, axis))
        count = x.size // shape[axis]
        result = batch_norm(
            x, mean, variance, scale, shift, training=True, update_rate=0.3, epsilon=1e-3, unbiased=unbiased, axis=axis
        )
        np.testing.assert_allclose(result.output, oracle(x, *own, scale, shift, 1e-3, axis), rtol=1e-6, atol=1e-6)
        assert result.output.dtype == np.float32
        assert result.mean is mean
        assert result.variance is variance
        np.testing.assert_allclose(mean, 0.7 * before[0] + 0.3 * own[0], rtol=1e-6)
        factor = count / (count - 1) if unbiased else 1
        np.testing.assert_allclose(variance, 0.7 * before[1] + 0.3 * own[1] * factor, rtol=1e-6)

    @pytest.mark.parametrize(("shape", "axis"), SHAPES)
    def test_evaluation(self, shape, axis):
        x, state = RANDOM.normal(size=shape).astype(np.float32), vectors(shape[axis])
        before = [one.copy() for one in state]
        expected = oracle(x, *state, 1e-5, axis)
        np.testing.assert_allclose(batch_norm(x, *state, axis=axis).output, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(normalize(x, *state, axis=axis), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(state, before)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_element_types(self, dtype):
        x = torch.tensor(RANDOM.normal(size=(50, 3)), dtype=dtype).numpy()
        result = batch_norm(x, training=True)
        assert result.output.dtype == x.dtype
        assert result.mean is result.variance is None
        tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-12}[dtype]
        exact = oracle(x, x.astype(float).mean(0), x.astype(float).var(0), np.ones(3), np.zeros(3), 1e-5, 1)
        np.testing.assert_allclose(result.output.astype(float), exact, rtol=tolerance, atol=tolerance)
        assert all(one.dtype.name in ("int64", "float64") for one in batch_stats(x))

    def test_without_elements_nothing_happens(self):
        x, (mean, variance, scale, _) = np.empty((0, 3, 4), np.float32), vectors(3)
        before = mean.copy(), variance.copy()
        assert batch_norm(x, mean, variance, training=True).output.shape == x.shape
        np.testing.assert_array_equal((mean, variance), before)
        statistics = batch_stats(x)
        assert statistics.count.tolist() == [0, 0, 0]
        np.testing.assert_array_equal(update_running_stats(mean, variance, statistics), before)
        gradients = batch_norm_backward(x, x, scale=scale)
        assert gradients.x.shape == x.shape
        assert gradients.scale.tolist() == gradients.shift.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(("shape", "axis"), SHAPES)
    @pytest.mark.parametrize("training", [True, False])
    def test_backward_is_that_of_the_tape(self, shape, axis, training):
        x, dy = RANDOM.normal(size=shape), RANDOM.normal(size=shape)
        mean, variance, scale, shift = vectors(shape[axis], np.float64)
        given = [torch.tensor(one, requires_grad=True) for one in (x, scale, shift)]
        running = torch.Tensor(mean.copy()), torch.Tensor(variance.copy())
        y = batch_norm(given[0], *running, *given[1:], training=training, axis=axis).output
        taped = autograd.grad(y, given, dy, retain_graph=True)
        composed = autograd.grad(y, given, dy, create_graph=True)
        statistics = (None, None) if training else (mean, variance)
        found = batch_norm_backward(dy, x, *statistics, scale, training=training, axis=axis)
        for one, tape, formula in zip(found, taped, composed, strict=True):
            np.testing.assert_allclose(one, tape.numpy(), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(one, formula.numpy(), rtol=1e-10, atol=1e-11)
        own = batch_stats(x, axis=axis)
        if training:
            again = batch_norm_backward(dy, x, own.mean, own.variance(), scale, axis=axis)
            np.testing.assert_allclose(again.x, found.x, rtol=1e-12, atol=1e-13)

    def test_gradients_of_vectors_have_the_type_of_the_scale(self):
        x = RANDOM.normal(size=(8, 3)).astype(np.float16)
        found = batch_norm_backward(x, x, scale=np.ones(3))
        assert [one.dtype.name for one in found] == ["float16", "float64", "float64"]
        assert batch_norm_backward(x, x).scale.dtype == np.float32


class TestStatistics:
    def test_chunks_merge_to_the_whole(self):
        x = (1e6 + RANDOM.normal(size=(3, 1000))).T
        chunks = [batch_stats(chunk) for chunk in (x[:1], x[1:400], x[400:400], x[400:])]
        total = merge_stats(*chunks)
        assert total.count.tolist() == [1000] * 3
        np.testing.assert_allclose(total.mean, x.mean(0), rtol=1e-15)
        np.testing.assert_allclose(total.variance(), x.var(0), rtol=1e-9)
        np.testing.assert_allclose(total.variance(unbiased=True), x.var(0, ddof=1), rtol=1e-9)

    def test_nothing_merges_with_nothing(self):
        nothing = batch_stats(np.empty((0, 2)))
        assert [one.tolist() for one in merge_stats(nothing, nothing)] == [[0, 0]] * 3
        some = batch_stats(np.array([[1.0, 2.0], [3.0, 2.0]]))
        for one in (merge_stats(nothing, some), merge_stats(some, nothing), merge_stats(some)):
            assert [each.tolist() for each in one] == [[2, 2], [2.0, 2.0], [2.0, 0.0]]

    def test_the_mean_of_nothing_counts_for_nothing(self):
        """Whatever it is: NumPy's is NaN."""
        nothing = Statistics(*map(np.array, ([0, 0], [np.nan, np.inf], [np.nan, -np.inf])))
        some = batch_stats(np.array([[1.0, 2.0], [3.0, 2.0]]))
        assert [one.tolist() for one in merge_stats(nothing, nothing)] == [[0, 0]] * 3
        assert nothing.variance().tolist() == [0, 0]
        for one in (merge_stats(nothing, some), merge_stats(some, nothing)):
            assert [each.tolist() for each in one] == [[2, 2], [2.0, 2.0], [2.0, 0.0]]

    def test_more_than_can_be_counted(self):
        most = Statistics(np.array([2**63 - 3]), np.ones(1), np.ones(1))
        assert merge_stats(most, batch_stats(np.ones((2, 1)))).count.tolist() == [2**63 - 1]
        with pytest.raises(ValueError, match=r"^merge_stats: statistics\.count: expected counts .* below 2\*\*63"):
            merge_stats(most, batch_stats(np.ones((3, 1))))

    def test_updating_is_what_training_does(self):
        x, (mean, variance, *_) = RANDOM.normal(size=(6, 3)), vectors(3, np.float64)
        other = mean.copy(), variance.copy()
        batch_norm(x, mean, variance, training=True, update_rate=0.25)
        results = update_running_stats(*other, batch_stats(x), update_rate=0.25)
        assert all(one is given for one, given in zip(results, other, strict=True))
        np.testing.assert_allclose(other, (mean, variance), rtol=1e-15)

    def test_statistics_that_are_replaced_keep_nothing_of_what_was(self):
        x = 1e-9 * RANDOM.normal(size=(6, 3))
        moved = update_running_stats(np.zeros(3), np.ones(3), batch_stats(x), update_rate=1.0)
        np.testing.assert_allclose(moved, (x.mean(0), x.var(0, ddof=1)), rtol=1e-12)


class TestMasks:
    @pytest.mark.parametrize(("shape", "axis"), SHAPES)
    @pytest.mark.parametrize("kind", ["whole", "without_axis", "one_axis"])
    def test_only_what_counts_is_counted(self, shape, axis, kind):
        x = RANDOM.normal(5, 2, shape)
        mask = RANDOM.random(shape) < 0.7
        if kind != "whole":
            mask = mask.any(axis, keepdims=True) & (
                RANDOM.random([1 if i == axis % len(shape) else n for i, n in enumerate(shape)]) < 0.8
            )
        if kind == "one_axis":
            first = others(shape, axis)[0]
            mask = (
                np.arange(shape[first]).reshape([-1 if i == first else 1 for i in range(len(shape))]) < shape[first] - 1
            )
        counts, means, variances = masked(x, axis, mask)
        given = mask if kind != "without_axis" else mask.squeeze(axis)
        found = batch_stats(np.where(mask, x, np.nan), axis=axis, mask=given)
        assert found.count.tolist() == counts.tolist()
        np.testing.assert_allclose(found.mean, means, rtol=1e-13)
        np.testing.assert_allclose(found.variance(), variances, rtol=1e-11)

        mean, variance, scale, shift = vectors(shape[axis], np.float64)
        before = mean.copy(), variance.copy()
        y = batch_norm(x, mean, variance, scale, shift, training=True, axis=axis, mask=given).output
        np.testing.assert_allclose(y, oracle(x, means, variances, scale, shift, 1e-5, axis), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(mean, 0.9 * before[0] + 0.1 * means, rtol=1e-13)
        np.testing.assert_allclose(variance, 0.9 * before[1] + 0.1 * variances * counts / (counts - 1), rtol=1e-11)
        variance[:] = before[1]
        batch_norm(x, mean, variance, training=True, unbiased=False, axis=axis, mask=given)
        np.testing.assert_allclose(variance, 0.9 * before[1] + 0.1 * variances, rtol=1e-11)

    def test_padding_changes_nothing(self):
        x = RANDOM.normal(size=(4, 3, 6))
        padded = np.concatenate([x, np.full((4, 3, 2), 7.0)], axis=2)
        mask = np.arange(8) < 6
        plain, states = batch_norm(x, training=True).output, [vectors(3, np.float64)[:2] for _ in range(2)]
        np.testing.assert_allclose(
            batch_norm(padded, training=True, mask=np.broadcast_to(mask, (4, 8))).output[:, :, :6], plain, rtol=1e-12
        )
        for state in states:
            state[0][:], state[1][:] = 1.0, 2.0
        batch_norm(x, *states[0], training=True)
        batch_norm(padded, *states[1], training=True, mask=np.broadcast_to(mask, (1, 8)))
        np.testing.assert_allclose(states[0], states[1], rtol=1e-14)

    @pytest.mark.parametrize("featured", [True, False])
    def test_gradients_are_those_of_finite_differences(self, featured):
        shape = (4, 2, 5)
        x, weight = RANDOM.normal(size=shape), RANDOM.normal(size=shape)
        mask = RANDOM.random(shape if featured else (4, 1, 5)) < 0.7
        scale, shift = vectors(2, np.float64)[:2]

        def loss(x, scale, shift):
            return ((batch_norm(x, None, None, scale, shift, training=True, mask=mask).output + 1) ** 2 * weight).sum()

        def slope(function, arrays, which, step=1e-6):
            result = np.empty_like(arrays[which])
            for index in np.ndindex(result.shape):
                ends = []
                for sign in (1, -1):
                    moved = [one.copy() for one in arrays]
                    moved[which][index] += sign * step
                    ends.append(function(*moved))
                result[index] = (ends[0] - ends[1]) / (2 * step)
            return result

        arrays = [x, scale, shift]
        given = [torch.tensor(one, requires_grad=True) for one in arrays]
        torch_mask = torch.tensor(mask)
        y = batch_norm(*given[:1], None, None, *given[1:], training=True, mask=torch_mask).output
        found = autograd.grad(((y + 1) ** 2 * weight).sum(), given, create_graph=True)
        for which, one in enumerate(found):
            np.testing.assert_allclose(one.numpy(), slope(loss, arrays, which), rtol=1e-6, atol=1e-7)
        dy = 2 * (y.numpy() + 1) * weight
        direct = batch_norm_backward(dy, x, scale=scale, mask=mask)
        for one, other in zip(direct, found, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-11, atol=1e-12)

        other = RANDOM.normal(size=shape)
        second = autograd.grad((found[0] * other).sum(), given[:1])[0]

        def first(x, scale, shift):
            y = batch_norm(x, None, None, scale, shift, training=True, mask=mask).output
            return (batch_norm_backward(2 * (y + 1) * weight, x, scale=scale, mask=mask).x * other).sum()

        np.testing.assert_allclose(second.numpy(), slope(first, arrays, 0), rtol=1e-5, atol=1e-6)

    def test_no_number_in_the_padding_reaches_a_gradient(self):
        x, mask = RANDOM.normal(size=(6, 3)), np.arange(6)[:, None] < 4
        dy = np.where(mask, RANDOM.normal(size=(6, 3)), 0)
        expected = batch_norm_backward(dy[:4], x[:4])
        x[4:] = np.nan, np.inf, -np.inf
        found = batch_norm_backward(dy, x, mask=mask)
        np.testing.assert_allclose(found.x[:4], expected.x, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(found.x[4:], 0)
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-12)
        out = np.full_like(x, 9.0)
        assert batch_norm_backward(dy, x, mask=mask, out=out).x is out
        np.testing.assert_array_equal(out, found.x)

    def test_evaluation_knows_no_mask(self):
        x, dy, mask = RANDOM.normal(size=(6, 3)), np.ones((6, 3)), np.arange(6)[:, None] < 4
        x[4:] = np.nan
        given = batch_norm_backward(dy, x, np.zeros(3), np.ones(3), training=False)
        for one, expected in zip(
            batch_norm_backward(dy, x, np.zeros(3), np.ones(3), training=False, mask=mask), given, strict=True
        ):
            np.testing.assert_array_equal(one, expected)

    def test_a_feature_of_which_nothing_counts_becomes_its_shift(self):
        x, (mean, variance, scale, shift) = RANDOM.normal(size=(6, 3)), vectors(3, np.float64)
        before, mask = (mean[1], variance[1]), np.ones((6, 3), bool)
        mask[:, 1] = False
        result = batch_norm(x, mean, variance, scale, shift, training=True, mask=mask)
        np.testing.assert_array_equal(result.output[:, 1], shift[1])
        assert (mean[1], variance[1]) == before
        found = batch_norm_backward(np.ones((6, 3)), x, scale=scale, mask=mask)
        assert not found.x[:, 1].any()
        assert found.scale[1] == 0.0

    def test_one_value_is_too_few(self):
        mask = np.ones((6, 3), bool)
        mask[1:, 2] = False
        with pytest.raises(ValueError, match="batch_norm: mask: expected more than one value for each feature"):
            batch_norm(np.ones((6, 3)), training=True, mask=mask)
        with pytest.raises(ValueError, match="batch_norm: x: expected more than one value for each feature"):
            batch_norm(np.ones((1, 3)), training=True)

    def test_a_constant_feature_gives_exactly_the_shift(self):
        x, mask = np.full((50, 2), 1e8 + 0.1), np.arange(50)[:, None] < 33
        y = batch_norm(x, None, None, None, np.array([0.1, -7.3]), training=True, mask=mask).output
        np.testing.assert_array_equal(y, np.broadcast_to([0.1, -7.3], (50, 2)))


class TestLibraries:
    def test_what_comes_in_comes_back(self, library):
        x, state = RANDOM.normal(size=(4, 3, 5)).astype(np.float32), vectors(3)
        mask = RANDOM.random((4, 5)) < 0.8
        plain, given = [one.copy() for one in state], [library(one) for one in state]
        for arguments in ({}, {"training": True}, {"training": True, "mask": mask}):
            expected = batch_norm(x, *plain, **arguments)
            ours = {**arguments, "mask": library(mask)} if "mask" in arguments else arguments
            found = batch_norm(library(x), *given, **ours)
            assert type(found.output) is type(given[0])
            np.testing.assert_array_equal(np.from_dlpack(found.output), expected.output)
            assert found.mean is given[0]
            np.testing.assert_array_equal(np.from_dlpack(given[0]), plain[0])
            np.testing.assert_array_equal(np.from_dlpack(given[1]), plain[1])
        statistics = batch_stats(library(x), mask=library(mask))
        merged = merge_stats(statistics, statistics)
        moved = update_running_stats(*given[:2], merged)
        gradients = batch_norm_backward(library(x), library(x), scale=given[2])
        for one in (*statistics, statistics.variance(), *merged, *moved, *gradients):
            assert type(one) is type(given[0])
        assert str(statistics.count.dtype).endswith("int64")

    def test_results_go_where_they_are_told(self, library):
        x, state = library(RANDOM.normal(size=(4, 3, 5)).astype(np.float32)), list(map(library, vectors(3)))
        expected = np.from_dlpack(normalize(x, *state))
        out = library(np.zeros((4, 3, 5), np.float32))
        assert normalize(x, *state, out=out) is out
        np.testing.assert_array_equal(np.from_dlpack(out), expected)
        assert normalize(x, *state, out=x) is x
        np.testing.assert_array_equal(np.from_dlpack(x), expected)
        for mask in (None, library(np.ones((4, 5), bool))):
            assert batch_norm(x, training=True, mask=mask, out=out).output is out

    def test_read_only_statistics_are_returned(self):
        x, state = RANDOM.normal(size=(6, 3)), vectors(3, np.float64)
        expected = [one.copy() for one in state[:2]]
        batch_norm(x, *expected, training=True)
        for one in (*state, x):
            one.flags.writeable = False
        before = [one.copy() for one in state]
        for arguments in ({}, {"mask": np.ones((6, 3), bool)}):
            result = batch_norm(x, *state, training=True, **arguments)
            np.testing.assert_allclose(result[1:], expected, rtol=1e-14)
            assert result.mean is not state[0]
        np.testing.assert_allclose(update_running_stats(*state[:2], batch_stats(x)), expected, rtol=1e-14)
        np.testing.assert_array_equal(state, before)

    @pytest.mark.parametrize(
        "change", [lambda v: v.astype(np.float16), lambda v: v.astype(">f4"), lambda v: np.repeat(v, 2)[::2]]
    )
    def test_statistics_of_any_type_and_strides_are_updated_in_place(self, change):
        x, mean, variance = np.array([[1.0], [3.0]]), change(np.zeros(1, np.float32)), change(np.ones(1, np.float32))
        result = batch_norm(x, mean, variance, training=True, update_rate=0.5)
        assert result.mean is mean
        assert (float(mean[0]), float(variance[0])) == (1.0, 1.5)

    @pytest.mark.parametrize(
        "call",
        [
            lambda x, mean, variance: batch_norm(x, mean, variance, training=True),
            lambda x, mean, variance: batch_norm(x, mean, variance, training=True, mask=np.ones((2, 1), bool)),
            lambda x, mean, variance: update_running_stats(mean, variance, batch_stats(x)),
        ],
    )
    def test_statistics_that_overflow_where_that_is_an_error_have_not_changed(self, call):
        mean, variance = np.zeros(1, np.float16), np.ones(1, np.float16)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            call(np.array([[0.0], [1e5]], np.float32), mean, variance)
        assert (mean.tolist(), variance.tolist()) == ([0], [1])


LAYOUTS = {
    "contiguous": lambda shape: np.zeros(shape, np.float32),
    "fortran": lambda shape: np.zeros(shape, np.float32, order="F"),
    "channels_last": lambda shape: np.zeros((shape[0], *shape[2:], shape[1]), np.float32).transpose(0, 3, 1, 2),
    "part": lambda shape: np.zeros((*shape[:2], shape[2] + 3, shape[3] + 1), np.float32)[:, :, 1:-2, :-1],
    "reversed": lambda shape: np.zeros(shape, np.float32)[::-1, :, ::-1],
}


class TestOut:
    @pytest.mark.parametrize("source", LAYOUTS)
    @pytest.mark.parametrize("target", LAYOUTS)
    def test_any_layout_into_any_layout(self, source, target):
        shape = (2, 3, 4, 5)
        x, out, dx = LAYOUTS[source](shape), LAYOUTS[target](shape), LAYOUTS[target](shape)
        x[...] = RANDOM.normal(size=shape)
        state, dy = vectors(3), RANDOM.normal(size=shape).astype(np.float32)
        plain = np.ascontiguousarray(x)
        for arguments in ({}, {"training": True}):
            assert batch_norm(x, *state, **arguments, out=out).output is out
            np.testing.assert_allclose(out, batch_norm(plain, *state, **arguments).output, rtol=1e-6, atol=1e-6)
        assert batch_norm_backward(dy, x, out=dx).x is dx
        np.testing.assert_allclose(dx, batch_norm_backward(dy, plain).x, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_in_place(self, layout):
        x = LAYOUTS[layout]((2, 3, 4, 5))
        x[...] = RANDOM.normal(size=x.shape)
        state, dy = vectors(3), x + np.float32(1)
        expected, slope = normalize(x.copy(), *state), batch_norm_backward(dy, x.copy()).x
        again = batch_norm_backward(dy, x, out=dy)
        np.testing.assert_allclose(again.x, slope, rtol=1e-5, atol=1e-6)
        assert normalize(x, *state, out=x) is x
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)

    def test_nothing_of_the_size_of_the_input_is_allocated(self):
        x = RANDOM.normal(size=(64, 8, 32, 32)).astype(np.float32)
        out, state = np.empty_like(x), vectors(8)
        for call in (
            lambda: normalize(x, *state, out=out),
            lambda: batch_norm(x, *state, training=True, out=out),
            lambda: batch_norm_backward(out, x, scale=state[2], out=out),
            lambda: normalize(x, *state, out=x),
            lambda: batch_stats(x),
        ):
            call()
            tracemalloc.start()
            call()
            assert tracemalloc.get_traced_memory()[1] < 0.05 * x.nbytes
            tracemalloc.stop()

    def test_where_results_cannot_go(self):
        x, state = RANDOM.normal(size=(4, 6, 5)), vectors(3, np.float64)
        part = x[:, :3]
        fixed = np.zeros((4, 3, 5))
        fixed.flags.writeable = False
        for out, words, error in (
            (np.zeros((4, 3, 4)), r"out: expected shape \(4, 3, 5\), found shape \(4, 3, 4\)", ValueError),
            (
                np.zeros((4, 3, 5), np.float32),
                "out: expected elements of float64, found elements of float32",
                TypeError,
            ),
            (fixed, "out: expected memory that can be written, found read-only memory", ValueError),
            (np.zeros((4, 3, 5), ">f8"), "out: expected this machine's order of bytes", ValueError),
            (x[:, 1:4], "out: expected memory of its own.*found memory shared with an input", ValueError),
            (as_strided(np.zeros(5), (4, 3, 5), (0, 0, 8)), "out: .*, found memory that elements share", ValueError),
            (torch.Tensor(np.zeros((4, 3, 5))), "out: expected an array of numpy, .*found one of normspec", TypeError),
            ("text", "out: expected an array, found str", TypeError),
        ):
            before = x.copy()
            with pytest.raises(error, match=f"normalize: {words}"):
                normalize(part, *state, out=out)
            np.testing.assert_array_equal(x, before)
        assert normalize(part, *state, out=x[:, 3:]) is not None  # beside each other in one array
        with pytest.raises(ValueError, match="batch_norm: out: expected memory of its own"):
            batch_norm(part, training=True, out=part)

    def test_what_may_overlap_for_all_that_is_known_is_refused(self, monkeypatch):
        def shares_memory(*_, **__):
            raise np.exceptions.TooHardError

        x, out = np.ones((4, 3)), np.ones((4, 3))
        batch_norm(x, training=True, out=out)
        monkeypatch.setattr("numpy.shares_memory", shares_memory)
        with pytest.raises(ValueError, match="batch_norm: out: expected memory of its own"):
            batch_norm(x, training=True, out=out)


class TestErrors:
    X = RANDOM.normal(size=(4, 3, 5)).astype(np.float32)

    @pytest.mark.parametrize(
        ("arguments", "words", "error"),
        [
            ({"x": "text"}, "x: expected an array, found str", TypeError),
            ({"x": [1.0]}, "x: expected an array, found list", TypeError),
            ({"epsilon": 10**400}, "epsilon: expected a number in the range of float, found int beyond it", ValueError),
            ({"x": np.ma.masked_array(X)}, "x: expected an array, and its mask apart", TypeError),
            ({"x": X.astype(np.int32)}, "x: expected float16 or .*, found elements of int32", TypeError),
            ({"x": X.astype(np.complex64)}, "x: expected real numbers, found elements of complex64", TypeError),
            ({"mean": np.zeros(4)}, r"mean: expected shape \(3,\), found shape \(4,\)", ValueError),
            ({"scale": np.zeros((3, 1))}, r"scale: expected shape \(3,\), found shape \(3, 1\)", ValueError),
            ({"shift": np.zeros(3, int)}, "shift: expected float16 or .*, found elements of int64", TypeError),
            ({"scale": torch.zeros(3)}, "scale: expected an array of numpy, .*, found one of normspec", TypeError),
            ({"mean": array_api_strict.zeros(3)}, "mean: .*numpy.*array_api_strict", TypeError),
            ({"mean": None}, "mean: expected an array", ValueError),
            ({"variance": None}, "variance: expected an array", ValueError),
            ({"epsilon": 0.0, "training": True}, "epsilon: expected a number above 0, found 0.0", ValueError),
            ({"epsilon": -1.0}, "epsilon: expected a number .* 0, found -1.0", ValueError),
            ({"epsilon": float("nan")}, "epsilon: expected a number .* 0, found nan", ValueError),
            ({"epsilon": "1"}, "epsilon: expected a number, found str", TypeError),
            ({"update_rate": None}, "update_rate: expected a number, found NoneType", TypeError),
            ({"axis": 3}, r"axis: expected an axis of x, which has shape \(4, 3, 5\), found 3", ValueError),
            ({"axis": 1.0}, "axis: expected an int, found 1.0", TypeError),
            ({"axis": True}, "axis: expected an int, found True", TypeError),
            (
                {"x": np.array(1.0), "axis": 0},
                r"axis: expected an axis of x, which has shape \(\), found 0",
                ValueError,
            ),
            ({"mask": np.ones(4, bool)}, r"mask: expected .* to \(4, 3, 5\), .* found \(4,\)", ValueError),
            ({"mask": np.ones((4, 5))}, "mask: expected elements of bool, found elements of float64", TypeError),
            ({"mask": np.ones((4, 4), bool)}, r"mask: expected a shape that broadcasts to \(4, 3, 5\)", ValueError),
            ({"mask": np.ones((9, 5), bool)}, r"mask: expected .* to \(4, 3, 5\), .* found \(9, 5\)", ValueError),
        ],
    )
    @pytest.mark.parametrize("training", [False, True])
    def test_each_argument_is_named_and_nothing_has_changed(self, arguments, words, error, training):
        state = {"mean": np.zeros(3), "variance": np.ones(3)}
        given = {"x": self.X, **state, "training": training, **arguments}
        with pytest.raises(error, match=f"^batch_norm: {words}"):
            batch_norm(given.pop("x"), **given)
        assert not state["mean"].any()
        assert state["variance"].all()

    def test_what_is_neither_true_nor_false(self):
        some, vectors, two = batch_stats(self.X), (np.zeros(3), np.ones(3)), np.array([True, False])
        for name, call in {
            "batch_norm: training": lambda: batch_norm(self.X, training=two),
            "batch_norm: unbiased": lambda: batch_norm(self.X, *vectors, training=True, unbiased=two),
            "batch_norm_backward: training": lambda: batch_norm_backward(self.X, self.X, training=two),
            "update_running_stats: unbiased": lambda: update_running_stats(*vectors, some, unbiased=two),
            "variance: unbiased": lambda: some.variance(unbiased=two),
        }.items():
            with pytest.raises(TypeError, match=f"^{name}: expected True or False, found ndarray$"):
                call()
        assert [one.tolist() for one in vectors] == [[0] * 3, [1] * 3]
        np.testing.assert_array_equal(some.variance(unbiased=2), some.variance(unbiased=True))
        mask = np.ones((4, 5), bool)
        for one, other in (None, False), (2, True):
            found, expected = (
                batch_norm(self.X, np.zeros(3), np.ones(3), training=True, mask=mask, unbiased=unbiased).variance
                for unbiased in (one, other)
            )
            np.testing.assert_array_equal(found, expected)

    def test_one_statistic_is_not_enough_in_training(self):
        for given, missing in (("mean", "variance"), ("variance", "mean")):
            with pytest.raises(ValueError, match=f"{missing}: expected an array, like the other statistic, found None"):
                batch_norm(self.X, training=True, **{given: np.ones(3)})

    def test_devices_are_not_mixed(self):
        there = torch.zeros(3)
        there.device = "cuda:0"
        with pytest.raises(ValueError, match="mean: expected an array on cpu, like the others, found one on cuda:0"):
            normalize(torch.Tensor(self.X), there, torch.ones(3))

    def test_arrays_that_cannot_be_shared_are_refused(self):
        class Elsewhere:
            def __dlpack_device__(self):
                return (8, 0)  # kDLMetal

            def __dlpack__(self, **_):
                raise BufferError("not from here")

        with pytest.raises(ValueError, match="x: expected an array that can be shared, found a Elsewhere that cannot"):
            batch_stats(Elsewhere())

    def test_a_gradient_that_would_be_lost(self):
        x, scale = torch.tensor(self.X, requires_grad=True), torch.ones(3, requires_grad=True)
        words = "expected a tensor of which no gradient is wanted"
        for name, call in {
            "mean": lambda: normalize(x.detach(), scale, torch.ones(3)),
            "x": lambda: normalize(x, torch.zeros(3), torch.ones(3), out=torch.Tensor(self.X * 0)),
            "scale": lambda: normalize(x.detach(), torch.zeros(3), torch.ones(3), scale, out=torch.Tensor(self.X * 0)),
            "out": lambda: normalize(
                x.detach(), torch.zeros(3), torch.ones(3), out=torch.tensor(self.X, requires_grad=True)
            ),
            "x ": lambda: batch_stats(x),
            "gradient": lambda: batch_norm_backward(x, x.detach()),
            "mean ": lambda: update_running_stats(scale, torch.ones(3), batch_stats(x.detach())),
        }.items():
            with pytest.raises(RuntimeError, match=f"{name.strip()}: {words}"):
                call()
        with torch.no_grad():
            assert batch_stats(x).count.tolist() == [20, 20, 20]

    def test_a_torch_tensor_that_requires_a_gradient(self):
        real = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
        with pytest.raises(
            ValueError, match=r"x: expected an array that requires no gradient .*found a Tensor that does"
        ):
            batch_stats(real.zeros(3, 2, requires_grad=True))
        with real.no_grad():
            assert batch_stats(real.zeros(3, 2, requires_grad=True)).count.tolist() == [3, 3]
        with pytest.raises(ValueError, match="x: expected an array that can be shared, found a Tensor that cannot"):
            batch_stats(real.zeros(3, 2).to_sparse())

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_what_torch_lends_as_a_copy_is_not_written(self, dtype):
        real = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
        vectors = real.zeros(3, dtype=getattr(real, dtype)), real.ones(3, dtype=getattr(real, dtype))
        x = real.from_numpy(self.X)
        for mean, variance in (map(real._neg_view, vectors), (one[:1].expand(3) for one in vectors)):
            before = mean.clone(), variance.clone()
            found = batch_norm(x, mean, variance, training=True)[1:]
            expected = batch_norm(x, *(one.clone() for one in before), training=True)[1:]
            for one, other, old, kept in zip(found, expected, before, (mean, variance), strict=True):
                assert real.equal(one, other)
                assert real.equal(kept, old)
        for out in (real._neg_view(real.zeros(4, 3, 5)), real.zeros(1).expand(4, 3, 5)):
            with pytest.raises(ValueError, match=r"^normalize: out: expected memory .*, found (read-only )?memory"):
                normalize(x, real.zeros(3), real.ones(3), out=out)

    def test_torchs_bfloat16(self):
        real = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
        y = batch_norm(real.tensor([[1.0], [3.0]]).bfloat16(), training=True).output
        assert y.dtype == real.bfloat16
        assert y.tolist() == [[-1.0], [1.0]]

    def test_statistics_that_are_none(self):
        some = batch_stats(self.X)
        with pytest.raises(ValueError, match="merge_stats: statistics: expected one or more, found none"):
            merge_stats()
        with pytest.raises(TypeError, match="merge_stats: statistics: expected count, mean and M2"):
            merge_stats(some, 3)
        with pytest.raises(
            ValueError, match=r"merge_stats: statistics.count: expected shape \(3,\), found shape \(2,\)"
        ):
            merge_stats(some, batch_stats(np.ones((4, 2))))
        with pytest.raises(ValueError, match=r"statistics.m2: expected shape \(3,\), found shape \(1,\)"):
            update_running_stats(np.ones(3), np.ones(3), Statistics(some.count, some.mean, np.ones(1)))
        mean = np.zeros(3)
        with pytest.raises(ValueError, match="update_running_stats: variance: expected an array, found None"):
            update_running_stats(mean, None, some)
        assert not mean.any()

    @pytest.mark.parametrize(
        ("dtype", "wrong"),
        [("int64", -1), ("uint64", 2**63)]
        + [(dtype, wrong) for dtype in FLOATING for wrong in (-1, 2.5, np.nan, np.inf, -np.inf)],
    )
    def test_counts_that_count_nothing(self, dtype, wrong):
        mean, variance, ones = np.zeros(3), np.ones(3), np.ones(3)
        count = np.array([4, wrong, 0], DType(dtype).numpy)
        some, bad = batch_stats(self.X), Statistics(count, ones, ones)
        expected = f"statistics.count: expected whole numbers of at least 0, found {count[1]}"
        for statistics in ([bad], [some, bad], [bad, some]):
            with pytest.raises(ValueError, match=f"^merge_stats: {expected}$"):
                merge_stats(*statistics)
        with pytest.raises(ValueError, match=f"^update_running_stats: {expected}$"):
            update_running_stats(mean, variance, bad)
        with pytest.raises(ValueError, match=r"^variance: self\.count: expected whole numbers of at least 0, found"):
            bad.variance()
        assert (mean.tolist(), variance.tolist()) == ([0, 0, 0], [1, 1, 1])

    def test_counts_may_be_of_any_type_that_holds_them(self):
        x = RANDOM.normal(size=(6, 3))
        some = batch_stats(x)
        for dtype in ("int32", "uint8", "float16", "bfloat16", "float32", "float64"):
            merged = merge_stats(some._replace(count=some.count.astype(DType(dtype).numpy)), some)
            assert (merged.count.dtype, merged.count.tolist()) == (np.int64, [12, 12, 12])
            np.testing.assert_allclose(merged.variance(), x.var(0))

    def test_gradients_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"gradient: expected shape \(4, 3, 5\), found shape \(4, 3\)"):
            batch_norm_backward(self.X[:, :, 0], self.X)
        with pytest.raises(TypeError, match="gradient: expected elements of float32, found elements of float64"):
            batch_norm_backward(self.X.astype(float), self.X)
        with pytest.raises(ValueError, match="mean: expected an array, found None"):
            batch_norm_backward(self.X, self.X, training=False)
        with pytest.raises(ValueError, match=r"epsilon: expected a number above 0, found 0\.0"):
            batch_norm_backward(self.X, self.X, epsilon=0.0)
        x = np.ones((3, 3))
        with pytest.raises(ValueError, match="out: expected memory of its own"):
            batch_norm_backward(x, x, scale=x[0], out=x)


class TestTape:
    def test_functions_are_recorded(self):
        x, scale, shift = (
            torch.tensor(one, requires_grad=True) for one in (RANDOM.normal(size=(6, 3)), *vectors(3, float)[:2])
        )
        bn = torch.nn.BatchNorm1d(3, dtype="float64")
        bn.weight.copy_(scale)
        bn.bias.copy_(shift)
        dy = RANDOM.normal(size=(6, 3))
        found = autograd.grad(batch_norm(x, None, None, scale, shift, training=True).output, [x, scale, shift], dy)
        expected = autograd.grad(bn(x), [x, bn.weight, bn.bias], dy)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
        y = normalize(x, bn.running_mean, bn.running_var, scale, shift)
        found = autograd.grad(y, [x, scale, shift], dy)
        expected = autograd.grad(bn.eval()(x), [x, bn.weight, bn.bias], dy)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", functional.__all__)
def test_docstrings_run_and_name_every_argument(name):
    one = getattr(functional, name)
    text = inspect.getdoc(one)
    run(text, {}, name)
    if inspect.isfunction(one):
        for argument in inspect.signature(one).parameters:
            assert argument in text
