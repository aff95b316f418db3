"""How heat is said and shown: what each box costs, as a share of a ramp and as a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, log10

from minigrad.viz.tables import duration, memory, number
from minigrad.viz.trace import Node, Trace

HEATS = ("time", "memory", "grad_norm")
KEPT = "kept"  #: memory without a profile: what the tape keeps, and no more
PEAK = "◀ peak"


def of(trace: Trace) -> Heat | None:
    """The heat of a graph, where it has one."""
    if not trace.facts.heat:
        return None
    return Heat(trace.facts.heat, [n for n in trace.nodes if n.ops])


class Heat:
    """How the costs of the nodes that are shown are drawn: a share of the ramp, and a text."""

    def __init__(self, kind: str, nodes: Sequence[Node]) -> None:
        self.kind = kind
        self.both = "" if any(n.of for n in nodes) else ", forward and backward"
        costs = [n.cost for n in nodes if n.cost is not None]
        self.total, self.most = sum(costs), max(costs, default=0.0)
        some = [c for c in costs if 0 < c < float("inf")]
        self.low, self.high = min(some, default=1.0), max(some, default=1.0)
        self.peak = max((n.live for n in nodes if n.live is not None), default=0.0)

    def share(self, node: Node) -> float:
        """From 0, the page's colour, to 1: linear; for norms, by their logarithm."""
        cost = node.cost or 0.0
        if not isfinite(cost):
            return 1.0
        if self.kind != "grad_norm":
            return cost / self.most if self.most else 0.0
        if cost <= 0:
            return 0.0
        spread = log10(self.high) - log10(self.low)
        return 0.08 + 0.92 * (log10(cost) - log10(self.low)) / spread if spread else 1.0

    def said(self, node: Node) -> str:
        """The number: ``1.24 ms · 31%``, ``keeps 512 kB``, ``|dy| = 0.12``."""
        if node.cost is None:
            return ""
        if self.kind == "time":
            share = node.cost / self.total if self.total else 0.0
            return f"{duration(node.cost)} · {'<1%' if 0 < share < 0.005 else f'{share:.0%}'}"
        if self.kind in ("memory", KEPT):
            return f"keeps {memory(node.cost)}" if node.cost else "keeps nothing new"
        return f"|dy| = {number(node.cost, 3)}"

    def title(self) -> str:
        """What the stripes mean."""
        return TITLES[self.kind](self)

    def live(self, node: Node) -> str:
        """How much was alive when the op had run, and whether that is the most."""
        if node.live is None:
            return ""
        most = node.live == self.peak and self.kind != KEPT
        peak = f"  {PEAK}" if most else ""
        return f"{'so far' if self.kind == KEPT else 'live'} {memory(node.live)}{peak}"


#: What the head says of the stripes.
TITLES: dict[str, Callable[[Heat], str]] = {
    "time": lambda h: f"stripe: time{h.both}, up to {duration(h.most)}",
    "memory": lambda h: f"stripe: kept for backward, up to {memory(h.most)}; bar: live after it",
    KEPT: lambda h: f"stripe: kept for backward, up to {memory(h.most)}; bar: kept so far",
    "grad_norm": lambda h: (
        f"stripe: norm of the gradient that arrives, logarithmic, {number(h.low, 2)} to "
        f"{number(h.high, 2)}"
    ),
}
