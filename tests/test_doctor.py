"""The doctor: one ill model for each rule, found with path and remedy; the healthy stay silent."""

from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.data import load_digits
from minigrad.inspect import doctor
from minigrad.nn import functional as F
from minigrad.training import fit
from tests.fingerprint import fingerprint


@pytest.fixture(autouse=True)
def _seed():
    mg.manual_seed(0)


def digits(n=1200):
    train, _ = load_digits()
    x, y = zip(*(train[i] for i in range(n)), strict=True)
    return mg.stack(x), mg.tensor([int(v) for v in y])


X, Y = digits()


def trained(model, optimizer, epochs=3, size=64, loss=F.cross_entropy, shape=None):
    x = X if shape is None else X.reshape(-1, *shape)
    batches = [(x[i : i + size], Y[i : i + size]) for i in range(0, len(Y) - size + 1, size)]
    fit(model, batches, optimizer=optimizer, epochs=epochs, loss=loss, progress=False)
    return model, batches[0]


def mlp(*norms, act=nn.ReLU, bias=False):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 48, bias=bias), *norms[:1], act(),
        nn.Linear(48, 32, bias=bias), *norms[1:], act(),
        nn.Linear(32, 10),
    )  # fmt: skip


def only(diagnosis):
    """The one finding there is."""
    assert len(diagnosis) == 1, diagnosis.table()
    return diagnosis[0]


# ---- one ill model for each rule -------------------------------------------------------------


def test_small_batch():
    model = mlp(nn.BatchNorm1d(48), nn.BatchNorm1d(32))
    found = inspect.diagnose(model, (X[:2], Y[:2]))
    assert [f.path for f in found if f.rule == "small batch"] == ["2", "5"]
    assert found[0].value == 2
    assert found[0].said == "2 samples in the batch"
    assert "drop_last=True" in found[0].remedy
    f = only(inspect.diagnose(model, (X[:1], Y[:1])))  # where the forward pass fails
    assert (f.rule, f.path, f.value) == ("small batch", "2", 1)
    assert "from 1 value a channel, and cannot" in f.message
    image = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4))
    f = only(inspect.diagnose(image, X[:1]))
    assert (f.rule, f.path) == ("small batch", "1")
    assert "from 36 values a channel" in f.message


@pytest.mark.parametrize("fused", [True, False])
def test_dead_bias(fused):
    model = mlp(nn.BatchNorm1d(48, fused=fused), nn.BatchNorm1d(32, fused=fused), bias=True)
    found = inspect.diagnose(model, (X[:64], Y[:64]))
    assert [(f.rule, f.path) for f in found] == [("dead bias", "1.bias"), ("dead bias", "4.bias")]
    assert found[0].value < 1e-4
    assert found[0].message.startswith("2 (BatchNorm1d) takes the mean off again")
    assert found[0].remedy == "nn.Linear(..., bias=False)"
    conv = nn.Sequential(nn.Conv1d(1, 4, 3), nn.InstanceNorm1d(4), nn.ReLU(), nn.Conv1d(4, 2, 3))
    f = only(inspect.diagnose(conv, X[:16].reshape(16, 1, 64)))
    assert (f.path, f.remedy) == ("0.bias", "nn.Conv1d(..., bias=False)")


def test_a_bias_that_lives_is_left_in_peace():
    for norm in (nn.GroupNorm(2, 48), nn.LayerNorm(48), nn.BatchNorm1d(48).eval()):
        model = mlp(norm, bias=True)
        assert not [f for f in inspect.diagnose(model, (X[:64], Y[:64])) if f.rule == "dead bias"]


