"""ReLU by kernels/elementwise.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import elements
from minigrad.backends.reference import activation as reference


class Activation(Launching, reference.Activation):
    """One kernel forward, one backward."""

    def relu(self, x: Array) -> Array:
        if not self.takes(x):
            return super().relu(x)
        x = self.plain(x)
        y = self.empty(x.shape, dtype=x.dtype)
        self.launch("elementwise.relu", elements(x.size), x.dtype.char, x=x, y=y, n=x.size)
        return y

    def relu_backward(self, grad: Array, y: Array) -> Array:
        if not self.takes(y) or grad.shape != y.shape:
            return super().relu_backward(grad, y)
        y = self.plain(y)
        dx = self.empty(y.shape, dtype=y.dtype)
        self.launch(
            "elementwise.relu_backward",
            elements(y.size),
            y.dtype.char,
            grad=self.plain(grad, y.dtype),
            y=y,
            dx=dx,
            n=y.size,
        )
        return dx
