"""diagnose: what is wrong with a model, found by one look at one batch; with the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil, log, prod, sqrt
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.gradients import grad as gradients_of
from minigrad.inspect.norms import viewed
from minigrad.inspect.probe import BATCH_NORMS
from minigrad.inspect.unchanged import host, unchanged
from minigrad.inspect.updates import stepped
from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.ops import Op
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor
from minigrad.viz.tables import number
from minigrad.viz.trace import arguments, tape

#: Every layer that normalizes: their γ and β are not for weight decay.
NORMS = tuple(
    kind
    for name, kind in sorted(vars(nn).items())
    if "norm" in name.lower() and isinstance(kind, type) and issubclass(kind, Module)
)
#: Layers with running estimates, which a momentum moves.
TRACKING = (
    *BATCH_NORMS,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
#: Ops that multiply by weights: an activation before one of them is a hidden one.
WEIGHTED = (ops.Linear, ops.Conv2d, ops.ConvTranspose2d, ops.MatMul, ops.Einsum)

FEW = 2  # samples that are too few for a batch's statistics
WARM = 0.9  # share of the data's statistics that a running estimate should hold
HISTORY = 0.5  # weight of the new batch from which on it is probably meant the other way round
DEAD_BIAS = 1e-3  # gradient of a bias beside that of its weight, below which it is rounding
SATURATED, DEAD = 0.5, 0.4  # shares of values and of units
BOUNDS = {ops.Sigmoid: (0.03, 0.97), ops.Tanh: (-0.97, 0.97)}
ENOUGH = 16  # values of a unit without which 0 for all of them may be chance
UPDATES = (1e-5, 1e-1)  # ‖Δw‖/‖w‖ of a step
FIRST = 10  # times as long may the first step be: RMSprop's is, whose average begins at 0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, how much, and what to do.

    Attributes:
        rule: which rule found it, one of ``doctor.RULES`` by name.
        path: the module or the parameter.
        message: what is wrong.
        value: the number that says so.
        said: the number as text, with what it is.
        remedy: what to do.
    """

    rule: str
    path: str
    message: str
    value: float
    said: str
    remedy: str


