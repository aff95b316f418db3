"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi
from operator import itemgetter
from typing import Any, NamedTuple

from minigrad.ops.op import Fused, Op


class ReLU(Op):
    """The positive part; its derivative at 0 is 0.

    Reads its output, which the next layer keeps anyway: nothing more stays in memory.
    Source: Nair and Hinton (2010), "Rectified linear units improve restricted Boltzmann machines".
    """

    name = "relu"
    formula, vjp = "y = max(x, 0)", "dx = dy · [y > 0]"

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.relu(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (xp.relu_backward(grad, y),)


class Sigmoid(Op):
    """The logistic function.

    (1 + tanh(x/2)) / 2 is a pass shorter, but rounds: at x = -20 nothing is left of 2e-9.
    """

    formula, vjp = "y = 1 / (1 + exp(-x))", "dx = dy · y (1 - y)"
    floating = noisy = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.sigmoid(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (xp.sigmoid_backward(grad, y),)


class Tanh(Op):
    """The hyperbolic tangent."""

    formula, vjp = "y = tanh x", "dx = dy · (1 - y²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.tanh(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (1 - y * y),)


class PReLU(Op):
    """x where positive, a learnt slope times x elsewhere.

    Source: He et al. (2015), arXiv:1502.01852, equation 1.
    """

    formula = "y = max(x, 0) + weight · min(x, 0)"
    vjp = "dx = dy · (1 if x > 0 else weight),  dweight = dy · min(x, 0)"
    broadcasts = True

    def forward(self, xp: Any, x: Any, weight: Any) -> Any:
        return xp.where(x > 0, x, weight * x)

    def backward(self, xp: Any, grad: Any, x: Any, weight: Any) -> Any:
        dx = xp.where(x > 0, grad, weight * grad) if self.needs(0) else None
        return dx, xp.where(x > 0, 0.0, x * grad) if self.needs(1) else None


class Kind(NamedTuple):
    """An activation that differs from others by its formula alone: a row of ``KINDS``.

    ``value(xp, x, *parameters)`` and ``rule(xp, grad, x or y, *parameters)`` are the forward and
    the backward of an op. The third parameter of ``rule`` says what is kept for it, input or
    output; the parameters of ``value`` name those of the activation.
    """

    formula: str
    vjp: str
    value: Callable[..., Any]
    rule: Callable[..., Any]
    floating: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """What the activation is called with, by name."""
        code = self.value.__code__
        return code.co_varnames[2 : code.co_argcount]

    @property
    def reads(self) -> str:
        """``"x"`` or ``"y"``."""
        return self.rule.__code__.co_varnames[2]


class Activation(Op):
    """y = f(x), element by element: one of ``KINDS``, with its parameters."""

    formula, vjp = "y = f(x)", "dx = dy · f'(x)"

    def __init__(self, kind: str, *parameters: Any) -> None:
        self.kind, self.parameters = KINDS[kind], parameters
        self.name, self.formula, self.vjp = kind, self.kind.formula, self.kind.vjp
        self.floating = self.kind.floating
        if self.kind.reads == "y":
            self.reads, self.positions, self.keep = ("y",), (1,), itemgetter(slice(1, None))

    def forward(self, xp: Any, x: Any) -> Any:
        return self.kind.value(xp, x, *self.parameters)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (self.kind.rule(xp, grad, x, *self.parameters),)

    def attributes(self) -> dict[str, Any]:
        return dict(zip(self.kind.parameters, self.parameters, strict=False))

    def __repr__(self) -> str:
        return f"<Activation {self.name}>"


def _sigmoid(xp: Any, x: Any) -> Any:
    return xp.run(Sigmoid(), x)


def _normal(xp: Any, x: Any) -> Any:
    """Φ(x), the normal distribution function."""
    return 0.5 * (1 + xp.erf(x * 0.5**0.5))


def _bent(xp: Any, x: Any) -> Any:
    """tanh(√(2/π) (x + 0.044715 x³)), by which GELU is approximated."""
    return xp.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x * x * x))


def _gelu_tanh_rule(xp: Any, grad: Any, x: Any) -> Any:
    t = _bent(xp, x)
    inner = (2 / pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)
    return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


def _silu_rule(xp: Any, grad: Any, x: Any) -> Any:
    s = _sigmoid(xp, x)
    return grad * (s * (1 + x * (1 - s)))