def test_cold_statistics():
    model = mlp(nn.BatchNorm1d(48), nn.BatchNorm1d(32, momentum=None))
    with mg.no_grad():
        for i in range(5):
            model(X[64 * i : 64 * i + 64])
    f = only(inspect.diagnose(model, (X[:64], Y[:64])))
    assert (f.rule, f.path) == ("cold statistics", "2")
    assert f.value == pytest.approx(1 - 0.9**5)
    assert f.said == "has seen 41% (5 batches, momentum 0.1)"
    assert f.remedy.startswith("evaluate after 17 more batches, or momentum=None")
    with mg.no_grad():
        for i in range(17):
            model(X[64 * (i % 8) : 64 * (i % 8) + 64])
    rules = {f.rule for f in inspect.diagnose(model, (X[:64], Y[:64]))}
    assert "cold statistics" not in rules  # "after 17 more" was right


def test_statistics_that_never_saw_a_batch_matter_in_eval_mode():
    model = mlp(nn.BatchNorm1d(48), nn.BatchNorm1d(32, momentum=1.0))
    f = [f for f in inspect.diagnose(model, X[:64]) if f.rule == "cold statistics"]
    assert not f
    f = [f for f in inspect.diagnose(model.eval(), X[:64]) if f.rule == "cold statistics"]
    assert [(g.path, g.said) for g in f] == [
        ("2", "has seen 0% (0 batches, momentum 0.1)"),
        ("5", "has seen 0% (0 batches, momentum 1.0)"),
    ]
    model = mlp(nn.BatchNorm1d(48, momentum=0.0))
    model(X[:64])
    assert "momentum=0.1: with 0" in only(inspect.diagnose(model, X[:64])).remedy


def test_debiased_and_frozen_statistics():
    model = mlp(nn.BatchNorm1d(48, debias=True))
    model(X[:64])
    assert not inspect.diagnose(model, (X[:64], Y[:64]))
    model = mlp(nn.BatchNorm1d(48).freeze(), bias=True)
    assert not inspect.diagnose(model, (X[:2], Y[:2]))  # no batch's statistics, no dead bias
    f = only(inspect.diagnose(model.eval(), (X[:64], Y[:64])))
    assert (f.rule, f.path) == ("cold statistics", "2")


def test_statistics_apart():
    model, (x, y) = trained(mlp(nn.BatchNorm1d(48)), None or optim.SGD([mg.zeros(1)]), epochs=2)
    assert not inspect.diagnose(model, (x, y))
    f = only(inspect.diagnose(model, (x * 4, y)))  # other preprocessing than in training
    assert (f.rule, f.path) == ("statistics apart", "2")
    assert "by a factor of 1" in f.said  # 16, or a little more
    assert "the same preprocessing" in f.remedy
    f = only(inspect.diagnose(model, (x + 2, y)))
    assert f.rule == "statistics apart" and f.value > 1.5


@pytest.mark.parametrize(("momentum", "meant"), [(0.9, "0.1"), (0.99, "0.01"), (1.0, "0.1")])
def test_opposite_momentum(momentum, meant):
    model = mlp(nn.BatchNorm1d(48, momentum=momentum))
    f = only(inspect.diagnose(model, (X[:64], Y[:64])))
    assert (f.rule, f.path, f.value) == ("opposite momentum", "2", momentum)
    assert f.remedy.startswith(f"momentum={meant}: here it weighs the new batch")
    norm = nn.InstanceNorm1d(3, momentum=0.9, track_running_stats=True)
    assert only(inspect.diagnose(norm, mg.randn(4, 3, 9))).path == "InstanceNorm1d"


def test_constant_channel():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    x = X[:64].clone()
    x[:, 0, :2, 0] = 0.5  # two pixels at the border
    x[:, 0, :, 1:] = mg.randn(64, 8, 7)
    x[:, 0, 2:, 0] = mg.randn(64, 6)
    f = only(inspect.diagnose(model, (x, Y[:64])))
    assert (f.rule, f.path, f.value) == ("constant channel", "1", 0.0)
    assert f.message.startswith("2 of 64 channels hardly vary")
    assert f.said == "smallest variance 0 < ε = 1e-05"
    tiny = nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10))
    f = only(inspect.diagnose(tiny, (x * 1e-4, Y[:64])))
    assert (f.rule, f.path) == ("constant channel", "1")
    assert f.message.startswith("64 of 64 samples hardly vary")


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.Tanh])
def test_saturated(act):
    model = mlp(act=act, bias=True)
    with mg.no_grad():
        model[1].weight.mul_(60)
    f = only(inspect.diagnose(model, (X[:64], Y[:64])))
    assert (f.rule, f.path) == ("saturated", "2")
    assert f.value > 0.5 and f.said == f"{f.value:.0%} of the values are saturated"
    assert "xavier" in f.remedy


