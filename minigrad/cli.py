"""The command ``minigrad``: train, draw a graph, time steps, test claims, say what is here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import minigrad as mg
from minigrad import data, models, nn, optim, viz
from minigrad.bench import rounds
from minigrad.bench.workloads import FRAMEWORKS, ROWS
from minigrad.nn import functional as F
from minigrad.serialization import save
from minigrad.training import Epoch, evaluate, fit
from minigrad.viz import GraphvizError, plots

OPTIMIZERS = {
    "sgd": (optim.SGD, 0.1),
    "momentum": (optim.Momentum, 0.03),
    "rmsprop": (optim.RMSprop, 0.001),
    "adam": (optim.Adam, 0.003),
}
DATA = ("digits", "mnist", "cifar10")
MODELS = {"mlp": models.mlp, "cnn": models.cnn}
#: The rows of ``minigrad bench`` where none is named.
SHORT = ("ops", "tinymlp", "mlpbn", "cnn", "conv", "bn2d", "infer")
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="minigrad", description=mg.__doc__)
    parser.add_argument("--version", action="version", version=f"minigrad {mg.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    show = argparse.ArgumentDefaultsHelpFormatter
    p = commands.add_parser("train", help="train a small network on images", formatter_class=show)
    _model_options(p)
    p.add_argument("--data-dir", type=Path, help="folder of the mnist or cifar10 files")
    p.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="adam")
    p.add_argument("--lr", type=float, help="learning rate (default: one for each optimizer)")
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, help="run folder (default: runs/DATA-MODEL-TIME)")
    p.add_argument("--no-progress", action="store_true", help="no progress bar")
    p.set_defaults(run=train)

    p = commands.add_parser("graph", help="draw a model's graph", formatter_class=show)
    _model_options(p)
    p.add_argument("--eval", action="store_true", help="eval mode instead of train mode")
    p.add_argument("--theme", choices=("light", "dark"), default="light")
    p.add_argument(
        "--out", type=Path, default=Path("graph.svg"), help=".svg .html .png .pdf .dot .json"
    )
    p.set_defaults(run=graph)

    p = commands.add_parser("bench", help="time training steps here", formatter_class=show)
    p.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.2, help="per row, framework and round")
    p.add_argument("--threads", type=int, default=mg.get_num_threads())
    p.set_defaults(run=bench)
    p = commands.add_parser(
        "claims", help="run the quick experiments: do the claims hold?", formatter_class=show
    )
    p.add_argument("names", nargs="*", help="experiments to run (default: all)")
    p.add_argument("--examples", type=Path, default=Path("examples"), help="folder of the scripts")
    p.add_argument("--full", action="store_true", help="the full forms, in minutes each")
    p.add_argument("--out", type=Path, default=Path("runs/claims"), help="folder for the results")
    p.set_defaults(run=claims)

    p = commands.add_parser("info", help="versions, BLAS, devices")
    p.set_defaults(run=info)

    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except (mg.DeviceError, GraphvizError, FileNotFoundError, ValueError) as error:
        print(f"minigrad {args.command}: {error}", file=sys.stderr)
        return 2


def _model_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data", choices=DATA, default="digits", help="digits come with minigrad")
    p.add_argument("--model", choices=sorted(MODELS), default="cnn")
    p.add_argument("--norm", choices=models.NORMS, default="batch")


def load_data(name: str, folder: Path | None, seed: int) -> tuple[Any, Any]:
    """(train, test) data sets; the seed decides which of the bundled digits are for the test."""
    if name == "digits":
        return data.load_digits(seed=seed)
    if folder is None:
        raise ValueError(f"--data {name} needs --data-dir, the folder with its files.")
    return data.load_mnist(folder) if name == "mnist" else data.load_cifar10(folder)


def train(args: argparse.Namespace) -> int:
    """``minigrad train``: train, report, and write a run folder."""
    for name in ("epochs", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1.")
    mg.manual_seed(args.seed)
    train_set, test_set = load_data(args.data, args.data_dir, args.seed)
    batches = data.DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    tests = data.DataLoader(test_set, 500)
    model = MODELS[args.model](SHAPES[args.data], norm=args.norm).to(args.device)
    kind, default = OPTIMIZERS[args.optimizer]
    optimizer = kind(model.parameters(), lr=default if args.lr is None else args.lr)

    out = args.out or Path("runs") / f"{args.data}-{args.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    out.mkdir(parents=True, exist_ok=True)
    print(
        f"{args.model} with {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{args.optimizer}, {len(train_set):,} training and {len(test_set):,} test images"
    )
    files = [out / "graph.dot", out / "graph.svg"]
    try:
        draw_model(model, SHAPES[args.data], args.device, files)
    except GraphvizError as error:
        print(f"no graph.svg: {str(error).splitlines()[0]}", file=sys.stderr)
    start = time.perf_counter()
    history = fit(
        model,
        batches,
        tests,
        optimizer=optimizer,
        epochs=args.epochs,
        device=args.device,
        progress=not args.no_progress,
        each_epoch=_report if args.no_progress else None,
    )
    seconds = time.perf_counter() - start

    save(model.state_dict(), out / "weights.safetensors")
    history.save(out / "history.csv")
    if history.epochs:
        _plot(plots.learning_curves, out / "curves.png", history)
        _plot(plots.confusion_matrix, out / "confusion.png", *_answers(model, tests, args.device))
    loss, accuracy = evaluate(model, tests, device=args.device)
    if history.interrupted:
        print(f"interrupted after {len(history.epochs)} whole epochs; what was reached is saved")
    print(f"test accuracy {accuracy:.2%}, loss {loss:.4f}, {seconds:.1f} s; written to {out}")
    return 130 if history.interrupted else 0


def _report(row: Epoch) -> None:
    print(
        f"epoch {row.epoch}: loss {row.train_loss:.4f}, accuracy {row.train_accuracy:.2%}, "
        f"test {row.test_accuracy:.2%}, {row.seconds:.1f} s",
        flush=True,
    )


def _plot(plot: Callable[..., Any], path: Path, *args: Any) -> None:
    try:
        plot(*args, path)
    except ModuleNotFoundError as error:
        print(f"no {path.name}: {error}", file=sys.stderr)


def _answers(model: nn.Module, tests: Iterable[Any], device: str) -> tuple[Any, Any]:
    """The labels of the test data, and what the model says, in eval mode."""
    model.eval()
    with mg.no_grad():
        pairs = [(labels, model(x.to(device)).argmax(1).cpu()) for x, labels in tests]
    model.train()
    return tuple(mg.cat(parts) for parts in zip(*pairs, strict=True))  # type: ignore[return-value]


def draw_model(
    model: nn.Module, shape: Sequence[int], device: str, files: Sequence[Path], theme: str = "light"
) -> None:
    """The graph of one batch of two random images through ``model`` and its loss, as pictures.

    The model's buffers and the random state are put back.
    """
    state = mg.get_rng_state()
    kept = {name: b.detach().clone() for name, b in model.named_buffers()}
    images = mg.rand(2, *shape, generator=mg.Generator().manual_seed(0)).to(device)
    loss = F.cross_entropy(model(images), mg.tensor([0, 1]).to(device))
    with mg.no_grad():
        for name, b in model.named_buffers():
            b.copy_(kept[name])
    mg.set_rng_state(state)
    picture = viz.graph(loss, model=model, theme=theme)
    for file in files:
        picture.render(file)


def graph(args: argparse.Namespace) -> int:
    """``minigrad graph``: draw a model's graph."""
    mg.manual_seed(0)
    model = MODELS[args.model](SHAPES[args.data], norm=args.norm).train(not args.eval)
    draw_model(model, SHAPES[args.data], "cpu", [args.out], args.theme)
    print(f"written to {args.out}")
    return 0


