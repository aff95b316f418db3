"""ReLU and its gradient in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.cpu import activation as numpy
from minigrad.backends.cpu.activation import FEW
from minigrad.backends.cpu.layout import flat, shared


@kernel
def rectify(x: Array, y: Array) -> None:
    """y = max(x, 0); NaN stays."""
    nothing = x.dtype.type(0)
    for i in range(x.size):
        y[i] = nothing if x[i] <= nothing else x[i]


@kernel
def where_positive(grad: Array, y: Array, dx: Array) -> None:
    """dx = dy where y > 0, else 0."""
    nothing = grad.dtype.type(0)
    for i in range(y.size):
        dx[i] = grad[i] if y[i] > nothing else nothing


class Activation(numpy.Activation):
    """Large arrays are shared out among the threads."""

    compiles: Callable[[Array], bool]

    def relu(self, x: Array) -> Array:
        if x.size < FEW or not self.compiles(x):
            return super().relu(x)
        y = np.empty_like(x)
        numbers, out = flat(x, y)
        numbers = plain(numbers)
        shared(lambda i, j: rectify(numbers[i:j], out[i:j]), out)
        return y

    def relu_backward(self, grad: Array, y: Array) -> Array:
        if y.size < FEW or not self.compiles(y) or grad.dtype != y.dtype or grad.shape != y.shape:
            return super().relu_backward(grad, y)
        dx = np.empty_like(y)
        dy, value, out = flat(grad, y, dx)
        dy, value = plain(dy), plain(value)
        shared(lambda i, j: where_positive(dy[i:j], value[i:j], out[i:j]), out)
        return dx
