"""Schedules that are a formula of the epoch: steps, powers, lines, and functions of one's own."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from minigrad.optim.lr_scheduler.base import LRScheduler, current, numbers
from minigrad.optim.optimizer import Optimizer

Factor = Callable[[int], float]


class _OfFunctions(LRScheduler):
    """What LambdaLR and MultiplicativeLR share: a function for each group."""

    _functions = ("lr_lambdas",)

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1
    ) -> None:
        groups = len(getattr(optimizer, "param_groups", ()))
        listed = isinstance(lr_lambda, list | tuple)
        self.lr_lambdas: list[Any] = list(lr_lambda) if listed else [lr_lambda] * groups  # type: ignore[arg-type]
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"expected {groups} lr_lambdas, one a parameter group, got {len(self.lr_lambdas)}."
            )
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(
                    "lr_lambda should be a function of the epoch, but got "
                    f"{type(function).__name__}."
                )
        super().__init__(optimizer, last_epoch)


class LambdaLR(_OfFunctions):
    """A factor of one's own: lr = lr0 f(epoch).

    Args:
        optimizer: whose learning rates to set.
        lr_lambda: f, or a list of functions, one for each parameter group.
        last_epoch: see ``LRScheduler``.

    Example:
        >>> from minigrad import Tensor, optim
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=0.5)
        >>> LambdaLR(optimizer, lambda epoch: 0.5**epoch).get_last_lr()
        [0.5]
    """

    def get_lr(self) -> list[float]:
        """lr0 f(epoch)."""
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [lr0 * f(self.last_epoch) for lr0, f in pairs]


class MultiplicativeLR(_OfFunctions):
    """A factor of one's own for every step: lr <- lr f(epoch); nothing at epoch 0.

    Args:
        optimizer: whose learning rates to set.
        lr_lambda: f, or a list of functions, one for each parameter group.
        last_epoch: see ``LRScheduler``.
    """

    def get_lr(self) -> list[float]:
        """lr f(epoch)."""
        lrs = current(self.optimizer)
        if self._is_initial:
            return lrs
        return [lr * f(self.last_epoch) for lr, f in zip(lrs, self.lr_lambdas, strict=True)]


class _Chainable(LRScheduler):
    """A schedule that is a factor of the present lr, and in closed form a factor of lr0."""

    def ratio(self) -> float:
        """By what this epoch multiplies the present learning rate."""
        raise NotImplementedError

    def share(self) -> float:
        """lr / lr0 in this epoch: the closed form."""
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        """The present learning rates times ``ratio()``."""
        ratio = self.ratio()
        return [lr * ratio for lr in current(self.optimizer)]

    def _get_closed_form_lr(self) -> list[float]:
        share = self.share()
        return [lr0 * share for lr0 in self.base_lrs]


class StepLR(_Chainable):
    """Decay by a factor every so many epochs: lr = lr0 gamma^floor(epoch / step_size).

    Args:
        optimizer: whose learning rates to set.
        step_size: epochs from one decay to the next.
        gamma: the factor.
        last_epoch: see ``LRScheduler``.

    Source: Ng's "discrete staircase" ("Improving deep neural networks", week 2); by 10 every 30
        epochs in the training of He et al. (2016) and after.

    Example:
        >>> from minigrad import Tensor, optim
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=1.0)
        >>> scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
        >>> lrs = []
        >>> for epoch in range(5):
        ...     lrs += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> lrs
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        numbers(above=0, step_size=step_size)
        numbers(least=0, gamma=gamma)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """Gamma where the epoch is a multiple of step_size."""
        return self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else 1.0

    def share(self) -> float:
        """gamma^floor(epoch / step_size)."""
        return float(self.gamma ** (self.last_epoch // self.step_size))


class MultiStepLR(_Chainable):
    """Decay by a factor at given epochs: lr = lr0 gamma^(milestones reached).

    Args:
        optimizer: whose learning rates to set.
        milestones: the epochs; one that is named twice counts twice.
        gamma: the factor.
        last_epoch: see ``LRScheduler``.

    Differs: Keras' PiecewiseConstantDecay takes the values instead of a factor, and changes one
        step after the boundary.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(milestones, Iterable):
            raise TypeError(
                f"milestones must be a list of epochs, got {type(milestones).__name__}; StepLR "
                "takes an interval."
            )
        numbers(least=0, gamma=gamma)
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """Gamma for every time the epoch is a milestone."""
        return float(self.gamma ** self.milestones[self.last_epoch])

    def share(self) -> float:
        """gamma^(milestones reached)."""
        reached = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return float(self.gamma**reached)


class ConstantLR(_Chainable):
    """A smaller learning rate at first: lr = lr0 factor for total_iters epochs, then lr0.

    Args:
        optimizer: whose learning rates to set.
        factor: between 0 and 1.
        total_iters: how many epochs.
        last_epoch: see ``LRScheduler``.

    Differs: with factor=0 PyTorch divides by zero at the end; here lr0 comes back.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _share("factor", factor)
        numbers(least=0, total_iters=total_iters)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present learning rates, and lr0 after a factor of 0."""
        if self.factor == 0 and self.last_epoch == self.total_iters > 0:
            return list(self.base_lrs)
        return super().get_lr()

    def ratio(self) -> float:
        """The factor at first, its inverse at the end."""
        if self.last_epoch == 0:
            return self.factor
        return 1.0 / self.factor if self.last_epoch == self.total_iters else 1.0

    def share(self) -> float:
        """The factor, then 1."""
        return self.factor if self.last_epoch < self.total_iters else 1.0


class LinearLR(_Chainable):
    """A line from start_factor to end_factor in total_iters epochs, such as a warm-up.

    ::

        lr = lr0 (start + (end - start) min(epoch, total_iters) / total_iters)

    Args:
        optimizer: whose learning rates to set.
        start_factor: above 0 and at most 1.
        end_factor: between 0 and 1.
        total_iters: how many epochs.
        last_epoch: see ``LRScheduler``.

    Source: as a warm-up: Goyal et al. (2017), arXiv:1706.02677, section 2.2.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _share("start_factor", start_factor)
        _share("end_factor", end_factor)
        if start_factor == 0:
            raise ValueError(
                "start_factor must be above 0: each step is a multiple of the one before, got 0."
            )
        numbers(least=0, total_iters=total_iters)
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """This epoch's share over that of the epoch before."""
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return max(0.0, 1.0 + rise / before)  # a line to 0 can end at -1e-18 by rounding

    def share(self) -> float:
        """The line."""
        if self.total_iters == 0:
            return self.start_factor
        done = min(self.total_iters, self.last_epoch) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class ExponentialLR(_Chainable):
    """Decay by the same factor every epoch: lr = lr0 gamma^epoch.

    Args:
        optimizer: whose learning rates to set.
        gamma: the factor.
        last_epoch: see ``LRScheduler``.

    Source: Ng's "exponential decay", 0.95^epoch lr0.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        numbers(least=0, gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """Gamma, at first 1."""
        return 1.0 if self._is_initial else self.gamma

    def share(self) -> float:
        """gamma^epoch."""
        return float(self.gamma**self.last_epoch)


class PolynomialLR(_Chainable):
    """Down to 0 as a power of the epochs that are left.

    ::

        lr = lr0 (1 - min(epoch, total_iters) / total_iters)^power

    Args:
        optimizer: whose learning rates to set.
        total_iters: the epoch at which lr is 0, and stays.
        power: 1 is a line; above 1 it lands smoothly.
        last_epoch: see ``LRScheduler``.

    Source: Chen et al. (2017), "DeepLab", arXiv:1606.00915, the "poly" policy, power 0.9.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        numbers(least=0, total_iters=total_iters, power=power)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """This epoch's share over that of the epoch before."""
        t, total = self.last_epoch, self.total_iters
        if self._is_initial or t > total:
            return 1.0
        return float(((1.0 - t / total) / (1.0 - (t - 1) / total)) ** self.power)

    def share(self) -> float:
        """The power."""
        if self.total_iters == 0:
            return 1.0
        return float((1 - min(self.total_iters, self.last_epoch) / self.total_iters) ** self.power)


class InverseTimeLR(_Chainable):
    """The classical decay: lr = lr0 / (1 + decay epoch).

    Args:
        optimizer: whose learning rates to set.
        decay: the larger, the faster; lr is halved after 1 / decay epochs.
        last_epoch: see ``LRScheduler``.

    Source: Robbins and Monro (1951): steps whose sum is infinite and whose squares' sum is not;
        Ng's first formula, 1 / (1 + decay_rate epoch_num) alpha0.
    Differs: PyTorch has it as ``Adagrad(lr_decay=)`` alone; Keras' InverseTimeDecay divides the
        epoch by ``decay_steps`` besides.

    Example:
        >>> from minigrad import Tensor, optim
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=0.2)
        >>> scheduler = InverseTimeLR(optimizer, decay=1.0)
        >>> lrs = []
        >>> for epoch in range(4):
        ...     lrs += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> [round(lr, 3) for lr in lrs]
        [0.2, 0.1, 0.067, 0.05]
    """

    def __init__(self, optimizer: Optimizer, decay: float, last_epoch: int = -1) -> None:
        numbers(least=0, decay=decay)
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """This epoch's share over that of the epoch before."""
        if self._is_initial:
            return 1.0
        return self.share() * (1 + self.decay * (self.last_epoch - 1))

    def share(self) -> float:
        """1 / (1 + decay epoch)."""
        return 1 / (1 + self.decay * self.last_epoch)


class InverseSqrtLR(_Chainable):
    """Decay with the root of the steps, after a linear warm-up.

    ::

        t  = epoch + 1                        steps counted from 1
        lr = lr0 k / sqrt(t)                  warmup = 0
        lr = lr0 k min(t / w^1.5, 1 / sqrt(t))        warmup = w: up to lr0 k / sqrt(w), then down

    Args:
        optimizer: whose learning rates to set.
        k: a factor.
        warmup: w, the steps in which lr rises.
        last_epoch: see ``LRScheduler``.

    Source: Ng's k / sqrt(epoch_num) alpha0; with warm-up: Vaswani et al. (2017), "Attention is all
        you need", arXiv:1706.03762, equation 3, with lr0 = 1 and k = d_model^-0.5.
    Differs: PyTorch has neither; its users write them as a LambdaLR. The step is counted from 1,
        since 1 / sqrt(0) has no value.
    """

    def __init__(
        self, optimizer: Optimizer, k: float = 1.0, warmup: int = 0, last_epoch: int = -1
    ) -> None:
        numbers(above=0, k=k)
        numbers(least=0, warmup=warmup)
        self.k, self.warmup = k, warmup
        super().__init__(optimizer, last_epoch)

    def ratio(self) -> float:
        """This epoch's share over that of the epoch before."""
        if self.last_epoch == 0:
            return self.share()
        return 1.0 if self._is_initial else self.share() / self._of(self.last_epoch)

    def share(self) -> float:
        """The formula."""
        return self._of(self.last_epoch + 1)

    def _of(self, t: int) -> float:
        if t < self.warmup:
            return float(self.k * t / self.warmup**1.5)
        return float(self.k / t**0.5)


def _share(name: str, value: float) -> None:
    """Raise unless a factor is between 0 and 1."""
    numbers(least=0, **{name: value})
    if value > 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}.")
