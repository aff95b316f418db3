"""Convolutions with compiled kernels: which algorithm suits which sizes.

3 x 3 kernels with many channels go by Winograd's algorithm (winograd.py), most others as they are
written down (direct.py); products with single pixels, and sums that would fill less than half a
row of a tile, by windows and the BLAS, as in cpu/convolution.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled import direct, winograd
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.compiled.tiles import columns
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
        g, compiled = geometry, self.compiles(x)
        if not compiled or not (by_winograd(g) or directly(g, g.outputs, x.itemsize)):
            return super()._convolved(x, kernel, bias, g)
        shift = np.zeros(g.outputs, x.dtype) if bias is None else plain(bias)
        y = np.empty((len(x), *g.out, g.outputs), x.dtype)
        if by_winograd(g):
            winograd.convolve(plain(channels_last(x)), plain(kernel), shift, y, g)
        else:
            direct.convolve(plain(channels_last(x)), kernel.transpose(3, 2, 0, 1), shift, y, g)
        return y

    def _dx(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        g = geometry
        if by_winograd(g) or not self.compiles(grad) or not directly(g, g.channels, grad.itemsize):
            return super()._dx(grad, weight, g)
        dx = np.empty((len(grad), *g.image, g.channels), grad.dtype)
        direct.dimage(plain(grad), weight, dx, g)
        return dx

    def _dkernel(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        g = geometry
        if self.compiles(x):
            if by_winograd(g):
                return winograd.dkernel(plain(grad), plain(channels_last(x)), g)
            if g.kernel != (1, 1) and directly(g, g.outputs, x.itemsize):
                return direct.dkernel(plain(grad), plain(channels_last(x)), g)
        return super()._dkernel(grad, x, g)


@lru_cache(maxsize=1024)
def by_winograd(g: Geometry) -> bool:
    """Whether a quarter of the multiplications makes up for three transformations.

    Forward and gradient of the kernel, ms on two threads (directly): (32, 64, 32, 32) *
    (64, 64, 3, 3) 8.6 and 12.1 (15.1, 20.3); (32, 64, 8, 8) * (64, 64, 3, 3) 1.1 and 1.7 (1.2,
    1.5); (64, 32, 14, 14) * (64, 32, 3, 3) 3.2 and 4.3 (3.2, 3.8).
    """
    if g.kernel != (3, 3) or g.stride != (1, 1) or g.dilation != (1, 1):
        return False
    many = min(g.channels, g.outputs) >= 48 and min(g.out) >= 4
    return many and g.count * prod(g.out) >= 16 * 24  # tiles, to make up for those of the kernel


@lru_cache(maxsize=1024)
def directly(g: Geometry, outputs: int, itemsize: int) -> bool:
    """Whether sums in registers are faster than windows and a product of the BLAS, whose tiles
    waste nothing where there are few ``outputs``.

    Forward and both gradients, ms on two threads (by windows): (32, 16, 32, 32) * (32, 16, 3, 3)
    with stride 2 0.8, 0.7, 0.9 (1.2, 2.3, 1.3); (16, 3, 64, 64) * (32, 3, 7, 7) with stride 2 0.9,
    5.3, 1.3 (2.1, 4.6, 1.9), where dx has 3 outputs.
    """
    row = columns(np.dtype(f"f{itemsize}"))
    pixels = g.kernel == (1, 1) and g.stride == (1, 1)
    return not pixels and outputs / (-(-outputs // row) * row) >= 0.4
