"""Names for the values inside an opened op, and its formulas written with them.

``q = c · c`` says more than ``y = a · b``. A value's name follows from what it is: the mean of x is
μ, x less μ is c, and so on down the table. A view of a value keeps its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from minigrad.viz.trace import DERIVED, Edge, Node, Trace

#: What the formulas call the inputs of an op.
INPUTS = {
    "gamma": "γ",
    "beta": "β",
    "mean": "μ",
    "var": "σ²",
    "weight": "W",
    "bias": "b",
    "logits": "z",
    "target": "t",
}

#: (op, names of its inputs) -> name of its value.
VALUES = {
    # norms
    ("mean", "x"): "μ",
    ("sub", "x", "μ"): "c",
    ("mul", "c", "c"): "q",
    ("mul", "x", "x"): "q",
    ("mean", "q"): "v",
    ("add", "v"): "w",
    ("add", "σ²"): "w",
    ("sqrt", "w"): "s",
    ("div", "c", "s"): "x̂",
    ("div", "x", "s"): "x̂",
    ("mul", "x̂", "γ"): "u",
    # softmax and its logarithm
    ("amax", "x"): "m",
    ("amax", "z"): "m",
    ("sub", "x", "m"): "c",
    ("sub", "z", "m"): "c",
    ("exp", "c"): "e",
    ("sum", "e"): "S",
    ("log", "S"): "l",
    ("sub", "c", "l"): "p",
    ("gather", "p", "t"): "g",
    ("neg", "g"): "L",
    ("where", "t", "L"): "L′",
    ("sum", "L′"): "T",
}

#: Where the table has no row: by op, numbered where there are several.
OTHERS = {"matmul": "z", "pad": "p", "slice": "", "index_add": "f", "concatenate": "k", "add": "a"}

#: Views that show the same values in another order or shape.
SAME = {"reshape", "expand", "clone", "cast"}

#: What a normalization does in turn, by the values it makes.
STEPS = (
    ("statistics", {"μ", "c", "q", "v"}),
    ("normalise", {"c", "w", "s", "x̂"}),
    ("scale and shift", set[str]()),
)
NORMS = {"batch_norm", "batch_norm_inference", "layer_norm", "group_norm", "rms_norm"}

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def named(inside: Trace) -> dict[str, str]:
    """The name of every value of an opened op, by the node that makes it."""
    into = inputs_of(inside)
    names: dict[str, str] = {}
    made: list[tuple[str, str]] = []  # (node, name) of those that are numbered
    for node in inside.nodes:
        if not node.ops:
            if node.kind != "output":
                names[node.id] = INPUTS.get(node.name, node.name)
            continue
        from_ = [names[e.source] for e in into[node.id]]
        known = VALUES.get((node.name, *from_))
        if known:
            names[node.id] = known
        elif node.name in SAME and from_:
            names[node.id] = from_[0]
        elif node.name == "transpose":
            names[node.id] = f"{from_[0]}ᵀ"
        else:
            base = OTHERS.get(node.name, "t") or from_[0].rstrip("₀₁₂₃₄₅₆₇₈₉")
            names[node.id] = base
            made.append((node.id, base))
    counts = Counter(base for _, base in made)
    taken = Counter(names.values())
    number: Counter[str] = Counter()
    fresh: dict[str, str] = {}
    for node_id, base in made:
        if counts[base] > 1 or taken[base] > counts[base]:
            number[base] += 1
            fresh[node_id] = base + str(number[base]).translate(SUBSCRIPTS)
    for node in inside.nodes:  # views follow what they are views of
        if node.id in fresh:
            names[node.id] = fresh[node.id]
        elif node.name in SAME and node.ops and into[node.id]:
            names[node.id] = names[into[node.id][0].source]
    return names


def inputs_of(inside: Trace) -> dict[str, list[Edge]]:
    """The uses of values by each node, in the order of its inputs."""
    into: dict[str, list[Edge]] = {n.id: [] for n in inside.nodes}
    for e in inside.edges:
        into[e.target].append(e)
    return into


def steps(inside: Trace, op: str, names: dict[str, str]) -> dict[str, str]:
    """Which step of a normalization each primitive belongs to; nothing for other ops."""
    if op not in NORMS:
        return {}
    constant = op == "batch_norm_inference"  # there the statistics are given
    into = inputs_of(inside)
    found: dict[str, str] = {}
    past = False  # whether x̂ is there
    ops = [n for n in inside.nodes if n.ops]
    for node in ops:
        name = names[node.id]
        if past:
            found[node.id] = STEPS[2][0]
        elif name in STEPS[0][1] and not (constant and name in STEPS[1][1]):
            found[node.id] = STEPS[0][0]
        else:
            found[node.id] = STEPS[1][0]
        past = past or (name == "x̂" and not node.view)
    for node in reversed(ops):  # a view of an input stands with what uses it
        if node.view and all(e.source[:2] != "op" for e in into[node.id]):
            users = [e.target for e in inside.edges if e.source == node.id and e.target in found]
            if users:
                found[node.id] = found[users[0]]
    return found


# ---- formulas --------------------------------------------------------------------------------


def forward(node: Node, edges: Iterable[Edge], names: dict[str, str], own: str) -> str:
    """The formula of a primitive with the names of its values."""
    put = _names(node, edges, names, own)
    if node.name in SAME and node.view:
        return f"{put.get('x', own)} as {tuple(node.shape or ())}"
    return written(node.formula, put)


def backward(
    node: Node,
    edges: list[Edge],
    names: dict[str, str],
    own: str,
    shared: set[str],
    constant: set[str],
) -> str:
    """The vjp of a primitive with the names of its values.

    A value that others use as well gets a share, ``+=``; one that was stretched the sum, Σ.
    """
    put = _names(node, edges, names, own)
    if node.id in constant:
        return ""
    by_argument = {e.argument: e for e in edges}
    if node.name in SAME and node.view and edges:
        return f"d{put['x']}: back to {tuple(edges[0].shape or ())}"
    parts: list[tuple[str, str, str]] = []
    for part in re.split(r"[,;]  ", node.vjp):
        left, equals, right = part.partition(" = ")
        if right == "0" and len(node.vjp) > len(part):
            continue  # dx = 0;  dx[index] += dy
        e: Edge | None = by_argument.get(left[1:])
        if left[1:] in node.numbers or (equals and left[1:] in ("a", "b") and e is None):
            continue  # a number has no gradient
        if e is not None and e.source in constant:
            continue
        if e is not None and (e.name == DERIVED or "float" not in (e.dtype or "float")):
            continue
        said = written(right, put)
        if e is not None and e.stretched is not None:
            said = f"-Σ {said[1:]}" if said.startswith("-") else f"Σ {said}"
        sign = " += " if e is not None and e.source in shared and equals else equals
        parts.append((written(left, put), sign, said))
    said_already = Counter(parts)
    return ",  ".join(
        f"{left}{sign}{_times(said_already[left, sign, right])}{right}"
        for left, sign, right in dict.fromkeys(parts)
    )


def _times(n: int) -> str:
    return f"{n} " if n > 1 else ""


def _names(node: Node, edges: Iterable[Edge], names: dict[str, str], own: str) -> dict[str, str]:
    put = {
        e.argument: f"n({names[e.source]})" if e.name == DERIVED else names[e.source] for e in edges
    }
    for argument, number in node.numbers.items():
        put[argument] = "ε" if number == node.attributes.get("eps") else f"{number:.4g}"
    if "index" in put and any("float" in (e.dtype or "") for e in edges if e.argument == "index"):
        put["index"] = f"argmax {put['index']}"
    if node.name == "where":
        put["c"] = f"{put.pop('condition', '')} > 0"
        put |= {a: "0" for a in ("a", "b") if a not in put}
    return {**put, "y": own}


def written(formula: str, put: dict[str, str]) -> str:
    """``formula`` with the names in ``put`` replaced, also in ``dx``, ``x²``, ``bᵀ``."""
    if not put:
        return formula
    known = "|".join(sorted(map(re.escape, put), key=len, reverse=True))
    pattern = rf"(?<![^\W_])(d?)({known})(?![^\W²³ᵀ_])"
    return re.sub(pattern, lambda m: m[1] + put[m[2]], formula).replace("ᵀᵀ", "")
