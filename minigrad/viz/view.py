"""What a picture shows of a graph: ops opened, modules closed, repetition rolled, until it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from minigrad.viz.opened import Selector, expand
from minigrad.viz.roll import roll
from minigrad.viz.select import choose_scopes
from minigrad.viz.shrink import close, shrink
from minigrad.viz.trace import Scope, Trace


def view(
    trace: Trace,
    *,
    open_ops: Selector = (),
    close_modules: str | Iterable[str] | Callable[[Scope], bool] = (),
    rolled: bool = True,
    depth: int | None = None,
    max_nodes: int = 400,
    ladder: bool = False,
) -> Trace:
    """The graph as it is shown; see ``viz.graph``. ``facts.shown`` says what was done to fit."""
    if open_ops:
        trace = expand(trace, open_ops, beside=ladder)
    if close_modules:
        trace = collapse(trace, close_modules)
    if rolled:
        trace = roll(trace)
    small = shrink(trace, depth, max_nodes)
    if rolled and small.facts.shown.endswith("in one box"):  # closing modules was not enough
        tighter = roll(trace, everything=True)
        if _count(tighter) < _count(trace):
            small = shrink(tighter, depth, max_nodes)
            said = ", ".join(filter(None, ["rolled", small.facts.shown]))
            return replace(small, facts=replace(small.facts, shown=said))
    return small


def collapse(trace: Trace, which: str | Iterable[str] | Callable[[Scope], bool]) -> Trace:
    """The graph with the modules that ``which`` chooses closed to one box each."""
    chosen = choose_scopes(trace, which, "collapse")
    outer: dict[str, str] = {}
    for scope in trace.scopes:  # outer ones come first
        if scope.parent in outer:
            outer[scope.id] = outer[scope.parent]
        elif scope.id in chosen:
            outer[scope.id] = scope.id
    return close(trace, outer) if outer else trace


def _count(trace: Trace) -> int:
    return sum(1 for n in trace.nodes if n.ops)
