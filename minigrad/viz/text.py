"""A graph as an indented text, for a terminal, a log, or a notebook that draws nothing."""

from __future__ import annotations

from minigrad.viz.trace import Edge, Facts, Node, Scope, Trace

INDENT = "  "


def headline(facts: Facts) -> list[str]:
    """The facts of the title line, one a piece."""
    said = [f"{facts.mode} mode" if facts.mode else "", facts.dtype, counted(facts.ops, "op")]
    if facts.shown:
        said[-1] += f", {facts.shown}"
    if facts.parameters:
        said.append(counted(facts.parameters, "parameter"))
    if facts.unreached:
        said.append(f"not in the graph: {', '.join(facts.unreached)}")
    return [s for s in said if s]


def counted(n: int, what: str) -> str:
    """``1 op``, ``12 345 ops``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}".replace(",", " ")


def tree(trace: Trace, title: str) -> str:
    """One line an op, below its modules; a value is called by the number of the op that made it."""
    lines = [" · ".join([title, *headline(trace.facts)])]
    scopes = {s.id: s for s in trace.scopes if s.id != trace.root}
    numbers = numbered(trace)
    names = {n.id: n.name for n in trace.nodes}
    into: dict[str, list[Edge]] = {}
    for e in trace.edges:
        into.setdefault(e.target, []).append(e)
    inside: list[Scope] = []

    for node in trace.nodes:
        around = chain(node, scopes)
        if node.kind == "input" and len(around) > len(inside):
            around = inside  # data comes from outside
        shared = 0
        while shared < min(len(inside), len(around)) and inside[shared] is around[shared]:
            shared += 1
        for depth in range(shared, len(around)):
            lines.append(INDENT * depth + frame(around[depth]))
        inside = around

        arguments = ", ".join(
            numbers.get(e.source) or short(names[e.source], inside)
            for e in into.get(node.id, ())
            if e.kind == "value"
        )
        if node.ops:
            line = f"{numbers[node.id]} = {node.name}({arguments}) {shaped(node, trace)}"
            line = "   ".join([line, *([node.formula] if node.formula else []), *node.notes])
            if node.kind != "op":
                line += f"   {size(node)}"
        elif node.kind == "output":
            value = f" = {node.value}" if node.value else ""
            line = f"{node.kind} {node.name} {shaped(node, trace)}{value}: {arguments}"
        else:
            line = leaf(node, inside, trace)
        lines.append(INDENT * len(inside) + line)
    return "\n".join(lines)


def numbered(trace: Trace) -> dict[str, str]:
    """The number of each op's value, ``%1`` for the first."""
    ops = [n.id for n in trace.nodes if n.ops]
    return {op: f"%{i + 1}" for i, op in enumerate(ops)}


def chain(node: Node, scopes: dict[str, Scope]) -> list[Scope]:
    """The scopes around a node, outermost first."""
    found: list[Scope] = []
    scope = scopes.get(node.scope or "")
    while scope is not None:
        found.append(scope)
        scope = scopes.get(scope.parent or "")
    return found[::-1]


def frame(scope: Scope) -> str:
    """The line above what a module call recorded."""
    return f"{scope.label}: {scope.title}" if scope.name else scope.label


def leaf(node: Node, inside: list[Scope], trace: Trace) -> str:
    """The line of an input, a parameter or a buffer."""
    said = [f"{node.kind} {short(node.name, inside)} {node.symbol}".strip(), shaped(node, trace)]
    said += [f"= {node.value}"] if node.value else []
    said += ["frozen"] if node.frozen else []
    return " ".join(said + node.notes)


def short(name: str, inside: list[Scope]) -> str:
    """A parameter's path as seen from inside the modules around it."""
    path = inside[-1].path if inside else ""
    return name.removeprefix(f"{path}.") if path else name


def shaped(node: Node, trace: Trace) -> str:
    """The shape; and the dtype, where it is not that of the graph."""
    if node.shape is None:
        return "(shape not kept)"
    return f"{node.shape}" + ("" if node.dtype == trace.facts.dtype else f" {node.dtype}")


def size(node: Node) -> str:
    """What a box that stands for several ops holds."""
    held = [counted(node.ops, "op")]
    if node.parameters:
        held.append(counted(node.parameters, "parameter"))
    return " · ".join(held)
