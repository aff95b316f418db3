"""Flow: a few arrays that are made of one another, drawn with their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import graphviz  # type: ignore[import-untyped]
import numpy as np

from minigrad.viz.dot import escaped, table
from minigrad.viz.picture import Picture
from minigrad.viz.style import MONO, SANS, THEMES, Theme

ROWS, COLUMNS = 8, 8  # of an array's numbers; of a larger one its corner is shown
DEEPEST = 0.45  # how far the colour of the largest number goes from the page to its hue


@dataclass
class Step:
    """One array: its name, the formula that makes it, and the names of those it is made of.

    ``kind`` is a row of the style table: input, op, parameter, buffer, output, gradient.
    """

    name: str
    formula: str
    array: Any
    kind: str = "op"
    sources: tuple[str, ...] = field(default=())

    @property
    def backward(self) -> bool:
        """Whether it belongs to the backward pass."""
        return self.kind == "gradient"


class Flow(Picture):
    """Arrays as boxes of coloured numbers: the forward pass from left to right, above; the backward
    pass from right to left, below.

    Negative numbers are orange, positive ones blue, the deeper the larger beside their array's
    largest.
    """

    def __init__(self, steps: Sequence[Step], title: str, text: str, theme: str = "light") -> None:
        if theme not in THEMES:
            raise ValueError(f"theme= must be one of {', '.join(THEMES)}; got {theme!r}.")
        self.steps, self.title, self.theme, self._text = list(steps), title, theme, text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Flow {self.title!r}: {', '.join(s.name for s in self.steps)}>"

    def to_dict(self) -> dict[str, Any]:
        """Title and arrays, as JSON has them."""
        return {
            "title": self.title,
            "steps": [
                {
                    "name": s.name,
                    "formula": s.formula,
                    "kind": s.kind,
                    "sources": list(s.sources),
                    "shape": list(s.array.shape),
                    "values": s.array.tolist(),
                }
                for s in self.steps
            ],
        }

    def _dot(self, dpi: int | None = None) -> str:
        theme = THEMES[self.theme]
        graph = graphviz.Digraph("minigrad")
        graph.attr(
            "graph",
            rankdir="LR",
            newrank="true",
            bgcolor=theme.page,
            fontname=SANS,
            nodesep="0.25",
            ranksep="0.5",
            pad="0.25",
            labelloc="t",
            labeljust="l",
            label=f"<{self._head(theme)}>",
            **({} if dpi is None else {"dpi": str(dpi)}),
        )
        graph.attr("node", shape="box", style="rounded,filled", fontname=SANS, margin="0.08,0.05")
        graph.attr("edge", arrowsize="0.8", penwidth="1.4")
        for part in ("backward", "forward"):  # the last stands above
            steps = [s for s in self.steps if s.backward == (part == "backward")]
            if not steps:
                continue
            with graph.subgraph(name=f"cluster_{part}") as frame:
                label = _font(part, 12, theme.text, bold=True)
                frame.attr(
                    label=f"<{label}>",
                    labeljust="l",
                    style="rounded,filled",
                    fillcolor=theme.fill["module"],
                    color=theme.line["module"],
                    margin="12",
                )
                for step in steps:
                    kind = {"style": "rounded,filled,dashed"} if step.kind == "buffer" else {}
                    frame.node(
                        step.name,
                        label=f"<{_label(step, theme)}>",
                        fillcolor=theme.fill[step.kind],
                        color=theme.line[step.kind],
                        **kind,
                    )
        names = [s.name for s in self.steps]
        for pair in (("x", "dx"), ("y", "dy")):  # a gradient stands below its value
            if all(name in names for name in pair):
                graph.body.append("\t{rank=same; " + "; ".join(pair) + "}\n")
        named = {s.name: s for s in self.steps}
        for step in self.steps:
            for name in step.sources:
                line = theme.line[step.kind if step.backward else named[name].kind]
                if step.backward and not named[name].backward:
                    continue  # the formula says it; arrows across the passes would hide the rest
                if step.backward:  # drawn from right to left: dx stands below x
                    graph.edge(step.name, name, dir="back", color=line, style="dashed")
                else:
                    graph.edge(name, step.name, color=line)
        return str(graph.source)

    def _head(self, theme: Theme) -> str:
        """The title, and what the colours say."""
        said = "numbers: blue above 0, orange below 0, the deeper the farther from it"
        texts = (
            _font(self.title, 17, theme.text, bold=True, limit=120),
            _font(said, 10, theme.muted, limit=120),
        )
        return table((f'<TR><TD ALIGN="LEFT">{text}</TD></TR>' for text in texts), padding=3)


def _label(step: Step, theme: Theme) -> str:
    """Name, shape and formula above the numbers."""
    shape = "  " + "×".join(map(str, step.array.shape)) if step.array.shape else ""
    name = _font(step.name, 13, theme.line[step.kind], bold=True)
    rows = [f'<TR><TD ALIGN="LEFT">{name}{_font(shape, 9, theme.muted, mono=True)}</TD></TR>']
    for line in filter(None, step.formula.split("\n")):
        text = _font(line, 10, theme.muted, mono=True, limit=80)
        rows.append(f'<TR><TD ALIGN="LEFT">{text}</TD></TR>')
    rows.append(f'<TR><TD ALIGN="LEFT">{_grid(step.array, theme)}</TD></TR>')
    return table(rows, padding=1)


def _grid(array: Any, theme: Theme) -> str:
    """The numbers as a table: rows by the first axes, columns by the last."""
    array = np.asarray(array, dtype=float)
    if array.ndim < 2:
        labels: list[str] = [""]
        cells = array.reshape(1, -1)
    else:
        first = array.shape[: 1 if array.ndim == 2 else 2]
        cells = array.reshape(int(np.prod(first)), -1)
        labels = [
            "" if array.ndim == 2 else ",".join(map(str, place))
            for place in product(*(range(n) for n in first))
        ]
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    rows = []
    for label, values in list(zip(labels, cells, strict=True))[:ROWS]:
        row = [f"<TD>{_font(label, 8, theme.muted, mono=True)}</TD>"] if label else []
        for value in values[:COLUMNS]:
            text = _font(_short(value, largest), 9, theme.text, mono=True)
            row.append(f'<TD BGCOLOR="{heat(value, largest, theme)}">{text}</TD>')
        if len(values) > COLUMNS:
            row.append(f"<TD>{_font('…', 9, theme.muted)}</TD>")
        rows.append(f"<TR>{''.join(row)}</TR>")
    if len(cells) > ROWS:
        more = _font(f"… {len(cells) - ROWS} more rows", 9, theme.muted)
        rows.append(
            f'<TR><TD COLSPAN="{min(len(cells[0]), COLUMNS)}" ALIGN="LEFT">{more}</TD></TR>'
        )
    return table(rows, padding=2, spacing=1)


def _short(value: float, largest: float) -> str:
    """A number of at most six characters, of its neighbours' precision."""
    if not np.isfinite(value):
        return str(value)
    if value and (largest >= 1000 or largest < 0.01):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def heat(value: float, largest: float, theme: Theme) -> str:
    """The colour behind a number: from the page's to blue (positive) or orange (negative)."""
    if not np.isfinite(value):
        return theme.fill["frozen"]
    hue = theme.line["input"] if value >= 0 else theme.line["gradient"]
    share = DEEPEST * abs(value) / largest if largest else 0.0
    mixed = (round(a + (b - a) * share) for a, b in zip(_rgb(theme.page), _rgb(hue), strict=True))
    return "#" + "".join(f"{c:02X}" for c in mixed)


def _rgb(colour: str) -> Iterator[int]:
    return (int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _font(
    text: str, size: int, color: str, *, bold: bool = False, mono: bool = False, limit: int = 60
) -> str:
    face = f' FACE="{MONO}"' if mono else ""
    inner = escaped(text, limit)
    inner = f"<B>{inner}</B>" if bold else inner
    return f'<FONT POINT-SIZE="{size}" COLOR="{color}"{face}>{inner}</FONT>'
