"""What is wrong with a training, read off the tape: ``viz.check(loss, model)``.

The rules look at the values and the gradients of a graph (values.py); nothing is run and nothing
changes. ``inspect.diagnose``, which makes a pass of its own through a model, tries some of them
too, with the same thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import GraphError
from minigrad.nn.module import Module, path_of
from minigrad.ops import Op
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.updates import stepped
from minigrad.tensor import Tensor
from minigrad.viz import values
from minigrad.viz.tables import number
from minigrad.viz.trace import Reader, arguments, tape

#: Ops that multiply by weights: an activation before one of them is a hidden one.
WEIGHTED = (ops.Linear, ops.Conv2d, ops.ConvTranspose2d, ops.MatMul, ops.Einsum)
#: Activations with ends, and outside of which values they count as saturated.
BOUNDS = {ops.Sigmoid: (0.03, 0.97), ops.Tanh: (-0.97, 0.97)}

FIRST_RULE = "not finite"  # what it finds comes first: the rest may be a consequence
FEW = 2  # samples that are too few for a batch's statistics
DEAD_BIAS = 1e-3  # gradient of a bias beside that of its weight, below which it is rounding
ROUNDING = 1e-6  # a sum beside that of the sizes of its terms, below which it is rounding
SATURATED, DEAD = 0.5, 0.4  # shares of values and of units
ENOUGH = 16  # values of a unit without which 0 for all of them may be chance
VANISHED, EXPLODED = 1e-4, 1e4  # gradient of a weight beside that of the last one
UPDATES = (1e-5, 1e-1)  # ‖Δw‖/‖w‖ of a step
FIRST = 10  # times as long may the first step be: RMSprop's is, whose average begins at 0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, how much, and what to do.

    Attributes:
        rule: which rule found it, by its name.
        path: the module or the parameter.
        message: what is wrong.
        value: the number that says so.
        said: the number as text, with what it is.
        remedy: what to do.
        node: the id of the op in the graph, such as ``"op3"``; empty where it is none.
    """

    rule: str
    path: str
    message: str
    value: float
    said: str
    remedy: str
    node: str = field(default="", compare=False)


class Diagnosis(list[Finding]):
    """The findings, in the order of the model's layers; printing it shows them as a table.

    ``unseen`` says what could not be looked at.
    """

    unseen: str = ""

    def table(self) -> str:
        """Three lines a finding: what and where, the number, the remedy."""
        unseen = [f"({self.unseen})"] if self.unseen else []
        if not self:
            return "\n".join(["No findings.", *unseen])
        lines = [f"{len(self)} finding{'' if len(self) == 1 else 's'}"]
        wide = max(len(f.path) for f in self)
        for f in self:
            lines.append(f"{f.path.ljust(wide)}  {f.rule}: {f.message}")
            lines.append(f"{' ' * wide}  {f.said}")
            lines.append(f"{' ' * wide}  → {f.remedy}")
        return "\n".join([*lines, *unseen])

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table()


def check(
    loss: Tensor | Sequence[Tensor],
    model: Module | None = None,
    *,
    optimizer: Optimizer | None = None,
) -> Diagnosis:
    """What is wrong with the training step that ``loss`` is of, before or after ``backward()``.

    ======================== =====================================================================
    rule                     found where
    ======================== =====================================================================
    not finite               the first op that makes NaN or infinity of finite numbers, forward or
                             backward; or a leaf that holds one
    small batch              BatchNorm takes its statistics from 1 or 2 samples
    dead bias                a bias before a BatchNorm, which takes it off again: its gradient is 0
    zero gradient            a parameter whose gradient is 0 throughout, and what stops it
    not reached              a parameter of the model that the loss does not depend on
    vanishing gradient       of a weight: below 1e-4 of that of the last one
    exploding gradient       of a weight: above 1e4 times that of the last one
    saturated                a hidden sigmoid or tanh of which more than half lies beyond 0.03 to
                             0.97, or ±0.97: hardly a gradient gets through
    dead units               two in five units of a ReLU, or more, are 0 for the whole batch
    constant channel         a variance below ε: ε decides what comes out of the norm
    promoted                 floating values of a wider type than the parameters'
    update size              ‖Δw‖/‖w‖ of the next step is beyond 1e-5 to 1e-1 (needs ``optimizer``);
                             the very first may reach 1
    ======================== =====================================================================

    The model is not run; what ``backward()`` freed is computed anew, op by op, where the inputs are
    still there. What cannot be looked at (a batch that nobody holds any more) is said at the end.

    Args:
        loss: whose tape to read; a tensor, or several.
        model: names the parameters, and is asked for those that the loss does not reach.
        optimizer: enables the rule about the size of the next step.
    Returns:
        The findings; empty, and false, where all is well, so that a test can assert it.

    Example:
        >>> from minigrad import manual_seed, nn, randn
        >>> _ = manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        >>> check((model(randn(64, 4)) ** 2).mean(), model)
        1 finding
        0.bias  dead bias: 1 (BatchNorm1d) takes the mean off again, and with it this bias
                |dL/dbias| is less than 1e-06 of |dL/dweight|
                → nn.Linear(..., bias=False)
    """
    return Tape(outputs_of(loss), model, optimizer).diagnosis()


