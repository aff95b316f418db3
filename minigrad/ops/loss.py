"""Losses that are more than a composition."""

from __future__ import annotations

from typing import Any

from minigrad.ops.op import Fused, Op


class CrossEntropy(Fused):
    """-ln softmax(logits)[target] of each row.

    Shapes: logits (N, C), target (N,) class numbers, y (N,), 0 where the target is
    ``ignore_index``. ``mean`` divides by the number of rows that count, ``sum`` adds up, ``none``
    leaves (N,).

    Softmax and loss in one step, for two reasons: ln softmax never rounds to ln 0, and the gradient
    is as simple as it gets, softmax(logits) - onehot(target).
    """

    formula, vjp = "y = -ln softmax(z)[t]", "dz = dy · (softmax(z) - onehot t)"
    residuals = ("probabilities", "count")
    count: Any = None  #: how many rows count, for the mean

    def __init__(self, reduction: str = "mean", ignore_index: int = -100) -> None:
        self.reduction, self.ignore_index = reduction, ignore_index

    def forward(self, xp: Any, logits: Any, target: Any) -> Any:
        loss, self.probabilities, self.count = xp.softmax_cross_entropy(
            logits, target, self.ignore_index
        )
        return self.reduce(loss, self.count)

    def backward(self, xp: Any, grad: Any, logits: Any, target: Any) -> Any:
        if self.reduction == "mean":
            grad = grad / self.count
        return (
            xp.softmax_cross_entropy_backward(grad, self.probabilities, target, self.ignore_index),
            None,
        )

    def composed(self, xp: Any, logits: Any, target: Any) -> Any:
        z = logits - xp.amax(logits, axis=1, keepdims=True)
        log_softmax = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
        kept = target != self.ignore_index
        at = xp.where(kept, target, xp.zeros_like(target))[:, None]
        picked = xp.take_along_axis(log_softmax, at, 1)[:, 0]
        loss = xp.where(kept, -picked, xp.zeros_like(picked))
        return self.reduce(loss, xp.astype(kept.sum(), loss.dtype))

    def reduce(self, loss: Any, count: Any) -> Any:
        if self.reduction == "none":
            return loss
        total = loss.sum()
        return total if self.reduction == "sum" else total / count


class BinaryCrossEntropy(Op):
    """-(t ln p + (1 - t) ln(1 - p)), element by element; each logarithm is held above -100."""

    formula = "y = -(t ln p + (1 - t) ln(1 - p))"
    vjp = "dp = dy · (p - t) / (p (1 - p)),  dt = dy · (ln(1 - p) - ln p)"

    def forward(self, xp: Any, p: Any, t: Any) -> Any:
        log_p, log_q = xp.maximum(xp.log(p), -100), xp.maximum(xp.log1p(-p), -100)
        return -(t * log_p + (1 - t) * log_q)

    def backward(self, xp: Any, grad: Any, p: Any, t: Any) -> Any:
        dp = grad * xp.run(BinaryCrossEntropySlope(), p, t) if self.needs(0) else None
        return dp, grad * (xp.log1p(-p) - xp.log(p)) if self.needs(1) else None


class BinaryCrossEntropySlope(Op):
    """(p - t) / (p (1 - p)), the slope of BinaryCrossEntropy, finite where p is 0 or 1.

    An op of its own because PyTorch keeps its second derivative finite in another way: with 1e-12
    added to p and to 1 - p, where the first has the product held above 1e-12.
    """

    formula = "y = (p - t) / max(p (1 - p), ε)"
    vjp = "dp = dy · (p² - 2 p t + t) / ((p + ε)² (1 - p + ε)²),  dt = -dy / max(p (1 - p), ε)"

    def forward(self, xp: Any, p: Any, t: Any) -> Any:
        return (p - t) / xp.maximum(p * (1 - p), 1e-12)

    def backward(self, xp: Any, grad: Any, p: Any, t: Any) -> Any:
        product = (p + 1e-12) * (1 - p + 1e-12)
        dp = grad * (p * p - 2 * p * t + t) / (product * product)
        return dp, -grad / xp.maximum(p * (1 - p), 1e-12)
