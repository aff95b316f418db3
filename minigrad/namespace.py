"""The third interpreter: NumPy's names over Tensors, so that a formula run on Tensors becomes a
graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.backends import backend_of
from minigrad.methods import Methods
from minigrad.ops import (
    Concatenate,
    Einsum,
    Gather,
    IndexAdd,
    Maximum,
    Minimum,
    Pad,
    ScatterAdd,
    Where,
)
from minigrad.shapes import Shape


class TensorNamespace:
    """NumPy's names over Tensors."""

    abs = staticmethod(Methods.abs)
    amax = staticmethod(Methods.amax)
    amin = staticmethod(Methods.amin)
    any = staticmethod(Methods.any)
    all = staticmethod(Methods.all)
    argmax = staticmethod(Methods.argmax)
    argmin = staticmethod(Methods.argmin)
    broadcast_to = staticmethod(Methods.expand)
    clip = staticmethod(Methods.clamp)
    cos = staticmethod(Methods.cos)
    cosh = staticmethod(Methods.cosh)
    cumprod = staticmethod(Methods.cumprod)
    cumsum = staticmethod(Methods.cumsum)
    erf = staticmethod(Methods.erf)
    exp = staticmethod(Methods.exp)
    expm1 = staticmethod(Methods.expm1)
    flip = staticmethod(Methods.flip)
    floor = staticmethod(Methods.floor)
    isinf = staticmethod(Methods.isinf)
    log = staticmethod(Methods.log)
    log1p = staticmethod(Methods.log1p)
    matmul = staticmethod(Methods.matmul)
    relu = staticmethod(Methods.relu)
    sigmoid = staticmethod(Methods.sigmoid)
    sign = staticmethod(Methods.sign)
    sin = staticmethod(Methods.sin)
    sinh = staticmethod(Methods.sinh)
    sqrt = staticmethod(Methods.sqrt)
    tan = staticmethod(Methods.tan)
    tanh = staticmethod(Methods.tanh)
    transpose = staticmethod(Methods.permute)
    tril = staticmethod(Methods.tril)
    triu = staticmethod(Methods.triu)
    trunc = staticmethod(Methods.trunc)

    @staticmethod
    def astype(x: Any, dtype: Any) -> Any:
        return x.to(dtype)

    @staticmethod
    def relu_backward(grad: Any, y: Any) -> Any:
        return grad * (y > 0)

    @staticmethod
    def sigmoid_backward(grad: Any, y: Any) -> Any:
        return grad * (y * (1 - y))

    @staticmethod
    def concatenate(arrays: Sequence[Any], axis: int = 0) -> Any:
        return arrays[0]._apply(Concatenate(axis), *arrays)

    @staticmethod
    def einsum(equation: str, *arrays: Any, optimize: bool = False) -> Any:
        return arrays[0]._apply(Einsum(equation), *arrays)

    @staticmethod
    def index_add(x: Any, index: Any, shape: Shape) -> Any:
        return x._apply(IndexAdd(index, shape), x)

    @staticmethod
    def maximum(x: Any, other: Any) -> Any:
        return x._binary(Maximum(), x, other)  # also of a number, which Tensor.maximum refuses

    @staticmethod
    def minimum(x: Any, other: Any) -> Any:
        return x._binary(Minimum(), x, other)

    @staticmethod
    def ones_like(x: Any) -> Any:
        return x._wrap(backend_of(x.array).ones_like(x.array))

    @staticmethod
    def pad(x: Any, widths: Any, constant_values: float = 0.0) -> Any:
        return x._apply(Pad(widths, constant_values), x)

    @staticmethod
    def run(op: Any, *arrays: Any) -> Any:
        return arrays[0]._apply(op, *arrays)

    @staticmethod
    def scatter_add(x: Any, index: Any, axis: int, shape: Shape) -> Any:
        return x._apply(ScatterAdd(axis, getattr(index, "array", index), shape), x)

    @staticmethod
    def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
        parts = [a.unsqueeze(axis) for a in arrays]
        return parts[0]._apply(Concatenate(axis), *parts)

    @staticmethod
    def take_along_axis(x: Any, index: Any, axis: int) -> Any:
        return x._apply(Gather(axis, getattr(index, "array", index)), x)

    @staticmethod
    def where(condition: Any, a: Any, b: Any) -> Any:
        return condition._apply(Where(), condition, *condition._promoted(a, b))

    @staticmethod
    def zeros_like(x: Any) -> Any:
        return x._wrap(backend_of(x.array).zeros_like(x.array))


tensors = TensorNamespace()
