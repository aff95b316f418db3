"""Elements laid out anew: repeated, reversed, rolled, split, and parts of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.dtypes import int64
from minigrad.errors import ShapeError
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axes, as_axis, as_shape

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Pieces(Operators):
    """Elements laid out anew: repeated, reversed, rolled, split, and parts of matrices."""

    __slots__ = ()

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


def _starts(sizes: Sequence[int]) -> list[int]:
    starts, at = [], 0
    for n in sizes:
        starts.append(at)
        at += n
    return starts
