"""Pooling: one number for each window of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import ShapeError
from minigrad.shapes import as_pair
from minigrad.tensor import Tensor, apply, wrap

Pair = int | Sequence[int]
Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window.

    Shapes: input (..., H, W), y (..., oh, ow).
    Args:
        stride: the window's step; its own size by default.
        ceil_mode: count windows that reach over the border at the end.
        return_indices: also the flat place of each winner in its image.
    """
    kernel, spread = as_pair(kernel_size, "kernel_size"), as_pair(dilation, "dilation")
    step = kernel if stride is None else as_pair(stride, "stride")
    size, pads = _pool_sizes(input, kernel, step, as_pair(padding, "padding"), spread, ceil_mode)
    op = ops.MaxPool2d(kernel, step, pads, spread, size)
    y = apply(op, input)
    return (y, wrap(op.places)) if return_indices else y


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Args:
        count_include_pad: whether padded zeros count in the mean.
        divisor_override: divide each sum by this instead of the number of cells.
    """
    kernel, before = as_pair(kernel_size, "kernel_size"), as_pair(padding, "padding")
    step = kernel if stride is None else as_pair(stride, "stride")
    size, pads = _pool_sizes(input, kernel, step, before, (1, 1), ceil_mode)
    counts = []
    for axis in (0, 1):
        length, border = input.shape[axis - 2], before[axis]
        start = np.arange(size[axis]) * step[axis] - border
        end = np.minimum(start + kernel[axis], length + border)
        if not count_include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, length)
        counts.append(end - start)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ValueError("avg_pool2d needs a divisor_override other than 0.")
        share = np.full(size, 1 / divisor_override)
    else:
        share = 1 / np.outer(*counts)
    xp = backend_of(input.array)
    op = ops.AvgPool2d(kernel, step, pads, size, xp.asarray(share, dtype=input.dtype))
    return apply(op, input)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over windows that divide the image into ``output_size`` parts, as evenly as they come.

    Part i of n over a length L covers floor(i L / n) to ceil((i + 1) L / n). That is a linear map
    of each axis, so it is computed as one: A x Bᵀ.
    """
    h, w = input.shape[-2:]
    wanted = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    oh, ow = (n if o is None else o for n, o in zip((h, w), wanted, strict=True))
    if (oh, ow) == (1, 1):
        return input.mean((-2, -1), keepdim=True)
    if (oh, ow) == (h, w):
        return input
    if not h % oh and not w % ow:
        return avg_pool2d(input, (h // oh, w // ow))
    xp = backend_of(input.array)
    left, right = (
        wrap(xp.from_host(_averaging(o, n).astype(input.dtype), input.device))
        for o, n in ((oh, h), (ow, w))
    )
    return left @ input @ right.T


def _averaging(parts: int, length: int) -> Any:
    rows = np.zeros((parts, length))
    for i in range(parts):
        start, end = i * length // parts, -(-(i + 1) * length // parts)
        rows[i, start:end] = 1 / (end - start)
    return rows


def _pool_sizes(
    input: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> tuple[tuple[int, int], Pads]:
    """The output's size, and the border on each side (larger at the end for ceil_mode)."""
    if input.ndim not in (3, 4):
        raise ShapeError(f"pooling expects (N, C, H, W) or (C, H, W), got {input.shape}.")
    sizes, pads = [], []
    for n, k, s, p, d in zip(input.shape[-2:], kernel, stride, padding, dilation, strict=True):
        if k < 1 or s < 1 or d < 1:
            raise ValueError(
                f"pooling needs kernel, stride and dilation of at least 1, got {kernel}, {stride}, "
                f"{dilation}."
            )
        if not 0 <= p <= k // 2:
            raise ValueError(f"pooling needs 0 <= padding <= kernel / 2, got {padding}, {kernel}.")
        reach = d * (k - 1) + 1
        span = n + 2 * p - reach
        out = (-(-span // s) if ceil_mode else span // s) + 1
        if ceil_mode and (out - 1) * s >= n + p:
            out -= 1  # a window must start inside the image or the border before it
        if out < 1:
            raise ShapeError(
                f"pooling of {input.shape} with kernel {kernel} leaves nothing: the image is "
                "smaller than the kernel; use padding or a smaller kernel."
            )
        sizes.append(out)
        pads.append((p, max(p, (out - 1) * s + reach - n - p)))
    return (sizes[0], sizes[1]), (pads[0], pads[1])
