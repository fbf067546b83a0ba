"""What can be done with any module; a dialect's methods are these under its own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from os import PathLike, fspath
from typing import Any, cast
from zipfile import ZipFile

import numpy as np

from .. import autograd, foreign
from ..arrays import unwritable
from ..dtypes import DType, DTypeLike
from ..errors import listed
from ..gradients import NoGrad
from ..module import Module, ModuleT, State
from ..tensor import Tensor, TensorT
from ..views import IncompatibleKeys, StateDict, quoted


def named_children(module: Module) -> Iterator[tuple[str, Any]]:
    """The modules immediately inside, with their names; those in lists and dicts as ``name.0`` or ``name.key``."""
    for name, value in vars(module).items():
        if isinstance(value, Module):
            yield name, value
        elif module._dialect.rules.containers and isinstance(value, (list, tuple, dict)):
            items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}.{key}", one) for key, one in items if isinstance(one, Module))


def children(module: Module) -> Iterator[Any]:
    """The modules immediately inside."""
    return (child for _, child in named_children(module))


def named_modules(module: Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """This module and all inside it, each once, with their paths."""
    seen: set[int] = set()

    def walk(one: Module, path: str) -> Iterator[tuple[str, Any]]:
        if id(one) not in seen:
            seen.add(id(one))
            yield path, one
            for name, child in named_children(one):
                yield from walk(child, f"{path}.{name}" if path else name)

    return walk(module, prefix)


def modules(module: Module) -> Iterator[Any]:
    """This module and all inside it."""
    return (one for _, one in named_modules(module))


def descendants(module: Module, recurse: bool) -> Iterator[Any]:
    """The modules inside, without this one."""
    return (one for one in modules(module) if one is not module) if recurse else children(module)


def named_parameters(module: Module, recurse: bool) -> Iterator[tuple[str, Any]]:
    """The parameters with their names, each tensor once."""
    return _unique(_tensors(module, _own_parameters, recurse))


def parameters(module: Module, recurse: bool) -> Iterator[Any]:
    """The parameters, each tensor once."""
    return (tensor for _, tensor in named_parameters(module, recurse))


def named_buffers(module: Module, recurse: bool) -> Iterator[tuple[str, Any]]:
    """The buffers with their names, each tensor once."""
    return _unique(_tensors(module, _own_buffers, recurse))


def buffers(module: Module, recurse: bool) -> Iterator[Any]:
    """The buffers, each tensor once."""
    return (tensor for _, tensor in named_buffers(module, recurse))


def _own_parameters(module: Module) -> Iterator[tuple[str, Tensor]]:
    every = module._dialect.rules.parameters == "tensors"
    for name, value in vars(module).items():
        if isinstance(value, Tensor) and name not in module._buffers and (every or value.learned):
            yield name, value


def _own_buffers(module: Module) -> Iterator[tuple[str, Tensor]]:
    own = vars(module)  # from which a buffer may have been deleted
    return ((name, own[name]) for name in module._buffers if own.get(name) is not None)


def _own(module: Module) -> Iterator[tuple[str, Tensor]]:
    yield from _own_parameters(module)
    yield from _own_buffers(module)


def _tensors(
    module: Module, own: Callable[[Module], Iterator[tuple[str, Tensor]]], recurse: bool
) -> Iterator[tuple[str, Tensor]]:
    for path, one in _paths(module) if recurse else [("", module)]:
        yield from ((f"{path}.{name}" if path else name, tensor) for name, tensor in own(one))


def _paths(module: Module, path: str = "", above: tuple[Module, ...] = ()) -> Iterator[tuple[str, Module]]:
    """This module and all inside it by every path that leads to them; one inside itself is followed once."""
    if not any(module is one for one in above):
        yield path, module
        for name, child in named_children(module):
            yield from _paths(child, f"{path}.{name}" if path else name, (*above, module))


def _unique(named: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, tensor in named:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def state_dict(module: Module) -> StateDict[Any]:
    """The tensors by name, module by module: parameters, then buffers."""
    own = _tensors(module, _own, recurse=True)
    if module._dialect.rules.state_dict == "detached":
        own = ((name, tensor.detach()) for name, tensor in own)
    state: StateDict[Any] = StateDict(own)
    state.lines = module._dialect.printing.state_dict == "lines"
    return state


def load_state_dict(module: Module, state: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Take over the values of a state dict, or nothing at all if something does not fit.

    Tensors of any dialect and any array library on the CPU will do. A counter of batches may be missing from a dict
    that is not one of ours: older files have none.
    """
    if not isinstance(state, Mapping):
        found, argument = type(state).__name__, module._spelled("load_state_dict", "state")
        module._speaker().fail_spelled("state_mapping", argument, "a mapping of names to tensors", found, type=found)
    homes = {f"{path}.{name}" if path else name: (one, name) for path, one in _paths(module) for name, _ in _own(one)}
    counters = {key for key, (one, name) in homes.items() if _counts(one, name)}
    optional = set() if isinstance(state, StateDict) else counters
    missing = [key for key in homes if key not in state and key not in optional]
    unexpected = [key for key in state if key not in homes]
    problems: dict[str, list[str]] = {}
    if strict and missing:
        problems["missing_keys"] = [_words(module, "missing_keys", **quoted(missing))]
    if strict and unexpected:
        problems["unexpected_keys"] = [_words(module, "unexpected_keys", **quoted(unexpected))]
    values = {}
    for key, (one, name) in homes.items():
        if key in state:
            values[key] = _checked(module, key, vars(one)[name], state[key], problems)
    if any(problems.values()):
        _refuse(module, problems)
    _take_over(module, homes, values)
    return IncompatibleKeys(missing, unexpected)


