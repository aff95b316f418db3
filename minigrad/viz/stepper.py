"""Stepping through a tape: forward, value by value, then backward, gradient by gradient.

``step`` reads the numbers off the tape, checks some of the gradients against finite differences,
and opens each fused op once into its primitives, on copies of what it was given. What it returns
holds plain data and no tensor.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from math import floor, isfinite, log10
from typing import Any

import numpy as np

from minigrad.backends import backend_of, quiet
from minigrad.engine import scope, set_recording
from minigrad.errors import GraphError
from minigrad.namespace import tensors as namespace
from minigrad.nn.module import Module
from minigrad.ops import Op
from minigrad.tensor import Tensor
from minigrad.viz import dot, html, letters, text, trace, values
from minigrad.viz.differences import Index, Replay
from minigrad.viz.picture import DRAWN, PAGE, SCHEMA, Picture
from minigrad.viz.render import draw
from minigrad.viz.style import THEMES
from minigrad.viz.trace import Edge, Node, Scope, Trace

Array = Any

#: The corner of an array that a table shows.
ROWS, COLUMNS = 8, 8
#: Entries of a gradient that are checked by finite differences.
CHECKS = 3
#: What the checks of a page may cost: ops computed anew, times entries of their values.
MOST_COMPUTED = 20_000_000
#: Ops that a page steps through.
MOST_OPS = 250


@dataclass
class Walk:
    """The steps through one tape: the graph, or an op opened."""

    of: str  # the node of the op that is opened; "" for the graph
    shown: Trace
    opened: str = ""  # what the page's address calls it
    steps: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of the values of an opened op


def step(
    output: Tensor,
    model: Module | None = None,
    *,
    gradient: Tensor | None = None,
    names: Mapping[str, Any] | None = None,
    direction: str = "TB",
    theme: str = "auto",
    title: str | None = None,
) -> Stepper:
    """A page that steps through the graph of ``output``: values forward, gradients backward.

    Each step shows what arrives, what was saved and what leaves, as tables of numbers, and checks
    entries of the gradients against finite differences. Making it changes nothing: no parameter,
    gradient, buffer, random number or saved array.

    Args:
        output: the loss, before or after ``backward()``.
        model: the module whose paths name parameters and modules, as for ``viz.graph``.
        gradient: dL/d(output), for an output of more than one element.
        names: names of tensors of your own, such as ``locals()``.
        direction: ``"TB"``, from top to bottom, or ``"LR"``, from left to right.
        theme: ``"auto"`` (as the reader's system has it), ``"light"`` or ``"dark"``.
        title: the headline; the model's class by default.

    Raises:
        GraphError: ``output`` has no graph, several elements and no ``gradient``, or more ops than
            anybody would step through.

    Example:
        >>> from minigrad import tensor, viz
        >>> w, x = tensor(0.5, requires_grad=True), tensor(2.0)
        >>> print(viz.step((w * x).tanh(), names={"w": w, "x": x}))
        forward, then backward · float32 · 2 ops
        forward 1: %1 = mul(w, x) ()   y = a · b   1
        forward 2: %2 = tanh(%1) ()   y = tanh x   0.7616
        backward 2: tanh: dx = dy · (1 - y²)   dy 1   dx 0.42
        backward 1: mul: da = dy · b,  db = dy · a   dy 0.42   da 0.8399
        gradient of w (): 0.8399
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"step() goes through the graph of a tensor, got {type(output).__name__}.")
    if output.grad_fn is None:
        raise GraphError(
            f"step() has nothing to go through: the tensor, of shape {output.shape}, was not made "
            "by a recorded operation (an input must have requires_grad=True, as parameters do)."
        )
    if gradient is None and output.numel() != 1:
        raise GraphError(
            f"step() of an output of shape {output.shape} needs the gradient to start with; "
            "take .sum() or .mean() first, or pass gradient=."
        )
    count = len(trace.tape([output]))
    if count > MOST_OPS:
        raise GraphError(
            f"step() goes through at most {MOST_OPS} operations one by one, and this graph has "
            f"{count}; step through a part of it, such as step(model.layer(x).sum()), or look "
            "at viz.graph(output).show()."
        )
    for argument, value, choices in (
        ("direction", direction, ("TB", "LR")),
        ("theme", theme, ("auto", *THEMES)),
    ):
        if value not in choices:
            raise ValueError(f"{argument}= must be one of {', '.join(choices)}; got {value!r}.")
    return Stepper(output, model, gradient, names, direction, theme, title)


