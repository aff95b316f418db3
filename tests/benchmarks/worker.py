"""One framework in one process: reads ``row seconds`` lines, answers milliseconds per step."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
import warnings

from tests.benchmarks.workloads import ROWS


def measure(step, seconds: float) -> float:
    """Median milliseconds of one step, over about ``seconds``."""
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    warnings.simplefilter("ignore")
    name, threads = sys.argv[1], int(sys.argv[2])
    framework = importlib.import_module(name)
    if hasattr(framework, "set_num_threads"):
        framework.set_num_threads(threads)
    framework.manual_seed(0)
    steps: dict = {}
    for line in sys.stdin:
        row, seconds = line.split()
        if row not in steps:
            steps[row] = ROWS[row](framework)
        print(f"{measure(steps[row], float(seconds)):.6f}", flush=True)


if __name__ == "__main__":
    main()
