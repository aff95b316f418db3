"""Distances and angles between vectors."""

from __future__ import annotations

from math import inf

from minigrad.dtypes import promote
from minigrad.errors import DtypeError
from minigrad.functions import broadcast_tensors, where
from minigrad.tensor import Tensor


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """(Σ |x1 - x2 + eps|ᵖ)^(1/p) over the last axis.

    Shapes: x1 and x2 (..., D), which broadcast; y (...), or (..., 1) with keepdim.
    """
    return vector_norm(x1 - x2 + eps, p, -1, keepdim)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / (max(‖x1‖, eps) max(‖x2‖, eps)) along ``dim``; the tensors broadcast."""
    dtype = promote([x1.array, x2.array])
    if dtype.kind != "f":
        raise DtypeError(f"cosine_similarity expects a floating dtype, got {dtype}; use x.float().")
    units = []
    for x in broadcast_tensors(x1.to(dtype), x2.to(dtype)):
        norm = vector_norm(x, 2, dim, True)
        units.append(x / (norm + (norm.clamp(eps) - norm).detach()))
    cosine: Tensor = (units[0] * units[1]).sum(dim)
    return cosine


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along ``dim``: vectors of length 1."""
    if input.dtype.kind != "f":
        raise DtypeError(f"normalize expects a floating tensor, got {input.dtype}; use x.float().")
    return input / vector_norm(input, p, dim, True).clamp(eps)


def vector_norm(x: Tensor, p: float, dim: int, keepdim: bool) -> Tensor:
    """(Σ |x|ᵖ)^(1/p), whose gradient is 0 where the norm is."""
    if p in (0, 1, 2, inf, -inf):
        norm: Tensor = x.norm(p, dim, keepdim)
        return norm
    zero = x == 0  # the powers of 0 have no slope, or an infinite one
    total = where(zero, 0.0, where(zero, 1.0, x.abs()) ** p).sum(dim, keepdim)
    none = total == 0
    root: Tensor = where(none, 0.0, where(none, 1.0, total) ** (1 / p))
    return root
