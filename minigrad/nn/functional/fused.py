"""How a function runs its op: with the kernel, or from primitives."""

from __future__ import annotations

from typing import Any

from minigrad.namespace import tensors
from minigrad.tensor import Tensor, apply


def run(op: Any, fused: bool, *inputs: Any) -> Tensor:
    """``op`` with its kernel, or from primitives: the same numbers, a graph one can look into."""
    if fused:
        return apply(op, *inputs)
    op.check(*(None if t is None else t.array for t in inputs))
    return op.composed(tensors, *inputs)  # type: ignore[no-any-return]
