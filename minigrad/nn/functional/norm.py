"""Normalization: statistics of a batch, of a sample, or given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.engine import changed
from minigrad.errors import ShapeError
from minigrad.nn.functional.fused import run
from minigrad.shapes import prod
from minigrad.tensor import Tensor


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    fused: bool = True,
) -> Tensor:
    """y = γ (x - μ) / √(σ² + ε) + β for each channel.

    With ``training`` (or without running estimates) μ and σ² are the mean and the *biased*
    variance of the batch, over every axis but 1; running estimates that are given move towards
    them, in place:
        running = (1 - momentum) · running + momentum · batch        (σ² as m / (m - 1) σ²:
        *unbiased*)
    Otherwise μ and σ² are the running estimates.

    Shapes: input (N, C, ...), everything else (C,).
    Args:
        momentum: weight of the **new** batch. Differs: Keras' 0.99 weighs the old estimate.
        fused: one op with a kernel of its own, or (False) the same from primitives.
    Raises:
        ValueError: one value per channel while training: its variance is 0, and y would be β.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithms 1 and 2.
    """
    if input.ndim < 2:
        raise ShapeError(f"batch_norm expects (N, C, ...), got {input.shape}.")
    if eps <= 0:
        raise ValueError(f"batch_norm needs eps > 0, got {eps}.")
    channels = input.shape[1]
    for name, t in {
        "running_mean": running_mean,
        "running_var": running_var,
        "weight": weight,
        "bias": bias,
    }.items():
        if t is not None and t.shape != (channels,):
            raise ShapeError(
                f"batch_norm of {input.shape} needs {name} of shape {(channels,)}, got {t.shape}."
            )
    if not training and running_mean is not None and running_var is not None:
        op: Any = ops.BatchNormInference(eps)
        return run(op, fused, input, weight, bias, running_mean.detach(), running_var.detach())
    if not training and (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm needs running_mean and running_var, or neither.")
    count = prod(input.shape) // max(channels, 1)
    if count == 1:
        raise ValueError(
            f"batch_norm needs more than one value per channel in train mode, got {input.shape}; "
            "use a larger batch or model.eval()."
        )
    op = ops.BatchNorm(eps)
    y = run(op, fused, input, weight, bias)
    if count:
        for running, batch, correction in (
            (running_mean, op.mean, 1.0),
            (running_var, op.var, count / (count - 1)),
        ):
            if running is not None and training:
                estimate = running.array
                estimate *= 1 - momentum
                estimate += (momentum * correction) * getattr(batch, "array", batch)
                changed(estimate)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    fused: bool = True,
) -> Tensor:
    """y = γ (x - μ) / √(σ² + ε) + β, with μ and σ² of each sample over its last axes.

    Shapes: input (..., *normalized_shape), weight and bias ``normalized_shape``.
    Source: Ba, Kiros, Hinton (2016), arXiv:1607.06450.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise ShapeError("layer_norm needs a normalized_shape of at least one axis.")
    for name, t in {"weight": weight, "bias": bias}.items():
        if t is not None and t.shape != shape:
            raise ShapeError(f"layer_norm needs {name} of shape {shape}, got {t.shape}.")
    return run(ops.LayerNorm(shape, eps), fused, input, weight, bias)
