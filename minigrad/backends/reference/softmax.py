"""Softmax and cross entropy."""

from __future__ import annotations

from minigrad.backends.base import Array, Backend
from minigrad.shapes import prod


class Softmax(Backend):
    """Exponentials that do not overflow."""

    def softmax(self, x: Array, axis: int) -> Array:
        """exp(x) / sum exp(x), shifted by max x, which cancels: no overflow."""
        if not prod(x.shape):
            return x.copy()
        wide = self._wide(x)
        e = self.exp(wide - wide.max(axis=axis, keepdims=True))
        return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)

    def log_softmax(self, x: Array, axis: int) -> Array:
        """x - log sum exp(x), shifted by max x."""
        if not prod(x.shape):
            return x.copy()
        wide = self._wide(x)
        z = wide - wide.max(axis=axis, keepdims=True)
        y = z - self.log(self.exp(z).sum(axis=axis, keepdims=True))
        return y.astype(x.dtype, copy=False)

    def softmax_cross_entropy(
        self, logits: Array, target: Array, ignore_index: int
    ) -> tuple[Array, Array, Array]:
        """-log softmax(logits)[target] of each row, 0 where ignored; softmax(logits); and the
        number of rows that count.

        Shapes: logits (N, C), target (N,) integer; loss (N,), probabilities (N, C), count ().
        """
        wide = self._wide(logits)
        shifted = wide - wide.max(axis=1, keepdims=True)
        e = self.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        kept = target != ignore_index
        at = self.where(kept, target, 0)[:, None]
        loss = self.log(total[:, 0]) - self.take_along_axis(shifted, at, 1)[:, 0]
        loss = self.where(kept, loss, self.zeros_like(loss))
        return (
            loss.astype(logits.dtype, copy=False),
            (e / total).astype(logits.dtype, copy=False),
            self.astype(kept.sum(), logits.dtype),
        )

    def softmax_cross_entropy_backward(
        self, grad: Array, probabilities: Array, target: Array, ignore_index: int
    ) -> Array:
        """dlogits = dy (softmax(logits) - onehot(target)), 0 where ignored.

        Shapes: grad (N,), or () for the same in every row.
        """
        kept = target != ignore_index
        at = self.where(kept, target, 0)[:, None]
        onehot = self.scatter_add(
            self.ones(at.shape, dtype=probabilities.dtype), at, 1, probabilities.shape
        )
        grad = self.where(kept, grad, self.zeros_like(grad))  # (N,)
        return (probabilities - onehot) * grad[:, None]
