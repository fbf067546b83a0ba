"""Arguments that may be given under either of two names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")


def twins(**spellings: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Let keyword arguments be given under a second name: ``@twins(numFeatures="num_features")``.

    Raises
    ------
    TypeError
        When called: an argument is given under both names.
    """
    first = {twin: name for name, twin in spellings.items()}

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def either(*arguments: Any, **keywords: Any) -> R:
            for twin in first.keys() & keywords.keys():
                if first[twin] in keywords:
                    raise TypeError(
                        f"{function.__qualname__}() got {first[twin]!r} and {twin!r}, which are one argument"
                    )
                keywords[first[twin]] = keywords.pop(twin)
            return function(*arguments, **keywords)

        return either

    return decorate