def _take_over(module: Module, homes: Mapping[str, tuple[Module, str]], values: dict[str, Tensor]) -> None:
    """Load tensors into their homes: all, or none if one cannot be moved to its device, or not be written to."""
    replace = module._dialect.rules.load == "replace"
    for key, value in values.items():
        one, name = homes[key]
        current = vars(one)[name]
        found = None if replace else unwritable(current.array)
        if found is not None:
            module._speaker().fail_spelled("read_only", key, "memory that can be written", found)
        values[key] = value.to(current.device, None if replace else current.dtype)
    with ExitStack() as locks:
        for one in sorted(modules(module), key=id):  # one order for all threads, or two could wait for each other
            locks.enter_context(one._lock)
        for key, value in values.items():
            one, name = homes[key]
            if replace:
                vars(one)[name] = value
            else:
                vars(one)[name].copy_(value)


def _counts(module: Module, name: str) -> bool:
    return module._names.get("count") == name


def _checked(module: Module, key: str, current: Tensor, value: Any, problems: dict[str, list[str]]) -> Tensor:
    """The tensor to load, after noting what is wrong with it."""
    messages = module._dialect.messages
    try:
        if not isinstance(value, (Tensor, np.generic)) and not hasattr(value, "__dlpack__"):
            raise TypeError(key)
        tensor = value if isinstance(value, type(current)) else type(current)(value)
    except foreign.CANNOT:
        text = _words(module, "state_type", key=key, type=type(value).__name__)
        problems.setdefault("state_type", []).append(text)
        return current
    if tensor.shape != current.shape:
        text = _words(module, "state_shape", key=key, expected=listed(current.shape), found=listed(tensor.shape))
        problems.setdefault("state_shape", []).append(text)
    elif (unfit := _beyond(module, current, tensor)) is not None:
        text = _words(module, "state_range", key=key, expected=f"values of {current.dtype.name}", found=unfit)
        problems.setdefault("state_range", []).append(text)
    elif "state_dtype" in messages and tensor.dtype != current.dtype:
        text = _words(module, "state_dtype", key=key, expected=repr(current.dtype), found=repr(tensor.dtype))
        problems.setdefault("state_dtype", []).append(text)
    return tensor


def _beyond(module: Module, current: Tensor, tensor: Tensor) -> str | None:
    """A value, NaN among them, that the integers it would be copied into do not hold."""
    kind = current.dtype.numpy
    if module._dialect.rules.load == "replace" or kind.kind not in "iu" or tensor.dtype == current.dtype:
        return None
    least, values = np.iinfo(kind), tensor.numpy()
    ends = (values.min().item(), values.max().item()) if values.size else ()  # of Python, which compare exactly
    return next((str(one) for one in ends if not least.min <= one <= least.max), None)


def _words(module: Module, condition: str, **fields: str) -> str:
    message = module._dialect.messages.get(condition)
    told = ", ".join(f"{name} {value}" for name, value in fields.items())
    return message.text.format_map(fields) if message else f"{condition}: {told}"


