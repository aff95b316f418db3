"""Selecting elements, and adding them back where they came from."""

from __future__ import annotations

from typing import Any

from minigrad.ops.op import Op
from minigrad.shapes import Shape


class Index(Op):
    """x[index], for slices, ints, None, Ellipsis, masks and integer arrays.

    An element taken twice gets both gradients.
    """

    formula, vjp = "y = x[index]", "dx = 0;  dx[index] += dy"

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return x[self.index]

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.index_add(grad, self.index, self.input_shape),)


class Slice(Index):
    """x[index] for ints, slices, None and Ellipsis only: a view."""

    view = True

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return x[self.index]

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.index_add(grad, self.index, self.input_shape),)


class Embedding(Index):
    """weight[index], whose gradient leaves out a row, or counts every row once a batch."""

    formula, vjp = "y = weight[index]", "dweight = 0;  dweight[index] += share · dy"

    def __init__(
        self, index: Any, padding_idx: int | None = None, scale_grad_by_freq: bool = False
    ) -> None:
        self.index, self.padding_idx = index, padding_idx
        self.scale_grad_by_freq = scale_grad_by_freq

    def forward(self, xp: Any, weight: Any) -> Any:
        self.input_shape, self.share = weight.shape, None
        if self.scale_grad_by_freq:
            ones = xp.ones(self.index.shape, dtype=weight.dtype)
            self.share = 1 / xp.index_add(ones, (self.index,), weight.shape[:1])[self.index]
        if self.padding_idx is not None:
            counts = self.index != self.padding_idx
            self.share = counts if self.share is None else self.share * counts
        return weight[self.index]

    def backward(self, xp: Any, grad: Any) -> Any:
        if self.share is not None:
            grad = grad * self.share[..., None]
        return (xp.index_add(grad, (self.index,), self.input_shape),)


class IndexAdd(Op):
    """Zeros of a shape with x added at an index: what Index undoes."""

    formula, vjp = "y = 0;  y[index] += x", "dx = dy[index]"

    def __init__(self, index: Any, shape: Shape) -> None:
        self.index, self.to_shape = index, shape

    def attributes(self) -> dict[str, Any]:
        return {"index": self.index, "shape": self.to_shape}

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.index_add(x, self.index, self.to_shape)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (grad[self.index],)


class SetItem(Op):
    """x with x[index] replaced by a value: what ``x[index] = value`` records."""

    formula, vjp = "y = x;  y[index] = v", "dx = dy but 0 at index,  dv = dy[index]"
    broadcasts = True  # the value may have been stretched

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, xp: Any, x: Any, value: Any) -> Any:
        y = x.copy()
        y[self.index] = value
        self.value_ndim = getattr(value, "ndim", 0)
        return y

    def backward(self, xp: Any, grad: Any) -> Any:
        taken, dx = grad[self.index], None
        if self.needs(0):
            hits = xp.index_add(xp.ones_like(taken), self.index, tuple(grad.shape))
            dx = grad * (hits == 0)
        extra = self.value_ndim - taken.ndim  # a value may have axes of size 1 in front
        return dx, taken.reshape((1,) * extra + tuple(taken.shape)) if extra > 0 else taken


class Gather(Op):
    """y[i][j] = x[index[i][j]][j] (along axis 0): one element taken at each place of ``index``."""

    formula, vjp = "y = x at index along axis", "dx = 0;  dx at index += dy"

    def __init__(self, axis: int, index: Any) -> None:
        self.axis, self.index = axis, index

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        if not x.ndim:
            return x.copy()
        inner = tuple(
            slice(None) if i == self.axis else slice(n) for i, n in enumerate(self.index.shape)
        )
        return xp.take_along_axis(x[inner], self.index, self.axis)

    def backward(self, xp: Any, grad: Any) -> Any:
        if not self.input_shape:
            return (grad,)
        return (xp.scatter_add(grad, self.index, self.axis, self.input_shape),)


class ScatterAdd(Op):
    """Zeros of a shape with x added along an axis at ``index``: what Gather undoes."""

    formula, vjp = "y = 0;  y at index += x", "dx = dy at index"

    def __init__(self, axis: int, index: Any, shape: Shape) -> None:
        self.axis, self.index, self.to_shape = axis, index, shape

    def attributes(self) -> dict[str, Any]:
        return {"axis": self.axis, "shape": self.to_shape}

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return xp.scatter_add(x, self.index, self.axis, self.to_shape)

    def backward(self, xp: Any, grad: Any) -> Any:
        inner = tuple(
            slice(None) if i == self.axis else slice(n) for i, n in enumerate(self.index.shape)
        )
        taken = xp.take_along_axis(grad[inner], self.index, self.axis)
        if tuple(taken.shape) != tuple(self.input_shape):  # x may be larger than index
            part = tuple(slice(n) for n in self.index.shape)
            taken = xp.index_add(taken, part, self.input_shape)
        return (taken,)
