"""3 x 3 convolutions with stride 1 by Winograd's algorithm: a quarter of the multiplications.

Four output rows and columns at a time, F(4 x 4, 3 x 3): a tile of 6 x 6 inputs and the kernel are
brought into a form in which the convolution is a product of numbers at each of 36 places, and so,
over channels and tiles, 36 matrix products. With the matrices A, B, G of the paper

    y tile = A^T [ sum over c of (G w G^T) . (B^T x tile B) ] A

and 36 multiplications stand for 4 * 4 * 3 * 3 = 144. The gradient of the kernel is the same three
steps undone; that of the image is a convolution again (cpu/convolution.py).

Source: Lavin and Gray (2015), "Fast algorithms for convolutional neural networks",
arXiv:1509.09308, section 4.3.
Rounding: the transformed numbers are larger than the result. In float32 it errs by about 6 times as
much as the direct sum, some 6e-6 of the largest value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.cpu import convolution as numpy
from minigrad.backends.cpu.convolution import Geometry, share
from minigrad.backends.cpu.layout import channels_last

G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
#: Numbers a block of transformed tiles; 1.2 MB in float32.
_BLOCK = 300_000


@kernel
def times_b(x: Array, y: Array) -> None:
    """y = B^T x, six vectors of channels into six."""
    a, b, c, d, e, f = x[0], x[1], x[2], x[3], x[4], x[5]
    p, q, r, s, t, u = y[0], y[1], y[2], y[3], y[4], y[5]
    for i in range(a.size):
        v, w = e[i] - 4 * c[i], d[i] - 4 * b[i]
        g, h = e[i] - c[i], 2 * (d[i] - b[i])
        p[i] = 4 * a[i] - 5 * c[i] + e[i]
        q[i] = v + w
        r[i] = v - w
        s[i] = g + h
        t[i] = g - h
        u[i] = 4 * b[i] - 5 * d[i] + f[i]


@kernel
def times_a(x: Array, y: Array) -> None:
    """y = A^T x, six vectors of channels into four."""
    a, b, c, d, e, f = x[0], x[1], x[2], x[3], x[4], x[5]
    p, q, r, s = y[0], y[1], y[2], y[3]
    for i in range(a.size):
        t, u, v, w = b[i] + c[i], b[i] - c[i], d[i] + e[i], d[i] - e[i]
        p[i] = a[i] + t + v
        q[i] = u + 2 * w
        r[i] = t + 4 * v
        s[i] = u + 8 * w + f[i]


@kernel
def back_through_a(x: Array, y: Array) -> None:
    """y = A x, four vectors of channels into six."""
    a, b, c, d = x[0], x[1], x[2], x[3]
    p, q, r, s, t, u = y[0], y[1], y[2], y[3], y[4], y[5]
    for i in range(a.size):
        v, w = a[i] + c[i], b[i] + d[i]
        g, h = a[i] + 4 * c[i], 2 * b[i] + 8 * d[i]
        p[i] = a[i]
        q[i] = v + w
        r[i] = v - w
        s[i] = g + h
        t[i] = g - h
        u[i] = d[i]


@kernel
def tiles_of_images(x: Array, top: int, left: int, tiles: Array, high: int, wide: int) -> None:
    """B^T x B of every tile: images (N, H, W, C) into (36, at least N high wide, C)."""
    images, height, width, channels = x.shape
    strip = np.zeros((6, 4 * wide + 2, channels), x.dtype)  # six rows inside their border
    half = np.empty((6, 6, channels), x.dtype)
    tile = 0
    for n in range(images):
        for i in range(high):
            for r in range(6):
                row = 4 * i + r - top
                if 0 <= row < height:
                    inside, source = strip[r], x[n, row]
                    for j in range(min(width, 4 * wide + 2 - left)):
                        for c in range(channels):
                            inside[left + j, c] = source[j, c]
                else:
                    inside = strip[r]
                    for j in range(4 * wide + 2):
                        for c in range(channels):
                            inside[j, c] = 0
            for j in range(wide):
                for r in range(6):
                    times_b(strip[r, 4 * j : 4 * j + 6], half[r])
                for k in range(6):
                    times_b(half[:, k], tiles[k::6, tile])
                tile += 1


@kernel
def images_of_tiles(tiles: Array, bias: Array, y: Array, high: int, wide: int) -> None:
    """A^T tiles A + bias: (36, at least N high wide, O) into images (N, H, W, O)."""
    images, height, width, channels = y.shape
    strip = np.empty((4, 4 * wide, channels), y.dtype)
    half = np.empty((4, 6, channels), y.dtype)
    tile = 0
    for n in range(images):
        for i in range(high):
            for j in range(wide):
                for k in range(6):
                    times_a(tiles[k::6, tile], half[:, k])
                for r in range(4):
                    times_a(half[r], strip[r, 4 * j : 4 * j + 4])
                tile += 1
            for r in range(min(4, height - 4 * i)):
                target, source = y[n, 4 * i + r], strip[r]
                for j in range(width):
                    out, value = target[j], source[j]
                    for c in range(channels):
                        out[c] = value[c] + bias[c]


@kernel
def tiles_of_gradients(grad: Array, tiles: Array, high: int, wide: int) -> None:
    """A dy A^T of every tile: ``images_of_tiles`` transposed."""
    images, height, width, channels = grad.shape
    strip = np.zeros((4, 4 * wide, channels), grad.dtype)
    half = np.empty((4, 6, channels), grad.dtype)
    tile = 0
    for n in range(images):
        for i in range(high):
            for r in range(4):
                if 4 * i + r < height:
                    inside, source = strip[r], grad[n, 4 * i + r]
                    for j in range(width):
                        for c in range(channels):
                            inside[j, c] = source[j, c]
                else:
                    inside = strip[r]
                    for j in range(4 * wide):
                        for c in range(channels):
                            inside[j, c] = 0
            for j in range(wide):
                for r in range(4):
                    back_through_a(strip[r, 4 * j : 4 * j + 4], half[r])
                for k in range(6):
                    back_through_a(half[:, k], tiles[k::6, tile])
                tile += 1


class Tiling:
    """The tiles of a convolution's images, and how many images make a block."""

    def __init__(self, geometry: Geometry, channels: int) -> None:
        self.top, self.left = geometry.top, geometry.left
        self.high, self.wide = -(-geometry.out[0] // 4), -(-geometry.out[1] // 4)
        self.block = max(1, _BLOCK // (36 * self.high * self.wide * channels))

    def empty(self, channels: int, dtype: np.dtype) -> Array:
        """Room for a block of tiles. One more than there are, so that the 36 places of a tile do
        not fall on the same lines of the cache."""
        return np.empty((36, self.block * self.high * self.wide + 1, channels), dtype)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, int]]:
        """(images, how many tiles they have)."""
        for first in range(start, stop, self.block):
            last = min(first + self.block, stop)
            yield slice(first, last), (last - first) * self.high * self.wide


