"""The affine map."""

from __future__ import annotations

from minigrad.backends.base import Array, Backend
from minigrad.shapes import prod


class Linear(Backend):
    """y = x W^T + b and its gradients."""

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """y = x W^T + b.  Shapes: x (..., in), weight (out, in), bias (out,), y (..., out)."""
        y = self.matmul(self._rows(x), weight.T)
        if bias is not None:
            y = y + bias
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def linear_backward(
        self, grad: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx = dy W,  dW = dy^T x,  db = sum of dy over the batch."""
        rows = self._rows(grad)
        dx = (
            self.matmul(rows, weight).reshape(*grad.shape[:-1], weight.shape[1])
            if needs[0]
            else None
        )
        dweight = self.matmul(rows.T, self._rows(x)) if needs[1] else None
        return dx, dweight, rows.sum(axis=0) if needs[2] else None

    def _rows(self, x: Array) -> Array:
        """All axes but the last as one (its size spelt out: -1 is undefined in an empty array)."""
        return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])
