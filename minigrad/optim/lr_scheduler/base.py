"""LRScheduler: what every schedule of the learning rate is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import FunctionType
from typing import Any

from minigrad.backends.capture import effect, on_host
from minigrad.engine import set_recording
from minigrad.optim.optimizer import Group, Optimizer
from minigrad.tensor import Tensor

#: Entries of PyTorch's state dicts that say nothing about the schedule.
_OF_PYTORCH = ("_get_lr_called_within_step", "_is_initial", "verbose", "_scale_fn_ref")


class LRScheduler:
    """Base class of the schedules: it sets ``lr`` in every parameter group of an optimizer.

    ``step()`` counts one epoch, or one batch if it is called after every batch, and sets the
    learning rates for the next. It comes after ``optimizer.step()``. A subclass defines ``get_lr``;
    ``self.last_epoch`` counts from 0.

    Most schedules are *chainable*: they change the present learning rate by a factor, so several of
    them work on one optimizer together. The docstrings give the *closed form*, the value as a
    function of the epoch, with lr0 the learning rate the optimizer was made with ("initial_lr" in
    its groups).

    Args:
        optimizer: whose learning rates to set.
        last_epoch: the last epoch seen, to resume: the groups must have "initial_lr" then. Usually
            ``load_state_dict`` is simpler.

    Example:
        >>> from minigrad import Tensor, optim
        >>> class Halving(LRScheduler):
        ...     def get_lr(self):
        ...         return [lr0 / 2**self.last_epoch for lr0 in self.base_lrs]
        >>> optimizer = optim.SGD([Tensor(1.0, requires_grad=True)], lr=0.8)
        >>> scheduler = Halving(optimizer)
        >>> for epoch in range(2):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.2]
    """

    optimizer: Optimizer
    base_lrs: list[float]
    last_epoch: int
    _last_lr: list[float]
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = an_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", lr_of(group))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}], and "
                    f"last_epoch={last_epoch} resumes a schedule; load the optimizer's state dict "
                    "first, or begin with last_epoch=-1."
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self) -> None:
        """Count from the start: the first value of the schedule."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            del self._is_initial  # False again, that of the class: no entry of the state

    # ---- the rule ------------------------------------------------------------------------------

    def get_lr(self) -> list[float]:
        """The learning rates of ``self.last_epoch``, one a group, from the groups as they are.

        For subclasses: outside of ``step()`` it applies the change once more. What was set last is
        ``get_last_lr()``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no get_lr(); define one.")

    # ---- what training calls -------------------------------------------------------------------

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch, or to ``epoch`` (deprecated, as in PyTorch): set every ``lr``."""
        if self._step_count == 1 and not _has_stepped(self.optimizer):
            warnings.warn(
                "scheduler.step() was called before optimizer.step(): the first value of the "
                "schedule is skipped. Call optimizer.step() first.",
                UserWarning,
                stacklevel=2,
            )
        if epoch is not None:
            warnings.warn(
                "scheduler.step(epoch) is deprecated and uses the closed form where there is one; "
                "call scheduler.step().",
                UserWarning,
                stacklevel=2,
            )
        effect(self._advance, epoch)

    @on_host
    def _advance(self, epoch: int | None) -> None:
        self._step_count += 1
        try:
            self._update_lr(epoch)
        except Exception:
            self._step_count -= 1
            raise

    def _update_lr(self, epoch: int | None = None) -> None:
        """Go to ``epoch``, by default the next, and set its learning rates."""
        before = self.last_epoch
        self.last_epoch = before + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        try:
            values = self.get_lr() if epoch is None or closed is None else closed()
        except Exception:
            self.last_epoch = before
            raise
        self._set(values)

    def _restart(self) -> None:
        """Begin anew in the middle of training."""
        self._update_lr(0)

    def _set(self, values: Sequence[Any]) -> None:
        groups = self.optimizer.param_groups
        if len(values) != len(groups):
            raise ValueError(
                f"{type(self).__name__} has {len(values)} learning rate(s) for {len(groups)} "
                "parameter groups; make the scheduler after the last add_param_group()."
            )
        for group, value in zip(groups, values, strict=True):
            set_lr(group, value)
        self._last_lr = current(self.optimizer)

    def get_last_lr(self) -> list[float]:
        """The learning rates set last, one a group."""
        return list(self._last_lr)

    # ---- state ---------------------------------------------------------------------------------

    #: Attributes that hold functions: only the attributes of callable objects are saved.
    _functions: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, copied. Functions are not in it, except for what callable
        objects keep in their attributes; the optimizer has a state dict of its own.
        """
        state = {}
        for key, value in self.__dict__.items():
            if key in self._functions:
                listed = isinstance(value, list)
                kept = [_state_of(f) for f in (value if listed else [value])]
                state[key] = kept if listed else kept[0]
            elif key != "optimizer":
                state[key] = deepcopy(value)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state: the schedule goes on where it was saved.

        The optimizer's learning rates are not touched: load its state dict, too. PyTorch's state
        dicts are read. On an error nothing is changed.
        """
        state = self._matching(state_dict)
        for key in self._functions:
            given, own = state.pop(key), getattr(self, key)
            pairs = zip(given, own, strict=True) if isinstance(own, list) else [(given, own)]
            for kept, function in pairs:
                if kept is not None and function is not None:
                    function.__dict__.update(deepcopy(kept))
        self.__dict__.update(deepcopy(state))

    def _matching(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The state without PyTorch's extras; raise where it is not one of this schedule's."""
        state = {k: v for k, v in state_dict.items() if k not in _OF_PYTORCH}
        own = set(self.__dict__) - {"optimizer"}
        if set(state) != own:
            missing, unknown = sorted(own - set(state)), sorted(map(str, set(state) - own))
            raise ValueError(
                f"the state dict does not fit {type(self).__name__}: missing {missing}, unknown "
                f"{unknown}; is it that of another scheduler?"
            )
        groups, saved = len(self.optimizer.param_groups), len(state.get("_last_lr", ()))
        if saved != groups:
            raise ValueError(
                f"the state dict has learning rates for {saved} parameter group(s), the optimizer "
                f"has {groups}; build the groups as they were."
            )
        return state


# ---- what the schedules share ------------------------------------------------------------------


def lr_of(group: Group) -> float:
    """The learning rate of a group, as a number."""
    return float(group["lr"])


def set_lr(group: Group, value: Any) -> None:
    """Set the learning rate of a group; where it is a tensor, in that tensor."""
    if isinstance(group["lr"], Tensor):
        with set_recording(False):
            group["lr"].fill_(float(value))
    else:
        group["lr"] = float(value)


def current(optimizer: Optimizer) -> list[float]:
    """The learning rates of all groups."""
    return [lr_of(group) for group in optimizer.param_groups]


def a_group_each(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """A setting for each group: a list or tuple as given, one value for all of them."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups: got {len(value)} values "
            f"for {groups} groups."
        )
    return list(value)


