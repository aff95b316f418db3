"""A schedule that watches a measure instead of counting."""

from __future__ import annotations

import math
import warnings
from typing import Any

from minigrad.optim.lr_scheduler.base import (
    LRScheduler,
    a_group_each,
    an_optimizer,
    current,
    lr_of,
    numbers,
    set_lr,
)
from minigrad.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiply lr by a factor where a measure, such as the validation loss, stops improving.

    ::

        better:   m < best (1 - threshold)   "min", "rel"        m < best - threshold   "min", "abs"
                  m > best (1 + threshold)   "max", "rel"        m > best + threshold   "max", "abs"
        more than `patience` bad epochs one after another:  lr <- max(factor lr, min_lr)

    Args:
        optimizer: whose learning rates to set.
        mode: whether ``"min"`` or ``"max"`` is good.
        factor: below 1.
        patience: bad epochs that are put up with.
        threshold: by how much a better value has to be better.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: epochs after a reduction in which bad ones do not count.
        min_lr: lower end, or a list, one for each parameter group.
        eps: a change smaller than this is not made.

    Differs: a measure that is NaN counts as a bad epoch. Keras compares by an absolute min_delta,
        by default 1e-4, and counts ``patience`` from 1: its 10 is 9 here.

    Example:
        >>> from minigrad import Tensor, optim
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=1.0)
        >>> scheduler = ReduceLROnPlateau(optimizer, patience=1)
        >>> lrs = []
        >>> for loss in [0.5, 0.4, 0.4, 0.4, 0.4]:
        ...     optimizer.step()
        ...     scheduler.step(loss)
        ...     lrs += scheduler.get_last_lr()
        >>> lrs
        [1.0, 1.0, 1.0, 0.1, 0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        numbers(least=0, factor=factor, patience=patience, threshold=threshold)
        numbers(least=0, cooldown=cooldown, eps=eps)
        if factor >= 1:
            raise ValueError(f"factor must be below 1, it is to reduce lr; got {factor}.")
        self.optimizer = an_optimizer(optimizer)
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}.")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}.")
        self.min_lrs = a_group_each("min_lr", optimizer, min_lr)
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best, self.num_bad_epochs, self.cooldown_counter = self.mode_worse, 0, 0
        self.last_epoch = 0
        self._last_lr = current(optimizer)

    @property
    def in_cooldown(self) -> bool:
        """Whether a reduction was just made."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Look at the measure of one more epoch: a number, or a tensor of one element."""
        try:
            value = float(metrics)
        except (TypeError, ValueError):
            raise TypeError(
                "step() takes the measure to watch, a number such as the validation loss, got "
                f"{metrics!r}."
            ) from None
        if epoch is not None:
            warnings.warn(
                "scheduler.step(metrics, epoch) is deprecated; call scheduler.step(metrics).",
                UserWarning,
                stacklevel=2,
            )
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(value, self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = current(self.optimizer)

    def is_better(self, value: float, best: float) -> bool:
        """Whether a measure is better than the best so far, by more than the threshold."""
        if self.threshold_mode == "rel":
            bar = best * (1 - self.threshold if self.mode == "min" else 1 + self.threshold)
        else:
            bar = best - self.threshold if self.mode == "min" else best + self.threshold
        return value < bar if self.mode == "min" else value > bar

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"the optimizer has {len(groups)} parameter groups, min_lr was given for "
                    f"{len(self.min_lrs)}; a group was added since: set scheduler.min_lrs."
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = lr_of(group)
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_lr(group, new)
