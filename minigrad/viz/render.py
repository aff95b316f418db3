"""DOT into pictures: the ``dot`` program draws, or the Graphviz that pygraphviz brings along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from shutil import which

HOW = (
    "Install Graphviz (https://graphviz.org/download) so that `dot` is on the PATH, or "
    'pip install "minigrad[viz]"; text, .dot and .json need neither.'
)

# In a process of its own: pygraphviz cannot draw one graph twice, and its libraries print noise.
PYGRAPHVIZ = """
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))
"""


class GraphvizError(RuntimeError):
    """Graphviz is not there, or did not draw."""


def draw(dot: str, form: str) -> bytes:
    """The picture of ``dot`` in a format of Graphviz: svg, png, pdf."""
    failed = ""
    for command in programs(form):
        done = subprocess.run(command, input=dot.encode(), capture_output=True, check=False)
        if done.returncode == 0 and done.stdout:
            return done.stdout
        failed = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
    if failed:
        raise GraphvizError(f"Graphviz did not draw the graph: {failed}")
    raise GraphvizError(
        f"drawing needs Graphviz, and neither `dot` nor pygraphviz was found. {HOW}"
    )


def programs(form: str) -> Iterator[list[str]]:
    """The commands that read DOT and write a picture, best first."""
    if found := which("dot"):
        yield [found, f"-T{form}"]
    if find_spec("pygraphviz"):
        yield [sys.executable, "-c", PYGRAPHVIZ, form]
