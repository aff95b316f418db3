"""Which sources a run on a GPU has verified: their hash, and the runs in ``results/``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"


def sources() -> list[Path]:
    """What runs on a GPU: the files of backends/cuda, and CuPy's backend."""
    folder = ROOT / "minigrad" / "backends"
    files = [p for p in (folder / "cuda").rglob("*") if p.suffix in (".py", ".cu", ".cuh")]
    return sorted([*files, folder / "cupy_backend.py"])


def digest() -> str:
    """A hash of the sources, their names and their text."""
    found = hashlib.sha256()
    for path in sources():
        found.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def verified() -> dict | None:
    """The last run on a real GPU in which every part held; None where there is none."""
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    whole = [r for r in runs if r["real"] and all(p["status"] == "passed" for p in r["parts"])]
    return max(whole, key=lambda r: r["when"]) if whole else None


def state() -> str:
    """In words, as README.md says it."""
    last = verified()
    if last is None:
        return "verified on a GPU: nothing yet"
    where = f"{last['versions']['gpu']}, {last['when'][:10]}"
    if last["digest"] == digest():
        return f"verified on a GPU: all of it ({where})"
    return f"verified on a GPU: an earlier state ({where}); the CUDA sources have changed since"
