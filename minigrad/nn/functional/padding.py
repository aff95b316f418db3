"""Borders around images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import ShapeError
from minigrad.tensor import Tensor, apply

MODES = ("constant", "reflect", "replicate", "circular")


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """A border around ``input``.

    Args:
        pad: (left, right, top, bottom, ...): pairs from the last axis on; negative numbers crop.
        mode: ``"constant"`` (``value``, 0 by default), ``"reflect"`` (mirrored, edge not repeated),
            ``"replicate"`` (the edge) or ``"circular"`` (the other side). All but the first take
            (N, C, ...) or (C, ...) with a pair for each of the 1 to 3 spatial axes.

    Example:
        >>> from minigrad import arange
        >>> pad(arange(4.0).reshape(1, 4), (2, 1), "reflect")
        tensor([[2., 1., 0., 1., 2., 3., 2.]])
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(
            f"pad needs pairs for at most {input.ndim} axes, last axis first, got {tuple(pad)}."
        )
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2)
    pairs += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    for axis, (n, (before, after)) in enumerate(zip(input.shape, pairs, strict=True)):
        if n + min(before, 0) + min(after, 0) < 0 or n + before + after < 0:
            raise ShapeError(
                f"pad of {(before, after)} crops more than there is on axis {axis} of "
                f"{input.shape}; crop at most {n} in all."
            )
    if mode == "constant":
        return apply(
            ops.Pad(
                tuple((max(a, 0), max(b, 0)) for a, b in pairs), 0.0 if value is None else value
            ),
            _cropped(input, pairs),
        )
    if mode not in MODES:
        raise NotImplementedError(f"pad expects a mode of {', '.join(MODES)}, got {mode!r}.")
    if value:
        raise ShapeError(f"pad mode {mode!r} takes no value, got {value}; leave it out.")
    axes = len(pad) // 2
    if not 1 <= axes <= 3 or input.ndim - axes not in (1, 2):
        raise NotImplementedError(
            f"pad mode {mode!r} expects (N, C, ...) or (C, ...) and a pair for each axis after "
            f"these, 1 to 3 of them, got {tuple(pad)} for {input.shape}; add axes with unsqueeze."
        )
    xp = backend_of(input.array)
    for axis in range(input.ndim - axes, input.ndim):
        before, after = pairs[axis]
        if mode == "circular":  # what wraps around is what cropping leaves
            only = [(0, 0)] * input.ndim
            only[axis] = (before, after)
            input = _cropped(input, only)
            before, after = max(before, 0), max(after, 0)
        n = input.shape[axis]
        limit = {"reflect": n - 1, "circular": n, "replicate": max(before, after)}[mode]
        if max(before, after) > limit or not n:
            raise ShapeError(
                f"pad mode {mode!r} of {(before, after)} needs an axis longer than the border, "
                f"got {n} on axis {axis} of {input.shape}."
            )
        if not before and not after:
            continue
        places = np.arange(-before, n + after)
        if mode == "replicate":
            places = places.clip(0, n - 1)
        elif mode == "circular":
            places = places % n
        else:
            places = n - 1 - np.abs(n - 1 - np.abs(places))
        index = (slice(None),) * axis + (xp.constant(places, input.device),)
        input = apply(ops.Index(index), input)
    return input


def _cropped(input: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Without what negative padding takes off."""
    if all(a >= 0 and b >= 0 for a, b in pairs):
        return input
    return input[
        tuple(
            slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(input.shape, pairs, strict=True)
        )
    ]
