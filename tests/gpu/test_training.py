"""Data and training on a GPU: pinned memory, data sets there, the loop, scripts, pictures."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.cli import main
from minigrad.training import evaluate, fit
from tests.gpu import device
from tests.gpu.mockcupy import counting

ROOT = Path(__file__).parents[2]
only_standin = pytest.mark.skipif(device.REAL, reason="the stand-in counts")


def digits(n=256):
    train, _ = data.load_digits()
    x, t = (mg.cat([part[:n]]) for part in train.tensors)
    return data.TensorDataset(x, t)


def model():
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )


def test_pinned_memory(gpu):
    x = mg.arange(6.0).reshape(2, 3)
    assert not x.is_pinned()
    y = x.pin_memory()
    assert y.is_pinned() and y[1:].is_pinned() and y.pin_memory() is y
    assert y.device == "cpu"
    for z in (y.to("cuda", non_blocking=True), y.cuda(non_blocking=True), y[1:].cuda(0, True)):
        assert z.device == "cuda:0"
    assert y.to("cuda", non_blocking=True).tolist() == x.tolist()
    assert x.to("cuda", non_blocking=True).tolist() == x.tolist()
    with pytest.raises(mg.DeviceError, match="needs a CPU tensor, got cuda:0"):
        x.cuda().pin_memory()


@only_standin
def test_a_copy_from_pinned_memory_does_not_wait(gpu):
    x = mg.ones(3).pin_memory()
    with counting() as found:
        x.to("cuda", non_blocking=True)
    assert (found["waits"], found["uploads"], found["copies from pinned memory"]) == (0, 0, 1)
    with counting() as found:
        x.to("cuda")
    assert found["uploads"] == 1


def test_a_loader_pins_its_batches(gpu):
    for loader in (
        data.DataLoader(digits(), 64, pin_memory=True),
        data.DataLoader(digits(), 64, pin_memory=True, num_workers=1, prefetch_factor=3),
        data.DataLoader([(mg.ones(2), {"a": 1.0, "b": "x"})] * 4, 2, pin_memory=True),
    ):
        batch = next(iter(loader))
        assert batch[0].is_pinned()
        rest = batch[1]["a"] if isinstance(batch[1], dict) else batch[1]
        assert rest.is_pinned()
    plain, pinned = (list(data.DataLoader(digits(), 64, pin_memory=p)) for p in (False, True))
    for a, b in zip(plain, pinned, strict=True):
        assert all(mg.equal(s, t) for s, t in zip(a, b, strict=True))


def test_a_loader_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(mg.backends.cuda, "probe", lambda: mg.backends.cuda.Status(False, "none"))
    with pytest.warns(UserWarning, match="there is no GPU"):
        loader = data.DataLoader(digits(), 64, pin_memory=True)
    assert not next(iter(loader))[0].is_pinned()


def test_a_data_set_on_the_gpu(gpu):
    here = digits()
    there = data.TensorDataset(*(t.cuda() for t in here.tensors))
    for shuffle in (False, True):
        batches = []
        for dataset in (here, there):
            mg.manual_seed(1)
            batches.append(list(data.DataLoader(dataset, 100, shuffle=shuffle)))
        for (x, t), (y, u) in zip(*batches, strict=True):
            assert {y.device, u.device} == {"cuda:0"}
            assert mg.equal(x, y.cpu()) and mg.equal(t, u.cpu())


def test_the_loop_learns_alike(gpu):
    histories = []
    for place in ("cpu", "cuda"):
        net = model().to(place)
        loader = data.DataLoader(digits(), 64, pin_memory=place == "cuda")
        history = fit(
            net,
            loader,
            loader,
            optimizer=optim.SGD(net.parameters(), lr=0.1),
            epochs=3,
            device=place,
            progress=False,
        )
        histories.append([(e.train_loss, e.train_accuracy, e.test_loss) for e in history.epochs])
    np.testing.assert_allclose(*histories, rtol=1e-4)


@only_standin
def test_the_loop_waits_once_an_epoch(gpu):
    net = model().cuda()
    optimizer = optim.Adam(net.parameters())
    loader = data.DataLoader(digits(), 32, pin_memory=True)
    fit(net, loader, optimizer=optimizer, epochs=1, device="cuda", progress=False)
    with counting() as found:
        fit(net, loader, optimizer=optimizer, epochs=1, device="cuda", progress=False)
    assert found["uploads"] == 0
    assert found["waits"] == found["item"] == 2 * len(loader)  # loss and hits, at its end
    with counting() as found:
        evaluate(net, loader, device="cuda")
    assert found["waits"] == 2 * len(loader)


def test_the_command(gpu, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    args = [
        "train",
        "--device",
        "cuda",
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--batch-size",
        "128",
        "--no-progress",
        "--out",
    ]
    assert main([*args, str(tmp_path / "run")]) == 0
    assert "test accuracy" in capsys.readouterr().out
    state = mg.load(tmp_path / "run" / "weights.safetensors")
    assert {t.device for t in state.values()} == {"cpu"}
    assert main(["info"]) == 0
    assert "device cuda:0  available" in capsys.readouterr().out


def test_pictures_and_inspection(gpu, tmp_path):
    net = model().cuda()
    x, t = mg.rand(8, 1, 8, 8).cuda(), mg.arange(8).cuda()
    loss = nn.functional.cross_entropy(net(x), t)
    here = model()
    plain = nn.functional.cross_entropy(here(x.cpu()), t.cpu())
    from minigrad import inspect, viz

    texts = []
    for value, owner in ((loss, net), (plain, here)):
        viz.graph(value, model=owner).render(tmp_path / "graph.dot")
        texts.append((tmp_path / "graph.dot").read_text())
    assert texts[0].count("->") == texts[1].count("->") > 5
    assert str(inspect.diagnose(net, (x, t)))
    trace = inspect.trace(net[2], mg.randn(6, 16).cuda())
    assert "x_hat" in str(trace)


@pytest.mark.parametrize("script", ["averages", "descent", "softmax"])
def test_examples(gpu, script, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    path = ROOT / "examples" / f"{script}.py"
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(
        sys, "argv", [str(path), "--quick", "--device", "cuda", "--out", str(tmp_path)]
    )
    runpy.run_path(str(path), run_name="__main__")
    assert (tmp_path / "results.json").exists()
