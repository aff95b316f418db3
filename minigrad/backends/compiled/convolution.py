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
from minigrad.shapes import prod

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


# Six columns of a tile are columns 4 j to 4 j + 5 of the image. So a row of the image is stored by
# column modulo 4, (4 or more, wide, C), and the transforms run over all tiles of a row at once.


@kernel
def times_b(a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, y: Array) -> None:
    """y = B^T (a b c d e f): six vectors into six."""
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
    """y = A^T x, six vectors into four."""
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
    """y = A x, four vectors into six."""
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
def tiles_of_kernels(weight: Array, tiles: Array) -> None:
    """G w G^T of every kernel: (3, 3, C, O) into (36, C, O)."""
    channels, outputs = weight.shape[2:]
    half = np.empty((6, 3, outputs), tiles.dtype)
    sixth, small = tiles.dtype.type(1 / 6), tiles.dtype.type(1 / 24)
    for c in range(channels):
        for j in range(3):
            x, y, z = weight[0, j, c], weight[1, j, c], weight[2, j, c]
            for o in range(outputs):
                a, b, d = x[o], y[o], z[o]
                half[0, j, o] = a / 4
                half[1, j, o] = -sixth * (a + b + d)
                half[2, j, o] = -sixth * (a - b + d)
                half[3, j, o] = small * (a + 2 * b + 4 * d)
                half[4, j, o] = small * (a - 2 * b + 4 * d)
                half[5, j, o] = d
        for i in range(6):
            x, y, z = half[i, 0], half[i, 1], half[i, 2]
            for o in range(outputs):
                a, b, d = x[o], y[o], z[o]
                tiles[6 * i, c, o] = a / 4
                tiles[6 * i + 1, c, o] = -sixth * (a + b + d)
                tiles[6 * i + 2, c, o] = -sixth * (a - b + d)
                tiles[6 * i + 3, c, o] = small * (a + 2 * b + 4 * d)
                tiles[6 * i + 4, c, o] = small * (a - 2 * b + 4 * d)
                tiles[6 * i + 5, c, o] = d


@kernel
def add_to_rows(y: Array, bias: Array) -> None:
    """y += bias for every row of y (rows, O). Rows are too short for NumPy's inner loops."""
    rows, columns = y.shape
    for i in range(rows):
        row = y[i]
        for j in range(columns):
            row[j] += bias[j]


