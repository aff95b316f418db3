"""Records: what a Probe wrote down, as arrays over time; saved, loaded, printed and plotted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from minigrad.errors import CheckpointError
from minigrad.viz.charts import Chart
from minigrad.viz.tables import number, table

FORMAT = 1
#: What is recorded of a layer's output, and of the gradient there; see Probe.
OUTPUT: tuple[str, ...] = ("mean", "std", "p15", "p50", "p85", "min", "max", "histogram")
OUTPUT += ("saturated", "dead", "nonfinite", "grad_norm", "grad_rms")
#: What is recorded of a BatchNorm besides.
NORM = ("gap", "ratio")
#: What is recorded of a parameter.
PARAMETER = ("norm", "grad_norm", "update_norm", "update_ratio")

Row = dict[tuple[str, str], Any]


class Records:
    """Series by layer and by parameter: ``records["0"]["mean"]`` is one number a recorded step.

    Attributes:
        steps: the recorded steps, by how many updates came before: (R,).
        layers: the paths of the layers, in the order of their first call.
        parameters: the paths of the parameters.
    """

    def __init__(self, rows: Sequence[tuple[int, Row]] = ()) -> None:
        self._rows: list[tuple[int, Row]] = list(rows)
        self.layers: list[str] = []
        self.parameters: list[str] = []

    @property
    def steps(self) -> Any:
        """The recorded steps: how many updates came before each."""
        return np.array([step for step, _ in self._rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.layers, *self.parameters])

    def __getitem__(self, path: str) -> dict[str, Any]:
        """The series of a layer or of a parameter, by name: (R,), the histogram (R, bins)."""
        if path not in self.layers and path not in self.parameters:
            known = ", ".join(map(repr, self)) or "nothing yet"
            raise KeyError(f"nothing is recorded of {path!r}; there is {known}.")
        names = OUTPUT + NORM if path in self.layers else PARAMETER
        found = {}
        for name in names:
            values = [row.get((path, name)) for _, row in self._rows]
            example = next((v for v in values if v is not None), None)
            if example is not None:
                blank = np.full(np.shape(example), np.nan)
                found[name] = np.array([blank if v is None else v for v in values], dtype=float)
        return found

    # ---- files -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as .npz: ``steps``, and one array a series, such as ``"0/mean"``."""
        arrays = {f"{key}/{name}": a for key in self for name, a in self[key].items()}
        header = json.dumps({"layers": self.layers, "parameters": self.parameters})
        with open(path, "wb") as file:  # np.savez would add .npz to a name without it
            np.savez_compressed(file, format=FORMAT, header=header, steps=self.steps, **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Records:
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: the file is something else.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                data = dict(file)
            header = json.loads(str(data.pop("header")))
            known, steps = int(data.pop("format")), data.pop("steps")
        except (ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                f"{Path(path).name} was not written by a Probe: {error}"
            ) from None
        if known > FORMAT:
            raise CheckpointError(
                f"{Path(path).name} has format {known}, this minigrad reads up to {FORMAT}; update "
                "minigrad."
            )
        rows: list[tuple[int, Row]] = []
        for i, step in enumerate(steps.tolist()):
            row: Row = {}
            for key, values in data.items():
                place, _, name = key.rpartition("/")
                row[place, name] = values[i]
            rows.append((step, row))
        records = Records(rows)
        records.layers, records.parameters = header["layers"], header["parameters"]
        return records

    # ---- text --------------------------------------------------------------------------------

    def table(self) -> str:
        """The last record: a line a layer, then a line a parameter."""
        if not len(self):
            return "nothing recorded yet"
        shown = ("mean", "std", "p15", "p50", "p85", "saturated", "dead", "grad_rms", "gap")
        rows = [self._last(layer, shown) for layer in self.layers]
        titles = ("mean", "std", "15 %", "50 %", "85 %", "saturated", "dead", "grad rms", "gap")
        text = f"step {self.steps[-1]} ({len(self)} recorded)\n"
        text += table(("layer", *titles), rows)
        if self.parameters:
            rows = [self._last(p, PARAMETER) for p in self.parameters]
            text += "\n\n" + table(("parameter", "norm", "gradient", "update", "update/norm"), rows)
        return text

    def _last(self, path: str, names: Sequence[str]) -> list[str]:
        series = self[path]
        return [path, *(number(series[n][-1], 3) if n in series else "" for n in names)]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {len(self)} records of {len(self.layers)} layers and "
            f"{len(self.parameters)} parameters>"
        )

    # ---- pictures ----------------------------------------------------------------------------

    def plot(
        self,
        kind: str = "distributions",
        path: str | os.PathLike[str] | None = None,
        *,
        layers: Sequence[str] | None = None,
        theme: str = "light",
    ) -> Any:
        """The records as a chart.

        Args:
            kind: ``"distributions"``: the percentiles 15, 50 and 85 of each layer's output over
                training, as figure 1(b, c) of Ioffe and Szegedy (2015); ``"ridges"``: its
                histograms, later ones in front; ``"statistics"``: mean, standard deviation, shares
                of saturated values and dead units, and how far running statistics lie from the
                batch's; ``"gradients"``: the gradient's root mean square by depth, at the first, a
                middle and the last record; ``"updates"``: by how much of itself each weight
                changes a step.
            path: where to write it (.png, .svg, .pdf); not at all by default.
            layers: which layers (``"updates"``: parameters); by default all, of many a choice of
                twelve.
            theme: ``"light"`` or ``"dark"``.
        Returns:
            The matplotlib figure.
        """
        kinds: dict[str, Callable[..., Chart]] = {
            "distributions": self._distributions,
            "ridges": self._ridges,
            "statistics": self._statistics,
            "gradients": self._gradients,
            "updates": self._updates,
        }
        if kind not in kinds:
            raise ValueError(f"kind= must be one of {', '.join(kinds)}; got {kind!r}.")
        if not len(self):
            raise ValueError("nothing is recorded yet: train a few steps under the probe first.")
        known = self.parameters if kind == "updates" else self.layers
        if layers is None:
            chosen = _spread(self._weights() if kind == "updates" else known, 12)
            chosen = known if kind == "gradients" else chosen
        else:
            chosen = [layers] if isinstance(layers, str) else list(layers)
            for name in chosen:
                if name not in known:
                    raise KeyError(f"nothing is recorded of {name!r}; there is {', '.join(known)}.")
        return kinds[kind](chosen, theme).save(path)

    def _weights(self) -> list[str]:
        """The parameters that updates are shown of: biases begin at 0, and have no ratio."""
        usual = [p for p in self.parameters if not p.endswith("bias")]
        return usual or self.parameters

    def _panels(
        self, layers: Sequence[str], theme: str, height: float = 2.0, **options: Any
    ) -> Chart:
        columns = min(3, len(layers))
        rows = -(-len(layers) // columns)
        size = 3.3 * max(columns, 2), height * rows + 0.6
        chart = Chart(*size, theme, rows, columns, **options)
        for axes in chart.axes[len(layers) :]:
            axes.set_visible(False)
        for axes in chart.axes[len(layers) - columns : len(layers)]:  # the last of each column
            axes.tick_params(labelbottom=True)
        return chart

    def _distributions(self, layers: Sequence[str], theme: str) -> Chart:
        chart = self._panels(layers, theme, sharex=True)
        for axes, layer in zip(chart.axes, layers, strict=False):
            series = self[layer]
            axes.fill_between(
                self.steps, series["p15"], series["p85"], color=chart.colour(0), alpha=0.25, lw=0
            )
            for name in ("p15", "p85"):
                axes.plot(self.steps, series[name], color=chart.colour(0), linewidth=0.8)
            axes.plot(self.steps, series["p50"], color=chart.colour(1), linewidth=1.6)
            chart.label(axes, layer)
        chart.title("Outputs over the steps: percentiles 15, 50 (orange), 85")
        return chart

    def _ridges(self, layers: Sequence[str], theme: str) -> Chart:
        chart = self._panels(layers, theme, 3.0)
        times = _spread(range(len(self)), 14)
        for axes, layer in zip(chart.axes, layers, strict=False):
            series = self[layer]
            axes.grid(visible=False)
            axes.set_yticks([])
            for place, i in enumerate(times):  # the first at the top, behind all others
                counts, low, high = (series[n][i] for n in ("histogram", "min", "max"))
                if not (np.isfinite([low, high]).all() and counts.sum()):
                    continue
                width = (high - low) / len(counts) or 1.0
                density = counts / counts.max()
                middles = low + width * (np.arange(len(counts)) + 0.5)
                base = len(times) - place
                ends = [middles[0] - width, *middles, middles[-1] + width]
                heights = base + 2.2 * np.array([0, *density, 0])
                axes.fill_between(ends, base, heights, color=chart.theme.page, zorder=place)
                axes.fill_between(
                    ends, base, heights, color=chart.colour(0), alpha=0.35, lw=0, zorder=place
                )
                axes.plot(ends, heights, color=chart.colour(0), linewidth=0.9, zorder=place)
            chart.label(axes, layer)
        first, last = self.steps[0], self.steps[-1]
        chart.title(f"Outputs: histograms from step {first} (behind) to step {last} (in front)")
        return chart

    def _statistics(self, layers: Sequence[str], theme: str) -> Chart:
        panels = (
            ("mean", "mean of the output"),
            ("std", "its standard deviation"),
            ("saturated", "share of saturated values"),
            ("dead", "share of dead units"),
            ("gap", "running mean from the batch's, in σ"),
            ("ratio", "running variance / the batch's"),
        )
        chart = Chart(10, 6, theme, 2, 3)
        for axes, (name, title) in zip(chart.axes, panels, strict=True):
            for i, layer in enumerate(layers):
                series = self[layer]
                if name in series and not np.isnan(series[name]).all():
                    axes.plot(self.steps, series[name], label=layer, **chart.style(i))
            chart.label(axes, title, "step")
            if name == "ratio" and axes.lines:
                axes.set_yscale("log")
            if axes.lines:
                chart.legend(axes, ncols=2 if len(axes.lines) > 4 else 1)
            else:
                axes.grid(visible=False)
                axes.set(xticks=[], yticks=[])
                axes.text(
                    0.5, 0.5, "no such layer", color=chart.theme.muted, ha="center", va="center",
                    transform=axes.transAxes, fontsize=8,
                )  # fmt: skip
        chart.title("Statistics over the steps")
        return chart

    def _gradients(self, layers: Sequence[str], theme: str) -> Chart:
        chart = Chart(max(6.0, 0.35 * len(layers) + 2), 4.0, theme)
        axes = chart.axes[0]
        moments = dict.fromkeys((0, len(self) // 2, len(self) - 1))
        for i, moment in enumerate(moments):
            values = [self[layer].get("grad_rms", [np.nan] * len(self))[moment] for layer in layers]
            style = {**chart.style(i), "marker": "osD"[i], "markersize": 4}
            axes.plot(range(len(layers)), values, label=f"step {self.steps[moment]}", **style)
        axes.set_yscale("log")
        axes.set_xticks(range(len(layers)), layers, rotation=60 if max(map(len, layers)) > 3 else 0)
        chart.label(axes, "", "layer, in the order of the forward pass", "rms of dL/d(output)")
        chart.legend(axes)
        chart.title("The gradient on its way back, from right to left")
        return chart

    def _updates(self, parameters: Sequence[str], theme: str) -> Chart:
        chart = Chart(7.5, 4.2, theme)
        axes = chart.axes[0]
        for i, name in enumerate(parameters):
            axes.plot(self.steps, self[name]["update_ratio"], label=name, **chart.style(i))
        axes.axhspan(1e-5, 1e-1, color=chart.colour(2), alpha=0.08, lw=0)
        axes.set_yscale("log")
        chart.label(axes, "", "step", "‖Δw‖ / ‖w‖")
        chart.legend(axes, ncols=2)
        chart.title("How much of itself a weight changes a step; about 1e-3 is usual")
        return chart


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    places = np.linspace(0, len(items) - 1, most).round().astype(int)
    return [items[i] for i in places]
