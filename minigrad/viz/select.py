"""Choosing nodes and frames of a graph: by the name of an op, by a path, or by a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from minigrad.viz.trace import Node, Scope, Trace


def snake(name: str) -> str:
    """``batch_norm`` of ``BatchNorm``, as ops are called."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def chooser(
    trace: Trace, which: str | Iterable[str] | Callable[[Node], bool], argument: str
) -> Callable[[Node], bool]:
    """A function that says whether ``which`` chooses a node.

    Raises:
        ValueError: a string that names nothing in the graph; the message says what there is.
    """
    if callable(which):
        return which
    wanted = {which} if isinstance(which, str) else set(which)
    if "all" in wanted:
        return lambda node: True
    scopes = {s.id: s for s in trace.scopes}
    inside: dict[str | None, set[str]] = {None: set()}  # paths around the nodes of a scope
    for s in trace.scopes:
        inside[s.id] = inside.get(s.parent, set()) | {s.path}
    ops = {n.name for n in trace.nodes if n.ops}
    paths = {s.path for s in trace.scopes if s.path}
    classes = {s.cls for s in trace.scopes if s.cls}
    for w in sorted(wanted):
        if w not in paths and snake(w) not in ops and w not in classes:
            known = sorted(ops) + sorted(paths)
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise ValueError(
                f'{argument}= names an op type, a module path, a module class or "all"; {w!r} is '
                f"none in this graph, which has {shown}."
            )

    def choose(node: Node) -> bool:
        if node.name in wanted or any(snake(w) == node.name for w in wanted):
            return True
        return bool(inside.get(node.scope, set()) & wanted) or _class_around(node, scopes, wanted)

    return choose


def _class_around(node: Node, scopes: dict[str, Scope], wanted: set[str]) -> bool:
    scope = scopes.get(node.scope or "")
    while scope is not None:
        if scope.cls in wanted:
            return True
        scope = scopes.get(scope.parent or "")
    return False


def choose_scopes(
    trace: Trace, which: str | Iterable[str] | Callable[[Scope], bool], argument: str
) -> set[str]:
    """The frames that ``which`` chooses: by class, by path, by a function.

    A name that fits nothing chooses nothing: a class to close need not be in every model.
    """
    if callable(which):
        return {s.id for s in trace.scopes if which(s)}
    wanted = {which} if isinstance(which, str) else set(which)
    if not all(isinstance(w, str) for w in wanted):
        raise TypeError(f"{argument}= takes names of classes, paths, or a function, got {which!r}.")
    return {s.id for s in trace.scopes if s.id != trace.root and {s.cls, s.path} & wanted}
