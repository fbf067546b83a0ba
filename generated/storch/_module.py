# Generated from specs/storch/ by `normspec generate`. Edit the specs, never this file.
"""The modules of storch: names for what every module can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from normspec import runtime
from normspec.runtime import DType, DTypeLike, ListView, MapView, ModuleT, StateDict
from normspec.runtime.operators import module as _module
from normspec.storch._dialect import DIALECT, Parameter, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

_SPELLING = {
    "load": {"path": "inputArchive"},
    "load_state_dict": {"state": "stateDict"},
    "register_module": {"module": "child", "name": "n"},
    "register_buffer": {"tensor": "t", "name": "n"},
    "register_parameter": {"tensor": "t", "requires_grad": "requiresGrad", "name": "n"},
    "save": {"path": "outputArchive"},
    "train": {"mode": "on"},
}


class Module(runtime.Module):
    """A callable that keeps tensors and other modules under names."""

    _dialect = DIALECT
    _tensor_type = Tensor
    _parameter_type = Parameter
    _spelling = _SPELLING

    def eval(self) -> None:
        """Sets evaluation mode."""
        _module.evaluate(self)

    @property
    def isTraining(self) -> bool:
        """Whether the module is in training mode."""
        return _module.is_training(self)

    is_training = isTraining

    @runtime.twins(inputArchive="input_archive")
    def load(self, inputArchive: PathLike[str] | str) -> None:
        """Takes over the values of a file that ``save`` wrote; data only, nothing in it is run.

        Parameters
        ----------
        inputArchive : PathLike
            The file, in place of an InputArchive. Also spelled ``input_archive``.
        """
        _module.load(self, path=inputArchive)

    @runtime.twins(stateDict="state_dict")
    def loadStateDict(self, stateDict: Mapping[str, Tensor]) -> None:
        """Copies the values of a state dict into the tensors of the same names. Never strict: unknown names are
        ignored, missing ones keep their values.

        Parameters
        ----------
        stateDict : Mapping[str, Tensor]
            Tensors by name. Also spelled ``state_dict``.
        """
        _module.load_state_dict(self, state=stateDict, strict=False)

    load_state_dict = loadStateDict

    def stateDict(self) -> StateDict[Tensor]:
        """Parameters and buffers by name. The document's page has loadStateDict alone; what it takes, this
        gives.

        Returns
        -------
        StateDict[Tensor]
        """
        return _module.state_dict(self)

    state_dict = stateDict

    @property
    def modules(self) -> ListView[Module]:
        """The modules inside this one, without this one."""
        return ListView(lambda recurse: _module.descendants(self, recurse=recurse))

    @property
    def namedBuffers(self) -> MapView[Tensor]:
        """The buffers, tensors that are kept but not learned, with their names."""
        return MapView(lambda recurse: _module.named_buffers(self, recurse=recurse))

    named_buffers = namedBuffers

    @property
    def namedChildren(self) -> MapView[Module]:
        """The modules immediately inside this one, with their names."""
        return MapView(lambda recurse: _module.named_children(self))

    named_children = namedChildren

    @property
    def namedModules(self) -> MapView[Module]:
        """This module, named "", and all inside it, with their paths."""
        return MapView(lambda recurse: _module.named_modules(self))

    named_modules = namedModules

    @property
    def namedParameters(self) -> MapView[Tensor]:
        """The parameters with their names."""
        return MapView(lambda recurse: _module.named_parameters(self, recurse=recurse))

    named_parameters = namedParameters

    @property
    def parameters(self) -> ListView[Tensor]:
        """The parameters."""
        return ListView(lambda recurse: _module.parameters(self, recurse=recurse))

    def register(self, child: ModuleT, n: str = "module") -> ModuleT:
        """Keeps a module inside this one.

        Parameters
        ----------
        child : ModuleT
            The module.
        n : str, default "module"
            Its name.

        Returns
        -------
        ModuleT
        """
        return _module.register_module(self, name=n, module=child)

    def registerBuffer(self, t: Tensor | None, n: str = "buffer") -> Tensor | None:
        """Keeps a tensor that is not learned.

        Parameters
        ----------
        t : Tensor | None
            The tensor, None for a name without one.
        n : str, default "buffer"
            Its name.

        Returns
        -------
        Tensor | None
        """
        return _module.register_buffer(self, name=n, tensor=t)

    register_buffer = registerBuffer

    def registerModule(self, child: ModuleT, n: str = "module") -> ModuleT:
        """Keeps a module inside this one.

        Parameters
        ----------
        child : ModuleT
            The module.
        n : str, default "module"
            Its name.

        Returns
        -------
        ModuleT
        """
        return _module.register_module(self, name=n, module=child)

    register_module = registerModule

    @runtime.twins(requiresGrad="requires_grad")
    def registerParameter(self, t: Tensor | None, requiresGrad: bool = True, n: str = "parameter") -> Tensor | None:
        """Keeps a tensor as a parameter.

        Parameters
        ----------
        t : Tensor | None
            The tensor, None for a name without one.
        requiresGrad : bool, default True
            Whether gradients of it are wanted. Also spelled ``requires_grad``.
        n : str, default "parameter"
            Its name.

        Returns
        -------
        Tensor | None
        """
        return _module.register_parameter(self, name=n, tensor=t, requires_grad=requiresGrad)

    register_parameter = registerParameter

    @runtime.twins(outputArchive="output_archive")
    def save(self, outputArchive: PathLike[str] | str) -> None:
        """Writes the state dict to a file (NumPy's .npz, no pickle).

        Parameters
        ----------
        outputArchive : PathLike
            The file, in place of an OutputArchive. Also spelled ``output_archive``.
        """
        _module.save(self, path=outputArchive)

    @property
    def summarize(self) -> str:
        """The module and the modules inside it, one a line."""
        return _module.summarize(self)

    def to(self, device: str | DTypeLike | None) -> Self:
        """Moves parameters and buffers to a device, and converts those that are floating-point to an element
        type.

        Parameters
        ----------
        device : device | dtype | None
            Where to; an element type here is taken as ``dtype``.

        Returns
        -------
        Self
        """
        return _module.to(self, device=device, dtype=None)

    def toString(self) -> str:
        """The text that the module prints as.

        Returns
        -------
        str
        """
        return _module.to_string(self)

    to_string = toString

    def train(self, on: bool = True) -> None:
        """Sets the mode, here and in every module inside.

        Parameters
        ----------
        on : bool, default True
            True for training, False for evaluation.
        """
        _module.train(self, mode=on)

    def hasBias(self) -> bool:
        """Whether this module or one inside it adds a learned shift.

        Returns
        -------
        bool
        """
        return _module.has_bias(self)

    has_bias = hasBias

    def zeroGrad(self) -> None:
        """Forgets the gradients of the parameters, as the document's optimizers do; its modules leave that to
        them.
        """
        _module.zero_grad(self, set_to_none=True)

    zero_grad = zeroGrad


class HasParams(Module):
    """A module whose parameters have one element type, ParamType."""

    @property
    def paramType(self) -> DType:
        """Element type of the parameters."""
        return _module.parameter_type(self)

    param_type = paramType


class HasWeight(Module):
    """A module that has a ``weight``."""


class TensorModule(Module):
    """A module that is a function from a tensor to a tensor."""

    def apply(self, t: object) -> Any:
        """Applies the module to a tensor; given a function instead, applies that to every module inside and then
        to this one.

        Parameters
        ----------
        t : object
            A tensor to apply the module to, or a function to apply to every module inside and to this one.

        Returns
        -------
        Any
        """
        return _module.apply_or_call(self, argument=t)

    def andThen(self, g: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function that applies this module and then another function.

        Parameters
        ----------
        g : Callable[[Any], Any]
            What to apply afterwards.

        Returns
        -------
        Callable[[Any], Any]
        """
        return _module.and_then(self, function=g)

    and_then = andThen

    def compose(self, g: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function that applies another function and then this module.

        Parameters
        ----------
        g : Callable[[Any], Any]
            What to apply first.

        Returns
        -------
        Callable[[Any], Any]
        """
        return _module.compose(self, function=g)
