"""Batch norm for JAX: a pure function under ``jit``, ``grad`` and ``vmap``, which calls our CPU kernels back.

Running statistics are arguments and results; nothing is changed. Derivatives are reverse-mode, of any order.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, xla

from normspec.runtime import kernels
from normspec.runtime.arrays import feature_views
from normspec.runtime.dtypes import FLOATING, at_least_float32

__all__ = ["batch_norm"]

Array = Any  # jax.Array, or a tracer of one
EXPECTED = f"{', '.join(FLOATING[:-1])} or {FLOATING[-1]}"


class Options(NamedTuple):
    """What is known when a function is traced."""

    axis: int
    epsilon: float
    unbiased: bool
    training: bool


def batch_norm(
    x: Array,
    mean: Array | None,
    variance: Array | None,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    training: bool,
    update_rate: float | Array = 0.1,
    epsilon: float = 1e-5,
    axis: int = -1,
    unbiased: bool = True,
) -> tuple[Array, Array | None, Array | None]:
    """Normalize each feature over every axis but ``axis``.

    The output is differentiable with respect to ``x``, ``scale`` and ``shift``, and in evaluation to ``mean`` and
    ``variance``; the running statistics that are returned are constants to ``grad``. Ioffe and Szegedy, "Batch
    Normalization", 2015.

    Parameters
    ----------
    x : jax.Array
        float16, bfloat16, float32 or float64, any shape with a feature axis of length C.
    mean, variance : jax.Array or None
        Running statistics of shape (C,), both or neither. Evaluation needs them.
    scale, shift : jax.Array or None, default None
        Shape (C,); None is 1 and 0.
    training : bool
        Whether to normalize by the statistics of this batch and move the running ones towards them. Static.
    update_rate : float or jax.Array, default 0.1
        Weight of this batch in the running statistics: Flax's ``momentum`` is one minus this.
    epsilon : float, default 1e-5
        Added to the variance. Static.
    axis : int, default -1
        The feature axis. Static.
    unbiased : bool, default True
        Whether the running variance divides by n - 1, as torch's, and not by n, as Flax's. Static.

    Returns
    -------
    y : jax.Array
        Of the shape and element type of ``x``.
    mean, variance : jax.Array or None
        The running statistics after this batch; in evaluation, as given.

    Raises
    ------
    TypeError
        ``x`` or a vector is no floating-point array, or another argument is of a wrong type, such as a tracer for what
        is static.
    ValueError
        A vector is missing or of another length than the feature axis, or ``update_rate``, ``epsilon`` or ``axis`` does
        not fit.
    """
    x = _input(x)
    _check_scalars(training, update_rate, epsilon, unbiased)
    options = _checked(x, {"mean": mean, "variance": variance, "scale": scale, "shift": shift}, axis, epsilon, training)
    if not x.size:
        return x, mean, variance
    if not training:
        return _evaluate(options, *_alike(x, mean, variance, scale, shift)), mean, variance
    y, rows = _train(options._replace(unbiased=bool(unbiased)), *_alike(x, scale, shift))
    if mean is None or variance is None:
        return y, None, None
    return y, _moved(mean, rows[3], update_rate), _moved(variance, rows[4], update_rate)


def _moved(old: Array, new: Array, rate: float | Array) -> Array:
    old, new, rate = map(jax.lax.stop_gradient, (jnp.asarray(old), new, rate))
    wide = old.astype(jnp.promote_types(old.dtype, new.dtype))
    return ((1 - rate) * wide + rate * new).astype(old.dtype)


def _input(x: Any) -> Array:
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        found = f"{type(x).__name__}, of which JAX makes none: {error}"
        raise TypeError(f"batch_norm: x: expected an array of {EXPECTED}, found {found}") from None
    if x.dtype.name not in FLOATING:
        raise TypeError(f"batch_norm: x: expected {EXPECTED}, found {x.dtype.name}")
    return x.astype(jax.dtypes.canonicalize_dtype(x.dtype))  # float64 may be left over from where it was enabled


def _check_scalars(training: Any, update_rate: Any, epsilon: Any, unbiased: Any) -> None:
    for name, switch in ("training", training), ("unbiased", unbiased):
        try:
            bool(switch)
        except (TypeError, ValueError):  # of a tracer, or of several
            found = type(switch).__name__
            raise TypeError(f"batch_norm: {name}: expected a static True or False, found {found}") from None
    if not isinstance(epsilon, numbers.Real):
        raise TypeError(f"batch_norm: epsilon: expected a static number, found {type(epsilon).__name__}")
    kind = getattr(update_rate, "dtype", None)
    real = kind is not None and any(jnp.issubdtype(kind, one) for one in (jnp.floating, jnp.integer))
    if not isinstance(update_rate, numbers.Real) and not real:
        found = type(update_rate).__name__ if kind is None else f"elements of {kind}"
        raise TypeError(f"batch_norm: update_rate: expected a number, found {found}")
    if np.shape(update_rate):
        raise ValueError(f"batch_norm: update_rate: expected one number, found shape {np.shape(update_rate)}")


def _checked(x: Array, vectors: dict[str, Any], axis: int, epsilon: float, training: bool) -> Options:
    if not isinstance(axis, numbers.Integral) or axis not in range(-x.ndim, x.ndim):
        raise ValueError(f"batch_norm: axis: expected an axis of an array of shape {x.shape}, found {axis!r}")
    if not (0 < epsilon < math.inf or (epsilon == 0 and not training)):
        wanted = "above zero" if training else "of at least zero"
        raise ValueError(f"batch_norm: epsilon: expected a number {wanted}, found {epsilon!r}")
    for name, vector in vectors.items():
        if vector is not None and np.shape(vector) != (x.shape[axis],):
            raise ValueError(f"batch_norm: {name}: expected shape {(x.shape[axis],)}, found {np.shape(vector)}")
        if vector is not None and str(getattr(vector, "dtype", None)) not in FLOATING:
            found = f"elements of {vector.dtype}" if hasattr(vector, "dtype") else type(vector).__name__
            raise TypeError(f"batch_norm: {name}: expected an array of {EXPECTED}, found {found}")
    for name, other in ("mean", "variance"), ("variance", "mean"):
        if vectors[name] is None and (not training or vectors[other] is not None):
            raise ValueError(f"batch_norm: {name}: expected running statistics, found None")
    return Options(axis % x.ndim, float(epsilon), True, bool(training))


# ---------------------------------------------------------------------------------------------------------- training


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _train(options: Options, x: Array, scale: Any, shift: Any) -> tuple[Array, Array]:
    """Output, and as rows: mean, what is lost of it by rounding, 1 / deviation, and both statistics to move to.

    The rows are constants to whoever differentiates.
    """
    y, rows = _call(_host_train, (_like(x), _rows(x, options, 5)), options, (x,), (scale, shift))
    return y, rows


def _train_forward(options: Options, x: Array, scale: Any, shift: Any) -> tuple[tuple[Array, Array], Any]:
    y, rows = _train(options, x, scale, shift)
    return (y, rows), (x, scale, shift, rows)


def _train_backward(options: Options, kept: Any, cotangents: Any) -> tuple[Array, Any, Any]:
    x, scale, shift, rows = kept
    dx, dscale, dshift = _gradients(options, cotangents[0], x, scale, rows[:2], rows[2])
    return dx, _as(scale, dscale), _as(shift, dshift)


_train.defvjp(_train_forward, _train_backward)


def _host_train(options: Options, x: Any, scale: Any, shift: Any) -> tuple[Any, Any]:
    y, source, target = feature_views(x, options.axis)
    mean, variance = np.zeros((2, source.shape[1]))  # moved all the way
    _, invstd = kernels.on("cpu").forward_training(
        source, target, scale, shift, mean, variance, options.epsilon, 1.0, options.unbiased
    )
    kept = at_least_float32(x.dtype.name)
    high = mean.astype(kept)
    return y, np.stack((high, mean - high, invstd, mean, variance)).astype(kept)


# -------------------------------------------------------------------------------------------------------- evaluation


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _evaluate(options: Options, x: Array, mean: Array, variance: Array, scale: Any, shift: Any) -> Array:
    return _call(_host_evaluate, _like(x), options, (x,), (mean, variance, scale, shift))


def _evaluate_forward(options: Options, x: Array, mean: Array, variance: Array, scale: Any, shift: Any) -> Any:
    return _evaluate(options, x, mean, variance, scale, shift), (x, mean, variance, scale, shift)


def _evaluate_backward(options: Options, kept: Any, dy: Array) -> tuple[Any, ...]:
    x, mean, variance, scale, shift = kept
    invstd = 1 / jnp.sqrt(jnp.asarray(variance, at_least_float32(x.dtype.name)) + options.epsilon)
    pair = jnp.stack((jnp.asarray(mean, invstd.dtype), jnp.zeros_like(invstd)))
    dx, dscale, dshift = _gradients(options, dy, x, scale, pair, invstd)
    factor = invstd if scale is None else invstd * scale
    return (
        dx,
        _as(mean, -factor * dshift),
        _as(variance, -factor * invstd * dscale / 2),
        _as(scale, dscale),
        _as(shift, dshift),
    )


_evaluate.defvjp(_evaluate_forward, _evaluate_backward)


def _host_evaluate(options: Options, x: Any, mean: Any, variance: Any, scale: Any, shift: Any) -> Any:
    y, source, target = feature_views(x, options.axis)
    kernels.on("cpu").normalize(source, target, mean, variance, scale, shift, options.epsilon)
    return y


# --------------------------------------------------------------------------------------------------------- gradients


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(options: Options, dy: Array, x: Array, scale: Any, mean: Array, invstd: Array) -> tuple[Array, ...]:
    """Gradients of input, scale and shift. ``mean`` is two rows, whose sum it is."""
    result = _like(x), _rows(x, options, 2)
    dx, (dscale, dshift) = _call(_host_gradients, result, options, (dy, x, mean), (invstd, scale))
    return dx, dscale, dshift


def _gradients_forward(options: Options, *given: Any) -> Any:
    return _gradients(options, *given), given


def _gradients_backward(options: Options, given: Any, cotangents: Any) -> Any:
    """The same in JAX's words, so that it can be differentiated again."""
    return jax.vjp(partial(_formula, options), *given)[1](cotangents)