def _refuse(module: Module, problems: Mapping[str, list[str]]) -> None:
    """Raise every problem at once, in the order in which the dialect lists them."""
    order = [*module._dialect.messages, *(one for one in problems if one not in module._dialect.messages)]
    lines = [line for condition in order for line in problems.get(condition, ())]
    module._speaker().fail_spelled(
        "load",
        module._spelled("load_state_dict", "state"),
        "tensors of the names, shapes and types of this module's",
        f"{len(lines)} problem{'s' if len(lines) > 1 else ''}",
        problems="".join(f"\n\t{line}" for line in lines),
    )


def train(module: ModuleT, mode: bool) -> ModuleT:
    """Set the mode, here and in every module inside."""
    if not isinstance(mode, bool):
        found = type(mode).__name__
        module._speaker().fail_spelled("mode_type", module._spelled("train", "mode"), "bool", found, type=found)
    for one in modules(module):
        one.training = mode
    return module


def evaluate(module: ModuleT) -> ModuleT:
    """Set evaluation mode, here and in every module inside."""
    return train(module, False)


def is_training(module: Module) -> bool:
    """Whether the module is in training mode."""
    return module.training


def apply(module: ModuleT, function: Callable[[Any], object]) -> ModuleT:
    """Apply a function to every module inside, children first, and then to this one."""
    for child in children(module):
        apply(child, function)
    function(module)
    return module


def apply_or_call(module: Module, argument: object) -> Any:
    """Apply a function to the modules, or the module to anything else."""
    if callable(argument):
        return apply(module, argument)
    return module(argument)


