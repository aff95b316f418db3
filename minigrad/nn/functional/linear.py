"""Affine maps."""

from __future__ import annotations

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.functions import einsum
from minigrad.nn.functional.fused import run
from minigrad.tensor import Tensor


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, fused: bool = True
) -> Tensor:
    """y = x Wᵀ + b.  Shapes: input (..., in), weight (out, in), bias (out,), y (..., out)."""
    return run(ops.Linear(), fused, input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[o] = input1ᵀ weight[o] input2 + bias[o].

    Shapes: input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,), y (..., O).
    """
    if weight.ndim != 3 or not (input1.ndim and input2.ndim):
        raise ShapeError(
            "bilinear expects inputs (..., I) and (..., J) and a weight (O, I, J), got "
            f"{input1.shape}, {input2.shape} and {weight.shape}."
        )
    sizes = (input1.shape[-1], input2.shape[-1])
    if input1.shape[:-1] != input2.shape[:-1] or weight.shape[1:] != sizes:
        raise ShapeError(
            f"bilinear of {input1.shape} and {input2.shape} needs equal axes before the last, and "
            f"a weight (O, {sizes[0]}, {sizes[1]}), got {weight.shape}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"bilinear needs a bias of shape {weight.shape[:1]}, as the weight, got {bias.shape}."
        )
    y = einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias
