"""What every class promises, a function each; each raises AssertionError where the promise is broken.

The clauses are made of the specs alone, so a new class or dialect is held to all of them as soon as it is written.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from normspec import runtime
from normspec.codegen.model import Argument, Callable_, Condition, Kept
from normspec.runtime import DType, Tensor
from normspec.runtime.dtypes import at_least_float32

from . import examples as documents
from .cases import FLOATS, SIZES, TOLERANCE, Case, resolve

SLOPES = ("scale", "shift")
Clause = Callable[[Case], None]


class Omitted(Exception):
    """A clause does not apply; the message says why."""


def signature(case: Case) -> None:
    """Parameters in order, with types, defaults and both spellings."""
    check_signature(case.cls, case.one.arguments, skip=0)
    for one in case.one.arguments:
        if one.twin and one.default is None:
            case.cls(**{one.twin: 3})
            with _raises(TypeError, f"{one.name!r} and {one.twin!r}"):
                case.cls(**{one.twin: 3, one.name: 3})


def attributes(case: Case) -> None:
    """Attributes with their shape, dtype, initial value and None rule, in every configuration."""
    for arguments in case.configurations():
        module = case.cls(**{**case.required, **arguments})
        given = {one.name: one.value for one in case.one.arguments} | case.required | arguments
        for one in case.one.attributes:
            value = getattr(module, one.name)
            assert given[one.name] in (value, getattr(value, "name", None)), one.name  # an element type by its name
            assert one.twin is None or getattr(module, one.twin) == value, one.twin
            if one.twin is not None:
                setattr(module, one.twin, value)
        for state in case.one.state:
            tensor = getattr(module, state.name)
            assert state.twin is None or getattr(module, state.twin) is tensor, state.twin
            assert (tensor is not None) == case.exists(state, arguments), f"{state.name} with {arguments}"
            if tensor is not None:
                _check_initial(case, state, tensor)
                _check_twin_sets(state, module, tensor)
                with _raises(None, case.one.name):
                    setattr(module, state.name, "text")


def _check_twin_sets(state: Kept, module: Any, tensor: Any) -> None:
    if state.twin is not None:
        other = tensor.detach()
        setattr(module, state.twin, other)
        assert np.shares_memory(getattr(module, state.name).numpy(), other.numpy()), state.twin
        setattr(module, state.name, tensor)


def _check_initial(case: Case, state: Kept, tensor: Any) -> None:
    canonical = case.canonical({})
    shape = tuple(canonical[word] for word in state.shape)
    count = int(np.prod(shape, dtype=int))
    start = {"zeros": np.zeros(count), "zero": np.zeros(count), "ones": np.ones(count), "arange": np.arange(count)}
    assert isinstance(tensor, case.package._dialect.Tensor)
    assert tensor.shape == shape, f"{state.name}: {tensor.shape}"
    assert tensor.dtype.name == _state_dtype(state, "float32"), f"{state.name}: {tensor.dtype}"
    np.testing.assert_array_equal(tensor.numpy(), start[state.init].reshape(shape), err_msg=state.name)
    assert tensor.requires_grad == (state.kind == "parameter" and case.dialect.rules.gradients), state.name


def _state_dtype(state: Kept, dtype: str) -> str:
    return {"parameter": dtype, "at_least_float32": at_least_float32(dtype)}.get(state.dtype, state.dtype)


def supertypes(case: Case) -> None:
    """Supertypes, by isinstance."""
    module, types = case.make(), case.package._module
    for name in (*case.one.supertypes, "Module"):
        assert isinstance(module, getattr(types, name)), name
    assert isinstance(module, runtime.Module)


def docstring(case: Case) -> None:
    """The sections of the docstring, and every name, fact and deviation in its place."""
    doc = inspect.cleandoc(case.cls.__doc__)
    parts = re.split(r"\n\n(?=[A-Z][A-Za-z ]+\n-+\n)", doc)
    sections = {part.split("\n")[0]: " ".join(part.split()) for part in parts[1:]}
    assert case.one.summary in " ".join(parts[0].split())
    assert case.one.equation in doc
    for one in case.one.arguments:
        assert f"{one.name} : {one.type}" in sections["Parameters"], one.name
        assert " ".join(one.doc.split()) in sections["Parameters"], one.name
    for kept in case.one.state:
        assert f"{kept.name} : {kept.type}" in sections["Attributes"], kept.name
        assert f"``{kept.name}`` ({kept.kind})" in sections["State"], kept.name
    assert case.one.shapes in sections["Shape"]
    for condition in case.one.raises:
        assert str(condition.raises) in sections["Raises"]
        assert condition.doc in sections["Raises"]
    for text in (*case.one.notes, *(deviation.here for deviation in case.one.deviations), *case.one.omits.values()):
        assert " ".join(text.split()) in sections["Notes"], text
    assert " ".join(case.one.origin.split()) in sections["References"]
    assert ("Examples" in sections) == bool(case.one.examples)


def state_dict(case: Case) -> None:
    """Keys, order, shapes and dtypes of the state dict; of a module inside another, with its path."""
    name = _method(case, "module.state_dict")
    for arguments in case.configurations():
        module = case.make(**arguments)
        wanted = [one.name for one in case.one.state if case.exists(one, arguments)]
        found = getattr(module, name)()
        assert list(found) == wanted, f"{list(found)} with {arguments}"
        for key, tensor in found.items():
            own = getattr(module, key)
            if case.dialect.rules.state_dict == "kept":
                assert tensor is own, key
            else:
                assert not tensor.learned and not tensor.requires_grad, key
                assert np.shares_memory(tensor.numpy(), own.numpy()), key
        outer = case.package._module.Module()
        outer.inner = module
        assert list(getattr(outer, name)()) == [f"inner.{key}" for key in wanted]
        if case.dialect.rules.containers:
            outer.several, outer.named = [case.make(), case.make()], {"first": case.make()}
            keys = [key.rpartition(".")[0] for key in getattr(outer, name)()]
            assert list(dict.fromkeys(keys)) == ["inner", "several.0", "several.1", "named.first"]


def load_state_dict(case: Case) -> None:
    """What loading takes, refuses and returns; a load that is refused has changed nothing."""
    give, take = _method(case, "module.state_dict"), _spec(case, "module.load_state_dict")
    source, target = case.make(), case.cls(**case.required)
    state = getattr(source, give)()
    returned = getattr(target, take.name)(state)
    _check_returned(take, returned, [], [])
    for key, tensor in getattr(target, give)().items():
        np.testing.assert_array_equal(tensor.numpy(), state[key].numpy(), err_msg=key)
        assert (tensor is state[key]) == (case.dialect.rules.load == "replace"), key
    fewer = dict(list(state.items())[1:]) | {"foreign": next(iter(state.values()))}
    missing = next(iter(state))
    before = {key: tensor.numpy().copy() for key, tensor in getattr(target, give)().items()}
    strict = next((one.value for one in take.arguments if one.canonical == "strict"), None)
    if strict:
        with _raises(None, missing):
            getattr(target, take.name)(fewer)
        returned = getattr(target, take.name)(fewer, False)
    else:
        returned = getattr(target, take.name)(fewer)
    _check_returned(take, returned, [missing], ["foreign"])
    for key, tensor in getattr(target, give)().items():
        np.testing.assert_array_equal(tensor.numpy(), before[key], err_msg=key)
    for argument in (one.name for one in take.arguments if one.canonical == "state"):
        with _raises(None, f"\n{case.one.name}: {argument}: expected a mapping"):
            getattr(target, take.name)(list(state))
    plain = {key: Tensor(tensor.numpy()) for key, tensor in state.items()}
    getattr(target, take.name)(plain)
    assert list(getattr(target, give)()) == list(state)
    _check_files(case, source, state)


def _check_returned(take: Callable_, returned: Any, missing: list[str], unexpected: list[str]) -> None:
    if take.result == "nothing":
        assert returned is None
    elif take.result == "sets":
        assert returned == (set(missing), set(unexpected))
    else:
        assert returned == (missing, unexpected)


def _check_files(case: Case, source: Any, state: Mapping[str, Any]) -> None:
    methods = {f"{one.operator}.{one.function}": one.name for one in case.dialect.methods}
    if "module.save" not in methods:
        return
    with tempfile.TemporaryDirectory() as folder:
        getattr(source, methods["module.save"])(Path(folder) / "state.npz")
        target = case.cls(**case.required)
        getattr(target, methods["module.load"])(Path(folder) / "state.npz")
    for key in state:
        np.testing.assert_array_equal(getattr(target, key).numpy(), state[key].numpy(), err_msg=key)


def output(case: Case) -> None:
    """Values, dtype, layout and type of the output, in training and evaluation, in every configuration."""
    _run(case, "float32", "cpu", _check_output)


def statistics(case: Case) -> None:
    """Running statistics and counter after every step; an empty batch and a refused one change nothing."""
    if case.one.operator != "batch_norm":
        raise Omitted("keeps no running statistics")
    _run(case, "float32", "cpu", _check_statistics)
    for arguments in case.configurations():
        module = case.make(**arguments)
        kept = {one.name: getattr(module, one.name) for one in case.one.state}
        before = {name: tensor.numpy().copy() for name, tensor in kept.items() if tensor is not None}
        for shape in case.shapes():
            assert module(np.zeros((0, *shape[1:]), np.float32)).shape == (0, *shape[1:])
            with _raises(None, case.one.name):
                module(np.zeros((shape[0], shape[1] + 1, *shape[2:]), np.float32))
        for name, values in before.items():
            np.testing.assert_array_equal(getattr(module, name).numpy(), values, err_msg=name)


def gradients(case: Case) -> None:
    """Gradients of input, scale and shift, added up until told to forget, in every mode, configuration and shape."""
    if case.one.operator != "batch_norm":
        raise Omitted("is differentiated in tests of its own")
    dtype = "float64" if case.spoken("dtype") else "float32"
    tolerance = {"float64": 1e-11, "float32": 1e-5}[dtype]
    forget = next((one.name for one in case.dialect.methods if one.function == "zero_grad"), None)
    for arguments in case.configurations():
        for shape in case.shapes():
            module = case.make(dtype, **arguments)
            x = case.package._dialect.Tensor(case.input(shape, dtype)).requires_grad_()
            learned = {one.canonical: getattr(module, one.name) for one in case.one.state}
            wanted = {name: one.requires_grad_() for name, one in learned.items() if name in SLOPES and one is not None}
            for step, training in enumerate((True, False)):
                case.set_mode(module, training)
                dy = case.input(shape, dtype, seed=step + 1)
                expected = case.oracle(module, **arguments).gradients(x.numpy(), dy, training)
                for times in (1, 2):
                    module(x).backward(dy)
                    for name, one in {"x": x, **wanted}.items():
                        found, slope = one.grad.numpy(), times * expected[name]
                        np.testing.assert_allclose(found, slope, rtol=tolerance, atol=tolerance, err_msg=name)
                x.grad = None
                if forget is not None:
                    getattr(module, forget)()
                for one in wanted.values():
                    assert forget is None or one.grad is None
                    one.grad = None


def dtypes(case: Case) -> None:
    """Every element type of parameters and input; statistics in float32 at least."""
    for dtype in FLOATS:
        if case.spoken("dtype") and hasattr(case.package, dtype):
            module = case.make(dtype)
            for state in case.one.state:
                assert getattr(module, state.name).dtype.name == _state_dtype(state, dtype), state.name
            _run(case, dtype, "cpu", _check_output)
        if case.one.operator == "batch_norm" and case.dialect.rules.input_dtype != "parameter" and dtype != "float64":
            x = case.input(next(case.shapes()), dtype)
            _compare(case.make()(x), case.oracle(case.make())(x, True), dtype)


def devices(case: Case) -> None:
    """The same on every device there is beside the CPU."""
    if case.one.operator != "batch_norm":
        raise Omitted("runs on the CPU alone, as much as the examples need")
    from normspec.runtime.kernels import cuda

    if not cuda.available():
        raise Omitted("no CUDA device here; the simulator runs this clause in the tests")
    _run(case, "float32", "cuda", _check_output)
    _run(case, "float32", "cuda", _check_statistics)


Check = Callable[[Case, Any, Any, Any, npt.NDArray[Any]], None]


def _run(case: Case, dtype: str, device: str, check: Check) -> None:
    """Two training steps and one of evaluation, beside the oracle, for every configuration and shape."""
    if case.one.operator != "batch_norm":
        if case.one.operator not in ORACLES:
            raise Omitted(f"there is no oracle of {case.one.operator} yet")
        ORACLES[case.one.operator](case, dtype)
        return
    for arguments in case.configurations():
        for shape in case.shapes():
            module = case.make(dtype, **arguments)
            oracle = case.oracle(module, **arguments)
            if device != "cpu":
                runtime_to(module, device)
            for step, training in enumerate((True, True, False)):
                case.set_mode(module, training)
                x = case.input(shape, dtype, seed=step)
                y = module(case.package._dialect.Tensor(x, device=device))
                check(case, module, oracle, y, oracle(x, training).astype(np.float64))
                assert y.device.startswith(device)


def runtime_to(module: Any, device: str) -> None:
    """Move a module, whether or not its dialect has a word for it."""
    from normspec.runtime.operators.module import to

    to(module, device, None)


def _check_output(case: Case, module: Any, oracle: Any, y: Any, wanted: npt.NDArray[Any]) -> None:
    assert type(y) is case.package._dialect.Tensor
    _compare(y.numpy(), wanted, y.dtype.name)


def _compare(y: Any, wanted: npt.NDArray[Any], dtype: str) -> None:
    assert y.dtype == DType(dtype)
    assert y.shape == wanted.shape
    np.testing.assert_allclose(np.asarray(y).astype(np.float64), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def _check_statistics(case: Case, module: Any, oracle: Any, y: Any, wanted: npt.NDArray[Any]) -> None:
    for state in case.one.state:
        kept = getattr(module, state.name)
        if state.canonical in ("mean", "variance", "count") and kept is not None:
            expected = getattr(oracle, state.canonical)
            np.testing.assert_allclose(kept.numpy(), expected, rtol=3e-7, atol=1e-7, err_msg=state.name)


def _check_linear(case: Case, dtype: str) -> None:
    module = case.make(dtype)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(DType(dtype).numpy)
    canonical = {state.canonical: getattr(module, state.name).numpy().astype(np.float64) for state in case.one.state}
    _compare(module(x), x.astype(np.float64) @ canonical["weight"].T + canonical["shift"], dtype)


ORACLES: dict[str, Callable[[Case, str], None]] = {"linear": _check_linear}  # that check outputs of other operators


def errors(case: Case) -> None:
    """The exception and the words for every misuse, naming the class and what was expected and found."""
    for condition in case.dialect.conditions:
        if condition.raises and condition.name in _conditions(case) - ELSEWHERE:
            provoke = PROVOKE[condition.name]
            try:
                provoke(case)
            except Exception as error:
                _check_error(case, condition, error)
            else:
                raise AssertionError(f"{condition.name}: nothing was raised")

    for rank in range(1, 7):
        if case.one.operator == "batch_norm" and not any(len(shape) == rank for shape in case.shapes()):
            unlimited = rank > 2 and any("..." in pattern for pattern in case.one.inputs)
            with contextlib.nullcontext() if unlimited else _raises(None, "shape"):
                case.make()(np.ones((2, SIZES["C"], 2, 2, 2, 2)[:rank], np.float32))


ELSEWHERE = {"device_mixed", "statistics_gradient"}  # on a device; in interop.torch


def _conditions(case: Case) -> set[str]:
    """The conditions of the class, and of modules where the dialect has the method that they are about."""
    functions = {f"{one.operator}.{one.function}" for one in case.dialect.methods}
    found = {one.name for one in case.one.conditions}
    found |= {"mode_type"} if "module.train" in functions else set()
    found |= {"device"} if "module.to" in functions else set()
    if "module.load_state_dict" in functions:
        found |= {
            "load",
            "missing_keys",
            "unexpected_keys",
            "state_shape",
            "state_dtype",
            "state_type",
            "state_mapping",
        }
    return found | {"assign", "constant"}


def _check_error(case: Case, condition: Condition, error: Exception) -> None:
    package, name = case.package._dialect, condition.raises or ""
    kind = getattr(package, name, None) or getattr(__import__("builtins"), name)
    assert type(error) is kind, f"{condition.name}: {type(error).__name__}: {error}"
    text = re.sub(r"\\{(\w+)\\}", "(.+)", re.escape(condition.text or ""))
    ours = rf"\n{case.one.name}: (?P<argument>.+): expected .+, found .+"
    whole = rf"(?s).*{text}.*{ours}" if condition.phase == "load" else text + ours
    found = re.fullmatch(whole, str(error))
    assert found, f"{condition.name}: {error}"
    assert found["argument"] in _arguments(case, condition), f"{condition.name}: {error}"


def _arguments(case: Case, condition: Condition) -> set[str]:
    """The arguments that an error may be about: those of a method, or of the class and its call, and its tensors."""
    method = {"load": "module.load_state_dict", "mode": "module.train", "move": "module.to"}.get(condition.phase)
    if method:
        return {one.name for one in _spec(case, method).arguments}
    named: list[Argument | Kept] = [*case.one.arguments, *case.one.state]
    return {case.one.input, *(one.name for one in named)}


def _wide(case: Case, shape: tuple[int, ...] = (), dtype: str = "float32") -> npt.NDArray[Any]:
    return np.ones(shape or next(case.shapes()), dtype)


def _ones_a_feature(case: Case) -> tuple[int, ...]:
    shape = next(case.shapes())
    return (1, shape[1], *(1 for _ in shape[2:]))


def _load(case: Case, change: Callable[[dict[str, Any]], object]) -> None:
    module = case.make()
    state = dict(getattr(module, _method(case, "module.state_dict"))())
    change(state)
    getattr(module, _method(case, "module.load_state_dict"))(state)


def _widened(state: dict[str, Any]) -> Tensor:
    return Tensor(np.ones(state[_first(state)].shape))


def _first(state: dict[str, Any]) -> str:
    return next(iter(state))


class Unshared:
    """An array of a library that does not give it away."""

    def __dlpack__(self, **_: object) -> Any:
        raise BufferError("it is not given away")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def _kept(case: Case, canonical: str, change: Callable[[Any, str], object]) -> object:
    """Call a module after a change to one of its tensors."""
    module, state = case.make(), next(one for one in case.one.state if one.canonical == canonical)
    change(module, state.name)
    return module(_wide(case))


def _without(case: Case, canonical: str) -> Any:
    """A module that lacks one of its tensors."""
    module = case.make()
    setattr(module, next(one.name for one in case.one.state if one.canonical == canonical), None)
    return module


PROVOKE: dict[str, Callable[[Case], object]] = {
    "features_type": lambda case: case.cls(**{cast(str, case.spoken("features")): 2.5}),
    "features_negative": lambda case: case.cls(**{cast(str, case.spoken("features")): -1}),
    "epsilon_type": lambda case: _make_with(case, "epsilon", "tiny"),
    "update_rate_type": lambda case: _make_with(case, "update_rate", "fast"),
    "dtype_type": lambda case: _make_with(case, "dtype", "real"),
    "dtype_float": lambda case: _make_with(case, "dtype", "int32"),
    "input_type": lambda case: case.make()("text"),
    "rank": lambda case: case.make()(_wide(case, (3,))),
    "features": lambda case: case.make()(_wide(case, (4, 7, *next(case.shapes())[2:]))),
    "input_float": lambda case: case.make()(_wide(case, dtype="int64")),
    "input_dtype": lambda case: case.make()(_wide(case, dtype="float64")),
    "input_memory": lambda case: case.make()(Unshared()),
    "vector_shape": lambda case: _kept(case, "scale", lambda m, name: setattr(getattr(m, name), "array", np.ones(5))),
    "vector_dtype": lambda case: _kept(case, "scale", lambda m, name: setattr(m, name, Tensor(np.ones(3, np.int64)))),
    "statistics_missing": lambda case: _evaluated(case, _without(case, "variance"))(_wide(case)),
    "statistics_single": lambda case: _without(case, "variance")(_wide(case)),
    "read_only": lambda case: _kept(case, "mean", lambda m, name: getattr(m, name).array.setflags(write=False)),
    "size_type": lambda case: case.cls(**{**case.required, next(iter(case.required)): 2.5}),
    "size_negative": lambda case: case.cls(**{**case.required, next(iter(case.required)): -1}),
    "width": lambda case: case.make()(_wide(case, (4, 7))),
    "operand_float": lambda case: case.make()(_wide(case, dtype="int64")),
    "operand_dtype": lambda case: case.make()(_wide(case, dtype="float64")),
    "single_value": lambda case: case.make()(_wide(case, _ones_a_feature(case))),
    "epsilon": lambda case: _make_with(case, "epsilon", 0.0)(_wide(case)),
    "epsilon_negative": lambda case: _evaluated(case, _make_with(case, "epsilon", -1.0))(_wide(case)),
    "mode_type": lambda case: getattr(case.make(), _method(case, "module.train"))(1),
    "missing_keys": lambda case: _load(case, lambda state: state.pop(_first(state))),
    "unexpected_keys": lambda case: _load(case, lambda state: state.update(foreign=state[_first(state)])),
    "load": lambda case: _load(case, lambda state: state.update({_first(state): Tensor([1.0])})),
    "state_shape": lambda case: _load(case, lambda state: state.update({_first(state): Tensor([1.0])})),
    "state_dtype": lambda case: _load(case, lambda state: state.update({_first(state): _widened(state)})),
    "state_mapping": lambda case: getattr(case.make(), _method(case, "module.load_state_dict"))([]),
    "state_type": lambda case: _load(case, lambda state: state.update({_first(state): [1.0, 1.0, 1.0]})),
    "assign": lambda case: setattr(case.make(), case.one.state[0].name, "text"),
    "constant": lambda case: setattr(case.make(), case.one.constants[0], 1),
    "device": lambda case: getattr(case.make(), _method(case, "module.to"))("nowhere"),
}


def _make_with(case: Case, canonical: str, value: Any) -> Any:
    return case.cls(**case.required, **{cast(str, case.spoken(canonical)): value})


def _evaluated(case: Case, module: Any) -> Any:
    case.set_mode(module, False)
    return module


def methods(case: Case) -> None:
    """The methods of the module, their signatures and both their spellings."""
    traits = {trait.name: trait for trait in case.dialect.traits}
    own = [
        *case.dialect.methods,
        *(one for name in case.one.supertypes if name in traits for one in traits[name].methods),
    ]
    for method in own:
        found = inspect.getattr_static(case.cls, method.name)
        if method.kind == "function":
            check_signature(getattr(case.cls, method.name), method.arguments, skip=1)
        else:
            assert isinstance(found, property), method.name
        if method.twin:
            assert inspect.getattr_static(case.cls, method.twin) is found, method.twin
    if case.one.operator == "batch_norm":
        _check_modes(case)


def _check_modes(case: Case) -> None:
    if "module.train" in {f"{one.operator}.{one.function}" for one in case.dialect.methods}:
        outer = case.package._module.Module()
        outer.inner = case.make()
        for training in (False, True):
            case.set_mode(outer, training)
            assert outer.inner.training is training
    has_bias = next((one.name for one in case.dialect.methods if one.function == "has_bias"), None)
    for arguments in case.configurations() if has_bias else ():
        module, shift = case.make(**arguments), next(one for one in case.one.state if one.canonical == "shift")
        assert getattr(module, cast(str, has_bias))() == case.exists(shift, arguments)


def functions(case: Case) -> None:
    """The functions that the documents use, with their signatures."""
    if not case.dialect.functions:
        raise Omitted("the documents use no functions")
    for one in case.dialect.functions:
        found = resolve(".".join(part for part in (case.dialect.name, one.module, one.name) if part))
        check_signature(found, one.arguments, skip=0)
        assert one.twin is None or resolve(f"{case.dialect.name}.{one.twin}") is found


def printing(case: Case) -> None:
    """How modules, tensors and element types print."""
    printing = case.dialect.printing
    for arguments in case.configurations():
        module = case.make(**arguments)
        assert repr(module) == str(module) == _printed(case, module, arguments)
    assert repr(case.package.float32) == printing.dtype.format(name="float32")
    tensor = case.package._dialect.Tensor([0.5, 1.0])
    wanted = printing.tensor.frame.format(
        data="[0.5000, 1.0000]",
        dtype=case.package.float32,
        device=printing.devices["cpu"],
        shape=(2,),
        size="[2]",
        extras="",
    )
    assert repr(tensor) == wanted


def _printed(case: Case, module: Any, arguments: Mapping[str, object]) -> str:
    given = {one.name: one.value for one in case.one.arguments} | case.required | dict(arguments)
    spoken = case.spoken("shifted")
    if spoken:  # torch prints whether there is a shift, not whether one was asked for
        given[spoken] = given[spoken] and case.canonical(arguments).get("affine", True)
    if case.dialect.printing.module == "arguments":
        return case.one.repr.format_map(given)
    tensors = [(one.name, getattr(module, one.name)) for one in case.one.state if case.exists(one, arguments)]
    told = ({"name": name, "shape": list(one.shape), "dtype": one.dtype} for name, one in tensors)
    lines = (f"    {case.dialect.printing.member.format_map(one)}\n" for one in told)
    return f"{case.one.name}(\n{''.join(lines)})"


def examples(case: Case) -> None:
    """The document's examples run and print what it prints."""
    own = [
        (case.one.name, "\n".join(f">>> {line}" for line in case.one.imports) + "\n" + one.code)
        for one in case.one.examples
    ]
    for method in case.dialect.methods:
        own += [(method.name, one.code) for one in method.examples]
    if not own:
        raise Omitted("the document has no example of it")
    names: dict[str, Any] = {}
    for line in case.one.imports:
        exec(line, names)
    for name, code in own:
        documents.run(code, names, f"{case.one.qualified}, {name}")


