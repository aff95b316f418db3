"""The benchmark harness: it runs, its statistics are right, the pages show its rows."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import minigrad as mg
from minigrad.bench import rounds
from minigrad.bench.rounds import environment
from minigrad.bench.workloads import ROWS, SERIES, build, load
from minigrad.cli import main
from tests.benchmarks import report
from tests.benchmarks.__main__ import main as benchmarks
from tests.benchmarks.memory import peak

ROOT = Path(__file__).resolve().parents[1]


def test_a_quick_run_writes_everything(tmp_path):
    file = tmp_path / "b.json"
    command = [sys.executable, "-m", "tests.benchmarks", "tinymlp", "infer", "--rounds", "2"]
    command += ["--seconds", "0.01", "--threads", "1", "--frameworks", "numpy", "--no-import"]
    command += ["--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tinymlp" in done.stdout
    assert "NumPy" in done.stdout
    result = json.loads(file.read_text())
    assert list(result["rows"]) == ["tinymlp", "infer"]
    row = result["rows"]["tinymlp"]
    assert set(row) == {"workload", "ms", "ratios", "fastest peer", "notes"}
    ms = row["ms"]["numpy"]
    assert len(ms["values"]) == 2
    assert 0 < ms["quartiles"][0] <= ms["median"] <= ms["quartiles"][1]
    assert row["ratios"] == {}
    assert any("cores" in line for line in result["machine"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nosuchrow"], "nosuchrow"),
        (["--frameworks", "caffe"], "caffe"),
        (["tinymlp", "--markdown", "x.md"], "whole tables"),
        (["--rounds", "0"], "at least 1"),
    ],
)
def test_wrong_options_are_explained(arguments, word, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit):
        benchmarks()
    assert word in capsys.readouterr().err


def test_the_short_form_needs_neither_tests_nor_pytorch(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minigrad.cli.FRAMEWORKS", ["numpy", "fast"])
    assert main(["bench", "tinymlp", "--rounds", "1", "--seconds", "0.01"]) == 0
    text = capfd.readouterr().out
    assert re.search(r"^tinymlp +[\d.]+ ", text, re.M)
    assert main(["bench", "nosuchrow"]) == 2
    assert main(["bench", "--rounds", "0"]) == 2
    assert "at least 1" in capfd.readouterr().err


def test_a_process_imports_nothing_of_minigrad_for_others():
    workloads = Path(rounds.__file__).with_name("workloads.py")
    code = (
        f"import runpy as r, sys; r.run_path({str(workloads)!r}); print('minigrad' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_workload_runs_and_forgets():
    framework = load("minigrad", mg.get_num_threads())
    for name in ("ops", "tinymlp", "papermlp", "linear", "adam", "infer"):
        work = build(name, framework)
        work.run()
        work.forget()
        assert ROWS[name].__doc__
    for name in SERIES:
        build(f"{name}:32", framework).run()
    assert build("infer", framework).run().shape == (1, 10)


def test_failures_of_a_framework_leave_it_out():
    class Fake:
        def __init__(self, name, answers):
            self.name, self.answers = name, iter(answers)

        def ask(self, row, seconds):
            return next(self.answers)

    good = Fake("fast", [{"ms": 1.0, "note": ""}, {"ms": 3.0, "note": "n"}])
    bad = Fake("torch", [{"error": "out of memory"}])
    times, notes = rounds.run_row([good, bad], "mlp", 2, 0.1)
    assert times == {"fast": [1.0, 3.0]}
    assert notes == {"fast": "n", "torch": "left out: out of memory"}


def test_ratios_are_those_of_neighbours():
    times = {"fast": [1.0, 10.0, 2.0], "torch": [2.0, 10.0, 8.0], "jax": [4.0, 4.0, 4.0]}
    assert rounds.ratio(times, "fast", "torch")["values"] == [0.5, 1.0, 0.25]
    assert rounds.ratio(times, "fast", "torch")["median"] == 0.5
    assert rounds.ratio(times, "fast", "compile") is None
    assert rounds.fastest(times, report.PEERS) == "jax"
    assert rounds.fastest(times, ()) is None
    assert rounds.spread([3.0])["quartiles"] == [3.0, 3.0]
    assert rounds.geometric_mean([0.25, 1.0, 4.0]) == pytest.approx(1)


def test_captured_is_compared_with_the_fastest_peer():
    times = {"captured": [1.0, 2.0], "torch": [4.0, 4.0], "compile": [2.0, 2.0]}
    result = report.row_result("mlp", times, {})
    assert result["fastest peer"] == "compile"
    assert result["ratios"]["captured / fastest peer"]["values"] == [0.5, 1.0]
    assert report.means({"mlp": result}) == {"captured / fastest peer": pytest.approx(0.75)}


def test_markdown_goes_between_the_markers(tmp_path):
    times = {"fast": [1.0], "torch": [2.0]}
    result = {"machine": ["a machine"], "frameworks": ["fast", "torch"]}
    result["rows"] = {row: report.row_result(row, times, {}) for row in ("mlp", "cnn")}
    result["import"] = {
        "numpy": {"seconds": 0.1, "megabytes": 25.0},
        "minigrad": {"seconds": 0.2, "megabytes": 40.0},
        "beyond numpy": 0.1,
    }
    chain = {"ms": {"fast": 4.0, "torch": 5.0}, "ratio": 0.8, "memory": {"fast": 1500_000}}
    result["scaling"] = {"chain": {"1000": chain}}
    result["memory"] = {"mlp": {"fast": {"allocated": 2**20, "resident": 2**21}}}
    page = tmp_path / "page.md"
    names = ("machine", "steps", "short", "chain", "memory", "import", "batch")
    page.write_text("".join(f"<!-- benchmark: {n} -->\nold\n<!-- end -->\n" for n in names))
    for _ in range(2):  # written again, it stays the same
        report.write_markdown(page, result)
        text = page.read_text()
        assert text.count("old") == 1, "what was not measured stays"
        assert "| mlp | 1.00 | 2.00 | 0.50 | 784-512-256-10, batch 128, step |" in text
        assert "| mlp | 1.00 | 2.00 | 0.50 |\n" in text
        assert "| 1,000 | 4.00 | 5.00 | 0.80 | 1.50 | - |" in text
        assert "| mlp | 1.0 | 2.0 |" in text
        assert "beyond NumPy: 0.100 s" in text
        assert text.count("- a machine") == 1


@pytest.mark.parametrize(("row", "pytorch"), [("mlpbn", 5.1), ("cnn", 30.6), ("resnet", 23.2)])
def test_a_step_takes_no_more_memory_than_pytorch(row, pytorch):
    """Its peak in MiB, as tests/benchmarks/memory.py finds it for PyTorch 2.13."""
    used = peak("allocated", "fast" if find_spec("numba") else "numpy", 2, row, environment(2))
    assert used <= pytorch * 2**20


@pytest.mark.parametrize(
    ("page", "section"), [("docs/performance.md", "steps"), ("README.md", "short")]
)
def test_the_pages_show_the_rows(page, section):
    text = (ROOT / page).read_text()
    between = text.split(f"<!-- benchmark: {section} -->")[1].split("<!-- end -->")[0]
    rows = re.findall(r"^\| (\w+) \|", between, re.M)
    assert rows == [*ROWS, "mean"]


def test_the_page_has_a_place_for_every_section():
    text = (ROOT / "docs" / "performance.md").read_text()
    places = set(re.findall(r"<!-- benchmark: (\w+) -->", text))
    assert places == {"machine", "steps", "notes", "memory", "import", *SERIES}
