"""Pictures of computation graphs: ``viz.graph(loss)`` reads the tape that led to ``loss``.

    g = viz.graph(loss, model)
    print(g)                  # an indented text
    g.render("net.svg")       # or .png, .pdf, .dot, .json, .txt

Reading the tape runs nothing and changes nothing: no running statistic moves, no random number
is drawn.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from minigrad.errors import GraphError
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.viz import example, inside, marks, trace
from minigrad.viz.annotate import annotate
from minigrad.viz.formulas import formula
from minigrad.viz.health import Diagnosis, Finding, check
from minigrad.viz.notebook import set_jupyter
from minigrad.viz.opened import Selector
from minigrad.viz.picture import Graph
from minigrad.viz.render import GraphvizError
from minigrad.viz.sources import recording
from minigrad.viz.stepper import Stepper, step
from minigrad.viz.style import THEMES
from minigrad.viz.trace import Scope

__all__ = [
    "Diagnosis",
    "Finding",
    "Graph",
    "GraphvizError",
    "Stepper",
    "check",
    "formula",
    "graph",
    "plots",
    "recording",
    "set_jupyter",
    "step",
    "tensorboard",
]

if TYPE_CHECKING:
    from minigrad.viz import plots, tensorboard
else:

    def __getattr__(name: str) -> object:
        """What not every picture needs is imported when it is first asked for."""
        if name in ("plots", "tensorboard"):
            return import_module(f"minigrad.viz.{name}")
        raise AttributeError(f"module 'minigrad.viz' has no attribute {name!r}")


BACKWARD = (False, True, "only", 2)
DIRECTIONS = ("TB", "LR")


def graph(
    output: Tensor | Sequence[Tensor] | Module | BaseException,
    model: Any = None,
    *,
    names: Mapping[str, Any] | None = None,
    backward: bool | str = False,
    values: bool = False,
    grads: bool | str = "auto",
    saved: bool = False,
    source: bool = True,
    health: bool = False,
    heat: str | None = None,
    profile: Any = None,
    expand: Selector = (),
    collapse: str | Iterable[str] | Callable[[Scope], bool] = (),
    roll: bool = True,
    depth: int | None = None,
    max_nodes: int = 400,
    direction: str = "TB",
    theme: str = "light",
    title: str | None = None,
) -> Graph:
    """The graph of the operations that made ``output``, before or after ``backward()``.

    Drawing reads the tape and changes nothing.

    Args:
        output: a tensor that depends on something that requires a gradient; or several. Or a
            module, which is run once on the example input that follows and then put back as it was,
            bit for bit; where it raises, the picture shows what ran and, in red, what failed. Or an
            error that an op or a module raised: the picture of the same.
        model: the module whose paths name parameters and modules. Without it the names come from
            the module calls that the tape remembers. After a module: its input, a tuple of several,
            or a dict of named ones.
        names: names of tensors of your own, such as ``locals()``; what is no tensor is ignored.
        backward: False draws the forward graph. True draws the ladder: the forward rail, the
            backward rail with the formula of every gradient, what is saved between them, and the
            gradients of the leaves. ``"only"`` draws the backward rail alone. 2 draws the
            ladder of a graph that contains gradients (``create_graph=True``): the ops that one
            gradient recorded are one box, as ``linear′``, and theirs is ``linear″``.
        values: with mean and standard deviation of every value, norms of gradients, zeros, NaN and
            infinities, and the elements of small tensors in the data. What ``backward()`` freed is
            computed anew, which takes about as long as the step did (``values.py``).
        grads: ``"auto"`` shows the ``grad`` of leaves where there is one; True the gradients that
            ``backward()`` would bring, without calling it; False none.
        saved: with the memory that each op keeps for its gradient (``values`` has it, too).
        health: mark what ``check`` finds: in words at the op or the parameter, with a red ring
            where NaN or infinity begins and red arrows along its way.
        heat: a stripe at the left of every op, the stronger the more it costs, and the number:
            ``"time"``, forward and backward, of the run under ``profile``; ``"memory"``, what the
            op keeps for backward, and how much is alive when it has run; ``"grad_norm"``, the norm
            of the gradient that arrives.
        profile: the ``profiler.profile`` that the graph was made under, for ``heat``.
        expand: the fused ops to open into the primitives they are made of, each with its formula,
            its gradient and what it keeps: by op (``"batch_norm"``), by the path or class of the
            module around it (``"features.1"``), ``"all"``, several of these, or a function of the
            node. They are found without values.
        collapse: the modules to close to one box each: by class (``"Dropout"``), by path, several
            of these, or a function of the frame (a ``trace.Scope``).
        roll: show three or more equal modules in a row, and the steps of a recurrent layer, once,
            with the number of copies.
        source: with the user's file and line of every op that was recorded ``with recording():``,
            in tooltips and data.
        depth: 1 shows the modules inside the model as one box each, 2 those inside them, and so on.
        max_nodes: with more ops than this, modules are closed and a long tape is shortened.
        direction: ``"TB"``, from top to bottom, or, for the forward graph, ``"LR"``, from left to
            right.
        theme: ``"light"``, ``"dark"``, or ``"auto"``: an SVG that is light or dark as the screen of
            whoever looks at it (what is no SVG is light).
        title: the headline; the model's class by default.

    Raises:
        GraphError: ``output`` has no graph.

    Example:
        >>> from minigrad import tensor, viz
        >>> w, x = tensor(3.0, requires_grad=True), tensor(2.0)
        >>> print(viz.graph((w * x).tanh(), names={"w": w, "x": x}))
        forward · float32 · 2 ops
        input w () = 3 requires grad
        input x () = 2
        %1 = mul(w, x) ()   y = a · b
        %2 = tanh(%1) ()   y = tanh x
        output output () = 1: %2
    """
    _one_of("backward", backward, BACKWARD)
    _one_of("grads", grads, (True, False, "auto"))
    _one_of("direction", direction, DIRECTIONS)
    _one_of("theme", theme, (*THEMES, "auto"))
    if backward and direction != "TB":
        raise ValueError(
            f"gradients are drawn from top to bottom: leave direction={direction!r} out."
        )
    if depth is not None and depth < 1:
        raise ValueError(f"depth= counts from 1 (the modules inside the model), got {depth}.")
    if max_nodes < 3:
        raise ValueError(f"max_nodes= must be at least 3, got {max_nodes}.")
    if profile is not None and heat is None:
        raise ValueError('profile= goes with heat="time" or heat="memory".')
    with _uncollected():
        reader, outputs = _read(output, model, names)
        data = reader.finish()
        if not source:
            for node in data.nodes:
                node.source = node.code = ""
        if outputs:
            annotate(
                data, reader, outputs, backward=backward, values=values, grads=grads, saved=saved
            )
            if health:
                marks.mark_health(data, outputs, reader.model)
            if heat is not None:
                marks.mark_heat(data, outputs, heat, profile)
        else:  # the forward failed: nothing flows back
            data.facts.shown, backward = "it stopped here", False
        return Graph(
            data,
            backward=backward,
            direction=direction,
            theme=theme,
            title=title,
            expand=expand,
            collapse=collapse,
            roll=roll,
            depth=depth,
            max_nodes=max_nodes,
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector, which would look through all nodes again and again while they are
    made: of 32,000 ops, 12.6 s with it and 8.6 without."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(
    output: Any, model: Any, names: Mapping[str, Any] | None
) -> tuple[trace.Reader, list[Tensor]]:
    """What has read the graph that is asked for, and the outputs; none where the forward failed."""
    if isinstance(output, Module):
        if model is None:
            raise TypeError(
                "graph() of a module needs an example input: "
                f"viz.graph({type(output).__name__}, x)."
            )
        return example.run(output, model, names, inside.look)
    if model is not None and not isinstance(model, Module):
        raise TypeError(
            f"graph() takes the model as its second argument, got {type(model).__name__}; of a "
            "model and an example input, the model comes first."
        )
    if isinstance(output, BaseException):
        if not hasattr(output, "_failure"):
            raise GraphError(
                "graph() of an error draws what led to the op or module that raised it; none did "
                f"this {type(output).__name__}."
            ) from output
        return trace.reading_failed(output, model, names, inside.look), []
    outputs = [output] if isinstance(output, Tensor) else list(output)
    if not outputs:
        raise GraphError("graph() needs a tensor, got an empty sequence.")
    for i, tensor in enumerate(outputs):
        which = "output" if isinstance(output, Tensor) else f"output[{i}]"
        if not isinstance(tensor, Tensor):
            raise TypeError(f"graph() draws tensors, got {type(tensor).__name__} as {which}.")
        if tensor.grad_fn is None:
            raise GraphError(
                f"graph() has nothing to draw: {which}, of shape {tensor.shape}, was not made by a "
                "recorded operation. Operations are recorded where an input has requires_grad=True "
                "(as parameters do), outside of no_grad() and before detach()."
            )
    return trace.reading(outputs, model, names, inside.look), outputs


def _one_of(argument: str, value: Any, choices: Any) -> None:
    if value not in choices:
        named = ", ".join(map(str, choices))
        raise ValueError(f"{argument}= must be one of {named}; got {value!r}.")
