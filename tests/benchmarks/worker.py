"""One framework in one process, compilers among them: see minigrad/bench/workloads.py."""

from __future__ import annotations

import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path

# The file, not the package: PyTorch's and JAX's processes must not import minigrad.
sys.path.insert(0, str(Path(find_spec("minigrad").origin).with_name("bench")))
from workloads import FRAMEWORKS, MissingError, Work, build, load, serve


def ways(torch, row):
    """What a user of torch.compile would try: (name, how to make the work) one after another."""

    def only(*parts):
        return lambda part, f: torch.compile(f) if part in parts else f

    if row != "adam":
        yield "forward and loss", lambda: build(row, torch, only("forward"))
    if row == "infer":
        frozen = {"options": {"freezing": True}}
        yield (
            "forward, weights frozen",
            lambda: build(row, torch, lambda part, f: torch.compile(f, **frozen)),
        )
    elif row in ("ops", "conv", "bn2d", "ln", "linear"):
        yield "backward too", lambda: whole(torch, row)
    elif row == "adam":
        yield "update", lambda: build(row, torch, only("update"))
    else:
        yield "forward, loss and update", lambda: build(row, torch, only("forward", "update"))
        yield "whole step", lambda: whole(torch, row)


def whole(torch, row) -> Work:
    """The step in one piece, by compiled autograd."""
    work = build(row, torch)
    compiled = torch.compile(work.step)

    def step(*inputs):
        with torch._dynamo.config.patch(compiled_autograd=True):
            return compiled(*inputs)

    return Work(step, work.inputs, work.forget)


def a_few_steps(work) -> float:
    """Median seconds of a step, past compilation."""
    for _ in range(3):
        work.run()
    times = []
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        work.run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def torch_compile(threads):
    """The fastest of the ways that work; the note says which."""
    torch = load("torch", threads)

    def builder(row):
        best, error = None, None
        for name, make in ways(torch, row):
            try:
                work = make()
                seconds = a_few_steps(work)
            except Exception as failed:
                error = failed
                continue
            if best is None or seconds < best[0]:
                best = seconds, work, name
        if best is None:
            raise error
        return best[1], f"compiled: {best[2]}"

    return builder, f"PyTorch {torch.__version__}"


def jax(threads):
    """JAX, its steps written by hand."""
    try:
        from tests.benchmarks import workloads_jax
    except ModuleNotFoundError as error:
        raise MissingError("not installed") from error
    return workloads_jax.builder, f"JAX {workloads_jax.jax.__version__}"


if __name__ == "__main__":
    serve({**FRAMEWORKS, "compile": torch_compile, "jax": jax}[sys.argv[1]], int(sys.argv[2]))
