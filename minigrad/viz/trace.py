"""The tape as plain data: what the ops of a graph recorded, as nodes and edges without tensors.

Reading runs nothing and changes nothing. Nodes are numbered in the order of the tape, so the same
program gives the same data every time. Every walk is a loop, so a chain of a million ops is no
deeper than one of ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any
from weakref import ref

from minigrad.nn.module import Buffer, Call, Module, Parameter, path_of
from minigrad.ops import BatchNorm, BatchNormInference, Dropout, Op
from minigrad.ops.reduce import Mean, Reduction
from minigrad.shapes import Shape
from minigrad.tensor import Tensor
from minigrad.viz.describe import (
    arguments,
    array_of,
    buffers,
    config,
    dtype_name,
    facts_of,
    keeps,
    moving,
    places,
    plain,
    running,
    stretched,
    unusual,
    value_of,
    values_held,
)
from minigrad.viz.sources import told

__all__ = [
    "Edge",
    "Facts",
    "Node",
    "Reader",
    "Saved",
    "Scope",
    "Trace",
    "arguments",
    "config",
    "places",
    "read",
    "reading",
    "running",
    "tape",
]

#: Ops that one mode of a layer records and the other does not: the mode, and what to say about it.
MODES: dict[type[Op], tuple[str, str]] = {
    BatchNorm: ("train", "statistics of this batch"),
    BatchNormInference: ("eval", "running statistics, constants"),
    Dropout: ("train", ""),
}

#: The name of a value that is not its source's, but was computed from it without a gradient.
DERIVED = "derived"

#: How the formulas write an argument, where its name does not say it.
SYMBOLS = {"gamma": "γ", "beta": "β", "mean": "μ", "var": "σ²"}

#: The same for what an op saves.
SAVED = {
    **SYMBOLS,
    "weight": "W",
    "logits": "z",
    "target": "t",
    "probabilities": "softmax(z)",
    "count": "n",
    "inv_std": "1/σ",
    "inv_rms": "1/r",
}


@dataclass(slots=True)
class Saved:
    """One array that an op keeps for its gradient; shape and size where they were read."""

    name: str
    symbol: str
    shape: Shape | None = None
    dtype: str | None = None
    bytes: int | None = None


@dataclass(slots=True)
class Node:
    """One box.

    ``kind`` is ``op``; ``input`` (data), ``parameter``, ``buffer``; ``output``; or, in a graph that
    was made smaller (shrink.py), ``module`` and ``hidden``, which stand for several ``ops``. The
    backward graph (backward.py) adds ``vjp``, ``gradient`` (of a leaf), ``sum``, ``seed`` and
    ``stop``.
    """

    id: str
    kind: str
    name: str
    scope: str | None = None  # the Scope it stands in
    shape: Shape | None = None  # of the value; None where it is no longer known
    dtype: str | None = None
    value: str = ""  # of a value of one element
    notes: list[str] = field(default_factory=list)  # what else a reader should know
    formula: str = ""
    vjp: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None  # of an op that only this mode records
    fused: bool = False
    reduces: bool = False
    view: bool = False
    symbol: str = ""  # of a parameter or buffer: its letter in the formula
    frozen: bool = False
    ops: int = 0
    parameters: int = 0  # how many numbers are learnt in it
    saved: list[Saved] = field(default_factory=list)  # for its gradient
    rule: tuple[Any, ...] | None = None  # whose gradient recorded it; see gradients.OfGradient
    of: str | None = None  # in the backward graph: the node whose gradient it is
    statistics: dict[str, Any] | None = None  # of the value, and values of a small one
    gradient: dict[str, Any] | None = None  # the same of the gradient that arrives here
    source: str = ""  # the user's file:line, where it was recorded
    code: str = ""  # and that line
    findings: list[str] = field(default_factory=list)  # what is wrong with it (health.py)
    ring: bool = False  # NaN or infinity begins here
    cost: float | None = None  # what ``heat`` shows of it
    cost_back: float = 0.0  # of that, what its gradient cost
    live: float | None = None  # bytes alive when it had run
    numbers: dict[str, float] = field(default_factory=dict)  # inputs that are Python numbers
    keeps: list[str] = field(default_factory=list)  # of an opened op: the values it keeps, by name
    primitives: int = 0  # of a fused op: how many ops it is made of
    inside: str = ""  # of a fused op: those ops, a key of Trace.insides
    failed: bool = False  # the op that raised; its notes say the error
    updates: bool = False  # a buffer that an opened op moves: a box of its own
    copies: int = 1  # of a rolled box or leaf: how many it stands for
    change: str = ""  # in a comparison: "added", "removed", "changed"


@dataclass(slots=True)
class Edge:
    """One use of a value by an op.

    With ``kind`` "update", an op that changes a buffer; "detached", a use without gradient; "loop",
    a value that the next of rolled copies uses. The backward graph adds ``gradient``, ``saved``
    (from an op to its vjp) and ``call``.
    """

    source: str
    target: str
    index: int = 0  # which input of the target
    argument: str = ""  # what the target calls it
    shape: Shape | None = None
    dtype: str | None = None
    stretched: Shape | None = None  # the shape it is broadcast to, where that is another
    uses: int = 1  # how often the value is used in all; its gradients add
    kind: str = "value"
    wanted: bool = False  # whether a gradient flows back along it
    gradient: dict[str, Any] | None = None  # the statistics of that gradient
    lost: bool = False  # NaN or infinity flows here
    name: str = ""  # what the value is called in an opened op
    copies: int = 1  # of an edge of a rolled box: how many it stands for
    change: str = ""  # in a comparison: "added", "removed"


@dataclass(slots=True)
class Scope:
    """A frame: one call of one module and what it recorded, or (``kind``) an opened "op", a "group"
    of its primitives, or rolled "steps".
    """

    id: str
    name: str  # of the attribute that holds it; empty for an outermost module
    path: str
    cls: str
    config: str
    mode: str  # "train" or "eval"
    parent: str | None = None
    call: int = 1  # which of the calls of this module
    calls: int = 1
    kind: str = "module"
    notes: list[str] = field(default_factory=list)  # lines below its title
    copies: int = 1  # how many copies of it, one after another, were rolled into this one

    @property
    def label(self) -> str:
        """What it is called: ``fc1``, or ``fc1, call 2 of 3``."""
        name = self.name or self.cls
        return f"{name}, call {self.call} of {self.calls}" if self.calls > 1 else name

    @property
    def title(self) -> str:
        """Class and sizes: ``Linear(4 → 8)``."""
        return f"{self.cls}({self.config})" if self.config else self.cls


@dataclass(slots=True)
class Facts:
    """What the title line says."""

    model: str = ""
    mode: str = ""
    dtype: str = ""
    ops: int = 0
    parameters: int = 0
    unreached: list[str] = field(default_factory=list)  # parameters of the model not in the graph
    shown: str = ""  # how the graph was made smaller
    backward: int = 0  # how many vjps are drawn
    hint: str = ""  # what to do to see more
    health: str = ""  # how many findings, where it was checked
    heat: str = ""  # what the stripes show, one of heat.HEATS
    said: list[str] = field(default_factory=list)  # instead of all that: of an op without data


@dataclass(slots=True)
class Trace:
    """A graph as data. ``root`` is the scope of the whole model, which needs no frame."""

    nodes: list[Node]
    edges: list[Edge]
    scopes: list[Scope]
    root: str | None
    facts: Facts
    insides: dict[str, Trace] = field(default_factory=dict)  # what fused ops are made of
    places: dict[Any, Any] = field(default_factory=dict)  # nodes by number on the clock, by tensor


def read(
    outputs: Sequence[Tensor],
    model: Module | None = None,
    names: Mapping[str, Any] | None = None,
    look: Callable[[Op], Trace | None] | None = None,
) -> Trace:
    """Read the tape that leads to ``outputs``; see ``viz.graph`` for the arguments.

    ``look`` says what a fused op is made of (viz/inside.py).
    """
    return reading(outputs, model, names, look).finish()


def reading(
    outputs: Sequence[Tensor],
    model: Module | None = None,
    names: Mapping[str, Any] | None = None,
    look: Callable[[Op], Trace | None] | None = None,
) -> Reader:
    """The reader that has read the tape: it knows the tensors, which the data does not."""
    reader = Reader(model, names or {}, look)
    ops = tape(outputs)
    reader.held = values_held(ops)
    for op in ops:
        reader.read(op)
    for output in outputs:
        reader.read_output(output)
    return reader


def reading_failed(
    error: BaseException,
    model: Module | None = None,
    names: Mapping[str, Any] | None = None,
    look: Callable[[Op], Trace | None] | None = None,
) -> Reader:
    """The reader of what led to an error that an op or a module raised: what ran, what failed."""
    reader = Reader(model, names or {}, look)
    failure = error._failure  # type: ignore[attr-defined]
    held = [x() if isinstance(x, ref) else x for x in failure.inputs]
    for op in tape([t for t in held if isinstance(t, Tensor)]):
        reader.read(op)
    reader.read_failure(failure, f"{type(error).__name__}: {error}")
    return reader


def tape(outputs: Sequence[Tensor]) -> list[Op]:
    """Every op that the outputs depend on, in the order of recording."""
    seen: set[Op] = set()
    stack = [t.grad_fn for t in outputs if t.grad_fn is not None]
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(e for e in op.inputs if e is not None and e.seq and e not in seen)
    return sorted(seen, key=lambda op: op.seq)


class Reader:
    """Turns ops, one after another, into nodes, edges and scopes."""

    def __init__(
        self,
        model: Module | None,
        names: Mapping[str, Any],
        look: Callable[[Op], Trace | None] | None = None,
    ) -> None:
        self.model = model
        self.look = look
        self.insides: dict[Any, tuple[str, Trace] | None] = {}  # by type, settings and shapes
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.scopes: dict[Call, Scope | None] = {}
        self.called: list[tuple[Scope, Module]] = []
        self.made: dict[Op, Node] = {}
        self.leaves: dict[Any, Node] = {}
        self.counts: Counter[str] = Counter()
        self.calls: Counter[Module] = Counter()
        self.unnamed: list[
            Node
        ] = []  # inputs called by what the first op that uses them calls them
        self.around: str | None = None  # the scope of the op being read
        self.held: dict[int, Op] = {}  # by id of an array that is still kept: the op that made it
        self.given = {t: name for name, t in reversed(list(names.items())) if isinstance(t, Tensor)}
        self.paths: dict[Any, str] = {}
        self.states: dict[Module, dict[Tensor, str]] = {}
        if model is not None:
            self.paths = {module: path for path, module in model.named_modules()}

    # ---- ops ---------------------------------------------------------------------------------

    def read(self, op: Op) -> None:
        """One op with the leaves it is the first to use."""
        rule = None if op.scope is None else op.scope.rule
        scope = self.scope(op.scope) if rule is None else None  # gradients stand outside of frames
        self.around = None if scope is None else scope.id
        mode, note = MODES.get(type(op), (None, ""))
        source, code = told(op)
        node = Node(
            id=f"op{len(self.made)}",
            kind="op",
            name=op.name,
            scope=self.around,
            shape=tuple(op.shape),
            dtype=dtype_name(op.dtype),
            notes=[note] if note else [],
            formula=op.formula,
            vjp=op.vjp,
            attributes={name: plain(value) for name, value in op.attributes().items()},
            mode=mode,
            fused=op.fused,
            reduces=isinstance(op, Reduction),
            view=op.view,
            ops=1,
            rule=rule,
            source=source,
            code=code,
            saved=[Saved(name, SAVED.get(name, name)) for name in keeps(op)],
        )
        self.made[op] = node
        if scope is not None and mode is not None:
            scope.mode = mode  # the tape knows better than module.training, which may have changed
        for i, (edge, argument) in enumerate(zip(op.inputs, arguments(op), strict=False)):
            if edge is not None and edge.seq:
                self.connect(self.made[edge], node, op, i, argument)
                continue
            held = edge if edge is not None else running(op, argument)
            if held is None and op.constants is not None:
                held = op.constants[i]
            if held is None:
                node.notes.append(f"no {argument}")
            elif isinstance(held, bool | int | float):
                node.notes.append(f"{argument} = {held:.4g}")
                node.numbers[argument] = held
            else:
                self.constant(held, node, op, i, argument)
        node.notes += unusual(op)
        self.nodes.append(node)
        if op.fused and self.look is not None:
            node.keeps = keeps(op)
            self.look_inside(op, node)
        if isinstance(op, BatchNorm | Mean):
            self.update_running(op, node)

    def constant(self, held: Any, node: Node, op: Op, i: int, argument: str) -> None:
        """An input that no op made: a leaf, or the weak reference that the tape holds to one."""
        self.connect(self.leaf(held, op, i, argument), node, op, i, argument)

    def look_inside(self, op: Op, node: Node) -> None:
        """What a fused op is made of, found out once for all that are alike."""
        key = (type(op), str(op.attributes()), tuple(op.given))
        if key not in self.insides:
            found = None if self.look is None else self.look(op)
            named = f"inside{len(self.insides)}"
            self.insides[key] = None if found is None else (named, found)
        known = self.insides[key]
        if known is not None:
            node.inside, node.primitives = known[0], known[1].facts.ops

    def connect(self, source: Node, target: Node, op: Op, i: int, argument: str) -> None:
        """The use of a value as input ``i``."""
        self.edges.append(
            Edge(
                source=source.id,
                target=target.id,
                index=i,
                argument=argument,
                shape=source.shape,
                dtype=source.dtype,
                stretched=stretched(op, source.shape),
                wanted=i < len(op.inputs) and op.inputs[i] is not None,
            )
        )

    def update_running(self, op: Op, node: Node) -> None:
        """The buffers that a train-mode norm moves towards the statistics of its batch."""
        changed = [b for name, b in buffers(op).items() if name.startswith("running_")]
        module = None if op.scope is None else op.scope.module()
        if not getattr(module, "update_running", True):  # frozen
            changed = []
        if isinstance(op, Mean):  # a norm from primitives: first the mean, then that of the squares
            changed = [b for b in changed if b not in self.leaves][:1]
            node.mode = "train" if changed else None
        for buffer in changed:
            leaf = self.leaf(buffer, op, 0, "")
            leaf.notes = ["updated in place"]
            leaf.formula = moving(module, buffer) or leaf.formula
            self.edges.append(
                Edge(node.id, leaf.id, shape=leaf.shape, dtype=leaf.dtype, kind="update")
            )

    # ---- leaves ------------------------------------------------------------------------------

    def leaf(self, held: Any, op: Op, i: int, argument: str) -> Node:
        """The node of a leaf tensor, given itself or the weak reference that the tape holds."""
        tensor = held if isinstance(held, Tensor) else held()
        # One reference stands for one tensor, and the op keeps it: it serves as key for a dead one.
        key = tensor if tensor is not None else id(held)
        if key in self.leaves:
            return self.leaves[key]
        kind, name = self.identify(tensor, op)
        shape, dtype = facts_of(tensor, op, i)
        node = self.leaves[key] = Node(
            id=f"{kind}{self.counts[kind]}",
            kind=kind,
            name=name or argument,
            scope=self.around,
            shape=shape,
            dtype=dtype,
            value=value_of(tensor),
        )
        self.counts[kind] += 1
        if kind == "parameter":
            node.frozen = not tensor.requires_grad
            node.parameters = prod(shape or ())
        elif tensor is not None and tensor.requires_grad:
            node.notes.append("requires grad")
        if kind == "input" and (source := self.held.get(id(array_of(tensor, op, i)))):
            node.notes.append(f"detached from {source.name}")
        if kind != "input":
            node.symbol = SYMBOLS.get(argument, "")
        elif not name:
            self.unnamed.append(node)
        self.nodes.append(node)
        return node

    def identify(self, tensor: Tensor | None, op: Op) -> tuple[str, str]:
        """What kind of leaf it is, and its name where somebody gave it one."""
        if tensor is None:
            return "input", ""
        name = self.given.get(tensor, "")
        kind = "input"
        if self.model is not None:
            name = self.state(self.model).get(tensor, name)
        call = op.scope
        while call is not None and not name:
            module = call.module()
            if module is not None and tensor in self.state(module):
                name = ".".join(filter(None, (self.path(call, module), self.state(module)[tensor])))
            call = call.parent
        if isinstance(tensor, Parameter):
            kind = "parameter"
        elif isinstance(tensor, Buffer):
            kind = "buffer"
        return kind, name

    def state(self, module: Module) -> dict[Tensor, str]:
        """The paths of the module's parameters and buffers."""
        if module not in self.states:
            named = [*module.named_parameters(), *module.named_buffers()]
            self.states[module] = {tensor: path for path, tensor in named}
        return self.states[module]

    # ---- modules -----------------------------------------------------------------------------

    def scope(self, call: Call | None) -> Scope | None:
        """The scope of a call, made together with those around it.

        A module that is gone leaves no scope: nothing is known of it but that it was there.
        """
        missing = []
        while call is not None and call not in self.scopes:
            missing.append(call)
            call = call.parent
        scope = None if call is None else self.scopes[call]
        for inner in reversed(missing):
            module = inner.module()
            if module is not None:
                scope = self.new_scope(inner, module, scope)
            self.scopes[inner] = scope
        return scope

    def new_scope(self, call: Call, module: Module, around: Scope | None) -> Scope:
        """The scope of one call."""
        path = self.path(call, module)
        self.calls[module] += 1
        scope = Scope(
            id=f"module{len(self.called)}",
            name=path.rpartition(".")[2],
            path=path,
            cls=type(module).__name__,
            config=config(module),
            mode="train" if module.training else "eval",
            parent=None if around is None else around.id,
            call=self.calls[module],
        )
        self.called.append((scope, module))
        return scope

    def path(self, call: Call, module: Module) -> str:
        """Where the called module stands in the model."""
        scope = self.scopes.get(call)
        if scope is not None:
            return scope.path
        return self.paths[module] if module in self.paths else path_of(call)

    # ---- the whole ---------------------------------------------------------------------------

    def read_output(self, tensor: Tensor) -> None:
        """The box at the end."""
        source = self.made[tensor.grad_fn]  # type: ignore[index]
        n = self.counts["output"]
        self.counts["output"] += 1
        is_loss = not source.shape and bool(self.counts["parameter"])
        node = Node(
            id=f"output{n}",
            kind="output",
            name=self.given.get(tensor) or ("loss" if is_loss else "output"),
            shape=source.shape,
            dtype=source.dtype,
            value=value_of(tensor),
        )
        self.nodes.append(node)
        self.edges.append(Edge(source.id, node.id, shape=source.shape, dtype=source.dtype))

    def read_failure(self, failure: Any, message: str) -> None:
        """The op that raised, at the end of what ran before it."""
        scope = self.scope(failure.scope)
        self.around = None if scope is None else scope.id
        op = Op()
        op.scope, op.saved, op.inputs = failure.scope, (), ()
        node = Node(
            id="failed",
            kind="op",
            name=failure.name,
            scope=self.around,
            formula=failure.formula,
            notes=message.split("\n"),
            ops=1,
            failed=True,
        )
        for i, held in enumerate(failure.inputs):
            tensor = held() if isinstance(held, ref) else held
            if not isinstance(tensor, Tensor):
                continue
            made = tensor.grad_fn
            source = self.leaf(tensor, op, i, f"x{i + 1}") if made is None else self.made[made]
            edge = Edge(source.id, node.id, i, f"x{i + 1}", tensor.shape, dtype_name(tensor.dtype))
            self.edges.append(edge)
        self.nodes.append(node)

    def finish(self) -> Trace:
        """Everything, with the facts that only the whole shows."""
        uses = Counter(e.source for e in self.edges if e.kind == "value")
        for e in self.edges:
            if e.kind == "value":
                e.uses = uses[e.source]
        taken = Counter(n.name for n in self.nodes if n.kind == "input")
        for i, node in enumerate(self.unnamed):
            if taken[node.name] > 1 and node.name != "mask":
                node.name = f"data {i + 1}"
        root = self.root()
        for scope, module in self.called:
            scope.calls = self.calls[module]
        scopes = [scope for scope, _ in self.called]
        insides = dict(known for known in self.insides.values() if known is not None)
        return Trace(self.nodes, self.edges, scopes, root, self.facts(root), insides, self.places())

    def places(self) -> dict[Any, Any]:
        """Where values are: ops by their number on the clock, leaves by a weak reference."""
        found: dict[Any, Any] = {op.seq: node.id for op, node in self.made.items()}
        for tensor, leaf in self.leaves.items():
            if isinstance(tensor, Tensor):
                found[id(tensor),] = ref(tensor), leaf.id
        return found

    def root(self) -> str | None:
        """The scope of the model: of ``model``, or of the one outermost call with others in it."""
        parents = {scope.parent for scope, _ in self.called}
        found = [
            scope.id
            for scope, module in self.called
            if scope.parent is None
            and (scope.id in parents if self.model is None else module is self.model)
        ]
        return found[0] if len(found) == 1 else None

    def facts(self, root: str | None) -> Facts:
        """What the title line says."""
        ops = list(self.made.values())
        learnt = [n.dtype for n in self.nodes if n.kind == "parameter"]
        dtypes = Counter(learnt or [n.dtype for n in self.nodes if n.dtype])
        modes = sorted({op.mode for op in ops if op.mode})
        scope = next((s for s, _ in self.called if s.id == root), None)
        if not modes and scope is not None:
            modes = [scope.mode]
        parameters = sum(n.parameters for n in self.nodes)
        unreached = []
        if self.model is not None:
            named = list(self.model.named_parameters())
            parameters = sum(p.numel() for _, p in named)
            unreached = [path for path, p in named if p not in self.leaves]
        return Facts(
            model=type(self.model).__name__ if self.model else scope.cls if scope else "",
            mode=" and ".join(modes),
            dtype=next((d for d, _ in dtypes.most_common(1) if d), ""),
            ops=len(ops),
            parameters=parameters,
            unreached=unreached,
        )
