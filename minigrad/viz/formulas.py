"""One op without data: its formula, the primitives it is made of, and how gradients pass them.

Shapes are symbols. Each symbol is a prime number while the op runs on outlines, so that every size
that comes out tells which symbols made it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of, outline
from minigrad.creation import zeros
from minigrad.engine import scope, set_recording
from minigrad.namespace import tensors
from minigrad.nn.module import Buffer, Module, Parameter
from minigrad.ops import Op
from minigrad.ops.activation import KINDS
from minigrad.ops.reduce import Reduction
from minigrad.tensor import Tensor, apply, grow, wrap
from minigrad.unchanged import unchanged
from minigrad.viz import inside, trace
from minigrad.viz.describe import config
from minigrad.viz.picture import Graph
from minigrad.viz.select import snake
from minigrad.viz.trace import Edge, Node, Trace

#: Sizes by symbol; primes, so that a product tells its factors.
SIZES = {
    "N": 1009, "C": 503, "H": 307, "W": 311, "O": 211, "K": 401, "M": 607, "L": 701, "G": 11,
    "h": 151, "w": 157,
}  # fmt: skip

NC, NCHW = ("N", "C"), ("N", "C", "H", "W")

#: How the inputs of the running statistics' layers are called in eval mode, and their roles.
ROLES: dict[str, type[Tensor]] = {
    **dict.fromkeys(("gamma", "beta", "weight", "bias"), Parameter),
    **dict.fromkeys(("mean", "var"), Buffer),
}

Shapes = tuple[tuple[Any, ...], ...]

_no_pad = ((0, 0), (0, 0))
GROUPED = 26 * 11  # channels that make G groups

#: An example of each op whose constructor or inputs are not the usual: (op, shapes of its inputs).
EXAMPLES: dict[type[Op], tuple[Callable[[], Op], Shapes]] = {
    ops.AvgPool2d: (
        lambda: ops.AvgPool2d((2, 2), (2, 2), _no_pad, (153, 155), np.full((153, 155), 0.25)),
        (NCHW,),
    ),
    ops.BatchNorm: (ops.BatchNorm, (NC, ("C",), ("C",))),
    ops.BatchNormInference: (ops.BatchNormInference, (NC, ("C",), ("C",), ("C",), ("C",))),
    ops.Cast: (lambda: ops.Cast(np.dtype("float64")), (NC,)),
    ops.Clamp: (lambda: ops.Clamp(-1.0, 1.0), (NC,)),
    ops.Concatenate: (lambda: ops.Concatenate(0), (NC, ("M", "C"))),
    ops.Conv2d: (ops.Conv2d, (NCHW, ("O", "C", 2, 2), ("O",))),
    ops.ConvTranspose2d: (ops.ConvTranspose2d, (NCHW, ("C", "O", 2, 2), ("O",))),
    ops.CrossEntropy: (ops.CrossEntropy, (NC, ("N",))),
    ops.CumProd: (lambda: ops.CumProd(0), (NC,)),
    ops.CumSum: (lambda: ops.CumSum(0), (NC,)),
    ops.Diagonal: (ops.Diagonal, (("N", "C", "C"),)),
    ops.Dropout: (lambda: ops.Dropout(0.5), (NC, NC)),
    ops.Einsum: (lambda: ops.Einsum("nk,km->nm"), (("N", "K"), ("K", "M"))),
    ops.Embedding: (lambda: ops.Embedding(_index("N")), (("M", "C"),)),
    ops.Expand: (lambda: ops.Expand((SIZES["N"], SIZES["C"])), ((1, "C"),)),
    ops.Flip: (lambda: ops.Flip((0,)), (NC,)),
    ops.Fold: (
        lambda: ops.Fold((SIZES["H"], SIZES["W"]), (2, 2), (1, 1), _no_pad, (1, 1)),
        (("N", 4 * SIZES["C"], (SIZES["H"] - 1) * (SIZES["W"] - 1)),),
    ),
    ops.Gather: (lambda: ops.Gather(1, _index("N", "K")), (NC,)),
    ops.GroupNorm: (
        lambda: ops.GroupNorm(SIZES["G"]),
        (("N", GROUPED, "H", "W"), (GROUPED,), (GROUPED,)),
    ),
    ops.Index: (lambda: ops.Index(_index("K")), (NC,)),
    ops.IndexAdd: (lambda: ops.IndexAdd(_index("K"), (SIZES["N"], SIZES["C"])), (("K", "C"),)),
    ops.LayerNorm: (lambda: ops.LayerNorm((SIZES["C"],)), (NC, ("C",), ("C",))),
    ops.Linear: (ops.Linear, (("N", "K"), ("M", "K"), ("M",))),
    ops.LocalResponseNorm: (lambda: ops.LocalResponseNorm(3, 1e-4, 0.75, 1.0), (NCHW,)),
    ops.LogSoftmax: (lambda: ops.LogSoftmax(1), (NC,)),
    ops.MatMul: (ops.MatMul, (("N", "K"), ("K", "M"))),
    ops.MaxPool2d: (
        lambda: ops.MaxPool2d((2, 2), (2, 2), _no_pad, (1, 1), (153, 155)),
        (NCHW,),
    ),
    ops.Median: (lambda: ops.Median((1,)), (NC,)),
    ops.PReLU: (ops.PReLU, (NC, ("C",))),
    ops.Pad: (lambda: ops.Pad(((0, 0), (1, 1))), (NC,)),
    ops.Quotient: (lambda: ops.Quotient("floor"), (NC, NC)),
    ops.RMSNorm: (lambda: ops.RMSNorm((SIZES["C"],), 1e-6), (NC, ("C",))),
    ops.Reshape: (lambda: ops.Reshape((SIZES["N"] * SIZES["C"],)), (NC,)),
    ops.Rounded: (lambda: ops.Rounded("floor"), (NC,)),
    ops.ScatterAdd: (
        lambda: ops.ScatterAdd(1, _index("N", "K"), (SIZES["N"], SIZES["C"])),
        (("N", "K"),),
    ),
    ops.SetItem: (lambda: ops.SetItem(slice(0, 1)), (NC, (1, "C"))),
    ops.Slice: (lambda: ops.Slice(0), (NC,)),
    ops.Softmax: (lambda: ops.Softmax(1), (NC,)),
    ops.ToDevice: (lambda: ops.ToDevice("cpu"), (NC,)),
    ops.Transpose: (lambda: ops.Transpose((1, 0)), (NC,)),
    ops.Triangle: (lambda: ops.Triangle(False), (NC,)),
    ops.Unfold: (lambda: ops.Unfold((2, 2), (1, 1), _no_pad, (1, 1)), (NCHW,)),
    ops.Where: (ops.Where, (NC, NC, NC)),
}  # fmt: skip


def _index(*symbols: str) -> Any:
    return outline([SIZES[s] for s in symbols], np.int64)


def formula(
    op: Any, *, theme: str = "light", direction: str = "TB", title: str | None = None
) -> Graph:
    """One op, drawn without data: its formula, its primitives and their gradients.

    Args:
        op: an op by name (``"batch_norm"``), the function (``F.batch_norm``), the class or an
            instance (``ops.BatchNorm``); or a module (``nn.BatchNorm1d(8)``), in its mode, with its
            sizes.
        theme: ``"light"`` or ``"dark"``.
        direction: ``"TB"`` or ``"LR"``.
        title: the headline; the op by default.

    Raises:
        ValueError: no op has that name.

    Shapes are symbols: N samples, C channels or classes, H and W the image, K, M, O other sizes.

    Example:
        >>> from minigrad import viz
        >>> print(viz.formula("tanh"))
        tanh · y = tanh x · dx = dy · (1 - y²)
        input x (N, C)
        %1 = tanh(x) (N, C)   y = tanh x
        output y (N, C): %1
    """
    if isinstance(op, Module):
        return _of_module(op, theme, direction, title)
    node, shapes = example(op)
    found = _read(node, shapes)
    found.facts.said = [node.formula] if found.insides else [node.formula, node.vjp]
    return Graph(
        found,
        expand="all" if found.insides else (),
        theme=theme,
        direction=direction,
        title=title or node.name,
    )


def example(op: Any) -> tuple[Op, Shapes]:
    """An op with the shapes of its inputs, as symbols and numbers.

    Raises:
        ValueError: no op has that name.
    """
    given = op if isinstance(op, Op) else None
    kind = type(op) if given is not None else op
    if not isinstance(kind, type):
        kind = by_name(kind if isinstance(kind, str) else getattr(kind, "__name__", repr(kind)))
    if isinstance(kind, str):  # an activation
        parameters = _settings(KINDS[kind].value)
        return ops.Activation(kind, *parameters), (NC,)
    if not (isinstance(kind, type) and issubclass(kind, Op)):
        raise TypeError(
            "formula() draws an op: its name, its function, its class or an instance; or a module. "
            f"It got {op!r}."
        )
    if kind is ops.Activation and given is None:
        return ops.Activation("gelu"), (NC,)
    make, shapes = EXAMPLES.get(kind, (None, ()))
    if given is None:
        build: Any = kind
        given = make() if make else build((1,)) if issubclass(kind, Reduction) else build()
    return given, shapes or (NC,) * len(_arguments(given))


def by_name(name: str) -> type[Op] | str:
    """The op of a name; of an activation the name itself."""
    known: dict[str, Any] = {kind: kind for kind in KINDS}
    known |= {
        o.name: o for o in map(ops.__dict__.__getitem__, ops.__all__) if hasattr(o, "forward")
    }
    known |= {"max": ops.Amax, "min": ops.Amin, "cat": ops.Concatenate, "pow": ops.Pow}
    wanted = snake(name).strip("_")
    if wanted in known:
        return known[wanted]  # type: ignore[no-any-return]
    close = get_close_matches(wanted, known, 3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(
        f"formula() draws one op, and none is called {name!r}.{hint} What is made of several ops "
        "is drawn from a result: viz.graph(y)."
    )


def _settings(function: Callable[..., Any]) -> list[float]:
    """A value for each parameter of an activation."""
    names = list(inspect.signature(function).parameters)[2:]
    usual = {"min_val": -1.0, "max_val": 1.0, "threshold": 20.0, "beta": 1.0, "value": 0.0,
             "slope": 0.01, "alpha": 1.0, "lambd": 0.5}  # fmt: skip
    return [usual[n] for n in names]


def _arguments(op: Op) -> list[str]:
    code = type(op).forward.__code__
    return list(code.co_varnames[2 : code.co_argcount])


def _read(op: Op, shapes: Shapes) -> Trace:
    """The graph of an op alone, with symbols for shapes."""
    sizes = [[SIZES.get(n, n) if isinstance(n, str) else n for n in shape] for shape in shapes]
    given: dict[str, Tensor] = {}
    made: list[Tensor] = []
    op = _fresh(op)
    named = _arguments(op) or [f"x{i + 1}" for i in range(len(sizes))]
    for name, shape in zip(named, sizes, strict=False):
        kind = np.dtype(
            "bool" if name == "condition" else "int64" if name == "target" else "float32"
        )
        tensor = _leaf(name, shape, kind)
        given[name] = tensor
        made.append(tensor)
    token = scope.set(None)
    try:
        with set_recording(True):
            y = _apply(op, made)
    finally:
        scope.reset(token)
    found = trace.read([y], None, {**given, "y": y}, inside.look)
    for n in found.nodes:
        n.notes = [note for note in n.notes if note != "requires grad"]
    if isinstance(op, ops.BatchNorm):
        found = _running(found)
    return symbolic(found)


def _fresh(op: Op) -> Op:
    """A copy of an op that belongs to no graph."""
    bare = object.__new__(type(op))
    vars(bare).update({k: v for k, v in vars(op).items() if k not in inside.OF_THE_GRAPH})
    return bare


def _leaf(name: str, shape: Any, dtype: Any) -> Tensor:
    tensor = wrap(outline(shape, dtype, name=name))
    if dtype.kind == "f":
        tensor._requires_grad = True
    role = ROLES.get(name)
    if role is not None and dtype.kind == "f":
        held = object.__new__(role)
        held.array, held._op, held._grad = tensor.array, None, None
        held._requires_grad = role is Parameter
        return held
    return tensor


def _apply(op: Op, inputs: list[Tensor]) -> Tensor:
    """The value of an op on outlines. The kernel of a fused op would ask for values; what it is
    made of knows its shape as well.
    """
    if not op.fused:
        return apply(op, *inputs)
    with set_recording(False):
        y = _fresh(op).composed(tensors, *(wrap(t.array) for t in inputs))
    edges = tuple(t if t._requires_grad else None for t in inputs)
    held = tuple(None if t._requires_grad else t for t in inputs)
    return grow(op, backend_of(y.array), edges, held, [t.array for t in inputs], y.array)


def _running(found: Trace) -> Trace:
    """The graph of BatchNorm with the estimates that a layer moves beside it."""
    node = next(n for n in found.nodes if n.ops)
    moved = [("running_mean", "m ← 0.9 m + 0.1 μ"), ("running_var", "s² ← 0.9 s² + 0.1 v n/(n-1)")]
    buffers = [
        Node(f"buffer{i}", "buffer", name, shape=(SIZES["C"],), dtype=node.dtype,
             notes=["updated in place"], formula=said)
        for i, (name, said) in enumerate(moved)
    ]  # fmt: skip
    updates = [Edge(node.id, b.id, shape=b.shape, dtype=b.dtype, kind="update") for b in buffers]
    return replace(found, nodes=found.nodes + buffers, edges=found.edges + updates)


# ---- symbols ---------------------------------------------------------------------------------


class Symbol(str):
    """A size without a number: shapes show it as ``(N, C)``."""

    __slots__ = ()
    __repr__ = str.__str__


#: Sizes that follow from others: of what a window of 2 leaves, of the channels in a group.
FOLLOWING = {306: "oh", 310: "ow", 308: "oh", 312: "ow", 153: "oh", 155: "ow",
             GROUPED: "C", 26: "C/G", 1616: "N+M", 505: "C+2"}  # fmt: skip
NAMES = {n: s for s, n in SIZES.items()} | FOLLOWING


def symbolic(found: Trace, names: dict[int, str] | None = None) -> Trace:
    """The graph with symbols for the sizes that stand for them."""
    names = NAMES if names is None else names

    def shape(of: Any) -> Any:
        return None if of is None else tuple(symbol(n, names) for n in of)

    def text(of: str) -> str:
        return re.sub(r"\d{3,}", lambda m: str(symbol(int(m[0]), names)), of)

    nodes = [
        replace(
            n, shape=shape(n.shape), notes=[text(t) for t in n.notes], formula=text(n.formula),
            vjp=text(n.vjp), attributes={k: _put(v, text) for k, v in n.attributes.items()},
        )
        for n in found.nodes
    ]  # fmt: skip
    edges = [replace(e, shape=shape(e.shape), stretched=shape(e.stretched)) for e in found.edges]
    insides = {k: symbolic(v, names) for k, v in found.insides.items()}
    return replace(found, nodes=nodes, edges=edges, insides=insides)


def _put(value: Any, text: Callable[[str], str]) -> Any:
    return text(value) if isinstance(value, str) else value


def symbol(n: Any, names: dict[int, str]) -> Any:
    """The symbol of a size, a product of symbols, or the number itself."""
    if not isinstance(n, int) or n in names:
        return Symbol(names[n]) if n in names else n
    for known in sorted(names, reverse=True):
        if known > 20 and n % known == 0:
            rest = symbol(n // known, names)
            if isinstance(rest, Symbol):
                return Symbol(f"{rest}·{names[known]}")
            if rest < 20:
                return Symbol(f"{rest}·{names[known]}")
    return n


# ---- modules ---------------------------------------------------------------------------------


def _of_module(module: Module, theme: str, direction: str, title: str | None) -> Graph:
    """A module on the first input of the usual shapes that it accepts; it is left as it was."""
    taken = {n for p in module.parameters() for n in p.shape}
    n, length, h, w = [p for p in (7, 17, 19, 23, 29, 31) if p not in taken][:4]
    names = {n: "N", length: "L", h: "H", w: "W"}
    for shape in _shapes(module, n, length, h, w):
        for count in (1, 2):
            inputs = [zeros(*shape) for _ in range(count)]
            if not any(True for _ in module.parameters()):
                inputs = [x.requires_grad_() for x in inputs]
            try:
                with unchanged(module):
                    y = module(*inputs)
                    y = y[0] if isinstance(y, tuple) else y
                    if not isinstance(y, Tensor) or y.grad_fn is None:
                        continue
                    found = trace.read([y], module, {"y": y}, inside.look)
            except (ValueError, TypeError, RuntimeError, IndexError):
                continue
            for node in found.nodes:
                node.value = ""
            found.facts.shown = ""
            return Graph(
                symbolic(found, names),
                expand="all" if found.insides else (),
                theme=theme,
                direction=direction,
                title=title or config_of(module),
            )
    raise ValueError(
        f"formula() found no input that {type(module).__name__} accepts; draw it on one of yours: "
        "viz.graph(module, x)."
    )


def config_of(module: Module) -> str:
    """Class, sizes and mode, as the frames of pictures have them."""
    said = config(module)
    name = f"{type(module).__name__}({said})" if said else type(module).__name__
    return f"{name}, {'train' if module.training else 'eval'} mode"


def _shapes(module: Module, n: int, length: int, h: int, w: int) -> list[tuple[int, ...]]:
    """The shapes that layers take, with the module's own number of features."""
    has = vars(module)
    known = ("in_features", "num_features", "in_channels", "num_channels", "normalized_shape",
             "input_size", "embed_dim", "hidden_size")  # fmt: skip
    features: Any = next((has[k] for k in known if k in has), None)
    if features is None:
        sizes = [p.shape[-1] for p in module.parameters() if p.ndim]
        features = sizes[0] if sizes else 5
    if isinstance(features, tuple):
        return [(n, *features)]
    f = int(features)
    return [(n, f), (n, f, h, w), (n, f, length), (n, length, f), (n, f, length, h, w)]