def outputs_of(loss: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The tensors whose tape is to be read; an error where there is none."""
    outputs = [loss] if isinstance(loss, Tensor) else list(loss)
    if not outputs or not all(isinstance(t, Tensor) for t in outputs):
        kinds = ", ".join(type(t).__name__ for t in outputs) or "nothing"
        raise TypeError(f"check() reads the tape of tensors, got {kinds}.")
    for tensor in outputs:
        if tensor.grad_fn is None:
            raise GraphError(
                f"check() has no tape to read: the tensor of shape {tensor.shape} was not made by "
                "a recorded operation; was it computed under no_grad(), or detached?"
            )
    return outputs


@dataclass
class Seen:
    """What a BatchNorm got: the samples and values that share its statistics, and those."""

    samples: int
    values: int
    mean: Any
    var: Any
    running_mean: Any = None  # before this batch moved it
    running_var: Any = None


class Reading:
    """A graph with its model, and everything that the rules ask for.

    Attributes:
        ops: in the order of recording.
        modules: by path; that of the outermost is its class.
        names: the parameters' paths.
        grads: the gradients of the parameters, as far as they are known.
        norms: by path, the BatchNorms that used their batch.
    """

    def __init__(
        self, modules: Mapping[str, Module], names: Mapping[Tensor, str], optimizer: Any = None
    ) -> None:
        self.modules, self.names, self.optimizer = dict(modules), dict(names), optimizer
        self.root = next(iter(self.modules), "")
        self.paths: dict[Any, str] = {m: path for path, m in self.modules.items()}
        self.ops: list[Op] = []
        self.places: dict[Op, str] = {}
        self.grads: dict[Tensor, Any] = {}
        self.norms: dict[str, Seen] = {}

    def value(self, op: Op) -> Any:
        """What an op computed, on the host; None where it is not known any more."""
        raise NotImplementedError(f"{type(self).__name__} has no value(); define one.")

    def kept(self, op: Op, name: str) -> Any:
        """What a fused op kept by that name; None where it is not known any more."""
        held = getattr(op, name, None)
        return None if held is None else host(held)

    def node(self, op: Op | None) -> str:
        """The id of an op in the graph."""
        if op is None:
            return ""
        if not self.places:
            self.places = {op: f"op{i}" for i, op in enumerate(self.ops)}
        return self.places.get(op, "")

    def path(self, op: Op) -> str:
        """The module in whose call the op was recorded, and the op's name unless that is all."""
        if op.scope is None:
            return op.name
        module = op.scope.module()
        path = self.paths.get(module) or path_of(op.scope) or self.root
        alone = (
            module is not None
            and not module._modules
            and type(module).__module__.startswith("minigrad.")
        )
        return path if alone else f"{path} ({op.name})" if path else op.name

    def kind(self, path: str) -> str:
        """The class of the module at a path."""
        return type(self.modules[path]).__name__

    def owner(self, p: Tensor) -> tuple[str, Module | None]:
        """The module that holds a parameter, where it is known."""
        path = self.names[p].rpartition(".")[0] or self.root
        return path, self.modules.get(path)

    def found(self, rules: Iterable[Callable[[Any], Iterator[Finding]]]) -> Diagnosis:
        """What the rules find, in the order of the layers; of a layer called twice, once."""
        findings = [f for rule in rules for f in rule(self)]
        places = {path: i for i, path in enumerate(self.modules)}
        for name in self.names.values():
            places.setdefault(name, places.get(name.rpartition(".")[0] or self.root, len(places)))
        known = set(self.names.values())
        findings.sort(
            key=lambda f: (f.rule != FIRST_RULE, self._place(f.path, places), f.path in known)
        )
        result = Diagnosis()
        for f in findings:
            if not any((f.rule, f.path) == (g.rule, g.path) for g in result):
                result.append(f)
        return result

    def _place(self, path: str, places: Mapping[str, int]) -> int:
        return places.get(path.split(" ")[0], len(self.modules) + len(self.names))


class Tape(Reading):
    """A tape as it is: what ``check`` looks at."""

    def __init__(
        self, outputs: Sequence[Tensor], model: Module | None, optimizer: Optimizer | None
    ) -> None:
        reader = Reader(model, {})
        for op in tape(outputs):
            reader.read(op)
        modules = {s.path or s.cls: module for s, module in reader.called}
        if model is not None:
            modules = {path or type(model).__name__: m for path, m in model.named_modules()}
        leaves = {t: n for t, n in reader.leaves.items() if isinstance(t, Tensor)}
        names = {t: n.name for t, n in leaves.items() if n.kind == "parameter"}
        if model is not None:
            own = {p: name for name, p in model.named_parameters()}
            names = own | {t: name for t, name in names.items() if t not in own}
        super().__init__(modules, names, optimizer)
        self.leaves = {t: n.name for t, n in leaves.items()}
        self.numbers = values.read(outputs)
        self.roots = [t.grad_fn for t in outputs if t.grad_fn is not None]
        self.ops = self.numbers.ops
        self.unreached = [
            (p, name) for p, name in names.items() if p not in leaves and p.requires_grad
        ]
        for t in leaves:
            if t.requires_grad:
                grad = self.numbers.gradient(t)
                if grad is None and t.grad is not None:
                    grad = t.grad.array
                if grad is not None and t in names:
                    self.grads[t] = grad
        self.users: dict[Any, list[Op]] = {}
        for op in self.ops:
            for edge in dict.fromkeys(e for e in op.inputs if e is not None):
                self.users.setdefault(edge, []).append(op)
        for op in self.ops:
            if isinstance(op, ops.BatchNorm) and self.path(op) not in self.norms:
                var, mean = self.kept(op, "var"), self.kept(op, "mean")
                if var is not None:
                    count = prod(op.shape) // max(len(var), 1)
                    self.norms[self.path(op)] = Seen(op.shape[0], count, mean, var)

    def value(self, op: Op) -> Any:
        """What an op computed."""
        value = self.numbers.value(op)
        return None if value is None else host(value)

    def kept(self, op: Op, name: str) -> Any:
        """What a fused op kept by that name, or keeps when it is run anew."""
        held = self.numbers.saved(op).get(name)
        return None if held is None else host(held)

    def diagnosis(self) -> Diagnosis:
        """What the rules find."""
        found = self.found(RULES.values())
        blind = [op for op in self.ops if self.numbers.value(op) is None]
        named = [p for p in self.names if p.requires_grad and p not in self.grads]
        named = [p for p in named if not any(p is q for q, _ in self.unreached)]
        said = []
        if blind:
            n = len(blind)
            said.append(f"the value{'s' * (n > 1)} of {n} op{'s' * (n > 1)}")
        if named:
            n = len(named)
            said.append(f"the gradient{'s' * (n > 1)} of {n} parameter{'s' * (n > 1)}")
        if said:
            found.unseen = (
                f"not looked at: {' and '.join(said)}, which the tape does not give any more; keep "
                "the batch in a variable, and check before backward()"
            )
        return found

    # ---- what rules ask ----------------------------------------------------------------------

    def given(self, op: Op) -> list[Any]:
        """What an op was called with, one an input; None for what is gone."""
        return self.numbers.inputs(op)

    def called(self, op: Op) -> list[tuple[str, Any]]:
        """The arrays among them, and what the op calls them."""
        named = zip(arguments(op), self.given(op), strict=False)
        return [(name, x) for name, x in named if hasattr(x, "dtype")]

    def inputs(self, op: Op) -> list[Any]:
        """The arrays that an op was called with."""
        return [x for _, x in self.called(op)]

    def share(self, p: Tensor, grad: Any) -> float:
        """What remains of a gradient: 0 where it is 0; of a bias, its norm beside the sum of the
        sizes that it adds up; 1 elsewhere.
        """
        if not host(grad).any():
            return 0.0
        op = next(iter(self.users.get(p, ())), None)
        arriving = None if op is None else self.numbers.arriving(op)
        if p.ndim != 1 or arriving is None or not isinstance(op, WEIGHTED):
            return 1.0
        return float(np.linalg.norm(host(grad)) / np.abs(host(arriving)).sum(dtype=np.float64))

    def fed(self, op: Op) -> Iterator[tuple[str, Any]]:
        """Name and dtype of the leaves that an op takes directly."""
        for _, leaf in self.leaves_of(op):
            yield self.leaves[leaf], leaf.dtype

    def leaves_of(self, op: Op) -> Iterator[tuple[int, Tensor]]:
        """The leaves that an op takes directly, by the number of the input."""
        for i, (edge, held) in enumerate(zip(op.inputs, op.constants or op.inputs, strict=True)):
            leaf = edge if edge is not None else held
            leaf = leaf() if isinstance(leaf, ref) else leaf
            if isinstance(leaf, Tensor) and leaf in self.leaves:
                yield i, leaf

    def line(self, op: Op) -> str:
        """Where the op stands in the user's program: the forward() of the innermost module of the
        user's around it.
        """
        call = op.scope
        while call is not None:
            module = call.module()
            forward = getattr(type(module), "forward", None)
            code = getattr(forward, "__code__", None)
            if code is not None and not forward.__module__.startswith("minigrad."):
                place = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
                return f", in {type(module).__name__}.forward ({place})"
            call = call.parent
        return ""

    def weights(self) -> Iterator[tuple[Tensor, str, float, float]]:
        """The weights in the order of their use: name, norm of the gradient, that of the last."""
        used = [e for op in self.ops for e in map(viewed, op.inputs) if e in self.grads]
        found = [
            (p, self.names[p], float(np.linalg.norm(host(self.grads[p]).astype(np.float64))))
            for p in dict.fromkeys(used)
            if p.ndim >= 2
        ]
        last = found[-1][2] if found else 0.0
        if last > 0 and np.isfinite(last):
            for p, name, norm in found:
                yield p, name, norm, last

    def stop(self, p: Tensor) -> Op | None:
        """The first op after a parameter that gets a gradient, and hands none of it on."""
        queue = sorted(self.users.get(p, ()), key=lambda op: op.seq)
        seen = set(queue)
        while queue:
            op = queue.pop(0)
            grad = self.numbers.arriving(op)
            if grad is None:
                return None
            if host(grad).any():
                return op
            for user in self.users.get(op, ()):
                if user not in seen:
                    seen.add(user)
                    queue.append(user)
        return None

    def origin(self) -> Finding | None:
        """Where the NaN or infinity that an output holds comes from."""
        ends = [op for op in self.roots if self.numbers.value(op) is not None]
        op = next((op for op in ends if not finite(self.numbers.value(op))), None)
        began: Op | None = None  # the first op with NaN, going back
        while op is not None:
            given = self.given(op)
            nan = lost(self.numbers.value(op)) == "NaN"
            bad = [
                (i, edge, x) for i, (edge, x) in enumerate(zip(op.inputs, given, strict=True))
                if x is not None and not finite(x)
            ]  # fmt: skip
            worse = [b for b in bad if lost(b[2]) == "NaN"]
            if nan and not worse:
                began = op
            made = [e for _, e, _ in (worse or bad) if e is not None and e.seq]
            if not made:
                break
            op = made[0]
        else:
            return None
        if not bad:
            return self.made(op)
        names = {i: self.leaves[leaf] for i, leaf in self.leaves_of(op)}
        i, _, x = (worse or bad)[0]
        meant = not worse and op.inputs[i] is None and not (host(x) == np.inf).any()
        if meant and began is not None:  # -inf as in a mask
            return self.made(began)
        name = names.get(i, list(arguments(op))[i])
        return Finding(
            "not finite",
            name,
            f"it holds {lost(x)} before anything is computed" + self.line(op),
            float(np.sum(~np.isfinite(host(x)))),
            f"goes into {self.path(op)}",
            "look at the data, or at the step that led to such weights",
            self.node(op),
        )

    def made(self, op: Op) -> Finding:
        """The finding for an op that makes NaN or infinity."""
        value, inputs = self.numbers.value(op), self.inputs(op)
        held = host(value)
        count = int((~np.isfinite(held)).sum())
        of = "finite numbers" if all(map(finite, self.given(op))) else "infinity"
        return Finding(
            "not finite",
            self.path(op),
            f"{op.name} makes {lost(value)} of {of} ({op.formula})" + self.line(op),
            float(count),
            f"{count} of {held.size} values; {spans(inputs)}",
            REMEDIES.get(op.name, "keep the input in the range that the op is meant for"),
            self.node(op),
        )


# ---- the rules -------------------------------------------------------------------------------


def small_batch(look: Reading) -> Iterator[Finding]:
    """Statistics of one or two samples say more about chance than about the data."""
    for path, seen in look.norms.items():
        if seen.samples <= FEW:
            each = f"{seen.values} value{'s' * (seen.values != 1)} a channel"
            yield Finding(
                "small batch",
                path,
                f"{look.kind(path)} takes its statistics from {each}"
                + (", and cannot" if seen.values == 1 else ""),
                seen.samples,
                f"{seen.samples} sample{'s' * (seen.samples != 1)} in the batch",
                "a larger batch (DataLoader(drop_last=True) for the last one), or LayerNorm or "
                "GroupNorm, which look at one sample",
            )


def dead_bias(look: Reading) -> Iterator[Finding]:
    """What a norm takes off again learns nothing."""
    for op in look.ops:
        whole = isinstance(op, ops.BatchNorm)
        if not whole and not (isinstance(op, ops.GroupNorm) and op.groups == op.shape[1]):
            continue
        source = viewed(op.inputs[0])
        if not isinstance(source, ops.Linear | ops.Conv2d | ops.ConvTranspose2d):
            continue
        inputs = [viewed(edge) for edge in source.inputs]
        held = dict(zip(arguments(source), inputs, strict=False))
        bias, weight = held.get("bias"), held.get("weight")
        if bias not in look.names or bias not in look.grads or weight not in look.grads:
            continue
        size = float(np.linalg.norm(host(look.grads[weight])))
        share = float(np.linalg.norm(host(look.grads[bias]))) / size if size else 1.0
        if share < DEAD_BIAS:
            norm, (_, layer) = look.path(op), look.owner(bias)
            said = number(share, 2) if share >= 1e-6 else "less than 1e-06"
            known = f" ({look.kind(norm)})" if norm in look.modules else ""
            yield Finding(
                "dead bias",
                look.names[bias],
                f"{norm}{known} takes the mean off again, and with it this bias",
                share,
                f"|dL/dbias| is {said} of |dL/dweight|",
                "bias=False" if layer is None else f"nn.{type(layer).__name__}(..., bias=False)",
                look.node(source),
            )


def constant_channel(look: Reading) -> Iterator[Finding]:
    """Where the variance is below ε, ε decides what comes out."""
    counted: list[tuple[str, float, Any, str]] = []
    for path, seen in look.norms.items():
        if seen.values > 1:
            counted.append((path, look.modules[path].eps, seen.var, "channel"))
    for op in look.ops:
        if (
            isinstance(op, ops.LayerNorm | ops.GroupNorm)
            and (inv_std := look.kept(op, "inv_std")) is not None
        ):
            var = inv_std.astype(np.float64) ** -2 - op.eps
            what = "sample" if isinstance(op, ops.LayerNorm) else "group"
            counted.append((look.path(op), op.eps, var.reshape(-1), what))
    for path, eps, var, what in counted:
        few = int((var < eps).sum())
        if few:
            yield Finding(
                "constant channel",
                path,
                f"{few} of {var.size} {what}{'s' * (var.size != 1)} hardly vary: ε decides what "
                "comes out",
                max(float(var.min()), 0.0),
                f"smallest variance {number(max(var.min(), 0), 2)} < ε = {eps:g}",
                "look at what comes in: a constant feature to drop, dead units before, or values "
                "so small that they need scaling (or a smaller eps=)",
            )


def saturated(look: Reading) -> Iterator[Finding]:
    """The slope of a sigmoid is at most 1/4, and next to nothing far from 0."""
    shares: dict[str, list[float]] = {}
    names: dict[str, Op] = {}
    for op in hidden(look):
        y = look.value(op) if type(op) in BOUNDS else None
        if y is not None:
            low, high = BOUNDS[type(op)]
            path = look.path(op)
            shares.setdefault(path, []).append(float(((y < low) | (y > high)).mean()))
            names.setdefault(path, op)
    for path, found in shares.items():
        share = float(np.mean(found))
        if share > SATURATED:
            yield Finding(
                "saturated",
                path,
                f"most of what this {names[path].name} puts out lies at its ends, where hardly a "
                "gradient gets through",
                share,
                f"{share:.0%} of the values are saturated",
                "a norm before it, smaller initial weights (nn.init.xavier_uniform_), inputs "
                "standardized, or a ReLU",
                look.node(names[path]),
            )


def dead_units(look: Reading) -> Iterator[Finding]:
    """A unit that is 0 for every sample gets no gradient, and stays so."""
    fewest: dict[str, tuple[int, int, str]] = {}
    for op in look.ops:
        if not isinstance(op, ops.ReLU) and op.name != "relu6":
            continue
        y = look.value(op) if len(op.shape) > 1 else None
        count = None if y is None else silent_units(y)
        path = look.path(op)
        if count is not None and (path not in fewest or count[0] < fewest[path][0]):
            fewest[path] = *count, look.node(op)
    for path, (silent, units, node) in fewest.items():
        if silent / units >= DEAD:
            yield Finding(
                "dead units",
                path,
                "these units are 0 for the whole batch: no gradient reaches their weights",
                silent / units,
                f"{silent} of {units} units",
                "a smaller learning rate, a norm before it, nn.init.kaiming_uniform_, biases that "
                "begin at 0, or nn.LeakyReLU",
                node,
            )


def update_size(look: Reading) -> Iterator[Finding]:
    """A step that changes a weight by a tenth of itself overshoots; by 1e-5, it stands still."""
    if look.optimizer is None or not look.grads:
        return
    fresh = not look.optimizer.stepped and not look.optimizer.state
    low, high = UPDATES[0], UPDATES[1] * (FIRST if fresh else 1)
    after = stepped(look.optimizer, look.grads)
    for p, array in after.items():
        if p not in look.names or p.ndim < 2:
            continue
        before = host(p).astype(np.float64)
        norm = float(np.linalg.norm(before))
        ratio = float(np.linalg.norm(host(array) - before)) / norm if norm else low
        if low <= ratio <= high:
            continue
        large = not ratio <= high
        yield Finding(
            "update size",
            look.names[p],
            "the next step changes this weight by "
            + ("much of itself" if large else "next to nothing"),
            ratio,
            f"|Δw|/|w| = {number(ratio, 2)}; about 1e-3 is usual, {UPDATES[0]:g} to "
            f"{UPDATES[1]:g} healthy",
            "a smaller lr, warm-up, or nn.utils.clip_grad_norm_"
            if large
            else "a larger lr; if only early layers are concerned, the gradient vanishes: norms, "
            "or shortcuts around layers",
        )


def not_finite(look: Tape) -> Iterator[Finding]:
    """Where the first NaN or infinity comes from: everything after it is a consequence."""
    origin = look.origin()
    if origin is not None:
        yield origin
        return
    for op in reversed(look.ops):  # users before what they use
        grad, flows = look.numbers.arriving(op), look.numbers.leaving(op)
        bad = [f for f in flows if f is not None and not finite(f)]
        if grad is not None and finite(grad) and bad:
            inputs = look.inputs(op)
            yield Finding(
                "not finite",
                look.path(op),
                f"the backward of {op.name} makes {lost(bad[0])} of a finite gradient "
                f"({op.vjp})" + look.line(op),
                float(np.sum(~np.isfinite(host(bad[0])))),
                f"{spans(inputs)}, arriving {span(grad)}",
                REMEDIES.get(op.name, "keep the input away from where the slope has no end"),
                look.node(op),
            )
            return


def zero_gradient(look: Tape) -> Iterator[Finding]:
    """A parameter that a step leaves where it is; and where the gradient was lost."""
    known = {f.path for f in dead_bias(look)}
    for p, grad in look.grads.items():
        path = look.names[p]
        if path in known or not (share := look.share(p, grad)) < ROUNDING:
            continue
        stop = None if share else look.stop(p)
        if stop is None:
            why = "what comes after takes it off again, and what arrives cancels"
        else:
            of = look.path(stop)
            zero = next((n for n, x in look.called(stop) if not host(x).any()), None)
            if isinstance(stop, ops.ReLU):
                why = f"no gradient gets past {of}, whose units are all dead"
            elif zero is not None:
                why = f"no gradient gets past {of}, whose {zero} is 0 throughout"
            else:
                why = f"no gradient gets past {of} ({stop.vjp})"
        last = path.rpartition(".")[2]
        yield Finding(
            "zero gradient",
            path,
            why,
            share,
            f"|dL/d{last}| = 0"
            if not share
            else f"|dL/d{last}| is {number(share, 2)} of |dL/dweight|",
            "another initialization of what stops it, or a model without it; zeros that are meant, "
            "as of a residual branch that begins at 0, are gone after the first step",
            look.node(next(iter(look.users.get(p, ())), None)),
        )


def not_reached(look: Tape) -> Iterator[Finding]:
    """A parameter that the loss does not depend on is never learnt."""
    for p, name in look.unreached:
        yield Finding(
            "not reached",
            name,
            "the loss does not depend on it: backward() leaves no gradient",
            float(p.numel()),
            f"{p.numel():,} number{'s' * (p.numel() != 1)} that stay as they are".replace(",", " "),
            "use the layer in forward(), remove it, or freeze it; a detach(), .data or no_grad() "
            "on the way cuts it off, too",
        )


def vanishing_gradient(look: Tape) -> Iterator[Finding]:
    """What reaches a weight is next to nothing beside what reaches the last one."""
    for p, name, norm, last in look.weights():
        if 0 < norm < VANISHED * last:
            yield Finding(
                "vanishing gradient",
                name,
                "hardly a gradient reaches this weight",
                norm / last,
                f"|dL/dw| = {number(norm, 2)}, {number(norm / last, 2)} of the last weight's",
                "norms or shortcuts between layers, ReLU in place of sigmoid or tanh, "
                "nn.init.kaiming_uniform_",
                look.node(next(iter(look.users.get(p, ())), None)),
            )


def exploding_gradient(look: Tape) -> Iterator[Finding]:
    """What reaches a weight is far more than what reaches the last one."""
    for p, name, norm, last in look.weights():
        if norm > EXPLODED * last:
            yield Finding(
                "exploding gradient",
                name,
                "the gradient grows on its way back to this weight",
                norm / last,
                f"|dL/dw| = {number(norm, 2)}, {number(norm / last, 2)} times the last weight's",
                "norms between layers, smaller initial weights, nn.utils.clip_grad_norm_",
                look.node(next(iter(look.users.get(p, ())), None)),
            )


def promoted(look: Tape) -> Iterator[Finding]:
    """One float64 among float32 makes everything after it float64: half as fast, twice as large."""
    kinds = Counter(p.dtype for p in look.names if p.dtype.kind == "f")
    if not kinds:
        kinds = Counter(op.dtype for op in look.ops if op.dtype.kind == "f")
    main = kinds.most_common(1)[0][0]
    for op in look.ops:
        wider = op.dtype.kind == "f" and op.dtype.itemsize > main.itemsize
        if not wider or any(e.dtype == op.dtype for e in op.inputs if e is not None and e.seq):
            continue
        stray = [n for n, d in look.fed(op) if d == op.dtype]
        users = [n for u in look.users.get(op, ()) for n, d in look.fed(u) if d == op.dtype]
        source = next(iter([*stray, *users]), "")
        yield Finding(
            "promoted",
            look.path(op),
            f"from here on values are {op.dtype}, in a graph of {main}"
            + (f": {source} is {op.dtype}" if source else "")
            + look.line(op),
            float(op.dtype.itemsize),
            f"{op.name} gives {op.dtype}",
            f"{source or 'the input'}.to(minigrad.{main}), or dtype=minigrad.{main} where it is "
            "made; nothing, where it is meant",
            look.node(op),
        )


#: What to do about an op whose value or slope has no end.
REMEDIES = {
    "log": "log of 0 is -inf: clamp_min(eps) before it, or log_softmax in place of log(softmax)",
    "log2": "log2 of 0 is -inf: clamp_min(eps) before it",
    "log10": "log10 of 0 is -inf: clamp_min(eps) before it",
    "sqrt": "the slope of √x at 0 is infinite: add eps inside, (x + eps).sqrt()",
    "norm": "the slope of the norm at 0 has no value: add eps, (x.square().sum() + eps).sqrt()",
    "div": "a divisor that is 0: add eps to it",
    "quotient": "a divisor that is 0: add eps to it",
    "pow": "a negative base with a broken exponent is NaN, 0 with a negative one infinite",
    "exp": "exp overflows above 88 in float32: subtract the maximum first, as softmax does",
    "expm1": "expm1 overflows above 88 in float32",
    "softmax": "a row in which everything is masked with -inf: leave one place open",
    "matmul": "products grow with every layer: smaller weights, a norm, a smaller lr",
    "linear": "products grow with every layer: smaller weights, a norm, a smaller lr",
    "conv2d": "products grow with every layer: smaller weights, a norm, a smaller lr",
    "cross_entropy": "scores beyond what the dtype holds: a smaller lr, a norm before",
    "mean": "a mean over no values is NaN",
}


#: The rules by name, in the order in which they are tried.
RULES: dict[str, Callable[[Any], Iterator[Finding]]] = {
    "not finite": not_finite,
    "small batch": small_batch,
    "dead bias": dead_bias,
    "zero gradient": zero_gradient,
    "not reached": not_reached,
    "vanishing gradient": vanishing_gradient,
    "exploding gradient": exploding_gradient,
    "saturated": saturated,
    "dead units": dead_units,
    "constant channel": constant_channel,
    "promoted": promoted,
    "update size": update_size,
}


def viewed(edge: Any) -> Any:
    """What a view looks into: the op, or the leaf, before reshapes and transposes."""
    while isinstance(edge, Op) and edge.view:
        edge = edge.inputs[0]
    return edge


def host(tensor: Any) -> Any:
    """The values of a tensor, or of a raw array, as a NumPy array on the CPU."""
    array = tensor.array if isinstance(tensor, Tensor) else tensor
    return np.asarray(backend_of(array).to_host(array) if hasattr(array, "dtype") else array)


def finite(array: Any) -> bool:
    """Whether an array, or a number, holds neither NaN nor infinity."""
    values = host(array)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def lost(array: Any) -> str:
    """``NaN`` or ``infinity``: what an array that is not finite holds."""
    return (
        "NaN" if np.isnan(host(array) if hasattr(array, "dtype") else array).any() else "infinity"
    )


def span(array: Any) -> str:
    """``from -1 to 3``: where the finite values of an array lie."""
    held = host(array)
    held = held[np.isfinite(held)] if held.dtype.kind == "f" else held
    if not held.size:
        return "nothing finite"
    low, high = number(held.min(), 3), number(held.max(), 3)
    return low if low == high else f"from {low} to {high}"


def spans(arrays: Sequence[Any]) -> str:
    """The same of several, as the inputs of an op."""
    return "inputs " + "; ".join(map(span, arrays)) if arrays else "inputs not known any more"


def hidden(look: Reading) -> list[Op]:
    """The ops on whose values weights still act: all but the output's own."""
    before: set[Op] = set()
    for op in reversed(look.ops):  # users come before what they use
        if op in before or isinstance(op, WEIGHTED):
            before.update(e for e in op.inputs if isinstance(e, Op))
    return [op for op in look.ops if op in before]


def silent_units(y: Any) -> tuple[int, int] | None:
    """How many units (axis 1; of three axes the better of the last two) are 0 throughout, of how
    many; None where there are too few values to tell.
    """
    best = None
    for axis in (1, 2) if y.ndim == 3 else (1,):
        units = y.shape[axis]
        if not units or prod(y.shape) // units < ENOUGH:
            return None
        others = tuple(i for i in range(y.ndim) if i != axis)
        silent = int((~y.astype(bool).any(axis=others)).sum())
        if best is None or silent / units < best[0] / best[1]:
            best = silent, units
    return best