class Diagnosis(list[Finding]):
    """The findings, in the order of the model's layers; printing it shows them as a table."""

    def table(self) -> str:
        """Three lines a finding: what and where, the number, the remedy."""
        if not self:
            return "No findings."
        lines = [f"{len(self)} finding{'' if len(self) == 1 else 's'}"]
        wide = max(len(f.path) for f in self)
        for f in self:
            lines.append(f"{f.path.ljust(wide)}  {f.rule}: {f.message}")
            lines.append(f"{' ' * wide}  {f.said}")
            lines.append(f"{' ' * wide}  → {f.remedy}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table()


def diagnose(
    model: Module,
    batch: Any,
    *,
    loss: Callable[[Any, Any], Tensor] | None = None,
    optimizer: Optimizer | None = None,
) -> Diagnosis:
    """Examine a model on one batch, as it would train on it; nothing of it changes.

    ======================== =====================================================================
    rule                     found where
    ======================== =====================================================================
    small batch              BatchNorm takes its statistics from 1 or 2 samples
    dead bias                a bias before a BatchNorm, which takes it off again: its gradient is 0
    cold statistics          running estimates hold less than 90 % of what they should: after n
                             batches 1 - (1 - momentum)^n
    statistics apart         a warm running mean lies more than one standard deviation from the
                             batch's, or a variance beyond a factor of 4, sampling noise allowed for
    opposite momentum        0.5 or more as the weight of the new batch; meant is probably 1 - that
    constant channel         a variance below ε: the channel is divided by √ε, not by its deviation
    saturated                a hidden Sigmoid or Tanh of which more than half lies beyond 0.03 to
                             0.97, or ±0.97: hardly a gradient gets through
    dead units               two in five units of a ReLU, or more, are 0 for the whole batch
    decayed norm             weight decay acts on the γ and β of a norm (needs ``optimizer``)
    update size              ‖Δw‖/‖w‖ of the next step is beyond 1e-5 to 1e-1 (needs ``optimizer``);
                             the very first may reach 1
    ======================== =====================================================================

    The pass runs in train mode; a model in eval mode is switched for it, one in train mode is taken
    with the modes that its layers have.

    Args:
        model: in the state in which it trains or is about to.
        batch: the inputs; or a pair (inputs, targets), as a DataLoader gives it. Several inputs of
            the model come as a tuple.
        loss: ``loss(outputs, targets)``. By default cross entropy for integer targets and the mean
            squared error for others; without targets a weighted sum of the outputs.
        optimizer: enables the rules about weight decay and update sizes.
    Returns:
        The findings; empty, and false, where all is well.

    Example:
        >>> from minigrad import manual_seed, optim, randn
        >>> _ = manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=0.9), nn.ReLU())
        >>> diagnose(model, randn(64, 4))
        2 findings
        0.bias  dead bias: 1 (BatchNorm1d) takes the mean off again, and with it this bias
                |dL/dbias| is less than 1e-06 of |dL/dweight|
                → nn.Linear(..., bias=False)
        1       opposite momentum: running estimates forget: a batch weighs 0.9, the past 0.1
                momentum = 0.9
                → momentum=0.1: here it weighs the new batch, in Keras the old estimate
    """
    inputs, target = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    with unchanged(model):
        look = Look(model, optimizer)
        look.run(args, target, loss)
        found = [f for rule in RULES.values() for f in rule(look)]
    order = {path: i for i, path in enumerate(look.order)}
    found.sort(key=lambda f: order.get(f.path.split(" ")[0], len(order)))
    seen: set[tuple[str, str]] = set()
    result = Diagnosis()
    for f in found:  # a layer that is called more than once is reported once
        if (f.rule, f.path) not in seen:
            seen.add((f.rule, f.path))
            result.append(f)
    return result


@dataclass
class Seen:
    """What a BatchNorm got: the samples and values that share its statistics, and those."""

    samples: int
    values: int
    mean: Any
    var: Any
    running_mean: Any = None  # before this batch moved it
    running_var: Any = None


@dataclass
class Look:
    """One forward and backward pass through the model, with everything that the rules ask for."""

    model: Module
    optimizer: Optimizer | None
    norms: dict[str, Seen] = field(default_factory=dict)  # BatchNorms that used their batch
    ops: list[Op] = field(default_factory=list)
    grads: dict[Tensor, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.evaluating = not self.model.training
        self.root = type(self.model).__name__
        self.modules = {path or self.root: m for path, m in self.model.named_modules()}
        self.paths: dict[Any, str] = {m: path for path, m in self.modules.items()}
        self.names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        self.order = list(self.modules)
        self.order += list(self.names.values())
        self.order.sort(key=self._place)
        self.seen = {  # batches that a layer with running estimates has seen
            path: int(m.num_batches_tracked)
            for path, m in self.modules.items()
            if isinstance(m, TRACKING) and m.num_batches_tracked is not None
        }

    def _place(self, path: str) -> tuple[int, int]:
        places = {p: i for i, p in enumerate(self.modules)}
        if path in places:
            return places[path], 0
        return places.get(path.rpartition(".")[0] or self.root, len(places)), 1

    # ---- the pass ----------------------------------------------------------------------------

    def run(self, args: tuple[Any, ...], target: Any, loss: Any) -> None:
        """Forward and backward; a batch of one, on which BatchNorm fails, ends it early."""
        if self.evaluating:
            self.model.train()
        for path, module in self.modules.items():
            if "fused" in module.__dict__:
                module.__dict__["fused"] = True  # one op, whose statistics can be read off it
            if isinstance(module, BATCH_NORMS):
                module.register_forward_pre_hook(self._note(path))
        try:
            output = self.model(*args)
        except ValueError:
            if any(seen.values == 1 for seen in self.norms.values()):
                return
            raise
        value = _loss(output, target, loss)
        params = [p for p in self.model.parameters() if p.requires_grad]
        found = gradients_of(value, params, retain_graph=True, allow_unused=True) if params else ()
        self.grads = {p: g.array for p, g in zip(params, found, strict=True) if g is not None}
        self.ops = tape([value])

    def _note(self, path: str) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            x = args[0] if args else None
            by_batch = module._by_batch()
            if path in self.norms or not by_batch or not isinstance(x, Tensor) or x.ndim < 2:
                return
            v = host(x).astype(np.float64)
            axes = (0, *range(2, v.ndim))
            seen = Seen(
                v.shape[0], v.size // max(v.shape[1], 1), v.mean(axis=axes), v.var(axis=axes)
            )
            if module.running_mean is not None and module.running_var is not None:
                seen.running_mean = host(module.running_mean).astype(np.float64)
                seen.running_var = host(module.running_var).astype(np.float64)
            self.norms[path] = seen

        return hook

    # ---- what rules ask ----------------------------------------------------------------------

    def path(self, op: Op) -> str:
        """The module in whose call the op was recorded, and the op's name unless that is all."""
        module = None if op.scope is None else op.scope.module()
        path = self.paths.get(module, self.root)
        alone = (
            module is not None
            and not module._modules
            and type(module).__module__.startswith("minigrad.")
        )
        return path if alone else f"{path} ({op.name})"

    def kind(self, path: str) -> str:
        """The class of the module at a path."""
        return type(self.modules[path]).__name__

    def owner(self, p: Tensor) -> tuple[str, Module]:
        """The module that holds a parameter."""
        path = self.names[p].rpartition(".")[0]
        return path or self.root, self.model.get_submodule(path)

    def coverage(self, path: str) -> float:
        """The share of the running estimates that is made of data: 1 - (1 - momentum)^n; all of
        them where they are averages of what was seen alone.
        """
        n, module = self.seen[path], self.modules[path]
        p = module.momentum
        if p is None or getattr(module, "debias", False):
            return float(n > 0)
        return 1 - (1 - float(p)) ** n


def _loss(output: Any, target: Any, loss: Any) -> Tensor:
    """The value whose gradients are looked at."""
    if loss is not None:
        value = loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TypeError(
                "loss= is called with outputs and targets and returns a tensor of one element, got "
                f"{value!r}."
            )
        return value
    while isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the model returned {type(output).__name__}; pass loss=, a function of outputs and "
            "targets that returns a tensor."
        )
    if target is None:  # a sum would not do: that of a BatchNorm's output has no gradient at all
        weights = np.random.default_rng(0).standard_normal(output.shape)
        return (output * Tensor(weights, dtype=output.dtype).to(output.device)).mean()
    return (F.mse_loss if target.is_floating_point() else F.cross_entropy)(output, target)


# ---- the rules -------------------------------------------------------------------------------


def small_batch(look: Look) -> Iterator[Finding]:
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


def dead_bias(look: Look) -> Iterator[Finding]:
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
                f"nn.{type(layer).__name__}(..., bias=False)",
            )


