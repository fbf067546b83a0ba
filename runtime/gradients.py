"""Whether gradients are wanted: a context, or a decorator, in which they are not."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token

_wanted: ContextVar[bool] = ContextVar("normspec.gradients", default=True)


class NoGrad(ContextDecorator):
    """Within it, ``wanted()`` is False; may be nested, and shared by threads."""

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> NoGrad:
        self._tokens.append(_wanted.set(False))
        return self

    def __exit__(self, *_: object) -> None:
        _wanted.reset(self._tokens.pop())

    def _recreate_cm(self) -> NoGrad:
        return NoGrad()


def wanted() -> bool:
    """Whether gradients are wanted here."""
    return _wanted.get()
