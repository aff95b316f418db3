"""The operators + - * / ** % and their gradients. Operands broadcast and may be Python numbers."""

from __future__ import annotations

from typing import Any

from minigrad.errors import DivisionByZeroError, DtypeError
from minigrad.ops.op import Op
from minigrad.shapes import broadcast_shapes


class Elementwise(Op):
    """An op of several operands that broadcast against each other."""

    broadcasts = True

    def check(self, *arrays: Any) -> None:
        broadcast_shapes(*(tuple(a.shape) for a in arrays if hasattr(a, "shape")))


class Add(Elementwise):
    """Elementwise sum."""

    formula, vjp = "y = a + b", "da = dy,  db = dy"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return a + b

    def backward(self, xp: Any, grad: Any) -> Any:
        return grad, grad


class Sub(Elementwise):
    """Elementwise difference."""

    formula, vjp = "y = a - b", "da = dy,  db = -dy"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return a - b

    def backward(self, xp: Any, grad: Any) -> Any:
        return grad, -grad if self.needs(1) else None


class Mul(Elementwise):
    """Elementwise product."""

    formula, vjp = "y = a · b", "da = dy · b,  db = dy · a"
    reads_for = {"a": 1, "b": 0}

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return a * b

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        return grad * b if self.needs(0) else None, grad * a if self.needs(1) else None


class Div(Elementwise):
    """Elementwise quotient; integers give the default floating dtype."""

    formula, vjp = "y = a / b", "da = dy / b,  db = -dy · y / b"
    floating = True
    reads_for = {"y": 1}

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return a / b

    def backward(self, xp: Any, grad: Any, b: Any, y: Any) -> Any:
        return grad / b if self.needs(0) else None, -grad * y / b if self.needs(1) else None


class Neg(Op):
    """The value with its sign changed."""

    formula, vjp = "y = -x", "dx = -dy"

    def forward(self, xp: Any, x: Any) -> Any:
        return -x

    def backward(self, xp: Any, grad: Any) -> Any:
        return (-grad,)


class Pow(Elementwise):
    """a to the power b.

    Where b is 0 the derivative with respect to a is 0, also at a = 0; where a is 0 the one with
    respect to b is 0 (the limit for b > 0), as in PyTorch.
    """

    formula, vjp = "y = a ** b", "da = dy · b a ** (b - 1),  db = dy · y ln a"
    reads_for = {"y": 1}

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return a**b

    def check(self, a: Any, b: Any) -> None:
        super().check(a, b)
        if all(isinstance(x, int) or x.dtype.kind in "iu" for x in (a, b)):
            raise DtypeError("integers to a negative power are not integers; use x.float().")

    def backward(self, xp: Any, grad: Any, a: Any, b: Any, y: Any) -> Any:
        da = db = None
        if self.needs(0):
            if isinstance(b, int | float):
                da = grad * (b * a ** (b - 1)) if b else grad * 0
            else:
                corner = (a == 0) & (b == 0)  # 0 * a ** -1 would be NaN
                exponent = xp.where(corner, 1.0, b - 1)
                da = grad * (b * a**exponent)
        if self.needs(1):
            if isinstance(a, int | float):
                a = xp.ones_like(b) * a
            nonzero = a != 0
            db = grad * y * xp.where(nonzero, xp.log(xp.where(nonzero, a, 1.0)), 0.0)
        return da, db


class Remainder(Elementwise):
    """a - b floor(a / b): the remainder with the sign of b, as Python's %."""

    formula, vjp = "y = a - b floor(a / b)", "da = dy,  db = -dy · floor(a / b)"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        _no_integer_by_zero(a, b)
        return a % b

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        return grad, -grad * xp.floor(a / b) if self.needs(1) else None


class Fmod(Elementwise):
    """a - b trunc(a / b): the remainder with the sign of a, as C's fmod."""

    formula, vjp = "y = a - b trunc(a / b)", "da = dy,  db = -dy · trunc(a / b)"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        _no_integer_by_zero(a, b)
        return xp.fmod(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        return grad, -grad * xp.trunc(a / b) if self.needs(1) else None


class Quotient(Elementwise):
    """The whole part of a / b, rounded to -∞ (``floor``) or to 0 (``trunc``); its slope is 0."""

    formula, vjp = "y = a / b, rounded", "da = 0,  db = 0"

    def __init__(self, rounding: str) -> None:
        self.rounding = rounding

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        _no_integer_by_zero(a, b)
        if self.rounding == "floor":
            return a // b
        if (a if hasattr(a, "dtype") else b).dtype.kind == "f":
            return xp.trunc(a / b)
        y = a // b
        return y + ((y < 0) & (y * b != a))  # exact for integers too large for a float

    def backward(self, xp: Any, grad: Any) -> Any:
        zero = xp.zeros_like(grad)
        return zero, zero


class Atan2(Elementwise):
    """The angle of the point (b, a): the arctangent of a / b in the quadrant of both."""

    formula, vjp = "y = atan2(a, b)", "da = dy · b / (a² + b²),  db = -dy · a / (a² + b²)"
    floating = True

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.arctan2(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        slope = grad / (a * a + b * b)
        return slope * b if self.needs(0) else None, -slope * a if self.needs(1) else None


class LogAddExp(Elementwise):
    """ln(exp a + exp b), shifted so that nothing overflows."""

    formula, vjp = "y = ln(eᵃ + eᵇ)", "da = dy · exp(a - y),  db = dy · exp(b - y)"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.logaddexp(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any, y: Any) -> Any:
        da = grad * xp.exp(a - y) if self.needs(0) else None
        return da, grad * xp.exp(b - y) if self.needs(1) else None


def _no_integer_by_zero(a: Any, b: Any) -> None:
    """PyTorch refuses what NumPy gives 0 for."""
    if all(getattr(getattr(x, "dtype", x), "kind", "i") in "iub" for x in (a, b)):
        zero = (b == 0).any() if hasattr(b, "dtype") else b == 0
        if zero and not isinstance(a, float):
            raise DivisionByZeroError("an integer divided by 0 has no quotient; use x.float().")


class Maximum(Elementwise):
    """The larger of two; at a tie each side gets half the gradient."""

    formula, vjp = "y = max(a, b)", "da = dy · ([a > b] + ½ [a = b]),  db = dy - da"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.maximum(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        half = xp.where(a == b, 0.5 * grad, 0.0)
        return xp.where(a > b, grad, half), xp.where(b > a, grad, half)


class Minimum(Elementwise):
    """The smaller of two; at a tie each side gets half the gradient."""

    formula, vjp = "y = min(a, b)", "da = dy · ([a < b] + ½ [a = b]),  db = dy - da"

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return xp.minimum(a, b)

    def backward(self, xp: Any, grad: Any, a: Any, b: Any) -> Any:
        half = xp.where(a == b, 0.5 * grad, 0.0)
        return xp.where(a < b, grad, half), xp.where(b < a, grad, half)


class Where(Elementwise):
    """a where the condition holds, else b."""

    formula, vjp = "y = a if c else b", "da = [c] dy,  db = [not c] dy"

    def forward(self, xp: Any, condition: Any, a: Any, b: Any) -> Any:
        return xp.where(condition, a, b)

    def backward(self, xp: Any, grad: Any, condition: Any) -> Any:
        zero = xp.zeros_like(grad)
        return None, xp.where(condition, grad, zero), xp.where(condition, zero, grad)
