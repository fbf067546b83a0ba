"""The modules, and how those of a model become ours and torch's again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from .functional import tracked

ModelT = TypeVar("ModelT", bound=nn.Module)

BUFFERS = "running_mean", "running_var", "num_batches_tracked"


def _own(held: Mapping[str, Tensor | None], module: nn.Module, name: str) -> Any:
    """What the module has under a name, found faster than by ``__getattr__`` if nothing stands in its place."""
    return held[name] if name in held else getattr(module, name)


class _Ours(_BatchNorm):
    """The forward of ours; everything else is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize; in training, move the running statistics and count the batch, after it succeeded."""
        self._check_input_dim(input)
        mean, variance, count = (_own(self._buffers, self, name) for name in BUFFERS)
        counted = self.training and self.track_running_stats and count is not None
        rate = self.momentum
        if rate is None:
            rate = 1 / (int(count) + 1) if counted else 0.0
        moving = not self.training or self.track_running_stats
        return tracked(
            input,
            mean if moving else None,
            variance if moving else None,
            _own(self._parameters, self, "weight"),
            _own(self._parameters, self, "bias"),
            self.training or (mean is None and variance is None),
            rate,
            self.eps,
            count if counted else None,
        )


class BatchNorm1d(_Ours, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


class BatchNorm2d(_Ours, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


class BatchNorm3d(_Ours, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` with the kernels of normspec: the same arguments, parameters, buffers and state dict."""


OURS: dict[type, type] = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d, nn.BatchNorm3d: BatchNorm3d}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
REASONS = {
    nn.SyncBatchNorm: "it takes its statistics from all processes",
    _InstanceNorm: "it takes statistics of each sample, so it is no batch norm",
    _LazyNormBase: "it has no parameters before its first call: call the model once",
}


def replace_batch_norms(model: ModelT, strict: bool = True) -> ModelT:
    """Let every batch norm of a model compute with our kernels, in place.

    A module only changes its class: it stays the same object, with its parameters, buffers, hooks, mode, arguments
    and places in the model, so optimizers and references to it stay good. ``restore_batch_norms`` is the way back.

    Parameters
    ----------
    model : nn.Module
        A model that has ``torch.nn.BatchNorm1d``, ``2d`` or ``3d`` in it, or is one.
    strict : bool, default True
        Whether to raise, rather than warn, if something that normalizes cannot be replaced.

    Returns
    -------
    nn.Module
        The model itself.

    Raises
    ------
    TypeError
        Some modules cannot be replaced; each is named with the reason, and nothing was changed.
    """
    return _exchange("replace", model, OURS, _why_not, strict)


def restore_batch_norms(model: ModelT, strict: bool = True) -> ModelT:
    """Undo ``replace_batch_norms``: let torch compute again, with the weights and statistics as they are now.

    Parameters
    ----------
    model : nn.Module
        A model that has batch norms of ours in it, or is one.
    strict : bool, default True
        Whether to raise, rather than warn, if one of ours cannot be restored.

    Returns
    -------
    nn.Module
        The model itself.

    Raises
    ------
    TypeError
        Some modules cannot be restored; each is named with the reason, and nothing was changed.
    """
    return _exchange("restore", model, THEIRS, _why_not_back, strict)


def _exchange(
    verb: str, model: ModelT, classes: Mapping[type, type], why_not: Callable[[nn.Module], str | None], strict: bool
) -> ModelT:
    refused = {name: why for name, one in model.named_modules() if (why := why_not(one))}
    if refused:
        told = "".join(f"\n    {name or 'the model itself'}: {why}" for name, why in refused.items())
        if strict:
            raise TypeError(f"{verb}_batch_norms: cannot {verb} (strict=False leaves them as they are):{told}")
        warnings.warn(f"{verb}_batch_norms: left as they are:{told}", stacklevel=3)
    for one in model.modules():
        if type(one) in classes and "forward" not in vars(one):
            one.__class__ = classes[type(one)]
    return model


def _why_not_back(module: nn.Module) -> str | None:
    """Why a module of ours cannot be torch's again; None for all others."""
    name = type(module).__name__
    if type(module) in THEIRS:
        return f"{name} has a forward of its own" if "forward" in vars(module) else None
    if not isinstance(module, _Ours):
        return None
    parametrized = torch.nn.utils.parametrize.is_parametrized(module)
    return f"{name}: {'it is parametrized' if parametrized else 'it is a subclass of ours'}"


def _why_not(module: nn.Module) -> str | None:
    """Why a module that normalizes cannot be replaced; None for all others."""
    kind, name = type(module), type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", "")
        return f"{name} was compiled by TorchScript" if name in {one.__name__ for one in OURS} else None
    if not isinstance(module, _NormBase) or kind in THEIRS:
        return None
    if kind in OURS:
        return f"{name} has a forward of its own" if "forward" in vars(module) else None
    whys = (why for known, why in REASONS.items() if isinstance(module, known))
    return f"{name}: {next(whys, 'a subclass may compute something else')}"
