"""Functions of one variable, applied to every element."""

from __future__ import annotations

from math import log, pi
from typing import Any

from minigrad.ops.op import Op


class Exp(Op):
    """e to the power x."""

    formula, vjp = "y = exp(x)", "dx = dy · y"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.exp(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * y,)


class Expm1(Op):
    """exp(x) - 1, accurate near 0."""

    formula, vjp = "y = exp(x) - 1", "dx = dy · (y + 1)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.expm1(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (y + 1),)


class Log(Op):
    """The natural logarithm."""

    formula, vjp = "y = ln x", "dx = dy / x"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.log(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / x,)


class Log2(Op):
    """The logarithm to base 2, exact for powers of 2."""

    formula, vjp = "y = log₂ x", "dx = dy / (x ln 2)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.log2(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / (x * log(2)),)


class Log10(Op):
    """The logarithm to base 10, exact for powers of 10."""

    formula, vjp = "y = log₁₀ x", "dx = dy / (x ln 10)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.log10(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / (x * log(10)),)


class Log1p(Op):
    """ln(1 + x), accurate near 0."""

    formula, vjp = "y = ln(1 + x)", "dx = dy / (1 + x)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.log1p(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / (1 + x),)


class Sqrt(Op):
    """The square root."""

    formula, vjp = "y = √x", "dx = dy / (2 y)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.sqrt(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad / (2 * y),)


class Abs(Op):
    """The absolute value; its derivative at 0 is 0, as in PyTorch."""

    formula, vjp = "y = |x|", "dx = dy · sign x"

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.abs(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad * xp.sign(x),)


class Sign(Op):
    """-1, 0 or 1; its derivative is 0 everywhere."""

    formula, vjp = "y = sign x", "dx = 0"

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.sign(x)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.zeros_like(grad),)


class Sin(Op):
    """The sine; x in radians."""

    formula, vjp = "y = sin x", "dx = dy · cos x"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.sin(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad * xp.cos(x),)


class Cos(Op):
    """The cosine; x in radians."""

    formula, vjp = "y = cos x", "dx = -dy · sin x"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.cos(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (-grad * xp.sin(x),)


class Tan(Op):
    """The tangent; x in radians."""

    formula, vjp = "y = tan x", "dx = dy · (1 + y²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.tan(x)

    def backward(self, xp: Any, grad: Any, y: Any) -> Any:
        return (grad * (1 + y * y),)


class Sinh(Op):
    """The hyperbolic sine."""

    formula, vjp = "y = sinh x", "dx = dy · cosh x"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.sinh(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad * xp.cosh(x),)


class Cosh(Op):
    """The hyperbolic cosine."""

    formula, vjp = "y = cosh x", "dx = dy · sinh x"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.cosh(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad * xp.sinh(x),)


class Erf(Op):
    """The error function, 2/√π ∫₀ˣ exp(-t²) dt."""

    formula, vjp = "y = erf x", "dx = dy · 2/√π exp(-x²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.erf(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad * (2 / pi**0.5) * xp.exp(-x * x),)


class Asin(Op):
    """The angle in [-π/2, π/2] whose sine is x."""

    formula, vjp = "y = arcsin x", "dx = dy / √(1 - x²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.arcsin(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / xp.sqrt(1 - x * x),)


class Acos(Op):
    """The angle in [0, π] whose cosine is x."""

    formula, vjp = "y = arccos x", "dx = -dy / √(1 - x²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.arccos(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (-grad / xp.sqrt(1 - x * x),)


class Atan(Op):
    """The angle in [-π/2, π/2] whose tangent is x."""

    formula, vjp = "y = arctan x", "dx = dy / (1 + x²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.arctan(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (grad / (1 + x * x),)


class Erfc(Op):
    """1 - erf(x), accurate where erf(x) is near 1."""

    formula, vjp = "y = 1 - erf x", "dx = -dy · 2/√π exp(-x²)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.erfc(x)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (-grad * (2 / pi**0.5) * xp.exp(-x * x),)


class Rounded(Op):
    """The integer ``how`` leads to (floor, ceil, trunc, or round, halves to even); its slope is 0.

    ``round`` keeps ``decimals`` digits after the point, or, where it is negative, before it.
    """

    formula, vjp = "y = x, rounded", "dx = 0"

    def __init__(self, how: str, decimals: int = 0) -> None:
        self.how, self.decimals = how, decimals

    def forward(self, xp: Any, x: Any) -> Any:
        function = getattr(xp, self.how)
        return function(x, self.decimals) if self.decimals else function(x)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.zeros_like(grad),)


class Clamp(Op):
    """x held between two numbers; the gradient passes where x was not moved (bounds included)."""

    formula, vjp = "y = min(max(x, low), high)", "dx = dy · [low ≤ x ≤ high]"

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.clip(x, self.low, self.high)

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        inside = x == x
        if self.low is not None:
            inside = inside & (x >= self.low)
        if self.high is not None:
            inside = inside & (x <= self.high)
        return (xp.where(inside, grad, 0.0),)


class Cast(Op):
    """The same values in another dtype."""

    formula, vjp = "y = x as dtype", "dx = dy as x's dtype"

    def __init__(self, dtype: Any) -> None:
        self.dtype_to = dtype
        self.differentiable = dtype.kind == "f"

    def forward(self, xp: Any, x: Any) -> Any:
        self.dtype_from = x.dtype
        return xp.astype(x, self.dtype_to)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.astype(grad, self.dtype_from),)


class Clone(Op):
    """A copy with memory of its own."""

    formula, vjp = "y = x", "dx = dy"

    def forward(self, xp: Any, x: Any) -> Any:
        return x.copy()

    def backward(self, xp: Any, grad: Any) -> Any:
        return (grad,)


class Alias(Op):
    """The same memory under a new node: gives one use of a value a gradient of its own."""

    formula, vjp = "y = x", "dx = dy"

    def forward(self, xp: Any, x: Any) -> Any:
        return x

    def backward(self, xp: Any, grad: Any) -> Any:
        return (grad,)


class Dropout(Op):
    """x times a mask of 0 and 1 / (1 - p), drawn by the caller, so that its mean stays.

    Source: Srivastava et al. (2014), JMLR 15, in the "inverted" form that leaves eval mode alone.
    """

    formula, vjp = "y = x · mask / (1 - p)", "dx = dy · mask / (1 - p)"

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, xp: Any, x: Any, mask: Any) -> Any:
        return x * mask

    def backward(self, xp: Any, grad: Any, mask: Any) -> Any:
        return grad * mask, None
