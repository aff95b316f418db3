"""Averaged models, BatchNorm's statistics for them, their schedule; groups without weight decay."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.errors import ShapeError
from minigrad.optim import SGD, param_groups
from minigrad.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def net():
    mg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()


def batches(n=5, size=8):
    rng = np.random.default_rng(0)
    return [Tensor(rng.standard_normal((size, 3)) * (i + 1), dtype="float64") for i in range(n)]


def shake(model, rng):
    with mg.no_grad():
        for p in [*model.parameters(), *model.buffers()]:
            noise = np.abs(rng.standard_normal(p.shape)) * 5
            p.copy_(Tensor(noise.tolist(), dtype=p.dtype))


def weights(model):
    return {k: np.array(v.numpy()) for k, v in model.state_dict().items()}


def assert_same(a, b):
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# ---- averages ----------------------------------------------------------------------------------

RULES = {
    "default": lambda s: {},
    "swa": lambda s: {"avg_fn": s.get_swa_avg_fn()},
    "ema": lambda s: {"avg_fn": s.get_ema_avg_fn(0.9)},
    "multi swa": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "multi ema": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9)},
    "own": lambda s: {"avg_fn": lambda a, w, n: 0.25 * a + 0.75 * w},
}


@pytest.mark.parity
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_averages_as_pytorch(rule, use_buffers):
    torch = pytest.importorskip("torch")
    if rule == "multi swa" and use_buffers:
        pytest.skip("PyTorch cannot divide the count of batches in this rule")
    tolerance = 1e-6 if rule == "multi swa" else 1e-12  # PyTorch's share is a float32 there
    there = torch.optim.swa_utils
    model = net()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    ).double()
    ours = AveragedModel(model, **RULES[rule](optim.swa_utils), use_buffers=use_buffers)
    oracle = there.AveragedModel(theirs, **RULES[rule](there), use_buffers=use_buffers)
    rng = np.random.default_rng(1)
    for _ in range(20):
        shake(model, rng)
        theirs.load_state_dict({k: torch.tensor(v) for k, v in weights(model).items()})
        ours.update_parameters(model)
        oracle.update_parameters(theirs)
        here, far = weights(ours), {k: v.numpy() for k, v in oracle.state_dict().items()}
        assert set(here) == set(far)
        for key in here:
            np.testing.assert_allclose(here[key], far[key], rtol=tolerance, err_msg=key)


def test_the_mean_and_the_moving_average():
    model = nn.Linear(1, 1, bias=False).double()
    mean, moving = AveragedModel(model), AveragedModel(model, avg_fn=get_ema_avg_fn(0.5))
    for i, w in enumerate([4.0, 8.0, 0.0, 2.0]):
        nn.init.constant_(model.weight, w)
        mean.update_parameters(model)
        moving.update_parameters(model)
        assert mean.module.weight.item() == pytest.approx(np.mean([4.0, 8.0, 0.0, 2.0][: i + 1]))
    assert moving.module.weight.item() == 2.5  # ((4 + 8) / 2 + 0) / 2 -> (3 + 2) / 2
    assert int(mean.n_averaged) == 4


def test_an_average_of_its_own():
    model = net()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    before = weights(averaged)
    shake(model, np.random.default_rng(0))
    assert_same(weights(averaged), before)
    np.testing.assert_array_equal(
        AveragedModel(model)(batches()[0]).shape, model(batches()[0]).shape
    )
    assert all(p.requires_grad for p in averaged.parameters())


def test_an_average_is_saved_and_resumed():
    model, rng = net(), np.random.default_rng(0)
    whole = AveragedModel(model)
    for i in range(6):
        shake(model, rng)
        whole.update_parameters(model)
        if i == 2:
            saved = copy.deepcopy(whole.state_dict())
    model, rng = net(), np.random.default_rng(0)
    rest = AveragedModel(model)
    rest.load_state_dict(saved)
    for i in range(6):
        shake(model, rng)
        if i > 2:
            rest.update_parameters(model)
    assert_same(weights(rest), weights(whole))


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: get_ema_avg_fn(1.5), ValueError, "between 0 and 1, got 1.5"),
        (lambda: get_ema_multi_avg_fn(-0.1), ValueError, "between 0 and 1"),
        (
            lambda: AveragedModel(net(), None, get_swa_avg_fn(), get_swa_multi_avg_fn()),
            AssertionError,
            "not both",
        ),
        (lambda: AveragedModel([1]), TypeError, "takes a module, got list"),
        (
            lambda: AveragedModel(net()).update_parameters(nn.Linear(1, 1)),
            ValueError,
            "6 parameters, this one 2",
        ),
        (
            lambda: AveragedModel(nn.Linear(1, 2)).update_parameters(nn.Linear(2, 1)),
            ShapeError,
            r"parameter 0 has shape \(2, 1\) in the averaged model, \(1, 2\)",
        ),
        (lambda: SWALR(SGD(net().parameters()), 0.1, anneal_strategy="x"), ValueError, "'linear'"),
        (lambda: SWALR(SGD(net().parameters()), 0.1, anneal_epochs=-1), ValueError, "at least 0"),
        (lambda: SWALR(SGD(net().parameters()), 0.1, 2.5), ValueError, "got 2.5"),
        (lambda: SWALR(SGD(net().parameters()), [0.1, 0.2]), ValueError, "swa_lr must have the"),
        (lambda: SWALR(SGD(net().parameters()), -0.1), ValueError, r"swa_lr\[0\]"),
    ],
)
def test_misuse(build, error, match):
    with pytest.raises(error, match=match):
        build()


# ---- update_bn ---------------------------------------------------------------------------------


@pytest.mark.parity
def test_statistics_as_pytorch():
    torch = pytest.importorskip("torch")
    model = net()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    ).double()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in weights(model).items()})
    data = [b.double() for b in batches()]
    update_bn(data, model)
    torch.optim.swa_utils.update_bn([torch.tensor(b.numpy()) for b in data], theirs)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(weights(model)[key], value.numpy(), rtol=1e-9, err_msg=key)


def test_statistics_are_the_mean_over_the_batches():
    model = nn.BatchNorm1d(3).double()
    data = [b.double() for b in batches()]
    update_bn([(b, "target") for b in data], model)
    arrays = [b.numpy() for b in data]
    np.testing.assert_allclose(model.running_mean.numpy(), np.mean([a.mean(0) for a in arrays], 0))
    np.testing.assert_allclose(
        model.running_var.numpy(), np.mean([a.var(0, ddof=1) for a in arrays], 0)
    )
    assert int(model.num_batches_tracked) == len(data)


def test_everything_else_is_left_alone():
    model = net()
    model.train()
    model[1].eval()  # a frozen BatchNorm
    model[1].momentum = 0.3
    for p in model.parameters():
        p.grad = Tensor(np.ones(p.shape))
    before = {k: v for k, v in weights(model).items() if "running" not in k and "num_" not in k}
    update_bn([b.double() for b in batches()], model)
    after = {k: v for k, v in weights(model).items() if k in before}
    assert_same(before, after)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert model[1].momentum == 0.3
    assert all((p.grad.numpy() == 1).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("loader", "error"),
    [([], ValueError), ([Tensor(np.ones((4, 3))), Tensor(np.ones((4, 7)))], ShapeError)],
)
def test_an_error_leaves_the_statistics_as_they_were(loader, error):
    model = net()
    model(batches()[0].double())
    model.eval()
    before = weights(model)
    with pytest.raises(error):
        update_bn([b.double() for b in loader], model)
    assert_same(before, weights(model))
    assert not any(m.training for m in model.modules())
    assert model[1].momentum == 0.1


def test_a_model_without_statistics_is_not_run():
    def loader():
        raise AssertionError
        yield

    update_bn(loader(), nn.Linear(3, 2))
    update_bn(loader(), nn.BatchNorm1d(3, track_running_stats=False))


# ---- SWALR -------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 10])
@pytest.mark.parametrize("swa_lr", [0.05, [0.5, 0.01]])
def test_swalr_as_pytorch(strategy, epochs, swa_lr):
    torch = pytest.importorskip("torch")
    a = SGD([{"params": [nn.Parameter(Tensor(1.0))], "lr": lr} for lr in (0.1, 0.3)])
    b = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.ones(()))], "lr": lr} for lr in (0.1, 0.3)]
    )
    ours = SWALR(a, swa_lr, epochs, strategy)
    theirs = torch.optim.swa_utils.SWALR(b, swa_lr, epochs, strategy)
    for i in range(25):
        np.testing.assert_allclose(ours.get_last_lr(), theirs.get_last_lr(), rtol=1e-9)
        if i == 5:
            state = theirs.state_dict()
            ours = SWALR(a, 0.5)
            ours.load_state_dict(state)
            for here, far in zip(a.param_groups, b.param_groups, strict=True):
                here.update(lr=far["lr"], swa_lr=far["swa_lr"])
        for scheduler in (ours, theirs):
            scheduler.optimizer.step()
            scheduler.step()


def test_swalr_goes_along_a_line():
    optimizer = SGD([nn.Parameter(Tensor(1.0))], lr=1.0)
    scheduler = SWALR(optimizer, 0.5, anneal_epochs=2, anneal_strategy="linear")
    lrs = []
    for _ in range(4):
        lrs += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert lrs == [1.0, 0.75, 0.5, 0.5]


# ---- groups ------------------------------------------------------------------------------------


def names(groups):
    return [(g["weight_decay"], [n for n, _ in g["params"]]) for g in groups]


def test_norms_and_biases_get_no_weight_decay():
    assert names(param_groups(net(), 0.1)) == [
        (0.1, ["0.weight", "3.weight"]),
        (0.0, ["0.bias", "1.weight", "1.bias", "3.bias"]),
    ]


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        ("norm", ["1.weight", "1.bias"]),
        ("bias", ["0.bias", "1.bias", "3.bias"]),
        (" bias , norm ", ["0.bias", "1.weight", "1.bias", "3.bias"]),
        (["norm"], ["1.weight", "1.bias"]),
        ("embedding", None),
        ("", None),
    ],
)
def test_words(words, spared):
    groups = param_groups(net(), 0.1, words)
    assert [n for g in groups[1:] for n, _ in g["params"]] == (spared or [])
    assert sum(len(g["params"]) for g in groups) == 6


def test_every_norm_is_known():
    for model in (nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.LayerNorm(3)):
        ((decay, listed),) = names(param_groups(nn.Sequential(model), 0.1, "norm"))
        assert (decay, listed) == (0.0, ["0.weight", "0.bias"])


def test_a_shared_parameter_is_listed_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert names(param_groups(model, 0.1)) == [(0.1, ["0.weight"]), (0.0, ["0.bias", "1.bias"])]


def test_decay_stays_with_the_weights():
    model = net()
    optimizer = optim.AdamW(param_groups(model, 0.5), lr=0.1)
    before = weights(model)
    for p in model.parameters():
        p.grad = Tensor(np.zeros(p.shape), dtype=p.dtype)
    optimizer.step()
    after = weights(model)
    for key in ("0.weight", "3.weight"):
        np.testing.assert_allclose(after[key], before[key] * 0.95)
    for key in ("0.bias", "1.weight", "1.bias", "3.bias"):
        np.testing.assert_array_equal(after[key], before[key])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: param_groups(net(), 0.1, "norms"), ValueError, "'norm', 'bias', .*got 'norms'"),
        (lambda: param_groups(net(), 0.1, "gamma, bias"), ValueError, "got 'gamma'"),
        (lambda: param_groups(net(), 0.1, None), TypeError, "got None"),
        (lambda: param_groups(net(), -0.1), ValueError, "weight_decay must be at least 0"),
        (lambda: param_groups(net(), "1"), TypeError, "weight_decay must be a number"),
        (lambda: param_groups(net().parameters(), 0.1), TypeError, "takes a model"),
    ],
)
def test_wrong_groups(call, error, match):
    with pytest.raises(error, match=match):
        call()
