"""Gradients on request: backward, grad, recording on and off, checks by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any

from minigrad.engine import recording, set_recording
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


class _Recording:
    """Recording on or off: ``with no_grad(): ...`` or ``@no_grad()``; usable again and nested."""

    _flag = True

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __new__(cls, *args: Any, **options: Any) -> Any:
        made = super().__new__(cls)
        if args and callable(args[0]):  # @no_grad without parentheses
            made.__init__()  # type: ignore[misc]
            return made(args[0])
        return made

    def __enter__(self) -> None:
        self._before.append(recording.get())
        recording.set(self._flag)

    def __exit__(self, *error: Any) -> None:
        recording.set(self._before.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` run with recording switched so, in whatever thread it is called."""
        flag = self._flag

        @wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with set_recording(flag):
                return function(*args, **kwargs)

        @wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Any:
            made, value = function(*args, **kwargs), None
            while True:  # switched while the generator runs, back while its caller does
                try:
                    with set_recording(flag):
                        produced = made.send(value)
                except StopIteration as stop:
                    return stop.value
                value = yield produced

        return steps if isgeneratorfunction(function) else switched


class no_grad(_Recording):  # noqa: N801 - PyTorch's name
    """Within, nothing is recorded: results require no gradient, and no memory is kept for them.

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


class set_grad_enabled(_Recording):  # noqa: N801 - PyTorch's name
    """Recording on or off: ``set_grad_enabled(False)`` from here on, or for a ``with`` block."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self._outside = recording.get()
        self._flag = bool(mode)
        recording.set(self._flag)

    def __enter__(self) -> None:
        self._before.append(self._outside)
        recording.set(self._flag)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As a decorator it leaves the code around the function alone."""
        recording.set(self._outside)
        return super().__call__(function)
