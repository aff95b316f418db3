"""Hooks of modules: the handle that takes one away, and how a backward pass reaches them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from minigrad.engine import recording
from minigrad.functions import cat
from minigrad.ops import Alias
from minigrad.tensor import Tensor, apply


class ModuleHandle:
    """What registering a hook returns; ``remove()`` takes the hook away."""

    _count = 0

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool = False) -> None:
        ModuleHandle._count += 1
        self._hooks, self._key = hooks, ModuleHandle._count
        later = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        hooks[self._key] = hook
        hooks.update(later)

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> ModuleHandle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


class BackwardWatch:
    """One call of a module with backward hooks: sees the gradients of its outputs, then inputs.

    Inputs and outputs pass through one node each, whose gradient is complete exactly when all of
    theirs are: an Alias of a single tensor, or all tensors joined into one vector and parted again.
    """

    def __init__(self, module: Any, hooks: Sequence[Any], pre_hooks: Sequence[Any]) -> None:
        self._module, self._hooks, self._pre_hooks = module, hooks, pre_hooks
        self._grad_outputs: tuple[Any, ...] | None = None
        self._inputs = 0
        self._reaches_inputs = False

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of ``forward``, watched."""
        self._inputs = len(args)
        watched = watch(args, self._at_inputs)
        self._reaches_inputs = watched is not None
        return args if watched is None else watched

    def outputs(self, result: Any) -> Any:
        """The result of ``forward``, watched."""
        if not isinstance(result, Tensor | tuple):
            warnings.warn(
                "backward hooks see a module's output where it is a tensor or a tuple of tensors, "
                f"got {type(result).__name__}: they are not called.",
                stacklevel=4,
            )
            return result
        given = (result,) if isinstance(result, Tensor) else result
        watched = watch(given, self._at_outputs)
        if watched is None:
            return result
        return watched[0] if isinstance(result, Tensor) else watched

    def _at_outputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self._pre_hooks:
            changed = hook(self._module, grads)
            if changed is not None:
                grads = _checked(changed, grads, "a full backward pre-hook", "grad_output")
        self._grad_outputs = grads
        if not self._reaches_inputs:
            none = (None,) * self._inputs
            for hook in self._hooks:
                changed = hook(self._module, none, grads)
                if changed is not None and any(g is not None for g in changed):
                    raise RuntimeError(
                        "a backward hook of a module none of whose inputs requires a gradient must "
                        "return None: there is no gradient to replace."
                    )
            self._grad_outputs = None
        return grads

    def _at_inputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._grad_outputs is None:  # a second derivative: it comes past the output
            return grads
        for hook in self._hooks:
            changed = hook(self._module, grads, self._grad_outputs)
            if changed is not None:
                grads = _checked(changed, grads, "a full backward hook", "grad_input")
        self._grad_outputs = None
        return grads


def _checked(changed: Any, grads: tuple[Any, ...], who: str, what: str) -> tuple[Any, ...]:
    new: tuple[Any, ...] = changed if isinstance(changed, tuple) else (changed,)
    if len(new) != len(grads):
        raise RuntimeError(
            f"{who} must return None or {len(grads)} gradients, one for each {what}, got "
            f"{len(new)}."
        )
    return new


def watch(
    values: tuple[Any, ...], hook: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[Any, ...] | None:
    """``values`` passed through one node, whose gradients ``hook`` sees and may replace.

    None where no gradient will flow. ``hook`` gets one gradient a value, None for what is no
    tensor or requires none.
    """
    at = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not at or not recording.get():
        return None
    tensors = [values[i] for i in at]
    new = list(values)
    if len(at) == 1:
        node = apply(Alias(), tensors[0])
        if node.grad_fn is not None:
            node.grad_fn.viewed = (
                True  # a change in place would miss tensors[0], whose memory it is
            )
        new[at[0]] = node
    else:
        node = cat([t.reshape(-1) for t in tensors])
        for i, part in zip(at, _parted(node, tensors), strict=True):
            new[i] = part

    def see(grad: Tensor) -> Tensor:
        given: list[Any] = [None] * len(values)
        parts = [grad] if len(at) == 1 else _parted(grad, tensors)
        for i, part in zip(at, parts, strict=True):
            given[i] = part
        found = hook(tuple(given))
        if all(a is b for a, b in zip(found, given, strict=True)):
            return grad
        chosen = [
            part * 0 if found[i] is None else found[i] for i, part in zip(at, parts, strict=True)
        ]
        if len(at) == 1:
            return chosen[0]
        return cat([c.reshape(-1) for c in chosen]).to(grad.dtype)

    node.register_hook(see)
    return tuple(new)


def _parted(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = vector.split([t.numel() for t in like])
    return [p.reshape(t.shape).to(t.dtype) for p, t in zip(parts, like, strict=True)]
