"""diagnose: what is wrong with a model, found by one look at one batch; with the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, log, sqrt
from typing import Any

import numpy as np

from minigrad import nn
from minigrad.gradients import grad as gradients_of
from minigrad.inspect.probe import BATCH_NORMS
from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.ops import Op
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor
from minigrad.unchanged import host, unchanged
from minigrad.viz.health import (
    FEW,
    Diagnosis,
    Finding,
    Reading,
    Seen,
    constant_channel,
    dead_bias,
    dead_units,
    saturated,
    small_batch,
    update_size,
)
from minigrad.viz.tables import number
from minigrad.viz.trace import tape

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
WARM = 0.9  # share of the data's statistics that a running estimate should hold
HISTORY = 0.5  # weight of the new batch from which on it is probably meant the other way round


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
        return look.found(RULES.values())


class Look(Reading):
    """One forward and backward pass through the model, with everything that the rules ask for."""

    def __init__(self, model: Module, optimizer: Optimizer | None) -> None:
        modules = {path or type(model).__name__: m for path, m in model.named_modules()}
        super().__init__(modules, {p: name for name, p in model.named_parameters()}, optimizer)
        self.model = model
        self.evaluating = not model.training
        self.seen = {  # batches that a layer with running estimates has seen
            path: int(m.num_batches_tracked)
            for path, m in self.modules.items()
            if isinstance(m, TRACKING) and m.num_batches_tracked is not None
        }

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

    def value(self, op: Op) -> Any:
        """What an op computed, where its rule reads it."""
        return host(op.saved[op.reads.index("y")]) if op.saved and "y" in op.reads else None

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
