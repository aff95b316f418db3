"""Elements taken and replaced: x[index], gather, scatter; and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of, bounds
from minigrad.backends import numpy as host
from minigrad.backends.capture import entered
from minigrad.dtypes import int64
from minigrad.errors import DeviceError, DtypeError, RangeError, ShapeError
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators
from minigrad.ops.op import check_devices
from minigrad.shapes import as_axis, broadcast_shapes, prod

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Indexing(Operators):
    """Elements taken and replaced: x[index], gather, scatter; and their order."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Tensor:
        parts, basic = _index(index, self)
        if basic:
            return self._apply(ops.Slice(parts), self)
        return self._apply(ops.Index(tuple(map(self._own, parts))), self)

    def __setitem__(self, index: Any, value: Any) -> None:
        kept_by = value if isinstance(value, Base) and value.requires_grad else self
        parts = tuple(map(kept_by._own, _index(index, self)[0]))
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
        return self._apply(ops.Gather(axis, self._own(entered(index))), self)

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
        self._check_scatter("scatter_add", axis, index, src)
        return self + self._apply(ops.ScatterAdd(axis, src._own(entered(index)), self.shape), src)

    def scatter(self, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
        """self with ``src`` (a tensor or a number) written along ``dim`` at ``index``."""
        axis = as_axis(dim, self.ndim)
        src = value if src is None else src
        self._check_scatter("scatter", axis, index, src)
        if isinstance(src, Base):
            src = src[tuple(slice(n) for n in index.shape)]
        if not self.ndim:
            return self._apply(ops.SetItem((...,)), self, src)
        xp = backend_of(self.array)
        places: list[Any] = [
            xp.arange(n).reshape([-1 if i == j else 1 for j in range(self.ndim)])
            for i, n in enumerate(index.shape)
        ]
        places[axis] = entered(index)
        return self._apply(ops.SetItem(tuple(places)), self, src)

    def _check_scatter(self, what: str, axis: int, index: Any, src: Any) -> None:
        if index.ndim != self.ndim:
            raise ShapeError(
                f"{what} needs an index with {self.ndim} axes, got shape {index.shape}."
            )
        self._check_places(index, axis)
        pairs = [
            (m, n)
            for i, (m, n) in enumerate(zip(index.shape, self.shape, strict=True))
            if i != axis
        ]
        if isinstance(src, Base):
            if src.dtype != self.dtype:
                raise DtypeError(f"{what} of {src.dtype} into {self.dtype}; convert one first.")
            if src.ndim != self.ndim:
                raise ShapeError(
                    f"{what} needs a source with {self.ndim} axes, got shape {src.shape}."
                )
            pairs += zip(index.shape, src.shape, strict=True)
        if any(m > n for m, n in pairs):
            raise ShapeError(
                f"{what} along axis {axis} needs an index no larger than the source "
                f"{getattr(src, 'shape', '')} and than {self.shape} on the other axes, "
                f"got {index.shape}."
            )

    def index_add(self, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
        """self with alpha · source added along ``dim`` at ``index``."""
        places = self._places("index_add", dim, index, source)
        source = source if alpha == 1 else source * alpha
        kept = tuple(map(source._own, places))
        return self + self._apply(
            ops.IndexAdd(kept, self.shape), source.reshape(self._slot(dim, index))
        )

    def index_copy(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """self with ``source`` written along ``dim`` at ``index``."""
        places = self._places("index_copy", dim, index, source)
        kept = tuple(part.copy() if hasattr(part, "dtype") else part for part in places)
        return self._apply(ops.SetItem(kept), self, source.reshape(self._slot(dim, index)))

    def index_fill(self, dim: int, index: Tensor, value: Any) -> Tensor:
        """self with ``value`` along ``dim`` at ``index``."""
        places = self._places("index_fill", dim, index, None)
        if isinstance(value, Base):
            if value.ndim:
                raise ShapeError(
                    f"index_fill needs a number or a 0-d tensor, got shape {value.shape}."
                )
            value = value.to(self.dtype)
        return self._apply(ops.SetItem(tuple(map(self._own, places))), self, value)

    def _slot(self, dim: int, index: Tensor) -> tuple[int, ...]:
        """The shape of what belongs at ``index``."""
        axis = as_axis(dim, self.ndim)
        return (*self.shape[:axis], index.numel(), *self.shape[axis + 1 :]) if self.ndim else ()

    def _places(self, what: str, dim: int, index: Any, source: Any) -> tuple[Any, ...]:
        """The index of the places ``index`` along ``dim``."""
        axis = as_axis(dim, self.ndim)
        if index.ndim > 1:
            raise IndexError(f"{what} needs an index with one axis, got shape {index.shape}.")
        self._check_places(index, axis)
        if source is not None:
            if source.dtype != self.dtype:
                raise DtypeError(f"{what} of {source.dtype} into {self.dtype}; convert one first.")
            slot = self._slot(dim, index)
            if source.shape != slot and not (source.ndim < 1 and prod(slot) == 1):
                raise ShapeError(f"{what} needs a source of shape {slot}, got {source.shape}.")
        return (slice(None),) * axis + (entered(index).reshape(-1),) if self.ndim else (...,)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The places ``index`` (integers) along ``dim``."""
        places = self._places("index_select", dim, index, None)
        if not self.ndim:
            return self._apply(ops.Clone(), self)
        return self._apply(ops.Index(tuple(map(self._own, places))), self)

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where ``mask`` holds, on one axis."""
        if mask.dtype.kind != "b":
            raise DtypeError(f"masked_select needs a bool mask, got {mask.dtype}; compare first.")
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
        if index.array.__class__ is not self.array.__class__:
            check_devices("places", [self.array, index.array])
        n = self.shape[axis] if self.ndim else 1
        found = bounds(index.array)
        if found is not None and (found[0] < 0 or found[1] >= n):
            raise RangeError(
                f"a place along axis {axis} must be in [0, {n - 1}], got values in "
                f"[{found[0]}, {found[1]}]."
            )


def _index(index: Any, x: Base) -> tuple[tuple[Any, ...], bool]:
    """An index of ``x`` as ints, slices, None, Ellipsis and raw arrays where ``x`` is; and whether
    it has no arrays.
    """
    parts = index if isinstance(index, tuple) else (index,)
    out: list[Any] = []
    basic, dots = True, False
    for part in parts:
        if isinstance(part, Base):
            part = entered(part)
            if part.dtype.kind not in "iub":
                raise IndexError(f"an index must be of integers or booleans, got {part.dtype}.")
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
                if part.__class__ is not x.array.__class__:
                    part = _moved(part, x)
        out.append(part)
    if basic and not dots:
        out.append(Ellipsis)  # a view also where every axis is picked: NumPy would give a scalar
    return tuple(out), basic


def _moved(part: Any, x: Base) -> Any:
    """An array of an index where ``x`` is; as in PyTorch, only one on the CPU follows."""
    if backend_of(part) is host and x.device.startswith("cuda"):
        return backend_of(x.array).from_host(part, x.device)
    if (device := backend_of(part).device_of(part)) != x.device:
        raise DeviceError(
            f"an index must be on the CPU or where the tensor is, {x.device}, got one on {device}; "
            f'move it with .to("{x.device}").'
        )
    return part


def _places(part: Any) -> Any:
    if isinstance(part, bool | list | tuple | range):
        values = (
            [p.tolist() if isinstance(p, Base) else p for p in part]
            if not isinstance(part, bool)
            else part
        )
        array = host.asarray(values)
        return array.astype(int64) if not array.size and array.dtype.kind == "f" else array
    raise IndexError(
        "an index is made of ints, slices, None, ..., tensors and lists, got "
        f"{type(part).__name__}."
    )
