"""Normalization: subtract a mean, divide by a standard deviation, scale and shift.

What is averaged with what makes the difference: BatchNorm one channel over the batch (and the
image), LayerNorm one sample over its features.
"""

from __future__ import annotations

from typing import Any

from minigrad.errors import ShapeError
from minigrad.ops.op import Fused
from minigrad.shapes import Shape, prod


class BatchNorm(Fused):
    """Batch normalization with the statistics of this batch (train mode).

    Shapes: x (N, C, ...), gamma and beta (C,) or None, y as x. ``mean`` and ``var`` (biased), (C,),
    can be read off the op afterwards: the running estimates are made of them.

    Every dx_i depends on every dy of its channel: mean and var are functions of the whole batch.
        dx = gamma / std · (dy - mean(dy) - x_hat · mean(dy · x_hat))
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1 and section 3.
    """

    formula = "y = γ (x - μ) / √(σ² + ε) + β"
    vjp = "dx = γ/σ (dy - mean dy - x̂ · mean(dy · x̂)),  dγ = Σ dy · x̂,  dβ = Σ dy"
    residuals = ("mean", "inv_std", "var")
    running: Any = None  #: estimates (backends.Running) for the first forward to move

    def __init__(self, eps: float = 1e-5) -> None:
        self.eps = eps

    def forward(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        running, self.running = self.running, None  # a picture that runs it again moves nothing
        if not prod(x.shape):
            raise ShapeError(f"BatchNorm needs values to average in train mode, got {x.shape}.")
        y, self.mean, self.var, self.inv_std = xp.batch_norm(x, gamma, beta, self.eps, running)
        return y

    def backward(self, xp: Any, grad: Any, x: Any, gamma: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.batch_norm_backward(grad, x, gamma, self.mean, self.inv_std, needs)

    def composed(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        axes, channels = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        mean = x.mean(axis=axes, keepdims=True)
        centered = x - mean
        var = (centered * centered).mean(axis=axes, keepdims=True)
        y = centered / xp.sqrt(var + self.eps)
        self.mean, self.var = mean.reshape(-1), var.reshape(-1)
        return _scale_shift(y, gamma, beta, channels)


class BatchNormInference(Fused):
    """Batch normalization with given statistics (eval mode): a scale and a shift of each channel.

    mean and var (C,) are constants: no gradient flows to them, and samples no longer depend on
    one another.
    """

    formula = "y = γ (x - μ) / √(σ² + ε) + β,  μ and σ² given"
    vjp = "dx = γ/σ dy,  dγ = Σ dy · x̂,  dβ = Σ dy"

    def __init__(self, eps: float = 1e-5) -> None:
        self.eps = eps

    def forward(self, xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        return xp.batch_norm_inference(x, gamma, beta, mean, var, self.eps)

    def backward(self, xp: Any, grad: Any, x: Any, gamma: Any, mean: Any, var: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs[:3])
        return (
            *xp.batch_norm_inference_backward(grad, x, gamma, mean, var, self.eps, needs),
            None,
            None,
        )

    def composed(self, xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        channels = (1, -1) + (1,) * (x.ndim - 2)
        y = (x - mean.reshape(channels)) / xp.sqrt(var.reshape(channels) + self.eps)
        return _scale_shift(y, gamma, beta, channels)


class LayerNorm(Fused):
    """Layer normalization: every sample by the statistics of its own features.

    Shapes: x (..., *shape), gamma and beta ``shape`` or None, y as x. Train and eval mode agree.
    Source: Ba, Kiros, Hinton (2016), arXiv:1607.06450, eq. 3 and 4.
    """

    formula = "y = γ (x - μ) / √(σ² + ε) + β,  per sample"
    vjp = "dx = 1/σ (g - mean g - x̂ · mean(g · x̂)) with g = γ dy,  dγ = Σ dy · x̂,  dβ = Σ dy"
    residuals = ("mean", "inv_std")

    def __init__(self, shape: Shape, eps: float = 1e-5) -> None:
        self.shape_normalized, self.eps = shape, eps

    def attributes(self) -> dict[str, Any]:
        return {"normalized_shape": self.shape_normalized, "eps": self.eps}

    def axes(self, x: Any) -> Shape:
        return tuple(range(x.ndim - len(self.shape_normalized), x.ndim))

    def forward(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        if tuple(x.shape[x.ndim - len(self.shape_normalized) :]) != self.shape_normalized:
            raise ShapeError(
                f"LayerNorm({self.shape_normalized}) expects (..., "
                f"{', '.join(map(str, self.shape_normalized))}), got {tuple(x.shape)}."
            )
        y, self.mean, self.inv_std = xp.layer_norm(x, gamma, beta, self.axes(x), self.eps)
        return y

    def backward(self, xp: Any, grad: Any, x: Any, gamma: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.layer_norm_backward(grad, x, gamma, self.mean, self.inv_std, self.axes(x), needs)

    def composed(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        axes = self.axes(x)
        centered = x - x.mean(axis=axes, keepdims=True)
        var = (centered * centered).mean(axis=axes, keepdims=True)
        return _scale_shift(centered / xp.sqrt(var + self.eps), gamma, beta, None)


class GroupNorm(Fused):
    """Group normalization: a sample's channels in groups, each by its own statistics.

    One group is a LayerNorm over (C, ...) with γ and β per channel, C groups an InstanceNorm.
    Shapes: x (N, C, ...), gamma and beta (C,) or None, y as x. ``mean`` and ``var`` (biased),
    (N, groups), can be read off the op afterwards.
    Source: Wu and He (2018), arXiv:1803.08494, eq. 1 to 3 and 7.
    """

    formula = "y = γ (x - μ) / √(σ² + ε) + β,  per sample and group"
    vjp = "dx = 1/σ (g - mean g - x̂ · mean(g · x̂)) with g = γ dy,  dγ = Σ dy · x̂,  dβ = Σ dy"
    residuals = ("mean", "inv_std", "var")

    def __init__(self, groups: int, eps: float = 1e-5) -> None:
        self.groups, self.eps = groups, eps

    def forward(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        y, self.mean, self.var, self.inv_std = xp.group_norm(x, gamma, beta, self.groups, self.eps)
        return y

    def backward(self, xp: Any, grad: Any, x: Any, gamma: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.group_norm_backward(grad, x, gamma, self.mean, self.inv_std, self.groups, needs)

    def composed(self, xp: Any, x: Any, gamma: Any, beta: Any) -> Any:
        n, features = x.shape[0], prod(x.shape[1:]) // self.groups
        rows = x.reshape(n, self.groups, features)
        centered = rows - rows.mean(axis=2, keepdims=True)
        var = (centered * centered).mean(axis=2, keepdims=True)
        self.mean, self.var = (rows - centered)[..., 0], var[..., 0]
        y = (centered / xp.sqrt(var + self.eps)).reshape(x.shape)
        return _scale_shift(y, gamma, beta, (1, -1) + (1,) * (x.ndim - 2))


class RMSNorm(Fused):
    """Division by the root mean square of a sample's features; no mean is taken off.

    Shapes: x (..., *shape), gamma ``shape`` or None, y as x.
    Source: Zhang and Sennrich (2019), arXiv:1910.07467, eq. 4.
    """

    formula = "y = γ x / √(mean x² + ε)"
    vjp = "dx = 1/r (g - x̂ · mean(g · x̂)) with g = γ dy, r = √(mean x² + ε),  dγ = Σ dy · x̂"
    residuals = ("inv_rms",)

    def __init__(self, shape: Shape, eps: float) -> None:
        self.shape_normalized, self.eps = shape, eps

    def attributes(self) -> dict[str, Any]:
        return {"normalized_shape": self.shape_normalized, "eps": self.eps}

    def axes(self, x: Any) -> Shape:
        return tuple(range(x.ndim - len(self.shape_normalized), x.ndim))

    def forward(self, xp: Any, x: Any, gamma: Any) -> Any:
        y, self.inv_rms = xp.rms_norm(x, gamma, self.axes(x), self.eps)
        return y

    def backward(self, xp: Any, grad: Any, x: Any, gamma: Any) -> Any:
        needs = tuple(e is not None for e in self.inputs)
        return xp.rms_norm_backward(grad, x, gamma, self.inv_rms, self.axes(x), needs)

    def composed(self, xp: Any, x: Any, gamma: Any) -> Any:
        square = (x * x).mean(axis=self.axes(x), keepdims=True)
        return _scale_shift(x / xp.sqrt(square + self.eps), gamma, None, None)


class LocalResponseNorm(Fused):
    """Division by what the neighbouring channels say at the same place.

    The window of channel c is c - size // 2 to c + (size - 1) // 2; beyond the ends stand zeros.
    Shapes: x and y (N, C, ...).
    Source: Krizhevsky, Sutskever, Hinton (2012), section 3.3; there α is not divided by n.
    """

    formula = "y = x / d^β,  d = k + α/n Σ x² over n neighbouring channels"
    vjp = "dx = dy / d^β - 2 α β / n · x · Σ dy · x / d^(β+1) over those it is a neighbour of"

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (xp.local_response_norm_backward(grad, x, self.size, self.alpha, self.beta, self.k),)

    def composed(self, xp: Any, x: Any) -> Any:
        before, channels = self.size // 2, x.shape[1]
        widths = ((0, 0), (before, (self.size - 1) // 2), *((0, 0),) * (x.ndim - 2))
        squares = xp.pad(x * x, widths)
        total: Any = None
        for i in range(self.size):
            part = squares[:, i : i + channels]
            total = part if total is None else total + part
        return x / (total * (self.alpha / self.size) + self.k) ** self.beta


def _scale_shift(x_hat: Any, gamma: Any, beta: Any, shape: Any) -> Any:
    if gamma is not None:
        x_hat = x_hat * (gamma.reshape(shape) if shape else gamma)
    if beta is not None:
        x_hat = x_hat + (beta.reshape(shape) if shape else beta)
    return x_hat
