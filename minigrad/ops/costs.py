"""What an op costs in multiply-adds: one multiplication and the addition of its product.

Counted are products with weights (or of two values), and norms; elementwise operations, pooling
and softmax are not, as is usual: they wait for memory rather than for arithmetic.
"""

from __future__ import annotations

from typing import Any

from minigrad.ops.conv import Conv2d, ConvTranspose2d
from minigrad.ops.matmul import Einsum, Linear, MatMul
from minigrad.ops.norm import BatchNorm, BatchNormInference, GroupNorm, LayerNorm, RMSNorm
from minigrad.shapes import prod


def multiply_adds(op: Any, arrays: Any, y: Any) -> int:
    """The multiply-adds of one ``op.forward(xp, *arrays)``, which gave ``y``.

    ============================== ==============================================================
    Linear, MatMul                 values of y, times the length of the axis that is summed over
    Conv2d                         values of y, times values of the kernel of one output channel
    ConvTranspose2d                values of x, times values of the kernel of one input channel
    Einsum                         the product of the lengths of all its indices
    BatchNorm                      3 a value: mean, variance, scale and shift; 1 in eval mode
    LayerNorm, GroupNorm           4 a value: mean, variance, normalizing, scale and shift; 3
                                   without γ and β
    RMSNorm                        3 a value: mean square, normalizing, scale; 2 without γ
    ============================== ==============================================================
    """
    out = int(prod(y.shape))
    if isinstance(op, Linear):
        return out * int(arrays[1].shape[-1])
    if isinstance(op, MatMul):
        return out * int(arrays[0].shape[-1])
    if isinstance(op, Conv2d):
        return out * int(prod(arrays[1].shape[1:]))
    if isinstance(op, ConvTranspose2d):
        return int(prod(arrays[0].shape) * prod(arrays[1].shape[1:]))
    if isinstance(op, Einsum):
        return _einsum(op.equation, arrays)
    if isinstance(op, BatchNorm | BatchNormInference):
        return out if isinstance(op, BatchNormInference) else 3 * out
    if isinstance(op, LayerNorm | GroupNorm):
        return out * (4 if arrays[1] is not None else 3)
    if isinstance(op, RMSNorm):
        return out * (3 if arrays[1] is not None else 2)
    return 0


def _einsum(equation: str, arrays: Any) -> int:
    """The product of the lengths of all indices."""
    terms = equation.split("->")[0].split(",")
    pairs = (
        pair
        for term, a in zip(terms, arrays, strict=True)
        for pair in zip(term, a.shape, strict=True)
    )
    return prod(tuple(dict(pairs).values()))
