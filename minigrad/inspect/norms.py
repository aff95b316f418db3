"""trace: a normalization opened, every number on the way from x to y and from dy to dx by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np

from minigrad import ops
from minigrad.backends import quiet
from minigrad.errors import ShapeError
from minigrad.gradients import grad as gradients_of
from minigrad.inspect.flow import Flow, Step
from minigrad.nn.module import Module
from minigrad.ops import Op
from minigrad.shapes import Shape, prod
from minigrad.tensor import Tensor
from minigrad.unchanged import host, unchanged
from minigrad.viz.health import viewed
from minigrad.viz.tables import numbers, table
from minigrad.viz.trace import tape

NORMS = (
    ops.BatchNorm,
    ops.BatchNormInference,
    ops.LayerNorm,
    ops.GroupNorm,
    ops.RMSNorm,
    ops.LocalResponseNorm,
)
#: The axes of images and sequences, as the field calls them.
AXES = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}


def trace(norm: Module, x: Tensor, grad: Tensor | None = None) -> NormTrace:
    """Open a normalization layer: every intermediate value by name, for one input.

    Forward: ``mu``, ``var`` (biased), ``inv_std`` = 1/√(var + ε), ``x_hat``, ``y``, and what
    running estimates become. With ``grad`` = dL/dy also backward: ``dgamma``, ``dbeta``, ``dx_hat``
    = γ dy, ``dvar``, ``dmu``, and dx as the sum of its three ways from the loss to x::

        dx_direct  = dx_hat / σ                             through x_hat itself
        dx_var     = dvar · 2 (x - μ) / m   = -x_hat · mean(dx_hat · x_hat) / σ     through σ²
        dx_mu      = dmu / m                = -mean(dx_hat) / σ                     through μ

    The means run over the m values that share one μ. Where statistics are constants (BatchNorm in
    eval mode) the last two are 0. RMSNorm has no μ: ``mean_square``, ``inv_rms``, ``dx_direct`` and
    ``dx_mean_square``. LocalResponseNorm divides by d^β: ``d``, ``dx_direct``, ``dx_neighbours``.

    ``y`` and ``dx`` are what the layer itself computes; the rest is worked out beside it in
    float64. Nothing changes: no running estimate, gradient or random number.

    Shapes: x as the layer takes it; grad as the layer's output.
    Args:
        norm: a BatchNorm, LayerNorm, GroupNorm, InstanceNorm, RMSNorm or LocalResponseNorm, in
            train or eval mode. Of a larger module, pass the norm in it:
            ``model.get_submodule("1")``.
        grad: dL/dy; None leaves out the backward pass.
    Raises:
        TypeError: ``norm`` is something else.
        ShapeError: ``grad`` has not the shape of the output.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1 and the chain rule of section 3.

    Example:
        >>> from minigrad import nn, tensor
        >>> t = trace(nn.BatchNorm1d(1), tensor([[1.0], [2.0], [6.0]]))
        >>> t.mu, t.var
        (array([3.]), array([4.66666667]))
        >>> print(t.table())
        BatchNorm1d, train mode: statistics of this batch, m = 3 values each
        name          shape   formula                                values
        x             (3, 1)                                         1. 2. 6.
        mu            (1,)    μ = mean x over N                      3.
        var           (1,)    σ² = mean (x - μ)² over N              4.6667
        inv_std       (1,)    1/σ = 1 / √(σ² + 1e-05)                0.4629
        x_hat         (3, 1)  x̂ = (x - μ) / σ                        -0.9258 -0.4629 1.3887
        gamma         (1,)    γ, learnt                              1.
        beta          (1,)    β, learnt                              0.
        y             (3, 1)  y = γ x̂ + β                            -0.9258 -0.4629 1.3887
        running_mean  (1,)    moves towards the batch's, from 0.     0.3
        running_var   (1,)    moves towards the batch's, from 1.     1.6
    """
    if not isinstance(norm, Module) or not isinstance(x, Tensor):
        raise TypeError(
            "trace() opens a normalization layer for one input tensor, got "
            f"{type(norm).__name__} and {type(x).__name__}."
        )
    before = {k: host(b).copy() for k, b in norm._buffers.items() if b is not None}
    with unchanged(norm), quiet():
        for inner in norm.modules():
            if "fused" in inner.__dict__:
                inner.__dict__["fused"] = True  # one op, whose statistics can be read off it
        source = x.detach().clone().requires_grad_()
        output = norm.forward(source)
        op = _norm_of(norm, source, output)
        if grad is not None and grad.shape != output.shape:
            raise ShapeError(
                f"grad= is dL/dy and has the shape of the output, {output.shape}; got {grad.shape}."
            )
        after = {k: host(b).copy() for k, b in norm._buffers.items() if b is not None}
        opened = _Opened(norm, op, x, output, grad)
        opened.forward(before, after)
        if grad is not None:
            (dx,) = gradients_of(output, source, grad, retain_graph=True)
            opened.backward(host(dx))
    return NormTrace(opened.headline, opened.steps)


class NormTrace:
    """What ``trace`` found: arrays by name, as attributes (``t.mu``) or by key (``t["mu"]``).

    ``table()`` shows them as text, ``picture()`` as boxes of numbers; ``render`` writes it.
    """

    def __init__(self, title: str, steps: list[Step]) -> None:
        self.title, self.steps = title, {s.name: s for s in steps}

    def __getitem__(self, name: str) -> Any:
        if name not in self.steps:
            raise KeyError(f"{name!r} is not among {', '.join(self.steps)}.")
        return self.steps[name].array

    def __getattr__(self, name: str) -> Any:
        steps = self.__dict__.get("steps", {})
        if name not in steps:
            raise AttributeError(
                f"the trace has no {name!r}; it has {', '.join(steps)}"
                + ("." if "dy" in steps else "; pass grad= for the backward pass.")
            )
        return steps[name].array

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self.steps})

    def table(self) -> str:
        """A line an array: name, shape, formula and the first values."""
        rows = [
            (s.name, str(tuple(s.array.shape)), " ".join(s.formula.split("\n")), numbers(s.array))
            for s in self.steps.values()
        ]
        return f"{self.title}\n{table(('name', 'shape', 'formula', 'values'), rows)}"

    def picture(self, theme: str = "light") -> Flow:
        """The arrays as a picture, which shows itself in a notebook.

        Args:
            theme: ``"light"`` or ``"dark"``.
        """
        return Flow(list(self.steps.values()), self.title, self.table(), theme)

    def render(self, path: str | os.PathLike[str], theme: str = "light") -> Path:
        """Write the picture; the suffix decides: .svg, .png, .pdf, .dot, .json or .txt."""
        return self.picture(theme).render(path)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<NormTrace of {self.title}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.picture()._repr_mimebundle_(include, exclude)


@dataclass
class _Opened:
    """One normalization being opened: what it averages over, and the steps found so far."""

    norm: Module
    op: Op
    x: Tensor
    output: Tensor
    grad: Tensor | None

    def __post_init__(self) -> None:
        self.steps: list[Step] = []
        self.saved = dict(zip(self.op.reads, self.op.saved or (), strict=True))
        self.gamma, self.beta = _held(self.op, "gamma"), _held(self.op, "beta")
        self.values = np.asarray(host(self.saved["x"]), dtype=np.float64)
        shape = self.values.shape
        self.shape = tuple(self.x.shape)  # an unbatched image was given an axis
        self.constant = isinstance(self.op, ops.BatchNormInference)
        letters = AXES.get(len(shape), "")
        if isinstance(self.op, ops.GroupNorm):
            self.rows: Shape = (shape[0], self.op.groups, -1)
            self.axes: Shape = (2,)
            one = self.op.groups == shape[1]
            self.over = f"a channel's {', '.join(letters[2:])}" if one else "a group's channels"
            if not one and letters[2:]:
                self.over += f", {', '.join(letters[2:])}"
        elif isinstance(self.op, ops.LayerNorm | ops.RMSNorm):
            self.rows, self.axes = shape, self.op.axes(self.values)
            n = len(self.axes)
            self.over = "the features" if n == 1 else f"the last {n} axes"
        else:
            self.rows, self.axes = shape, (0, *range(2, len(shape)))
            self.over = ", ".join(letters[i] for i in self.axes if letters)
        spread = isinstance(self.op, ops.LayerNorm | ops.RMSNorm)
        channels = (
            shape[len(shape) - len(self.axes) :] if spread else (1, -1, *(1,) * (len(shape) - 2))
        )
        self.vector = channels  # the shape in which gamma and beta meet x
        self.summed = (
            tuple(range(len(shape) - len(self.axes))) if spread else (0, *range(2, len(shape)))
        )

    @property
    def headline(self) -> str:
        """What was opened, in which mode, and how many values share a statistic."""
        name = type(self.norm).__name__
        if isinstance(self.op, ops.LocalResponseNorm):
            return f"{name}: each value divided by what {self.op.size} neighbouring channels say"
        values = self.values.reshape(self.rows)
        m = prod(tuple(values.shape[a] for a in self.axes))
        shared = f"m = {m} values each"
        if self.constant:
            mode = "train" if self.norm.training else "eval"
            return f"{name}, {mode} mode: running statistics, constants"
        if isinstance(self.op, ops.BatchNorm):
            return f"{name}, train mode: statistics of this batch, {shared}"
        return f"{name}: statistics of each sample, {shared}"

    def add(self, name: str, formula: str, array: Any, kind: str, *sources: str) -> None:
        """One more array; sources that there are not are left out."""
        known = {s.name for s in self.steps}
        array = np.asarray(array)
        if array.size == prod(self.shape) and array.ndim == self.values.ndim:
            array = array.reshape(self.shape)
        there = tuple(s for s in sources if s in known)
        self.steps.append(Step(name, formula, array, kind, there))

    def mean(self, array: Any) -> Any:
        """The mean over the values that share a statistic, its axes kept."""
        return array.reshape(self.rows).mean(axis=self.axes, keepdims=True)

    def spread(self, statistic: Any) -> Any:
        """A statistic beside every value it belongs to."""
        rows = self.values.reshape(self.rows)
        return np.broadcast_to(statistic, rows.shape).reshape(self.values.shape)

    # ---- forward -----------------------------------------------------------------------------

    def forward(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """From x to y."""
        x, over = self.values, self.over
        self.add("x", "", x, "input")
        if isinstance(self.op, ops.LocalResponseNorm):
            self.denominator()
            return
        eps = f"{self.op.eps:g}"  # type: ignore[attr-defined]
        if isinstance(self.op, ops.RMSNorm):
            square = self.mean(x * x)
            self.inv = 1 / np.sqrt(square + self.op.eps)
            self.x_hat = x * self.spread(self.inv)
            self.add(
                "mean_square", f"mean x² over {over}", np.squeeze(square, self.axes), "op", "x"
            )
            inv = np.squeeze(self.inv, self.axes)
            self.add("inv_rms", f"1/r = 1 / √(mean x² + {eps})", inv, "op", "mean_square")
            self.add("x_hat", "x̂ = x / r", self.x_hat, "op", "x", "inv_rms")
        else:
            if self.constant:
                mu, var = (
                    np.asarray(host(self.saved[k]), dtype=np.float64).reshape(self.vector)
                    for k in ("mean", "var")
                )
                said = ("μ = running_mean", "σ² = running_var", "buffer")
            else:
                mu = self.mean(x)
                var = self.mean((x - self.spread(mu)) ** 2)
                said = (f"μ = mean x over {over}", f"σ² = mean (x - μ)² over {over}", "op")
            self.inv = 1 / np.sqrt(var + self.op.eps)  # type: ignore[attr-defined]
            self.centred = x - self.spread(mu)
            self.x_hat = self.centred * self.spread(self.inv)
            sources = () if self.constant else ("x",)
            self.add("mu", said[0], np.squeeze(mu, self.axes), said[2], *sources)
            self.add("var", said[1], np.squeeze(var, self.axes), said[2], *sources, "mu")
            inv = np.squeeze(self.inv, self.axes)
            self.add("inv_std", f"1/σ = 1 / √(σ² + {eps})", inv, "op", "var")
            self.add("x_hat", "x̂ = (x - μ) / σ", self.x_hat, "op", "x", "mu", "inv_std")
        said_y = "y = x̂"
        if self.gamma is not None:
            self.add("gamma", "γ, learnt", self.gamma, "parameter")
            said_y = "y = γ x̂"
        if self.beta is not None:
            self.add("beta", "β, learnt", self.beta, "parameter")
            said_y += " + β"
        self.add("y", said_y, host(self.output), "output", "x_hat", "gamma", "beta")
        for name, statistic in (("running_mean", "mu"), ("running_var", "var")):
            if name in after and not np.array_equal(before[name], after[name]):
                said_r = f"moves towards the batch's, from {numbers(before[name], 2)}"
                self.add(name, said_r, after[name], "buffer", statistic)

    def denominator(self) -> None:
        """LocalResponseNorm's d, and y."""
        op: Any = self.op
        d = op.k + op.alpha / op.size * self.neighbours(self.values**2)
        self.d = d
        self.add("d", f"d = {op.k:g} + {op.alpha:g}/{op.size} Σ x² of neighbours", d, "op", "x")
        self.add("y", f"y = x / d^{op.beta:g}", host(self.output), "output", "x", "d")

    def neighbours(self, array: Any, *, turned: bool = False) -> Any:
        """The sum over a channel's window; ``turned``: over the channels in whose window it is."""
        op: Any = self.op
        below, above = op.size // 2, (op.size - 1) // 2
        below, above = (above, below) if turned else (below, above)
        padded = np.pad(array, ((0, 0), (below, above), *((0, 0),) * (array.ndim - 2)))
        return sum(padded[:, i : i + array.shape[1]] for i in range(op.size))

    # ---- backward ----------------------------------------------------------------------------

    def backward(self, dx: Any) -> None:
        """From dy to dx, by each way there is."""
        dy = np.asarray(host(self.grad), dtype=np.float64).reshape(self.values.shape)
        self.add("dy", "∂L/∂y, given", dy, "gradient")
        if isinstance(self.op, ops.LocalResponseNorm):
            self.neighbourly(dy, dx)
            return
        if self.gamma is not None:
            dgamma = (dy * self.x_hat).sum(axis=self.summed).reshape(self.gamma.shape)
            self.add("dgamma", "Σ dy · x̂", dgamma, "gradient", "dy", "x_hat")
        if self.beta is not None:
            dbeta = dy.sum(axis=self.summed).reshape(self.beta.shape)
            self.add("dbeta", "Σ dy", dbeta, "gradient", "dy")
        dx_hat = dy if self.gamma is None else dy * np.reshape(self.gamma, self.vector)
        said = "dx̂ = dy" if self.gamma is None else "dx̂ = γ dy"
        self.add("dx_hat", said, dx_hat, "gradient", "dy", "gamma")
        inv = self.spread(self.inv)
        aligned = self.spread(self.mean(dx_hat * self.x_hat))
        if isinstance(self.op, ops.RMSNorm):
            self.add("dx_direct", "dx̂ / r\nthrough x̂ itself", dx_hat * inv, "gradient", "dx_hat")
            term = -self.x_hat * aligned * inv
            formula = "-x̂ · mean(dx̂ · x̂) / r\nthrough the mean square"
            self.add("dx_mean_square", formula, term, "gradient", "dx_hat")
            terms: tuple[str, ...] = ("dx_direct", "dx_mean_square")
        else:
            self.add("dx_direct", "dx̂ / σ\nthrough x̂ itself", dx_hat * inv, "gradient", "dx_hat")
            self.statistics(dx_hat, inv, aligned)
            terms = ("dx_direct", "dx_var", "dx_mu")
        self.add("dx", f"dx = {' + '.join(terms)}", dx, "gradient", *terms)

    def statistics(self, dx_hat: Any, inv: Any, aligned: Any) -> None:
        """The ways through σ² and μ; none where they are constants."""
        if self.constant:
            zero = np.zeros(self.values.shape)
            self.add("dx_var", "0: σ² is a constant", zero, "gradient")
            self.add("dx_mu", "0: μ is a constant", zero, "gradient")
            return
        m = prod(self.values.shape) // self.inv.size
        dvar = -0.5 * m * self.mean(dx_hat * self.spread(self.inv**3) * self.centred)
        dmu = -m * self.mean(dx_hat * inv)
        squeezed = (np.squeeze(d, self.axes) for d in (dvar, dmu))
        self.add("dvar", "-½ Σ dx̂ (x - μ) / σ³", next(squeezed), "gradient", "dx_hat")
        self.add("dmu", "-Σ dx̂ / σ", next(squeezed), "gradient", "dx_hat")
        by_var = -self.x_hat * aligned * inv
        formula = "dvar · 2 (x - μ) / m\n= -x̂ · mean(dx̂ · x̂) / σ"
        self.add("dx_var", formula, by_var, "gradient", "dvar")
        by_mu = -self.spread(self.mean(dx_hat)) * inv
        self.add("dx_mu", "dmu / m\n= -mean(dx̂) / σ", by_mu, "gradient", "dmu")

    def neighbourly(self, dy: Any, dx: Any) -> None:
        """LocalResponseNorm: through the numerator, and through the neighbours' d."""
        op: Any = self.op
        self.add("dx_direct", f"dy / d^{op.beta:g}", dy / self.d**op.beta, "gradient", "dy")
        said = self.neighbours(dy * self.values / self.d ** (op.beta + 1), turned=True)
        term = -2 * op.alpha * op.beta / op.size * self.values * said
        formula = f"-2 α β / n · x Σ dy x / d^{op.beta + 1:g}\nthrough the neighbours' d"
        self.add("dx_neighbours", formula, term, "gradient", "dy")
        self.add(
            "dx", "dx = dx_direct + dx_neighbours", dx, "gradient", "dx_direct", "dx_neighbours"
        )


