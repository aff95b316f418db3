"""Normalization block by block: what a block needs stays in the cache from its first pass to its
last. Sums are products with ones, which BLAS does fastest.

x (N, C, ...) of batch normalization is seen in one of two ways, as it lies in memory: as a matrix
of a column a channel, or as planes (N, C, L). Layer and RMS normalization see rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import column_sums, contiguous, in_blocks
from minigrad.backends.reference import normalization as reference
from minigrad.backends.reference.normalization import Running
from minigrad.shapes import prod

#: Numbers a row below which NumPy's inner loops are too short.
_WIDE = 512


def in_planes(x: Array) -> bool:
    """Whether x (N, C, ...) is seen as planes: it lies so in memory, and images are not tiny."""
    return bool(x.ndim > 2 and prod(x.shape[2:]) >= 32 and x.flags.c_contiguous)


class Channels:
    """x (N, C, ...) as ``array``, whose first axis can be cut into blocks: one row a pixel,
    (pixels, C), or, where x lies so in memory and images are not tiny, planes (N, C, L).
    """

    def __init__(self, x: Array) -> None:
        self.shape, self.channels = x.shape, x.shape[1]
        self.count = x.size // max(self.channels, 1)  #: values a channel
        self.planes = in_planes(x)
        self.array = self.seen(x)

    def seen(self, x: Array) -> Array:
        """An array of x's shape in this view (a copy where it lies differently in memory)."""
        if self.planes:
            return contiguous(x).reshape(len(x), self.channels, -1)
        if x.ndim > 2:
            x = x.transpose(0, *range(2, x.ndim), 1)
        return contiguous(x).reshape(self.count, self.channels)

    def restored(self, y: Array) -> Array:
        """An array in this view as one of x's shape."""
        if self.planes or len(self.shape) == 2:
            return y.reshape(self.shape)
        n, c, *image = self.shape
        return y.reshape(n, *image, c).transpose(0, -1, *range(1, len(image) + 1))

    # NumPy's inner loops run along the last axis, so there short rows are joined.

    @cached_property
    def joined(self) -> int:
        """How many pixels make a row that is long enough."""
        most = gcd(self.count, max(1, _WIDE // max(self.channels, 1)))
        return max(d for d in range(1, most + 1) if most % d == 0)

    def wide(self, seen: Array) -> Array:
        """An array in this view with ``joined`` pixels a row."""
        if self.planes:
            return seen
        return seen.reshape(self.count // self.joined, self.joined * self.channels)

    def spread(self, v: Array) -> Array:
        """One number a channel, in a shape that broadcasts against ``wide`` rows or planes."""
        return v[:, None] if self.planes else np.tile(v, self.joined)

    def sums(self, part: Array) -> Array:
        """The sum of each channel over a block of ``wide`` rows or planes."""
        if self.planes:
            return (part @ np.ones(part.shape[2], part.dtype)).sum(axis=0)
        return column_sums(part).reshape(self.joined, self.channels).sum(axis=0)

    def combined(self, parts: list[tuple[int, Array, Array]]) -> tuple[Array, Array, Array]:
        """Mean, what rounding left of it, and biased variance, from (count, mean, sum of squares
        about the mean) of each block, in float64.

        Source: Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", 2.1.
        """
        count, mean, squares = parts[0]
        for n, m, s in parts[1:]:
            apart, total = m - mean, count + n
            mean = mean + apart * (n / total)
            squares = squares + s + apart * apart * (count * n / total)
            count = total
        rounded = mean.astype(self.array.dtype)
        rest = (mean - rounded).astype(self.array.dtype)
        return rounded, rest, (squares / count).astype(self.array.dtype)


class Normalization(reference.Normalization):
    """Batch and layer normalization in float32 and float64; the rest as in the reference."""

    compiles: Callable[[Array], bool]

    def _suits(self, x: Array) -> bool:
        # Of few numbers, blocks only cost: 78 us for 4 against 30
        return x.dtype != "float16" and (x.size >= 4096 or self.compiles(x))

    def batch_norm(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        running: Running | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        if not self._suits(x):
            return super().batch_norm(x, gamma, beta, eps, running)
        channels = Channels(x)
        y, mean, var, inv_std = self.batch_norm_of(channels, gamma, beta, eps)
        if running is not None:
            self.move_running(running, mean, var)
        return channels.restored(y), mean, var, inv_std

    def batch_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not self._suits(x):
            return super().batch_norm_backward(grad, x, gamma, mean, inv_std, needs)
        channels = Channels(x)
        dx, dgamma, dbeta = self.batch_norm_backward_of(
            channels, channels.seen(grad), gamma, mean, inv_std, needs[0]
        )
        return (
            None if dx is None else channels.restored(dx),
            dgamma if needs[1] else None,
            dbeta if needs[2] else None,
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
        if not self._suits(x):
            return super().batch_norm_inference(x, gamma, beta, mean, var, eps)
        channels = Channels(x)
        y = self.batch_norm_inference_of(channels, gamma, beta, mean, var, eps)
        return channels.restored(y)

    def layer_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, axes: tuple[int, ...], eps: float
    ) -> tuple[Array, Array, Array]:
        if not self._suits(x) or not x.size:
            return super().layer_norm(x, gamma, beta, axes, eps)
        features = prod(x.shape[axes[0] :])
        rows = contiguous(x).reshape(-1, features)
        scale = np.ones(features, x.dtype) if gamma is None else gamma.ravel()
        shift = np.zeros(features, x.dtype) if beta is None else beta.ravel()
        y, mean, inv_std = self.row_norm(rows, scale, shift, eps)
        kept = x.shape[: axes[0]] + (1,) * len(axes)
        return y.reshape(x.shape), mean.reshape(kept), inv_std.reshape(kept)

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
        if not self._suits(x) or not x.size:
            return super().layer_norm_backward(grad, x, gamma, mean, inv_std, axes, needs)
        shape = x.shape[axes[0] :]
        rows, dy = (contiguous(a).reshape(-1, prod(shape)) for a in (x, grad))
        scale = np.ones(prod(shape), x.dtype) if gamma is None else gamma.ravel()
        dx, dgamma, dbeta = self.row_norm_backward(dy, rows, scale, mean.ravel(), inv_std.ravel())
        return (
            dx.reshape(x.shape) if needs[0] else None,
            dgamma.reshape(shape) if needs[1] else None,
            dbeta.reshape(shape) if needs[2] else None,
        )

    # ---- the same of an array seen as channels ------------------------------------------------

    def batch_norm_of(
        self, channels: Channels, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """``batch_norm`` of ``channels.array``."""
        mean, rest, var = self.channel_moments(channels)
        inv_std = 1.0 / np.sqrt(var + var.dtype.type(eps))
        scale = inv_std if gamma is None else inv_std * gamma
        y = self.channel_scaled(channels, mean, rest, scale, _or_zeros(beta, mean))
        return y, mean, var, inv_std

    def batch_norm_backward_of(
        self,
        channels: Channels,
        grad: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        needs_dx: bool,
    ) -> tuple[Array | None, Array, Array]:
        """``batch_norm_backward`` of ``channels.array``."""
        dbeta, product = self.channel_products(channels, grad, mean)
        dgamma = product * inv_std
        if not needs_dx:
            return None, dgamma, dbeta
        # dx = scale dy - (scale mean(dy) + scale x_hat mean(dy x_hat))
        scale = inv_std if gamma is None else inv_std * gamma
        share = scale / scale.dtype.type(channels.count)
        slope, offset = share * dgamma * inv_std, share * dbeta
        return self.channel_dx(channels, grad, mean, scale, slope, offset), dgamma, dbeta

    def batch_norm_inference_of(
        self,
        channels: Channels,
        gamma: Array | None,
        beta: Array | None,
        mean: Array,
        var: Array,
        eps: float,
    ) -> Array:
        """``batch_norm_inference`` of ``channels.array``."""
        scale = 1.0 / np.sqrt(var + var.dtype.type(eps))
        if gamma is not None:
            scale = scale * gamma
        nothing = np.zeros_like(mean)
        return self.channel_scaled(channels, mean, nothing, scale, _or_zeros(beta, mean))

    # ---- what these are made of, block by block -----------------------------------------------

    def channel_moments(self, channels: Channels) -> tuple[Array, Array, Array]:
        """Mean, what rounding left of it, and biased variance of each channel, (C,)."""

        x = channels.wide(channels.array)

        def job(block: slice) -> Any:
            part = x[block]
            count = part.size // channels.channels
            mean = channels.sums(part) / x.dtype.type(count)
            centered = part - channels.spread(mean)
            rest = channels.sums(centered).astype("f8") / count
            centered *= centered
            return count, mean + rest, channels.sums(centered) - count * rest * rest

        return channels.combined(in_blocks(job, x))

    def channel_scaled(
        self, channels: Channels, mean: Array, rest: Array, scale: Array, beta: Array
    ) -> Array:
        """(x - mean - rest) scale + beta, as ``channels.array``."""
        middle, factor = channels.spread(mean), channels.spread(scale)
        shift, y = channels.spread(beta - rest * scale), np.empty_like(channels.array)
        x, out = channels.wide(channels.array), channels.wide(y)

        def job(block: slice) -> None:
            part = np.subtract(x[block], middle, out=out[block])
            part *= factor
            part += shift

        in_blocks(job, x)
        return y

    def channel_products(self, channels: Channels, grad: Array, mean: Array) -> tuple[Array, Array]:
        """The sums of dy and of dy (x - mean) of each channel, (C,)."""
        middle = channels.spread(mean)
        x, dy = channels.wide(channels.array), channels.wide(grad)

        def job(block: slice) -> Any:
            product = x[block] - middle
            product *= dy[block]
            return channels.sums(dy[block]), channels.sums(product)

        total, product = zip(*in_blocks(job, x), strict=True)
        return np.sum(total, axis=0), np.sum(product, axis=0)

    def channel_dx(
        self,
        channels: Channels,
        grad: Array,
        mean: Array,
        scale: Array,
        slope: Array,
        offset: Array,
    ) -> Array:
        """scale dy - (slope (x - mean) + offset), as ``channels.array``."""
        mean, scale, slope, offset = map(channels.spread, (mean, scale, slope, offset))
        dx = np.empty_like(grad)
        x, dy, out = map(channels.wide, (channels.array, grad, dx))

        def job(block: slice) -> None:
            part = x[block] - mean
            part *= slope
            part += offset
            np.multiply(dy[block], scale, out=out[block])
            out[block] -= part

        in_blocks(job, x)
        return dx

    def row_norm(
        self, rows: Array, gamma: Array, beta: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Each row by its own mean and deviation, times gamma, plus beta; mean, 1 / deviation."""
        n, features = rows.shape
        y, mean, inv_std = np.empty_like(rows), *np.empty((2, n, 1), rows.dtype)
        share = np.full((features, 1), 1 / features, rows.dtype)

        def job(block: slice) -> None:
            middle = rows[block] @ share
            out = np.subtract(rows[block], middle, out=y[block])
            rest = out @ share  # what rounding left of the mean; see ``moments``
            out -= rest
            inv_std[block] = 1.0 / np.sqrt((out * out) @ share + rows.dtype.type(eps))
            mean[block] = middle + rest
            out *= inv_std[block]
            out *= gamma
            out += beta

        in_blocks(job, rows)
        return y, mean, inv_std

    def row_norm_backward(
        self, grad: Array, rows: Array, gamma: Array, mean: Array, inv_std: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dgamma and dbeta of ``row_norm``."""
        mean, inv_std = mean[:, None], inv_std[:, None]
        share = gamma[:, None] / rows.dtype.type(rows.shape[1])
        dx = np.empty_like(rows)

        def job(block: slice) -> Any:
            g, ones = grad[block], np.ones(len(grad[block]), rows.dtype)
            x_hat = rows[block] - mean[block]
            x_hat *= inv_std[block]
            product = g * x_hat
            # the two means, of gamma dy and of gamma dy x_hat, are products with gamma
            out = np.multiply(g, gamma, out=dx[block])
            x_hat *= product @ share
            out -= x_hat
            out -= g @ share
            out *= inv_std[block]
            return ones @ product, ones @ g

        dgamma, dbeta = zip(*in_blocks(job, rows), strict=True)
        return dx, np.sum(dgamma, axis=0), np.sum(dbeta, axis=0)


def _or_zeros(v: Array | None, like: Array) -> Array:
    return np.zeros_like(like) if v is None else v
