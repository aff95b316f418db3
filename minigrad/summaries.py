"""summary: the layers of a model as a table, with shapes, parameters, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minigrad.creation import randn
from minigrad.generator import Generator
from minigrad.nn.module import Module
from minigrad.profiler import profile
from minigrad.tensor import Tensor
from minigrad.unchanged import unchanged
from minigrad.viz.tables import count, grouped, memory, table
from minigrad.viz.trace import config


@dataclass(slots=True)
class Layer:
    """One row: a module at its place. Parameters, multiply-adds (of all calls) and bytes are its
    own; those of the modules in it are there too where these have no rows (not ``inner``).
    """

    path: str
    name: str  # class and sizes
    depth: int
    output: Any = None  # the shape, or several nested as they are; None if it was not called
    calls: int = 0
    params: int = 0
    frozen: int = 0  # of them
    mult_adds: int = 0
    bytes: int = 0  # of the values that its ops made
    inner: bool = False  # modules in it have rows of their own
    shared: str = ""  # the path under which this very module has a row already


class Summary:
    """What ``summary`` returns; printing it shows the table.

    Attributes:
        rows: a list of Layer.
        total_params, trainable_params, buffers: how many numbers; each counted once.
        total_param_bytes: the memory of parameters and buffers.
        total_mult_adds, total_output_bytes: of the whole pass; None without one.
        kept_bytes: what the ops keep for backward.
    """

    def __init__(self, model: Module, depth: int | None) -> None:
        self.model, self.depth = type(model).__name__, depth
        modes = {m.training for m in model.modules()}
        self.mode = "train and eval" if len(modes) > 1 else "train" if modes == {True} else "eval"
        self.inputs: list[Any] = []
        params, buffers = list(model.parameters()), list(model.buffers())
        self.total_params = sum(p.numel() for p in params)
        self.trainable_params = sum(p.numel() for p in params if p.requires_grad)
        self.buffers = sum(b.numel() for b in buffers)
        self.total_param_bytes = sum(int(t.array.nbytes) for t in [*params, *buffers])
        self.total_mult_adds: int | None = None
        self.total_output_bytes: int | None = None
        self.kept_bytes: int | None = None
        self.rows = list(layers(model, depth))

    def ran(self, prof: profile, inputs: Sequence[Any]) -> None:
        """Fill in what a pass through the model showed."""
        self.inputs = [_shape(x) for x in inputs]
        rows = {row.path: row for row in self.rows}
        ops = [e for e in prof.events if e.kind == "forward"]
        for e in prof.events:
            row = rows.get(e.path)
            if e.kind == "module" and row is not None:
                row.output, row.calls = e.shape, row.calls + 1
        for e in ops:
            path = e.path
            while path not in rows:  # closed: the work is that of the row around it
                path = path.rpartition(".")[0]
            rows[path].mult_adds += e.flops // 2
            rows[path].bytes += e.allocated
        self.total_mult_adds = sum(e.flops // 2 for e in ops)
        self.total_output_bytes = sum(e.allocated for e in ops)
        self.kept_bytes = sum(e.kept for e in ops)

    def table(self) -> str:
        """The rows below a headline, and the totals."""
        ran = self.total_mult_adds is not None
        head = [self.model, f"{self.mode} mode"]
        head += [f"input {', '.join(map(str, self.inputs))}"] if ran else []
        titles = ["layer", *(["output"] if ran else []), "parameters"]
        titles += ["multiply-adds", "memory"] if ran else []
        cells = [
            self._cells(row, mark, ran) for row, mark in zip(self.rows, self._marks(), strict=True)
        ]
        right = range(2 if ran else 1, len(titles))
        lines = [" · ".join(head), table(titles, cells, right=right), *self._totals()]
        return "\n".join(lines)

    def _cells(self, row: Layer, mark: str, ran: bool) -> list[str]:
        params = grouped(row.params) if row.params else "–"
        if row.shared:
            params = f"see {row.shared}"
        elif row.frozen:
            all_of_it = row.frozen == row.params
            params += " frozen" if all_of_it else f" ({grouped(row.frozen)} frozen)"
        name = row.path.rpartition(".")[2]
        cells = [f"{mark}{name}: {row.name}" if name else f"{mark}{row.name}"]
        if not ran:
            return [*cells, params]
        times = f" × {row.calls}" if row.calls > 1 else ""
        within = (r.calls for r in self.rows if r.path.startswith(f"{row.path}."))
        idle = "–" if row.shared or any(within) else "not called"
        output = said(row.output) + times if row.calls else idle
        adds = count(row.mult_adds) if row.mult_adds else "–"
        return [*cells, output, params, adds, memory(row.bytes) if row.bytes else "–"]

    def _marks(self) -> list[str]:
        """The lines of the tree at the left of each row."""
        marks = []
        for i, row in enumerate(self.rows):
            after = self.rows[i + 1 :]
            mark = ""
            for depth in range(1, row.depth + 1):
                rest = next((r.depth for r in after if r.depth <= depth), 0)
                more = rest == depth
                last = depth == row.depth
                mark += ("├─ " if more else "└─ ") if last else ("│  " if more else "   ")
            marks.append(mark)
        return marks

    def _totals(self) -> Iterator[str]:
        frozen = self.total_params - self.trainable_params
        yield (
            f"parameters: {grouped(self.total_params)} ({grouped(self.trainable_params)} "
            f"trainable, {grouped(frozen)} frozen), {memory(self.total_param_bytes)}"
            + (f" with {grouped(self.buffers)} numbers in buffers" if self.buffers else "")
        )
        if self.total_mult_adds is not None:
            yield (
                f"multiply-adds: {count(self.total_mult_adds)}; values made: "
                f"{memory(self.total_output_bytes or 0)}, kept for backward: "
                f"{memory(self.kept_bytes or 0)}"
            )

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table()


def summary(model: Module, x: Any = None, *, depth: int | None = None) -> Summary:
    """The layers of ``model`` as a table: what comes out, how many parameters, how much work.

    The model runs once, in the mode it is in, and nothing of it changes: buffers, gradients, modes
    and the random state are afterwards what they were, bit for bit. Without ``x`` it does not run,
    and the table has no shapes. Multiply-adds are those of products and norms (``ops.costs``), for
    the whole batch; memory is that of the values that the layer's ops make. A module that is at two
    places, or called twice, has its parameters counted once.

    Args:
        x: the input; several as a tuple of tensors; or its shape, the batch included, as
            ``(32, 3, 28, 28)``, or several shapes: then random numbers are put in.
        depth: how deep to open modules in modules: 1 shows those right inside the model.

    Example:
        >>> from minigrad import nn
        >>> print(summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), (16, 4)))
        Sequential · train mode · input (16, 4)
        layer                   output   parameters  multiply-adds  memory
        Sequential              (16, 3)           –              –       –
        ├─ 0: Linear(4 → 8)     (16, 8)          40            512   512 B
        ├─ 1: ReLU              (16, 8)           –              –   512 B
        └─ 2: Linear(8 → 3)     (16, 3)          27            384   192 B
        parameters: 67 (67 trainable, 0 frozen), 268 B
        multiply-adds: 896; values made: 1.22 kB, kept for backward: 768 B
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary() describes an nn.Module, got {type(model).__name__}.")
    if depth is not None and depth < 0:
        raise ValueError(f"depth= counts from 0 (the model alone), got {depth}.")
    made = Summary(model, depth)
    if x is None:
        return made
    args = inputs_for(model, x)
    with unchanged(model), profile(with_flops=True) as prof:
        model(*args)
    made.ran(prof, args)
    return made


