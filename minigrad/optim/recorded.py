"""A step of an optimizer as a part of a recorded one: its kernels in a CUDA graph, its numbers made
anew by the host for each launch.

The host goes on counting, as it does without a graph: ``state["step"]``, schedules and a learning
rate that somebody sets mean the same, and the numbers are those of ``update``, in the same
arithmetic. Only how they reach the kernel differs: by memory instead of as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import eq, is_
from typing import Any

from minigrad.backends import backend_of
from minigrad.engine import marker
from minigrad.optim.optimizer import Group, Optimizer

#: Makes room for so many numbers of a dtype (backends/cuda/graph.py).
Room = Callable[[int, str], Any]


def can_be_recorded(optimizer: Optimizer) -> bool:
    """Run a step as it is; whether it could have been recorded: its rule is one whose kernels read
    numbers, and they were launched for every parameter.
    """
    if not _has_numbers(optimizer):
        optimizer._step()
        return False
    return RecordedStep(optimizer, None).complete


def _has_numbers(optimizer: Optimizer) -> bool:
    """Whether ``numbers`` belongs to the very rule that is used."""
    kind = type(optimizer)

    def definer(name: str) -> int:
        return next(i for i, k in enumerate(kind.__mro__) if name in k.__dict__)

    rule = min(map(definer, ("update", "update_group", "_update", "_step")))
    return kind.__mro__[definer("numbers")] is not Optimizer and definer("numbers") <= rule


class RecordedStep:
    """One step, done when this is made, in which kernels read their numbers from memory.

    Args:
        room: where the numbers are; None: the kernels get them as arguments, as ever.

    Attributes:
        complete: every parameter was updated by a kernel that asked for the place of its numbers,
            and nothing was made to be kept: another step will be of the same form.
    """

    def __init__(self, optimizer: Optimizer, room: Room | None) -> None:
        self.optimizer, self.room = optimizer, room
        self.groups: list[_Group] = []
        self.complete = True
        for number, (group, work) in enumerate(optimizer._work()):
            self.groups.append(_Group(self, number, group, work))
        self.hooks = self._hooks()
        self.mark = marker([a for g in self.groups for a in (*g.arrays, *g.kept_arrays)])

    def _hooks(self) -> list[int]:
        return [*self.optimizer._step_pre_hooks, *self.optimizer._step_post_hooks]

    def holds(self) -> bool:
        """Whether another step of this optimizer would launch the same, but for its numbers."""
        groups = self.optimizer.param_groups
        return (
            len(groups) == len(self.groups)
            and self._hooks() == self.hooks
            and all(g.holds(now) for g, now in zip(self.groups, groups, strict=True))
        )

    def advance(self) -> None:
        """The host's part of one more step: count, and set the numbers."""
        for group in self.groups:
            group.advance()
        self.mark()


class _Group:
    """A group's step, and its numbers: parameters with the same step count share a place."""

    def __init__(
        self, step: RecordedStep, number: int, group: Group, work: list[tuple[Any, Any]]
    ) -> None:
        self.step, self.number, self.group = step, number, group
        self.given = list(group["params"])
        self.params = [param for param, _ in work]
        self.arrays = [param.array for param in self.params]
        self.places: dict[tuple[Any, ...], Any] = {}  # (numbers, dtype) -> Place
        self.asked = 0
        self.expected = {step.optimizer.numbers(group, _count(s) + 1) for _, s in work}
        known = sum(len(state) for _, state in work)
        if work:
            backend = backend_of(work[0][0].array)
            backend.placing = self._place
            try:
                step.optimizer._update(work, group)
            finally:
                backend.placing = None
        self.states = [step.optimizer.state.get(p) for p in self.params]
        self.kept = self._kept()
        self.kept_arrays = [t.array for t in self.kept]
        step.complete &= self.asked == len(work) and len(self.kept) == known
        self._assign_places()
        self.settings = self._settings()
        self.lr = group.get("lr")

    def _place(self, values: tuple[float, ...], dtype: str) -> Any:
        """The place of a kernel's numbers: the same for the same numbers of this group."""
        if values not in self.expected:
            return None
        self.asked += 1
        if self.step.room is None:
            return None
        key = values, dtype
        if key not in self.places:
            place = self.places[key] = self.step.room(len(values), dtype)
            place.set(values)
        return self.places[key].array

    def _assign_places(self) -> None:
        """Which step count each place goes by, and which other counts have to stay the same."""
        self.counts = [s["step"].array for s in self.states if s and "step" in s]
        self.goes_by: list[tuple[Any, Any]] = []  # (place, count, or None: it is not counted)
        for (values, _), place in self.places.items():
            for count in self.counts:
                if self.step.optimizer.numbers(self.group, float(count)) == values:
                    self.goes_by.append((place, count))
                    break
            else:
                self.goes_by.append((place, None))
        leaders = [count for _, count in self.goes_by if count is not None]
        alike = [(c, o) for c in self.counts for o in leaders if c == o and c is not o]
        self.followers, self.followed = ([pair[i] for pair in alike] for i in (0, 1))

    def _settings(self) -> list[Any]:
        return [v for k, v in self.group.items() if k not in ("lr", "params")]

    def _kept(self) -> list[Any]:
        return [t for state in self.states for t in (state or {}).values()]

    def holds(self, group: Group) -> bool:
        """Whether a step of ``group``, which stands in the place of this one, launches the same."""
        kept = self._kept()
        return (
            group is self.group
            and self._settings() == self.settings
            and _same(group["params"], self.given)
            and _same([p.array for p in self.params], self.arrays)
            and _same([*map(self.step.optimizer.state.get, self.params)], self.states)
            and _same(kept, self.kept)
            and _same([t.array for t in kept], self.kept_arrays)
            and all(map(eq, map(float, self.followers), map(float, self.followed)))
        )

    def advance(self) -> None:
        """Count, and set the numbers of the next launch."""
        if self.group.get("lr") is not self.lr:
            optimizer = self.step.optimizer
            optimizer.check(self.group)
            optimizer._checked[self.number] = [*self.group.values()]
            self.lr = self.group.get("lr")
        for count in self.counts:
            count.fill(float(count) + 1)  # as += 1, in a tenth of the time
        for place, count in self.goes_by:
            t = 0.0 if count is None else float(count)
            place.set(self.step.optimizer.numbers(self.group, t))


def _count(state: Any) -> float:
    return float(state["step"].array) if "step" in state else 0.0


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(is_, a, b))
