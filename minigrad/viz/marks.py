"""What is marked on a graph beside what it computes: findings of a check, and heat.

Both write into the data of a graph (trace.Node and Edge); dot.py and text.py show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.engine import owner
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.viz import values
from minigrad.viz.health import Tape, finite, host, silent_units
from minigrad.viz.heat import HEATS, KEPT
from minigrad.viz.trace import Trace, tape


def mark_health(trace: Trace, outputs: Sequence[Tensor], model: Module | None) -> None:
    """Write the findings of ``check`` to the ops and parameters that they are about."""
    look = Tape(outputs, model, None)
    nodes = {n.id: n for n in trace.nodes}
    leaves = {n.name: n for n in trace.nodes if n.kind in ("parameter", "input")}
    found = look.diagnosis()
    for f in found:
        node = leaves.get(f.path) or nodes.get(f.node)
        if node is None:
            continue  # a parameter that is not in the graph: the title says so
        node.findings.append(f"{f.rule}: {f.said}" if f.rule in SHORT else f.message)
        node.ring = node.ring or f.rule == "not finite"
    for op in look.ops:
        y = look.value(op) if op.name in ("relu", "relu6") and len(op.shape) > 1 else None
        silent = None if y is None else silent_units(y)
        node = nodes.get(look.node(op))
        if silent and silent[0] and node is not None and not node.findings:
            node.notes.append(f"{silent[0]} of {silent[1]} units dead")  # too few for a finding
    lost = {look.node(op) for op in look.ops if not known_finite(look.value(op))}
    for e in trace.edges:
        e.lost = e.kind == "value" and e.source in lost
    n = len(found)
    trace.facts.health = f"{n} finding{'s' * (n != 1)}" if n else "no findings"


#: Rules whose number says more, on the picture, than their message.
SHORT = (
    "dead units",
    "saturated",
    "vanishing gradient",
    "exploding gradient",
    "constant channel",
    "update size",
)


def known_finite(value: Any) -> bool:
    """Whether a value holds neither NaN nor infinity, or is not known."""
    return value is None or finite(value)


def mark_heat(trace: Trace, outputs: Sequence[Tensor], kind: str, profile: Any = None) -> None:
    """Write to every op what it costs: seconds, bytes kept for backward, or the gradient's norm."""
    if kind not in HEATS:
        raise ValueError(f"heat= must be one of {', '.join(HEATS)}; got {kind!r}.")
    made = [n for n in trace.nodes if n.kind == "op"]
    ops = list(zip(made, tape(outputs), strict=True))
    rows: dict[int, dict[str, float]] = {} if profile is None else profile.by_op()
    seen = [op for _, op in ops if op.seq in rows]
    if kind == "time" or (kind == "memory" and profile is not None):
        if profile is None:
            raise ValueError(
                'heat="time" shows the times of a run: make the graph under '
                "minigrad.profiler.profile() as prof, and pass profile=prof."
            )
        if not seen:
            raise ValueError(
                "none of these ops ran under that profile: make the graph within its with block."
            )
    trace.facts.heat = KEPT if kind == "memory" and profile is None else kind
    if kind == "time":
        for node, op in ops:
            row = rows.get(op.seq)
            node.cost = None if row is None else row["forward"] + row["backward"]
            node.cost_back = 0.0 if row is None else row["backward"]
        return
    numbers = values.read(outputs)
    if kind == "grad_norm":
        for node, op in ops:
            grad = numbers.arriving(op)
            if grad is not None:
                node.cost = float(np.linalg.norm(host(grad).astype(np.float64)))
        return
    held: set[int] = {id(owner(p.array)) for p in parameters_of(op for _, op in ops)}
    live = 0
    for node, op in ops:
        arrays = {id(owner(a)): a for a in numbers.saved(op).values()}
        new = {key: a for key, a in arrays.items() if key not in held}
        held.update(new)
        node.cost = float(sum(int(owner(a).nbytes) for a in new.values()))
        live += int(node.cost)
        node.live = float(live) if profile is None else rows.get(op.seq, {}).get("live")


def parameters_of(ops: Any) -> list[Tensor]:
    """The leaves that require gradients: they are there with and without the graph."""
    edges = (e for op in ops for e in op.inputs)
    return [e for e in edges if isinstance(e, Tensor) and e.requires_grad]
