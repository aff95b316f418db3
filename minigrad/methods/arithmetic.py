"""Arithmetic of two tensors, or of a tensor and a number, by name; choices between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.dtypes import bool as bool_dtype
from minigrad.dtypes import int64
from minigrad.errors import DtypeError, RangeError, ShapeError
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Arithmetic(Operators):
    """Arithmetic of two tensors, or of a tensor and a number, by name; choices between two."""

    __slots__ = ()

    def add(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self + alpha · other."""
        return self._binary(ops.Add(), self, other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self - alpha · other."""
        return self._binary(ops.Sub(), self, other if alpha == 1 else other * alpha)

    def mul(self, other: Any) -> Tensor:
        """self · other."""
        return self._binary(ops.Mul(), self, other)

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self / other; ``rounding_mode`` "floor" or "trunc" rounds the quotient (slope 0)."""
        if rounding_mode is None:
            return self._binary(ops.Div(), self, other)
        if rounding_mode not in ("floor", "trunc"):
            raise RangeError(
                f'rounding_mode must be None, "floor" or "trunc", got {rounding_mode!r}.'
            )
        return self._binary(ops.Quotient(rounding_mode), self, other)

    def floor_divide(self, other: Any) -> Tensor:
        """floor(self / other)."""
        return self._binary(ops.Quotient("floor"), self, other)

    def fmod(self, other: Any) -> Tensor:
        """self - other · trunc(self / other): the remainder with the sign of self."""
        return self._binary(ops.Fmod(), self, other)

    def atan2(self, other: Any) -> Tensor:
        """The angle of the point (other, self)."""
        return self._binary(ops.Atan2(), self, _tensor("atan2", other))

    def logaddexp(self, other: Any) -> Tensor:
        """ln(exp self + exp other)."""
        a, b = self._promoted(self, _tensor("logaddexp", other))
        self._needs_floating("logaddexp", a)
        return self._apply(ops.LogAddExp(), a, b)

    def lerp(self, end: Any, weight: Any) -> Tensor:
        """self + weight · (end - self)."""
        if self.dtype != _tensor("lerp", end).dtype:
            raise DtypeError(f"lerp needs equal dtypes, got {self.dtype} and {end.dtype}.")
        self._needs_floating("lerp", self)
        x: Any = self
        y: Tensor = x + (end - x) * weight
        return y

    def addcmul(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
        """self + value · tensor1 · tensor2."""
        return self.add(tensor1 * tensor2, alpha=value)

    def addcdiv(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
        """self + value · tensor1 / tensor2."""
        return self.add(tensor1 / tensor2, alpha=value)

    def remainder(self, other: Any) -> Tensor:
        """self - other · floor(self / other)."""
        return self._binary(ops.Remainder(), self, other)

    def pow(self, exponent: Any) -> Tensor:
        """self to the power ``exponent``."""
        return self._binary(ops.Pow(), self, exponent)

    def neg(self) -> Tensor:
        """-self."""
        return -self

    def abs(self) -> Tensor:
        """|self|."""
        return self._apply(ops.Abs(), self)

    def reciprocal(self) -> Tensor:
        """1 / self."""
        return 1.0 / self

    def square(self) -> Tensor:
        """self · self."""
        if self.dtype.kind == "b":
            return self.to(int64)
        return self * self

    def maximum(self, other: Any) -> Tensor:
        """The larger of two tensors, element by element."""
        return self._binary(ops.Maximum(), self, _tensor("maximum", other))

    def minimum(self, other: Any) -> Tensor:
        """The smaller of two tensors, element by element."""
        return self._binary(ops.Minimum(), self, _tensor("minimum", other))

    def where(self, condition: Any, other: Any) -> Tensor:
        """self where ``condition`` holds, else ``other``."""
        return self._where(condition, self, other)

    def masked_fill(self, mask: Any, value: Any) -> Tensor:
        """self with ``value`` where ``mask`` holds."""
        if isinstance(value, Base):
            if value.ndim:
                raise ShapeError(
                    f"masked_fill needs a number or a 0-d tensor, got shape {value.shape}; "
                    "use where."
                )
            value = value.to(self.dtype)
        elif isinstance(value, float) and self.dtype.kind != "f":
            raise DtypeError(f"masked_fill of a {self.dtype} tensor with {value}; use x.float().")
        return self._where(mask, value, self)

    def _where(self, condition: Any, a: Any, b: Any) -> Tensor:
        if not isinstance(condition, Base):
            condition = self._wrap(backend_of(self.array).asarray(condition))
        if condition.dtype != bool_dtype:
            raise DtypeError(f"where needs a bool condition, got {condition.dtype}; compare first.")
        a, b = self._promoted(a, b)
        return self._apply(ops.Where(), condition, a, b)


def _tensor(what: str, value: Any) -> Any:
    if not isinstance(value, Base) and not hasattr(value, "dtype"):
        raise TypeError(
            f"{what} needs tensors, got {type(value).__name__}; make one with minigrad.tensor()."
        )
    return value
