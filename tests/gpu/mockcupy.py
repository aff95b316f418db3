"""A strict stand-in for CuPy, over NumPy: what fails with CuPy fails here, with no GPU.

``install()`` puts it where ``import cupy`` finds it. It knows the functions, methods, arguments and
ufunc types of CuPy 14.2 from cupy_names.json (which cupy_names.py writes where CuPy is installed)
and has no others. What it does as CuPy does, unlike NumPy:

* arrays never become NumPy's unnoticed: ``numpy.asarray``, a NumPy array as operand, index or
  argument, a list as operand: TypeError;
* reductions give arrays without axes, never numbers; ``flags`` say nothing of writing, and a
  broadcast array can be written to;
* integers out of range among an array of indices wrap around; which value stays where a place is
  named twice is undefined (here none of them: NaN, or the least integer);
* ``empty`` holds NaN, or the least integer;
* a float too large for an integer becomes the largest;
* arrays live on one of two devices, and only the current one computes.

``counts`` says how often the host waited for the device (``waits``) and sent it values
(``uploads``).

A stream captures calls and a graph runs them again, on the same memory; what was captured has not
been computed, so it is NaN before. As with CuPy 14 and CUDA a capture refuses what waits, which
also spoils it (``end_capture`` raises then), pageable uploads, CuPy's own products and kernels on
other streams; in thread-local mode a pool cannot grow. A graph keeps no array alive: memory of an
array that is gone is NaN (``strict_memory``), and a ``MemoryPool`` gives it to the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.backends import is_pinned, quiet
from minigrad.backends import numpy as host_backend

NAMES = json.loads((Path(__file__).parent / "cupy_names.json").read_text())
DEVICES = 1  #: how many there are; ``devices(2)`` for a while
TYPES_OF_SCATTER_ADD = "ilefdILQ".replace("l", "")  # int32, floats, uint32, uint64; not int64

#: How often the host waited for the device, and sent it values.
counts: Counter[str] = Counter()


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime; ``status`` is its number."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"cudaError {status}")
        self.status = status


# ---- arrays -------------------------------------------------------------------------------------


class Flags:
    """CuPy's flags: two orders, and whether the memory is the array's own."""

    def __init__(self, x: ndarray) -> None:
        self.c_contiguous = x._host.flags.c_contiguous
        self.f_contiguous = x._host.flags.f_contiguous
        self.owndata = x.base is None
        self.forc = self.c_contiguous or self.f_contiguous
        self.fnc = self.f_contiguous and not self.c_contiguous


class ndarray:  # noqa: N801 - CuPy's name
    """An array in the memory of a device."""

    __slots__ = ("__weakref__", "_host", "_id", "base")
    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __new__(cls, shape: Any, dtype: Any = float, memptr: Any = None, **_: Any) -> Any:
        if memptr is not None:
            raise NotImplementedError("memory from elsewhere")
        return empty(shape, dtype)

    # What the host must not get unnoticed.

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return getattr(module, ufunc.__name__)(*inputs, **kwargs)  # a NumPy number and an array

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of an array of CuPy")

    def _read(self, how: str) -> Any:
        _wait(how)
        return self._host

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> Any:
        """The values as a NumPy array: waits."""
        host = self._read("get").copy(order)
        if out is not None:
            out[...] = host
            return out
        return host

    def set(self, arr: Any, stream: Any = None) -> None:
        """The values of a NumPy array, into this memory."""
        if not isinstance(arr, np.ndarray):
            raise TypeError(f"Only numpy.ndarray can be set to cupy.ndarray, got {type(arr)}")
        if arr.shape != self.shape or arr.dtype != self.dtype:
            raise ValueError("Shape or dtype mismatch")
        if stream is None or not is_pinned(arr):
            _upload("set", arr)
        counts["copies from pinned memory"] += 1
        host = self._host

        def copy() -> None:
            host[...] = arr

        _run(copy, writes=True)

    def item(self) -> Any:
        """The one value: waits."""
        return self._read("item").item()

    def tolist(self) -> Any:
        """Nested lists: waits."""
        return self._read("tolist").tolist()

    def tobytes(self, order: str = "C") -> bytes:
        """The memory: waits."""
        return self._read("tobytes").tobytes(order)

    def __float__(self) -> float:
        return float(self._read("float"))

    def __int__(self) -> int:
        return int(self._read("int"))

    def __bool__(self) -> bool:
        return bool(self._read("bool"))

    def __complex__(self) -> complex:
        return complex(self._read("complex"))

    def __repr__(self) -> str:
        return repr(self._read("repr"))

    def __format__(self, spec: str) -> str:
        return format(self._read("format"), spec)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def __reduce__(self) -> Any:
        return array, (self.get(),)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        x = self._host
        data = (x.__array_interface__["data"][0], False)
        return {"shape": x.shape, "typestr": x.dtype.str, "data": data, "version": 3}

    # What it is.

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(Flags)
    device = property(lambda self: Device(self._id))
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815

    @property
    def data(self) -> Any:
        """A pointer; ``ptr`` is an address, here of the host."""
        return types.SimpleNamespace(ptr=self._host.__array_interface__["data"][0])

    # Elements.

    def __getitem__(self, index: Any) -> ndarray:
        host, index = self._host, _index(self, index)
        if _is_mask(index):
            _wait("mask as index")
        return _made(lambda: host[_wrapped(host, index)], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        host, index = self._host, _index(self, index)
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        elif isinstance(value, (list, tuple)):
            raise ValueError(f"{type(value)} cannot be used for fill")
        if _is_mask(index) and isinstance(value, ndarray) and value.ndim:
            _wait("mask as index, given an array")
        given = _operand(value, self)

        def store() -> None:
            places = _wrapped(host, index)
            host[places] = _converted(given, host.dtype)
            several = getattr(given, "ndim", 0)  # one value: its order does not matter
            if several and any(isinstance(p, np.ndarray) and p.dtype.kind != "b" for p in places):
                hits = np.zeros(host.shape, np.int64)
                np.add.at(hits, places, 1)
                host[hits > 1] = _poison(host.dtype)

        _run(store, writes=True)

    def fill(self, value: Any) -> None:
        """One value everywhere."""
        self[...] = value

    # Memory.

    def copy(self, order: str = "C") -> ndarray:
        """The same values in other memory."""
        host = self._host
        return _made(lambda: host.copy(order), self)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        """In another dtype."""
        host, dtype = self._host, np.dtype(dtype)
        if not copy and dtype == host.dtype:
            return self
        return _made(lambda: _converted(host, dtype).astype(dtype, order=order), self)

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        """The same memory, read as another dtype."""
        if isinstance(dtype, builtins_type):
            dtype = np.dtype(dtype)
        return _view(self._host.view() if dtype is None else self._host.view(dtype), self)

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        """The same elements in another shape."""
        host = self._host
        shape = shape[0] if len(shape) == 1 else shape
        return _made(lambda: host.reshape(shape, order=order), self)

    def transpose(self, *axes: Any) -> ndarray:
        """Axes in another order."""
        axes = axes[0] if len(axes) == 1 else axes
        return _view(self._host.transpose(*([axes] if axes else [])), self)

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        """Two axes exchanged."""
        return _view(self._host.swapaxes(axis1, axis2), self)

    def nonzero(self) -> tuple[ndarray, ...]:
        """The places that are not 0: waits."""
        host = self._read("nonzero")
        return tuple(_made(lambda p=p: p, self) for p in host.nonzero())

    def __pow__(self, other: Any) -> Any:
        return module.power(self, other)


builtins_type = type


def _poison(dtype: Any) -> Any:
    return np.nan if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else True


def _converted(x: Any, dtype: Any) -> Any:
    """``x`` as ``dtype``; a float outside an integer's range becomes its nearest, NaN 0."""
    if dtype.kind in "iu" and getattr(x, "dtype", np.dtype(bool)).kind == "f":
        info = np.iinfo(dtype)
        with quiet():
            inside = np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf)
            low, high = inside <= info.min, inside >= float(info.max)
            return np.where(
                low,
                info.min,
                np.where(high, info.max, np.where(low | high, 0, inside).astype(dtype)),
            ).astype(dtype)
    if isinstance(x, np.ndarray | np.generic) and x.dtype != dtype:
        with quiet():
            return x.astype(dtype)
    return x


