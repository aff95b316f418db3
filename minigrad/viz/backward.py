"""The backward graph beside the forward one: plain data in, plain data out.

Every op gets its vjp, every use of a value through which a gradient flows an edge the other way,
every leaf that learns a gradient. ``extend`` adds them.

    output  -- call -->  seed
    op      -- saved ->  its vjp
    seed    -- gradient ->  vjp  -- gradient ->  vjp of what it used, or gradient of a leaf, or stop
"""

from __future__ import annotations

from dataclasses import replace

from minigrad.shapes import Shape, reduced_axes
from minigrad.viz.trace import Edge, Node, Trace

#: How the formulas of gradients call an argument, where its name does not say it.
CALLED = {
    "W": "weight",
    "w": "weight",
    "b": "bias",
    "γ": "gamma",
    "β": "beta",
    "z": "logits",
    "t": "target",
    "v": "value",
}

PRIME = "′"


def extend(trace: Trace) -> Trace:
    """The graph with its backward graph."""
    made = {n.id: n for n in trace.nodes}
    uses: dict[str, list[Edge]] = {}  # through which gradients flow, by their source
    into: dict[str, list[Edge]] = {}  # all, by their target
    users: dict[str, dict[str, None]] = {}  # who uses a value, by its source
    for e in trace.edges:
        if e.kind == "value":
            into.setdefault(e.target, []).append(e)
            users.setdefault(e.source, {})[e.target] = None
            if e.wanted or made[e.target].kind == "output":
                uses.setdefault(e.source, []).append(e)
    ops = [n for n in trace.nodes if n.ops]
    vjps = {n.id: vjp_of(n, into.get(n.id, [])) for n in ops}
    seeds = {n.id: seed_of(n) for n in trace.nodes if n.kind == "output"}
    nodes: list[Node] = []
    edges: list[Edge] = []

    ends: dict[str, str] = {}  # by source of a value, where its gradients arrive
    for seed in seeds.values():
        nodes.append(seed)
        edges.append(Edge(seed.of or "", seed.id, kind="call"))
    for node in reversed(trace.nodes):
        found = uses.get(node.id, [])
        if node.ops:
            vjp = vjps[node.id]
            ends[node.id] = vjp.id
            if len(found) > 1:
                total = Node(f"{node.id}_sum", "sum", "+", node.scope, node.shape, node.dtype)
                total.of, total.gradient = node.id, node.gradient
                ends[node.id] = total.id
                edges.append(flow(total.id, vjp.id, node))
                nodes.append(total)
            nodes.append(vjp)
            if node.saved or node.kind != "op":
                edges.append(Edge(node.id, vjp.id, kind="saved"))
        elif node.kind in ("input", "parameter"):
            if found:
                end = gradient_of(node, len(found))
                ends[node.id] = end.id
                nodes.append(end)
            elif node.kind == "input" and "float" in (node.dtype or ""):
                stop = Node(f"{node.id}_stop", "stop", stopped(node), node.scope, of=node.id)
                nodes.append(stop)
                edges += [Edge(vjps[user].id, stop.id, kind="stop") for user in users[node.id]]
    for source, found in uses.items():
        node = made[source]
        for e in found:
            back = seeds[e.target].id if e.target in seeds else vjps[e.target].id
            gradient = made[e.target].gradient if e.target in seeds else e.gradient
            edges.append(
                replace(
                    flow(back, ends[source], node, gradient),
                    index=e.index,
                    argument=e.argument,
                    stretched=e.stretched,
                    uses=len(found),
                )
            )
    facts = replace(trace.facts, backward=sum(n.ops for n in ops))
    nodes = [*map(forward_of, trace.nodes), *nodes]
    return replace(trace, nodes=nodes, edges=trace.edges + edges, facts=facts)


def vjp_of(node: Node, edges: list[Edge]) -> Node:
    """The gradient of an op as a box: those parts of its formula that are wanted."""
    return replace(
        node,
        id=f"{node.id}_vjp",
        kind="vjp",
        name=(node.name + PRIME).replace(PRIME * 2, "″"),
        formula=wanted(node.vjp, edges),
        vjp="",
        notes=[],
        attributes={},
        statistics=None,
        of=node.id,
        reduces=False,
        view=False,
        fused=False,
        findings=[],
        ring=False,
        cost=node.cost_back if node.cost_back else None,
        cost_back=0.0,
        live=None,
    )


def forward_of(node: Node) -> Node:
    """An op where its gradient is another box: what that cost is not its own."""
    if node.cost is None or not node.cost_back:
        return node
    return replace(node, cost=node.cost - node.cost_back, cost_back=0.0)


def wanted(vjp: str, edges: list[Edge]) -> str:
    """The parts of a formula such as ``da = dy · b,  db = dy · a`` for inputs that get a gradient.

    A part may speak of another one (``db = dy - da``), which then stays, too.
    """
    names = {e.argument for e in edges if e.wanted}
    parts = vjp.split(",  ")
    own = {part: part.partition(" ")[0].removeprefix("d") for part in parts}
    kept = [
        part
        for part, name in own.items()
        if name in names or CALLED.get(name) in names or name.endswith(("ᵢ", "ⱼ"))
    ]
    spoken = " ".join(part.partition("=")[2] for part in kept)
    left = [p for p in parts if p in kept or f"d{own[p]}" in spoken.split()]
    return ",  ".join(left if kept else parts)


def gradient_of(node: Node, uses: int) -> Node:
    """The gradient of a leaf as a box."""
    return Node(
        id=f"{node.id}_grad",
        kind="gradient",
        name=f"{node.name}.grad",
        scope=node.scope,
        shape=node.shape,
        dtype=node.dtype,
        notes=[f"{uses} gradients add"] if uses > 1 else [],
        of=node.id,
        gradient=node.gradient,
    )


def stopped(node: Node) -> str:
    """Why no gradient goes on to a leaf."""
    why = next((n for n in node.notes if n.startswith("detached")), None)
    return (
        f"stops here: {node.name} is {why}"
        if why
        else (f"stops here: {node.name}.requires_grad = False")
    )


def seed_of(output: Node) -> Node:
    """The gradient that backward() starts with."""
    ones = output.shape is not None and all(n == 1 for n in output.shape)
    return Node(
        id=f"{output.id}_seed",
        kind="seed",
        name=f"d{output.name} = 1" if ones else f"d{output.name}, given",
        shape=output.shape,
        dtype=output.dtype,
        of=output.id,
    )


def flow(source: str, target: str, node: Node, gradient: dict[str, object] | None = None) -> Edge:
    """The gradient of ``node``, or one share of it, on its way."""
    shown = node.gradient if gradient is None else gradient
    return Edge(
        source,
        target,
        shape=node.shape,
        dtype=node.dtype,
        kind="gradient",
        wanted=True,
        gradient=shown,
    )


def summed(shape: Shape | None, stretched: Shape | None) -> Shape:
    """The axes over which the gradient of a broadcast value is added up."""
    if shape is None or stretched is None:
        return ()
    return tuple(reduced_axes(stretched, shape))
