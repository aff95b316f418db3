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

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel
from minigrad.backends.cpu.convolution import Geometry, share

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
# They read any vectors and write the rows of one contiguous matrix: a compiler that has to ask for
# every pair of vectors whether they overlap gives up, and uses no vector units. The constants have
# the arrays' dtype, for a float32 times an int is a float64 in compiled code.


@kernel
def times_b(a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, y: Array) -> None:
    """y = B^T (a b c d e f): six vectors into six."""
    p, q, r, s, t, u = y[0], y[1], y[2], y[3], y[4], y[5]
    two, four, five = y.dtype.type(2), y.dtype.type(4), y.dtype.type(5)
    for i in range(a.size):
        v, w = e[i] - four * c[i], d[i] - four * b[i]
        g, h = e[i] - c[i], two * (d[i] - b[i])
        p[i] = four * a[i] - five * c[i] + e[i]
        q[i] = v + w
        r[i] = v - w
        s[i] = g + h
        t[i] = g - h
        u[i] = four * b[i] - five * d[i] + f[i]


@kernel
def times_a(a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, y: Array) -> None:
    """y = A^T (a b c d e f): six vectors into four."""
    p, q, r, s = y[0], y[1], y[2], y[3]
    two, four, eight = y.dtype.type(2), y.dtype.type(4), y.dtype.type(8)
    for i in range(a.size):
        t, u, v, w = b[i] + c[i], b[i] - c[i], d[i] + e[i], d[i] - e[i]
        p[i] = a[i] + t + v
        q[i] = u + two * w
        r[i] = t + four * v
        s[i] = u + eight * w + f[i]


@kernel
def back_through_a(a: Array, b: Array, c: Array, d: Array, y: Array) -> None:
    """y = A (a b c d): four vectors into six."""
    p, q, r, s, t, u = y[0], y[1], y[2], y[3], y[4], y[5]
    two, four, eight = y.dtype.type(2), y.dtype.type(4), y.dtype.type(8)
    for i in range(a.size):
        v, w = a[i] + c[i], b[i] + d[i]
        g, h = a[i] + four * c[i], two * b[i] + eight * d[i]
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
    two, four = tiles.dtype.type(2), tiles.dtype.type(4)
    quarter, sixth, small = (
        tiles.dtype.type(1 / 4),
        tiles.dtype.type(1 / 6),
        tiles.dtype.type(1 / 24),
    )
    for c in range(channels):
        for j in range(3):
            x, y, z = weight[0, j, c], weight[1, j, c], weight[2, j, c]
            for o in range(outputs):
                a, b, d = x[o], y[o], z[o]
                half[0, j, o] = quarter * a
                half[1, j, o] = -sixth * (a + b + d)
                half[2, j, o] = -sixth * (a - b + d)
                half[3, j, o] = small * (a + two * b + four * d)
                half[4, j, o] = small * (a - two * b + four * d)
                half[5, j, o] = d
        for i in range(6):
            x, y, z = half[i, 0], half[i, 1], half[i, 2]
            for o in range(outputs):
                a, b, d = x[o], y[o], z[o]
                tiles[6 * i, c, o] = quarter * a
                tiles[6 * i + 1, c, o] = -sixth * (a + b + d)
                tiles[6 * i + 2, c, o] = -sixth * (a - b + d)
                tiles[6 * i + 3, c, o] = small * (a + two * b + four * d)
                tiles[6 * i + 4, c, o] = small * (a - two * b + four * d)
                tiles[6 * i + 5, c, o] = d


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
    half, whole = np.empty((6, 6, length), x.dtype), np.empty((6, length), x.dtype)
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
                    whole,
                )
                for r in range(6):
                    places[6 * r + k, start : start + length] = whole[r]


@kernel
def images_of_tiles(tiles: Array, bias: Array, y: Array, high: int, wide: int) -> None:
    """A^T tiles A + bias: (36, at least N high wide, O) into images (N, H, W, O)."""
    images, height, width, channels = y.shape
    length = wide * channels
    strip = np.empty((4, 4, wide, channels), y.dtype)
    flat = strip.reshape(4, 4, length)
    half = np.empty((6, 4, length), y.dtype)
    places = tiles.reshape(36, tiles.shape[1] * channels)
    for n in range(images):
        for i in range(high):
            start = (n * high + i) * length
            stop = start + length
            for k in range(6):
                times_a(
                    places[k, start:stop],
                    places[6 + k, start:stop],
                    places[12 + k, start:stop],
                    places[18 + k, start:stop],
                    places[24 + k, start:stop],
                    places[30 + k, start:stop],
                    half[k],
                )
            for r in range(min(4, height - 4 * i)):
                times_a(
                    half[0, r], half[1, r], half[2, r], half[3, r], half[4, r], half[5, r], flat[r]
                )
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
    half, whole = np.zeros((4, 6, length), grad.dtype), np.empty((6, length), grad.dtype)
    places = tiles.reshape(36, tiles.shape[1] * channels)
    for n in range(images):
        for i in range(high):
            for r in range(4):
                if 4 * i + r < height:
                    by_column(grad[n, 4 * i + r], 0, strip[r])
                    back_through_a(flat[r, 0], flat[r, 1], flat[r, 2], flat[r, 3], half[r])
                else:
                    half[r] = 0
            start = (n * high + i) * length
            for k in range(6):
                back_through_a(half[0, k], half[1, k], half[2, k], half[3, k], whole)
                for r in range(6):
                    places[6 * r + k, start : start + length] = whole[r]


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


def convolve(x: Array, weight: Array, bias: Array, y: Array, geometry: Geometry) -> None:
    """Images (N, H, W, C) and a kernel (3, 3, C, O) into y (N, oh, ow, O)."""
    channels, outputs = geometry.channels, geometry.outputs
    transformed = np.empty((36, channels, outputs), x.dtype)
    tiles_of_kernels(weight, transformed)
    tiling = Tiling(geometry, max(channels, outputs))

    def job(start: int, stop: int) -> None:
        tiles, products = (tiling.empty(c, x.dtype) for c in (channels, outputs))
        for images, count in tiling.blocks(start, stop):
            tiles_of_images(x[images], tiling.top, tiling.left, tiles, tiling.high, tiling.wide)
            np.matmul(tiles[:, :count], transformed, out=products[:, :count])
            images_of_tiles(products, bias, y[images], tiling.high, tiling.wide)

    share(job, len(x), y.size * channels * 4, tiling.block)


def dkernel(grad: Array, x: Array, geometry: Geometry) -> Array:
    """The gradient of the kernel, (3, 3, C, O), of dy (N, oh, ow, O) and images (N, H, W, C)."""
    channels, outputs = geometry.channels, geometry.outputs
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
            tiles_of_images(x[images], tiling.top, tiling.left, tiles, tiling.high, tiling.wide)
            tiles_of_gradients(grad[images], slopes, tiling.high, tiling.wide)
            x_tiles, dy_tiles = tiles[:, :count].transpose(0, 2, 1), slopes[:, :count]
            for i in (0, 3):  # G^T product G, of three rows of the 6 x 6 places at a time
                places = slice(6 * i, 6 * i + 18)
                np.matmul(x_tiles[places], dy_tiles[places], out=out)
                np.matmul(back, product, out=half[i : i + 3])
            total += back @ half.reshape(6, -1)
        sums[start] = total

    share(job, len(x), grad.size * channels * 4, tiling.block)
    total = sum(sums[start] for start in sorted(sums)).astype(x.dtype)
    return total.reshape(3, 3, channels, outputs)
