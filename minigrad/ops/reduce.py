"""Reductions over one, several or all axes (none negative); ``keep`` leaves them as size 1."""

from __future__ import annotations

from typing import Any

from minigrad.ops.op import Op
from minigrad.shapes import Shape, kept_shape, prod


class Reduction(Op):
    """Shared by all: the axes, and how a reduced array stretches back over them."""

    noisy = True

    def __init__(self, axes: Shape, keep: bool = False) -> None:
        self.axes, self.keepdim = axes, keep

    def attributes(self) -> dict[str, Any]:
        return {"axes": self.axes, "keepdim": self.keepdim}

    def stretch(self, xp: Any, reduced: Any) -> Any:
        """``reduced`` with the axes back as size 1, so that it broadcasts against the input."""
        return reduced.reshape(kept_shape(self.input_shape, self.axes))

    input_shape: Shape


def _summed(x: Any) -> Any:
    """The dtype to add up in: int64 for every integer, as in PyTorch (NumPy makes uint64 of uint8);
    float32 for float16, in which 2048 + 1 is 2048.
    """
    kind = x.dtype.kind
    return "int64" if kind == "u" else "float32" if kind == "f" and x.dtype.itemsize == 2 else None


def _wide(xp: Any, x: Any) -> Any:
    """float16 as float32, in which squares are summed; anything else as it is."""
    return xp.astype(x, "float32") if x.dtype.itemsize == 2 and x.dtype.kind == "f" else x


class Sum(Reduction):
    """The sum over axes."""

    formula, vjp = "y = Σ x", "dx = dy, stretched"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        dtype = _summed(x)
        y = x.sum(axis=self.axes, dtype=dtype, keepdims=self.keepdim)
        return y.astype(x.dtype) if dtype == "float32" else y

    def backward(self, xp: Any, grad: Any) -> Any:
        return (xp.broadcast_to(self.stretch(xp, grad), self.input_shape),)


class Mean(Reduction):
    """The arithmetic mean over axes; NaN over nothing."""

    formula, vjp = "y = 1/n Σ x", "dx = dy / n, stretched"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        n = prod(x.shape[a] for a in self.axes)
        if not n:
            return x.sum(axis=self.axes, keepdims=self.keepdim) + float("nan")
        return x.mean(axis=self.axes, keepdims=self.keepdim)

    def backward(self, xp: Any, grad: Any) -> Any:
        n = prod(self.input_shape[a] for a in self.axes)
        return (xp.broadcast_to(self.stretch(xp, grad / max(n, 1)), self.input_shape),)


class Var(Reduction):
    """The variance over axes: Σ (x - mean)² / (n - correction); NaN where n <= correction.

    correction=1 is the unbiased estimate (Bessel), 0 the mean square deviation that BatchNorm
    normalises by.
    """

    formula, vjp = "y = Σ (x - μ)² / (n - c)", "dx = dy · 2 (x - μ) / (n - c)"

    def __init__(self, axes: Shape, keep: bool = False, correction: float = 1) -> None:
        super().__init__(axes, keep)
        self.correction = correction

    def attributes(self) -> dict[str, Any]:
        return {**super().attributes(), "correction": self.correction}

    def freedom(self) -> float:
        n = prod(self.input_shape[a] for a in self.axes)
        return max(n - self.correction, 0) or float("nan")

    def centered(self, xp: Any, x: Any) -> Any:
        return x - x.mean(axis=self.axes, keepdims=True) if prod(x.shape) else x

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return xp.astype(self.of(xp, x), x.dtype)

    def of(self, xp: Any, x: Any) -> Any:
        c = self.centered(xp, _wide(xp, x))
        return (c * c).sum(axis=self.axes, keepdims=self.keepdim) / self.freedom()

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (self.stretch(xp, grad) * (2 / self.freedom()) * self.centered(xp, x),)


