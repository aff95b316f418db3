"""What ``import minigrad`` costs beside ``import numpy``: fresh processes, in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from minigrad.bench.rounds import environment

PROGRAM = (
    "import {}; print(next((l.split()[1] for l in open('/proc/self/status') if 'VmRSS' in l), 0))"
)


def once(module: str, cache: str) -> tuple[float, float]:
    """Seconds of a process that imports ``module``, and its resident megabytes."""
    # as installed: modules are compiled to bytecode once
    variables = {**environment(2), "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", PROGRAM.format(module)]
    start = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout) * 1024 / 1e6


def import_cost(times: int = 9) -> dict:
    """Medians; ``beyond numpy`` is that of the differences of neighbours."""
    found: dict[str, list] = {"numpy": [], "minigrad": []}
    with tempfile.TemporaryDirectory() as cache:
        for module in found:
            once(module, cache)
        for i in range(times):
            for module in found if i % 2 else reversed(found):
                found[module].append(once(module, cache))
    cost = {
        module: {
            "seconds": statistics.median(s for s, _ in runs),
            "megabytes": statistics.median(m for _, m in runs),
        }
        for module, runs in found.items()
    }
    pairs = zip(found["minigrad"], found["numpy"], strict=True)
    return {**cost, "beyond numpy": statistics.median(a[0] - b[0] for a, b in pairs)}


if not os.path.exists("/proc/self/status"):
    PROGRAM = "import {}; print(0)"
