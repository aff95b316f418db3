"""The functions behind the modules, with PyTorch's names and arguments: state comes in as
arguments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Literal

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.engine import changed
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.generator import rng_of
from minigrad.namespace import tensors
from minigrad.shapes import as_axis, as_pair, kept_shape, prod, same_padding
from minigrad.tensor import Tensor, apply, wrap

Pair = int | Sequence[int]
Reduction = Literal["mean", "sum", "none"]
Pads = tuple[tuple[int, int], tuple[int, int]]


# ---- linear and convolution ---------------------------------------------------------------------


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, fused: bool = True
) -> Tensor:
    """y = x Wᵀ + b.  Shapes: input (..., in), weight (out, in), bias (out,), y (..., out)."""
    return _run(ops.Linear(), fused, input, weight, bias)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    fused: bool = True,
) -> Tensor:
    """Two-dimensional cross-correlation.

    Shapes: input (N, C, H, W) or (C, H, W), weight (O, C / groups, kh, kw), bias (O,),
    y (N, O, oh, ow) with oh = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.

    Args:
        padding: zeros on each side; ``"same"`` keeps the image size (stride 1), ``"valid"`` is 0.
    """
    step, spread = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    if weight.ndim != 4:
        raise ShapeError(f"conv2d expects a weight (O, C / groups, kh, kw), got {weight.shape}.")
    if min(*step, *spread, groups) < 1:
        raise ValueError(
            f"conv2d needs stride, dilation and groups of at least 1, got {stride}, {dilation}, "
            f"{groups}."
        )
    pads = conv_padding(padding, weight.shape[2:], step, spread)
    op = ops.Conv2d(step, pads, spread, groups)
    if input.ndim == 3:
        return _run(op, fused, input.unsqueeze(0), weight, bias).squeeze(0)
    return _run(op, fused, input, weight, bias)


def conv_padding(
    padding: Pair | str, kernel: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """((top, bottom), (left, right)) out of a number, a pair, ``"same"`` or ``"valid"``."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding='same' needs stride 1, got {stride}; give numbers instead.")
        return same_padding(kernel[0], dilation[0]), same_padding(kernel[1], dilation[1])
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'same', 'valid' or numbers, got {padding!r}.")
    rows, columns = as_pair(padding, "padding")
    if rows < 0 or columns < 0:
        raise ValueError(f"padding must not be negative, got {padding}.")
    return (rows, rows), (columns, columns)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """A border around ``input``.

    Args:
        pad: (left, right, top, bottom, ...): pairs from the last axis on; negative numbers crop.
        mode: ``"constant"`` (``value``), ``"reflect"`` (mirrored, edge not repeated),
            ``"replicate"`` (the edge) or ``"circular"`` (the other side).
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(
            f"pad needs pairs for at most {input.ndim} axes, last axis first, got {tuple(pad)}."
        )
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2)
    pairs += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if mode == "constant":
        if min(min(p) for p in pairs) < 0:
            crop = tuple(
                slice(max(-a, 0), n - max(-b, 0))
                for n, (a, b) in zip(input.shape, pairs, strict=True)
            )
            input = input[crop]
            pairs = [(max(a, 0), max(b, 0)) for a, b in pairs]
        return apply(ops.Pad(tuple(pairs), 0.0 if value is None else value), input)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(
            f"pad mode must be constant, reflect, replicate or circular, got {mode!r}."
        )
    if value is not None:
        raise ValueError(f"pad mode {mode!r} takes no value.")
    xp = backend_of(input.array)
    for axis, (before, after) in enumerate(pairs):
        n = input.shape[axis]
        if not before and not after:
            continue
        limit = {"reflect": n - 1, "circular": n, "replicate": max(before, after)}[mode]
        if max(before, after) > limit or not n:
            raise ShapeError(
                f"pad mode {mode!r} of {(before, after)} needs an axis longer than the border, "
                f"got {n} on axis {axis} of {input.shape}."
            )
        places = np.arange(-before, n + after)
        if mode == "replicate":
            places = places.clip(0, n - 1)
        elif mode == "circular":
            places = places % n
        else:
            places = n - 1 - np.abs(n - 1 - np.abs(places))
        index = (slice(None),) * axis + (xp.from_host(places, input.device),)
        input = apply(ops.Index(index), input)
    return input


# ---- normalization ------------------------------------------------------------------------------


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
        return _run(op, fused, input, weight, bias, running_mean.detach(), running_var.detach())
    if not training and (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm needs running_mean and running_var, or neither.")
    count = prod(input.shape) // max(channels, 1)
    if count == 1:
        raise ValueError(
            f"batch_norm needs more than one value per channel in train mode, got {input.shape}; "
            "use a larger batch or model.eval()."
        )
    op = ops.BatchNorm(eps)
    y = _run(op, fused, input, weight, bias)
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
    return _run(ops.LayerNorm(shape, eps), fused, input, weight, bias)


# ---- activations --------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return input.relu_() if inplace else apply(ops.ReLU(), input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, negative_slope · x elsewhere."""
    op = ops.LeakyReLU(negative_slope)
    return input._change(op) if inplace else apply(op, input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply(ops.Sigmoid(), input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply(ops.Tanh(), input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + exp(beta · x)) / beta; x itself where beta · x > threshold."""
    return apply(ops.Softplus(beta, threshold), input)


def softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """exp(x) / Σ exp(x) along ``dim``."""
    x = input if dtype is None else input.to(dtype)
    return _run(ops.Softmax(as_axis(_softmax_dim("softmax", dim), x.ndim)), fused, x)


def log_softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """ln softmax(x) along ``dim``, computed as x - ln Σ exp(x)."""
    x = input if dtype is None else input.to(dtype)
    return _run(ops.LogSoftmax(as_axis(_softmax_dim("log_softmax", dim), x.ndim)), fused, x)


def _softmax_dim(name: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{name} needs a dim: the axis whose values shall sum to 1, usually -1.")
    return dim


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """While training, each element becomes 0 with probability p, else x / (1 - p)."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout needs a probability between 0 and 1, got {p}.")
    if not training or p == 0:
        return input
    return _masked(input, p, input.shape, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As dropout, for whole channels of (N, C, H, W) at a time."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout2d needs a probability between 0 and 1, got {p}.")
    if not training or p == 0:
        return input
    return _masked(input, p, kept_shape(input.shape, tuple(range(2, input.ndim))), inplace)


def _masked(input: Tensor, p: float, shape: tuple[int, ...], inplace: bool) -> Tensor:
    xp = backend_of(input.array)
    kept = rng_of(None).random(shape, np.float32) >= p
    mask = kept * input.dtype.type(0 if p == 1 else 1 / (1 - p))
    drawn = wrap(xp.from_host(mask, input.device))
    if inplace:
        return input._change(ops.Dropout(p), drawn)
    return apply(ops.Dropout(p), input, drawn)


# ---- pooling ------------------------------------------------------------------------------------


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window.

    Shapes: input (..., H, W), y (..., oh, ow).
    Args:
        stride: the window's step; its own size by default.
        ceil_mode: count windows that reach over the border at the end.
        return_indices: also the flat place of each winner in its image.
    """
    kernel, spread = as_pair(kernel_size, "kernel_size"), as_pair(dilation, "dilation")
    step = kernel if stride is None else as_pair(stride, "stride")
    size, pads = _pool_sizes(input, kernel, step, as_pair(padding, "padding"), spread, ceil_mode)
    op = ops.MaxPool2d(kernel, step, pads, spread, size)
    y = apply(op, input)
    return (y, wrap(op.places)) if return_indices else y


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Args:
        count_include_pad: whether padded zeros count in the mean.
        divisor_override: divide each sum by this instead of the number of cells.
    """
    kernel, before = as_pair(kernel_size, "kernel_size"), as_pair(padding, "padding")
    step = kernel if stride is None else as_pair(stride, "stride")
    size, pads = _pool_sizes(input, kernel, step, before, (1, 1), ceil_mode)
    counts = []
    for axis in (0, 1):
        length, border = input.shape[axis - 2], before[axis]
        start = np.arange(size[axis]) * step[axis] - border
        end = np.minimum(start + kernel[axis], length + border)
        if not count_include_pad:
            start, end = np.maximum(start, 0), np.minimum(end, length)
        counts.append(end - start)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ValueError("avg_pool2d needs a divisor_override other than 0.")
        share = np.full(size, 1 / divisor_override)
    else:
        share = 1 / np.outer(*counts)
    return apply(ops.AvgPool2d(kernel, step, pads, size, share), input)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over windows that divide the image into ``output_size`` parts, as evenly as they come.

    Part i of n over a length L covers floor(i L / n) to ceil((i + 1) L / n). That is a linear map
    of each axis, so it is computed as one: A x Bᵀ.
    """
    h, w = input.shape[-2:]
    wanted = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    oh, ow = (n if o is None else o for n, o in zip((h, w), wanted, strict=True))
    if (oh, ow) == (1, 1):
        return input.mean((-2, -1), keepdim=True)
    if (oh, ow) == (h, w):
        return input
    if not h % oh and not w % ow:
        return avg_pool2d(input, (h // oh, w // ow))
    xp = backend_of(input.array)
    left, right = (
        wrap(xp.from_host(_averaging(o, n).astype(input.dtype), input.device))
        for o, n in ((oh, h), (ow, w))
    )
    return left @ input @ right.T


def _averaging(parts: int, length: int) -> Any:
    rows = np.zeros((parts, length))
    for i in range(parts):
        start, end = i * length // parts, -(-(i + 1) * length // parts)
        rows[i, start:end] = 1 / (end - start)
    return rows


def _pool_sizes(
    input: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> tuple[tuple[int, int], Pads]:
    """The output's size, and the border on each side (larger at the end for ceil_mode)."""
    if input.ndim not in (3, 4):
        raise ShapeError(f"pooling expects (N, C, H, W) or (C, H, W), got {input.shape}.")
    sizes, pads = [], []
    for n, k, s, p, d in zip(input.shape[-2:], kernel, stride, padding, dilation, strict=True):
        if k < 1 or s < 1 or d < 1:
            raise ValueError(
                f"pooling needs kernel, stride and dilation of at least 1, got {kernel}, {stride}, "
                f"{dilation}."
            )
        if not 0 <= p <= k // 2:
            raise ValueError(f"pooling needs 0 <= padding <= kernel / 2, got {padding}, {kernel}.")
        reach = d * (k - 1) + 1
        span = n + 2 * p - reach
        out = (-(-span // s) if ceil_mode else span // s) + 1
        if ceil_mode and (out - 1) * s >= n + p:
            out -= 1  # a window must start inside the image or the border before it
        if out < 1:
            raise ShapeError(
                f"pooling of {input.shape} with kernel {kernel} leaves nothing: the image is "
                "smaller than the kernel; use padding or a smaller kernel."
            )
        sizes.append(out)
        pads.append((p, max(p, (out - 1) * s + reach - n - p)))
    return (sizes[0], sizes[1]), (pads[0], pads[1])


# ---- losses -------------------------------------------------------------------------------------


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
    _check_reduction(reduction)
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
        loss = _run(ops.CrossEntropy(reduction, ignore_index), fused, scores, target.reshape(-1))
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
    _check_reduction(reduction)
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


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class, 0 elsewhere: (...) integers to (..., num_classes) integers."""
    if tensor.dtype.kind not in "iu":
        raise DtypeError(f"one_hot needs integers (int64), got {tensor.dtype}.")
    if num_classes == -1:
        num_classes = int(tensor.max()) + 1
    if tensor.numel() and (int(tensor.min()) < 0 or int(tensor.max()) >= num_classes):
        raise IndexError(f"one_hot needs classes in [0, {num_classes - 1}].")
    xp = backend_of(tensor.array)
    classes = wrap(xp.from_host(np.arange(num_classes), tensor.device))
    return (tensor.unsqueeze(-1) == classes).long()


# ---- shared -------------------------------------------------------------------------------------


def _run(op: Any, fused: bool, *inputs: Any) -> Tensor:
    """``op`` with its kernel, or from primitives: the same numbers, a graph one can look into."""
    if fused:
        return apply(op, *inputs)
    op.check(*(None if t is None else t.array for t in inputs))
    return op.composed(tensors, *inputs)  # type: ignore[no-any-return]


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    _check_reduction(reduction)
    reduce: dict[str, Callable[[Tensor], Tensor]] = {"mean": Tensor.mean, "sum": Tensor.sum}
    return reduce[reduction](loss) if reduction in reduce else loss


def _check_reduction(reduction: str) -> None:
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


__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]
