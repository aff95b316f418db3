"""Convolution."""

from __future__ import annotations

from typing import Any

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Fused
from minigrad.shapes import conv_size

Pair = tuple[int, int]


class Conv2d(Fused):
    """Two-dimensional cross-correlation (what every framework calls convolution).

    Shapes: x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) or None, y (N, O, oh, ow) with
    oh = floor((H + padding - dilation (kh - 1) - 1) / stride) + 1.

    ``composed`` is the definition as kh * kw shifted products; kernels do the same in other orders.
    """

    formula = "y[o] = Σ_c Σ_ij w[o,c,i,j] · x[c] shifted by (i, j) + b[o]"
    vjp = "dx = dy spread back through w,  dw = Σ dy · x shifted,  db = Σ dy"
    reads_for = {"x": 1, "weight": 0}

    def __init__(
        self,
        stride: Pair = (1, 1),
        padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, xp: Any, x: Any, weight: Any, bias: Any) -> Any:
        self.check(x, weight, bias)
        self.x_shape, self.weight_shape = x.shape, weight.shape
        return xp.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, xp: Any, grad: Any, x: Any, weight: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.conv2d_backward(
            grad,
            xp.broadcast_to(xp.zeros((), dtype=grad.dtype), self.x_shape) if x is None else x,
            xp.broadcast_to(xp.zeros((), dtype=grad.dtype), self.weight_shape)
            if weight is None
            else weight,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            needs,
        )

    def composed(self, xp: Any, x: Any, weight: Any, bias: Any) -> Any:
        n, c, _, _ = x.shape
        o, _, kh, kw = weight.shape
        g, (sh, sw), (dh, dw) = self.groups, self.stride, self.dilation
        (top, bottom), (left, right) = self.padding
        if top or bottom or left or right:
            x = xp.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        h, w = x.shape[2:]
        oh, ow = conv_size(h, kh, sh, 0, dh), conv_size(w, kw, sw, 0, dw)
        x = x.reshape(n, g, c // g, h, w)
        weight = weight.reshape(g, o // g, c // g, kh, kw)
        y: Any = None
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                seen = x[..., rows, columns].reshape(n, g, c // g, oh * ow)
                product = xp.matmul(weight[..., i, j], seen)
                y = product if y is None else y + product
        y = y.reshape(n, o, oh, ow)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def check(self, x: Any, weight: Any, bias: Any) -> None:
        out, per_group, kh, kw = weight.shape
        channels = per_group * self.groups
        label = f"Conv2d({channels} -> {out}, kernel {(kh, kw)})"
        if x.ndim != 4 or x.shape[1] != channels:
            came = f": axis 1 has {x.shape[1]}, not {channels}" if x.ndim == 4 else ""
            raise ShapeError(f"{label} expects (N, {channels}, H, W), got {tuple(x.shape)}{came}.")
        if out % self.groups:
            raise ShapeError(f"{label}: groups={self.groups} does not divide {out} outputs.")
        for axis, k in ((0, kh), (1, kw)):
            size = x.shape[2 + axis] + sum(self.padding[axis])
            reach = self.dilation[axis] * (k - 1) + 1
            if size < reach:
                raise ShapeError(
                    f"{label}: the padded image is {size} on axis {2 + axis}, smaller than the "
                    f"kernel's reach {reach}; use padding or a larger image."
                )
        if x.dtype != weight.dtype:
            raise DtypeError(
                f"{label} has {weight.dtype} weights and got {x.dtype}; convert one, as in "
                f"x.to({str(weight.dtype)!r})."
            )
        if bias is not None and tuple(bias.shape) != (out,):
            raise ShapeError(f"{label} needs a bias of shape {(out,)}, got {tuple(bias.shape)}.")