class Std(Var):
    """The standard deviation, √Var; where it is 0 its gradient is 0, as in PyTorch."""

    formula, vjp = "y = √(Σ (x - μ)² / (n - c))", "dx = dy · (x - μ) / (y (n - c))"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return xp.astype(xp.sqrt(self.of(xp, x)), x.dtype)

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:  # type: ignore[override]
        flat = y == 0
        slope = xp.where(flat, 0.0, grad / xp.where(flat, 1.0, y))
        return (self.stretch(xp, slope) * (1 / self.freedom()) * self.centered(xp, x),)


class Amax(Reduction):
    """The largest value over axes; equal ones share the gradient."""

    formula, vjp = "y = max x", "dx = dy · [x = y] / count"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return x.max(axis=self.axes, keepdims=self.keepdim)

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        won = xp.astype(x == self.stretch(xp, y), grad.dtype)
        share = won / won.sum(axis=self.axes, keepdims=True)
        return (self.stretch(xp, grad) * share,)


class Amin(Amax):
    """The smallest value over axes; equal ones share the gradient."""

    formula, vjp = "y = min x", "dx = dy · [x = y] / count"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        return x.min(axis=self.axes, keepdims=self.keepdim)

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        return super().backward(xp, grad, x, y)


class Prod(Reduction):
    """The product over one axis (the last, once moved there).

    The derivative with respect to x_i is the product of the others: y / x_i, or, where an x is 0,
    the product of a table in which x_i is replaced by 1.
    """

    formula, vjp = "y = Π x", "dx = dy · Π of the others"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        dtype = _summed(x)
        y = x.prod(axis=self.axes, dtype=dtype, keepdims=self.keepdim)
        return y.astype(x.dtype) if dtype == "float32" else y

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        grad = self.stretch(xp, grad)
        if not xp.any(x == 0):
            return (grad * self.stretch(xp, y) / x,)
        rest = tuple(i for i in range(x.ndim) if i not in self.axes)
        order = rest + self.axes
        moved = xp.transpose(x, order)
        row = moved.reshape((*moved.shape[: len(rest)], 1, -1))
        n = row.shape[-1]
        eye = xp.tril(
            xp.triu(
                xp.ones_like(row[..., 0, :]).reshape((*row.shape[:-2], 1, n))
                + 0 * row.swapaxes(-1, -2)
            )
        )
        others = xp.where(eye != 0, 1.0, row).prod(axis=-1)
        back = [order.index(i) for i in range(x.ndim)]
        return (grad * xp.transpose(others.reshape(moved.shape), back),)


class LogSumExp(Reduction):
    """ln Σ exp(x), shifted by max x so that nothing overflows."""

    name = "logsumexp"
    formula, vjp = "y = ln Σ exp x", "dx = dy · exp(x - y)"
    floating = True

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        if not prod(x.shape[a] for a in self.axes):
            return x.sum(axis=self.axes, keepdims=self.keepdim) - float("inf")
        x, dtype = _wide(xp, x), x.dtype
        top = x.max(axis=self.axes, keepdims=True)
        top = xp.where(xp.isinf(top), xp.zeros_like(top), top)  # inf - inf would be NaN
        y = xp.log(xp.exp(x - top).sum(axis=self.axes, keepdims=True)) + top
        y = xp.astype(y, dtype)
        return (
            y
            if self.keepdim
            else y.reshape([n for i, n in enumerate(x.shape) if i not in self.axes])
        )

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        y = self.stretch(xp, y)
        finite = ~xp.isinf(y)
        share = xp.exp(x - xp.where(finite, y, 0.0))
        return (self.stretch(xp, grad) * xp.where(finite, share, 0.0 * share),)


