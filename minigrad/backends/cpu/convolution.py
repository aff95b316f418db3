"""Convolution in channels-last memory: windows as rows of a matrix, one product, no transposition.

For one block of images after another, so that it stays in the cache: the windows are copied into
the rows of a matrix (im2col; runs of kw * C numbers), and one product with the kernel writes the
result where it belongs. Blocks are shared out among the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu import depthwise
from minigrad.backends.cpu.layout import channels_first, channels_last, column_sums, contiguous
from minigrad.backends.cpu.threads import BLAS_THREADS, one_blas_thread, pool
from minigrad.backends.reference import convolution as reference
from minigrad.backends.reference.windows import Pads, Pair
from minigrad.shapes import conv_size, prod

#: Numbers a block of windows; 1 MiB in float32. (32, 64, 32, 32) * (64, 64, 3, 3) forward: 18 ms on
#: two threads; 22 with blocks of 4 MiB, 26 with 9.
_BLOCK = 1 << 18
#: Multiplications from which a second thread pays.
_WORTH_SHARING = 1 << 23


@lru_cache(maxsize=1024)
class Geometry:
    """The sizes of one convolution: images (H, W, C) to (oh, ow, O), and how it is computed.

    Where channels are few, a row of the matrix serves several neighbouring outputs, ``together``:
    their windows overlap, so fewer numbers are copied, and the product is a wider one. The kernel
    then stands in its matrix several times, each time a step further.
    """

    def __init__(
        self,
        count: int,
        image: Pair,
        channels: int,
        outputs: int,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
    ) -> None:
        (h, w), ((top, bottom), (left, right)) = image, padding
        self.count = count  #: of images
        self.image, self.channels, self.outputs = image, channels, outputs
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.top, self.left = top, left
        self.padded = h + top + bottom, w + left + right
        self.direct = kernel == (1, 1) and padding == ((0, 0), (0, 0))  #: windows are pixels
        self.out = (
            conv_size(self.padded[0], kernel[0], stride[0], 0, dilation[0]),
            conv_size(self.padded[1], kernel[1], stride[1], 0, dilation[1]),
        )
        if min(self.out) < 1:  # the op's own check tells the user what to do
            raise ValueError(f"a kernel {kernel} reaches beyond an image {self.padded}.")
        fitting = [t for t in (1, 2, 4) if t == 1 or (dilation[1] == 1 and not self.out[1] % t)]
        self.together = 1 if self.direct else min(fitting, key=self._cost)
        self.row = (kernel[0], self._reach(self.together), channels)  #: one row of the matrix
        self.rows = self.out[0], self.out[1] // self.together  #: rows of one image
        self.block = self.images_a_block(_BLOCK, prod(self.rows) * prod(self.row))

    def images_a_block(self, numbers: int, numbers_an_image: int) -> int:
        """How many images make a block: at most a quarter, so that there is something to share."""
        return max(1, min(numbers // max(1, numbers_an_image), -(-self.count // 4)))

    def _reach(self, together: int) -> int:
        """Columns of the image in a row of the matrix."""
        return self.kernel[1] + (together - 1) * self.stride[1]

    def _cost(self, together: int) -> float:
        """ns an output and row of the kernel: copying numbers, starting runs, multiplying. Fitted:
        (32, 16, 32, 32) * (16, 16, 3, 3) takes 4.2 ms one by one, 3.5 two together, 6.2 four.
        """
        reach = self._reach(together)
        copied = (0.75 + 6 / max(1, reach * self.channels)) / together
        return reach * (copied + self.outputs / 35)

    def windows(self, images: Array) -> Array:
        """A view of padded images (B, H, W, C): for each row of the matrix, what stands in it."""
        b, row, column, channel = images.strides
        (sh, sw), (dh, dw) = self.stride, self.dilation
        shape = (len(images), *self.rows, *self.row)
        strides = (b, row * sh, column * sw * self.together, row * dh, column * dw, channel)
        return np.ndarray(shape, images.dtype, images, 0, strides)

    def matrix(self, kernel: Array) -> Array:
        """The kernel (kh, kw, C, O) as a matrix, (numbers in a row, together * O)."""
        if self.together == 1:
            return kernel.reshape(-1, self.outputs)
        wide = np.zeros((*self.row, self.together, self.outputs), kernel.dtype)
        for k in range(self.together):
            first = k * self.stride[1]
            wide[:, first : first + self.kernel[1], :, k] = kernel
        return wide.reshape(-1, self.together * self.outputs)

    def kernel_of(self, matrix: Array) -> Array:
        """``matrix`` transposed: the gradient of the kernel from that of its matrix."""
        wide = matrix.reshape(*self.row, self.together, self.outputs)
        steps = range(0, self.together * self.stride[1], self.stride[1])
        kw = self.kernel[1]
        total: Any = sum(wide[:, first : first + kw, :, k] for k, first in enumerate(steps))
        return total


class Windows:
    """The matrix of the windows of images (N, C, H, W), block by block, in memory used again."""

    def __init__(self, geometry: Geometry, dtype: np.dtype[Any]) -> None:
        self.geometry = g = geometry
        if not g.direct:
            self.padded = np.zeros((g.block, *g.padded, g.channels), dtype)
            self.view = g.windows(self.padded)
            self.matrix = np.empty(self.view.shape, dtype)

    def blocks(self, x: Array, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """(images, their windows as rows) for one block after another of images start to stop."""
        g, (h, w) = self.geometry, self.geometry.image
        for first in range(start, stop, g.block):
            images = slice(first, min(first + g.block, stop))
            if g.direct:
                pixels = x[images, :, :: g.stride[0], :: g.stride[1]].transpose(0, 2, 3, 1)
                yield images, pixels.reshape(-1, g.channels)
                continue
            count = images.stop - first
            inside = self.padded[:count, g.top : g.top + h, g.left : g.left + w]
            inside[...] = x[images].transpose(0, 2, 3, 1)
            np.copyto(self.matrix[:count], self.view[:count])
            yield images, self.matrix[:count].reshape(count * prod(g.rows), prod(g.row))


class Convolution(reference.Convolution):
    """conv2d and its gradients; one group of channels after another."""

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
        if depthwise.suits(weight, groups):
            return depthwise.forward(x, weight, bias, stride, padding, dilation)
        parts = []
        for i, o in _groups(groups, x, weight):
            b = None if bias is None else bias[o]
            g = _geometry(x[:, i], weight[o], stride, padding, dilation)
            parts.append(self._convolved(x[:, i], weight[o].transpose(2, 3, 1, 0), b, g))
        return channels_first(_joined(parts, axis=3))

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
        grad = channels_last(grad)
        dbias = column_sums(grad.reshape(-1, grad.shape[3])) if needs[2] else None
        if depthwise.suits(weight, groups):
            pair = depthwise.backward(grad, x, weight, stride, padding, dilation, needs)
            return *pair, dbias
        dx, dweight = [], []
        for i, o in _groups(groups, x, weight):
            g = _geometry(x[:, i], weight[o], stride, padding, dilation)
            if needs[1]:  # first: it needs more room besides, and dx is large
                dkernel = self._dkernel(grad[..., o], x[:, i], g)
                dweight.append(contiguous(dkernel.transpose(3, 2, 0, 1)))
            if needs[0]:
                dx.append(self._dx(grad[..., o], weight[o], g))
        return (
            channels_first(_joined(dx, axis=3)) if needs[0] else None,
            _joined(dweight, axis=0) if needs[1] else None,
            dbias,
        )

    def _convolved(self, x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
        """Images (N, C, H, W) and a kernel (kh, kw, C, O) to (N, oh, ow, O)."""
        g, matrix = geometry, geometry.matrix(kernel)
        y = np.empty((len(x), *g.out, g.outputs), x.dtype)

        def job(start: int, stop: int) -> None:
            for images, rows in Windows(g, x.dtype).blocks(x, start, stop):
                out = y[images]
                np.matmul(rows, matrix, out=out.reshape(len(rows), -1))
                if bias is not None:
                    self.add_bias(out, bias)

        share(job, len(x), y.size * len(matrix), g.block)
        return y

    def add_bias(self, y: Array, bias: Array) -> None:
        """y += bias for y (..., O)."""
        y += bias

    def _dx(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        """(N, H, W, C). With stride 1 dx is the convolution of dy, inside a border of zeros, with
        the kernel turned round and its inputs and outputs swapped; else see ``_by_phases`` and
        ``_spread``.
        """
        g = geometry
        if _phases_gain(g):
            return self._by_phases(grad, weight, g)
        top = g.dilation[0] * (g.kernel[0] - 1) - g.top
        left = g.dilation[1] * (g.kernel[1] - 1) - g.left
        bottom, right = g.image[0] + g.top - g.out[0], g.image[1] + g.left - g.out[1]
        if g.stride != (1, 1) or min(top, left, bottom, right) < 0:
            return self._spread(grad, weight, g)
        border = (top, bottom), (left, right)
        back = Geometry(g.count, g.out, g.outputs, g.channels, g.kernel, (1, 1), border, g.dilation)
        turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
        return self._convolved(channels_first(grad), turned, None, back)

    def _by_phases(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        """(N, H, W, C) with a stride. The pixels in every s-th row and column from (a, b) on, a
        *phase*, meet only the weights in every s-th row and column from (a, b) on: their gradient
        is a convolution of dy with these, and all phases are one with s * s * C outputs.

        dx of (16, 3, 64, 64) * (32, 3, 7, 7) with stride 2: 6.4 ms against 15 by ``_spread``.
        """
        g, (h, w), (sh, sw) = geometry, geometry.image, geometry.stride
        high, wide = (-(-size // s) for size, s in zip(g.padded, g.stride, strict=True))
        taps = -(-g.kernel[0] // sh), -(-g.kernel[1] // sw)
        whole = np.zeros((g.outputs, g.channels, taps[0] * sh, taps[1] * sw), weight.dtype)
        whole[:, :, : g.kernel[0], : g.kernel[1]] = weight
        phases = whole.reshape(g.outputs, g.channels, taps[0], sh, taps[1], sw)
        kernel = phases[:, :, ::-1, :, ::-1].transpose(2, 4, 0, 3, 5, 1)  # (th, tw, O, sh, sw, C)
        border = (taps[0] - 1, high - g.out[0]), (taps[1] - 1, wide - g.out[1])
        outputs = sh * sw * g.channels
        back = Geometry(g.count, g.out, g.outputs, outputs, taps, (1, 1), border, (1, 1))
        matrix = back.matrix(kernel.reshape(*taps, g.outputs, outputs))
        dx = np.empty((len(grad), h, w, g.channels), grad.dtype)

        def job(start: int, stop: int) -> None:
            for images, rows in Windows(back, grad.dtype).blocks(channels_first(grad), start, stop):
                parts = np.matmul(rows, matrix).reshape(-1, high, wide, sh, sw, g.channels)
                for i in range(sh):
                    for j in range(sw):
                        a, b = (i + g.top) % sh, (j + g.left) % sw
                        part = parts[:, (i + g.top) // sh :, (j + g.left) // sw :, a, b]
                        pixels = dx[images, i::sh, j::sw]
                        pixels[...] = part[:, : pixels.shape[1], : pixels.shape[2]]

        share(job, len(grad), grad.size * len(matrix) * sh * sw, back.block)
        return dx

    def _spread(self, grad: Array, weight: Array, geometry: Geometry) -> Array:
        """(N, H, W, C): dy times the kernel, every row of it added to its window."""
        g, (h, w) = geometry, geometry.image
        matrix = g.matrix(weight.transpose(2, 3, 1, 0)).T
        dx = np.empty((len(grad), h, w, g.channels), grad.dtype)

        def job(start: int, stop: int) -> None:
            images = np.empty((min(g.block, stop - start), *g.padded, g.channels), grad.dtype)
            view = g.windows(images)
            shares = np.empty(view.shape, grad.dtype)
            for first in range(start, stop, g.block):
                part = grad[first : min(first + g.block, stop)]
                rows = shares[: len(part)].reshape(-1, matrix.shape[1])
                np.matmul(part.reshape(len(rows), -1), matrix, out=rows)
                images[: len(part)] = 0
                for i in range(g.row[0]):
                    for j in range(g.row[1]):
                        view[: len(part), :, :, i, j] += shares[: len(part), :, :, i, j]
                inside = images[: len(part), g.top : g.top + h, g.left : g.left + w]
                dx[first : first + len(part)] = inside

        share(job, len(grad), grad.size * matrix.shape[1], g.block)
        return dx

    def _dkernel(self, grad: Array, x: Array, geometry: Geometry) -> Array:
        """(kh, kw, C, O): every window times its dy, summed."""
        g = geometry
        shape = prod(g.row), g.together * g.outputs
        parts: dict[int, Any] = {}

        def job(start: int, stop: int) -> None:
            total = np.zeros(shape)  # float64: the order of blocks makes no difference
            product = np.empty(shape, grad.dtype)
            for images, rows in Windows(g, x.dtype).blocks(x, start, stop):
                np.matmul(rows.T, grad[images].reshape(len(rows), -1), out=product)
                total += product
            parts[start] = total

        share(job, len(x), grad.size * shape[0], g.block)
        return g.kernel_of(sum(parts[start] for start in sorted(parts)).astype(grad.dtype))


def _phases_gain(geometry: Geometry) -> bool:
    """Whether multiplying with zeros, where s does not divide the kernel, costs less than adding
    overlapping windows. (32, 32, 16, 16) * (64, 32, 3, 3) with stride 2: 2.0 ms either way."""
    g = geometry
    if g.stride == (1, 1) or g.dilation != (1, 1):
        return False
    if g.kernel[0] < g.stride[0] or g.kernel[1] < g.stride[1]:
        return False
    whole = prod(-(-k // s) * s for k, s in zip(g.kernel, g.stride, strict=True))
    return (whole / prod(g.kernel) - 1) * g.outputs <= 40


def _geometry(x: Array, weight: Array, stride: Pair, padding: Pads, dilation: Pair) -> Geometry:
    outputs, channels, kh, kw = weight.shape
    return Geometry(len(x), x.shape[2:], channels, outputs, (kh, kw), stride, padding, dilation)


def _groups(count: int, x: Array, weight: Array) -> list[tuple[slice, slice]]:
    """The channels that each group reads, and those it makes."""
    if count == 1:
        return [(slice(None), slice(None))]
    into, out = x.shape[1] // count, len(weight) // count
    return [(slice(i * into, (i + 1) * into), slice(i * out, (i + 1) * out)) for i in range(count)]


def _joined(parts: list[Array], axis: int) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def share(
    job: Callable[[int, int], None], images: int, multiplications: int, block: int = 1
) -> None:
    """Call ``job`` for ranges of images, on several threads where there is enough to do."""
    share_calls(lambda start, stop: partial(job, start, stop), images, multiplications, block)


def share_calls(
    prepare: Callable[[int, int], Callable[[], Any]], n: int, multiplications: int, block: int = 1
) -> None:
    """Make the calls that ``prepare`` returns for ranges, on several threads where there is enough
    to do."""
    parts = pool.parts(multiplications, _WORTH_SHARING)
    if multiplications < BLAS_THREADS or (parts == 1 and not pool.workers):
        # Threads of the BLAS are in nobody's way as long as there are none of ours: the product of
        # (1, 32, 14, 14) * (64, 32, 3, 3) takes 48 us instead of 90
        prepare(0, n)()
    else:
        with one_blas_thread:
            pool.share_calls(prepare, n, parts, block)
