"""Who is measured on a GPU: ours, torch's own kernels, cuDNN's through torch, a compiled formula, and a copy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from ..peers import COPY
from ..rows import EPSILON, RATE
from .tensors import Batch, Buffers

OURS, KERNELS = "ours", "kernels"
COMPILED = ((32, 256, 56, 56), (32, 1024, 14, 14), (4096, 1024))  # it compiles for seconds: channels first, of these
MEANINGS = {
    OURS: "`normspec.interop.torch.batch_norm` on torch's tensors, without gradients: checks, allocation, kernels.",
    KERNELS: "the functions of the CUDA backend, on views and outputs made beforehand. The ratio of a backward pass is "
    "to it, for the peers' are operators below autograd, too.",
    "torch": "`torch.batch_norm` without cuDNN, or `native_batch_norm_backward`.",
    "cuDNN": "`torch.batch_norm` with cuDNN, as `torch.nn.BatchNorm2d` calls it (torch takes its own kernels where "
    "cuDNN has none), or `cudnn_batch_norm_backward`.",
    "compile": "`torch.compile` of `torch.nn.functional.batch_norm`, for some shapes, since it compiles for seconds.",
    COPY: "`y.copy_(x)`: the ceiling of what reads and writes as many bytes.",
}


class Candidate(NamedTuple):
    """Something to time: a function of the buffers, and what to check of what it returns."""

    name: str
    function: Callable[[Buffers], Any]
    outputs: Callable[[Any], Mapping[str, Any]]

    def call(self, batch: Batch) -> Callable[[], Any]:
        """A call that takes other buffers each time."""
        turns = itertools.cycle(batch.sets)
        return lambda: self.function(next(turns))


Peer = Callable[[Batch], Iterator[Candidate]]


def forward(y: Any) -> dict[str, Any]:
    """For what returns its output alone."""
    return {"y": y}


def backward(gradients: Any) -> dict[str, Any]:
    """For what returns gradients of input, weight and bias."""
    return dict(zip(("dx", "dweight", "dbias"), gradients, strict=False))


def ours(batch: Batch) -> Iterator[Candidate]:
    """The function that a user of torch calls."""
    from normspec.interop.torch import batch_norm

    mean, variance = batch.running()
    weight, bias, training = batch.weight, batch.bias, batch.training
    if batch.row.mode != "backward":
        yield Candidate(
            OURS, lambda buffers: batch_norm(buffers.x, mean, variance, weight, bias, training, RATE, EPSILON), forward
        )


def kernels(batch: Batch) -> Iterator[Candidate]:
    """The functions of the backend."""
    from normspec.runtime.kernels import cuda, on

    backend = on("cuda")
    weight, bias = (cuda.asarray(one) for one in (batch.weight, batch.bias))
    mean, variance = (cuda.asarray(one) for one in batch.running())
    views = {id(buffers): [_features(cuda, one, batch) for one in buffers] for buffers in batch.sets}

    def train(buffers: Buffers) -> Any:
        x, y, _ = views[id(buffers)]
        backend.forward_training(x, y, weight, bias, mean, variance, EPSILON, RATE, True)
        return buffers.y

    def evaluate(buffers: Buffers) -> Any:
        x, y, _ = views[id(buffers)]
        backend.normalize(x, y, mean, variance, weight, bias, EPSILON)
        return buffers.y

    if batch.row.mode != "backward":
        yield Candidate(KERNELS, train if batch.training else evaluate, forward)
        return
    x, y, _ = views[id(batch.sets[0])]
    statistics = backend.forward_training(x, y, weight, bias, None, None, EPSILON, RATE, True)

    def differentiate(buffers: Buffers) -> Any:
        x, y, dy = views[id(buffers)]
        return buffers.y, *backend.backward(x, dy, y, *statistics, weight, True)

    def outputs(gradients: Any) -> dict[str, Any]:
        dx, *vectors = gradients
        return backward((dx, *(torch.from_numpy(one.copy_to_host()).to(dx.device) for one in vectors)))

    yield Candidate(KERNELS, differentiate, outputs)


def _features(cuda: Any, tensor: Any, batch: Batch) -> Any:
    """A tensor as (outer, feature, inner)."""
    if batch.row.layout == "channels first":
        return cuda.asarray(tensor).reshape(*tensor.shape[:2], -1)
    return cuda.asarray(tensor.movedim(1, -1)).reshape(-1, tensor.shape[1], 1)


def native(batch: Batch) -> Iterator[Candidate]:
    """torch's own kernels."""
    yield from library(batch, "torch", False)


def cudnn(batch: Batch) -> Iterator[Candidate]:
    """cuDNN's, where torch takes them."""
    yield from library(batch, "cuDNN", True)


def library(batch: Batch, name: str, enabled: bool) -> Iterator[Candidate]:
    """``torch.batch_norm``, or its backward pass from what its forward pass saved."""
    mean, variance = batch.running()
    weight, bias, training = batch.weight, batch.bias, batch.training
    if batch.row.mode != "backward":

        def run(buffers: Buffers) -> Any:
            return torch.batch_norm(buffers.x, weight, bias, mean, variance, training, RATE, EPSILON, enabled)

        yield Candidate(name, run, forward)
        return
    operators, x = torch.ops.aten, batch.sets[0].x
    if enabled:
        _, *saved = operators.cudnn_batch_norm(x, weight, bias, mean, variance, True, RATE, EPSILON)
        *statistics, reserve = saved

        def differentiate(buffers: Buffers) -> Any:
            return operators.cudnn_batch_norm_backward(
                buffers.x, buffers.dy, weight, mean, variance, *statistics, EPSILON, reserve
            )
    else:
        _, *statistics = operators.native_batch_norm(x, weight, bias, mean, variance, True, RATE, EPSILON)

        def differentiate(buffers: Buffers) -> Any:
            return operators.native_batch_norm_backward(
                buffers.dy, buffers.x, weight, mean, variance, *statistics, True, EPSILON, [True, True, True]
            )

    yield Candidate(name, differentiate, backward)


def compiled(batch: Batch) -> Iterator[Candidate]:
    """``torch.compile``, a function for each row."""
    if batch.row.shape not in COMPILED or batch.row.layout != "channels first":
        return
    torch.compiler.reset()
    mean, variance = batch.running()
    function = torch.compile(functools.partial(torch.nn.functional.batch_norm, momentum=RATE, eps=EPSILON))
    if batch.row.mode != "backward":

        def run(buffers: Buffers) -> Any:
            return function(buffers.x, mean, variance, batch.weight, batch.bias, training=batch.training)

        yield Candidate("compile", run, forward)
        return
    from torch._functorch import config

    config.donated_buffer = False  # the graph is kept, for the backward pass is timed alone
    leaves = [one.detach().clone().requires_grad_() for one in (batch.weight, batch.bias)]
    graphs = {}
    for buffers in batch.sets:
        x = buffers.x.detach().requires_grad_()
        graphs[id(buffers)] = function(x, mean, variance, *leaves, training=True), x

    def differentiate(buffers: Buffers) -> Any:
        y, x = graphs[id(buffers)]
        return torch.autograd.grad(y, (x, *leaves), buffers.dy, retain_graph=True)

    yield Candidate("compile", differentiate, backward)


def copy(batch: Batch) -> Candidate:
    """The bytes of x, read and written."""
    return Candidate(COPY, lambda buffers: buffers.y.copy_(buffers.x), lambda _: {})


PEERS: tuple[Peer, ...] = (ours, kernels, native, cudnn, compiled)
