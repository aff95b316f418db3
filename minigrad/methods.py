"""The operators and methods of Tensor, a line or a few each: which op, with which arguments.

Names, arguments and defaults are PyTorch's; NumPy's ``axis`` and ``keepdims`` are accepted beside
``dim`` and ``keepdim``, because the formulas in ``ops/`` run on Tensors too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from minigrad import ops
from minigrad.backends import backend_of, quiet
from minigrad.backends import numpy as host
from minigrad.dtypes import as_dtype, float16, float32, float64, get_default_dtype, int64
from minigrad.dtypes import bool as bool_dtype
from minigrad.dtypes import int32 as int32_dtype
from minigrad.errors import DtypeError, ShapeError
from minigrad.generator import Generator, rng_of
from minigrad.shapes import as_axes, as_axis, as_shape, broadcast_shapes, prod

if TYPE_CHECKING:
    from minigrad.tensor import Tensor

Dim = int | Sequence[int] | None


class ValuesIndices(NamedTuple):
    """What ``max(dim)``, ``min(dim)``, ``sort`` and ``topk`` return."""

    values: Any
    indices: Any


class Methods:
    """Base class of Tensor: everything that is one op, or a few."""

    __slots__ = ()

    if TYPE_CHECKING:
        # What Tensor adds.
        array: Any
        _apply: Callable[..., Tensor]
        _binary: Callable[..., Tensor]
        _promoted: Callable[..., tuple[Any, Any]]
        _wrap: Callable[..., Tensor]
        _change: Callable[..., Tensor]
        _store: Callable[..., None]
        _set: Callable[..., None]
        _draw: Callable[..., Tensor]
        to: Callable[..., Tensor]
        tolist: Callable[..., Any]

        @property
        def shape(self) -> tuple[int, ...]:
            """See Tensor."""
            raise NotImplementedError

        @property
        def ndim(self) -> int:
            """See Tensor."""
            raise NotImplementedError

        @property
        def requires_grad(self) -> bool:
            """See Tensor."""
            raise NotImplementedError

        @property
        def dtype(self) -> Any:
            """See Tensor."""
            raise NotImplementedError

        @property
        def device(self) -> str:
            """See Tensor."""
            raise NotImplementedError

    # ---- operators ------------------------------------------------------------------------------

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
        return self._plain(lambda a, b: a // b, *self._promoted(self, other))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return self._plain(lambda a, b: a // b, *self._promoted(other, self))

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

    def _plain(self, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Tensor:
        """The values of a function of two operands, of which no gradient is asked."""
        if a is None or b is None or isinstance(b, str):
            return NotImplemented  # type: ignore[no-any-return] # == is False then, < TypeError
        if isinstance(a, Methods) and isinstance(b, Methods) and a.dtype != b.dtype:
            a, b = self._promoted(a, b)
        a, b = (
            x.array if isinstance(x, Methods) else x if getattr(x, "ndim", 1) else x.item()
            for x in (a, b)
        )
        try:
            with quiet():
                result = function(a, b)
        except ValueError:
            broadcast_shapes(*(tuple(x.shape) for x in (a, b) if hasattr(x, "shape")))
            raise
        except TypeError as error:
            raise DtypeError(f"the operands' dtypes do not allow it: {error}.") from None
        return self._wrap(backend_of(self.array).asarray(result))

    def _values(self, name: str, *arguments: Any) -> Tensor:
        """The values of a function of the array library, of which no gradient is asked."""
        xp = backend_of(self.array)
        return self._wrap(xp.asarray(getattr(xp.module, name)(self.array, *arguments)))

    # ---- arithmetic by name ----------------------------------------------------------------------

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
        """self / other; ``rounding_mode`` "floor" or "trunc" rounds the quotient (no gradient)."""
        if rounding_mode is None:
            return self._binary(ops.Div(), self, other)
        if rounding_mode == "floor":
            return self.floor_divide(other)
        if rounding_mode != "trunc":
            raise ValueError(
                f'rounding_mode must be None, "floor" or "trunc", got {rounding_mode!r}.'
            )
        xp = backend_of(self.array).module
        a, b = self._promoted(self, other)
        dtype = (a if isinstance(a, Methods) else b).dtype
        return self._plain(lambda a, b: xp.trunc(xp.true_divide(a, b)).astype(dtype), a, b)

    def floor_divide(self, other: Any) -> Tensor:
        """floor(self / other)."""
        return self.__floordiv__(other)

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
        return self * self

    def maximum(self, other: Any) -> Tensor:
        """The larger of two tensors, element by element."""
        return self._binary(ops.Maximum(), self, other)

    def minimum(self, other: Any) -> Tensor:
        """The smaller of two tensors, element by element."""
        return self._binary(ops.Minimum(), self, other)

    def where(self, condition: Any, other: Any) -> Tensor:
        """self where ``condition`` holds, else ``other``."""
        return self._where(condition, self, other)

    def masked_fill(self, mask: Any, value: Any) -> Tensor:
        """self with ``value`` where ``mask`` holds."""
        if isinstance(value, Methods):
            value = value.to(self.dtype)
        elif isinstance(value, float) and self.dtype.kind != "f":
            raise DtypeError(f"masked_fill of a {self.dtype} tensor with {value}; use x.float().")
        return self._where(mask, value, self)

    def _where(self, condition: Any, a: Any, b: Any) -> Tensor:
        if not isinstance(condition, Methods):
            condition = self._wrap(backend_of(self.array).asarray(condition))
        if condition.dtype != bool_dtype:
            raise DtypeError(f"where needs a bool condition, got {condition.dtype}; compare first.")
        a, b = self._promoted(a, b)
        return self._apply(ops.Where(), condition, a, b)

    # ---- functions of one variable ---------------------------------------------------------------

    def exp(self) -> Tensor:
        """e to the power self."""
        return self._apply(ops.Exp(), self)

    def expm1(self) -> Tensor:
        """exp(self) - 1."""
        return self._apply(ops.Expm1(), self)

    def log(self) -> Tensor:
        """The natural logarithm."""
        return self._apply(ops.Log(), self)

    def log2(self) -> Tensor:
        """The logarithm to base 2."""
        return self.log() / 0.6931471805599453

    def log10(self) -> Tensor:
        """The logarithm to base 10."""
        return self.log() / 2.302585092994046

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

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-self))."""
        return self._apply(ops.Sigmoid(), self)

    def relu(self) -> Tensor:
        """max(self, 0)."""
        return self._apply(ops.ReLU(), self)

    def softmax(self, dim: int, dtype: Any = None) -> Tensor:
        """exp(self) / Σ exp(self) along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.Softmax(as_axis(dim, self.ndim)), x)

    def log_softmax(self, dim: int, dtype: Any = None) -> Tensor:
        """ln softmax(self) along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.LogSoftmax(as_axis(dim, self.ndim)), x)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """self held between ``min`` and ``max``, numbers or tensors; None leaves a side open."""
        if min is None and max is None:
            raise ValueError("clamp needs min, max or both.")
        x: Any = self
        if isinstance(min, Methods) or isinstance(max, Methods):
            if min is not None:
                x = self._where(x < min, min, x)
            return x if max is None else self._where(x > max, max, x)
        if self.dtype.kind != "f" and (isinstance(min, float) or isinstance(max, float)):
            x = self.to(get_default_dtype())
        return self._apply(ops.Clamp(min, max), x)

    clip = clamp

    def floor(self) -> Tensor:
        """The largest integer not above self (no gradient)."""
        return self._values("floor")

    def ceil(self) -> Tensor:
        """The smallest integer not below self (no gradient)."""
        return self._values("ceil")

    def round(self, *, decimals: int = 0) -> Tensor:
        """The nearest integer, halves to even (no gradient)."""
        return self._values("round", decimals)

    def trunc(self) -> Tensor:
        """self without its fraction (no gradient)."""
        return self._values("trunc")

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

    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__

    def equal(self, other: Tensor) -> bool:
        """Whether shape and every value are equal."""
        return self.shape == other.shape and bool((self == other).array.all())

    def allclose(
        self, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether |self - other| ≤ atol + rtol · |other| everywhere."""
        xp = backend_of(self.array).module
        return bool(xp.allclose(self.array, other.array, rtol, atol, equal_nan))

    # ---- reductions ------------------------------------------------------------------------------

    def sum(
        self,
        dim: Dim = None,
        keepdim: bool = False,
        *,
        dtype: Any = None,
        axis: Dim = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The sum over ``dim`` (all by default); integers add up in int64."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.Sum(self._axes(dim, axis), keepdim or keepdims), x)

    def mean(
        self,
        dim: Dim = None,
        keepdim: bool = False,
        *,
        dtype: Any = None,
        axis: Dim = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The mean over ``dim`` (all by default)."""
        x = self if dtype is None else self.to(dtype)
        self._needs_floating("mean", x)
        return self._apply(ops.Mean(self._axes(dim, axis), keepdim or keepdims), x)

    def var(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
        axis: Dim = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The variance over ``dim``: Σ (x - mean)² / (n - correction).

        ``correction`` is 1 (unbiased) unless given, or 0 with ``unbiased=False``.
        """
        return self._spread(ops.Var, dim, unbiased, keepdim or keepdims, correction, axis)

    def std(
        self,
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
        axis: Dim = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The standard deviation over ``dim``: √var."""
        return self._spread(ops.Std, dim, unbiased, keepdim or keepdims, correction, axis)

    def _spread(
        self, op: Any, dim: Any, unbiased: bool, keep: bool, correction: float | None, axis: Dim
    ) -> Tensor:
        if isinstance(dim, bool):  # x.var(False): PyTorch's old form for unbiased=False
            dim, unbiased = None, dim
        if correction is None:
            correction = 1 if unbiased else 0
        self._needs_floating(op.name, self)
        return self._apply(op(self._axes(dim, axis), keep, correction), self)

    def amax(
        self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None, keepdims: bool = False
    ) -> Tensor:
        """The largest value over ``dim``; equal ones share the gradient."""
        axes = self._axes(() if dim is None and axis is None else dim, axis) or self._axes(
            None, None
        )
        self._needs_elements("amax", axes)
        return self._apply(ops.Amax(axes, keepdim or keepdims), self)

    def amin(
        self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None, keepdims: bool = False
    ) -> Tensor:
        """The smallest value over ``dim``; equal ones share the gradient."""
        axes = self._axes(() if dim is None and axis is None else dim, axis) or self._axes(
            None, None
        )
        self._needs_elements("amin", axes)
        return self._apply(ops.Amin(axes, keepdim or keepdims), self)

    def max(self, dim: Any = None, keepdim: bool = False, *, axis: Dim = None) -> Any:
        """The largest value; ``max(dim)``: (values, indices); ``max(other)``: the larger of two."""
        if isinstance(dim, Methods):
            return self.maximum(dim)
        dim = axis if dim is None else dim
        return self.amax() if dim is None else self._at(self.argmax(dim, True), dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Dim = None) -> Any:
        """The smallest value; ``min(dim)``: (values, indices); ``min(other)``: the smaller one."""
        if isinstance(dim, Methods):
            return self.minimum(dim)
        dim = axis if dim is None else dim
        return self.amin() if dim is None else self._at(self.argmin(dim, True), dim, keepdim)

    def _at(self, indices: Tensor, dim: int, keepdim: bool) -> ValuesIndices:
        values = self.gather(dim, indices)
        if not keepdim and self.ndim:
            values, indices = values.squeeze(dim), indices.squeeze(dim)
        return ValuesIndices(values, indices)

    def argmax(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        axis: int | None = None,
        keepdims: bool = False,
    ) -> Tensor:
        """Where the largest value is: the first place of equal ones."""
        return self._arg("argmax", axis if dim is None else dim, keepdim or keepdims)

    def argmin(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        axis: int | None = None,
        keepdims: bool = False,
    ) -> Tensor:
        """Where the smallest value is: the first place of equal ones."""
        return self._arg("argmin", axis if dim is None else dim, keepdim or keepdims)

    def _arg(self, name: str, dim: int | None, keepdim: bool) -> Tensor:
        xp = backend_of(self.array)
        function = getattr(xp, name)
        if dim is None:
            self._needs_elements(name, tuple(range(self.ndim)))
            flat = function(self.array)
            return self._wrap(xp.asarray(flat).reshape((1,) * self.ndim if keepdim else ()))
        axis = as_axis(dim, self.ndim)
        if not self.ndim:
            return self._wrap(xp.asarray(0))
        self._needs_elements(name, (axis,))
        return self._wrap(xp.asarray(function(self.array, axis=axis, keepdims=keepdim)))

    def prod(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        dtype: Any = None,
        axis: int | None = None,
    ) -> Tensor:
        """The product over ``dim`` (all by default)."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.Prod(self._axes(dim, axis), keepdim), x)

    def logsumexp(self, dim: Dim, keepdim: bool = False) -> Tensor:
        """ln Σ exp(self) over ``dim``."""
        return self._apply(ops.LogSumExp(self._axes(dim, None), keepdim), self)

    def cumsum(
        self, dim: int | None = None, *, dtype: Any = None, axis: int | None = None
    ) -> Tensor:
        """Running sums along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.CumSum(as_axis(_one(dim, axis), self.ndim)), x)

    def any(self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None) -> Tensor:
        """Whether any value over ``dim`` is not zero."""
        array = self.array.any(axis=self._axes(dim, axis), keepdims=keepdim)
        return self._wrap(backend_of(self.array).asarray(array))

    def all(self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None) -> Tensor:
        """Whether no value over ``dim`` is zero."""
        array = self.array.all(axis=self._axes(dim, axis), keepdims=keepdim)
        return self._wrap(backend_of(self.array).asarray(array))

    def norm(self, p: Any = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """(Σ |x|ᵖ)^(1/p) over ``dim``; p may be a number, ``inf`` or ``"fro"`` (= 2)."""
        p = 2 if p in (None, "fro") else p
        if p == float("inf"):
            return self.abs().amax(dim, keepdim)
        if p == -float("inf"):
            return self.abs().amin(dim, keepdim)
        if p == 0:
            return (self != 0).to(self.dtype).sum(dim, keepdim)
        if p == 1:
            return self.abs().sum(dim, keepdim)
        if p == 2:
            return self._apply(ops.Norm(self._axes(dim, None), keepdim), self)
        return self.abs().pow(p).sum(dim, keepdim).pow(1 / p)

    def _axes(self, dim: Dim, axis: Dim) -> tuple[int, ...]:
        given = axis if dim is None else dim
        if given is not None and not isinstance(given, int) and len(given) == 0:
            given = None  # PyTorch: an empty list of dims means all of them
        return as_axes(given, self.ndim)

    def _needs_floating(self, what: str, x: Any) -> None:
        if x.dtype.kind != "f":
            raise DtypeError(
                f"{what} needs a floating tensor, got {x.dtype}; convert it first, as in x.float()."
            )

    def _needs_elements(self, what: str, axes: tuple[int, ...]) -> None:
        if not prod(self.shape[a] for a in axes):
            raise IndexError(
                f"{what} over no elements: shape {self.shape} is empty on axes {axes}."
            )

    # ---- shape -----------------------------------------------------------------------------------

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[as_axis(dim, self.ndim)]

    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    nelement = numel

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    ndimension = dim

    def element_size(self) -> int:
        """Bytes of one element."""
        return int(self.array.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(self.array.nbytes)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return int(self.array.itemsize)

    def stride(self, dim: int | None = None) -> Any:
        """Elements from one place to the next along each axis, or along one."""
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in order."""
        return bool(self.array.flags.c_contiguous)

    def contiguous(self) -> Tensor:
        """self, or a copy whose elements lie in memory in order."""
        x: Any = self
        return x if self.is_contiguous() else self._apply(ops.Clone(), x)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements, in the same order, under another shape; one -1 is worked out."""
        return self._apply(ops.Reshape(as_shape(shape)), self)

    view = reshape

    def reshape_as(self, other: Tensor) -> Tensor:
        """self in the shape of ``other``."""
        return self.reshape(other.shape)

    view_as = reshape_as

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes from ``start_dim`` to ``end_dim`` as one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = as_axis(start_dim, self.ndim), as_axis(end_dim, self.ndim)
        if start > end:
            raise ShapeError(f"flatten needs start_dim <= end_dim, got {start_dim} and {end_dim}.")
        middle = prod(self.shape[start : end + 1])
        return self.reshape(*self.shape[:start], middle, *self.shape[end + 1 :])

    def ravel(self) -> Tensor:
        """All elements on one axis."""
        return self.reshape(-1)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """The axis ``dim`` as several."""
        axis = as_axis(dim, self.ndim)
        return self.reshape(*self.shape[:axis], *sizes, *self.shape[axis + 1 :])

    def squeeze(self, dim: Dim = None) -> Tensor:
        """Without the axes of size 1: all of them, or those in ``dim``."""
        axes = as_axes(dim, self.ndim)
        return self.reshape([n for i, n in enumerate(self.shape) if n != 1 or i not in axes])

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of size 1 at ``dim``."""
        axis = as_axis(dim, self.ndim + 1)
        return self.reshape(*self.shape[:axis], 1, *self.shape[axis:])

    def permute(self, *dims: Any) -> Tensor:
        """The axes in another order."""
        order = as_axes(as_shape(dims), self.ndim)
        if len(order) != self.ndim:
            raise ShapeError(f"permute needs each of the {self.ndim} axes once, got {order}.")
        return self._apply(ops.Transpose(order), self)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes exchanged."""
        order = list(range(self.ndim))
        a, b = as_axis(dim0, self.ndim), as_axis(dim1, self.ndim)
        if order:
            order[a], order[b] = order[b], order[a]
        return self._apply(ops.Transpose(tuple(order)), self)

    swapaxes = swapdims = transpose

    def t(self) -> Tensor:
        """A matrix transposed; a vector as it is."""
        if self.ndim > 2:
            raise ShapeError(
                f"t() needs at most 2 axes, got {self.shape}; use .mT or .transpose()."
            )
        return self._apply(ops.Transpose(tuple(range(self.ndim))[::-1]), self)

    @property
    def T(self) -> Tensor:  # noqa: N802 - PyTorch's and NumPy's name
        """All axes in reverse order."""
        return self._apply(ops.Transpose(tuple(range(self.ndim))[::-1]), self)

    @property
    def mT(self) -> Tensor:  # noqa: N802 - PyTorch's and NumPy's name
        """The last two axes exchanged."""
        return self.transpose(-2, -1)

    def movedim(self, source: Any, destination: Any) -> Tensor:
        """Axes moved to other places; the rest keep their order."""
        src, dst = as_axes(source, self.ndim), as_axes(destination, self.ndim)
        order = [i for i in range(self.ndim) if i not in src]
        for place, axis in sorted(zip(dst, src, strict=True)):
            order.insert(place, axis)
        return self.permute(order)

    moveaxis = movedim

    def expand(self, *sizes: Any) -> Tensor:
        """Axes of size 1 stretched, without copying; -1 keeps a size; new axes come in front."""
        shape = list(as_shape(sizes))
        extra = len(shape) - self.ndim
        for i, n in enumerate(shape):
            if n == -1 and i >= extra:
                shape[i] = self.shape[i - extra]
        return self._apply(ops.Expand(tuple(shape)), self)

    def expand_as(self, other: Tensor) -> Tensor:
        """self stretched to the shape of ``other``."""
        return self.expand(other.shape)

    def broadcast_to(self, *shape: Any) -> Tensor:
        """self stretched to ``shape``."""
        return self.expand(*shape)

    def repeat(self, *sizes: Any) -> Tensor:
        """self laid side by side ``sizes`` times along each axis."""
        times = as_shape(sizes)
        if len(times) < self.ndim:
            raise ShapeError(
                f"repeat needs at least {self.ndim} numbers for {self.shape}, got {times}."
            )
        shape = (1,) * (len(times) - self.ndim) + self.shape
        wide = [n for pair in zip((1,) * len(shape), shape, strict=True) for n in pair]
        stretched = [n for pair in zip(times, shape, strict=True) for n in pair]
        out = [t * n for t, n in zip(times, shape, strict=True)]
        return self.reshape(wide).expand(stretched).reshape(out)

    def tile(self, *dims: Any) -> Tensor:
        """As ``repeat``, with missing numbers in front taken as 1."""
        times = as_shape(dims)
        return self.repeat((1,) * (self.ndim - len(times)) + times)

    def flip(self, *dims: Any) -> Tensor:
        """The order along axes reversed."""
        return self._apply(ops.Flip(as_axes(as_shape(dims), self.ndim)), self)

    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        """Elements moved along axes; those that leave at the end come in at the start."""
        if dims is None:
            return self.reshape(-1).roll(shifts, 0).reshape(self.shape)
        shifts = [shifts] if isinstance(shifts, int) else list(shifts)
        out: Any = self
        for shift, axis in zip(shifts, as_axes(dims, self.ndim), strict=True):
            n = self.shape[axis]
            order = [(i - shift) % n for i in range(n)]
            index = backend_of(self.array).asarray(order, dtype=int64)
            out = self._apply(ops.Index((slice(None),) * axis + (index,)), out)
        return out  # type: ignore[no-any-return]

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle; the rest is 0."""
        return self._apply(ops.Triangle(False, diagonal), self)

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle; the rest is 0."""
        return self._apply(ops.Triangle(True, diagonal), self)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The diagonal of two axes, as a new last axis."""
        moved = self.movedim((dim1, dim2), (-2, -1))
        rows, columns = moved.shape[-2:]
        n = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
        xp = backend_of(self.array)
        i = xp.asarray(range(n), dtype=int64)
        index = (..., i + max(-offset, 0), i + max(offset, 0))
        return self._apply(ops.Index(index), moved)

    def trace(self) -> Tensor:
        """The sum of a matrix's diagonal."""
        return self.diagonal().sum()

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Parts along ``dim``: of one size (the last may be smaller), or of the sizes given."""
        axis = as_axis(dim, self.ndim)
        n = self.shape[axis]
        if isinstance(split_size, int):
            if split_size <= 0:
                raise ValueError(f"split needs a positive size, got {split_size}.")
            sizes = [min(split_size, n - i) for i in range(0, n, split_size)] or [0]
        else:
            sizes = list(split_size)
            if sum(sizes) != n:
                raise ShapeError(f"split sizes {sizes} add up to {sum(sizes)}, axis {dim} has {n}.")
        return tuple(
            self.narrow(axis, start, size)
            for start, size in zip(_starts(sizes), sizes, strict=True)
        )

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most ``chunks`` parts of equal size along ``dim`` (the last may be smaller)."""
        if chunks <= 0:
            raise ValueError(f"chunk needs a positive number of chunks, got {chunks}.")
        n = self.shape[as_axis(dim, self.ndim)]
        return self.split(max(1, -(-n // chunks)), dim)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """The places ``start`` to ``start + length`` along ``dim``."""
        axis = as_axis(dim, self.ndim)
        n = self.shape[axis]
        start = start + n if start < 0 else start
        if length < 0 or not 0 <= start <= n - length:
            raise IndexError(
                f"narrow to {start} ... {start + length} does not fit axis {dim} of {self.shape}."
            )
        return self[(slice(None),) * axis + (slice(start, start + length),)]

    def select(self, dim: int, index: int) -> Tensor:
        """One place along ``dim``, without that axis."""
        return self[(slice(None),) * as_axis(dim, self.ndim) + (index,)]

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """Every place along ``dim``, without that axis."""
        return tuple(self.select(dim, i) for i in range(self.shape[as_axis(dim, self.ndim)]))

    # ---- indexing --------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        parts, basic = _index(index)
        if basic:
            return self._apply(ops.Slice(parts), self)
        return self._apply(ops.Index(tuple(map(self._own, parts))), self)

    def __setitem__(self, index: Any, value: Any) -> None:
        kept_by = value if isinstance(value, Methods) and value.requires_grad else self
        parts = tuple(map(kept_by._own, _index(index)[0]))
        if isinstance(value, Methods) and value.dtype != self.dtype:
            value = value.to(self.dtype)
        if not isinstance(value, Methods | int | float):
            value = self._wrap(backend_of(self.array).asarray(value, dtype=self.dtype))
        self._set(parts, value)

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """One element taken at each place of ``index``, along ``dim``."""
        axis = as_axis(dim, self.ndim)
        if index.ndim != self.ndim:
            raise ShapeError(
                f"gather needs an index with {self.ndim} axes, got shape {index.shape}."
            )
        self._check_places(index, axis)
        if any(
            m > n for i, (m, n) in enumerate(zip(index.shape, self.shape, strict=True)) if i != axis
        ):
            raise ShapeError(
                f"gather along axis {axis} needs an index no larger than {self.shape} on the "
                f"other axes, got {index.shape}."
            )
        return self._apply(ops.Gather(axis, self._own(index.array)), self)

    def take_along_dim(self, indices: Tensor, dim: int | None = None) -> Tensor:
        """As ``gather``, with the other axes broadcast."""
        if dim is None:
            return self.reshape(-1).gather(0, indices.reshape(-1))
        axis = as_axis(dim, self.ndim)
        shape = list(
            broadcast_shapes(
                tuple(1 if i == axis else n for i, n in enumerate(self.shape)),
                tuple(1 if i == axis else n for i, n in enumerate(indices.shape)),
            )
        )
        own, at = shape.copy(), shape.copy()
        own[axis], at[axis] = self.shape[axis], indices.shape[axis]
        return self.expand(own).gather(axis, indices.expand(at))

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """self with ``src`` added along ``dim`` at ``index``."""
        axis = as_axis(dim, self.ndim)
        self._check_places(index, axis)
        return self + self._apply(ops.ScatterAdd(axis, src._own(index.array), self.shape), src)

    def scatter(self, dim: int, index: Tensor, src: Any) -> Tensor:
        """self with ``src`` (a tensor or a number) written along ``dim`` at ``index``."""
        axis = as_axis(dim, self.ndim)
        self._check_places(index, axis)
        xp = backend_of(self.array)
        places: list[Any] = [
            xp.asarray(range(n), dtype=int64).reshape(
                [-1 if i == j else 1 for j in range(self.ndim)]
            )
            for i, n in enumerate(index.shape)
        ]
        places[axis] = index.array
        if isinstance(src, Methods):
            src = src[tuple(slice(n) for n in index.shape)]
            if src.dtype != self.dtype:
                raise DtypeError(f"scatter of {src.dtype} into {self.dtype}; convert one first.")
        return self._apply(ops.SetItem(tuple(places)), self, src)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The places ``index`` (integers) along ``dim``."""
        axis = as_axis(dim, self.ndim)
        return self[(slice(None),) * axis + (index,)]

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where ``mask`` holds, on one axis."""
        shape = broadcast_shapes(self.shape, mask.shape)
        return self.expand(shape)[mask.expand(shape)]

    def nonzero(self, as_tuple: bool = False) -> Any:
        """The places of elements that are not zero."""
        found = self.reshape(-1).array.nonzero() if not self.ndim else self.array.nonzero()
        if as_tuple:
            return tuple(self._wrap(f) for f in found)
        xp = backend_of(self.array)
        return self._wrap(xp.stack(found, axis=1)[:, : self.ndim])

    def _own(self, part: Any) -> Any:
        """A part of an index, copied where a gradient will need it: the caller may change it."""
        return part.copy() if self.requires_grad and hasattr(part, "dtype") else part

    def _check_places(self, index: Any, axis: int) -> None:
        if index.dtype.kind not in "iu":
            raise DtypeError(f"places are integers (int64), got {index.dtype}.")
        n = self.shape[axis] if self.ndim else 1
        if index.array.size and (index.array.min() < 0 or index.array.max() >= n):
            raise IndexError(
                f"a place along axis {axis} must be in [0, {n - 1}], got values in "
                f"[{index.array.min()}, {index.array.max()}]."
            )

    # ---- order -----------------------------------------------------------------------------------

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """The places that would sort along ``dim``; equal ones keep their order."""
        xp = backend_of(self.array)
        axis = as_axis(dim, self.ndim)
        if not self.ndim:
            return self._wrap(xp.asarray(0))
        if not descending:
            return self._wrap(xp.argsort(self.array, axis=axis, kind="stable"))
        flipped = xp.argsort(xp.flip(self.array, axis), axis=axis, kind="stable")
        return self._wrap(xp.ascontiguousarray(xp.flip(self.shape[axis] - 1 - flipped, axis)))

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
        """(values, indices), sorted along ``dim``."""
        places = self.argsort(dim, descending, stable)
        return ValuesIndices(self.gather(dim, places), places)

    def topk(
        self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesIndices:
        """The ``k`` largest (or smallest) along ``dim``: (values, indices), in order."""
        axis = as_axis(dim, self.ndim)
        n = self.shape[axis] if self.ndim else 1
        if not 0 <= k <= n:
            raise IndexError(f"topk needs 0 <= k <= {n} for axis {dim} of {self.shape}, got {k}.")
        places = self.argsort(dim, largest).narrow(axis, 0, k) if self.ndim else self.argsort()
        return ValuesIndices(self.gather(dim, places), places)

    # ---- products --------------------------------------------------------------------------------

    def matmul(self, other: Any) -> Tensor:
        """The matrix product, for vectors, matrices and batches of matrices."""
        a: Any = self
        b: Any = (
            other
            if isinstance(other, Methods)
            else self._wrap(backend_of(self.array).asarray(other))
        )
        if a.dtype != b.dtype:
            raise DtypeError(
                f"matmul needs equal dtypes, got {a.dtype} and {b.dtype}; convert one."
            )
        if not a.ndim or not b.ndim:
            raise ShapeError(f"matmul needs at least one axis, got {a.shape} and {b.shape}; use *.")
        left, right = a.ndim == 1, b.ndim == 1
        if left:
            a = a.reshape(1, -1)
        if right:
            b = b.reshape(-1, 1)
        y = self._apply(ops.MatMul(), a, b)
        if left:
            y = y.squeeze(-2)
        return y.squeeze(-1) if right else y

    def mm(self, mat2: Tensor) -> Tensor:
        """The product of two matrices."""
        if self.ndim != 2 or mat2.ndim != 2:
            raise ShapeError(
                f"mm needs two matrices, got {self.shape} and {mat2.shape}; use matmul."
            )
        return self.matmul(mat2)

    def bmm(self, mat2: Tensor) -> Tensor:
        """The products of two batches of matrices."""
        if self.ndim != 3 or mat2.ndim != 3 or self.shape[0] != mat2.shape[0]:
            raise ShapeError(
                f"bmm needs (B, n, k) and (B, k, m), got {self.shape} and {mat2.shape}; use matmul."
            )
        return self.matmul(mat2)

    def mv(self, vec: Tensor) -> Tensor:
        """A matrix times a vector."""
        if self.ndim != 2 or vec.ndim != 1:
            raise ShapeError(f"mv needs a matrix and a vector, got {self.shape} and {vec.shape}.")
        return self.matmul(vec)

    def dot(self, other: Tensor) -> Tensor:
        """The inner product of two vectors."""
        if self.ndim != 1 or other.ndim != 1:
            raise ShapeError(f"dot needs two vectors, got {self.shape} and {other.shape}.")
        return self.matmul(other)

    def outer(self, vec2: Tensor) -> Tensor:
        """y[i, j] = self[i] · vec2[j]."""
        if self.ndim != 1 or vec2.ndim != 1:
            raise ShapeError(f"outer needs two vectors, got {self.shape} and {vec2.shape}.")
        return self.reshape(-1, 1) * vec2

    # ---- dtype and device ------------------------------------------------------------------------

    def type(self, dtype: Any = None) -> Any:
        """This tensor as ``dtype``; without one, the name of its type."""
        return f"minigrad.{self.dtype}" if dtype is None else self.to(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in the dtype of ``other``."""
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(float64)

    def half(self) -> Tensor:
        """As float16."""
        return self.to(float16)

    def long(self) -> Tensor:
        """As int64."""
        return self.to(int64)

    def int(self) -> Tensor:
        """As int32."""
        return self.to(int32_dtype)

    def bool(self) -> Tensor:
        """As bool: whether not zero."""
        return self.to(bool_dtype)

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Tensor:
        """On a GPU."""
        return self.to(
            "cuda" if device is None else f"cuda:{device}" if str(device).isdigit() else device
        )

    def is_floating_point(self) -> Any:
        """Whether the dtype is floating."""
        return self.dtype.kind == "f"

    @property
    def is_cuda(self) -> Any:
        """Whether it lives on a GPU."""
        return self.device.startswith("cuda")

    # ---- new tensors like this one ---------------------------------------------------------------

    def new_zeros(self, *size: Any, dtype: Any = None) -> Tensor:
        """Zeros of this dtype and device."""
        return self._filled(0, size, dtype)

    def new_ones(self, *size: Any, dtype: Any = None) -> Tensor:
        """Ones of this dtype and device."""
        return self._filled(1, size, dtype)

    def new_full(self, size: Any, fill_value: Any, dtype: Any = None) -> Tensor:
        """A constant of this dtype and device."""
        return self._filled(fill_value, (size,), dtype)

    def new_tensor(self, data: Any, dtype: Any = None) -> Tensor:
        """``data`` in this dtype, on this device."""
        data = data.array if isinstance(data, Methods) else data
        xp = backend_of(self.array)
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        return self._wrap(xp.asarray(data, dtype=dtype).copy())

    def _filled(self, value: Any, size: Any, dtype: Any) -> Tensor:
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        return self._wrap(backend_of(self.array).full(as_shape(size), value, dtype=dtype))

    # ---- changes in place ------------------------------------------------------------------------

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
        if isinstance(src, Methods):
            src = src.to(self.device, self.dtype)
        self[...] = src
        return self  # type: ignore[return-value]

    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        """``value`` where ``mask`` holds."""
        return self.copy_(self.masked_fill(mask, value))

    # ---- random values in place ------------------------------------------------------------------

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


def _one(dim: Any, axis: Any) -> Any:
    given = axis if dim is None else dim
    if given is None:
        raise TypeError("this operation needs a dim.")
    return given


def _starts(sizes: Sequence[int]) -> list[int]:
    starts, at = [], 0
    for n in sizes:
        starts.append(at)
        at += n
    return starts


def _index(index: Any) -> tuple[tuple[Any, ...], bool]:
    """An index as ints, slices, None, Ellipsis and raw arrays; and whether it has no arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    out: list[Any] = []
    basic, dots = True, False
    for part in parts:
        if isinstance(part, Methods):
            part = part.array
            if part.dtype.kind not in "iub":
                raise DtypeError(f"an index must be of integers or booleans, got {part.dtype}.")
            if not part.ndim and part.dtype.kind != "b":
                part = int(part)
        if part is Ellipsis:
            dots = True
        elif isinstance(part, bool) or not (part is None or isinstance(part, int | slice)):
            if not hasattr(part, "dtype"):
                part = _places(part)
            if (
                hasattr(part, "__index__")
                and getattr(part, "ndim", 1) == 0
                and part.dtype.kind in "iu"
            ):
                part = int(part)
            else:
                basic = False
        out.append(part)
    if basic and not dots:
        out.append(Ellipsis)  # a view also where every axis is picked: NumPy would give a scalar
    return tuple(out), basic


def _places(part: Any) -> Any:
    if isinstance(part, bool | list | tuple | range):
        values = (
            [p.tolist() if isinstance(p, Methods) else p for p in part]
            if not isinstance(part, bool)
            else part
        )
        array = host.asarray(values)
        return array.astype(int64) if not array.size and array.dtype.kind == "f" else array
    raise TypeError(
        "an index is made of ints, slices, None, ..., tensors and lists, got "
        f"{type(part).__name__}."
    )
