"""The CPU backend: NumPy, with faster kernels where plain array code is slow."""

from __future__ import annotations

import warnings
from contextvars import ContextVar, copy_context
from importlib.util import find_spec
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.activation import Activation
from minigrad.backends.compiled.convolution import Convolution
from minigrad.backends.compiled.normalization import Normalization
from minigrad.backends.compiled.pooling import Pooling
from minigrad.backends.compiled.softmax import Softmax
from minigrad.backends.compiled.spin import spin
from minigrad.backends.compiled.updates import Updates
from minigrad.backends.cpu.activation import FEW
from minigrad.backends.cpu.layout import WORTH_SHARING, select
from minigrad.backends.cpu.linear import Linear
from minigrad.backends.cpu.memory import keep_freed_memory
from minigrad.backends.cpu.normalization import in_planes
from minigrad.backends.cpu.pooling import simple
from minigrad.backends.cpu.threads import BLAS_THREADS, no_spin, pool
from minigrad.backends.reference import Reference
from minigrad.shapes import prod

# erf(x) = x P(x^2) on |x| < 1 and 1 - exp(-x^2) Q((x - 2) / (x + 2)) on 1 <= x <= 6: Chebyshev
# fits at 40 digits, as polynomials, highest power first; largest error against math.erf 1.2e-16.
_ERF_SMALL = (
    5.957176147748911e-11,
    -1.1372848856791674e-09,
    1.4659775274047436e-08,
    -1.6350312701054695e-07,
    1.6461000484121368e-06,
    -1.4925595266831182e-05,
    0.0001205533111164271,
    -0.000854832698083379,
    0.0052239776248180145,
    -0.026866170645076792,
    0.11283791670954879,
    -0.3761263890318375,
    1.1283791670955126,
)
_ERF_LARGE = (
    -2.22812957637235e-07,
    4.146302183268488e-06,
    1.859427387429402e-06,
    -1.4166339069117108e-05,
    -2.7640727821912852e-05,
    2.7560352756678313e-05,
    0.00017436477257256738,
    4.355265359817883e-05,
    -0.0009819771114740715,
    -0.0008471431229415333,
    0.006997461739200575,
    0.0037328924016564484,
    -0.07897858101571269,
    0.24165819424248763,
    -0.4271858474139585,
    0.2553956763105057,
)


def _error_state() -> tuple[ContextVar[Any], Any]:
    """The context variable behind np.errstate, and its value under all="ignore"."""
    before = copy_context()
    with np.errstate(all="ignore"):
        inside = copy_context()
    found = [(v, inside[v]) for v in inside if before.get(v) is not inside[v]]
    return found[0] if found else (ContextVar("minigrad_unused"), None)


# In PyTorch 1 / 0 is inf without a word. So warnings that NumPy raises on behalf of minigrad are
# ignored, by a filter that knows where they come from: it costs nothing. ``quiet`` is for the rest:
# what NumPy's own Python code warns of, and where warnings are errors. It sets the context variable
# behind np.errstate: 0.6 us, where an addition of 16 x 16 takes 0.4 and np.errstate more.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"minigrad\b")
error_state, silent = _error_state()


class quiet:  # noqa: N801 - a context manager reads as a verb
    """``with quiet():`` no warning where a result is infinite or not a number."""

    __slots__ = ("token",)

    def __enter__(self) -> None:
        self.token = error_state.set(silent)

    def __exit__(self, *error: Any) -> None:
        error_state.reset(self.token)


#: Kernels that are a call or two of NumPy for few numbers.
_ACTIVATIONS = ("relu", "relu_backward", "sigmoid", "sigmoid_backward")
#: Kernels that are one compiled loop where one thread does it all.
_ONE_LOOP = (
    "relu",
    "relu_backward",
    "sigmoid_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "max_pool2d",
    "max_pool2d_backward",
)


