"""The CPU backend: NumPy, with faster kernels where plain array code is slow."""

from __future__ import annotations

import warnings
from contextvars import ContextVar, copy_context
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.reference import Pads, Pair, Reference
from minigrad.shapes import conv_size, prod

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


class NumpyBackend(Reference):
    """Arrays are ``numpy.ndarray``; products run in BLAS."""

    name = "numpy"
    array_type = np.ndarray

    def __init__(self) -> None:
        super().__init__(np)

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

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self._rows(x) @ weight.T
        if bias is not None:
            y += bias  # in place: one pass over y less
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
    ) -> Array:
        columns, size = self._columns(x, weight.shape[2:], stride, padding, dilation, groups)
        n, o = x.shape[0], weight.shape[0]
        y = weight.reshape(groups, o // groups, -1) @ columns
        y = y.reshape(n, o, *size)
        if bias is not None:
            y += bias.reshape(-1, 1, 1)
        return y

    def conv2d_backward(
        self,
        grad: Array,
        x: Array,
        weight: Array,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        n, o = grad.shape[:2]
        size = grad.shape[2:]
        dx = dweight = None
        rows = grad.reshape(n, groups, o // groups, prod(size))
        if needs[1]:
            columns, _ = self._columns(x, weight.shape[2:], stride, padding, dilation, groups)
            dweight = (rows @ columns.swapaxes(-1, -2)).sum(axis=0).reshape(weight.shape)
        if needs[0]:
            kernel, (top, bottom), (left, right) = weight.shape[2:], *padding
            c, h, w = x.shape[1:]
            dcolumns = weight.reshape(groups, o // groups, -1).swapaxes(-1, -2) @ rows
            dcolumns = dcolumns.reshape(n, c, *kernel, *size)
            padded = np.zeros((n, c, h + top + bottom, w + left + right), dtype=grad.dtype)
            for i, j, window in self.windows(padded, kernel, stride, dilation, size):
                padded[window] += dcolumns[:, :, i, j]
            dx = self.crop_image(padded, padding)
        return dx, dweight, grad.sum(axis=(0, 2, 3)) if needs[2] else None

    def _columns(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> tuple[Array, Pair]:
        """im2col: every window of ``x`` as a column, (N, groups, C / groups * kh * kw, oh * ow)."""
        (n, c), sides = x.shape[:2], zip(x.shape[2:], padding, strict=True)
        h, w = (side + sum(pads) for side, pads in sides)
        size = (
            conv_size(h, kernel[0], stride[0], 0, dilation[0]),
            conv_size(w, kernel[1], stride[1], 0, dilation[1]),
        )
        columns = self.unfold(x, kernel, stride, padding, dilation)
        return columns.reshape(n, groups, c // groups * prod(kernel), prod(size)), size
