"""ReLU, its gradient and that of the logistic function in one pass each.

The logistic function itself is NumPy's, whose exp computes eight numbers at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.cpu import activation as numpy
from minigrad.backends.cpu.activation import FEW
from minigrad.backends.cpu.layout import flat, share_kernel


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


@kernel
def times_slope(grad: Array, y: Array, dx: Array) -> None:
    """dx = dy y (1 - y)."""
    one = grad.dtype.type(1)
    for i in range(y.size):
        dx[i] = grad[i] * (y[i] * (one - y[i]))


class Activation(numpy.Activation):
    """Large arrays are shared out among the threads."""

    compiles: Callable[[Array], bool]

    def relu(self, x: Array) -> Array:
        if x.size < FEW or not self.compiles(x):
            return super().relu(x)
        y = np.empty_like(x)
        numbers, out = flat(x, y)
        numbers = plain(numbers)
        share_kernel(lambda i, j: partial(rectify, numbers[i:j], out[i:j]), out)
        return y

    def relu_backward(self, grad: Array, y: Array) -> Array:
        if not self._suit(grad, y):
            return super().relu_backward(grad, y)
        return _one_pass(where_positive, grad, y)

    def sigmoid_backward(self, grad: Array, y: Array) -> Array:
        if not self._suit(grad, y):
            return super().sigmoid_backward(grad, y)
        return _one_pass(times_slope, grad, y)

    def _suit(self, grad: Array, y: Array) -> bool:
        """Whether kernels take these, and gain by it."""
        same = grad.dtype == y.dtype and grad.shape == y.shape
        return same and y.size >= FEW and self.compiles(y)


def _one_pass(kernel: Callable[[Array, Array, Array], None], grad: Array, y: Array) -> Array:
    """What ``kernel`` makes of each dy and y."""
    dx = np.empty_like(y)
    dy, value, out = flat(grad, y, dx)
    dy, value = plain(dy), plain(value)
    share_kernel(lambda i, j: partial(kernel, dy[i:j], value[i:j], out[i:j]), out)
    return dx
