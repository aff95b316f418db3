"""Averages of weights (SWA, EMA), BatchNorm's statistics for them, and their schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from minigrad.backends.capture import effect
from minigrad.creation import tensor
from minigrad.dtypes import int64
from minigrad.engine import changed, set_recording
from minigrad.errors import ShapeError
from minigrad.nn.module import Module
from minigrad.nn.norm import _BatchNorm
from minigrad.optim.lr_scheduler import LRScheduler
from minigrad.optim.lr_scheduler.base import a_group_each, lr_of, numbers
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], Any], None]


def get_swa_avg_fn() -> Average:
    """The mean of all models so far: a + (w - a) / (n + 1), after n models."""

    def average(averaged: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return averaged + (current - averaged) / (int(num_averaged) + 1)

    return average


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average: decay a + (1 - decay) w, about 1 / (1 - decay) models."""
    _check_decay(decay)

    def average(averaged: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return decay * averaged + (1 - decay) * current

    return average


def get_swa_multi_avg_fn() -> MultiAverage:
    """As ``get_swa_avg_fn``, for ``multi_avg_fn``: all tensors of one device and dtype at once."""
    return _for_lists(get_swa_avg_fn())


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """As ``get_ema_avg_fn``, for ``multi_avg_fn``: all tensors of one device and dtype at once."""
    return _for_lists(get_ema_avg_fn(decay))


class AveragedModel(Module):
    """A copy of a model whose weights are the average of that model's, as it is trained.

    ::

        a <- w                       at the first update_parameters
        a <- a + (w - a) / (n + 1)   at the n-th after it: the mean (SWA)
        a <- d a + (1 - d) w         with avg_fn=get_ema_avg_fn(d)

    The mean of weights along the way lies in a wider, flatter minimum than its end. BatchNorm's
    running statistics belong to the model they were seen with: after averaging, ``update_bn``.

    Args:
        model: what to average; it is copied.
        device: where the average is kept; None: where the model is.
        avg_fn: the rule, ``avg_fn(averaged, current, num_averaged)`` gives the new average.
        multi_avg_fn: the rule for lists of tensors of one device and dtype, in place.
        use_buffers: average the buffers (running statistics), too, instead of copying the last.

    Source: Izmailov et al. (2018), "Averaging weights leads to wider optima and better
        generalization", arXiv:1803.05407, algorithm 1; averages of iterates: Polyak and Juditsky
        (1992).
    Differs: an average of integers (the count of batches) is cut to an integer, as in PyTorch; a
        model of other shapes is refused, not cut off at the shorter list.

    Example:
        >>> from minigrad import nn
        >>> model = nn.Linear(1, 1)
        >>> averaged = AveragedModel(model)
        >>> for value in (1.0, 2.0, 6.0):
        ...     _ = nn.init.constant_(model.weight, value)
        ...     averaged.update_parameters(model)
        >>> averaged.module.weight.item()
        3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel takes a module, got {type(model).__name__}.")
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("pass avg_fn or multi_avg_fn, not both: they are one rule.")
        self.module = deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model, as it is now, into the average."""
        effect(self._update, model)

    def _update(self, model: Module) -> None:
        pairs = _pairs(self.module.parameters(), model.parameters(), "parameter")
        buffers = _pairs(self.module.buffers(), model.buffers(), "buffer")
        if self.use_buffers:
            pairs, buffers = pairs + buffers, []
        with set_recording(False):
            if int(self.n_averaged) == 0:
                buffers = pairs + buffers
            elif self.multi_avg_fn is not None:
                for group in _by_kind(pairs):
                    self.multi_avg_fn(
                        [a for a, _ in group], [w for _, w in group], self.n_averaged.detach()
                    )
            else:
                rule = self.avg_fn or get_swa_avg_fn()
                new = [rule(a, w, self.n_averaged.detach()) for a, w in pairs]
                for (averaged, _), value in zip(pairs, new, strict=True):
                    averaged.copy_(value)
            for averaged, current in buffers:
                averaged.copy_(current)
        self.n_averaged.array += 1
        changed(self.n_averaged.array)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute BatchNorm's running statistics anew, as the mean over all batches of a loader.

    For a model whose weights were averaged or otherwise changed. The model runs in train mode,
    without gradients; afterwards every module is in the mode it was in, with the momentum it had.
    A model without running statistics is not run at all, and what ``freeze()`` holds still stays
    so. ``optim.inference_statistics`` compares
    this way with others.

    Args:
        loader: batches; of a tuple or list the first is the input.
        model: whose statistics to compute.
        device: where to move the inputs.

    Raises:
        ValueError: where the loader is empty.

    Source: Izmailov et al. (2018), arXiv:1803.05407, section 3.1.
    Differs: PyTorch leaves all submodules in the mode of the outermost, frozen BatchNorms among
        them, and reset statistics after an error or an empty loader; here an error leaves the
        statistics as they were.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.update_running]
    if not any(m.track_running_stats for m in norms):
        return
    modes = [(m, m.training) for m in model.modules()]
    before_it = [(m.momentum, m.normalize_by) for m in norms]
    before = [(b, b.detach().clone()) for m in norms for b in m.buffers()]
    seen = 0
    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.normalize_by = None, "batch"  # the cumulative average
        with set_recording(False):
            for batch in loader:
                x = batch[0] if isinstance(batch, list | tuple) else batch
                model(x if device is None else x.to(device))
                seen += 1
        if not seen:
            raise ValueError(
                "update_bn() got an empty loader; it needs at least one batch (an iterator that "
                "was used up before?)."
            )
    except BaseException:
        with set_recording(False):
            for buffer, value in before:
                buffer.copy_(value)
        raise
    finally:
        for norm, (momentum, normalize_by) in zip(norms, before_it, strict=True):
            norm.momentum, norm.normalize_by = momentum, normalize_by
        for module, mode in modes:
            module.training = mode


