"""Schedules that rise and fall: cosines, cycles, one cycle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minigrad.optim.lr_scheduler.base import (
    LRScheduler,
    a_group_each,
    an_optimizer,
    current,
    cycled_momentum,
    numbers,
    set_lr,
    set_momentum,
)
from minigrad.optim.optimizer import Optimizer

TRIANGLES = ("triangular", "triangular2", "exp_range")


class CosineAnnealingLR(LRScheduler):
    """Down along half a cosine, and up again: a period is 2 T_max.

    ::

        lr = eta_min + (lr0 - eta_min) (1 + cos(pi epoch / T_max)) / 2

    Flat at both ends: it stays long at large learning rates and long at small ones.

    Args:
        optimizer: whose learning rates to set.
        T_max: epochs from lr0 to eta_min; most stop there.
        eta_min: the smallest value.
        last_epoch: see ``LRScheduler``.

    Source: Loshchilov and Hutter (2017), "SGDR", arXiv:1608.03983, equation 5, without restarts.
    Differs: after T_max Keras' CosineDecay stays at the minimum, this one rises again, as in
        PyTorch.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        numbers(above=0, T_max=T_max)
        numbers(eta_min=eta_min)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The distance to eta_min, times this epoch's 1 + cos over that of the epoch before."""
        lrs, low, t = current(self.optimizer), self.eta_min, self.last_epoch
        if self._is_initial:
            return lrs
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # up from the minimum: no ratio of 0
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (lr0 - low) * rise for lr, lr0 in zip(lrs, self.base_lrs, strict=True)]
        now, before = (1 + math.cos(math.pi * n / self.T_max) for n in (t, t - 1))
        return [now / before * (lr - low) + low for lr in lrs]

    def _get_closed_form_lr(self) -> list[float]:
        t = self.last_epoch
        return [cosine(lr0, self.eta_min, t / self.T_max) for lr0 in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """SGDR: down along half a cosine, back to the start at once, and again, each time longer.

    ::

        lr = eta_min + (lr0 - eta_min) (1 + cos(pi T_cur / T_i)) / 2
        T_cur: epochs since the last restart;  T_i: T_0, T_0 T_mult, T_0 T_mult^2, ...

    Args:
        optimizer: whose learning rates to set.
        T_0: epochs until the first restart.
        T_mult: by how much each period is longer than the one before.
        eta_min: the smallest value.
        last_epoch: see ``LRScheduler``.

    Source: Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
        arXiv:1608.03983, equation 5.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"T_0 must be a positive integer, got {T_0!r}.")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"T_mult must be an integer of at least 1, got {T_mult!r}.")
        if not isinstance(eta_min, float | int):
            raise ValueError(f"eta_min must be a float or int, got {eta_min!r}.")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The cosine at T_cur of T_i."""
        return [cosine(lr0, self.eta_min, self.T_cur / self.T_i) for lr0 in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to ``epoch``, which may be a fraction: epoch + batch / batches.

        Example:
            >>> from minigrad import Tensor, optim
            >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=1.0)
            >>> scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=2)
            >>> lrs = []
            >>> for batch in range(4):
            ...     optimizer.step()
            ...     scheduler.step(1 + batch / 4)
            ...     lrs += scheduler.get_last_lr()
            >>> [round(lr, 3) for lr in lrs]
            [0.5, 0.309, 0.146, 0.038]
        """
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            numbers(least=0, epoch=epoch)
            self._place(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _place(self, epoch: float) -> None:
        """T_cur and T_i of an epoch."""
        self.T_cur, self.T_i = epoch, self.T_0
        if epoch >= self.T_0 and self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        elif epoch >= self.T_0:
            while self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult


class OneCycleLR(LRScheduler):
    """One rise and one fall of the learning rate, with momentum the other way round.

    ::

        steps        0 ... pct_start total_steps - 1 ...            total_steps - 1
        lr           max_lr / div_factor -> max_lr -> max_lr / (div_factor final_div_factor)
        momentum     max_momentum -> base_momentum -> max_momentum

    along half a cosine or a line each. Call ``step()`` after every batch. The large learning rates
    in the middle regularize; a large momentum there would make them diverge.

    Args:
        optimizer: whose learning rates (and momentum, or beta1) to set.
        max_lr: the peak, or a list of peaks, one for each parameter group.
        total_steps: how many batches in all; or
        epochs: how many epochs, and
        steps_per_epoch: batches an epoch.
        pct_start: the share of the steps that rises.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: whether momentum moves.
        base_momentum: its value at the peak of lr, or a list.
        max_momentum: its value at both ends, or a list.
        div_factor: lr begins at max_lr / div_factor.
        final_div_factor: and ends at that, divided by final_div_factor.
        three_phase: fall as fast as it rose to where it began, and only then to the end.
        last_epoch: see ``LRScheduler``.

    Source: Smith and Topin (2018), "Super-convergence", arXiv:1708.07120, which has lines and three
        phases.
    Differs: the defaults, cosines and two phases, are those of PyTorch and fastai.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = an_optimizer(optimizer)
        if total_steps is not None:
            self.total_steps = _positive("total_steps", total_steps)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = _positive("epochs", epochs)
            self.total_steps *= _positive("steps_per_epoch", steps_per_epoch)
        else:
            raise ValueError("pass either total_steps, or epochs and steps_per_epoch; got neither.")
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start must be a float between 0 and 1, got {pct_start!r}.")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}.")
        numbers(above=0, div_factor=div_factor, final_div_factor=final_div_factor)
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        peaks = a_group_each("max_lr", optimizer, max_lr)
        numbers(least=0, **{f"max_lr[{i}]": peak for i, peak in enumerate(peaks)})
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = cycled_momentum(
                optimizer, base_momentum, max_momentum, begin=last_epoch == -1
            )
        if last_epoch == -1:
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["initial_lr"], group["max_lr"] = peak / div_factor, peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Where this step is between the ends of its phase; sets the momentum, too."""
        t, start = self.last_epoch, 0.0
        if t > self.total_steps:
            raise ValueError(
                f"OneCycleLR was made for {self.total_steps} steps, this is step {t}; pass a larger"
                " total_steps (epochs x batches per epoch)."
            )
        for phase in self._schedule_phases:
            end = phase["end_step"]
            if t <= end:
                break
            start = end if phase is not self._schedule_phases[-1] else start
        done = (t - start) / (end - start) if end != start else 1.0
        anneal = cosine if self._anneal_func_type == "cos" else line
        lrs = []
        for group in self.optimizer.param_groups:
            lrs.append(anneal(group[phase["start_lr"]], group[phase["end_lr"]], done))
            if self.cycle_momentum:
                ends = group[phase["start_momentum"]], group[phase["end_momentum"]]
                set_momentum(group, anneal(*ends, done))
        return lrs


class CyclicLR(LRScheduler):
    """The learning rate swings between two values, and momentum the other way round.

    ::

        cycle = floor(1 + t / (up + down))        t: steps from 0
        lr    = base_lr + (max_lr - base_lr) h s       h: 0 -> 1 in `up` steps, 1 -> 0 in `down`
        s     = 1                                 "triangular"
        s     = 2^-(cycle - 1)                    "triangular2": each cycle half as high
        s     = gamma^t                           "exp_range"

    Call ``step()`` after every batch.

    Args:
        optimizer: whose learning rates (and momentum, or beta1) to set.
        base_lr: the lower end, or a list, one for each parameter group.
        max_lr: the upper end, or a list.
        step_size_up: steps from base_lr to max_lr; two to eight epochs.
        step_size_down: and back; None: as many.
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``.
        gamma: of "exp_range".
        scale_fn: s, in place of mode's.
        scale_mode: whether scale_fn takes the ``"cycle"`` (from 1) or the ``"iterations"``.
        cycle_momentum: whether momentum moves.
        base_momentum: its value at the peaks of lr, or a list.
        max_momentum: its value between them, or a list.
        last_epoch: see ``LRScheduler``.

    Source: Smith (2017), "Cyclical learning rates for training neural networks", arXiv:1506.01186.
    """

    _functions = ("_scale_fn_custom",)

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = an_optimizer(optimizer)
        lows = a_group_each("base_lr", optimizer, base_lr)
        self.max_lrs = a_group_each("max_lr", optimizer, max_lr)
        step_size_down = step_size_up if step_size_down is None else step_size_down
        numbers(above=0, step_size_up=step_size_up)
        numbers(least=0, step_size_down=step_size_down)
        if scale_fn is None and mode not in TRIANGLES:
            raise ValueError(
                f"mode must be one of {', '.join(map(repr, TRIANGLES))}, got {mode!r}; or pass "
                "scale_fn."
            )
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"scale_mode must be 'cycle' or 'iterations', got {scale_mode!r}.")
        self.total_size = float(step_size_up) + float(step_size_down)
        self.step_ratio = float(step_size_up) / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = cycled_momentum(
                optimizer, base_momentum, max_momentum, begin=last_epoch == -1
            )
            self.base_momentums = a_group_each("base_momentum", optimizer, base_momentum)
            self.max_momentums = a_group_each("max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lows, strict=True):
                set_lr(group, low)
        self.base_lrs = lows
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def scale_fn(self, x: float) -> float:
        """How high the cycle is: of the cycle, or of the step."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return float(self.gamma**x)
        return 1 / 2.0 ** (x - 1) if self.mode == "triangular2" else 1.0

    def get_lr(self) -> list[float]:
        """Base plus height; sets the momentum, too."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle  # the share of the cycle that is over
        up = self.step_ratio
        height = x / up if x <= up else (x - 1) / (up - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True
            ):
                set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in self._ends()]

    def _ends(self) -> Any:
        return zip(self.base_lrs, self.max_lrs, strict=True)


def cosine(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end`` along half a cosine; ``done`` is the share of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def line(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end`` along a line."""
    return start + (end - start) * done


def _phases(total: int, pct_start: float, three: bool) -> list[dict[str, Any]]:
    """OneCycleLR's phases: the last step of each, and the settings at its ends."""
    high, low = "max_momentum", "base_momentum"
    ends = [(pct_start * total - 1, "initial_lr", "max_lr", high, low)]
    if three:
        ends.append((2 * pct_start * total - 2, "max_lr", "initial_lr", low, high))
        ends.append((total - 1, "initial_lr", "min_lr", high, high))
    else:
        ends.append((total - 1, "max_lr", "min_lr", low, high))
    names = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
    return [dict(zip(names, row, strict=True)) for row in ends]


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return value
