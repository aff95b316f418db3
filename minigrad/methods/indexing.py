"""Elements taken and replaced: x[index], gather, scatter; and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.backends import numpy as host
from minigrad.dtypes import int64
from minigrad.errors import DtypeError, ShapeError
from minigrad.methods.base import Base, ValuesIndices
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axis, broadcast_shapes

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Indexing(Operators):
    """Elements taken and replaced: x[index], gather, scatter; and their order."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Tensor:
        parts, basic = _index(index)
        if basic:
            return self._apply(ops.Slice(parts), self)
        return self._apply(ops.Index(tuple(map(self._own, parts))), self)

    def __setitem__(self, index: Any, value: Any) -> None:
        kept_by = value if isinstance(value, Base) and value.requires_grad else self
        parts = tuple(map(kept_by._own, _index(index)[0]))
        if isinstance(value, Base) and value.dtype != self.dtype:
            value = value.to(self.dtype)
        if not isinstance(value, Base | int | float):
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
        if isinstance(src, Base):
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


def _index(index: Any) -> tuple[tuple[Any, ...], bool]:
    """An index as ints, slices, None, Ellipsis and raw arrays; and whether it has no arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    out: list[Any] = []
    basic, dots = True, False
    for part in parts:
        if isinstance(part, Base):
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
            [p.tolist() if isinstance(p, Base) else p for p in part]
            if not isinstance(part, bool)
            else part
        )
        array = host.asarray(values)
        return array.astype(int64) if not array.size and array.dtype.kind == "f" else array
    raise TypeError(
        "an index is made of ints, slices, None, ..., tensors and lists, got "
        f"{type(part).__name__}."
    )
