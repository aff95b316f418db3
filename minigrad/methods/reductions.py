"""Sums, means, extremes and their like, over one, several or all axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.dtypes import int64
from minigrad.errors import RangeError
from minigrad.methods.base import Base, Dim, ValuesIndices
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axis, prod

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Reductions(Operators):
    """Sums, means, extremes and their like, over one, several or all axes."""

    __slots__ = ()

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
        if isinstance(dim, Base):
            return self.maximum(dim)
        dim = axis if dim is None else dim
        return self.amax() if dim is None else self._at(self.argmax(dim, True), dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Dim = None) -> Any:
        """The smallest value; ``min(dim)``: (values, indices); ``min(other)``: the smaller one."""
        if isinstance(dim, Base):
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
            return self._wrap(xp.zeros((), dtype=int64))
        self._needs_elements(name, (axis,))
        return self._wrap(xp.asarray(function(self.array, axis=axis, keepdims=keepdim)))

    def prod(
        self,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        dtype: Any = None,
        axis: Dim = None,
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

    def cumprod(
        self, dim: int | None = None, *, dtype: Any = None, axis: int | None = None
    ) -> Tensor:
        """Running products along ``dim``."""
        x = self if dtype is None else self.to(dtype)
        return self._apply(ops.CumProd(as_axis(_one(dim, axis), self.ndim)), x)

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower median of all values; ``median(dim)``: (values, indices) along one axis."""
        if dim is None:
            if not prod(self.shape):
                return self.sum() * float("nan")
            return self._apply(ops.Median(tuple(range(self.ndim))), self)
        axis = as_axis(dim, self.ndim)
        if not self.ndim:
            return self._at(self.argmax(0, True), 0, keepdim)
        self._needs_elements("median", (axis,))
        xp = backend_of(self.array)
        order = xp.argsort(self.array, axis=axis, kind="stable")
        n = self.shape[axis]
        middle = order.take([(n - 1) // 2], axis=axis)
        if self.dtype.kind == "f":
            last = order.take([n - 1], axis=axis)  # NaN comes last
            lost = xp.module.isnan(xp.take_along_axis(self.array, last, axis))
            middle = xp.where(lost, last, middle)
        return self._at(self._wrap(middle), axis, keepdim)

    def any(self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None) -> Tensor:
        """Whether any value over ``dim`` is not zero."""
        return self._truth(self.array.any(axis=self._axes(dim, axis), keepdims=keepdim))

    def all(self, dim: Dim = None, keepdim: bool = False, *, axis: Dim = None) -> Tensor:
        """Whether no value over ``dim`` is zero."""
        return self._truth(self.array.all(axis=self._axes(dim, axis), keepdims=keepdim))

    def _truth(self, array: Any) -> Tensor:
        array = backend_of(self.array).asarray(array)  # of uint8 PyTorch's any and all are uint8
        return self._wrap(array.astype("uint8") if self.dtype == "uint8" else array)

    def count_nonzero(self, dim: Dim = None) -> Tensor:
        """How many values over ``dim`` are not zero."""
        return (self != 0).sum(dim)

    def norm(self, p: Any = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """(Σ |x|ᵖ)^(1/p) over ``dim``; p may be a number, ``inf`` or ``"fro"`` (= 2)."""
        p = 2 if p in (None, "fro") else p
        if isinstance(p, str):
            raise RangeError(f'norm needs a number, inf or "fro" for p, got {p!r}.')
        self._needs_floating("norm", self)
        if p == float("inf"):
            return self.abs().amax(dim, keepdim)
        if p == -float("inf"):
            return self.abs().amin(dim, keepdim)
        if p == 0:
            return self._apply(ops.Sign(), self.abs()).sum(dim, keepdim)
        if p == 1:
            return self.abs().sum(dim, keepdim)
        if p > 0:
            return self._apply(ops.Norm(self._axes(dim, None), keepdim, p), self)
        return self.abs().pow(p).sum(dim, keepdim).pow(1 / p)


def _one(dim: Any, axis: Any) -> Any:
    given = axis if dim is None else dim
    if given is None:
        raise TypeError("this operation needs a dim.")
    return given
