"""Who is measured: ours, the libraries that are installed, NumPy, and a copy as the floor."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from normspec.runtime import kernels
from normspec.runtime.arrays import feature_views
from normspec.runtime.dtypes import at_least_float32
from normspec.torch.nn import functional

from .copying import copier
from .rows import EPSILON, RATE, Array, Batch

OURS = ("ours", "ours out=")
COPY = "copy"


class Candidate(NamedTuple):
    """Something to time."""

    name: str  # ends in "out=" if the output's memory is given
    call: Callable[[], Any]
    array: Callable[[Any], Array]  # from what a call returns to (N, C, ...)


class Peer(NamedTuple):
    """A library, what it takes to measure it, and how."""

    name: str
    modules: tuple[str, ...]
    install: str
    candidates: Callable[[Batch], Iterator[Candidate]]

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(name) for name in self.modules)


def same(y: Array) -> Array:
    """For what returns its output as (N, C, ...) already."""
    return y


def ours(batch: Batch) -> Iterator[Candidate]:
    """The functional form of the torch dialect, backward the backend; the backend itself, on views made beforehand."""
    if batch.row.mode == "backward":
        yield from ours_backward(batch)
        return
    weight, bias, mean, variance = batch.parameters().values()
    arguments = batch.x, mean, variance, weight, bias, batch.training, RATE, EPSILON
    yield Candidate(OURS[0], lambda: functional.batch_norm(*arguments), same)

    backend = kernels.on("cpu")
    y, source, target = feature_views(batch.x, 1)
    weight, bias, mean, variance = batch.parameters().values()

    def train() -> Any:
        backend.forward_training(source, target, weight, bias, mean, variance, EPSILON, RATE, True)
        return y

    def evaluate() -> Any:
        backend.normalize(source, target, mean, variance, weight, bias, EPSILON)
        return y

    yield Candidate(OURS[1], train if batch.training else evaluate, same)


def ours_backward(batch: Batch) -> Iterator[Candidate]:
    """Gradients of input, weight and bias, from what forward leaves."""
    backend, weight = kernels.on("cpu"), batch.vectors["weight"]
    given, x, target = feature_views(batch.x, 1)
    dy = feature_views(batch.first(batch.upper), 1)[1]
    arguments = *batch.statistics, weight, True

    def fresh() -> Any:
        dx, _, target = feature_views(batch.x, 1)
        backend.backward(x, dy, target, *arguments)
        return dx

    def into() -> Any:
        backend.backward(x, dy, target, *arguments)
        return given

    yield Candidate(OURS[0], fresh, same)
    yield Candidate(OURS[1], into, same)


def torch(batch: Batch) -> Iterator[Candidate]:
    """`torch.nn.functional.batch_norm` without gradients, the operator that it ends in, with `out`; or of backward."""
    import torch

    halves = {"bfloat16": torch.bfloat16}

    def tensor(array: Array) -> Any:
        half = halves.get(array.dtype.name)
        return torch.from_numpy(array) if half is None else torch.from_numpy(array.view(np.int16)).view(half)

    def array(y: Any) -> Any:
        return y.view(torch.int16).numpy().view(batch.x.dtype) if y.dtype in halves.values() else y.numpy()

    x = tensor(batch.x)
    weight, bias, mean, variance = map(torch.from_numpy, batch.parameters().values())
    if batch.row.mode == "backward":
        saved = (torch.from_numpy(vector.astype(batch.vectors["mean"].dtype)) for vector in batch.statistics)
        rest = tensor(batch.first(batch.upper)), x, weight, mean, variance, *saved, True, EPSILON, [True] * 3
        backward = torch.ops.aten.native_batch_norm_backward
        yield Candidate("torch", lambda: backward(*rest)[0], array)
        out = {"out0": torch.empty_like(x), "out1": torch.empty_like(weight), "out2": torch.empty_like(weight)}
        yield Candidate("torch out=", lambda: backward.out(*rest, **out)[0], array)
        return
    arguments = x, mean, variance, weight, bias, batch.training, RATE, EPSILON
    yield Candidate("torch", lambda: torch.nn.functional.batch_norm(*arguments), array)

    mean, variance = mean.clone(), variance.clone()
    statistics = x.shape[1] if batch.training else 0
    given = {"out": torch.empty_like(x)} | {
        name: torch.empty(statistics, dtype=mean.dtype) for name in ("save_mean", "save_invstd")
    }
    operator = torch.ops.aten.native_batch_norm.out
    positional = x, weight, bias, mean, variance, batch.training, RATE, EPSILON
    yield Candidate("torch out=", lambda: operator(*positional, **given)[0], array)


def onnxruntime(batch: Batch) -> Iterator[Candidate]:
    """Its BatchNormalization, which on the CPU infers, channels first, in float32 and float64."""
    if batch.row.mode != "evaluation" or batch.axis != 1 or batch.row.dtype not in ("float32", "float64"):
        return
    import onnxruntime

    session = onnxruntime.InferenceSession(model(batch), providers=["CPUExecutionProvider"])
    fed = {"x": batch.x}
    yield Candidate("onnxruntime", lambda: session.run(None, fed)[0], same)

    y = np.empty_like(batch.x)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(batch.x))
    given = onnxruntime.OrtValue.ortvalue_from_numpy(y)
    binding.bind_ortvalue_output("y", given)
    yield Candidate(
        "onnxruntime out=", lambda: session.run_with_iobinding(binding), lambda _: np.asarray(given.numpy())
    )


def model(batch: Batch) -> bytes:
    """A graph of one operator, its parameters constants."""
    from onnx import helper, numpy_helper

    element = helper.np_dtype_to_tensor_dtype(batch.x.dtype)
    values = {name: helper.make_tensor_value_info(name, element, batch.x.shape) for name in ("x", "y")}
    node = helper.make_node("BatchNormalization", ["x", *batch.vectors], ["y"], epsilon=EPSILON)
    constants = [numpy_helper.from_array(vector, name) for name, vector in batch.vectors.items()]
    graph = helper.make_graph([node], "batch_norm", [values["x"]], [values["y"]], constants)
    opset = helper.make_opsetid("", 17)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


def formula(library: Any, batch: Batch) -> Callable[..., Any]:
    """Batch norm as one writes it in NumPy, or in what looks like it; 16-bit values are widened."""
    axes = tuple(axis for axis in range(batch.memory.ndim) if axis != batch.axis)
    sides = [-1 if axis == batch.axis else 1 for axis in range(batch.memory.ndim)]
    kept = at_least_float32(batch.row.dtype)
    count = batch.x.size // batch.x.shape[1]

    def normalize(x: Any, weight: Any, bias: Any, mean: Any, variance: Any) -> Any:
        wide = x.astype(kept)
        scale = weight.reshape(sides) / library.sqrt(variance.reshape(sides) + EPSILON)
        return ((wide - mean.reshape(sides)) * scale + bias.reshape(sides)).astype(x.dtype)

    def train(x: Any, weight: Any, bias: Any, mean: Any, variance: Any) -> Any:
        wide = x.astype(kept)
        own, spread = wide.mean(axis=axes), wide.var(axis=axes)
        moved = (1 - RATE) * mean + RATE * own, (1 - RATE) * variance + RATE * spread * (count / max(1, count - 1))
        return normalize(x, weight, bias, own, spread), *moved

    def differentiate(x: Any, dy: Any, weight: Any, mean: Any, inverse: Any) -> Any:
        slope, scale = dy.astype(kept), (weight * inverse).reshape(sides)
        normal = (x.astype(kept) - mean.reshape(sides)) * inverse.reshape(sides)
        dbias, dweight = slope.sum(axis=axes), (slope * normal).sum(axis=axes)
        centered = slope - (dbias / count).reshape(sides) - normal * (dweight / count).reshape(sides)
        return (scale * centered).astype(x.dtype), dweight, dbias

    return {"training": train, "evaluation": normalize, "backward": differentiate}[batch.row.mode]


def operands(batch: Batch) -> tuple[Array, ...]:
    """What the formula takes, in the layout's own order."""
    if batch.row.mode == "backward":
        saved = (vector.astype(batch.vectors["mean"].dtype) for vector in batch.statistics)
        return batch.memory, batch.upper, batch.vectors["weight"], *saved
    return batch.memory, *batch.vectors.values()


