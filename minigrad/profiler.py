"""profile: where the time and the memory of a training step go, op by op and module by module.

    with mg.profiler.profile() as prof:
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
    print(prof.table())                       # or prof.table(group_by="module")
    prof.export_chrome_trace("trace.json")    # for chrome://tracing and ui.perfetto.dev

While no profile is on, nothing of this exists: ``__enter__`` puts timed functions in the place of
the ops' rules, ``Module.__call__`` and a few others, and ``__exit__`` puts the originals back. So
the engine asks nobody, at any op, whether it is watched.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ContextDecorator
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from time import perf_counter
from typing import Any

from minigrad import engine
from minigrad.backends import backends
from minigrad.compilation import Replay
from minigrad.engine import owner
from minigrad.methods import Methods
from minigrad.nn.module import Call, Module, path_of
from minigrad.ops import Op
from minigrad.ops.costs import multiply_adds
from minigrad.optim.optimizer import Optimizer
from minigrad.viz.tables import count, duration, memory, table

__all__ = ["Averages", "Event", "Row", "profile", "record_function"]

#: The module; as an attribute of the package, ``tensor`` is the function of that name.
tensors: Any = import_module("minigrad.tensor")

GROUPS = ("op", "module", "range")
#: What ``sort_by=`` takes, and the names that PyTorch has for it.
ORDERS = ("time", "forward", "backward", "calls", "allocated", "kept", "flops", "name", "order")
ALIASES = {
    "cpu_time_total": "time",
    "self_cpu_time_total": "time",
    "count": "calls",
    "cpu_memory_usage": "allocated",
    "self_cpu_memory_usage": "allocated",
}


@dataclass(slots=True)
class Event:
    """One run of one rule, one call of a module, or one named range.

    Times in seconds, ``start`` since the profile began; memory in bytes.
    """

    name: str
    kind: str  # "forward", "backward", "module", "range"
    start: float
    thread: int
    seq: int = 0  # of the op on the tape; 0 where it was not recorded
    path: str = ""  # of the module it ran in
    root: str = ""  # class of the outermost of the modules around it; empty outside of all
    shape: Any = ()  # of what it made; of a module's outputs, nested as they are
    seconds: float = 0.0
    within: float = 0.0  # of those, spent in events of the same kind inside
    allocated: int = 0  # new memory of its results
    kept: int = 0  # what the op keeps for backward, and none before it does
    live: int = 0  # bytes alive when it had finished
    flops: int = 0  # two for each multiply-add, forward
    op: Any = None  # the op, while it runs

    @property
    def self_seconds(self) -> float:
        """Its time without that of the events inside."""
        return self.seconds - self.within


@dataclass(slots=True)
class Row:
    """What the events of one op, module or range come to. Seconds and bytes."""

    key: str
    count: int = 0  # forward runs, calls
    forward: float = 0.0
    backward: float = 0.0
    allocated: int = 0
    kept: int = 0
    flops: int = 0
    first: float = 0.0  # when the first began
    share: float = 0.0  # of the time of all ops; of a range, of the whole

    @property
    def time(self) -> float:
        """Forward and backward, in seconds."""
        return self.forward + self.backward

    @property
    def cpu_time_total(self) -> float:
        """Forward and backward in microseconds, as PyTorch has it."""
        return 1e6 * self.time


class Averages(list[Row]):
    """Rows by op, module or range; printing shows them as a table."""

    def __init__(self, rows: Iterable[Row], group_by: str, foot: str) -> None:
        super().__init__(rows)
        self.group_by, self.foot = group_by, foot

    def table(self, sort_by: str = "time", row_limit: int = 100) -> str:
        """The rows as text.

        Args:
            sort_by: ``"time"`` (forward and backward), ``"forward"``, ``"backward"``, ``"calls"``,
                ``"allocated"``, ``"kept"``, ``"flops"``, ``"name"``, or ``"order"``, that of their
                first run; PyTorch's names, as ``"self_cpu_time_total"``, are understood.
            row_limit: the most rows to show.
        """
        order = ALIASES.get(sort_by, sort_by)
        if order not in ORDERS:
            known = ", ".join([*ORDERS, *ALIASES])
            raise ValueError(f"sort_by= must be one of {known}; got {sort_by!r}.")
        rows = sorted(self, key=lambda r: r.first)
        if order == "name":
            rows.sort(key=lambda r: r.key)
        elif order != "order":
            column = "count" if order == "calls" else order
            rows.sort(key=lambda r: -getattr(r, column))
        titles = ["calls", "forward", "backward", "share", "allocated", "kept"]
        counted = any(row.flops for row in rows)
        cells = [
            [
                row.key,
                str(row.count),
                duration(row.forward),
                duration(row.backward) if row.backward else "–",
                f"{row.share:.0%}",
                memory(row.allocated) if row.allocated else "–",
                memory(row.kept) if row.kept else "–",
                *([count(row.flops) if row.flops else "–"] if counted else []),
            ]
            for row in rows[:row_limit]
        ]
        titles += ["flops"] if counted else []
        if self.group_by == "range":
            titles, cells = ["calls", "time", "share"], [[*c[:3], c[4]] for c in cells]
        lines = [table([self.group_by, *titles], cells, right=range(1, len(titles) + 1))]
        if len(rows) > row_limit:
            lines.append(f"... and {len(rows) - row_limit} more")
        return "\n".join([*lines, self.foot])

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table()


@dataclass
class Peak:
    """The moment when most bytes were alive: how many, and during which event."""

    bytes: int = 0
    event: Event | None = None

    def __str__(self) -> str:
        if self.event is None:
            return "none seen"
        where = f" ({self.event.path})" if self.event.path else ""
        return f"{memory(self.bytes)} in the {self.event.kind} of {self.event.name}{where}"


class Live:
    """How many bytes of the arrays that ops made are alive, by weak references to them."""

    def __init__(self) -> None:
        self.bytes = 0
        self.peak = Peak()
        self._known: dict[int, Any] = {}  # id of the array that owns the memory -> weak reference
        self.held: dict[int, Any] = {}  # the same, of what ops keep for the next backward

    def given(self, array: Any) -> None:
        """An array that came from outside: its memory does not count."""
        self._add(array, 0)

    def made(self, array: Any, event: Event) -> int:
        """A result: how many bytes it took that were not there."""
        new = self._add(array, None)
        self.bytes += new
        if self.bytes > self.peak.bytes:
            self.peak = Peak(self.bytes, event)
        return new

    def kept(self, op: Op) -> int:
        """What an op keeps for backward and no other does yet, parameters apart: they stay."""
        leaves = {id(owner(e.array)) for e in op.inputs if e is not None and not e.seq}
        held = [*(op.saved or ()), *(getattr(op, n, None) for n in getattr(op, "residuals", ()))]
        count = 0
        for array in (owner(a) for a in held if a.__class__ in backends):
            key = id(array)
            if key not in leaves and key not in self.held:
                self.held[key] = weakref.ref(array, partial(self._let_go, key))
                count += int(array.nbytes)
        return count

    def _let_go(self, key: int, _: Any) -> None:
        self.held.pop(key, None)

    def _add(self, array: Any, count: int | None) -> int:
        if array.__class__ not in backends:
            return 0
        whole = owner(array)
        key = id(whole)
        if key in self._known:
            return 0
        amount = int(whole.nbytes) if count is None else count

        def gone(_: Any) -> None:
            self._known.pop(key, None)
            self.bytes -= amount

        self._known[key] = weakref.ref(whole, gone)
        return amount


_active: profile | None = None


class profile:  # noqa: N801 - PyTorch's name
    """Records, within ``with profile() as prof:``, time and memory of everything that ops do.

    Seen are every op's forward and backward (the rules and their kernels alone, without the
    engine's own time around them), the calls of modules, the sweeps of ``backward()``, the
    optimizers' steps, and blocks under ``record_function``. The forward time of an op is that of
    its value, the backward time that of its vector-Jacobian product. Numbers are the same with and
    without it, bit for bit.

    Memory is that of the arrays that ops make: values, gradients, and what fused ops keep. An
    array counts from when it is made until nobody holds it; ``allocated`` is what an op added.
    What a kernel needs only while it runs, and what came from outside (parameters, data), does
    not count. ``kept`` is what an op holds for backward, and no op before it: values, data and
    statistics, but not parameters.

    A captured step (``minigrad.compile``) runs without ops and modules: each replay is one range,
    "captured step". On a device that computes asynchronously the times are those of the launches.

    Args:
        profile_memory: follow memory; without it the profile is faster.
        with_flops: count floating-point operations, two for each multiply-add, of products and
            norms, forward (``ops.costs``).
    Attributes:
        events: what ran, in the order in which it began; a list of Event.
        seconds: from ``__enter__`` to ``__exit__``.
        peak: when most bytes were alive: ``peak.bytes``, ``peak.event``.

    Example:
        >>> import minigrad as mg
        >>> net = mg.nn.Sequential(mg.nn.Linear(4, 8), mg.nn.ReLU())
        >>> with mg.profiler.profile() as prof:
        ...     net(mg.randn(16, 4)).sum().backward()
        >>> [(e.name, e.path) for e in prof.events if e.kind == "forward"]
        [('linear', '0'), ('relu', '1'), ('sum', '')]
        >>> print(prof.peak)
        1.02 kB in the forward of relu (1)

    Differs: PyTorch's profile has no columns for backward (its rows are of C++ functions), follows
    memory only where asked to, and takes a schedule.
    """

    def __init__(self, *, profile_memory: bool = True, with_flops: bool = False) -> None:
        self.profile_memory, self.with_flops = profile_memory, with_flops
        self.events: list[Event] = []
        self.seconds = 0.0
        self._live = Live()
        self._stacks = threading.local()
        self._undo: list[tuple[Any, str, Any]] = []
        self._begin = 0.0
        self._places: dict[Any, tuple[str, str]] = {None: ("", "")}  # by call: path, outermost

    @property
    def peak(self) -> Peak:
        """When most bytes were alive."""
        return self._live.peak

    # ---- on and off --------------------------------------------------------------------------

    def __enter__(self) -> profile:
        global _active
        if _active is not None:
            raise RuntimeError("a profile is on already; only one can be at a time.")
        if self.events or self.seconds:
            raise RuntimeError("this profile has been used; make a new one.")
        for cls in subclasses(Op):
            for rule, kind in (("forward", "forward"), ("backward", "backward")):
                if rule in cls.__dict__:
                    self._put(cls, rule, self._timed_rule(cls.__dict__[rule], kind))
        self._put(tensors, "grow", self._seen_grow(tensors.grow))
        self._put(Module, "__call__", self._timed_call(Module.__call__))
        self._put(engine, "sweep", self._ranged(engine.sweep, "backward"))
        self._put(Optimizer, "step", self._ranged(Optimizer.step, _step_name))
        self._put(Replay, "run", self._ranged(Replay.run, "captured step"))
        _active = self
        self._begin = perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        global _active
        self.seconds = perf_counter() - self._begin
        _active = None
        for holder, name, original in reversed(self._undo):
            setattr(holder, name, original)
        self._undo.clear()
        self._places.clear()

    def _put(self, holder: Any, name: str, replacement: Any) -> None:
        self._undo.append((holder, name, vars(holder)[name]))
        setattr(holder, name, replacement)

    # ---- what stands in for the originals ----------------------------------------------------

    def _timed_rule(self, rule: Callable[..., Any], kind: str) -> Callable[..., Any]:
        """``op.forward`` or ``op.backward``, timed, its results weighed."""

        @wraps(rule)
        def timed(op: Any, xp: Any, *arrays: Any) -> Any:
            outer = self._innermost()
            if outer is not None and outer.op is op and outer.kind == kind:
                return rule(op, xp, *arrays)  # by way of super()
            call = op.scope if kind == "backward" else tensors.scope.get()
            event = self._open(op.name, kind, call, op)
            if kind == "backward":
                event.seq = op.seq
            try:
                result = rule(op, xp, *arrays)
            finally:
                self._close(event)
            self._weigh(event, op, arrays, result)
            return result

        return timed

    def _weigh(self, event: Event, op: Any, arrays: Any, result: Any) -> None:
        """Shape and memory of what a rule made."""
        shaped = arrays[0] if event.kind == "backward" else result
        event.shape = tuple(getattr(shaped, "shape", ()))
        self._stacks.last = id(op), event  # for grow, which may follow
        if self.with_flops and event.kind == "forward":
            event.flops = 2 * multiply_adds(op, arrays, result)
        if not self.profile_memory:
            return
        for array in arrays:
            self._live.given(array)
        made = list(result) if isinstance(result, tuple | list) else [result]
        if event.kind == "forward" and op.fused:
            made += [getattr(op, name, None) for name in op.residuals]
        event.allocated = sum(self._live.made(array, event) for array in made)
        event.live = self._live.bytes

    def _seen_grow(self, grow: Callable[..., Any]) -> Callable[..., Any]:
        """``tensor.grow``, which makes an op a node: from here on it has a number."""

        @wraps(grow)
        def seen(op: Any, *args: Any) -> Any:
            tensor = grow(op, *args)
            which, event = getattr(self._stacks, "last", (0, None))
            if which == id(op) and event is not None:
                event.seq = op.seq
                event.kept = self._live.kept(op) if self.profile_memory else 0
            return tensor

        return seen

    def _timed_call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``Module.__call__``."""

        @wraps(function)
        def timed(module: Any, *args: Any, **kwargs: Any) -> Any:
            call = Call(tensors.scope.get(), weakref.ref(module))
            event = self._open(type(module).__name__, "module", call)
            try:
                result = function(module, *args, **kwargs)
            finally:
                self._close(event)
            event.shape = shapes_of(result)
            return result

        return timed

    def _ranged(self, function: Callable[..., Any], name: Any) -> Callable[..., Any]:
        """A function whose every call is a range."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            said = name if isinstance(name, str) else name(*args)
            event = self._open(said, "range", tensors.scope.get())
            try:
                return function(*args, **kwargs)
            finally:
                self._close(event)
                if said == "backward":
                    self._live.held.clear()

        return timed

    # ---- events ------------------------------------------------------------------------------

    def _stack(self) -> list[Event]:
        stack: list[Event] | None = getattr(self._stacks, "events", None)
        if stack is None:
            stack = self._stacks.events = []
        return stack

    def _innermost(self) -> Event | None:
        stack = self._stack()
        return stack[-1] if stack else None

    def _open(self, name: str, kind: str, call: Any = None, op: Any = None) -> Event:
        if call not in self._places:
            self._places[call] = path_of(call), _root(call)
        path, root = self._places[call]
        event = Event(name, kind, 0.0, threading.get_ident(), path=path, root=root, op=op)
        self.events.append(event)
        self._stack().append(event)
        event.start = perf_counter() - self._begin
        return event

    def _close(self, event: Event) -> None:
        event.seconds = perf_counter() - self._begin - event.start
        stack = self._stack()
        stack.pop()
        event.live, event.op = self._live.bytes, None
        rules = ("forward", "backward")
        for outer in reversed(stack):
            if outer.kind == event.kind or (outer.kind in rules and event.kind in rules):
                outer.within += event.seconds
                break

    # ---- what came of it ---------------------------------------------------------------------

    def _ops(self) -> Iterator[Event]:
        return (e for e in self.events if e.kind in ("forward", "backward"))

    def by_op(self) -> dict[int, dict[str, float]]:
        """Of every recorded op, by its number on the tape (``op.seq``): ``forward`` and
        ``backward`` in seconds, ``allocated``, ``kept`` and ``live`` in bytes.
        """
        found: dict[int, dict[str, float]] = {}
        for e in self._ops():
            if e.seq:
                row = found.setdefault(e.seq, dict.fromkeys(("forward", "backward"), 0.0))
                row[e.kind] += e.self_seconds
                if e.kind == "forward":
                    row.update(allocated=e.allocated, kept=e.kept, live=e.live)
        return found

    def key_averages(self, group_by: str = "op") -> Averages:
        """The events added up.

        Args:
            group_by: ``"op"``: a row for each kind of op, without the ops that ran inside it;
                ``"module"``: a row for each module by path, with everything that ran inside it, and
                the backward of that; ``"range"``: sweeps, optimizer steps, captured steps and
                blocks under ``record_function``.
        """
        if group_by not in GROUPS:
            raise ValueError(f"group_by= must be one of {', '.join(GROUPS)}; got {group_by!r}.")
        rows: dict[str, Row] = {}
        total = sum(e.self_seconds for e in self._ops())
        if group_by == "range":
            for e in (e for e in self.events if e.kind == "range"):
                row = rows.setdefault(e.name, Row(e.name, first=e.start))
                row.count += 1
                row.forward += e.seconds
            total = self.seconds
        else:
            several = len({e.root for e in self.events if e.path}) > 1
            for e in self._ops():
                for key in [e.name] if group_by == "op" else _around(e, several):
                    row = rows.setdefault(key, Row(key, first=e.start))
                    row.count += e.kind == "forward" and group_by == "op"
                    row.forward += e.self_seconds if e.kind == "forward" else 0.0
                    row.backward += e.self_seconds if e.kind == "backward" else 0.0
                    row.allocated += e.allocated
                    row.kept += e.kept
                    row.flops += e.flops
            if group_by == "module":
                for e in (e for e in self.events if e.kind == "module"):
                    if (key := _around(e, several)[-1]) in rows:
                        rows[key].count += 1
        for row in rows.values():
            row.share = row.time / total if total else 0.0
        return Averages(rows.values(), group_by, self._foot(total, group_by))

    def _foot(self, total: float, group_by: str) -> str:
        said = [f"{duration(self.seconds)} in all"]
        if group_by != "range" and self.seconds:
            said.append(f"{duration(total)} of it ({total / self.seconds:.0%}) in ops")
        if self.profile_memory:
            said.append(f"peak of live bytes: {self.peak}")
        return "; ".join(said)

    def table(self, sort_by: str = "time", group_by: str = "op", row_limit: int = 100) -> str:
        """Time and memory as text; see ``key_averages`` and ``Averages.table``."""
        return self.key_averages(group_by).table(sort_by, row_limit)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events for chrome://tracing or ui.perfetto.dev, as JSON (.gz: compressed).

        Ops, modules and ranges are spans on the row of their thread; live bytes are a curve.
        """
        pid = os.getpid()
        threads = {t: i for i, t in enumerate(dict.fromkeys(e.thread for e in self.events))}
        written: list[dict[str, Any]] = []
        for e in self.events:
            span = {"name": e.name, "cat": e.kind, "ph": "X", "pid": pid, "tid": threads[e.thread]}
            span.update(ts=1e6 * e.start, dur=1e6 * e.seconds)
            if e.kind == "backward":
                span["name"] = f"{e.name} backward"
            elif e.kind == "module" and e.path:
                span["name"] = f"{e.path}: {e.name}"
            args: dict[str, Any] = {"module": e.path} if e.path else {}
            if e.kind in ("forward", "backward"):
                args.update(shape=list(e.shape), allocated=e.allocated, kept=e.kept, seq=e.seq)
            written.append({**span, "args": args})
            if self.profile_memory and e.kind in ("forward", "backward"):
                curve = {"name": "live bytes", "ph": "C", "pid": pid, "args": {"bytes": e.live}}
                written.append({**curve, "ts": 1e6 * (e.start + e.seconds)})
        data = json.dumps({"traceEvents": written, "displayTimeUnit": "ms"})
        if os.fspath(path).endswith(".gz"):
            with gzip.open(path, "wt", encoding="utf-8") as packed:
                packed.write(data)
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(data)

    def __repr__(self) -> str:
        if not self.seconds:
            return "<profile: nothing recorded yet>"
        ops = sum(1 for _ in self._ops())
        return f"<profile: {ops} runs of ops in {duration(self.seconds)}>"


