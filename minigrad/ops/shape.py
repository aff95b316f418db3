"""Ops that move elements without changing them."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of, for_device, is_pinned
from minigrad.errors import ShapeError
from minigrad.ops.op import Op
from minigrad.shapes import Shape, prod, reduced_axes


class Reshape(Op):
    """The same elements, in the same order, under another shape."""

    formula, vjp = "y = x as shape", "dx = dy as x's shape"
    view = True

    def __init__(self, shape: Shape) -> None:
        self.to_shape = shape

    def attributes(self) -> dict[str, Any]:
        return {"shape": self.to_shape}

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return x.reshape(self.to_shape)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (grad.reshape(self.input_shape),)

    def check(self, x: Any) -> None:
        raise ShapeError(
            f"shape {tuple(x.shape)} with {prod(x.shape)} elements does not fit {self.to_shape}."
        )


class Transpose(Op):
    """The axes in another order."""

    formula, vjp = "y = x, axes permuted", "dx = dy, axes permuted back"
    view = True

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.transpose(x, self.axes)

    def backward(self, xp: Any, grad: Any) -> Any:
        back = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return (xp.transpose(grad, back),)


class Expand(Op):
    """Axes of size 1 stretched, and new ones in front, without copying."""

    formula, vjp = "y = x, stretched", "dx = Σ dy over the stretched axes"
    view = True

    def __init__(self, shape: Shape) -> None:
        self.to_shape = shape

    def attributes(self) -> dict[str, Any]:
        return {"shape": self.to_shape}

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return xp.broadcast_to(x, self.to_shape)

    def backward(self, xp: Any, grad: Any) -> Any:
        axes = reduced_axes(self.to_shape, self.input_shape)
        return (grad.sum(axis=axes).reshape(self.input_shape) if axes else grad,)

    def check(self, x: Any) -> None:
        raise ShapeError(
            f"shape {tuple(x.shape)} cannot be expanded to {self.to_shape}: only axes of size 1 "
            "stretch, and new axes come in front."
        )


class Flip(Op):
    """The order along axes reversed."""

    formula, vjp = "y = x reversed", "dx = dy reversed"

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.flip(x, self.axes).copy() if hasattr(x, "copy") else xp.flip(x, self.axes)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.flip(grad, self.axes),)


class Pad(Op):
    """A border of one value around an array: ``widths`` is (before, after) an axis."""

    formula, vjp = "y = x with a border", "dx = dy without the border"

    def __init__(self, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> None:
        self.widths, self.value = widths, value

    def forward(self, xp: Any, x: Any) -> Any:
        return xp.pad(x, self.widths, constant_values=self.value) if self.widths else x.copy()

    def backward(self, xp: Any, grad: Any) -> Any:
        inner = tuple(
            slice(before, n - after)
            for n, (before, after) in zip(grad.shape, self.widths, strict=True)
        )
        return (grad[inner],)


class Concatenate(Op):
    """Arrays one after another along an axis."""

    formula, vjp = "y = [x₁, x₂, …]", "dxᵢ = its part of dy"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, xp: Any, *arrays: Any) -> Any:
        self.sizes = [a.shape[self.axis] for a in arrays]
        return xp.concatenate(arrays, axis=self.axis)

    def backward(self, xp: Any, grad: Any) -> Any:
        grads, start = [], 0
        for size in self.sizes:
            part = (slice(None),) * self.axis + (slice(start, start + size),)
            grads.append(grad[part])
            start += size
        return tuple(grads)

    def check(self, *arrays: Any) -> None:
        shapes = [tuple(a.shape) for a in arrays]
        raise ShapeError(
            f"cat along axis {self.axis} needs equal shapes on every other axis, got "
            f"{' and '.join(map(str, shapes))}."
        )


class Diagonal(Op):
    """The diagonals of square matrices (the last two axes), as the last axis: a view."""

    formula, vjp = "y[..., i] = x[..., i, i]", "dx = 0;  dx[..., i, i] = dy"
    view = True

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return xp.einsum("...ii->...i", x)

    def backward(self, xp: Any, grad: Any) -> Any:
        *batch, n, _ = self.input_shape
        rows, every = prod(batch), slice(None, None, n + 1)  # of a matrix in one row
        dx = xp.index_add(grad.reshape((rows, n)), (slice(None), every), (rows, n * n))
        return (dx.reshape(self.input_shape),)


class Triangle(Op):
    """The lower (``tril``) or upper (``triu``) triangle of matrices; the rest is 0."""

    formula, vjp = "y = x · [on one side of the diagonal]", "dx = dy · [on that side]"

    def __init__(self, upper: bool, diagonal: int = 0) -> None:
        self.upper, self.diagonal = upper, diagonal

    def forward(self, xp: Any, x: Any) -> Any:
        self.check(x)
        return (xp.triu if self.upper else xp.tril)(x, self.diagonal)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (self.forward(xp, grad),)

    def check(self, x: Any) -> None:
        if x.ndim < 2:
            raise ShapeError(f"tril and triu need a matrix (2 or more axes), got {tuple(x.shape)}.")


class ToDevice(Op):
    """The same values in the memory of another device; the gradient goes back to the first.

    With ``non_blocking`` the host does not wait for a copy from pinned memory.
    """

    formula, vjp = "y = x on a device", "dx = dy on x's device"

    def __init__(self, device: str, non_blocking: bool = False) -> None:
        self.device, self.non_blocking = device, non_blocking

    def attributes(self) -> dict[str, Any]:
        return {"device": self.device}

    def forward(self, xp: Any, x: Any) -> Any:
        here = backend_of(x)
        self.source = here.device_of(x)
        there, name = for_device(self.device)
        if there is here:
            return x.copy() if name == self.source else there.move(x, name)
        host = here.to_host(x)
        if self.non_blocking and is_pinned(host):
            return there.from_pinned(host, name)
        return there.from_host(host, name)

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.run(ToDevice(self.source), grad),)
