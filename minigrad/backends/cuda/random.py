"""Dropout by kernels/elementwise.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import Grid, elements
from minigrad.backends.reference import random as reference


class Random(Launching, reference.Random):
    """One kernel takes the number of the call and counts it, one drops."""

    def dropout(self, x: Array, p: float, state: Array) -> tuple[Array, Array]:
        if not self.takes(x):
            return super().dropout(x, p, state)
        taken = self.empty((2,), dtype="uint64")
        one = Grid((1, 1, 1), (1, 1, 1))
        self.launch("elementwise.dropout_next", one, x.dtype.char, state=state, taken=taken)
        return self.dropout_backward(x, p, taken), taken

    def dropout_backward(self, grad: Array, p: float, taken: Array) -> Array:
        if not self.takes(grad):
            return super().dropout_backward(grad, p, taken)
        grad = self.plain(grad)
        dx = self.empty(grad.shape, dtype=grad.dtype)
        self.launch(
            "elementwise.dropout",
            elements(-(-grad.size // 4)),
            grad.dtype.char,
            x=grad,
            taken=taken,
            y=dx,
            n=grad.size,
            bound=round((1 - p) * 2**32),
            scale=1 / (1 - p) if p < 1 else 0.0,
        )
        return dx
