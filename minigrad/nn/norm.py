"""Normalization layers: what they average over makes the difference.

BatchNorm averages over the batch, LayerNorm over a sample's features, GroupNorm over groups of its
channels, InstanceNorm over each channel; RMSNorm takes no mean off, LocalResponseNorm looks at
neighbouring channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from minigrad.backends.capture import effect
from minigrad.creation import ones, tensor, zeros
from minigrad.dtypes import int64
from minigrad.engine import changed
from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.module import Buffer, Module, Parameter
from minigrad.shapes import prod
from minigrad.tensor import Tensor


class _Norm(Module):
    """What BatchNorm and InstanceNorm share: γ, β and the running estimates of each channel."""

    ndims: tuple[int, ...] = ()
    shapes = ""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats, self.fused = affine, track_running_stats, fused
        place = {"device": device, "dtype": dtype}
        if affine:
            self.weight: Parameter | None = Parameter(ones(num_features, **place))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias: Parameter | None = Parameter(zeros(num_features, **place))
        else:
            self.register_parameter("bias", None)
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        if track_running_stats:
            self.running_mean = Buffer(zeros(num_features, **place))
            self.running_var = Buffer(ones(num_features, **place))
            self.num_batches_tracked = Buffer(tensor(0, dtype=int64, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)

    def reset_running_stats(self) -> None:
        """Forget what was seen: mean 0, variance 1, no batch."""
        if self.running_mean is not None and self.running_var is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
        if self.num_batches_tracked is not None:
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Forget everything: statistics, and γ = 1, β = 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    """What the BatchNorms share: everything but the shapes they take."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize with the batch's statistics (train) or the running ones (eval)."""
        self._check(input)
        by_batch = self.training or self.running_mean is None
        if by_batch and prod(input.shape) == self.num_features:
            raise ValueError(
                f"{type(self).__name__} needs more than one value per channel in train mode, got "
                f"{input.shape}; use a larger batch or model.eval()."
            )
        track = self.training and self.num_batches_tracked is not None
        share = self._cumulative if self.momentum is None else self.momentum
        y = F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            by_batch,
            share,
            self.eps,
            fused=self.fused,
        )
        if track and self.num_batches_tracked is not None:
            effect(_count, self.num_batches_tracked)  # only now: what failed counts nothing
        return y

    def _cumulative(self) -> float:
        """The new batch's share of the average of all batches."""
        seen = self.num_batches_tracked
        return 0.0 if seen is None else 1 / (int(seen) + 1)

    def _check(self, input: Tensor) -> None:
        shape = input.shape
        if len(shape) not in self.ndims:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) expects "
                f"{self.shapes.format(self.num_features)}, got {shape}."
            )
        if shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) expects "
                f"{self.shapes.format(self.num_features)}, got {shape}: channel axis 1 has "
                f"{shape[1]}, not {self.num_features}."
            )


def _count(batches: Tensor) -> None:
    batches.array += 1
    changed(batches.array)


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L): each feature C over the batch (and L).

        y = γ (x - μ) / √(σ² + ε) + β

    In train mode μ and σ² (biased) are those of the batch, and the running estimates follow:
    running = (1 - momentum) · running + momentum · batch, with the *unbiased* variance. In eval
    mode the running estimates normalise.

    Args:
        eps: keeps a constant feature from dividing by zero.
        momentum: weight of the new batch; None: the average of all batches.
            Differs: Keras' momentum 0.99 weighs the *old* estimate, so 0.1 here is 0.9 there.
        affine: whether γ (``weight``) and β (``bias``) are learnt.
        track_running_stats: False: the batch's statistics in eval mode, too.
        bias: whether there is a β, where affine.
        fused: one op, or (False) the same from primitives.
    Raises:
        ValueError: one value per channel in train mode.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
    """

    ndims, shapes = (2, 3), "(N, {0}) or (N, {0}, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalization of images (N, C, H, W): each channel C over the batch and all places.

    See BatchNorm1d. A batch of N images of H x W counts as m = N · H · W values of one channel
    (section 3.2 of the paper), so there is one γ, β pair per channel, not per place.
    """

    ndims, shapes = (4,), "(N, {0}, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch normalization of volumes (N, C, D, H, W): each channel over the batch and all places.

    See BatchNorm1d.
    """

    ndims, shapes = (5,), "(N, {0}, D, H, W)"


class _InstanceNorm(_Norm):
    """What the InstanceNorms share: everything but the number of axes."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            bias=bias,
            fused=fused,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample's channels (or, in eval mode, with running estimates if kept)."""
        label, batched = f"{type(self).__name__}({self.num_features})", self.ndims[1]
        if input.ndim not in self.ndims:
            raise ShapeError(
                f"{label} expects {self.shapes.format(self.num_features)}, got {input.shape}."
            )
        axis = input.ndim - batched + 1
        if input.shape[axis] != self.num_features:
            came = (
                f"{label} expects {self.shapes.format(self.num_features)}, got {input.shape}: "
                f"channel axis {axis} has {input.shape[axis]}, not {self.num_features}"
            )
            if self.affine or self.track_running_stats:
                raise ShapeError(f"{came}.")
            warnings.warn(f"{came}; with affine=False it makes no difference.", stacklevel=2)
        y = F.instance_norm(
            input.unsqueeze(0) if input.ndim < batched else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
            fused=self.fused,
        )
        return y.squeeze(0) if input.ndim < batched else y


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of (N, C, L) or (C, L): each channel of each sample by itself.

        y = γ (x - μ) / √(σ² + ε) + β

    The same in train and eval mode, unless running estimates are kept.

    Args:
        momentum: weight of the new batch in the running estimates; None: they never move
            (``num_batches_tracked`` is kept, and never counts, as in PyTorch).
        affine: whether γ (``weight``) and β (``bias``) are learnt; they are not by default.
        track_running_stats: normalize with running estimates in eval mode.
        bias: whether there is a β, where affine.
        fused: one op, or (False) the same from primitives.
    Raises:
        ValueError: one value per channel of a sample.
    Source: Ulyanov, Vedaldi, Lempitsky (2016), arXiv:1607.08022.
    """

    ndims, shapes = (2, 3), "(N, {0}, L) or ({0}, L)"


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of (N, C, H, W) or (C, H, W). See InstanceNorm1d."""

    ndims, shapes = (3, 4), "(N, {0}, H, W) or ({0}, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Instance normalization of (N, C, D, H, W) or (C, D, H, W). See InstanceNorm1d."""

    ndims, shapes = (4, 5), "(N, {0}, D, H, W) or ({0}, D, H, W)"