def numbers(least: float = float("-inf"), above: float = float("-inf"), **given: Any) -> None:
    """Raise unless each setting is a number of at least ``least``, and above ``above``."""
    for name, value in given.items():
        try:
            fits = bool(least <= value) and bool(above < value < float("inf"))
        except TypeError:
            raise TypeError(
                f"{name} must be a number, got {value!r} ({type(value).__name__})."
            ) from None
        if not fits:
            limit = f"above {above:g}" if above > float("-inf") else f"at least {least:g}"
            raise ValueError(f"{name} must be {limit} and finite, got {value}.")


def set_momentum(group: Group, value: float) -> None:
    """Set momentum, or beta1 where the optimizer has betas."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def cycled_momentum(optimizer: Optimizer, low: Any, high: Any, begin: bool) -> bool:
    """Prepare the groups for a momentum that moves between two values; whether it is beta1."""
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError(
            "optimizer must support momentum or beta1 with `cycle_momentum` option enabled: "
            f"{type(optimizer).__name__} has neither; pass cycle_momentum=False."
        )
    lows = a_group_each("base_momentum", optimizer, low)
    highs = a_group_each("max_momentum", optimizer, high)
    if begin:
        for group, base, most in zip(optimizer.param_groups, lows, highs, strict=True):
            set_momentum(group, most)
            group["max_momentum"], group["base_momentum"] = most, base
    return "betas" in optimizer.defaults


def an_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer given; raise where it is none."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{type(optimizer).__name__} is not an Optimizer; a scheduler takes the optimizer "
            "first: StepLR(optimizer, 30)."
        )
    return optimizer


def _has_stepped(optimizer: Optimizer) -> bool:
    """Whether step() was called; an optimizer with a step() of its own is not watched."""
    own = "step" in vars(optimizer) or type(optimizer).step is not Optimizer.step
    return own or optimizer.stepped


def _state_of(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    if function is None or isinstance(function, FunctionType):
        return None
    return deepcopy(getattr(function, "__dict__", None))
