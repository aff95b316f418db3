"""What a fused op is made of: its ``composed``, run on outlines, read off like any other tape.

No value is looked at and none is computed: outlines have shapes only (backends/outline.py). So it
costs a millisecond however large the op is, and changes nothing but the number on the clock.
"""

from __future__ import annotations

from typing import Any

from minigrad.backends import Outline, capture, outline
from minigrad.engine import scope, set_recording
from minigrad.namespace import tensors
from minigrad.ops import Op
from minigrad.tensor import Tensor, wrap
from minigrad.viz.describe import arguments, array_of, keeps
from minigrad.viz.trace import DERIVED, Node, Reader, Trace, tape

#: What an op has because it is a node of a graph; its copy is none.
OF_THE_GRAPH = {"constants", "given", "hooks", "retains", "viewed"}


def look(op: Op) -> Trace | None:
    """The primitives of a fused op; None where they cannot be told without values."""
    if capture.active is not None:  # a step is being captured: every call would be part of it
        return None
    bare = object.__new__(type(op))
    kept = {k: v for k, v in vars(op).items() if k not in OF_THE_GRAPH}
    vars(bare).update(kept | dict.fromkeys(getattr(op, "residuals", ())))
    given = {}
    for name, known in zip(arguments(op), op.given, strict=False):
        given[name] = None if known is None else _input(name, *known)
    token = scope.set(None)
    try:
        with set_recording(True):
            y = bare.composed(tensors, *given.values())
    except Exception:  # a definition that asks for values, or for what outlines do not have
        return None
    finally:
        scope.reset(token)
    if not isinstance(y, Tensor) or y.grad_fn is None:
        return None
    reader = InsideReader({name: t for name, t in given.items() if t is not None})
    for primitive in tape([y]):
        reader.read(primitive)
    reader.read_output(y)
    return reader.finish()


def _input(name: str, shape: Any, dtype: Any) -> Tensor:
    tensor = wrap(outline(shape, dtype, name=name))
    tensor._requires_grad = tensor.array.dtype.kind == "f"  # so that every step is recorded
    return tensor


class InsideReader(Reader):
    """Reads primitives. A constant made on the way, as a mask, comes from what it was made of."""

    def __init__(self, given: dict[str, Tensor]) -> None:
        super().__init__(None, given)
        self.by_name = given

    def constant(self, held: Any, node: Node, op: Op, i: int, argument: str) -> None:
        """A leaf; or what a constant was computed from."""
        tensor = held if isinstance(held, Tensor) else held()
        if tensor is not None and tensor in self.given:
            super().constant(held, node, op, i, argument)
            return
        array = tensor.array if tensor is not None else array_of(None, op, i)
        if not isinstance(array, Outline) or not array.origins:
            node.notes.append(f"{argument} is a constant")
        for name in sorted(getattr(array, "origins", ())):
            self.connect(self.leaf(self.by_name[name], op, i, name), node, op, i, argument)
            self.edges[-1].name = DERIVED

    def read(self, op: Op) -> None:
        """One primitive; what its settings were computed from counts as an input."""
        places = [v for v in vars(op).values() if isinstance(v, Outline)]  # as those of a gather
        origins = sorted({name for v in places for name in v.origins})
        made_of = [self.leaf(self.by_name[name], op, 0, name) for name in origins]
        super().read(op)
        node = self.made[op]
        for leaf in made_of:
            self.connect(leaf, node, op, len(op.inputs), "index")
        node.keeps = keeps(op)
