"""Milliseconds per step, one process per framework, in turn.

Run it without a process environment that caps the BLAS:
``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m tests.benchmarks``.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

import numpy  # noqa: F401 - loads the BLAS that threadpoolctl looks at
from threadpoolctl import threadpool_info

from tests.benchmarks.workloads import ROWS

FRAMEWORKS = {"minigrad": "minigrad", "torch": "PyTorch eager"}


def start(name: str, threads: int) -> subprocess.Popen:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.worker", name, str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ask(worker: subprocess.Popen, row: str, seconds: float) -> float:
    worker.stdin.write(f"{row} {seconds}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="per row, framework and round")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; known: {', '.join(ROWS)}")

    present = {n: t for n, t in FRAMEWORKS.items() if importlib.util.find_spec(n)}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {args.threads} threads")
    for pool in threadpool_info():
        print(f"NumPy's {pool['internal_api']} {pool['version']}, core {pool['architecture']}")
    for name, title in FRAMEWORKS.items():
        print(f"{title}: {version(name) if name in present else 'not installed, left out'}")
    print(f"median ms per step over {args.rounds} rounds; ratio = minigrad / PyTorch eager\n")

    workers = {name: start(name, args.threads) for name in present}
    rows = args.rows or list(ROWS)
    head = "".join(f"{present[n]:>16}" for n in workers)
    print(f"{'':10}{head}{'ratio':>9}   workload")
    ratios = []
    for row in rows:
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                times[name].append(ask(worker, row, args.seconds))
        median = {name: statistics.median(t) for name, t in times.items()}
        cells = "".join(f"{median[n]:16.3f}" for n in workers)
        ratio = median["minigrad"] / median["torch"] if "torch" in median else math.nan
        ratios.append(ratio)
        print(f"{row:10}{cells}{ratio:9.2f}   {ROWS[row].__doc__.strip()}", flush=True)
    if len(ratios) > 1 and "torch" in present:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"{'geometric mean of the ratios':>{10 + 16 * len(workers)}}{mean:9.2f}")
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
