"""A large graph made small enough to look at: modules closed to one box, a stretch left out."""

from __future__ import annotations

from dataclasses import replace

from minigrad.viz.trace import Edge, Node, Trace


def shrink(trace: Trace, depth: int | None = None, max_nodes: int = 400) -> Trace:
    """The graph with the modules at ``depth`` closed, and never more than ``max_nodes`` boxes.

    Where it is too large, modules are closed from the innermost outwards, and at last the middle of
    the tape becomes one box. ``facts.shown`` says what was done.
    """
    depths = depths_of(trace)
    open_all = max(depths.values(), default=0) + 1
    level = open_all if depth is None else min(depth, open_all)
    while level > 1 and count(trace, closed(trace, depths, level)) > max_nodes:
        level -= 1
    said = []
    if level < open_all:
        trace = close(trace, closed(trace, depths, level))
        said.append(f"shown at depth {level}")
    tape = [n for n in trace.nodes if n.ops]
    if len(tape) > max_nodes:
        trace = leave_out(trace, tape, max_nodes)
        said.append("its middle in one box")
    return replace(trace, facts=replace(trace.facts, shown=", ".join(said))) if said else trace


def depths_of(trace: Trace) -> dict[str, int]:
    """How deep each scope stands: those right inside the model at 1, the model itself at 0."""
    depths: dict[str, int] = {}
    for scope in trace.scopes:  # outer ones come first
        outer = 0 if scope.parent is None else depths[scope.parent]
        depths[scope.id] = outer + (scope.id != trace.root)
    return depths


def closed(trace: Trace, depths: dict[str, int], level: int) -> dict[str, str]:
    """For the scopes at ``level`` or deeper: the one at ``level`` that closes over them."""
    outer: dict[str, str] = {}
    for scope in trace.scopes:
        if depths[scope.id] == level:
            outer[scope.id] = scope.id
        elif depths[scope.id] > level:
            outer[scope.id] = outer[scope.parent or ""]
    return outer


def count(trace: Trace, outer: dict[str, str]) -> int:
    """How many boxes remain for the ops."""
    return len({outer.get(n.scope or "", n.id) for n in trace.nodes if n.ops})


def close(trace: Trace, outer: dict[str, str]) -> Trace:
    """The scopes in ``outer`` as one box each."""
    boxes = {
        s.id: Node(s.id, "module", s.label, scope=s.parent, notes=[s.title], copies=s.copies)
        for s in trace.scopes
        if outer.get(s.id) == s.id
    }
    inside = {n.id: boxes[outer[n.scope]] for n in trace.nodes if n.scope in outer}
    ops = {n.id: inside[n.id] for n in trace.nodes if n.ops and n.id in inside}
    state = {n.id for n in trace.nodes if n.kind in ("parameter", "buffer")}
    return merge(trace, absorb(trace, ops, state), inside)


def leave_out(trace: Trace, tape: list[Node], max_nodes: int) -> Trace:
    """The middle of the tape as one box; its two ends stay."""
    head = max_nodes // 2
    middle = tape[head : len(tape) - (max_nodes - head - 1)]
    box = Node("hidden0", "hidden", "…")
    leaves = {n.id for n in trace.nodes if n.kind in ("parameter", "buffer", "input")}
    return merge(trace, absorb(trace, {n.id: box for n in middle}, leaves), {})


def absorb(trace: Trace, into: dict[str, Node], leaves: set[str]) -> dict[str, Node]:
    """``into`` with those of the leaves that nothing outside one box uses."""
    users: dict[str, set[str]] = {}
    for e in trace.edges:
        leaf, op = (e.target, e.source) if e.kind == "update" else (e.source, e.target)
        if leaf in leaves:
            users.setdefault(leaf, set()).add(into[op].id if op in into else "")
    by_id = {box.id: box for box in into.values()}
    alone = {leaf: next(iter(ids)) for leaf, ids in users.items() if len(ids) == 1}
    return {**into, **{leaf: by_id[box] for leaf, box in alone.items() if box}}


def merge(trace: Trace, into: dict[str, Node], inside: dict[str, Node]) -> Trace:
    """The graph with nodes replaced by the box they go ``into``.

    The other nodes that stood ``inside`` what is now a box move beside it.
    """
    nodes: dict[str, Node] = {}
    for n in trace.nodes:
        if n.id in into:
            box = nodes.setdefault(into[n.id].id, into[n.id])
            box.ops += n.ops
            box.parameters += n.parameters
            if n.ops:
                box.shape, box.dtype = n.shape, n.dtype
                box.statistics, box.gradient = n.statistics, n.gradient
                box.saved += n.saved
            box.findings += [f"{n.name}: {said}" for said in n.findings]
            box.ring = box.ring or n.ring
            if n.cost is not None:  # of norms the last, at the box's own value
                add = trace.facts.heat != "grad_norm"
                box.cost = n.cost + (box.cost or 0.0 if add else 0.0)
            box.cost_back += n.cost_back
            box.live = box.live if n.live is None else n.live
        else:
            nodes[n.id] = replace(n, scope=inside[n.id].scope) if n.id in inside else n

    def moved(node: str) -> str:
        return into[node].id if node in into else node

    edges: list[Edge] = []
    joined: dict[tuple[str, str], Edge] = {}  # two boxes, or a box and a node, are joined once
    for e in trace.edges:
        ends = moved(e.source), moved(e.target)
        if ends == (e.source, e.target):
            edges.append(e)
        elif ends in joined:
            joined[ends].wanted |= e.wanted
        elif ends[0] != ends[1]:
            joined[ends] = replace(e, source=ends[0], target=ends[1], stretched=None)
            edges.append(joined[ends])

    filled = {n.scope for n in nodes.values()}
    for scope in reversed(trace.scopes):
        if scope.id in filled:
            filled.add(scope.parent)
    scopes = [s for s in trace.scopes if s.id in filled]
    return replace(trace, nodes=list(nodes.values()), edges=edges, scopes=scopes)
