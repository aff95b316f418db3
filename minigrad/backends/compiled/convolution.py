"""Convolutions with compiled kernels: which algorithm suits which sizes.

3 x 3 kernels with many channels go by Winograd's algorithm (winograd.py), those with few by planes
(planes.py); all others through windows, as in cpu/convolution.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled import planes, winograd
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.cpu import convolution as numpy
from minigrad.backends.cpu.convolution import Geometry
from minigrad.backends.cpu.layout import channels_last
from minigrad.shapes import prod


@kernel
def add_to_rows(y: Array, bias: Array) -> None:
    """y += bias for every row of y (rows, O). Rows are too short for NumPy's inner loops."""
    rows, columns = y.shape
    for i in range(rows):
        row = y[i]
        for j in range(columns):
            row[j] += bias[j]


class Convolution(numpy.Convolution):
    """``conv2d`` and its gradients, by the algorithm that suits."""

    compiles: Callable[[Array], bool]

    def add_bias(self, y: Array, bias: Array) -> None:
        if self.compiles(y):
            add_to_rows(y.reshape(-1, y.shape[-1]), plain(bias))
        else:
            super().add_bias(y, bias)

    def _convolved(self, x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
        suited = suits(geometry) if self.compiles(x) else None
        if suited is None:
            return super()._convolved(x, kernel, bias, geometry)
        shift = np.zeros(geometry.outputs, x.dtype) if bias is None else plain(bias)
        y = np.empty((len(x), *geometry.out, geometry.outputs), x.dtype)
        suited.convolve(plain(channels_last(x)), plain(kernel), shift, y, geometry)
        return y

    def _dkernel(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        suited = suits(geometry) if self.compiles(x) else None
        if suited is None:
            return super()._dkernel(grad, x, geometry)
        return suited.dkernel(plain(grad), plain(channels_last(x)), geometry)


@lru_cache(maxsize=1024)
def suits(geometry: Geometry) -> Any:
    """The module whose algorithm is faster than windows; None where neither is.

    Forward and gradient of the kernel, ms on two threads (by windows): Winograd of
    (32, 64, 32, 32) * (64, 64, 3, 3) 7.5 and 9.5 (20, 21), of (32, 32, 16, 16) * (32, 32, 3, 3)
    1.2 and 1.6 (1.9, 2.1); planes of (32, 16, 32, 32) * (16, 16, 3, 3) 1.8 and 1.8 (2.7, 2.9), with
    8 channels 0.7 and 0.6 (1.0, 1.3).
    """
    g = geometry
    if g.kernel != (3, 3) or g.stride != (1, 1) or g.dilation != (1, 1):
        return None
    # many channels, and tiles enough to make up for those of the kernel
    if min(g.channels, g.outputs) >= 24 and min(g.out) >= 4 and g.count * prod(g.out) >= 16 * 24:
        return winograd
    # few channels, and loops that are long enough
    if g.channels * g.outputs <= 16 * 16 and prod(g.out) >= 256:
        return planes
    return None
