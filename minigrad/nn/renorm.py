"""Batch renormalization: in train mode, too, (nearly) what inference will do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.nn import functional as F
from minigrad.nn.norm import _BatchNorm
from minigrad.tensor import Tensor

Bound = float | Callable[[Any], Any]


class Ramp:
    """A number that goes along a line from ``low`` at step ``start`` to ``high`` at ``stop``.

    Called with the step, a number or a tensor; before and after it stays.

    Example:
        >>> ramp = Ramp(1.0, 3.0, 100, 200)
        >>> [ramp(step) for step in (0, 150, 1000)]
        [1.0, 2.0, 3.0]
    """

    def __init__(self, low: float, high: float, start: int, stop: int) -> None:
        if not 0 <= start < stop:
            raise ValueError(f"Ramp needs 0 <= start < stop, got {start} and {stop}.")
        self.low, self.high, self.start, self.stop = low, high, start, stop

    def __call__(self, step: Any) -> Any:
        """The number at ``step``."""
        length = self.stop - self.start
        if isinstance(step, Tensor):
            share: Any = ((step.double() - self.start) / length).clamp(0, 1)
        else:
            share = min(max((step - self.start) / length, 0.0), 1.0)
        return self.low + (self.high - self.low) * share

    def __repr__(self) -> str:
        return f"Ramp({self.low}, {self.high}, {self.start}, {self.stop})"


class _BatchRenorm(_BatchNorm):
    """What the BatchRenorms share: everything but the shapes they take."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.01,
        affine: bool = True,
        *,
        rmax: Bound | None = None,
        dmax: Bound | None = None,
        bias: bool = True,
        fused: bool = True,
        unbiased: bool = False,
        debias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            True,
            device,
            dtype,
            bias=bias,
            fused=fused,
            unbiased=unbiased,
            debias=debias,
        )
        for name, bound, least in (("rmax", rmax, 1), ("dmax", dmax, 0)):
            if not (bound is None or callable(bound) or bound >= least):
                raise ValueError(
                    f"{type(self).__name__} needs {name} of at least {least}, got {bound}."
                )
        self.rmax: Bound = Ramp(1.0, 3.0, 5000, 40000) if rmax is None else rmax
        self.dmax: Bound = Ramp(0.0, 5.0, 5000, 25000) if dmax is None else dmax

    def _normalize(self, input: Tensor, by_batch: bool, moves: bool) -> Tensor:
        mean, var, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if mean is None or var is None or seen is None or self.normalize_by == "batch":
            return super()._normalize(input, by_batch, moves)
        rmax, dmax = (b(seen.detach()) if callable(b) else b for b in (self.rmax, self.dmax))
        return F.batch_renorm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            by_batch,
            self._share if self.momentum is None or self.debias else self.momentum,
            self.eps,
            rmax=rmax,
            dmax=dmax,
            fused=self.fused,
            unbiased=self.unbiased,
            update=moves,
        )

    def extra_repr(self) -> str:
        """Its settings."""
        unbiased = ", unbiased=True" if self.unbiased else ""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"rmax={self.rmax}, dmax={self.dmax}, bias={self.bias is not None}{unbiased}"
            f"{', debias=True' if self.debias else ''}"
        )


class BatchRenorm1d(_BatchRenorm):
    """Batch renormalization of (N, C) or (N, C, L): batch normalization for small batches.

        y = γ (r (x - μ) / √(σ² + ε) + d) + β

    In train mode r and d, constants to the gradient, lead from the batch's μ and σ² to the running
    estimates, as far as ``rmax`` and ``dmax`` let them; see ``functional.batch_renorm``. So the
    layers after it see in training what they will see at inference, even where batches are small
    or their samples not independent, for which batch normalization is known to be poor. In eval
    mode it is a BatchNorm, with the same state dict.

    Args:
        eps: keeps a constant feature from dividing by zero.
        momentum: weight of the new batch, 0.01 in the paper: r and d follow the estimates, which
            must not follow each batch.
        affine: whether γ (``weight``) and β (``bias``) are learnt.
        rmax, dmax: the limits 1 / rmax <= r <= rmax and |d| <= dmax: numbers, or functions of the
            batches seen so far (a tensor), such as ``nn.Ramp``. None: the paper's, 1 and 0 (batch
            normalization) for 5000 steps, while the estimates are found, then slowly to 3 at step
            40,000 and 5 at step 25,000. Short trainings need a shorter ramp.
        bias: whether there is a β, where affine.
        fused: one op for the normalization, or (False) the same from primitives.
        unbiased, debias: as in BatchNorm1d; the biased variance is kept by default.
    Raises:
        ValueError: one value per channel in train mode.
    Source: Ioffe (2017), "Batch renormalization: towards reducing minibatch dependence in
        batch-normalized models", arXiv:1702.03275, algorithm 1 and section 4.
    Differs: variances are averaged, not standard deviations. ``normalize_by = "batch"`` makes it a
        BatchNorm in train mode, too.
    """

    ndims, shapes = (2, 3), "(N, {0}) or (N, {0}, L)"


class BatchRenorm2d(_BatchRenorm):
    """Batch renormalization of images (N, C, H, W). See BatchRenorm1d."""

    ndims, shapes = (4,), "(N, {0}, H, W)"
