"""Convolution: the same weighted sum at every place of an image or a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, ClassVar

from minigrad.creation import empty
from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.functional.conv import conv_padding
from minigrad.nn.module import Module, Parameter
from minigrad.shapes import Shape, as_sizes, prod
from minigrad.tensor import Tensor

Pair = int | Sequence[int]


class _Conv(Module):
    """What all convolutions share: settings, weight and bias, and their initial values."""

    axes: ClassVar[int] = 2  #: how many axes the kernel slides along
    transposed: ClassVar[bool] = False
    output_padding: Shape = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair | str,
        dilation: Pair,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
        fused: bool,
    ) -> None:
        super().__init__()
        name, axes = type(self).__name__, self.axes
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name} needs groups that divide in_channels and out_channels, got {groups} for "
                f"{in_channels} and {out_channels}."
            )
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(
                f"{name} needs a padding_mode of {' or '.join(modes)}, got {padding_mode!r}."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = as_sizes(kernel_size, axes, "kernel_size")
        self.stride = as_sizes(stride, axes, "stride")
        self.dilation = as_sizes(dilation, axes, "dilation")
        is_text = isinstance(padding, str)
        self.padding: Any = padding if is_text else as_sizes(padding, axes, "padding")  # type: ignore[arg-type]
        self.padding_mode, self.fused = padding_mode, fused
        conv_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (ends[0], ends[1] // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias: Parameter | None = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: U(-k, k) with k = 1 / √(values a window weighs)."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            fan_in = prod(self.weight.shape[1:])
            bound = 1 / sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input with its border, and the zeros that are still to come."""
        if self.padding_mode == "zeros":
            return input, self.padding
        pads = conv_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        border = [p for pair in reversed(pads) for p in pair]  # F.pad counts from the last axis
        return F.pad(input, border, self.padding_mode), 0

    def extra_repr(self) -> str:
        """Its settings, those that are not the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}, stride={self.stride}",
        ]
        if self.padding != (0,) * self.axes:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.axes:
            parts.append(f"dilation={self.dilation}")
        if any(self.output_padding):
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    """One-dimensional cross-correlation: y[o, l] = Σ_c Σ_i w[o, c, i] · x[c, l + i] + b[o].

    Shapes: x (N, in_channels, L) or without N, y (N, out_channels, ol) with
    ol = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1;
    weight (out_channels, in_channels / groups, k), bias (out_channels,). See Conv2d.
    """

    axes = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            fused,
        )

    def forward(self, input: Tensor) -> Tensor:
        """The weighted sums at every place."""
        input, padding = self._padded(input)
        return F.conv1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            fused=self.fused,
        )


class Conv2d(_Conv):
    """Two-dimensional cross-correlation: y[o] = Σ_c Σ_ij w[o, c, i, j] · x[c] shifted by (i, j) +
    b[o].

    Shapes: x (N, in_channels, H, W) or without N, y (N, out_channels, oh, ow) with
    oh = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1;
    weight (out_channels, in_channels / groups, kh, kw), bias (out_channels,), both starting as
    U(-k, k) with k = 1 / √(in_channels / groups · kh · kw).

    Args:
        padding: border on each side, or ``"same"`` (the size stays, stride 1) or ``"valid"``
            (none).
        groups: independent parts of the channels; groups=in_channels is a depthwise convolution.
        padding_mode: what stands in the border: ``"zeros"``, ``"reflect"``, ``"replicate"``,
            ``"circular"``.
        fused: one op, or (False) kh · kw shifted products.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            fused,
        )

    def forward(self, input: Tensor) -> Tensor:
        """The weighted sums at every place."""
        input, padding = self._padded(input)
        return F.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            fused=self.fused,
        )


