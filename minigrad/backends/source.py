"""A captured program as Python source: one line a call, every array deleted after its last use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import numpy as np

from minigrad.backends.capture import REDUCTIONS, Call, Program, Ref, anew
from minigrad.backends.fusion import fused

#: Functions whose own name says little.
_NAMES = {reduce: name for name, reduce in REDUCTIONS.items()}


def source(
    program: Program, results: Iterable[Ref], name: str, fuse: bool
) -> tuple[str, dict[str, Any]]:
    """The text of ``def replay(t0, ...)``, which takes tensors, and the names it needs.

    Calls without an effect whose results nobody uses are left out. Values: ``x`` arguments, ``c``
    arrays from outside (parameters, constants), ``v`` what a call gave, ``n0_5`` the number 0.5,
    ``k`` other objects.

    Args:
        fuse: make a chain of elementwise calls one.
    """
    results = list(results)
    calls = _made_once(program, _needed(program.calls, results))
    if fuse:
        calls = fused(program, calls, results)
    scope = _Scope(program)
    last = _last_uses(calls, results)
    tensors = [f"t{i}" for i in range(len(program.arguments))]
    lines = [f"def replay({', '.join(tensors)}):", f'    """{name}: {len(calls)} calls."""']
    used = {*results, *(ref for call in calls for ref in call.reads)}
    lines += [f"    {r.name} = t{r.number}.array" for r in program.arguments if r in used]
    for i, call in enumerate(calls):
        given = set(call.reads)  # what is changed in place has its name
        new = [ref for ref in call.writes if ref.kind == "v" and ref not in given]
        wanted = [ref for ref in new if last.get(ref, i) > i]
        value = f"{scope.function(call.function)}({scope.arguments(call)})"
        target = f"{_target(call.results, set(wanted))} = " if wanted else ""
        lines.append(f"    {target}{value}")
        dead = sorted({r.name for r in call.reads if last.get(r) == i})
        if dead:
            lines.append(f"    del {', '.join(dead)}")
    lines.append(f"    return ({''.join(f'{ref.name}, ' for ref in results)})")
    return "\n".join(lines) + "\n", scope.names


def _needed(calls: list[Call], results: list[Ref]) -> list[Call]:
    """The calls that have an effect, or whose results are used."""
    used = set(results)
    kept = []
    for call in reversed(calls):
        made = set(call.writes).difference(call.reads)
        if not call.pure or not used.isdisjoint(made):
            used.update(call.reads)
            kept.append(call)
    return kept[::-1]


def _made_once(program: Program, calls: list[Call]) -> list[Call]:
    """``calls``, with what is the same in every run, and only read by operations, as a constant."""
    readers: dict[Ref, list[Call]] = defaultdict(list)
    for call in calls:
        for ref in call.reads:
            readers[ref].append(call)
    kept = []
    for call in calls:
        made = call.results
        if call.function in (anew, np.ones_like) and all(map(_is_pure_ufunc, readers[made])):
            constant = call.args[0]
            if call.function is np.ones_like:  # of which only the shape counts
                program.constants.append(np.ones(made.shape, made.dtype))
                constant = Ref("c", len(program.constants) - 1, program.constants[-1])
            for reader in readers[made]:
                reader.args = tuple(constant if a is made else a for a in reader.args)
        else:
            kept.append(call)
    return kept


def _is_pure_ufunc(call: Call) -> bool:
    return isinstance(unwrap(call.function), np.ufunc) and not call.kwargs


def _last_uses(calls: list[Call], results: list[Ref]) -> dict[Ref, int]:
    """The number of the last call that reads each value; results are read by the caller."""
    last: dict[Ref, int] = {}
    for i, call in enumerate(calls):
        for ref in call.reads:
            if ref.kind in "xv":
                last[ref] = i
    last.update((ref, len(calls)) for ref in results)
    return last


def _target(x: Any, wanted: set[Ref]) -> str:
    if isinstance(x, tuple | list):
        return f"({''.join(f'{_target(e, wanted)}, ' for e in x)})"
    return x.name if x in wanted else "_"


def _one_dtype(call: Call) -> Any:
    """The dtype of an operation's arrays, which is what numbers beside them are taken in; None for
    other calls, and for arrays that are not floating."""
    if not isinstance(call.function, np.ufunc) or call.kwargs.keys() - {"out"}:
        return None
    dtypes = {x.dtype for x in call.args if isinstance(x, Ref)}
    return dtypes.pop() if len(dtypes) == 1 and all(d.kind == "f" for d in dtypes) else None


class _Scope:
    """The global names of a program's source."""

    def __init__(self, program: Program) -> None:
        # warnings of NumPy are ignored where they come from minigrad
        self.names: dict[str, Any] = {"__name__": "minigrad.captured"}
        self.names.update((f"c{i}", array) for i, array in enumerate(program.constants))
        self._known: dict[Any, str] = {}
        self._others: dict[int, str] = {}

    def function(self, function: Any) -> str:
        """The name of a function: its own, with a number where that is taken."""
        known = self._known.get(function)
        if known is None:
            own = _NAMES.get(unwrap(function), getattr(function, "__name__", "function"))
            own = re.sub(r"\W", "", own).strip("_")
            self._known[function] = known = self._free(own or "function")
            self.names[known] = function
        return known

    def _free(self, name: str) -> str:
        """``name``, with a number where that is taken."""
        free, number = name, 2
        while free in self.names or re.fullmatch(r"[xcvkt]\d+|del|_", free):
            free, number = f"{name}_{number}", number + 1
        return free

    def arguments(self, call: Call) -> str:
        """The arguments of a call."""
        dtype = _one_dtype(call)
        parts = [self.number(a, dtype) if dtype else self.literal(a) for a in call.args]
        parts += [f"{k}={self.literal(v)}" for k, v in call.kwargs.items()]
        return ", ".join(parts)

    def number(self, x: Any, dtype: Any) -> str:
        """A number beside an array of ``dtype``, as the array that NumPy makes of it: 1 us less."""
        if type(x) not in (int, float):
            return self.literal(x)
        key = x, dtype, "number"
        if key not in self._known:
            self._known[key] = known = self._free("n" + re.sub(r"\W", "_", repr(x)))
            self.names[known] = np.asarray(x, dtype)
        return self._known[key]

    def literal(self, x: Any) -> str:
        """An expression for a value: as it is written, or a name for it."""
        if isinstance(x, Ref):
            return x.name
        if x is None or x is Ellipsis or type(x) in (bool, int, str):
            return "..." if x is Ellipsis else repr(x)
        if type(x) is float and x - x == 0:  # finite
            return repr(x)
        if type(x) is tuple:
            return f"({', '.join(map(self.literal, x))}{',' if len(x) == 1 else ''})"
        if type(x) is list:
            return f"[{', '.join(map(self.literal, x))}]"
        if type(x) is dict and all(type(k) is str for k in x):
            return "{" + ", ".join(f"{k!r}: {self.literal(v)}" for k, v in x.items()) + "}"
        if type(x) is slice:
            return f"slice({', '.join(map(self.literal, (x.start, x.stop, x.step)))})"
        name = self._others.get(id(x))
        if name is None:
            name = self._others[id(x)] = f"k{len(self._others)}"
            self.names[name] = x
        return name
