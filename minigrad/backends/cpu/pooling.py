"""Pooling in channels-last memory: every cell of a window is a view of the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import channels_first, channels_last, in_blocks, select
from minigrad.backends.reference import pooling as reference
from minigrad.backends.reference.windows import Pads, Pair


def simple(x: Array, padding: Pads) -> bool:
    """Whether these are floating images without a border."""
    return x.ndim == 4 and x.dtype.kind == "f" and padding == ((0, 0), (0, 0))


def apart(kernel: Pair, stride: Pair, dilation: Pair) -> bool:
    """Whether no place is in two windows."""
    return stride[0] >= kernel[0] and stride[1] >= kernel[1] and dilation == (1, 1)


class Pooling(reference.Pooling):
    """Windows without a border, of floating 4-d arrays; the rest as in the reference."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, size: Pair
    ) -> tuple[Array, Array]:
        if not simple(x, padding):
            return super().max_pool2d(x, kernel, stride, padding, dilation, size)
        pixels = channels_last(x)
        y = np.empty((len(x), *size, x.shape[1]), x.dtype)
        winner = np.zeros(y.shape, self._cell_type(kernel))

        def job(block: slice) -> None:
            best, number = y[block], winner[block]
            for cell, seen in enumerate(_cells(pixels[block], kernel, stride, dilation, size)):
                if not cell:
                    best[...] = seen
                else:  # the numbers rise, so the last that was better is the largest
                    better = (seen > best).view("u1") * number.dtype.type(cell)
                    np.maximum(number, better, out=number)
                    np.maximum(best, seen, out=best)

        in_blocks(job, pixels)
        if np.isnan(y.min(initial=0)):
            return super().max_pool2d(x, kernel, stride, padding, dilation, size)
        return channels_first(y), channels_first(winner)

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
        if not simple(grad, padding):
            return super().max_pool2d_backward(
                grad, winner, kernel, stride, padding, dilation, shape
            )
        dy, won, size = channels_last(grad), channels_last(winner), grad.shape[2:]
        dx = np.zeros((shape[0], *shape[2:], shape[1]), grad.dtype)
        alone = apart(kernel, stride, dilation)

        def job(block: slice) -> None:
            part, number = dy[block], won[block]
            for cell, view in enumerate(_cells(dx[block], kernel, stride, dilation, size)):
                if alone:
                    select(number == cell, part, 0, out=view)
                else:
                    view += select(number == cell, part, 0)

        in_blocks(job, dx)
        return channels_first(dx)

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, size: Pair, share: Array
    ) -> Array:
        if not simple(x, padding):
            return super().avg_pool2d(x, kernel, stride, padding, size, share)
        pixels = channels_last(x)
        y = np.empty((len(x), *size, x.shape[1]), x.dtype)

        def job(block: slice) -> None:
            total = y[block]
            for cell, seen in enumerate(_cells(pixels[block], kernel, stride, (1, 1), size)):
                if not cell:
                    total[...] = seen
                else:
                    total += seen
            total *= share[:, :, None]

        in_blocks(job, pixels)
        return channels_first(y)

    def avg_pool2d_backward(
        self,
        grad: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        share: Array,
        shape: tuple[int, ...],
    ) -> Array:
        if not simple(grad, padding):
            return super().avg_pool2d_backward(grad, kernel, stride, padding, share, shape)
        dy = channels_last(grad)
        dx = np.zeros((shape[0], *shape[2:], shape[1]), grad.dtype)

        def job(block: slice) -> None:
            part = dy[block] * share[:, :, None]
            for view in _cells(dx[block], kernel, stride, (1, 1), grad.shape[2:]):
                view += part

        in_blocks(job, dx)
        return channels_first(dx)


def _cells(images: Array, kernel: Pair, stride: Pair, dilation: Pair, size: Any) -> list[Array]:
    """What each cell of the windows meets in images (N, H, W, C), row by row, as views."""
    (sh, sw), (oh, ow), found = stride, size, []
    for top in range(0, kernel[0] * dilation[0], dilation[0]):
        for left in range(0, kernel[1] * dilation[1], dilation[1]):
            rows = slice(top, top + sh * (oh - 1) + 1, sh)
            found.append(images[:, rows, left : left + sw * (ow - 1) + 1 : sw])
    return found
