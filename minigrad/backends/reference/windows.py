"""Windows that slide over an image, and borders around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minigrad.backends.base import Array, Backend
from minigrad.shapes import conv_size

Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)
Pair = tuple[int, int]


class Windows(Backend):
    """What convolution and pooling share."""

    def windows(
        self, x: Array, kernel: Pair, stride: Pair, dilation: Pair, size: Pair
    ) -> Iterator[tuple[int, int, Any]]:
        """For each place (i, j) in the kernel, the index that selects what it meets in ``x``."""
        (kh, kw), (sh, sw), (dh, dw), (oh, ow) = kernel, stride, dilation, size
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                yield i, j, (..., rows, columns)

    def pad_image(self, x: Array, padding: Pads, value: float = 0.0) -> Array:
        """``x`` (..., H, W) with a border of ``value``."""
        if padding == ((0, 0), (0, 0)):
            return x
        (top, bottom), (left, right) = padding
        h, w = x.shape[-2:]
        y = self.full((*x.shape[:-2], h + top + bottom, w + left + right), value, dtype=x.dtype)
        y[..., top : top + h, left : left + w] = x
        return y

    def crop_image(self, x: Array, padding: Pads) -> Array:
        """``pad_image`` undone."""
        (top, bottom), (left, right) = padding
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    def _conv_sizes(self, padded: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
        return (
            conv_size(padded.shape[-2], kernel[0], stride[0], 0, dilation[0]),
            conv_size(padded.shape[-1], kernel[1], stride[1], 0, dilation[1]),
        )
