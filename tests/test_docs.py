"""The examples in the documents and docstrings do what they say."""

import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minigrad
from docs import pictures

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
    heavy += (
        "minigrad.viz",
        "numpy.random",
        "tqdm",
        "threadpoolctl",
        "minigrad.nn.conventions",
        "minigrad.data",
    )
    code = f"import minigrad, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pictures_are_imported_when_they_are_asked_for():
    code = "import minigrad; print(minigrad.viz.graph.__name__); minigrad.nonsense"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "graph"
    assert "AttributeError: module 'minigrad' has no attribute 'nonsense'" in done.stderr


@pytest.mark.parametrize("page", ["inspect.md", "graphs.md"])
def test_pages_of_examples(page, tmp_path, monkeypatch):
    """Every line after >>>, in order; what they write goes to a folder that is thrown away."""
    pytest.importorskip("matplotlib")
    if shutil.which("dot") is None:
        pytest.skip("the page draws pictures, and Graphviz is not installed")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text()
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert len(test.examples) >= 5
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test).failed == 0
    shown = {p.name for p in (ROOT / "docs/images").iterdir()}
    written = {p.name for p in tmp_path.iterdir() if p.suffix not in (".html", ".json", "")}
    assert written <= shown


def test_every_file_of_the_package_is_installed():
    """What is no Python is named in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["minigrad"]
    for file in (ROOT / "minigrad").rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc", ".nbc", ".nbi"):
            path = file.relative_to(ROOT / "minigrad")
            assert any(path.match(p) for p in patterns), f"{path} is not installed"


@pytest.mark.parametrize("chapter", pictures.CHAPTERS, ids=lambda page: page.stem)
def test_chapters(chapter, tmp_path, monkeypatch):
    """Every block, in order; what they write goes to a folder that is thrown away."""
    pytest.importorskip("matplotlib")
    if shutil.which("dot") is None:
        pytest.skip("the chapters draw pictures, and Graphviz is not installed")
    monkeypatch.chdir(tmp_path)
    assert pictures.run(chapter) >= 1
    for written in tmp_path.iterdir():
        assert f"images/{written.name}" in chapter.read_text()
        assert (ROOT / "docs/images" / written.name).exists()


def test_who_is_averaged_with_whom(tmp_path):
    pytest.importorskip("matplotlib")
    counts = [int(pictures.partners(norm).sum()) for _, _, norm in pictures.NORMS]
    assert counts == [12, 24, 4, 12, 24, 3]
    for theme in ("light", "dark"):
        pictures.norms(tmp_path / f"{theme}.svg", theme)
        assert (tmp_path / f"{theme}.svg").stat().st_size > 10_000


def test_the_readme_opens_a_batchnorm_in_five_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    block = next(b for b in blocks if "inspect.trace" in b)
    assert len([line for line in block.splitlines() if line]) <= 5
    if shutil.which("dot") is None:
        block = block.replace(".svg", ".dot")
    exec(compile(block, "README.md", "exec"), {})
    assert "dx_direct" in capsys.readouterr().out
    assert "x_hat" in next(tmp_path.iterdir()).read_text()
