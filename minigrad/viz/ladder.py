"""Forward and backward as a ladder: two rails, what is saved as the rungs, modules as bands.

Every op has a row of its own, in the order of the tape: its leaves, the op, its vjp, the gradients
of its leaves. The forward rail is read downwards, the backward rail upwards.
"""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap
from typing import ClassVar

import graphviz  # type: ignore[import-untyped]

from minigrad.viz.backward import summed
from minigrad.viz.dot import SIGNS, WIDE, Writer, tooltip
from minigrad.viz.style import THEMES, Theme
from minigrad.viz.text import counted, memory, norm
from minigrad.viz.trace import Edge, Node, Trace

WIDTH = 46  #: characters in a line of a formula
#: Beside the rails, arrows that skip more rows than this in all become numbers (dot.TANGLED).
SKIPPED = 60
STRAIGHT = "100"  #: weight of the arrows along a rail


def write(
    trace: Trace,
    title: str,
    *,
    theme: str | Theme = "light",
    direction: str = "TB",
    dpi: int | None = None,
    links: bool = False,
    alone: bool = False,
    skipped: int = SKIPPED,
) -> str:
    """An extended graph (backward.extend) as DOT text; with ``alone``, its backward graph."""
    writer = Backward if alone else Ladder
    written = writer(trace, THEMES[theme] if isinstance(theme, str) else theme, direction, skipped)
    written.links = links
    return written.write(title, dpi)


