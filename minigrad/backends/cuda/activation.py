"""Bias and activations by kernels/elementwise.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import elements
from minigrad.backends.reference import activation as reference
from minigrad.shapes import prod

#: The number of each activation in elementwise.cu.
KINDS = {
    name: i
    for i, name in enumerate(("identity", "relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"))
}
#: Those whose gradient reads the value y; the others read x, with the bias added.
READS_VALUE = ("identity", "relu", "sigmoid", "tanh")


class Activation(Launching, reference.Activation):
    """One pass for a bias and what follows it."""

    def relu(self, x: Array) -> Array:
        return self.bias_activation(x, None, "relu") if self.takes(x) else super().relu(x)

    def relu_backward(self, grad: Array, y: Array) -> Array:
        if not self.takes(y) or grad.shape != y.shape:
            return super().relu_backward(grad, y)
        return self.activation_backward(grad, y, "relu")

    def bias_activation(
        self, x: Array, bias: Array | None, kind: str = "identity", axis: int = 1
    ) -> Array:
        """f(x + bias), the bias along ``axis`` of x; f is one of ``KINDS``."""
        x = self.plain(x)
        axis %= max(x.ndim, 1)
        y = self.empty(x.shape, dtype=x.dtype)
        self.launch(
            "elementwise.bias_activation",
            elements(x.size),
            x.dtype.char,
            x=x,
            bias=None if bias is None else self.plain(bias, x.dtype),
            y=y,
            n=x.size,
            C=1 if bias is None else x.shape[axis],
            S=1 if bias is None else prod(x.shape[axis + 1 :]),
            kind=KINDS[kind],
        )
        return y

    def activation_backward(self, grad: Array, kept: Array, kind: str) -> Array:
        """dx; ``kept`` is y for the activations in ``READS_VALUE``, x + bias for the others."""
        kept = self.plain(kept)
        dx = self.empty(kept.shape, dtype=kept.dtype)
        self.launch(
            "elementwise.activation_backward",
            elements(kept.size),
            kept.dtype.char,
            grad=self.plain(grad, kept.dtype),
            kept=kept,
            dx=dx,
            n=kept.size,
            kind=KINDS[kind],
        )
        return dx