def _norm_of(norm: Module, source: Tensor, output: Any) -> Op:
    """The one normalization that made the output, of the input itself."""
    found = [op for op in tape([output]) if isinstance(op, NORMS)] if _made(output) else []
    if len(found) != 1:
        raise TypeError(
            "trace() opens one normalization layer (batch, layer, group, instance, RMS or local "
            f"response), got {type(norm).__name__}, which computes {len(found)} of them; pass the "
            'layer itself, as in model.get_submodule("1"), with its own input.'
        )
    op = found[0]
    alone = viewed(output.grad_fn) is op and viewed(op.inputs[0]) is source
    if not alone:
        raise TypeError(
            f"trace() opens layers that are one normalization, but {type(norm).__name__} computes "
            "more besides; pass the normalization in it, with its own input."
        )
    return op


def _made(output: Any) -> bool:
    return isinstance(output, Tensor) and output.grad_fn is not None


def _held(op: Op, argument: str) -> Any:
    """The value of a parameter that the op was called with, in float64; None if it has none."""
    code = unwrap(type(op).forward).__code__
    names = code.co_varnames[2 : code.co_argcount]
    if argument not in names or isinstance(op, ops.LocalResponseNorm):
        return None
    i = names.index(argument)
    held: Any = op.inputs[i]
    if held is None and op.constants is not None:
        held = op.constants[i]
        held = held() if isinstance(held, ref) else held
    elif held is not None and held.seq:  # itself computed, as a parametrized weight
        held = dict(zip(op.reads, op.saved or (), strict=True)).get(argument)
    return None if held is None else np.asarray(host(held), dtype=np.float64)
