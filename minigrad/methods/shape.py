"""Shape and layout: facts about them, and the same elements under another shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.methods.base import Dim
from minigrad.methods.operators import Operators
from minigrad.shapes import as_axes, as_axis, as_shape, prod

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Shapes(Operators):
    """Shape and layout: facts about them, and the same elements under another shape."""

    __slots__ = ()

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
