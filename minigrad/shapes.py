"""Pure shape arithmetic: no arrays, only tuples of ints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from minigrad.errors import ShapeError

Shape = tuple[int, ...]

__all__ = [
    "Shape",
    "as_axes",
    "as_axis",
    "as_pair",
    "as_shape",
    "as_sizes",
    "broadcast_shapes",
    "conv_size",
    "kept_shape",
    "new_shape",
    "prod",
    "reduced_axes",
    "same_padding",
]


def as_shape(args: Sequence[Any]) -> Shape:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same shape."""
    if len(args) == 1 and isinstance(args[0], Iterable):
        args = tuple(args[0])
    return tuple(int(n) for n in args)


def new_shape(args: Sequence[Any]) -> Shape:
    """``as_shape`` for new tensors, in which no size is negative."""
    shape = as_shape(args)
    if any(n < 0 for n in shape):
        raise ShapeError(f"a tensor's sizes must be >= 0, got {shape}.")
    return shape


def as_pair(value: int | Sequence[int], what: str = "value") -> tuple[int, int]:
    """``3`` means ``(3, 3)``: the two spatial axes of an image."""
    if type(value) is int:
        return value, value
    rows, columns = as_sizes(value, 2, what)
    return rows, columns


def as_sizes(value: int | Sequence[int], count: int, what: str = "value") -> Shape:
    """One int for each of ``count`` axes: ``3`` and ``(3,)`` mean 3 for all of them."""
    if type(value) is int:
        return (value,) * count
    if type(value) is tuple and len(value) == count and set(map(type, value)) == {int}:
        return value
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(given) not in (1, count):
        wanted = {1: "an int", 2: "an int or a pair of ints"}.get(count, f"an int or {count} ints")
        raise ShapeError(f"{what} expects {wanted}, got {given}.")
    if not all(hasattr(n, "__index__") for n in given):
        raise TypeError(f"{what} expects ints, got {value!r}; convert it with int().")
    return tuple(int(n) for n in given) * (count // len(given))


def as_axis(axis: int, ndim: int) -> int:
    """Axis counted from the front; a 0-d tensor has the axes -1 and 0, as in PyTorch."""
    limit = max(ndim, 1)
    if not -limit <= axis < limit:
        raise IndexError(
            f"dimension out of range: expected one of [{-limit}, {limit - 1}], got {axis}."
        )
    return axis % limit


def as_axes(axis: int | Sequence[int] | None, ndim: int) -> Shape:
    """Axes counted from the front, in the order given; ``None`` means all."""
    if axis is None:
        return tuple(range(ndim))
    given = [axis] if isinstance(axis, int) else list(axis)
    axes = tuple(as_axis(int(a), ndim) for a in given)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"an axis is named twice in {tuple(given)}.")
    return axes if ndim else ()


def kept_shape(shape: Shape, axes: Shape) -> Shape:
    """``shape`` after a reduction over ``axes`` that keeps them as size 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape of several, aligned at the right; an axis of size 1 stretches.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    ndim = max((len(s) for s in shapes), default=0)
    out = []
    for i in range(-ndim, 0):
        sizes = {s[i] for s in shapes if len(s) >= -i} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"shapes {' and '.join(map(str, shapes))} do not broadcast: axis {i} has sizes "
                f"{' and '.join(map(str, sorted(sizes)))}; it must be equal, or 1."
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def reduced_axes(from_shape: Shape, to_shape: Shape) -> Shape:
    """The axes along which broadcasting stretched ``to_shape`` into ``from_shape``.

    The gradient of a stretched operand is the sum over exactly these axes.
    """
    extra = len(from_shape) - len(to_shape)
    return tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(to_shape) if n == 1 and from_shape[extra + i] != 1
    )


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Places a window fits: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.

    Source: Dumoulin and Visin (2016), arXiv:1603.07285, relationship 15.
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def same_padding(kernel: int, dilation: int) -> tuple[int, int]:
    """Padding before and after an axis that keeps its size at stride 1; the odd one goes after."""
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2
