"""minigrad against its peers: milliseconds per step, one process per framework, in turn.

Run it without a process environment that caps the BLAS:
``env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m tests.benchmarks``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

from minigrad.bench.rounds import TITLES, Process, environment, machine, ratio, run_row
from minigrad.bench.workloads import ROWS
from tests.benchmarks import report
from tests.benchmarks.imports import import_cost
from tests.benchmarks.memory import peak

WORKER = ("-m", "tests.benchmarks.worker")
SIZES = {
    "chain": (1_000, 10_000, 100_000, 1_000_000),
    "batch": (1, 4, 16, 64, 256, 1024, 4096),
    "width": (32, 128, 512, 1024, 4096),
}
#: What is measured in a process of minigrad or PyTorch alone.
EAGER = ("numpy", "fast", "captured", "torch")


def steps(processes: list[Process], args: argparse.Namespace) -> dict:
    """The table of the rows."""
    found = {}
    for row in args.rows or ROWS:
        times, notes = run_row(processes, row, args.rounds, args.seconds)
        found[row] = report.row_result(row, times, notes)
        ms = {name: round(facts["median"], 4) for name, facts in found[row]["ms"].items()}
        print(f"{row}: {ms}", file=sys.stderr, flush=True)
    return found


def memory(frameworks: list[str], args: argparse.Namespace) -> dict:
    """row -> framework -> kind -> bytes."""
    found: dict = {}
    for row in args.rows or ROWS:
        for name in (n for n in frameworks if n in EAGER):
            both = {
                kind: peak(kind, name, args.threads, row, environment(args.threads))
                for kind in ("allocated", "resident")
            }
            if None not in both.values():
                found.setdefault(row, {})[name] = both
    return found


def scaling(processes: list[Process], args: argparse.Namespace) -> dict:
    """series -> size -> ms of each framework, ratio fast / torch; bytes of the chain."""
    found: dict = {}
    pair = [p for p in processes if p.name in ("fast", "torch")]
    for name, sizes in SIZES.items():
        for size in sizes:
            row = f"{name}:{size}"
            times, _ = run_row(pair, row, args.rounds, args.seconds)
            entry: dict = {"ms": {f: report.spread(t)["median"] for f, t in times.items()}}
            both = ratio(times, "fast", "torch")
            if both:
                entry["ratio"] = both["median"]
            if name == "chain":
                env = environment(args.threads)
                kept = {p.name: peak("resident", p.name, args.threads, row, env) for p in pair}
                entry["memory"] = {f: n for f, n in kept.items() if n is not None}
            found.setdefault(name, {})[str(size)] = entry
            print(f"{row}: {entry}", file=sys.stderr, flush=True)
    return found


class Busy:
    """The share of the cores' time that other processes take: figures under load mean little."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), self._all()

    @staticmethod
    def _all() -> float:
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return 0.0
        user, nice, system = map(int, fields[:3])
        return (user + nice + system) / os.sysconf("SC_CLK_TCK")

    def others(self) -> float:
        """From the beginning until now, when all of our processes have ended."""
        used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(u.ru_utime + u.ru_stime for u in used)
        seconds = (time.perf_counter() - self.start[0]) * (os.cpu_count() or 1)
        return max(0.0, (self._all() - self.start[1] - own) / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="per row, framework and round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frameworks", default=",".join(TITLES), help="default: %(default)s")
    parser.add_argument("--memory", action="store_true", help="peak memory of a step, too")
    parser.add_argument("--scaling", action="store_true", help="time against size, too")
    parser.add_argument("--no-steps", action="store_true", help="only what the options add")
    parser.add_argument("--no-import", action="store_true", help="not the cost of import")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument(
        "--markdown", type=Path, nargs="+", default=[], metavar="FILE",
        help="put the tables between the markers of these files",
    )  # fmt: skip
    args = parser.parse_args()
    frameworks = args.frameworks.split(",")
    for kind, asked, known in (("row", args.rows, ROWS), ("framework", frameworks, TITLES)):
        if unknown := sorted(set(asked) - set(known)):
            parser.error(f"unknown {kind}: {', '.join(unknown)}; known: {', '.join(known)}")
    if args.markdown and args.rows:
        parser.error("--markdown writes whole tables: name no rows.")
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads are at least 1.")

    busy = Busy()
    processes = [Process(name, args.threads, WORKER) for name in frameworks]
    result: dict = {"machine": machine(processes, args.threads)}
    processes = [p for p in processes if not p.missing]
    names = [p.name for p in processes]
    result["frameworks"] = names
    result["rounds"], result["seconds"] = args.rounds, args.seconds
    result["pools"] = {p.name: p.pools for p in processes}
    print("\n".join(result["machine"]) + "\n", flush=True)
    if not args.no_steps:
        result["rows"] = steps(processes, args)
        result["means"] = report.means(result["rows"])
    if args.scaling:
        result["scaling"] = scaling(processes, args)
    for process in processes:
        process.close()
    if args.memory:
        result["memory"] = memory(names, args)
    if not args.no_import:
        result["import"] = import_cost()
    result["others"] = busy.others()
    result["machine"].append(
        f"median of {args.rounds} rounds of {args.seconds} s; other processes took "
        f"{result['others']:.0%} of the cores meanwhile"
    )
    finish(result, args)


def finish(result: dict, args: argparse.Namespace) -> None:
    if "rows" in result:
        print("milliseconds per step, and medians of ratios within a round; below 1 is faster")
        report.show(*report.step_lines(result["rows"], result["frameworks"]))
        for row, facts in result["rows"].items():
            for name, note in facts["notes"].items():
                print(f"{row}, {TITLES[name]}: {note}")
    if "memory" in result:
        print("\npeak of a step above its start, MiB: allocated, and resident")
        report.show(*report.memory_lines(result["memory"]))
    for name, series in result.get("scaling", {}).items():
        print(f"\n{name}: {'microseconds an op' if name == 'chain' else 'milliseconds a step'}")
        report.show(*report.scaling_lines(series, name))
    if "import" in result:
        print("\n".join(report.import_lines(result["import"])))
    print(result["machine"][-1])
    if result["others"] > 0.05:
        print("The machine was busy: measure again when it is quiet.", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    for file in args.markdown:
        report.write_markdown(file, result)


if __name__ == "__main__":
    main()