@kernel
def by_column(row: Array, left: int, out: Array) -> None:
    """A row of an image (W, C), ``left`` zeros before it, into (4, columns / 4, C) of zeros."""
    for j in range(row.shape[0]):
        target, source = out[(j + left) % 4, (j + left) // 4], row[j]
        for c in range(row.shape[1]):
            target[c] = source[c]


@kernel
def tiles_of_images(x: Array, top: int, left: int, tiles: Array, high: int, wide: int) -> None:
    """B^T x B of every tile: images (N, H, W, C) into (36, at least N high wide, C)."""
    images, height, width, channels = x.shape
    length = wide * channels
    columns = max(wide + 1, (width + left + 3) // 4)
    strip = np.zeros((6, 4, columns, channels), x.dtype)  # six rows inside their border
    flat = strip.reshape(6, 4, columns * channels)
    half = np.empty((6, 6, length), x.dtype)
    places = tiles.reshape(36, tiles.shape[1] * channels)
    for n in range(images):
        for i in range(high):
            for r in range(6):
                row = 4 * i + r - top
                if 0 <= row < height:
                    by_column(x[n, row], left, strip[r])
                else:
                    strip[r] = 0
                f = flat[r]
                times_b(
                    f[0, :length],
                    f[1, :length],
                    f[2, :length],
                    f[3, :length],
                    f[0, channels : channels + length],
                    f[1, channels : channels + length],
                    half[r],
                )
            start = (n * high + i) * length
            for k in range(6):
                times_b(
                    half[0, k],
                    half[1, k],
                    half[2, k],
                    half[3, k],
                    half[4, k],
                    half[5, k],
                    places[k::6, start : start + length],
                )


@kernel
def images_of_tiles(tiles: Array, bias: Array, y: Array, high: int, wide: int) -> None:
    """A^T tiles A + bias: (36, at least N high wide, O) into images (N, H, W, O)."""
    images, height, width, channels = y.shape
    length = wide * channels
    strip = np.empty((4, 4, wide, channels), y.dtype)
    flat = strip.reshape(4, 4, length)
    half = np.empty((4, 6, length), y.dtype)
    places = tiles.reshape(36, tiles.shape[1] * channels)
    for n in range(images):
        for i in range(high):
            start = (n * high + i) * length
            for k in range(6):
                times_a(places[k::6, start : start + length], half[:, k])
            for r in range(min(4, height - 4 * i)):
                times_a(half[r], flat[r])
                for j in range(width):
                    out, value = y[n, 4 * i + r, j], strip[r, j % 4, j // 4]
                    for c in range(channels):
                        out[c] = value[c] + bias[c]


@kernel
def tiles_of_gradients(grad: Array, tiles: Array, high: int, wide: int) -> None:
    """A dy A^T of every tile: ``images_of_tiles`` transposed."""
    images, height, _, channels = grad.shape
    length = wide * channels
    strip = np.zeros((4, 4, wide, channels), grad.dtype)
    flat = strip.reshape(4, 4, length)
    half = np.zeros((4, 6, length), grad.dtype)
    places = tiles.reshape(36, tiles.shape[1] * channels)
    for n in range(images):
        for i in range(high):
            for r in range(4):
                if 4 * i + r < height:
                    by_column(grad[n, 4 * i + r], 0, strip[r])
                    back_through_a(flat[r], half[r])
                else:
                    half[r] = 0
            start = (n * high + i) * length
            for k in range(6):
                back_through_a(half[:, k], places[k::6, start : start + length])


class Tiling:
    """The tiles of a convolution's images, and how many images make a block."""

    def __init__(self, geometry: Geometry, channels: int) -> None:
        self.top, self.left = geometry.top, geometry.left
        self.high, self.wide = -(-geometry.out[0] // 4), -(-geometry.out[1] // 4)
        self.block = geometry.images_a_block(_BLOCK, 36 * self.high * self.wide * channels)

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

    def _tiles(self, x: Array, geometry: Geometry) -> bool:
        # (32, 64, 32, 32) * (64, 64, 3, 3) forward in 10 ms instead of 20, (32, 32, 16, 16) *
        # (32, 32, 3, 3) in 1.2 instead of 1.9; nothing is gained with 16 channels, or where a few
        # tiles do not make up for those of the kernels
        return (
            self.compiles(x)
            and geometry.kernel == (3, 3)
            and geometry.stride == geometry.dilation == (1, 1)
            and min(geometry.channels, geometry.outputs) >= 24
            and min(geometry.out) >= 4
            and len(x) * prod(geometry.out) >= 16 * 24
        )

    def add_bias(self, y: Array, bias: Array) -> None:
        if self.compiles(y):
            add_to_rows(y.reshape(-1, y.shape[-1]), plain(bias))
        else:
            super().add_bias(y, bias)

    def _convolved(self, x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
        if not self._tiles(x, geometry):
            return super()._convolved(x, kernel, bias, geometry)
        n, channels, outputs = len(x), geometry.channels, geometry.outputs
        transformed = np.empty((36, channels, outputs), x.dtype)
        tiles_of_kernels(plain(kernel), transformed)
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

    def _dkernel(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        if not self._tiles(x, geometry):
            return super()._dkernel(grad, x, geometry)
        channels, outputs = geometry.channels, geometry.outputs
        pixels, grad = plain(channels_last(x)), plain(grad)
        tiling = Tiling(geometry, max(channels, outputs))
        back = G.T.astype(x.dtype)
        sums: dict[int, Any] = {}

        def job(start: int, stop: int) -> None:
            tiles, slopes = (tiling.empty(c, x.dtype) for c in (channels, outputs))
            product = np.empty((3, 6, channels * outputs), x.dtype)
            out = product.reshape(18, channels, outputs)
            half = np.empty((6, 3, channels * outputs), x.dtype)
            # of 9 numbers each, not 36; float64, as in cpu/convolution.py
            total = np.zeros((3, 3 * channels * outputs))
            for images, count in tiling.blocks(start, stop):
                tiles_of_images(
                    pixels[images], tiling.top, tiling.left, tiles, tiling.high, tiling.wide
                )
                tiles_of_gradients(grad[images], slopes, tiling.high, tiling.wide)
                x_tiles, dy_tiles = tiles[:, :count].transpose(0, 2, 1), slopes[:, :count]
                for i in (0, 3):  # G^T product G, of three rows of the 6 x 6 places at a time
                    places = slice(6 * i, 6 * i + 18)
                    np.matmul(x_tiles[places], dy_tiles[places], out=out)
                    np.matmul(back, product, out=half[i : i + 3])
                total += back @ half.reshape(6, -1)
            sums[start] = total

        share(job, len(x), grad.size * channels * 4, tiling.block)
        dkernel = sum(sums[start] for start in sorted(sums)).astype(x.dtype)
        return dkernel.reshape(3, 3, channels, outputs)