_gradients.defvjp(_gradients_forward, _gradients_backward)


def _host_gradients(options: Options, dy: Any, x: Any, mean: Any, invstd: Any, scale: Any) -> tuple[Any, Any]:
    dx, source, target = feature_views(x, options.axis)
    exact = mean.astype(np.float64).sum(0), invstd.astype(np.float64)
    vectors = kernels.on("cpu").backward(source, dy.reshape(source.shape), target, *exact, scale, options.training)
    return dx, np.stack(vectors).astype(mean.dtype)


def _formula(options: Options, dy: Array, x: Array, scale: Any, mean: Array, invstd: Array) -> tuple[Array, ...]:
    axes = tuple(axis for axis in range(x.ndim) if axis != options.axis)
    sides = [-1 if axis == options.axis else 1 for axis in range(x.ndim)]
    wide, dy = x.astype(mean.dtype), dy.astype(mean.dtype)
    if options.training:  # the statistics are x's own; those given only keep the subtraction from losing digits
        mean = jax.lax.stop_gradient(mean)
    centered = (wide - mean[0].reshape(sides)) - mean[1].reshape(sides)
    if options.training:
        centered = centered - centered.mean(axes, keepdims=True)
        invstd = 1 / jnp.sqrt(jnp.square(centered).mean(axes) + options.epsilon)
    normalized = centered * invstd.reshape(sides)
    dscale, dshift = (dy * normalized).sum(axes), dy.sum(axes)
    if options.training:
        dy = dy - dy.mean(axes, keepdims=True) - normalized * (dy * normalized).mean(axes, keepdims=True)
    factor = invstd if scale is None else invstd * scale
    return (factor.reshape(sides) * dy).astype(x.dtype), dscale, dshift


