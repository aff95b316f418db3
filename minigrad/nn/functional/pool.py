"""Pooling: one number for each window of an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.shapes import Shape, as_pair, as_sizes, prod
from minigrad.tensor import Tensor, apply, wrap

Pair = int | Sequence[int]
Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool1d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of a sequence: max_pool2d of an image one row high.

    Shapes: input (N, C, L) or (C, L), y (N, C, ol) or (C, ol). See max_pool2d.
    """
    (kernel,), (border,) = as_sizes(kernel_size, 1, "kernel_size"), as_sizes(padding, 1, "padding")
    step = kernel if stride is None else as_sizes(stride, 1, "stride")[0]
    (spread,) = as_sizes(dilation, 1, "dilation")
    y, places = max_pool2d(
        _as_row("max_pool1d", input),
        (1, kernel),
        (1, step),
        (0, border),
        (1, spread),
        ceil_mode,
        return_indices=True,
    )
    return (y.squeeze(-2), places.squeeze(-2)) if return_indices else y.squeeze(-2)


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
    size, pads = _pool_sizes(
        input.shape, kernel, step, as_pair(padding, "padding"), spread, ceil_mode
    )
    op = ops.MaxPool2d(kernel, step, pads, spread, size)
    y = apply(op, input)
    if not return_indices:
        return y
    xp = backend_of(y.array)
    return y, wrap(xp.max_pool2d_places(op.winner, kernel, step, pads, spread, input.shape[-1]))


