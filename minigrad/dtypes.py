"""Dtypes are NumPy's, under PyTorch's names; the promotion rules are PyTorch's.

Differs: NumPy promotes int64 + float32 to float64; PyTorch, and so minigrad, to float32: only the
*category* (bool < integer < floating) and then the width among operands of that category decide.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.errors import DtypeError

Dtype = np.dtype[Any]

float16 = half = np.dtype(np.float16)
float32 = float = np.dtype(np.float32)
float64 = double = np.dtype(np.float64)
uint8 = np.dtype(np.uint8)
int8 = np.dtype(np.int8)
int16 = short = np.dtype(np.int16)
int32 = int = np.dtype(np.int32)
int64 = long = np.dtype(np.int64)
bool = np.dtype(np.bool_)

_SUPPORTED = (float16, float32, float64, uint8, int8, int16, int32, int64, bool)
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}
_default = [float32]


def get_default_dtype() -> Dtype:
    """The dtype of new floating tensors, and of float results of integer operands."""
    return _default[0]


def set_default_dtype(dtype: Any) -> None:
    """Make ``float32`` (so at first), ``float64`` or ``float16`` the dtype of new tensors."""
    dtype = as_dtype(dtype)
    if dtype.kind != "f":
        raise DtypeError(
            f"the default dtype must be floating, got {dtype}; use float32 or float64."
        )
    _default[0] = dtype


def as_dtype(dtype: Any) -> Dtype:
    """A dtype from a dtype, a name such as ``"float32"``, or a Python type.

    Python's ``float`` means the default dtype, as it does for a literal.
    """
    if dtype is builtin_float:
        return get_default_dtype()
    try:
        found: Dtype = np.dtype(dtype)
    except TypeError:
        raise DtypeError(f"{dtype!r} is not a dtype; use minigrad.float32 or its name.") from None
    if found not in _SUPPORTED:
        raise DtypeError(
            f"dtype {found} is not supported; use one of {', '.join(map(str, _SUPPORTED))}."
        )
    return found


builtin_float = builtins.float
builtin_bool = builtins.bool


def is_floating(dtype: Any) -> Any:
    """Whether values of ``dtype`` can carry a gradient."""
    return dtype.kind == "f"


def extremes(dtype: Any) -> tuple[Any, Any]:
    """The least and the largest finite value of a floating dtype."""
    info = np.finfo(dtype)
    return builtin_float(info.min), builtin_float(info.max)


def category(value: Any) -> Any:
    """0 for bool, 1 for integers, 2 for floating; of a dtype or of a Python number."""
    kind = getattr(value, "kind", None)
    if kind is not None:
        return _CATEGORY[kind]
    return 0 if isinstance(value, builtin_bool) else 2 if isinstance(value, builtin_float) else 1


def promote(operands: Sequence[Any]) -> Dtype:
    """The dtype of the result of ``operands`` (arrays, or Python numbers), as PyTorch has it.

    Operands fall into three ranks: arrays with axes, 0-d arrays, Python numbers. A lower rank has a
    say only where its category (bool < integer < floating) is higher.

    >>> promote([np.zeros(3, np.float32), np.float64(1).reshape(())])
    dtype('float32')
    """
    result: Dtype | None = None
    ranks: tuple[list[Dtype], list[Dtype], list[Dtype]] = ([], [], [])
    for x in operands:
        dtype = getattr(x, "dtype", None)
        if dtype is None:
            ranks[2].append((bool, int64, get_default_dtype())[category(x)])
        else:
            ranks[0 if x.ndim else 1].append(dtype)
    for rank in ranks:
        if rank:
            top = max(category(d) for d in rank)
            candidate = np.result_type(*[d for d in rank if category(d) == top])
            if result is None or top > category(result):
                result = candidate
    assert result is not None
    return result