def cold_statistics(look: Look) -> Iterator[Finding]:
    """Running estimates begin at 0 and 1, and hold much of that until they have seen enough."""
    for path, n in look.seen.items():
        covered, p = look.coverage(path), look.modules[path].momentum
        counts = isinstance(look.modules[path], BATCH_NORMS)  # an InstanceNorm never does
        if covered >= WARM or not counts or (n == 0 and not look.evaluating):
            continue
        if p == 0:
            remedy = "momentum=0.1: with 0 the running estimates never move"
        else:
            still = ceil(log(1 - WARM) / log(1 - p)) - n if p and p < 1 else 1
            remedy = (
                f"evaluate after {still} more batch{'es' * (still != 1)}, or momentum=None (the "
                "average of all batches), or optim.swa_utils.update_bn(loader, model)"
            )
        yield Finding(
            "cold statistics",
            path,
            "eval mode would normalize with running estimates that still hold their initial values",
            covered,
            f"has seen {covered:.0%} ({n} batch{'es' * (n != 1)}, momentum {p})",
            remedy,
        )


def statistics_apart(look: Look) -> Iterator[Finding]:
    """In eval mode the model would see other activations than those it is trained with."""
    for path, seen in look.norms.items():
        if seen.running_mean is None or seen.samples <= FEW or look.coverage(path) < WARM:
            continue
        live = seen.var > look.modules[path].eps
        if not live.any():
            continue
        var = seen.var[live]
        gap = float((np.abs(seen.running_mean - seen.mean)[live] / np.sqrt(var)).max())
        folds = float(np.abs(np.log(np.maximum(seen.running_var[live], 1e-30) / var)).max())
        noise = 4 / sqrt(seen.samples)  # of a mean, 4 sigma; that of a log variance is √2 as much
        if gap <= 1 + noise and folds <= log(4) + sqrt(2) * noise:
            continue
        yield Finding(
            "statistics apart",
            path,
            "running statistics lie far from this batch's: eval mode computes something else",
            gap,
            f"the worst mean is {number(gap, 3)} σ away, the worst variance by a factor of "
            f"{number(np.exp(folds), 3)}",
            "the same preprocessing for every batch; a smaller learning rate; or "
            "optim.swa_utils.update_bn(loader, model) before evaluating",
        )


