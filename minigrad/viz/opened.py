"""Fused ops opened in place: a frame with the primitives they are made of, each with its vjp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from minigrad.viz import letters
from minigrad.viz.select import chooser
from minigrad.viz.trace import Edge, Node, Saved, Scope, Trace

Selector = str | Iterable[str] | Callable[[Node], bool]


def expand(trace: Trace, which: Selector, *, beside: bool = False) -> Trace:
    """The graph with the fused ops that ``which`` chooses opened; see ``viz.graph``.

    With ``beside``, running statistics stand at the left of the op that makes the statistics,
    instead of in a frame of their own.
    """
    choose = chooser(trace, which, "expand")
    chosen = {n.id for n in trace.nodes if n.inside in trace.insides and choose(n)}
    if not chosen:
        return trace
    opener = Opener(trace, beside)
    for node in trace.nodes:
        if node.id in chosen:
            opener.open(node)
        else:
            opener.nodes.append(node)
    return opener.finish(chosen)


class Opener:
    """Replaces ops by frames."""

    def __init__(self, trace: Trace, beside: bool) -> None:
        self.trace, self.beside = trace, beside
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.frames: list[Scope] = []
        self.into: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        self.updates: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        for e in trace.edges:
            if e.kind == "update":
                self.updates[e.source].append(e)
            else:
                self.into[e.target].append(e)
        self.by_id = {n.id: n for n in trace.nodes}
        self.scopes = {s.id: s for s in trace.scopes}
        self.moved: dict[str, Node] = {}  # the running statistics of opened ops
        self.results: dict[str, str] = {}  # an opened op -> the primitive that makes its value

    def open(self, op: Node) -> None:
        """One op."""
        inside = self.trace.insides[op.inside]
        names = letters.named(inside)
        steps = letters.steps(inside, op.name, names)
        into = letters.inputs_of(inside)
        given = {n.id: n.name for n in inside.nodes if not n.ops and n.kind != "output"}
        outer = {e.argument: e for e in self.into[op.id]}
        uses = Counter(e.source for e in inside.edges)
        shared = {source for source, n in uses.items() if n > 1}
        last = next(e.source for e in inside.edges if e.target == "output0")
        names[last] = "y"
        frame = self.frame(op, inside)
        groups: dict[str, Scope] = {}
        values: dict[str, str] = {}  # name -> node, for the running statistics
        held = {a for a, e in outer.items() if self.by_id[e.source].kind == "buffer"}
        constant = {i for i, a in given.items() if a in held}  # no gradient goes there

        for node in inside.nodes:
            if not node.ops:
                continue
            around = frame
            if node.id in steps:
                step = steps[node.id]
                if step not in groups:
                    groups[step] = self.group(op, frame, step, len(groups))
                around = groups[step]
            edges, own = into[node.id], names[node.id]
            if edges and all(e.source in constant for e in edges):
                constant.add(node.id)
            eps = op.attributes.get("eps")
            node = replace(node, attributes={**node.attributes, "eps": eps})
            new = replace(
                node,
                id=inner(op, node.id),
                scope=around.id,
                notes=[n for n in node.notes if not _said_in_the_formula(n, node)],
                formula=letters.forward(node, edges, names, own),
                vjp=letters.backward(node, edges, names, own, shared, constant),
                attributes={k: v for k, v in node.attributes.items() if k != "eps"},
                symbol=own,
                saved=[Saved(k, k) for k in letters_of(node, edges, names, own)],
                keeps=letters_of(node, edges, names, own),
            )
            if eps in node.numbers.values():
                new.notes.append(f"ε = {eps:.4g}")
            self.nodes.append(new)
            values.setdefault(own, new.id)
            for e in edges:
                if e.source in given:
                    known = outer.get(given[e.source])
                    if known is None:
                        continue
                    source = self.results.get(known.source, known.source)
                    shape, wanted = known.shape, known.wanted
                else:
                    source, shape = inner(op, e.source), e.shape
                    wanted = e.source not in constant
                named = replace(e, name=names[e.source], shape=shape, wanted=wanted)
                self.edges.append(replace(named, source=source, target=new.id))
        self.results[op.id] = inner(op, last)
        self.frames += [frame, *groups.values()]
        self.run(op, frame, values, len(groups))

    def frame(self, op: Node, inside: Trace) -> Scope:
        """The frame of an opened op, with what its primitives come to."""
        around = self.scopes.get(op.scope or "")
        path = ".".join(filter(None, ("" if around is None else around.path, op.name)))
        arguments = {n.name: letters.INPUTS.get(n.name, n.name) for n in inside.nodes if not n.ops}
        keeps = ", ".join(arguments.get(k, k) for k in op.keeps)
        notes = [f"the vjps multiply out to:  {op.vjp}"] if op.vjp else []
        notes += [f"● fused keeps {keeps}"] if keeps else []
        return Scope(
            f"{op.id}_opened",
            op.name,
            path,
            "",
            "  ·  ".join([f"opened: {op.primitives} primitives", *op.notes]),
            op.mode or "",
            parent=op.scope,
            kind="op",
            notes=notes,
        )

    def group(self, op: Node, frame: Scope, name: str, i: int) -> Scope:
        """A frame around some of the primitives."""
        return Scope(
            f"{frame.id}_{i}",
            name,
            f"{frame.path}.{name}",
            "",
            "",
            op.mode or "",
            parent=frame.id,
            kind="group",
        )

    def run(self, op: Node, frame: Scope, values: dict[str, str], groups: int) -> None:
        """The running statistics, which an op moves without any gradient."""
        if not self.updates[op.id]:
            return
        if self.beside:
            for e, name in zip(self.updates[op.id], ("μ", "v"), strict=False):
                self.edges.append(replace(e, source=values.get(name, self.results[op.id])))
            return
        group = self.group(op, frame, "running statistics", groups)
        group.config = "no gradient, updated in place"
        self.frames.append(group)
        for e, name in zip(self.updates[op.id], ("μ", "v"), strict=False):
            buffer = replace(self.by_id[e.target], scope=group.id, updates=True)
            self.moved[buffer.id] = buffer
            source = values.get(name, self.results[op.id])
            self.edges.append(replace(e, source=source, name=name, kind="detached"))

    def finish(self, chosen: set[str]) -> Trace:
        """The graph with its frames, every value used as often as it is used now."""
        edges = [
            replace(e, source=self.results.get(e.source, e.source))
            for e in self.trace.edges
            if e.target not in chosen and not (e.kind == "update" and e.source in chosen)
        ]
        edges += self.edges
        place = {n.id: i for i, n in enumerate(self.nodes)}
        changes = {"update", "detached"}
        edges.sort(
            key=lambda e: (
                place[e.source if e.kind in changes else e.target],
                e.kind in changes,
                e.index,
            )
        )
        uses = Counter(e.source for e in edges if e.kind == "value")
        edges = [replace(e, uses=uses[e.source]) if e.kind == "value" else e for e in edges]
        scopes: list[Scope] = []
        for scope in self.trace.scopes:
            scopes.append(scope)
        scopes += self.frames
        nodes = _leaves_first([self.moved.get(n.id, n) for n in self.nodes], edges)
        return replace(self.trace, nodes=nodes, edges=edges, scopes=scopes)


def inner(op: Node, node: str) -> str:
    """The id of a primitive of an op."""
    return f"{op.id}_{node.removeprefix('op')}"


def letters_of(node: Node, edges: list[Edge], names: dict[str, str], own: str) -> list[str]:
    """The values that a primitive keeps, by name."""
    put = {e.argument: names[e.source] for e in edges} | {"y": own}
    return list(dict.fromkeys(put[k] for k in node.keeps if k in put))


def _said_in_the_formula(note: str, node: Node) -> bool:
    if note.endswith("is a constant") or note.startswith("index=") or node.name == "transpose":
        return True
    return any(note == f"{a} = {v:.4g}" for a, v in node.numbers.items())


def _leaves_first(nodes: list[Node], edges: list[Edge]) -> list[Node]:
    """Leaves right before the first op that uses them, so that they stand in its frame."""
    leaves = {n.id: n for n in nodes if n.kind in ("parameter", "buffer", "input")}
    first: dict[str, list[str]] = {}
    placed: set[str] = set()
    for e in edges:
        to = e.kind in ("update", "detached")
        leaf, op = (e.target, e.source) if to else (e.source, e.target)
        if leaf in leaves and leaf not in placed:
            placed.add(leaf)
            first.setdefault(op, []).append(leaf)
    by_id = {n.id: n for n in nodes}
    found: list[Node] = []
    for node in nodes:
        if node.id in placed:
            continue
        changed = [by_id[leaf] for leaf in first.get(node.id, ()) if by_id[leaf].updates]
        for leaf in first.get(node.id, ()):
            if not by_id[leaf].updates:
                found.append(replace(by_id[leaf], scope=node.scope))
        found += [node, *changed]
    return found