def test_an_output_may_be_sure():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())
    with mg.no_grad():
        model[1].weight.mul_(100)
    assert not inspect.diagnose(model, X[:64])


def test_dead_units():
    model = mlp(bias=True)
    with mg.no_grad():
        model[1].bias[:20] = -50.0
    f = only(inspect.diagnose(model, (X[:64], Y[:64])))
    assert (f.rule, f.path) == ("dead units", "2")
    silent = int(f.said.split()[0])
    assert f.value == silent / 48 and 20 <= silent < 30
    assert "LeakyReLU" in f.remedy

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.head = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, x):
            return self.head(F.relu(self.fc(x.flatten(1)) - 100))

    f = only(inspect.diagnose(Functional(), (X[:64], Y[:64])))
    assert (f.path, f.said) == ("Functional (relu)", "8 of 8 units")


def test_decayed_norm():
    model = mlp(nn.BatchNorm1d(48), nn.LayerNorm(32))
    optimizer = optim.AdamW(model.parameters())
    found = inspect.diagnose(model, (X[:64], Y[:64]), optimizer=optimizer)
    assert [(f.rule, f.path, f.value) for f in found] == [
        ("decayed norm", "2", 0.01),
        ("decayed norm", "5", 0.01),
    ]
    assert found[0].remedy.startswith("AdamW(optim.param_groups(model, weight_decay=0.01), ...)")
    cured = optim.AdamW(optim.param_groups(model, weight_decay=0.01))
    assert not inspect.diagnose(model, (X[:64], Y[:64]), optimizer=cured)


def test_update_size():
    model = mlp(bias=True)
    large = optim.Adam(model.parameters(), lr=0.2)
    found = inspect.diagnose(model, (X[:64], Y[:64]), optimizer=large)
    assert [(f.rule, f.path) for f in found] == [("update size", f"{i}.weight") for i in (1, 3, 5)]
    before = model[5].weight.detach().clone()
    F.cross_entropy(model(X[:64]), Y[:64]).backward()
    large.step()
    ratio = float((model[5].weight - before).norm() / before.norm())
    assert found[-1].value == pytest.approx(ratio, rel=1e-5)  # the step that was then taken
    assert found[-1].remedy.startswith("a smaller lr")
    mg.manual_seed(0)
    model = mlp(bias=True)
    small = optim.SGD(model.parameters(), lr=1e-6)
    found = inspect.diagnose(model, (X[:64], Y[:64]), optimizer=small)
    assert {f.rule for f in found} == {"update size"} and len(found) == 3
    assert found[0].remedy.startswith("a larger lr")


def test_every_rule_is_tested_and_told():
    text = Path(__file__).read_text(encoding="utf-8")
    for rule in doctor.RULES:
        assert f"def test_{rule.replace(' ', '_')}(" in text
        assert f"    {rule}" in inspect.diagnose.__doc__


# ---- healthy models --------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([self.block(), self.block()])
        self.head = nn.Linear(8, 10)

    def block(self):
        return nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
        )  # fmt: skip

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Rows of the image as tokens, through transformer blocks with LayerNorm."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.places = nn.Parameter(mg.randn(8, 16) * 0.1)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x.squeeze(1)) + self.places).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 24, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10),
    )  # fmt: skip


def decayed(kind, **settings):
    return lambda m: kind(optim.param_groups(m, weight_decay=1e-3), **settings)


