"""Batch normalization as functions of arrays, in canonical words.

Arrays are NumPy's, tensors of any dialect, or any that DLPack or a GPU's array interface shares; results are of the
library, and on the device, of what was given. No input is written to but ``out`` and, in training, the running
statistics.

Normalization is ``y = (x - mean) / sqrt(variance + epsilon) * scale + shift`` for each index of the feature ``axis``:
Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167. Statistics are taken in float64, and
merged by the formula of Chan, Golub and LeVeque, 1983.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from normspec.runtime import NoGrad, Tensor
from normspec.runtime.autograd import needed
from normspec.runtime.dtypes import at_least_float32
from normspec.runtime.operators import batch_norm as operator
from normspec.runtime.operators.batch_norm_gradients import Saved, Vectors, by_kernel, composed, inverted, record

from .arguments import Caller, Given
from .statistics import Moments, merged, moments, moved, rounded_off

__all__ = [
    "BatchNorm",
    "Gradients",
    "Statistics",
    "batch_norm",
    "batch_norm_backward",
    "batch_stats",
    "merge_stats",
    "normalize",
    "update_running_stats",
]


class BatchNorm(NamedTuple):
    """What ``batch_norm`` returns: the output, and the running statistics after the call."""

    output: Any
    mean: Any
    variance: Any


class Statistics(NamedTuple):
    """Of each feature: number of values (int64), mean and M2, the sum of squared deviations from it (float64)."""

    count: Any
    mean: Any
    m2: Any

    def variance(self, unbiased: bool = False) -> Any:
        """M2 divided by the count, or by one less if ``unbiased``; zero where there is nothing to divide by."""
        caller = Caller("variance")
        given = caller.statistics("self", self)
        return given[1].give(_host(caller, "self", given).variance(caller.switch("unbiased", unbiased)))


class Gradients(NamedTuple):
    """What ``batch_norm_backward`` returns: derivatives with respect to input, scale and shift."""

    x: Any
    scale: Any
    shift: Any


def batch_norm(
    x: Any,
    mean: Any = None,
    variance: Any = None,
    scale: Any = None,
    shift: Any = None,
    *,
    training: bool = False,
    update_rate: float = 0.1,
    epsilon: float = 1e-5,
    unbiased: bool = True,
    axis: int = 1,
    mask: Any = None,
    out: Any = None,
) -> BatchNorm:
    """Normalize by running statistics, or in training by those of ``x``, towards which the running ones move.

    Parameters
    ----------
    x : array
        Of any shape, with ``axis`` as its feature axis of length C; float16, bfloat16, float32 or float64.
    mean, variance : array of shape (C,), default None
        Running statistics, any floating-point type. In training they are updated in place if their memory can be
        written, and may both be None; in evaluation they are used and never written.
    scale, shift : array of shape (C,), default None
        Any floating-point type; None is 1 and 0.
    training : bool, default False
        Whether to use, and move towards, the statistics of ``x``.
    update_rate : float, default 0.1
        Weight of this batch in the running statistics: ``running += update_rate * (batch - running)``.
    epsilon : float, default 1e-5
        Added to the variance; more than zero in training.
    unbiased : bool, default True
        Whether the running variance moves towards the variance with divisor n - 1. The output's always has n.
    axis : int, default 1
        The feature axis.
    mask : array of bool, default None
        True where a value counts, of a shape that broadcasts to that of ``x``, with ``axis`` or without it.
        Only what counts is in the statistics, with exact counts; everything is normalized by them. A feature of which
        nothing counts becomes its shift, where it is finite, and updates nothing. Without effect in evaluation.
    out : array like x, default None
        Where to write the output. In evaluation it may be ``x`` itself, which is then overwritten.

    Returns
    -------
    BatchNorm
        ``output``, of the shape, type and layout of ``x`` (``out`` if it was given); ``mean`` and ``variance``, the
        arrays given, or new ones in the place of what was updated but cannot be written.

    Raises
    ------
    ValueError, TypeError
        An argument has the wrong shape, element type, library, device or value, or ``out`` cannot be written or
        overlaps an input; or there is only one value for a feature in training. Nothing has changed.
    RuntimeError
        Something requires a gradient where none can be recorded: running statistics, or anything beside ``out``. A
        tensor of ours without ``out`` is recorded; for other libraries see ``normspec.interop``.

    Examples
    --------
    >>> import numpy as np
    >>> from normspec import functional
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0]])
    >>> mean, variance = np.zeros(2), np.ones(2)
    >>> functional.batch_norm(x, mean, variance, training=True, update_rate=0.5).output.round(3)
    array([[-1.225, -1.225],
           [ 0.   ,  0.   ],
           [ 1.225,  1.225]])
    >>> mean, variance
    (array([ 1.5, 15. ]), array([  2.5, 200.5]))
    """
    caller = Caller("batch_norm")
    training, unbiased = caller.switch("training", training), caller.switch("unbiased", unbiased)
    given, axis, state = _read(caller, x, axis, mean, variance, scale, shift)
    caller.both(mean, variance, required=not training)
    epsilon = caller.number("epsilon", epsilon, 0.0, above=training)
    rate = caller.number("update_rate", update_rate, 0.0)
    where = caller.mask(mask, given, axis)
    target = _target(caller, out, given, state, alias=not training)
    if not training or not given.tensor.size:
        return BatchNorm(_normalized(given, state, axis, epsilon, target, out), mean, variance)
    if where is None:
        _check_count(caller, "x", given.tensor.size // given.tensor.shape[axis])
        batch = None
    else:
        batch = moments(given.tensor, axis, where)
        _check_count(caller, "mask", batch.count)
    running = [one and one.updatable() for one in (state["mean"], state["variance"])]
    if batch is None:
        tensors = _vectors(state)._replace(mean=running[0], variance=running[1])
        y = operator.normalize(
            given.value,
            given.source,
            tensors,
            axis=axis,
            epsilon=epsilon,
            batch=True,
            rate=rate,
            unbiased=unbiased,
            out=target,
        )
    else:
        results = [
            (one, Tensor(moved(one.numpy(), values, batch.count, rate), one.dtype))
            for one, values in zip(running, (batch.mean, batch.variance(unbiased)), strict=True)
            if one is not None
        ]
        y = _masked(given, state, batch, where, axis, epsilon, target)
        for one, result in results:
            one.copy_(result)
    statistics = zip((state["mean"], state["variance"]), running, strict=True)
    kept = (None if one is None or tensor is None else one.back(tensor) for one, tensor in statistics)
    return BatchNorm(y if out is None else out, *kept)


def normalize(
    x: Any,
    mean: Any,
    variance: Any,
    scale: Any = None,
    shift: Any = None,
    *,
    epsilon: float = 1e-5,
    axis: int = 1,
    out: Any = None,
) -> Any:
    """Normalize by given statistics.

    Parameters
    ----------
    x : array
        Of any shape, with ``axis`` as its feature axis of length C; float16, bfloat16, float32 or float64.
    mean, variance : array of shape (C,)
        Any floating-point type.
    scale, shift : array of shape (C,), default None
        Any floating-point type; None is 1 and 0.
    epsilon : float, default 1e-5
        Added to the variance; zero or more.
    axis : int, default 1
        The feature axis.
    out : array like x, default None
        Where to write the output; it may be ``x`` itself, which is then overwritten.

    Returns
    -------
    array
        Of the shape, type and layout of ``x``; ``out`` if it was given.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for ``batch_norm``.
    """
    caller = Caller("normalize")
    given, axis, state = _read(caller, x, axis, mean, variance, scale, shift)
    caller.both(mean, variance, required=True)
    epsilon = caller.number("epsilon", epsilon, 0.0)
    target = _target(caller, out, given, state, alias=True)
    return _normalized(given, state, axis, epsilon, target, out)


def batch_stats(x: Any, *, axis: int = 1, mask: Any = None) -> Statistics:
    """Count, mean and sum of squared deviations of each feature.

    Parameters
    ----------
    x : array
        Of any shape, with ``axis`` as its feature axis of length C; float16, bfloat16, float32 or float64.
    axis : int, default 1
        The feature axis.
    mask : array of bool, default None
        True where a value counts, of a shape that broadcasts to that of ``x``, with ``axis`` or without it.

    Returns
    -------
    Statistics
        Arrays of shape (C,): int64, float64, float64. Of no values mean and M2 are zero.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for ``batch_norm``; ``x`` must not require a gradient, for none is recorded.

    Examples
    --------
    >>> import numpy as np
    >>> from normspec.functional import batch_stats, merge_stats
    >>> padded = np.array([[[1.0, 2.0, 99.0]], [[6.0, 99.0, 99.0]]])
    >>> batch_stats(padded, mask=np.array([[True, True, False], [True, False, False]]))
    Statistics(count=array([3]), mean=array([3.]), m2=array([14.]))
    >>> merge_stats(batch_stats(padded[:, :, :1]), batch_stats(padded[:1, :, 1:2])).variance(unbiased=True)
    array([7.])
    """
    caller = Caller("batch_stats")
    given = caller.floats("x", caller.read("x", x))
    caller.constant("x", given)
    axis = caller.axis(given, axis)
    return Statistics(*map(given.give, moments(given.tensor, axis, caller.mask(mask, given, axis))))


def merge_stats(*statistics: Statistics) -> Statistics:
    """Statistics of several samples together: of chunks, of workers, of padded batches.

    Parameters
    ----------
    *statistics : Statistics
        Of samples with the same features, which may be empty. They are merged in the order given.

    Returns
    -------
    Statistics
        Of the library of the first.

    Raises
    ------
    ValueError, TypeError
        There are none, not all have the same shape and library, or a count is no whole number of at least 0 and,
        with the others, below 2**63.
    """
    caller = Caller("merge_stats")
    if not statistics:
        caller.fail("statistics", "one or more", "none")
    first = caller.statistics("statistics", statistics[0])
    total = _host(caller, "statistics", first)
    for one in statistics[1:]:
        other = caller.statistics("statistics", one, first)
        added = _host(caller, "statistics", other)
        if np.any(added.count > np.iinfo(np.int64).max - total.count):
            caller.fail("statistics.count", "counts whose sum is below 2**63", "more")
        total = merged(total, added)
    return Statistics(*map(first[1].give, total))


def update_running_stats(
    mean: Any, variance: Any, statistics: Statistics, *, update_rate: float = 0.1, unbiased: bool = True
) -> tuple[Any, Any]:
    """Move running statistics towards those of a batch: ``running += update_rate * (batch - running)``.

    Parameters
    ----------
    mean, variance : array of shape (C,)
        Any floating-point type. Updated in place if their memory can be written.
    statistics : Statistics
        Those of the batch. A feature without values updates nothing.
    update_rate : float, default 0.1
        Weight of the batch.
    unbiased : bool, default True
        Whether the variance of the batch has divisor n - 1 instead of n.

    Returns
    -------
    tuple of array
        Mean and variance: the arrays given, or new ones in the place of those that cannot be written.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for ``batch_norm``. Nothing has changed.
    """
    caller = Caller("update_running_stats")
    unbiased = caller.switch("unbiased", unbiased)
    given = caller.statistics("statistics", statistics)
    caller.both(mean, variance, required=True)
    features = given[1].tensor.shape[0]
    running = [caller.vector(name, one, given[1], features) for name, one in (("mean", mean), ("variance", variance))]
    rate, batch = caller.number("update_rate", update_rate, 0.0), _host(caller, "statistics", given)
    results = []
    for name, one in zip(("mean", "variance"), running, strict=True):
        caller.constant(name, one)
    for one, values in zip(running, (batch.mean, batch.variance(unbiased)), strict=True):
        assert one is not None  # checked above
        result = Tensor(moved(one.tensor.numpy(), values, batch.count, rate), one.tensor.dtype)  # which may raise
        results.append((one, one.updatable(), result))
    for _, tensor, result in results:
        tensor.copy_(result)
    return results[0][0].back(results[0][1]), results[1][0].back(results[1][1])


def batch_norm_backward(
    gradient: Any,
    x: Any,
    mean: Any = None,
    variance: Any = None,
    scale: Any = None,
    *,
    training: bool = True,
    epsilon: float = 1e-5,
    axis: int = 1,
    mask: Any = None,
    out: Any = None,
) -> Gradients:
    """The derivatives of a number with respect to input, scale and shift, from those with respect to the output.

    With ``z = (x - mean) / sqrt(variance + epsilon)``: for the scale ``sum(gradient * z)``, for the shift
    ``sum(gradient)``, and for the input ``scale / sqrt(variance + epsilon)`` times the gradient, from which in training
    the mean over the batch of ``gradient`` and ``z`` times that of ``gradient * z`` are subtracted.

    Parameters
    ----------
    gradient : array like x
        The derivative with respect to the output.
    x : array
        The input of the call; float16, bfloat16, float32 or float64.
    mean, variance : array of shape (C,), default None
        What ``x`` was normalized by: in training its own mean and variance with divisor n, which None computes anew.
    scale : array of shape (C,), default None
        That of the call.
    training : bool, default True
        Whether ``x`` was normalized by its own statistics, through which it has a gradient, too.
    epsilon, axis
        Those of the call.
    mask : array of bool, default None
        That of the call. The statistics are then computed anew; a gradient of zero where nothing counts meets no NaN.
    out : array like x, default None
        Where to write the derivative with respect to ``x``; it may be ``gradient`` or ``x`` itself.

    Returns
    -------
    Gradients
        ``x`` of the shape, type and layout of ``x``; ``scale`` and ``shift`` of shape (C,) and the type of ``scale``,
        without which they are float32, or float64 if ``x`` is.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for ``batch_norm``; no argument may require a gradient, for none is recorded. Nothing has changed.
    """
    caller = Caller("batch_norm_backward")
    training = caller.switch("training", training)
    given, axis, state = _read(caller, x, axis, mean, variance, scale, None)
    caller.both(mean, variance, required=not training)
    epsilon = caller.number("epsilon", epsilon, 0.0, above=training)
    start = caller.like("gradient", gradient, given)
    for name, one in {"gradient": start, "x": given, "scale": state["scale"]}.items():
        caller.constant(name, one)
    where = caller.mask(mask, given, axis) if training else None
    target = caller.out(out, given, alias=(given, start), apart=[one for one in state.values() if one is not None])
    tensor = given.tensor
    if not tensor.size:
        dx, dscale, dshift = target if target is not None else tensor.array, *np.zeros((2, tensor.shape[axis]))
    else:
        vectors = _vectors(state)
        if training and (mean is None or where is not None):
            own = moments(tensor, axis, where)
            new = (Tensor(one, device=tensor.device) for one in (own.mean, own.variance(unbiased=False)))
            vectors = Vectors(vectors.scale, None, *new)
        saved = Saved(tensor, vectors.scale, *inverted(vectors, epsilon), axis, epsilon, training, where)
        if where is None:
            dx, dscale, dshift = by_kernel(saved, start.tensor, True, target)
        else:
            dx, dscale, dshift = _by_formula(saved, start.tensor, target)
    kind = at_least_float32(tensor.dtype.name) if state["scale"] is None else state["scale"].tensor.dtype
    parts = (given.give(one, kind) for one in (dscale, dshift))
    return Gradients(given.wrap(dx) if out is None else out, *parts)


# --------------------------------------------------------------------------------------------------------------- parts


def _read(
    caller: Caller, x: Any, axis: int, mean: Any, variance: Any, scale: Any, shift: Any
) -> tuple[Given, int, dict[str, Given | None]]:
    """The input, its axis and its vectors, each of which fits it."""
    given = caller.floats("x", caller.read("x", x))
    axis = caller.axis(given, axis)
    vectors = {"scale": scale, "shift": shift, "mean": mean, "variance": variance}
    features = given.tensor.shape[axis]
    state = {name: caller.vector(name, one, given, features) for name, one in vectors.items()}
    for name in ("mean", "variance"):
        caller.constant(name, state[name])
    return given, axis, state


def _vectors(state: dict[str, Given | None]) -> Vectors:
    return Vectors(**{name: one and one.tensor for name, one in state.items()})


def _target(caller: Caller, out: Any, given: Given, state: dict[str, Given | None], alias: bool) -> Any:
    """The array to write to; what is written there cannot be recorded."""
    if out is not None:
        for name, one in {"x": given, "scale": state["scale"], "shift": state["shift"]}.items():
            caller.constant(name, one)
    vectors = [one for one in state.values() if one is not None]
    return caller.out(out, given, alias=(given,) if alias else (), apart=vectors)


def _check_count(caller: Caller, argument: str, counts: Any) -> None:
    if np.any(np.equal(counts, 1)):
        caller.fail(argument, "more than one value for each feature, to take statistics of", "one")


def _normalized(given: Given, state: dict[str, Given | None], axis: int, epsilon: float, target: Any, out: Any) -> Any:
    """Normalized by the statistics that are given; without elements there is nothing to do."""
    if not given.tensor.size:
        return out if out is not None else operator.nothing(given.value, given.source, _vectors(state), axis)
    y = operator.normalize(
        given.value, given.source, _vectors(state), axis=axis, epsilon=epsilon, batch=False, out=target
    )
    return y if out is None else out


def _masked(
    given: Given, state: dict[str, Given | None], batch: Moments, where: Any, axis: int, epsilon: float, target: Any
) -> Any:
    """Everything normalized by the statistics of what counts; infinite variance makes a feature its shift."""
    variance = np.where(batch.count > 0, batch.variance(unbiased=False), np.inf)
    vectors = _vectors(state)._replace(mean=Tensor(batch.mean), variance=Tensor(variance))
    shifted = vectors
    if given.tensor.dtype.name == "float64":  # others have fewer digits than rounding the mean leaves
        lost = rounded_off(given.tensor, axis, where, batch.mean)
        shifted = vectors._replace(shift=Tensor(_shift(vectors, lost, epsilon)))
    with NoGrad():
        y = operator.normalize(given.value, given.source, shifted, axis=axis, epsilon=epsilon, batch=False, out=target)
    if isinstance(y, Tensor) and needed(given.value, vectors.scale, vectors.shift):
        own = inverted(vectors, epsilon)
        record(y, given.value, vectors, own, True, axis=axis, epsilon=epsilon, mask=where)
    return y


def _shift(vectors: Vectors, lost: Any, epsilon: float) -> Any:
    """The shift, with what rounding the means has lost, where it costs no digit."""
    moved = lost * inverted(vectors, epsilon)[1]
    if vectors.scale is not None:
        moved *= vectors.scale.numpy().astype(np.float64)
    shift = 0.0 if vectors.shift is None else vectors.shift.numpy().astype(np.float64)
    return shift - np.where(np.isfinite(moved), moved, 0)


def _by_formula(saved: Saved, dy: Tensor, target: Any) -> tuple[Any, Any, Any]:
    with NoGrad():
        dx, dscale, dshift = composed(saved, dy)
    dx = dx.numpy().astype(saved.x.dtype.numpy)
    if target is not None:
        target[...] = dx
    return dx, dscale.numpy(), dshift.numpy()


def _host(caller: Caller, argument: str, statistics: tuple[Given, Given, Given]) -> Moments:
    """Copied to the host, zeros where there are no values; counts that count nothing are refused."""
    count, mean, m2 = (one.tensor.numpy() for one in statistics)
    with np.errstate(invalid="ignore"):  # NaN becomes a number, which differs from it
        whole = count.astype(np.int64)
    wrong = count[(whole != count) | (whole < 0)]
    if wrong.size:
        caller.fail(f"{argument}.count", "whole numbers of at least 0", f"{wrong[0]}")
    return Moments(whole, *(np.where(whole > 0, one.astype(np.float64), 0.0) for one in (mean, m2)))
