"""New tensors: from data, filled, and random."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from minigrad.backends import backend_of, capture, for_device
from minigrad.dtypes import as_dtype, get_default_dtype, int64
from minigrad.errors import DtypeError, RangeError, ShapeError
from minigrad.generator import Generator, rng_of
from minigrad.shapes import new_shape
from minigrad.tensor import Tensor, as_array, wrap


def _made(host: Any, device: Any, requires_grad: bool) -> Tensor:
    """A host array as a tensor where it is wanted."""
    backend, name = for_device("cpu" if device is None else device)
    tensor = wrap(backend.from_host(host, name))
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _filled(name: str, shape: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """``zeros``, ``ones`` or ``empty``, made where it is wanted."""
    if device is None or str(device) == "cpu":
        return _made(getattr(np, name)(shape, dtype), device, requires_grad)
    backend, full_name = for_device(device)
    with backend.on(full_name):
        tensor = wrap(getattr(backend, name)(shape, dtype=dtype))
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _floating(dtype: Any) -> Any:
    return get_default_dtype() if dtype is None else as_dtype(dtype)


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data``: numbers, nested lists, arrays, or another tensor.

    Python floats become the default dtype (float32), ints int64; an array keeps its dtype.

    Example:
        >>> tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    array = as_array(data, dtype)
    if getattr(data, "array", data) is array or getattr(array, "base", None) is not None:
        array = array.copy()
    if backend_of(array).name != "numpy" and device is None:
        device = backend_of(array).device_of(array)
    made = wrap(capture.given(array))
    if device is not None:
        made = made.to(device=device)
    return made.requires_grad_() if requires_grad else made


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, without a copy where dtype and device allow."""
    made = data if isinstance(data, Tensor) else wrap(as_array(data))
    return made.to(device=device, dtype=dtype)