class _ConvTranspose(_Conv):
    """What the transposed convolutions share."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        fused: bool = True,
    ) -> None:
        if isinstance(padding, str):
            raise TypeError(
                f"{type(self).__name__} needs padding in numbers, got {padding!r}: what it takes "
                "off has no unique size otherwise."
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            fused,
        )
        self.output_padding = as_sizes(output_padding, self.axes, "output_padding")

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> Shape:
        """The output padding that gives ``output_size``."""
        if output_size is None:
            return self.output_padding
        name, axes, sides = type(self).__name__, self.axes, input.shape[-self.axes :]
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[-axes:]
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                sides, self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        fits = len(wanted) == axes and all(
            low <= n <= high for low, n, high in zip(least, wanted, most, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{name} of {input.shape} gives sizes from {tuple(least)} to {tuple(most)}, got "
                f"output_size={tuple(output_size)}; ask for one of those, or change the stride."
            )
        return tuple(n - low for n, low in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Conv1d's gradient with respect to its input, as a layer. See ConvTranspose2d.

    Shapes: x (N, in_channels, L) or without N, y (N, out_channels, ol) with
    ol = stride (L - 1) + dilation (k - 1) + 1 - 2 padding + output_padding;
    weight (in_channels, out_channels / groups, k), bias (out_channels,).
    """

    axes = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Every value spread over its window; ``output_size`` overrides output_padding."""
        return F.conv_transpose1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._extra(input, output_size),
            self.groups,
            self.dilation,
            fused=self.fused,
        )


class ConvTranspose2d(_ConvTranspose):
    """Conv2d's gradient with respect to its input, as a layer: images grow where a convolution
    with the same settings shrinks them.

    Shapes: x (N, in_channels, H, W) or without N, y (N, out_channels, oh, ow) with
    oh = stride (H - 1) + dilation (kh - 1) + 1 - 2 padding + output_padding;
    weight (in_channels, out_channels / groups, kh, kw), bias (out_channels,).

    Args:
        padding: rows taken off each side: those a Conv2d with this padding has added.
        output_padding: rows added at the end alone; which of the ``stride`` sizes with the same
            convolution size is meant. ``forward(x, output_size)`` says it by the size wanted.
        padding_mode: ``"zeros"`` alone.
        fused: one op, or (False) kh · kw products, each spread over the output.
    Source: Dumoulin and Visin (2016), arXiv:1603.07285, chapter 4.
    Differs: initial values are PyTorch's U(-k, k) with k = 1 / √(out_channels / groups · kh · kw);
        Keras draws them by Glorot.
    """

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Every value spread over its window; ``output_size`` overrides output_padding."""
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._extra(input, output_size),
            self.groups,
            self.dilation,
            fused=self.fused,
        )


class Unfold(Module):
    """Every window of the image as a column (im2col). See ``functional.unfold``.

    Shapes: x (N, C, H, W) or (C, H, W), y (N, C kh kw, L), L the number of windows.
    """

    def __init__(
        self,
        kernel_size: Pair,
        dilation: Pair = 1,
        padding: Pair = 0,
        stride: Pair = 1,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride, self.fused = padding, stride, fused

    def forward(self, input: Tensor) -> Tensor:
        """The columns."""
        return F.unfold(
            input, self.kernel_size, self.dilation, self.padding, self.stride, fused=self.fused
        )

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Columns added back into an image of ``output_size``. See ``functional.fold``.

    Shapes: x (N, C kh kw, L) or (C kh kw, L), y (N, C, *output_size).
    """

    def __init__(
        self,
        output_size: Pair,
        kernel_size: Pair,
        dilation: Pair = 1,
        padding: Pair = 0,
        stride: Pair = 1,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size, self.dilation = output_size, kernel_size, dilation
        self.padding, self.stride, self.fused = padding, stride, fused

    def forward(self, input: Tensor) -> Tensor:
        """The image."""
        return F.fold(
            input,
            self.output_size,
            self.kernel_size,
            self.dilation,
            self.padding,
            self.stride,
            fused=self.fused,
        )

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