class Stepper(Picture):
    """What ``viz.step`` returns: plain data of the steps, and the page made from it.

    In a notebook it shows itself; ``print`` lists the steps, ``render`` writes a file.
    """

    drawn = DRAWN + PAGE

    def __init__(
        self,
        output: Tensor,
        model: Module | None,
        gradient: Tensor | None,
        names: Mapping[str, Any] | None,
        direction: str,
        theme: str,
        title: str | None,
    ) -> None:
        self.direction, self.theme = direction, theme
        whole = trace.read([output], model, names)
        model_name = whole.facts.model
        said = "forward, then backward"
        self.title = title or (f"{model_name}  ·  {said}" if model_name else said)
        found = values.read([output], [gradient])
        self.arrays = Arrays()
        budget = Budget(3 if len(found.ops) <= 40 else 1)
        seed = values.seed_of(output, gradient)
        graph = Walk("", whole)
        Walker(graph, found, seed, self.arrays, budget).walk()
        self.walks = [graph]
        self.closed: list[str] = []
        for op, node in inside_out(found.ops, whole):
            if len(self.walks) == html.MOST_STATES:
                self.closed.append(node.id)
                continue
            walk = opened(op, node, found, self.arrays, budget)
            if walk is not None:
                self.walks.append(walk)
        for walk in self.walks[1:]:
            walk.opened = address(walk.of, whole)
        self.unchecked = budget.spent
        self.arrays.seen.clear()

    # ---- as text and data ---------------------------------------------------------------------

    def __str__(self) -> str:
        walk, lines = self.walks[0], [self._headline()]
        nodes = {n.id: n for n in walk.shown.nodes}
        numbers = text.numbered(walk.shown)
        for at in walk.steps:
            node = nodes.get(at["node"])
            if at["phase"] == "forward" and node is not None:
                given = ", ".join(
                    numbers.get(e.source) or nodes[e.source].name
                    for e in walk.shown.edges
                    if e.target == node.id and e.kind == "value"
                )
                said = self._said(at["sections"][-1], named=False)
                lines.append(
                    f"forward {numbers[node.id][1:]}: {numbers[node.id]} = {node.name}({given}) "
                    f"{node.shape}   {node.formula}   {said}"
                )
            elif at["phase"] == "backward" and node is not None and node.ops:
                parts = [s for s in at["sections"] if s["title"] != SAVED]
                said = "   ".join(self._said(s) for s in parts)
                lines.append(f"backward {numbers[node.id][1:]}: {node.name}: {node.vjp}   {said}")
            elif at["phase"] == "done":
                for item in at["sections"][0]["items"]:
                    shape = nodes[item["of"]].shape
                    said = self._said({"items": [item]}, named=False)
                    lines.append(f"gradient of {item['name']} {shape}: {said}")
        return "\n".join(lines)

    def _said(self, section: dict[str, Any], named: bool = True) -> str:
        """The arrays of a section, one number each: the value, or the norm."""
        said = []
        for item in section["items"]:
            row = {} if item["array"] is None else self.arrays.rows[item["array"]]
            norm = f"norm {row['norm']:.4g}" if "norm" in row else "not known any more"
            said.append(f"{item['name']} " * named + row.get("value", norm))
        return "   ".join(said)

    def _headline(self) -> str:
        return " · ".join([self.title, *text.headline(self.walks[0].shown.facts)])

    def __repr__(self) -> str:
        return f"<Stepper {self.title!r}: {len(self.walks[0].steps)} steps>"

    def to_dict(self) -> dict[str, Any]:
        """The steps, as JSON has them: ``states`` (the graph, and each op opened) with ``steps``
        that refer to ``arrays``, and ``records`` of the boxes."""
        states = [html.State("all", walk.opened, walk.shown) for walk in self.walks]
        return {"schema": SCHEMA, **self._data(states, [])}

    def _data(self, states: Sequence[html.State], left_out: list[str]) -> dict[str, Any]:
        records, told = html.table(states)
        walks = {walk.opened: walk for walk in self.walks}
        used: dict[int, int] = {}  # the tables of these states, in a row
        for t in told:
            walk = walks[t["opened"]]
            t |= {"of": walk.of, "steps": renumbered(walk.steps, used)}
        return {
            "title": self.title,
            "facts": " · ".join(text.headline(self.walks[0].shown.facts)),
            "dtype": self.walks[0].shown.facts.dtype,
            "records": records,
            "states": told,
            "arrays": [self.arrays.rows[i] for i in used],
            "left_out": left_out,
            "unchecked": self.unchecked,
        }

    # ---- as a picture -------------------------------------------------------------------------

    def _dot(self, dpi: int | None = None) -> str:
        theme = "light" if self.theme == "auto" else self.theme
        return dot.write(
            self.walks[0].shown,
            self.title,
            theme=theme,
            direction=self.direction,
            dpi=dpi,
            vjps=True,
        )

    def _drawn(self, suffix: str) -> bytes:
        return self.to_html().encode() if suffix in PAGE else super()._drawn(suffix)

    def to_html(self, *, most_bytes: int = html.MOST_BYTES) -> str:
        """The page as one file: slider, buttons, keys, a panel with the numbers of each step.

        Args:
            most_bytes: how large its pictures may be together: one of the graph, one for each
                fused op, opened; the page says which were left out.
        Raises:
            GraphvizError: nothing can draw.
        """
        states, left_out = html.fitting(self._states(), self._inline, most_bytes)
        return html.write(
            "step",
            title=self.title,
            states=states,
            data=self._data(states, left_out),
            theme=self.theme,
            text=str(self),
        )

    def _states(self) -> Iterator[html.State]:
        for walk in self.walks:
            yield html.State("all", walk.opened, walk.shown)

    def _inline(self, shown: Trace) -> str:
        title = self.title if shown is self.walks[0].shown else shown.facts.model
        source = dot.write(
            shown, title, theme=html.STAND_INS, direction=self.direction, links=True, vjps=True
        )
        return html.inline(draw(source, "svg").decode(), title, html.describe(shown))


