"""JAX arrays through our kernels: pure, right under every transformation, and as accurate as elsewhere."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason='JAX is not installed: pip install "normspec[jax]"')

import jax.numpy as jnp  # noqa: E402

from normspec.interop.jax import batch_norm  # noqa: E402

ROUNDING = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 3e-6, "float64": 1e-12}
SHAPES = {(9, 5): -1, (4, 5, 3): 1, (2, 3, 4, 5): -1, (2, 5, 3, 4): 1, (5, 7): 0}
VECTORS = ("mean", "variance", "scale", "shift")


def given(shape, axis, dtype="float32", mean=1.0):
    draw = np.random.default_rng(3)
    x = jnp.asarray(draw.normal(mean, 2, shape), dtype)
    kept = "float64" if dtype == "float64" else "float32"
    vectors = [jnp.asarray(draw.uniform(0.5, 1.5, shape[axis]), kept) for _ in VECTORS]
    return x, *vectors


def formula(x, mean, variance, scale, shift, axis, training):
    axes = tuple(one for one in range(x.ndim) if one != axis % x.ndim)
    sides = [-1 if one == axis % x.ndim else 1 for one in range(x.ndim)]
    if training:
        mean, variance = x.mean(axes), x.var(axes)
    y = (x - mean.reshape(sides)) / jnp.sqrt(variance.reshape(sides) + 1e-5)
    y = y if scale is None else y * scale.reshape(sides)
    return y if shift is None else y + shift.reshape(sides)


def close(found, expected, tolerance):
    np.testing.assert_allclose(
        np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=tolerance, atol=tolerance
    )


@pytest.fixture
def wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "axis"), SHAPES.items())
@pytest.mark.parametrize("dtype", ROUNDING)
def test_output_and_statistics(wide, training, shape, axis, dtype):
    arrays = given(shape, axis, dtype)
    exact = [one.astype("float64") for one in arrays]
    function = lambda *arrays: batch_norm(*arrays, training=training, axis=axis)  # noqa: E731
    y, mean, variance = (jax.jit(function) if axis else function)(*arrays)
    assert (y.dtype, y.shape) == (arrays[0].dtype, shape)
    close(y, formula(*exact, axis, training), ROUNDING[dtype])
    axes = tuple(one for one in range(len(shape)) if one != axis % len(shape))
    expected = exact[1:3]
    if training:
        moved = exact[0].mean(axes), exact[0].var(axes, ddof=1)
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, moved, strict=True)]
    for found, one in zip((mean, variance), expected, strict=True):
        assert found.dtype == arrays[1].dtype
        close(found, one, ROUNDING["float64" if dtype == "float64" else "float32"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("shape", "axis"), SHAPES.items())
def test_gradients_of_the_first_and_second_order(wide, training, affine, shape, axis):
    x, mean, variance, *learned = given(shape, axis, "float64")
    learned = learned if affine else [None, None]

    def ours(x, mean, variance, scale, shift):
        return jnp.sin(batch_norm(x, mean, variance, scale, shift, training=training, axis=axis)[0]).sum()

    def theirs(x, mean, variance, scale, shift):
        return jnp.sin(formula(x, mean, variance, scale, shift, axis, training)).sum()

    arrays = (x, mean, variance, *learned)
    for found, expected in (ours, theirs), (squared(ours), squared(theirs)):
        mine, other = (jax.jit(jax.grad(one, (0, 1, 2, 3, 4)))(*arrays) for one in (found, expected))
        for one, two in zip(mine, other, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                close(one, two, 1e-9 * max(1.0, float(jnp.abs(two).max())))


def squared(function):
    """The sum of the squares of a function's gradients."""
    inner = jax.grad(function, (0, 1, 2))
    return lambda *given: sum(jnp.square(one).sum() for one in inner(*given))


