"""Activation functions."""

from __future__ import annotations

from typing import Any

from minigrad.ops.op import Fused, Op


class ReLU(Op):
    """The positive part; its derivative at 0 is 0.

    Reads its output, which the next layer keeps anyway: nothing more stays in memory.
    Source: Nair and Hinton (2010), "Rectified linear units improve restricted Boltzmann machines".
    """

    name = "relu"
    formula, vjp = "y = max(x, 0)", "dx = dy · [y > 0]"

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (y > 0),)


class LeakyReLU(Op):
    """x where positive, a small slope times x elsewhere."""

    name = "leaky_relu"
    formula, vjp = "y = max(x, 0) + slope · min(x, 0)", "dx = dy · (1 if x > 0 else slope)"

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.where(x > 0, x, self.slope * x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (xp.where(x > 0, grad, self.slope * grad),)


class Sigmoid(Op):
    """The logistic function. Where exp(-x) overflows, 1 / inf is the 0 that is wanted.

    (1 + tanh(x/2)) / 2 is a pass shorter, but rounds: at x = -20 nothing is left of 2e-9.
    """

    formula, vjp = "y = 1 / (1 + exp(-x))", "dx = dy · y (1 - y)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return 1 / (1 + xp.exp(-x))

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (y * (1 - y)),)


class Tanh(Op):
    """The hyperbolic tangent."""

    formula, vjp = "y = tanh x", "dx = dy · (1 - y²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.tanh(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (1 - y * y),)


class Softplus(Op):
    """ln(1 + exp(beta x)) / beta, a smooth ReLU; linear beyond ``threshold`` as in PyTorch."""

    formula, vjp = "y = ln(1 + exp(β x)) / β", "dx = dy · sigmoid(β x)"
    floating = True

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, xp: Any, x: Any) -> Any:
        z = self.beta * x
        smooth = (xp.maximum(z, 0) + xp.log1p(xp.exp(-xp.abs(z)))) / self.beta
        return xp.where(z > self.threshold, x, smooth)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        z = self.beta * x
        slope = 1 / (1 + xp.exp(-z))
        return (xp.where(z > self.threshold, grad, grad * slope),)


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
