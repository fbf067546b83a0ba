# Generated from specs/lucid/ by `normspec generate`. Edit the specs, never this file.
"""The modules of lucid: names for what every module can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from normspec import runtime
from normspec.lucid._dialect import DIALECT, Parameter, Tensor
from normspec.runtime import DTypeLike, IncompatibleKeys, ModuleT, StateDict
from normspec.runtime.operators import module as _module

if TYPE_CHECKING:
    from typing_extensions import Self

_SPELLING = {
    "load_state_dict": {"state": "state_dict"},
    "apply": {"function": "fn"},
    "register_parameter": {"tensor": "param"},
}


class Module(runtime.Module):
    """A callable that keeps tensors and other modules under names."""

    _dialect = DIALECT
    _tensor_type = Tensor
    _parameter_type = Parameter
    _spelling = _SPELLING

    def state_dict(self) -> StateDict[Tensor]:
        """The tensors of this module and of those inside it, by name: parameters, then buffers.

        Returns
        -------
        StateDict[Tensor]
        """
        return _module.state_dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> IncompatibleKeys:
        """Takes over the values of a state dict, or nothing at all if something does not fit.

        Parameters
        ----------
        state_dict : Mapping[str, Tensor]
            Tensors by name.
        strict : bool, default True
            Whether the names must be exactly those of this module.

        Returns
        -------
        IncompatibleKeys
        """
        return _module.load_state_dict(self, state=state_dict, strict=strict)

    def named_parameters(self, *, recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their names.

        Parameters
        ----------
        recurse : bool, default True
            Whether to include those of the modules inside this one.

        Returns
        -------
        Iterator[tuple[str, Parameter]]
        """
        return _module.named_parameters(self, recurse=recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters.

        Parameters
        ----------
        recurse : bool, default True
            Whether to include those of the modules inside this one.

        Returns
        -------
        Iterator[Parameter]
        """
        return _module.parameters(self, recurse=recurse)

    def named_buffers(self, *, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers, tensors that are kept but not learned, with their names.

        Parameters
        ----------
        recurse : bool, default True
            Whether to include those of the modules inside this one.

        Returns
        -------
        Iterator[tuple[str, Tensor]]
        """
        return _module.named_buffers(self, recurse=recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, tensors that are kept but not learned.

        Parameters
        ----------
        recurse : bool, default True
            Whether to include those of the modules inside this one.

        Returns
        -------
        Iterator[Tensor]
        """
        return _module.buffers(self, recurse=recurse)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules immediately inside this one, with their names.

        Returns
        -------
        Iterator[tuple[str, Module]]
        """
        return _module.named_children(self)

    def children(self) -> Iterator[Module]:
        """The modules immediately inside this one.

        Returns
        -------
        Iterator[Module]
        """
        return _module.children(self)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, named "", and all inside it, with their paths.

        Returns
        -------
        Iterator[tuple[str, Module]]
        """
        return _module.named_modules(self)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it.

        Returns
        -------
        Iterator[Module]
        """
        return _module.modules(self)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode, here and in every module inside.

        Parameters
        ----------
        mode : bool, default True
            True for training, False for evaluation.

        Returns
        -------
        Self
        """
        return _module.train(self, mode=mode)

    def eval(self) -> Self:
        """Sets evaluation mode, here and in every module inside.

        Returns
        -------
        Self
        """
        return _module.evaluate(self)

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Applies a function to every module inside and then to this one.

        Parameters
        ----------
        fn : Callable[[Module], object]
            A function of a module.

        Returns
        -------
        Self
        """
        return _module.apply(self, function=fn)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the parameters, of this module and of those inside it.

        Parameters
        ----------
        set_to_none : bool, default True
            Whether a gradient becomes None; if not, zeros.
        """
        _module.zero_grad(self, set_to_none=set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Says whether gradients of the parameters are wanted, here and in every module inside.

        Parameters
        ----------
        requires_grad : bool, default True
            Whether they are.

        Returns
        -------
        Self
        """
        return _module.requires_grad_(self, requires_grad=requires_grad)

    def to(self, device: str | DTypeLike | None = None, dtype: DTypeLike | None = None) -> Self:
        """Moves parameters and buffers to a device, and converts those that are floating-point to an element
        type.

        Parameters
        ----------
        device : device | dtype | None, default None
            Where to; an element type here is taken as ``dtype``.
        dtype : dtype | None, default None
            Element type to convert to.

        Returns
        -------
        Self
        """
        return _module.to(self, device=device, dtype=dtype)

    def half(self) -> Self:
        """Converts parameters and buffers that are floating-point to float16.

        Returns
        -------
        Self
        """
        return _module.to(self, device=None, dtype="float16")

    def bfloat16(self) -> Self:
        """Converts parameters and buffers that are floating-point to bfloat16.

        Returns
        -------
        Self
        """
        return _module.to(self, device=None, dtype="bfloat16")

    def float(self) -> Self:
        """Converts parameters and buffers that are floating-point to float32.

        Returns
        -------
        Self
        """
        return _module.to(self, device=None, dtype="float32")

    def double(self) -> Self:
        """Converts parameters and buffers that are floating-point to float64.

        Returns
        -------
        Self
        """
        return _module.to(self, device=None, dtype="float64")

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Keeps a tensor as a parameter.

        Parameters
        ----------
        name : str
            Its name.
        param : Tensor | None
            The tensor, None for a name without one.
        """
        _module.register_parameter(self, name=name, tensor=param, requires_grad=True)

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Keeps a tensor that is not learned.

        Parameters
        ----------
        name : str
            Its name.
        tensor : Tensor | None
            The tensor, None for a name without one.
        """
        _module.register_buffer(self, name=name, tensor=tensor)

    def register_module(self, name: str, module: ModuleT) -> None:
        """Keeps a module inside this one.

        Parameters
        ----------
        name : str
            Its name.
        module : ModuleT
            The module.
        """
        _module.register_module(self, name=name, module=module)

    def add_module(self, name: str, module: ModuleT) -> None:
        """Keeps a module inside this one.

        Parameters
        ----------
        name : str
            Its name.
        module : ModuleT
            The module.
        """
        _module.register_module(self, name=name, module=module)


class _BatchNormBase(Module):
    """The base class of BatchNorm1d, BatchNorm2d and BatchNorm3d."""
