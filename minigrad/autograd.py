"""Gradients on request: backward, grad, recording switched on and off, and checks by finite
differences.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import Token
from typing import Any

from minigrad.engine import recording
from minigrad.gradcheck import gradcheck, gradgradcheck
from minigrad.gradients import backward, grad

__all__ = [
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]


def is_grad_enabled() -> bool:
    """Whether operations are recorded here and now (in this thread, in this task)."""
    return recording.get()


class _Recording(ContextDecorator):
    """Recording on or off: ``with no_grad(): ...`` or ``@no_grad()``; usable again and nested."""

    _flag = True

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def _recreate_cm(self) -> _Recording:
        return type(self)()  # each call of a decorated function has its own, in whatever thread

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        if callable(function):  # @no_grad without parentheses
            made.__init__()  # type: ignore[misc]
            return made(function)
        return made

    def __enter__(self) -> None:
        self._tokens.append(recording.set(self._flag))

    def __exit__(self, *error: Any) -> None:
        recording.reset(self._tokens.pop())


class no_grad(_Recording):  # noqa: N801 - PyTorch's name
    """Within, nothing is recorded: results do not require gradients, and no memory is kept for
    them.

    Example:
        >>> from minigrad import ones
        >>> x = ones(3, requires_grad=True)
        >>> with no_grad():
        ...     (x * 2).requires_grad
        False
    """

    _flag = False


class enable_grad(_Recording):  # noqa: N801 - PyTorch's name
    """Within, operations are recorded, also inside ``no_grad``."""


class inference_mode(_Recording):  # noqa: N801 - PyTorch's name
    """As ``no_grad``. Differs: results may be used in later graphs without complaint."""

    _flag = False

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self._flag = not mode


class set_grad_enabled:  # noqa: N801 - PyTorch's name
    """Switch recording at once, ``set_grad_enabled(False)``; or for a block, ``with
    set_grad_enabled(flag):``.
    """

    def __init__(self, mode: bool) -> None:
        self._token = recording.set(bool(mode))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        recording.reset(self._token)
