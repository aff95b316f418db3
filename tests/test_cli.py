"""The command ``minigrad``, as a person runs it."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.cli import main
from minigrad.serialization import load

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def test_train_writes_a_run_folder(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    assert main(["train", "--model", "mlp", "--epochs", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "test accuracy" in text
    assert float(text.split("test accuracy ")[1].split("%")[0]) > 85
    names = {p.name for p in out.iterdir()}
    assert {
        "weights.safetensors",
        "history.csv",
        "curves.png",
        "confusion.png",
        "graph.dot",
    } <= names
    with open(out / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "1.weight" in load(out / "weights.safetensors")


def test_the_same_seed_gives_the_same_weights(tmp_path):
    options = ["train", "--model", "mlp", "--epochs", "1", "--no-progress", "--seed", "3"]
    for name in "ab":
        assert main([*options, "--out", str(tmp_path / name)]) == 0
    a, b = (load(tmp_path / n / "weights.safetensors") for n in "ab")
    assert all(a[k].equal(b[k]) for k in a)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_every_model_norm_and_optimizer(tmp_path, model, norm):
    optimizer = {"batch": "sgd", "layer": "momentum", "none": "rmsprop"}[norm]
    options = ["--model", model, "--norm", norm, "--optimizer", optimizer, "--epochs", "1"]
    assert main(["train", *options, "--no-progress", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_data_from_files(tmp_path, name):
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"no {name} files beside the project")
    options = ["--data", name, "--data-dir", str(folder), "--model", "mlp", "--epochs", "1"]
    assert main(["train", *options, "--no-progress", "--out", str(tmp_path)]) == 0


def test_graph_and_info(tmp_path, capsys):
    assert main(["graph", "--out", str(tmp_path / "g.dot")]) == 0
    assert "Conv2d" in (tmp_path / "g.dot").read_text()
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "NumPy" in text
    assert "device cpu" in text
    assert "CuPy" in text, "says why there is no GPU"


def test_wrong_use_is_explained(tmp_path, capsys):
    assert main(["train", "--data", "mnist"]) == 2
    assert "--data-dir" in capsys.readouterr().err
    assert main(["train", "--data", "mnist", "--data-dir", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["train", "--epochs", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(["train", "--device", "cuda", "--out", str(tmp_path / "r")]) == 2
    assert "CuPy" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--norm", "group"])


def test_ctrl_c_saves_what_was_reached(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "minigrad",
            "train",
            "--epochs",
            "500",
            "--no-progress",
            "--out",
            tmp_path,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout.readline().startswith("cnn with")
    assert process.stdout.readline().startswith("epoch 1:")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after" in out
    assert "0.weight" in load(tmp_path / "weights.safetensors")
    assert (tmp_path / "history.csv").exists()


def test_train_goes_on_without_graphviz(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("minigrad.viz.render.which", lambda name: None)
    monkeypatch.setattr("minigrad.viz.render.find_spec", lambda name: None)
    options = ["--model", "mlp", "--epochs", "1", "--no-progress", "--out", str(tmp_path)]
    assert main(["train", *options]) == 0
    assert "minigrad[viz]" in capsys.readouterr().err
    assert (tmp_path / "graph.dot").exists()
    assert (tmp_path / "weights.safetensors").exists()
    assert main(["graph", "--out", str(tmp_path / "g.svg")]) == 2
    assert "Graphviz" in capsys.readouterr().err