# ---- what a table shows -----------------------------------------------------------------------


class Arrays:
    """The tables of a page, each once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.known: dict[str, int] = {}
        self.seen: dict[int, tuple[Array, int]] = {}  # by id, while the page is made

    def add(self, array: Array | None) -> int | None:
        """The number of the table of an array."""
        if array is None:
            return None
        if id(array) not in self.seen:
            row = table(array)
            i = self.known.setdefault(json.dumps(row), len(self.rows))
            self.rows += [row] if i == len(self.rows) else []
            self.seen[id(array)] = array, i
        return self.seen[id(array)][1]


def renumbered(steps: Sequence[dict[str, Any]], used: dict[int, int]) -> list[dict[str, Any]]:
    """Steps whose tables are numbered as ``used`` has them, which grows."""

    def again(item: dict[str, Any]) -> dict[str, Any]:
        i = item["array"]
        return item if i is None else {**item, "array": used.setdefault(i, len(used))}

    return [
        {**at, "sections": [{**s, "items": [*map(again, s["items"])]} for s in at["sections"]]}
        for at in steps
    ]


def table(array: Array) -> dict[str, Any]:
    """An array as a table shows it: its corner, rounded, and what is said of the whole."""
    held = host(array)
    part = corner(held)
    row: dict[str, Any] = {"shape": str(held.shape)}
    if part.size < held.size:
        shown = ["0"] * (held.ndim - min(held.ndim, 2))
        shown += [
            f":{n}" if n < size else ":"
            for n, size in zip(part.shape[-held.ndim :], held.shape[-2:], strict=True)
        ]
        row["corner"] = f"[{', '.join(shown)}]"
    finite = part[np.isfinite(part)] if held.dtype.kind == "f" else part
    largest = float(np.abs(finite).max()) if held.dtype.kind == "f" and finite.size else 0.0
    power = 0 if largest == 0 or 0.01 <= largest < 1000 else floor(log10(largest))
    decimals = (
        0 if held.dtype.kind != "f" else 3 if power or largest < 10 else 2 if largest < 100 else 1
    )
    row |= {"power": power, "decimals": decimals, "rows": numbers(part, power, decimals)}
    if held.dtype.kind == "f":
        said = values.statistics(held)
        row |= {"norm": significant(said.norm), "mean": significant(said.mean)}
        row |= {name: getattr(said, name) for name in ("nan", "inf") if getattr(said, name)}
    if held.size == 1:
        row["value"] = f"{held.reshape(-1)[0].item():.4g}"
    return row


def host(array: Array) -> Any:
    """An array, or a number that NumPy made, in the memory of this machine."""
    if isinstance(array, np.generic):
        return np.asarray(array)
    return np.asarray(backend_of(array).to_host(array))


def corner(held: Any) -> Any:
    """The first rows and columns of an array, of its first matrix, as a matrix."""
    while held.ndim > 2 and held.shape[0]:
        held = held[0]
    if held.ndim > 2:
        held = held.reshape(0, 0)
    return (held if held.ndim == 2 else held.reshape(1, -1))[:ROWS, :COLUMNS]


def numbers(part: Any, power: int, decimals: int) -> list[list[Any]]:
    """The rows of a table, as JSON has them."""

    def shown(v: Any) -> Any:
        if isinstance(v, bool | int):
            return int(v)
        if not isfinite(v):
            return str(v)
        return round(v / 10.0**power, decimals) + 0.0  # no negative zero

    return [[shown(v) for v in row] for row in part.tolist()]


def significant(value: float) -> float:
    """Four digits of a number."""
    return float(f"{value:.4g}")


def index_of(held_shape: tuple[int, ...], row: int, column: int) -> Index:
    """Where an entry of a table stands in its array."""
    if len(held_shape) < 2:
        return (column,) if held_shape else ()
    return (*[0] * (len(held_shape) - 2), row, column)


# ---- the steps --------------------------------------------------------------------------------

SAVED = "saved values used"


@dataclass
class Budget:
    """What the finite differences of a page may still cost, in ops computed."""

    entries: int
    left: float = 50_000.0
    spent: bool = False

    def take(self, cost: float) -> bool:
        """Whether a check of this cost is made."""
        if cost > self.left:
            self.spent = True
            return False
        self.left -= cost
        return True


class Walker:
    """Writes down the steps through one tape."""

    def __init__(
        self, walk: Walk, found: values.Values, seed: Array, arrays: Arrays, budget: Budget
    ) -> None:
        self.walk_, self.found, self.arrays, self.budget = walk, found, arrays, budget
        self.seed = seed
        shown = walk.shown
        self.nodes = {n.id: n for n in shown.nodes}
        self.into: dict[str, list[Edge]] = {}
        for e in shown.edges:
            if e.kind == "value":
                self.into.setdefault(e.target, []).append(e)
        self.output = next(n for n in shown.nodes if n.kind == "output")
        self.last = found.ops[int(self.into[self.output.id][0].source[2:])]
        self.replay = Replay(found, {self.last: seed})
        self.cost = self.costs()
        self.passed: Counter[str] = Counter()  # gradients that reached a node so far
        self.total: dict[str, int] = {}  # and how many will
        self.leaves: dict[str, Tensor] = {}

    def costs(self) -> dict[Op, float]:
        """What one finite difference at an op costs: the two sweeps from there on."""
        cost, after = {}, 0.0
        for op in reversed(self.found.ops):
            size = 1
            for n in op.shape:
                size *= n
            after += 2 * (1 + size / 5000)
            cost[op] = after
        return cost

    def walk(self) -> None:
        """All steps."""
        ops = [(op, self.nodes[f"op{i}"]) for i, op in enumerate(self.found.ops)]
        for op, node in ops:
            self.forward(op, node)
        self.start()
        for op, node in ops:
            for e in self.into.get(node.id, ()):
                if op.inputs[e.index] is not None:
                    self.total[e.source] = self.total.get(e.source, 0) + 1
                    if not op.inputs[e.index].seq:
                        self.leaves[e.source] = op.inputs[e.index]
        ends = self.ends()  # first, in case that not all gradients can be checked
        for op, node in reversed(ops):
            self.backward(op, node)
        self.add("done", None, ("gradients of the leaves", ends))

    def add(
        self, phase: str, node: str | None, *sections: tuple[str, list[dict[str, Any]]]
    ) -> None:
        """One step."""
        self.walk_.steps.append(
            {
                "phase": phase,
                "node": node,
                "sections": [{"title": t, "items": items} for t, items in sections if items],
            }
        )

    def item(self, name: str, array: Array | None, **more: Any) -> dict[str, Any]:
        """A named array."""
        kept = {key: value for key, value in more.items() if value}
        return {"name": name, "array": self.arrays.add(array), **kept}

    def called(self, op: Op, e: Edge) -> str:
        """What an input of an op is called: by its name, or as the op's formula has it."""
        return self.walk_.names.get(e.source) or letter(op, e.argument)

    def put(self, op: Op, node: Node) -> dict[str, str]:
        """What the arguments of an op, and its value, are called."""
        put = {e.argument: self.called(op, e) for e in self.into.get(node.id, ())}
        return {**put, "y": self.walk_.names.get(node.id, "y")}

    def forward(self, op: Op, node: Node) -> None:
        """The value of an op."""
        given = self.found.inputs(op)
        coming = [
            self.item(self.called(op, e), given[e.index], of=e.source)
            for e in self.into.get(node.id, ())
        ]
        put = self.put(op, node)
        kept = (
            [put.get(name, name) for name in self.found.saved(op)]
            if any(x is not None for x in op.inputs)
            else []
        )
        value = self.item(put["y"], self.found.value(op), keeps=kept)
        self.add("forward", node.id, ("values that come in", coming), ("value", [value]))

    def start(self) -> None:
        """The gradient of the output by itself."""
        name = self.output.name
        item = self.item(f"d{name}", self.seed, of=self.into[self.output.id][0].source)
        self.add("backward", self.output.id, ("gradient to start with", [item]))

    def backward(self, op: Op, node: Node) -> None:
        """The gradients that an op passes on."""
        grad = self.found.arriving(op)
        flows = self.found.leaving(op)
        uses = self.total.get(node.id, 0)
        note = f"sum of {uses}: it was used {uses} times" if uses > 1 else ""
        put = self.put(op, node)
        arriving = self.item(f"d{put['y']}", grad, note=note)
        saved = [self.item(put.get(n, n), a) for n, a in self.found.saved(op).items()]
        leaving = []
        for e in self.into.get(node.id, ()):
            edge, flow = op.inputs[e.index], flows[e.index]
            if edge is None:
                continue
            self.passed[e.source] += 1
            n, of = self.passed[e.source], self.total[e.source]
            part, name = f"{n} of {of}" if of > 1 else "", f"d{self.called(op, e)}"
            checks = self.checks(flow, op, e.index)
            leaving.append(self.item(name, flow, of=e.source, part=part, checks=checks))
            if n == of > 1:
                whole = self.found.arriving(edge) if edge.seq else self.found.gradient(edge)
                leaving.append(self.item(name, whole, of=e.source, part="total"))
        self.add(
            "backward",
            node.id,
            ("gradient arriving", [arriving]),
            (SAVED, saved),
            ("gradient leaving", leaving),
        )

    def ends(self) -> list[dict[str, Any]]:
        """The gradients of the leaves."""
        items = []
        for leaf, tensor in self.leaves.items():
            grad = self.found.gradient(tensor)
            checks = self.checks(grad, tensor)
            items.append(self.item(self.nodes[leaf].name, grad, of=leaf, checks=checks))
        return items

    def checks(self, grad: Array | None, at: Any, i: int | None = None) -> dict[str, Any]:
        """Entries of a gradient beside finite differences, by row and column of its table.

        ``at`` is the op whose input ``i`` it belongs to, or, without ``i``, a leaf in all its uses.
        """
        if grad is None:
            return {}
        part = corner(host(grad))
        if not part.size or part.dtype.kind != "f" or not np.isfinite(part).all():
            return {}
        size = part.shape[1]
        wanted = [int(np.abs(part).argmax()), 0, part.size - 1]
        first = at if i is not None else self.replay.uses[at][0][0]
        found = {}
        for flat in list(dict.fromkeys(wanted))[: self.budget.entries]:
            if not self.budget.take(self.cost[first]):
                break
            row, column = divmod(flat, size)
            index = index_of(tuple(grad.shape), row, column)
            difference = (
                self.replay.of_value(at, index) if i is None else self.replay.of_use(at, i, index)
            )
            if difference is not None:
                vjp = float(part[row, column])
                found[f"{row},{column}"] = [
                    float(f"{difference.value:.7g}"),
                    float(f"{vjp:.7g}"),
                    float(f"{difference.h:.2g}"),
                    *(["kink"] if difference.kink else []),
                ]
        return found


