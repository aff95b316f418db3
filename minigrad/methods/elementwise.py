"""Functions of one variable, element by element; comparisons and logic by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.dtypes import extremes, get_default_dtype
from minigrad.errors import DtypeError, RangeError
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axis

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Elementwise(Operators):
    """Functions of one variable, element by element; comparisons and logic by name."""

    __slots__ = ()

    def exp(self) -> Tensor:
        """e to the power self."""
        return self._apply(ops.Exp(), self)

    def exp2(self) -> Tensor:
        """2 to the power self."""
        x: Any = self
        return self._binary(ops.Pow(), 2.0, x if x.dtype.kind == "f" else x * 1.0)

    def expm1(self) -> Tensor:
        """exp(self) - 1."""
        return self._apply(ops.Expm1(), self)

    def log(self) -> Tensor:
        """The natural logarithm."""
        return self._apply(ops.Log(), self)

    def log2(self) -> Tensor:
        """The logarithm to base 2."""
        return self._apply(ops.Log2(), self)

    def log10(self) -> Tensor:
        """The logarithm to base 10."""
        return self._apply(ops.Log10(), self)

    def log1p(self) -> Tensor:
        """ln(1 + self)."""
        return self._apply(ops.Log1p(), self)

    def sqrt(self) -> Tensor:
        """The square root."""
        return self._apply(ops.Sqrt(), self)

    def rsqrt(self) -> Tensor:
        """1 / √self."""
        return 1.0 / self.sqrt()

    def sign(self) -> Tensor:
        """-1, 0 or 1."""
        return self._apply(ops.Clone() if self.dtype.kind == "b" else ops.Sign(), self)

    def sin(self) -> Tensor:
        """The sine."""
        return self._apply(ops.Sin(), self)

    def cos(self) -> Tensor:
        """The cosine."""
        return self._apply(ops.Cos(), self)

    def tan(self) -> Tensor:
        """The tangent."""
        return self._apply(ops.Tan(), self)

    def asin(self) -> Tensor:
        """The arcsine."""
        return self._apply(ops.Asin(), self)

    def acos(self) -> Tensor:
        """The arccosine."""
        return self._apply(ops.Acos(), self)

    def atan(self) -> Tensor:
        """The arctangent."""
        return self._apply(ops.Atan(), self)

    def sinh(self) -> Tensor:
        """The hyperbolic sine."""
        return self._apply(ops.Sinh(), self)

    def cosh(self) -> Tensor:
        """The hyperbolic cosine."""
        return self._apply(ops.Cosh(), self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return self._apply(ops.Tanh(), self)

    def erf(self) -> Tensor:
        """The error function."""
        return self._apply(ops.Erf(), self)

    def erfc(self) -> Tensor:
        """1 - erf(self)."""
        return self._apply(ops.Erfc(), self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-self))."""
        return self._apply(ops.Sigmoid(), self)

    def relu(self) -> Tensor:
        """max(self, 0)."""
        return self._apply(ops.ReLU(), self)

    def softmax(self, dim: int, dtype: Any = None) -> Tensor:
        """exp(self) / Σ exp(self) along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        self._needs_floating("softmax", x)
        return self._apply(ops.Softmax(as_axis(dim, self.ndim)), x)

    def log_softmax(self, dim: int, dtype: Any = None) -> Tensor:
        """ln softmax(self) along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        self._needs_floating("log_softmax", x)
        return self._apply(ops.LogSoftmax(as_axis(dim, self.ndim)), x)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """self held between ``min`` and ``max``, numbers or tensors; None leaves a side open."""
        if min is None and max is None:
            raise RangeError("clamp needs min, max or both.")
        x: Any = self
        if isinstance(min, Base) or isinstance(max, Base):
            if min is not None:
                x = self._where(x < min, min, x)
            return x if max is None else self._where(x > max, max, x)
        if self.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
            x = self.to(get_default_dtype())
        return self._apply(ops.Clamp(min, max), x)

    clip = clamp

    def clamp_min(self, min: Any) -> Tensor:
        """self, or ``min`` where it is less."""
        return self.clamp(min=min)

    def clamp_max(self, max: Any) -> Tensor:
        """self, or ``max`` where it is more."""
        return self.clamp(max=max)

    def nan_to_num(self, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
        """NaN as ``nan`` (0), infinities as ``posinf`` and ``neginf`` (the dtype's extremes)."""
        if self.dtype.kind != "f":
            return self._apply(ops.Clone(), self)
        low, high = extremes(self.dtype)
        x = self._where(self.isnan(), float(nan or 0), self)
        x = self._where(self == float("inf"), high if posinf is None else float(posinf), x)
        return self._where(self == -float("inf"), low if neginf is None else float(neginf), x)

    def floor(self) -> Tensor:
        """The largest integer not above self (slope 0)."""
        return self._rounded("floor")

    def ceil(self) -> Tensor:
        """The smallest integer not below self (slope 0)."""
        return self._rounded("ceil")

    def round(self, *, decimals: int = 0) -> Tensor:
        """The nearest integer, halves to even (slope 0)."""
        return self._rounded("round", decimals)

    def trunc(self) -> Tensor:
        """self without its fraction (slope 0)."""
        return self._rounded("trunc")

    fix = trunc

    def _rounded(self, how: str, decimals: int = 0) -> Tensor:
        if self.dtype.kind == "b":
            raise DtypeError(f"{how} needs a floating or integer tensor, got bool; use x.float().")
        return self._apply(
            ops.Rounded(how, decimals) if self.dtype.kind == "f" else ops.Clone(), self
        )

    def frac(self) -> Tensor:
        """self - trunc(self)."""
        if self.dtype.kind != "f":
            raise DtypeError(f"frac needs a floating tensor, got {self.dtype}; use x.float().")
        return self - self.trunc()

    def isnan(self) -> Tensor:
        """Where it is not a number."""
        return self._values("isnan")

    def isinf(self) -> Tensor:
        """Where it is infinite."""
        return self._values("isinf")

    def isfinite(self) -> Tensor:
        """Where it is neither infinite nor NaN."""
        return self._values("isfinite")

    def logical_not(self) -> Tensor:
        """Where it is zero."""
        return self == 0

    def logical_and(self, other: Any) -> Tensor:
        """Where both are not zero."""
        return self._plain(backend_of(self.array).module.logical_and, self, other)

    def logical_or(self, other: Any) -> Tensor:
        """Where one of them, or both, is not zero."""
        return self._plain(backend_of(self.array).module.logical_or, self, other)

    def logical_xor(self, other: Any) -> Tensor:
        """Where exactly one of them is not zero."""
        return self._plain(backend_of(self.array).module.logical_xor, self, other)

    def equal(self, other: Tensor) -> bool:
        """Whether shape and every value are equal."""
        return self.shape == other.shape and bool((self == other).array.all())

    def isclose(
        self, other: Tensor, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: Any = False
    ) -> Tensor:
        """Where |self - other| ≤ atol + rtol · |other|."""
        if self.dtype != other.dtype:
            raise DtypeError(f"isclose needs equal dtypes, got {self.dtype} and {other.dtype}.")
        function = backend_of(self.array).module.isclose
        return self._plain(lambda a, b: function(a, b, rtol, atol, equal_nan), self, other)

    def allclose(
        self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether |self - other| ≤ atol + rtol · |other| everywhere."""
        return bool(self.isclose(other, rtol, atol, equal_nan).array.all())
