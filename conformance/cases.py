"""What there is to check of a class: its switches, its shapes, the values to give it."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from normspec.codegen.model import Class, Dialect
from normspec.runtime import DType, Tensor

from .oracle import Oracle

SIZES = {"N": 4, "C": 3, "L": 5, "D": 2, "H": 3, "W": 2}
FLOATS = ("float16", "bfloat16", "float32", "float64")
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 5e-7, "float64": 1e-13}  # of an output about 1


@dataclass(frozen=True)
class Case:
    """One class of one dialect, and how to make it and feed it."""

    dialect: Dialect
    one: Class

    @property
    def package(self) -> Any:
        return importlib.import_module(f"normspec.{self.dialect.name}")

    @property
    def cls(self) -> Any:
        return resolve(self.one.qualified)

    def make(self, dtype: str = "float32", **arguments: Any) -> Any:
        """A module with parameters and running statistics that differ from channel to channel."""
        spoken = self.spoken("dtype")
        if spoken and dtype != "float32":
            arguments[spoken] = getattr(self.package, dtype)
        module = self.cls(**{**self.required, **arguments})
        random = np.random.default_rng(7)
        for state in self.one.state:
            tensor = getattr(module, state.name)
            if tensor is not None and state.canonical != "count":
                values = random.uniform(0.5, 2.0, tensor.shape)
                tensor.copy_(Tensor(values.astype(tensor.dtype.numpy)))
        return module

    @property
    def required(self) -> dict[str, Any]:
        return {one.name: SIZES["C"] for one in self.one.arguments if one.default is None}

    def spoken(self, canonical: str) -> str | None:
        """The dialect's argument for a canonical parameter."""
        return next((one.name for one in self.one.arguments if one.canonical == canonical), None)

    def configurations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the switches, with None wherever a number may be None."""
        choices: dict[str, list[object]] = {}
        for one in self.one.arguments:
            if one.type == "bool":
                choices[one.name] = [True, False]
            elif one.type == "float | None":
                choices[one.name] = [one.value, None]
        for values in itertools.product(*choices.values()):
            yield dict(zip(choices, values, strict=True))

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Every accepted shape; where any number of axes will do, with none to three more."""
        for pattern in self.one.inputs:
            for extra in ([], ["L"], ["H", "W"], ["D", "H", "W"]) if "..." in pattern else ([],):
                yield tuple(
                    SIZES.get(axis, SIZES["C"])
                    for word in pattern.split()
                    for axis in (extra if word == "..." else [word])
                )

    def input(self, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> npt.NDArray[Any]:
        values = np.random.default_rng(seed).normal(3.0, 2.0, shape)
        return values.astype(DType(dtype).numpy)

    def oracle(self, module: Any, **arguments: object) -> Oracle:
        """The oracle in the state of ``module``."""
        canonical = self.canonical(arguments)
        kept: dict[str, npt.NDArray[np.float64] | None] = {}
        for state in self.one.state:
            tensor = getattr(module, state.name)
            kept[state.canonical] = None if tensor is None else tensor.numpy().astype(np.float64)
        return Oracle(
            features=canonical["features"],
            epsilon=canonical["epsilon"],
            update_rate=canonical["update_rate"],
            learns=canonical["learns"],
            unbiased=canonical["unbiased"],
            scale=kept["scale"],
            shift=kept["shift"],
            mean=kept["mean"],
            variance=kept["variance"],
        )

    def canonical(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """The operator's arguments that these arguments of the class stand for."""
        spoken = {one.name: one.value for one in self.one.arguments} | self.required | dict(arguments)
        return {one.canonical: spoken[one.argument] if one.argument else one.value for one in self.one.bindings}

    def exists(self, state: Any, arguments: Mapping[str, object]) -> bool:
        """Whether a state is kept in a configuration."""
        canonical = self.canonical(arguments)
        return all(canonical[switch] for switch in state.when)

    def set_mode(self, module: Any, training: bool) -> None:
        """Through the dialect's own methods, where it has modes."""
        methods = {f"{one.operator}.{one.function}": one.name for one in self.dialect.methods}
        if "module.train" in methods:
            name = methods["module.train"] if training else methods["module.evaluate"]
            getattr(module, name)()


def resolve(qualified: str) -> Any:
    """What ``storch.nn.BatchNorm1d`` names below ``normspec``."""
    module, _, name = f"normspec.{qualified}".rpartition(".")
    return getattr(importlib.import_module(module), name)
