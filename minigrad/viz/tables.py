"""Tables and numbers as text."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from unicodedata import combining

import numpy as np


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Container[int] = ()) -> str:
    """Rows below a header, each column as wide as its widest cell; columns in ``right`` end at the
    right.
    """
    lines = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]

    def cell(text: str, i: int) -> str:
        blank = " " * (widths[i] - width(text))
        return blank + text if i in right else text + blank

    return "\n".join("  ".join(cell(t, i) for i, t in enumerate(line)).rstrip() for line in lines)


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


def duration(seconds: float) -> str:
    """A time in few characters: ``12.3 µs``, ``4.56 ms``, ``7.89 s``."""
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{_three(seconds * factor)} {unit}"


def memory(n: float) -> str:
    """Bytes in few characters, in powers of 1000: ``512 B``, ``4.10 kB``, ``1.05 MB``."""
    said = count(n)
    return f"{said}B" if " " in said else f"{said} B"


def count(n: float) -> str:
    """A count in few characters: ``512``, ``4.10 k``, ``1.05 M``, ``7.20 G``."""
    unit = 0
    whole = n < 1000
    while n >= 999.5 and unit < 4:
        n, unit = n / 1000, unit + 1
    return f"{n:.0f}" if whole else f"{_three(n)} {('', 'k', 'M', 'G', 'T')[unit]}"


def grouped(n: int) -> str:
    """A whole number with its digits in groups: ``12 345``."""
    return f"{n:,}".replace(",", " ")


def _three(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{max(0, 2 - (len(str(int(value))) - 1))}f}"