def jax(batch: Batch) -> Iterator[Candidate]:
    """The formula under `jax.jit`, on memory in the layout's own order."""
    import jax

    jax.config.update("jax_enable_x64", True)  # arrays keep their dtypes, float64 among them
    compiled = jax.jit(formula(jax.numpy, batch))
    arguments = [jax.numpy.asarray(array) for array in operands(batch)]
    yield Candidate("jax", lambda: jax.block_until_ready(compiled(*arguments)), lambda y: output(batch, y))


def numpy(batch: Batch) -> Iterator[Candidate]:
    """The formula as it stands."""
    arguments = operands(batch)
    compute = formula(np, batch)
    yield Candidate("numpy", lambda: compute(*arguments), lambda y: output(batch, y))


def output(batch: Batch, returned: Any) -> Array:
    """The first of what a formula returns, or the only one."""
    return batch.first(np.asarray(returned[0] if isinstance(returned, tuple) else returned))


def copy(batch: Batch) -> Candidate:
    """The input's bytes into memory that is there already: nothing that reads and writes them all is faster."""
    source = batch.memory.reshape(-1).view(np.uint8)
    target = np.empty_like(source)
    return Candidate(COPY, copier(target, source), lambda _: target)


PEERS = (
    Peer("torch", ("torch",), "pip install torch --index-url https://download.pytorch.org/whl/cpu", torch),
    Peer("onnxruntime", ("onnxruntime", "onnx"), "pip install 'normspec[bench]'", onnxruntime),
    Peer("jax", ("jax", "jaxlib"), "pip install 'normspec[bench]'", jax),
    Peer("numpy", ("numpy",), "", numpy),
)
MEANINGS = {
    "ours": "`normspec.torch.nn.functional.batch_norm`: allocates its output and checks its arguments. Backward: the "
    "function of the CPU backend, which gets memory for dx as modules do.",
    "ours out=": "the functions of the CPU backend, on views and an output made beforehand: no checks, no allocation.",
    "torch": "`torch.nn.functional.batch_norm`, no gradients. Above 32 MB much of its time may be page faults on fresh "
    "memory (glibc gives large blocks back), not its kernel: read the next column beside it. A channels-last array of "
    "three dimensions is no memory format of torch, so that row is not one that it is made for.",
    "torch out=": "`torch.ops.aten.native_batch_norm.out`. On tiny arrays it dispatches longer than the plain call. "
    "Backward: `native_batch_norm_backward.out`, which allocates and copies, so the column without is the fairer.",
    "onnxruntime": "an `InferenceSession` of one BatchNormalization (float32 and float64, channels first, evaluation: "
    "it has no others on a CPU). It checks its feed, and its arena keeps memory that it has had.",
    "onnxruntime out=": "the same with input and output bound.",
    "jax": "the formula under `jax.jit`, with `block_until_ready`; returns new running statistics instead of writing "
    "them. XLA allocates, on arrays that are JAX's already; the layout is given by the order of the axes.",
    "numpy": "the formula as one would write it; 16-bit values are widened to float32, with temporaries. One thread.",
    "copy": "`np.copyto` into memory that is there already, above 2 MiB the same by our threads: the floor of what "
    "reads x once and writes y once. Training reads x twice where a channel does not fit in a cache.",
}
