"""What the experiments share: their command line, data, tables, figures and claims.

A script makes one ``Experiment``, states what it measured with ``table``, ``figure`` and ``claim``,
and calls ``finish``. The folder it writes holds ``results.json``, ``results.md`` and the figures.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from threadpoolctl import threadpool_limits

import minigrad as mg
from minigrad import data
from minigrad.nn import functional as F
from minigrad.viz.charts import figure

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"  # where the project's tests look for data, too
IMAGES = {"mnist": data.load_mnist, "cifar10": data.load_cifar10}

# Okabe and Ito's palette: told apart by colour-blind readers, legible on light and on dark paper.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
]
LIGHT = {"ink": "#24292e", "grid": "#d0d7dd", "paper": "#fffffe"}
DARK = {"ink": "#e6edf3", "grid": "#3d444d", "paper": "#0d1117"}
INK, GRID, PAPER = LIGHT.values()
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "minigrad",
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor"], INK),
    **dict.fromkeys(["xtick.color", "ytick.color"], INK),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], PAPER),
    "grid.color": GRID,
    "axes.grid": True,
}


class Experiment:
    """One reproduction: ``title`` is the script's docstring, whose first line names it.

    ``seeds`` and ``quick_seeds`` say how many seeds the full and the quick form run by default;
    ``image`` is the data set of ``load``; a script without it says in ``used`` what it ran on.
    """

    def __init__(self, title: str, seeds=5, quick_seeds=2, image=None, used="no data"):
        self.name, self.title = Path(sys.argv[0]).stem, title.strip().splitlines()[0]
        show = argparse.RawDescriptionHelpFormatter
        p = argparse.ArgumentParser(description=title, formatter_class=show)
        p.add_argument("--quick", action="store_true", help="a small version, in seconds")
        p.add_argument(
            "--seeds", type=int, help=f"how many (default: {seeds}, quick {quick_seeds})"
        )
        p.add_argument("--device", default="cpu")
        p.add_argument("--threads", type=int, default=1, help="for kernels and BLAS (default: 1)")
        p.add_argument("--out", type=Path, default=Path("runs") / self.name)
        p.add_argument("--docs", action="store_true", help="renew the figures and numbers in docs/")
        if image:
            p.add_argument("--data", choices=["digits", *IMAGES], default=image)
            p.add_argument("--data-dir", type=Path, help="folder of the mnist or cifar10 files")
        self.args = args = p.parse_args()
        if args.seeds is not None and args.seeds < 1:
            p.error(f"--seeds must be at least 1, got {args.seeds}.")
        self.quick, self.device = args.quick, args.device
        self.seeds = range(args.seeds or (quick_seeds if args.quick else seeds))
        self.out = ROOT / "docs" / "experiments" / self.name if args.docs else args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.claims, self.tables, self.figures, self.used = [], [], [], used
        mg.manual_seed(0)
        mg.set_num_threads(args.threads)
        threadpool_limits(args.threads)
        self.start = time.perf_counter()

    def load(self) -> tuple[mg.Tensor, mg.Tensor, mg.Tensor, mg.Tensor]:
        """Training images and labels, test images and labels; images in [0, 1]."""
        name = self.args.data
        folder = self.args.data_dir or SHARED / name
        if name != "digits" and not folder.is_dir():
            if self.args.data_dir or not self.quick:
                raise SystemExit(f"no folder {folder}; pass --data-dir, or --data digits.")
            name = "digits"
        train, test = data.load_digits() if name == "digits" else IMAGES[name](folder)
        self.used = f"{name} ({len(train):,} training, {len(test):,} test images)"
        return tuple(t.to(self.device) for t in (*train.tensors, *test.tensors))

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)

    def table(self, columns: list[str], rows: list[list], caption: str = "") -> None:
        """A table of the results; cells are text, or numbers, which get four digits."""
        cells = [[c if isinstance(c, str) else f"{c:.4g}" for c in row] for row in rows]
        self.tables.append({"caption": caption, "columns": columns, "rows": cells})

    def claim(self, claim: str, number: str, source: str, holds: bool | None) -> None:
        """What a source says, what was measured, and whether that bears it out."""
        # None: a difference too small to tell
        verdict = "undecided" if holds is None else "holds" if holds else "does not hold"
        row = {"claim": claim, "number": number, "source": source, "verdict": verdict}
        self.claims.append(row)
        self.say(f"{claim}: {number}; {verdict} ({source})")

    @contextmanager
    def figure(self, name: str, width: float = 8, height: float = 3.2):
        """A matplotlib figure to draw into, written as an SVG that follows the reader's theme."""
        with matplotlib.rc_context(STYLE):
            yield (fig := figure(width, height))
            text = io.StringIO()
            fig.savefig(text, format="svg", metadata={"Date": None})
        (self.out / f"{name}.svg").write_text(themed(text.getvalue()))
        self.figures.append(name)

    def finish(self) -> None:
        """Write the results, and with ``--docs`` renew them in the experiment's page."""
        results = {
            "name": self.name,
            "title": self.title,
            "form": "quick" if self.quick else "full",
            "seeds": len(self.seeds),
            "data": self.used,
            "seconds": round(time.perf_counter() - self.start),
            "claims": self.claims,
            "tables": self.tables,
        }
        (self.out / "results.json").write_text(
            json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        )
        if self.args.docs:
            page = self.out.with_suffix(".md")
            text = page.read_text() if page.exists() else f"# {self.title}\n\n"
            page.write_text(with_results(text, results))
        else:
            (self.out / "results.md").write_text(markdown(results))
        self.say(f"written to {self.out}")


