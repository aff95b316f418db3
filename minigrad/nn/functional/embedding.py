"""Classes as vectors."""

from __future__ import annotations

import numpy as np

from minigrad.backends import backend_of
from minigrad.errors import DtypeError
from minigrad.tensor import Tensor, wrap


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class, 0 elsewhere: (...) integers to (..., num_classes) integers."""
    if tensor.dtype.kind not in "iu":
        raise DtypeError(f"one_hot needs integers (int64), got {tensor.dtype}.")
    if num_classes == -1:
        num_classes = int(tensor.max()) + 1
    if tensor.numel() and (int(tensor.min()) < 0 or int(tensor.max()) >= num_classes):
        raise IndexError(f"one_hot needs classes in [0, {num_classes - 1}].")
    xp = backend_of(tensor.array)
    classes = wrap(xp.from_host(np.arange(num_classes), tensor.device))
    return (tensor.unsqueeze(-1) == classes).long()
