"""Questions to a graph: what is in it, a part of it, the way from one value to another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from minigrad.tensor import Tensor
from minigrad.viz.select import snake
from minigrad.viz.trace import Edge, Node, Scope, Trace


def find(
    trace: Trace,
    *,
    op: str | None = None,
    kind: str | None = None,
    name: str | None = None,
    module: str | None = None,
) -> list[Node]:
    """The nodes that fit everything asked, in the order of the tape; see ``Graph.find``."""
    inside = None if module is None else within(trace, module)
    return [
        n
        for n in trace.nodes
        if (op is None or (n.ops and n.name == snake(op)))
        and (kind is None or n.kind == kind)
        and (name is None or n.name == name)
        and (inside is None or n.scope in inside)
    ]


def item(trace: Trace, key: str) -> Node | Scope:
    """A module by its path, a leaf or output by its name, an op by its id.

    Raises:
        KeyError: there is none; the message names what is near.
    """
    for scope in trace.scopes:
        if scope.path == key and (key or scope.id == trace.root):
            return scope
    for node in trace.nodes:
        if node.id == key or (not node.ops and node.name == key):
            return node
    known = [s.path for s in trace.scopes] + [n.name if not n.ops else n.id for n in trace.nodes]
    close = get_close_matches(key, known, 3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise KeyError(
        f"no module path, name of data, parameter or output, and no id of an op is {key!r}.{hint}"
    )


def within(trace: Trace, path: str) -> set[str | None]:
    """The frames of a module's calls, and those inside them."""
    found: set[str | None] = set()
    for s in trace.scopes:  # outer ones come first
        if s.path == path or s.parent in found:
            found.add(s.id)
    if not found:
        item(trace, path)  # raises, with names that are near
        raise KeyError(f"{path!r} is no module of this graph.")
    return found


def subgraph(trace: Trace, path: str) -> Trace:
    """What a module recorded, alone: what enters is data, what leaves is output."""
    inside = within(trace, path)
    return part(trace, {n.id for n in trace.nodes if n.scope in inside and n.ops})


def path(trace: Trace, start: str, end: str) -> Trace:
    """Every op on a way from one node to another, with the leaves they use.

    Raises:
        ValueError: there is no way.
    """
    after, before = _reach(trace, start, forward=True), _reach(trace, end, forward=False)
    between = after & before
    if not between:
        raise ValueError(f"no value goes from {_called(trace, start)} to {_called(trace, end)}.")
    ops = {n.id for n in trace.nodes if n.id in between and n.ops}
    return part(trace, ops, keep=between)


def node_of(trace: Trace, value: Any) -> str:
    """The id of the node that a tensor, a name, an id or a node stands for.

    Raises:
        KeyError: it is not in the graph.
    """
    if isinstance(value, Node):
        return value.id
    if isinstance(value, str):
        found = item(trace, value)
        if isinstance(found, Node):
            return found.id
        ops = [n for n in trace.nodes if n.scope in within(trace, value) and n.ops]
        return ops[-1].id
    if isinstance(value, Tensor):
        if value.grad_fn is not None and value.grad_fn.seq in trace.places:
            return str(trace.places[value.grad_fn.seq])
        held = trace.places.get((id(value),))
        if held is not None and held[0]() is value:
            return str(held[1])
        raise KeyError(f"this tensor of shape {value.shape} is not in the graph.")
    raise TypeError(f"a node is a tensor, a name, an id or a Node, got {type(value).__name__}.")


def part(trace: Trace, ops: set[str], keep: Iterable[str] = ()) -> Trace:
    """Some of the ops with the leaves they use; other values that enter become data, and those
    that leave outputs.
    """
    nodes = {n.id: n for n in trace.nodes}
    wanted = ops | set(keep)
    found: list[Node] = []
    edges: list[Edge] = []
    entered: dict[str, Node] = {}
    left: dict[str, Node] = {}
    for e in trace.edges:
        if e.target in wanted and e.source in wanted:
            edges.append(e)
        elif e.target in ops or (e.source in ops and e.kind == "update"):
            outer = nodes[e.target if e.kind == "update" else e.source]
            if not outer.ops:
                wanted.add(outer.id)
                edges.append(e)
                continue
            if outer.id not in entered:
                entered[outer.id] = Node(
                    f"from_{outer.id}", "input", e.argument or outer.name, shape=outer.shape,
                    dtype=outer.dtype, notes=[f"from {outer.name}"],
                )  # fmt: skip
            edges.append(replace(e, source=entered[outer.id].id))
        elif e.source in ops and e.source not in left:
            source = nodes[e.source]
            left[e.source] = Node(
                f"to_{e.source}", "output", "output", shape=source.shape, dtype=source.dtype
            )
    ends = {e.source for e in edges if nodes.get(e.target, source_less).kind == "output"}
    for source_id, node in left.items():
        uses = [e for e in edges if e.source == source_id and e.kind == "value"]
        if source_id not in ends and (not uses or source_id == _last(trace, ops)):
            edges.append(Edge(source_id, node.id, shape=node.shape, dtype=node.dtype))
        else:
            left[source_id] = replace(node, id="")
    by_first: dict[str, list[Node]] = defaultdict(list)
    for e in edges:
        for node in entered.values():
            if e.source == node.id and node not in found:
                by_first[e.target].append(node)
                found.append(node)
    ordered: list[Node] = []
    for n in trace.nodes:
        ordered += by_first.get(n.id, [])
        if n.id in wanted:
            ordered.append(n)
    ordered += [n for n in left.values() if n.id]
    uses_of: dict[str, int] = defaultdict(int)
    for e in edges:
        uses_of[e.source] += e.kind == "value"
    edges = [replace(e, uses=uses_of[e.source]) if e.kind == "value" else e for e in edges]
    filled: set[str | None] = {n.scope for n in ordered}
    for scope in reversed(trace.scopes):
        if scope.id in filled:
            filled.add(scope.parent)
    scopes = [s for s in trace.scopes if s.id in filled]
    facts = replace(
        trace.facts,
        ops=len(ops),
        parameters=sum(n.parameters for n in ordered),
        unreached=[],
    )
    return replace(trace, nodes=ordered, edges=edges, scopes=scopes, facts=facts)


source_less = Node("", "", "")


def _last(trace: Trace, ops: set[str]) -> str:
    return next(n.id for n in reversed(trace.nodes) if n.id in ops)


def _reach(trace: Trace, start: str, forward: bool) -> set[str]:
    """Every node that a value of ``start`` goes to, or that it comes from, itself included."""
    steps: dict[str, list[str]] = defaultdict(list)
    for e in trace.edges:
        if e.kind in ("value", "loop"):
            ends = (e.source, e.target) if forward else (e.target, e.source)
            steps[ends[0]].append(ends[1])
    found, waiting = {start}, [start]
    while waiting:
        for node in steps[waiting.pop()]:
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def _called(trace: Trace, node: str) -> str:
    found = next(n for n in trace.nodes if n.id == node)
    return f"{found.name} ({node})" if found.ops else found.name