# ---- fused ops opened -------------------------------------------------------------------------


def inside_out(ops: Sequence[Op], whole: Trace) -> list[tuple[Op, Node]]:
    """The fused ops, of each kind the first one first."""
    nodes = {n.id: n for n in whole.nodes}
    fused = [(op, nodes[f"op{i}"]) for i, op in enumerate(ops) if op.fused]
    seen: Counter[str] = Counter()
    order = []
    for op, node in fused:
        order.append((seen[op.name], op, node))
        seen[op.name] += 1
    return [(op, node) for _, op, node in sorted(order, key=lambda row: row[0])]


#: What formulas call an argument whose name they do not write out.
LETTERS = {
    "weight": ("W", "w"),
    "bias": ("b",),
    "gamma": ("γ",),
    "beta": ("β",),
    "mean": ("μ",),
    "var": ("σ²",),
    "logits": ("z",),
    "target": ("t",),
}


def letter(op: Op, argument: str) -> str:
    """What the formulas of an op call an argument."""
    for said in LETTERS.get(argument, ()):
        if re.search(rf"(?<!\w)d?{re.escape(said)}(?!\w)", f"{op.formula} {op.vjp}"):
            return said
    return argument


def keeping() -> tuple[type[Tensor], list[Tensor]]:
    """Tensors that hold on to all that is made of them: a tape does not hold its constants."""
    made: list[Tensor] = []

    class Kept(Tensor):
        __slots__ = ()

    def keep(make: Any) -> Any:
        def kept(*args: Any) -> Tensor:
            tensor: Tensor = make(*args)
            tensor.__class__ = Kept
            made.append(tensor)
            return tensor

        return staticmethod(kept)

    for name in ("_apply", "_binary", "_wrap"):
        setattr(Kept, name, keep(getattr(Tensor, name)))
    return Kept, made