class Norm(Reduction):
    """The p-norm, (Σ |x|ᵖ)^(1/p), p > 0; where it is 0 its gradient is 0, as in PyTorch."""

    formula, vjp = "y = (Σ |x|ᵖ)^(1/p)", "dx = dy · sign x · (|x| / y)^(p - 1)"

    def __init__(self, axes: Shape, keep: bool = False, p: float = 2) -> None:
        super().__init__(axes, keep)
        self.p = p

    def attributes(self) -> dict[str, Any]:
        return {**super().attributes(), "p": self.p}

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        wide = _wide(xp, x)
        if self.p == 2:
            y = xp.sqrt((wide * wide).sum(axis=self.axes, keepdims=self.keepdim))
        else:
            total = (xp.abs(wide) ** self.p).sum(axis=self.axes, keepdims=self.keepdim)
            y = total ** (1 / self.p)
        return xp.astype(y, x.dtype)

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        flat = y == 0
        divisor = xp.where(flat, 1.0, y)
        if self.p == 2:
            return (self.stretch(xp, xp.where(flat, 0.0, grad / divisor)) * x,)
        slope = self.stretch(xp, xp.where(flat, 0.0, grad / divisor ** (self.p - 1)))
        zero = x == 0
        power = xp.abs(xp.where(zero, 1.0, x)) ** (self.p - 1)  # 0 ** -0.5 would be infinite
        return (slope * xp.where(zero, 0.0, xp.sign(x) * power),)


class CumSum(Op):
    """Running sums along one axis."""

    name = "cumsum"
    formula, vjp = "yᵢ = Σ_{j ≤ i} xⱼ", "dxⱼ = Σ_{i ≥ j} dyᵢ"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, xp: Any, x: Any) -> Any:
        if not x.ndim:
            return x.copy() if x.dtype.kind == "f" else xp.astype(x, "int64")
        dtype = _summed(x)
        y = xp.cumsum(x, axis=self.axis, dtype=dtype)
        return y.astype(x.dtype) if dtype == "float32" else y

    def backward(self, xp: Any, grad: Any) -> Any:
        if not grad.ndim:
            return (grad,)
        flipped = xp.cumsum(xp.flip(grad, self.axis), axis=self.axis)
        return (xp.flip(flipped, self.axis),)


class CumProd(Op):
    """Running products along one axis.

    yᵢ contains xⱼ for j ≤ i, and its derivative there is the product of the others: yᵢ / xⱼ, or,
    where an x is 0, the running products of a table in whose row j the factor xⱼ is 1.
    """

    formula, vjp = "yᵢ = Π_{j ≤ i} xⱼ", "dxⱼ = Σ_{i ≥ j} dyᵢ · Π of the others"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, xp: Any, x: Any) -> Any:
        if x.ndim:
            dtype = _summed(x)
            y = xp.cumprod(x, axis=self.axis, dtype=dtype)
            return y.astype(x.dtype) if dtype == "float32" else y
        return x.copy() if x.dtype.kind == "f" else xp.astype(x, "int64")

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        if not grad.ndim:
            return (grad,)
        if not xp.any(x == 0):
            flipped = xp.cumsum(xp.flip(grad * y, self.axis), axis=self.axis)
            return (xp.flip(flipped, self.axis) / x,)
        row, flow = x.swapaxes(self.axis, -1), grad.swapaxes(self.axis, -1)
        wide = row.reshape((*row.shape[:-1], 1, row.shape[-1]))
        table = xp.broadcast_to(wide, (*row.shape, row.shape[-1]))
        eye = xp.tril(xp.triu(xp.ones_like(table))) != 0
        others = xp.triu(xp.cumprod(xp.where(eye, 1.0, table), axis=table.ndim - 1))
        dx = (flow.reshape(wide.shape) * others).sum(axis=-1)
        return (dx.swapaxes(self.axis, -1),)


class Median(Amax):
    """The lower median of all elements; equal ones share the gradient. NaN if there is one."""

    formula, vjp = "y = median x", "dx = dy · [x = y] / count"

    def forward(self, xp: Any, x: Any) -> Any:
        self.input_shape = x.shape
        flat = xp.sort(x.reshape(-1))
        last = flat[-1]
        y = last if last != last else flat[(len(flat) - 1) // 2]
        return y.reshape((1,) * x.ndim) if self.keepdim else y

    def backward(self, xp: Any, grad: Any, x: Any, y: Any) -> Any:
        return super().backward(xp, grad, x, y)
