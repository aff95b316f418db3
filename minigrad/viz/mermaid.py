"""A graph as a Mermaid flowchart: a picture that Markdown pages draw themselves."""

from __future__ import annotations

from minigrad.viz.dot import clean, look
from minigrad.viz.style import THEMES
from minigrad.viz.text import counted, headline, short
from minigrad.viz.trace import Edge, Node, Scope, Trace

#: The shape of each kind of box: what stands before and after its label.
SHAPES = {"input": "([|])", "output": "([|])", "parameter": "[/|/]", "buffer": "[/|/]"}

ARROWS = {"value": "-->", "update": "-.->", "detached": "-.->", "loop": "==>"}

LONGEST = 60  #: characters of a line in a box


def write(trace: Trace, title: str, *, theme: str = "light", direction: str = "TB") -> str:
    """The flowchart. Equal graphs give equal text."""
    colours = THEMES[theme]
    lines = ["---", f"title: {quoted(title)}", "---", f"flowchart {direction}"]
    said = "; ".join(headline(trace.facts))
    lines.append(f"%% {clean(said, 400).replace('{', '(').replace('}', ')')}")
    scopes = {s.id: s for s in trace.scopes if s.id != trace.root}
    children: dict[str | None, list[Scope]] = {}
    for s in scopes.values():
        children.setdefault(s.parent if s.parent in scopes else None, []).append(s)
    held: dict[str | None, list[Node]] = {}
    for n in trace.nodes:
        around = n.scope if n.scope in scopes and n.kind != "input" else None  # from outside
        held.setdefault(around, []).append(n)

    stack: list[tuple[str | None, int, bool]] = [(None, 1, False)]
    while stack:
        scope, depth, leaving = stack.pop()
        pad = "  " * depth
        if leaving:
            lines.append(f"{'  ' * (depth - 1)}end")
            continue
        if scope is not None:
            s = scopes[scope]
            times = f" × {s.copies}" if s.copies > 1 else ""
            label = " ".join(filter(None, [s.label, times, s.title if s.name else ""]))
            lines.append(f'{"  " * (depth - 1)}subgraph {s.id}["{escaped(label)}"]')
        lines += [pad + box(n, scopes.get(n.scope or "")) for n in held.get(scope, ())]
        if scope is not None:
            stack.append((scope, depth, True))
        stack += [(s.id, depth + 1, False) for s in reversed(children.get(scope, []))]
    lines += [f"  {arrow(e)}" for e in trace.edges]
    kinds = dict.fromkeys(style(n) for n in trace.nodes)
    for kind in kinds:
        row = "op" if kind in ("module", "hidden") else kind
        fill = colours.fill[row]
        dashed = ",stroke-dasharray:4" if kind in ("buffer", "hidden") else ""
        thick = ",stroke-width:3px" if kind == "failed" else ""
        line = colours.alert if kind == "failed" else colours.line[row]
        lines.append(
            f"  classDef {kind}_ fill:{fill},stroke:{line},color:{colours.text}{dashed}{thick}"
        )
        members = ",".join(n.id for n in trace.nodes if style(n) == kind)
        lines.append(f"  class {members} {kind}_")
    return "\n".join(lines)


def style(node: Node) -> str:
    """The class of a box."""
    return look(node)


def box(node: Node, scope: Scope | None) -> str:
    """A node: its name, formula, shape and notes."""
    said = [short(node.name, [scope] if scope else []) + (f" {node.symbol}" if node.symbol else "")]
    if node.copies > 1:
        said[0] += f" × {node.copies}"
    if node.formula:
        said.append(node.formula)
    if not node.ops or node.failed:
        said.append("" if node.shape is None else str(node.shape))
    if node.value:
        said.append(node.value)
    if node.frozen:
        said.append("frozen")
    if node.kind in ("module", "hidden"):
        said.append(counted(node.ops, "op"))
    said += node.notes
    label = "<br/>".join(escaped(line) for line in said if line)
    before, after = SHAPES.get(node.kind, "[[|]]" if node.view else "[|]" if node.reduces else "(|)"
                               ).split("|")  # fmt: skip
    return f'{node.id}{before}"{label}"{after}'


def arrow(e: Edge) -> str:
    """An edge with the shape of its value."""
    said = [e.name, "" if e.shape is None else str(e.shape)]
    if e.stretched is not None:
        said.append(f"⇒ {e.stretched}")
    if e.copies > 1:
        said.append(f"× {e.copies}")
    label = escaped(" ".join(filter(None, said)))
    return f'{e.source} {ARROWS.get(e.kind, "-->")}|"{label}"| {e.target}'


def escaped(text: str) -> str:
    """``text`` for the quotes of a label; what Mermaid or HTML would read as theirs, by number."""
    shown = clean(text, LONGEST)
    for character in '#&"<>`\\':  # the number sign first: the others become numbers with it
        shown = shown.replace(character, f"#{ord(character)};" if character != "#" else "\0")
    return shown.replace("\0", "#35;") or " "


def quoted(text: str) -> str:
    """``text`` as a string of YAML."""
    shown = clean(text, 200).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'
