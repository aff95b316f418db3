"""The examples in the documents and docstrings do what they say."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(minigrad.__path__, "minigrad.")
    if not m.name.endswith("__main__")
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    minigrad.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


def test_readme():
    minigrad.manual_seed(0)
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=FLAGS)
    assert result.attempted >= 10
    assert result.failed == 0


def test_the_first_block_of_each_page_runs():
    for page in sorted((ROOT / "docs").glob("*.md")):
        names: dict = {}
        for block in re.findall(r"```python\n(?!# [\w/]+\.py\n)(.*?)```", page.read_text(), re.S):
            if ">>>" not in block:
                exec(compile(block, page.name, "exec"), names)


def test_links_between_the_documents_hold():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_importing_takes_in_nothing_large():
    heavy = ("matplotlib", "torch", "numba", "cupy", "scipy", "pygraphviz", "graphviz")
    heavy += ("minigrad.viz", "numpy.random", "tqdm", "threadpoolctl")
    code = f"import minigrad, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pictures_are_imported_when_they_are_asked_for():
    code = "import minigrad; print(minigrad.viz.graph.__name__); minigrad.nonsense"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "graph"
    assert "AttributeError: module 'minigrad' has no attribute 'nonsense'" in done.stderr