def _softplus(xp: Any, x: Any, beta: float = 1.0, threshold: float = inf) -> Any:
    z = beta * x
    smooth = (xp.maximum(z, 0) + xp.log1p(xp.exp(-xp.abs(z)))) / beta
    return xp.where(z > threshold, x, smooth)


def _mish_rule(xp: Any, grad: Any, x: Any) -> Any:
    t = xp.tanh(xp.run(Activation("softplus", 1.0, inf), x))
    return grad * (t + x * _sigmoid(xp, x) * (1 - t * t))


def _elu(xp: Any, x: Any, alpha: float, scale: float = 1.0, rate: float = 1.0) -> Any:
    return xp.where(x > 0, scale * x, scale * alpha * xp.expm1(rate * x))


def _elu_rule(
    xp: Any, grad: Any, x: Any, alpha: float, scale: float = 1.0, rate: float = 1.0
) -> Any:
    below = xp.where(x < 0, x, 0.0)  # exp of a large x would be inf, and 0 · inf no number
    return xp.where(x <= 0, grad * (scale * alpha * rate * xp.exp(rate * below)), scale * grad)


def _tanhshrink_rule(xp: Any, grad: Any, x: Any) -> Any:
    t = xp.tanh(x)
    return grad * (t * t)


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

#: Name, formula and gradient as text and as code. Kinks are PyTorch's, where it decides them.
KINDS: dict[str, Kind] = {
    "relu6": Kind(
        "y = min(max(x, 0), 6)",
        "dx = dy · [0 < y < 6]",
        lambda xp, x: xp.clip(x, 0, 6),
        lambda xp, grad, y: xp.where((y > 0) & (y < 6), grad, 0.0),
        floating=False,
    ),
    "hardtanh": Kind(
        "y = min(max(x, min_val), max_val)",
        "dx = dy · [min_val < y < max_val]",
        lambda xp, x, min_val, max_val: xp.clip(x, min_val, max_val),
        lambda xp, grad, y, low, high: xp.where((y > low) & (y < high), grad, 0.0),
        floating=False,
    ),
    "threshold": Kind(
        "y = x if x > threshold else value",
        "dx = dy · [x > threshold]",
        lambda xp, x, threshold, value: xp.where(x <= threshold, value, x),
        lambda xp, grad, x, threshold, value: xp.where(x <= threshold, 0.0, grad),
        floating=False,
    ),
    "leaky_relu": Kind(
        "y = max(x, 0) + slope · min(x, 0)",
        "dx = dy · (1 if x > 0 else slope)",
        lambda xp, x, slope: xp.where(x > 0, x, slope * x),
        lambda xp, grad, x, slope: xp.where(x > 0, grad, slope * grad),
    ),
    "elu": Kind(
        "y = x if x > 0 else α (exp(x) - 1)",
        "dx = dy · (1 if x > 0 else α exp(x))",
        lambda xp, x, alpha: _elu(xp, x, alpha),
        _elu_rule,
    ),
    "selu": Kind(
        "y = λ (x if x > 0 else α (exp(x) - 1))",
        "dx = dy · λ (1 if x > 0 else α exp(x))",
        lambda xp, x: _elu(xp, x, SELU_ALPHA, SELU_SCALE),
        lambda xp, grad, x: _elu_rule(xp, grad, x, SELU_ALPHA, SELU_SCALE),
    ),
    "celu": Kind(
        "y = x if x > 0 else α (exp(x / α) - 1)",
        "dx = dy · (1 if x > 0 else exp(x / α))",
        lambda xp, x, alpha: _elu(xp, x, alpha, 1.0, 1 / alpha),
        lambda xp, grad, x, alpha: _elu_rule(xp, grad, x, alpha, 1.0, 1 / alpha),
    ),
    "gelu": Kind(
        "y = x Φ(x)",
        "dx = dy · (Φ(x) + x φ(x))",
        lambda xp, x: x * _normal(xp, x),
        lambda xp, grad, x: (
            grad * (_normal(xp, x) + x * xp.exp(-0.5 * x * x) * (1 / (2 * pi) ** 0.5))
        ),
    ),
    "gelu_tanh": Kind(
        "y = x (1 + t) / 2,  t = tanh(√(2/π) (x + 0.044715 x³))",
        "dx = dy · ((1 + t) / 2 + x (1 - t²) √(2/π) (1 + 0.134145 x²) / 2)",
        lambda xp, x: 0.5 * x * (1 + _bent(xp, x)),
        _gelu_tanh_rule,
    ),
    "silu": Kind(
        "y = x σ(x)",
        "dx = dy · σ(x) (1 + x (1 - σ(x)))",
        lambda xp, x: x * _sigmoid(xp, x),
        _silu_rule,
    ),
    "mish": Kind(
        "y = x t,  t = tanh(ln(1 + exp(x)))",
        "dx = dy · (t + x σ(x) (1 - t²))",
        lambda xp, x: x * xp.tanh(_softplus(xp, x)),
        _mish_rule,
    ),
    "softplus": Kind(
        "y = ln(1 + exp(β x)) / β",
        "dx = dy · σ(β x)",
        lambda xp, x, beta, threshold: _softplus(xp, x, beta, threshold),
        lambda xp, grad, x, beta, threshold: xp.where(
            beta * x > threshold, grad, grad * _sigmoid(xp, beta * x)
        ),
    ),
    "softsign": Kind(
        "y = x / (1 + |x|)",
        "dx = dy / (1 + |x|)²",
        lambda xp, x: x / (1 + xp.abs(x)),
        lambda xp, grad, x: grad / ((1 + xp.abs(x)) * (1 + xp.abs(x))),
    ),
    "hardswish": Kind(
        "y = x · min(max(x + 3, 0), 6) / 6",
        "dx = dy · (0 if x ≤ -3, x / 3 + ½ between, 1 if x ≥ 3)",
        lambda xp, x: x * xp.clip(x + 3, 0, 6) / 6,
        lambda xp, grad, x: xp.where(
            x <= -3, 0.0, xp.where(x < 3, grad * (xp.where(xp.abs(x) < 3, x, 0.0) / 3 + 0.5), grad)
        ),
    ),
    "hardsigmoid": Kind(
        "y = min(max(x + 3, 0), 6) / 6",
        "dx = dy · [0 < y < 1] / 6",
        lambda xp, x: xp.clip(x + 3, 0, 6) / 6,
        lambda xp, grad, y: xp.where((y > 0) & (y < 1), grad / 6, 0.0),
    ),
    "hardshrink": Kind(
        "y = x if |x| > λ else 0",
        "dx = dy · [|y| > λ]",
        lambda xp, x, lambd: xp.where(xp.abs(x) <= lambd, 0.0, x),
        lambda xp, grad, y, lambd: xp.where(xp.abs(y) > lambd, grad, 0.0),
    ),
    "softshrink": Kind(
        "y = sign(x) · max(|x| - λ, 0)",
        "dx = dy · [y ≠ 0]",
        lambda xp, x, lambd: xp.where(x > lambd, x - lambd, xp.where(x < -lambd, x + lambd, 0 * x)),
        lambda xp, grad, y, lambd: xp.where(xp.abs(y) > 0, grad, 0.0),
    ),
    "tanhshrink": Kind(
        "y = x - tanh x",
        "dx = dy · tanh² x",
        lambda xp, x: x - xp.tanh(x),
        _tanhshrink_rule,
    ),
    "logsigmoid": Kind(
        "y = ln σ(x)",
        "dx = dy · (1 - exp(y))",
        lambda xp, x: -_softplus(xp, -x),
        lambda xp, grad, y: grad * -xp.expm1(y),
    ),
}


class Softmax(Fused):
    """exp(x) / Σ exp(x) along an axis: positive numbers that sum to 1."""

    formula, vjp = "y = exp(x) / Σ exp(x)", "dx = y · (dy - Σ dy · y)"
    floating = True
    plain_rule = True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.softmax(x, self.axis)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (y * (grad - (grad * y).sum(axis=self.axis, keepdims=True)),)

    def composed(self, xp: Any, x: Any) -> Any:
        e = xp.exp(x - xp.amax(x, axis=self.axis, keepdims=True))
        return e / e.sum(axis=self.axis, keepdims=True)


class LogSoftmax(Fused):
    """The logarithm of softmax, without taking the logarithm of a rounded zero."""

    formula, vjp = "y = x - ln Σ exp(x)", "dx = dy - exp(y) · Σ dy"
    floating = True
    plain_rule = True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.log_softmax(x, self.axis)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad - xp.exp(y) * grad.sum(axis=self.axis, keepdims=True),)

    def composed(self, xp: Any, x: Any) -> Any:
        z = x - xp.amax(x, axis=self.axis, keepdims=True)
        return z - xp.log(xp.exp(z).sum(axis=self.axis, keepdims=True))
