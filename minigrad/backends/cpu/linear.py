"""Matrix products, shared out among the threads where that pays, and the affine map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import column_sums
from minigrad.backends.cpu.threads import BLAS_THREADS, no_spin, one_blas_thread, pool
from minigrad.backends.reference import linear as reference

#: Multiplications from which a second thread pays: 0.2 ms of one core.
_WORTH_SHARING = 1 << 23


def matmul(a: Array, b: Array, out: Array | None = None) -> Any:
    """``np.matmul``; a large product of two matrices is shared out, by the longer side."""
    if a.ndim != 2 or b.ndim != 2:
        work = a.size * b.shape[-1] if b.ndim else 0
        if work < BLAS_THREADS:
            return np.matmul(a, b, out)
        with one_blas_thread:
            return np.matmul(a, b, out)
    (n, k), m = a.shape, b.shape[1]
    if n * k * m < BLAS_THREADS:
        # the same product of the BLAS, reached 0.5 us sooner
        return np.dot(a, b) if out is None else np.dot(a, b, out)
    if pool.parts(n * k * m, _WORTH_SHARING) < 2:
        with one_blas_thread:
            return np.matmul(a, b, out)
    if pool.spin is no_spin:  # the BLAS's threads, which do, are there sooner than ours
        return np.matmul(a, b, out)
    if out is None:
        out = np.empty((n, m), np.result_type(a, b))
    y = out

    def rows(start: int, stop: int) -> Callable[[], Any]:
        return partial(np.matmul, a[start:stop], b, y[start:stop])

    def columns(start: int, stop: int) -> Callable[[], Any]:
        return partial(np.matmul, a, b[:, start:stop], y[:, start:stop])

    pool.share_calls(rows if n >= m else columns, max(n, m), pool.count)
    return y


class Linear(reference.Linear):
    """Products in BLAS, the bias added in place."""

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The product of two matrices, or of stacks of them."""
        return matmul(a, b, out)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = matmul(self._rows(x), weight.T)
        if bias is not None:
            y += bias  # in place: one pass over y less
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])

    def linear_backward(
        self, grad: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        dx, dweight, _ = super().linear_backward(grad, x, weight, (*needs[:2], False))
        return dx, dweight, column_sums(self._rows(grad)) if needs[2] else None
