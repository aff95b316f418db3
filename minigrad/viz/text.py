"""A graph as an indented text, for a terminal, a log, or a notebook that draws nothing."""

from __future__ import annotations

from typing import Any

from minigrad.viz import heat
from minigrad.viz.heat import Heat
from minigrad.viz.trace import Edge, Facts, Node, Scope, Trace

INDENT = "  "
SIGN = "⚠"  #: before a finding

#: What is smaller than this beside something else comes from rounding.
NOTHING = 1e-6
LOST = 1e-5  #: the same for sums in which almost everything cancels, as float32 gives them

CHANGES = {"added": "+ ", "removed": "- ", "changed": "≠ "}


def headline(facts: Facts) -> list[str]:
    """The facts of the title line, one a piece."""
    if facts.said:
        return list(filter(None, facts.said))
    said = [f"{facts.mode} mode" if facts.mode else "", facts.dtype, counted(facts.ops, "op")]
    if facts.backward:
        said[-1] = f"{said[-1].removesuffix('s').removesuffix(' op')} forward + "
        said[-1] += counted(facts.backward, "backward op")
    if facts.shown:
        said[-1] += f", {facts.shown}"
    if facts.parameters:
        said.append(counted(facts.parameters, "parameter"))
    if facts.unreached:
        said.append(f"not in the graph: {', '.join(facts.unreached)}")
    return [s for s in [*said, facts.health] if s]


def counted(n: int, what: str) -> str:
    """``1 op``, ``12 345 ops``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}".replace(",", " ")


def tree(trace: Trace, title: str, forward: bool = True) -> str:
    """One line an op, below its modules; a value is called by the number of the op that made it.

    Gradients come last, in the order of the sweep: %3′ is that of %3.
    """
    lines = [" · ".join([title, *headline(trace.facts)])]
    lines += [trace.facts.hint] if trace.facts.hint else []
    lines += forwards(trace) if forward else []
    return "\n".join(lines + backwards(trace))


def forwards(trace: Trace) -> list[str]:
    """The lines of the forward graph."""
    lines: list[str] = []
    scopes = {s.id: s for s in trace.scopes if s.id != trace.root}
    numbers = numbered(trace)
    names = {n.id: n.name for n in trace.nodes}
    into: dict[str, list[Edge]] = {}
    for e in trace.edges:
        into.setdefault(e.target, []).append(e)
    inside: list[Scope] = []
    warmth = heat.of(trace)
    lines += [warmth.title()] if warmth else []

    for node in trace.nodes:
        if node.of is not None:
            continue
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
            sign = "✗ " if node.failed else ""
            name = f"{node.name} × {node.copies}" if node.copies > 1 else node.name
            line = f"{sign}{numbers[node.id]} = {name}({arguments}) {shaped(node, trace)}"
            said = [*([node.formula] if node.formula else []), *node.notes, *spread(node)]
            line = "   ".join([line, *said])
            if node.kind != "op":
                line += f"   {size(node)}"
        elif node.kind == "output":
            value = f" = {node.value}" if node.value else ""
            line = f"{node.kind} {node.name} {shaped(node, trace)}{value}: {arguments}"
        else:
            line = leaf(node, inside, trace)
        line = "   ".join([line, *marked(node, warmth)])
        sign = CHANGES.get(node.change, "")
        lines.append(INDENT * len(inside) + sign + line)
    return lines


def backwards(trace: Trace) -> list[str]:
    """The lines of the backward graph."""
    numbers = numbered(trace)
    into: dict[str, list[str]] = {}
    for e in trace.edges:
        if e.kind == "gradient":
            into.setdefault(e.target, []).append(e.source)
    called = {n.id: n.name.split(" ")[0].strip(",") for n in trace.nodes if n.kind == "seed"}
    called |= {n.id: f"{numbers[n.of or '']}′" for n in trace.nodes if n.kind == "vjp"}
    for n in trace.nodes:
        if n.kind == "sum":
            called[n.id] = " + ".join(called[source] for source in into[n.id])
    lines = ["backward"] if called else []
    for node in trace.nodes:
        arrives = ", ".join(called[source] for source in into.get(node.id, ()))
        if node.kind == "seed":
            lines.append(f"seed {node.name}")
        elif node.kind == "vjp":
            said = f"{called[node.id]} = {node.name}({arrives}) {shaped(node, trace)}"
            said = "   ".join([said, *([node.formula] if node.formula else [])])
            lines.append("   ".join([said, *norm(node.gradient, node.shape)]))
        elif node.kind == "gradient":
            said = f"gradient {node.name} {shaped(node, trace)}: {arrives}"
            lines.append("   ".join([said, *node.notes, *norm(node.gradient, node.shape)]))
        elif node.kind == "stop":
            lines.append(node.name)
    return lines


def marked(node: Node, warmth: Heat | None) -> list[str]:
    """What it costs, and what is wrong with it."""
    costs = [warmth.said(node), warmth.live(node)] if warmth else []
    return [*filter(None, costs), *(f"{SIGN} {said}" for said in node.findings)]


def numbered(trace: Trace) -> dict[str, str]:
    """The number of each op's value, ``%1`` for the first."""
    ops = [n.id for n in trace.nodes if n.ops and n.of is None]
    return {op: f"%{i + 1}" for i, op in enumerate(ops)}


