"""Plots for people: learning curves. They need matplotlib (the extra ``viz``)."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import Any

# Okabe and Ito's palette, as in the graphs; told apart also by line style and marker.
BLUE, ORANGE = "#0072B2", "#D55E00"


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


def learning_curves(history: Any, path: str | PathLike[str] | None = None) -> Any:
    """Loss and accuracy against epochs, of the training and the test data.

    Args:
        history: a ``training.History``.
        path: where to write it (.png, .svg, .pdf); not at all by default.
    Returns:
        The matplotlib figure.
    """
    epochs = [e.epoch for e in history.epochs]
    fig = figure(9, 3.6)
    for axes, name in zip(fig.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour, style in (("train", BLUE, "-o"), ("test", ORANGE, "--s")):
            values = [getattr(e, f"{part}_{name}") for e in history.epochs]
            axes.plot(epochs, values, style, color=colour, label=part, markersize=3.5)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if path is not None:
        fig.savefig(path)
    return fig