class record_function(ContextDecorator):  # noqa: N801 - PyTorch's name
    """``with record_function("augment"):`` the block is a range of the profile that is on, if any.

    Example:
        >>> import minigrad as mg
        >>> with mg.profiler.profile() as prof, mg.profiler.record_function("twice"):
        ...     _ = mg.ones(3) * 2
        >>> [row.key for row in prof.key_averages("range")]
        ['twice']
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a range has a string for its name, got {type(name).__name__}.")
        self.name = name
        self._open: list[tuple[profile, Event] | None] = []

    def __enter__(self) -> record_function:
        on = _active
        event = None if on is None else on._open(self.name, "range", tensors.scope.get())
        self._open.append(None if on is None or event is None else (on, event))
        return self

    def __exit__(self, *error: Any) -> None:
        opened = self._open.pop()
        if opened is not None:
            opened[0]._close(opened[1])


def subclasses(cls: type) -> list[type]:
    """Every class below ``cls``."""
    found: list[type] = []
    stack = [cls]
    while stack:
        below: list[type] = stack.pop().__subclasses__()
        found += below
        stack += below
    return list(dict.fromkeys(found))


def shapes_of(result: Any) -> Any:
    """The shapes of the tensors in what a module returned, nested as they are."""
    if isinstance(result, Methods):
        return tuple(result.shape)
    if isinstance(result, dict):
        return {k: shapes_of(v) for k, v in result.items()}
    return [shapes_of(v) for v in result] if isinstance(result, tuple | list) else None


def _around(event: Event, several: bool) -> list[str]:
    """The modules around an event, from the outermost inwards; their paths, after its class where
    there are ``several`` models.
    """
    if not event.root:
        return ["(no module)"]
    parts = event.path.split(".") if event.path else []
    before = f"{event.root}." if several else ""
    return [event.root, *(before + ".".join(parts[: i + 1]) for i in range(len(parts)))]


def _root(call: Call) -> str:
    """The class of the outermost module around a call."""
    while call.parent is not None:
        call = call.parent
    module = call.module()
    return "" if module is None else type(module).__name__


def _step_name(optimizer: Any, *_: Any) -> str:
    return f"Optimizer.step#{type(optimizer).__name__}.step"
