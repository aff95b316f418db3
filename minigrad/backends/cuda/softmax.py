"""Softmax and cross entropy by kernels/softmax.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import one_block, rows
from minigrad.backends.reference import softmax as reference


class Softmax(Launching, reference.Softmax):
    """A row at a time, by a warp or a block."""

    def softmax(self, x: Array, axis: int) -> Array:
        taken = x.ndim and self.takes(x)
        return self._softmax(x, axis, 0) if taken else super().softmax(x, axis)

    def log_softmax(self, x: Array, axis: int) -> Array:
        taken = x.ndim and self.takes(x)
        return self._softmax(x, axis, 1) if taken else super().log_softmax(x, axis)

    def _softmax(self, x: Array, axis: int, logarithm: int) -> Array:
        moved = axis % x.ndim != x.ndim - 1
        x = self.plain(x.swapaxes(axis, -1) if moved else x)
        y, width = self.empty(x.shape, dtype=x.dtype), x.shape[-1]
        count = x.size // width
        self.launch(
            "softmax.softmax",
            rows(count, width),
            x.dtype.char,
            x=x,
            y=y,
            rows=count,
            width=width,
            logarithm=logarithm,
        )
        return self.ascontiguousarray(y.swapaxes(axis, -1)) if moved else y

    def softmax_cross_entropy(
        self, logits: Array, target: Array, ignore_index: int
    ) -> tuple[Array, Array, Array]:
        """As the reference, but a target that is no class gives NaN: no kernel raises."""
        if not self.takes(logits):
            return super().softmax_cross_entropy(logits, target, ignore_index)
        count, width = logits.shape
        target = self.plain(target, "int64")
        loss, kept = (self.empty(shape, dtype=logits.dtype) for shape in ((count,), ()))
        probabilities = self.empty(logits.shape, dtype=logits.dtype)
        kind = logits.dtype.char
        self.launch(
            "softmax.cross_entropy",
            rows(count, width),
            kind,
            logits=self.plain(logits),
            target=target,
            loss=loss,
            probabilities=probabilities,
            rows=count,
            width=width,
            ignore_index=ignore_index,
        )
        self.launch(
            "softmax.count_kept",
            one_block(count),
            kind,
            target=target,
            count=kept,
            rows=count,
            ignore_index=ignore_index,
        )
        return loss, probabilities, kept

    def softmax_cross_entropy_backward(
        self, grad: Array, probabilities: Array, target: Array, ignore_index: int
    ) -> Array:
        if not self.takes(probabilities):
            return super().softmax_cross_entropy_backward(grad, probabilities, target, ignore_index)
        count, width = probabilities.shape
        dlogits = self.empty(probabilities.shape, dtype=probabilities.dtype)
        self.launch(
            "softmax.cross_entropy_backward",
            rows(count, width),
            dlogits.dtype.char,
            grad=self.plain(grad, dlogits.dtype),
            probabilities=self.plain(probabilities),
            target=self.plain(target, "int64"),
            dlogits=dlogits,
            rows=count,
            width=width,
            stride=1 if grad.ndim else 0,
            ignore_index=ignore_index,
        )
        return dlogits