def opened(
    op: Op,
    node: Node,
    found: values.Values,
    arrays: Arrays,
    budget: Budget,
) -> Walk | None:
    """The steps through the primitives of a fused op, on copies of what it was given and with the
    gradient that arrives at it; None where they are not known."""
    grad, known = found.arriving(op), found.value(op)
    if grad is None or known is None:
        return None
    kept, made = keeping()
    inputs: list[Any] = []
    for i, array in enumerate(found.inputs(op)):
        if not hasattr(array, "dtype"):
            inputs.append(array)
            continue
        tensor = kept._wrap(array.copy())
        inputs.append(tensor.requires_grad_() if op.needs(i) else tensor)
    token = scope.set(None)  # no module is being called
    try:
        with set_recording(True), quiet():
            y = copy(op).composed(namespace, *inputs)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # an input is gone
    finally:
        scope.reset(token)
    if y.grad_fn is None or not np.allclose(known, y.array, rtol=1e-2, atol=1e-3):
        return None
    given = zip(trace.arguments(op), inputs, strict=False)
    names = {trace.SYMBOLS.get(name, name): t for name, t in given if isinstance(t, Tensor)}
    inner = trace.read([y], None, {**names, "y": y})
    inner.facts.model = f"{node.name}, opened"
    walk = Walk(node.id, inner, names=spelt(inner, node))
    seeds = [kept._wrap(grad.copy())]
    Walker(walk, values.read([y], seeds), grad, arrays, budget).walk()
    made.clear()  # which it held until here
    return walk


