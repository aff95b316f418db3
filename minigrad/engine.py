"""The engine: gradients flow backward over the graph of ops, each op after everything that used it.

It knows ops and arrays, not Tensors: with ``differentiable`` in place of an op's own rule the very
same sweep runs on Tensors, and the gradients it returns can be differentiated again.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from heapq import heappop, heappush
from typing import Any

from minigrad.backends import capture
from minigrad.errors import GraphError
from minigrad.ops.op import Op
from minigrad.shapes import reduced_axes

Array = Any
Edge = Any  # an Op, or a leaf Tensor (whose ``seq`` is 0)

#: Whether operations are recorded. A context variable: each thread and each task has its own.
recording: ContextVar[bool] = ContextVar("minigrad_recording", default=True)

#: The module call that is under way, or None; ops remember theirs for pictures (nn/module.py).
scope: ContextVar[Any] = ContextVar("minigrad_scope", default=None)


class set_recording:  # noqa: N801 - named as autograd.set_grad_enabled, its public form
    """``with set_recording(flag):`` operations are recorded, or not."""

    __slots__ = ("flag", "token")

    def __init__(self, flag: bool) -> None:
        self.flag = flag

    def __enter__(self) -> None:
        self.token = recording.set(self.flag)

    def __exit__(self, *error: Any) -> None:
        recording.reset(self.token)


#: One counter for what happens: the recording of an op, and a change in place. An array kept by an
#: op has changed since exactly where the change has the larger number.
clock = itertools.count(1).__next__
_last_change = 0
_changes: dict[int, list[Any]] = {}  # id of the array that owns the memory -> [when, weak ref]


def owner(array: Array) -> Array:
    """The array whose memory ``array`` looks into."""
    array = capture.plain(array)
    while getattr(array.base, "shape", None) is not None:
        array = array.base
    return array


def changed(array: Array) -> None:
    """Note that the memory of ``array`` was changed in place."""
    global _last_change
    _last_change = now = clock()
    if capture.active is not None and capture.active.changed(changed, array):
        return
    memory = array if array.base is None else owner(array)
    key = id(memory)
    known = _changes.get(key)
    if known is None:
        _changes[key] = [now, weakref.ref(memory, lambda _: _changes.pop(key, None))]
    else:
        known[0] = now


def marker(arrays: Iterable[Array]) -> Callable[[], None]:
    """A function that notes a change of all of ``arrays``: 1 us for those of a small model."""
    records = []
    for array in arrays:
        changed(array)
        records.append(_changes[id(owner(array))])

    def changed_all() -> None:
        global _last_change
        _last_change = now = clock()
        for record in records:
            record[0] = now

    return changed_all


def version(array: Array) -> int:
    """When the memory of ``array`` was last changed in place; 0 for never."""
    known = _changes.get(id(owner(array)))
    return known[0] if known else 0


def check_unchanged(op: Op) -> None:
    """Raise where an array that ``op`` kept was changed in place since."""
    names = op.reads if op.positions else [f"operand {i}" for i in range(len(op.saved or ()))]
    for name, array in zip(names, op.saved or (), strict=True):
        if hasattr(array, "base") and version(array) > op.seq:
            raise GraphError(
                f"{type(op).__name__} needs {name}, of shape {tuple(array.shape)}, for its "
                f"gradient ({op.vjp}), but it was changed in place after the forward pass; make "
                "the change on a copy (x = x + 1 instead of x += 1), or after backward()."
            )


def sum_to(grad: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: the gradient of a stretched operand is the sum over the stretched axes."""
    return grad.sum(axis=reduced_axes(grad.shape, shape)).reshape(shape)


def sweep(
    roots: Sequence[Edge],
    grads: Sequence[Array],
    *,
    keep: bool = False,
    within: dict[Edge, bool] | None = None,
    wanted: Iterable[Edge] = (),
    differentiable: Callable[[Op, Any], Sequence[Any]] | None = None,
) -> dict[Edge, Array]:
    """The gradients of the leaves, and of the ops in ``wanted``, given those of the roots.

    Ops are numbered as they are recorded, so an op's users all have larger numbers than it: taking
    always the largest number of those reached visits each op after all its users, with no
    recursion and no pass to count uses. ``within`` confines the sweep to those nodes; it is False
    for one from which nothing wanted lies further on.
    """
    pending: dict[Edge, Array] = {}  # gradients gathered so far; in the end only those of leaves
    queue: list[tuple[int, Op]] = []  # the ops among them, largest number first
    result: dict[Edge, Array] = {}
    wanted = {e for e in wanted if e.seq}

    for root, grad in zip(roots, grads, strict=True):
        if root in pending:
            pending[root] = pending[root] + grad
        else:
            pending[root] = grad
            if root.seq:
                heappush(queue, (-root.seq, root))

    owned: set[Edge] = set()  # whose gradient is a sum made here, free to be added to in place
    while queue:
        op = heappop(queue)[1]
        grad = pending.pop(op)
        if op.hooks is not None:
            for hook in (*op.hooks,):  # one may remove itself
                grad = hook(grad)
        if wanted and op in wanted:
            result[op] = grad
            if within is not None and not within[op]:
                continue
        saved = op.saved
        if saved is None:
            raise GraphError(
                "this graph was freed by an earlier backward(); "
                "pass retain_graph=True to the first call."
            )
        if _last_change > op.seq:
            check_unchanged(op)
        if op.xp.several and differentiable is None:
            op.xp.use(grad)  # the caller makes the device of before current again
        if differentiable is None:
            flows = op.backward(op.xp, grad, *saved)
        else:
            flows = differentiable(op, grad)
        if not keep and saved:
            op.free()

        broadcasts = op.broadcasts
        for edge, flow in zip(op.inputs, flows, strict=True):
            if edge is None or flow is None or (within is not None and edge not in within):
                continue
            if broadcasts and flow.shape != edge.shape:
                flow = sum_to(flow, edge.shape)
            known = pending.get(edge)
            if known is None:
                pending[edge] = flow
                if edge.seq:
                    heappush(queue, (-edge.seq, edge))
            elif edge in owned:  # used more than once: gradients add
                known += flow
                pending[edge] = known
            else:
                if op.xp.several and differentiable is None:
                    op.xp.use(flow)
                pending[edge] = known + flow
                if differentiable is None:
                    owned.add(edge)

    result.update(pending)
    return result


def paths_to(roots: Iterable[Edge], targets: set[Edge]) -> dict[Edge, bool]:
    """The nodes on a way from the roots to a target, and whether one lies beyond the node."""
    seen: set[Edge] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            if node.seq:
                stack.extend(e for e in node.inputs if e is not None and e not in seen)
    within: dict[Edge, bool] = {}
    for node in sorted(seen, key=lambda n: n.seq):  # inputs before users
        beyond = bool(node.seq) and any(e in within for e in node.inputs if e is not None)
        if beyond or node in targets:
            within[node] = beyond
    return within
