"""A model run once on example inputs, to be drawn: afterwards it is as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from minigrad.errors import GraphError
from minigrad.nn.module import Module
from minigrad.ops import Op
from minigrad.tensor import Tensor
from minigrad.unchanged import unchanged
from minigrad.viz import trace
from minigrad.viz.trace import Reader, Trace


def run(
    model: Module,
    inputs: Any,
    names: Mapping[str, Any] | None,
    look: Callable[[Op], Trace | None] | None,
) -> tuple[Reader, list[Tensor]]:
    """The graph of ``model(*inputs)``, read, and its outputs; where it raises, what ran until then,
    and none.

    Parameters, buffers, gradients, modes, hooks and the default random generator are put back. The
    model's own hooks run, and what other state its forward changes stays changed.

    Raises:
        GraphError: nothing was recorded.
        Exception: what the forward raised, if no op or module of minigrad raised it.
    """
    args, kwargs = as_arguments(inputs)
    if not any(t.requires_grad for t in [*model.parameters(), *tensors_in([args, kwargs])]):
        args, kwargs = _watched(args), _watched(kwargs)  # else nothing would be recorded
    call = dict(zip(_arguments(model), args, strict=False)) | kwargs
    given = {**call, **(names or {})}
    with unchanged(model):
        try:
            result = model(*args, **kwargs)
        except Exception as error:
            if not hasattr(error, "_failure"):
                raise
            return trace.reading_failed(error, model, given, look), []
    outputs = [t for t in tensors_in(result) if t.grad_fn is not None]
    if not outputs:
        raise GraphError(
            f"{type(model).__name__} gave {_kinds(result)}, which no recorded operation made: "
            "there is nothing to draw."
        )
    return trace.reading(outputs, model, given, look), outputs


def as_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments out of one input, several, or a dict."""
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts, each once."""
    seen: set[Tensor] = set()
    stack = [value]
    while stack:
        x = stack.pop()
        if isinstance(x, Tensor):
            if x not in seen:
                seen.add(x)
                yield x
        elif isinstance(x, dict):
            stack.extend(reversed(list(x.values())))
        elif isinstance(x, tuple | list):
            stack.extend(reversed(x))


def _watched(values: Any) -> Any:
    """The same values, floating tensors as ones that require a gradient; memory is shared."""
    if isinstance(values, dict):
        return {k: _watched(v) for k, v in values.items()}
    if isinstance(values, tuple | list):
        return type(values)(map(_watched, values))
    if isinstance(values, Tensor) and values.is_floating_point():
        return values.detach().requires_grad_()
    return values


def _arguments(model: Module) -> Iterable[str]:
    code = getattr(model.forward, "__code__", None)
    if code is None:
        return ()
    bound = getattr(model.forward, "__self__", None) is not None
    names: tuple[str, ...] = code.co_varnames[bound : code.co_argcount]
    return names


def _kinds(result: Any) -> str:
    found = list(tensors_in(result))
    return f"{len(found)} tensors" if found else type(result).__name__
