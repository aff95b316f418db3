"""ReLU and the logistic function by kernels/elementwise.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import elements
from minigrad.backends.reference import activation as reference


class Activation(Launching, reference.Activation):
    """One kernel forward, one backward."""

    def relu(self, x: Array) -> Array:
        return self._value("relu", x) if self.takes(x) else super().relu(x)

    def relu_backward(self, grad: Array, y: Array) -> Array:
        if not self.takes(y) or grad.shape != y.shape:
            return super().relu_backward(grad, y)
        return self._gradient("relu_backward", grad, y)

    def sigmoid(self, x: Array) -> Array:
        return self._value("sigmoid", x) if self.takes(x) else super().sigmoid(x)

    def sigmoid_backward(self, grad: Array, y: Array) -> Array:
        if not self.takes(y) or grad.shape != y.shape:
            return super().sigmoid_backward(grad, y)
        return self._gradient("sigmoid_backward", grad, y)

    def _value(self, kernel: str, x: Array) -> Array:
        """y = f(x)."""
        x = self.plain(x)
        y = self.empty(x.shape, dtype=x.dtype)
        self.launch(f"elementwise.{kernel}", elements(x.size), x.dtype.char, x=x, y=y, n=x.size)
        return y

    def _gradient(self, kernel: str, grad: Array, y: Array) -> Array:
        """dx of dy and y."""
        y, grad = self.plain(y), self.plain(grad, y.dtype)
        dx, grid = self.empty(y.shape, dtype=y.dtype), elements(y.size)
        self.launch(f"elementwise.{kernel}", grid, y.dtype.char, grad=grad, y=y, dx=dx, n=y.size)
        return dx
