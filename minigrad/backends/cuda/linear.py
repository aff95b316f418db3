"""Products and the affine map through cuBLAS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.blas import Blas
from minigrad.backends.reference import linear as reference
from minigrad.shapes import prod

Operand = tuple[str, Array]  # letters of its axes, array


class Linear(Launching, reference.Linear):
    """``blas`` is set by the backend; without it, products are the array library's.

    A bias is written first and the product added to it: no pass over the result afterwards.
    """

    blas: Blas | None = None

    def matmul(self, a: Array, b: Array) -> Array:
        """``a @ b``."""
        if self.blas is None or a.dtype != b.dtype or not (a.ndim and b.ndim):
            return self.module.matmul(a, b)
        if a.ndim == 1:
            return self.matmul(a.reshape(1, -1), b)[..., 0, :]
        if b.ndim == 1:
            return self.matmul(a, b.reshape(-1, 1))[..., 0]
        if a.ndim > 3 and b.ndim == 2 and a.flags.c_contiguous:
            y = self.matmul(self._rows(a), b)
            return y.reshape(*a.shape[:-1], b.shape[-1])
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = self.empty((*batch, a.shape[-2], b.shape[-1]), dtype=a.dtype)
        if len(batch) < 2 and {x.shape[:-2] for x in (a, b)} <= {(), batch}:
            return self.multiplied(a, b, y)
        count = prod(batch)
        a, b = (
            self.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(count, *x.shape[-2:])
            for x in (a, b)
        )
        return self.multiplied(a, b, y.reshape(count, *y.shape[-2:])).reshape(y.shape)

    def multiplied(self, a: Array, b: Array, out: Array, add: bool = False) -> Array:
        """out = a b, or out + a b, of matrices or batches of them."""
        if self.blas is None or not (
            self.blas.matmul(a, b, out, add)
            or self.blas.matmul(self.plain(a), self.plain(b), out, add)
        ):
            y = self.module.matmul(a, b)
            if add:
                y += out
            out[...] = y
        return out

    def einsum(self, equation: str, *arrays: Array, optimize: bool = False) -> Array:
        """As NumPy's, for what the op Einsum asks for; two operands at a time, by ``matmul``.

        Of a pair, letters of both are batches where they are still wanted, and summed where not.
        """
        if self.blas is None or len(arrays) < 2 or len({a.dtype for a in arrays}) > 1:
            return self.module.einsum(equation, *arrays, optimize=optimize)
        inputs, result = equation.split("->")
        operands = list(zip(inputs.split(","), arrays, strict=True))
        for step in _order(equation, tuple(a.shape for a in arrays)):
            first, *others = (operands.pop(i) for i in sorted(step, reverse=True))
            while others:
                second = others.pop()
                wanted = set(result).union(*(letters for letters, _ in operands + others))
                first = self._pair(first, second, wanted)
            operands.append(first)
        letters, product = operands[0]
        return product.transpose([letters.index(c) for c in result])

    def _pair(self, first: Operand, second: Operand, wanted: set[str]) -> Operand:
        """The product of two operands, summed over the letters that nobody wants any more."""
        (a, x), (b, y) = first, second
        batch = [c for c in a if c in b and c in wanted]
        inner = [c for c in a if c in b and c not in wanted]
        left, right = [c for c in a if c not in b], [c for c in b if c not in a]
        size = dict(zip(a + b, x.shape + y.shape, strict=True))
        product = self.matmul(
            _as_matrices(x, a, size, (batch, left, inner)),
            _as_matrices(y, b, size, (batch, inner, right)),
        )
        letters = "".join([*batch, *left, *right])
        return letters, product.reshape([size[c] for c in letters])

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        if not self.takes(x, weight) or x.dtype != weight.dtype:
            return super().linear(x, weight, bias)
        rows = self.plain(x).reshape(x.size // x.shape[-1], x.shape[-1])
        y = self.empty((len(rows), weight.shape[0]), dtype=x.dtype)
        if bias is not None:
            y[...] = bias
        self.multiplied(rows, weight.T, y, add=bias is not None)
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def linear_backward(
        self, grad: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        given = [a for a in (grad, x, weight) if a is not None]  # not kept for no gradient
        if not self.takes(*given) or any(a.dtype != grad.dtype for a in given):
            return super().linear_backward(grad, x, weight, needs)
        rows = self.plain(grad).reshape(grad.size // grad.shape[-1], grad.shape[-1])
        dx: Any = None
        if needs[0]:
            dx = self.matmul(rows, weight).reshape(*grad.shape[:-1], weight.shape[1])
        dweight = None
        if needs[1]:
            dweight = self.matmul(rows.T, self.plain(x).reshape(len(rows), prod(x.shape[-1:])))
        return dx, dweight, self.bias_backward(rows) if needs[2] else None


def _as_matrices(x: Array, letters: str, size: dict[str, int], parts: Sequence[Any]) -> Array:
    """An operand as (batch, rows, columns), each of several axes."""
    x = x.transpose([letters.index(c) for part in parts for c in part])
    return x.reshape([prod([size[c] for c in part]) for part in parts])


@cache
def _order(equation: str, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Which operands to multiply, step by step; the product is appended to those left."""
    if len(shapes) == 2:
        return [(0, 1)]
    outlines = [np.broadcast_to(0.0, shape) for shape in shapes]
    return np.einsum_path(equation, *outlines, optimize="greedy")[0][1:]