class Ladder(Writer):
    """Writes a graph with its backward graph."""

    abreast = False
    repeat = 1
    # dot's last pass over all frames at once forgets who stands at whose left (2.43).
    settings: ClassVar[dict[str, str]] = {"remincross": "false"}
    width = 150

    def __init__(self, trace: Trace, theme: Theme, direction: str, skipped: int) -> None:
        self.tangled = skipped
        super().__init__(trace, theme, direction)
        of: dict[str, dict[str, Node]] = {
            kind: {n.of: n for n in trace.nodes if n.kind == kind and n.of is not None}
            for kind in ("vjp", "sum", "gradient", "seed", "stop")
        }
        self.vjps, self.sums, self.gradients = of["vjp"], of["sum"], of["gradient"]
        self.seeds, self.stops = of["seed"], of["stop"]
        self.ops = [n for n in trace.nodes if n.id in self.vjps]
        self.outputs = [n for n in trace.nodes if n.kind == "output"]
        self.data = [  # what stands above the first op
            n
            for n in trace.nodes
            if n.of is None and not n.ops and n.kind != "output" and n.id not in self.stack_of
        ]
        self.rails = self.find_rails()
        self.straight = {pair for rail in self.rails for pair in pairwise(rail)}
        self.on_rail = {  # of several arrows between the same two boxes, one
            ends: id(e)
            for e in reversed(trace.edges)
            for ends in ((e.source, e.target), (e.target, e.source))
            if ends in self.straight
        }
        self.into: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        self.out_of: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        for e in trace.edges:
            if e.kind == "gradient":
                self.into[e.target].append(e)
                self.out_of[e.source].append(e)
        self.ends_of = {  # by gradient of a leaf, the op that it stands beside
            self.gradients[leaf].id: op
            for leaf, op in self.stack_of.items()
            if leaf in self.gradients
        }

    def find_rails(self) -> tuple[list[str], list[str]]:
        """What stands on the forward rail and on the backward rail, from the top."""
        forward = [n.id for n in [*self.data[:1], *self.ops, *self.outputs]]
        backward = []
        for n in self.data[:1]:
            end = self.gradients.get(n.id) or self.stops.get(n.id)
            backward += [] if end is None else [end.id]
        for op in self.ops:
            backward.append(self.vjps[op.id].id)
            backward += [self.sums[op.id].id] if op.id in self.sums else []
        return forward, backward + [self.seeds[n.id].id for n in self.outputs]

    # ---- rows --------------------------------------------------------------------------------

    def boxes(self, body: graphviz.Digraph, frames: dict[str, graphviz.Digraph]) -> None:
        """Data at the top, a row for each op, outputs and seeds at the bottom."""
        for leaf in self.data:
            self.pair(body, leaf, self.gradients.get(leaf.id) or self.stops.get(leaf.id))
        for op in self.ops:
            self.row(frames.get(op.scope or "", body), op)
        self.joins(body, frames)
        for output in self.outputs:
            self.pair(body, output, self.seeds[output.id])
        for op, below in pairwise([] if self.scopes else self.ops):  # else it may change sides
            body.edge(f"{op.id}_leaves", f"{below.id}_leaves", style="invis", weight="0")
        drawn = {
            (e.source, e.target) if e.kind == "value" else (e.target, e.source)
            for e in self.trace.edges
            if (e.source, e.target) not in self.cuts
        }
        for upper, lower in sorted(self.straight - drawn):
            body.edge(upper, lower, style="invis", weight=STRAIGHT)

    def joins(self, body: graphviz.Digraph, frames: dict[str, graphviz.Digraph]) -> None:
        """A + where the gradients of a value that is used more than once add."""
        for op, join in self.sums.items():
            around = self.common(self.nodes[op])
            frames.get(around or "", body).node(join.id, **self.box_style(join))

    def pair(self, body: graphviz.Digraph, left: Node, right: Node | None) -> None:
        """Two boxes side by side."""
        with body.subgraph() as rank:
            rank.attr(rank="same")
            rank.node(left.id, **self.box_style(left))
            if right is not None:
                rank.node(right.id, **self.box_style(right))

    def row(self, frame: graphviz.Digraph, op: Node) -> None:
        """An op with its leaves, its vjp and their gradients."""
        vjp, stack = self.vjps[op.id], self.stacks.get(op.id, [])
        ends = [self.gradients[leaf.id] for leaf in stack if leaf.id in self.gradients]
        left, right = f"{op.id}_leaves", f"{op.id}_ends"
        with frame.subgraph() as rank:
            rank.attr(rank="same")
            # At the very left nothing, but wide: the arrow from above keeps off the frame's title.
            wide = max((len(f"{n.name}{n.shape}") for n in stack), default=-4)
            room = self.lead(op, WIDE * (wide + 4))
            if not stack or float(room) > 0.7:
                nothing = f"{op.id}_nothing" if stack else left
                rank.node(nothing, style="invis", label="", width=room, height="0.1")
            if stack:
                rank.node(left, shape="plain", label=self.stack(stack))
            rank.node(op.id, **self.box_style(op))
            rank.node(vjp.id, **self.box_style(vjp))
            if ends:
                rank.node(right, shape="plain", label=self.stack(ends))
        if stack and float(room) > 0.7:
            frame.edge(nothing, left, style="invis")
        frame.edge(left, op.id, **(self.beside(stack) if stack else {"style": "invis"}))
        frame.edge(op.id, vjp.id, **self.rung(op))
        if ends:
            frame.edge(vjp.id, right, **self.dashed())

    def common(self, op: Node) -> str | None:
        """The innermost frame around an op and all that use its value."""
        chains = [
            self.chain(op.scope),
            *(self.chain(self.nodes[e.target].scope) for e in self.uses_of[op.id]),
        ]
        shared = [s for s in chains[0] if all(s in chain for chain in chains)]
        return shared[0] if shared else None

    def chain(self, scope: str | None) -> list[str]:
        """A frame and those around it, from the inside out."""
        found: list[str] = []
        while scope is not None and scope in self.scopes:
            found.append(scope)
            scope = self.scopes[scope].parent
        return found

    # ---- boxes -------------------------------------------------------------------------------

    def box_style(self, node: Node) -> dict[str, str]:
        """As in the forward graph; and what only a ladder has."""
        line = self.theme.line["gradient"]
        if node.of is None:
            style = super().box_style(node)
        elif node.kind == "stop":
            text = self.font(node.name, 9, self.theme.muted)
            style = {"id": node.id, "shape": "plaintext", "label": f"<{text}>"}
        elif node.kind == "sum":
            self.marks.add("join")
            style = {
                "id": node.id, "shape": "circle", "style": "filled", "margin": "0",
                "width": "0.22", "height": "0.22", "fixedsize": "true", "penwidth": "1.3",
                "fillcolor": self.theme.fill["gradient"], "color": line,
                "label": f"<{self.font('+', 12, line, bold=True)}>",
                "tooltip": "gradients add",
            }  # fmt: skip
        else:
            self.marks.add("gradient")
            seed = node.kind == "seed"
            style = {
                "id": node.id,
                "shape": "box",
                "style": "rounded,dashed" if seed else "rounded,filled",
                "color": line,
                "penwidth": "1.3",
                "tooltip": tooltip(node),
            }
            style |= {} if seed else {"fillcolor": self.theme.fill["gradient"]}
            style["label"] = self.vjp_label(node) if node.ops else self.leaf_label(node)
        style.pop("group", None)
        for name, rail in zip(("forward", "backward"), self.rails, strict=True):
            if node.id in rail:
                style["group"] = name
        return style

    def leaf_label(self, node: Node) -> str:
        """Data and output as in the forward graph; a gradient with its norm; a seed."""
        if node.of is None:
            return super().leaf_label(node)
        line = self.theme.line["gradient"]
        if node.kind == "seed":
            return f"<{self.font('seed  ', 11, line)}{self.font(node.name, 11, line, mono=True)}>"
        said = self.font(node.name, 13, bold=True) + self.shape(node)
        notes = [*node.notes, *self.norm(node)]
        rows = [said, *(self.font(n, 9, line) for n in notes)]
        return f"<{self.column(rows)}>"

    def vjp_label(self, node: Node) -> str:
        """Name and formula."""
        line = self.theme.line["gradient"]
        rows = [self.font(node.name, 13, line, bold=True)]
        if node.of in self.cut_off:
            number = f"  {self.numbers[node.of]}′"
            rows[0] += self.font(number, 10, self.theme.mark, mono=True)
        rows += [self.font(said, 10, mono=True) for said in packed(node.formula)]
        along = {
            ends
            for e in self.into[node.id]
            for ends in ((e.source, e.target), (e.target, e.source))
        }
        if not along & self.on_rail.keys():
            said = norm(node.gradient, node.shape)
            rows += [self.font(line, 9, self.theme.muted) for line in said]
        for e in self.out_of[node.id]:
            if self.cut(e):
                goes = f"d{e.argument} goes to {self.numbers[self.of(e.target)]}′"
                rows.append(self.font(goes, 9, self.theme.muted))
            if (e.target, node.id) not in self.straight and e.target not in self.ends_of:
                said = [f"d{e.argument}: {axes}" for axes in added(e)]
                rows += [self.font(line, 9, self.theme.muted) for line in said]
        rows += self.warned(node.gradient)
        return f"<{self.warmed(node, rows)}>"

    # ---- arrows ------------------------------------------------------------------------------

    def arrow(self, graph: graphviz.Digraph, e: Edge) -> None:
        """A use of a value, a gradient on its way, or the call of backward()."""
        if e.kind == "gradient":
            self.flow(graph, e)
        elif e.kind == "call":
            text = self.font(".backward()", 10, self.theme.line["gradient"], mono=True)
            graph.edge(e.source, e.target, label=f"<{text}>", **self.dashed())
        elif e.kind == "stop":
            self.stop(graph, e)
        elif e.kind != "saved":
            super().arrow(graph, e)

    def norm(self, node: Node) -> list[str]:
        """The norm of a leaf's gradient; 0 if it is lost beside what arrived at its ops."""
        if node.kind != "gradient":
            return []
        arrived = [self.nodes[e.source].gradient for e in self.into[node.id]]
        return norm(node.gradient, node.shape, max((g["norm"] for g in arrived if g), default=0.0))

    def uses(self, node: Node) -> list[str]:
        """How the ops use a leaf; how the shares of its gradient come together."""
        said = super().uses(node)
        if node.kind == "gradient":
            said += dict.fromkeys(axes for e in self.into[node.id] for axes in added(e))
        return said

    def pull(self, e: Edge) -> dict[str, str]:
        """Rails are straight; what skips a row gives way to them."""
        straight = self.on_rail.get((e.source, e.target)) == id(e)
        return {"weight": STRAIGHT} if straight else {"weight": "1"}

    def labelled(self, e: Edge) -> bool:
        """A value shows its shape on the rail; one that leaves it, in its box."""
        source = self.nodes[e.source]
        straight = self.on_rail.get((e.source, e.target)) == id(e)
        return straight and bool(source.ops or e.stretched)

    def off(self, node: Node) -> list[str]:
        """What values that come from off the rail are broadcast to."""
        said = [
            f"{e.argument} {SIGNS['stretched']} {e.stretched}"
            for e in self.sources[node.id]
            if e.stretched is not None
            and (e.source, node.id) not in self.straight
            and self.nodes[e.source] not in self.stacks.get(node.id, ())
        ]
        self.marks |= {"stretched"} if said else set()
        return said

    def told(self, node: Node) -> bool:
        """Whether nothing goes straight on from an op."""
        return not any((e.source, e.target) in self.straight for e in self.uses_of[node.id])

    def flow(self, graph: graphviz.Digraph, e: Edge) -> None:
        """A gradient, written from the upper end to the lower one."""
        upper, lower = e.target, e.source
        if self.in_row(e) or self.cut(e):
            return
        beside = self.ends_of.get(upper)
        style = self.dashed()
        straight = self.on_rail.get((upper, lower)) == id(e)
        style["weight"] = STRAIGHT if straight else "1"
        text = self.flow_text(e)
        if text and straight:
            style["label"] = f"<{text}>"
        tail = f"{beside}_ends:{upper}" if beside is not None else upper
        graph.edge(tail, lower, dir="back", **style)

    def cut(self, e: Edge) -> bool:
        """Whether the arrow of the value was left out, and so that of its gradient."""
        return (self.of(e.target), self.of(e.source)) in self.cuts

    def of(self, node: str) -> str:
        """The node of the forward graph that one of the backward graph belongs to."""
        return self.nodes[node].of or ""

    def in_row(self, e: Edge) -> bool:
        """Whether a gradient goes to a leaf that stands beside its op: drawn with the row."""
        leaf, op = self.nodes[e.target].of, self.nodes[e.source].of
        return any(n.id == leaf for n in self.stacks.get(op or "", ()))

    def flow_text(self, e: Edge) -> str:
        """Shape and norm of a gradient, and the axes over which it is summed."""
        line = self.theme.line["gradient"]
        if self.nodes[e.source].kind == "sum":
            return ""
        text = self.font(f"  {'' if e.shape is None else e.shape}", 10, line, mono=True)
        for said in added(e):
            text += self.font(f" {said}", 10, line, mono=True)
        for said in norm(e.gradient, e.shape):
            text += self.font(f"  {said}  ", 9, self.theme.muted)
        return text

    def stop(self, graph: graphviz.Digraph, e: Edge) -> None:
        """Where no gradient goes on."""
        if (e.target, e.source) in self.straight:
            style = {"style": "dotted", "color": self.theme.muted, "arrowhead": "none"}
            graph.edge(e.target, e.source, weight=STRAIGHT, penwidth="1", **style)

    def dashed(self) -> dict[str, str]:
        """The look of a gradient's arrow."""
        self.marks.add("flow")
        return {"color": self.theme.line["gradient"], "style": "dashed", "penwidth": "1.5"}

    def kept(self, op: Node) -> list[str]:
        """What an op saves, by name, and how much that is."""
        sizes = [s.bytes for s in op.saved if s.bytes is not None]
        names = dict.fromkeys(s.symbol for s in op.saved)
        said = f"saved  {', '.join(names) if op.kind == 'op' else counted(len(op.saved), 'array')}"
        return [said, memory(sum(sizes))] if len(sizes) == len(op.saved) else [said]

    def rung(self, op: Node) -> dict[str, str]:
        """What an op saves for its vjp."""
        if not op.saved:
            return {"style": "invis", "minlen": "2"}
        self.marks.add("rung")
        rows = [self.font(said, 9, self.theme.mark) for said in self.kept(op)]
        return {
            "label": f"<{'<BR/>'.join(rows)}>",
            "color": self.theme.mark,
            "style": "dotted",
            "penwidth": "1.6",
            "arrowhead": "dot",
            "arrowsize": "0.6",
        }


