"""Losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf, log, pi
from typing import Literal

from minigrad import ops
from minigrad.amp import in_float32
from minigrad.backends import backend_of, bounds, device_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.nn.functional.activation import log_softmax, logsigmoid, softplus
from minigrad.nn.functional.distance import pairwise_distance
from minigrad.nn.functional.fused import run
from minigrad.tensor import Tensor, apply

Reduction = Literal["mean", "sum", "none"]


@in_float32
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
        raise RuntimeError(f"label_smoothing must lie between 0 and 1, got {label_smoothing}.")
    if not input.ndim:
        raise ShapeError("cross_entropy expects scores (N, C) or (C,), got a 0-d tensor.")
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    _check_class_weight("cross_entropy", weight, classes)
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
        # A target of one axis goes in itself: the graph knows it by its name, and while it lives.
        rows = target if target.ndim == 1 else target.reshape(-1)
        loss = run(ops.CrossEntropy(reduction, ignore_index), fused, scores, rows)
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


@in_float32
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """-input[target], for log-probabilities ``input`` (N, C), (C,) or (N, C, d1, ...)."""
    check_reduction(reduction)
    if not input.ndim:
        raise ShapeError("nll_loss expects log-probabilities (N, C) or (C,), got a 0-d tensor.")
    axis = 0 if input.ndim == 1 else 1
    _check_class_weight("nll_loss", weight, input.shape[axis])
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


@in_float32
def mse_loss(
    input: Tensor, target: Tensor, reduction: Reduction = "mean", weight: Tensor | None = None
) -> Tensor:
    """(input - target)²; with a ``weight`` for each element, its "mean" is the weighted one."""
    _check_sizes("mse_loss", input, target)
    difference = input - target
    return _weighted("mse_loss", difference * difference, input, weight, reduction)


@in_float32
def l1_loss(
    input: Tensor, target: Tensor, reduction: Reduction = "mean", weight: Tensor | None = None
) -> Tensor:
    """|input - target|; with a ``weight`` for each element, its "mean" is the weighted one."""
    _check_sizes("l1_loss", input, target)
    return _weighted("l1_loss", (input - target).abs(), input, weight, reduction)


@in_float32
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: Reduction = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d² / 2 where |d| < delta, else delta (|d| - delta / 2), for d = input - target.

    Its "mean" divides by the number of elements, weighted or not.
    Source: Huber (1964), Annals of Mathematical Statistics 35, 73-101.
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss expects a delta greater than 0, got {delta}.")
    _check_sizes("huber_loss", input, target)
    if weight is not None:
        _check_weight("huber_loss", input, weight)
    loss = _huber(input - target, delta)
    return _reduced(loss if weight is None else loss * weight, reduction)


@in_float32
def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: Reduction = "mean", beta: float = 1.0
) -> Tensor:
    """d² / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target.

    Source: Girshick (2015), arXiv:1504.08083, equation 3, with beta = 1.
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss expects a beta of at least 0, got {beta}.")
    _check_sizes("smooth_l1_loss", input, target)
    d = input - target
    return _reduced(_huber(d, beta) / beta if beta else d.abs(), reduction)


def _huber(d: Tensor, delta: float) -> Tensor:
    """With c = d held between ±delta: c (d - c / 2), either formula in one."""
    c = d.clamp(-delta, delta)
    product: Tensor = c * (d - 0.5 * c)
    return product


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """-(t ln p + (1 - t) ln(1 - p)) for probabilities ``input``; each ln is held above -100."""
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy needs equal shapes, got {input.shape} and {target.shape}; "
            "give both one, as in input.squeeze(1)."
        )
    if input.dtype.kind != "f" or input.dtype != target.dtype:
        raise DtypeError(
            f"binary_cross_entropy needs input and target of one floating dtype, got {input.dtype} "
            f"and {target.dtype}; convert the target with .to(input.dtype)."
        )
    for name, tensor in (("input", input), ("target", target)):
        found = bounds(tensor.array)
        if found is not None and not 0 <= found[0] <= found[1] <= 1:
            raise RuntimeError(
                f"binary_cross_entropy needs {name} values between 0 and 1, got {found[0]:.6g} to "
                f"{found[1]:.6g}; scores go to binary_cross_entropy_with_logits."
            )
    loss = apply(ops.BinaryCrossEntropy(), input, target)
    return _reduced(loss if weight is None else loss * weight, reduction)


