"""The exponentially weighted average: in momentum, RMSprop, Adam and running statistics.

    v ← β v + (1 − β) x

The value that came k steps ago weighs (1 − β) βᵏ: about 1 / (1 − β) values count, those before them
weigh 1/e together (0.9: 10 values, 0.98: 50). A small β is noisy, a large one lags behind.

v begins at zero, so that t values weigh only 1 − βᵗ together. Divided by that (``debias``), it is
an average from the first value on.
"""

from __future__ import annotations

from typing import Any


class ExponentialAverage:
    """An exponentially weighted average: v ← β v + (1 − β) x.

    Its uses: ``Momentum(form="ema")`` averages gradients, RMSprop their squares, Adam both (with
    debias); BatchNorm's running estimates average the statistics of the batches.

    Args:
        beta: the share of the old average that is kept; Keras calls it momentum or rho, Chainer
            decay.
        share: 1 − β, the weight of the **new** value, instead of beta; PyTorch calls it momentum in
            BatchNorm.
        debias: divide by 1 − βᵗ, the weights of the t values so far.

    Attributes:
        keep, share: β and 1 − β.
        value: the average so far, debiased where asked for; None before the first value.
        steps: t.

    Raises:
        ValueError: β outside of 0 to 1, or both or none of beta and share.

    Source: Kingma and Ba (2015), arXiv:1412.6980, section 3, for the correction; the rest is older
        (Brown, 1956).

    Example:
        >>> plain, debiased = ExponentialAverage(0.9), ExponentialAverage(0.9, debias=True)
        >>> [round(plain.update(x), 3) for x in (10.0, 10.0, 20.0)]
        [1.0, 1.9, 3.71]
        >>> [round(debiased.update(x), 3) for x in (10.0, 10.0, 20.0)]
        [10.0, 10.0, 13.69]
    """

    def __init__(
        self, beta: float | None = None, *, share: float | None = None, debias: bool = False
    ) -> None:
        if (beta is None) == (share is None):
            raise ValueError(
                "an average needs beta, the weight of the old, or share = 1 - beta, the weight of "
                f"the new value, not both, got beta={beta} and share={share}."
            )
        self.keep: float = 1 - share if beta is None else beta  # type: ignore[operator]
        self.share: float = 1 - beta if share is None else share  # type: ignore[operator]
        if not 0 <= self.keep <= 1:
            name, got = ("share", share) if beta is None else ("beta", beta)
            raise ValueError(f"{name} must be between 0 and 1, got {got}.")
        self.debias = debias
        self.value: Any = None
        self.steps = 0

    def correction(self, t: float) -> float:
        """1 − βᵗ: how much t values weigh together."""
        return float(1 - self.keep**t)

    def weights(self, t: float) -> tuple[float, float]:
        """(weight of the old average, weight of the new value) at the t-th value, from 1.

        (β, 1 − β); debiased (1 − s, s) with s = (1 − β) / (1 − βᵗ): 1 at the first value. So a
        debiased average needs no second variable: v / (1 − βᵗ) itself moves, by a share that
        begins at 1 and falls to 1 − β.
        """
        if not self.debias:
            return self.keep, self.share
        share = (1 - self.keep) / self.correction(t) if self.keep < 1 else 1 / t
        return 1 - share, share

    def move(
        self, value: Any, x: Any, scale: float = 1.0, *, xp: Any = None, out: Any = None
    ) -> Any:
        """Arrays: value ← β value + (1 − β) scale x, in place; what the optimizers' rules do.

        Args:
            xp, out: the backend, and scratch memory (``x`` itself may be it) for the product.
        """
        value *= self.keep
        weight = self.share * scale
        value += weight * x if out is None else xp.multiply(x, weight, out=out)
        return value

    def update(self, x: Any) -> Any:
        """Take in the next value, a number, array or tensor; gives the average so far."""
        self.steps += 1
        old, new = self.weights(self.steps)
        self.value = new * x if self.value is None else old * self.value + new * x
        return self.value

    def __repr__(self) -> str:
        rule = f"ExponentialAverage: {self.words('average', 'new')}"
        return f"<{rule}, debiased>" if self.debias else f"<{rule}>"

    def words(self, old: str, new: str) -> str:
        """The update in words: ``running = 0.9 running + 0.1 batch``."""
        return f"{old} = {self.keep:.6g} {old} + {self.share:.6g} {new}"
