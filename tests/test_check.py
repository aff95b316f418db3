"""check: what is wrong with a step, read off its tape; the sick are found, the healthy are not."""

from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim, viz
from minigrad.inspect import doctor
from minigrad.nn import functional as F
from minigrad.viz import health
from tests.fingerprint import fingerprint
from tests.test_doctor import HEALTHY, convolutions, mlp

G = mg.Generator().manual_seed(0)
X, Y = mg.randn(64, 10, generator=G), mg.randint(0, 4, (64,), generator=G)
IMAGES, LABELS = mg.randn(64, 1, 8, 8, generator=G), mg.randint(0, 10, (64,), generator=G)


@pytest.fixture(autouse=True)
def _seed():
    mg.manual_seed(0)


def net(act=nn.ReLU, width=64, bias=True):
    return nn.Sequential(nn.Linear(10, width, bias=bias), act(), nn.Linear(width, 4))


def checked(model, x=X, y=Y, **options):
    return viz.check(F.cross_entropy(model(x), y), model, **options)


def only(found):
    assert len(found) == 1, found.table()
    return found[0]


# ---- the rules -------------------------------------------------------------------------------


def test_not_finite():
    model, zero = nn.Linear(10, 4), mg.zeros(64, 4)
    product = (model(X) * zero).abs()
    f = only(viz.check((product.log() * 2 + 1).mean(), model))
    assert (f.rule, f.path, f.value) == ("not finite", "log", 256)
    assert f.message.startswith("log makes infinity of finite numbers (y = ln x)")
    assert f.said == "256 of 256 values; inputs 0"
    assert "clamp_min" in f.remedy
    assert f.node == "op3"  # linear, mul, abs, log
    f = only(viz.check((model(X) * zero / zero).sum(), model))
    assert f.message.startswith("div makes NaN of finite numbers")
    with mg.no_grad():
        model.weight[0, 0] = float("inf")
    f = only(viz.check(model(X).sum(), model))
    assert (f.path, f.message[:17]) == ("weight", "it holds infinity")
    assert f.said == "goes into Linear"


def test_a_batch_that_holds_nan_is_named():
    model, x = net(), X.clone()
    x[3, 4] = float("nan")
    f = only(checked(model, x))
    assert (f.path, f.value) == ("x", 1)
    assert f.message == "it holds NaN before anything is computed"


def test_infinity_that_is_meant_is_no_finding():
    model, mask = nn.Linear(10, 4), mg.zeros(64, 4, dtype=mg.bool)
    mask[:, 1:] = True
    scores = model(X).masked_fill(mask, -float("inf"))
    assert not [f for f in viz.check(F.softmax(scores, 1).square().mean()) if f.rule[:3] == "not"]
    mask[5] = True  # a row with nothing in it
    scores = model(X).masked_fill(mask, -float("inf"))
    f = viz.check(F.softmax(scores, 1).square().mean(), model)[0]
    assert (f.rule, f.path, f.value) == ("not finite", "softmax", 4)
    assert f.message.startswith("softmax makes NaN of infinity")
    assert "masked" in f.remedy


def test_not_finite_backward():
    model = nn.Linear(10, 4)
    norms = (model(X) * mg.zeros(64, 4)).square().sum(1).sqrt()
    f = only(viz.check(norms.mean(), model))
    assert (f.rule, f.path, f.value) == ("not finite", "sqrt", 64)
    assert f.message.startswith("the backward of sqrt makes infinity of a finite gradient")
    assert f.said == "inputs 0, arriving 0.0156"


def test_where_in_the_program():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(10, 4)

        def forward(self, x):
            return (self.fc(x) * 0).log()

    model = Broken()
    f = only(viz.check(model(X).mean(), model))
    line = Broken.forward.__code__.co_firstlineno
    assert f.path == "Broken (log)"
    assert f.message.endswith(f", in Broken.forward (test_check.py:{line})")


def test_small_batch():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4))
    f = only(viz.check((model(IMAGES[:1]) ** 3).mean(), model))
    assert (f.rule, f.path, f.value) == ("small batch", "1", 1)
    assert "36 values a channel" in f.message