@in_float32
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


@in_float32
def kl_div(
    input: Tensor,
    target: Tensor,
    reduction: Literal["mean", "sum", "none", "batchmean"] = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (ln t - input): what log-probabilities ``input`` miss of the distribution ``target``.

    Args:
        reduction: "batchmean", the sum over the number of rows, is the divergence of the textbook.
        log_target: the target is given as log-probabilities, too.
    Source: Kullback and Leibler (1951), Annals of Mathematical Statistics 22, 79-86.
    """
    if reduction == "mean":
        warnings.warn(
            'kl_div with reduction="mean" divides by the number of elements; "batchmean" divides '
            "by the number of rows, as the divergence is defined.",
            stacklevel=2,
        )
    if log_target:
        loss = target.exp() * (target - input)
    else:
        zero = target == 0  # where t ln t is 0
        loss = where(zero, 0.0, target * where(zero, 1.0, target).log()) - target * input
    if reduction != "batchmean":
        return _reduced(loss, reduction)
    total: Tensor = loss.sum()
    return total / input.shape[0] if input.ndim else total


@in_float32
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """input where the target is 1, max(margin - input, 0) where it is -1."""
    near = where(target != -1, input, 0.0)
    return _reduced(near + where(target != 1, _positive(margin - input), 0.0), reduction)


@in_float32
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """max(-target (input1 - input2) + margin, 0): a target of 1 wants input1 ahead, -1 input2."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError(
            f"margin_ranking_loss expects three tensors of as many axes, got {input1.shape}, "
            f"{input2.shape} and {target.shape}; reshape or unsqueeze one."
        )
    return _reduced(_positive(-target * (input1 - input2) + margin), reduction)


@in_float32
def soft_margin_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """ln(1 + exp(-target · input)) for targets 1 and -1, without overflow."""
    if input.shape != target.shape:
        raise ShapeError(
            f"soft_margin_loss needs equal shapes, got {input.shape} and {target.shape}; "
            "give both one, as in target.view_as(input)."
        )
    return _reduced(softplus(-target * input, 1.0, inf), reduction)


@in_float32
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """max(d(anchor, positive) - d(anchor, negative) + margin, 0) for the p-distance d of rows.

    Args:
        swap: take d(positive, negative) where it is the smaller one.
    Source: Balntas et al. (2016), BMVC, equations 1 and 2.
    """
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss expects a margin greater than 0, got {margin}.")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError(
            f"triplet_margin_loss expects three tensors of as many axes, got {anchor.shape}, "
            f"{positive.shape} and {negative.shape}; reshape or unsqueeze one."
        )
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return _reduced(_positive(margin + near - far), reduction)


@in_float32
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """1 - cos where the target is 1, max(cos - margin, 0) where it is -1.

    Shapes: inputs (N, D) and target (N,), or (D,) and ().
    """
    if target.ndim > 1 or not input1.ndim == input2.ndim == target.ndim + 1:
        raise ShapeError(
            "cosine_embedding_loss expects inputs (N, D) with a target (N,), or (D,) with (), got "
            f"{input1.shape}, {input2.shape} and {target.shape}."
        )
    axis = target.ndim
    squares = [(x * x).sum(axis) + 1e-12 for x in (input1, input2)]
    cosine = (input1 * input2).sum(axis) / (squares[0] * squares[1]).sqrt()
    loss = where(target == 1, 1 - cosine, 0.0)
    return _reduced(loss + where(target == -1, _positive(cosine - margin), 0.0), reduction)


@in_float32
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """-(t ln σ(x) + (1 - t) ln σ(-x)), its mean over the classes, the last axis."""
    if not input.ndim:
        raise IndexError("multilabel_soft_margin_loss expects scores (..., C), got a 0-d tensor.")
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return _reduced(loss.sum(-1) / input.shape[-1], reduction)