HEALTHY = {
    "MLP with BatchNorm": (
        lambda: mlp(nn.BatchNorm1d(48), nn.BatchNorm1d(32)),
        decayed(optim.AdamW, lr=2e-3),
    ),
    "CNN with BatchNorm": (convolutions, decayed(optim.SGD, lr=0.05, momentum=0.9)),
    "residual CNN": (Residual, decayed(optim.Adam, lr=3e-3)),
    "transformer with LayerNorm": (Attention, decayed(optim.AdamW, lr=3e-3)),
    "LSTM": (Recurrent, decayed(optim.Adam, lr=5e-3)),
    "sigmoid MLP of the paper with BatchNorm": (
        lambda: mlp(nn.BatchNorm1d(48), nn.BatchNorm1d(32), act=nn.Sigmoid),
        decayed(optim.SGD, lr=0.3),
    ),
    "plain MLP": (lambda: mlp(bias=True), decayed(optim.Momentum, lr=0.05)),
    "GroupNorm CNN": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.Tanh(), nn.Flatten(), nn.Linear(288, 10)
        ),
        decayed(optim.RMSprop, lr=1e-3),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_the_healthy_stay_silent(name):
    make, optimize = HEALTHY[name]
    model = make()
    optimizer = optimize(model)
    batch = (X[-64:], Y[-64:])
    assert not inspect.diagnose(model, batch, optimizer=optimizer)  # at the start
    trained(model, optimizer, epochs=3)
    for state in (model.train(), model.eval()):
        for part in (batch, batch[0]):
            found = inspect.diagnose(state, part, optimizer=optimizer)
            assert not found, found.table()


# ---- the look --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
def test_a_diagnosis_changes_nothing(mode):
    model = convolutions()
    optimizer = optim.Adam(model.parameters(), lr=0.5)
    trained(model, optimizer, epochs=1)
    model.train(mode)
    before = fingerprint(model, optimizer=optimizer)
    first = inspect.diagnose(model, (X[:64], Y[:64]), optimizer=optimizer)
    assert first == inspect.diagnose(model, (X[:64], Y[:64]), optimizer=optimizer)
    with pytest.raises(ValueError):
        inspect.diagnose(model, X[:64, :, :4])
    assert fingerprint(model, optimizer=optimizer) == before


def test_batches_losses_and_outputs_of_all_kinds():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
            self.norm = nn.BatchNorm1d(4, momentum=0.9)

        def forward(self, x, y):
            return {"value": self.norm(self.a(x) + self.b(y))}

    batch = ((mg.randn(32, 3), mg.randn(32, 2)), mg.randn(32, 4))
    loss = lambda out, target: F.l1_loss(out["value"], target)  # noqa: E731
    assert only(inspect.diagnose(Two(), batch, loss=loss)).path == "norm"
    with pytest.raises(TypeError, match="the model returned dict; pass loss="):
        inspect.diagnose(Two(), batch)
    with pytest.raises(TypeError, match="returns a tensor of one element"):
        inspect.diagnose(Two(), batch, loss=lambda out, target: out["value"])
    assert not inspect.diagnose(nn.Linear(3, 2), (mg.randn(32, 3), mg.randn(32, 2)))
    assert not inspect.diagnose(nn.GRU(3, 2), mg.randn(5, 4, 3))
    assert not inspect.diagnose(nn.Linear(3, 2).requires_grad_(False), mg.randn(32, 3))


def test_the_table():
    found = inspect.diagnose(mlp(nn.BatchNorm1d(48, momentum=0.9)), (X[:64], Y[:64]))
    assert found.table().splitlines() == [
        "1 finding",
        "2  opposite momentum: running estimates forget: a batch weighs 0.9, the past 0.1",
        "   momentum = 0.9",
        "   → momentum=0.1: here it weighs the new batch, in Keras the old estimate",
    ]
    assert str(found) == repr(found) == found.table()
    assert inspect.Diagnosis().table() == "No findings."


def test_a_layer_used_twice_is_reported_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            return self.bn(self.fc(self.bn(self.fc(x)).tanh()))

    f = only(inspect.diagnose(Twice(), mg.randn(32, 4)))
    assert (f.rule, f.path) == ("dead bias", "fc.bias")
    assert np.isfinite(f.value)