def test_dead_bias():
    model = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    f = only(checked(model))
    assert (f.rule, f.path) == ("dead bias", "0.bias")
    assert f.message.startswith("1 (BatchNorm1d) takes the mean off again")
    assert f == inspect.diagnose(model, (X, Y))[0]  # the very same finding
    assert not checked(model.eval())  # by running statistics, it is learnt


def test_dead_bias_before_a_norm_of_primitives():
    norm = nn.BatchNorm1d(8, fused=False)
    f = only(checked(nn.Sequential(nn.Linear(10, 8), norm, nn.ReLU(), nn.Linear(8, 4))))
    assert (f.rule, f.path) == ("zero gradient", "0.bias")
    assert f.message.startswith("what comes after takes it off again")
    assert f.value < 1e-6


def test_zero_gradient():
    model = net()
    with mg.no_grad():
        model[0].bias[:] = -100.0
    found = {f.path: f for f in checked(model) if f.rule == "zero gradient"}
    assert list(found) == ["0.weight", "0.bias", "2.weight"]
    assert found["0.bias"].message == "no gradient gets past 1, whose units are all dead"
    assert found["2.weight"].message == "no gradient gets past 2, whose x is 0 throughout"
    assert found["0.weight"].said == "|dL/dweight| = 0"
    block = nn.Sequential(nn.Linear(10, 10, bias=False), nn.BatchNorm1d(10))
    nn.init.zeros_(block[1].weight)
    f = only(viz.check((X + block(X)).square().mean(), block))
    assert (f.path, f.message) == (
        "0.weight",
        "no gradient gets past 1, whose gamma is 0 throughout",
    )


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.spare = nn.Linear(10, 4), nn.Linear(10, 4), nn.Linear(3, 3)
        self.spare.requires_grad_(False)

    def forward(self, x):
        return self.a(x) + self.b(x).detach()


def test_not_reached():
    model = Two()
    found = checked(model)
    assert [(f.rule, f.path) for f in found] == [
        ("not reached", "b.weight"), ("not reached", "b.bias"),
    ]  # fmt: skip
    assert found[0].said == "40 numbers that stay as they are"
    assert not viz.check(F.cross_entropy(model(X), Y))  # without the model, nobody knows


def test_vanishing_gradient():
    layers = [m for _ in range(10) for m in (nn.Linear(10, 10), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(10, 4))
    loss = F.cross_entropy(model(X), Y)
    found = viz.check(loss, model)
    assert {f.rule for f in found} == {"vanishing gradient"}
    assert found[0].path == "0.weight"
    loss.backward()
    norms = {i: float(np.linalg.norm(model[i].weight.grad.array)) for i in range(0, 21, 2)}
    assert found[0].value == pytest.approx(norms[0] / norms[20], rel=1e-4)
    small = [i for i, norm in norms.items() if norm < 1e-4 * norms[20]]
    assert [f.path for f in found] == [f"{i}.weight" for i in small]


def test_exploding_gradient():
    layers = nn.Linear(10, 10, bias=False), nn.LayerNorm(10, eps=1e-30), nn.Linear(10, 4)
    model = nn.Sequential(*layers)
    assert not checked(model)
    with mg.no_grad():
        model[0].weight.mul_(1e-6)  # the norm makes up for it: values stay, the slope is 1e6
    f = only(checked(model))
    assert (f.rule, f.path) == ("exploding gradient", "0.weight")
    assert f.value > 1e4


def test_saturated():
    model = net(nn.Tanh)
    assert not checked(model)
    with mg.no_grad():
        model[0].weight.mul_(100)
    f = only(checked(model))
    assert (f.rule, f.path) == ("saturated", "1")
    y = model[:2](X).array
    assert f.value == pytest.approx(float((abs(y) > 0.97).mean()))
    assert f == inspect.diagnose(model, (X, Y))[0]


def test_dead_units():
    model = net()
    with mg.no_grad():
        model[0].bias[:30] = -100.0
    f = only(checked(model))
    assert (f.rule, f.path, f.said, f.node) == ("dead units", "1", "30 of 64 units", "op1")
    assert f == inspect.diagnose(model, (X, Y))[0]


def test_constant_channel():
    model = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 4))
    x = X.clone()
    x[:, 3] = 0.001
    f = only(checked(model, x))
    assert (f.rule, f.path) == ("constant channel", "0")
    assert f.message.startswith("1 of 10 channels hardly vary")
    model = nn.Sequential(nn.LayerNorm(10), nn.Linear(10, 4))
    assert only(checked(model, x * 1e-4 + 3)).message.startswith("64 of 64 samples hardly vary")


