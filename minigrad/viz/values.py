"""The numbers of a graph: the value of every op, what it saved, the gradients that pass through it.

    found = values.read([loss])
    for op in found.ops:
        found.value(op), found.saved(op), found.arriving(op), found.leaving(op)

Reading changes nothing: no parameter, gradient, buffer, hook, random number or saved array. What
``backward()`` freed is computed anew, op by op, from the leaves, each op on a shallow copy of
itself; nothing is run that draws random numbers or runs a model. What cannot be known that way is
absent (None), never guessed: a value whose input is gone (a batch that nobody holds any more, the
mask of a dropout that was freed) or was changed since, and what depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import sqrt
from typing import Any
from weakref import ref

import numpy as np

from minigrad.backends import backend_of, quiet
from minigrad.engine import sum_to, version
from minigrad.errors import ShapeError
from minigrad.generator import default_generator
from minigrad.gradients import edge_of
from minigrad.ops import Op
from minigrad.tensor import Tensor
from minigrad.viz.trace import arguments, places, running, tape

Array = Any


@dataclass(frozen=True, slots=True)
class Statistics:
    """An array in a few numbers: of its finite values, but for the counts of the others.

    ``std`` divides by n; ``zeros`` is a share, ``norm`` the Euclidean one, ``bytes`` the memory.
    All are 0 where there is no finite value.
    """

    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    norm: float = 0.0
    zeros: float = 0.0
    nan: int = 0
    inf: int = 0
    bytes: int = 0


def statistics(array: Array) -> Statistics:
    """The statistics of an array of any backend, computed in float64."""
    held = np.asarray(backend_of(array).to_host(array))
    values = held.astype(np.float64).reshape(-1)
    finite = values[np.isfinite(values)]
    nan = int(np.isnan(values).sum())
    lost = {"nan": nan, "inf": int(values.size - finite.size - nan), "bytes": int(held.nbytes)}
    if not finite.size:
        return Statistics(**lost)
    largest = float(np.abs(finite).max())
    scale = largest or 1.0  # squares of what is large overflow
    return Statistics(
        mean=float(finite.mean()),
        std=float(finite.std()),
        min=float(finite.min()),
        max=float(finite.max()),
        norm=scale * sqrt(float(np.square(finite / scale).sum())),
        zeros=float((values == 0).mean()),
        **lost,
    )


def read(outputs: Tensor | Sequence[Tensor], seeds: Sequence[Tensor | None] = ()) -> Values:
    """The numbers of the graph that led to ``outputs``, before or after ``backward()``.

    Args:
        outputs: a tensor, or several, as for ``viz.graph``.
        seeds: the gradients of the outputs; 1 for an output of one element. Without one for an
            output of several elements, the gradients it would bring are absent.
    """
    tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return Values(tensors, [*seeds, *[None] * (len(tensors) - len(seeds))])


class Values:
    """What ``read`` returns. An op is given itself, or by the id of its node (``"op3"``)."""

    def __init__(self, outputs: Sequence[Tensor], seeds: Sequence[Tensor | None]) -> None:
        self.ops = tape(outputs)  #: in the order of recording, as ``viz.graph`` numbers them
        self._outputs = list(zip(outputs, seeds, strict=True))
        self._values: dict[Op, Array] = {}
        self._inputs: dict[Op, list[Any]] = {}
        self._twins: dict[Op, Op] = {}  # copies that have what backward reads
        self._flows: dict[Op, tuple[Any, ...]] | None = None
        self._totals: dict[Any, Array] = {}  # gradients of ops and leaves
        self._forward()

    # ---- what one asks ------------------------------------------------------------------------

    def value(self, op: Op | str) -> Array | None:
        """What the op computed."""
        return self._values.get(self._op(op))

    def inputs(self, op: Op | str) -> list[Any]:
        """What it was given: arrays, numbers, None for what is absent or not known any more."""
        return [None if x is UNKNOWN else x for x in self._inputs[self._op(op)]]

    def saved(self, op: Op | str) -> dict[str, Array]:
        """What it keeps (or kept) for its gradient, by name."""
        op = self._op(op)
        twin = self._twins.get(op)
        return {} if twin is None else kept(twin)

    def arriving(self, op: Op | str) -> Array | None:
        """The gradient of the op's value: the sum over all its uses, before any hook."""
        self._backward()
        return self._totals.get(self._op(op))

    def leaving(self, op: Op | str) -> tuple[Array | None, ...]:
        """The gradients it passes on, one an input; None where none is wanted, or none known.

        Where an input was broadcast, its gradient is summed back to the shape of the input.
        """
        op, flows = self._op(op), self._backward()
        return flows.get(op, (None,) * len(op.inputs))

    def gradient(self, leaf: Tensor) -> Array | None:
        """What ``backward()`` adds to the ``grad`` of a leaf, before any hook."""
        self._backward()
        return self._totals.get(leaf)

    def _op(self, op: Op | str) -> Op:
        return self.ops[int(op.removeprefix("op"))] if isinstance(op, str) else op

    # ---- forward ------------------------------------------------------------------------------

    def _forward(self) -> None:
        """The value of every op: what is still held, and what can be computed anew."""
        for tensor, _ in self._outputs:
            if tensor.grad_fn is not None and fresh(tensor.array, tensor.grad_fn):
                self._values[tensor.grad_fn] = tensor.array
        for op in self.ops:
            for i, array in places(op):
                made = op if i == len(op.inputs) else op.inputs[i]
                if made is not None and made.seq and fresh(array, op):
                    self._values.setdefault(made, array)
        for op in self.ops:
            inputs = self._inputs[op] = self._given(op)
            whole = op.saved is not None and all(fresh(array, op) for _, array in places(op))
            if whole:
                self._twins[op] = copy(op)
            if not (whole and op in self._values):
                self._run(op, inputs)

    def _given(self, op: Op) -> list[Any]:
        """The inputs of an op, UNKNOWN for those that are gone."""
        kept_here = {i: a for i, a in places(op) if fresh(a, op)}
        found: list[Any] = []
        for i, (edge, argument) in enumerate(zip(op.inputs, arguments(op), strict=False)):
            if edge is not None and edge.seq:
                found.append(self._values.get(edge, UNKNOWN))
                continue
            held = op.constants[i] if edge is None and op.constants is not None else edge
            if isinstance(held, ref):
                held = held()
                if held is None:
                    held = running(op, argument)
                if held is None:
                    held = UNKNOWN
            if i in kept_here:
                held = kept_here[i]
            elif isinstance(held, Tensor):
                held = held.array if fresh(held.array, op) else UNKNOWN
            if op.floating and getattr(held, "dtype", None) is not None and held.dtype.kind != "f":
                held = op.xp.astype(held, op.dtype)
            found.append(held)
        return found

    def _run(self, op: Op, inputs: list[Any]) -> None:
        """Compute an op anew, on a copy of it, from inputs that are all known."""
        if not op.repeatable or any(x is UNKNOWN for x in inputs):
            return
        twin, place = copy(op), default_generator.get_state()
        with quiet():
            try:
                y = op.xp.asarray(twin.forward(op.xp, *inputs))
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
                return  # a leaf was given an array of another shape or dtype since
        if default_generator.get_state() != place:
            default_generator.set_state(place)
            return
        if tuple(y.shape) != tuple(op.shape) or y.dtype != op.dtype:
            return
        y = self._values.setdefault(op, y)
        if op not in self._twins:
            arrays = [*inputs, y]
            for position, i in op.droppable:
                if op.inputs[i] is None:
                    arrays[position] = None
            twin.saved = () if op.keep is None else op.keep(arrays)
            self._twins[op] = twin

    # ---- backward -----------------------------------------------------------------------------

    def _backward(self) -> dict[Op, tuple[Any, ...]]:
        """The gradients, users before what they use, as the engine has it (engine.sweep)."""
        if self._flows is not None:
            return self._flows
        self._flows = {}
        totals = self._totals
        unknown: set[Any] = set()  # what some gradient reaches that is not known

        def add(edge: Any, flow: Any) -> None:
            if flow is UNKNOWN:
                unknown.add(edge)
            else:
                total = totals[edge] + flow if edge in totals else flow
                totals[edge] = backend_of(flow).asarray(total)

        for tensor, seed in self._outputs:
            add(edge_of(tensor), seed_of(tensor, seed))
        for op in reversed(self.ops):
            flows = self._passed_on(op, UNKNOWN if op in unknown else totals.get(op))
            self._flows[op] = tuple(None if f is UNKNOWN else f for f in flows)
            for edge, flow in zip(op.inputs, flows, strict=True):
                if edge is not None and flow is not None:
                    add(edge, flow)
        for edge in unknown:
            totals.pop(edge, None)
        return self._flows

    def _passed_on(self, op: Op, grad: Any) -> Sequence[Any]:
        """The gradients of an op's inputs, given that of its value."""
        if grad is None:
            return (None,) * len(op.inputs)
        twin = self._twins.get(op)
        hooked = len(op.hooks or ()) > op.retains  # one may replace the gradient
        if grad is UNKNOWN or twin is None or hooked or not op.repeatable:
            return [None if edge is None else UNKNOWN for edge in op.inputs]
        with quiet():
            flows = twin.backward(op.xp, grad, *twin.saved)  # type: ignore[misc]
        found: list[Any] = []
        for edge, flow in zip(op.inputs, flows, strict=True):
            if edge is None or flow is None:
                found.append(None)
                continue
            if op.broadcasts and flow.shape != edge.shape:
                flow = sum_to(flow, edge.shape)
            found.append(op.xp.asarray(flow))
        return found


class Unknown:
    """The one object that stands for a value that is gone."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


def kept(op: Op) -> dict[str, Array]:
    """What an op keeps for its gradient, by name: inputs, output, and a fused op's residuals."""
    names = [*arguments(op), "y"]
    found = {names[i]: array for i, array in places(op)}
    for name in getattr(op, "residuals", ()):
        array = getattr(op, name, None)
        if hasattr(array, "dtype"):
            found[name] = array
    return found


def fresh(array: Array, op: Op) -> bool:
    """Whether an array that ``op`` was given, or made, is still as it was then."""
    return version(array) <= op.seq


def seed_of(tensor: Tensor, seed: Tensor | None) -> Any:
    """The gradient that a sweep starts with."""
    if seed is not None:
        if seed.shape != tensor.shape:
            raise ShapeError(
                f"a seed must have the shape of its output, {tensor.shape}, got {seed.shape}."
            )
        return seed.to(tensor.dtype).array
    if tensor.numel() != 1:
        return UNKNOWN
    return backend_of(tensor.array).ones_like(tensor.array)
