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
        """The largest of each window, and the number of the cell that had it (row by row).

        NaN counts as largest. Cells in the border never win.
        """
        (top, _), (left, _), (h, w) = padding[0], padding[1], x.shape[-2:]
        lowest = -float("inf") if x.dtype.kind == "f" else self.module.iinfo(x.dtype).min
        padded = self.pad_image(x, padding, lowest)
        rows = self.arange(size[0]).reshape(-1, 1) * stride[0] - top
        columns = self.arange(size[1]) * stride[1] - left
        y: Any = None
        winner: Any = None
        empty: Any = None
        for i, j, window in self.windows(padded, kernel, stride, dilation, size):
            seen = padded[window]
            row, column = rows + i * dilation[0], columns + j * dilation[1]
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            if y is None:
                y, winner = seen.copy(), self.zeros(seen.shape, dtype=self._cell_type(kernel))
                empty = ~inside  # windows of which no cell inside was seen yet
                continue
            better = ((seen > y) | (seen != seen) | empty) & inside
            empty = empty & ~inside
            y = self.where(better, seen, y)
            cell = self.full((), i * kernel[1] + j, dtype=winner.dtype)
            winner = self.where(better, cell, winner)
        return y, winner

    def _cell_type(self, kernel: Pair) -> str:
        """A dtype for cell numbers."""
        return "uint8" if prod(kernel) < 256 else "int64"

    def max_pool2d_places(
        self,
        winner: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        width: int,
    ) -> Array:
        """The flat place in its image of each winner, for images of this width."""
        oh, ow = winner.shape[-2:]
        cell = winner.astype("int64")
        rows = self.arange(oh).reshape(-1, 1) * stride[0] - padding[0][0]
        columns = self.arange(ow) * stride[1] - padding[1][0]
        row = rows + cell // kernel[1] * dilation[0]
        return row * width + columns + cell % kernel[1] * dilation[1]

    def max_pool2d_backward(
        self,
        grad: Array,
        winner: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        shape: tuple[int, ...],
    ) -> Array:
        """dx: each dy goes to the cell that won its window."""
        (top, bottom), (left, right) = padding
        padded = (*shape[:-2], shape[-2] + top + bottom, shape[-1] + left + right)
        dx = self.zeros(padded, dtype=grad.dtype)
        nothing = self.zeros((), dtype=grad.dtype)
        for i, j, window in self.windows(dx, kernel, stride, dilation, grad.shape[-2:]):
            dx[window] += self.where(winner == i * kernel[1] + j, grad, nothing)
        return self.crop_image(dx, padding)

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
