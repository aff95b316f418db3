"""The experiments in examples/: their quick forms run, and their pages hold what they measured."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.cli import main

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, PAGES = ROOT / "examples", ROOT / "docs" / "experiments"
SCRIPTS = sorted(p.stem for p in EXAMPLES.glob("*.py") if "from experiment import" in p.read_text())
NEEDS = {"search": "optuna"}


def experiment():
    spec = importlib.util.spec_from_file_location("experiment", EXAMPLES / "experiment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_quick_form_runs(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--seeds", "2", "--out", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=True,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["form"] == "quick"
    assert results["claims"], "an experiment states a claim"
    for claim in results["claims"]:
        assert set(claim) == {"claim", "number", "source", "verdict"}
        assert all(claim.values())
    assert list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_has_its_page(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 120
    assert (PAGES / f"{name}.md").exists()


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.stem)
def test_a_page_holds_the_results_of_the_full_run(page):
    folder = page.with_suffix("")
    results = json.loads((folder / "results.json").read_text())
    assert results["form"] == "full"
    assert experiment().with_results(page.read_text(), results) == page.read_text()
    shown = set(re.findall(rf"\]\({page.stem}/([\w.-]+\.svg)\)", page.read_text()))
    assert shown == {p.name for p in folder.glob("*.svg")}
    assert all(p.stat().st_size < 150_000 for p in folder.iterdir())


def test_a_difference_below_two_standard_errors_is_undecided():
    above = experiment().above
    assert above([3.0, 4.0, 5.0], "points") == ("+4.00 ± 0.58 points", True)
    assert above([-3.0, -4.0, -5.0], "points")[1] is False
    assert above([-1.0, 2.0, 0.5], "points")[1] is None
    assert above([7.0], "points")[1] is None, "one seed has no spread"


def test_figures_follow_the_readers_theme():
    plain = '<svg><defs></defs><path style="fill: #24292e"/></svg>'
    assert '[style*="fill: #24292e"]{fill:#e6edf3!important}' in experiment().themed(plain)


@pytest.mark.slow
def test_claims_prints_claim_number_source_and_verdict(tmp_path, capfd):
    command = ["claims", "averages", "--examples", str(EXAMPLES), "--out", str(tmp_path)]
    assert main(command) == 0
    text = capfd.readouterr().out
    assert "holds" in text
    assert "1/(1+t) takes 0.2 to 0.1, 0.067, 0.05, 0.04" in text
    assert "[O8: " in text


def test_claims_says_where_the_experiments_are(tmp_path, capfd):
    assert main(["claims", "--examples", str(tmp_path)]) == 2
    assert "pass --examples FOLDER" in capfd.readouterr().err
    assert main(["claims", "nothing", "--examples", str(EXAMPLES)]) == 2
    assert "no nothing among" in capfd.readouterr().err


def test_claims_reports_a_script_that_fails(tmp_path, capfd):
    (tmp_path / "bad.py").write_text("from experiment import Experiment")
    assert main(["claims", "--examples", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "bad failed" in capfd.readouterr().err
