"""Normalization by the statistics of a batch, a sample, or a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minigrad.backends.base import Array, Backend
from minigrad.shapes import prod


class Running(NamedTuple):
    """Running estimates (C,) of mean and variance, and how a batch moves them.

    running <- (1 - share) running + share batch, the batch's variance times ``correction``.
    """

    mean: Array | None
    var: Array | None
    share: float
    correction: float  #: m / (m - 1) for the unbiased variance of m values, or 1


class Normalization(Backend):
    """Mean, variance, scale and shift."""

    move_average: Callable[[Array, Array, float, float], None]  #: of Updates

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
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        running: Running | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics over every axis but 1.

        Shapes: x (N, C, ...), gamma, beta, mean, var, inv_std (C,).
        Returns y, mean, var (biased) and inv_std; ``running`` estimates move towards mean and var,
        in place.
        Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1.
        """
        channels = (1, -1) + (1,) * (x.ndim - 2)
        wide = self._wide(x)
        centered, mean, var = self.moments(wide, (0, *range(2, x.ndim)))
        inv_std = 1.0 / self.sqrt(var + eps)
        y = self._scale_shift(centered * inv_std, gamma, beta, channels)
        mean, var, inv_std = mean.ravel(), var.ravel(), inv_std.ravel()
        if running is not None:
            self.move_running(running, mean, var)
        return y.astype(x.dtype, copy=False), mean, var, inv_std

    def move_running(self, running: Running, mean: Array, var: Array) -> None:
        """Move running estimates towards the statistics of a batch; var is biased."""
        keep, share = 1 - running.share, running.share
        if running.mean is not None:
            self.move_average(running.mean, mean, keep, share)
        if running.var is not None:
            self.move_average(running.var, var, keep, share * running.correction)

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

    def _scale_shift(
        self, x_hat: Array, gamma: Array | None, beta: Array | None, shape: Any
    ) -> Array:
        if gamma is not None:
            x_hat = x_hat * (gamma if shape is None else gamma.reshape(shape))
        if beta is not None:
            x_hat = x_hat + (beta if shape is None else beta.reshape(shape))
        return x_hat
