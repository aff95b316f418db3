"""The floors of docs/architecture.md: a file imports only what stands below it, so nothing is
circular.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minigrad"


def table() -> dict[str, tuple[int, int]]:
    """Name of a file or package -> (floor, place on the floor), from the page."""
    places = {}
    text = (ROOT / "docs" / "architecture.md").read_text()
    for floor, cells in re.findall(r"^\| (\d) \| (.+?) \|", text, re.M):
        for i, name in enumerate(re.findall(r"`([\w./]+)`", cells)):
            places[name.removesuffix(".py").removesuffix("/")] = int(floor), i
    return places


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """The minigrad modules a file imports while running (not those only for type checkers)."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "minigrad":
                found |= {f"minigrad.{a.name}" for a in node.names}
            else:
                found.add(node.module)
    return {m for m in found if m.split(".")[0] == "minigrad"}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_the_page_names_every_file_and_no_other():
    assert set(table()) == {name_of(p) for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    places, own = table(), name_of(path)
    for module in imports(path):
        parts = module.split(".")
        if len(parts) == 1:
            assert places[own][0] >= 6, f"{path} imports the whole of minigrad"
            continue
        target = parts[1]
        if target == own:
            continue  # within a package: see the next test
        assert places[target] < places[own], f"{path.name} ({own}) must not import {module}"


def test_no_package_is_circular_inside():
    for package in (p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()):
        files = {p.relative_to(PACKAGE.parent).with_suffix("") for p in package.rglob("*.py")}
        names = {".".join(f.parts).removesuffix(".__init__"): f for f in files}
        below = {
            name: {
                m
                for m in imports(PACKAGE.parent / f.with_suffix(".py"))
                if m in names and m != name and not name.startswith(m + ".")
            }
            for name, f in names.items()
        }
        order: list[str] = []
        while below:
            free = [n for n, need in below.items() if need <= set(order)]
            assert free, f"circular imports among {sorted(below)}"
            order += free
            for n in free:
                del below[n]


def test_imports_stand_at_the_top():
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [
                    n
                    for n in ast.walk(node)
                    if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("minigrad")
                ]
                assert not inner, f"{path.name}: {node.name} imports inside a function"


def test_only_the_backends_name_the_array_libraries():
    allowed = {
        "cupy": {"backends/cuda/__init__.py"},
        "cupyx": {"backends/cuda/__init__.py"},
        "numba": {"backends/compiled/numba_kernels.py"},
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                root = name.split(".")[0]
                if root in allowed:
                    place = path.relative_to(PACKAGE).as_posix()
                    assert place in allowed[root], f"{path} imports {root}"


def test_no_file_is_named_for_nothing():
    for path in PACKAGE.rglob("*"):
        assert path.stem not in ("helpers", "misc", "common")
        assert path.stem != "utils" or path.parent.name == "nn"


def test_quotes_of_code_in_the_documents_are_verbatim():
    """A fence whose first line is ``# minigrad/...py`` quotes that file."""
    quoted = 0
    for page in [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```python\n(# [\w/]+\.py\n.*?)```", page.read_text(), re.S):
            first, _, code = block.partition("\n")
            source = (ROOT / first.removeprefix("# ").strip()).read_text()
            for part in re.split(r"^ *\.\.\.\n", code, flags=re.M):
                assert part.strip("\n") in source, f"{page.name}: not in {first}:\n{part}"
            quoted += 1
    assert quoted >= 5
