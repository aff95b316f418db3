"""Probe: the training stays the same to the bit; what it writes down is what happened."""

import copy
import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.inspect import records
from minigrad.inspect.probe import dead
from minigrad.nn import functional as F
from minigrad.training import fit
from tests.fingerprint import fingerprint


class Net(nn.Module):
    """Convolution, BatchNorm, in-place ReLU, dropout, an RNN, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.3)
        self.rnn = nn.GRU(24, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.twice = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.drop(self.relu(self.bn(self.conv(x))))
        x, _ = self.rnn(x.permute(0, 2, 1, 3).flatten(2))
        x = self.norm(x[:, -1])
        x = self.twice(self.twice(x).tanh()).sigmoid()
        return self.head(x)


def mlp(*middle):
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 3))


def batches(n=6, shape=(1, 6, 6)):
    return [(mg.randn(8, *shape), mg.randint(0, 3, (8,))) for _ in range(n)]


def train(model, optimizer, data, probe=None):
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if probe is not None:
            probe.step()
        losses.append(loss.item())
    return losses


def bits(model, optimizer):
    """The fingerprint without addresses, to compare two models."""
    values = {}
    for key, value in fingerprint(model, optimizer=optimizer).items():
        if isinstance(value, tuple):
            _, array, grad, requires = value
            value = array, grad and grad[1], requires
        if key[-1] != "hooks":
            values[key] = value
    return values


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_training_is_the_same_bit_for_bit(kind, every):
    results = []
    for probed in (False, True):
        mg.manual_seed(0)
        model = Net()
        optimizer = kind(model.parameters(), lr=0.01)
        data = batches()
        if probed:
            with inspect.Probe(model, every=every, keep=2, optimizer=optimizer) as probe:
                losses = train(model, optimizer, data)
            assert 0 < len(probe) <= 2
        else:
            losses = train(model, optimizer, data)
        losses += train(model, optimizer, data)  # and afterwards
        results.append((losses, bits(model, optimizer)))
    assert results[0] == results[1]


def test_detached_nothing_is_left():
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer=optimizer)
    with pytest.raises(ZeroDivisionError), inspect.Probe(model, optimizer=optimizer):
        1 / 0  # noqa: B018
    assert fingerprint(model, optimizer=optimizer) == before
    assert not optimizer._step_post_hooks
    probe = inspect.Probe(model).attach()
    with pytest.raises(RuntimeError, match="attached already"):
        probe.attach()
    probe.detach()
    train(model, optimizer, batches(1))
    assert len(probe) == 0


def test_the_records_are_what_happened():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    (x, y), *_ = batches(1, (4,))
    outputs, grads = [], []
    value = x
    for layer in copy.deepcopy(model):
        value = layer(value)
        value.retain_grad()
        outputs.append(value)
    F.cross_entropy(value, y).backward()
    grads = [o.grad.numpy() for o in outputs]
    weights = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}

    with inspect.Probe(model, bins=7) as probe:
        train(model, optimizer, [(x, y)], probe)
    assert probe.layers == ["0", "1", "2", "3", "4", "5"]
    for i, layer in enumerate(probe.layers):
        series, v = probe[layer], outputs[i].detach().numpy()
        found = {k: s[0] for k, s in series.items()}
        assert all(len(s) == 1 for s in series.values())
        assert found["mean"] == pytest.approx(v.mean(), abs=1e-6)
        assert found["std"] == pytest.approx(v.std(), abs=1e-6)
        assert (found["min"], found["max"]) == (v.min(), v.max())
        expected = np.percentile(v.astype(np.float64), (15, 50, 85))
        np.testing.assert_allclose([found["p15"], found["p50"], found["p85"]], expected)
        assert found["histogram"].sum() == v.size
        np.testing.assert_array_equal(found["histogram"], np.histogram(v, 7)[0])
        assert found["nonfinite"] == 0
        assert found["grad_norm"] == pytest.approx(np.linalg.norm(grads[i]), rel=1e-5)
        assert found["grad_rms"] == pytest.approx(np.sqrt((grads[i] ** 2).mean()), rel=1e-5)
        assert found["dead"] == (v == 0).all(axis=0).mean()
    tanh = outputs[4].detach().numpy()
    assert probe["4"]["saturated"][0] == (abs(tanh) > 0.97).mean()
    assert np.isnan(probe["0"]["saturated"][0])
    assert "gap" not in probe["0"]
    into = outputs[0].detach().numpy().astype(np.float64)
    gap = -into.mean(0) / np.sqrt(into.var(0) + 1e-5)
    assert probe["1"]["gap"][0] == pytest.approx(np.sqrt((gap**2).mean()))
    ratio = 1 / (into.var(0) + 1e-5)
    assert probe["1"]["ratio"][0] == pytest.approx(np.exp(np.log(ratio).mean()), rel=1e-4)

    assert probe.parameters == list(weights)
    for name, p in model.named_parameters():
        before, found = weights[name], {k: s[0] for k, s in probe[name].items()}
        update = np.linalg.norm((p.detach().numpy() - before).astype(np.float64))
        assert found["norm"] == pytest.approx(np.linalg.norm(before), rel=1e-6)
        assert found["update_norm"] == pytest.approx(update, rel=1e-6)
        assert found["grad_norm"] == pytest.approx(update / 0.2, rel=1e-4, abs=1e-6)
        if found["norm"]:
            assert found["update_ratio"] == found["update_norm"] / found["norm"]


def test_every_and_keep_bound_the_memory():
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with inspect.Probe(model, every=3, keep=5, optimizer=optimizer) as probe:
        data = batches(1, (4,)) * 40
        train(model, optimizer, data)
    assert probe.steps.tolist() == [0, 12, 24, 36]
    assert probe.every == 12
    assert all(len(s) == 4 for path in probe for s in probe[path].values())


def test_only_training_is_recorded():
    model = mlp(nn.BatchNorm1d(6))
    x = mg.randn(8, 4)
    with inspect.Probe(model) as probe:
        with mg.no_grad():
            model(x)
        model.eval()
        model(x)
        model.train()
        inspect.jacobian(model, x[:3])  # a look
        inspect.smoothness(model, lambda: model(x).square().sum())
        probe.step()
        assert len(probe) == 0
        model(x).sum().backward()
        probe.step()
    assert probe.steps.tolist() == [1]


def test_of_several_calls_in_a_step_the_first_counts():
    model = mlp()
    x = mg.randn(8, 4)
    with inspect.Probe(model) as probe:
        for scale in (1.0, 100.0):  # gradients accumulated
            model(x * scale).sum().backward()
        probe.step()
    assert probe["0"]["max"][0] < 50
    np.testing.assert_allclose(probe["2" if "2" in probe.layers else "1"]["grad_rms"], [1.0])


def test_a_copy_of_the_model_is_not_watched():
    model = mlp()
    with inspect.Probe(model) as probe:
        twin = copy.deepcopy(model)
        twin(mg.randn(8, 4)).sum().backward()
        probe.step()
    assert len(probe) == 0


def test_which_layers():
    model = nn.Sequential(nn.Flatten(), mlp(nn.BatchNorm1d(6), nn.ReLU()), nn.Sigmoid())
    norm = model[1][1]
    for layers, paths in {
        "1.*": ["1.0", "1.1", "1.2", "1.3"],
        nn.Linear: ["1.0", "1.3"],
        norm: ["1.1"],
        (lambda path, m: path.endswith("2")): ["1.2", "2"],
    }.items():
        with inspect.Probe(model, layers) as probe:
            model(mg.randn(4, 4)).sum().backward()
            probe.step()
        assert probe.layers == paths
    assert list(inspect.Probe(model, ["2", nn.Linear])._watched) == ["1.0", "1.3", "2"]
    assert list(inspect.Probe(model)._watched) == ["1.0", "1.1", "1.2", "1.3", "2"]
    assert list(inspect.Probe(nn.Linear(2, 2))._watched) == ["Linear"]
    with pytest.raises(
        ValueError, match=r"no layer of the model is 'x\.\*'; there is Sequential, 0"
    ):
        inspect.Probe(model, "x.*")
    with pytest.raises(TypeError, match="got int"):
        inspect.Probe(model, 3)


def test_one_unit():
    """Figure 1(b, c) of the batch normalization paper watches one sigmoid."""
    model = mlp(nn.Sigmoid())
    x = mg.randn(32, 4)
    value = model[0](x).detach().numpy()[:, 2]
    with inspect.Probe(model, "0", unit=2) as probe:
        model(x).sum().backward()
        probe.step()
    expected = np.percentile(value.astype(np.float64), (15, 50, 85))
    np.testing.assert_allclose([probe["0"][k][0] for k in ("p15", "p50", "p85")], expected)
    assert probe["0"]["histogram"].sum() == 32
    with inspect.Probe(model, unit=5), pytest.raises(IndexError, match="axis 1 has 3 channels"):
        model(x)


def test_odd_outputs():
    class Odd(nn.Module):
        def forward(self, x):
            return {"nan": float("nan"), "int": 0, "none": 0}, x

    class Poison(nn.Module):
        def forward(self, x):
            return x / x.sign()  # 0 / 0

    class Constant(nn.Module):
        def forward(self, x):
            return mg.zeros(4, dtype="int64")

    model = nn.ModuleList([Odd(), Poison(), Constant()])
    x = mg.tensor([[1.0, 0.0], [2.0, 3.0]])
    with inspect.Probe(model) as probe:
        for layer in model:
            layer(x)
        probe.step()
    assert probe["0"]["max"] == 3  # the tensor among what it returned
    assert probe["1"]["nonfinite"] == 0.25
    assert probe["1"]["mean"] == 2
    assert (probe["2"]["mean"], probe["2"]["std"]) == (0, 0)
    assert probe["2"]["histogram"][0][0] == 4
    assert "grad_norm" not in probe["0"]


def test_dead_units():
    x = np.ones((4, 6, 3))
    x[:, 2] = 0
    assert dead(x[:, :, 0]) == 1 / 6
    assert dead(x) == 0  # axis 1 may be time, as well
    x[..., 0] = 0
    assert dead(x) == 1 / 6
    assert np.isnan(dead(x[0, 0]))


def test_fit_is_watched_through_its_optimizer():
    model = mlp(nn.BatchNorm1d(6), nn.ReLU())
    optimizer = optim.Adam(model.parameters())
    data = batches(5, (4,))
    with inspect.Probe(model, every=2, optimizer=optimizer) as probe:
        fit(model, data, data, optimizer=optimizer, epochs=2, progress=False)
    assert probe.steps.tolist() == [0, 2, 4, 6, 8]


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"watches an nn\.Module, got function"):
        inspect.Probe(lambda x: x)
    for name, value in (("every", 0), ("keep", 1), ("bins", 0)):
        with pytest.raises(ValueError, match=f"{name}= must be at least"):
            inspect.Probe(nn.ReLU(), **{name: value})


# ---- records ---------------------------------------------------------------------------------


@pytest.fixture
def probe():
    mg.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        nn.Sigmoid(),
        nn.Linear(6, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    with inspect.Probe(model, every=2, optimizer=optimizer) as probe:
        train(model, optimizer, batches(20, (4,)))
    return probe


def test_saved_and_loaded(probe, tmp_path):
    path = tmp_path / "run.records"
    probe.save(path)
    loaded = inspect.Probe.load(path)
    assert type(loaded) is inspect.Records
    assert loaded.layers == probe.layers and loaded.parameters == probe.parameters
    np.testing.assert_array_equal(loaded.steps, probe.steps)
    for name in probe:
        assert list(loaded[name]) == list(probe[name])
        for series, values in probe[name].items():
            np.testing.assert_array_equal(loaded[name][series], values)
    assert loaded.table() == probe.table()
    with np.load(path) as plain:  # readable without minigrad
        np.testing.assert_array_equal(plain["2/p50"], probe["2"]["p50"])
    empty = inspect.Records()
    empty.save(path)
    assert len(inspect.Records.load(path)) == 0


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    for write in (
        lambda: path.write_bytes(b""),
        lambda: path.write_text("hello"),
        lambda: (np.save(tmp_path / "x.npy", np.ones(3)), (tmp_path / "x.npy").rename(path)),
        lambda: np.savez(path, a=np.ones(3)),
        lambda: np.savez(path, a=np.array([{}])),
    ):
        write()
        with pytest.raises(mg.CheckpointError, match=r"x\.npz was not written by a Probe"):
            inspect.Records.load(path)
    np.savez(path, header=json.dumps({}), format=99, steps=np.ones(1))
    with pytest.raises(mg.CheckpointError, match="format 99, this minigrad reads up to 1"):
        inspect.Records.load(path)
    with pytest.raises(FileNotFoundError):
        inspect.Records.load(tmp_path / "none.npz")


def test_table_and_repr(probe):
    lines = probe.table().splitlines()
    assert lines[0] == "step 18 (10 recorded)"
    assert [line.split()[0] for line in lines[2:8]] == ["0", "1", "2", "3", "4", "5"]
    assert lines[9].split() == ["parameter", "norm", "gradient", "update", "update/norm"]
    assert repr(probe) == "<Probe: 10 records of 6 layers and 8 parameters>"
    assert inspect.Records().table() == "nothing recorded yet"
    with pytest.raises(KeyError, match="nothing is recorded of 'x'; there is '0', '1'"):
        probe["x"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["distributions", "ridges", "statistics", "gradients", "updates"])
def test_plots(probe, kind, theme, tmp_path):
    pytest.importorskip("matplotlib")
    figure = probe.plot(kind, tmp_path / "x.png", theme=theme)
    assert (tmp_path / "x.png").stat().st_size > 10_000
    axes = figure.axes[0]
    if kind == "distributions":
        np.testing.assert_array_equal(axes.lines[2].get_ydata(), probe["0"]["p50"])
    if kind == "gradients":
        last = [probe[layer]["grad_rms"][-1] for layer in probe.layers]
        np.testing.assert_array_equal(axes.lines[-1].get_ydata(), last)
    if kind == "updates":
        assert len(axes.lines) == 4  # the weights
        assert probe.plot(kind, layers=["0.bias"]).axes[0].lines
    else:
        assert probe.plot(kind, layers="2", theme=theme).axes


def test_plots_of_nothing(probe):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="kind= must be one of distributions, ridges"):
        probe.plot("pie")
    with pytest.raises(ValueError, match="nothing is recorded yet"):
        inspect.Records().plot()
    with pytest.raises(KeyError, match="nothing is recorded of 'x'"):
        probe.plot(layers=["x"])
    assert records._spread(range(100), 3) == [0, 50, 99]


def test_large_outputs_are_sampled():
    model = nn.Sequential(nn.Identity(), nn.Tanh())
    x = mg.randn(300, 400)
    with inspect.Probe(model, nn.Tanh) as probe:
        model(x)
        probe.step()
    found, v = {k: s[0] for k, s in probe["1"].items()}, x.tanh().numpy()
    assert 2**14 < found["histogram"].sum() <= 2**15
    assert (found["min"], found["max"]) == (v.min(), v.max())  # of all
    assert found["mean"] == pytest.approx(v.mean(dtype=np.float64))
    exact = np.percentile(v, (15, 50, 85))
    np.testing.assert_allclose([found[p] for p in ("p15", "p50", "p85")], exact, atol=0.02)