def avg_pool1d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of a sequence: avg_pool2d of an image one row high.

    Shapes: input (N, C, L) or (C, L), y (N, C, ol) or (C, ol). See avg_pool2d.
    """
    (kernel,), (border,) = as_sizes(kernel_size, 1, "kernel_size"), as_sizes(padding, 1, "padding")
    step = kernel if stride is None else as_sizes(stride, 1, "stride")[0]
    row = _as_row("avg_pool1d", input)
    y = avg_pool2d(row, (1, kernel), (1, step), (0, border), ceil_mode, count_include_pad)
    return y.squeeze(-2)


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
    size, pads = _pool_sizes(input.shape, kernel, step, before, (1, 1), ceil_mode)
    if input.dtype.kind != "f":
        raise DtypeError(f"avg_pool2d expects floating values, got {input.dtype}; use x.float().")
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
            raise ShapeError("avg_pool2d needs a divisor_override other than 0, got 0.")
        share = np.full(size, 1 / divisor_override)
    else:
        share = 1 / np.outer(*counts)
    xp = backend_of(input.array)
    op = ops.AvgPool2d(
        kernel, step, pads, size, xp.constant(share.astype(input.dtype), input.device)
    )
    return apply(op, input)


def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Means over windows that divide the sequence into ``output_size`` parts, as even as they come.

    Shapes: input (N, C, L) or (C, L), y (N, C, output_size) or without N. See adaptive_avg_pool2d.
    """
    (wanted,) = as_sizes(output_size, 1, "output_size")
    row = _as_row("adaptive_avg_pool1d", input)
    return adaptive_avg_pool2d(row, (1, wanted)).squeeze(-2)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over windows that divide the image into ``output_size`` parts, as evenly as they come.

    Part i of n over a length L covers floor(i L / n) to ceil((i + 1) L / n). That is a linear map
    of each axis, so it is computed as one: A x Bᵀ.

    Shapes: input (N, C, H, W) or (C, H, W), y (N, C, oh, ow) or without N.
    Args:
        output_size: (oh, ow), or one int for both; None keeps the size of an axis.
    """
    oh, ow = _adaptive_sizes("adaptive_avg_pool2d", input, output_size)
    h, w = input.shape[-2:]
    if input.dtype.kind != "f":
        raise DtypeError(f"adaptive_avg_pool2d expects floating values, got {input.dtype}.")
    if (oh, ow) == (1, 1):
        return input.mean((-2, -1), keepdim=True)
    if (oh, ow) == (h, w):
        return input.clone()
    if oh and ow and not h % oh and not w % ow:
        return avg_pool2d(input, (h // oh, w // ow))
    xp = backend_of(input.array)
    left, right = (
        wrap(xp.constant(_averaging(o, n).astype(input.dtype), input.device))
        for o, n in ((oh, h), (ow, w))
    )
    return left @ input @ right.T


def adaptive_max_pool1d(
    input: Tensor, output_size: int | Sequence[int], return_indices: bool = False
) -> Any:
    """The largest values of windows that divide the sequence into ``output_size`` parts.

    Shapes: input (N, C, L) or (C, L), y (N, C, output_size) or without N. See adaptive_max_pool2d.
    """
    (wanted,) = as_sizes(output_size, 1, "output_size")
    row = _as_row("adaptive_max_pool1d", input)
    y, places = adaptive_max_pool2d(row, (1, wanted), return_indices=True)
    return (y.squeeze(-2), places.squeeze(-2)) if return_indices else y.squeeze(-2)


def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Any:
    """The largest values of windows that divide the image into ``output_size`` parts.

    The windows are those of adaptive_avg_pool2d. Their sizes differ by one at most, so the smaller
    ones repeat their last cell, which changes no maximum.

    Shapes: input (N, C, H, W) or (C, H, W), y (N, C, oh, ow) or without N.
    Args:
        return_indices: also the flat place of each winner in its image.
    """
    oh, ow = _adaptive_sizes("adaptive_max_pool2d", input, output_size)
    h, w = input.shape[-2:]
    xp = backend_of(input.array)
    rows, columns = _parts(oh, h), _parts(ow, w)
    cells = rows[:, None, :, None] * w + columns[None, :, None, :]
    cells = xp.constant(cells.reshape(oh, ow, rows.shape[1] * columns.shape[1]), input.device)
    image = input.reshape(*input.shape[:-2], h * w)
    seen = image.array[..., cells]
    winner = xp.argmax(seen, axis=-1)
    places = xp.take_along_axis(xp.broadcast_to(cells, seen.shape), winner[..., None], -1)[..., 0]
    flat = wrap(places.reshape(*input.shape[:-2], oh * ow))
    y = image.gather(-1, flat).reshape(*input.shape[:-2], oh, ow)
    return (y, wrap(places)) if return_indices else y


def _as_row(name: str, input: Tensor) -> Tensor:
    """A sequence (N, C, L) or (C, L) as an image one row high."""
    if input.ndim not in (2, 3):
        raise ShapeError(f"{name} expects (N, C, L) or (C, L), got {input.shape}.")
    return input.unsqueeze(-2)


def _adaptive_sizes(
    name: str, input: Tensor, output_size: int | Sequence[int | None] | None
) -> tuple[int, int]:
    if input.ndim not in (3, 4) or not prod(input.shape[-2:]):
        raise ShapeError(
            f"{name} expects (N, C, H, W) or (C, H, W) with H and W not empty, got {input.shape}."
        )
    given = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(given) != 2:
        raise ShapeError(f"{name} expects an output_size of one or two ints, got {output_size}.")
    oh, ow = (n if o is None else o for o, n in zip(given, input.shape[-2:], strict=True))
    if oh < 0 or ow < 0:
        raise ShapeError(f"{name} needs an output_size of at least 0, got {output_size}.")
    return oh, ow


def _parts(parts: int, length: int) -> Any:
    """The places of each part, (parts, longest part); a shorter part repeats its last one."""
    start = np.arange(parts) * length // max(parts, 1)
    end = -(-(np.arange(parts) + 1) * length // max(parts, 1))
    longest = int((end - start).max(initial=1))
    return np.minimum(start[:, None] + np.arange(longest), end[:, None] - 1)


def _averaging(parts: int, length: int) -> Any:
    rows = np.zeros((parts, length))
    for i in range(parts):
        start, end = i * length // parts, -(-(i + 1) * length // parts)
        rows[i, start:end] = 1 / (end - start)
    return rows


@lru_cache(maxsize=4096)  # the same sizes every step
def _pool_sizes(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> tuple[tuple[int, int], Pads]:
    """The output's size, and the border on each side (larger at the end for ceil_mode)."""
    if len(shape) not in (3, 4):
        raise ShapeError(f"pooling expects (N, C, H, W) or (C, H, W), got {shape}.")
    sizes, pads = [], []
    for n, k, s, p, d in zip(shape[-2:], kernel, stride, padding, dilation, strict=True):
        if k < 1 or s < 1 or d < 1:
            raise ShapeError(
                f"pooling needs kernel, stride and dilation of at least 1, got {kernel}, {stride}, "
                f"{dilation}."
            )
        if not 0 <= p <= k // 2:
            raise ShapeError(f"pooling needs 0 <= padding <= kernel / 2, got {padding}, {kernel}.")
        reach = d * (k - 1) + 1
        span = n + 2 * p - reach
        out = (-(-span // s) if ceil_mode else span // s) + 1
        if ceil_mode and (out - 1) * s >= n + p:
            out -= 1  # a window must start inside the image or the border before it
        if out < 1:
            raise ShapeError(
                f"pooling of {shape} with kernel {kernel} leaves nothing: the image is "
                "smaller than the kernel; use padding or a smaller kernel."
            )
        sizes.append(out)
        pads.append((p, max(p, (out - 1) * s + reach - n - p)))
    return (sizes[0], sizes[1]), (pads[0], pads[1])
