"""Normalization: of the columns of a matrix, of planes, and of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigrad.backends import capture
from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.cpu import normalization as numpy
from minigrad.backends.cpu.layout import WORTH_SHARING, share_kernel
from minigrad.backends.cpu.normalization import Channels

#: Rows a block: summed in x's dtype within, in float64 over the blocks.
_ROWS = 256

# ---- one channel a column: x (rows, C) --------------------------------------------------------


@kernel
def column_moments(x: Array, mean: Array, squares: Array) -> None:
    """The mean of each column and the sum of squares about it (float64).

    Block by block, each twice while it is in the cache: its mean, then its squares about that.
    Source: Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", eq. 2.1.
    """
    rows, columns = x.shape
    middle, total, square = (
        np.empty(columns, x.dtype),
        np.empty(columns, x.dtype),
        np.empty(columns, x.dtype),
    )
    mean[:] = 0.0
    squares[:] = 0.0
    for start in range(0, rows, _ROWS):
        block = x[start : start + _ROWS]
        n, fours = len(block), len(block) // 4
        total[:] = 0
        for k in range(fours):  # four rows at a time: each sum is loaded and stored once for them
            a, b, c, d = block[4 * k], block[4 * k + 1], block[4 * k + 2], block[4 * k + 3]
            for j in range(columns):
                total[j] += (a[j] + b[j]) + (c[j] + d[j])
        for i in range(4 * fours, n):
            a = block[i]
            for j in range(columns):
                total[j] += a[j]
        for j in range(columns):
            middle[j] = total[j] / n
            total[j] = 0
            square[j] = 0
        for k in range(fours):
            a, b, c, d = block[4 * k], block[4 * k + 1], block[4 * k + 2], block[4 * k + 3]
            for j in range(columns):
                p, q, r, s = a[j] - middle[j], b[j] - middle[j], c[j] - middle[j], d[j] - middle[j]
                total[j] += (p + q) + (r + s)
                square[j] += (p * p + q * q) + (r * r + s * s)
        for i in range(4 * fours, n):
            a = block[i]
            for j in range(columns):
                p = a[j] - middle[j]
                total[j] += p
                square[j] += p * p
        for j in range(columns):
            rest = total[j] / np.float64(n)  # what rounding left of the block's mean
            apart = middle[j] + rest - mean[j]
            mean[j] += apart * n / (start + n)
            squares[j] += square[j] - n * rest * rest
            squares[j] += apart * apart * (np.float64(n) * start / (start + n))


@kernel
def column_scaled(x: Array, mean: Array, rest: Array, scale: Array, beta: Array, y: Array) -> None:
    """y = (x - mean - rest) scale + beta."""
    rows, columns = x.shape
    shift = np.empty(columns, x.dtype)
    for j in range(columns):
        shift[j] = beta[j] - rest[j] * scale[j]
    for i in range(rows):
        a, out = x[i], y[i]
        for j in range(columns):
            out[j] = (a[j] - mean[j]) * scale[j] + shift[j]


@kernel
def column_products(grad: Array, x: Array, mean: Array, total: Array, product: Array) -> None:
    """Of each column the sums of dy and of dy (x - mean) (float64)."""
    rows, columns = x.shape
    s, p = np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    total[:] = 0.0
    product[:] = 0.0
    for start in range(0, rows, _ROWS):
        block, dy = x[start : start + _ROWS], grad[start : start + _ROWS]
        fours = len(block) // 4
        s[:] = 0
        p[:] = 0
        for k in range(fours):
            a, b, c, d = block[4 * k], block[4 * k + 1], block[4 * k + 2], block[4 * k + 3]
            e, f, g, h = dy[4 * k], dy[4 * k + 1], dy[4 * k + 2], dy[4 * k + 3]
            for j in range(columns):
                m = mean[j]
                s[j] += (e[j] + f[j]) + (g[j] + h[j])
                p[j] += (e[j] * (a[j] - m) + f[j] * (b[j] - m)) + (
                    g[j] * (c[j] - m) + h[j] * (d[j] - m)
                )
        for i in range(4 * fours, len(block)):
            a, e = block[i], dy[i]
            for j in range(columns):
                s[j] += e[j]
                p[j] += e[j] * (a[j] - mean[j])
        for j in range(columns):
            total[j] += s[j]
            product[j] += p[j]


@kernel
def column_dx(
    grad: Array, x: Array, mean: Array, scale: Array, slope: Array, offset: Array, dx: Array
) -> None:
    """dx = scale dy - (slope (x - mean) + offset)."""
    rows, columns = x.shape
    for i in range(rows):
        a, dy, out = x[i], grad[i], dx[i]
        for j in range(columns):
            out[j] = scale[j] * dy[j] - ((a[j] - mean[j]) * slope[j] + offset[j])


@kernel
def column_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    y: Array,
    mean: Array,
    var: Array,
    inv_std: Array,
) -> None:
    """Batch normalization whole: y, and mean, biased variance and 1 / deviation of each column."""
    rows, columns = x.shape
    exact, squares = np.empty(columns), np.empty(columns)
    rest, scale = np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    column_moments(x, exact, squares)
    for j in range(columns):
        mean[j] = exact[j]
        rest[j] = exact[j] - mean[j]
        var[j] = squares[j] / rows
        inv_std[j] = 1 / math.sqrt(squares[j] / rows + eps)
        scale[j] = gamma[j] * inv_std[j]
    column_scaled(x, mean, rest, scale, beta, y)


@kernel
def column_norm_backward(
    grad: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    inv_std: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None:
    """The three gradients of ``column_norm``; an empty dx is not wanted."""
    rows, columns = x.shape
    total, product = np.empty(columns), np.empty(columns)
    column_products(grad, x, mean, total, product)
    scale, slope, offset = (
        np.empty(columns, x.dtype),
        np.empty(columns, x.dtype),
        np.empty(columns, x.dtype),
    )
    for j in range(columns):
        dbeta[j] = total[j]
        dgamma[j] = product[j] * inv_std[j]
        scale[j] = gamma[j] * inv_std[j]
        slope[j] = scale[j] * inv_std[j] * dgamma[j] / rows
        offset[j] = scale[j] * dbeta[j] / rows
    if dx.size:
        column_dx(grad, x, mean, scale, slope, offset, dx)


@kernel
def column_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float, y: Array
) -> None:
    """Batch normalization with given statistics."""
    columns = x.shape[1]
    rest, scale = np.zeros(columns, x.dtype), np.empty(columns, x.dtype)
    for j in range(columns):
        scale[j] = gamma[j] / math.sqrt(var[j] + eps)
    column_scaled(x, mean, rest, scale, beta, y)


# ---- one channel a row: x (rows, L) of images (N, C, L), rows = N C ----------------------------


@kernel
def plane_moments(x: Array, mean: Array, squares: Array) -> None:
    """``column_moments`` of images (N, C, L): of each channel, the planes put together."""
    images, channels, length = x.shape
    nothing = x.dtype.type(0)
    for c in range(channels):
        mean[c] = 0.0
        squares[c] = 0.0
        for i in range(images):
            plane = x[i, c]
            total = nothing
            for j in range(length):
                total += plane[j]
            middle = x.dtype.type(total / length)
            total = nothing
            square = nothing
            for j in range(length):
                d = plane[j] - middle
                total += d
                square += d * d
            rest = total / np.float64(length)
            apart = middle + rest - mean[c]
            mean[c] += apart / (i + 1)
            squares[c] += square - length * rest * rest
            squares[c] += apart * apart * (np.float64(length) * i / (i + 1))


@kernel
def plane_scaled(x: Array, mean: Array, rest: Array, scale: Array, beta: Array, y: Array) -> None:
    """``column_scaled`` of images (N, C, L)."""
    images, channels, length = x.shape
    for i in range(images):
        for c in range(channels):
            plane, out = x[i, c], y[i, c]
            m, k, shift = mean[c], scale[c], beta[c] - rest[c] * scale[c]
            for j in range(length):
                out[j] = (plane[j] - m) * k + shift


@kernel
def plane_products(grad: Array, x: Array, mean: Array, total: Array, product: Array) -> None:
    """``column_products`` of images (N, C, L)."""
    images, channels, length = x.shape
    nothing = x.dtype.type(0)
    for c in range(channels):
        m = mean[c]
        total[c] = 0.0
        product[c] = 0.0
        for i in range(images):
            plane, dy = x[i, c], grad[i, c]
            s = nothing
            p = nothing
            for j in range(length):
                s += dy[j]
                p += dy[j] * (plane[j] - m)
            total[c] += s
            product[c] += p


@kernel
def plane_dx(
    grad: Array, x: Array, mean: Array, scale: Array, slope: Array, offset: Array, dx: Array
) -> None:
    """``column_dx`` of images (N, C, L)."""
    images, channels, length = x.shape
    for i in range(images):
        for c in range(channels):
            plane, dy, out = x[i, c], grad[i, c], dx[i, c]
            m, k, a, b = mean[c], scale[c], slope[c], offset[c]
            for j in range(length):
                out[j] = k * dy[j] - ((plane[j] - m) * a + b)


# ---- one sample a row -------------------------------------------------------------------------


@kernel
def row_norm(
    x: Array, gamma: Array, beta: Array, eps: float, y: Array, mean: Array, inv_std: Array
) -> None:
    """Each row of x (rows, n) by its own mean and deviation, times gamma (n,), plus beta."""
    rows, n = x.shape
    nothing, one, count = x.dtype.type(0), x.dtype.type(1), x.dtype.type(n)
    tiny = x.dtype.type(eps)
    for i in range(rows):
        a, out = x[i], y[i]
        total = nothing
        for j in range(n):
            total += a[j]
        middle = total / count
        total = nothing
        square = nothing
        for j in range(n):
            d = a[j] - middle
            total += d
            square += d * d
        rest = total / count
        k = one / math.sqrt(square / count - rest * rest + tiny)
        mean[i] = middle + rest
        inv_std[i] = k
        for j in range(n):
            out[j] = ((a[j] - middle) - rest) * k * gamma[j] + beta[j]


@kernel
def row_norm_backward(
    grad: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    inv_std: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
) -> None:
    """dx of ``row_norm``; dgamma and dbeta (n,) are sums over the rows (float64)."""
    rows, n = x.shape
    nothing, count = x.dtype.type(0), x.dtype.type(n)
    products, sums, slopes = np.zeros(n, x.dtype), np.zeros(n, x.dtype), np.empty(n, x.dtype)
    dgamma[:] = 0.0
    dbeta[:] = 0.0
    for i in range(rows):
        a, dy, out, m, k = x[i], grad[i], dx[i], mean[i], inv_std[i]
        total = nothing
        product = nothing
        for j in range(n):
            x_hat = (a[j] - m) * k
            products[j] += dy[j] * x_hat
            sums[j] += dy[j]
            slopes[j] = dy[j] * gamma[j]  # rounded once: times 1 / deviation, a rest would show
            total += slopes[j]
            product += slopes[j] * x_hat
        total /= count
        product /= count
        for j in range(n):
            out[j] = k * (slopes[j] - total - (a[j] - m) * k * product)
        if i % _ROWS == _ROWS - 1 or i == rows - 1:
            for j in range(n):
                dgamma[j] += products[j]
                dbeta[j] += sums[j]
                products[j] = 0
                sums[j] = 0


class Normalization(numpy.Normalization):
    """Each array is read once or twice."""

    compiles: Callable[[Array], bool]

    def _whole(self, channels: Channels) -> bool:
        """Whether one thread normalizes rows of pixels: one call for everything."""
        x = channels.array
        return self.compiles(x) and not channels.planes and x.size < WORTH_SHARING

    def batch_norm_of(
        self, channels: Channels, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        if not self._whole(channels):
            return super().batch_norm_of(channels, gamma, beta, eps)
        x = plain(channels.array)
        y, stats = np.empty_like(x), capture.empty((3, channels.channels), x.dtype)
        column_norm(x, *_affine(gamma, beta, x), float(eps), y, stats[0], stats[1], stats[2])
        return y, stats[0], stats[1], stats[2]

    def batch_norm_backward_of(
        self,
        channels: Channels,
        grad: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        needs_dx: bool,
    ) -> tuple[Array | None, Array, Array]:
        if not self._whole(channels):
            return super().batch_norm_backward_of(channels, grad, gamma, mean, inv_std, needs_dx)
        x = plain(channels.array)
        dx = capture.empty(x.shape if needs_dx else (0, 0), x.dtype)
        sums = capture.empty((2, channels.channels), x.dtype)
        given = _affine(gamma, None, x)[0], plain(mean), plain(inv_std)
        column_norm_backward(plain(grad), x, *given, dx, sums[0], sums[1])
        return dx if needs_dx else None, sums[0], sums[1]

    def batch_norm_inference_of(
        self,
        channels: Channels,
        gamma: Array | None,
        beta: Array | None,
        mean: Array,
        var: Array,
        eps: float,
    ) -> Array:
        if not self._whole(channels):
            return super().batch_norm_inference_of(channels, gamma, beta, mean, var, eps)
        x = plain(channels.array)
        y = np.empty_like(x)
        column_inference(x, *_affine(gamma, beta, x), plain(mean), plain(var), float(eps), y)
        return y

    def channel_moments(self, channels: Channels) -> tuple[Array, Array, Array]:
        if not self.compiles(channels.array):
            return super().channel_moments(channels)
        x = channels.array
        moments = plane_moments if channels.planes else column_moments

        parts = []

        def prepare(start: int, stop: int) -> Callable[[], Any]:
            mean, squares = np.empty((2, channels.channels))
            parts.append(((stop - start) * (channels.count // len(x)), mean, squares))
            return partial(moments, x[start:stop], mean, squares)

        share_kernel(prepare, x, 1 if channels.planes else _ROWS)
        return channels.combined(parts)

    def channel_scaled(
        self, channels: Channels, mean: Array, rest: Array, scale: Array, beta: Array
    ) -> Array:
        if not self.compiles(channels.array):
            return super().channel_scaled(channels, mean, rest, scale, beta)
        y = np.empty_like(channels.array)
        x = channels.array
        scaled = plane_scaled if channels.planes else column_scaled
        given = plain(mean), plain(rest), plain(scale), plain(beta)
        share_kernel(lambda i, j: partial(scaled, x[i:j], *given, y[i:j]), x)
        return y

    def channel_products(self, channels: Channels, grad: Array, mean: Array) -> tuple[Array, Array]:
        if not self.compiles(channels.array):
            return super().channel_products(channels, grad, mean)
        x = channels.array
        products, mean = plane_products if channels.planes else column_products, plain(mean)

        sums: list[Any] = []

        def prepare(i: int, j: int) -> Callable[[], Any]:
            sums.append(np.empty((2, channels.channels)))
            return partial(products, grad[i:j], x[i:j], mean, *sums[-1])

        share_kernel(prepare, x, 1 if channels.planes else _ROWS)
        total = sum(sums).astype(x.dtype)
        return total[0], total[1]

    def channel_dx(
        self,
        channels: Channels,
        grad: Array,
        mean: Array,
        scale: Array,
        slope: Array,
        offset: Array,
    ) -> Array:
        if not self.compiles(channels.array):
            return super().channel_dx(channels, grad, mean, scale, slope, offset)
        dx = np.empty_like(channels.array)
        x = channels.array
        apply = plane_dx if channels.planes else column_dx
        given = plain(mean), plain(scale), plain(slope), plain(offset)
        share_kernel(lambda i, j: partial(apply, grad[i:j], x[i:j], *given, dx[i:j]), x)
        return dx

    def row_norm(
        self, rows: Array, gamma: Array, beta: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        if not self.compiles(rows):
            return super().row_norm(rows, gamma, beta, eps)
        y, mean, inv_std = np.empty_like(rows), *np.empty((2, len(rows)), rows.dtype)
        gamma, beta, eps = plain(gamma), plain(beta), float(eps)
        numbers = gamma, beta, eps
        share_kernel(
            lambda i, j: partial(row_norm, rows[i:j], *numbers, y[i:j], mean[i:j], inv_std[i:j]),
            rows,
        )
        return y, mean, inv_std

    def row_norm_backward(
        self, grad: Array, rows: Array, gamma: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        if not self.compiles(rows):
            return super().row_norm_backward(grad, rows, gamma, mean, inv_std)
        dx, gamma, mean, inv_std = np.empty_like(rows), plain(gamma), plain(mean), plain(inv_std)

        sums: list[Any] = []

        def prepare(i: int, j: int) -> Callable[[], Any]:
            sums.append(np.empty((2, rows.shape[1])))
            stats = gamma, mean[i:j], inv_std[i:j]
            return partial(row_norm_backward, grad[i:j], rows[i:j], *stats, dx[i:j], *sums[-1])

        share_kernel(prepare, rows, _ROWS)
        total = sum(sums).astype(rows.dtype)
        return dx, total[0], total[1]


def _affine(gamma: Array | None, beta: Array | None, x: Array) -> tuple[Array, Array]:
    """gamma and beta for the columns of x; absent ones are 1 and 0."""
    return (
        np.ones(x.shape[1], x.dtype) if gamma is None else plain(gamma),
        np.zeros(x.shape[1], x.dtype) if beta is None else plain(beta),
    )
