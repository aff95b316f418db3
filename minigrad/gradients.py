"""How gradients are asked for: backward and grad, to any order.

What is done here is done with Tensors only through their own methods, so that Tensor can build on
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from minigrad import engine
from minigrad.backends import backend_of, backends, capture, device_of, quiet, same_device
from minigrad.engine import scope, set_recording
from minigrad.errors import GraphError, ShapeError
from minigrad.methods import Methods
from minigrad.namespace import tensors as namespace
from minigrad.ops import Alias, Op

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


def backward(
    tensors: Sequence[Tensor],
    grad_tensors: Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of the leaves (or of ``inputs``).

    Nothing is stored before the whole sweep has succeeded.
    """
    targets = None
    if inputs is not None:
        inputs = as_list(inputs)
        if not inputs:
            raise GraphError("backward(inputs=[]) would reach nothing; leave inputs out for all.")
        for t in inputs:
            if not t._requires_grad:
                raise GraphError("backward(inputs=) with a tensor that requires no gradient.")
        targets = {edge_of(t): t for t in inputs}
    found = sweep(as_list(tensors), grad_tensors, retain_graph, create_graph, targets)
    if capture.active is not None:
        capture.active.swept.update(t._op for t in as_list(tensors))
    with set_recording(create_graph), quiet():
        for edge, grad in found.items():
            if targets is None and edge.seq:
                continue
            leaf = edge if targets is None else targets[edge]
            if not create_graph:
                program = capture.active
                if program is None or program.made(leaf):
                    accumulate(leaf, grad.array, grad._wrap)
                else:
                    program.effect(accumulate, (leaf, grad.array, grad._wrap))
            else:
                leaf.grad = grad if leaf.grad is None else leaf.grad + grad


@capture.in_graph
def accumulate(leaf: Tensor, grad: Any, wrap: Callable[[Any], Tensor]) -> None:
    """Add an array to the ``grad`` of a tensor."""
    if leaf._grad is None:
        leaf._grad = wrap(grad)
    else:  # NumPy gives a scalar where the result has no axes
        with device_of(grad):
            leaf._grad.array = backend_of(grad).asarray(leaf._grad.array + grad)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    Args:
        grad_outputs: dL/d(output), one an output; 1 for outputs of one element.
        create_graph: record the sweep, so that the result can be differentiated again.
        allow_unused: None instead of an error for an input the outputs do not depend on.
        materialize_grads: zeros instead of None.

    Example:
        >>> from minigrad import tensor
        >>> x = tensor(3.0, requires_grad=True)
        >>> (dy,) = grad(x**3, x, create_graph=True)
        >>> grad(dy, x)
        (tensor(18.),)
    """
    inputs = as_list(inputs)
    for t in inputs:
        if not t._requires_grad:
            raise GraphError("grad() with respect to a tensor that does not require a gradient.")
    targets = {edge_of(t): t for t in inputs}
    if grad_outputs is not None:
        grad_outputs = as_list(grad_outputs)
    found = sweep(as_list(outputs), grad_outputs, retain_graph, create_graph, targets)
    result: list[Any] = []
    for i, t in enumerate(inputs):
        g = found.get(edge_of(t))
        if g is None and materialize_grads:
            g = t._wrap(backend_of(t.array).zeros_like(t.array))
        if g is None and not allow_unused:
            raise GraphError(
                f"input {i}, of shape {t.shape}, does not appear in the graph of the outputs; "
                "pass allow_unused=True to get None for it."
            )
        result.append(g)
    return tuple(result)


def sweep(
    tensors: Sequence[Tensor],
    seeds: Sequence[Tensor | None] | None,
    retain_graph: bool | None,
    create_graph: bool,
    targets: dict[Any, Tensor] | None,
) -> dict[Any, Tensor]:
    """The engine's sweep from Tensors to Tensors: seeds checked, results owned by nobody else."""
    roots, grads = [], []
    for t, seed in zip(tensors, seeds or [None] * len(tensors), strict=True):
        if not t._requires_grad:
            raise GraphError(
                "backward() on a tensor that does not require a gradient and has no grad_fn; "
                "was it made under no_grad(), or from tensors without requires_grad=True?"
            )
        if seed is None:
            if t.numel() != 1:
                raise GraphError(
                    f"backward() on a tensor of shape {t.shape} needs a gradient; "
                    "call .sum() or .mean() first, or pass gradient=."
                )
            with device_of(t.array):
                seed = t._wrap(backend_of(t.array).ones_like(t.array))
        elif seed.shape != t.shape:
            raise ShapeError(f"gradient= must have shape {t.shape}, got {seed.shape}.")
        elif seed.dtype != t.dtype:
            seed = seed.to(t.dtype)
        roots.append(edge_of(t))
        grads.append(seed if create_graph else seed.array)

    within = None if targets is None else engine.paths_to(roots, set(targets))
    keep = create_graph if retain_graph is None else retain_graph
    with set_recording(create_graph), quiet(), same_device():
        found = engine.sweep(
            roots,
            grads,
            keep=keep,
            within=within,
            wanted=targets or (),
            differentiable=differentiable if create_graph else None,
        )
        seen = {id(g) for g in grads}
        result: dict[Any, Tensor] = {}
        for edge, flow in found.items():
            if targets is not None and edge not in targets:
                continue
            if not create_graph:
                if flow.__class__ not in backends:
                    flow = backend_of(edge.array if not edge.seq else flow).asarray(flow)
                if id(flow) in seen or not own(flow):
                    flow = flow.copy()  # others hold it, or its memory, too
                seen.add(id(flow))
                flow = tensors[0]._wrap(flow)
            if not edge.seq:
                for hook in tuple(getattr(edge, "_hooks", ())):
                    flow = hook(flow)
            result[edge] = flow
    return result


