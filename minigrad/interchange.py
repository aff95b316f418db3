"""Tensors to and from PyTorch, in the same memory where there is one: through DLPack."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from minigrad.creation import from_dlpack
from minigrad.dtypes import as_dtype
from minigrad.errors import DeviceError, DtypeError, GraphError
from minigrad.tensor import Tensor


def is_torch(value: Any) -> bool:
    """Whether ``value`` is a tensor of PyTorch, found out without PyTorch."""
    return any(
        kind.__name__ == "Tensor" and kind.__module__.split(".")[0] == "torch"
        for kind in type(value).__mro__
    )


def from_torch(tensor: Any) -> Tensor:
    """A PyTorch tensor as a Tensor that shares its memory: a change in one shows in the other.

    No gradient flows between the two: the result is outside any graph. bfloat16, which NumPy has
    not, becomes float32, in memory of its own: every bfloat16 is a float32.

    Raises:
        TypeError: not a PyTorch tensor, or of a dtype there is none for (complex, float8).
    """
    if not is_torch(tensor):
        raise TypeError(
            f"from_torch expects a PyTorch tensor, got {type(tensor).__name__}; minigrad.tensor "
            "and minigrad.from_numpy take numbers and arrays."
        )
    tensor = tensor.detach()
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "bfloat16":
        tensor = tensor.float()
    else:
        try:
            as_dtype(name)
        except (TypeError, ValueError):
            raise DtypeError(
                f"from_torch has no dtype for {tensor.dtype}; convert it first, as in t.float()."
            ) from None
    if str(tensor.layout) != "torch.strided":
        raise TypeError(
            f"from_torch expects a dense tensor, got {tensor.layout}; use t.to_dense() first."
        )
    if tensor.device.type != "cpu":
        raise DeviceError(
            f"from_torch shares memory of the CPU, got a tensor on {tensor.device}; use t.cpu()."
        )
    return from_dlpack(tensor)


def to_torch(tensor: Tensor) -> Any:
    """A Tensor as a PyTorch tensor that shares its memory: a change in one shows in the other.

    Read-only memory, such as that of ``expand()``, is copied.

    Raises:
        ImportError: PyTorch is not installed.
        GraphError: the tensor requires a gradient, which would be lost.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"to_torch expects a Tensor, got {type(tensor).__name__}.")
    if tensor.requires_grad:
        raise GraphError(
            "to_torch of a tensor that requires a gradient would leave the graph unnoticed; use "
            "to_torch(x.detach())."
        )
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"to_torch needs PyTorch ({error}); install torch, or use x.numpy()."
        ) from None
    writable = getattr(tensor.array.flags, "writeable", True)
    return torch.from_dlpack(tensor if writable else tensor.clone())
