"""Convolution: the same weighted sum at every place of an image."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from minigrad.creation import empty
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.functional.conv import conv_padding
from minigrad.nn.module import Module, Parameter
from minigrad.shapes import as_pair
from minigrad.tensor import Tensor

Pair = int | Sequence[int]


class Conv2d(Module):
    """Two-dimensional cross-correlation: y[o] = Σ_c Σ_ij w[o, c, i, j] · x[c] shifted by (i, j) +
    b[o].

    Shapes: x (N, in_channels, H, W) or without N, y (N, out_channels, oh, ow) with
    oh = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1;
    weight (out_channels, in_channels / groups, kh, kw), bias (out_channels,), both starting as
    U(-k, k) with k = 1 / √(in_channels / groups · kh · kw).

    Args:
        padding: border on each side, or ``"same"`` (the size stays, stride 1) or ``"valid"``
        (none). groups: independent parts of the channels; groups=in_channels is a depthwise
        convolution. padding_mode: what stands in the border: ``"zeros"``, ``"reflect"``,
        ``"replicate"``,
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
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d needs groups that divide in_channels and out_channels, got {groups} for "
                f"{in_channels} and {out_channels}."
            )
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"padding_mode must be zeros, reflect, replicate or circular, got {padding_mode!r}."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = as_pair(kernel_size, "kernel_size")
        self.stride, self.dilation = as_pair(stride, "stride"), as_pair(dilation, "dilation")
        self.padding = padding if isinstance(padding, str) else as_pair(padding, "padding")
        self.padding_mode, self.fused = padding_mode, fused
        conv_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias: Parameter | None = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.numel() // self.out_channels
            init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def forward(self, input: Tensor) -> Tensor:
        """The weighted sums at every place."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            (top, bottom), (left, right) = conv_padding(
                padding, self.kernel_size, self.stride, self.dilation
            )
            input, padding = F.pad(input, (left, right, top, bottom), self.padding_mode), 0
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

    def extra_repr(self) -> str:
        """Its settings, those that are not the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}, stride={self.stride}",
        ]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)