class Convolution(numpy.Convolution):
    """Winograd's algorithm where it applies and gains."""

    compiles: Callable[[Array], bool]

    def _suits(self, x: Array, outputs: int, geometry: Geometry) -> bool:
        # (32, 64, 32, 32) * (64, 64, 3, 3) forward in 10 ms instead of 20, (32, 32, 16, 16) *
        # (32, 32, 3, 3) in 1.2 instead of 1.9; nothing is gained with 16 channels
        return (
            self.compiles(x)
            and geometry.kernel == (3, 3)
            and geometry.stride == geometry.dilation == (1, 1)
            and min(x.shape[1], outputs) >= 24
            and min(geometry.out) >= 4
        )

    def _convolved(self, x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
        outputs = kernel.shape[1]
        if not self._suits(x, outputs, geometry):
            return super()._convolved(x, kernel, bias, geometry)
        n, channels = x.shape[:2]
        half = G.astype(x.dtype) @ kernel.reshape(3, -1)  # G w, of its rows ...
        transformed = G.astype(x.dtype) @ half.reshape(6, 3, -1)  # ... and of its columns
        transformed = transformed.reshape(36, channels, outputs)
        pixels, shift = plain(channels_last(x)), np.zeros(outputs, x.dtype)
        if bias is not None:
            shift = plain(bias)
        y = np.empty((n, *geometry.out, outputs), x.dtype)
        tiling = Tiling(geometry, max(channels, outputs))

        def job(start: int, stop: int) -> None:
            tiles, products = (tiling.empty(c, x.dtype) for c in (channels, outputs))
            for images, count in tiling.blocks(start, stop):
                tiles_of_images(
                    pixels[images], tiling.top, tiling.left, tiles, tiling.high, tiling.wide
                )
                np.matmul(tiles[:, :count], transformed, out=products[:, :count])
                images_of_tiles(products, shift, y[images], tiling.high, tiling.wide)

        share(job, n, y.size * channels * 4, tiling.block)
        return y

    def _dweight(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        outputs, channels = grad.shape[3], x.shape[1]
        if not self._suits(x, outputs, geometry):
            return super()._dweight(grad, x, geometry)
        pixels, grad = plain(channels_last(x)), plain(grad)
        tiling = Tiling(geometry, max(channels, outputs))
        sums: dict[int, Any] = {}

        def job(start: int, stop: int) -> None:
            tiles, slopes = (tiling.empty(c, x.dtype) for c in (channels, outputs))
            total = np.zeros((36, channels, outputs))  # float64, as in cpu/convolution.py
            product = np.empty((36, channels, outputs), x.dtype)
            for images, count in tiling.blocks(start, stop):
                tiles_of_images(
                    pixels[images], tiling.top, tiling.left, tiles, tiling.high, tiling.wide
                )
                tiles_of_gradients(grad[images], slopes, tiling.high, tiling.wide)
                np.matmul(tiles[:, :count].transpose(0, 2, 1), slopes[:, :count], out=product)
                total += product
            sums[start] = total

        share(job, len(x), grad.size * channels * 4, tiling.block)
        total = sum(sums[start] for start in sorted(sums)).reshape(6, 6, -1)
        dkernel = (G.T @ (G.T @ total).reshape(6, -1)).astype(x.dtype)  # G^T total G
        return np.ascontiguousarray(dkernel.reshape(3, 3, channels, outputs).transpose(3, 2, 0, 1))