def _check_place(*arrays: ndarray) -> None:
    for x in arrays:
        if x._id != _current():
            raise RuntimeError(
                f"an array of device {x._id} is computed on while device {_current()} is current"
            )


def _operand(x: Any, *like: ndarray) -> Any:
    """What a kernel is given: arrays as NumPy's, numbers as they are."""
    if isinstance(x, ndarray):
        _check_place(x)
        return x._host
    if isinstance(x, np.ndarray) or not isinstance(x, int | float | complex | np.generic):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def _view(host: Any, of: ndarray) -> ndarray:
    x = object.__new__(ndarray)
    x._host, x._id = host, of._id
    x.base = of if of.base is None else of.base
    return x


def _new(host: Any, device: int | None = None) -> ndarray:
    x = object.__new__(ndarray)
    x._host, x._id, x.base = (
        _placed(np.asarray(host)),
        _current() if device is None else device,
        None,
    )
    if type(x._host.base) is _Block:
        weakref.finalize(x, x._host.base.give_back)
    if MemoryHook.active:
        pool, size = _pools[x._id], -(-x._host.nbytes // 512) * 512
        pool.used += size
        weakref.finalize(x, pool.free, size)
        for hook in MemoryHook.active:
            hook.malloc_postprocess(device_id=x._id, size=x.nbytes, mem_size=size)
    return x


def _made(compute: Callable[[], Any], *given: ndarray) -> Any:
    """The array, or arrays, that a kernel makes; a view where the memory is that of one given."""
    _check_place(*given)
    found = _run(compute, given=given)
    if isinstance(found, tuple | list):
        return type(found)(_as_made(f, given) for f in found)
    return _as_made(found, given)


def _as_made(found: Any, given: tuple[ndarray, ...]) -> ndarray:
    if isinstance(found, np.ndarray):
        for x in given:
            if found is x._host:
                return x
            if found.base is not None and np.may_share_memory(found, x._host):
                return _view(found, x)
    if not isinstance(found, np.ndarray | np.generic):
        raise TypeError(f"a kernel gave {type(found).__name__}")
    return _new(found)


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_mask(index: Any) -> bool:
    return any(isinstance(p, np.ndarray) and p.dtype.kind == "b" for p in _parts(index))


def _index(x: ndarray, index: Any) -> Any:
    """An index, its arrays as the host's; arrays of NumPy, which would be sent, are refused."""
    _check_place(x)
    parts = []
    for part in _parts(index):
        if isinstance(part, ndarray):
            _check_place(part)
            parts.append(part._host)
        elif isinstance(part, np.ndarray | list | range):
            raise TypeError(f"an index of the host, {type(part).__name__}, would be sent")
        else:
            parts.append(part)
    return tuple(parts)


def _wrapped(host: Any, index: Any) -> Any:
    """The integers of index arrays, wrapped around."""
    if not any(isinstance(p, np.ndarray) and p.dtype.kind != "b" for p in index):
        return index
    out, axis = [], 0
    taken = sum(p.ndim if isinstance(p, np.ndarray) and p.dtype.kind == "b" else 1
                for p in index if p is not None and p is not Ellipsis)  # fmt: skip
    for p in index:
        if p is Ellipsis:
            axis += host.ndim - taken
        elif isinstance(p, np.ndarray) and p.dtype.kind == "b":
            axis += p.ndim
        elif p is not None:
            if isinstance(p, np.ndarray) and host.shape[axis]:
                p = p % host.shape[axis]
            axis += 1
        out.append(p)
    return tuple(out)


# ---- operators and methods ----------------------------------------------------------------------

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
    "pow": "power",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}  # fmt: skip


