"""docs/topics.md lists every topic, and what it links to is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "topics.md"
SOURCE = ROOT.parent / "shared" / "design" / "topics.md"


def numbered(letter, last):
    return [f"{letter}{i}" for i in range(1, last + 1)]


IDS = {
    "Normalising inputs": numbered("N", 6),
    "The algorithm": numbered("B", 20),
    "Why it works": numbered("W", 12),
    "Other normalizations": numbered("L", 5),
    "Optimization": numbered("O", 18),
    "Where the sources disagree or err": numbered("", 16),
    "What users ask": numbered("", 31),
}


def sections(text, mark):
    """Title -> what stands below it."""
    parts = re.split(rf"^{mark} (.+)$", text, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(text):
    """(id, the other cells) of every row of its tables."""
    return re.findall(r"^\| ([A-Z]?\d+)\b[^|]*\|(.+)\|$", text, re.M)


ROWS = [
    (f"{title} {name}", cells)
    for title, text in sections(PAGE.read_text(), "##").items()
    for name, cells in rows(text)
]


def test_every_topic_has_its_row():
    found = sections(PAGE.read_text(), "##")
    assert {title: [name for name, _ in rows(text)] for title, text in found.items()} == IDS


def test_the_ids_are_those_of_the_source():
    if not SOURCE.exists():
        pytest.skip("the list that these ids come from is not part of the project")
    text = SOURCE.read_text()
    parts = [p for t, p in sections(text, "###").items() if re.match(r"3\.[1-6] ", t)]
    parts[-1] = parts[-1].split("\n## ")[0]
    parts += [p for t, p in sections(text, "##").items() if t.startswith("4. ")]
    assert [[name for name, _ in rows(p)] for p in parts] == list(IDS.values())


def anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("name", "cells"), ROWS, ids=[name for name, _ in ROWS])
def test_what_a_row_links_to_is_there(name, cells):
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", cells)
    tests = re.findall(r"`(tests/\w+\.py)::(\w+)`", cells)
    assert links or tests
    assert cells.count("](") == len(links)
    assert cells.count("::") == len(tests)
    for target, anchor in links:
        file = (PAGE.parent / target).resolve()
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file), f"{target} has no {anchor}"
    for file, test in tests:
        tree = ast.parse((ROOT / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert test in names, f"{file} has no {test}"
        assert test.startswith("test_")