def spelt(inner: Trace, op: Node) -> dict[str, str]:
    """The names of the values of an opened op, by node; its formulas are written with them, and the
    steps of a normalization framed."""
    names, into = letters.named(inner), letters.inputs_of(inner)
    steps = letters.steps(inner, op.name, names)
    last = next(e.source for e in inner.edges if e.target == "output0")
    names[last] = "y"
    uses = Counter(e.source for e in inner.edges)
    shared = {source for source, n in uses.items() if n > 1}
    frames = {
        step: Scope(f"step{i}", step, step, "", "", "")
        for i, step in enumerate(dict.fromkeys(steps.values()))
    }
    eps = op.attributes.get("eps")
    for node in inner.nodes:
        if node.ops:
            edges, own = into[node.id], names[node.id]
            known = replace(node, attributes={**node.attributes, "eps": eps})
            node.formula = letters.forward(known, edges, names, own)
            node.vjp = letters.backward(known, edges, names, own, shared, set())
            node.scope = frames[steps[node.id]].id if node.id in steps else None
            if eps in node.numbers.values():
                node.notes = [f"ε = {eps:.4g}"]
    inner.scopes += frames.values()
    return names


def address(op: str, whole: Trace) -> str:
    """What the page's address calls an opened op: its module's path, where that says which."""
    scopes = {s.id: s.path for s in whole.scopes}
    paths = {n.id: scopes.get(n.scope or "", "") for n in whole.nodes if n.fused}
    path = paths[op]
    return path if path and list(paths.values()).count(path) == 1 else op
