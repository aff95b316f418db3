"""Measurements that can be compared: frameworks in turn, ratios of neighbours, medians.

A machine gets faster and slower over minutes, by more than what is to be seen. So every framework
is measured in every round, one right after the other, in the reverse order every second time; a
ratio is taken within a round, and the median over the rounds.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minigrad.bench.workloads import pools

#: For each framework its title in tables.
TITLES = {
    "numpy": "minigrad, NumPy",
    "fast": "minigrad, fast",
    "captured": "minigrad, captured",
    "torch": "PyTorch",
    "compile": "torch.compile",
    "jax": "JAX jit",
}
#: milliseconds of each round, by framework
Times = dict[str, list[float]]
_WORKER = Path(__file__).with_name("workloads.py")


def environment(threads: int) -> dict[str, str]:
    """The environment of a process that times: so many threads, this minigrad."""
    found = find_spec("minigrad")
    assert found is not None and found.origin is not None
    path = [str(Path(found.origin).parents[1]), os.environ.get("PYTHONPATH", "")]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


class Process:
    """A process that times one framework.

    Args:
        name: of the framework.
        program: what Python runs, before the arguments ``name threads``.
    """

    def __init__(self, name: str, threads: int, program: Sequence[str] = ("-P", str(_WORKER))):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, *program, name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads),
        )
        hello = self._answer()
        self.missing = str(hello.get("missing") or hello.get("error") or "")
        self.versions = str(hello.get("versions", ""))
        self.pools: list[dict[str, Any]] = hello.get("pools", [])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the process of {self.name} ended with {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, row: str, seconds: float) -> dict[str, Any]:
        """ms of a step and a note, or an error."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{row} {seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": f"the process of {self.name} has ended"}
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def run_row(
    processes: Sequence[Process], row: str, rounds: int, seconds: float
) -> tuple[Times, dict[str, str]]:
    """The times of one row, and for each framework with something to say a note.

    A framework that cannot do it is left out, with the error for a note.
    """
    times: Times = {p.name: [] for p in processes}
    notes: dict[str, str] = {}
    for i in range(rounds):
        for process in processes if i % 2 == 0 else reversed(processes):
            if process.name not in times:
                continue
            answer = process.ask(row, seconds)
            if "error" in answer:
                del times[process.name]
                notes[process.name] = f"left out: {answer['error']}"
                continue
            times[process.name].append(answer["ms"])
            if answer["note"]:
                notes[process.name] = answer["note"]
    return times, notes


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and the values themselves."""
    if len(values) == 1:
        quartiles = [values[0], values[0]]
    else:
        low, _, high = statistics.quantiles(values, method="inclusive")
        quartiles = [low, high]
    return {"median": statistics.median(values), "quartiles": quartiles, "values": list(values)}


def ratio(times: Times, above: str, below: str) -> dict[str, Any] | None:
    """The spread of ``above / below`` over the rounds; None where one of them is not there."""
    if not times.get(above) or not times.get(below):
        return None
    return spread([a / b for a, b in zip(times[above], times[below], strict=True)])


def fastest(times: Times, names: Iterable[str]) -> str | None:
    """Which of ``names`` has the least median."""
    there = [n for n in names if times.get(n)]
    return min(there, key=lambda n: statistics.median(times[n])) if there else None


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm: what ratios are averaged with.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return math.exp(statistics.fmean(map(math.log, values)))


def processor() -> dict[str, str]:
    """Name, cores, and which vector instructions there are."""
    facts = {"name": platform.processor() or platform.machine(), "flags": ""}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        found = {key.strip(): value.strip() for key, _, value in reversed(lines)}
        facts["name"] = found.get("model name", facts["name"])
        flags = found.get("flags", found.get("Features", "")).split()
        wanted = ("avx", "avx2", "fma", "avx512", "amx", "asimd", "sve")
        facts["flags"] = " ".join(f for f in flags if f in wanted or f.startswith(wanted[3:5]))
    return {**facts, "cores": str(os.cpu_count())}


def machine(processes: Iterable[Process], threads: int) -> list[str]:
    """What a figure depends on, line by line."""
    cpu = processor()
    lines = [
        f"{cpu['name']}, {cpu['cores']} cores, {cpu['flags'] or 'flags unknown'}; "
        f"{threads} threads for each framework; float32",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    ]
    for pool in pools():
        facts = [pool.get("version", ""), f"core {pool.get('architecture', '?')}"]
        lines.append(f"NumPy's {pool['internal_api']} " + ", ".join(filter(None, facts)))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        if name in os.environ:
            lines.append(f"{name}={os.environ[name]} caps NumPy's products: unset it")
    for p in processes:
        lines.append(f"{TITLES[p.name]}: {p.versions or f'left out ({p.missing})'}")
    return lines


def figure(ms: float) -> str:
    """Milliseconds with three digits or all before the point.

    >>> figure(0.04567), figure(4.567), figure(456.7)
    ('0.0457', '4.57', '457')
    """
    digits = 2 - math.floor(math.log10(ms)) if ms > 0 else 0
    return f"{ms:.{min(max(digits, 0), 4)}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns set for a terminal: the first and the last to the left, figures to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    last = len(head) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in (0, last) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
