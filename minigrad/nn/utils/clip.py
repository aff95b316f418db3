"""Gradients held within bounds, and their norm."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from types import GeneratorType

from minigrad.backends import backend_of, capture, device_of, quiet
from minigrad.creation import tensor
from minigrad.engine import changed, set_recording
from minigrad.functions import stack
from minigrad.tensor import Tensor, wrap

Tensors = Tensor | Iterable[Tensor]


def get_total_norm(
    tensors: Tensors,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of several tensors' elements taken as one vector: (Σ |x|ᵖ)^(1/p).

    Args:
        norm_type: p; ``inf`` is the largest absolute value.
        error_if_nonfinite: refuse a norm that is infinite or NaN.
        foreach: taken for PyTorch's sake; nothing depends on it.
    Raises:
        RuntimeError: such a norm, where refused.
    """
    tensors = _listed(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return tensor(0.0)
    with set_recording(False):
        device = tensors[0].device
        norms = [t.detach().norm(norm_type).to(device) for t in tensors]
        total = stack(norms).norm(norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            f"the gradients' total norm of order {norm_type} is {total.item()}, which cannot be "
            "clipped; look for the step that overflowed, or pass error_if_nonfinite=False to scale "
            "by it anyway."
        )
    return total


def clip_grads_with_norm_(
    parameters: Tensors, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients by min(1, max_norm / (total_norm + 1e-6)), in place."""
    grads = [p.grad for p in _listed(parameters) if p.grad is not None]
    with set_recording(False):
        share = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(share.to(grad.device, grad.dtype))


def clip_grad_norm_(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients, in place, so that their total norm is at most ``max_norm``.

    Returns the total norm before. Call it between ``backward()`` and ``step()``.

    Source: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1.
    """
    generated = isinstance(parameters, GeneratorType)
    parameters = _listed(parameters)
    if generated and not parameters:
        warnings.warn(
            "clip_grad_norm_ got an empty generator: nothing is clipped. A generator gives its "
            "values once; pass model.parameters() anew.",
            stacklevel=2,
        )
    grads = [p.grad for p in parameters if p.grad is not None]
    if float(norm_type) == 2 and not error_if_nonfinite and _for_kernel(grads):
        return _by_kernel(grads, float(max_norm))
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def _for_kernel(grads: list[Tensor]) -> bool:
    """Whether one kernel takes all: of one device and dtype, and no step is captured, which notes
    the operations one by one.
    """
    if capture.noting() or len({(g.device, g.dtype) for g in grads}) != 1:
        return False
    xp = backend_of(grads[0].array)
    return grads[0].dtype.kind == "f" and all(xp.writable(g.array) for g in grads)


def _by_kernel(grads: list[Tensor], max_norm: float) -> Tensor:
    """Norm and scaling by the backend, which waits for nothing."""
    arrays = [capture.entered(g) for g in grads]
    with device_of(arrays[0]):
        xp = backend_of(arrays[0])
        with quiet():
            total = xp.clip_grad_norm(arrays, max_norm)
        for array in arrays:
            changed(array)
        return wrap(xp.asarray(total))


def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Hold every element of the gradients between -clip_value and clip_value, in place."""
    bound = float(clip_value)
    with set_recording(False):
        for p in _listed(parameters):
            if p.grad is not None:
                p.grad.clamp_(-bound, bound)


def _listed(tensors: Tensors) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)
