"""How tensors print: the layout of PyTorch, so that what is learnt from either reads the same.

Floats get 4 digits, whole numbers a bare point, very large or small ranges scientific notation;
more than 1000 elements are summarised to 3 at each end of every axis.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, isfinite
from typing import Any

from minigrad.backends import backend_of
from minigrad.dtypes import bool as bool_dtype
from minigrad.dtypes import get_default_dtype, int64


class PrintOptions:
    """What ``set_printoptions`` changes."""

    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode: bool | None = None


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Digits after the point, elements before summarising, elements at each end, line width."""
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems}
    for name, value in {**given, "linewidth": linewidth}.items():
        if value is not None:
            setattr(PrintOptions, name, value)
    PrintOptions.sci_mode = sci_mode


def format_tensor(tensor: Any) -> str:
    """The ``repr`` of a Tensor."""
    label = type(tensor).__name__
    prefix = "tensor(" if label == "Tensor" else f"{label} containing:\ntensor("
    host = backend_of(tensor.array).to_host(tensor.array)
    body = _body(host, len("tensor("))
    notes = []
    if not host.size and host.ndim != 1:
        notes.append(f"size={tuple(host.shape)}")
    if host.dtype not in (get_default_dtype(), int64, bool_dtype) or (
        not host.size and host.dtype != get_default_dtype()
    ):
        notes.append(f"dtype={host.dtype}")
    if tensor.device != "cpu":
        notes.append(f"device='{tensor.device}'")
    if tensor.grad_fn is not None:
        notes.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        notes.append("requires_grad=True")
    text = prefix + body
    width = len(text) - text.rfind("\n") + 1
    for note in notes:
        if width + len(note) + 2 > PrintOptions.linewidth:
            text, width = text + ",\n" + " " * len("tensor("), len("tensor(")
        else:
            text, width = text + ", ", width + 2
        text, width = text + note, width + len(note)
    return text + ")"


def _body(host: Any, indent: int) -> str:
    if not host.size:
        return "[]"
    summary = host.size > PrintOptions.threshold
    shown = _corners(host) if summary else host
    return _nested(host, indent, summary, _formatter(shown))


def _corners(host: Any) -> Any:
    """The elements that a summary shows: their widths decide the layout."""
    edge = PrintOptions.edgeitems
    for axis in range(host.ndim):
        if host.shape[axis] > 2 * edge:
            keep = [*range(edge), *range(host.shape[axis] - edge, host.shape[axis])]
            host = host.take(keep, axis=axis)
    return host


def _formatter(shown: Any) -> Callable[[Any], str]:
    """A function from a value to text; the widest non-zero finite number sets the width."""
    values = shown.ravel().tolist()
    if shown.dtype.kind != "f":
        width = max(len(str(v)) for v in values)
        return lambda v: str(v).rjust(width)
    numbers = [v for v in values if isfinite(v) and v != 0]
    digits = PrintOptions.precision
    low, high = min(map(abs, numbers), default=1.0), max(map(abs, numbers), default=1.0)
    scientific = PrintOptions.sci_mode
    if scientific is None:
        scientific = high / low > 1000 or high > 1e8 or low < 1e-4
    if scientific and numbers:
        plain: Callable[[Any], str] = lambda v: f"{v:.{digits}e}"  # noqa: E731
    elif all(v == ceil(v) for v in numbers):
        plain = lambda v: f"{v:.0f}." if isfinite(v) else str(v)  # noqa: E731
    else:
        plain = lambda v: f"{v:.{digits}f}"  # noqa: E731
    width = max((len(plain(v)) for v in numbers), default=1)
    return lambda v: plain(v).rjust(width)


def _nested(host: Any, indent: int, summary: bool, text: Callable[[Any], str]) -> str:
    if not host.ndim:
        return text(host.item())
    edge = PrintOptions.edgeitems
    cut = summary and host.shape[0] > 2 * edge
    if host.ndim == 1:
        return _row(host.tolist(), indent, edge if cut else None, text)
    parts = [*host[:edge], "...", *host[-edge:]] if cut else list(host)
    rows = [p if isinstance(p, str) else _nested(p, indent + 1, summary, text) for p in parts]
    gap = "," + "\n" * (host.ndim - 1) + " " * (indent + 1)
    joined: str = gap.join(rows)
    return f"[{joined}]"


def _row(values: list[Any], indent: int, edge: int | None, text: Callable[[Any], str]) -> str:
    shown = [text(v) for v in (values if edge is None else values[:edge] + values[-edge:])]
    if edge is not None:
        shown.insert(edge, " ...")
    per_line = max(1, (PrintOptions.linewidth - indent) // (len(text(0)) + 2))
    lines = [shown[i : i + per_line] for i in range(0, len(shown), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"
