"""Charts in the colours of the pictures, light and dark. They need matplotlib, extra ``viz``."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import Any

from minigrad.viz.style import THEMES, Theme

#: The rows of the style table whose lines stand for the first, second, ... curve.
CURVES = ("input", "gradient", "output", "parameter", "op", "buffer")
STYLES = ("-", "--", "-.", ":")


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, outside pyplot's global state.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; says how to get it.
    """
    try:
        module = import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise ModuleNotFoundError('plots need matplotlib: pip install "minigrad[viz]".') from None
    return module.Figure(figsize=(width, height), layout="constrained", dpi=120)


class Chart:
    """A matplotlib figure in a theme: ``axes`` are the panels, ``save`` writes it.

    With ``ax``, the axes of a figure that is there already, or as many as there are panels, it is
    drawn into these instead.
    """

    def __init__(
        self,
        width: float,
        height: float,
        theme: str,
        rows: int = 1,
        columns: int = 1,
        ax: Any = None,
        **options: Any,
    ) -> None:
        if theme not in THEMES:
            raise ValueError(f"theme= must be one of {', '.join(THEMES)}; got {theme!r}.")
        self.theme: Theme = THEMES[theme]
        self.axes: list[Any]
        if ax is None:
            self.figure = figure(width, height)
            self.figure.set_facecolor(self.theme.page)
            panels = self.figure.subplots(rows, columns, squeeze=False, **options)
            self.axes = list(panels.reshape(-1))
        else:
            self.axes = list(ax.reshape(-1)) if hasattr(ax, "reshape") else _listed(ax)
            if len(self.axes) != rows * columns or not hasattr(self.axes[0], "plot"):
                many = f"{rows * columns} axes" if rows * columns > 1 else "one axes"
                raise ValueError(f"ax= must be {many} of a matplotlib figure, got {ax!r}.")
            self.figure = self.axes[0].figure
        for axes in self.axes:
            self._dress(axes)

    def _dress(self, axes: Any) -> None:
        theme = self.theme
        axes.set_facecolor(theme.page)
        axes.tick_params(colors=theme.muted, labelsize=8)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(theme.text)
        axes.spines[:].set_color(theme.fill["frozen"])
        axes.spines[["left", "bottom"]].set_color(theme.muted)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=theme.muted, alpha=0.2, linewidth=0.6)
        axes.set_axisbelow(True)

    def colour(self, i: int) -> str:
        """The colour of the i-th curve."""
        return self.theme.line[CURVES[i % len(CURVES)]]

    def style(self, i: int) -> dict[str, Any]:
        """Colour and dash of the i-th curve: neighbours differ in both."""
        return {"color": self.colour(i), "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.5}

    def label(self, axes: Any, title: str = "", x: str = "", y: str = "") -> None:
        """Title and labels of a panel."""
        axes.set_title(title, fontsize=9.5, loc="left", color=self.theme.text)
        axes.set_xlabel(x, fontsize=9, color=self.theme.text)
        axes.set_ylabel(y, fontsize=9, color=self.theme.text)

    def legend(self, axes: Any, **options: Any) -> None:
        """The names of the curves."""
        axes.legend(frameon=False, fontsize=8, labelcolor=self.theme.text, **options)

    def title(self, text: str) -> None:
        """The headline, at the left."""
        self.figure.suptitle(text, fontsize=11, x=0.01, ha="left", color=self.theme.text)

    def diverging(self) -> Any:
        """Colours from orange (negative) through the page's (0) to blue (positive)."""
        ends = self.theme.line["gradient"], self.theme.page, self.theme.line["input"]
        return import_module("matplotlib.colors").LinearSegmentedColormap.from_list("", ends)

    def rising(self, from_share: float = 0.0) -> Any:
        """Colours from the page's (least) to blue (most); lines stand out from half-way on."""
        colours = import_module("matplotlib.colors")
        ends = self.theme.page, self.theme.line["input"]
        whole = colours.LinearSegmentedColormap.from_list("", ends)
        return colours.LinearSegmentedColormap.from_list("", [whole(from_share), whole(1.0)])

    def save(self, path: str | PathLike[str] | None) -> Any:
        """Write the figure where a path is given (.png, .svg, .pdf); returns it."""
        if path is not None:
            self.figure.savefig(path, facecolor=self.theme.page)
        return self.figure


def _listed(ax: Any) -> list[Any]:
    return list(ax) if isinstance(ax, list | tuple) else [ax]