@in_float32
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Tensor:
    """λ - t ln λ for a count t whose mean is λ = exp(input), or λ = input.

    Args:
        log_input: ``input`` is ln λ.
        full: add Stirling's t ln t - t + ln(2 π t) / 2 for ln t!, where t > 1.
        eps: added to λ before its logarithm is taken, without log_input.
    """
    check_reduction(reduction)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        many = target > 1
        t = where(many, target, 1.0)
        loss = loss + where(many, t * t.log() - t + 0.5 * (2 * pi * t).log(), 0.0)
    return _reduced(loss, reduction)


@in_float32
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """(ln var + (input - target)² / var) / 2 for a normal target of mean ``input``.

    Shapes: var as input, or with the last axis missing, or with an axis of size 1, or a number.

    Args:
        full: add ln(2 π) / 2.
        eps: a smaller var counts as eps; its gradient is that of the formula all the same.
    Source: Nix and Weigend (1994), ICNN, equation 5.
    """
    check_reduction(reduction)
    if not isinstance(var, Tensor):
        var = input.new_full(input.shape, float(var))
    if backend_of(var.array).synchronous and bool((var < 0).any()):
        raise ValueError(
            f"gaussian_nll_loss needs a var of at least 0, got {float(var.min()):.6g}; a network's "
            "output becomes one through softplus or exp."
        )
    if var.shape != input.shape:
        unequal = [v for v, n in zip(var.shape, input.shape, strict=False) if v != n]
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif var.ndim != input.ndim or sum(unequal) != 1:
            raise ShapeError(
                f"gaussian_nll_loss of {input.shape} needs a var of that shape, of "
                f"{input.shape[:-1]}, or with one axis of size 1, got {var.shape}."
            )
    var = var + (var.clamp(eps) - var).detach()
    difference = input - target
    loss = 0.5 * (var.log() + difference * difference / var)
    return _reduced(loss + 0.5 * log(2 * pi) if full else loss, reduction)


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": Tensor.mean,
    "sum": Tensor.sum,
    "none": lambda loss: loss,
}


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    check_reduction(reduction)
    return REDUCTIONS[reduction](loss)


def _weighted(
    name: str, loss: Tensor, input: Tensor, weight: Tensor | None, reduction: str
) -> Tensor:
    if weight is None:
        return _reduced(loss, reduction)
    _check_weight(name, input, weight)
    check_reduction(reduction)
    return (
        (loss * weight).sum() / weight.sum()
        if reduction == "mean"
        else _reduced(loss * weight, reduction)
    )


def _positive(x: Tensor) -> Tensor:
    """max(x, 0), whose slope at 0 is 1, as in PyTorch's margin losses."""
    return x.clamp(0)


def check_reduction(reduction: str) -> None:
    """Raise ValueError for a reduction that is not known."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")


def _check_weight(name: str, input: Tensor, weight: Tensor) -> None:
    if weight.shape != input.shape:
        raise ShapeError(
            f"{name} needs a weight of the shape of input, {input.shape}, got {weight.shape}; "
            "use weight.expand_as(input)."
        )


def _check_sizes(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"{name} of {input.shape} and {target.shape} broadcasts, which is rarely meant; "
            "give both one shape.",
            stacklevel=3,
        )


def _check_class_weight(name: str, weight: Tensor | None, classes: int) -> None:
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(
            f"{name} needs a weight for each of {classes} classes, of shape ({classes},), got "
            f"{weight.shape}."
        )


def _check_classes(name: str, input: Tensor, target: Tensor, axis: int, ignored: int) -> None:
    expected = input.shape[:axis] + input.shape[axis + 1 :]
    if target.shape != expected:
        raise ShapeError(
            f"{name} of scores {input.shape} needs targets of shape {expected}, got {target.shape}."
        )
    if target.dtype.kind not in "iu":
        raise DtypeError(f"{name} needs integer targets (int64), got {target.dtype}.")
    given, classes = target.array, input.shape[axis]
    found = bounds(given)
    if found is not None and (found[0] < 0 or found[1] >= classes):
        with device_of(given):
            wrong = given[((given < 0) | (given >= classes)) & (given != ignored)]
            if wrong.size:
                raise IndexError(
                    f"{name}: target {int(wrong[0])} is out of bounds; classes are 0 to "
                    f"{classes - 1} (ignored: {ignored})."
                )
