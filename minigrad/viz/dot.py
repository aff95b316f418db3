"""A graph's data as DOT, the language of Graphviz.

The text depends on the data alone: the same graph gives the same bytes. Names come from users and
may hold anything; ``escaped`` lets only what Graphviz can show into a label.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from textwrap import wrap
from typing import Any, ClassVar

import graphviz  # type: ignore[import-untyped]

from minigrad.viz import heat
from minigrad.viz.style import MONO, SANS, THEMES, Theme
from minigrad.viz.text import (
    SIGN,
    broken,
    counted,
    headline,
    modules,
    numbered,
    short,
    size,
    spread,
    zeros,
)
from minigrad.viz.trace import Edge, Node, Scope, Trace

#: What the legend says of each mark, in this order.
LEGEND = {
    "input": "data",
    "op": "operation",
    "reduces": "reduces over axes",
    "view": "view: same memory",
    "module": "closed module",
    "hidden": "left out",
    "parameter": "parameter",
    "frozen": "frozen parameter",
    "buffer": "buffer, no gradient",
    "output": "output",
    "gradient": "backward op, gradient",
    "value": "value",
    "flow": "gradient, dz = ∂loss/∂z",
    "rung": "saved for backward",
    "join": "gradients add",
    "fused": "fused: one kernel",
    "shared": "used more than once, gradients add",
    "stretched": "broadcast",
    "alert": "another floating dtype",
    "cut": "value of that number, its arrow left out",
    "finding": "finding",
    "lost": "not finite",
    "vjp": "its gradient, dz = ∂loss/∂z",
    "keeps": "kept for backward",
    "detached": "no gradient",
    "loop": "goes to the next copy",
    "copies": "equal copies, shown once",
    "failed": "where it failed",
    "removed": "only in the first",
    "added": "only in the second",
    "changed": "in both, with other settings",
}
SIGNS = {
    "value": "─▶",
    "flow": "╌▶",
    "rung": "···●",
    "join": "+",
    "fused": "⊞",
    "shared": "━▶",
    "stretched": "⇒",
    "alert": "float",
    "cut": "%1",
    "finding": SIGN,
    "lost": "━▶",
    "vjp": "dx",
    "keeps": "●",
    "detached": "┄▶",
    "loop": "↻",
    "copies": "× n",
    "failed": "✗",
    "removed": "−",
    "added": "+",
    "changed": "≠",
}
WIDE = 0.085  #: inches that a character takes up, roughly
LIMIT = 60  #: characters of a name that are shown
SAMPLE = 9  #: characters that the sample of a mark takes up

#: The line that a box with its vjp leaves blank, for the size of a value or gradient: characters.
BLANK = 14
FEW_LINES = 12  #: of an error's message

#: A leaf with more uses than this stands beside each op that uses it: arrows would hide the graph.
REPEAT = 3

#: With more boxes than this, Graphviz stops improving places early: 400 boxes of a random graph
#: take 1.8 s instead of 15 and more, and look alike.
MANY = 150

#: An arrow costs Graphviz time for every rank it crosses, and its reader attention. Where they
#: cross more than this in all, the longest are left out, their ends numbered. 2000 take a second.
TANGLED = 2000


def write(
    trace: Trace,
    title: str,
    *,
    theme: str | Theme = "light",
    direction: str = "TB",
    dpi: int | None = None,
    links: bool = False,
    vjps: bool = False,
) -> str:
    """The graph as DOT text.

    With ``links``, the leaves of a stack have addresses, by which SVG tells them apart; with
    ``vjps``, boxes say how they pass the gradient on, and have a blank line to write into.
    """
    writer = Writer(trace, THEMES[theme] if isinstance(theme, str) else theme, direction)
    writer.links, writer.formulas = links, vjps
    return writer.write(title, dpi)


class Writer:
    """Writes one graph: ops in the frames of their modules, leaves at the left of their op."""

    links = formulas = False  #: see ``write``: addresses, and vjps in the boxes
    tangled = TANGLED
    repeat = REPEAT  # of parameters and buffers
    settings: ClassVar[dict[str, str]] = {}  # of Graphviz, beside those of every picture
    abreast = True  # whether all data that enters first stands above the graph, or one alone
    width = 80  # of the legend, in characters

    def __init__(self, trace: Trace, theme: Theme, direction: str) -> None:
        self.trace, self.theme, self.direction = trace, theme, direction
        self.nodes = {n.id: n for n in trace.nodes}
        self.scopes = {s.id: s for s in trace.scopes if s.id != trace.root}
        self.uses_of: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        self.sources: dict[str, list[Edge]] = {n.id: [] for n in trace.nodes}
        for e in trace.edges:
            if e.kind == "value":
                self.uses_of[e.source].append(e)
                self.sources[e.target].append(e)
        self.opened: set[str | None] = {None} if trace.facts.said else set()
        for s in trace.scopes:
            if s.kind in ("op", "group") or (s.kind == "steps" and s.parent in self.opened):
                self.opened.add(s.id)
        self.stacks = self.find_stacks()
        self.stack_of = {
            leaf.id: op for op, leaves in reversed(self.stacks.items()) for leaf in leaves
        }
        self.trunk = self.find_trunk()
        self.cuts = self.find_cuts()
        self.numbers = numbered(trace)
        self.between = {(e.source, e.target): e for e in reversed(trace.edges)}
        self.cut_off = {source for source, _ in self.cuts}
        self.heat = heat.of(trace)
        self.marks: set[str] = set()  # those in the picture; the legend explains no others

    def write(self, title: str, dpi: int | None) -> str:
        """Boxes, frames from the inside out, arrows; at last the head, which knows the marks."""
        body = graphviz.Digraph()
        frames = {i: graphviz.Digraph(f"cluster_{i}") for i in self.scopes}
        self.boxes(body, frames)
        for scope in sorted(self.scopes.values(), key=self.depth, reverse=True):
            frame = frames[scope.id]
            frame.attr(**self.frame_style(scope))
            for rank in self.level(scope):
                frame.body.append(f"\t{{rank=same; {'; '.join(rank)}}}\n")
            frames.get(scope.parent or "", body).subgraph(self.stacked(frame, scope))
        for e in self.trace.edges:
            self.arrow(body, e)

        theme = self.theme
        graph = graphviz.Digraph("minigrad")
        graph.attr(
            "graph",
            rankdir=self.direction,
            bgcolor=theme.page,
            fontname=SANS,
            newrank="true",  # ranks reach across frames, so that a stack stands beside its op
            **self.settings,
            nodesep="0.4",
            ranksep="0.45",
            pad="0.25",
            labelloc="t",
            labeljust="l",
            label=self.head(title),
            **({} if dpi is None else {"dpi": str(dpi)}),
            **({"nslimit": "2", "nslimit1": "2"} if len(self.trace.nodes) > MANY else {}),
        )
        graph.attr("node", fontname=SANS, fontcolor=theme.text, margin="0.1,0.05")
        graph.attr("edge", fontname=SANS, arrowsize="0.8", color=theme.line["op"])
        graph.body += body.body
        return str(graph.source)

    # ---- where things stand ------------------------------------------------------------------

    def find_stacks(self) -> dict[str, list[Node]]:
        """By op, the leaves that stand beside it: those it is the first to use.

        Data that enters where nothing was computed yet stands above: the graph starts there.
        """
        ready = {  # views of leaves: nothing is computed there
            n.id
            for n in self.trace.nodes
            if n.view and not any(self.nodes[e.source].ops for e in self.sources[n.id])
        }
        computed = {
            e.target
            for e in self.trace.edges
            if self.nodes[e.source].ops and not (e.name and e.source in ready)
        }
        stacks: dict[str, list[Node]] = {}
        placed: set[str] = set()
        for e in self.trace.edges:
            if e.kind not in ("value", "update"):
                continue
            leaf, op = (e.target, e.source) if e.kind == "update" else (e.source, e.target)
            node = self.nodes[leaf]
            many = e.uses > (REPEAT if node.kind == "input" else self.repeat)
            if node.ops or node.kind == "output" or (leaf in placed and not many):
                continue
            first = not placed
            placed.add(leaf)
            if node.kind != "input" or op in computed or many or not (first or self.abreast):
                stack = stacks.setdefault(op, [])
                if node not in stack:
                    stack.append(node)
        return stacks

    def find_trunk(self) -> dict[str, str]:
        """The path from the first output back along first inputs, drawn straight: each of its nodes
        with the one before.
        """
        trunk: dict[str, str] = {}
        length: dict[str, int] = {}  # of the longest way from data; 0 where there is none
        for n in self.trace.nodes:
            before = max((length.get(e.source, 0) for e in self.sources[n.id]), default=0)
            length[n.id] = before + 1 if before or n.kind == "input" else 0
        ends = [n.id for n in self.trace.nodes if n.kind == "output"]
        node = next(iter(ends), self.trace.nodes[-1].id)  # without output: where it failed
        while node not in trunk:
            sources = [e.source for e in self.sources[node] if e.source not in self.stack_of]
            if self.nodes[node].scope in self.opened:  # all its primitives in one line
                sources.sort(key=lambda source: -length[source])
            trunk[node] = sources[0] if sources else ""
            node = trunk[node] or node
        return trunk

    def find_cuts(self) -> set[tuple[str, str]]:
        """Source and target of the arrows to leave out: the longest, where there are too many."""
        place = {n.id: i for i, n in enumerate(n for n in self.trace.nodes if n.ops)}
        long = []
        for e in self.trace.edges:
            if e.kind == "value" and e.source in place and e.target in place:
                long.append((place[e.target] - place[e.source] - 1, e.source, e.target))
        long.sort()
        crossed = sum(length for length, _, _ in long)
        cuts = set()
        while crossed > self.tangled:
            length, *ends = long.pop()
            crossed -= length
            cuts.add((ends[0], ends[1]))
        return cuts

    def level(self, scope: Scope) -> list[list[str]]:
        """The boxes of an opened op that stand at one height: the buffers it moves; a view of a
        parameter, and what uses it.
        """
        if scope.id not in self.opened or self.trace.facts.backward:
            return []
        here = [n for n in self.trace.nodes if n.scope == scope.id]
        moved = [n.id for n in here if n.updates]
        ranks = [moved] if moved else []
        for n in here:
            leaves = all(not self.nodes[e.source].ops for e in self.sources[n.id])
            users = [e.target for e in self.uses_of[n.id]]
            if not (n.view and leaves and self.direction == "TB" and len(users) == 1):
                continue
            if self.nodes[users[0]].scope == scope.id:
                ranks.append([n.id, users[0]])
        return ranks

    def depth(self, scope: Scope) -> int:
        """How many frames stand around a frame."""
        depth, outer = 0, scope.parent
        while outer in self.scopes:
            depth, outer = depth + 1, self.scopes[outer].parent
        return depth

    def inside(self, node: Node) -> list[Scope]:
        """The frame around a node, if any."""
        return modules(node, self.scopes)[-1:]

    # ---- boxes -------------------------------------------------------------------------------

    def boxes(self, body: graphviz.Digraph, frames: dict[str, graphviz.Digraph]) -> None:
        """Every node, in its frame."""
        for node in self.trace.nodes:
            if node.id not in self.stack_of:
                around = node.scope if node.ops or node.updates else None  # data is from outside
                self.box(frames.get(around or "", body), node)

    def box(self, frame: graphviz.Digraph, node: Node) -> None:
        """A node, and at its left its stack of leaves."""
        stack = self.stacks.get(node.id, [])
        beside = f"{node.id}_leaves"
        if stack:
            left = {"shape": "plain", "label": self.stack(stack)}
            arrow = self.beside(stack)
        elif self.direction == "TB" and not frame.body and node.scope in self.scopes:
            # Nothing at all, but wide: the arrow that enters the frame keeps off its title.
            left = {"style": "invis", "label": "", "width": self.lead(node), "height": "0.1"}
            arrow = {"style": "invis"}
        else:
            frame.node(node.id, **self.box_style(node))
            return
        with frame.subgraph() as rank:
            rank.attr(rank="same")
            rank.node(beside, **left)
            rank.node(node.id, **self.box_style(node))
        frame.edge(beside, node.id, **arrow)

    def norm(self, node: Node) -> list[str]:
        """The size of a leaf's gradient, where gradients are drawn."""
        return []

    def beside(self, stack: list[Node]) -> dict[str, str]:
        """The arrow from a stack to its op."""
        arrow = {"color": self.theme.line[look(stack[0])], "penwidth": "1.4"}
        if not any(self.uses_of[leaf.id] for leaf in stack):
            arrow.update(dir="back", style="dashed")  # the op changes them, and reads none
        return arrow

    def lead(self, op: Node, beside: float = 0.0) -> str:
        """How much room to leave at the left of an op, in inches, for the title of its frame.

        ``beside`` is what stands there already. Half the op's box helps, too.
        """
        scope = self.scopes.get(op.scope or "")
        title = "" if scope is None else scope.label[:LIMIT] + self.said(scope)[:LIMIT]
        lines = [line for part in op.formula.split(",  ") for line in wrap(part[:LIMIT], 40)]
        half = WIDE * max(map(len, [op.name[:LIMIT] + "     ", *lines])) / 2
        return f"{max(0.7, WIDE * len(title) - beside - half - 0.2):.1f}"

    def box_style(self, node: Node) -> dict[str, str]:
        """Graphviz' attributes of a box of its own."""
        kind = look(node)
        self.marks.add(kind)
        style = {
            "id": node.id,
            "shape": "box",
            "style": "rounded,filled",
            "fillcolor": self.theme.fill["op" if kind == "hidden" else kind],
            "color": self.theme.line["op" if node.ops and kind != "gradient" else kind],
            "penwidth": "1.3",
            "label": self.op_label(node) if node.ops else self.leaf_label(node),
            "tooltip": tooltip(node),
        }
        if kind == "hidden":
            style["style"] = "rounded,filled,dashed"
        if node.change:
            self.marks.add(node.change)
            changes = {
                "removed": {"style": "rounded,filled,dotted", "color": self.theme.muted},
                "added": {"color": self.theme.line["output"], "penwidth": "3.2"},
                "changed": {"color": self.theme.mark, "penwidth": "2.4"},
            }
            style.update(changes[node.change])
        if node.failed:
            self.marks.add("failed")
            style.update(color=self.theme.alert, penwidth="3")
        if node.copies > 1 and node.ops:
            self.marks.add("copies")
            style["peripheries"] = "3"
        if kind == "buffer":
            style["style"] = "rounded,filled,dashed"
        if node.reduces:
            self.marks.add("reduces")
            style.update(style="filled", penwidth="2.4")
        if node.view:
            self.marks.add("view")
            style["peripheries"] = "2"
        if node.ring:
            style.update(color=self.theme.alert, penwidth="4")
        if node.id in self.trunk:
            style["group"] = "trunk"
        return style

    def op_label(self, node: Node) -> str:
        """Name, formula, and what is unusual."""
        theme = self.theme
        name = self.font(node.name, 13, bold=True)
        name = self.change(node.change) + name
        if node.failed:
            name = self.font(f"{SIGNS['failed']} {node.name}", 13, theme.alert, bold=True)
        if node.copies > 1:
            name += self.font(f"  × {node.copies}", 13, theme.mark, bold=True)
        if self.told(node):
            name += self.shape(node)
        if node.fused:
            self.marks.add("fused")
            name += self.font(f"  {SIGNS['fused']} {node.primitives or ''}", 9, theme.mark)
        if node.id in self.cut_off:
            name += self.font(f"  {self.numbers[node.id]}", 10, theme.mark, mono=True)
        rows = [name]
        for line in (line for part in node.formula.split(",  ") for line in wrap(part, 40)):
            rows.append(self.font(line, 10, theme.muted, mono=True))
        rows += self.gradient(node)
        formulas = self.formulas and node.scope not in self.opened
        for part in node.vjp.split(",  ") if formulas and node.vjp else ():
            rows += [
                self.font(line, 10, theme.line["gradient"], mono=True) for line in wrap(part, 40)
            ]
        notes = [*node.notes, *([size(node)] if node.kind != "op" else []), *self.off(node)]
        notes += [
            f"{e.argument} = {self.numbers[e.source]}"
            for e in self.sources[node.id]
            if (e.source, node.id) in self.cuts
        ]
        if node.failed:
            lines = [line for note in node.notes for line in wrap(note, 60)]
            rows += [self.font(line, 10, theme.alert) for line in lines[:FEW_LINES]]
            return f"<{self.column(rows)}>"
        for line in notes if node.kind != "op" else wrap("  ".join(notes), 46):
            rows.append(self.font(line, 9, theme.muted))
        if self.told(node):
            rows += [self.font(line, 9, theme.muted) for line in spread(node)]
        before = self.nodes[self.sources[node.id][0].source] if self.sources[node.id] else None
        rows += [self.font(line, 9, theme.line["gradient"]) for line in zeros(node, before)]
        rows += self.warned(node.statistics)
        if self.formulas:
            rows.append(self.font(" " * BLANK, 10, mono=True))  # for a number
        rows += self.findings(node)
        return f"<{self.warmed(node, rows)}>"

    def findings(self, node: Node) -> list[str]:
        """What is wrong with a node, a line each, after a sign."""
        if node.findings:
            self.marks.add("finding")
        lines = [line for said in node.findings for line in wrap(f"{SIGN} {said}", 44)]
        return [self.font(line, 10, self.theme.alert, bold=True) for line in lines]

    def warmed(self, node: Node, rows: list[str]) -> str:
        """A label with what the node costs: a stripe at its left, the number, a bar."""
        if self.heat is None or node.cost is None:
            return self.column(rows)
        if said := self.heat.said(node):
            rows = [*rows, self.font(said, 10, bold=True, mono=True)]
        if node.live is not None:
            width = max(1, round(90 * node.live / self.heat.peak)) if self.heat.peak else 1
            fixed = f'ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="9"'
            bar = f'<TD BGCOLOR="{self.theme.line["input"]}" {fixed}></TD>'
            live = self.font(f" {self.heat.live(node)}", 9, self.theme.muted)
            rows = [*rows, table([f'<TR>{bar}<TD ALIGN="LEFT">{live}</TD></TR>'], padding=1)]
        stripe = f'<TD BGCOLOR="{self.ramp(self.heat.share(node))}" WIDTH="11"></TD>'
        return table([f"<TR>{stripe}<TD>{self.column(rows)}</TD></TR>"], padding=1)

    def ramp(self, share: float) -> str:
        """The colour of gradients, the more opaque the larger the share: one hue, ever stronger."""
        return f"{self.theme.line['gradient']}{round(255 * max(share, 0.03)):02X}"

    def off(self, node: Node) -> list[str]:
        """What else its arrows would say."""
        return []

    def told(self, node: Node) -> bool:
        """Whether a box says the shape of its value, which else stands at an arrow."""
        return False

    def warned(self, statistics: dict[str, Any] | None) -> list[str]:
        """What no array should hold."""
        return [self.font(w, 9, self.theme.alert, bold=True) for w in broken(statistics)]

    def change(self, change: str) -> str:
        """The sign of what is only in one of two graphs."""
        if not change:
            return ""
        self.marks.add(change)
        ink = {"removed": self.theme.muted, "added": self.theme.line["output"]}
        return self.font(f"{SIGNS[change]} ", 14, ink.get(change, self.theme.mark), bold=True)

    def gradient(self, node: Node) -> list[str]:
        """What a primitive of an opened op does to the gradient, and what it keeps for that."""
        if node.scope not in self.opened or self.trace.facts.backward:  # there it has its own box
            return []
        rows = []
        for line in node.vjp.split(",  ") if node.vjp else ():
            self.marks.add("vjp")
            rows.append(self.font(line, 10, self.theme.line["gradient"], mono=True))
        if node.keeps:
            self.marks.add("keeps")
            said = f"{SIGNS['keeps']} keeps {', '.join(node.keeps)}"
            rows.append(self.font(said, 9, self.theme.mark))
        return rows

    def column(self, rows: Iterable[str], padding: int = 2) -> str:
        """Texts below one another."""
        return table((f'<TR><TD ALIGN="LEFT">{row}</TD></TR>' for row in rows), padding=padding)

    def leaf_label(self, node: Node) -> str:
        """Data above the graph, or the output below it."""
        if node.value:
            said = self.font(node.value, 12, self.theme.line[look(node)], bold=True, mono=True)
        else:
            said = self.shape(node)
        name = short(node.name, self.inside(node))
        rows = [f"<TD>{self.font(name, 13, bold=True)}</TD><TD>{said}</TD>"]
        if node.updates and node.formula:
            rows.append(f'<TD COLSPAN="2">{self.font(node.formula, 10, mono=True)}</TD>')
        rows += [f'<TD COLSPAN="2">{self.font(n, 9, self.theme.muted)}</TD>' for n in node.notes]
        rows += [f'<TD COLSPAN="2">{said}</TD>' for said in self.findings(node)]
        return f"<{table(f'<TR>{row}</TR>' for row in rows)}>"

    def stack(self, leaves: list[Node]) -> str:
        """The leaves of an op, one below another."""
        return f"<{table((f'<TR>{self.cell(leaf)}</TR>' for leaf in leaves), spacing=3)}>"

    def cell(self, node: Node) -> str:
        """One leaf of a stack."""
        kind, theme = look(node), self.theme
        self.marks.add(kind)
        name = f"{short(node.name, self.inside(node))} {node.symbol}".strip()
        if node.copies > 1:
            self.marks.add("copies")
        times = self.font(f" × {node.copies}", 10, bold=True) if node.copies > 1 else ""
        value = self.font(f"  {node.value}", 10, theme.line[kind], mono=True) if node.value else ""
        rows = [
            f'<TR><TD ALIGN="LEFT">{self.change(node.change)}{self.font(name, 11, bold=True)}</TD>'
            f'<TD ALIGN="RIGHT">{self.shape(node)}{times}{value}</TD></TR>'
        ]
        notes = ["frozen"] if node.frozen else []
        if node.copies > 1 and node.parameters:
            notes.append(f"{counted(node.parameters, 'number')} in all")
        notes += [*node.notes, *self.uses(node)]
        notes += spread(node) + self.norm(node)
        rows += [
            f'<TR><TD COLSPAN="2" ALIGN="LEFT">{text}</TD></TR>'
            for text in [
                *(self.font(note, 9, theme.line[kind]) for note in notes),
                *self.warned(node.statistics),
                *self.findings(node),
            ]
        ]
        style = "ROUNDED,DASHED" if kind == "buffer" else "ROUNDED"
        line, border = (theme.alert, 4) if node.ring else (theme.line[kind], 1)
        link = f'HREF="#{node.id}" ' if self.links else ""
        return (
            f'<TD PORT="{node.id}" {link}BGCOLOR="{theme.fill[kind]}" COLOR="{line}" '
            f'BORDER="{border}" STYLE="{style}">{table(rows, padding=1)}</TD>'
        )

    def uses(self, node: Node) -> list[str]:
        """How the ops use a leaf, where it is worth a line."""
        said = []
        edges = self.uses_of[node.id]
        if edges and edges[0].uses > 1:
            said.append(f"used {edges[0].uses} times")
        elif edges and edges[0].stretched is not None:
            self.marks.add("stretched")
            said.append(f"{SIGNS['stretched']} {edges[0].stretched}")
        return said

    # ---- arrows and frames -------------------------------------------------------------------

    def arrow(self, graph: graphviz.Digraph, e: Edge) -> None:
        """One use of a value; that of a stack by its own op has its arrow already."""
        stack = self.stack_of.get(e.source)
        if e.kind == "update" or self.nodes[e.source] in self.stacks.get(e.target, ()):
            return
        if (e.source, e.target) in self.cuts:
            self.marks.add("cut")
            return
        if e.name and e is not self.between[e.source, e.target]:
            return  # q = c · c: one arrow says it
        source, line = self.nodes[e.source], self.theme.line
        style = {"color": line["op" if source.ops else look(source)], "penwidth": "1.5"}
        if e.uses > 1:
            self.marks.add("shared")
            style["penwidth"] = "2.8"
        if e.lost:
            self.marks.add("lost")
            style.update(color=self.theme.alert, penwidth="3.2")
        style |= self.pull(e)
        if e.change:
            sign = SIGNS[e.change]
            style |= {"label": f"<{self.font(f' {sign} ', 11, bold=True)}>"}
            style |= {"style": "dotted", "color": self.theme.muted} if e.change == "removed" else {}
            style |= {"color": line["output"]} if e.change == "added" else {}
        elif e.kind == "loop":
            self.marks.add("loop")
            said = ", ".join(filter(None, [e.name, f"× {e.copies}"]))
            style |= {"constraint": "false", "style": "bold", "penwidth": "2"}
            style |= {"tailport": "e", "headport": "e"} if self.direction == "TB" else {}
            style["label"] = f"<{self.font(f' ↻ {said} ', 11, bold=True)}>"
        elif e.kind == "detached":
            self.marks.add("detached")
            style |= {"color": line["buffer"], "style": "dashed", "penwidth": "1.2", "weight": "0"}
            said = f" {e.name or 'detached'} "
            style["label"] = f"<{self.font(said, 10, mono=bool(e.name))}>"
        elif self.nodes[e.target].failed:
            style |= {"color": self.theme.alert, "label": f"<{self.edge_text(e)}>"}
        elif e.name or self.labelled(e):
            style["label"] = f"<{self.edge_text(e)}>"
        tail = f"{stack}_leaves:{source.id}" if stack else source.id
        beside = self.stack_of.get(e.target)  # a value taken out of the graph comes back as data
        graph.edge(tail, f"{beside}_leaves:{e.target}" if beside else e.target, **style)

    def pull(self, e: Edge) -> dict[str, str]:
        """How much an arrow pulls the boxes that it joins into one line."""
        if self.trunk.get(e.target) == e.source:
            return {"weight": "20"}
        return {"weight": "4" if e.source in self.trunk and e.target in self.trunk else "1"}

    def labelled(self, e: Edge) -> bool:
        """Whether this use of a value shows its shape: one does, on the trunk if there is one."""
        if e.stretched is not None or not self.nodes[e.source].ops:
            return e.stretched is not None
        uses = self.uses_of[e.source]
        return e is next(
            (u for u in uses if u.target in self.trunk and u.source in self.trunk), uses[0]
        )

    def edge_text(self, e: Edge) -> str:
        """The shape, what it is broadcast to, and a dtype that is not the graph's."""
        text = self.font(f"  {e.name}", 10, bold=True, mono=True) if e.name else ""
        if not e.name or self.labelled(e) or e is self.uses_of[e.source][0]:
            text += self.font(f"  {'' if e.shape is None else e.shape}", 10, mono=True)
        if e.stretched is not None:
            self.marks.add("stretched")
            text += self.font(f" {SIGNS['stretched']} {e.stretched}", 10, mono=True)
        if e.copies > 1 and e.source not in self.stack_of:
            text += self.font(f" × {e.copies}", 10, self.theme.mark, bold=True)
        text += self.dtype(e.dtype)
        source = self.nodes[e.source]
        for said in spread(source) if source.ops else []:
            text += self.font(f"  {said}", 9, self.theme.muted)
        if e.lost:
            text += self.font(" NaN/∞", 10, self.theme.alert, bold=True, mono=True)
        return text if self.direction == "TB" else f"{text}<BR/> "  # above the line, not on it

    def frame_style(self, scope: Scope) -> dict[str, str]:
        """Graphviz' attributes of a module's frame."""
        theme = self.theme
        label = self.font(scope.label, 12 if scope.kind != "group" else 11, bold=True)
        if scope.copies > 1:
            self.marks.add("copies")
            label += self.font(f"  × {scope.copies}", 13, theme.mark, bold=True)
        if said := self.said(scope):
            label += self.font(f"  {said}", 10, theme.muted)
        lines = [wrap(note, 64) for note in scope.notes]
        ink = {SIGNS["keeps"]: theme.mark}
        rows = [
            self.font(line, 10, ink.get(note[:1], theme.line["gradient"]), limit=100)
            for note, part in zip(scope.notes, lines, strict=True)
            for line in part
        ]
        style = {
            "label": f"<{self.column([label, *rows], padding=1)}>" if rows else f"<{label}>",
            "labeljust": "l",
            "style": "rounded,filled",
            "fillcolor": theme.fill["module"],
            "color": theme.line["module"],
            "margin": "12",
        }
        if scope.kind == "op":
            style |= {"fillcolor": theme.page, "color": theme.line["op"], "penwidth": "1.4"}
        elif any(n.updates for n in self.trace.nodes if n.scope == scope.id):
            style |= {"style": "rounded,dashed", "color": theme.line["buffer"]}
        return style

    def stacked(self, frame: graphviz.Digraph, scope: Scope) -> graphviz.Digraph:
        """The frame of a rolled module, with the edges of other copies behind it."""
        for i in range(2 if scope.copies > 1 else 0):
            behind = graphviz.Digraph(f"{frame.name}_{i}")
            behind.attr(
                label="", margin="5", style="rounded,filled", fillcolor=self.theme.fill["module"],
                color=self.theme.line["op"],
            )  # fmt: skip
            behind.subgraph(frame)
            frame = behind
        return frame

    def said(self, scope: Scope) -> str:
        """What stands beside the name of a frame."""
        if scope.kind != "module":
            return scope.config
        said = [scope.title] if scope.name else []
        if any(n.mode for n in self.trace.nodes if n.scope == scope.id):
            said.append(scope.mode)
        return "  ·  ".join(said)

    # ---- head: title, facts, legend ----------------------------------------------------------

    def head(self, title: str) -> str:
        """The title, the facts, and the marks that this picture has."""
        facts = "   ·   ".join(headline(self.trace.facts))
        rows = [self.font(title, 17, bold=True, limit=80)]
        rows.append(self.font(facts, 10, self.theme.muted, limit=160))
        rows += [self.font(self.trace.facts.hint, 10, self.theme.text, limit=160)] * bool(
            self.trace.facts.hint
        )
        if self.heat is not None:
            rows.append(self.font(self.heat.title(), 10, self.theme.muted, limit=160))
        marks = [m for m in LEGEND if m in self.marks]
        items = [self.sample(m) + self.explained(m) for m in marks]
        n = self.columns([len(LEGEND[m]) + SAMPLE for m in marks])
        lines = [items[i : i + n] for i in range(0, len(items), n)]
        rows.append(table((f"<TR>{''.join(line)}</TR>" for line in lines), spacing=2))
        return f"<{self.column(rows, padding=3)}>"

    def columns(self, widths: list[int]) -> int:
        """In how many columns the legend takes the fewest lines."""
        n = len(widths)
        while n > 1 and sum(max(widths[i::n]) for i in range(n)) > self.width:
            n -= 1
        return max(n, 1)

    def explained(self, mark: str) -> str:
        """What a mark says, as a cell."""
        return f'<TD ALIGN="LEFT">{self.font(f"{LEGEND[mark]}    ", 10, self.theme.muted)}</TD>'

    def sample(self, mark: str) -> str:
        """The mark itself, as a cell."""
        theme = self.theme
        if mark in SIGNS:
            ink = {
                "fused": theme.mark,
                "cut": theme.mark,
                "rung": theme.mark,
                "keeps": theme.mark,
                "changed": theme.mark,
                "added": theme.line["output"],
                "removed": theme.muted,
                "vjp": theme.line["gradient"],
                "detached": theme.line["buffer"],
                **dict.fromkeys(("alert", "failed", "finding", "lost"), theme.alert),
                "flow": theme.line["gradient"],
                "join": theme.line["gradient"],
            }.get(mark, theme.text)
            return f"<TD>{self.font(SIGNS[mark], 10, ink)}</TD>"
        kind = mark if mark in theme.fill else "op"
        line = theme.line["op" if mark == "module" else kind]
        shape = {
            "reduces": 'BORDER="2"',
            "view": 'BORDER="1"',
            "buffer": 'BORDER="1" STYLE="ROUNDED,DASHED"',
            "hidden": 'BORDER="1" STYLE="ROUNDED,DASHED"',
        }.get(mark, 'BORDER="1" STYLE="ROUNDED"')
        inner = self.font("      ", 10)
        if mark == "view":  # a double line
            row = f'<TR><TD BORDER="1" COLOR="{line}">{inner}</TD></TR>'
            inner = table([row], padding=0)
        return f'<TD BGCOLOR="{theme.fill[kind]}" COLOR="{line}" {shape}>{inner}</TD>'

    # ---- text --------------------------------------------------------------------------------

    def shape(self, node: Node) -> str:
        """The shape of a leaf, its dtype where that is not the graph's."""
        if node.value and node.shape == ():
            return self.dtype(node.dtype)
        shape = "not kept" if node.shape is None else str(node.shape)
        return self.font(f" {shape}", 10, self.theme.muted, mono=True) + self.dtype(node.dtype)

    def dtype(self, dtype: str | None) -> str:
        """A dtype that is not the graph's; a floating one stands out, for it may be a mistake."""
        if dtype is None or dtype == self.trace.facts.dtype:
            return ""
        if "float" not in dtype:
            return self.font(f" {dtype}", 10, self.theme.muted, mono=True)
        self.marks.add("alert")
        return self.font(f" {dtype}", 10, self.theme.alert, bold=True, mono=True)

    def font(
        self,
        text: str,
        size: int,
        color: str = "",
        *,
        bold: bool = False,
        mono: bool = False,
        limit: int = LIMIT,
    ) -> str:
        """Text in one size and colour, for a label."""
        face = f' FACE="{MONO}"' if mono else ""
        text = escaped(text, limit)
        text = f"<B>{text}</B>" if bold else text
        return f'<FONT POINT-SIZE="{size}" COLOR="{color or self.theme.text}"{face}>{text}</FONT>'


