"""Two graphs in one picture: what both have, what only the first has, what only the second.

Train mode against eval mode, before a change against after it. What differs is marked by a sign and
a kind of line, not by colour alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher

from minigrad.viz.trace import Edge, Node, Scope, Trace

Key = tuple[str, ...]


def compare(first: Trace, second: Trace) -> Trace:
    """The graph of both. ``Node.change`` and ``Edge.change`` say where something is: "removed"
    (only in the first), "added" (only in the second), "changed" (in both, with other settings).
    """
    same = pairs(first, second)  # ids of the second -> ids of the first
    scopes, scope_of = frames(first, second)
    theirs = {n.id: n for n in second.nodes}
    mine = {b: a for a, b in same.items()}
    nodes: list[Node] = []
    waiting = list(second.nodes)
    at = 0

    def add_until(stop: str | None) -> None:
        nonlocal at
        while at < len(waiting) and waiting[at].id != stop:
            n = waiting[at]
            at += 1
            if n.id not in same:
                scope = scope_of.get(n.scope or "")
                nodes.append(replace(n, id=f"new_{n.id}", scope=scope, change="added"))
        at += stop is not None

    for n in first.nodes:
        if n.id not in mine:
            nodes.append(replace(n, change="removed"))
            continue
        other = theirs[mine[n.id]]
        place = next((i for i in range(at, len(waiting)) if waiting[i] is other), None)
        if place is not None:
            add_until(other.id)
        said = differences(n, other)
        change = {"change": "changed", "notes": [*n.notes, *said]} if said else {}
        nodes.append(replace(n, **change))  # type: ignore[arg-type]
    add_until(None)
    nodes.sort(key=lambda n: n.kind == "output")
    facts = replace(
        first.facts,
        shown=counted(nodes),
        mode=" → ".join(dict.fromkeys(filter(None, (first.facts.mode, second.facts.mode)))),
    )
    edges = arrows(first, second, same)
    insides = {**first.insides, **second.insides}
    return replace(first, nodes=nodes, edges=edges, scopes=scopes, facts=facts, insides=insides)


def pairs(first: Trace, second: Trace) -> dict[str, str]:
    """Which nodes of the second are which of the first: the longest common run of ops, in the same
    modules; leaves and outputs by kind and name.
    """
    keys = [keyed(first), keyed(second)]
    found: dict[str, str] = {}
    matcher = SequenceMatcher(
        None, [k for k, _ in keys[0]], [k for k, _ in keys[1]], autojunk=False
    )
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            found[keys[1][block.b + i][1]] = keys[0][block.a + i][1]
    leaves = {(n.kind, n.name): n.id for n in reversed(first.nodes) if not n.ops}
    taken: set[str] = set()
    for n in second.nodes:
        known = leaves.get((n.kind, n.name))
        if not n.ops and known is not None and known not in taken:
            found[n.id] = known
            taken.add(known)
    return found


def keyed(trace: Trace) -> list[tuple[Key, str]]:
    """By what each op is recognized: its module and its name."""
    paths = {s.id: f"{s.path} {s.call}" for s in trace.scopes}
    return [((paths.get(n.scope or "", ""), n.name), n.id) for n in trace.nodes if n.ops]


def differences(a: Node, b: Node) -> list[str]:
    """How a node of the first graph differs from the same of the second."""
    said = []
    if a.shape != b.shape:
        said.append(f"shape {a.shape} → {b.shape}")
    if a.dtype != b.dtype:
        said.append(f"{a.dtype} → {b.dtype}")
    for name in {**a.attributes, **b.attributes}:
        before, now = a.attributes.get(name), b.attributes.get(name)
        if before != now and name != "index":
            said.append(f"{name} {before} → {now}")
    if a.frozen != b.frozen:
        said.append("frozen → learnt" if a.frozen else "learnt → frozen")
    if a.kind == "buffer" and ("updated in place" in a.notes) != ("updated in place" in b.notes):
        said.append("no longer updated" if "updated in place" in a.notes else "now updated")
    return said


def frames(first: Trace, second: Trace) -> tuple[list[Scope], dict[str, str | None]]:
    """The frames of both, and where those of the second are among them."""
    known = {(s.path, s.call, s.kind): s for s in first.scopes}
    scopes = {s.id: s for s in first.scopes}
    where: dict[str, str | None] = {}
    for s in second.scopes:
        same = known.get((s.path, s.call, s.kind))
        if same is None:
            where[s.id] = f"new_{s.id}"
            parent = where.get(s.parent or "")
            scopes[f"new_{s.id}"] = replace(s, id=f"new_{s.id}", parent=parent)
        else:
            where[s.id] = same.id
            if same.mode != s.mode:
                scopes[same.id] = replace(same, mode=f"{same.mode} → {s.mode}")
    return list(scopes.values()), where


def arrows(first: Trace, second: Trace, same: dict[str, str]) -> list[Edge]:
    """The edges of both, those of one alone marked."""
    theirs = [
        replace(e, source=same.get(e.source, f"new_{e.source}"),
                target=same.get(e.target, f"new_{e.target}"))
        for e in second.edges
    ]  # fmt: skip

    def key(e: Edge) -> tuple[str, str, int, str]:
        return e.source, e.target, e.index, e.kind

    have = {key(e) for e in first.edges}
    also = {key(e) for e in theirs}
    edges = [e if key(e) in also else replace(e, change="removed") for e in first.edges]
    edges += [replace(e, change="added") for e in theirs if key(e) not in have]
    uses = Counter(e.source for e in edges if e.kind == "value" and e.change != "removed")
    return [replace(e, uses=max(1, uses[e.source])) if e.kind == "value" else e for e in edges]


def counted(nodes: list[Node]) -> str:
    """``2 removed, 1 added``; ``the same`` where nothing differs."""
    counts = Counter(n.change for n in nodes if n.change)
    said = [f"{counts[c]} {c}" for c in ("removed", "added", "changed") if counts[c]]
    return ", ".join(said) or "the same"
