"""Logs that TensorBoard shows: scalars, histograms, images and the graph of a model.

    with mg.viz.tensorboard.SummaryWriter("runs/first") as writer:
        writer.add_graph(loss, model)
        for step, batch in enumerate(loader):
            ...
            writer.add_scalar("loss/train", loss, step)
            writer.add_histogram("fc1.weight", model.fc1.weight, step)

then ``tensorboard --logdir runs``. Names and arguments are those of PyTorch's
``torch.utils.tensorboard``; tensorboardX writes the files (the extra ``tensorboard``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from os import PathLike, fspath
from typing import Any

import numpy as np

from minigrad.backends import backend_of
from minigrad.tensor import Tensor
from minigrad.viz import graph
from minigrad.viz.picture import Graph
from minigrad.viz.trace import Node, Trace

__all__ = ["SummaryWriter"]


class SummaryWriter:
    """Writes event files into a folder; a thin layer over ``tensorboardX.SummaryWriter``.

    Values are tensors, arrays or numbers; tensors are taken as they are now, from any device.

    Args:
        log_dir: the folder; ``runs/TIME_HOST`` by default.
        comment: what to add to the name of that default.
        flush_secs: how often to write what is waiting, in seconds.
        filename_suffix: what the names of the event files end in.
    Raises:
        ModuleNotFoundError: tensorboardX is not installed; says how to get it.
    """

    def __init__(
        self,
        log_dir: str | PathLike[str] | None = None,
        comment: str = "",
        *,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        self._writer = _library("tensorboardX").SummaryWriter(
            None if log_dir is None else fspath(log_dir),
            comment,
            flush_secs=flush_secs,
            filename_suffix=filename_suffix,
        )

    @property
    def log_dir(self) -> str:
        """The folder with the event files."""
        return str(self._writer.logdir)

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """One number, such as the loss at a step."""
        value = _host("add_scalar", scalar_value)
        if value.size != 1:
            raise ValueError(
                f"add_scalar({tag!r}) takes one number, got shape {value.shape}; "
                "add_histogram takes many."
            )
        self._writer.add_scalar(tag, float(value.reshape(())), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Several numbers in one chart, by name."""
        numbers = {
            k: float(_host("add_scalars", v).reshape(())) for k, v in tag_scalar_dict.items()
        }
        self._writer.add_scalars(main_tag, numbers, global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: str = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """How values are distributed; those that are not finite are left out."""
        held = _host("add_histogram", values).reshape(-1)
        held = held[np.isfinite(held)]
        if not held.size:
            raise ValueError(f"add_histogram({tag!r}) has no finite values to count.")
        self._writer.add_histogram(tag, held, global_step, bins, walltime, max_bins)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """One picture: floating values from 0 to 1, or bytes. ``dataformats`` names the axes."""
        image = _image("add_image", img_tensor, dataformats)
        self._writer.add_image(tag, image, global_step, walltime, dataformats)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Several pictures of one size, side by side."""
        images = _image("add_images", img_tensor, dataformats)
        self._writer.add_images(tag, images, global_step, walltime, dataformats)

    def add_figure(
        self,
        tag: str,
        figure: Any,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """A matplotlib figure, such as those of ``viz.plots``."""
        canvas = _library("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self._writer.add_image(tag, pixels, global_step, walltime, "HWC")
        if close:
            figure.clear()

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text, as Markdown."""
        self._writer.add_text(tag, text_string, global_step, walltime)

    def add_graph(self, model: Any, input_to_model: Any = None) -> None:
        """The graph of a model, for TensorBoard's graph page: modules open and close there.

        Each node carries formula, gradient, attributes and the shape of its value.

        Args:
            model: a module, which is run once on ``input_to_model`` and changes in nothing; or a
                tensor, whose tape is read (then ``input_to_model`` may be the model that names
                things); or what ``viz.graph`` returned.
        """
        shown = model if isinstance(model, Graph) else graph(model, input_to_model)
        proto = _library("tensorboardX.proto.graph_pb2")
        _library("tensorboardX.proto.node_def_pb2")
        described = proto.GraphDef(node=nodes_of(shown.trace))
        described.versions.producer = 22
        event = _library("tensorboardX.proto.event_pb2").Event
        written = event(graph_def=described.SerializeToString())
        self._writer._get_file_writer().add_event(written)

    def flush(self) -> None:
        """Write everything that is waiting."""
        self._writer.flush()

    def close(self) -> None:
        """Write everything, and end."""
        self._writer.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def nodes_of(trace: Trace) -> list[Any]:
    """The nodes of a trace as TensorFlow describes them: names by module, inputs by name."""
    node_def = _library("tensorboardX.proto.node_def_pb2").NodeDef
    names = names_of(trace)
    inputs: dict[str, list[tuple[int, str]]] = {}
    for e in trace.edges:
        if e.kind == "value" and e.source in names and e.target in names:
            inputs.setdefault(e.target, []).append((e.index, names[e.source]))
    found = []
    for node in trace.nodes:
        above = [name for _, name in sorted(inputs.get(node.id, []))]
        op = node.name if node.kind == "op" else node.kind
        found.append(node_def(name=names[node.id], op=op, input=above, attr=_attributes(node)))
    return found


def names_of(trace: Trace) -> dict[str, str]:
    """A name for each node: the modules around it, then its own, after the slashes that
    TensorBoard folds by; each only once.
    """
    scopes = {s.id: s for s in trace.scopes}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in trace.nodes:
        parts = [node.name.rpartition(".")[2] or node.kind]
        scope = scopes.get(node.scope or "") if node.kind != "input" else None
        while scope is not None:
            call = f"_{scope.call}" if scope.call > 1 else ""
            parts.append((scope.name or scope.cls) + call)
            scope = scopes.get(scope.parent or "")
        name = "/".join(re.sub(r"[^\w.\-]", "_", part) or "_" for part in reversed(parts))
        unique, i = name, 1
        while unique in taken:
            i += 1
            unique = f"{name}_{i}"
        taken.add(unique)
        names[node.id] = unique
    return names


def _attributes(node: Node) -> dict[str, Any]:
    """What TensorBoard lists of a node."""
    value = _library("tensorboardX.proto.attr_value_pb2").AttrValue
    shape = _library("tensorboardX.proto.tensor_shape_pb2").TensorShapeProto
    said = {"formula": node.formula, "vjp": node.vjp, "dtype": node.dtype, "notes": node.notes}
    said |= node.attributes
    found = {
        name: value(s=(v if isinstance(v, str) else str(v)).encode())
        for name, v in said.items()
        if v not in (None, "", [])
    }
    if node.shape is not None:
        dims = shape(dim=[shape.Dim(size=n) for n in node.shape])
        found["_output_shapes"] = value(list=value.ListValue(shape=[dims]))
    return found


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        root = name.partition(".")[0]
        extra = "viz" if root == "matplotlib" else "tensorboard"
        raise ModuleNotFoundError(
            f'TensorBoard logs need {root}: pip install "minigrad[{extra}]".'
        ) from None


def _host(method: str, values: Any) -> Any:
    """A tensor, an array or a number as a NumPy array."""
    if isinstance(values, Tensor):
        return np.asarray(backend_of(values.array).to_host(values.array))
    held = np.asarray(values)
    if held.dtype.kind not in "fiub":
        raise TypeError(
            f"{method}() takes tensors, arrays or numbers, got {type(values).__name__}."
        )
    return held


def _image(method: str, values: Any, dataformats: str) -> Any:
    held = _host(method, values)
    if held.ndim != len(dataformats):
        raise ValueError(
            f"{method}() takes axes {dataformats!r} (dataformats=), got shape {held.shape}."
        )
    return held
