"""Normalization layers: what they average over makes the difference.

BatchNorm averages over the batch, LayerNorm over a sample's features, GroupNorm over groups of its
channels, InstanceNorm over each channel; RMSNorm takes no mean off, LocalResponseNorm looks at
neighbouring channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

from minigrad.averages import ExponentialAverage
from minigrad.backends import device_of
from minigrad.backends.capture import effect, in_graph
from minigrad.creation import ones, tensor, zeros
from minigrad.dtypes import int64
from minigrad.engine import changed
from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.functional.norm import MORE_VALUES
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

    #: Which statistics normalise: "mode" (the batch's in train mode, the running estimates in eval
    #: mode), "batch" or "running". ``train()`` and ``eval()`` leave it as it is.
    normalize_by: str = "mode"
    #: Whether the running estimates move in train mode.
    update_running: bool = True
    unbiased: bool = True
    debias: bool = False

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
        unbiased: bool = True,
        debias: bool = False,
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
        self.unbiased, self.debias = unbiased, debias

    def forward(self, input: Tensor) -> Tensor:
        """Normalize with the batch's statistics (train) or the running ones (eval)."""
        self._check(input)
        by_batch, moves = self._by_batch(), self.training and self.update_running
        if (by_batch or moves) and prod(input.shape) == self.num_features:
            raise ValueError(
                f"{type(self).__name__} needs more than one value per channel in train mode, got "
                f"{input.shape}; {MORE_VALUES}"
            )
        y = self._normalize(input, by_batch, moves)
        if moves and self.num_batches_tracked is not None:
            effect(_count, self.num_batches_tracked)  # only now: what failed counts nothing
        return y

    def _normalize(self, input: Tensor, by_batch: bool, moves: bool) -> Tensor:
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            by_batch,
            self._share if self.momentum is None or self.debias else self.momentum,
            self.eps,
            fused=self.fused,
            unbiased=self.unbiased,
            update=moves,
        )

    def _by_batch(self) -> bool:
        """Whether the batch's statistics normalise."""
        how = self.normalize_by
        if how not in ("mode", "batch", "running"):
            raise ValueError(
                f'normalize_by must be "mode", "batch" or "running", got {how!r}; freeze() and '
                "unfreeze() set it."
            )
        return self.running_mean is None or how == "batch" or (how == "mode" and self.training)

    def _share(self) -> float:
        """The weight of the new batch in a cumulative or debiased estimate."""
        if self.num_batches_tracked is None:
            return 0.0
        t = int(self.num_batches_tracked) + 1
        if self.momentum is None:
            return 1 / t  # every batch weighs the same
        return ExponentialAverage(share=self.momentum, debias=True).weights(t)[1]

    # ---- switches -------------------------------------------------------------------------------

    def freeze(self, *, statistics: bool = True, updates: bool = True, affine: bool = True) -> Self:
        """Hold still what ``train()`` would let go: for fine-tuning with small or other batches.

        Three switches, each for itself; ``train()`` and ``eval()`` do not undo them.

        Args:
            statistics: the running estimates normalise in train mode, too
                (``normalize_by = "running"``); no sample then depends on another.
            updates: the running estimates stay as they are (``update_running = False``).
            affine: γ and β are not learnt (``requires_grad = False``).

        Returns:
            The layer.

        Raises:
            ValueError: statistics without running estimates (``track_running_stats=False``).

        Differs: PyTorch has ``bn.eval()``, which the next ``model.train()`` undoes; Keras'
            ``trainable = False`` is all three.

        Example:
            >>> bn = BatchNorm1d(3).freeze(affine=False).train()
            >>> bn
            BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True,
                track_running_stats=True)  # running stays as it is, and normalises
        """
        if statistics:
            if self.running_mean is None:
                raise ValueError(
                    f"{type(self).__name__}({self.num_features}) has no running estimates to "
                    "normalise with; build it with track_running_stats=True, or freeze with "
                    "statistics=False."
                )
            self.normalize_by = "running"
        if updates:
            self.update_running = False
        if affine:
            self._learn(False)
        return self

    def unfreeze(
        self, *, statistics: bool = True, updates: bool = True, affine: bool = True
    ) -> Self:
        """Undo ``freeze``, each switch for itself."""
        if statistics:
            self.normalize_by = "mode"
        if updates:
            self.update_running = True
        if affine:
            self._learn(True)
        return self

    def _learn(self, wanted: bool) -> None:
        for p in (self.weight, self.bias):
            if p is not None:
                p.requires_grad = wanted

    # ---- what it does in eval mode --------------------------------------------------------------

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift) of each channel: in eval mode y = scale · x + shift.

            scale = γ / √(σ² + ε),    shift = β - μ · scale

        with the running estimates μ and σ²: two numbers a channel are all that is left of batch
        normalization once training is over. ``nn.utils.fold`` puts them into the layer before.

        Shapes: both (C,).
        Raises:
            ValueError: without running estimates.
        Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 2, line 11.
        """
        if self.running_mean is None or self.running_var is None:
            raise ValueError(
                f"{type(self).__name__}({self.num_features}) keeps no running estimates, so that "
                "it is an affine map in no mode; build it with track_running_stats=True."
            )
        scale = (self.running_var + self.eps).rsqrt()
        if self.weight is not None:
            scale = self.weight * scale
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else self.bias + shift

    # ---- printing -------------------------------------------------------------------------------

    def update_in_words(self) -> str:
        """How the running estimates move: ``running = 0.9 running + 0.1 batch``; "" without any."""
        if self.running_mean is None:
            return ""
        if not self.update_running:
            words = "running stays as it is"
        elif self.momentum is None:
            words = "running = the mean of all batches"
        else:
            words = ExponentialAverage(share=self.momentum).words("running", "batch")
            words += ", debiased" if self.debias else ""
        if self.update_running and not self.unbiased:
            words += ", variance biased"
        if self.normalize_by == "running":
            words += ", and normalises"
        elif self.normalize_by == "batch":
            words += "; the batch normalises"
        return words

    def extra_repr(self) -> str:
        """Its settings, as PyTorch prints them; ``unbiased`` and ``debias`` where they are set."""
        unbiased = "" if self.unbiased else ", unbiased=False"
        return super().extra_repr() + unbiased + (", debias=True" if self.debias else "")

    def __repr__(self) -> str:
        words = self.update_in_words()
        return super().__repr__() + (f"  # {words}" if words else "")

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


@in_graph
def _count(batches: Tensor) -> None:
    """One batch more."""
    with device_of(batches.array):
        batches.array += 1
    changed(batches.array)


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L): each feature C over the batch (and L).

        y = γ (x - μ) / √(σ² + ε) + β

    In train mode μ and σ² (biased) are those of the batch, and the running estimates follow:
    running = (1 - momentum) · running + momentum · batch, with the *unbiased* variance. In eval
    mode the running estimates normalise. ``freeze()`` has switches for each of it.

    Args:
        eps: keeps a constant feature from dividing by zero.
        momentum: weight of the new batch; None: the average of all batches. Printing the layer
            spells the update out.
            Differs: Keras' momentum 0.99 weighs the *old* estimate, so 0.1 here is 0.9 there.
        affine: whether γ (``weight``) and β (``bias``) are learnt.
        track_running_stats: False: the batch's statistics in eval mode, too.
        bias: whether there is a β, where affine.
        fused: one op, or (False) the same from primitives.
        unbiased: what goes into the running variance: m / (m - 1) σ², or (False) σ² itself, as in
            Keras and Flax. ``nn.conventions`` has the table.
        debias: correct the running estimates for the 0 and 1 they begin with, as Adam corrects its
            averages: the weight of the t-th batch is momentum / (1 - (1 - momentum)ᵗ), 1 at first.
            Without it they hold 65 % of the batches' after 10 steps, 90 % after 22.
    Raises:
        ValueError: one value per channel in train mode.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithms 1 and 2.
    Example:
        >>> BatchNorm1d(3)
        BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True,
            track_running_stats=True)  # running = 0.9 running + 0.1 batch
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
