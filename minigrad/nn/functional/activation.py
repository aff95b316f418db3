"""Activation functions."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.nn.functional.fused import run
from minigrad.shapes import as_axis
from minigrad.tensor import Tensor, apply


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
    return run(ops.Softmax(as_axis(_softmax_dim("softmax", dim), x.ndim)), fused, x)


def log_softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """ln softmax(x) along ``dim``, computed as x - ln Σ exp(x)."""
    x = input if dtype is None else input.to(dtype)
    return run(ops.LogSoftmax(as_axis(_softmax_dim("log_softmax", dim), x.ndim)), fused, x)


def _softmax_dim(name: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{name} needs a dim: the axis whose values shall sum to 1, usually -1.")
    return dim
