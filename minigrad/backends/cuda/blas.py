"""Products of matrices by cuBLAS, called directly.

CuPy refuses cuBLAS while a stream is captured, because its handle and workspace are not made for
it. Ours are: a handle and a workspace for each device and stream.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.errors import DeviceError

Array = Any

#: What cuBLAS recommends on Hopper; a smaller one rules out some of its algorithms.
WORKSPACE = 32 << 20

#: cudaDataType, by the name of the dtype.
TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
#: cublasComputeType: what products are rounded to and sums kept in.
COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 77, 70

_STATUS = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED: no usable GPU, or no memory left on it",
    3: "CUBLAS_STATUS_ALLOC_FAILED: no memory left on the GPU",
    7: "CUBLAS_STATUS_INVALID_VALUE: a wrong argument",
    8: "CUBLAS_STATUS_ARCH_MISMATCH: this GPU cannot do it",
    13: "CUBLAS_STATUS_EXECUTION_FAILED: the kernel failed",
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    15: "CUBLAS_STATUS_NOT_SUPPORTED: no kernel for these types and sizes",
}


# ---- row by row and column by column ------------------------------------------------------------


class Matrix(NamedTuple):
    """A matrix as it lies in memory, counted in elements."""

    rows: int
    columns: int
    transposed: bool  #: columns lie side by side, not rows
    leading: int  #: from one row (column) to the next
    batch: int
    step: int  #: from one matrix to the next


class Product(NamedTuple):
    """The arguments of a product as cuBLAS, which counts by columns, takes them."""

    first_transposed: bool
    second_transposed: bool
    m: int
    n: int
    k: int
    leading: tuple[int, int, int]
    steps: tuple[int, int, int]
    batch: int


def matrix(shape: Sequence[int], strides: Sequence[int]) -> Matrix | None:
    """(rows, columns) or (batch, rows, columns) with strides in elements; None: not without a copy.

    Example:
        >>> matrix((2, 3), (3, 1))
        Matrix(rows=2, columns=3, transposed=False, leading=3, batch=1, step=0)
        >>> matrix((3, 2), (1, 3)).transposed
        True
    """
    (rows, columns), (down, across) = shape[-2:], strides[-2:]
    batch, step = (shape[0], strides[0]) if len(shape) == 3 else (1, 0)
    if not rows * columns:  # nothing, wherever it lies
        return Matrix(rows, columns, False, max(columns, 1), batch, step)
    if (across == 1 or columns <= 1) and (down >= columns or rows <= 1):
        leading = columns if rows <= 1 else down
        return Matrix(rows, columns, False, leading, batch, step)
    if (down == 1 or rows <= 1) and (across >= rows or columns <= 1):
        leading = rows if columns <= 1 else across
        return Matrix(rows, columns, True, leading, batch, step)
    return None


def product(a: Matrix, b: Matrix, c: Matrix) -> Product:
    """C = A B by rows, said by columns: there the same memory is C^T = B^T A^T.

    So B comes first; a matrix that lies by rows is its transpose there, which is the one that is
    wanted, and one that lies by columns is to be transposed.
    """
    return Product(
        b.transposed,
        a.transposed,
        b.columns,
        a.rows,
        a.columns,
        (b.leading, a.leading, c.leading),
        (b.step, a.step, c.step),
        c.batch,
    )


# ---- the library --------------------------------------------------------------------------------


def load() -> Any:
    """cuBLAS: CuPy's way to find it first, then the wheels, then the system.

    Raises:
        DeviceError: where there is none.
    """
    for name in _candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DeviceError(
        "products on the GPU need cuBLAS, which was not found: "
        'pip install "cupy-cuda13x[ctk]" (or cupy-cuda12x).'
    )


def _candidates() -> list[str]:
    names = []
    try:
        if find_spec("cuda.pathfinder"):
            pathfinder: Any = import_module("cuda.pathfinder")
            names.append(str(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path))
    except (ImportError, RuntimeError):
        pass
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        names += map(str, sorted(Path(folder).glob("**/libcublas.so.*")))
    return [*names, "libcublas.so.13", "libcublas.so.12", "cublas64_13.dll", "cublas64_12.dll"]


class Blas:
    """Products of arrays that lie on a GPU.

    Args:
        cupy: the module: its current device and stream, and its memory.
        library: cuBLAS; by default what ``load`` finds when there is a product to compute.
        pointer: where an array begins.

    Attributes:
        tf32: round the factors of float32 products to 10 bits of mantissa (tensor cores), False by
            default.
    """

    def __init__(
        self,
        cupy: Any,
        library: Any = None,
        pointer: Callable[[Array], int] = lambda x: int(x.data.ptr),
    ) -> None:
        self.cupy, self.given, self.pointer = cupy, library, pointer
        self.tf32 = False
        self.handles: dict[tuple[int, int], tuple[ctypes.c_void_p, Array]] = {}
        self._single = ctypes.c_float(1), ctypes.c_float(0)
        self._double = ctypes.c_double(1), ctypes.c_double(0)

    @cached_property
    def library(self) -> Any:
        """cuBLAS, its functions with their types."""
        library = self.given or load()
        void, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        library.cublasCreate_v2.argtypes = [ctypes.POINTER(void)]
        library.cublasSetStream_v2.argtypes = [void, void]
        library.cublasSetWorkspace_v2.argtypes = [void, void, ctypes.c_size_t]
        operand = [void, integer, integer, long]
        library.cublasGemmStridedBatchedEx.argtypes = [
            *[void, integer, integer, integer, integer, integer, void],
            *operand,
            *operand,
            void,
            *operand,
            *[integer, integer, integer],
        ]
        return library

    def handle(self) -> ctypes.c_void_p:
        """The handle of the current device and stream, with a workspace of its own."""
        stream = int(self.cupy.cuda.get_current_stream().ptr)
        key = int(self.cupy.cuda.runtime.getDevice()), stream
        if key not in self.handles:
            handle = ctypes.c_void_p()
            self._check(self.library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
            workspace = self.cupy.empty(WORKSPACE, dtype="uint8")
            # in this order: setting the stream takes the workspace away
            self._check(self.library.cublasSetStream_v2(handle, stream), "cublasSetStream")
            self._check(
                self.library.cublasSetWorkspace_v2(handle, self.pointer(workspace), WORKSPACE),
                "cublasSetWorkspace",
            )
            self.handles[key] = handle, workspace
        return self.handles[key][0]

    def matmul(self, a: Array, b: Array, out: Array, add: bool = False) -> bool:
        """out = a b, or out + a b with ``add``; False where cuBLAS cannot do it in place.

        Shapes: (rows, k), (k, columns), (rows, columns), each alone or (batch, ...); of one dtype.
        """
        name = out.dtype.name
        if name not in TYPES or not a.dtype == b.dtype == out.dtype:
            return False
        first, second, result = _matrix_of(a), _matrix_of(b), _matrix_of(out)
        if first is None or second is None or result is None or result.transposed:
            return False
        if not _fit(first, second, result):
            return False
        if not out.size:
            return True
        if not first.columns:
            if not add:
                out.fill(0)
            return True
        p, kind = product(first, second, result), TYPES[name]
        one, zero = self._double if name == "float64" else self._single
        status = self.library.cublasGemmStridedBatchedEx(
            *(self.handle(), int(p.first_transposed), int(p.second_transposed), p.m, p.n, p.k),
            *(ctypes.addressof(one), self.pointer(b), kind, p.leading[0], p.steps[0]),
            *(self.pointer(a), kind, p.leading[1], p.steps[1]),
            *(ctypes.addressof(one if add else zero), self.pointer(out), kind),
            *(p.leading[2], p.steps[2], p.batch, self._compute(name), -1),
        )
        self._check(status, f"the product of {a.shape} and {b.shape} in {name}")
        return True

    def _compute(self, name: str) -> int:
        if name == "float64":
            return COMPUTE_64F
        return COMPUTE_32F_FAST_TF32 if self.tf32 and name == "float32" else COMPUTE_32F

    def _check(self, status: int, what: str) -> None:
        if status:
            raise DeviceError(
                f"{what} failed in cuBLAS: {_STATUS.get(status, f'status {status}')}."
            )


def _matrix_of(x: Array) -> Matrix | None:
    if x.ndim not in (2, 3):
        return None
    return matrix(x.shape, [s // x.itemsize for s in x.strides])


def _fit(a: Matrix, b: Matrix, c: Matrix) -> bool:
    if (a.rows, a.columns, b.columns) != (c.rows, b.rows, c.columns):
        return False
    return a.batch in (1, c.batch) and b.batch in (1, c.batch) and c.batch > 0
