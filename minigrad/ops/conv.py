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


class ConvTranspose2d(Fused):
    """Transposed convolution: the gradient of Conv2d with respect to its x, as a layer.

    Its own dx is that convolution again, and its dw the convolution's dw with x and dy swapped.

    Shapes: x (N, C, H, W), weight (C, O / groups, kh, kw), bias (O,) or None, y (N, O, oh, ow) with
    oh = stride (H - 1) + dilation (kh - 1) + 1 - padding. ``padding`` is (p, p - output_padding)
    an axis; where that is negative it adds rows that no window reaches.
    Source: Dumoulin and Visin (2016), arXiv:1603.07285, chapter 4.
    """

    formula = "y = x spread through w + b"
    vjp = "dx = dy convolved with w,  dw = Σ x · dy shifted,  db = Σ dy"
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
        return xp.conv_transpose2d(
            x, weight, bias, self.stride, self.padding, self.dilation, self.groups
        )

    def backward(self, xp: Any, grad: Any, x: Any, weight: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        zero = xp.zeros((), dtype=grad.dtype)
        return xp.conv_transpose2d_backward(
            grad,
            xp.broadcast_to(zero, self.x_shape) if x is None else x,
            xp.broadcast_to(zero, self.weight_shape) if weight is None else weight,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            needs,
        )

    def composed(self, xp: Any, x: Any, weight: Any, bias: Any) -> Any:
        n, c, h, w = x.shape
        _, per_group, kh, kw = weight.shape
        g, (sh, sw), (dh, dw) = self.groups, self.stride, self.dilation
        (top, bottom), (left, right) = self.padding
        full = (sh * (h - 1) + dh * (kh - 1) + 1, sw * (w - 1) + dw * (kw - 1) + 1)
        reached = (max(full[0], full[0] - bottom), max(full[1], full[1] - right))
        weight = weight.reshape(g, c // g, per_group, kh, kw)
        rows = x.reshape(n, g, c // g, h * w)
        y: Any = None
        for i in range(kh):
            for j in range(kw):
                part = xp.matmul(weight[..., i, j].swapaxes(-1, -2), rows)
                window = (
                    ...,
                    slice(i * dh, i * dh + sh * (h - 1) + 1, sh),
                    slice(j * dw, j * dw + sw * (w - 1) + 1, sw),
                )
                part = part.reshape(n, g * per_group, h, w)
                part = xp.index_add(part, window, (n, g * per_group, *reached))
                y = part if y is None else y + part
        y = y[..., top : full[0] - bottom, left : full[1] - right]
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def check(self, x: Any, weight: Any, bias: Any) -> None:
        channels, per_group, kh, kw = weight.shape
        out = per_group * self.groups
        label = f"ConvTranspose2d({channels} -> {out}, kernel {(kh, kw)})"
        if x.ndim != 4 or x.shape[1] != channels:
            came = f": axis 1 has {x.shape[1]}, not {channels}" if x.ndim == 4 else ""
            raise ShapeError(f"{label} expects (N, {channels}, H, W), got {tuple(x.shape)}{came}.")
        if channels % self.groups:
            raise ShapeError(f"{label}: groups={self.groups} does not divide {channels} inputs.")
        for axis, k in ((0, kh), (1, kw)):
            n = x.shape[2 + axis]
            grown = self.stride[axis] * (n - 1) + self.dilation[axis] * (k - 1) + 1
            if n < 1 or grown - sum(self.padding[axis]) < 1:
                raise ShapeError(
                    f"{label} of {tuple(x.shape)} leaves nothing on axis {2 + axis}: padding "
                    f"{self.padding[axis]} takes all of {max(grown, 0)}; use less padding or a "
                    "larger image."
                )
        if x.dtype != weight.dtype:
            raise DtypeError(
                f"{label} has {weight.dtype} weights and got {x.dtype}; convert one, as in "
                f"x.to({str(weight.dtype)!r})."
            )
        if bias is not None and tuple(bias.shape) != (out,):
            raise ShapeError(f"{label} needs a bias of shape {(out,)}, got {tuple(bias.shape)}.")


class Unfold(Fused):
    """Every window of an image as a column (im2col): a convolution is W times these columns.

    Shapes: x (N, C, H, W), y (N, C kh kw, L), L the number of windows, row by row.
    """

    formula, vjp = "y = windows of x as columns", "dx = fold(dy)"

    def __init__(
        self, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
    ) -> None:
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def forward(self, xp: Any, x: Any) -> Any:
        self.x_shape = x.shape
        return xp.unfold(x, self.kernel, self.stride, self.padding, self.dilation)

    def backward(self, xp: Any, grad: Any) -> Any:
        image = self.x_shape[2:]
        return (xp.fold(grad, image, self.kernel, self.stride, self.padding, self.dilation),)

    def composed(self, xp: Any, x: Any) -> Any:
        n, c, _, _ = x.shape
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        if any(map(any, self.padding)):
            x = xp.pad(x, ((0, 0), (0, 0), *self.padding))
        oh, ow = conv_size(x.shape[2], kh, sh, 0, dh), conv_size(x.shape[3], kw, sw, 0, dw)
        seen = [x[_window(i, j, (oh, ow), self.stride, self.dilation)] for i, j in _cells(kh, kw)]
        return xp.stack(seen, 2).reshape(n, c * kh * kw, oh * ow)


class Fold(Fused):
    """Columns added back into an image where Unfold took them: overlapping windows add up.

    Shapes: x (N, C kh kw, L), y (N, C, H, W) with (H, W) = ``size``.
    """

    formula, vjp = "y = Σ of columns, each at its window", "dx = unfold(dy)"

    def __init__(
        self, size: Pair, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
    ) -> None:
        self.size, self.kernel, self.stride = size, kernel, stride
        self.padding, self.dilation = padding, dilation

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.fold(x, self.size, self.kernel, self.stride, self.padding, self.dilation)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.unfold(grad, self.kernel, self.stride, self.padding, self.dilation),)

    def composed(self, xp: Any, x: Any) -> Any:
        n, c = x.shape[0], x.shape[1] // (self.kernel[0] * self.kernel[1])
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        (top, bottom), (left, right) = self.padding
        h, w = self.size[0] + top + bottom, self.size[1] + left + right
        oh, ow = conv_size(h, kh, sh, 0, dh), conv_size(w, kw, sw, 0, dw)
        x = x.reshape(n, c, kh, kw, oh, ow)
        y: Any = None
        for i, j in _cells(kh, kw):
            window = _window(i, j, (oh, ow), self.stride, self.dilation)
            part = xp.index_add(x[:, :, i, j], window, (n, c, h, w))
            y = part if y is None else y + part
        return y[..., top : h - bottom, left : w - right]


def _cells(kh: int, kw: int) -> list[Pair]:
    return [(i, j) for i in range(kh) for j in range(kw)]


def _window(i: int, j: int, size: Pair, stride: Pair, dilation: Pair) -> tuple[Any, ...]:
    """The places that cell (i, j) of the kernel meets, one for each output."""
    rows = slice(i * dilation[0], i * dilation[0] + stride[0] * (size[0] - 1) + 1, stride[0])
    columns = slice(j * dilation[1], j * dilation[1] + stride[1] * (size[1] - 1) + 1, stride[1])
    return (..., rows, columns)