def opposite_momentum(look: Look) -> Iterator[Finding]:
    """The same word means the opposite in Keras."""
    for path in look.seen:
        p = look.modules[path].momentum
        if p is not None and p >= HISTORY:
            kept = f"{1 - p:.4g}"
            usual = kept if p < 1 else "0.1"
            yield Finding(
                "opposite momentum",
                path,
                f"running estimates forget: a batch weighs {p:.4g}, the past {kept}",
                float(p),
                f"momentum = {p:.4g}",
                f"momentum={usual}: here it weighs the new batch, in Keras the old estimate",
            )


def constant_channel(look: Look) -> Iterator[Finding]:
    """Where the variance is below ε, ε decides what comes out."""
    counted: list[tuple[str, float, Any, str]] = []
    for path, seen in look.norms.items():
        if seen.values > 1:
            counted.append((path, look.modules[path].eps, seen.var, "channel"))
    for op in look.ops:
        if (
            isinstance(op, ops.LayerNorm | ops.GroupNorm)
            and getattr(op, "inv_std", None) is not None
        ):
            var = host(op.inv_std).astype(np.float64) ** -2 - op.eps
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


def saturated(look: Look) -> Iterator[Finding]:
    """The slope of a sigmoid is at most 1/4, and next to nothing far from 0."""
    shares: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    for op in _hidden(look):
        if type(op) in BOUNDS and op.saved:
            low, high = BOUNDS[type(op)]
            y = host(op.saved[op.reads.index("y")])
            path = look.path(op)
            shares.setdefault(path, []).append(float(((y < low) | (y > high)).mean()))
            names[path] = op.name
    for path, found in shares.items():
        share = float(np.mean(found))
        if share > SATURATED:
            yield Finding(
                "saturated",
                path,
                f"most of what this {names[path]} puts out lies at its ends, where hardly a "
                "gradient gets through",
                share,
                f"{share:.0%} of the values are saturated",
                "a norm before it, smaller initial weights (nn.init.xavier_uniform_), inputs "
                "standardized, or a ReLU",
            )


def dead_units(look: Look) -> Iterator[Finding]:
    """A unit that is 0 for every sample gets no gradient, and stays so."""
    fewest: dict[str, tuple[int, int]] = {}
    for op in look.ops:
        if not isinstance(op, ops.ReLU) and op.name != "relu6":
            continue
        if not op.saved or len(op.shape) < 2:
            continue
        count = _silent(host(op.saved[op.reads.index("y")]))
        path = look.path(op)
        if count is not None and (path not in fewest or count[0] < fewest[path][0]):
            fewest[path] = count
    for path, (silent, units) in fewest.items():
        if silent / units >= DEAD:
            yield Finding(
                "dead units",
                path,
                "these units are 0 for the whole batch: no gradient reaches their weights",
                silent / units,
                f"{silent} of {units} units",
                "a smaller learning rate, a norm before it, nn.init.kaiming_uniform_, biases that "
                "begin at 0, or nn.LeakyReLU",
            )


def decayed_norm(look: Look) -> Iterator[Finding]:
    """Pulling γ to 0 fights the normalization."""
    groups = [] if look.optimizer is None else look.optimizer.param_groups
    for group in groups:
        decay = float(group.get("weight_decay", 0.0))
        for p in group["params"]:
            if decay and p in look.names and isinstance(look.owner(p)[1], NORMS):
                path, _ = look.owner(p)
                yield Finding(
                    "decayed norm",
                    path,
                    f"weight decay pulls the γ and β of this {look.kind(path)} to 0",
                    decay,
                    f"weight_decay = {decay:g}",
                    f"{type(look.optimizer).__name__}(optim.param_groups(model, "
                    f"weight_decay={decay:g}), ...), which spares norms and biases",
                )


def update_size(look: Look) -> Iterator[Finding]:
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


#: The rules by name, in the order in which they are tried.
RULES: dict[str, Callable[[Look], Iterator[Finding]]] = {
    "small batch": small_batch,
    "dead bias": dead_bias,
    "cold statistics": cold_statistics,
    "statistics apart": statistics_apart,
    "opposite momentum": opposite_momentum,
    "constant channel": constant_channel,
    "saturated": saturated,
    "dead units": dead_units,
    "decayed norm": decayed_norm,
    "update size": update_size,
}


def _hidden(look: Look) -> list[Op]:
    """The ops on whose values weights still act: all but the output's own."""
    before: set[Op] = set()
    for op in reversed(look.ops):  # users come before what they use
        if op in before or isinstance(op, WEIGHTED):
            before.update(e for e in op.inputs if isinstance(e, Op))
    return [op for op in look.ops if op in before]


def _silent(y: Any) -> tuple[int, int] | None:
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