# --------------------------------------------------------------------------------------------------------- callbacks


# Not by jax.pure_callback: it hands over JAX's arrays, and waiting for their copies can wait for ever, for it is JAX's
# own threads that copy, and they may all be in callbacks.
_host = Primitive("normspec_host")
_host.multiple_results = True


def _call(
    host: Callable[..., Any], result: Any, options: Options, arrays: tuple[Any, ...], vectors: tuple[Any, ...]
) -> Any:
    """Call a function of NumPy arrays; under ``vmap``, once for each element."""
    operands, tree = jax.tree.flatten((arrays, vectors))
    results, shape = jax.tree.flatten(result)
    found = _host.bind(*map(jnp.asarray, operands), host=host, options=options, tree=tree, results=tuple(results))
    return jax.tree.unflatten(shape, [_varying(one, _axes(operands[0])) for one in found])


def _alike(*arrays: Array | None) -> list[Any]:
    """The arrays, all varying over the same axes of a mesh, as JAX has it of the operands of its own primitives."""
    given = [None if one is None else jnp.asarray(one) for one in arrays]
    axes = frozenset[Any]().union(*(_axes(one) for one in given if one is not None))
    return [None if one is None else _varying(one, axes) for one in given]


def _axes(array: Array) -> frozenset[Any]:
    """Those of a mesh over which an array varies within ``shard_map``; JAX before 0.10 has no such attribute."""
    return getattr(getattr(array.aval, "manual_axis_type", None), "varying", frozenset())


