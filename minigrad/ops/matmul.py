"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Fused, Op
from minigrad.shapes import broadcast_shapes, prod


class MatMul(Op):
    """The matrix product over the last two axes; those in front broadcast.

    Shapes: a (..., n, k), b (..., k, m), y (..., n, m).
    """

    name = "matmul"
    formula, vjp = "y = a b", "da = dy bᵀ,  db = aᵀ dy"
    broadcasts = True
    reads_for = {"a": 1, "b": 0}

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.matmul(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        da = xp.matmul(grad, b.swapaxes(-1, -2)) if self.needs(0) else None
        db = xp.matmul(a.swapaxes(-1, -2), grad) if self.needs(1) else None
        return da, db

    def check(self, a: Any, b: Any) -> None:
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul of {tuple(a.shape)} and {tuple(b.shape)}: the last axis of the first is "
                f"{a.shape[-1]}, the last but one of the second {b.shape[-2]}; they must be equal."
            )
        broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))


class Einsum(Op):
    """A sum of products by Einstein's convention.

    Each letter is an axis; letters not in the result are summed. No letter is repeated within one
    operand, and every letter of an operand stands in the result or in another operand
    (``minigrad.einsum`` brings any equation to this form).
    """

    formula, vjp = "y = Σ Π xᵢ over missing letters", "dxᵢ = the same sum with dy for xᵢ"

    def __init__(self, equation: str) -> None:
        self.equation = equation

    def forward(self, xp: Any, *arrays: Any) -> Any:
        return xp.einsum(self.equation, *arrays, optimize=_worth_planning(arrays))

    def backward(self, xp: Any, grad: Any, *arrays: Any) -> Any:
        terms, result = self.equation.split("->")
        letters = terms.split(",")
        grads: list[Any] = []
        for i, own in enumerate(letters):
            if not self.needs(i):
                grads.append(None)
                continue
            others = [
                (s, a) for j, (s, a) in enumerate(zip(letters, arrays, strict=True)) if j != i
            ]
            equation = ",".join([result, *(s for s, _ in others)]) + "->" + own
            operands = [grad, *(a for _, a in others)]
            grads.append(xp.einsum(equation, *operands, optimize=_worth_planning(operands)))
        return tuple(grads)


def _worth_planning(arrays: Sequence[Any]) -> bool:
    """Whether to plan the order of products and run them in BLAS.

    Planning takes 12 us; of 64 products of 64 x 64 matrices it makes 0.3 ms instead of 2.5.
    """
    return len(arrays) > 2 or sum(prod(a.shape) for a in arrays) > 4096


class Linear(Fused):
    """An affine map of the last axis.

    Shapes: x (..., in), weight (out, in), bias (out,) or None, y (..., out).
    """

    formula, vjp = "y = x Wᵀ + b", "dx = dy W,  dW = dyᵀ x,  db = Σ dy"
    reads_for = {"x": 1, "weight": 0}

    def forward(self, xp: Any, x: Any, weight: Any, bias: Any) -> Any:
        self.check(x, weight, bias)
        return xp.linear(x, weight, bias)

    def backward(self, xp: Any, grad: Any, x: Any, weight: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.linear_backward(grad, x, weight, needs)

    def composed(self, xp: Any, x: Any, weight: Any, bias: Any) -> Any:
        y = xp.matmul(x, weight.swapaxes(0, 1))
        return y if bias is None else y + bias

    def check(self, x: Any, weight: Any, bias: Any) -> None:
        out, into = weight.shape
        if not x.ndim or x.shape[-1] != into:
            shape, hint = tuple(x.shape), ""
            if x.ndim > 2 and shape[1:] and _size(shape[1:]) == into:
                hint = f" nn.Flatten() before it would give {(shape[0], into)}."
            last = f"last axis is {shape[-1]}" if shape else "it has no axis"
            raise ShapeError(f"Linear({into} -> {out}) got {shape}: {last}, not {into}.{hint}")
        if bias is not None and tuple(bias.shape) != (out,):
            raise ShapeError(
                f"Linear({into} -> {out}) needs a bias of shape {(out,)}, got {tuple(bias.shape)}."
            )
        if x.dtype != weight.dtype:
            raise DtypeError(
                f"Linear({into} -> {out}) has {weight.dtype} weights and got {x.dtype}; "
                f"convert one, as in x.to({str(weight.dtype)!r})."
            )


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n