class Backward(Ladder):
    """Writes the backward graph alone, from the seeds down to the gradients of the leaves."""

    width = 80

    def find_rails(self) -> tuple[list[str], list[str]]:
        """One rail, in the order of the sweep."""
        upwards = super().find_rails()[1]
        return [], upwards[::-1]

    def boxes(self, body: graphviz.Digraph, frames: dict[str, graphviz.Digraph]) -> None:
        """Seeds, a row for each vjp, and the gradients of what stood above the graph."""
        for seed in self.seeds.values():
            body.node(seed.id, **self.box_style(seed))
        for op in reversed(self.ops):
            self.row(frames.get(op.scope or "", body), op)
        self.joins(body, frames)
        for leaf in self.data:
            if end := self.gradients.get(leaf.id) or self.stops.get(leaf.id):
                body.node(end.id, **self.box_style(end))
        drawn = {(e.source, e.target) for e in self.trace.edges if e.kind in ("gradient", "stop")}
        for upper, lower in sorted(self.straight - drawn):
            body.edge(upper, lower, style="invis", weight=STRAIGHT)

    def row(self, frame: graphviz.Digraph, op: Node) -> None:
        """A vjp and the gradients of its leaves."""
        vjp, stack = self.vjps[op.id], self.stacks.get(op.id, [])
        ends = [self.gradients[leaf.id] for leaf in stack if leaf.id in self.gradients]
        with frame.subgraph() as rank:
            rank.attr(rank="same")
            rank.node(
                f"{op.id}_nothing", style="invis", label="", width=self.lead(op), height="0.1"
            )
            rank.node(vjp.id, **self.box_style(vjp))
            if ends:
                rank.node(f"{op.id}_ends", shape="plain", label=self.stack(ends))
        frame.edge(f"{op.id}_nothing", vjp.id, style="invis")
        if ends:
            frame.edge(vjp.id, f"{op.id}_ends", **self.dashed())

    def vjp_label(self, node: Node) -> str:
        """Also what was saved for it."""
        label = super().vjp_label(node)
        op = self.nodes[node.of or ""]
        if not op.saved:
            return label
        self.marks.add("rung")
        said = self.font(f"● {'   '.join(self.kept(op))}", 9, self.theme.mark)
        return label.replace("</TABLE>>", f'<TR><TD ALIGN="LEFT">{said}</TD></TR></TABLE>>')

    def arrow(self, graph: graphviz.Digraph, e: Edge) -> None:
        """A gradient on its way."""
        if e.kind in ("gradient", "stop"):
            super().arrow(graph, e)

    def flow(self, graph: graphviz.Digraph, e: Edge) -> None:
        """From what it comes to what it goes to."""
        if self.in_row(e) or self.cut(e):
            return
        style = self.dashed()
        if self.on_rail.get((e.source, e.target)) == id(e):
            style["weight"] = STRAIGHT
            if text := self.flow_text(e):
                style["label"] = f"<{text}>"
        beside = self.ends_of.get(e.target)
        graph.edge(e.source, f"{beside}_ends:{e.target}" if beside else e.target, **style)

    def stop(self, graph: graphviz.Digraph, e: Edge) -> None:
        """Where no gradient goes on."""
        if (e.source, e.target) in self.straight:
            style = {"style": "dotted", "color": self.theme.muted, "arrowhead": "none"}
            graph.edge(e.source, e.target, weight=STRAIGHT, penwidth="1", **style)


def added(e: Edge) -> list[str]:
    """The axes over which the gradient of a broadcast value is summed."""
    axes = summed(e.shape, e.stretched)
    return [f"Σ axis {axes[0]}" if len(axes) == 1 else f"Σ axes {axes}"] if axes else []


def packed(formula: str) -> list[str]:
    """The parts of a formula, as many in a line as fit."""
    lines: list[str] = []
    whole = False  # whether the last line may take another part
    for part in formula.split(",  "):
        if whole and len(lines[-1]) + len(part) + 3 <= WIDTH:
            lines[-1] += f"   {part}"
        else:
            lines += wrap(part, WIDTH)
            whole = len(part) <= WIDTH
    return lines