def spread(values, digits: int = 3) -> str:
    """Mean and standard deviation over seeds, as text; "refused" where there are none."""
    if np.isnan(values).any():
        return "refused"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=len(values) > 1):.{digits}f}"


def above(differences, unit: str) -> tuple[str, bool | None]:
    """Mean difference ± its standard error, as text, and whether it is above 0.

    None, undecided, where it is less than two standard errors from 0.
    """
    mean, n = np.mean(differences), len(differences)
    error = np.std(differences, ddof=1) / np.sqrt(n) if n > 1 else np.inf
    return f"{mean:+.2f} ± {error:.2f} {unit}", None if abs(mean) < 2 * error else bool(mean > 0)


def stream(x: mg.Tensor, y: mg.Tensor, size: int):
    """Mini-batches without end, in a new order every epoch."""
    while True:
        yield from data.DataLoader(data.TensorDataset(x, y), size, shuffle=True, drop_last=True)


def train(net, optimizer, x: mg.Tensor, y: mg.Tensor, steps: int, size: int = 64) -> None:
    """``steps`` steps of a classifier, in train mode."""
    net.train()
    for _, (inputs, labels) in zip(range(steps), stream(x, y, size), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()


def accuracy(net, x: mg.Tensor, y: mg.Tensor) -> float:
    """The share of right answers, in eval mode; the net is in train mode afterwards."""
    net.eval()
    with mg.no_grad():
        right = (net(x).argmax(1) == y).float().mean().item()
    net.train()
    return right


def themed(svg: str) -> str:
    """The same picture with dark colours where the reader prefers them."""
    rules = "".join(
        f'[style*="{what}: {LIGHT[k]}"]{{{what}:{DARK[k]}!important}}'
        for k in LIGHT
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    lines = (line.rstrip() for line in svg.replace("<defs>", style + "<defs>", 1).splitlines())
    return "\n".join(lines) + "\n"


def markdown(results: dict) -> str:
    """Claims and tables as Markdown."""
    keys = ["claim", "number", "source", "verdict"]
    claims = {"caption": "", "columns": keys, "rows": [list(c.values()) for c in results["claims"]]}
    parts = [f"{results['form'].capitalize()} form: {results['seeds']} seeds, {results['data']}."]
    for table in [claims, *results["tables"]]:
        lines = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{table['caption']}\n\n{rows}".strip())
    return "\n\n".join(parts) + "\n"


def with_results(page: str, results: dict) -> str:
    """The page with the results between its two marks renewed."""
    begin, end = "<!-- results -->\n", "<!-- end of results -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{markdown(results)}{end}{rest.partition(end)[2]}"
