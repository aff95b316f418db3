"""The chapters' pictures: ``python -m docs.pictures`` writes them all to docs/images.

Most are written by the examples of the chapters themselves, which ``run`` runs in order.
"""

from __future__ import annotations

import contextlib
import doctest
import re
from pathlib import Path
from typing import Any

import minigrad

DOCS = Path(__file__).resolve().parent
CHAPTERS = sorted((DOCS / "chapters").glob("[0-9]*.md"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run(page: Path) -> int:
    """Run every block of Python of a page, in order and as one program; returns how many.

    Raises:
        AssertionError: an example after ``>>>`` says something else than the page does.
    """
    minigrad.manual_seed(0)
    names: dict[str, Any] = {"__name__": page.stem}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    for block in blocks:
        if ">>>" not in block:
            exec(compile(block, page.name, "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False)
        assert result.failed == 0, f"{result.failed} examples of {page.name} failed"
        names = test.globs
    return len(blocks)


if __name__ == "__main__":
    with contextlib.chdir(DOCS / "images"):
        for chapter in CHAPTERS:
            print(f"{chapter.name}: {run(chapter)} blocks")
