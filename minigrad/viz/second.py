"""The gradient of a gradient: what ``create_graph=True`` recorded, gathered by whose it is.

The rule of an op, run on Tensors, records several ops: those of its gradient. In a picture of a
gradient penalty they become one box, named as in the ladder: ``linear′``.
"""

from __future__ import annotations

from minigrad.viz.backward import PRIME
from minigrad.viz.shrink import merge
from minigrad.viz.trace import Node, Trace


def gather(trace: Trace) -> Trace:
    """The graph with the ops that each gradient recorded as one box, after those they depend on."""
    boxes: dict[int, Node] = {}
    for n in trace.nodes:
        if n.rule is not None:
            number, name, vjp = n.rule
            box = boxes.setdefault(number, Node(f"rule{len(boxes)}", "module", name + PRIME))
            box.rule, box.formula = n.rule, vjp
    into = {n.id: boxes[n.rule[0]] for n in trace.nodes if n.rule is not None}
    return merge(trace, into, {}) if into else trace
