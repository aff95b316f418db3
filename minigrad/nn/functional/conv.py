"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from minigrad import ops
from minigrad.dtypes import Dtype
from minigrad.errors import DtypeError, ShapeError
from minigrad.nn.functional.fused import run
from minigrad.shapes import Shape, as_pair, as_sizes, conv_size, prod, same_padding
from minigrad.tensor import Tensor

Pair = int | Sequence[int]
Pads = tuple[tuple[int, int], ...]  # (before, after) for each axis


def conv1d(
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
    """One-dimensional cross-correlation: conv2d of an image one row high.

    Shapes: input (N, C, L) or (C, L), weight (O, C / groups, k), bias (O,), y (N, O, ol) with
    ol = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1.

    Args:
        padding: zeros on each side; ``"same"`` keeps the length (stride 1), ``"valid"`` is 0.
    """
    step, spread = _settings("conv1d", 1, input, weight, bias, stride, dilation, groups)
    pads = conv_padding(padding, weight.shape[2:], step, spread)
    length, reach = input.shape[-1] + sum(pads[0]), spread[0] * (weight.shape[2] - 1) + 1
    if length < reach:
        raise ShapeError(
            f"conv1d of {input.shape} needs a length of at least {reach}, the kernel's reach, got "
            f"{length} with padding; use padding or a longer sequence."
        )
    op = ops.Conv2d((1, *step), ((0, 0), pads[0]), (1, *spread), groups)
    return _one_row(op, fused, input, weight, bias)


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
    step, spread = _settings("conv2d", 2, input, weight, bias, stride, dilation, groups)
    pads = conv_padding(padding, weight.shape[2:], step, spread)
    op = ops.Conv2d(step, pads, spread, groups)  # type: ignore[arg-type]
    return _batched(op, fused, input, weight, bias)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """conv1d's gradient with respect to its input, as a function of its own.

    Shapes: input (N, C, L) or (C, L), weight (C, O / groups, k), bias (O,), y (N, O, ol) with
    ol = stride (L - 1) + dilation (k - 1) + 1 - 2 padding + output_padding.
    """
    name = "conv_transpose1d"
    step, spread = _settings(name, 1, input, weight, bias, stride, dilation, groups)
    pads = _transposed_padding(name, padding, output_padding, step, spread)
    length = step[0] * (input.shape[-1] - 1) + spread[0] * (weight.shape[2] - 1) + 1
    if not input.shape[-1] or length <= sum(pads[0]):
        raise ShapeError(
            f"{name} of {input.shape} leaves nothing: got {padding} of padding to take off each "
            f"side of {max(length, 0)}; use less padding or a longer sequence."
        )
    op = ops.ConvTranspose2d((1, *step), ((0, 0), pads[0]), (1, *spread), groups)
    return _one_row(op, fused, input, weight, bias)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """conv2d's gradient with respect to its input, as a function of its own.

    Every value of the input spreads over a window of the output, weighted by the kernel.

    Shapes: input (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw), bias (O,),
    y (N, O, oh, ow) with oh = stride (H - 1) + dilation (kh - 1) + 1 - 2 padding + output_padding.

    Args:
        padding: rows *taken off* each side, those a convolution with this padding has added.
        output_padding: rows added at the end alone. With stride s, s image sizes have the same
            convolution size; this says which one is meant.
    Source: Dumoulin and Visin (2016), arXiv:1603.07285, chapter 4.
    """
    name = "conv_transpose2d"
    step, spread = _settings(name, 2, input, weight, bias, stride, dilation, groups)
    pads = _transposed_padding(name, padding, output_padding, step, spread)
    op = ops.ConvTranspose2d(step, pads, spread, groups)  # type: ignore[arg-type]
    return _batched(op, fused, input, weight, bias)


def unfold(
    input: Tensor,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """Every window of the image as a column (im2col).

    Shapes: input (N, C, H, W) or (C, H, W), y (N, C kh kw, L) with L = oh ow windows, row by row.

    Example:
        >>> from minigrad import randn
        >>> unfold(randn(2, 3, 5, 6), (2, 3)).shape
        (2, 18, 16)
    """
    if input.ndim not in (3, 4) or not prod(input.shape[-3:]):
        raise ShapeError(
            f"unfold expects (N, C, H, W) or (C, H, W) with nothing but N empty, got {input.shape}."
        )
    kernel, settings, pads = _window_settings("unfold", kernel_size, stride, padding, dilation)
    size = _window_count(input.shape[-2:], kernel, settings, pads)
    if min(size) < 1:
        raise ShapeError(
            f"unfold of {input.shape} has no place for a kernel of {kernel}, padding {padding}, "
            f"dilation {dilation}; use padding or a larger image."
        )
    op = ops.Unfold(kernel, settings[0], pads, settings[1])
    return _batched(op, fused, input)


def fold(
    input: Tensor,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """Columns added back into an image: ``unfold`` transposed (not inverted: overlaps add up).

    Shapes: input (N, C kh kw, L) or (C kh kw, L), y (N, C, *output_size).
    """
    if input.ndim not in (2, 3) or not prod(input.shape[-2:]):
        raise ShapeError(
            f"fold expects (N, C kh kw, L) or (C kh kw, L) with nothing but N empty, got "
            f"{input.shape}."
        )
    image = as_pair(output_size, "output_size")
    kernel, settings, pads = _window_settings("fold", kernel_size, stride, padding, dilation)
    rows, columns = input.shape[-2:]
    if rows % prod(kernel):
        raise ShapeError(
            f"fold expects (N, C · {prod(kernel)}, L) for a kernel of {kernel}, got {input.shape}: "
            f"{rows} is no multiple of {prod(kernel)}."
        )
    size = _window_count(image, kernel, settings, pads)
    if min(size) < 1 or prod(size) != columns:
        raise ShapeError(
            f"fold into {image} with a kernel of {kernel} expects {' x '.join(map(str, size))} "
            f"columns, got {columns} in {input.shape}; check output_size, stride and padding."
        )
    op = ops.Fold(image, kernel, settings[0], pads, settings[1])
    if input.ndim == 2:
        return run(op, fused, input.unsqueeze(0)).squeeze(0)
    return run(op, fused, input)


def conv_padding(
    padding: Pair | str, kernel: Sequence[int], stride: Shape, dilation: Shape
) -> Pads:
    """((top, bottom), (left, right)) out of a number, one an axis, ``"same"`` or ``"valid"``."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if set(stride) != {1}:
            raise ShapeError(f"padding='same' needs stride 1, got {stride}; give numbers instead.")
        return tuple(same_padding(k, d) for k, d in zip(kernel, dilation, strict=True))
    if isinstance(padding, str):
        raise ShapeError(f"padding expects 'same', 'valid' or numbers, got {padding!r}.")
    border = as_sizes(padding, len(kernel), "padding")
    if min(border) < 0:
        raise ShapeError(f"padding must not be negative, got {padding}; use F.pad to crop.")
    return tuple(zip(border, border, strict=True))


def _settings(
    name: str,
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    dilation: Pair,
    groups: int,
) -> Any:
    """stride and dilation, one an axis, after a look at everything given."""
    return _checked_settings(
        name,
        axes,
        input.shape,
        input.dtype,
        weight.shape,
        weight.dtype,
        None if bias is None else (bias.shape, bias.dtype),
        stride if isinstance(stride, int) else tuple(stride),
        dilation if isinstance(dilation, int) else tuple(dilation),
        groups,
    )


@lru_cache(maxsize=4096)  # what fitted once fits again: 1 us instead of 8
def _checked_settings(
    name: str,
    axes: int,
    input: Shape,
    dtype: Dtype,
    weight: Shape,
    weight_dtype: Dtype,
    bias: tuple[Shape, Dtype] | None,
    stride: int | Shape,
    dilation: int | Shape,
    groups: int,
) -> Any:
    step, spread = as_sizes(stride, axes, "stride"), as_sizes(dilation, axes, "dilation")
    transposed = "transpose" in name
    sides = ("L", "H, W")[axes - 1]
    if len(weight) != axes + 2:
        kernel = ("k", "kh, kw")[axes - 1]
        form = f"(C, O / groups, {kernel})" if transposed else f"(O, C / groups, {kernel})"
        raise ShapeError(f"{name} expects a weight {form}, got {weight}.")
    if min(*step, *spread, groups) < 1:
        raise ShapeError(
            f"{name} needs stride, dilation and groups of at least 1, got {stride}, {dilation}, "
            f"{groups}."
        )
    if 0 in weight[2:]:
        raise ShapeError(f"{name} expects a kernel of at least 1, got a weight {weight}.")
    channels = weight[0] if transposed else weight[1] * groups
    if len(input) not in (axes + 1, axes + 2) or input[-axes - 1] != channels:
        raise ShapeError(
            f"{name} with a weight {weight} and groups={groups} expects (N, {channels}, "
            f"{sides}) or ({channels}, {sides}), got {input}."
        )
    if dtype != weight_dtype or (bias is not None and bias[1] != weight_dtype):
        raise DtypeError(
            f"{name} expects input, weight and bias of one dtype, got {dtype}, "
            f"{weight_dtype}{'' if bias is None else f' and {bias[1]}'}; convert one, as in "
            f"x.to({str(weight_dtype)!r})."
        )
    outputs = weight[1] * groups if transposed else weight[0]
    if bias is not None and bias[0] != (outputs,):
        raise ShapeError(f"{name} needs a bias of shape {(outputs,)}, got {bias[0]}.")
    return step, spread


def _transposed_padding(
    name: str, padding: Pair, output_padding: Pair, stride: Shape, dilation: Shape
) -> Pads:
    border = as_sizes(padding, len(stride), "padding")
    extra = as_sizes(output_padding, len(stride), "output_padding")
    if min(*border, *extra) < 0:
        raise ShapeError(
            f"{name} needs padding and output_padding of at least 0, got {padding} and "
            f"{output_padding}."
        )
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise ShapeError(
                f"{name} needs output_padding smaller than stride or dilation, got "
                f"{output_padding} for stride {stride} and dilation {dilation}."
            )
    return tuple((b, b - e) for b, e in zip(border, extra, strict=True))


def _window_settings(
    name: str, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Any:
    kernel, step = as_pair(kernel_size, "kernel_size"), as_pair(stride, "stride")
    border, spread = as_pair(padding, "padding"), as_pair(dilation, "dilation")
    if min(*kernel, *step, *spread) < 1 or min(border) < 0:
        raise ShapeError(
            f"{name} needs kernel_size, stride and dilation of at least 1 and padding of at least "
            f"0, got {kernel_size}, {stride}, {dilation}, {padding}."
        )
    return kernel, (step, spread), ((border[0],) * 2, (border[1],) * 2)


def _window_count(image: Shape, kernel: Shape, settings: Any, pads: Any) -> Shape:
    step, spread = settings
    return tuple(
        conv_size(image[i], kernel[i], step[i], pads[i][0], spread[i]) for i in range(len(image))
    )


def _batched(op: Any, fused: bool, input: Tensor, *rest: Any) -> Tensor:
    """``op``, which takes (N, C, H, W), of that or of a single (C, H, W)."""
    if input.ndim == 3:
        return run(op, fused, input.unsqueeze(0), *rest).squeeze(0)
    return run(op, fused, input, *rest)


def _one_row(op: Any, fused: bool, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``op``, which takes images, of a sequence: an image one row high."""
    return _batched(op, fused, input.unsqueeze(-2), weight.unsqueeze(-2), bias).squeeze(-2)
