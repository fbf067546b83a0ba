# Generated from specs/nvtripy/ by `normspec generate`. Edit the specs, never this file.
"""The modules of nvtripy: names for what every module can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from normspec import runtime
from normspec.nvtripy._dialect import DIALECT, Parameter, Tensor
from normspec.runtime import StateDict
from normspec.runtime.operators import module as _module

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
            A dictionary mapping names to parameters.

        Examples
        --------
        >>> class MyModule(tp.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.param = tp.ones((2,), dtype=tp.float32)
        ...         self.linear1 = tp.Linear(2, 2)
        ...         self.linear2 = tp.Linear(2, 2)
        >>> module = MyModule()
        >>> state_dict = module.state_dict()
        >>> state_dict
        {
            param: tensor([1.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
            linear1.weight: tensor(
                [[0.0000, 1.0000],
                 [2.0000, 3.0000]],
                dtype=float32, loc=cpu:0, shape=(2, 2)),
            linear1.bias: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
            linear2.weight: tensor(
                [[0.0000, 1.0000],
                 [2.0000, 3.0000]],
                dtype=float32, loc=cpu:0, shape=(2, 2)),
            linear2.bias: tensor([0.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,)),
        }
        """
        return _module.state_dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> tuple[set[str], set[str]]:
        """Loads parameters from the provided state_dict into the current module. This will recurse over any
        nested child modules. See also ``state_dict()``.

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
            A tuple of two sets of strings representing: missing_keys: keys that are expected by this module
            but not provided in state_dict. unexpected_keys: keys that are not expected by this module but
            provided in state_dict.

        Examples
        --------
        >>> # Using the `module` and `state_dict` from the `state_dict()` example:
        >>> print(f"Before: {module.param}")
        Before: tensor([1.0000, 1.0000], dtype=float32, loc=cpu:0, shape=(2,))
        >>> state_dict["param"] = tp.zeros((2,), dtype=tp.float32)
        >>> module.load_state_dict(state_dict)
        >>> print(f"After: {module.param}")
        After: tensor([0.0000, 0.0000], dtype=float32, loc=cpu:0, shape=(2,))
        """
        return _module.load_state_dict(self, state=state_dict, strict=strict).as_sets()

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Returns an iterator over immediate children of this module, yielding tuples containing the name of the
        child module and the child module itself.

        Returns
        -------
        Iterator[tuple[str, Module]]
            An iterator over tuples containing the name of the child module and the child module itself.

        Examples
        --------
        >>> class StackedLinear(tp.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear1 = tp.Linear(2, 2)
        ...         self.linear2 = tp.Linear(2, 2)
        >>> stacked_linear = StackedLinear()
        >>> for name, module in stacked_linear.named_children():
        ...     print(f"{name}: {type(module).__name__}")
        linear1: Linear
        linear2: Linear
        """
        return _module.named_children(self)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters with their names.

        Returns
        -------
        Iterator[tuple[str, Tensor]]
            An iterator over tuples containing the name of a parameter and the parameter itself.

        Examples
        --------
        >>> class MyModule(tp.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.alpha = tp.Tensor(1)
        ...         self.beta = tp.Tensor(2)
        >>> linear = MyModule()
        >>> for name, parameter in linear.named_parameters():
        ...     print(f"{name}: {parameter}")
        alpha: tensor(1, dtype=int32, loc=cpu:0, shape=())
        beta: tensor(2, dtype=int32, loc=cpu:0, shape=())
        """
        return _module.named_parameters(self, recurse=False)
