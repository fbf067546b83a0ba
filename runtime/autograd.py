"""Reverse-mode differentiation: a tensor computed from one that requires gradients knows the way back.

A way back is written with operations on tensors, so it can be recorded in turn, and differentiated again. It keeps what
it needs and no more: adding keeps nothing, multiplying keeps the other factor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np

from . import foreign, gradients
from .gradients import NoGrad

if TYPE_CHECKING:
    from .tensor import Tensor

VariableT = TypeVar("VariableT", bound="Variable")
Back: TypeAlias = "Callable[[Tensor], Sequence[Tensor | None]]"  # from a result's gradient to those of its sources

_adding = threading.Lock()
if hasattr(os, "register_at_fork"):  # as for the memory of outputs
    os.register_at_fork(before=_adding.acquire, after_in_parent=_adding.release, after_in_child=_adding.release)


class Edge(NamedTuple):
    """For whom a gradient is, and of which shape and element type it must be."""

    to: Node | Variable
    shape: tuple[int, ...]
    dtype: str


class Node:
    """How a tensor was computed."""

    def __init__(self, name: str, edges: tuple[Edge | None, ...], back: Back) -> None:
        self.name = name
        self.edges = edges
        self._back: Back | None = back

    def back(self, gradient: Tensor, keep: bool) -> Iterator[tuple[Edge, Tensor]]:
        """The gradients of the sources. Without ``keep``, what was kept for them is let go."""
        if self._back is None:
            raise RuntimeError(
                f"backward: {self.name}: expected what its way back needs, found that an earlier backward has let it "
                "go; that one needs retain_graph=True"
            )
        back, edges = self._back, self.edges
        if not keep:
            self._back, self.edges = None, ()
        for edge, one in zip(edges, back(gradient), strict=True):
            if edge is not None and one is not None:
                yield edge, _fitted(one, edge)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Variable:
    """What may have a gradient; the part of a tensor that differentiation is about."""

    grad: Any = None
    _wants: bool = False
    _node: Node | None = None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted of this tensor, or of one that it was computed from."""
        return self._wants or self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        this = cast("Tensor", self)
        if self._node is not None:
            raise RuntimeError("requires_grad: expected a tensor that was not computed from others; use detach()")
        if wanted and not this.dtype.is_floating_point:
            raise RuntimeError(f"requires_grad: expected a floating-point tensor, found one of {this.dtype.name}")
        self._wants = bool(wanted)

    def requires_grad_(self: VariableT, requires_grad: bool = True) -> VariableT:
        """Set ``requires_grad``; returns this tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad_fn(self) -> Node | None:
        """How this tensor was computed from those that require gradients; None if it was not."""
        return self._node

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was not computed from others that require gradients."""
        return self._node is None

    def backward(self, gradient: object = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add to the ``grad`` of every tensor from which this one was computed and of which gradients are wanted.

        Parameters
        ----------
        gradient : Tensor, array or number, default None
            Derivative of a number with respect to this tensor, of its shape. None is 1, for a tensor of one element.
        retain_graph : bool, default None
            Whether ``backward`` can be called again; if not, what was kept for it is let go. None is ``create_graph``.
        create_graph : bool, default False
            Whether the gradients can be differentiated in turn.

        Raises
        ------
        RuntimeError
            No gradient is wanted of anything here; there is more than one element and no ``gradient``; or an earlier
            ``backward`` has let go what this one needs. No ``grad`` has changed.
        ValueError
            ``gradient`` has another shape or is on another device.
        TypeError
            No tensor can be made of ``gradient``.
        """
        start = _start(cast("Tensor", self), "backward", gradient)
        keep = create_graph if retain_graph is None else retain_graph
        ends = _propagated(self, start, keep, create_graph)
        taken = {id(_owner(start))}
        with _adding, NoGrad() if not create_graph else nullcontext():
            for leaf, one in ends:
                if isinstance(leaf, Variable):
                    _accumulate(leaf, one, taken, create_graph)


def grad(
    outputs: VariableT,
    inputs: VariableT | Sequence[VariableT],
    gradient: object = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to each of ``inputs``, without a change of any ``grad``.

    Parameters
    ----------
    outputs : Tensor
        What is differentiated.
    inputs : Tensor or sequence of Tensor
        Those with respect to which it is; zeros are the gradient of one that ``outputs`` does not depend on.
    gradient, retain_graph, create_graph
        As for ``Tensor.backward``.

    Returns
    -------
    tuple of Tensor
        Each of the shape and element type of its input.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As for ``Tensor.backward``; or no gradient is wanted of an input.
    """
    inputs = [inputs] if isinstance(inputs, Variable) else inputs
    if not all(one.requires_grad for one in inputs):
        raise RuntimeError("grad: inputs: expected tensors that require gradients, found one that does not")
    start = _start(cast("Tensor", outputs), "grad", gradient)
    keep = create_graph if retain_graph is None else retain_graph
    wanted: list[Node | Variable] = [one._node or one for one in inputs]
    found = {id(end): one for end, one in _propagated(outputs, start, keep, create_graph, wanted)}
    return tuple(
        found[id(end)] if id(end) in found else zeros_like(cast("Tensor", one))
        for end, one in zip(wanted, inputs, strict=True)
    )


def zeros_like(like: Tensor) -> Tensor:
    """Zeros of the shape, element type and device of a tensor."""
    return like.plain(np.zeros(like.shape, like.dtype.numpy), device=like.device)


def needed(*sources: object) -> bool:
    """Whether the way back from what is computed of these has to be recorded."""
    for one in sources:
        if isinstance(one, Variable) and (one._wants or one._node is not None):
            return gradients.wanted()
    return False


def record(result: VariableT, name: str, sources: Iterable[object], back: Back) -> VariableT:
    """Make ``back`` the way from ``result`` to its sources; what it returns is summed and cast to fit them."""
    result._node = Node(name, tuple(map(_edge, sources)), back)
    return result


def _edge(source: object) -> Edge | None:
    if not isinstance(source, Variable) or not source.requires_grad:
        return None
    this = cast("Tensor", source)
    return Edge(source._node or source, this.shape, this._dtype)


def _fitted(gradient: Tensor, edge: Edge) -> Tensor:
    """The gradient of what was broadcast is the sum over its copies."""
    shape, extra = edge.shape, gradient.ndim - len(edge.shape)
    if gradient.shape != shape:
        stretched = (axis for axis, size in enumerate(shape, extra) if size == 1)
        gradient = gradient.sum((*range(extra), *stretched), keepdims=True).reshape(shape)
    return gradient.to(dtype=edge.dtype)


def _start(result: Tensor, who: str, gradient: object) -> Tensor:
    """The gradient that a pass begins with."""
    if not result.requires_grad:
        raise RuntimeError(f"{who}: expected a tensor computed from one that requires gradients, found one that is not")
    if gradient is None:
        if result.size != 1:
            wanted = f"one of shape {result.shape}, for only a single number needs none"
            raise RuntimeError(f"{who}: gradient: expected {wanted}, found None")
        gradient = np.ones(result.shape, result.dtype.numpy)
    start: Any = gradient
    if not isinstance(gradient, Variable):
        try:
            start = result.plain(gradient, device=result.device)
        except (*foreign.CANNOT, ValueError) as error:
            found = f"{type(gradient).__name__}, of which none can be made ({error})"
            raise TypeError(f"{who}: gradient: expected a tensor of shape {result.shape}, found {found}") from None
    if start.shape != result.shape:
        raise ValueError(f"{who}: gradient: expected shape {result.shape}, found shape {start.shape}")
    if start.device != result.device:
        raise ValueError(f"{who}: gradient: expected a tensor on {result.device}, found one on {start.device}")
    return cast("Tensor", start.to(dtype=result.dtype))


def _propagated(
    result: Variable, start: Tensor, keep: bool, create: bool, wanted: Iterable[Node | Variable] | None = None
) -> list[tuple[Node | Variable, Tensor]]:
    """The gradients of all leaves, and of what is wanted on the way, after one pass over every way back."""
    ends = None if wanted is None else set(map(id, wanted))
    pending: dict[int, tuple[Node | Variable, Tensor]] = {}
    found = []

    def add(to: Node | Variable, gradient: Tensor) -> None:
        pending[id(to)] = (to, pending[id(to)][1] + gradient if id(to) in pending else gradient)

    add(result._node or result, start)
    with nullcontext() if create else NoGrad():
        order = _ordered(result._node)
        while order:
            node, gradient = pending.pop(id(order.pop()), (None, None))
            if node is None or gradient is None:  # whoever was computed from it passes nothing on
                continue
            if ends is not None and id(node) in ends:
                found.append((node, gradient))
            for edge, one in cast(Node, node).back(gradient, keep):
                add(edge.to, one)
    return [*found, *pending.values()]


def _ordered(last: Node | None) -> list[Node]:
    """All nodes from which ``last`` was computed, and itself, each behind those that it was computed from."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [] if last is None else [(last, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(edge.to, False) for edge in node.edges if edge is not None and isinstance(edge.to, Node)]
    return order


def _accumulate(leaf: Variable, gradient: Tensor, taken: set[int], create: bool) -> None:
    """Add to ``leaf.grad`` in place, unless the sum is to be differentiated; memory is never shared by two leaves."""
    if leaf.grad is None:
        fresh = id(_owner(gradient)) not in taken and _writeable(gradient)
        leaf.grad = gradient if create or fresh else gradient.copy()
        taken.add(id(_owner(leaf.grad)))
    elif create or leaf.grad.requires_grad:
        leaf.grad = leaf.grad + gradient
    else:
        leaf.grad.copy_(leaf.grad + gradient)


def _owner(tensor: Tensor) -> Any:
    """What owns a tensor's memory."""
    base = getattr(tensor.array, "base", None)
    return tensor.array if base is None else base


def _writeable(tensor: Tensor) -> bool:
    return not isinstance(tensor.array, np.ndarray) or tensor.array.flags.writeable


# -------------------------------------------------------------------------------------------------- NumPy's functions

Way: TypeAlias = "Callable[[Tensor], Any]"
Rule: TypeAlias = Callable[..., Way]


def _same(gradient: Tensor) -> Tensor:
    return gradient


def _power(a: Any, b: Any) -> Way:
    return lambda g: g * (b * a ** (b - (b != 0)))  # never 0 ** -1


def _larger(a: Any, b: Any) -> Way:
    return lambda g: g * ((a > b) + 0.5 * (a == b))


def _left(a: Any, b: Any) -> Way:
    return lambda g: _matrix(g, a, b) @ _swapped(b if b.ndim > 1 else b.reshape(-1, 1))


def _right(a: Any, b: Any) -> Way:
    def way(g: Tensor) -> Any:
        product = _swapped(a if a.ndim > 1 else a.reshape(1, -1)) @ _matrix(g, a, b)
        return product if b.ndim > 1 else product.reshape(product.shape[:-1])

    return way


def _matrix(product: Tensor, a: Any, b: Any) -> Any:
    """The product as if no factor had been a vector."""
    rows, columns = () if a.ndim > 1 else (1,), () if b.ndim > 1 else (1,)
    inner = product.shape[product.ndim - (b.ndim > 1) :]
    return product.reshape(product.shape[: product.ndim - len(inner)] + rows + inner + columns)


def _swapped(matrices: Any) -> Any:
    return matrices.transpose((*range(matrices.ndim - 2), matrices.ndim - 1, matrices.ndim - 2))


_STEPS = (np.sign, np.floor, np.ceil, np.trunc, np.rint)  # which have a gradient of zero wherever they have one
# For each operand, what makes of all operands the way from the result's gradient to this operand's.
_RULES: dict[np.ufunc, tuple[Rule, ...]] = {
    np.add: (lambda a, b: _same, lambda a, b: _same),
    np.subtract: (lambda a, b: _same, lambda a, b: lambda g: -g),
    np.multiply: (lambda a, b: lambda g: g * b, lambda a, b: lambda g: g * a),
    np.divide: (lambda a, b: lambda g: g / b, lambda a, b: lambda g: -g * (a / b) / b),
    np.power: (_power, lambda a, b: lambda g: g * a**b * np.log(a)),
    np.matmul: (_left, _right),
    np.maximum: (_larger, lambda a, b: _larger(b, a)),
    np.minimum: (lambda a, b: _larger(b, a), _larger),
    np.positive: (lambda a: _same,),
    np.negative: (lambda a: lambda g: -g,),
    np.absolute: (lambda a: lambda g: g * np.sign(a),),
    np.square: (lambda a: lambda g: g * 2 * a,),
    np.sqrt: (lambda a: lambda g: g * 0.5 / np.sqrt(a),),
    np.exp: (lambda a: lambda g: g * np.exp(a),),
    np.log: (lambda a: lambda g: g / a,),
    np.tanh: (lambda a: lambda g: g * (1 - np.tanh(a) ** 2),),
    **dict.fromkeys(_STEPS, (lambda a: zeros_like,)),
}


def unknown(function: str) -> RuntimeError:
    """What is raised where a gradient would be lost."""
    return RuntimeError(
        f"{function}: expected a function whose gradient is known, for an operand requires gradients; "
        "use detach(), or call it where none are recorded"
    )


def record_ufunc(
    result: VariableT, ufunc: np.ufunc, method: str, operands: Sequence[Any], options: object
) -> VariableT:
    """Record what NumPy computed of tensors.

    Raises
    ------
    RuntimeError
        The way back is not known.
    """
    if not cast("Tensor", result).dtype.is_floating_point:
        return result
    if ufunc not in _RULES or method != "__call__" or options:
        called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise unknown(called)
    known = [one if isinstance(one, (Variable, int, float)) else np.asarray(one) for one in operands]
    ways = [
        rule(*known) if isinstance(one, Variable) and one.requires_grad else None
        for one, rule in zip(operands, _RULES[ufunc], strict=True)
    ]
    return record(result, ufunc.__name__, operands, lambda g: [way and way(g) for way in ways])