def _varying(array: Array, axes: frozenset[Any]) -> Array:
    missing = axes - _axes(array)
    return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array


_host.def_impl(partial(xla.apply_primitive, _host))
_host.def_abstract_eval(lambda *_, results, **static: [ShapedArray(one.shape, one.dtype) for one in results])


def _lowered(context: Any, *operands: Any, host: Callable[..., Any], options: Options, tree: Any, results: Any) -> Any:
    def run(*given: Any) -> tuple[Any, ...]:
        arrays, vectors = tree.unflatten(given)
        readable = (None if one is None else _vector(one) for one in vectors)
        return tuple(jax.tree.leaves(host(options, *arrays, *readable)))

    values, *_ = mlir.emit_python_callback(
        context, run, None, operands, context.avals_in, context.avals_out, has_side_effect=False
    )
    return values


def _one_by_one(operands: Any, axes: Any, **static: Any) -> tuple[Any, list[int]]:
    each = tuple(axis is not None for axis in axes)
    first = (one if axis is None else jnp.moveaxis(one, axis, 0) for one, axis in zip(operands, axes, strict=True))
    return _mapped(*first, each=each, **static), [0] * len(static["results"])


@partial(jax.jit, static_argnames=("each", "host", "options", "tree", "results"))  # or each call compiles it anew
def _mapped(*operands: Any, each: tuple[bool, ...], **static: Any) -> Any:
    def single(elements: list[Any]) -> Any:
        left = iter(elements)
        given = (next(left) if batched else one for one, batched in zip(operands, each, strict=True))
        return _host.bind(*given, **static)

    return jax.lax.map(single, [one for one, batched in zip(operands, each, strict=True) if batched])


mlir.register_lowering(_host, _lowered)
# A call instead of [...] = ..., because the site is also built without JAX, with a stand-in that has no items.
batching.primitive_batchers.__setitem__(_host, _one_by_one)


def _vector(array: Any) -> Any:
    """Contiguous and float32 or float64, as kernels take it."""
    return np.ascontiguousarray(array, at_least_float32(array.dtype.name))


def _like(x: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _rows(x: Array, options: Options, count: int) -> jax.ShapeDtypeStruct:
    """So many numbers a feature."""
    return jax.ShapeDtypeStruct((count, x.shape[options.axis]), at_least_float32(x.dtype.name))


def _as(given: Array | None, cotangent: Array) -> Array | None:
    """A cotangent in the element type of what it belongs to."""
    return None if given is None else cotangent.astype(jnp.asarray(given).dtype)
