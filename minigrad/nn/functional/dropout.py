"""Dropout: parts of the input left out at random."""

from __future__ import annotations

import warnings
from math import sqrt
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.generator import device_generator, rng_of
from minigrad.shapes import kept_shape
from minigrad.tensor import Tensor, apply, wrap

#: Where SELU goes for large negative x is -ALPHA.
ALPHA = 1.7580993408473766


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """While training, each element becomes 0 with probability p, else x / (1 - p).

    Source: Srivastava et al. (2014), JMLR 15, 1929-1958.
    """
    check_probability("dropout", p)
    return _masked("dropout", input, p, training, inplace, input.shape)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As dropout, for whole channels of (N, C, L) or (C, L) at a time."""
    check_probability("dropout1d", p)
    if input.ndim not in (2, 3):
        raise ShapeError(f"dropout1d expects (N, C, L) or (C, L), got {input.shape}.")
    return _masked("dropout1d", input, p, training, inplace, _channels(input, 1))


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As dropout, for whole channels of (N, C, H, W) at a time.

    A 3-d input is read as (N, C, L), with PyTorch's warning. Source: arXiv:1411.4280.
    """
    check_probability("dropout2d", p)
    if input.ndim != 4:
        warnings.warn(
            f"dropout2d expects (N, C, H, W), got {input.shape}, whose axis 1 it takes for the "
            "channels; use dropout1d for (N, C, L), dropout for vectors.",
            stacklevel=2,
        )
    return _masked("dropout2d", input, p, training, inplace, _channels(input, input.ndim - 2))


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As dropout, for whole channels of (N, C, D, H, W) or (C, D, H, W) at a time."""
    check_probability("dropout3d", p)
    if input.ndim not in (4, 5):
        warnings.warn(
            f"dropout3d expects (N, C, D, H, W) or (C, D, H, W), got {input.shape}, whose axis 0 "
            "it takes for the channels; use dropout for vectors.",
            stacklevel=2,
        )
    spatial = 3 if input.ndim == 5 else input.ndim - 1
    return _masked("dropout3d", input, p, training, inplace, _channels(input, spatial))


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout to SELU's lowest value, then a x + b: mean 0 and variance 1 stay as they are.

    Source: Klambauer et al. (2017), arXiv:1706.02515, section "New dropout technique".
    """
    check_probability("alpha_dropout", p)
    if not training or p == 0:
        return input
    if p == 1:
        return _masked("alpha_dropout", input, p, training, inplace, input.shape)
    _check_floating("alpha_dropout", input)
    a = 1 / sqrt((ALPHA * ALPHA * p + 1) * (1 - p))
    kept = _kept(input, p, input.shape)
    scale = wrap(kept * input.dtype.type(a))
    shift = wrap(((kept - 1.0) * ALPHA * a + ALPHA * a * p).astype(input.dtype))
    if inplace:
        return input.mul_(scale).add_(shift)
    shifted: Tensor = apply(ops.Dropout(p), input, scale) + shift
    return shifted


def check_probability(name: str, p: float) -> None:
    """Raise ValueError for what is no probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name} needs a probability between 0 and 1, got {p}.")


def _check_floating(name: str, input: Tensor) -> None:
    if input.dtype.kind != "f":
        raise DtypeError(f"{name} expects a floating tensor, got {input.dtype}; use x.float().")


def _channels(input: Tensor, spatial: int) -> tuple[int, ...]:
    """The shape of ``input`` with its last axes, the spatial ones, of size 1."""
    if input.ndim < 2:
        raise ShapeError(f"dropout of channels expects at least 2 axes, got {input.shape}.")
    return kept_shape(input.shape, tuple(range(input.ndim - spatial, input.ndim)))


def _masked(
    name: str, input: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...]
) -> Tensor:
    if not training or p == 0:
        return input
    _check_floating(name, input)
    mask = wrap(_kept(input, p, shape) * input.dtype.type(0 if p == 1 else 1 / (1 - p)))
    op = ops.Dropout(p)
    return input._change(op, mask) if inplace else apply(op, input, mask)


def _kept(input: Tensor, p: float, shape: tuple[int, ...]) -> Any:
    """Where nothing is dropped, on the device of ``input``."""
    xp = backend_of(input.array)
    if xp.host_random:
        return rng_of(None).random(shape, np.float32) >= p
    ones = xp.ones(shape, dtype=np.float32)
    return xp.dropout(ones, p, device_generator.state(input.device))[0] > 0
