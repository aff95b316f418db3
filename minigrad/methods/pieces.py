"""Elements laid out anew: repeated, reversed, rolled, split, and parts of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.dtypes import int64
from minigrad.errors import RangeError, ShapeError
from minigrad.methods.base import Base
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

    def fliplr(self) -> Tensor:
        """Left and right exchanged: axis 1 reversed."""
        if self.ndim < 2:
            raise ShapeError(f"fliplr needs at least 2 axes, got shape {self.shape}.")
        return self.flip(1)

    def flipud(self) -> Tensor:
        """Up and down exchanged: axis 0 reversed."""
        if self.ndim < 1:
            raise ShapeError("flipud needs at least 1 axis, got a 0-d tensor.")
        return self.flip(0)

    def repeat_interleave(
        self, repeats: Any, dim: int | None = None, *, output_size: int | None = None
    ) -> Tensor:
        """Each element ``repeats`` times in a row along ``dim`` (of all of them by default)."""
        x: Any = self.reshape(-1) if dim is None else self
        axis = 0 if dim is None else as_axis(dim, self.ndim)
        times = repeats.tolist() if isinstance(repeats, Base) else repeats
        n = x.shape[axis]
        if not isinstance(times, int) and len(times) == 1:
            times = times[0]
        each = [times] * n if isinstance(times, int) else list(times)
        if len(each) != n or any(t < 0 for t in each):
            raise ShapeError(
                f"repeat_interleave needs one number >= 0 for each of {n} places, got {times}."
            )
        places = [i for i, t in enumerate(each) for _ in range(t)]
        xp = backend_of(self.array)
        index = xp.constant(np.array(places, dtype=int64), self.device)
        return self._apply(ops.Index((slice(None),) * axis + (index,)), x)

    def diff(self, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
        """Differences of neighbours along ``dim``, ``n`` times over."""
        axis = as_axis(dim, self.ndim)
        if not self.ndim or n < 0:
            raise ShapeError(f"diff needs at least 1 axis and n >= 0, got {self.shape} and {n}.")
        parts = [p for p in (prepend, self, append) if p is not None]
        x: Any = self._apply(ops.Concatenate(axis), *parts) if len(parts) > 1 else self
        for _ in range(min(n, x.shape[axis])):
            after, before = (
                x.narrow(axis, 1, x.shape[axis] - 1),
                x.narrow(axis, 0, x.shape[axis] - 1),
            )
            x = after ^ before if x.dtype.kind == "b" else after - before
        return x if n else self._apply(ops.Clone(), x)

    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        """Elements moved along axes; those that leave at the end come in at the start."""
        if dims is None:
            return self.reshape(-1).roll(shifts, 0).reshape(self.shape)
        shifts = [shifts] if isinstance(shifts, int) else list(shifts)
        out: Any = self
        axes = [dims] if isinstance(dims, int) else list(dims)
        if len(axes) != len(shifts):
            raise ShapeError(f"roll needs one shift an axis, got {shifts} for axes {axes}.")
        for shift, axis in zip(shifts, (as_axis(a, self.ndim) for a in axes), strict=True):
            n = self.shape[axis]
            index = (backend_of(self.array).arange(n) - shift) % max(n, 1)
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
        top, left = min(max(-offset, 0), rows - n), min(max(offset, 0), columns - n)
        square = moved[..., top : top + n, left : left + n]
        return self._apply(ops.Diagonal(), square)

    def diag(self, diagonal: int = 0) -> Tensor:
        """The diagonal of a matrix; of a vector, the matrix with that diagonal."""
        if self.ndim == 2:
            return self._apply(ops.Clone(), self.diagonal(diagonal))
        if self.ndim != 1:
            raise ShapeError(f"diag needs a vector or a matrix, got shape {self.shape}.")
        n = self.shape[0]
        i = backend_of(self.array).arange(n)
        size = n + (diagonal if diagonal > 0 else -diagonal)
        index = (i + max(-diagonal, 0), i + max(diagonal, 0))
        return self._apply(ops.IndexAdd(index, (size, size)), self)

    def trace(self) -> Tensor:
        """The sum of a matrix's diagonal."""
        if self.ndim != 2:
            raise ShapeError(f"trace needs a matrix, got shape {self.shape}.")
        return self.diagonal().sum()

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Parts along ``dim``: of one size (the last may be smaller), or of the sizes given."""
        axis = as_axis(dim, self.ndim)
        n = self.shape[axis]
        if isinstance(split_size, int):
            if split_size <= 0:
                raise RangeError(f"split needs a positive size, got {split_size}.")
            sizes = [min(split_size, n - i) for i in range(0, n, split_size)] or [0]
        else:
            sizes = list(split_size)
            if sum(sizes) != n:
                raise ShapeError(f"split sizes {sizes} add up to {sum(sizes)}, axis {dim} has {n}.")
        return tuple(
            self.narrow(axis, start, size)
            for start, size in zip(_starts(sizes), sizes, strict=True)
        )

    def split_with_sizes(self, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Parts of the given sizes along ``dim``."""
        return self.split(list(split_sizes), dim)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most ``chunks`` parts of equal size along ``dim`` (the last may be smaller)."""
        if chunks <= 0:
            raise RangeError(f"chunk needs a positive number of chunks, got {chunks}.")
        n = self.shape[as_axis(dim, self.ndim)]
        return self.split(max(1, -(-n // chunks)) if n else [0] * chunks, dim)

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """The places ``start`` to ``start + length`` along ``dim``."""
        axis = as_axis(dim, self.ndim)
        n = self.shape[axis]
        start = start + n if start < 0 else start
        if length < 0 or not 0 <= start <= n - length:
            raise RangeError(
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