def own(array: Any) -> bool:
    """Whether nobody else looks into the memory of ``array``: it is no view, or the only one."""
    base = array.base
    if base is None:
        return True
    if not backend_of(array).writable(array) or base.size > 2 * array.size:
        return False  # stretched, or a small part
    watch: Any = capture.active
    if watch is not None and watch.host:
        return bool(watch.owns(base))
    return getrefcount(base) <= 3  # the view's reference, the name here, and the argument


gradients_of = grad  # under a name that rules, whose argument is called grad, leave free


class OfGradient:
    """Where ops stand that the rule of another op records: a scope, as nn.module.Call is one.

    ``rule`` is the number, the name and the vjp of that op.
    """

    __slots__ = ("parent", "rule")

    def __init__(self, op: Op) -> None:
        self.parent, self.rule = op.scope, (op.seq, op.name, op.vjp)

    def module(self) -> None:
        """No module is called."""


def differentiable(op: Op, grad: Tensor) -> Sequence[Any]:
    """The gradients of the op's inputs as part of a graph (``gradients_as_graph``), which notes
    whose gradients they are: those of the outermost op, where its composed form is swept."""
    around = scope.get()
    if around is not None and around.rule is not None:
        return gradients_as_graph(op, grad)
    token = scope.set(OfGradient(op))
    try:
        return gradients_as_graph(op, grad)
    finally:
        scope.reset(token)


def gradients_as_graph(op: Op, grad: Tensor) -> Sequence[Any]:
    """The gradients of the op's inputs by its own rule, run on Tensors; for a fused op, whose
    kernels take arrays only, the gradients of its composed form."""
    if not op.fused or op.plain_rule:
        return op.backward(namespace, grad, *kept(op, grad))  # type: ignore[no-any-return]
    inputs: list[Any] = [None] * len(op.inputs)
    for position, tensor in zip(op.positions, kept(op, grad), strict=True):
        if position < len(inputs):
            inputs[position] = tensor
    for i, (tensor, given) in enumerate(zip(inputs, op.given, strict=True)):
        if tensor is None and given is not None:
            # backward does not read it: no derivative depends on its value, so zeros serve
            shape, dtype = given
            zeros = op.xp.broadcast_to(op.xp.zeros((), dtype=dtype), shape)
            inputs[i] = joined(zeros, op.inputs[i], grad)
    inputs = [grad._apply(Alias(), t) if op.needs(i) else t for i, t in enumerate(inputs)]
    y = copy(op).composed(namespace, *inputs)
    sought = [t for i, t in enumerate(inputs) if op.needs(i)]
    flows = iter(gradients_of(y, sought, grad, create_graph=True, allow_unused=True))
    return [next(flows) if op.needs(i) else None for i in range(len(inputs))]


def kept(op: Op, like: Tensor) -> list[Any]:
    """What ``op`` kept for backward, as Tensors at their places in the graph."""
    edges = (*op.inputs, op)
    positions = op.positions or range(len(op.saved or ()))
    return [
        joined(array, edges[p], like) if hasattr(array, "dtype") else array
        for p, array in zip(positions, op.saved or (), strict=True)
    ]


def joined(array: Any, edge: Any, like: Tensor) -> Tensor:
    """``array`` as the Tensor that ``edge`` stands for."""
    if edge is None:
        return like._wrap(array)
    if not edge.seq:
        if edge.array is array:
            return edge  # type: ignore[no-any-return]
        alias = like._apply(Alias(), edge)  # the leaf was given another array since
        alias.array = array
        return alias
    tensor = like._wrap(array)
    tensor._op, tensor._requires_grad = edge, True
    return tensor


def edge_of(tensor: Tensor) -> Any:
    """The node that stands for a tensor: the op that made it, or the leaf itself."""
    return tensor._op or tensor


def as_list(tensors: Any) -> list[Any]:
    """One tensor, or several, as a list."""
    return [tensors] if isinstance(tensors, Methods) else list(tensors)
