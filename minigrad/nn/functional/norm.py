"""Normalization: statistics of a batch, of a sample, of its groups, or given ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import ops
from minigrad.averages import ExponentialAverage
from minigrad.backends import Running, backend_of, capture, device_of
from minigrad.backends.capture import effect, in_graph
from minigrad.engine import changed, set_recording
from minigrad.errors import DtypeError, ShapeError
from minigrad.nn.functional.fused import run
from minigrad.ops.op import check_devices
from minigrad.shapes import Shape, prod
from minigrad.tensor import Tensor, wrap


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Callable[[], float] = 0.1,
    eps: float = 1e-5,
    *,
    fused: bool = True,
    unbiased: bool = True,
    update: bool | None = None,
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
        momentum: weight of the **new** batch, or a function that tells it when the estimates move.
            Differs: Keras' 0.99 weighs the old estimate.
        fused: one op with a kernel of its own, or (False) the same from primitives.
        unbiased: what the running variance follows: m / (m - 1) σ², or (False) σ² itself.
            Differs: Keras, Flax and TensorFlow keep σ²; Chainer and PyTorch the unbiased one. The
            factor is 1.032 for m = 32, and 1.00002 for 64 images of 28 x 28.
        update: whether the running estimates move towards the batch's; None: where ``training``.
    Raises:
        ValueError: one value per channel while training: its variance is 0, and y would be β.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithms 1 and 2.
    """
    if input.ndim < 2:
        raise ShapeError(f"batch_norm expects (N, C, ...), got {input.shape}.")
    if eps <= 0:
        raise ValueError(f"batch_norm needs eps > 0, got {eps}.")
    channels = input.shape[1]
    _check_vectors(
        "batch_norm",
        input,
        (channels,),
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if not training and (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm needs running_mean and running_var, or neither.")
    count = prod(input.shape) // max(channels, 1)
    moving = None
    if count and (training if update is None else update):
        moving = _Moving(running_mean, running_var, momentum, _correction(count, unbiased))
    if training or running_mean is None or running_var is None:
        return _by_batch(input, weight, bias, eps, fused, moving)[0]
    op = ops.BatchNormInference(eps)
    mean, var = running_mean.detach(), running_var.detach()
    if moving is None:
        return run(op, fused, input, weight, bias, mean, var)
    y = run(op, fused, input, weight, bias, mean.clone(), var.clone())  # they move below
    _by_batch(input.detach(), None, None, eps, True, moving)
    return y


def batch_renorm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Callable[[], float] = 0.01,
    eps: float = 1e-5,
    *,
    rmax: float | Tensor = 3.0,
    dmax: float | Tensor = 5.0,
    fused: bool = True,
    unbiased: bool = False,
    update: bool | None = None,
) -> Tensor:
    """y = γ (r (x - μ) / √(σ² + ε) + d) + β for each channel, with μ and σ² of the batch.

    r and d lead from the batch's statistics to the running ones, and are constants to the gradient:

        r = clip(√(σ² + ε) / √(running_var + ε), 1 / rmax, rmax)
        d = clip((μ - running_mean) / √(running_var + ε), -dmax, dmax)

    Where neither is clipped, y is what inference gives, γ (x - running_mean) / √(running_var + ε)
    + β, but the gradient flows through μ and σ² as in batch normalization. With rmax = 1 and
    dmax = 0 it is batch normalization. The estimates move afterwards, as in ``batch_norm``;
    without ``training`` they normalise.

    Shapes: input (N, C, ...), everything else (C,).
    Args:
        momentum, fused, update: as in ``batch_norm``; the paper's weight of the new batch is 0.01.
        rmax, dmax: how far r and d may go, at least 1 and 0; numbers, or tensors of one.
        unbiased: whether the running variance follows m / (m - 1) σ². Not by default: for r to be 1
            on average, it must estimate the σ² that normalises.
    Raises:
        ValueError: rmax below 1 or dmax below 0; one value per channel while training.
    Source: Ioffe (2017), "Batch renormalization", arXiv:1702.03275, algorithm 1.
    Differs: the paper averages the standard deviation; here, as everywhere, the variance is
        averaged, so that the estimates are those of a BatchNorm. The mean of deviations is at most
        the root of the mean variance.
    """
    for name, bound, least in (("rmax", rmax, 1), ("dmax", dmax, 0)):
        if not isinstance(bound, Tensor) and not bound >= least:
            raise ValueError(f"batch_renorm needs {name} of at least {least}, got {bound}.")
    if not training:
        return batch_norm(
            input,
            running_mean,
            running_var,
            weight,
            bias,
            False,
            momentum,
            eps,
            fused=fused,
            unbiased=unbiased,
            update=update,
        )
    if input.ndim < 2:
        raise ShapeError(f"batch_renorm expects (N, C, ...), got {input.shape}.")
    channels = input.shape[1]
    _check_vectors(
        "batch_renorm",
        input,
        (channels,),
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    x_hat, mean, var = _by_batch(input, None, None, eps, fused)  # the estimates move below
    with set_recording(False):  # r and d are constants
        sigma = (running_var + eps).sqrt()
        r = ((wrap(var) + eps).sqrt() / sigma).clamp(1 / rmax, rmax)
        d = ((wrap(mean) - running_mean) / sigma).clamp(-dmax, dmax)
    scale, shift = r.to(input.dtype), d.to(input.dtype)
    if update or update is None:
        correction = _correction(prod(input.shape) // channels, unbiased)
        _Moving(running_mean, running_var, momentum, correction).follow(mean, var)
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    if bias is not None:
        shift = shift + bias
    wide = (1, -1) + (1,) * (input.ndim - 2)
    scale, shift = (s.reshape(wide).to(x_hat.dtype) for s in (scale, shift))
    return x_hat * scale + shift


class _Moving(NamedTuple):
    """Running estimates, and how they move towards the batch's statistics: by the kernel that
    normalizes (``arrays``, then ``moved``), or by calls of their own (``follow``).
    """

    mean: Tensor | None
    var: Tensor | None
    momentum: float | Callable[[], float]
    correction: float

    def arrays(self) -> Running | None:
        """As the kernel takes them."""
        if self.mean is None and self.var is None:
            return None
        mean = None if self.mean is None else capture.entered(self.mean)
        var = None if self.var is None else capture.entered(self.var)
        return Running(mean, var, _average(self.momentum).share, self.correction)

    def moved(self) -> None:
        """Note that the kernel moved them."""
        if self.mean is not None:
            changed(self.mean.array)
        if self.var is not None:
            changed(self.var.array)

    def follow(self, mean: Any, var: Any) -> None:
        """Move them, by calls that a captured step repeats."""
        if self.mean is not None:
            effect(follow, self.mean, mean, self.momentum)
        if self.var is not None:
            effect(follow, self.var, var, self.momentum, self.correction)


def _correction(count: int, unbiased: bool) -> float:
    """What the biased variance of ``count`` values is multiplied with."""
    return count / (count - 1) if unbiased and count > 1 else 1.0


def _average(momentum: float | Callable[[], float]) -> ExponentialAverage:
    """The running estimates' average: momentum is the weight of the new batch."""
    return ExponentialAverage(share=momentum() if callable(momentum) else momentum)


def _by_batch(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    fused: bool,
    moving: _Moving | None = None,
) -> tuple[Tensor, Any, Any]:
    """The input normalized by its own statistics; their arrays, the variance biased.

    ``moving`` estimates are moved by the kernel, too; by calls of their own where there is none, or
    where a step is captured, which reads their tensors and the momentum anew each time.
    """
    if prod(input.shape) == input.shape[1] > 0:
        raise ValueError(
            f"batch_norm needs more than one value per channel in train mode, got {input.shape}; "
            f"{MORE_VALUES}"
        )
    op = ops.BatchNorm(eps)
    by_kernel = fused and not capture.noting()
    if moving is not None and by_kernel:
        op.running = moving.arrays()
    y = run(op, fused, input, weight, bias)
    mean, var = getattr(op.mean, "array", op.mean), getattr(op.var, "array", op.var)
    if moving is not None:
        moving.moved() if by_kernel else moving.follow(mean, var)
    return y, mean, var


#: What to do where a channel has one value: its variance is 0, and y would be β.
MORE_VALUES = (
    "use a larger batch (drop_last=True in the DataLoader), model.eval(), or a norm that looks at "
    "one sample, such as LayerNorm or GroupNorm."
)


@in_graph
def follow(
    running: Tensor, batch: Any, momentum: float | Callable[[], float], correction: float = 1.0
) -> None:
    """Move a running estimate towards a batch's: (1 - momentum) running + momentum batch."""
    average, estimate = _average(momentum), running.array
    with device_of(estimate):
        xp = backend_of(estimate)
        xp.move_average(estimate, batch, average.keep, average.share * correction)
    changed(estimate)


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
    _check_vectors("layer_norm", input, shape, weight=weight, bias=bias)
    return run(ops.LayerNorm(shape, eps), fused, input, weight, bias)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    fused: bool = True,
) -> Tensor:
    """y = γ (x - μ) / √(σ² + ε) + β, with μ and σ² of each sample's ``num_groups`` of channels.

    Shapes: input (N, C, ...), weight and bias (C,).
    Raises:
        ValueError: one value in each group: its variance is 0, and y would be β.
    Source: Wu and He (2018), arXiv:1803.08494.
    """
    if input.ndim < 2:
        raise ShapeError(f"group_norm expects (N, C, ...), got {input.shape}.")
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(
            f"group_norm expects channels in {num_groups} equal groups, got {channels} of them in "
            f"{input.shape}; choose num_groups among the divisors of {channels}."
        )
    _check_vectors("group_norm", input, (channels,), weight=weight, bias=bias)
    if prod(input.shape) == num_groups:
        raise ValueError(
            f"group_norm needs more than one value per group, got {input.shape} in {num_groups} "
            "groups; use fewer groups."
        )
    if not prod(input.shape):
        return _nothing(input, weight, bias)
    return run(ops.GroupNorm(num_groups, eps), fused, input, weight, bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    fused: bool = True,
) -> Tensor:
    """y = γ (x - μ) / √(σ² + ε) + β, with μ and σ² of each sample's channels: groups of one.

    With ``use_input_stats``, running estimates that are given move towards the mean of the samples'
    statistics (the variances *unbiased*), in place; otherwise they are μ and σ².

    Shapes: input (N, C, ...), everything else (C,).
    Args:
        momentum: weight of the **new** batch.
    Raises:
        ValueError: one value per channel of a sample: its variance is 0, and y would be β.
    Source: Ulyanov, Vedaldi, Lempitsky (2016), arXiv:1607.08022, eq. 5.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"instance_norm expects (N, C, L, ...), got {input.shape}; an axis to average is "
            "missing."
        )
    channels, places = input.shape[1], prod(input.shape[2:])
    _check_vectors(
        "instance_norm",
        input,
        (channels,),
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ShapeError(
                "instance_norm expects running_mean and running_var with use_input_stats=False, "
                "got None; pass them, or use_input_stats=True."
            )
        op: Any = ops.BatchNormInference(eps)
        return run(op, fused, input, weight, bias, running_mean.detach(), running_var.detach())
    if places == 1:
        raise ValueError(
            f"instance_norm needs more than one value per channel of a sample, got {input.shape}; "
            "use a larger image."
        )
    if not prod(input.shape):
        return _nothing(input, weight, bias)
    op = ops.GroupNorm(channels, eps)
    y = run(op, fused, input, weight, bias)
    for running, of_samples, correction in (
        (running_mean, op.mean, 1.0),
        (running_var, op.var, places / (places - 1)),
    ):
        if running is not None:
            batch = getattr(of_samples, "array", of_samples).mean(axis=0)
            effect(follow, running, batch, momentum, correction)
    return y


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    fused: bool = True,
) -> Tensor:
    """y = γ x / √(mean x² + ε), the mean of each sample over its last axes.

    Shapes: input (..., *normalized_shape), weight ``normalized_shape``.
    Args:
        eps: None: the spacing of floating-point numbers at 1, in the dtype that is computed in.
    Source: Zhang and Sennrich (2019), arXiv:1910.07467, eq. 4 (without ε there).
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise ShapeError("rms_norm needs a normalized_shape of at least one axis, got ().")
    if input.ndim < len(shape) or input.shape[input.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"rms_norm over {shape} expects (..., {', '.join(map(str, shape))}), got {input.shape}."
        )
    _check_shapes("rms_norm", input, shape, weight=weight)
    if input.dtype.kind != "f":
        raise DtypeError(f"rms_norm expects floating values, got {input.dtype}; use x.float().")
    if eps is None:
        eps = float(np.finfo("float32" if input.dtype == "float16" else input.dtype).eps)
    return run(ops.RMSNorm(shape, eps), fused, input, weight)


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    fused: bool = True,
) -> Tensor:
    """y = x / (k + α/n Σ x²)^β, the sum over n = ``size`` neighbouring channels.

    The window of channel c is c - n // 2 to c + (n - 1) // 2; beyond the ends stand zeros.

    Shapes: input (N, C, ...), at least three axes.
    Source: Krizhevsky, Sutskever, Hinton (2012), "ImageNet Classification with Deep Convolutional
    Neural Networks", section 3.3.
    Differs: the paper does not divide α by n (its α = 10⁻⁴ with n = 5 is 5 · 10⁻⁴ here), takes
    n // 2 neighbours on *both* sides, and k = 2.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"local_response_norm expects (N, C, ...) of at least three axes, got {input.shape}; "
            "x.unsqueeze(-1) adds one."
        )
    if size < 1:
        raise ShapeError(f"local_response_norm needs a size of at least 1, got {size}.")
    return run(ops.LocalResponseNorm(size, alpha, beta, k), fused, input)


def _check_shapes(name: str, input: Tensor, shape: Shape, **vectors: Tensor | None) -> None:
    for what, t in vectors.items():
        if t is not None and t.array.shape != shape:
            raise ShapeError(
                f"{name} of {input.shape} needs {what} of shape {shape}, got {t.shape}."
            )


def _check_vectors(name: str, input: Tensor, shape: Shape, **vectors: Tensor | None) -> None:
    """Shapes, devices, and dtypes: the input's, or float32 beside a float16 input."""
    kind, dtype = input.array.__class__, input.array.dtype
    for what, t in vectors.items():
        if t is None:
            continue
        if t.array.shape != shape:
            _check_shapes(name, input, shape, **vectors)  # of all before the dtype of one
        if t.array.__class__ is not kind:
            check_devices(name, [input.array, t.array])
        if t.array.dtype is not dtype:
            given = t.array.dtype
            if given != dtype and not (dtype == "float16" and given == "float32"):
                raise DtypeError(
                    f"{name} of {dtype} input needs {what} in {dtype}"
                    f"{' or float32' if dtype == 'float16' else ''}, got {given}; convert one, as "
                    f"in x.to({str(given)!r})."
                )


def _nothing(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The empty result, with a graph: parameters get zeros for a gradient."""
    wide = (-1,) + (1,) * (input.ndim - 2)
    y = input * 1.0
    y = y if weight is None else y * weight.reshape(wide)
    return y if bias is None else y + bias.reshape(wide)