def _add_operators() -> None:
    def binary(name: str, swap: bool = False, inplace: bool = False) -> Any:
        def operator(self: Any, other: Any) -> Any:
            if getattr(other, "__array_priority__", 0) > 100 and not inplace:
                return NotImplemented
            function = getattr(module, name)
            a, b = (other, self) if swap else (self, other)
            return function(a, b, out=self) if inplace else function(a, b)

        return operator

    for short, name in _OPERATORS.items():
        setattr(ndarray, f"__{short}__", binary(name))
        setattr(ndarray, f"__r{short}__", binary(name, swap=True))
        if short != "matmul":
            setattr(ndarray, f"__i{short}__", binary(name, inplace=True))
    for short, name in _COMPARISONS.items():
        setattr(ndarray, f"__{short}__", binary(name))
    for short, name in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", lambda self, name=name: getattr(module, name)(self))


def _add_methods() -> None:
    """CuPy's methods, with CuPy's arguments, by those of NumPy."""
    for name, params in NAMES["methods"].items():
        if name in vars(ndarray) or not hasattr(np.ndarray, name):
            continue

        def method(
            self: Any, *args: Any, _name: str = name, _params: Any = params, **kw: Any
        ) -> Any:
            _check_arguments(_name, _params, args, kw)
            out = kw.pop("out", None)
            host = self._host
            args, kw = _operands((args, kw), self)
            if out is not None:
                kw["out"] = _operand(out)
                _run(lambda: getattr(host, _name)(*args, **kw), writes=True)
                return out
            return _made(lambda: getattr(host, _name)(*args, **kw), self)

        setattr(ndarray, name, method)


def _check_arguments(name: str, params: Any, args: Any, kwargs: Any) -> None:
    unknown = set(kwargs) - set(params or ())
    if unknown:
        raise TypeError(f"{name}() got an unexpected keyword argument {unknown.pop()!r}")


def _operands(x: Any, *like: ndarray) -> Any:
    """Arguments with arrays as the host's; NumPy's arrays are refused."""
    if isinstance(x, ndarray):
        return _operand(x)
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (tuple, list):
        return type(x)(_operands(e) for e in x)
    if type(x) is dict:
        return {k: _operands(v) for k, v in x.items()}
    return x


