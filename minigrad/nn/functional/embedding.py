"""Classes as vectors."""

from __future__ import annotations

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of, bounds, device_of
from minigrad.backends.capture import entered
from minigrad.engine import set_recording
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.nn.functional.distance import vector_norm
from minigrad.ops.op import check_devices
from minigrad.tensor import Tensor, apply, wrap


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class, 0 elsewhere: (...) integers to (..., num_classes) integers."""
    if tensor.dtype.kind not in "iu":
        raise DtypeError(f"one_hot needs integers (int64), got {tensor.dtype}.")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("one_hot of no elements cannot tell the classes; pass num_classes.")
        num_classes = int(tensor.max()) + 1
    found = bounds(tensor.array)
    if found is not None and (found[0] < 0 or found[1] >= num_classes):
        raise RuntimeError(
            f"one_hot needs classes in [0, {num_classes - 1}], got {found[0]} to {found[1]}."
        )
    xp = backend_of(tensor.array)
    with device_of(tensor.array):
        classes = wrap(xp.arange(num_classes))
    return (tensor.unsqueeze(-1) == classes).long()


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """weight[input]: the vector of each class.

    Shapes: input (...) integers, weight (num_embeddings, embedding_dim), y (..., embedding_dim).

    Args:
        padding_idx: a row that gets no gradient.
        max_norm: rows that are used and longer (in the norm ``norm_type``) are first shortened to
            it, in place.
        scale_grad_by_freq: divide a row's gradient by how often it occurs in ``input``.
        sparse: not available; gradients are dense.
    """
    check_padding("embedding", padding_idx, weight.shape[0] if weight.ndim else 0)
    if sparse:
        raise NotImplementedError("embedding has dense gradients only; pass sparse=False.")
    if weight.ndim != 2:
        raise ShapeError(
            f"embedding expects a weight (num_embeddings, embedding_dim), got {weight.shape}."
        )
    if input.dtype not in (np.dtype("int64"), np.dtype("int32")):
        raise DtypeError(
            f"embedding expects int64 or int32 classes, got {input.dtype}; use x.long()."
        )
    rows, index = weight.shape[0], entered(input)
    check_devices("embedding", [index, weight.array])
    found = bounds(index)
    if found is not None and (found[0] < 0 or found[1] >= rows):
        raise IndexError(
            f"embedding expects classes from 0 to {rows - 1}, got {found[0]} to {found[1]}."
        )
    if padding_idx is not None and padding_idx < 0:
        padding_idx += rows
    if max_norm is not None:
        with set_recording(False):
            table = weight.detach()
            used = table[input]
            norm = vector_norm(used, norm_type, -1, True)
            table[input] = used * where(norm > max_norm, max_norm / (norm + 1e-7), 1.0)
    return apply(ops.Embedding(index, padding_idx, scale_grad_by_freq), weight)


def check_padding(name: str, padding_idx: int | None, rows: int) -> None:
    """Raise ValueError for a padding row that is not there."""
    if padding_idx is not None and not -rows <= padding_idx < max(rows, 1):
        raise ValueError(f"{name} expects a padding_idx within its {rows} rows, got {padding_idx}.")
