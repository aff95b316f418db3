"""Schedules made of schedules: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from minigrad.optim.lr_scheduler.base import LRScheduler, an_optimizer, current, set_lr
from minigrad.optim.lr_scheduler.plateau import ReduceLROnPlateau
from minigrad.optim.optimizer import Optimizer


class _Composed(LRScheduler):
    """What SequentialLR and ChainedScheduler share: checks and state."""

    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if isinstance(schedulers, LRScheduler) or not isinstance(schedulers, Sequence):
            raise TypeError(f"{name} takes a list of schedulers, got {type(schedulers).__name__}.")
        if not schedulers:
            raise ValueError(f"{name} expects at least one scheduler, got none.")
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"{name} takes schedulers, the one at index {i} is a "
                    f"{type(scheduler).__name__}."
                )
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} cannot hold a ReduceLROnPlateau (index {i}): its step() needs the "
                    "measure; step it on its own, beside this one."
                )
            optimizer = scheduler.optimizer if optimizer is None else an_optimizer(optimizer)
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer; the "
                    f"{type(scheduler).__name__} at index {i} has another."
                )
        assert optimizer is not None
        self.optimizer, self._schedulers = optimizer, list(schedulers)

    def get_lr(self) -> list[float]:
        """The present learning rates: the parts compute them."""
        return current(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """As ``LRScheduler.state_dict``, with the states of the parts."""
        own = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_schedulers")}
        return {**deepcopy(own), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As ``LRScheduler.load_state_dict``, the parts with their states."""
        state = self._matching(state_dict)
        for scheduler, kept in zip(self._schedulers, state.pop("_schedulers"), strict=True):
            scheduler.load_state_dict(kept)
        self.__dict__.update(deepcopy(state))

    def _matching(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        state = super()._matching(state_dict)
        if len(state["_schedulers"]) != len(self._schedulers):
            raise ValueError(
                f"the state dict has {len(state['_schedulers'])} schedulers, this "
                f"{type(self).__name__} {len(self._schedulers)}; build it as it was."
            )
        for scheduler, kept in zip(self._schedulers, state["_schedulers"], strict=True):
            scheduler._matching(kept)
        return state


class SequentialLR(_Composed):
    """One schedule after another: the next one begins, at its epoch 0, at each milestone.

    Args:
        optimizer: whose learning rates to set.
        schedulers: made for that optimizer, in their order.
        milestones: the epochs at which the second, the third, ... begins.
        last_epoch: see ``LRScheduler``.

    Differs: one that is made of others itself begins at its own epoch 0, too; PyTorch fails there
        or begins one epoch late.

    Example:
        >>> from minigrad import Tensor, optim
        >>> from minigrad.optim.lr_scheduler import CosineAnnealingLR, LinearLR
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=1.0)
        >>> warmup = LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> decay = CosineAnnealingLR(optimizer, T_max=4)
        >>> scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[3])
        >>> lrs = []
        >>> for epoch in range(8):
        ...     lrs += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> [round(lr, 2) for lr in lrs]
        [0.25, 0.5, 0.75, 1.0, 0.85, 0.5, 0.15, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR needs one milestone less than schedulers, got {len(milestones)} "
                f"milestones for {len(schedulers)} schedulers."
            )
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones must rise, got {list(milestones)}.")
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        _reset_lr(optimizer)
        _undo(self)
        self._now()._begin()
        self._last_lr = current(optimizer)

    def _now(self) -> LRScheduler:
        return self._schedulers[bisect_right(self._milestones, max(self.last_epoch, 0))]

    def step(self) -> None:  # type: ignore[override]
        """Go to the next epoch."""
        self.last_epoch += 1
        scheduler = self._now()
        if self.last_epoch in self._milestones:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = current(self.optimizer)

    def _begin(self) -> None:
        self.last_epoch = 0
        self._now()._begin()
        self._last_lr = current(self.optimizer)

    def _restart(self) -> None:
        self.last_epoch = 0
        self._now()._restart()
        self._last_lr = current(self.optimizer)


class ChainedScheduler(_Composed):
    """Several schedules at once: each changes what the one before has left.

    Args:
        schedulers: made for one optimizer, in the order in which they step.
        optimizer: that optimizer; by default the first scheduler's.

    Example:
        >>> from minigrad import Tensor, optim
        >>> from minigrad.optim.lr_scheduler import ConstantLR, ExponentialLR
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=1.0)
        >>> parts = [ConstantLR(optimizer, 0.5, 2), ExponentialLR(optimizer, 0.9)]
        >>> scheduler = ChainedScheduler(parts)
        >>> lrs = []
        >>> for epoch in range(4):
        ...     lrs += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> [round(lr, 3) for lr in lrs]
        [0.5, 0.45, 0.81, 0.729]
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = current(self.optimizer)

    def step(self) -> None:  # type: ignore[override]
        """Step each of them."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = current(self.optimizer)

    def _begin(self) -> None:
        for scheduler in self._schedulers:
            scheduler._begin()
        self._last_lr = current(self.optimizer)

    def _restart(self) -> None:
        _reset_lr(self.optimizer)
        for scheduler in self._schedulers:
            scheduler.last_epoch = -1
        self._begin()


def _reset_lr(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        set_lr(group, group["initial_lr"])


def _undo(scheduler: LRScheduler) -> None:
    """Take back the first step that a scheduler took when it was made."""
    if isinstance(scheduler, _Composed):
        for part in scheduler._schedulers:
            _undo(part)
    else:
        scheduler.last_epoch -= 1