def _given(x: Any) -> list[ndarray]:
    """The arrays among arguments."""
    if isinstance(x, ndarray):
        return [x]
    if type(x) in (tuple, list):
        return [a for e in x for a in _given(e)]
    return [a for v in x.values() for a in _given(v)] if type(x) is dict else []


class ufunc:  # noqa: N801 - CuPy's name
    """An elementwise function, for the types of CuPy's."""

    def __init__(self, name: str, types: list[str]) -> None:
        self.__name__, self.types = name, types
        self.numpy = getattr(np, name)
        self.known: set[str] = set()  # types that were looked up

    def __call__(
        self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind"
    ) -> Any:
        if not all(isinstance(a, ndarray | int | float | complex | np.generic) for a in args):
            bad = next(a for a in args if not isinstance(a, ndarray | int | float | np.generic))
            raise TypeError(f"Unsupported type {type(bad)}")
        arrays = [a for a in args if isinstance(a, ndarray)]
        _check_place(*arrays)
        hosts = [a._host if isinstance(a, ndarray) else a for a in args]
        options = {} if dtype is None else {"dtype": dtype}

        def compute() -> Any:
            with quiet():
                return self.numpy(*hosts, **options)

        if out is None:
            made = _made(lambda: np.array(compute()), *arrays)
            self._check_types(args)
            return made
        if not isinstance(out, ndarray):
            raise TypeError("return arrays must be of ArrayType")
        _check_place(out)
        target = out._host

        def store() -> None:
            with quiet():
                self.numpy(*hosts, out=target, casting=casting, **options)

        _run(store, writes=True)
        return out

    def _check_types(self, args: Any) -> None:
        """Raise where CuPy has the function for none of the types."""
        chars = "".join(a.dtype.char for a in args if isinstance(a, ndarray | np.generic))
        if chars in self.known:
            return
        for kind in self.types:
            ins = kind.split("->")[0]
            if all(any(np.can_cast(c, i) for i in ins) for c in chars):
                self.known.add(chars)
                return
        raise TypeError(f"Wrong type ({chars}) of arguments for cupy_{self.__name__}")

    def at(self, a: Any, indices: Any, b: Any) -> None:
        """a[indices] += b, repeated places adding up: atomic additions."""
        if self.__name__ != "add":
            raise NotImplementedError(f"`{self.__name__}.at` is not implemented yet.")
        if a.dtype.char not in TYPES_OF_SCATTER_ADD:
            raise TypeError(f"cupy.add.at does not support {a.dtype}")
        host, index, given = a._host, _index(a, indices), _operand(b, a)
        if _is_mask(index):
            _wait("mask as index")
        _run(lambda: np.add.at(host, _wrapped(host, index), given), writes=True)


# ---- functions ----------------------------------------------------------------------------------

#: Functions that look at values, and so wait.
WAITING = (
    "unique",
    "nonzero",
    "flatnonzero",
    "argwhere",
    "bincount",
    "extract",
    "compress",
    "isin",
)


#: Functions that CuPy computes by cuBLAS, which it refuses while a stream captures.
OF_CUBLAS = ("matmul", "dot", "einsum", "inner", "outer", "tensordot", "vdot")


def _refuse_cublas() -> None:
    if stream_of_thread().capturing is not None:
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )


def _function(name: str, params: Any) -> Any:
    numpy = getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        if params and not {"args", "kwargs", "operands"} & set(params):
            _check_arguments(name, params, args, kwargs)
        arrays = _given((args, kwargs))
        out = kwargs.pop("out", None)
        hosts, options = _operands((args, kwargs))
        if name in WAITING or (name == "repeat" and len(arrays) > 1):
            _wait(name)
        if name in OF_CUBLAS and (name != "einsum" or len(arrays) > 1):
            _refuse_cublas()
        if name == "where" and len(args) == 1:
            _wait("where of one argument")

        def compute() -> Any:
            with quiet():
                return numpy(*hosts, **options)

        if out is not None:
            options["out"] = _operand(out)
            _run(compute, writes=True)
            return out
        return _made(compute, *arrays)

    function.__name__ = name
    return function


def array(obj: Any, dtype: Any = None, copy: Any = True, **options: Any) -> ndarray:
    """New memory with the values of ``obj``."""
    if isinstance(obj, ndarray):
        if obj._id != _current():  # a copy between devices
            host = obj._host
            return _made(lambda: host.astype(host.dtype if dtype is None else dtype))
        return obj.astype(obj.dtype if dtype is None else dtype, copy=bool(copy))
    found = _given(obj) if isinstance(obj, list | tuple) else []
    if found:
        return module.stack([array(o) for o in obj]).astype(dtype or found[0].dtype)
    host = np.array(obj, dtype=dtype)
    _upload("array", host)
    return _new(host)