def look(node: Node) -> str:
    """The row of the style table for a node."""
    if node.rule is not None and node.kind == "module":
        return "gradient"
    return "frozen" if node.frozen else node.kind


def table(rows: Iterable[str], *, padding: int = 2, spacing: int = 0) -> str:
    """An HTML-like table, as a label or inside one."""
    return (
        f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="{padding}">'
        f"{''.join(rows)}</TABLE>"
    )


def tooltip(node: Node) -> str:
    """What shows when the pointer rests on a box: forward, backward, every attribute."""
    lines = [f"{node.name}: {node.formula}" if node.formula else node.name]
    lines += [f"backward: {node.vjp}"] if node.vjp else []
    lines += [f"{name} = {value}" for name, value in node.attributes.items()]
    for what, said in (("value", node.statistics), ("gradient", node.gradient)):
        if said is not None:
            names = ("mean", "std", "min", "max", "norm")
            lines.append(f"{what}: " + ", ".join(f"{name} {said[name]:.4g}" for name in names))
            lines += [f"{what} = {said['values']}"] if "values" in said else []
    lines += [line for line in (node.source, node.code) if line]
    text = "&#10;".join(clean(line, 200).replace("&", "&amp;") for line in lines)
    return graphviz.escape(text)  # type: ignore[no-any-return]


def clean(text: str, limit: int) -> str:
    """``text`` in one line of at most ``limit`` characters that can be shown."""
    shown = "".join(
        c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown[:-1]}…"


def escaped(text: str, limit: int) -> str:
    """``text`` for an HTML-like label, which must not be empty."""
    # Browsers join spaces, and with them the pieces of a label; no-break spaces stay. Graphviz 2.43
    # takes "]<" for the end of something else.
    label = html.escape(clean(text, limit)).replace("  ", "\u00a0\u00a0").replace("]", "&#93;")
    return label or " "
