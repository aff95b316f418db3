"""Fusion: in a captured program, chains of elementwise calls become one.

Values that only elementwise operations read stay rows of a matrix (compiled/chain.py) from one
chain to the next. A value that any other call reads is copied out of it when the chain ends, and
is from then on an array like every other: nobody but a chain ever sees the memory of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.backends.capture import Call, Program, Ref
from minigrad.backends.compiled.chain import NUMBERS, load, run_chain, unload
from minigrad.shapes import prod

#: Calls that make a chain worth while: loading a row costs about as much as a call.
SHORTEST = 8
#: Numbers an array may have: beyond, a call's own work is what counts.
LARGEST = 1 << 14

Kind = tuple[tuple[int, ...], Any]  # shape and dtype


def fused(program: Program, calls: list[Call], results: list[Ref]) -> list[Call]:
    """``calls`` with every chain of elementwise calls as one."""
    kinds = [_kind(call) for call in calls]
    while True:
        runs = list(_runs(kinds))
        seen = _changed_while_seen(calls, kinds)
        left = [i for _, a, b in runs if b - a < SHORTEST for i in range(a, b)] + seen
        if not left:
            break
        for i in left:  # a call like the others
            kinds[i] = None
    uses = _Uses(calls, kinds, results)
    banks: dict[Kind, _Bank] = {}
    new: list[Call] = []
    done = 0
    for kind, start, stop in runs:
        if kind not in banks:
            banks[kind] = _Bank(program, kind)
        new += calls[done:start]
        new += banks[kind].chain(calls, uses, start, stop)
        done = stop
    return [bank.made() for bank in banks.values()] + new + calls[done:]


def _kind(call: Call) -> Kind | None:
    """Shape and dtype of an elementwise call; None where it is none, or of several shapes."""
    out = call.results
    if call.function not in NUMBERS or not isinstance(out, Ref) or out.kind != "v":
        return None
    if call.kwargs not in ({}, {"out": (out,)}):
        return None
    if not out.flat or out.dtype.char not in "fd" or not 0 < out.size <= LARGEST:
        return None
    for x in call.args:
        if isinstance(x, Ref):
            if x.dtype != out.dtype or (x.shape != out.shape and x.size != 1):
                return None
        elif type(x) not in (int, float) or not np.isfinite(x):
            return None
    return out.shape, out.dtype


def _runs(kinds: list[Kind | None]) -> Iterator[tuple[Kind, int, int]]:
    """The ranges of neighbouring elementwise calls of one kind."""
    start = 0
    for i in range(1, len(kinds) + 1):
        if i == len(kinds) or kinds[i] != kinds[start]:
            kind = kinds[start] if kinds else None
            if kind is not None:
                yield kind, start, i
            start = i


def _changed_while_seen(calls: list[Call], kinds: list[Kind | None]) -> list[int]:
    """The elementwise calls on values that are changed in place where somebody else sees them."""
    seen: set[Ref] = set()  # read by other calls so far, or made by them
    bad: set[Ref] = set()
    for call, kind in zip(calls, kinds, strict=True):
        if kind is None:
            seen.update(call.reads, call.writes)
        else:
            seen.update(x for x in call.reads if (x.shape, x.dtype) != kind)
            if call.kwargs and call.results in seen:
                bad.add(call.results)
    return [
        i
        for i, (call, kind) in enumerate(zip(calls, kinds, strict=True))
        if kind is not None and call.results in bad
    ]


class _Uses:
    """The last call that reads a value: of the chains of its kind, and of the others."""

    def __init__(self, calls: list[Call], kinds: list[Kind | None], results: list[Ref]) -> None:
        self.inside: dict[Ref, int] = {}
        self.outside: dict[Ref, int] = {}
        for i, (call, kind) in enumerate(zip(calls, kinds, strict=True)):
            for x in call.reads:
                (self.inside if (x.shape, x.dtype) == kind else self.outside)[x] = i
        for x in results:
            self.outside[x] = len(calls)

    def leaves(self, x: Ref, stop: int) -> bool:
        """Whether a call that belongs to no chain reads ``x`` from ``stop`` on."""
        return self.outside.get(x, -1) >= stop


class _Bank:
    """The matrix of one shape and dtype: which value, or number, is in which row.

    Between chains it holds numbers, and the values that only chains read.
    """

    def __init__(self, program: Program, kind: Kind) -> None:
        self.shape, self.dtype = kind
        self.ref = program.new_ref()
        self.rows: dict[Any, int] = {}
        self.free: list[int] = []
        self.count = 0

    def made(self) -> Call:
        """The call that makes the matrix."""
        shape = self.count, prod(self.shape)
        return Call(np.empty, (shape, self.dtype), {}, self.ref, pure=True)

    def chain(self, calls: list[Call], uses: _Uses, start: int, stop: int) -> Iterator[Call]:
        """The calls that stand for those from ``start`` to ``stop``."""
        written = {call.results for call in calls[start:stop]}
        given = self._load(calls[start:stop])
        if given:
            yield Call(load, (self.ref, *given), {}, None, pure=False)
        instructions = []
        for i in range(start, stop):
            call = calls[i]
            operands = [self.rows[x] for x in call.args]
            row = self._take()  # of none of the operands
            instructions.append((NUMBERS[call.function], row, operands[0], operands[-1]))
            self._drop(call.results)  # where it was before a change in place
            self.rows[call.results] = row
            for x in (*call.reads, call.results):
                if uses.inside.get(x, -1) <= i and not (x in written and uses.leaves(x, stop)):
                    self._drop(x)
        table = np.array(instructions, np.int64)
        yield Call(run_chain, (self.ref, table), {}, None, pure=False)
        for x in written:
            if x in self.rows and uses.leaves(x, stop):
                yield Call(unload, (self.ref, self.rows[x], self.shape), {}, x, pure=True)
                self._drop(x)
        for _, x in given:
            if isinstance(x, Ref):
                self._drop(x)

    def _load(self, calls: list[Call]) -> list[tuple[int, Any]]:
        """Rows for what the calls read and did not make."""
        given: list[tuple[int, Any]] = []
        made: set[Any] = set()
        for call in calls:
            for x in call.args:
                if x not in self.rows and x not in made:
                    self.rows[x] = self._take()
                    given.append((self.rows[x], x))
            made.add(call.results)
        return given

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.count += 1
        return self.count - 1

    def _drop(self, x: Any) -> None:
        if x in self.rows:
            self.free.append(self.rows.pop(x))