def asarray(
    a: Any, dtype: Any = None, order: Any = None, copy: Any = None, blocking: bool = False
) -> ndarray:
    """``a``, or its values in the memory of the current device."""
    if isinstance(a, ndarray) and a._id == _current() and dtype in (None, a.dtype):
        return a
    return array(a, dtype, copy=copy or False)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """``a``, or a copy in the order of its axes."""
    a = asarray(a, dtype)
    if a.flags.c_contiguous:
        return a
    host = a._host
    return _made(lambda: np.ascontiguousarray(host), a)


def asnumpy(a: Any, stream: Any = None, order: str = "C", **options: Any) -> Any:
    """The values as a NumPy array."""
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Memory with no values to rely on."""
    dtype = np.dtype(dtype)
    return _new(np.full(shape, _poison(dtype), dtype, order))


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    """The values of one array into the memory of another."""
    if where is not None:
        raise NotImplementedError("copyto of a part")
    target, given = dst._host, _operand(src)
    _run(lambda: np.copyto(target, given, casting), writes=True)


def _filled(value: Any) -> Any:
    def fill(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        return _new_filled(shape, value, dtype)

    return fill


def _new_filled(shape: Any, value: Any, dtype: Any) -> ndarray:
    dtype = np.dtype(dtype)
    given = _operand(value) if isinstance(value, ndarray) else value
    x = _new(np.empty(shape, dtype))
    host = x._host

    def fill() -> None:
        host[...] = _converted(given, dtype)

    _run(fill, writes=True)
    return x


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """One value everywhere."""
    if isinstance(fill_value, np.ndarray) and fill_value.ndim:
        raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
    dtype = np.asarray(getattr(fill_value, "_host", fill_value)).dtype if dtype is None else dtype
    return _new_filled(shape, fill_value, dtype)


def _like(value: Any) -> Any:
    def like(
        a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
    ) -> ndarray:
        if not isinstance(a, ndarray):
            raise TypeError(f"Unsupported type {type(a)}")
        _check_place(a)
        dtype = a.dtype if dtype is None else np.dtype(dtype)
        fill = _poison(dtype) if value is None else value
        return _new_filled(a.shape if shape is None else shape, fill, dtype)

    return like


def broadcast_to(array: Any, shape: Any) -> ndarray:
    """A view stretched to ``shape``; it can be written to."""
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    strides = np.broadcast_to(array._host, shape).strides
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return _view(np.lib.stride_tricks.as_strided(array._host, shape, strides), array)


# ---- devices, streams, memory -------------------------------------------------------------------

_local = threading.local()


def _current() -> int:
    return getattr(_local, "device", 0)


class Device:
    """A device; whether there is one shows only when it is used."""

    def __init__(self, device: int | None = None) -> None:
        self.id = _current() if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> None:
        """Make it the current one."""
        if self.id >= DEVICES:
            raise CUDARuntimeError(101, "cudaErrorInvalidDevice: invalid device ordinal")
        _local.device = self.id

    def __enter__(self) -> Device:
        self._before.append(_current())
        self.use()
        return self

    def __exit__(self, *error: Any) -> None:
        _local.device = self._before.pop()

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def synchronize(self) -> None:
        """Wait."""
        _wait("Device.synchronize")

    @property
    def compute_capability(self) -> str:
        """That of an H200."""
        return "90"

    @property
    def mem_info(self) -> tuple[int, int]:
        """(free, total) bytes."""
        return 6 << 30, 8 << 30


def _wait(how: str) -> None:
    _spoil_capture(how)
    counts["waits"] += 1
    counts[how] += 1


def _upload(how: str, host: Any) -> None:
    if not host.size:
        return
    _spoil_capture(f"{how} from pageable memory")
    counts["uploads"] += 1
    counts[f"upload by {how}"] += 1


def _spoil_capture(how: str) -> None:
    """Raise where this thread captures: what is asked for is not allowed, and ends it."""
    for stream in _capturing():
        stream.spoiled = True
        raise CUDARuntimeError(900, f"cudaErrorStreamCaptureUnsupported: {how}")


def _capturing() -> list[Stream]:
    """The streams that capture in this thread."""
    return getattr(_local, "capturing", [])


class Graph:
    """Calls that a stream captured."""

    def __init__(self, calls: list[Callable[[], None]]) -> None:
        self.calls = calls

    def launch(self, stream: Any = None) -> None:
        """Run them again, on the same memory."""
        _spoil_capture("graphLaunch")
        counts["launches"] += 1
        for call in self.calls:
            call()

    def upload(self, stream: Any = None) -> None:
        """Bring the graph to the device."""

    def debug_dot_str(self, flags: int = 0) -> str:
        """The nodes."""
        nodes = "\n".join(f"  n{i}" for i in range(len(self.calls)))
        return f"digraph {{\n{nodes}\n}}"


class Stream:
    """A queue of calls; here they are run at once, unless captured."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.is_null, self.is_non_blocking = null, non_blocking
        self.ptr = 0 if null else next(_addresses)
        self.device_id = -1 if null else _current()
        self.capturing: list[Callable[[], None]] | None = None
        self.mode = 2
        self.spoiled = False
        self._before: list[Stream] = []

    def use(self) -> Stream:
        """Make it the current one."""
        if self.device_id not in (-1, _current()):
            raise RuntimeError("this stream was created on another device than the current one")
        _local.stream = self
        return self

    def __enter__(self) -> Stream:
        self._before.append(stream_of_thread())
        return self.use()

    def __exit__(self, *error: Any) -> None:
        _local.stream = self._before.pop()

    def begin_capture(self, mode: int | None = None) -> None:
        """From now on note calls instead of running them."""
        if self.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if not self.is_non_blocking:
            raise CUDARuntimeError(906, "cudaErrorStreamCaptureImplicit: a blocking stream")
        if self.capturing is not None:
            raise CUDARuntimeError(401, "cudaErrorIllegalState: it is capturing")
        self.capturing, self.spoiled, self.mode = [], False, 2 if mode is None else mode
        _local.capturing = [*_capturing(), self]

    def end_capture(self) -> Graph:
        """What was noted."""
        if self.capturing is None:
            raise CUDARuntimeError(401, "cudaErrorIllegalState: the stream is not capturing")
        calls, self.capturing = self.capturing, None
        _local.capturing = [s for s in _capturing() if s is not self]
        if self.spoiled:
            raise CUDARuntimeError(901, "cudaErrorStreamCaptureInvalidated")
        return Graph(calls)

    def is_capturing(self) -> bool:
        """Whether calls are noted."""
        return self.capturing is not None

    def synchronize(self) -> None:
        """Wait."""
        _wait("Stream.synchronize")

    @property
    def done(self) -> bool:
        """Whether all calls were run."""
        _spoil_capture("streamQuery")
        return True

    def record(self, event: Any = None) -> Any:
        """An event after the calls so far."""
        return event or Event()

    def wait_event(self, event: Any) -> None:
        """Calls from now on come after ``event``."""
        counts["stream waits"] += 1