def test_promoted():
    model, wide = nn.Linear(10, 4), mg.ones(4, dtype=mg.float64)
    product = model(X) * wide
    f = only(viz.check((product.tanh() + 1).mean(), model))
    assert (f.rule, f.path, f.value) == ("promoted", "cast", 8)
    assert f.message.startswith(
        "from here on values are float64, in a graph of float32: b is float64"
    )
    assert "minigrad.float32" in f.remedy
    double = nn.Linear(10, 4).double()
    assert not viz.check(double(X.double()).mean(), double)


def test_update_size():
    model = net()
    for lr, said in ((1e4, "much of itself"), (1e-9, "next to nothing")):
        found = checked(model, optimizer=optim.SGD(model.parameters(), lr=lr))
        assert [f.path for f in found] == ["0.weight", "2.weight"]
        assert {f.rule for f in found} == {"update size"}
        assert said in found[0].message
    assert not checked(model, optimizer=optim.SGD(model.parameters(), lr=0.1))


def test_every_rule_is_tested_and_told():
    text = Path(__file__).read_text(encoding="utf-8")
    for rule in health.RULES:
        assert f"def test_{rule.replace(' ', '_')}(" in text
        assert f"    {rule}" in viz.check.__doc__


def test_the_doctor_has_the_same_thresholds():
    for rule in ("small batch", "dead bias", "saturated", "dead units", "constant channel"):
        assert doctor.RULES[rule] is health.RULES[rule]


# ---- the healthy, and the look ---------------------------------------------------------------


@pytest.mark.parametrize("name", HEALTHY)
def test_the_healthy_stay_silent(name):
    make, optimize = HEALTHY[name]
    model = make()
    for mode in (True, False):
        loss = F.cross_entropy(model.train(mode)(IMAGES), LABELS)
        found = viz.check(loss, model, optimizer=optimize(model))
        assert not found and not found.unseen, found.table()


@pytest.mark.parametrize("after", [False, True])
def test_a_check_changes_nothing(after):
    model = convolutions()
    optimizer = optim.Adam(model.parameters(), lr=0.5)
    loss = F.cross_entropy(model(IMAGES), LABELS)
    if after:
        loss.backward()
    before = fingerprint(model, optimizer=optimizer)
    found = viz.check(loss, model, optimizer=optimizer)
    assert found == viz.check(loss, model, optimizer=optimizer)
    assert fingerprint(model, optimizer=optimizer) == before
    if not after:
        loss.backward()  # the tape is still whole
    assert all(p.grad is not None for p in model.parameters())


def test_after_backward_it_finds_the_same():
    model = mlp(nn.BatchNorm1d(48), bias=True)
    loss = F.cross_entropy(model(IMAGES), LABELS)
    before = viz.check(loss, model)
    loss.backward()
    assert before and viz.check(loss, model) == before
    assert viz.check(loss) == before  # names from the tape


def test_what_is_gone_is_said():
    model = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    loss = F.cross_entropy(model(X * 1), Y)  # the batch is held by nobody
    loss.backward()
    found = viz.check(loss, model)
    assert [f.path for f in found] == ["0.bias"]  # by the gradients that are there
    assert found.unseen.startswith("not looked at: the values of 4 ops")
    assert found.table().endswith("check before backward())")


def test_what_cannot_be_checked():
    with pytest.raises(mg.GraphError, match="no tape to read"):
        viz.check(X)
    with pytest.raises(TypeError, match="got nothing"):
        viz.check([])
    with pytest.raises(TypeError, match="got float"):
        viz.check([1.0])
    assert str(viz.Diagnosis()) == "No findings."
