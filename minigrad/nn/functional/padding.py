"""Borders around images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import ShapeError
from minigrad.tensor import Tensor, apply


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
