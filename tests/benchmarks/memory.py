"""The peak memory of one step above where it starts, in a fresh process.

``python -m tests.benchmarks.memory allocated|resident FRAMEWORK THREADS ROW`` prints bytes. The
start is: parameters, optimizer state and inputs, no gradients; steps have been taken before.

* allocated: the allocator's high-water mark. minigrad: tracemalloc, which knows every NumPy array
  (and Python's own objects, here the graph). PyTorch: the sum of what its profiler sees allocated
  and freed; what oneDNN and the BLAS allocate for themselves is not in it.
* resident: the process's (VmHWM), with all that was free given back to the system before.

Captured steps keep their buffers; they count as the step's, so the start is before the capture.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

WARM_UP = 3  # a captured step is captured, compared, and then replayed


def peak(
    kind: str, framework: str, threads: int, row: str, environment: dict[str, str]
) -> int | None:
    """Bytes, from a process of its own; None where it failed."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", kind, framework, str(threads), row]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        error = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        print(f"{framework}, {row}: {error[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def warm(work) -> None:
    for _ in range(WARM_UP):
        work.run()
    work.forget()
    gc.collect()


def traced(work, prepare: Callable[[], None]) -> int:
    warm(work)
    tracemalloc.start()  # only now: importing under it is slow
    work.run()
    work.forget()
    start, _ = tracemalloc.get_traced_memory()
    prepare()
    work.forget()
    tracemalloc.reset_peak()
    work.run()
    return tracemalloc.get_traced_memory()[1] - start


def profiled(work) -> int:
    from torch.profiler import ProfilerActivity, profile

    warm(work)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work.run()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def status(name: str) -> int:
    """VmRSS or VmHWM in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def resident(work, prepare: Callable[[], None]) -> int:
    warm(work)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
    trim(0)
    start = status("VmRSS")
    prepare()
    work.forget()
    trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark begins anew
    work.run()
    return status("VmHWM") - start


def main() -> None:
    from tests.benchmarks.worker import FRAMEWORKS

    kind, framework, threads, row = sys.argv[1:]
    eager = "fast" if framework == "captured" else framework
    builder, _ = FRAMEWORKS[eager](int(threads))
    work, _ = builder(row)

    def prepare() -> None:
        if framework == "captured":
            import minigrad as mg

            work.step = mg.compile(work.step)
            for _ in range(WARM_UP):
                work.run()

    if kind == "resident":
        print(resident(work, prepare))
    elif framework == "torch":
        print(profiled(work))
    else:
        print(traced(work, prepare))


if __name__ == "__main__":
    main()
