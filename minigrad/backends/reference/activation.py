"""Activations that have kernels."""

from __future__ import annotations

from minigrad.backends.base import Array, Backend


class Activation(Backend):
    """The rectified linear unit; the others are formulas (ops/activation.py)."""

    def relu(self, x: Array) -> Array:
        """max(x, 0)."""
        return self.maximum(x, 0)

    def relu_backward(self, grad: Array, y: Array) -> Array:
        """dx = dy where y > 0, else 0."""
        return grad * (y > 0)
