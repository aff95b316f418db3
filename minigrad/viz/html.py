"""Pages: pictures by Graphviz with one small script of our own, in one file without a network.

A page holds a picture for each position of its switches, as SVG in which colours are the style
sheet's variables, so that one picture serves the light and the dark theme. What the script and the
style sheet are stands in ``page/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from xml.etree import ElementTree

from minigrad.viz.dot import clean
from minigrad.viz.style import MONO, SANS, THEMES, Theme
from minigrad.viz.text import counted, headline
from minigrad.viz.trace import Edge, Node, Scope, Trace

#: What a page may hold: Graphviz takes a second for a picture of some hundred boxes.
MOST_STATES = 12
MOST_BYTES = 2_000_000

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"

#: Colours that only pages need: text of what is not yet there, at 4.5:1 on page and module.
DIM = {"light": "#667281", "dark": "#8593A1"}


@dataclass(slots=True)
class State:
    """A position of the switches, and what is then shown."""

    depth: str  # "1", "2", ... or "all"
    opened: str  # which fused ops are opened: "", "all", or the id of one
    trace: Trace
    svg: str = ""

    @property
    def label(self) -> str:
        """What the state is called where it was left out."""
        depth = "every module open" if self.depth == "all" else f"depth {self.depth}"
        opened = "fused ops" if self.opened == "all" else self.opened
        return f"{depth}, {opened} opened" if opened else depth


# ---- colours as variables ---------------------------------------------------------------------


def variables(theme: Theme) -> dict[str, str]:
    """The colours of a theme by the names they have in the style sheet: ``fill-op``, ``text``."""
    named: dict[str, str] = {}
    for field in fields(theme):
        value = getattr(theme, field.name)
        if isinstance(value, dict):
            named |= {f"{field.name}-{kind}": color for kind, color in value.items()}
        else:
            named[field.name] = value
    return named


def stand_ins() -> tuple[Theme, dict[str, str]]:
    """A theme whose colours are all different, and the variable that each stands for."""
    given = {name: f"#fed{i:03x}" for i, name in enumerate(variables(THEMES["light"]))}
    parts: dict[str, Any] = {}
    for field in fields(Theme):
        value = getattr(THEMES["light"], field.name)
        if isinstance(value, dict):
            parts[field.name] = {kind: given[f"{field.name}-{kind}"] for kind in value}
        else:
            parts[field.name] = given[field.name]
    return Theme(**parts), {color: f"var(--{name})" for name, color in given.items()}


STAND_INS, VARIABLES = stand_ins()


def colors() -> str:
    """The style sheet's variables: light, dark, and the reader's choice where none is made."""
    rules = {
        name: ";".join(
            f"--{key}:{value}" for key, value in (*variables(t).items(), ("dim", DIM[name]))
        )
        for name, t in THEMES.items()
    }
    light, dark = rules["light"], rules["dark"]
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
        "@media (prefers-color-scheme:dark){"
        f":root[data-theme=auto]{{color-scheme:dark;{dark}}}}}\n"
        f":root{{--sans:{SANS};--mono:{MONO}}}\n"
    )


# ---- Graphviz' SVG for a page -----------------------------------------------------------------


def inline(svg: str, title: str, description: str) -> str:
    """Graphviz' SVG for a page: no ids, colours as variables, boxes and arrows named by data.

    ``data-node`` says which box it is, ``data-edge`` the two ends of an arrow.
    """
    old = ElementTree.fromstring(svg[svg.index("<svg") :].encode())
    root = ElementTree.Element("svg", viewBox=old.get("viewBox", ""), role="group")
    ElementTree.SubElement(root, "title").text = title
    ElementTree.SubElement(root, "desc").text = description
    for part in old:
        copy(part, root)
    page = root.find("g/polygon")  # the background: the page has one
    if page is not None:
        root[-1].remove(page)
    for group in root.iter("g"):
        merge(group)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def copy(element: ElementTree.Element, into: ElementTree.Element) -> None:
    """Append what a page needs of an element and all it holds."""
    waiting = [(element, into)]
    while waiting:
        old, parent = waiting.pop()
        tag = old.tag.removeprefix(SVG)
        if tag == "title":
            continue
        if tag == "a":  # the group around it is the box
            if old.get(LINK):
                parent.set("data-node", old.get(LINK, "").removeprefix("#"))
            waiting += [(child, parent) for child in reversed(old)]
            continue
        if tag == "g" and old.get("id", "").startswith("a_") and not any(c.get(LINK) for c in old):
            waiting += [(child, parent) for child in reversed(old)]  # around a tooltip: no box
            continue
        new = ElementTree.SubElement(parent, tag, attributes(old))
        new.text = old.text if tag == "text" else None
        if tag == "path":
            box(new)
        if tag == "g":
            name(old, new)
        waiting += [(child, new) for child in reversed(old)]


def box(element: ElementTree.Element) -> None:
    """Write a path that goes round a box with round corners as a rectangle: a fifth as long."""
    points = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
    if len(points) != 50:
        return
    xs, ys = points[::2], points[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    if not all(x in (left, right) or y in (top, bottom) for x, y in zip(xs, ys, strict=True)):
        return
    del element.attrib["d"]
    element.tag = "rect"
    sides = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    sides["rx"] = sorted({x - left for x in xs})[2]  # 0, then in the middle of the bend, its end
    element.attrib |= {name: f"{round(n, 2):g}" for name, n in sides.items()}


def merge(group: ElementTree.Element) -> None:
    """Make one shape of two in the same place, a fill and a line, as Graphviz draws cells."""
    place = ("x", "y", "width", "height", "points", "d")
    before = None
    for shape in list(group):
        if (
            before is not None
            and shape.tag == before.tag != "g"
            and before.get("stroke") == "transparent"
            and shape.get("fill") == "none"
            and all(shape.get(p) == before.get(p) for p in place)
        ):
            shape.set("fill", before.get("fill", "none"))
            group.remove(before)
        before = shape


def attributes(element: ElementTree.Element) -> dict[str, str]:
    """The attributes of an element, colours as variables, without what the style sheet says."""
    kept = {}
    for key, value in element.attrib.items():
        if key == "font-family":
            if value == MONO:
                kept["class"] = "mono"
        elif key == "transform":
            kept[key] = value.removeprefix("scale(1 1) rotate(0) ")
        elif key not in ("id", "class") and (key, value) != ("text-anchor", "start"):
            kept[key] = VARIABLES.get(value, value)
    return kept


def name(old: ElementTree.Element, new: ElementTree.Element) -> None:
    """Name a group: a box by its node, an arrow by its two."""
    kind, title = old.get("class"), old.findtext(f"{SVG}title", "")
    if kind == "node" and not title.endswith(("_leaves", "_ends")):
        new.set("data-node", old.get("id", title))
    elif kind == "cluster":
        new.set("data-scope", title.removeprefix("cluster_"))
    elif kind == "edge":
        ends = [re.sub(r"_leaves:(\w+).*|_leaves$", r" \1", end) for end in title.split("->")]
        new.set("data-edge", " ".join(end.split()[-1] for end in ends))


# ---- what the script reads --------------------------------------------------------------------


def records(trace: Trace) -> list[dict[str, Any]]:
    """Each node as the side panel shows it, in the order of execution."""
    scopes = {s.id: s for s in trace.scopes}
    return [record(node, scopes) for node in trace.nodes]


def record(node: Node, scopes: dict[str, Scope]) -> dict[str, Any]:
    """One node; what is empty is left away."""
    scope = scopes.get(node.scope or "")
    marks = ("fused", "reduces", "view", "frozen")
    said = {
        "id": node.id,
        "kind": node.kind,
        "name": clean(node.name, 200),
        "module": "" if node.kind == "input" else module(scope),  # data comes from outside
        "shape": None if node.shape is None else str(node.shape),
        "dtype": node.dtype,
        "value": node.value,
        "formula": node.formula,
        "vjp": node.vjp,
        "notes": [*[m for m in marks if getattr(node, m)], *node.notes, *node.findings],
        "attributes": {k: json.dumps(v, ensure_ascii=False) for k, v in node.attributes.items()},
        "holds": "" if node.kind == "op" or not node.ops else counted(node.ops, "op"),
        "parameters": node.parameters,
        "stats": {
            name: figures(said)
            for name, said in (("values", node.statistics), ("gradient", node.gradient))
            if said is not None
        },
        "keeps": ", ".join(s.symbol for s in node.saved),
        "source": "\n".join(filter(None, (node.source, node.code))),
    }
    return {key: value for key, value in said.items() if value not in (None, "", [], {}, 0)}


def figures(said: dict[str, Any]) -> str:
    """The statistics of an array in a line."""

    def short(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, int | float) else str(value)

    parts = [f"{name} {short(said[name])}" for name in ("norm", "mean", "std") if name in said]
    parts.append(f"{short(said['min'])} to {short(said['max'])}")
    parts += [f"{said['zeros']:.0%} zero"] if said.get("zeros") else []
    parts += [f"{said[n]} {n}" for n in ("nan", "inf") if said.get(n)]
    return ", ".join(parts)


def module(scope: Scope | None) -> str:
    """The module a node stands in: its path, and what it is."""
    if scope is None:
        return ""
    if not scope.cls:  # an opened op, or a step in it
        return " · ".join(filter(None, (scope.path, scope.config)))
    return f"{scope.path}: {scope.title}" if scope.path else scope.title


def ends(e: Edge) -> list[Any]:
    """An edge as the script has it: from, to, and how."""
    how = {"value": f"as {e.argument}" if e.argument else "", "update": "updated in place"}
    return [e.source, e.target, how.get(e.kind, e.kind)]


def table(states: Sequence[State]) -> tuple[list[Any], list[dict[str, Any]]]:
    """All different records, and the states that say which of them they have."""
    distinct: dict[str, int] = {}
    told = []
    for state in states:
        rows = [json.dumps(r, ensure_ascii=False) for r in records(state.trace)]
        told.append(
            {
                "depth": state.depth,
                "opened": state.opened,
                "nodes": [distinct.setdefault(row, len(distinct)) for row in rows],
                "edges": [ends(e) for e in state.trace.edges],
            }
        )
    return [json.loads(row) for row in distinct], told


def describe(trace: Trace) -> str:
    """A sentence or two, for who listens to a page."""
    return f"{', '.join(headline(trace.facts))}. Boxes come in the order of execution."


# ---- the file ---------------------------------------------------------------------------------


def write(
    kind: str,
    *,
    title: str,
    states: Sequence[State],
    data: dict[str, Any],
    theme: str = "auto",
    text: str = "",
) -> str:
    """A page of a kind (``graph`` or ``step``) as one self-contained file.

    The first state is in the page as it is, so that it shows without a script; the others, and
    what the script reads, wait beside it.
    """
    waiting = "".join(f"<template>{state.svg}</template>\n" for state in states[1:])
    return Template(page(f"{kind}.html")).substitute(
        title=escape(clean(title, 200)),
        theme=theme,
        style=colors() + page("page.css"),
        first=states[0].svg,
        waiting=waiting,
        text=escape(text),
        data=embedded(data),
        script=page("page.js") + page(f"{kind}.js"),
    )


def page(file: str) -> str:
    """A file that lies in ``page/``."""
    return (files("minigrad.viz") / "page" / file).read_text(encoding="utf-8")


def embedded(data: Any) -> str:
    """Data for a script element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def frame(html: str, text: str, height: int = 560) -> str:
    """A page as a cell of a notebook: apart from all other cells, and with a text where a notebook
    that is not trusted takes frames, scripts and styles away."""
    source = html.replace("&", "&amp;").replace("'", "&#39;")
    return (
        f"<iframe srcdoc='{source}' sandbox='allow-scripts' title='graph' width='100%' "
        f"height='{height}' style='border:0;border-radius:8px'></iframe>\n"
        "<style>.minigrad-text{display:none}</style>\n"
        f"<pre class='minigrad-text'>{escape(text)}</pre>"
    )


def fitting(
    states: Iterable[State], draw: Any, most: int = MOST_BYTES
) -> tuple[list[State], list[str]]:
    """The states a page has room for, drawn; and the names of those left out."""
    kept: list[State] = []
    left_out: list[str] = []
    size = 0
    seen: list[State] = []
    for state in states:
        if any(same(state, other) for other in seen):
            continue
        seen.append(state)
        if len(kept) == MOST_STATES:
            left_out.append(state.label)
            continue
        state.svg = draw(state.trace)
        size += len(state.svg.encode())
        if kept and size > most:
            left_out.append(state.label)
            size -= len(state.svg.encode())
        else:
            kept.append(state)
    return kept, left_out


def same(a: State, b: State) -> bool:
    """Whether two pictures would show the same boxes."""
    return a.opened == b.opened and [n.id for n in a.trace.nodes] == [n.id for n in b.trace.nodes]
