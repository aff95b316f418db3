"""Convolution of every channel by itself: no sums over channels, so no matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import channels_first, column_sums, contiguous, in_blocks
from minigrad.backends.reference.windows import Pads, Pair
from minigrad.shapes import conv_size


def suits(weight: Array, groups: int) -> bool:
    """Whether each channel has one kernel of its own."""
    return groups > 1 and weight.shape[:2] == (groups, 1)


def forward(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pads, dilation: Pair
) -> Array:
    """y[c] = sum over (i, j) of w[c, i, j] x[c] shifted."""
    pixels, kernel = _padded(x, padding), _kernel(weight)
    y = np.empty((len(x), *_size(pixels, weight, stride, dilation), x.shape[1]), x.dtype)

    def job(block: slice) -> None:
        out = y[block]
        out[...] = 0 if bias is None else bias
        for i, j, seen in _cells(pixels[block], weight, stride, dilation):
            out += seen * kernel[i, j]

    in_blocks(job, y)
    return channels_first(y)


def backward(
    grad: Array,
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pads,
    dilation: Pair,
    needs: tuple[bool, ...],
) -> tuple[Array | None, Array | None]:
    """dx and dweight for grad (N, oh, ow, C)."""
    pixels, kernel = _padded(x, padding), _kernel(weight)
    padded = np.zeros_like(pixels)
    (top, _), (left, _), (h, w) = padding[0], padding[1], x.shape[2:]

    def job(block: slice) -> Any:
        dy, sums = grad[block], np.zeros(kernel.shape, grad.dtype)
        seen = _cells(pixels[block], weight, stride, dilation)
        share = _cells(padded[block], weight, stride, dilation)
        for (i, j, cell), (_, _, place) in zip(seen, share, strict=True):
            if needs[0]:
                place += dy * kernel[i, j]
            if needs[1]:
                sums[i, j] = column_sums((cell * dy).reshape(-1, dy.shape[3]))
        return sums

    total = np.sum(in_blocks(job, grad), axis=0)
    dx = channels_first(padded[:, top : top + h, left : left + w])
    dweight = contiguous(total.transpose(2, 0, 1)[:, None])
    return dx if needs[0] else None, dweight if needs[1] else None


def _padded(x: Array, padding: Pads) -> Array:
    """(N, C, H, W) in a border of zeros, channels last."""
    (top, bottom), (left, right) = padding
    n, c, h, w = x.shape
    y = np.zeros((n, h + top + bottom, w + left + right, c), x.dtype)
    y[:, top : top + h, left : left + w] = x.transpose(0, 2, 3, 1)
    return y


def _kernel(weight: Array) -> Array:
    """(C, 1, kh, kw) as (kh, kw, C)."""
    return contiguous(weight[:, 0].transpose(1, 2, 0))


def _size(padded: Array, weight: Array, stride: Pair, dilation: Pair) -> Pair:
    high, wide = (
        conv_size(padded.shape[1 + a], weight.shape[2 + a], stride[a], 0, dilation[a])
        for a in (0, 1)
    )
    return high, wide


def _cells(
    padded: Array, weight: Array, stride: Pair, dilation: Pair
) -> list[tuple[int, int, Array]]:
    """(i, j, what cell (i, j) of the kernel meets) in padded images (N, H, W, C)."""
    (sh, sw), (dh, dw), (oh, ow) = stride, dilation, _size(padded, weight, stride, dilation)
    return [
        (
            i,
            j,
            padded[
                :,
                i * dh : i * dh + sh * (oh - 1) + 1 : sh,
                j * dw : j * dw + sw * (ow - 1) + 1 : sw,
            ],
        )
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
