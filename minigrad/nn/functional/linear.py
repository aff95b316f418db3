"""Affine maps."""

from __future__ import annotations

from minigrad import ops
from minigrad.nn.functional.fused import run
from minigrad.tensor import Tensor


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, fused: bool = True
) -> Tensor:
    """y = x Wᵀ + b.  Shapes: input (..., in), weight (out, in), bias (out,), y (..., out)."""
    return run(ops.Linear(), fused, input, weight, bias)