_addresses = itertools.count(4096)
Stream.null = Stream(null=True)


def stream_of_thread() -> Stream:
    return getattr(_local, "stream", Stream.null)


class Event:
    """A place in a stream."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.done = True

    def record(self, stream: Any = None) -> Event:
        """Here."""
        return self

    def synchronize(self) -> None:
        """Wait."""
        _wait("Event.synchronize")


def _run(compute: Callable[[], Any], writes: bool = False, given: Sequence[ndarray] = ()) -> Any:
    """Do what a kernel does; on a capturing stream note it, and give memory without values."""
    counts["kernels"] += 1
    calls = stream_of_thread().capturing
    if calls is None:
        if _capturing():
            raise RuntimeError("a kernel on another stream than the one that captures")
        return compute()
    if writes:
        calls.append(lambda: compute() and None)
        return None
    found = compute()
    several = isinstance(found, tuple | list)
    outs, views = [], []
    for f in found if several else [found]:
        looks_into = any(f is x._host or np.may_share_memory(f, x._host) for x in given)
        views.append(isinstance(f, np.ndarray) and looks_into)
        if not views[-1]:  # a view is no kernel
            f = _placed(np.array(f))
            f[...] = 0 if f.dtype.kind in "iub" else _poison(f.dtype)  # fit for an index
        outs.append(f)

    def again() -> None:
        new = compute()
        for out, view, f in zip(outs, views, new if several else [new], strict=True):
            if not view:
                out[...] = f

    if not all(views):
        calls.append(again)
    return type(found)(outs) if several else outs[0]


# ---- memory -------------------------------------------------------------------------------------

strict_memory = False  #: memory of an array that is gone is spoilt, and the next one's


class _Block(np.ndarray):
    """A piece of a pool's memory."""

    pool: Any = None  # weak: a pool may go before its arrays

    def give_back(self) -> None:
        """Nobody uses it: from here on, also in a graph, it has no values to rely on."""
        calls = stream_of_thread().capturing
        if calls is None:
            self[:] = 255  # NaN
        else:
            calls.append(lambda: self.fill(255))
        pool = self.pool()
        if pool is not None:
            pool.own -= self.nbytes
            pool.blocks.setdefault(self.nbytes, []).append(self)