asarray = as_tensor


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor that shares the memory of a NumPy array: a change in one shows in the other."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy expects a numpy.ndarray, got {type(ndarray).__name__}.")
    as_dtype(ndarray.dtype)
    return wrap(np.asarray(ndarray))


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of anything with ``__dlpack__``, such as a PyTorch tensor."""
    return wrap(np.from_dlpack(ext_tensor))


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros."""
    return _filled("zeros", new_shape(size), _floating(dtype), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones."""
    return _filled("ones", new_shape(size), _floating(dtype), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Memory whose values are not set."""
    return _filled("empty", new_shape(size), _floating(dtype), device, requires_grad)


def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """One value everywhere; the dtype follows the value (int64 for an int)."""
    if dtype is None:
        dtype = as_array(fill_value).dtype
    fill = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return _made(np.full(new_shape((size,)), fill, as_dtype(dtype)), device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal, zeros elsewhere."""
    new_shape((n, n if m is None else m))
    return _made(np.eye(n, m, dtype=_floating(dtype)), device, requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to, not including, ``end``; ``arange(n)`` counts from 0."""
    if end is None:
        start, end = 0, start
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, end, step))
        dtype = int64 if whole else get_default_dtype()
    dtype = as_dtype(dtype)
    if dtype.kind != "f":
        start, end, step = int(start), int(end), int(step)
    if step == 0:
        raise RangeError("arange needs a step other than 0, got 0.")
    if (end - start) * step < 0:
        raise ValueError(
            f"arange from {start} to {end} needs a step of the other sign, got {step}."
        )
    n = ceil((end - start) / step)
    values = start + step * np.arange(n, dtype=np.float64 if dtype.kind == "f" else np.int64)
    return _made(values.astype(dtype), device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` values from ``start`` to ``end``, both included, evenly spaced."""
    return _made(np.linspace(start, end, steps).astype(_floating(dtype)), device, requires_grad)


def _like(x: Tensor, dtype: Any, device: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "dtype": x.dtype if dtype is None else dtype,
        "device": x.device if device is None else device,
        **options,
    }


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """Zeros in the shape, dtype and device of ``input``."""
    return zeros(input.shape, **_like(input, dtype, device, options))


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """Ones in the shape, dtype and device of ``input``."""
    return ones(input.shape, **_like(input, dtype, device, options))


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """Unset memory in the shape, dtype and device of ``input``."""
    return empty(input.shape, **_like(input, dtype, device, options))


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, **options: Any
) -> Tensor:
    """One value in the shape, dtype and device of ``input``."""
    return full(input.shape, fill_value, **_like(input, dtype, device, options))


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """Draws from [0, 1) in the shape, dtype and device of ``input``."""
    return rand(input.shape, **_like(input, dtype, device, options))


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """Standard normal draws in the shape, dtype and device of ``input``."""
    return randn(input.shape, **_like(input, dtype, device, options))


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Whole numbers from [low, high) in the shape, dtype and device of ``input``."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.shape, **_like(input, dtype, device, {}))


def _drawn(values: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    return _made(np.asarray(values, dtype=dtype), device, requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draws from [0, 1), all values alike."""
    shape, dtype = new_shape(size), _floating(dtype)
    drawn = rng_of(generator).random(shape, np.float32 if dtype.itemsize <= 4 else np.float64)
    if dtype.itemsize == 2:
        drawn = np.floor(drawn * 2048) / 2048  # 11 bits, or rounding to float16 would reach 1
    return _drawn(drawn, dtype, device, requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Draws from the normal distribution with mean 0 and variance 1."""
    shape, dtype = new_shape(size), _floating(dtype)
    kind = np.float32 if dtype.itemsize <= 4 else np.float64
    return _drawn(rng_of(generator).standard_normal(shape, kind), dtype, device, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = int64,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Whole numbers from [low, high); ``randint(high, size)`` draws from [0, high)."""
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise TypeError("randint needs a size, as in randint(10, (3,)).")
    if high <= low:
        raise ValueError(f"randint needs low < high, got {low} and {high}.")
    drawn = rng_of(generator).integers(low, high, new_shape((size,)))
    return _drawn(drawn, as_dtype(dtype), device, requires_grad)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = int64, device: Any = None
) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    return _drawn(rng_of(generator).permutation(n), as_dtype(dtype), device, False)


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability that ``input`` (or ``p``) names, else 0."""
    if p is None:
        host = backend_of(input.array).to_host(input.array)
        if host.size and not (host.min() >= 0 and host.max() <= 1):
            raise ValueError("bernoulli needs probabilities between 0 and 1.")
        threshold: Any = host
    else:
        threshold = p
    drawn = rng_of(generator).random(input.shape) < threshold
    return _drawn(drawn, input.dtype, input.device, False)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
) -> Tensor:
    """Draws from normal distributions; mean and std are numbers (with a size) or tensors."""
    parts = [v.detach().array if isinstance(v, Tensor) else v for v in (mean, std)]
    shape = (
        np.broadcast_shapes(*(np.shape(v) for v in parts)) if size is None else new_shape((size,))
    )
    if size is None and not any(isinstance(v, Tensor) for v in (mean, std)):
        raise ShapeError("normal of two numbers needs a size, as in normal(0.0, 1.0, (3,)).")
    if np.any(np.asarray(parts[1]) < 0):
        raise ValueError("normal needs std >= 0.")
    drawn = rng_of(generator).standard_normal(shape) * parts[1] + parts[0]
    return _drawn(drawn, _floating(dtype), None, False)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """``num_samples`` places a row, each drawn with a probability in proportion to its weight."""
    host = backend_of(input.array).to_host(input.array).astype(np.float64)
    if host.ndim not in (1, 2) or (host.size and (host.min() < 0 or (host.sum(-1) <= 0).any())):
        raise DtypeError("multinomial needs rows of weights, none negative, not all zero.")
    rows = np.atleast_2d(host)
    rng = rng_of(generator)
    drawn = np.stack(
        [rng.choice(len(r), num_samples, replace=replacement, p=r / r.sum()) for r in rows]
    )
    return _made(drawn.reshape(*host.shape[:-1], num_samples), input.device, False)


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = int64, device: Any = None
) -> Tensor:
    """(2, n): the rows and columns of a matrix's lower triangle."""
    return _made(_triangle(np.tril_indices, row, col, offset, dtype), device, False)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = int64, device: Any = None
) -> Tensor:
    """(2, n): the rows and columns of a matrix's upper triangle."""
    return _made(_triangle(np.triu_indices, row, col, offset, dtype), device, False)


def _triangle(function: Any, row: int, col: int, offset: int, dtype: Any) -> Any:
    if row < 0 or col < 0:
        raise ShapeError(f"a matrix needs sizes >= 0, got {row} rows and {col} columns.")
    return np.stack(function(row, offset, col)).astype(as_dtype(dtype))
