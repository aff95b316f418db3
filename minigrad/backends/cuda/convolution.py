"""Convolution as a product with the columns that kernels/im2col.cu makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.cuda.cudnn import Cudnn
from minigrad.backends.cuda.launch import elements
from minigrad.backends.cuda.linear import Linear
from minigrad.backends.cuda.pooling import window
from minigrad.backends.reference import convolution as reference
from minigrad.backends.reference.windows import Pads, Pair
from minigrad.shapes import conv_size, prod

#: Values the columns may have at a time: images are taken in portions that keep to it (256 MB of
#: float32).
COLUMNS = 1 << 26

Options = tuple[Pair, Pads, Pair]  # stride, padding, dilation


class Convolution(Linear, reference.Convolution):
    """y = W columns(x);  dW = sum dy columns(x)^T;  dx = columns back(W^T dy).

    ``cudnn`` is set by the backend; what it can compute, it does.
    """

    cudnn: Cudnn | None = None

    def unfold(self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Array:
        size = _sizes(x.shape[-2:], kernel, stride, padding, dilation)
        n, c = x.shape[:2]
        columns = self.empty((n, c * prod(kernel), prod(size)), dtype=x.dtype)
        if not self.takes(x, columns):
            return super().unfold(x, kernel, stride, padding, dilation)
        self.launch(
            "im2col.im2col",
            elements(columns.size),
            x.dtype.char,
            x=self.plain(x),
            columns=columns,
            n=columns.size,
            dh=dilation[0],
            dw=dilation[1],
            **window(x.shape[-2:], size, kernel, stride, padding),
        )
        return columns

    def fold(
        self, columns: Array, shape: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        n, c = columns.shape[0], columns.shape[1] // prod(kernel)
        x = self.empty((n, c, *shape), dtype=columns.dtype)
        if not self.takes(x, columns):
            return super().fold(columns, shape, kernel, stride, padding, dilation)
        size = _sizes(shape, kernel, stride, padding, dilation)
        self.launch(
            "im2col.col2im",
            elements(x.size),
            x.dtype.char,
            columns=self.plain(columns),
            x=x,
            n=x.size,
            dh=dilation[0],
            dw=dilation[1],
            **window(shape, size, kernel, stride, padding),
        )
        return x

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
    ) -> Array:
        kernel = weight.shape[2:]
        size = _sizes(x.shape[-2:], kernel, stride, padding, dilation)
        y = self.empty((x.shape[0], weight.shape[0], *size), dtype=x.dtype)
        if not self.takes(x, weight, y) or x.dtype != weight.dtype:
            return super().conv2d(x, weight, bias, stride, padding, dilation, groups)
        x, options = self.plain(x), (stride, padding, dilation)
        if self.cudnn is not None and self.cudnn.run("fprop", x, self.plain(weight), y, *options):
            if bias is not None:
                y += bias.reshape(-1, 1, 1)
            return y
        if bias is not None:
            y[...] = bias.reshape(-1, 1, 1)
        matrix = self.plain(weight).reshape(len(weight), prod(weight.shape[1:]))
        for part in _portions(len(x), prod(weight.shape[1:]) * groups * prod(size)):
            columns = self._columns(x[part], kernel, *options)
            for w, c, out in _groups(groups, matrix, columns, y[part]):
                self.multiplied(w, c, out, add=bias is not None)
        return y

    def conv2d_backward(
        self,
        grad: Array,
        x: Array,
        weight: Array,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        alike = grad.dtype == weight.dtype == x.dtype
        if not self.takes(grad, x, weight) or not alike:
            return super().conv2d_backward(
                grad, x, weight, stride, padding, dilation, groups, needs
            )
        grad = self.plain(grad)
        x = self.plain(x) if needs[1] else x  # otherwise zeros, stretched
        weight = self.plain(weight) if needs[0] else weight
        options = stride, padding, dilation
        dx = self.empty(x.shape, dtype=x.dtype) if needs[0] else None
        dweight = self.empty(weight.shape, dtype=weight.dtype) if needs[1] else None
        cudnn = self.cudnn
        if dx is not None and not (cudnn and cudnn.run("dgrad", grad, weight, dx, *options)):
            self._image_gradient(grad, weight, dx, options, groups)
        if dweight is not None and not (cudnn and cudnn.run("wgrad", x, grad, dweight, *options)):
            self._weight_gradient(grad, x, dweight, options, groups)
        return dx, dweight, self.bias_backward(grad) if needs[2] else None

    def _image_gradient(
        self, grad: Array, weight: Array, dx: Array, options: Options, groups: int
    ) -> None:
        """dx, from dy and the weights."""
        matrix, length = weight.reshape(len(weight), -1), prod(grad.shape[2:])
        for part in _portions(len(dx), groups * matrix.shape[1] * length):
            shape = len(grad[part]), groups * matrix.shape[1], length
            columns = self.empty(shape, dtype=dx.dtype)
            for w, c, dy in _groups(groups, matrix, columns, grad[part]):
                self.multiplied(w.swapaxes(-1, -2), dy, c)
            dx[part] = self.fold(columns, dx.shape[-2:], weight.shape[2:], *options)

    def _weight_gradient(
        self, grad: Array, x: Array, dweight: Array, options: Options, groups: int
    ) -> None:
        """dW, from dy and x: that of each image, added up."""
        out, inner = len(dweight), prod(dweight.shape[1:])
        total: Any = None
        for part in _portions(len(x), groups * inner * prod(grad.shape[2:])):
            columns = self._columns(x[part], dweight.shape[2:], *options)
            each = self.empty((len(columns), out, inner), dtype=x.dtype)
            for w, c, dy in _groups(groups, each, columns, grad[part]):
                self.multiplied(dy, c.swapaxes(-1, -2), w)
            new = each.sum(axis=0)
            total = new if total is None else total + new
        dweight[...] = total.reshape(dweight.shape)

    def _columns(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        """The windows as columns; of a 1 x 1 kernel they are the image."""
        if (*kernel, *stride) == (1, 1, 1, 1) and padding == ((0, 0), (0, 0)):
            return self.plain(x).reshape(*x.shape[:2], prod(x.shape[2:]))
        return self.unfold(x, kernel, stride, padding, dilation)


def _sizes(image: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Pair:
    """(oh, ow)."""
    h, w = (
        conv_size(image[i] + sum(padding[i]), kernel[i], stride[i], 0, dilation[i]) for i in (0, 1)
    )
    return h, w


def _portions(images: int, columns: int) -> Iterator[slice]:
    """The images in portions whose columns keep to ``COLUMNS`` values."""
    step = max(COLUMNS // max(columns, 1), 1)
    for start in range(0, images, step):
        yield slice(start, min(start + step, images))


def _groups(groups: int, matrix: Array, columns: Array, y: Array) -> Iterator[tuple[Any, ...]]:
    """The weights, columns and results that belong together: a batch of images for each group.

    Shapes: matrix (O, K) or (N, O, K), columns (N, groups K, L), y (N, O, oh, ow) -> (O / groups,
    K), (N, K, L) and (N, O / groups, L).
    """
    o, k = matrix.shape[-2] // groups, columns.shape[1] // groups
    y = y.reshape(*y.shape[:2], columns.shape[2])
    for g in range(groups):
        rows = slice(g * o, (g + 1) * o)
        yield matrix[..., rows, :], columns[:, g * k : (g + 1) * k], y[:, rows]
