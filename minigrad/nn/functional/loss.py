"""Losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf
from typing import Literal

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.nn.functional.activation import log_softmax, softplus
from minigrad.nn.functional.fused import run
from minigrad.tensor import Tensor

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    *,
    fused: bool = True,
) -> Tensor:
    """-ln softmax(input)[target]: how surprised the model is by the right class.

    Shapes: input (N, C), (C,) or (N, C, d1, ...) of scores (not probabilities); target (N,), () or
    (N, d1, ...) of class numbers, or of probabilities in the shape of input.

    Args:
        weight: (C,) a weight for each class; "mean" then is the weighted mean.
        ignore_index: targets that do not count.
        label_smoothing: share of the target spread evenly over all classes.
    Source: Szegedy et al. (2016), arXiv:1512.00567, section 7, for label smoothing.
    """
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie between 0 and 1, got {label_smoothing}.")
    if not input.ndim:
        raise ShapeError("cross_entropy expects scores (N, C) or (C,), got a 0-d tensor.")
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    if target.dtype.kind == "f":
        if target.shape != input.shape:
            raise ShapeError(
                f"cross_entropy with probabilities needs a target of shape {input.shape}, got "
                f"{target.shape}; class numbers must be integers, as in target.long()."
            )
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing, axis)
    _check_classes("cross_entropy", input, target, axis, ignore_index)
    if weight is None and not label_smoothing:
        scores = input.reshape(1, -1) if input.ndim == 1 else input
        if input.ndim > 2:
            scores = input.movedim(1, -1).reshape(-1, classes)
        loss = run(ops.CrossEntropy(reduction, ignore_index), fused, scores, target.reshape(-1))
        return loss.reshape(target.shape) if reduction == "none" else loss
    log_p = log_softmax(input, axis)
    loss = nll_loss(log_p, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    kept = target != ignore_index
    wide = None if weight is None else weight.reshape([-1] + [1] * (input.ndim - 1 - axis))
    spread = -(log_p if wide is None else log_p * wide).sum(axis)
    spread = where(kept, spread, 0.0)
    if reduction != "none":
        spread = spread.sum()
    if reduction == "mean":
        spread = spread / _weight_of(target, weight, kept, ignore_index, input).sum()
    smoothed: Tensor = loss * (1 - label_smoothing) + spread * (label_smoothing / classes)
    return smoothed


def _soft_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    smoothing: float,
    axis: int,
) -> Tensor:
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[axis]
    product = log_softmax(input, axis) * target
    if weight is not None:
        product = product * weight.reshape([-1] + [1] * (input.ndim - 1 - axis))
    loss: Tensor = -product.sum(axis)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """-input[target], for log-probabilities ``input`` (N, C), (C,) or (N, C, d1, ...)."""
    check_reduction(reduction)
    axis = 0 if input.ndim == 1 else 1
    _check_classes("nll_loss", input, target, axis, ignore_index)
    kept = target != ignore_index
    at = where(kept, target, 0).unsqueeze(axis)
    loss = -input.gather(axis, at).squeeze(axis)
    share = _weight_of(target, weight, kept, ignore_index, input)
    loss = loss * share
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / share.sum()


def _weight_of(
    target: Tensor, weight: Tensor | None, kept: Tensor, ignore_index: int, like: Tensor
) -> Tensor:
    """The weight of each target: its class's, 0 where ignored."""
    if weight is None:
        return kept.to(like.dtype)
    share: Tensor = where(kept, weight[where(kept, target, 0)], 0.0)
    return share


def mse_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """(input - target)², its mean by default."""
    _check_sizes("mse_loss", input, target)
    difference = input - target
    return _reduced(difference * difference, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """|input - target|, its mean by default."""
    _check_sizes("l1_loss", input, target)
    return _reduced((input - target).abs(), reduction)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """-(t ln p + (1 - t) ln(1 - p)) for probabilities ``input``; each ln is held above -100."""
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy needs equal shapes, got {input.shape} and {target.shape}."
        )
    loss = -(target * input.log().clamp(-100.0) + (1 - target) * (1 - input).log().clamp(-100.0))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(t ln σ(x) + (1 - t) ln(1 - σ(x))) for scores x, as (1 - t) x + softplus(-x): no overflow.

    Args:
        pos_weight: weight of the positive answers, for data where they are rare.
    """
    if input.shape != target.shape:
        raise ShapeError(
            "binary_cross_entropy_with_logits needs equal shapes, got "
            f"{input.shape} and {target.shape}."
        )
    surprise = softplus(-input, 1.0, inf)
    if pos_weight is not None:
        surprise = surprise * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input + surprise
    return _reduced(loss if weight is None else loss * weight, reduction)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    check_reduction(reduction)
    reduce: dict[str, Callable[[Tensor], Tensor]] = {"mean": Tensor.mean, "sum": Tensor.sum}
    return reduce[reduction](loss) if reduction in reduce else loss


def check_reduction(reduction: str) -> None:
    """Raise ValueError for a reduction that is not known."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")


def _check_sizes(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"{name} of {input.shape} and {target.shape} broadcasts, which is rarely meant; "
            "give both one shape.",
            stacklevel=3,
        )


def _check_classes(name: str, input: Tensor, target: Tensor, axis: int, ignored: int) -> None:
    expected = input.shape[:axis] + input.shape[axis + 1 :]
    if target.shape != expected:
        raise ShapeError(
            f"{name} of scores {input.shape} needs targets of shape {expected}, got {target.shape}."
        )
    if target.dtype.kind not in "iu":
        raise DtypeError(f"{name} needs integer targets (int64), got {target.dtype}.")
    xp, classes = backend_of(target.array), input.shape[axis]
    if xp.synchronous and target.array.size:
        low, high = int(target.array.min()), int(target.array.max())
        if low < 0 or high >= classes:
            wrong = target.array[
                ((target.array < 0) | (target.array >= classes)) & (target.array != ignored)
            ]
            if wrong.size:
                raise IndexError(
                    f"{name}: target {int(wrong[0])} is out of bounds; classes are 0 to "
                    f"{classes - 1} (ignored: {ignored})."
                )
