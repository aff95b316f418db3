"""Every named kernel, once, in plain array code, written to be read.

A backend inherits them and overrides what is slow; the tests hold each override against this file.
Names: ``x, y`` input and output, ``grad`` = dL/dy, shapes ``N C H W``, kernel ``kh kw``, output
``oh ow``. Statistics of float16 are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minigrad.backends.base import Array, Backend
from minigrad.shapes import conv_size, prod

Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)
Pair = tuple[int, int]


class Reference(Backend):
    """Kernels over the functions of ``Namespace``: the oracle for faster ones."""

    # ---- linear -----------------------------------------------------------------------------

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """y = x W^T + b.  Shapes: x (..., in), weight (out, in), bias (out,), y (..., out)."""
        y = self._rows(x) @ weight.T
        if bias is not None:
            y = y + bias
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def linear_backward(
        self, grad: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx = dy W,  dW = dy^T x,  db = sum of dy over the batch."""
        rows = self._rows(grad)
        dx = (rows @ weight).reshape(*grad.shape[:-1], weight.shape[1]) if needs[0] else None
        dweight = rows.T @ self._rows(x) if needs[1] else None
        return dx, dweight, rows.sum(axis=0) if needs[2] else None

    def _rows(self, x: Array) -> Array:
        """All axes but the last as one (its size spelt out: -1 is undefined in an empty array)."""
        return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])

    # ---- convolution ------------------------------------------------------------------------

    def windows(
        self, x: Array, kernel: Pair, stride: Pair, dilation: Pair, size: Pair
    ) -> Iterator[tuple[int, int, Any]]:
        """For each place (i, j) in the kernel, the index that selects what it meets in ``x``."""
        (kh, kw), (sh, sw), (dh, dw), (oh, ow) = kernel, stride, dilation, size
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                yield i, j, (..., rows, columns)

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
        """Cross-correlation as kh * kw shifted products: y += W[:, :, i, j] x[shifted by i, j].

        Shapes: x (N, C, H, W), weight (O, C / groups, kh, kw), y (N, O, oh, ow).
        """
        x = self.pad_image(x, padding)
        kernel = weight.shape[2:]
        size = self._conv_sizes(x, kernel, stride, dilation)
        x, weight = self._grouped(x, weight, groups)
        y: Any = 0
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            columns = x[window]
            y = y + weight[..., i, j] @ columns.reshape(*columns.shape[:3], prod(size))
        y = y.reshape(x.shape[0], groups * weight.shape[1], *size)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

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
        """The three gradients, each product of the forward sum undone."""
        dbias = grad.sum(axis=(0, 2, 3)) if needs[2] else None
        kernel, size, full = weight.shape[2:], grad.shape[2:], weight.shape
        x = self.pad_image(x, padding)
        padded = x.shape
        x, weight = self._grouped(x, weight, groups)
        rows = grad.reshape(x.shape[0], groups, full[0] // groups, prod(size))
        dx = self.zeros(x.shape, dtype=grad.dtype) if needs[0] else None
        dweight = self.zeros(weight.shape, dtype=grad.dtype) if needs[1] else None
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            if dx is not None:
                dx[window] += (weight[..., i, j].swapaxes(-1, -2) @ rows).reshape(
                    *x.shape[:3], *size
                )
            if dweight is not None:
                columns = x[window].reshape(*x.shape[:3], prod(size))
                dweight[..., i, j] = (rows @ columns.swapaxes(-1, -2)).sum(axis=0)
        if dx is not None:
            dx = self.crop_image(dx.reshape(padded), padding)
        return dx, None if dweight is None else dweight.reshape(full), dbias

    def conv_transpose2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
    ) -> Array:
        """The dx of a convolution with ``weight`` and these settings whose dy is ``x``.

        Shapes: x (N, C, H, W), weight (C, O / groups, kh, kw), y (N, O, oh, ow) with
        oh = stride (H - 1) + dilation (kh - 1) + 1 - padding. Negative padding adds rows that no
        window reaches.
        """
        cut, more = self._cut_and_more(padding)
        shape = (
            x.shape[0],
            groups * weight.shape[1],
            *(
                s * (n - 1) + d * (k - 1) + 1 - sum(p)
                for n, s, d, k, p in zip(
                    x.shape[2:], stride, dilation, weight.shape[2:], cut, strict=True
                )
            ),
        )
        image = self.broadcast_to(self.zeros((), dtype=x.dtype), shape)
        y, _, _ = self.conv2d_backward(
            x, image, weight, stride, cut, dilation, groups, (True, False, False)
        )
        y = self.pad_image(y, more)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    def conv_transpose2d_backward(
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
        """dx is the convolution of dy, dweight its dweight with x and dy swapped."""
        cut, more = self._cut_and_more(padding)
        dbias = grad.sum(axis=(0, 2, 3)) if needs[2] else None
        grad = self.crop_image(grad, more)
        dx = dweight = None
        if needs[0]:
            dx = self.conv2d(grad, weight, None, stride, cut, dilation, groups)
        if needs[1]:
            _, dweight, _ = self.conv2d_backward(
                x, grad, weight, stride, cut, dilation, groups, (False, True, False)
            )
        return dx, dweight, dbias

    def _cut_and_more(self, padding: Pads) -> tuple[Pads, Pads]:
        """What padding cuts off, and what negative padding adds."""
        (top, bottom), (left, right) = padding
        cut = (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))
        return cut, ((max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0)))

    def unfold(self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair) -> Array:
        """Every window of ``x`` as a column: (N, C, H, W) -> (N, C * kh * kw, oh * ow)."""
        x = self.pad_image(x, padding)
        size = self._conv_sizes(x, kernel, stride, dilation)
        n, c = x.shape[:2]
        columns = self.empty((n, c, *kernel, *size), dtype=x.dtype)
        for i, j, window in self.windows(x, kernel, stride, dilation, size):
            columns[:, :, i, j] = x[window]
        return columns.reshape(n, c * prod(kernel), prod(size))

    def fold(
        self, columns: Array, shape: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        """``unfold`` transposed: each column added to its window of an image of zeros."""
        (top, bottom), (left, right) = padding
        n, c = columns.shape[0], columns.shape[1] // prod(kernel)
        padded = (n, c, shape[0] + top + bottom, shape[1] + left + right)
        y = self.zeros(padded, dtype=columns.dtype)
        size = self._conv_sizes(y, kernel, stride, dilation)
        columns = columns.reshape(n, c, *kernel, *size)
        for i, j, window in self.windows(y, kernel, stride, dilation, size):
            y[window] += columns[:, :, i, j]
        return self.crop_image(y, padding)

    def pad_image(self, x: Array, padding: Pads, value: float = 0.0) -> Array:
        """``x`` (..., H, W) with a border of ``value``."""
        if padding == ((0, 0), (0, 0)):
            return x
        (top, bottom), (left, right) = padding
        h, w = x.shape[-2:]
        y = self.full((*x.shape[:-2], h + top + bottom, w + left + right), value, dtype=x.dtype)
        y[..., top : top + h, left : left + w] = x
        return y

    def crop_image(self, x: Array, padding: Pads) -> Array:
        """``pad_image`` undone."""
        (top, bottom), (left, right) = padding
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    def _conv_sizes(self, padded: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
        return (
            conv_size(padded.shape[-2], kernel[0], stride[0], 0, dilation[0]),
            conv_size(padded.shape[-1], kernel[1], stride[1], 0, dilation[1]),
        )

    def _grouped(self, x: Array, weight: Array, groups: int) -> tuple[Array, Array]:
        n, c, h, w = x.shape
        return (
            x.reshape(n, groups, c // groups, h, w),
            weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]),
        )

    # ---- pooling ----------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, size: Pair
    ) -> tuple[Array, Array]:
        """The largest of each window and its flat place in the image (NaN counts as largest)."""
        (top, _), (left, _), width = padding[0], padding[1], x.shape[-1]
        lowest = -float("inf") if x.dtype.kind == "f" else self.module.iinfo(x.dtype).min
        padded = self.pad_image(x, padding, lowest)
        rows = self.asarray(range(size[0])).reshape(-1, 1) * stride[0] - top
        columns = self.asarray(range(size[1])) * stride[1] - left
        corner = rows * width + columns
        y = places = None
        for i, j, window in self.windows(padded, kernel, stride, dilation, size):
            seen = padded[window]
            place = corner + (i * dilation[0] * width + j * dilation[1])
            if y is None:
                y, places = seen.copy(), self.broadcast_to(place, seen.shape).copy()
                # the first place may lie in the border: any place inside beats it
                first = (rows < 0) | (columns < 0)
                fresh = self.broadcast_to(first, seen.shape).copy()
                continue
            inside = (
                (rows + i * dilation[0] >= 0)
                & (rows + i * dilation[0] < x.shape[-2])
                & (columns + j * dilation[1] >= 0)
                & (columns + j * dilation[1] < width)
            )
            better = ((seen > y) | (seen != seen) | fresh) & inside
            fresh &= ~inside
            y = self.where(better, seen, y)
            places = self.where(better, place, places)
        return y, places

    def max_pool2d_backward(
        self,
        grad: Array,
        places: Array,
        shape: tuple[int, ...],
    ) -> Array:
        """dx: each dy goes to the place that won its window."""
        flat = (*shape[:-2], shape[-2] * shape[-1])
        rows = grad.reshape(*grad.shape[:-2], prod(grad.shape[-2:]))
        return self.scatter_add(rows, places.reshape(rows.shape), rows.ndim - 1, flat).reshape(
            shape
        )

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, size: Pair, share: Array
    ) -> Array:
        """The sum of each window times ``share`` (oh, ow), 1 / the number of cells that count."""
        padded = self.pad_image(x, padding)
        y: Any = 0
        for _, _, window in self.windows(padded, kernel, stride, (1, 1), size):
            y = y + padded[window]
        return y * share

    def avg_pool2d_backward(
        self,
        grad: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        share: Array,
        shape: tuple[int, ...],
    ) -> Array:
        """dx: each dy is shared out evenly over its window."""
        (top, bottom), (left, right) = padding
        padded = (*shape[:-2], shape[-2] + top + bottom, shape[-1] + left + right)
        dx = self.zeros(padded, dtype=grad.dtype)
        grad = grad * share
        for _, _, window in self.windows(dx, kernel, stride, (1, 1), grad.shape[-2:]):
            dx[window] += grad
        return self.crop_image(dx, padding)

    # ---- normalization ----------------------------------------------------------------------

    def moments(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """x - mean, mean and biased variance over ``axes``, kept as size 1.

        The corrected two-pass algorithm: the mean of x - mean is what rounding left of the mean.
        One pass, E[x^2] - E[x]^2, loses every digit where the mean is large.
        Source: Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance",
        eq. 1.7.
        """
        mean = x.mean(axis=axes, keepdims=True)
        centered = x - mean
        rest = centered.mean(axis=axes, keepdims=True)
        centered = centered - rest
        var = (centered * centered).mean(axis=axes, keepdims=True)
        return centered, mean + rest, var

    def batch_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics over every axis but 1.

        Shapes: x (N, C, ...), gamma, beta, mean, var, inv_std (C,).
        Returns y, mean, var (biased) and inv_std.
        Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1.
        """
        channels = (1, -1) + (1,) * (x.ndim - 2)
        wide = self._wide(x)
        centered, mean, var = self.moments(wide, (0, *range(2, x.ndim)))
        inv_std = 1.0 / self.sqrt(var + eps)
        y = self._scale_shift(centered * inv_std, gamma, beta, channels)
        return y.astype(x.dtype, copy=False), mean.ravel(), var.ravel(), inv_std.ravel()

    def batch_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx = gamma / std (dy - mean(dy) - x_hat mean(dy x_hat)).

        dgamma = sum dy x_hat, dbeta = sum dy.
        mean and var are functions of x, so each dx gets a share through them: the two means.
        """
        axes, channels = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        wide = self._wide(grad)
        x_hat = (self._wide(x) - mean.reshape(channels)) * inv_std.reshape(channels)
        dbeta = wide.sum(axis=axes)
        dgamma = (wide * x_hat).sum(axis=axes)
        dx = None
        if needs[0]:
            m = prod(x.shape) // max(x.shape[1], 1)
            scale = inv_std if gamma is None else inv_std * gamma
            dx = scale.reshape(channels) * (
                wide - (dbeta / m).reshape(channels) - x_hat * (dgamma / m).reshape(channels)
            )
            dx = dx.astype(x.dtype, copy=False)
        like = x if gamma is None else gamma
        return (
            dx,
            dgamma.astype(like.dtype, copy=False) if needs[1] else None,
            dbeta.astype(like.dtype, copy=False) if needs[2] else None,
        )

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        mean: Array,
        var: Array,
        eps: float,
    ) -> Array:
        """The same with given statistics: y = scale x + shift, one scale and one shift a channel.

        Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 2, step 11.
        """
        channels = (1, -1) + (1,) * (x.ndim - 2)
        std = self.sqrt(self._wide(var).reshape(channels) + eps)
        x_hat = (self._wide(x) - mean.reshape(channels)) / std
        return self._scale_shift(x_hat, gamma, beta, channels).astype(x.dtype, copy=False)

    def batch_norm_inference_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        var: Array,
        eps: float,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx = gamma / std dy: the statistics are constants, so no mean is subtracted."""
        axes, channels = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        wide = self._wide(grad)
        inv_std = (1.0 / self.sqrt(self._wide(var) + eps)).reshape(channels)
        scale = inv_std if gamma is None else inv_std * gamma.reshape(channels)
        dx = (wide * scale).astype(x.dtype, copy=False) if needs[0] else None
        dgamma = dbeta = None
        like = x if gamma is None else gamma
        if needs[1]:
            x_hat = (self._wide(x) - mean.reshape(channels)) * inv_std
            dgamma = (wide * x_hat).sum(axis=axes).astype(like.dtype, copy=False)
        if needs[2]:
            dbeta = wide.sum(axis=axes).astype(like.dtype, copy=False)
        return dx, dgamma, dbeta

    def layer_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, axes: tuple[int, ...], eps: float
    ) -> tuple[Array, Array, Array]:
        """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics over the last axes.

        Shapes: gamma, beta x.shape[axes]; mean, inv_std as x with those axes of size 1.
        Source: Ba, Kiros, Hinton (2016), arXiv:1607.06450, eq. 3 and 4.
        """
        centered, mean, var = self.moments(self._wide(x), axes)
        inv_std = 1.0 / self.sqrt(var + eps)
        y = self._scale_shift(centered * inv_std, gamma, beta, None)
        return y.astype(x.dtype, copy=False), mean, inv_std

    def layer_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        axes: tuple[int, ...],
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """As batch_norm_backward; gamma varies along the averaged axes: it is inside the means."""
        batch = tuple(i for i in range(x.ndim) if i not in axes)
        wide = self._wide(grad)
        x_hat = (self._wide(x) - mean) * inv_std
        dgamma = dbeta = dx = None
        like = x if gamma is None else gamma
        if needs[1]:
            dgamma = (wide * x_hat).sum(axis=batch).astype(like.dtype, copy=False)
        if needs[2]:
            dbeta = wide.sum(axis=batch).astype(like.dtype, copy=False)
        if needs[0]:
            dx_hat = wide if gamma is None else wide * gamma
            dx = inv_std * (
                dx_hat
                - dx_hat.mean(axis=axes, keepdims=True)
                - x_hat * (dx_hat * x_hat).mean(axis=axes, keepdims=True)
            )
            dx = dx.astype(x.dtype, copy=False)
        return dx, dgamma, dbeta

    def group_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics of each sample's groups.

        Shapes: x (N, C, ...), gamma, beta (C,), mean, var, inv_std (N, groups).
        Returns y, mean, var (biased) and inv_std.
        Source: Wu and He (2018), arXiv:1803.08494, eq. 1 to 3 and 7.
        """
        centered, mean, var = self.moments(self._wide(self._in_groups(x, groups)), (2,))
        inv_std = 1.0 / self.sqrt(var + eps)
        x_hat = (centered * inv_std).reshape(x.shape)
        y = self._scale_shift(x_hat, gamma, beta, (1, -1) + (1,) * (x.ndim - 2))
        return y.astype(x.dtype, copy=False), mean[..., 0], var[..., 0], inv_std[..., 0]

    def group_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """As layer_norm_backward, over the values of a group; gamma is inside the means."""
        batch, channels = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        wide, inv_std = self._wide(grad), inv_std[..., None]
        x_hat = (self._wide(self._in_groups(x, groups)) - mean[..., None]) * inv_std
        dgamma = dbeta = dx = None
        like = x if gamma is None else gamma
        if needs[1]:
            dgamma = (wide * x_hat.reshape(x.shape)).sum(axis=batch).astype(like.dtype, copy=False)
        if needs[2]:
            dbeta = wide.sum(axis=batch).astype(like.dtype, copy=False)
        if needs[0]:
            dx_hat = wide if gamma is None else wide * gamma.reshape(channels)
            dx_hat = self._in_groups(dx_hat, groups)
            dx = inv_std * (
                dx_hat
                - dx_hat.mean(axis=2, keepdims=True)
                - x_hat * (dx_hat * x_hat).mean(axis=2, keepdims=True)
            )
            dx = dx.reshape(x.shape).astype(x.dtype, copy=False)
        return dx, dgamma, dbeta

    def _in_groups(self, x: Array, groups: int) -> Array:
        """(N, C, ...) as (N, groups, values of a group)."""
        return x.reshape(x.shape[0], groups, prod(x.shape[1:]) // groups)

    def rms_norm(
        self, x: Array, gamma: Array | None, axes: tuple[int, ...], eps: float
    ) -> tuple[Array, Array]:
        """y = gamma x / sqrt(mean x^2 + eps), the mean over the last axes; and 1 / that root.

        Source: Zhang and Sennrich (2019), arXiv:1910.07467, eq. 4.
        """
        wide = self._wide(x)
        inv_rms = 1.0 / self.sqrt((wide * wide).mean(axis=axes, keepdims=True) + eps)
        y = self._scale_shift(wide * inv_rms, gamma, None, None)
        return y.astype(x.dtype, copy=False), inv_rms

    def rms_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        inv_rms: Array,
        axes: tuple[int, ...],
        needs: tuple[bool, bool],
    ) -> tuple[Array | None, Array | None]:
        """dx = (g - x_hat mean(g x_hat)) / rms with g = gamma dy."""
        wide, x_hat = self._wide(grad), self._wide(x) * inv_rms
        dgamma = dx = None
        if needs[1]:
            batch = tuple(i for i in range(x.ndim) if i not in axes)
            like = x if gamma is None else gamma
            dgamma = (wide * x_hat).sum(axis=batch).astype(like.dtype, copy=False)
        if needs[0]:
            dx_hat = wide if gamma is None else wide * gamma
            dx = inv_rms * (dx_hat - x_hat * (dx_hat * x_hat).mean(axis=axes, keepdims=True))
            dx = dx.astype(x.dtype, copy=False)
        return dx, dgamma

    def local_response_norm(
        self, x: Array, size: int, alpha: float, beta: float, k: float
    ) -> Array:
        """y = x / (k + alpha / size sum of x^2 over ``size`` neighbouring channels)^beta.

        Source: Krizhevsky, Sutskever, Hinton (2012), section 3.3.
        """
        wide = self._wide(x)
        scale = k + (alpha / size) * self._neighbours(wide * wide, size // 2, (size - 1) // 2)
        return (wide / scale**beta).astype(x.dtype, copy=False)

    def local_response_norm_backward(
        self, grad: Array, x: Array, size: int, alpha: float, beta: float, k: float
    ) -> Array:
        """Each channel is in the windows of its neighbours: the window of the sum is mirrored."""
        wide, dy = self._wide(x), self._wide(grad)
        before, after = size // 2, (size - 1) // 2
        scale = k + (alpha / size) * self._neighbours(wide * wide, before, after)
        shrunk = dy / scale**beta
        shares = self._neighbours(shrunk * wide / scale, after, before)
        return (shrunk - (2 * alpha * beta / size) * wide * shares).astype(x.dtype, copy=False)

    def _neighbours(self, x: Array, before: int, after: int) -> Array:
        """The sum over channels c - before to c + after, at every c; zeros beyond the ends."""
        y, channels = self.zeros(x.shape, dtype=x.dtype), x.shape[1]
        for shift in range(-before, after + 1):
            start, stop = max(-shift, 0), min(channels, channels - shift)
            if start < stop:
                y[:, start:stop] += x[:, start + shift : stop + shift]
        return y

    def _wide(self, x: Array) -> Array:
        """float16 as float32, in which statistics are computed; anything else as it is."""
        return x.astype("float32") if x.dtype == "float16" else x

    def _scale_shift(
        self, x_hat: Array, gamma: Array | None, beta: Array | None, shape: Any
    ) -> Array:
        if gamma is not None:
            x_hat = x_hat * (gamma if shape is None else gamma.reshape(shape))
        if beta is not None:
            x_hat = x_hat + (beta if shape is None else beta.reshape(shape))
        return x_hat

    # ---- softmax and cross entropy ----------------------------------------------------------

    def softmax(self, x: Array, axis: int) -> Array:
        """exp(x) / sum exp(x), shifted by max x, which cancels: no overflow."""
        if not prod(x.shape):
            return x.copy()
        wide = self._wide(x)
        e = self.exp(wide - wide.max(axis=axis, keepdims=True))
        return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)

    def log_softmax(self, x: Array, axis: int) -> Array:
        """x - log sum exp(x), shifted by max x."""
        if not prod(x.shape):
            return x.copy()
        wide = self._wide(x)
        z = wide - wide.max(axis=axis, keepdims=True)
        y = z - self.log(self.exp(z).sum(axis=axis, keepdims=True))
        return y.astype(x.dtype, copy=False)

    def softmax_cross_entropy(
        self, logits: Array, target: Array, ignore_index: int
    ) -> tuple[Array, Array]:
        """-log softmax(logits)[target] of each row, 0 where ignored, and softmax(logits).

        Shapes: logits (N, C), target (N,) integer; loss (N,), probabilities (N, C).
        """
        wide = self._wide(logits)
        shifted = wide - wide.max(axis=1, keepdims=True)
        e = self.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        kept = target != ignore_index
        at = self.where(kept, target, 0)[:, None]
        loss = self.log(total[:, 0]) - self.take_along_axis(shifted, at, 1)[:, 0]
        loss = self.where(kept, loss, self.zeros_like(loss))
        return loss.astype(logits.dtype, copy=False), (e / total).astype(logits.dtype, copy=False)

    def softmax_cross_entropy_backward(
        self, grad: Array, probabilities: Array, target: Array, ignore_index: int
    ) -> Array:
        """dlogits = dy (softmax(logits) - onehot(target)), 0 where ignored; grad is (N,)."""
        kept = target != ignore_index
        at = self.where(kept, target, 0)[:, None]
        onehot = self.scatter_add(
            self.ones(at.shape, dtype=probabilities.dtype), at, 1, probabilities.shape
        )
        grad = self.where(kept, grad, self.zeros_like(grad))
        return (probabilities - onehot) * grad[:, None]

    # ---- optimizers -------------------------------------------------------------------------
    # Each rule is elementwise and writes on what it is given: the parameter, its running averages,
    # and two scratch arrays ``a, b``. ``grad`` is only read.

    #: Elements a block. Adam on 20 arrays of 1000 x 1000: 53 ms at 32768, 67 ms in one piece.
    block = 32768

    def in_blocks(
        self, rule: Callable[..., None], param: Array, grad: Array, *kept: Array | None
    ) -> None:
        """``rule(param, grad, *kept, a, b)`` for one block of all the arrays after another.

        So a block stays in the cache from the first line of the rule to the last, and scratch
        memory is small. A backend whose memory asks for something else overrides this.
        """
        arrays = (param, grad, *kept)
        size, shape, dtype = param.size, param.shape, grad.dtype
        if size <= self.block or not all(x is None or x.flags.c_contiguous for x in arrays):
            rule(*arrays, self.empty(shape, dtype=dtype), self.empty(shape, dtype=dtype))
            return
        flat = [None if x is None else x.reshape(-1) for x in arrays]
        a, b = self.empty((2, self.block), dtype=dtype)
        for start in range(0, size, self.block):
            stop = min(start + self.block, size)
            parts = [None if x is None else x[start:stop] for x in flat]
            rule(*parts, a[: stop - start], b[: stop - start])

    def decayed(self, g: Array, p: Array, weight_decay: float, out: Array) -> Array:
        """g + weight_decay p: the gradient with that of the L2 penalty weight_decay/2 |p|^2."""
        if not weight_decay:
            return g
        self.multiply(p, weight_decay, out=out, dtype=out.dtype)
        return self.add(out, g, out=out)

    def sgd_update(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        dampening: float,
        nesterov: bool,
        first: bool,
        weight_decay: float = 0.0,
    ) -> None:
        """v <- mu v + (1 - dampening) g, at first v <- g;  p <- p - lr v.

        Without ``velocity`` p <- p - lr g; with Nesterov p <- p - lr (g + mu v).
        """

        def rule(p: Array, g: Array, v: Array | None, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            if v is not None:
                if first:
                    v[...] = g
                else:
                    v *= momentum
                    v += self.multiply(g, 1 - dampening, out=a) if dampening else g
                g = self.add(g, self.multiply(v, momentum, out=a), out=a) if nesterov else v
            p -= self.multiply(g, lr, out=a)

        self.in_blocks(rule, param, grad, velocity)

    def momentum_update(
        self,
        param: Array,
        grad: Array,
        velocity: Array,
        lr: float,
        momentum: float,
        form: str,
        correction: float,
        weight_decay: float = 0.0,
    ) -> None:
        """The three textbook forms; ``correction`` is 1 - beta^t of the corrected average, or 1."""

        def rule(p: Array, g: Array, v: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            v *= momentum
            if form == "velocity":  # v = mu v - lr g;  p = p + v
                v -= self.multiply(g, lr, out=a)
                p += v
            else:  # heavy-ball: v = mu v + g;   ema: v = beta v + (1 - beta) g
                v += g if form == "heavy-ball" else self.multiply(g, 1 - momentum, out=a)
                p -= self.multiply(v, lr / correction, out=a)

        self.in_blocks(rule, param, grad, velocity)

    def rmsprop_update(
        self,
        param: Array,
        grad: Array,
        square: Array,
        average: Array | None,
        velocity: Array | None,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float = 0.0,
        eps_inside: bool = False,
    ) -> None:
        """s <- alpha s + (1 - alpha) g^2;  p <- p - lr g / (sqrt(s) + eps), or g / sqrt(s + eps).

        With ``average`` (centered), the mean of g squared is taken off s. It can exceed s by
        rounding where the gradient hardly changes, hence the maximum with 0.
        """

        def rule(
            p: Array, g: Array, s: Array, mean: Array | None, v: Array | None, a: Array, b: Array
        ) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            s *= alpha
            self.multiply(g, g, out=a)
            s += self.multiply(a, 1 - alpha, out=a)
            if mean is not None:
                mean *= alpha
                mean += self.multiply(g, 1 - alpha, out=a)
                self.subtract(s, self.multiply(mean, mean, out=a), out=a)
                s = self.maximum(a, 0, out=a)
            if eps_inside:
                self.sqrt(self.add(s, eps, out=a), out=a)
            else:
                self.sqrt(s, out=a)
                a += eps
            self.divide(g, a, out=a)
            if v is not None:
                v *= momentum
                v += a
                self.multiply(v, lr, out=a)
            else:
                a *= lr
            p -= a

        self.in_blocks(rule, param, grad, square, average, velocity)

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        v_max: Array | None,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        """m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  p <- p - lr m_hat / (sqrt(v_hat) + eps).

        m_hat = m / (1 - b1^t), v_hat = v / (1 - b2^t). With r = sqrt(1 - b2^t) the step is also
        lr r / (1 - b1^t) m / (sqrt(v) + r eps): the corrections are numbers, not arrays.
        Source: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1 and the remark that follows it.
        """
        root = (1 - beta2**t) ** 0.5
        rate = lr * root / (1 - beta1**t)

        def rule(
            p: Array, g: Array, m: Array, v: Array, v_max: Array | None, a: Array, b: Array
        ) -> None:
            if decoupled and weight_decay:
                p *= 1 - lr * weight_decay
            else:
                g = self.decayed(g, p, weight_decay, out=b)
            m *= beta1
            m += self.multiply(g, 1 - beta1, out=a)
            v *= beta2
            self.multiply(g, g, out=a)
            v += self.multiply(a, 1 - beta2, out=a)
            if v_max is not None:  # amsgrad
                self.maximum(v_max, v, out=v_max)
            self.sqrt(v if v_max is None else v_max, out=a)
            a += root * eps
            self.divide(m, a, out=a)
            p -= self.multiply(a, rate, out=a)

        self.in_blocks(rule, param, grad, m, v, v_max)

    def adagrad_update(
        self,
        param: Array,
        grad: Array,
        total: Array,
        lr: float,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """s <- s + g^2;  p <- p - lr g / (sqrt(s) + eps)."""

        def rule(p: Array, g: Array, s: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            s += self.multiply(g, g, out=a)
            self.sqrt(s, out=a)
            a += eps
            self.divide(g, a, out=a)
            p -= self.multiply(a, lr, out=a)

        self.in_blocks(rule, param, grad, total)

    def adadelta_update(
        self,
        param: Array,
        grad: Array,
        square: Array,
        delta_square: Array,
        lr: float,
        rho: float,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - lr d,  d = g sqrt(u + eps) / sqrt(s + eps);  s, u: running means of g^2, d^2."""

        def rule(p: Array, g: Array, s: Array, u: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            s *= rho
            self.multiply(g, g, out=a)
            s += self.multiply(a, 1 - rho, out=a)
            self.sqrt(self.add(s, eps, out=a), out=a)
            self.divide(g, a, out=b)
            self.sqrt(self.add(u, eps, out=a), out=a)
            a *= b  # d
            u *= rho
            self.multiply(a, a, out=b)
            u += self.multiply(b, 1 - rho, out=b)
            p -= self.multiply(a, lr, out=a)

        self.in_blocks(rule, param, grad, square, delta_square)

    def adamax_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        u: Array,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        weight_decay: float = 0.0,
    ) -> None:
        """m <- b1 m + (1-b1) g;  u <- max(b2 u, |g| + eps);  p <- p - lr / (1 - b1^t) m / u."""
        rate = lr / (1 - beta1**t)

        def rule(p: Array, g: Array, m: Array, u: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            m *= beta1
            m += self.multiply(g, 1 - beta1, out=a)
            u *= beta2
            self.abs(g, out=a)
            a += eps
            self.maximum(u, a, out=u)
            self.divide(m, u, out=a)
            p -= self.multiply(a, rate, out=a)

        self.in_blocks(rule, param, grad, m, u)

    def nadam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        grad_rate: float,
        mean_rate: float,
        shrink: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - (grad_rate g + mean_rate m) / (sqrt(v_hat) + eps), with m and v of Adam.

        ``shrink`` is the share of p that decoupled decay takes off first.
        """
        root = (1 - beta2**t) ** 0.5

        def rule(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
            if shrink:
                p *= 1 - shrink
            g = self.decayed(g, p, weight_decay, out=b)
            m *= beta1
            m += self.multiply(g, 1 - beta1, out=a)
            v *= beta2
            self.multiply(g, g, out=a)
            v += self.multiply(a, 1 - beta2, out=a)
            self.multiply(g, grad_rate, out=b)
            b += self.multiply(m, mean_rate, out=a)
            self.sqrt(v, out=a)
            a *= 1 / root
            a += eps
            p -= self.divide(b, a, out=a)

        self.in_blocks(rule, param, grad, m, v)

    def radam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        beta1: float,
        beta2: float,
        eps: float,
        rate: float,
        adaptive: bool,
        shrink: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - rate m / (sqrt(v) + eps), or rate m while v is not to be trusted.

        ``rate`` holds lr and every correction; ``shrink`` as in ``nadam_update``.
        """

        def rule(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
            if shrink:
                p *= 1 - shrink
            g = self.decayed(g, p, weight_decay, out=b)
            m *= beta1
            m += self.multiply(g, 1 - beta1, out=a)
            v *= beta2
            self.multiply(g, g, out=a)
            v += self.multiply(a, 1 - beta2, out=a)
            if adaptive:
                self.sqrt(v, out=a)
                a += eps
                self.divide(m, a, out=a)
                a *= rate
            else:
                self.multiply(m, rate, out=a)
            p -= a

        self.in_blocks(rule, param, grad, m, v)