def _placed(host: Any) -> Any:
    """``host`` in memory of the pool in force, if there is one."""
    allocator = getattr(_local, "allocator", None)
    if allocator is None and strict_memory:
        allocator = _strict_pool.malloc
    if allocator is None or not host.nbytes or type(host.base) is _Block:
        return host
    order = "F" if host.flags.f_contiguous and not host.flags.c_contiguous else "C"
    there = np.ndarray(host.shape, host.dtype, allocator(host.nbytes).taken(), order=order)
    there[...] = host
    return there


class MemoryHook:
    """Is told of every allocation while it is entered."""

    name = "MemoryHook"
    active: list[MemoryHook] = []

    def __enter__(self) -> MemoryHook:
        self.active.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        self.active.remove(self)

    def malloc_postprocess(self, **found: Any) -> None:
        """After an allocation from the pool."""


class MemoryPool:
    """A pool of device memory. The default one only counts; others have memory, which they give out
    again when it is free, and which grows where that is allowed.
    """

    def __init__(self, allocator: Any = None) -> None:
        self.freed = 0
        self.used = 1 << 20  # what there was before somebody asked
        self.held = 0
        self.blocks: dict[int, list[Any]] = {}
        self.own = 0

    def free(self, size: int) -> None:
        """An array is gone."""
        self.used -= size

    def malloc(self, size: int) -> Any:
        """Memory, in multiples of 512 bytes; a free piece of a larger one counts as well."""
        size = -(-size // 512) * 512
        free = self.blocks.get(size)
        if free:
            block = free.pop()
        else:
            if self.own + size > self.held:
                self._grow(self.own + size - self.held)
            block = _Block(size, np.uint8)
            block.pool, block[:] = weakref.ref(self), 255
        self.own += size
        return _Memory(block)

    def _grow(self, size: int) -> None:
        for stream in _capturing():
            if stream.mode != 2:
                _spoil_capture("cudaMalloc")
        self.held += size
        counts["mallocs"] += 1

    def free_all_blocks(self, stream: Any = None) -> None:
        """Give back what nobody uses."""
        self.freed += 1

    def used_bytes(self) -> int:
        """Bytes in use."""
        return self.own if self.held else self.used

    def total_bytes(self) -> int:
        """Bytes held."""
        return self.held or self.used + (1 << 20)

    def free_bytes(self) -> int:
        """Bytes held and not used."""
        return self.held - self.own if self.held else 1 << 20

    def n_free_blocks(self) -> int:
        """Blocks held and not used."""
        return 1


class _Memory:
    """What ``malloc`` gives: given back when nobody holds it, unless an array took it."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.ptr = block.ctypes.data

    def taken(self) -> Any:
        """The memory, for an array, which gives it back when it is gone."""
        block, self.block = self.block, None
        return block

    def __del__(self) -> None:
        if self.block is not None:
            self.block.give_back()


_pools = {i: MemoryPool() for i in range(DEVICES)}
_strict_pool = MemoryPool()


@contextlib.contextmanager
def _using_allocator(allocator: Any = None) -> Iterator[None]:
    before, _local.allocator = getattr(_local, "allocator", None), allocator
    try:
        yield
    finally:
        _local.allocator = before


class PinnedMemoryPointer(bytearray):
    """Page-locked memory."""


def _empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    counts["pinned"] += 1
    shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
    memory = PinnedMemoryPointer(max(int(np.prod(shape)) * dtype.itemsize, 1))
    return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape, order=order)


def _device_count() -> int:
    return DEVICES


def _properties(device: int) -> dict[str, Any]:
    if device >= DEVICES:
        raise CUDARuntimeError(101, "cudaErrorInvalidDevice")
    return {
        "name": b"stand-in", "major": 9, "minor": 0, "totalGlobalMem": 8 << 30,
        "multiProcessorCount": 132, "sharedMemPerBlockOptin": 232448, "warpSize": 32,
    }  # fmt: skip


def _use(device: int) -> None:
    Device(device).use()


def _synchronize() -> None:
    _wait("deviceSynchronize")


# ---- the modules --------------------------------------------------------------------------------


class _Module(types.ModuleType):
    """A module with the names of CuPy's; those it has and the stand-in has not say so."""

    def __init__(self, name: str, known: Any, made: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__["_known"] = set(known)
        vars(self).update(made)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and name in self._known:
            raise NotImplementedError(f"{self.__name__}.{name} is not in the stand-in")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _build() -> tuple[_Module, _Module]:
    made: dict[str, Any] = {}
    for name, types_ in NAMES["ufuncs"].items():
        if hasattr(np, name):
            made[name] = ufunc(name, types_)
    for name, params in NAMES["functions"].items():
        if hasattr(np, name):
            made[name] = _function(name, params)
    for name in NAMES["others"]:
        if isinstance(getattr(np, name, None), type | float | type(None)) and hasattr(np, name):
            made[name] = getattr(np, name)
    own = dict(
        ndarray=ndarray, array=array, asarray=asarray, ascontiguousarray=ascontiguousarray,
        asnumpy=asnumpy, empty=empty, zeros=_filled(0), ones=_filled(1), full=full,
        empty_like=_like(None), zeros_like=_like(0), ones_like=_like(1), broadcast_to=broadcast_to,
        copyto=copyto, ufunc=ufunc,
    )  # fmt: skip
    for name in (
        "result_type",
        "can_cast",
        "promote_types",
        "min_scalar_type",
        "isscalar",
        "shape",
    ):
        own[name] = getattr(np, name)
    everything = {**NAMES["ufuncs"], **NAMES["functions"], **dict.fromkeys(NAMES["others"])}
    assert set(own) <= set(everything), set(own) - set(everything)
    own["__version__"] = NAMES["cupy"]
    own["get_default_memory_pool"] = lambda: _pools[_current()]
    own["get_default_pinned_memory_pool"] = lambda: types.SimpleNamespace(free_all_blocks=bool)
    runtime = _Module(
        "cupy.cuda.runtime", NAMES["runtime"],
        dict(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=_device_count, getDevice=_current,
            setDevice=_use, getDeviceProperties=_properties, deviceSynchronize=_synchronize,
            memGetInfo=lambda: (6 << 30, 8 << 30), driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000, streamCaptureModeGlobal=0,
            streamCaptureModeThreadLocal=1, streamCaptureModeRelaxed=2,
            streamIsCapturing=lambda ptr: 0,
        ),
    )  # fmt: skip
    own["cuda"] = _Module(
        "cupy.cuda", NAMES["cuda"],
        dict(
            Device=Device, Stream=Stream, Event=Event, Graph=Graph, MemoryPool=MemoryPool,
            MemoryHook=MemoryHook, get_allocator=lambda: getattr(_local, "allocator", None),
            runtime=runtime, using_allocator=_using_allocator, get_current_stream=stream_of_thread,
            alloc_pinned_memory=PinnedMemoryPointer, get_device_id=_current,
            is_available=lambda: True,
        ),
    )  # fmt: skip
    special = _Module(
        "cupyx.scipy.special", NAMES["special"], {"erf": _erf("erf"), "erfc": _erf("erfc")}
    )
    cupyx = _Module(
        "cupyx", NAMES["cupyx"],
        dict(
            empty_pinned=_empty_pinned,
            scipy=types.SimpleNamespace(special=special),
        ),
    )  # fmt: skip
    return _Module("cupy", everything, {**made, **own}), cupyx


class Blas:
    """What is a cuBLAS of our own on a GPU: products that a stream can capture."""

    tf32 = False

    def matmul(self, a: Any, b: Any, out: Any, add: bool = False) -> bool:
        """out = a b, or out + a b."""
        if not a.dtype == b.dtype == out.dtype:
            return False
        _check_place(a, b, out)
        x, y, z = a._host, b._host, out._host

        def multiply() -> None:
            with quiet():
                product = np.matmul(x, y)
                z[...] = z + product if add else product

        _run(multiply, writes=True)
        return True


def _erf(name: str) -> Any:
    def function(x: Any) -> ndarray:
        host = _operand(x)
        wide = np.float64 if x.dtype == np.float16 else x.dtype  # CuPy's types: e->d, f->f, d->d
        return _made(lambda: getattr(host_backend, name)(host.astype(wide)), x)

    return function


module, cupyx = _build()
_add_operators()
_add_methods()
#: What ``import cupy`` finds, by name.
MODULES = {
    "cupy": module,
    "cupy.cuda": module.cuda,
    "cupyx": cupyx,
    "cupyx.scipy": cupyx.scipy,
    "cupyx.scipy.special": cupyx.scipy.special,
}


@contextlib.contextmanager
def counting() -> Iterator[Counter[str]]:
    """``with counting() as found:`` what happened inside, in ``found`` when it ends."""
    before, found = counts.copy(), Counter[str]()
    yield found
    found.update(counts - before)


@contextlib.contextmanager
def devices(number: int) -> Iterator[None]:
    """``with devices(2):`` there are two GPUs."""
    global DEVICES
    before, DEVICES = DEVICES, number
    _pools.update((i, MemoryPool()) for i in range(number))
    try:
        yield
    finally:
        DEVICES = before
        Device(0).use()


def install(modules: dict[str, Any] | None = None) -> None:
    """Have ``import cupy`` find the stand-in."""
    (sys.modules if modules is None else modules).update(MODULES)
