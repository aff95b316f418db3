"""Tables and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import combining

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows below a header, each column as wide as its widest cell."""
    lines = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell + " " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """How many places a text takes: a hat stands above its letter."""
    return sum(not combining(c) for c in text)


def number(value: Any, digits: int = 4) -> str:
    """A number in few characters: ``0.3125``, ``1.2e-07``, ``–`` where there is none."""
    value = float(value)
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}g}"


def numbers(array: Any, most: int = 4) -> str:
    """The first values of an array in one line, in one format."""
    flat = np.asarray(array).reshape(-1)
    shown = np.array2string(
        flat[:most], precision=4, suppress_small=bool(np.abs(flat).max(initial=0) > 1e-3)
    )
    more = " …" if flat.size > most else ""
    return " ".join(shown.strip("[]").split()) + more
