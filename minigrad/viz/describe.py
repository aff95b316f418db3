"""What can be said in a few words of one op, one tensor, one module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import isfinite
from typing import Any
from weakref import ref

from minigrad.backends import Outline
from minigrad.nn.module import Module
from minigrad.ops import BatchNormInference, MatMul, Op, SetItem
from minigrad.shapes import Shape
from minigrad.tensor import Tensor

#: Attributes not worth a line: those that shapes show (None), and those of no effect at this value.
QUIET: dict[str, Any] = {"shape": None, "size": None, "padding": {0}, "dilation": {1}}


@cache
def dtype_name(dtype: Any) -> str:
    """``float32``; NumPy takes 15 us to say so."""
    return str(dtype)


@cache
def code_of(forward: Any) -> Any:
    """The code of a ``forward``; a profile may stand around it."""
    return inspect.unwrap(forward).__code__


def arguments(op: Op) -> Iterator[str]:
    """What ``forward`` calls its inputs; ``x1, x2, ...`` where it takes any number."""
    code = code_of(type(op).forward)
    if code.co_flags & inspect.CO_VARARGS:
        return (f"x{i + 1}" for i in range(len(op.inputs)))
    return iter(code.co_varnames[2 : code.co_argcount])


def places(op: Op) -> list[tuple[int, Any]]:
    """The arrays in ``op.saved``, each with the number of the input it is; the output comes last.

    ``op.saved`` of an op that keeps all its inputs has no positions.
    """
    saved = op.saved or ()
    at = op.positions or range(len(saved))
    return [(i, a) for i, a in zip(at, saved, strict=False) if hasattr(a, "dtype")]


def keeps(op: Op) -> list[str]:
    """The names of the arrays an op keeps for its gradient, or kept until they were freed."""
    names = [*arguments(op), "y"]
    at = op.positions or (range(len(op.inputs)) if op.reads else ())
    held = op.constants or (None,) * len(op.inputs)
    numbers = {
        i
        for i, (edge, c) in enumerate(zip(op.inputs, held, strict=True))
        if edge is None and not isinstance(c, ref)
    }
    let_go = {i for i, reader in op.droppable if op.inputs[reader] is None}
    residuals = getattr(op, "residuals", ())
    return [*(names[i] for i in at if i not in numbers | let_go), *residuals]


def buffers(op: Op) -> dict[str, Any]:
    """The buffers of the module whose call recorded the op."""
    module = None if op.scope is None else op.scope.module()
    held = {} if module is None else module._buffers
    return {name: buffer for name, buffer in held.items() if buffer is not None}


def running(op: Op, argument: str) -> Tensor | None:
    """The buffer that an eval-mode norm normalizes by: the op was handed it detached."""
    if not isinstance(op, BatchNormInference) or argument not in ("mean", "var"):
        return None
    return buffers(op).get(f"running_{argument}")


def moving(module: Any, buffer: Tensor) -> str:
    """How a norm moves a running estimate: ``m ← 0.9 m + 0.1 μ``."""
    if module is None:
        return ""
    share = getattr(module, "momentum", None)
    if share is None or getattr(module, "debias", False):
        old, new = "(1 - w) ", "w "  # a weight of its own at each step
    else:
        old, new = f"{1 - share:.4g} ", f"{share:.4g} "
    if buffer is module.running_mean:
        return f"m ← {old}m + {new}μ"
    bessel = " n/(n-1)" if getattr(module, "unbiased", True) else ""
    return f"s² ← {old}s² + {new}v{bessel}"


def stretched(op: Op, shape: Shape | None) -> Shape | None:
    """The shape an input is broadcast to, where that is not its own."""
    if shape is None or not op.broadcasts or isinstance(op, SetItem):
        return None
    whole = tuple(op.shape)
    if isinstance(op, MatMul):  # only the axes before the matrices broadcast
        whole = whole[:-2] + shape[-2:]
    return whole if whole != shape else None


def values_held(ops: Sequence[Op]) -> dict[int, Op]:
    """By the id of every array that some op keeps: the op whose value it is."""
    found: dict[int, Op] = {}
    for op in ops:
        for i, array in places(op):
            made = op if i == len(op.inputs) else op.inputs[i]
            if made is not None and made.seq:
                found[id(array)] = made
    return found


def array_of(tensor: Tensor | None, op: Op, i: int) -> Any:
    """The array of a constant input: the tensor's, or the one that the op keeps."""
    return dict(places(op)).get(i) if tensor is None else tensor.array


def facts_of(tensor: Tensor | None, op: Op, i: int) -> tuple[Shape | None, str | None]:
    """Shape and dtype of input ``i``: the tensor's, or, if it is gone, those the op remembers."""
    if tensor is not None:
        return tensor.shape, dtype_name(tensor.dtype)
    if op.fused and op.given[i] is not None:
        shape, dtype = op.given[i]  # type: ignore[misc]
        return tuple(shape), dtype_name(dtype)
    array = array_of(None, op, i)
    return (None, None) if array is None else (tuple(array.shape), dtype_name(array.dtype))


def value_of(tensor: Tensor | None) -> str:
    """The value of a tensor of one element."""
    if tensor is None or tensor.numel() != 1 or isinstance(tensor.array, Outline):
        return ""
    return f"{tensor.item():.4g}"


def unusual(op: Op) -> list[str]:
    """The attributes worth a line: those that are not what they are by default."""
    given = defaults(type(op).__init__)
    said = []
    for name, value in op.attributes().items():
        shown = plain(value)
        default = plain(given.get(name))
        quiet = name in QUIET and QUIET[name] in (None, flat(shown))
        if not (quiet or shown is None or shown is False or shown == default):
            said.append(f"{name}={written(shown)}")
    return said


@cache
def defaults(constructor: Callable[..., None]) -> dict[str, Any]:
    """The default values of a constructor's arguments."""
    arguments = inspect.signature(constructor).parameters.values()
    return {a.name: a.default for a in arguments if a.default is not a.empty}


def written(value: Any) -> str:
    """A plain value as Python writes it, lists as tuples."""
    if isinstance(value, list):
        return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
    return str(value)


def flat(value: Any) -> set[Any]:
    """The numbers in nested lists."""
    return set().union(*map(flat, value)) if isinstance(value, list) else {value}


def plain(value: Any, nested: int = 3) -> Any:
    """``value`` as JSON has it; arrays by dtype and shape, other objects by their class."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, list | tuple) and nested:
        return [plain(v, nested - 1) for v in value]
    if isinstance(value, slice):
        parts = [value.start, value.stop, *([] if value.step is None else [value.step])]
        return ":".join("" if p is None else str(p) for p in parts)
    if value is Ellipsis:
        return "..."
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    if hasattr(value, "kind") and hasattr(value, "itemsize"):
        return str(value)  # a dtype
    return type(value).__name__


def config(module: Module) -> str:
    """What stands between the parentheses of a module's class: the sizes that matter most."""
    has = vars(module)
    for into, out in (("in_features", "out_features"), ("in_channels", "out_channels")):
        if into in has and out in has:
            kernel = f", kernel {has['kernel_size']}" if "kernel_size" in has else ""
            return f"{has[into]} → {has[out]}{kernel}"
    given = defaults(type(module).__init__)
    said = []
    for setting in re.split(r", (?=\w+=)", str(module.extra_repr())):
        name, _, value = setting.partition("=")
        if not (name in given and str(given[name]) == value):
            said.append(setting)
    return ", ".join(said)
