"""Convolution in channels-last memory: windows as rows of a matrix, one product, no transposition.

For one block of images after another, so that it stays in the cache: the windows are copied into
the rows of a matrix (im2col; runs of kw * C numbers), and one product with the kernel writes the
result where it belongs. Blocks are shared out among the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import channels_first, channels_last, column_sums
from minigrad.backends.cpu.threads import pool
from minigrad.backends.reference import convolution as reference
from minigrad.backends.reference.windows import Pads, Pair
from minigrad.shapes import conv_size, prod

#: Numbers a block of windows; 1 MiB in float32. (32, 64, 32, 32) * (64, 64, 3, 3) forward: 18 ms on
#: two threads; 22 with blocks of 4 MiB, 26 with 9.
_BLOCK = 1 << 18
#: Multiplications from which a second thread pays.
_WORTH_SHARING = 1 << 23


class Geometry:
    """The sizes of one convolution, and its blocks."""

    def __init__(
        self, image: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> None:
        (h, w), ((top, bottom), (left, right)) = image, padding
        self.image, self.kernel, self.stride, self.dilation = image, kernel, stride, dilation
        self.top, self.left = top, left
        self.direct = kernel == (1, 1) and padding == ((0, 0), (0, 0))  #: windows are pixels
        self.padded = h + top + bottom, w + left + right
        self.out = (
            conv_size(self.padded[0], kernel[0], stride[0], 0, dilation[0]),
            conv_size(self.padded[1], kernel[1], stride[1], 0, dilation[1]),
        )

    def images_a_block(self, channels: int) -> int:
        """How many images' windows make a block."""
        return max(1, _BLOCK // max(1, prod(self.out) * prod(self.kernel) * channels))

    def windows(self, images: Array) -> Array:
        """A view of padded images (B, H, W, C) as (B, oh, ow, kh, kw, C): every window."""
        b, row, column, channel = images.strides
        (sh, sw), (dh, dw) = self.stride, self.dilation
        return as_strided(
            images,
            (images.shape[0], *self.out, *self.kernel, images.shape[3]),
            (b, row * sh, column * sw, row * dh, column * dw, channel),
        )


class Windows:
    """Windows of images (N, C, H, W) as rows of a matrix, block by block, in memory that is used
    again.

    Where channels are few, runs of kw * C numbers are too short to copy well. There the matrix is
    filled column by column, in runs of ow numbers, and handed out transposed.
    """

    def __init__(self, x: Array, geometry: Geometry) -> None:
        self.x, self.geometry = x, geometry
        g = geometry
        self.block = min(g.images_a_block(x.shape[1]), max(len(x), 1))
        self.by_column = g.kernel[1] * x.shape[1] < 12
        if g.direct:
            return
        padded = np.zeros((self.block, *g.padded, x.shape[1]), x.dtype)
        view = g.windows(padded)
        if self.by_column:
            padded = np.zeros((x.shape[1], self.block, *g.padded), x.dtype).transpose(1, 2, 3, 0)
            view = g.windows(padded).transpose(3, 4, 5, 0, 1, 2)
        self.padded, self.view = padded, view
        self.matrix = np.empty(view.shape, x.dtype)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """(images, their windows as rows) for one block of images after another."""
        g, (h, w) = self.geometry, self.geometry.image
        columns = prod(g.kernel) * self.x.shape[1]
        if g.direct:
            sh, sw = g.stride
            images = slice(start, stop)
            pixels = self.x[images, :, ::sh, ::sw].transpose(0, 2, 3, 1)
            yield images, pixels.reshape(-1, columns)
            return
        for first in range(start, stop, self.block):
            images = slice(first, min(first + self.block, stop))
            count = images.stop - first
            inside = self.padded[:count, g.top : g.top + h, g.left : g.left + w]
            inside[...] = self.x[images].transpose(0, 2, 3, 1)
            np.copyto(self.matrix, self.view)
            if self.by_column:
                yield images, self.matrix.reshape(columns, -1)[:, : count * prod(g.out)].T
            else:
                yield images, self.matrix.reshape(-1, columns)[: count * prod(g.out)]


class Convolution(reference.Convolution):
    """conv2d and its gradients; groups as in the reference."""

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
    ) -> Array:
        if groups > 1:
            return super().conv2d(x, weight, bias, stride, padding, dilation, groups)
        geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        kernel = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])  # (kh kw C, O)
        return channels_first(self._convolved(x, kernel, bias, geometry))

    def _convolved(self, x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
        """Every window of ``x`` times ``kernel``: (N, C, H, W), (kh kw C, O) -> (N, oh, ow, O)."""
        o = kernel.shape[1]
        y = np.empty((len(x), *geometry.out, o), x.dtype)

        def job(start: int, stop: int) -> None:
            for images, rows in Windows(x[start:stop], geometry).blocks(0, stop - start):
                out = y[start:stop][images].reshape(len(rows), o)
                np.matmul(rows, kernel, out=out)
                if bias is not None:
                    out += bias

        share(job, len(x), y.size * len(kernel), geometry.images_a_block(x.shape[1]))
        return y

    def conv2d_backward(
        self,
        grad: Array,
        x: Array,
        weight: Array,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if groups > 1:
            return super().conv2d_backward(
                grad, x, weight, stride, padding, dilation, groups, needs
            )
        geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        grad = channels_last(grad)
        dx = channels_first(self._dx(grad, weight, geometry)) if needs[0] else None
        dweight = self._dweight(grad, x, geometry) if needs[1] else None
        return dx, dweight, column_sums(grad.reshape(-1, grad.shape[3])) if needs[2] else None

    def _dx(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        """(N, H, W, C). With stride 1 dx is the convolution of dy, inside a border of zeros, with
        the kernel turned round and its inputs and outputs swapped; else see ``_spread``.
        """
        g = geometry
        top = g.dilation[0] * (g.kernel[0] - 1) - g.top
        left = g.dilation[1] * (g.kernel[1] - 1) - g.left
        bottom, right = g.image[0] + g.top - g.out[0], g.image[1] + g.left - g.out[1]
        if g.stride != (1, 1) or min(top, left, bottom, right) < 0:
            return self._spread(grad, weight, geometry)
        back = Geometry(g.out, g.kernel, (1, 1), ((top, bottom), (left, right)), g.dilation)
        turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(-1, weight.shape[1])
        return self._convolved(channels_first(grad), turned, None, back)

    def _spread(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        """(N, H, W, C): dy times the kernel, every row of it added to its window."""
        (kh, kw), (oh, ow), (h, w) = geometry.kernel, geometry.out, geometry.image
        o, c = weight.shape[:2]
        kernel = weight.transpose(0, 2, 3, 1).reshape(o, -1)  # (O, kh kw C)
        dx = np.empty((len(grad), h, w, c), grad.dtype)
        block = geometry.images_a_block(c)

        def job(start: int, stop: int) -> None:
            images = np.empty((min(block, stop - start), *geometry.padded, c), grad.dtype)
            shares = np.empty((len(images), oh, ow, kh, kw, c), grad.dtype)
            view = geometry.windows(images)
            for first in range(start, stop, block):
                count = min(block, stop - first)
                rows = shares[:count].reshape(-1, kernel.shape[1])
                np.matmul(grad[first : first + count].reshape(-1, o), kernel, out=rows)
                images[...] = 0
                for i in range(kh):
                    for j in range(kw):
                        view[:count, :, :, i, j] += shares[:count, :, :, i, j]
                top, left = geometry.top, geometry.left
                dx[first : first + count] = images[:count, top : top + h, left : left + w]

        share(job, len(grad), grad.size * kernel.shape[1], block)
        return dx

    def _dweight(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        """(O, C, kh, kw): every window times its dy, summed."""
        o, c = grad.shape[3], x.shape[1]
        columns = prod(geometry.kernel) * c
        parts: dict[int, Any] = {}

        def job(start: int, stop: int) -> None:
            total = np.zeros((columns, o))  # float64: the order of blocks makes no difference
            product = np.empty((columns, o), grad.dtype)
            for images, rows in Windows(x[start:stop], geometry).blocks(0, stop - start):
                np.matmul(rows.T, grad[start:stop][images].reshape(len(rows), o), out=product)
                total += product
            parts[start] = total

        share(job, len(x), grad.size * columns, geometry.images_a_block(c))
        total = sum(parts[start] for start in sorted(parts)).astype(grad.dtype)
        by_place = total.reshape(*geometry.kernel, c, o)
        return np.ascontiguousarray(by_place.transpose(3, 2, 0, 1))


def share(
    job: Callable[[int, int], None], images: int, multiplications: int, block: int = 1
) -> None:
    """Call ``job`` for ranges of images, on several threads where there is enough to do."""
    pool.share(job, images, pool.count if multiplications > _WORTH_SHARING else 1, block)
