"""Repetition shown once: twelve equal blocks, or the steps of a recurrent layer, as one, × 12.

Copies are equal where their ops, shapes and settings are, and where each is connected as the one
before: to itself, to the copy before it, to one thing outside, or to a thing of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from minigrad.viz.trace import Edge, Node, Scope, Trace

FEWEST = 3  #: copies that are rolled; two are seen at a glance
LONGEST = 64  #: ops or modules in one copy, at most
TRIES = 20  #: beginnings of a run, where the first of its copies are connected in other ways
LARGE = 1000  #: nodes; each run that is rolled costs a walk through all of them

#: What the values that a recurrent layer carries from step to step are called.
STATES = {"RNN": "h", "GRU": "h", "LSTM": "c"}

Item = tuple[str, ...]  # the nodes of an op, or of a module call


def roll(trace: Trace, everything: bool = False) -> Trace:
    """The graph with equal consecutive modules and time steps shown once.

    Single ops in a row are left as they are, unless ``everything``.
    """
    done: set[str | None] = set()
    while True:
        roller = Roller(trace, everything, done)
        run = roller.find()
        if run is None:
            return trace
        trace = roller.rolled(*run)


class Roller:
    """Finds one run of copies in a graph, and rolls it."""

    def __init__(self, trace: Trace, everything: bool, done: set[str | None]) -> None:
        self.trace, self.everything, self.done = trace, everything, done
        self.nodes = {n.id: n for n in trace.nodes}
        self.scopes = {s.id: s for s in trace.scopes}
        self.into: dict[str, list[Edge]] = defaultdict(list)
        self.out: dict[str, list[Edge]] = defaultdict(list)
        for e in trace.edges:
            self.into[e.target].append(e)
            self.out[e.source].append(e)
        self.codes: dict[Any, int] = {}
        self.items: dict[str | None, list[tuple[str, int]]] = {}  # by scope: (node or scope, code)
        self.collect()

    # ---- what stands in each scope -----------------------------------------------------------

    def collect(self) -> None:
        """The ops and inner scopes of each scope in the order of the tape, with codes: equal for
        what is equal.
        """
        order: dict[str | None, list[str]] = defaultdict(list)
        seen: set[str] = set()
        for node in self.trace.nodes:
            if not node.ops:
                continue
            order[node.scope].append(node.id)
            child, around = node.scope, node.scope
            while child is not None and child not in seen:
                seen.add(child)
                around = self.scopes[child].parent
                order[around].append(child)
                child = around
        inner = {s: i for i, s in enumerate(self.scopes)}
        for scope in [*sorted(order, key=lambda s: -inner.get(s or "", -1))]:
            coded = [(i, self.code(i)) for i in order[scope]]
            self.items[scope] = coded

    def code(self, item: str) -> int:
        """A number that is equal for equal ops, and for module calls that record equal ops."""
        if item in self.nodes:
            n = self.nodes[item]
            settings = sorted((k, str(v)) for k, v in n.attributes.items() if k != "index")
            said = [note for note in n.notes if not note.startswith("index=")]
            arguments = [(e.argument, e.kind) for e in self.into[item]]
            key: Any = (n.kind, n.name, n.shape, n.dtype, n.mode, str(settings), str(said))
            key = (*key, str(arguments), n.copies)
        else:
            s = self.scopes[item]
            inside = tuple(code for _, code in self.items.get(item, ()))
            key = (s.cls, s.config, s.mode, s.kind, s.copies, inside)
        return self.codes.setdefault(key, len(self.codes))

    # ---- finding a run -----------------------------------------------------------------------

    def find(self) -> tuple[str | None, int, int, int] | None:
        """(scope, first item, items in a copy, copies) of the first run from the outside in."""
        for scope in [None, *self.scopes]:
            if scope in self.done or scope not in self.items:
                continue
            items = self.items[scope]
            for first, period, copies in self.runs(items):
                for _ in range(TRIES):  # where two copies are connected otherwise, go on behind
                    if copies < FEWEST or not self.worth(scope, items, first, period, copies):
                        break
                    alike = self.connected(items, first, period, copies)
                    if alike >= FEWEST and self.worth(scope, items, first, period, alike):
                        return scope, first, period, alike
                    first, copies = first + max(alike, 1) * period, copies - max(alike, 1)
            self.done.add(scope)
        return None

    def runs(self, items: list[tuple[str, int]]) -> list[tuple[int, int, int]]:
        """(first item, items in a copy, copies): from the front, the longest first."""
        codes = np.array([code for _, code in items])
        n = len(codes)
        found = []
        for period in range(1, min(LONGEST, n // FEWEST) + 1):
            equal = np.concatenate(([False], codes[:-period] == codes[period:], [False]))
            turns = np.flatnonzero(equal[1:] != equal[:-1])  # where a stretch starts and stops
            for start, stop in zip(turns[::2], turns[1::2], strict=True):
                if stop - start < (FEWEST - 1) * period or _repeats(codes[start : start + period]):
                    continue
                for first in range(start, min(start + period, stop)):
                    copies = (stop - first) // period + 1
                    if copies >= FEWEST:
                        found.append((int(first), period, int(copies)))
        return sorted(found, key=lambda run: (run[0], -run[1] * run[2], run[1]))

    def worth(
        self, scope: str | None, items: list[tuple[str, int]], first: int, period: int, copies: int
    ) -> bool:
        """Whether a run is more than a few ops in a row; of a large graph, a fair share."""
        count = len(self.trace.nodes)
        if count > LARGE and copies * len(self.copy_of(items, first, period, 0)) < count / 50:
            return False
        if self.everything:
            return True
        if any(i in self.scopes for i, _ in items[first : first + period]):
            return True
        if scope is not None and self.scopes[scope].kind == "op":
            return period >= 3 or copies > FEWEST
        return period >= 3

    def members(self, item: str) -> list[str]:
        """The ops in an item, in the order of the tape."""
        if item in self.nodes:
            return [item]
        found: list[str] = []
        stack = [item]
        while stack:
            top = stack.pop()
            if top in self.nodes:
                found.append(top)
            else:
                stack.extend(i for i, _ in reversed(self.items.get(top, ())))
        return found

    def copy_of(self, items: list[tuple[str, int]], first: int, period: int, j: int) -> list[str]:
        """The ops of copy ``j``."""
        start = first + j * period
        return [m for i, _ in items[start : start + period] for m in self.members(i)]

    def connected(self, items: list[tuple[str, int]], first: int, period: int, copies: int) -> int:
        """How many of the copies are connected alike."""
        before: list[Any] | None = None
        place: dict[str, tuple[int, int]] = {}
        for j in range(copies):
            ops = self.copy_of(items, first, period, j)
            place |= {op: (j, q) for q, op in enumerate(ops)}
            now = [self.link(e, j, place) for op in ops for e in self.into[op]]
            if before is not None and not all(
                _alike(a, b, second=j == 1) for a, b in zip(before, now, strict=True)
            ):
                place = {op: at for op, at in place.items() if at[0] < j}
                return self.left_alike(items, first, period, j, place)
            before = now
        return self.left_alike(items, first, period, copies, place)

    def left_alike(
        self,
        items: list[tuple[str, int]],
        first: int,
        period: int,
        copies: int,
        place: dict[str, tuple[int, int]],
    ) -> int:
        """How many of the copies give the same values to what stands behind them; the last may give
        more.
        """
        given = []
        for j in range(copies):
            ops = self.copy_of(items, first, period, j)
            given.append(
                Counter(
                    (q, self.code(e.target))
                    for q, op in enumerate(ops)
                    for e in self.out[op]
                    if e.target not in place and e.kind == "value"
                )
            )
        for j in range(1, copies):
            if given[j] != given[0]:
                return j + 1 if given[0] <= given[j] else j
        return copies

    def link(self, e: Edge, j: int, place: dict[str, tuple[int, int]]) -> tuple[Any, ...]:
        """Where a value comes from, as seen from copy ``j``."""
        source = self.nodes[e.source]
        if e.source in place:
            copy, q = place[e.source]
            return ("before" if copy < j else "own", q) if j - copy < 2 else ("far",)
        if source.kind in ("parameter", "buffer"):
            return source.kind, source.shape, source.frozen, e.source
        return "outside", e.source

    # ---- rolling it --------------------------------------------------------------------------

    def rolled(self, scope: str | None, first: int, period: int, copies: int) -> Trace:
        """The graph with a run shown once."""
        items = self.items[scope]
        ops = [self.copy_of(items, first, period, j) for j in range(copies)]
        into: dict[str, str] = {}  # every node that goes, and the one that stays for it
        step = {op: j for j, copy in enumerate(ops) for op in copy}
        for copy in ops[1:]:
            into |= dict(zip(copy, ops[0], strict=True))
        times = dict.fromkeys(ops[0], copies)
        self.own_leaves(ops, into, times)
        boxes = self.split(ops, into)
        self.joined(ops, step, into, times)

        nodes: list[Node] = []
        placed: set[str] = set()
        for n in self.trace.nodes:
            if n.id in boxes:
                if boxes[n.id].id not in placed:
                    placed.add(boxes[n.id].id)
                    nodes.append(boxes[n.id])
            elif n.id not in into:
                k = times.get(n.id, 1)
                alone = k > 1 and n.id not in ops[0]
                nodes.append(
                    replace(
                        n, ops=n.ops * k, parameters=n.parameters * k,
                        copies=n.copies * k if alone else n.copies,
                    )
                )  # fmt: skip
        edges = self.edges(step, into, boxes, copies, scope)
        stays, last = (self.scopes.get(items[first + i * period][0]) for i in (0, copies - 1))
        if period == 1 and stays and last and stays.path != last.path:
            edges = [e for e in edges if e.kind != "loop"]  # × n says it
        looped = {(e.target, e.argument) for e in edges if e.kind == "loop"}
        starts = {e.source for e in edges if (e.target, e.argument) in looped and e.kind == "value"}
        nodes = [
            replace(n, notes=[*n.notes, "at the first step"])
            if n.id in starts and not n.ops and n.kind != "parameter"
            else n
            for n in nodes
        ]
        scopes = self.frames(scope, items, first, period, copies)
        scopes, nodes = self.inner_frame(scope, items, first, period, copies, scopes, nodes)
        filled = {n.scope for n in nodes}
        for s in reversed(scopes):
            if s.id in filled:
                filled.add(s.parent)
        return replace(
            self.trace, nodes=nodes, edges=edges, scopes=[s for s in scopes if s.id in filled]
        )

    def own_leaves(self, ops: list[list[str]], into: dict[str, str], times: dict[str, int]) -> None:
        """Parameters, buffers and data that each copy has for itself go together, too."""
        for q in range(len(ops[0])):
            held = [self.beside(copy[q]) for copy in ops]
            for use in held[0]:
                leaves = [found.get(use, "") for found in held]
                if len(set(leaves)) < len(leaves) or "" in leaves:
                    continue
                if all(self.nodes[leaf].shape == self.nodes[leaves[0]].shape for leaf in leaves):
                    into |= dict.fromkeys(leaves[1:], leaves[0])
                    times[leaves[0]] = len(leaves)

    def beside(self, op: str) -> dict[tuple[str, int], str]:
        """The leaves of an op, by use: those it reads, those it changes."""
        used = [((e.argument, e.index), e.source) for e in self.into[op]]
        changed = [e.target for e in self.out[op] if e.kind in ("update", "detached")]
        uses = used + [(("changes", i), leaf) for i, leaf in enumerate(changed)]
        return {use: leaf for use, leaf in uses if not self.nodes[leaf].ops}

    def split(self, ops: list[list[str]], into: dict[str, str]) -> dict[str, Node]:
        """The views by which each copy gets its part of one value, as one box."""
        run = {op for copy in ops for op in copy}
        cluster: set[str] = set()
        entered = {
            e.source
            for copy in ops
            for op in copy
            for e in self.into[op]
            if e.source not in run and self.nodes[e.source].view
        }
        seen = set(entered)
        waiting = [(-self.place(view), view) for view in entered]
        heapify(waiting)
        while waiting:  # always the last on the tape: all that may use it has been looked at
            view = heappop(waiting)[1]
            used = (e.target for e in self.out[view])
            if not self.nodes[view].view or not all(u in run or u in cluster for u in used):
                continue
            cluster.add(view)
            for above in {e.source for e in self.into[view]} - seen:
                seen.add(above)
                heappush(waiting, (-self.place(above), above))
        if len(cluster) < FEWEST:
            return {}
        inside = [n for n in self.trace.nodes if n.id in cluster]
        last = next(n for n in reversed(inside) if n.id in entered)
        box = Node(
            f"{inside[0].id}_split", "op", "split", scope=inside[0].scope, shape=last.shape,
            dtype=last.dtype, view=True, ops=len(inside), copies=len(ops),
            notes=[f"a view for each of {len(ops)} copies"],
        )  # fmt: skip
        return dict.fromkeys((n.id for n in inside), box)

    def place(self, node: str) -> int:
        """Where a node stands on the tape."""
        if not hasattr(self, "places"):
            self.places = {n.id: i for i, n in enumerate(self.trace.nodes)}
        return self.places[node]

    def joined(
        self,
        ops: list[list[str]],
        step: dict[str, int],
        into: dict[str, str],
        times: dict[str, int],
    ) -> None:
        """The views of what each copy gives, where there is one for each."""
        for q, stays in enumerate(ops[0]):
            lists = [
                [e.target for e in self.out[copy[q]] if self.alone(e.target, step)] for copy in ops
            ]
            if any(len(found) != len(lists[0]) for found in lists):
                continue
            for views in zip(*lists, strict=True):
                codes = {self.code(v) for v in views}
                if len(set(views)) == len(views) and len(codes) == 1 and views[0] not in into:
                    into |= dict.fromkeys(views[1:], views[0])
                    times[views[0]] = len(views)
            del stays

    def alone(self, node: str, step: dict[str, int]) -> bool:
        """Whether a node is a view outside of the copies."""
        return self.nodes[node].view and node not in step

    def edges(
        self,
        step: dict[str, int],
        into: dict[str, str],
        boxes: dict[str, Node],
        copies: int,
        scope: str | None,
    ) -> list[Edge]:
        """Every edge between what remains; equal ones once; from copy to copy as loops."""

        def stays(node: str) -> str:
            return boxes[node].id if node in boxes else into.get(node, node)

        apart = {(into[e.source], e.target) for e in self.trace.edges if e.source in into}
        gathered = {(source, target) for source, target in apart if target not in into}
        found: dict[tuple[str, str, str, str], Edge] = {}
        loops: list[Edge] = []
        around = self.scopes.get(scope or "")
        for e in self.trace.edges:
            source, target = stays(e.source), stays(e.target)
            passed = e.source in step and e.target in step and step[e.source] < step[e.target]
            if source == target and (e.source in boxes or source != e.source) and not passed:
                continue  # inside a split
            kind = "loop" if passed else e.kind
            which = e.argument if e.target not in boxes else ""
            if e.target not in step and (source, e.target) in gathered:
                which = "each"  # one input for every copy: one arrow
            moved = (
                which == "each"
                or e.source in into
                or e.source in boxes
                or e.target in into
                or e.target in boxes
            )
            key = (source, target, which, kind)
            if not moved and not passed:
                found[(*key[:3], f"{kind}{e.index}")] = e
            elif key in found:
                found[key].copies += not (e.source in step and e.target in step)
            elif (*key[:3], f"{kind}{e.index}") in found:
                first = found[*key[:3], f"{kind}{e.index}"]
                inner = e.source in step and e.target in step  # each copy has its own
                found[key] = replace(first, copies=1 if inner else 2)
                found[*key[:3], f"{kind}{e.index}"] = found[key]
            else:
                found[key] = replace(e, source=source, target=target, kind=kind, copies=1)
        edges = list({id(e): e for e in found.values()}.values())
        from_: dict[str, list[Edge]] = defaultdict(list)
        for e in edges:
            if e.kind == "loop":
                from_[e.source].append(e)
        for same in from_.values():  # one loop for each value carried on
            name = ""
            if around is not None and around.cls in STATES:
                read = any(self.nodes[e.target].name == "linear" for e in same)
                name = "h" if read else STATES[around.cls]
            loops.append(replace(same[0], copies=copies, name=name, stretched=None))
        kept = [e for e in edges if e.kind != "loop"]
        uses: dict[str, int] = defaultdict(int)
        for e in kept:
            uses[e.source] += e.kind == "value"
        kept = [replace(e, uses=uses[e.source]) if e.kind == "value" else e for e in kept]
        return kept + loops

    def frames(
        self,
        scope: str | None,
        items: list[tuple[str, int]],
        first: int,
        period: int,
        copies: int,
    ) -> list[Scope]:
        """The frames that remain: where a copy is one module, its frame says how many there are."""
        stays, last = items[first][0], items[first + (copies - 1) * period][0]
        if period != 1 or stays not in self.scopes:
            return list(self.trace.scopes)
        a, b = self.scopes[stays], self.scopes[last]
        name = a.name if a.path == b.path else f"{a.name} … {b.name}"
        calls = {} if a.path != b.path else {"call": 1, "calls": 1}
        box = replace(a, name=name, copies=a.copies * copies, **calls)  # type: ignore[arg-type]
        return [box if s.id == stays else s for s in self.trace.scopes]

    def inner_frame(
        self,
        scope: str | None,
        items: list[tuple[str, int]],
        first: int,
        period: int,
        copies: int,
        scopes: list[Scope],
        nodes: list[Node],
    ) -> tuple[list[Scope], list[Node]]:
        """A frame of its own around a copy that is several things."""
        if period == 1:  # a module has its frame; one op says itself how many it stands for
            stays = items[first][0]
            nodes = [replace(n, copies=copies) if n.id == stays else n for n in nodes]
            return scopes, nodes
        held = {i for i, _ in items[first : first + period]}
        outer = self.scopes.get(scope or "")
        frame = Scope(
            f"{items[first][0]}_steps", "steps" if outer and outer.cls in STATES else "repeated",
            "" if outer is None else outer.path, "", "", "" if outer is None else outer.mode,
            parent=scope, kind="steps", copies=copies,
        )  # fmt: skip
        leaves = {leaf for i in held if i in self.nodes for leaf in self.beside(i).values()}
        inside = [
            replace(n, scope=frame.id)
            if n.id in held or (n.id in leaves and n.scope == scope)
            else n
            for n in nodes
        ]
        found: list[Scope] = []
        for s in scopes:
            if s.id in held and frame not in found:
                found.append(frame)
            found.append(replace(s, parent=frame.id) if s.id in held else s)
        if frame not in found:
            found.append(frame)
        self.done.add(frame.id)
        return found, inside


def _repeats(codes: Any) -> bool:
    """Whether a copy is itself several copies of something shorter."""
    n = len(codes)
    return any(n % p == 0 and (codes[p:] == codes[:-p]).all() for p in range(1, n // 2 + 1))


def _alike(a: tuple[Any, ...], b: tuple[Any, ...], second: bool) -> bool:
    """Whether two copies in a row get a value in the same way.

    The first copy may get from outside what the others get from the copy before.
    """
    if a[0] == b[0] == "outside":
        return True
    if a[0] in ("parameter", "buffer") and a[0] == b[0]:
        return bool(a[1:3] == b[1:3])
    if second and b[0] == "before":
        return a[0] not in ("own", "far")
    return a == b and a[0] != "far"
