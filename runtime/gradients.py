"""Whether gradients are wanted: a context, or a decorator, in which they are not."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar

_refusals: ContextVar[int] = ContextVar("normspec.gradients", default=0)  # contexts that this thread or task is in


class NoGrad(ContextDecorator):
    """A context, or a decorator, in which nothing is remembered for ``backward``; a dialect's ``no_grad()`` is one.

    It may be nested, and shared by threads.
    """

    def __enter__(self) -> NoGrad:
        _refusals.set(_refusals.get() + 1)
        return self

    def __exit__(self, *_: object) -> None:
        _refusals.set(_refusals.get() - 1)


def wanted() -> bool:
    """Whether gradients are wanted here."""
    return not _refusals.get()
