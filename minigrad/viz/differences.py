"""Finite differences through a tape: what the output does when one entry of one value is moved.

The tape is computed anew in float64, from the same leaves, on copies of its ops and by the kernels
that are plain NumPy. So a difference has ten good digits; what it is compared with, the gradient
that the tape gives, has those of its own dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from minigrad.backends import quiet
from minigrad.ops import Op
from minigrad.viz.values import Values

Array = Any
Index = tuple[int, ...]

#: How far an entry is moved, at values up to 1: where rounding and curvature cost least, about.
STEP = 1e-5
#: Two one-sided slopes that differ by more than this, relative to them, mean a kink or a jump.
KINK = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """(L(v + h) - L(v - h)) / 2h for one entry v of a value; ``kink`` where the slopes of the two
    sides are not the same, so that there is no derivative."""

    value: float
    h: float
    kink: bool = False


class Replay:
    """The tape of ``found`` in float64; what cannot be computed anew has no differences.

    Args:
        found: the numbers of a graph.
        seeds: by op, the weights of its value in L, the number that is differentiated: the
            gradients that a sweep starts with.
    """

    def __init__(self, found: Values, seeds: dict[Op, Array]) -> None:
        self.ops = found.ops
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.seeds = {op: wide(seed) for op, seed in seeds.items()}
        self.inputs: dict[Op, list[Any]] = {}
        self.values: dict[Op, Any] = {}
        self.uses: dict[Any, list[tuple[Op, int]]] = {}
        for op in self.ops:
            given = [wide(x) for x in found.inputs(op)]
            for i, edge in enumerate(op.inputs):
                if edge is not None:
                    self.uses.setdefault(edge, []).append((op, i))
                    if edge.seq:
                        given[i] = self.values[edge]
            self.inputs[op] = given
            y, known = run(op, given), found.value(op)
            agree = y is not None and known is not None and close(y, wide(known))
            self.values[op] = y if agree else None
        self.here = self.weighed({})

    def of_use(self, op: Op, i: int, index: Index) -> Difference | None:
        """The difference of L by one entry of input ``i`` of one op; its other uses stay."""
        return self.difference([(op, i)], None, self.inputs[op][i], index)

    def of_value(self, edge: Any, index: Index) -> Difference | None:
        """The difference of L by one entry of a leaf, or of an op's value, in all its uses."""
        uses = self.uses.get(edge, [])
        if edge.seq:
            return self.difference(uses, edge, self.values[edge], index)
        return self.difference(uses, None, self.inputs[uses[0][0]][uses[0][1]], index)

    def difference(
        self, uses: Sequence[tuple[Op, int]], own: Op | None, array: Array, index: Index
    ) -> Difference | None:
        """The central difference at one entry of ``array``, as ``uses`` have it."""
        if getattr(array, "dtype", None) != np.float64:
            return None
        at = float(array[index])
        h = STEP * max(1.0, abs(at))
        totals = []
        for v in (at - h, at + h):
            moved = array.copy()
            moved[index] = v
            totals.append(self.total(uses, own, moved))
        here, (below, above) = self.here, totals
        if here is None or below is None or above is None:
            return None
        left, right, slope = (here - below) / h, (above - here) / h, (above - below) / (2 * h)
        if not isfinite(slope):
            return None
        return Difference(slope, h, abs(right - left) > KINK * max(abs(left), abs(right), 1e-2))

    def total(self, uses: Sequence[tuple[Op, int]], own: Op | None, moved: Array) -> float | None:
        """L with ``moved`` in place of what these uses had."""
        new: dict[Any, Array] = {} if own is None else {own: moved}
        given = {op: [i for user, i in uses if user is op] for op, _ in uses}
        first = min((self.place[op] for op in given), default=len(self.ops))
        for op in self.ops[first:]:
            changed = [i for i, e in enumerate(op.inputs) if e is not None and e.seq and e in new]
            if not changed and op not in given:
                continue
            inputs = [*self.inputs[op]]
            for i in changed:
                inputs[i] = new[op.inputs[i]]
            for i in given.get(op, ()):
                inputs[i] = moved
            y = None if self.values[op] is None else run(op, inputs)
            if y is None:
                return None
            new[op] = y
        return self.weighed(new)

    def weighed(self, new: dict[Op, Array]) -> float | None:
        """L, with ``new`` values of some ops."""
        total = 0.0
        for op, seed in self.seeds.items():
            y = new.get(op, self.values[op])
            if y is None:
                return None
            total += float((y * seed).sum())
        return total


def run(op: Op, inputs: Sequence[Any]) -> Array | None:
    """The value of a copy of an op; None where it cannot be computed."""
    if not op.repeatable:
        return None
    with quiet():
        try:
            y = op.xp.asarray(copy(op).forward(uncompiled(op.xp), *inputs))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return None  # an input is not known
    return y if tuple(y.shape) == tuple(op.shape) else None


def uncompiled(xp: Any) -> Any:
    """A backend that compiles nothing: float64 would be compiled for this alone, for seconds."""
    if getattr(xp, "numba", False):
        xp = copy(xp)
        xp.numba = False
    return xp


def wide(x: Any) -> Any:
    """A floating array in float64; anything else as it is."""
    dtype = getattr(x, "dtype", None)
    return x.astype(np.float64) if dtype is not None and dtype.kind == "f" else x


def close(y: Array, known: Array) -> bool:
    """Whether a value computed anew is the one that was recorded, but for rounding."""
    if y.dtype != known.dtype:
        return False
    apart = abs(y - known).max(initial=0) if y.dtype.kind == "f" else (y != known).sum()
    largest = abs(known).max(initial=0) if y.dtype.kind == "f" else 0
    return bool(apart <= 1e-2 * largest)
