"""What a captured step returns: its form once, with places for the tensors of every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minigrad.backends import device_of
from minigrad.snapshot import Snapshot, difference
from minigrad.tensor import Tensor, wrap


class Place:
    """In what is returned, the place of a tensor."""

    def __init__(self, number: int, given: bool) -> None:
        self.number, self.given = number, given


def template(x: Any, program: Any, arrays: list[Any]) -> Any:
    """What is returned, with places for the tensors; those that the program made are listed."""
    if isinstance(x, Tensor):
        for i, tensor in enumerate(program.given):
            if x is tensor:
                return Place(i, given=True)
        if not program.made(x):
            return x
        if x._op is not None and x._op not in reached(program.swept):
            program.give_up(
                "it returns a tensor whose gradient is still to come; put backward() into the "
                "step, detach the tensor, or call it under no_grad()"
            )
        arrays.append(x.array)
        return Place(len(arrays) - 1, given=False)
    if type(x) in (tuple, list):
        return type(x)(template(e, program, arrays) for e in x)
    if type(x) is dict:
        return {k: template(v, program, arrays) for k, v in x.items()}
    return x


def filled(template: Any, arrays: Any, tensors: list[Tensor]) -> Any:
    """What is returned, from its template."""
    if isinstance(template, Place):
        return tensors[template.number] if template.given else wrap(arrays[template.number])
    if type(template) in (tuple, list):
        return type(template)(filled(e, arrays, tensors) for e in template)
    if type(template) is dict:
        return {k: filled(v, arrays, tensors) for k, v in template.items()}
    return template


def tensors_in(x: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(x, Tensor):
        yield x
    elif type(x) in (tuple, list, dict):
        for e in x.values() if type(x) is dict else x:
            yield from tensors_in(e)


def reached(roots: Iterable[Any]) -> set[Any]:
    """The nodes of the graphs below ``roots``."""
    seen: set[Any] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(node.inputs if node.seq else ())
    return seen


def both_ways(
    function: Callable[[], Any], replay: Callable[[], Any], roots: list[Any]
) -> tuple[Any, str | None]:
    """Call a function and what is to replace it from the same state, that of ``roots``; what the
    function returned, and where the other differs, to the last bit.
    """
    before = Snapshot(roots)
    expected = function()
    values = []
    for tensor in tensors_in(expected):
        with device_of(tensor.array):
            values.append(tensor.array.copy())
    after = Snapshot(roots)
    before.restore()
    try:
        found = [t.array for t in tensors_in(replay())]
        differs = difference(values, found, "result")
        differs = differs or difference(after.values, Snapshot(roots).values)
    except Exception as error:  # whatever it is, the function has the result
        differs = f"replaying it raised {type(error).__name__}: {error}"
    after.restore()
    return expected, differs
