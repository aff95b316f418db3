"""Convolution, transposed convolution, and windows as columns."""

from __future__ import annotations

from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.reference.windows import Pads, Pair, Windows
from minigrad.shapes import prod


class Convolution(Windows):
    """Shifted products, and their gradients."""

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
        """Cross-correlation as kh * kw shifted products: y += W[:, :, i, j] x[shifted by i, j].

        Shapes: x (N, C, H, W), weight (O, C / groups, kh, kw), y (N, O, oh, ow).
        """
        x = self.pad_image(x, padding)
        kernel = weight.shape[2:]
        size = self._conv_sizes(x, kernel, stride, dilation)
        x, weight = self._grouped(x, weight, groups)
        y: Any = 0
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            columns = x[window]
            y = y + weight[..., i, j] @ columns.reshape(*columns.shape[:3], prod(size))
        y = y.reshape(x.shape[0], groups * weight.shape[1], *size)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

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
        """The three gradients, each product of the forward sum undone."""
        dbias = grad.sum(axis=(0, 2, 3)) if needs[2] else None
        kernel, size, full = weight.shape[2:], grad.shape[2:], weight.shape
        x = self.pad_image(x, padding)
        padded = x.shape
        x, weight = self._grouped(x, weight, groups)
        rows = grad.reshape(x.shape[0], groups, full[0] // groups, prod(size))
        dx = self.zeros(x.shape, dtype=grad.dtype) if needs[0] else None
        dweight = self.zeros(weight.shape, dtype=grad.dtype) if needs[1] else None
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            if dx is not None:
                dx[window] += (weight[..., i, j].swapaxes(-1, -2) @ rows).reshape(
                    *x.shape[:3], *size
                )
            if dweight is not None:
                columns = x[window].reshape(*x.shape[:3], prod(size))
                dweight[..., i, j] = (rows @ columns.swapaxes(-1, -2)).sum(axis=0)
        if dx is not None:
            dx = self.crop_image(dx.reshape(padded), padding)
        return dx, None if dweight is None else dweight.reshape(full), dbias

    def conv_transpose2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
    ) -> Array:
        """The dx of a convolution with ``weight`` and these settings whose dy is ``x``.

        Shapes: x (N, C, H, W), weight (C, O / groups, kh, kw), y (N, O, oh, ow) with
        oh = stride (H - 1) + dilation (kh - 1) + 1 - padding. Negative padding adds rows that no
        window reaches.
        """
        cut, more = self._cut_and_more(padding)
        shape = (
            x.shape[0],
            groups * weight.shape[1],
            *(
                s * (n - 1) + d * (k - 1) + 1 - sum(p)
                for n, s, d, k, p in zip(
                    x.shape[2:], stride, dilation, weight.shape[2:], cut, strict=True
                )
            ),
        )
        image = self.broadcast_to(self.zeros((), dtype=x.dtype), shape)
        y, _, _ = self.conv2d_backward(
            x, image, weight, stride, cut, dilation, groups, (True, False, False)
        )
        y = self.pad_image(y, more)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def conv_transpose2d_backward(
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
        """dx is the convolution of dy, dweight its dweight with x and dy swapped."""
        cut, more = self._cut_and_more(padding)
        dbias = grad.sum(axis=(0, 2, 3)) if needs[2] else None
        grad = self.crop_image(grad, more)
        dx = dweight = None
        if needs[0]:
            dx = self.conv2d(grad, weight, None, stride, cut, dilation, groups)
        if needs[1]:
            _, dweight, _ = self.conv2d_backward(
                x, grad, weight, stride, cut, dilation, groups, (False, True, False)
            )
        return dx, dweight, dbias

    def _cut_and_more(self, padding: Pads) -> tuple[Pads, Pads]:
        """What padding cuts off, and what negative padding adds."""
        (top, bottom), (left, right) = padding
        cut = (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))
        return cut, ((max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0)))

    def unfold(self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Array:
        """Every window of ``x`` as a column: (N, C, H, W) -> (N, C * kh * kw, oh * ow)."""
        x = self.pad_image(x, padding)
        size = self._conv_sizes(x, kernel, stride, dilation)
        n, c = x.shape[:2]
        columns = self.empty((n, c, *kernel, *size), dtype=x.dtype)
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            columns[:, :, i, j] = x[window]
        return columns.reshape(n, c * prod(kernel), prod(size))

    def fold(
        self, columns: Array, shape: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        """``unfold`` transposed: each column added to its window of an image of zeros."""
        (top, bottom), (left, right) = padding
        n, c = columns.shape[0], columns.shape[1] // prod(kernel)
        padded = (n, c, shape[0] + top + bottom, shape[1] + left + right)
        y = self.zeros(padded, dtype=columns.dtype)
        size = self._conv_sizes(y, kernel, stride, dilation)
        columns = columns.reshape(n, c, *kernel, *size)
        for i, j, window in self.windows(y, kernel, stride, dilation, size):
            y[window] += columns[:, :, i, j]
        return self.crop_image(y, padding)

    def _grouped(self, x: Array, weight: Array, groups: int) -> tuple[Array, Array]:
        n, c, h, w = x.shape
        return (
            x.reshape(n, groups, c // groups, h, w),
            weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]),
        )
