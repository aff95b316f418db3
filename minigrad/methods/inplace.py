"""Changes in place: arithmetic, filling, and random values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
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

    def div_(self, other: Any) -> Tensor:
        """self /= other."""
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
        return self.add_((end - self) * weight)

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

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """self held between ``min`` and ``max``."""
        return self._change(ops.Clamp(min, max))

    def fill_(self, value: Any) -> Tensor:
        """Every element becomes ``value``."""
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
        return self.copy_(self.masked_fill(mask, value))

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
