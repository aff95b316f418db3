"""The check for a GPU machine is ready to run; and what README.md says of it is so."""

import json
import subprocess
import sys

from tests.gpu import stamp


def test_the_readme_says_what_was_verified():
    assert stamp.state() in (stamp.ROOT / "README.md").read_text()
    assert stamp.state() in (stamp.ROOT / "docs" / "gpu.md").read_text()


def run(name, digest, **more):
    parts = [{"name": "table", "status": more.get("status", "passed")}]
    versions = {"gpu": "NVIDIA H200"}
    found = {"when": f"{name}T10:00", "real": True, "parts": parts, "versions": versions}
    return {**found, "digest": digest, **more}


def test_drift_is_told_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(stamp, "RESULTS", tmp_path)
    assert stamp.state() == "verified on a GPU: nothing yet"

    def add(result):
        (tmp_path / f"{len(list(tmp_path.iterdir()))}.json").write_text(json.dumps(result))

    add(run("2027-01-01", stamp.digest(), real=False))
    add(run("2027-01-02", stamp.digest(), status="failed"))
    assert stamp.state() == "verified on a GPU: nothing yet"
    add(run("2027-01-03", stamp.digest()))
    assert stamp.state() == "verified on a GPU: all of it (NVIDIA H200, 2027-01-03)"
    add(run("2027-01-04", "another"))
    assert stamp.state() == (
        "verified on a GPU: an earlier state (NVIDIA H200, 2027-01-04); the CUDA sources have "
        "changed since"
    )


def test_the_hash_covers_kernels_and_backend():
    names = {p.name for p in stamp.sources()}
    assert {"cupy_backend.py", "__init__.py", "launch.py", "norm.cu"} <= names


def test_the_check_runs_on_the_standin(tmp_path):
    """The parts that a machine without a GPU can try; the file says how each went."""
    command = [sys.executable, "-m", "tests.gpu.check", "--standin", "--out", str(tmp_path)]
    command += [
        "--parts",
        "versions,probe,curves,steps,capture,memory,benchmark",
        "--seconds",
        "0.01",
    ]
    done = subprocess.run(command, cwd=stamp.ROOT, capture_output=True, text=True)
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    statuses = {p["name"]: p["status"] for p in result["parts"]}
    assert statuses == dict.fromkeys(statuses, "passed"), done.stdout + done.stderr
    assert not result["real"]
    assert result["digest"] == stamp.digest()
    assert done.returncode == 0


def test_a_part_that_fails_is_told(tmp_path):
    command = [sys.executable, "-m", "tests.gpu.check", "--out", str(tmp_path)]
    command += ["--parts", "versions,probe"]
    done = subprocess.run(command, cwd=stamp.ROOT, capture_output=True, text=True)
    (file,) = tmp_path.glob("*.json")
    parts = json.loads(file.read_text())["parts"]
    if parts[1]["status"] == "failed":  # no GPU here
        assert "DeviceError" in parts[1]["error"]
        assert done.returncode == 1
