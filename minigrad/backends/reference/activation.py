"""Activations that have kernels."""

from __future__ import annotations

from minigrad.backends.base import Array, Backend


class Activation(Backend):
    """The rectified linear unit and the logistic function; the others are formulas
    (ops/activation.py)."""

    def relu(self, x: Array) -> Array:
        """max(x, 0)."""
        return self.maximum(x, 0)

    def relu_backward(self, grad: Array, y: Array) -> Array:
        """dx = dy where y > 0, else 0."""
        return grad * (y > 0)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)). Where exp(-x) overflows, 1 / inf is the 0 that is wanted."""
        return 1 / (1 + self.exp(-x))

    def sigmoid_backward(self, grad: Array, y: Array) -> Array:
        """dx = dy y (1 - y)."""
        return grad * (y * (1 - y))
