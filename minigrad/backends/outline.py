"""Outlines: arrays of which only shape and dtype are known, for looking at what a rule does.

An op run on outlines says which ops it is made of and of which shapes, without values: an outline
of a billion numbers takes the memory of one, and computing with it takes microseconds. The number
it holds means nothing. ``origins`` says which of the given arrays it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.reference import Reference
from minigrad.shapes import as_axes, kept_shape, prod

Shape = tuple[int, ...]


class Outline(np.ndarray):
    """An array without values. It works by NumPy's protocols, as captured arrays do."""

    origins: frozenset[str]

    def __array_finalize__(self, other: Any) -> None:
        self.origins = getattr(other, "origins", frozenset())

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        if out is not None:
            return out[0]
        if method == "reduce":
            return _reduced(inputs[0], *inputs[1:], **kwargs)
        if method == "accumulate":
            return outline(_shape(inputs[0]), inputs[0].dtype, inputs)
        if method != "__call__":
            raise NotImplementedError(f"{ufunc.__name__}.{method} of outlines")
        if ufunc is np.matmul:
            return _matmul(*inputs)
        shape = np.broadcast_shapes(*map(_shape, inputs))
        return outline(shape, ufunc(*map(_one, inputs)).dtype, inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = RULES.get(function.__name__)
        if rule is None:
            raise NotImplementedError(f"{function.__name__} of outlines")
        return rule(*args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(p, np.ndarray | list) for p in parts):
            places = tuple(_places(p) if isinstance(p, np.ndarray) else p for p in parts)
            # What comes out is as large as the index says, not as the array.
            found = np.broadcast_to(np.zeros((), bool), self.shape)[places]
        else:
            found = self.view(np.ndarray)[index]
        return outline(_shape(found), self.dtype, (self, *parts))

    def __setitem__(self, index: Any, value: Any) -> None:
        """Nothing: there are no values."""

    def __bool__(self) -> bool:
        return False

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, **kwargs: Any) -> Any:
        return _reduced(self, axis, dtype, **kwargs)

    prod = mean = max = min = std = var = sum  # type: ignore[assignment]

    def any(  # type: ignore[override]
        self, axis: Any = None, out: Any = None, **kwargs: Any
    ) -> Any:
        return _reduced(self, axis, np.bool_, **kwargs)

    all = any  # type: ignore[assignment]

    def argmax(self, axis: Any = None, out: Any = None, **kwargs: Any) -> Any:
        return _reduced(self, axis, np.int64, **kwargs)

    argmin = argmax

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return outline(self.shape, dtype, (self,))

    def copy(self, order: Any = "C") -> Any:
        return outline(self.shape, self.dtype, (self,))

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return self.copy()

    cumprod = cumsum

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        wanted = (wanted,) if isinstance(wanted, int | np.integer) else tuple(wanted)
        rest = prod(n for n in wanted if n >= 0)
        found = tuple(n if n >= 0 else self.size // max(rest, 1) for n in wanted)
        if prod(found) != self.size:
            raise ValueError(f"cannot reshape {self.shape} into {wanted}")
        return outline(found, self.dtype, (self,))

    def swapaxes(self, a: Any, b: Any) -> Any:
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        return self.transpose(order)

    def transpose(self, *axes: Any) -> Any:
        order: Any = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        order = order or range(self.ndim)[::-1]
        return outline(tuple(self.shape[a] for a in order), self.dtype, (self,))


def outline(shape: Any, dtype: Any, made_of: Sequence[Any] = (), name: str = "") -> Outline:
    """An outline; ``made_of`` what it is computed from, ``name`` what it is called as an origin."""
    found = np.broadcast_to(np.ones((), dtype), tuple(shape)).view(Outline)
    origins = frozenset().union(*(getattr(a, "origins", ()) for a in made_of))
    found.origins = origins | {name} if name else origins
    return found


def _shape(x: Any) -> Shape:
    return getattr(x, "shape", ())


def _one(x: Any) -> Any:
    """One number of the dtype of ``x``; Python's numbers as they are, for their dtype is weak."""
    return np.ones((), x.dtype)[...] if isinstance(x, np.ndarray) else x


def _places(index: Any) -> Any:
    """An index of the same shape that fits any array."""
    return np.zeros(index.shape, np.intp) if index.dtype.kind != "b" else np.asarray(index)


def _reduced(x: Any, axis: Any = 0, dtype: Any = None, *_: Any, **kwargs: Any) -> Any:
    axes = as_axes(axis, x.ndim)
    kept = kept_shape(x.shape, axes)
    if not kwargs.get("keepdims"):
        kept = tuple(n for i, n in enumerate(kept) if i not in axes)
    return outline(kept, dtype or kwargs.get("dtype") or x.dtype, (x,))


def _matmul(a: Any, b: Any) -> Any:
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul of {a.shape} and {b.shape}")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return outline((*batch, a.shape[-2], b.shape[-1]), np.result_type(a.dtype, b.dtype), (a, b))


def _einsum(equation: str, *arrays: Any, **_: Any) -> Any:
    terms, result = equation.replace("...", "").split("->")
    sizes: dict[str, int] = {}
    for letters, x in zip(terms.split(","), arrays, strict=True):
        sizes |= zip(letters, x.shape[x.ndim - len(letters) :], strict=True)
    front = arrays[0].shape[: arrays[0].ndim - len(terms)] if "..." in equation else ()
    shape = (*front, *(sizes[c] for c in result))
    return outline(shape, np.result_type(*(a.dtype for a in arrays)), arrays)


def _concatenate(arrays: Any, axis: int = 0, **_: Any) -> Any:
    shape = list(_shape(arrays[0]))
    shape[axis] = sum(_shape(a)[axis] for a in arrays)
    return outline(shape, np.result_type(*(a.dtype for a in arrays)), arrays)


def _stack(arrays: Any, axis: int = 0, **_: Any) -> Any:
    shape = list(_shape(arrays[0]))
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, len(arrays))
    return outline(shape, np.result_type(*(a.dtype for a in arrays)), arrays)


