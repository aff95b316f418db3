"""Bias, activations and dropout by kernels/elementwise.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import Grid, elements
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

    def dropout(self, x: Array, p: float, state: Array) -> tuple[Array, Array]:
        """x / (1 - p) where a random number says so, 0 elsewhere; and what the gradient needs.

        Args:
            p: the share that becomes 0.
            state: (seed, number of the call), uint64, in device memory; the call is counted.
        """
        taken = self.empty((2,), dtype="uint64")
        one = Grid((1, 1, 1), (1, 1, 1))
        self.launch("elementwise.dropout_next", one, x.dtype.char, state=state, taken=taken)
        return self.dropout_backward(x, p, taken), taken

    def dropout_backward(self, grad: Array, p: float, taken: Array) -> Array:
        """dx: dy by the same random numbers, drawn again."""
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