def chain(node: Node, scopes: dict[str, Scope]) -> list[Scope]:
    """The scopes around a node, outermost first."""
    found: list[Scope] = []
    scope = scopes.get(node.scope or "")
    while scope is not None:
        found.append(scope)
        scope = scopes.get(scope.parent or "")
    return found[::-1]


def modules(node: Node, scopes: dict[str, Scope]) -> list[Scope]:
    """The modules around a node, outermost first."""
    return [s for s in chain(node, scopes) if s.kind == "module"]


def frame(scope: Scope) -> str:
    """The line above what a module call recorded."""
    said = scope.title if scope.kind == "module" else scope.config
    name = f"{scope.label} × {scope.copies}" if scope.copies > 1 else scope.label
    return f"{name}: {said}" if scope.name and said else name


def leaf(node: Node, inside: list[Scope], trace: Trace) -> str:
    """The line of an input, a parameter or a buffer."""
    said = [f"{node.kind} {short(node.name, inside)} {node.symbol}".strip(), shaped(node, trace)]
    said += [f"= {node.value}"] if node.value else []
    said += ["frozen"] if node.frozen else []
    said += [f"× {node.copies}"] if node.copies > 1 else []
    said += [f"  {node.formula}  "] if node.updates and node.formula else []
    return " ".join(said + node.notes)


def short(name: str, inside: list[Scope]) -> str:
    """A parameter's path as seen from inside the modules around it."""
    path = next((s.path for s in reversed(inside) if s.kind == "module"), "")
    return name.removeprefix(f"{path}.") if path else name


def shaped(node: Node, trace: Trace) -> str:
    """The shape; and the dtype, where it is not that of the graph."""
    if node.failed:
        return "failed"
    if node.shape is None:
        return "(shape not kept)"
    return f"{node.shape}" + ("" if node.dtype == trace.facts.dtype else f" {node.dtype}")


def figure(x: float) -> str:
    """A number in two or three digits."""
    return f"{x:.2g}" if abs(x) < 100 else f"{x:.3g}"


def number(x: float | str) -> str:
    """A value in four digits; ``nan`` and the like are text already."""
    return x if isinstance(x, str) else f"{x:.4g}"


def spread(node: Node) -> list[str]:
    """Mean and standard deviation of a floating array, or the one value that it repeats."""
    said = node.statistics
    if said is None or node.value or "float" not in (node.dtype or ""):
        return []
    if node.shape == ():
        return [f"= {number(said['values'])}"]
    mean, std = said["mean"], said["std"]
    if said["min"] == said["max"]:
        return [f"all {figure(mean)}"]
    return [f"μ {figure(0 if abs(mean) < NOTHING * std else mean)}  σ {figure(std)}"]


def norm(gradient: dict[str, Any] | None, shape: Any, beside: float = 0.0) -> list[str]:
    """The norm of a gradient, or a number itself; next to nothing ``beside`` others is 0."""
    if gradient is None:
        return []
    if shape == ():
        return [f"= {number(gradient['values'])}"]
    size = gradient["norm"]
    return [f"|g| {'≈ 0' if 0 < size < LOST * beside else figure(size)}"]


def zeros(node: Node, before: Node | None) -> list[str]:
    """How much of the value of an op is exactly 0, where its input had fewer zeros."""
    if node.statistics is None or not node.shape:
        return []
    share = node.statistics["zeros"]
    had = before.statistics["zeros"] if before is not None and before.statistics else 0.0
    return [f"{100 * share:.0f} % zeros"] if share - had >= 0.01 else []


def broken(statistics: dict[str, Any] | None) -> list[str]:
    """How many values are no numbers."""
    if statistics is None:
        return []
    return [f"{statistics[what]} {what}" for what in ("nan", "inf") if statistics[what]]


def memory(count: int) -> str:
    """``512 B``, ``12.3 kB``, ``1.5 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def size(node: Node) -> str:
    """What a box that stands for several ops holds."""
    held = [counted(node.ops, "op")]
    if node.parameters:
        held.append(counted(node.parameters, "parameter"))
    return " · ".join(held)
