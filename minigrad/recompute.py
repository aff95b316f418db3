"""checkpoint: memory for time. What a function saves for backward is computed anew instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.backends import capture
from minigrad.engine import clock, recording, set_recording
from minigrad.errors import DtypeError, GraphError
from minigrad.functions import cat
from minigrad.generator import get_rng_state, set_rng_state
from minigrad.gradients import grad as gradients_of
from minigrad.ops.op import Op
from minigrad.shapes import prod
from minigrad.tensor import Tensor, apply, wrap


class Checkpoint(Op):
    """A function of tensors as one op, which keeps only what the function was given."""

    formula, vjp = "y = f(x)", "dx = dy · ∂f/∂x, with f computed anew"
    repeatable = False

    def __init__(self, again: Callable[[list[Any]], Tensor], params: list[Tensor]) -> None:
        self.again, self.params = again, params
        self.value: Any = None

    def forward(self, xp: Any, *arrays: Any) -> Any:
        """The value, which checkpoint() found."""
        value, self.value = self.value, None
        return value

    def backward(self, xp: Any, grad: Any, *inputs: Any) -> Any:
        """Run the function once more, with a graph, and go back through that."""
        given = inputs[: len(inputs) - len(self.params)]
        further = isinstance(grad, Tensor)  # this sweep is recorded itself
        args: list[Any] = list(given)
        for i, x in enumerate(given):
            if not isinstance(x, Tensor):
                args[i] = wrap(x)
                args[i]._requires_grad = self.inputs[i] is not None
        with set_recording(True):
            y = self.again(args)
        wanted = [x for x in (*args, *self.params) if x._requires_grad]
        dy = grad if further else wrap(grad)
        found = gradients_of(y, wanted, dy, create_graph=further, allow_unused=True)
        flows = dict(zip(map(id, wanted), found, strict=True))
        result = [flows.get(id(x)) for x in (*args, *self.params)]
        return result if further else [g if g is None else g.array for g in result]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, without keeping what its gradient reads.

    Only the tensors among ``args`` and the parameters it reads stay in memory; backward() runs the
    function once more. A chain of n layers in √n checkpoints needs the memory of about 2 √n layers,
    for one more forward pass.

    Args:
        function: returns a tensor, or a tuple or list of tensors of one dtype. It has to compute
            the same a second time; whatever else it does, such as moving the running statistics of
            a BatchNorm, happens twice, as in PyTorch.
        args: tensors through which gradients flow are to be given here; parameters (leaves) are
            found wherever the function has them from.
        use_reentrant: False only: gradients are those of the graph, as ``grad()`` wants them.
        preserve_rng_state: draw the same random numbers the second time, as Dropout has to.

    Raises:
        GraphError: the function uses a tensor from outside that has a graph of its own.

    Source: Chen, Xu, Zhang and Guestrin (2016), "Training deep nets with sublinear memory cost",
        arXiv:1604.06174.
    Differs: PyTorch has it as ``torch.utils.checkpoint.checkpoint``, with a reentrant form.

    Example:
        >>> from minigrad import nn, randn
        >>> layer = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
        >>> checkpoint(layer, randn(8, 4)).sum().backward()
        >>> layer[0].weight.grad.shape
        (64, 4)
    """
    if use_reentrant:
        raise ValueError(
            "checkpoint() has no reentrant form, whose gradients go past grad() and hooks; leave "
            "use_reentrant out."
        )
    if capture.active is not None or not recording.get():
        return function(*args, **kwargs)
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    before, state = clock(), get_rng_state() if preserve_rng_state else None
    many: list[Any] = []  # the shapes of several results, and their kind

    def run(tensors: list[Any]) -> Tensor:
        given = list(args)
        for i, tensor in zip(places, tensors, strict=True):
            given[i] = tensor
        y = function(*given, **kwargs)
        if isinstance(y, Tensor):
            return y
        if not (isinstance(y, tuple | list) and y and all(isinstance(t, Tensor) for t in y)):
            raise TypeError(
                "checkpoint() takes a function that returns a tensor, or a tuple or list of them; "
                f"got {type(y).__name__}."
            )
        if len({t.dtype for t in y}) > 1:
            raise DtypeError(
                f"checkpoint() takes results of one dtype, got {[str(t.dtype) for t in y]}."
            )
        many[:] = [type(y), *(t.shape for t in y)]
        return cat([t.reshape(-1) for t in y])

    def again(tensors: list[Any]) -> Tensor:
        if state is None:
            return run(tensors)
        now = get_rng_state()
        set_rng_state(state)
        try:
            return run(tensors)
        finally:
            set_rng_state(now)

    inputs = [args[i] for i in places]
    leaves = [wrap(x.array) for x in inputs]
    for leaf, x in zip(leaves, inputs, strict=True):
        leaf._requires_grad = x._requires_grad
    y = run(leaves)
    op = Checkpoint(again, _parameters(y, leaves, before))
    op.value, y = y.array, None  # type: ignore[assignment]  # its graph goes
    result = apply(op, *inputs, *op.params)
    if not many:
        return result
    parts, start = [], 0
    for shape in many[1:]:
        parts.append(result.narrow(0, start, prod(shape)).reshape(shape))
        start += prod(shape)
    return many[0](parts)


def _parameters(y: Tensor, leaves: list[Tensor], before: int) -> list[Tensor]:
    """The leaves that ``y`` depends on, beside those given."""
    known = {id(x) for x in leaves}
    found: list[Tensor] = []
    stack: list[Any] = [y._op if y._op is not None else y]
    while stack:
        node = stack.pop()
        if node is None or id(node) in known:
            continue
        known.add(id(node))
        if not node.seq:
            if node._requires_grad:
                found.append(node)
        elif node.seq < before:
            raise GraphError(
                f"the function given to checkpoint() uses the result of {type(node).__name__}, of "
                f"shape {node.shape}, from outside; pass it as an argument, so that its gradient "
                "can flow on."
            )
        else:
            stack.extend(node.inputs)
    return found
