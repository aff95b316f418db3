"""Snapshot: the values of everything that hangs together, to compare and to put back."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np

from minigrad.backends import backends, device_of
from minigrad.generator import DeviceGenerator, Generator
from minigrad.nn.module import Module
from minigrad.optim.lr_scheduler import LRScheduler
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor

_OBJECTS = (Module, Optimizer, LRScheduler)


class Snapshot:
    """A copy of the arrays, tensors (with their ``grad``), modules, optimizers, schedules and
    generators in ``roots``, and of what these hold.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self._undo: list[Any] = []  # (function, arguments)
        self._seen: dict[int, Any] = {}
        self.values = [self._take(x) for x in roots]

    def restore(self) -> None:
        """Put every value back where it was; arrays keep their memory."""
        for function, *args in self._undo:
            function(*args)

    def _take(self, x: Any) -> Any:
        """The values of ``x``; None for what does not change or is known."""
        if x is None or isinstance(x, bool | int | float | str):
            return x
        if id(x) in self._seen:
            return None
        self._seen[id(x)] = x
        if isinstance(x, np.ndarray):
            values = x.copy()
            if x.flags.writeable:
                self._undo.append((np.copyto, x, values))
            return values
        if type(x) in backends:  # on a GPU: the copy stays there
            with device_of(x):
                values = x.copy(order="K")
            self._undo.append((_set_array, x, values))
            return values
        if isinstance(x, Tensor):
            self._undo.append((_set_tensor, x, x.array, x.grad))
            return {"value": self._take(x.array), "grad": self._take(x.grad)}
        if isinstance(x, Generator):
            state = x.get_state()
            self._undo.append((x.set_state, state))
            return state
        if isinstance(x, DeviceGenerator):
            return self._take(x.states)
        if isinstance(x, dict):
            self._undo.append((_set_dict, x, dict(x)))
            return {_label(k): self._take(v) for k, v in x.items()}
        if isinstance(x, list):
            self._undo.append((_set_list, x, copy(x)))
            return dict(enumerate(map(self._take, x)))
        if isinstance(x, tuple):
            return dict(enumerate(map(self._take, x)))
        if isinstance(x, _OBJECTS):
            return self._take(x.__dict__)
        return None


def difference(a: Any, b: Any, path: str = "") -> str | None:
    """Where two values differ first, to the last bit; None where they agree."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        a, b = a.array, b.array
    a, b = _on_host(a), _on_host(b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{path} has {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        if a.tobytes() == b.tobytes():
            return None
        with np.errstate(all="ignore"):
            return f"{path} differs by {np.abs(np.subtract(a, b, dtype=float)).max():.3g}"
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{path} has {sorted(map(str, a))} and {sorted(map(str, b))}"
        for key in a:
            found = difference(a[key], b[key], f"{path}.{key}" if path else str(key))
            if found is not None:
                return found
        return None
    if isinstance(a, dict | np.ndarray) or isinstance(b, dict | np.ndarray):
        return f"{path} is {_kind(a)} and {_kind(b)}"
    if a is b or a == b or (a != a and b != b):
        return None
    return f"{path} is {a!r} and {b!r}"


def _on_host(x: Any) -> Any:
    backend = backends.get(type(x))
    return x if backend is None or backend.synchronous else backend.to_host(x)


def _set_array(x: Any, values: Any) -> None:
    with device_of(x):
        x[...] = values


def _kind(x: Any) -> str:
    return "set" if isinstance(x, dict | np.ndarray) else repr(x)


def _label(key: Any) -> Any:
    return key if isinstance(key, str | int) else id(key)


def _set_tensor(tensor: Tensor, array: Any, grad: Tensor | None) -> None:
    tensor.array, tensor._grad = array, grad


def _set_dict(x: dict[Any, Any], values: dict[Any, Any]) -> None:
    x.clear()
    x.update(values)


def _set_list(x: list[Any], values: list[Any]) -> None:
    x[:] = values
