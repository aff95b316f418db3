"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from minigrad.errors import ShapeError
from minigrad.functions import cat
from minigrad.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters, one after another; gradients flow back to them."""
    return cat([p.reshape(-1) for p in _on_one_device(parameters)])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Have each parameter take the next part of ``vec``, whose memory it then shares."""
    if not isinstance(vec, Tensor):
        raise TypeError(
            f"vector_to_parameters expects a tensor, got {type(vec).__name__}; make one with "
            "minigrad.tensor(...)."
        )
    own, start = _on_one_device(parameters), 0
    needed = sum(p.numel() for p in own)
    if vec.ndim != 1 or vec.numel() < needed:
        raise ShapeError(
            f"vector_to_parameters needs one axis of {needed} elements for these parameters, got "
            f"{vec.shape}; parameters_to_vector makes one that fits."
        )
    values = vec.detach()
    for p in own:
        p.data = values[start : start + p.numel()].reshape(p.shape)
        start += p.numel()


def _on_one_device(parameters: Iterable[Tensor]) -> list[Tensor]:
    found = list(parameters)
    devices = {p.device: None for p in found}
    if len(devices) > 1:
        raise TypeError(
            f"all parameters of one vector must be on one device, got {' and '.join(devices)}; "
            "move them with model.to(device)."
        )
    return found