def _pad(x: Any, widths: Any, *_: Any, **__: Any) -> Any:
    return outline((n + sum(w) for n, w in zip(x.shape, widths, strict=True)), x.dtype, (x,))


def _where(condition: Any, a: Any, b: Any) -> Any:
    shape = np.broadcast_shapes(_shape(condition), _shape(a), _shape(b))
    return outline(shape, np.where(True, _one(a), _one(b)).dtype, (condition, a, b))


def _alike(x: Any, *args: Any, **_: Any) -> Any:
    return outline(x.shape, x.dtype, (x, *args))


#: The functions of NumPy that are no ufuncs, by name.
RULES: dict[str, Callable[..., Any]] = {
    "amax": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "amin": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "all": lambda x, axis=None, **k: x.all(axis, **k),
    "any": lambda x, axis=None, **k: x.any(axis, **k),
    "argmax": lambda x, axis=None, **k: x.argmax(axis, **k),
    "argmin": lambda x, axis=None, **k: x.argmin(axis, **k),
    "argsort": lambda x, axis=-1, **_: x.astype(np.int64),
    "broadcast_to": lambda x, shape, **_: outline(shape, x.dtype, (x,)),
    "clip": _alike,
    "concatenate": _concatenate,
    "copy": _alike,
    "cumprod": _alike,
    "cumsum": _alike,
    "einsum": _einsum,
    "flip": _alike,
    "max": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "mean": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "min": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "moveaxis": lambda x, a, b: _moved(x, a, b),
    "ones_like": _alike,
    "pad": _pad,
    "prod": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "reshape": lambda x, shape, **_: x.reshape(shape),
    "round": _alike,
    "sort": _alike,
    "stack": _stack,
    "sum": lambda x, axis=None, **k: _reduced(x, axis, **k),
    "swapaxes": lambda x, a, b: x.swapaxes(a, b),
    "take_along_axis": lambda x, index, axis: _taken(x, index, axis),
    "transpose": lambda x, axes=None: x.transpose(*([] if axes is None else [axes])),
    "tril": _alike,
    "triu": _alike,
    "where": _where,
    "zeros_like": _alike,
}


def _moved(x: Any, source: int, target: int) -> Any:
    order = [i for i in range(x.ndim) if i != source % x.ndim]
    order.insert(target % x.ndim, source % x.ndim)
    return x.transpose(order)


def _taken(x: Any, index: Any, axis: int) -> Any:
    shape = list(np.broadcast_shapes((*x.shape[:axis], 1, *x.shape[axis + 1 :]), index.shape))
    return outline(shape, x.dtype, (x, index))


class OutlineBackend(Reference):
    """The functions of NumPy over outlines; what has no NumPy name stands below."""

    name = "outline"
    array_type = Outline

    def __init__(self) -> None:
        super().__init__(np)

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """An outline as it is; anything else as its outline."""
        if isinstance(x, Outline) and dtype is None:
            return x
        x = np.asanyarray(x) if not isinstance(x, Outline) else x
        return outline(x.shape, dtype or x.dtype, (x,))

    ascontiguousarray = asarray

    def zeros(self, shape: Any, dtype: Any = None) -> Array:
        """As NumPy's."""
        return outline((shape,) if isinstance(shape, int) else shape, dtype or np.float64)

    ones = empty = zeros

    def index_add(self, x: Array, index: Any, shape: Shape) -> Array:
        return outline(shape, x.dtype, (x,))

    def scatter_add(self, x: Array, index: Array, axis: int, shape: Shape) -> Array:
        return outline(shape, x.dtype, (x, index))

    def erf(self, x: Array) -> Array:
        return outline(x.shape, x.dtype, (x,))

    erfc = erf

    def device_of(self, x: Array) -> str:
        return "cpu"

    def to_host(self, x: Array) -> Any:
        return x

    def from_host(self, x: Any, device: str) -> Array:
        return self.asarray(x)