class SWALR(LRScheduler):
    """From the present learning rate to a constant one, at which the weights are averaged.

    ::

        lr = lr0 (1 - s) + swa_lr s       s: 0 -> 1 in anneal_epochs, along a cosine or a line

    Args:
        optimizer: whose learning rates to set.
        swa_lr: where it ends, and stays; or a list, one for each parameter group.
        anneal_epochs: how many epochs it takes; 0: at once.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        last_epoch: see ``LRScheduler``.

    Source: Izmailov et al. (2018), arXiv:1803.05407.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}.")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(
                f"anneal_epochs must be an integer of at least 0, got {anneal_epochs!r}."
            )
        rates = a_group_each("swa_lr", optimizer, swa_lr)
        numbers(least=0, **{f"swa_lr[{i}]": rate for i, rate in enumerate(rates)})
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        done = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return done if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * done)) / 2

    def get_lr(self) -> list[float]:
        """The learning rate the annealing began with, found from the present one, and its mix."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        lrs = []
        for group in self.optimizer.param_groups:
            end = group["swa_lr"]
            start = end if before == 1 else (lr_of(group) - before * end) / (1 - before)
            lrs.append(end * now + start * (1 - now))
        return lrs


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be between 0 and 1, got {decay}.")


def _for_lists(rule: Average) -> MultiAverage:
    def average(averaged: list[Tensor], current: list[Tensor], num_averaged: Any) -> None:
        with set_recording(False):
            for a, w in zip(averaged, current, strict=True):
                a.copy_(rule(a, w, num_averaged))

    return average


def _pairs(
    averaged: Iterable[Tensor], current: Iterable[Tensor], kind: str
) -> list[tuple[Tensor, Tensor]]:
    """The tensors of two models, side by side, without gradients."""
    ours, theirs = list(averaged), list(current)
    if len(ours) != len(theirs):
        raise ValueError(
            f"the averaged model has {len(ours)} {kind}s, this one {len(theirs)}; pass the model "
            "that it was made from."
        )
    pairs = []
    for i, (a, w) in enumerate(zip(ours, theirs, strict=True)):
        if a.shape != w.shape:
            raise ShapeError(
                f"{kind} {i} has shape {a.shape} in the averaged model, {w.shape} in this one; "
                "pass the model that it was made from."
            )
        pairs.append((a.detach(), w.detach().to(a.device)))
    return pairs


def _by_kind(pairs: list[tuple[Tensor, Tensor]]) -> Iterable[list[tuple[Tensor, Tensor]]]:
    """The pairs, grouped by device and dtype."""
    groups: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
    for a, w in pairs:
        groups.setdefault((str(a.device), str(a.dtype)), []).append((a, w))
    return groups.values()
