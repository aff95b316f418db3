"""Guards: what has to hold for a captured step to be run again, as expressions."""

from __future__ import annotations

import builtins
import linecache
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from types import FunctionType, MethodType
from typing import Any

from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor

#: What has to hold for a program to be run: an expression in HOLDER and VALUE, the two, a name.
Guard = tuple[str, Any, Any, str]

PLAIN = (int, float, bool, str, type(None), complex, bytes)
_number = count(1).__next__


def broken(guards: Iterable[Guard]) -> Callable[[], str | None]:
    """A function that names what does not hold any more; None where all does."""
    scope: dict[str, Any] = {}
    lines = ["def broken():"]
    for i, (condition, holder, value, what) in enumerate(guards):
        scope[f"h{i}"], scope[f"v{i}"] = holder, value
        test = condition.replace("HOLDER", f"h{i}").replace("VALUE", f"v{i}")
        lines.append(f"    if not ({test}): return {what!r}")
    return built("\n".join([*lines, "    return None\n"]), scope)["broken"]  # type: ignore[no-any-return]


def built(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    """The names that ``text`` defines; its lines are shown where an error is raised in it."""
    file = f"<minigrad compiled {_number()}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(builtins.compile(text, file, "exec"), scope)
    return scope


def of_leaf(tensor: Tensor, array: Any) -> Iterator[Guard]:
    """It has this array, and requires a gradient or not."""
    what = f"a tensor of shape {tensor.shape}"
    yield "HOLDER.array is VALUE", tensor, array, f"the array of {what}"
    yield (
        "HOLDER._requires_grad is VALUE",
        tensor,
        tensor._requires_grad,
        f"requires_grad of {what}",
    )


#: The hooks that a call runs.
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def of_module(module: Module) -> Iterator[Guard]:
    """Its settings (plain values among its attributes), and which parts it has."""
    if not any(module.__dict__[hooks] for hooks in _HOOKS):
        none = " or ".join(f"HOLDER[{hooks!r}]" for hooks in _HOOKS)
        yield f"not ({none})", module.__dict__, None, f"the hooks of {type(module).__name__}"
    for name, value in module.__dict__.items():
        if name.endswith("_hooks") and not value:
            continue
        what = f"{name} of {type(module).__name__}"
        if isinstance(value, dict):
            yield "len(HOLDER) == VALUE", value, len(value), what
            for key, part in value.items():
                if isinstance(part, Tensor | Module | None):
                    yield f"HOLDER.get({key!r}) is VALUE", value, part, f"{key} of {what}"
        elif _is_plain(value):
            yield f"HOLDER.get({name!r}) == VALUE", module.__dict__, value, what


def of_function(function: Any, seen: set[int]) -> Iterator[Guard]:
    """The global and outer variables it reads: numbers, tensors, modules, functions."""
    if isinstance(function, MethodType):
        if not isinstance(function.__self__, Module):
            for name, value in getattr(function.__self__, "__dict__", {}).items():
                yield from _of_variable(
                    f"HOLDER.get({name!r})", function.__self__.__dict__, value, name, seen
                )
        function = function.__func__
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    code = function.__code__
    for name in code.co_names:
        if name in function.__globals__:
            value = function.__globals__[name]
            yield from _of_variable(
                f"HOLDER.get({name!r})", function.__globals__, value, name, seen
            )
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet
            continue
        yield from _of_variable("HOLDER.cell_contents", cell, value, name, seen)


def _of_variable(place: str, holder: Any, value: Any, name: str, seen: set[int]) -> Iterator[Guard]:
    if _is_plain(value):
        yield f"{place} == VALUE", holder, value, f"the variable {name}"
    elif isinstance(value, Tensor | Module | Optimizer | FunctionType | MethodType):
        yield f"{place} is VALUE", holder, value, f"the variable {name}"
        if isinstance(value, FunctionType | MethodType) and not value.__module__.startswith(
            "minigrad."
        ):
            yield from of_function(value, seen)


def _is_plain(x: Any) -> bool:
    return isinstance(x, PLAIN) or (isinstance(x, tuple) and all(map(_is_plain, x)))
