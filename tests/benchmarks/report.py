"""Tables of what was measured: for the terminal, as JSON, and as Markdown between markers."""

from __future__ import annotations

import re
from pathlib import Path

from minigrad.bench.rounds import (
    TITLES,
    Times,
    fastest,
    figure,
    geometric_mean,
    ratio,
    spread,
    table,
)
from minigrad.bench.workloads import ROWS

PEERS = ("torch", "compile", "jax")
#: column -> (above, below); ``peer`` is the fastest of PEERS in the row.
RATIOS = {
    "fast / PyTorch": ("fast", "torch"),
    "NumPy / PyTorch": ("numpy", "torch"),
    "captured / fastest peer": ("captured", "peer"),
}


def row_result(row: str, times: Times, notes: dict[str, str]) -> dict:
    """One row of the JSON file."""
    peer = fastest(times, PEERS)
    ratios = {}
    for name, (above, below) in RATIOS.items():
        found = ratio(times, above, peer or "" if below == "peer" else below)
        if found is not None:
            ratios[name] = found
    return {
        "workload": ROWS[row].__doc__.strip().rstrip("."),
        "ms": {name: spread(t) for name, t in times.items() if t},
        "ratios": ratios,
        "fastest peer": peer,
        "notes": notes,
    }


def means(rows: dict) -> dict[str, float]:
    """The geometric mean of the medians of each ratio, over the rows that have it."""
    found = {}
    for name in RATIOS:
        medians = [r["ratios"][name]["median"] for r in rows.values() if name in r["ratios"]]
        if medians:
            found[name] = geometric_mean(medians)
    return found


# ---- lines of cells -----------------------------------------------------------------------------


def step_lines(rows: dict, frameworks: list[str]) -> tuple[list[str], list[list[str]]]:
    shown = [name for name in RATIOS if any(name in r["ratios"] for r in rows.values())]
    head = ["", *(TITLES[f] for f in frameworks), *shown, "workload"]
    lines = []
    for row, r in rows.items():
        ms = [figure(r["ms"][f]["median"]) if f in r["ms"] else "-" for f in frameworks]
        ratios = [f"{r['ratios'][n]['median']:.2f}" if n in r["ratios"] else "-" for n in shown]
        lines.append([row, *ms, *ratios, r["workload"]])
    if len(lines) > 1 and shown:
        mean = means(rows)
        blank = [""] * len(frameworks)
        lines.append(["mean", *blank, *(f"{mean[n]:.2f}" for n in shown), "geometric mean"])
    return head, lines


def memory_lines(memory: dict) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(f for row in memory.values() for f in row))
    head = ["", *(TITLES[f] for f in names), *(f"{TITLES[f]}, resident" for f in names)]
    lines = []
    for row, found in memory.items():
        cells = [
            f"{found[f][kind] / 2**20:.1f}" if f in found else "-"
            for kind in ("allocated", "resident")
            for f in names
        ]
        lines.append([row, *cells])
    return head, lines


def scaling_lines(series: dict, name: str) -> tuple[list[str], list[list[str]]]:
    """One series: microseconds an op for the chain, else milliseconds a step."""
    frameworks = list(dict.fromkeys(f for size in series.values() for f in size["ms"]))
    both = {"fast", "torch"} <= set(frameworks)
    head = [name, *(TITLES[f] for f in frameworks)] + ["ratio"] * both
    remembered = any("memory" in size for size in series.values())
    if remembered:
        head += [f"{TITLES[f]}, KB an op" for f in frameworks]
    lines = []
    for size, found in series.items():
        each = 1000 / int(size) if name == "chain" else 1
        cells = [figure(found["ms"][f] * each) if f in found["ms"] else "-" for f in frameworks]
        if both:
            there = {"fast", "torch"} <= set(found["ms"])
            cells.append(f"{found['ratio']:.2f}" if there else "-")
        if remembered:
            kept = found.get("memory", {})
            cells += [f"{kept[f] / int(size) / 1e3:.2f}" if f in kept else "-" for f in frameworks]
        lines.append([f"{int(size):,}", *cells])
    return head, lines


# ---- Markdown -----------------------------------------------------------------------------------


def markdown_table(head: list[str], lines: list[list[str]]) -> str:
    marks = ["|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(
        [f"| {' | '.join(head)} |", *marks, *(f"| {' | '.join(line)} |" for line in lines)]
    )


def sections(result: dict) -> dict[str, str]:
    """What stands between ``<!-- benchmark: NAME -->`` and ``<!-- end -->``, by name."""
    found = {"machine": "\n".join(f"- {line}" for line in result["machine"])}
    if "rows" in result:
        rows, frameworks = result["rows"], result["frameworks"]
        found["steps"] = markdown_table(*step_lines(rows, frameworks))
        notes = [
            f"- {row}, {TITLES[name]}: {note}"
            for row, r in rows.items()
            for name, note in r["notes"].items()
        ]
        if notes:
            found["notes"] = "\n".join(notes)
        short = [f for f in ("numpy", "fast", "captured", "torch") if f in frameworks]
        if "torch" in short:
            found["short"] = markdown_table(*_without_workload(step_lines(rows, short)))
    if "memory" in result:
        found["memory"] = markdown_table(*memory_lines(result["memory"]))
    for name, series in result.get("scaling", {}).items():
        found[name] = markdown_table(*scaling_lines(series, name))
    if "import" in result:
        found["import"] = "\n".join(f"- {line}" for line in import_lines(result["import"]))
    return found


def _without_workload(lines):
    head, body = lines
    return head[:-1], [line[:-1] for line in body]


def import_lines(cost: dict) -> list[str]:
    return [
        f"`import numpy`: {cost['numpy']['seconds']:.3f} s, {cost['numpy']['megabytes']:.0f} MB "
        "resident",
        f"`import minigrad`: {cost['minigrad']['seconds']:.3f} s, "
        f"{cost['minigrad']['megabytes']:.0f} MB resident",
        f"beyond NumPy: {cost['beyond numpy']:.3f} s",
    ]


def write_markdown(file: Path, result: dict) -> None:
    """Put each section that was measured where the file has its markers."""
    text = file.read_text()
    for name, content in sections(result).items():
        pattern = rf"(<!-- benchmark: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, c=content: f"{m[1]}\n{c}\n\n{m[2]}", text, flags=re.S)
    file.write_text(text)


def show(head: list[str], lines: list[list[str]]) -> None:
    print(table(head, lines) + "\n", flush=True)
