"""Cross entropy: softmax, its logarithm at the target, and the gradient, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.capture import empty
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.reference import softmax as reference


@kernel
def rows_cross_entropy(
    logits: Array, target: Array, ignore_index: int, loss: Array, probabilities: Array, count: Array
) -> None:
    """loss (N,), softmax (N, C) and the number of rows that count (1,) of logits (N, C)."""
    rows, classes = logits.shape
    count[0] = 0
    for i in range(rows):
        z, p = logits[i], probabilities[i]
        largest = z[0]
        for c in range(1, classes):
            if z[c] > largest or z[c] != z[c]:
                largest = z[c]
        total = z[0] * 0
        for c in range(classes):
            p[c] = math.exp(z[c] - largest)
            total += p[c]
        for c in range(classes):
            p[c] /= total
        t = target[i]
        loss[i] = 0
        if t != ignore_index:
            count[0] += 1
            # a class that is not there has been refused (functional/loss.py)
            loss[i] = math.log(total) - (z[t] - largest) if 0 <= t < classes else math.nan


@kernel
def rows_cross_entropy_backward(
    grad: Array, probabilities: Array, target: Array, ignore_index: int, dlogits: Array
) -> None:
    """dlogits = dy (softmax - onehot), 0 where ignored; dy (N,), or (1,) for every row."""
    rows, classes = probabilities.shape
    for i in range(rows):
        p, out, t = probabilities[i], dlogits[i], target[i]
        dy = grad[i] if grad.size > 1 else grad[0]
        if t == ignore_index:
            for c in range(classes):
                out[c] = 0
        else:
            for c in range(classes):
                out[c] = dy * (p[c] - (c == t))


class Softmax(reference.Softmax):
    """Cross entropy; the rest as in the reference."""

    compiles: Callable[[Array], bool]

    def softmax_cross_entropy(
        self, logits: Array, target: Array, ignore_index: int
    ) -> tuple[Array, Array, Array]:
        if not self.compiles(logits):
            return super().softmax_cross_entropy(logits, target, ignore_index)
        dtype = logits.dtype
        loss, count = empty(len(logits), dtype), empty(1, dtype)
        probabilities = empty(logits.shape, dtype)
        rows_cross_entropy(plain(logits), _int64(target), ignore_index, loss, probabilities, count)
        return loss, probabilities, count.reshape(())

    def softmax_cross_entropy_backward(
        self, grad: Array, probabilities: Array, target: Array, ignore_index: int
    ) -> Array:
        if not self.compiles(probabilities):
            return super().softmax_cross_entropy_backward(grad, probabilities, target, ignore_index)
        dlogits = empty(probabilities.shape, probabilities.dtype)
        rows_cross_entropy_backward(
            plain(grad).reshape(-1), probabilities, _int64(target), ignore_index, dlogits
        )
        return dlogits


def _int64(target: Array) -> Any:
    return plain(target if target.dtype.char == "l" else target.astype("int64"))
