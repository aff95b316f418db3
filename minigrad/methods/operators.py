"""The operators of Tensor: + - * / // % ** @, comparisons, and logic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError
from minigrad.methods.base import Base

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Operators(Base):
    """The operators of Tensor: + - * / // % ** @, comparisons, and logic."""

    __slots__ = ()

    def __add__(self, other: Any) -> Tensor:
        return self._binary(ops.Add(), self, other)

    def __radd__(self, other: Any) -> Tensor:
        return self._binary(ops.Add(), other, self)

    def __sub__(self, other: Any) -> Tensor:
        return self._binary(ops.Sub(), self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._binary(ops.Sub(), other, self)

    def __mul__(self, other: Any) -> Tensor:
        return self._binary(ops.Mul(), self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return self._binary(ops.Mul(), other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return self._binary(ops.Div(), self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._binary(ops.Div(), other, self)

    def __pow__(self, other: Any) -> Tensor:
        return self._binary(ops.Pow(), self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._binary(ops.Pow(), other, self)

    def __mod__(self, other: Any) -> Tensor:
        return self._binary(ops.Remainder(), self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return self._binary(ops.Remainder(), other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return self._binary(ops.Quotient("floor"), self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return self._binary(ops.Quotient("floor"), other, self)

    def __neg__(self) -> Tensor:
        return self._apply(ops.Neg(), self)

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self._apply(ops.Abs(), self)

    def __matmul__(self, other: Any) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._wrap(backend_of(self.array).asarray(other)).matmul(self)

    # Comparisons and logic carry no gradient: no op, just the values.

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._plain(lambda a, b: a == b, self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._plain(lambda a, b: a != b, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a < b, self, other)

    def __le__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a <= b, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a > b, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a >= b, self, other)

    def __and__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a & b, self, other)

    def __or__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a | b, self, other)

    def __xor__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a ^ b, self, other)

    def __invert__(self) -> Tensor:
        if self.dtype.kind == "f":
            raise DtypeError(f"~ needs a bool or integer tensor, got {self.dtype}.")
        return self._values("invert")

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__
    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__