def layers(model: Module, depth: int | None) -> Iterator[Layer]:
    """A row for each module, down to ``depth``."""
    first: dict[Module, str] = {}
    counted: set[Any] = set()
    stack: list[tuple[str, Module, int]] = [("", model, 0)]
    while stack:
        path, module, level = stack.pop()
        label = type(module).__name__
        sizes = config(module)
        row = Layer(path, f"{label}({sizes})" if sizes else label, level)
        if module in first:
            row.shared = first[module] or "the model"
            yield row
            continue
        first[module] = path
        children = [(n, m) for n, m in module._modules.items() if m is not None]
        row.inner = bool(children) and (depth is None or level < depth)
        for p in module.parameters(recurse=not row.inner):
            if p not in counted:
                counted.add(p)
                row.params += p.numel()
                row.frozen += 0 if p.requires_grad else p.numel()
        yield row
        if row.inner:
            inside = [(f"{path}.{n}" if path else n, m, level + 1) for n, m in children]
            stack.extend(reversed(inside))


def inputs_for(model: Module, x: Any) -> tuple[Any, ...]:
    """The arguments of the model: as given, or random numbers of the given shapes."""
    if isinstance(x, Tensor):
        return (x,)
    if isinstance(x, tuple | list) and x:
        if all(isinstance(n, int) for n in x):
            return (_random(model, x),)
        if all(isinstance(part, Tensor) for part in x):
            return tuple(x)
        if all(isinstance(s, tuple | list) and all(isinstance(n, int) for n in s) for s in x):
            return tuple(_random(model, s) for s in x)
    raise TypeError(
        "summary() takes a tensor, a tuple of tensors, a shape with the batch such as (32, 3, 28, "
        f"28), or a list of shapes; got {x!r}."
    )


def _random(model: Module, shape: Sequence[int]) -> Tensor:
    example = next((p for p in model.parameters() if p.dtype.kind == "f"), None)
    x = randn(*shape, generator=Generator().manual_seed(0))
    return x if example is None else x.to(example.device, example.dtype)


def _shape(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__


def said(shapes: Any) -> str:
    """Shapes nested as the outputs are, as text."""
    if isinstance(shapes, list):
        return f"[{', '.join(map(said, shapes))}]"
    if isinstance(shapes, dict):
        return ", ".join(f"{k}: {said(v)}" for k, v in shapes.items())
    return "–" if shapes is None else str(shapes)