def and_then(module: Module, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``x -> function(module(x))``."""
    return lambda argument: function(module(argument))


def compose(module: Module, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``x -> module(function(x))``."""
    return lambda argument: module(function(argument))


def to(module: ModuleT, device: str | DTypeLike | None, dtype: DTypeLike | None) -> ModuleT:
    """Move every tensor to a device and convert the floating-point ones; all of them or, on an error, none."""
    where, element = _destination(module, device, dtype)
    moved, made = [], {}  # a tensor that has several places is one afterwards, too
    for one in modules(module):
        for name, tensor in _own(one):
            convert = element is not None and tensor.dtype.is_floating_point
            kept = one._kept_dtype(name, element.name) if convert and element is not None else None
            at = None if where is None or _counts(one, name) else where
            key = id(tensor), at, kept
            if key not in made:
                made[key] = _moved(tensor, at, kept)
            moved.append((one, name, made[key]))
    for one, name, tensor in moved:
        vars(one)[name] = tensor
    if element is not None:
        for one in modules(module):
            one._set(dtype=one._tensor_type.dtype_type(element.name))
    return module


def _moved(tensor: Tensor, device: str | None, dtype: str | None) -> Tensor:
    """A tensor elsewhere or of another element type, and its gradient with it."""
    with NoGrad():
        moved = tensor.to(device, dtype)
        if moved is not tensor:
            moved.requires_grad = tensor.requires_grad
            moved.grad = None if tensor.grad is None else tensor.grad.to(device, dtype)
    return moved


def _destination(
    module: Module, device: str | DTypeLike | None, dtype: DTypeLike | None
) -> tuple[str | None, DType | None]:
    element = None if dtype is None else module._element(dtype)
    if device is None:
        return None, element
    if isinstance(device, str) and module._tensor_type.dtype_type.named(device) is None:
        return module._place(device), element
    return None, module._element(device)


def zero_grad(module: Module, set_to_none: bool) -> None:
    """Forget the gradients of the parameters, or set them to zero where there are any."""
    for parameter in parameters(module, recurse=True):
        gradient = parameter.grad
        parameter.grad = None if set_to_none or gradient is None else autograd.zeros_like(gradient)


def requires_grad_(module: ModuleT, requires_grad: bool) -> ModuleT:
    """Say whether gradients of the parameters are wanted, here and in every module inside."""
    for parameter in parameters(module, recurse=True):
        parameter.requires_grad = requires_grad
    return module


def reset_buffers(module: Module) -> None:
    """Give the buffers of this module the values that they had at first."""
    _reset(module, lambda one: one.kind == "buffer")


def reset(module: Module) -> None:
    """Give all tensors of this module the values that they had at first."""
    _reset(module, lambda one: True)


def _reset(module: Module, wanted: Callable[[State], bool]) -> None:
    for one in module._state:
        tensor = vars(module)[one.name]
        if tensor is not None and wanted(one) and all(module._get(switch) for switch in one.when):
            tensor.copy_(module._initial(one, tensor.shape, tensor.dtype.name, "cpu"))


def register_parameter(module: Module, name: str, tensor: TensorT | None, requires_grad: bool) -> TensorT | None:
    """Keep a tensor as a parameter; what is kept shares its memory."""
    _free(module, "register_parameter", name, tensor, Tensor)
    kept: Tensor | None = tensor
    if tensor is not None and not tensor.learned and module._dialect.rules.parameters == "parameters":
        kept = module._parameter_type(tensor)
    if kept is not None:
        kept.requires_grad = requires_grad
    setattr(module, name, kept)
    return tensor


def register_buffer(module: Module, name: str, tensor: TensorT | None) -> TensorT | None:
    """Keep a tensor that is not learned; storch's two forms, (name, tensor) and (tensor, name), are both taken."""
    if isinstance(tensor, str) and not isinstance(name, str):
        name, tensor = tensor, cast("TensorT | None", name)
    _free(module, "register_buffer", name, tensor, Tensor)
    setattr(module, name, tensor)
    vars(module).setdefault("_buffers", {})[name] = None
    return tensor


def register_module(owner: Module, /, name: str, module: ModuleT) -> ModuleT:
    """Keep a module inside another."""
    _free(owner, "register_module", name, module, Module)
    setattr(owner, name, module)
    return module


def _free(module: Module, function: str, name: object, value: object, kind: type) -> None:
    """Refuse a name that cannot be one or is taken, and a value that is no tensor or module."""
    who, argument = type(module).__name__, module._spelled(function, "name")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{who}: {argument}: expected an identifier, found {name!r}")
    if hasattr(module, name):
        raise KeyError(f"{who}: {argument}: expected a free name, found {name!r}, which is an attribute already")
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{who}: {name}: expected a {kind.__name__}, found {type(value).__name__}")


def has_bias(module: Module) -> bool:
    """Whether this module or one inside it adds a learned shift."""
    return any("shift" in one._names and one._get("shift") is not None for one in modules(module))


def parameter_type(module: Module) -> DType:
    """Element type of the parameters."""
    return module._tensor_type.dtype_type(module._get("dtype").name)


def to_string(module: Module) -> str:
    """The module as text: one line, or with what is inside it a line each."""
    if module._dialect.printing.module == "members":
        return _members(module)
    name, inside = type(module).__name__, list(named_children(module))
    if not inside:
        return f"{name}({module.extra_repr()})"
    lines = [f"({path}): {to_string(child)}" for path, child in inside]
    return f"{name}(\n" + "\n".join(_indented(line, 2) for line in lines) + "\n)"


def summarize(module: Module) -> str:
    """The module and the modules inside it, one a line."""
    return to_string(module)


def _members(module: Module) -> str:
    printing = module._dialect.printing
    tensors = ({"name": name, "shape": listed(one.shape), "dtype": repr(one.dtype)} for name, one in _own(module))
    lines = [printing.member.format_map(tensor) for tensor in tensors]
    lines += [printing.child.format(name=name, module=to_string(child)) for name, child in named_children(module)]
    return f"{type(module).__name__}(\n" + "".join(f"{_indented(line, 4)}\n" for line in lines) + ")"


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.split("\n"))


def save(module: Module, path: PathLike[str] | str) -> None:
    """Write the state dict as NumPy's .npz, bfloat16 widened to float32."""
    with ZipFile(fspath(path), "w") as archive:  # not by savez, which takes some names for its arguments
        for key, tensor in state_dict(module).items():
            values = tensor.numpy()
            with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                wide = values.astype(np.float32) if tensor.dtype.name == "bfloat16" else values
                np.lib.format.write_array(entry, wide, allow_pickle=False)


def load(module: Module, path: PathLike[str] | str) -> None:
    """Take over the values that ``save`` wrote. The file is data only: pickled objects in it are refused."""
    file = fspath(path)
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            state = {key: archive[key] for key in archive.files}
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen kinds of what is not what it says
        raise ValueError(f"{file}: expected a .npz file that save wrote: {error}") from None
    if not state.keys() & state_dict(module).keys():
        raise ValueError(f"{file}: expected tensors of {type(module).__name__}, found {', '.join(state) or 'none'}")
    load_state_dict(module, state, strict=False)