def check_signature(function: Any, arguments: tuple[Argument, ...], skip: int) -> None:
    """Hold a signature, but for so many parameters at its beginning, to what the spec says of it."""
    found = list(inspect.signature(function).parameters.values())[skip:]
    assert [one.name for one in found] == [one.name for one in arguments]
    for parameter, one in zip(found, arguments, strict=True):
        wanted = one.value if one.default is not None else inspect.Parameter.empty
        same = parameter.default == wanted or repr(parameter.default) == repr(wanted)
        assert same or getattr(parameter.default, "name", None) == wanted, f"{one.name}={parameter.default!r}"
        assert parameter.annotation == one.annotation, f"{one.name}: {parameter.annotation}"
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert keyword == (one.keyword or any(each.variadic for each in arguments[: arguments.index(one)])), one.name
        assert (parameter.kind is inspect.Parameter.VAR_POSITIONAL) == one.variadic, one.name


def _method(case: Case, does: str) -> str:
    return _spec(case, does).name


def _spec(case: Case, does: str) -> Callable_:
    for one in case.dialect.methods:
        if f"{one.operator}.{one.function}" == does:
            return one
    raise Omitted(f"the document has no {does.partition('.')[2]}")


class _raises:
    """A block that must raise, with words in its message; any exception will do where the kind is None."""

    def __init__(self, kind: type[Exception] | None, words: str) -> None:
        self.kind, self.words = kind or Exception, words

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        assert error is not None, f"nothing was raised that says {self.words}"
        assert isinstance(error, self.kind), f"{kind}: {error}"
        assert self.words in str(error), str(error)
        return True


CLAUSES: dict[str, Clause] = {
    one.__name__: one
    for one in (
        signature,
        attributes,
        supertypes,
        docstring,
        state_dict,
        load_state_dict,
        output,
        statistics,
        gradients,
        dtypes,
        devices,
        errors,
        methods,
        functions,
        printing,
        examples,
    )
}