class GroupNorm(Module):
    """Group normalization: y = γ (x - μ) / √(σ² + ε) + β, μ and σ² of a sample's ``num_groups``.

    The same in train and eval mode, and for a batch of one: no sample depends on another.

    Shapes: x and y (N, num_channels, ...); weight and bias (num_channels,).
    Args:
        num_groups: 1 is a LayerNorm over all but the batch (with γ and β per channel),
            ``num_channels`` an InstanceNorm.
        affine: whether γ and β are learnt.
        bias: whether there is a β, where affine.
        fused: one op, or (False) the same from primitives.
    Source: Wu and He (2018), arXiv:1803.08494.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm needs num_groups that divides num_channels, got {num_groups} for "
                f"{num_channels}; choose a divisor."
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.affine, self.fused = affine, fused
        self.weight: Parameter | None
        self.bias: Parameter | None
        if affine:
            self.weight = Parameter(ones(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias = Parameter(zeros(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """γ = 1, β = 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of each sample."""
        return F.group_norm(
            input, self.num_groups, self.weight, self.bias, self.eps, fused=self.fused
        )

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Root mean square normalization: y = γ x / √(mean x² + ε), over a sample's last axes.

    LayerNorm without the mean and β; one statistic less, as good in transformers.

    Args:
        normalized_shape: the last axes, over which to average; an int for one axis.
        eps: None: the spacing of floating-point numbers at 1 (1.2 · 10⁻⁷ in float32).
        elementwise_affine: whether γ (of ``normalized_shape``) is learnt.
        fused: one op, or (False) the same from primitives.
    Source: Zhang and Sennrich (2019), arXiv:1910.07467, eq. 4 (without ε there).
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        shape = normalized_shape
        self.normalized_shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.eps, self.elementwise_affine, self.fused = eps, elementwise_affine, fused
        self.weight: Parameter | None
        if elementwise_affine:
            self.weight = Parameter(ones(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """γ = 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps, fused=self.fused)

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class LocalResponseNorm(Module):
    """Each channel divided by its neighbours': y = x / (k + α/n Σ x²)^β, n = ``size`` channels.

    See ``functional.local_response_norm``, also for where the paper differs.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.fused = size, alpha, beta, k, fused

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each place."""
        return F.local_response_norm(
            input, self.size, self.alpha, self.beta, self.k, fused=self.fused
        )

    def extra_repr(self) -> str:
        """Its settings."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class LayerNorm(Module):
    """Layer normalization: y = γ (x - μ) / √(σ² + ε) + β, μ and σ² of each sample over its
    features.

    The same in train and eval mode, and for a batch of one: no sample depends on another.

    Args:
        normalized_shape: the last axes, over which to average; an int for one axis.
        elementwise_affine: whether γ and β (of ``normalized_shape``) are learnt.
        bias: whether there is a β.
    Source: Ba, Kiros, Hinton (2016), arXiv:1607.06450.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        shape = normalized_shape
        self.normalized_shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.eps, self.elementwise_affine, self.fused = eps, elementwise_affine, fused
        place = {"device": device, "dtype": dtype}
        self.weight: Parameter | None
        self.bias: Parameter | None
        if elementwise_affine:
            self.weight = Parameter(ones(self.normalized_shape, **place))
        else:
            self.register_parameter("weight", None)
        if elementwise_affine and bias:
            self.bias = Parameter(zeros(self.normalized_shape, **place))
        else:
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """γ = 1, β = 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample."""
        return F.layer_norm(
            input, self.normalized_shape, self.weight, self.bias, self.eps, fused=self.fused
        )

    def extra_repr(self) -> str:
        """Its settings."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )
