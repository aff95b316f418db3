"""The chapters' pictures: ``python -m docs.pictures`` writes them all to docs/images.

Most are written by the examples of the chapters themselves, which ``run`` runs in order; ``norms``
draws who is averaged with whom.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import minigrad
from minigrad import Tensor, nn
from minigrad.viz.charts import Chart

DOCS = Path(__file__).resolve().parent
CHAPTERS = sorted((DOCS / "chapters").glob("[0-9]*.md"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run(page: Path) -> int:
    """Run every block of Python of a page, in order and as one program; returns how many.

    Raises:
        AssertionError: an example after ``>>>`` says something else than the page does.
    """
    minigrad.manual_seed(0)
    names: dict[str, Any] = {"__name__": page.stem}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    for block in blocks:
        if ">>>" not in block:
            exec(compile(block, page.name, "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False)
        assert result.failed == 0, f"{result.failed} examples of {page.name} failed"
        names = test.globs
    return len(blocks)


#: Images in a batch, channels, rows and columns of pixels.
SHAPE = N, C, H, W = 3, 6, 2, 2
#: A panel each: title, what is averaged over, and the layer.
NORMS: list[tuple[str, str, nn.Module]] = [
    ("BatchNorm", "a channel, over N, H, W", nn.BatchNorm2d(C)),
    ("LayerNorm", "a sample, over C, H, W", nn.LayerNorm((C, H, W))),
    ("InstanceNorm", "a channel of a sample, over H, W", nn.InstanceNorm2d(C)),
    ("GroupNorm, 2 groups", "half the channels of a sample, and H, W", nn.GroupNorm(2, C)),
    ("RMSNorm", "as LayerNorm, but no mean is taken off", nn.RMSNorm((C, H, W))),
    ("LocalResponseNorm, size 3", "a pixel, over 3 channels; no mean", nn.LocalResponseNorm(3)),
]
VALUE = (1, 2, 0, 1)  #: the value that is looked at


def partners(norm: nn.Module) -> Any:
    """Which values of x the output at VALUE depends on, as its gradient says."""
    minigrad.manual_seed(0)
    x = minigrad.randn(*SHAPE, dtype=minigrad.float64, requires_grad=True)
    y: Tensor = norm.double()(x)
    y[VALUE].backward()
    return abs(x.grad.numpy()) > 1e-12


def norms(path: str | Path, theme: str = "light") -> None:
    """Draw who is averaged with whom: a panel for each norm, N down and C across."""
    matplotlib = importlib.import_module("matplotlib")
    rectangle = importlib.import_module("matplotlib.patches").Rectangle
    chart = Chart(9.6, 4.9, theme, 2, 3)
    colours = chart.theme
    for axes, (title, over, norm) in zip(chart.axes, NORMS, strict=True):
        members = partners(norm)
        for place in minigrad.ones(*SHAPE).nonzero().tolist():
            n, c, h, w = place
            corner = c + 0.46 * w, n + 0.46 * h
            inside = members[tuple(place)]
            fill = colours.line["input"] if inside else colours.fill["frozen"]
            box = rectangle(corner, 0.42, 0.42, facecolor=fill, edgecolor="none")
            axes.add_patch(box)
            if tuple(place) == VALUE:
                centre = corner[0] + 0.21, corner[1] + 0.21
                axes.plot(*centre, "o", color=colours.page, markersize=4.5)
        chart.label(axes, f"{title}\n{over}", "C: channels", "N: images")
        axes.set(xlim=(-0.15, C), ylim=(N, -0.15), aspect="equal", xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    chart.title("A square is a pixel. Blue: the values that the one with the dot is normalised by")
    with matplotlib.rc_context({"svg.hashsalt": "minigrad"}):
        options = {"facecolor": colours.page, "metadata": {"Date": None}}
        chart.figure.savefig(path, **options)


def ladder(path: str | Path) -> None:
    """Draw a training step of a small network as a ladder, forward and backward."""

    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.bn1 = nn.Linear(4, 8), nn.BatchNorm1d(8)
            self.act, self.fc2 = nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.act(self.bn1(self.fc1(x))))  # type: ignore[no-any-return]

    minigrad.manual_seed(0)
    model, x, target = MLP(), minigrad.randn(16, 4), minigrad.tensor([0, 1, 2, 0] * 4)
    loss = nn.functional.cross_entropy(model(x), target)
    loss.backward()
    names = {"x": x, "target": target}
    graph = minigrad.viz.graph(loss, model, names=names, backward=True, values=True, theme="auto")
    graph.render(path)


if __name__ == "__main__":
    with contextlib.chdir(DOCS / "images"):
        for chapter in CHAPTERS:
            print(f"{chapter.name}: {run(chapter)} blocks")
        norms("norms.svg")
        norms("norms-dark.svg", "dark")
        ladder("ladder.svg")