def bench(args: argparse.Namespace) -> int:
    """``minigrad bench``: milliseconds per step of minigrad, and of PyTorch where it is there."""
    if unknown := sorted(set(args.rows) - set(ROWS)):
        raise ValueError(f"unknown row: {', '.join(unknown)}; known: {', '.join(ROWS)}.")
    if min(args.rounds, args.threads) < 1:
        raise ValueError("--rounds and --threads must be at least 1.")
    processes = [rounds.Process(name, args.threads) for name in FRAMEWORKS]
    try:
        print("\n".join(rounds.machine(processes, args.threads)) + "\n", flush=True)
        there = [p for p in processes if not p.missing]
        peer = "torch" if any(p.name == "torch" for p in there) else "numpy"
        lines = []
        for row in args.rows or SHORT:
            print(f"{row} ...", file=sys.stderr, flush=True)
            times, notes = rounds.run_row(there, row, args.rounds, args.seconds)
            for name, note in notes.items():
                print(f"{row}, {rounds.TITLES[name]}: {note}", file=sys.stderr)
            ratio = rounds.ratio(times, "fast" if times.get("fast") else "numpy", peer)
            cells = [
                rounds.figure(median(times[p.name])) if p.name in times else "-" for p in there
            ]
            cells.append(f"{ratio['median']:.2f}" if ratio else "-")
            lines.append([row, *cells, str(ROWS[row].__doc__).rstrip(".")])
    finally:
        for process in processes:
            process.close()
    titles = [rounds.TITLES[p.name] for p in there]
    print("milliseconds per step")
    print(rounds.table(["", *titles, f"minigrad / {rounds.TITLES[peer]}", "workload"], lines))
    return 0


