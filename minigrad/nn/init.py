"""Initial values of parameters. All work in place, outside any graph, and return the tensor.

fan_in is the number of inputs a unit sees, fan_out the number of units an input feeds: for a weight
(out, in, kh, kw) in · kh · kw and out · kh · kw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import erf, prod, sqrt
from typing import Any, TypeVar

import numpy as np

from minigrad.engine import set_recording
from minigrad.errors import ShapeError
from minigrad.generator import Generator, rng_of
from minigrad.tensor import Tensor

Fill = TypeVar("Fill", bound=Callable[..., Any])

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zero_gamma_",
    "zeros_",
]


def _unrecorded(function: Fill) -> Fill:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with set_recording(False):
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which an initialization makes up for what an activation shrinks."""
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return sqrt(2.0)
    if nonlinearity == "leaky_relu":
        return sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"no gain is known for {nonlinearity!r}; use 'relu', 'tanh', 'linear', ...")


@_unrecorded
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """U(a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@_unrecorded
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """N(mean, std²)."""
    return tensor.normal_(mean, std, generator=generator)


@_unrecorded
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """N(mean, std²) between ``a`` and ``b``: draws outside are drawn again."""
    low, high = ((x - mean) / std for x in (a, b))
    inside = (erf(high / sqrt(2)) - erf(low / sqrt(2))) / 2
    if inside < 1e-3:
        raise ValueError(f"[{a}, {b}] holds too little of N({mean}, {std}²); widen it.")
    rng, out = rng_of(generator), np.empty(tensor.numel())
    todo = np.ones(out.shape, bool)
    while todo.any():
        out[todo] = rng.standard_normal(int(todo.sum()))
        todo = (out < low) | (out > high)
    return tensor._draw((out * std + mean).reshape(tensor.shape))


@_unrecorded
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value."""
    return tensor.fill_(val)


@_unrecorded
def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return tensor.fill_(1)


@_unrecorded
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return tensor.fill_(0)


@_unrecorded
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_ needs a matrix, got {tensor.shape}.")
    return tensor._draw(np.eye(tensor.shape[0], tensor.shape[1]))


@_unrecorded
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight that passes as many channels as it can unchanged."""
    if not 3 <= tensor.ndim <= 5:
        raise ShapeError(f"dirac_ needs a convolution weight with 3 to 5 axes, got {tensor.shape}.")
    out, into = tensor.shape[:2]
    if out % groups:
        raise ValueError(f"dirac_: groups={groups} does not divide {out} outputs.")
    values = np.zeros(tensor.shape)
    middle = tuple(k // 2 for k in tensor.shape[2:])
    for g in range(groups):
        for d in range(min(out // groups, into)):
            values[(g * (out // groups) + d, d, *middle)] = 1
    return tensor._draw(values)


@_unrecorded
def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """U(-a, a), a = gain √(6 / (fan_in + fan_out)). Source: Glorot and Bengio (2010), eq. 16."""
    bound = gain * sqrt(6.0 / sum(_fans(tensor)))
    return tensor.uniform_(-bound, bound, generator=generator)


@_unrecorded
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, std²), std = gain √(2 / (fan_in + fan_out)). Source: Glorot, Bengio (2010), eq. 12."""
    std = gain * sqrt(2.0 / sum(_fans(tensor)))
    return tensor.normal_(0.0, std, generator=generator)


@_unrecorded
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """U(-b, b), b = gain √(3 / fan). Source: He et al. (2015), arXiv:1502.01852, section 2.2.

    ``a`` is the slope of a leaky ReLU. Linear and Conv2d start with a = √5: b = 1 / √fan_in.
    """
    bound = calculate_gain(nonlinearity, a) * sqrt(3.0 / _fan(tensor, mode))
    return tensor.uniform_(-bound, bound, generator=generator)


@_unrecorded
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, std²), std = gain / √fan. Source: He et al. (2015), arXiv:1502.01852, eq. 10."""
    std = calculate_gain(nonlinearity, a) / sqrt(_fan(tensor, mode))
    return tensor.normal_(0.0, std, generator=generator)


@_unrecorded
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Orthonormal rows or columns, times gain. Source: Saxe et al. (2014), arXiv:1312.6120."""
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs at least 2 axes, got {tensor.shape}.")
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    drawn = rng_of(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q = q * np.sign(np.diag(r))  # uniform over all such matrices
    return tensor._draw(gain * (q.T if rows < columns else q).reshape(tensor.shape))


@_unrecorded
def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """N(0, std²) with a share ``sparsity`` of each column 0. Source: Martens (2010)."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_ needs a matrix, got {tensor.shape}.")
    rng = rng_of(generator)
    values = rng.standard_normal(tensor.shape) * std
    zeros = -int(-sparsity * tensor.shape[0] // 1)
    for column in range(tensor.shape[1]):
        values[rng.permutation(tensor.shape[0])[:zeros], column] = 0
    return tensor._draw(values)


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError(f"fan_in and fan_out need at least 2 axes, got {tensor.shape}.")
    window = prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}.")
    return _fans(tensor)[mode == "fan_out"]


@_unrecorded
def zero_gamma_(*norms: Any) -> None:
    """γ = 0 in the last normalization of each residual block, so that the block begins as x + 0.

    A deep residual network is then a shallow one at first: signals and gradients pass through the
    short cuts. Each block comes in as its γ grows, which has a gradient from the first step on.

    Args:
        norms: normalization layers with a γ (``weight``), such as
            ``(block.bn2 for block in blocks)``, unpacked.

    Raises:
        ValueError: a layer without γ (``affine=False``), or one that does not normalise.

    Source: Goyal et al. (2017), "Accurate, large minibatch SGD", arXiv:1706.02677, section 5.1.
    """
    for norm in norms:
        kind = type(norm).__name__
        if "norm" not in kind.lower():
            raise ValueError(f"zero_gamma_ takes normalization layers, got {kind}.")
        if getattr(norm, "weight", None) is None:
            raise ValueError(f"zero_gamma_ got a {kind} without gamma; build it with affine=True.")
    for norm in norms:
        zeros_(norm.weight)
