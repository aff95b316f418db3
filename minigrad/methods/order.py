"""Sorting, and what rests on it: the largest, the distinct, and how often each occurs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad.backends import backend_of
from minigrad.dtypes import float64, int64
from minigrad.errors import DtypeError, RangeError, ShapeError
from minigrad.methods.base import ValuesIndices
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axis

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Order(Operators):
    """Sorting, and what rests on it: the largest, the distinct, and how often each occurs."""

    __slots__ = ()

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """The places that would sort along ``dim``; equal ones keep their order."""
        xp = backend_of(self.array)
        axis = as_axis(dim, self.ndim)
        if not self.ndim:
            return self._wrap(xp.zeros((), dtype=int64))
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
            raise RangeError(f"topk needs 0 <= k <= {n} for axis {dim} of {self.shape}, got {k}.")
        places = self.argsort(dim, largest).narrow(axis, 0, k) if self.ndim else self.argsort()
        return ValuesIndices(self.gather(dim, places), places)

    def unique(
        self,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Any:
        """The distinct values (or slices along ``dim``) in order.

        With ``return_inverse`` also the place of every element among them, with ``return_counts``
        how often each occurs. They come in order also with ``sorted=False``. No gradient.
        """
        axis = None if dim is None else as_axis(dim, self.ndim)
        values, inverse, counts = backend_of(self.array).module.unique(
            self.array, return_inverse=True, return_counts=True, axis=axis
        )
        out = [values]
        if return_inverse:
            out.append(inverse.reshape(self.shape if axis is None else (-1,)))
        if return_counts:
            out.append(counts)
        wrapped = tuple(map(self._wrap, out))
        return wrapped if len(wrapped) > 1 else wrapped[0]

    def bincount(self, weights: Any = None, minlength: int = 0) -> Tensor:
        """How often 0, 1, 2, ... occur in a vector; with ``weights``, the sum of theirs."""
        if self.ndim != 1 or self.dtype.kind not in "iu":
            raise (ShapeError if self.ndim != 1 else DtypeError)(
                f"bincount needs a vector of integers, got {self.dtype} of shape {self.shape}."
            )
        if self.array.size and self.array.min() < 0:
            raise RangeError(f"bincount needs values >= 0, got {self.array.min()}.")
        if weights is not None and weights.shape != self.shape:
            raise ShapeError(
                f"bincount of {self.shape} needs as many weights, got {weights.shape}."
            )
        function = backend_of(self.array).module.bincount
        if weights is None:
            return self._wrap(function(self.array, minlength=minlength).astype(int64))
        dtype = weights.dtype if weights.dtype == "float32" else float64
        return self._wrap(function(self.array, weights.array, minlength).astype(dtype))