def test_third_derivatives(wide):
    arrays = given((4, 2), -1, "float64")
    ours = lambda *given: (batch_norm(*given, training=True)[0] ** 3).sum()  # noqa: E731
    theirs = lambda *given: (formula(*given, -1, True) ** 3).sum()  # noqa: E731
    found, expected = (jax.grad(squared(squared(one)))(*arrays) for one in (ours, theirs))
    close(found, expected, 1e-9 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("axis", [1, -1])
def test_a_mean_of_1e4_deviations_in_float32(axis):
    x, _, _, scale, shift = given((6, 8, 5, 8), axis, mean=2e4)
    dy = jnp.asarray(np.random.default_rng(0).normal(size=x.shape), jnp.float32)
    loss = lambda function, x, scale, dy: (function(x, scale) * dy).sum()  # noqa: E731
    ours = lambda x, scale: batch_norm(x, None, None, scale, shift, training=True, axis=axis)[0]  # noqa: E731
    found = ours(x, scale), *jax.grad(loss, (1, 2))(ours, x, scale, dy)
    with jax.enable_x64(True):
        exact = [one.astype("float64") for one in (x, scale, shift, dy)]
        theirs = lambda x, scale: formula(x, None, None, scale, exact[2], axis, True)  # noqa: E731
        expected = theirs(*exact[:2]), *jax.grad(loss, (1, 2))(theirs, *exact[:2], exact[3])
        for one, two in zip(found, expected, strict=True):
            close(one, two, 1e-5)


def test_it_is_batched_element_by_element():
    x, *vectors = given((3, 4, 6, 5), -1)
    function = lambda x: batch_norm(x, *vectors, training=True)  # noqa: E731
    gradient = jax.grad(lambda x: (function(x)[0] ** 3).sum())
    for one in (function, gradient):
        found = jax.jit(jax.vmap(one))(x)
        expected = [one(element) for element in x]
        for leaf, *leaves in zip(*map(jax.tree.leaves, (found, *expected)), strict=True):
            close(leaf, jnp.stack(leaves), 1e-6)


def test_what_was_compiled_is_found_again(caplog):
    x, *vectors = given((3, 4, 6, 5), -1)

    def function(x):
        return batch_norm(x, *vectors, training=True)[0]

    for call in (function, jax.vmap(function), jax.vmap(jax.grad(lambda x: function(x).sum()))):
        call(x)
        with jax.log_compiles():
            call(x)
    assert not [one for one in caplog.messages if one.startswith("Compiling")]


def test_it_is_pure():
    x, mean, variance, scale, shift = (np.asarray(one) for one in given((6, 5), -1))
    before = [one.copy() for one in (x, mean, variance)]
    _, moved, _ = batch_norm(x, mean, variance, scale, shift, training=True)
    assert not np.array_equal(moved, mean)
    for one, other in zip((x, mean, variance), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_statistics_are_constants_to_grad():
    x, mean, variance, *_ = given((6, 5), -1)

    def moved(*arguments):
        _, mean, variance = batch_norm(*arguments[:3], training=True, update_rate=arguments[3])
        return mean.sum() + variance.sum()

    given_to = x, mean, variance, jnp.asarray(0.25)
    for gradient, one in zip(jax.grad(moved, argnums=(0, 1, 2, 3))(*given_to), given_to, strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(one))


def test_the_update_rate_may_be_computed():
    """As 1 / n for the mean of all batches."""
    x, mean, variance, *_ = given((6, 5), -1)
    step = jax.jit(lambda rate: batch_norm(x, mean, variance, training=True, update_rate=rate, unbiased=False))
    _, moved, spread = step(1.0)
    close(moved, x.mean(0), 1e-6)
    close(spread, x.var(0), 1e-6)


def test_statistics_that_are_replaced_keep_nothing_of_what_was():
    x, mean, variance, *_ = given((6, 5), -1, mean=0.0)
    _, _, moved = batch_norm(x * 1e-4, mean, variance, training=True, update_rate=1.0, unbiased=False)
    close(moved / (x * 1e-4).var(0), np.ones(5), 1e-6)


def test_forward_mode_is_refused():
    x = given((6, 5), -1)[0]
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: batch_norm(x, None, None, training=True)[0], (x,), (x,))


def test_an_empty_batch_changes_nothing():
    mean, variance = jnp.ones(5), jnp.full(5, 2.0)
    y, *kept = batch_norm(jnp.zeros((0, 5)), mean, variance, training=True)
    assert y.shape == (0, 5)
    np.testing.assert_array_equal(kept, [mean, variance])


X, MEAN, WIDER = np.zeros((4, 3), np.float32), np.zeros(3), np.zeros(4)
MISTAKES = {
    "x": (TypeError, (X.astype(int), None, None), {"training": True}),
    "mean": (ValueError, (X, None, None), {"training": False}),
    "variance": (ValueError, (X, MEAN, None), {"training": True}),
    "scale": (ValueError, (X, None, None, WIDER), {"training": True}),
    "shift": (TypeError, (X, None, None, MEAN, MEAN.astype(int)), {"training": True}),
    "epsilon": (ValueError, (X, None, None), {"training": True, "epsilon": 0}),
    "axis": (ValueError, (X, None, None), {"training": True, "axis": 2}),
    "training": (TypeError, (X, MEAN, MEAN), {"training": np.ones(2)}),
    "unbiased": (TypeError, (X, MEAN, MEAN), {"training": True, "unbiased": np.ones(2)}),
    "update_rate": (ValueError, (X, MEAN, MEAN), {"training": True, "update_rate": np.full((2, 3), 0.1)}),
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_told(argument):
    kind, positional, keywords = MISTAKES[argument]
    with pytest.raises(kind, match=f"^batch_norm: {argument}: expected .*, found "):
        batch_norm(*positional, **keywords)


def test_an_epsilon_is_told_what_the_mode_takes():
    for training, wanted in (True, "above zero"), (False, "of at least zero"):
        with pytest.raises(ValueError, match=f"epsilon: expected a number {wanted}, found -1"):
            batch_norm(X, MEAN, MEAN, training=training, epsilon=-1)


STATIC = {"training": True, "unbiased": True, "epsilon": 1e-5, "axis": 1}


@pytest.mark.parametrize("argument", STATIC)
def test_a_tracer_of_what_is_static_is_told(argument):
    call = jax.jit(lambda value: batch_norm(X, MEAN, MEAN, **{"training": True, argument: value}))
    with pytest.raises((TypeError, ValueError), match=f"^batch_norm: {argument}: expected .*, found .*Tracer"):
        call(STATIC[argument])


@pytest.mark.parametrize("x", [None, "text", X.astype(">f4"), np.ma.masked_array(X), jax.random.key(0)])
def test_what_is_no_array_is_told(x):
    with pytest.raises(TypeError, match=r"^batch_norm: x: expected .*float64, found "):
        batch_norm(x, MEAN, MEAN, training=True)


@pytest.mark.parametrize(
    ("argument", "value", "found"),
    [
        ("update_rate", None, "NoneType"),
        ("update_rate", 1j, "complex"),
        ("epsilon", "1e-5", "str"),
        ("epsilon", np.inf, "inf"),
    ],
)
def test_what_is_no_number_is_told(argument, value, found):
    with pytest.raises((TypeError, ValueError), match=f"^batch_norm: {argument}: expected a.* number.*, found {found}"):
        batch_norm(X, MEAN, MEAN, **{"training": True, argument: value})


@pytest.mark.parametrize("axis", [-3, 1.0, 1.5, "features", (0, 1), np.zeros(2)])
def test_what_is_no_axis_is_told(axis):
    with pytest.raises(ValueError, match=r"batch_norm: axis: expected an axis of an array of shape .*, found "):
        batch_norm(X, MEAN, MEAN, training=True, axis=axis)


def test_without_compiling_it_computes_the_same():
    x, *vectors = given((9, 5), -1)

    def loss(x):
        return (batch_norm(x, *vectors, training=True)[0] ** 3).sum()

    with jax.disable_jit():
        found = jax.value_and_grad(loss)(x)
        mapped = jax.vmap(loss)(x[None])
    value, gradient = jax.jit(jax.value_and_grad(loss))(x)
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    np.testing.assert_allclose(mapped, [value], rtol=1e-5)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=1e-5)


def test_nan_is_found_where_it_is_made():
    x, *vectors = given((9, 5), -1)

    def function(x):
        return batch_norm(x, *vectors, training=True)[0]

    with jax.debug_nans(True):
        for call in (function, jax.jit(function), jax.grad(lambda x: function(x).sum())):
            call(x)
            with pytest.raises(FloatingPointError, match=r"invalid value \(nan\)"):
                call(x.at[0, 0].set(jnp.inf))


def test_float64_from_where_it_was_enabled():
    with jax.enable_x64(True):
        x = jnp.asarray(X.astype(float) + np.arange(4)[:, None])
    with jax.enable_x64(False):
        y, _, _ = batch_norm(x, None, None, training=True)
        assert y.dtype == jnp.float32
        close(y, batch_norm(np.asarray(x, np.float32), None, None, training=True)[0], 1e-6)


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P
from normspec.interop.jax import batch_norm

mesh, x, scale = Mesh(jax.devices(), "d"), jnp.arange(24.0).reshape(8, 3) % 7, jnp.arange(1.0, 4.0)
shards = lambda function, outs: jax.shard_map(function, mesh=mesh, in_specs=(P("d"), P()), out_specs=outs)

def norm(x, scale, training):
    return batch_norm(x, scale, scale, scale, training=training)

def plain(x, scale, training):
    mean, variance = (x.mean(0), x.var(0)) if training else (scale, scale)
    return ((x - mean) / jnp.sqrt(variance + 1e-5) * scale,)

for training in True, False:
    pairs = []
    for one in norm, plain:
        for function in one, jax.vmap(one, (1, None, None), 1) if training else one:
            def loss(x, scale):
                given = (x, scale) if function is one else (x.reshape(8, 3, 1), scale[:1])
                return (shards(lambda x, scale: function(x, scale, training)[0], P("d"))(*given) ** 3).sum()
            pairs.append(jax.jit(jax.value_and_grad(loss, (0, 1)))(x, scale))
    for found, expected in zip(pairs[:2], pairs[2:]):
        print(all(map(lambda a, b: bool(jnp.allclose(a, b, 1e-3, 1e-3)), *map(jax.tree.leaves, (found, expected)))))
try:
    shards(lambda x, scale: norm(x, scale, True)[1], P())(x, scale)
except ValueError as error:
    print("replicated" in str(error))
"""


def test_shards_have_statistics_of_their_own():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=300, env={**os.environ, **flags}
    )
    assert done.stdout == "True\n" * 5, done.stderr


def test_the_words_are_canonical():
    """The operator's own, as its spec has them."""
    from suite import SPECS

    text = (SPECS / "operators" / "batch_norm.yaml").read_text(encoding="utf-8")
    for name in inspect.signature(batch_norm).parameters:
        assert name == "x" or f"\n  {name}: {{" in text or f"\n      {name}: {{" in text, name


ALONE = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp
from normspec.interop.jax import batch_norm
norm = lambda x: batch_norm(x, None, None, training=True)[0]
step, x = jax.jit(jax.grad(lambda x: norm(norm(x) ** 2).sum())), jnp.ones((16, 256, 256))
for _ in range(5):
    x = norm(step(x) + 1)
print(bool(jnp.isfinite(x).all()))
"""


def test_a_single_core_does_not_wait_for_itself():
    """As jax.pure_callback does for large arrays: github.com/jax-ml/jax/issues/24255."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "True\n"
