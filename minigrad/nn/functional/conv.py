"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.nn.functional.fused import run
from minigrad.shapes import as_pair, same_padding
from minigrad.tensor import Tensor

Pair = int | Sequence[int]
Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """Two-dimensional cross-correlation.

    Shapes: input (N, C, H, W) or (C, H, W), weight (O, C / groups, kh, kw), bias (O,),
    y (N, O, oh, ow) with oh = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.

    Args:
        padding: zeros on each side; ``"same"`` keeps the image size (stride 1), ``"valid"`` is 0.
    """
    step, spread = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    if weight.ndim != 4:
        raise ShapeError(f"conv2d expects a weight (O, C / groups, kh, kw), got {weight.shape}.")
    if min(*step, *spread, groups) < 1:
        raise ValueError(
            f"conv2d needs stride, dilation and groups of at least 1, got {stride}, {dilation}, "
            f"{groups}."
        )
    pads = conv_padding(padding, weight.shape[2:], step, spread)
    op = ops.Conv2d(step, pads, spread, groups)
    if input.ndim == 3:
        return run(op, fused, input.unsqueeze(0), weight, bias).squeeze(0)
    return run(op, fused, input, weight, bias)


def conv_padding(
    padding: Pair | str, kernel: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """((top, bottom), (left, right)) out of a number, a pair, ``"same"`` or ``"valid"``."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding='same' needs stride 1, got {stride}; give numbers instead.")
        return same_padding(kernel[0], dilation[0]), same_padding(kernel[1], dilation[1])
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'same', 'valid' or numbers, got {padding!r}.")
    rows, columns = as_pair(padding, "padding")
    if rows < 0 or columns < 0:
        raise ValueError(f"padding must not be negative, got {padding}.")
    return (rows, rows), (columns, columns)
