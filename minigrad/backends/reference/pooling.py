"""Pooling: one number for each window."""

from __future__ import annotations

from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.reference.windows import Pads, Pair, Windows
from minigrad.shapes import prod


class Pooling(Windows):
    """Maxima and means of windows."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, size: Pair
    ) -> tuple[Array, Array]:
        """The largest of each window and its flat place in the image (NaN counts as largest)."""
        (top, _), (left, _), width = padding[0], padding[1], x.shape[-1]
        lowest = -float("inf") if x.dtype.kind == "f" else self.module.iinfo(x.dtype).min
        padded = self.pad_image(x, padding, lowest)
        rows = self.asarray(range(size[0])).reshape(-1, 1) * stride[0] - top
        columns = self.asarray(range(size[1])) * stride[1] - left
        corner = rows * width + columns
        y = places = None
        for i, j, window in self.windows(padded, kernel, stride, dilation, size):
            seen = padded[window]
            place = corner + (i * dilation[0] * width + j * dilation[1])
            if y is None:
                y, places = seen.copy(), self.broadcast_to(place, seen.shape).copy()
                # the first place may lie in the border: any place inside beats it
                first = (rows < 0) | (columns < 0)
                fresh = self.broadcast_to(first, seen.shape).copy()
                continue
            inside = (
                (rows + i * dilation[0] >= 0)
                & (rows + i * dilation[0] < x.shape[-2])
                & (columns + j * dilation[1] >= 0)
                & (columns + j * dilation[1] < width)
            )
            better = ((seen > y) | (seen != seen) | fresh) & inside
            fresh &= ~inside
            y = self.where(better, seen, y)
            places = self.where(better, place, places)
        return y, places

    def max_pool2d_backward(
        self,
        grad: Array,
        places: Array,
        shape: tuple[int, ...],
    ) -> Array:
        """dx: each dy goes to the place that won its window."""
        flat = (*shape[:-2], shape[-2] * shape[-1])
        rows = grad.reshape(*grad.shape[:-2], prod(grad.shape[-2:]))
        return self.scatter_add(rows, places.reshape(rows.shape), rows.ndim - 1, flat).reshape(
            shape
        )

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, size: Pair, share: Array
    ) -> Array:
        """The sum of each window times ``share`` (oh, ow), 1 / the number of cells that count."""
        padded = self.pad_image(x, padding)
        y: Any = 0
        for _, _, window in self.windows(padded, kernel, stride, (1, 1), size):
            y = y + padded[window]
        return y * share

    def avg_pool2d_backward(
        self,
        grad: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        share: Array,
        shape: tuple[int, ...],
    ) -> Array:
        """dx: each dy is shared out evenly over its window."""
        (top, bottom), (left, right) = padding
        padded = (*shape[:-2], shape[-2] + top + bottom, shape[-1] + left + right)
        dx = self.zeros(padded, dtype=grad.dtype)
        grad = grad * share
        for _, _, window in self.windows(dx, kernel, stride, (1, 1), grad.shape[-2:]):
            dx[window] += grad
        return self.crop_image(dx, padding)
