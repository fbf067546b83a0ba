# Generated from specs/tripy/ by `normspec generate`. Edit the specs, never this file.
"""The modules of tripy: names for what every module can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from normspec import runtime
from normspec.runtime import StateDict
from normspec.runtime.operators import module as _module
from normspec.tripy._dialect import DIALECT, Parameter, Tensor

_SPELLING = {
    "load_state_dict": {"state": "state_dict"},
}


class Module(runtime.Module):
    """A callable that keeps tensors and other modules under names."""

    _dialect = DIALECT
    _tensor_type = Tensor
    _parameter_type = Parameter
    _spelling = _SPELLING

    def state_dict(self) -> StateDict[Tensor]:
        """Returns a dictionary mapping names to parameters in the module. This will recurse over any nested
        child modules.

        Returns
        -------
        StateDict[Tensor]
        """
        return _module.state_dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> tuple[set[str], set[str]]:
        """Loads parameters from the provided state_dict into the current module, as in the later document; the
        earlier one does not show it.

        Parameters
        ----------
        state_dict : Mapping[str, Tensor]
            A dictionary mapping names to parameters.
        strict : bool, default True
            If True, keys in state_dict must exactly match those in this module. If not, an error will be
            raised.

        Returns
        -------
        tuple[set[str], set[str]]
        """
        return _module.load_state_dict(self, state=state_dict, strict=strict).as_sets()

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Returns an iterator over immediate children of this module, as in the later document.

        Returns
        -------
        Iterator[tuple[str, Module]]
        """
        return _module.named_children(self)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Returns an iterator over names and parameters, as in the later document.

        Returns
        -------
        Iterator[tuple[str, Tensor]]
        """
        return _module.named_parameters(self, recurse=False)
