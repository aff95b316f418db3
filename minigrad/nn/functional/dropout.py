"""Dropout: parts of the input left out at random."""

from __future__ import annotations

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.generator import rng_of
from minigrad.shapes import kept_shape
from minigrad.tensor import Tensor, apply, wrap


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
