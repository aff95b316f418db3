"""Changes in place: arithmetic, filling, and random values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.generator import Generator, rng_of
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class InPlace(Operators):
    """Changes in place: arithmetic, filling, and random values."""

    __slots__ = ()

    def add_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """self += alpha · other."""
        return self._change(ops.Add(), other if alpha == 1 else other * alpha)

    def sub_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """self -= alpha · other."""
        return self._change(ops.Sub(), other if alpha == 1 else other * alpha)

    def mul_(self, other: Any) -> Tensor:
        """self *= other."""
        return self._change(ops.Mul(), other)

    def div_(self, other: Any, *, rounding_mode: Any = None) -> Tensor:
        """self /= other."""
        if rounding_mode is not None:
            return self._become("div", other, rounding_mode=rounding_mode)
        return self._change(ops.Div(), other)

    def pow_(self, exponent: Any) -> Tensor:
        """self **= exponent."""
        return self._change(ops.Pow(), exponent)

    __iadd__, __isub__, __imul__, __itruediv__, __ipow__ = add_, sub_, mul_, div_, pow_

    def addcmul_(self, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
        """self += value · tensor1 · tensor2."""
        return self.add_(tensor1 * tensor2, alpha=value)

    def addcdiv_(self, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
        """self += value · tensor1 / tensor2."""
        return self.add_(tensor1 / tensor2, alpha=value)

    def lerp_(self, end: Any, weight: Any) -> Tensor:
        """self += weight · (end - self)."""
        return self._become("lerp", end, weight)

    def neg_(self) -> Tensor:
        """self = -self."""
        return self._change(ops.Neg())

    def exp_(self) -> Tensor:
        """self = exp(self)."""
        return self._change(ops.Exp())

    def sqrt_(self) -> Tensor:
        """self = √self."""
        return self._change(ops.Sqrt())

    def abs_(self) -> Tensor:
        """self = |self|."""
        return self._change(ops.Abs())

    def relu_(self) -> Tensor:
        """self = max(self, 0)."""
        return self._change(ops.ReLU())

    def sigmoid_(self) -> Tensor:
        """self = sigmoid(self)."""
        return self._change(ops.Sigmoid())

    def tanh_(self) -> Tensor:
        """self = tanh(self)."""
        return self._change(ops.Tanh())

    def expm1_(self) -> Tensor:
        """self = exp(self) - 1."""
        return self._change(ops.Expm1())

    def exp2_(self) -> Tensor:
        """self = 2 to the power self."""
        return self._become("exp2")

    def log_(self) -> Tensor:
        """self = ln self."""
        return self._change(ops.Log())

    def log2_(self) -> Tensor:
        """self = log₂ self."""
        return self._change(ops.Log2())

    def log10_(self) -> Tensor:
        """self = log₁₀ self."""
        return self._change(ops.Log10())

    def log1p_(self) -> Tensor:
        """self = ln(1 + self)."""
        return self._change(ops.Log1p())

    def sin_(self) -> Tensor:
        """self = sin self."""
        return self._change(ops.Sin())

    def cos_(self) -> Tensor:
        """self = cos self."""
        return self._change(ops.Cos())

    def tan_(self) -> Tensor:
        """self = tan self."""
        return self._change(ops.Tan())

    def asin_(self) -> Tensor:
        """self = arcsin self."""
        return self._change(ops.Asin())

    def acos_(self) -> Tensor:
        """self = arccos self."""
        return self._change(ops.Acos())

    def atan_(self) -> Tensor:
        """self = arctan self."""
        return self._change(ops.Atan())

    def sinh_(self) -> Tensor:
        """self = sinh self."""
        return self._change(ops.Sinh())

    def cosh_(self) -> Tensor:
        """self = cosh self."""
        return self._change(ops.Cosh())

    def erf_(self) -> Tensor:
        """self = erf self."""
        return self._change(ops.Erf())

    def erfc_(self) -> Tensor:
        """self = 1 - erf self."""
        return self._change(ops.Erfc())

    def rsqrt_(self) -> Tensor:
        """self = 1 / √self."""
        return self._become("rsqrt")

    def reciprocal_(self) -> Tensor:
        """self = 1 / self."""
        return self._become("reciprocal")

    def square_(self) -> Tensor:
        """self = self²."""
        return self._become("square")

    def sign_(self) -> Tensor:
        """self = -1, 0 or 1."""
        return self._become("sign")

    def floor_(self) -> Tensor:
        """self = self rounded down."""
        return self._become("floor")

    def ceil_(self) -> Tensor:
        """self = self rounded up."""
        return self._become("ceil")

    def trunc_(self) -> Tensor:
        """self = self rounded to 0."""
        return self._become("trunc")

    def frac_(self) -> Tensor:
        """self = self - trunc(self)."""
        return self._become("frac")

    def round_(self, *, decimals: Any = 0) -> Tensor:
        """self = self rounded, halves to even."""
        return self._become("round", decimals=decimals)

    def floor_divide_(self, other: Any) -> Tensor:
        """self = floor(self / other); see floor_divide."""
        return self._become("floor_divide", other)

    def remainder_(self, other: Any) -> Tensor:
        """self = the remainder, with the sign of other; see remainder."""
        return self._become("remainder", other)

    def fmod_(self, other: Any) -> Tensor:
        """self = the remainder, with the sign of self; see fmod."""
        return self._become("fmod", other)

    def atan2_(self, other: Any) -> Tensor:
        """self = the angle of (other, self); see atan2."""
        return self._become("atan2", other)

    def clamp_min_(self, min: Any) -> Tensor:
        """self = self, or min where it is less; see clamp_min."""
        return self._become("clamp_min", min)

    def clamp_max_(self, max: Any) -> Tensor:
        """self = self, or max where it is more; see clamp_max."""
        return self._become("clamp_max", max)

    def cumsum_(self, dim: Any) -> Tensor:
        """self = running sums; see cumsum."""
        return self._become("cumsum", dim)

    def cumprod_(self, dim: Any) -> Tensor:
        """self = running products; see cumprod."""
        return self._become("cumprod", dim)

    def index_fill_(self, dim: Any, index: Any, value: Any) -> Tensor:
        """self = value at index; see index_fill."""
        return self._become("index_fill", dim, index, value)

    def index_copy_(self, dim: Any, index: Any, source: Any) -> Tensor:
        """self = source at index; see index_copy."""
        return self._become("index_copy", dim, index, source)

    def scatter_add_(self, dim: Any, index: Any, src: Any) -> Tensor:
        """self = src added at index; see scatter_add."""
        return self._become("scatter_add", dim, index, src)

    def index_add_(self, dim: Any, index: Any, source: Any, *, alpha: Any = 1) -> Tensor:
        """self with alpha · source added at index; see index_add."""
        return self._become("index_add", dim, index, source, alpha=alpha)

    def scatter_(self, dim: Any, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
        """self with src, or a number, written at index; see scatter."""
        return self._become("scatter", dim, index, src, value=value)

    def addmm_(self, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """self = beta · self + alpha · mat1 mat2."""
        return self._become("addmm", mat1, mat2, beta=beta, alpha=alpha)

    def baddbmm_(self, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """self = beta · self + alpha · batch1 batch2, for batches of matrices."""
        return self._become("baddbmm", batch1, batch2, beta=beta, alpha=alpha)

    def tril_(self, diagonal: Any = 0) -> Tensor:
        """Keep the lower triangle; the rest becomes 0."""
        return self._change(ops.Triangle(False, diagonal))

    def triu_(self, diagonal: Any = 0) -> Tensor:
        """Keep the upper triangle; the rest becomes 0."""
        return self._change(ops.Triangle(True, diagonal))

    def nan_to_num_(self, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
        """NaN and infinities become numbers; see nan_to_num."""
        return self._become("nan_to_num", nan, posinf, neginf)

    def fill_diagonal_(self, fill_value: Any) -> Tensor:
        """Every element of the main diagonal becomes ``fill_value``."""
        n = min(self.shape) if self.ndim > 1 else 0
        if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
            raise ShapeError(
                f"fill_diagonal_ needs a matrix, or more axes of equal size, got {self.shape}."
            )
        self[(list(range(n)),) * self.ndim] = fill_value
        return self  # type: ignore[return-value]

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """self held between ``min`` and ``max``."""
        return self._become("clamp", min, max)

    def fill_(self, value: Any) -> Tensor:
        """Every element becomes ``value``."""
        if isinstance(value, Base) and value.ndim:
            raise ShapeError(
                f"fill_ needs a number or a 0-d tensor, got shape {value.shape}; use copy_."
            )
        self._set((...,), value)
        return self  # type: ignore[return-value]

    def zero_(self) -> Tensor:
        """Every element becomes 0."""
        self._set((...,), 0)
        return self  # type: ignore[return-value]

    def copy_(self, src: Any) -> Tensor:
        """The elements of ``src`` (which may broadcast, and lie on another device)."""
        if isinstance(src, Base):
            src = src.to(self.device, self.dtype)
        self[...] = src
        return self  # type: ignore[return-value]

    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        """``value`` where ``mask`` holds."""
        return self._become("masked_fill", mask, value)

    # ---- random values ---------------------------------------------------------------------------

    def normal_(
        self, mean: Any = 0.0, std: Any = 1.0, *, generator: Generator | None = None
    ) -> Tensor:
        """Draws from the normal distribution."""
        return self._draw(rng_of(generator).standard_normal(self.shape) * std + mean)

    def uniform_(self, a: Any = 0.0, b: Any = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Draws from [a, b), all values alike."""
        return self._draw(rng_of(generator).random(self.shape) * (b - a) + a)

    def bernoulli_(self, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
        """1 with probability p, else 0."""
        return self._draw(rng_of(generator).random(self.shape) < p)

    def random_(
        self, low: Any = 0, high: Any = None, *, generator: Generator | None = None
    ) -> Tensor:
        """Whole numbers from [low, high); from [0, low) with one argument."""
        low, high = (0, low) if high is None else (low, high)
        return self._draw(rng_of(generator).integers(low, high or 2**24, self.shape))
