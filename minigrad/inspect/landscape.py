"""How smooth a loss is: the measures of Santurkar et al. (2018), on any model.

They ask how far the gradient at a point can be trusted: walk from the weights w against the
gradient g = ∇L(w) and look at loss and gradient at w - η g, for several step lengths η. Each takes
``loss``, a function without arguments that computes the model's loss on one and the same batch::

    inspect.loss_variation(model, lambda: F.cross_entropy(model(x), y))

A walk draws the same random numbers (Dropout's) at every point, and leaves the model as it was.

Source: Santurkar, Tsipras, Ilyas, Madry (2018), "How does batch normalization help optimization?",
arXiv:1805.11604: definition 2.1 and section 3.1 with figure 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from minigrad.backends import backend_of
from minigrad.generator import Generator
from minigrad.gradients import grad as gradients_of
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.updates import stepped
from minigrad.tensor import Tensor
from minigrad.unchanged import host, same_noise, unchanged
from minigrad.viz.charts import Chart
from minigrad.viz.tables import number, table
from minigrad.viz.trace import tape

Loss = Callable[[], Tensor]

#: Step lengths η, in gradients. The paper's figure 4 goes no farther than 0.4 either.
STEPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


class Range(NamedTuple):
    """The least and the largest value met on a walk."""

    least: float
    largest: float

    @property
    def width(self) -> float:
        """``largest - least``."""
        return self.largest - self.least


def loss_variation(model: Module, loss: Loss, steps: Sequence[float] = STEPS) -> Range:
    """How far the loss ranges along the gradient: the least and largest L(w - η g) over ``steps``.

    The narrower, the closer the loss is to what its slope promises: a sharp rise a short way along
    its own descent direction is what makes a large step fail.

    Args:
        model: whose parameters (those that require a gradient) are w; in train mode as a rule.
        loss: computes the loss, the same at every call for the same w.
        steps: the step lengths η, in gradients.
    Source: Santurkar et al. (2018), section 3.1, figure 4(a).

    Example: for L = w² the gradient at 3 is 6, and w - η g is 3, 1.5, 0:
        >>> from minigrad import nn, tensor
        >>> model = nn.ParameterList([nn.Parameter(tensor([3.0]))])
        >>> loss_variation(model, lambda: (model[0] ** 2).sum(), steps=[0, 0.25, 0.5])
        Range(least=0.0, largest=9.0)
    """
    losses = _walk(model, loss, steps).losses
    return Range(float(losses.min()), float(losses.max()))


def gradient_predictiveness(model: Module, loss: Loss, steps: Sequence[float] = STEPS) -> Range:
    """How much the gradient changes along itself: ‖∇L(w) - ∇L(w - η g)‖₂ over ``steps``.

    The smaller, the longer the gradient stays a good guide. The norm runs over all parameters of
    the model that require a gradient.

    Args:
        model, loss, steps: see ``loss_variation``.
    Source: Santurkar et al. (2018), section 3.1, figure 4(b).

    Example: the gradient of L = w² at 3 is 6, at 1.5 it is 3:
        >>> from minigrad import nn, tensor
        >>> model = nn.ParameterList([nn.Parameter(tensor([3.0]))])
        >>> gradient_predictiveness(model, lambda: (model[0] ** 2).sum(), steps=[0, 0.25])
        Range(least=0.0, largest=3.0)
    """
    changes = _walk(model, loss, steps).changes
    return Range(float(changes.min()), float(changes.max()))


def smoothness(model: Module, loss: Loss, steps: Sequence[float] = STEPS) -> float:
    """The effective β of the β-smoothness: the largest change of the gradient for the way gone.

        max over η of  ‖∇L(w) - ∇L(w - η g)‖₂ / ‖η g‖₂

    A function is β-smooth where its gradient is β-Lipschitz; this is the least β that fits what was
    met in the direction of the gradient. Of a quadratic ½ wᵀHw it is ‖H g‖/‖g‖, at most the largest
    eigenvalue of H, whatever the steps.

    Args:
        model, loss: see ``loss_variation``.
        steps: the step lengths η, in gradients; 0 is left out.
    Source: Santurkar et al. (2018), section 3.1, figure 4(c).

    Example: L = w² has the second derivative 2:
        >>> from minigrad import nn, tensor
        >>> model = nn.ParameterList([nn.Parameter(tensor([3.0]))])
        >>> smoothness(model, lambda: (model[0] ** 2).sum(), steps=[0.25, 0.5])
        2.0
    """
    walk = _walk(model, loss, [s for s in steps if s])
    return float((walk.changes / np.maximum(walk.distances, np.finfo(float).tiny)).max())


def loss_landscape(
    model: Module,
    loss: Loss,
    steps: Sequence[float] | None = None,
    *,
    dims: int = 1,
    generator: Generator | None = None,
) -> Landscape:
    """The loss around the weights: along the gradient, or on a plane of two random directions.

    ``dims=1``: L(w - η g) for every η of ``steps``, the curve whose range is ``loss_variation``.

    ``dims=2``: L(w + a d₁ + b d₂) for every a, b of ``steps``, with d₁ and d₂ random and
    *filter-normalised*: each filter of a direction is drawn from a normal distribution and scaled
    to the norm of the filter of w in its place. A network whose weights are twice as large would
    otherwise look half as sharp, although BatchNorm computes the same. A filter is what makes one
    output channel, ``weight[i]``; parameters of one axis (biases, γ, β) stay in place.

    Args:
        model, loss: see ``loss_variation``.
        steps: by default 0 and ``STEPS`` for one dimension, 21 from -1 to 1 for two.
        dims: 1 or 2.
        generator: draws the directions; a fresh one of seed 0 by default, so that two models are
            cut along the same directions.
    Source: Santurkar et al. (2018), figure 4(a); Li, Xu, Taylor, Studer, Goldstein (2018),
        "Visualizing the loss landscape of neural nets", arXiv:1712.09913, section 4.

    Example:
        >>> from minigrad import nn, tensor
        >>> model = nn.ParameterList([nn.Parameter(tensor([3.0]))])
        >>> loss_landscape(model, lambda: (model[0] ** 2).sum(), [0, 0.25, 0.5]).losses
        array([9.  , 2.25, 0.  ])
    """
    if dims == 1:
        walk = _walk(model, loss, (0.0, *STEPS) if steps is None else steps)
        return Landscape(walk.steps, walk.losses, type(model).__name__)
    if dims != 2:
        raise ValueError(f"loss_landscape() has dims=1 (along the gradient) or 2, got {dims}.")
    along = np.asarray(np.linspace(-1, 1, 21) if steps is None else steps, dtype=float)
    rng = (Generator().manual_seed(0) if generator is None else generator).rng
    with unchanged(model):
        params = _parameters(model)
        starts = [p.array for p in params]
        first, second = (
            [_normalised(rng.standard_normal(p.shape), p) for p in params] for _ in range(2)
        )
        losses = np.empty((len(along), len(along)))
        for i, b in enumerate(along):
            for j, a in enumerate(along):
                for p, w, d, e in zip(params, starts, first, second, strict=True):
                    p.array = w + (a * d + b * e).astype(w.dtype)
                losses[i, j] = _value(model, loss).item()
    return Landscape(along, losses, type(model).__name__)


@dataclass(frozen=True)
class Landscape:
    """Losses (steps,), or (steps, steps) with d₁ along the last axis, at ``steps``."""

    steps: Any
    losses: Any
    model: str = ""

    def plot(self, path: str | PathLike[str] | None = None, *, theme: str = "light") -> Any:
        """The curve, or the contours, with the place of the weights marked.

        Args:
            path: where to write it (.png, .svg, .pdf); not at all by default.
            theme: ``"light"`` or ``"dark"``.
        Returns:
            The matplotlib figure.
        """
        chart = Chart(5.6, 4.2, theme)
        axes = chart.axes[0]
        if self.losses.ndim == 1:
            axes.plot(self.steps, self.losses, marker="o", markersize=3.5, **chart.style(0))
            chart.label(axes, "", "step η along the gradient: w - η ∇L(w)", "loss")
        else:
            lines = axes.contour(
                self.steps, self.steps, self.losses, levels=18, cmap=chart.rising(from_share=0.5)
            )
            axes.clabel(lines, fontsize=7, fmt="%.3g")
            axes.plot(0, 0, "+", color=chart.theme.alert, markersize=10, markeredgewidth=2)
            axes.set_aspect("equal")
            chart.label(axes, "", "direction d₁", "direction d₂, filter-normalised")
        low, high = number(self.losses.min()), number(self.losses.max())
        chart.title(f"Loss around the weights{self.model and ' of ' + self.model}: {low} to {high}")
        return chart.save(path)

    def __repr__(self) -> str:
        low, high = number(self.losses.min()), number(self.losses.max())
        shape = " x ".join(map(str, self.losses.shape))
        return f"<Landscape of {self.model}: {shape} points, loss {low} to {high}>"


class Shift(NamedTuple):
    """The internal covariate shift of one layer: ‖G - G'‖₂ and the cosine of G and G'."""

    layer: str
    l2: float
    cosine: float


class CovariateShift(list[Shift]):
    """A ``Shift`` for each layer, in the order of the forward pass; ``table()`` prints it."""

    def table(self) -> str:
        """A line a layer."""
        rows = [(s.layer, number(s.l2), number(s.cosine)) for s in self]
        return table(("layer", "‖G - G'‖", "cos(G, G')"), rows)

    def __str__(self) -> str:
        return self.table()


def covariate_shift(
    model: Module, loss: Loss, optimizer: Optimizer | None = None, *, lr: float | None = None
) -> CovariateShift:
    """Internal covariate shift, as what an update of the layers before does to a layer's gradient.

    For layer i with the parameters Wᵢ, on one and the same batch::

        G  = ∇_Wᵢ L(W₁,  ...,  Wᵢ₋₁,  Wᵢ, Wᵢ₊₁, ..., W_k)     as the gradient says
        G' = ∇_Wᵢ L(W₁', ..., Wᵢ₋₁', Wᵢ, Wᵢ₊₁, ..., W_k)      once the layers before have moved

    W' are the parameters after the step. ‖G - G'‖₂ is the shift; a cosine near 1 says that the
    layer may go where it meant to, one near 0 that the layers before have made its plan worthless.

    A layer is every module with a weight of two axes or more (Linear, Conv2d, Embedding, ...), with
    its bias, in the order in which the forward pass uses them; "before" are all parameters first
    used earlier, those of norms included. The first layer has nothing before it: 0 and 1.

    Args:
        model, loss: see ``loss_variation``.
        optimizer: whose step to take, in its present state.
        lr: instead of an optimizer, the step of plain gradient descent.
    Source: Santurkar et al. (2018), definition 2.1.
    """
    if (optimizer is None) == (lr is None):
        raise ValueError(
            "covariate_shift() needs the step that moves the layers: either optimizer= or lr=."
        )
    with unchanged(model):
        params = _parameters(model)
        value = _value(model, loss)
        order = _first_uses(value, params)
        grads = _gradients(value, params)
        if optimizer is not None:
            moved = stepped(optimizer, dict(zip(params, grads, strict=True)))
        else:
            moved = {p: p.array - lr * g for p, g in zip(params, grads, strict=True)}
        start, gradient = {p: p.array for p in params}, dict(zip(params, grads, strict=True))
        result = CovariateShift()
        for place, path, own in _layers(model, params, order):
            before = {p for p in params if order.get(p, place) < place}.difference(own)
            for p in params:
                p.array = moved.get(p, start[p]) if p in before else start[p]
            then = _flat(_gradients(_value(model, loss), own))
            now = _flat([gradient[p] for p in own])
            norms = float(np.linalg.norm(now) * np.linalg.norm(then))
            cosine = float(now @ then) / norms if norms else float("nan")
            result.append(Shift(path, float(np.linalg.norm(now - then)), cosine))
    return result


# ---- walking ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """At every step η: the loss, how far the gradient changed, how far the weights went."""

    steps: Any
    losses: Any
    changes: Any
    distances: Any


def _walk(model: Module, loss: Loss, steps: Sequence[float]) -> Walk:
    """Loss and gradient at w - η g."""
    along = np.asarray(list(steps), dtype=float)
    if not len(along):
        raise ValueError("a walk needs at least one step, got none.")
    losses, changes = [], []
    with unchanged(model):
        params = _parameters(model)
        starts = [p.array for p in params]
        grads = _gradients(_value(model, loss), params)
        here = _flat(grads)
        for eta in along:
            for p, w, g in zip(params, starts, grads, strict=True):
                p.array = w - float(eta) * g
            value = _value(model, loss)
            losses.append(value.item())
            changes.append(np.linalg.norm(here - _flat(_gradients(value, params))))
    distances = np.abs(along) * np.linalg.norm(here)
    return Walk(along, np.array(losses), np.array(changes), distances)


def _parameters(model: Module) -> list[Tensor]:
    params: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError(
            f"{type(model).__name__} has no parameter that requires a gradient: there is nowhere "
            "to walk."
        )
    return params


def _value(model: Module, loss: Loss) -> Tensor:
    """The loss, with the buffers and the random numbers of the start."""
    held = {b: b.array for b in model.buffers()}
    try:
        for b, array in held.items():
            b.array = array.copy()
        with same_noise():
            value = loss()
    finally:
        for b, array in held.items():
            b.array = array
    if not isinstance(value, Tensor) or value.numel() != 1:
        came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            "loss= is a function without arguments that returns the loss, a tensor of one element, "
            f"as in lambda: F.cross_entropy(model(x), y); got {came}."
        )
    return value


def _gradients(value: Tensor, params: Sequence[Tensor]) -> list[Any]:
    found = gradients_of(value, list(params), retain_graph=True, materialize_grads=True)
    return [g.array for g in found]


def _flat(arrays: Sequence[Any]) -> Any:
    """Everything in one vector, on the CPU, in float64: norms of millions of numbers."""
    return np.concatenate([host(a).reshape(-1).astype(np.float64) for a in arrays])


def _normalised(direction: Any, p: Tensor) -> Any:
    """A direction with, filter by filter, the norms of the parameter."""
    xp = backend_of(p.array)
    if p.ndim < 2:
        return xp.asarray(np.zeros(p.shape))
    axes = tuple(range(1, p.ndim))
    norms = np.sqrt((direction**2).sum(axis=axes, keepdims=True))
    wanted = np.sqrt((host(p).astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
    return xp.asarray(direction / norms * wanted)


# ---- layers ----------------------------------------------------------------------------------


def _first_uses(value: Tensor, params: Sequence[Tensor]) -> Mapping[Tensor, int]:
    """By parameter, the place on the tape of the first op that uses it."""
    known, first = set(params), dict[Tensor, int]()
    for op in tape([value]):
        for edge in op.inputs:
            if edge is not None and not edge.seq and edge in known:
                first.setdefault(edge, op.seq)
    return first


def _layers(
    model: Module, params: Sequence[Tensor], order: Mapping[Tensor, int]
) -> list[tuple[int, str, list[Tensor]]]:
    """(place, path, parameters) of every module with a weight matrix, as the pass uses them."""
    found, known = [], set(params)
    for path, module in model.named_modules():
        own: list[Tensor] = [p for p in module.parameters(recurse=False) if p in known]
        used = [order[p] for p in own if p in order]
        if used and any(p.ndim >= 2 for p in own):
            found.append((min(used), path or type(module).__name__, own))
    return sorted(found, key=lambda layer: layer[0])
