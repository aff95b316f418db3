"""Numbers for the data of a graph: statistics of values and gradients, sizes of what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from minigrad.backends import backend_of
from minigrad.tensor import Tensor
from minigrad.viz.trace import Reader, Trace
from minigrad.viz.values import Array, read, statistics

#: Tensors up to this size are in the data as they are.
SMALL = 64

HINT = "call loss.backward() to see gradients"

GONE = "some values are gone: draw before backward(), or hold on to the data that went in"


def annotate(
    trace: Trace,
    reader: Reader,
    outputs: Sequence[Tensor],
    *,
    backward: Any = False,
    values: bool = False,
    grads: bool | str = "auto",
    saved: bool = False,
) -> None:
    """Write numbers into the nodes and edges of a trace; ``viz.graph`` explains the arguments."""
    leaves = {n.id: t for t, n in reader.leaves.items() if isinstance(t, Tensor)}
    nodes = {n.id: n for n in trace.nodes}
    held = any(t.grad is not None for t in leaves.values())
    show = grads is True or (grads == "auto" and held and bool(backward or values))
    if backward and grads == "auto" and not held:
        trace.facts.hint = HINT
    found = None
    if values or (saved and backward) or grads is True:
        found = read(outputs)
    for leaf, tensor in leaves.items():
        node = nodes[leaf]
        if values:
            node.statistics = figures(tensor.array)
        if show and tensor.requires_grad:
            grad = None if tensor.grad is None else tensor.grad.array
            node.gradient = figures(found.gradient(tensor) if grads is True and found else grad)
    if found is None:
        return
    made = dict(zip((n.id for n in trace.nodes if n.kind == "op"), found.ops, strict=True))
    for name, op in made.items():
        node = nodes[name]
        if values:
            node.statistics = figures(found.value(op))
        if show:
            node.gradient = figures(found.arriving(op))
        arrays = found.saved(op)
        for s in node.saved:
            if s.name in arrays:
                array = arrays[s.name]
                s.shape, s.dtype = tuple(array.shape), str(array.dtype)
                s.bytes = int(array.nbytes)
    for e in trace.edges:
        if show and e.wanted and e.target in made:
            e.gradient = figures(found.leaving(made[e.target])[e.index])
    if values and not trace.facts.hint and any(nodes[n].statistics is None for n in made):
        trace.facts.hint = GONE
    for node, tensor in zip((n for n in trace.nodes if n.kind == "output"), outputs, strict=True):
        node.statistics = figures(tensor.array) if values else None


def figures(array: Array | None) -> dict[str, Any] | None:
    """The statistics of an array as plain data, and its elements if they are few."""
    if array is None:
        return None
    said: dict[str, Any] = {k: rounded(v) for k, v in asdict(statistics(array)).items()}
    if array.size <= SMALL:
        said["values"] = rounded(backend_of(array).to_host(array).tolist())
    return said


def rounded(value: Any) -> Any:
    """Numbers in six digits, as text where JSON has none for them."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, bool | int):
        return value
    short = float(f"{value:.6g}")
    return short if abs(short) < float("inf") else str(short)
