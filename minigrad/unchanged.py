"""Looking without touching: whatever a pass through a model changes is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from minigrad.backends import backend_of
from minigrad.engine import set_recording
from minigrad.generator import default_generator
from minigrad.nn.module import Buffer, Module
from minigrad.tensor import Tensor

#: Whether the pass under way is a look from outside: a Probe does not record it.
looking: ContextVar[bool] = ContextVar("minigrad_looking", default=False)


@contextmanager
def unchanged(*modules: Module) -> Iterator[None]:
    """Within, the modules may run in any mode, and their parameters be given other arrays.

    Afterwards everything is as it was, bit for bit: parameters, buffers, gradients, modes and every
    other attribute, hooks, and the default random generator. The memory of the buffers is never
    written, only copies of it, so that a graph which was recorded before stays valid.
    """
    for model in modules:
        if not isinstance(model, Module):
            raise TypeError(f"the model must be an nn.Module, got {type(model).__name__}.")
    states = [
        (m, _copied(m)) for m in dict.fromkeys(inner for m in modules for inner in m.modules())
    ]
    tensors: dict[Tensor, tuple[Any, Any, bool]] = {}
    for _, state in states:
        for register in ("_parameters", "_buffers"):
            for tensor in state[register].values():
                if tensor is not None and tensor not in tensors:
                    tensors[tensor] = tensor.array, tensor.grad, tensor._requires_grad
    rng, seed = default_generator.rng, default_generator._seed
    place = rng.bit_generator.state
    token = looking.set(True)
    try:
        for tensor, (array, _, _) in tensors.items():
            tensor.grad = None
            if isinstance(tensor, Buffer):
                tensor.array = array.copy()
        with set_recording(True):
            yield
    finally:
        looking.reset(token)
        default_generator.rng, default_generator._seed = rng, seed
        rng.bit_generator.state = place
        for module, state in states:
            module.__dict__.clear()
            module.__dict__.update(state)
        for tensor, (array, grad, requires_grad) in tensors.items():
            tensor.array, tensor.grad, tensor._requires_grad = array, grad, requires_grad


@contextmanager
def same_noise() -> Iterator[None]:
    """Within, random numbers are drawn from here on; the next such block draws the same ones."""
    place = default_generator.rng.bit_generator.state
    try:
        yield
    finally:
        default_generator.rng.bit_generator.state = place


def host(tensor: Any) -> Any:
    """The values of a tensor, or of a raw array, as a NumPy array on the CPU."""
    array = tensor.array if isinstance(tensor, Tensor) else tensor
    return backend_of(array).to_host(array)


def _copied(module: Module) -> dict[str, Any]:
    """A module's attributes, those that hold others by name copied one level deep."""
    return {k: dict(v) if type(v) is dict else v for k, v in module.__dict__.items()}
