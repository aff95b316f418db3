"""Plots for people: what a training did, what a network has learnt, what it sees and says.

    plots.learning_curves(history, "curves.png")
    plots.confusion_matrix(labels, scores, classes=names)
    plots.filters(model[0].weight)
    plots.feature_maps(model[:2](images))
    plots.histograms(model, "gradients")
    plots.predictions(images, scores, labels)
    plots.live_memory(prof)

Each returns a matplotlib figure, outside of pyplot's state; ``path=`` writes it too (.png, .svg,
.pdf), ``theme=`` is ``"light"`` or ``"dark"``, ``ax=`` draws into axes that are there already. They
need matplotlib (the extra ``viz``).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from math import ceil, sqrt
from os import PathLike, fspath
from typing import Any

import numpy as np

from minigrad.backends import backend_of
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.viz import values as numbers
from minigrad.viz.charts import Chart
from minigrad.viz.tables import duration, memory, number

__all__ = [
    "confusion_matrix",
    "feature_maps",
    "filters",
    "histograms",
    "learning_curves",
    "live_memory",
    "predictions",
]

Path = str | PathLike[str]
#: More classes than this leave no room for the counts in a confusion matrix.
WRITTEN = 20
#: More panels or pictures than this are too small to look at.
MOST = 64


def learning_curves(
    history: Any, path: Path | None = None, *, theme: str = "light", ax: Any = None
) -> Any:
    """Loss and accuracy against epochs, of the training and the test data.

    Args:
        history: a ``training.History``, or the path of a ``history.csv`` that one has written.
        ax: two axes, for the loss and for the accuracy.
    """
    rows = _epochs(history)
    epochs = [row["epoch"] for row in rows]
    chart = Chart(9, 3.6, theme, 1, 2, ax=ax)
    for axes, name in zip(chart.axes, ("loss", "accuracy"), strict=True):
        factor = 100 if name == "accuracy" else 1
        for i, (part, marker) in enumerate((("train", "o"), ("test", "s"))):
            series = np.array([row[f"{part}_{name}"] for row in rows]) * factor
            if np.isfinite(series).any():
                style = {**chart.style(i), "marker": marker, "markersize": 3.5}
                axes.plot(epochs, series, label=part, **style)
        unit = "accuracy (%)" if name == "accuracy" else "mean loss a sample"
        chart.label(axes, name.capitalize(), "epoch", unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            chart.legend(axes)
    return chart.save(path)


def confusion_matrix(
    targets: Any,
    predicted: Any,
    path: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    normalize: bool = False,
    theme: str = "light",
    ax: Any = None,
) -> Any:
    """How often each class was taken for which: a row for what it is, a column for what was said.

    Args:
        targets: the labels, (N,), whole numbers from 0.
        predicted: the predicted labels, (N,), or scores, (N, C), of which the largest counts.
        classes: their names, for the axes.
        normalize: show shares of each row, in percent, instead of counts.
    """
    labels, said = _labels("targets", targets), _labels("predicted", predicted, scores=True)
    if labels.shape != said.shape or not labels.size:
        raise ValueError(
            "confusion_matrix() compares a prediction with each label, got "
            f"{len(said)} predictions for {len(labels)} labels."
        )
    scores = _host(predicted)
    count = max(int(labels.max()), int(said.max())) + 1
    count = max(count, scores.shape[1] if scores.ndim == 2 else 0)
    names = [str(i) for i in range(count)] if classes is None else list(map(str, classes))
    if len(names) < count:
        raise ValueError(f"classes= names {len(names)} classes, but there are {count}.")
    count = len(names)
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (labels, said), 1)
    whole = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(whole, 1)
    side = max(3.6, min(0.42 * count + 1.6, 11))
    chart = Chart(side + 0.6, side, theme, ax=ax)
    axes = chart.axes[0]
    axes.grid(visible=False)
    image = axes.imshow(shares * 100, cmap=chart.rising(), vmin=0, vmax=100)
    if count <= WRITTEN:
        for i, j in np.ndindex(count, count):
            if table[i, j]:
                text = f"{100 * shares[i, j]:.0f}" if normalize else str(table[i, j])
                ink = chart.theme.page if shares[i, j] > 0.55 else chart.theme.text
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)
    step = ceil(count / 40)
    turned = max(map(len, names)) > 3
    axes.set_xticks(range(0, count, step), names[::step], rotation=60 if turned else 0)
    axes.set_yticks(range(0, count, step), names[::step])
    right = float((labels == said).mean())
    what = "% of each row" if normalize else f"{len(labels):,} samples".replace(",", " ")
    chart.label(axes, f"Confusion matrix: {right:.2%} right, {what}", "predicted", "is")
    _colourbar(chart, image, "% of the row")
    return chart.save(path)


def filters(weight: Any, path: Path | None = None, *, theme: str = "light", ax: Any = None) -> Any:
    """The kernels of a convolution, as pictures of their weights.

    Those of 3 input channels are shown in colour, each stretched to its own range; others in one
    scale from orange (negative) to blue (positive), a row for each output channel.

    Args:
        weight: a Conv2d, or its weights, (out, in, kh, kw).
    """
    array = _host(weight.weight if isinstance(weight, Module) else weight)
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"filters() shows the weights (out, in, kh, kw) of a Conv2d, got {array.shape}."
        )
    out, into = array.shape[:2]
    if into == 3:
        low = array.min(axis=(1, 2, 3), keepdims=True)
        high = array.max(axis=(1, 2, 3), keepdims=True)
        shown = ((array - low) / np.maximum(high - low, 1e-12)).transpose(0, 2, 3, 1)[:MOST]
        chart, _ = _montage(shown, theme, ax, None)
        title = f"{out} filters, 3 channels as colours, each in its own range"
    else:
        rows, columns = min(out, MOST // 4), min(into, MOST // 4)
        grid = array[:rows, :columns].reshape(-1, *array.shape[2:])
        shown = grid if into > 1 else array[:MOST, 0]
        limit = float(np.abs(shown).max())
        chart, image = _montage(shown, theme, ax, limit, columns if into > 1 else None)
        _colourbar(chart, image, "weight")
        title = f"{out} filters of {into} channel{'s' * (into > 1)}"
        if into > 1:
            title += f", one a row{_cut(rows, out)}; channels side by side{_cut(columns, into)}"
    if into in (1, 3):
        title += _cut(len(shown), out)
    chart.label(chart.axes[0], f"{title}, {array.shape[2]} × {array.shape[3]} each")
    return chart.save(path)


def feature_maps(
    maps: Any,
    path: Path | None = None,
    *,
    sample: int = 0,
    theme: str = "light",
    ax: Any = None,
) -> Any:
    """What a layer puts out for one picture: a picture for each channel, in one scale.

    Args:
        maps: (N, C, H, W) or (C, H, W), such as ``model[:3](images)``.
        sample: which of the N.
    """
    array = _host(maps)
    if array.ndim == 4 and -len(array) <= sample < len(array):
        array = array[sample]
    if array.ndim != 3 or not array.size:
        raise ValueError(
            f"feature_maps() shows channels (C, H, W), or sample {sample} of (N, C, H, W), got "
            f"{array.shape}."
        )
    low, high = float(array.min()), float(array.max())
    shown = array[:MOST]
    chart, image = _montage(shown, theme, ax, max(abs(low), abs(high)), low=low)
    _colourbar(chart, image, "value")
    silent = int((~array.astype(bool).any(axis=(1, 2))).sum())
    channels, height, width = array.shape
    title = f"{channels} channels of {height} × {width}{_cut(len(shown), channels)}"
    if silent:
        title += f"; {silent} of them 0 throughout"
    chart.label(chart.axes[0], title)
    return chart.save(path)


def histograms(
    what: Any,
    of: str = "weights",
    path: Path | None = None,
    *,
    bins: int = 50,
    theme: str = "light",
    ax: Any = None,
) -> Any:
    """How values are distributed, a panel each, with mean, deviation and the share of zeros.

    Args:
        what: a module: its parameters, or their gradients; a tensor with a graph, such as the loss:
            the values of the ops on its tape, or the gradients that arrive there; or a mapping of
            names to arrays.
        of: ``"weights"`` or ``"gradients"`` of a module; ``"activations"`` or ``"gradients"`` of a
            tape; for a mapping it is the headline.
        ax: as many axes as there are panels.
    """
    if bins < 1:
        raise ValueError(f"bins= must be at least 1, got {bins}.")
    found = {name: _host(a).reshape(-1) for name, a in _distributions(what, of).items()}
    found = {name: a[np.isfinite(a)] for name, a in found.items() if a.dtype.kind in "fiub"}
    found = {name: a for name, a in found.items() if a.size}
    if not found:
        raise ValueError(f"there are no {of} to show; was backward() called?")
    shown = dict(list(found.items())[:MOST])
    columns = min(4, ceil(sqrt(len(shown))))
    rows = ceil(len(shown) / columns)
    if ax is not None:
        rows, columns = 1, len(shown)
    chart = Chart(2.9 * columns + 0.4, 1.9 * rows + 0.7, theme, rows, columns, ax=ax)
    for axes in chart.axes[len(shown) :]:
        axes.set_visible(False)
    ticker = import_module("matplotlib.ticker")
    for i, (axes, (name, held)) in enumerate(zip(chart.axes, shown.items(), strict=False)):
        wide = held.astype(np.float64)
        counts, edges = np.histogram(wide, bins)
        axes.stairs(counts, edges, fill=True, color=chart.colour(0), alpha=0.35)
        axes.stairs(counts, edges, color=chart.colour(0), linewidth=1.0)
        axes.axvline(wide.mean(), color=chart.colour(1), linestyle="--", linewidth=1.2)
        said = f"mean {number(wide.mean(), 2)}, σ {number(wide.std(), 2)}"
        if zeros := float((held == 0).mean()):
            said += f", {zeros:.0%} zeros"
        chart.label(axes, f"{name}\n", "", "count" if i % columns == 0 else "")
        small = {"fontsize": 7.5, "color": chart.theme.muted, "va": "bottom"}
        axes.text(0, 1.03, said, transform=axes.transAxes, **small)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: number(v, 3)))
        if of == "gradients":  # a few are far larger than all the others
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
        else:
            axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: _few(v)))
    cut = _cut(len(shown), len(found))
    if ax is None:
        chart.title(f"{of.capitalize()}: how often which value{cut} (dashed: the mean)")
    return chart.save(path)


def predictions(
    images: Any,
    predicted: Any,
    targets: Any = None,
    path: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    count: int = 20,
    theme: str = "light",
    ax: Any = None,
) -> Any:
    """Pictures with what the network says of them; wrong ones are framed, and say what is right.

    Args:
        images: (N, H, W), (N, 1, H, W) or (N, 3, H, W); each is stretched to its own range.
        predicted: labels, (N,), or scores, (N, C): then with the probability by softmax.
        targets: the labels, (N,), where they are known.
        classes: names of the classes.
        count: how many to show, the first ones.
    """
    array = _host(images).astype(np.float64)
    if array.ndim == 4 and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1) if array.shape[1] == 3 else array[:, 0]
    elif array.ndim != 3:
        raise ValueError(
            f"predictions() shows images (N, H, W) or (N, 1 or 3, H, W), got {array.shape}."
        )
    if count < 1:
        raise ValueError(f"count= must be at least 1, got {count}.")
    said, scores = _labels("predicted", predicted, scores=True), _host(predicted)
    right = None if targets is None else _labels("targets", targets)
    for name, labels in (("predicted", said), ("targets", right)):
        if labels is not None and len(labels) != len(array):
            raise ValueError(f"{name}= has {len(labels)} entries for {len(array)} images.")
    shown = array[:count]
    axes_of = tuple(range(1, shown.ndim))
    low, high = shown.min(axis=axes_of, keepdims=True), shown.max(axis=axes_of, keepdims=True)
    shown = (shown - low) / np.maximum(high - low, 1e-12)
    columns = min(len(shown), max(5, ceil(sqrt(2 * len(shown)))))
    rows = ceil(len(shown) / columns)
    chart = Chart(1.15 * columns + 0.3, 1.5 * rows + 0.5, theme, ax=ax)
    axes = chart.axes[0]
    _bare(axes)
    for i, image in enumerate(shown):
        x, y = i % columns, i // columns
        axes.imshow(
            image, cmap="gray", vmin=0, vmax=1, extent=(x, x + 0.9, 1.3 * y + 0.9, 1.3 * y),
            interpolation="nearest",
        )  # fmt: skip
        name = str(said[i]) if classes is None else str(classes[said[i]])
        if scores.ndim == 2:
            exp = np.exp(scores[i] - scores[i].max())
            name += f"  {exp[said[i]] / exp.sum():.0%}"
        ink = chart.theme.text
        if right is not None and right[i] != said[i]:
            true = str(right[i]) if classes is None else str(classes[right[i]])
            name, ink = f"✗ {name} (is {true})", chart.theme.alert
            frame = import_module("matplotlib.patches").Rectangle
            box = {"fill": False, "edgecolor": ink, "linewidth": 2.2}
            axes.add_patch(frame((x, 1.3 * y), 0.9, 0.9, **box))
        elif right is not None:
            name = f"✓ {name}"
        axes.text(x + 0.45, 1.3 * y + 0.94, name, ha="center", va="top", fontsize=7, color=ink)
    axes.set_xlim(-0.05, columns)
    axes.set_ylim(1.3 * rows, -0.05)
    axes.set_aspect("equal")
    title = f"{len(shown)} of {len(array)} images"
    if right is not None:
        title += f", {int((right == said).sum())} of all {len(array)} right"
    chart.label(axes, title)
    return chart.save(path)


def live_memory(
    prof: Any, path: Path | None = None, *, theme: str = "light", ax: Any = None
) -> Any:
    """The bytes alive over time, with the peak and where it was.

    Args:
        prof: a ``profiler.profile`` that followed memory.
    """
    events = [e for e in prof.events if e.kind in ("forward", "backward")]
    if not events or prof.peak.event is None:
        raise ValueError("this profile saw no memory: profile_memory=True, and ops within it.")
    chart = Chart(8, 3.4, theme, ax=ax)
    axes = chart.axes[0]
    times = np.array([e.start + e.seconds for e in events]) * 1e3
    live = np.array([e.live for e in events], dtype=np.float64)
    scale, unit = (1e6, "MB") if prof.peak.bytes >= 1e6 else (1e3, "kB")
    axes.fill_between(times, live / scale, step="post", color=chart.colour(0), alpha=0.3, lw=0)
    axes.step(times, live / scale, where="post", color=chart.colour(0), linewidth=1.3)
    _shade_backward(chart, axes, events)
    when = (prof.peak.event.start + prof.peak.event.seconds) * 1e3
    top = prof.peak.bytes / scale
    axes.plot([when], [top], "v", color=chart.theme.alert, markersize=7)
    axes.annotate(
        f"peak {prof.peak}", (when, top), xytext=(0, 8), textcoords="offset points", fontsize=8,
        ha="right" if when > times.mean() else "left", color=chart.theme.alert,
    )  # fmt: skip
    axes.set_ylim(0, top * 1.22)
    chart.label(
        axes, f"Live bytes of what ops made; {duration(prof.seconds)} in all, "
        f"{memory(live[-1])} at the end", "time (ms)", unit,
    )  # fmt: skip
    return chart.save(path)


def _shade_backward(chart: Chart, axes: Any, events: Sequence[Any]) -> None:
    """A band under the curve where the gradients flow."""
    spans: list[list[float]] = []
    before = ""
    for e in events:
        if e.kind == "backward":
            ends = [e.start * 1e3, (e.start + e.seconds) * 1e3]
            if before == "backward":
                spans[-1][1] = ends[1]
            else:
                spans.append(ends)
        before = e.kind
    for i, (begin, end) in enumerate(spans):
        axes.axvspan(begin, end, color=chart.theme.line["gradient"], alpha=0.12, lw=0, zorder=0)
        if i == 0:
            text = {"fontsize": 8, "color": chart.theme.line["gradient"], "va": "bottom"}
            axes.text(begin, 0.02, " backward", transform=axes.get_xaxis_transform(), **text)


# ---- what the plots share --------------------------------------------------------------------


def _host(values: Any) -> Any:
    """A tensor, an array or numbers as a NumPy array."""
    if isinstance(values, Tensor):
        return np.asarray(backend_of(values.array).to_host(values.array))
    try:
        return np.asarray(values)
    except (TypeError, ValueError):
        raise TypeError(f"a plot needs a tensor or numbers, got {type(values).__name__}.") from None


def _labels(name: str, values: Any, scores: bool = False) -> Any:
    """Class numbers, (N,), or the largest of scores, (N, C)."""
    array = _host(values)
    if scores and array.ndim == 2 and array.dtype.kind == "f" and array.shape[1]:
        return array.argmax(axis=1)
    what = "labels (N,), or scores (N, C)" if scores else "labels (N,)"
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(
            f"{name}= must be {what}, labels being whole numbers from 0; got {array.dtype} "
            f"{array.shape}."
        )
    return array.astype(np.int64)


def _epochs(history: Any) -> list[dict[str, float]]:
    """A row for each epoch, from a History or the file it wrote."""
    names = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    if isinstance(history, str | PathLike):
        with open(history, newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and not set(names) <= rows[0].keys():
            raise ValueError(
                f"{fspath(history)} is no history.csv: its columns are {', '.join(rows[0])}."
            )
        found = [{n: float(row[n]) for n in names} for row in rows]
    elif hasattr(history, "epochs"):
        found = [{n: float(getattr(e, n)) for n in names} for e in history.epochs]
    else:
        raise TypeError(
            "learning_curves() takes what fit() returned, or the path of its history.csv; got "
            f"{type(history).__name__}."
        )
    if not found:
        raise ValueError("learning_curves() has nothing to show: no epoch is finished.")
    return found


def _distributions(what: Any, of: str) -> dict[str, Any]:
    """Arrays by name, out of what ``histograms`` was given."""
    if isinstance(what, Mapping):
        return dict(what)
    kind = "module" if isinstance(what, Module) else "tape" if isinstance(what, Tensor) else None
    choices = {"module": ("weights", "gradients"), "tape": ("activations", "gradients")}
    if kind is None:
        raise TypeError(
            "histograms() takes a module, a tensor with a graph, or arrays by name; got "
            f"{type(what).__name__}."
        )
    if of not in choices[kind]:
        raise ValueError(f"of= of a {kind} must be {' or '.join(choices[kind])}; got {of!r}.")
    if kind == "module":
        named = dict(what.named_parameters())
        if of == "weights":
            return named
        return {name: p.grad for name, p in named.items() if p.grad is not None}
    read = numbers.read(what)
    found = {}
    for i, op in enumerate(read.ops):
        array = read.value(op) if of == "activations" else read.arriving(op)
        if array is not None and op.shape:
            found[f"%{i + 1} {op.name}"] = array
    return found


def _few(value: float) -> str:
    """A count at an axis: ``500``, ``20k``."""
    return f"{value:g}" if value < 1e4 else f"{value / 1e3:g}k"


def _montage(
    pictures: Any,
    theme: str,
    ax: Any,
    limit: float | None,
    columns: int | None = None,
    low: float | None = None,
) -> tuple[Chart, Any]:
    """Pictures (n, h, w) or (n, h, w, 3) in rows; in one scale up to ``limit`` on both sides of 0,
    or from 0 where ``low`` says that nothing lies below.
    """
    n, height, width = pictures.shape[:3]
    columns = columns or ceil(sqrt(n * height / width * 1.6))
    columns = min(columns, n)
    rows = ceil(n / columns)
    gap = max(1, round(0.08 * max(height, width)))
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = np.full((*size, *pictures.shape[3:]), np.nan)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    scale = min(10 / size[1], 7 / size[0])
    chart = Chart(size[1] * scale + 0.9, size[0] * scale + 0.5, theme, ax=ax)
    axes = chart.axes[0]
    _bare(axes)
    if limit is None:
        page = import_module("matplotlib.colors").to_rgb(chart.theme.page)
        sheet = np.where(np.isnan(sheet), page, sheet)
        return chart, axes.imshow(sheet, interpolation="nearest")
    sheet = np.ma.masked_invalid(sheet)
    if low is not None and low >= 0:
        colours = chart.rising()
        image = axes.imshow(sheet, cmap=colours, vmin=0, vmax=limit or 1, interpolation="nearest")
    else:
        options = {"vmin": -(limit or 1), "vmax": limit or 1, "interpolation": "nearest"}
        image = axes.imshow(sheet, cmap=chart.diverging(), **options)
    for i in range(n):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        frame = import_module("matplotlib.patches").Rectangle
        line = {"fill": False, "edgecolor": chart.theme.muted, "linewidth": 0.4}
        axes.add_patch(frame((x - 0.5, y - 0.5), width, height, **line))
    return chart, image


def _bare(axes: Any) -> None:
    """Axes of pictures: without ticks, grid and frame."""
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _colourbar(chart: Chart, image: Any, said: str) -> None:
    """The scale of the colours."""
    bar = chart.figure.colorbar(image, ax=chart.axes[0], shrink=0.85, pad=0.02)
    bar.set_label(said, fontsize=8, color=chart.theme.text)
    bar.ax.tick_params(colors=chart.theme.muted, labelsize=7)
    bar.outline.set_edgecolor(chart.theme.muted)


def _cut(shown: int, there: int) -> str:
    return "" if shown == there else f" (the first {shown})"