def claims(args: argparse.Namespace) -> int:
    """``minigrad claims``: run the experiments, and print claim, number, source, verdict.

    A claim that does not hold is a result; only a script that fails makes the status 1.
    """
    scripts = {
        path.stem: path
        for path in sorted(args.examples.glob("*.py"))
        if "from experiment import" in path.read_text(encoding="utf-8")
    }
    if not scripts:
        raise FileNotFoundError(
            f"the experiments are scripts in the folder examples/ of minigrad's source, and there "
            f"are none in {args.examples}; run this in a checkout, or pass --examples FOLDER."
        )
    if unknown := set(args.names) - set(scripts):
        raise ValueError(f"no {', '.join(sorted(unknown))} among {', '.join(scripts)}.")
    package = str(Path(mg.__file__).parents[1])  # the scripts shall import this minigrad
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    failed = False
    for name in args.names or scripts:
        out = args.out / name
        command = [sys.executable, str(scripts[name]), "--out", str(out)]
        command += [] if args.full else ["--quick"]
        start = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
        )
        if done.returncode:
            failed = True
            print(f"{name} failed:\n{done.stderr}", file=sys.stderr)
            continue
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        print(
            f"\n{results['title']}\n{name}, {results['form']} form, {results['seeds']} seeds, "
            f"{results['data']}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        for row in results["claims"]:
            print(f"  {row['verdict']:13}  {row['claim']}: {row['number']}  [{row['source']}]")
    if not args.full:
        print(
            "\nThe quick forms are short and have few seeds: docs/experiments.md has the full runs."
        )
    return int(failed)


def info(args: argparse.Namespace) -> int:
    """``minigrad info``: what runs here, and what does not and why."""
    rows = [
        ("minigrad", mg.__version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("NumPy", np.__version__),
    ]
    for pool in threadpool_info():
        rows.append(
            (
                pool["internal_api"],
                f"{pool.get('version') or '?'}, core {pool.get('architecture', '?')}, "
                f"{pool['num_threads']} threads",
            )
        )
    rows += [(f"device {name}", state) for name, state in mg.backends.available().items()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    return 0