class NumpyBackend(
    Linear, Convolution, Pooling, Normalization, Activation, Softmax, Updates, Reference
):
    """Arrays are ``numpy.ndarray``; products run in BLAS, loops in Numba where it is installed."""

    name = "numpy"
    array_type = np.ndarray
    #: Numbers below which nothing is compiled: it is not worth while for those of a tutorial.
    smallest = 256

    def __init__(self) -> None:
        super().__init__(np)
        keep_freed_memory()
        self.use_numba(find_spec("numba") is not None)

    def use_numba(self, use: bool = True) -> None:
        """Run compiled kernels (at first where Numba is installed), or plain NumPy."""
        if use and find_spec("numba") is None:
            raise ModuleNotFoundError(
                'compiled kernels need Numba: pip install "minigrad[fast]". Without it everything '
                "works, slower."
            )
        self.numba = use
        pool.spin = spin if use else no_spin

    def compiles(self, x: Array) -> bool:
        """Whether a compiled kernel is to take ``x``."""
        return self.numba and x.size >= self.smallest and x.dtype.char in "fd"

    def opens(self, name: str, args: tuple[Any, ...]) -> bool:
        """Whether a kernel, on arrays so small, is a few calls in a line: no blocks, no threads. A
        captured step then holds the calls: the kernel's own Python is a third of its time, and four
        fifths where it is one compiled loop (a BatchNorm of 25,000 numbers: 6 us of 31).
        """
        if name in ("linear", "linear_backward"):
            rows, other = args[:2]  # x and weight, or dy and x, which may not be needed
            if other is None or rows.ndim != 2:
                return False
            work = rows.size * (len(other) if name == "linear" else other.shape[-1])
            return bool(rows.size < 4096 and work < BLAS_THREADS)
        if name in ("softmax_cross_entropy", "softmax_cross_entropy_backward"):
            scores = args[0] if name == "softmax_cross_entropy" else args[1]
            return scores.size < 4096 and self.compiles(scores)
        if name in _ACTIVATIONS and args[0].size < FEW:
            return True
        if name in _ONE_LOOP and self.compiles(args[0]) and args[0].size < WORTH_SHARING:
            if name == "max_pool2d":
                return simple(args[0], args[3])
            if name == "max_pool2d_backward":  # dx is larger than dy
                return simple(args[0], args[4]) and prod(args[6]) < WORTH_SHARING
            if name.startswith("batch_norm"):
                return not in_planes(args[1 if name.endswith("backward") else 0])
            return True
        return False

    def where(self, mask: Array, a: Any, b: Any) -> Array:
        """``a`` where the mask is true, else ``b``."""
        if mask.size < 4096 or not _alike(mask, a, b):
            return np.where(mask, a, b)
        return select(mask, a, b)

    def device_of(self, x: Array) -> str:
        return "cpu"

    def to_host(self, x: Array) -> Any:
        return x

    def from_host(self, x: Any, device: str) -> Array:
        return x

    def index_add(self, x: Array, index: Any, shape: tuple[int, ...]) -> Array:
        y = np.zeros(shape, dtype=x.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(p, np.ndarray) and p.dtype.kind != "b" for p in parts):
            np.add.at(y, index, x)  # places may repeat
        else:
            y[index] = x
        return y

    def scatter_add(self, x: Array, index: Array, axis: int, shape: tuple[int, ...]) -> Array:
        # One flat bincount-like sum: add.at on a flat array is NumPy's fastest accumulation.
        y = np.zeros(shape, dtype=x.dtype)
        places = list(np.indices(index.shape, sparse=True))
        places[axis] = index
        np.add.at(y, tuple(places), x[tuple(slice(n) for n in index.shape)])
        return y

    def erf(self, x: Array) -> Array:
        magnitude = np.abs(x)
        small = np.polyval(_ERF_SMALL, np.minimum(magnitude, 1) ** 2) * x
        tail = self._erf_tail(magnitude)
        return np.where(magnitude < 1, small, np.copysign(1 - tail, x)).astype(x.dtype, copy=False)

    def _erf_tail(self, magnitude: Array) -> Array:
        clipped = np.clip(magnitude, 1, 6)
        return np.exp(-clipped * clipped) * np.polyval(_ERF_LARGE, (clipped - 2) / (clipped + 2))

    def erfc(self, x: Array) -> Array:
        near = 1 - self.erf(x)
        return np.where(x > 1, self._erf_tail(x), near).astype(x.dtype, copy=False)


def _alike(mask: Array, a: Any, b: Any) -> bool:
    """Whether both are floating, of the mask's shape and of one dtype; ``b`` may be a number."""
    if not isinstance(a, np.ndarray) or a.shape != mask.shape or a.dtype.kind != "f":
        return False
    if isinstance(b, np.ndarray):
        return b.dtype == a.dtype and b.shape in (mask.shape, ())
    return type(b) in (float, int)
