"""Optimizers: against PyTorch, against closed forms, and what happens when something is wrong."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, no_grad
from minigrad.backends import Reference
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.nn import Parameter
from minigrad.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Momentum,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

OPTIMIZERS = {
    kind.__name__: kind
    for kind in (
        SGD,
        Momentum,
        RMSprop,
        Adam,
        AdamW,
        Adagrad,
        Adadelta,
        Adamax,
        NAdam,
        RAdam,
    )
}
OF_PYTORCH = [name for name in OPTIMIZERS if name != "Momentum"]

#: Settings that PyTorch lacks.
OURS = {"eps_inside_sqrt", "eps_hat"}

#: Every setting that keeps a state of its own or takes a branch of its own.
SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Momentum", {"lr": 0.1, "form": "heavy-ball"}),
    ("Momentum", {"lr": 0.1, "form": "ema", "bias_correction": True}),
    ("Momentum", {"lr": 0.1, "form": "velocity", "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.5, "centered": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {"lr": 0.5, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.9), "decoupled_weight_decay": True}),
]


def grid(**choices):
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


PARITY = [
    *[
        ("SGD", settings)
        for settings in grid(
            momentum=(0, 0.9),
            dampening=(0, 0.3),
            weight_decay=(0, 0.1),
            nesterov=(False, True),
            maximize=(False, True),
        )
        if not settings["nesterov"] or (settings["momentum"] and not settings["dampening"])
    ],
    *[
        ("RMSprop", settings)
        for settings in grid(
            alpha=(0.9, 0.99),
            weight_decay=(0, 0.1),
            momentum=(0, 0.9),
            centered=(False, True),
            maximize=(False, True),
        )
    ],
    *[
        ("Adam", settings)
        for settings in grid(
            betas=((0.9, 0.999), (0.5, 0.9)),
            weight_decay=(0, 0.1),
            amsgrad=(False, True),
            maximize=(False, True),
            decoupled_weight_decay=(False, True),
        )
    ],
    *[
        ("AdamW", settings)
        for settings in grid(
            weight_decay=(0, 0.01, 0.1), amsgrad=(False, True), maximize=(False, True)
        )
    ],
    *[
        ("Adagrad", settings)
        for settings in grid(
            lr_decay=(0, 0.1),
            weight_decay=(0, 0.1),
            initial_accumulator_value=(0, 0.5),
            eps=(1e-10, 1e-2),
            maximize=(False, True),
        )
    ],
    *[
        ("Adadelta", settings)
        for settings in grid(
            rho=(0.9, 0.5, 1.0),
            eps=(1e-6, 1e-2),
            weight_decay=(0, 0.1),
            maximize=(False, True),
        )
    ],
    *[
        ("Adamax", settings)
        for settings in grid(
            betas=((0.9, 0.999), (0.5, 0.9), (0, 0)),
            eps=(1e-8, 1e-2),
            weight_decay=(0, 0.1),
            maximize=(False, True),
        )
    ],
    *[
        ("NAdam", settings)
        for settings in grid(
            betas=((0.9, 0.999), (0.5, 0.9), (0, 0.9)),
            weight_decay=(0, 0.1),
            momentum_decay=(0.004, 0, 0.1),
            decoupled_weight_decay=(False, True),
            maximize=(False, True),
        )
    ],
    *[
        ("RAdam", settings)
        for settings in grid(
            betas=((0.9, 0.999), (0.5, 0.9), (0, 0.5)),
            eps=(1e-8, 1e-2),
            weight_decay=(0, 0.1),
            decoupled_weight_decay=(False, True),
            maximize=(False, True),
        )
    ],
]


def leaves(dtype="float64", shapes=((4, 3), (3,), ())):
    rng = np.random.default_rng(0)
    return [Parameter(Tensor(rng.standard_normal(s), dtype=dtype)) for s in shapes]


def gradients(steps, dtype="float64", shapes=((4, 3), (3,), ())):
    rng = np.random.default_rng(1)
    return [[np.asarray(rng.standard_normal(s), dtype) for s in shapes] for _ in range(steps)]


def train(optimizer, params, steps):
    for grads in steps:
        for p, g in zip(params, grads, strict=True):
            p.grad = Tensor(g, dtype=p.dtype)
        optimizer.step()


def values(params):
    return [p.detach().numpy().copy() for p in params]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def contents(optimizer):
    """Everything an optimizer can change, as plain values to compare."""
    state = optimizer.state_dict()
    return (
        values(p for g in optimizer.param_groups for p in g["params"]),
        {
            i: {k: np.array(v.numpy()) for k, v in kept.items()}
            for i, kept in state["state"].items()
        },
        copy.deepcopy(state["param_groups"]),
    )


def assert_unchanged(before, after):
    assert_same(before[0], after[0])
    np.testing.assert_equal(before[1], after[1])
    assert before[2] == after[2]


# ---- against PyTorch ---------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize(("name", "settings"), PARITY, ids=str)
def test_100_steps_as_pytorch(name, settings):
    torch = pytest.importorskip("torch")
    params, steps = leaves(), gradients(100)
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values(params)]
    ours = OPTIMIZERS[name](params, lr=0.02, **settings)
    oracle = getattr(torch.optim, name)(theirs, lr=0.02, **settings)
    for i, grads in enumerate(steps):
        if i == 50:  # settings may change between steps
            ours.param_groups[0]["lr"] = oracle.param_groups[0]["lr"] = 0.005
        train(ours, params, [grads])
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g)
        oracle.step()
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=0, atol=1e-9)
    here, there = ours.state_dict(), oracle.state_dict()
    assert {i: set(s) for i, s in here["state"].items()} == {
        i: set(s) for i, s in there["state"].items()
    }
    for i, state in there["state"].items():
        for key, value in state.items():
            kept = here["state"][i][key]
            assert str(kept.dtype) == str(value.dtype).removeprefix("torch.")
            np.testing.assert_allclose(kept.numpy(), value.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("name", OF_PYTORCH)
def test_defaults_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(1))]).defaults
    ours = OPTIMIZERS[name](leaves()).defaults
    assert {k: v for k, v in ours.items() if k not in OURS} == {
        k: theirs[k] for k in ours if k not in OURS
    }
    assert set(theirs) - set(ours) <= {"foreach", "fused", "capturable", "differentiable"}


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "settings"), [row for row in SETTINGS if row[0] != "Momentum"], ids=str
)
def test_state_dicts_of_pytorch_are_read_and_written(name, settings):
    torch = pytest.importorskip("torch")
    params, steps = leaves(), gradients(20)
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values(params)]
    oracle = getattr(torch.optim, name)(theirs, **settings)

    def advance(steps):
        for grads in steps:
            for p, g in zip(theirs, grads, strict=True):
                p.grad = torch.tensor(g)
            oracle.step()

    advance(steps[:10])
    with no_grad():
        for p, q in zip(params, theirs, strict=True):
            p.copy_(Tensor(q.detach().numpy(), dtype="float64"))
    ours = OPTIMIZERS[name](params)
    ours.load_state_dict(oracle.state_dict())
    assert "foreach" not in ours.param_groups[0]
    advance(steps[10:])
    train(ours, params, steps[10:])
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=0, atol=1e-12)

    written = ours.state_dict()
    for state in written["state"].values():
        for key, value in state.items():
            state[key] = torch.tensor(value.numpy())
    oracle.load_state_dict(written)
    assert oracle.param_groups[0]["lr"] == settings["lr"]


@pytest.mark.parity
@pytest.mark.parametrize("name", OF_PYTORCH)
def test_repr_has_pytorchs_layout(name):
    torch = pytest.importorskip("torch")
    theirs = repr(getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(1))]))
    only_there = ("foreach", "fused", "capturable", "differentiable")
    lines = [x for x in theirs.split("\n") if not x.strip().startswith(only_there)]
    ours = repr(OPTIMIZERS[name](leaves())).split("\n")
    assert [x for x in ours if x.split(":")[0].strip() not in OURS] == lines


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("name", "settings"), [r for r in SETTINGS if r[0] != "Momentum"], ids=str)
def test_lower_precision_stays_near_pytorchs_float64(name, settings, dtype):
    torch = pytest.importorskip("torch")
    settings = {**settings, "lr": 0.01}
    params, steps = leaves(dtype), gradients(30, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(v).double()) for v in values(params)]
    oracle = getattr(torch.optim, name)(theirs, **settings)
    train(OPTIMIZERS[name](params, **settings), params, steps)
    for grads in steps:
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g).double()
        oracle.step()
    for p, q in zip(params, theirs, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(
            p.detach().numpy(), q.detach().numpy(), atol=2e-2 if dtype == "float16" else 2e-5
        )


# ---- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "steps"),
    [
        ("SGD", {"lr": 0.1}, 100),
        ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}, 300),
        ("Momentum", {"lr": 0.05}, 400),
        ("Momentum", {"lr": 0.5, "form": "ema"}, 400),
        ("Momentum", {"lr": 0.5, "form": "ema", "bias_correction": True}, 400),
        ("Momentum", {"lr": 0.05, "form": "velocity"}, 400),
        ("RMSprop", {"lr": 0.001, "alpha": 0.9}, 6000),
        ("Adam", {"lr": 0.1}, 1000),
        ("Adam", {"lr": 0.1, "amsgrad": True}, 3000),
        ("AdamW", {"lr": 0.1, "weight_decay": 0}, 1000),
        ("Adagrad", {"lr": 1.0}, 1000),
        ("Adadelta", {}, 6000),
        ("Adamax", {"lr": 0.1}, 1000),
        ("NAdam", {"lr": 0.1}, 1000),
        ("RAdam", {"lr": 0.1}, 1000),
    ],
    ids=str,
)
def test_quadratic_reaches_its_minimum(name, settings, steps):
    w = Tensor(0.0, requires_grad=True, dtype="float64")
    optimizer = OPTIMIZERS[name]([w], **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        (w**2 - 10 * w + 25).backward()
        optimizer.step()
    assert abs(w.item() - 5) < 2e-3


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_first_step_of_adam_is_lr(scale):
    w = Parameter(Tensor(np.zeros(2), dtype="float64"))
    w.grad = Tensor([scale, -scale], dtype="float64")
    Adam([w], lr=0.25, eps=1e-15).step()
    np.testing.assert_allclose(w.detach().numpy(), [-0.25, 0.25], rtol=1e-8)


def test_first_step_of_rmsprop_is_lr_over_root_of_one_minus_alpha():
    w = Parameter(Tensor(np.zeros(2), dtype="float64"))
    w.grad = Tensor([3.0, -1e-3], dtype="float64")
    RMSprop([w], lr=0.1, alpha=0.99, eps=0).step()
    np.testing.assert_allclose(w.detach().numpy(), [-1.0, 1.0])


def alone(kind, grads, start=0.0, **settings):
    """One float64 weight after the gradients given, and after each of them."""
    w = Parameter(Tensor(start, dtype="float64"))
    optimizer, path = kind([w], **settings), []
    for g in grads:
        w.grad = Tensor(float(g), dtype="float64")
        optimizer.step()
        path.append(w.item())
    return path


def test_adagrad_with_equal_gradients_steps_as_lr_over_root_t():
    path = alone(Adagrad, [3.0] * 50, lr=0.1, eps=0)
    np.testing.assert_allclose(path, -0.1 * np.cumsum(1 / np.sqrt(np.arange(1, 51))))
    path = alone(Adagrad, [3.0] * 50, lr=0.1, eps=0, lr_decay=0.5)
    t = np.arange(1, 51)
    np.testing.assert_allclose(path, -0.1 * np.cumsum(1 / np.sqrt(t) / (1 + 0.5 * (t - 1))))
    first = alone(Adagrad, [3.0], lr=0.1, eps=0, initial_accumulator_value=16.0)[0]
    assert first == pytest.approx(-0.1 * 3 / 5)


def test_the_first_step_of_adadelta_comes_from_eps():
    eps, rho = 1e-4, 0.75
    (first,) = alone(Adadelta, [3.0], eps=eps, rho=rho)
    assert first == pytest.approx(-3 * (eps / ((1 - rho) * 9 + eps)) ** 0.5)
    (far,) = alone(Adadelta, [3e6], eps=eps, rho=rho)  # whatever the size of the gradient
    assert far == pytest.approx(-((eps / (1 - rho)) ** 0.5))


def test_adamax_never_steps_farther_than_lr_while_gradients_keep_their_sign():
    grads = np.abs(np.random.default_rng(0).standard_normal(200)) + 0.01
    steps = np.diff([0.0, *alone(Adamax, grads, lr=0.1)])
    assert (np.abs(steps) <= 0.1 + 1e-12).all()
    np.testing.assert_allclose(np.diff([0.0, *alone(Adamax, [2.0] * 20, lr=0.1, eps=0)]), -0.1)
    (step,) = alone(Adamax, [1.0], lr=0.1, eps=1.0)  # eps stands in the maximum
    assert step == pytest.approx(-0.05)


def test_nadam_without_momentum_is_adam_without_momentum():
    grads = np.random.default_rng(0).standard_normal(50)
    nadam = alone(NAdam, grads, lr=0.1, betas=(0, 0.99))
    np.testing.assert_allclose(nadam, alone(Adam, grads, lr=0.1, betas=(0, 0.99)), rtol=1e-12)


def test_nadam_first_step():
    (step,) = alone(NAdam, [7.0], lr=0.1, eps=0)
    mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    assert step == pytest.approx(-0.1 * (1 + 0.1 * mu_next / (1 - mu * mu_next)), rel=1e-6)


def test_radam_begins_as_momentum_and_ends_as_adam():
    grads = np.full(6, 3.0)
    steps = np.diff([0.0, *alone(RAdam, grads, lr=0.1)])
    np.testing.assert_allclose(steps[:5], -0.3)  # rho_t <= 5: lr m_hat
    assert abs(steps[5]) < 0.01  # rho_6 = 5.99: now rectified, r = 0.03
    long = np.random.default_rng(0).standard_normal(3000)
    settings = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 0}
    ours, adam = (np.diff(alone(kind, long, **settings)) for kind in (RAdam, Adam))
    np.testing.assert_allclose(ours[-1000:], adam[-1000:], rtol=1e-6)


def test_rmsprop_with_eps_inside_the_root():
    # Keras: v <- rho v + (1 - rho) g^2;  w <- w - lr g / sqrt(v + eps)
    grads, w, v = [3.0, -1.0, 0.5, 1e-4], 0.0, 0.0
    expected = []
    for g in grads:
        v = 0.9 * v + 0.1 * g * g
        w -= 0.1 * g / (v + 1e-2) ** 0.5
        expected.append(w)
    settings = {"lr": 0.1, "alpha": 0.9, "eps": 1e-2}
    path = alone(RMSprop, grads, eps_inside_sqrt=True, **settings)
    np.testing.assert_allclose(path, expected, rtol=1e-12)
    # Graves (2013): the centered form
    w, v, m, expected = 0.0, 0.0, 0.0, []
    for g in grads:
        v, m = 0.9 * v + 0.1 * g * g, 0.9 * m + 0.1 * g
        w -= 0.1 * g / (v - m * m + 1e-2) ** 0.5
        expected.append(w)
    path = alone(RMSprop, grads, eps_inside_sqrt=True, centered=True, **settings)
    np.testing.assert_allclose(path, expected, rtol=1e-12)


@pytest.mark.parametrize("inside", [False, True])
def test_eps_acts_inside_the_root_like_its_root_outside(inside):
    eps = 1e-8 if inside else 1e-4
    (step,) = alone(RMSprop, [1e-12], lr=1.0, eps=eps, eps_inside_sqrt=inside)
    assert step == pytest.approx(-1e-12 / 1e-4, rel=1e-6)


def test_eps_stands_outside_the_corrected_root():
    w = Parameter(Tensor(0.0, dtype="float64"))
    w.grad = Tensor(2.0, dtype="float64")
    Adam([w], lr=1.0, eps=6.0).step()
    assert w.item() == pytest.approx(-2.0 / (2.0 + 6.0))


def test_rmsprop_centered_with_a_constant_gradient_stays_finite():
    w = Parameter(Tensor(np.zeros(50), dtype="float64"))
    optimizer = RMSprop([w], lr=1e-3, alpha=0.5, centered=True)
    w.grad = Tensor(np.linspace(0.1, 3.0, 50), dtype="float64")
    for _ in range(200):
        optimizer.step()
    assert np.isfinite(w.detach().numpy()).all()


def test_decoupled_decay_shrinks_every_weight_by_the_same_share():
    w = Parameter(Tensor([1.0, -4.0], dtype="float64"))
    w.grad = Tensor([0.0, 0.0], dtype="float64")
    AdamW([w], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(w.detach().numpy(), [0.95, -3.8])


def momentum_run(lr, form, **settings):
    params = leaves()
    optimizer = Momentum(params, lr=lr if isinstance(lr, float) else lr[0], form=form, **settings)
    for i, grads in enumerate(gradients(60)):
        if not isinstance(lr, float) and i == 30:
            optimizer.param_groups[0]["lr"] = lr[1]
        train(optimizer, params, [grads])
    return np.concatenate([v.ravel() for v in values(params)])


def test_ema_is_heavy_ball_with_lr_times_one_minus_beta_even_when_lr_changes():
    ema = momentum_run((0.5, 0.02), "ema", momentum=0.8)
    ball = momentum_run((0.1, 0.004), "heavy-ball", momentum=0.8)
    np.testing.assert_allclose(ema, ball, rtol=0, atol=1e-12)


def test_heavy_ball_is_velocity_only_while_lr_is_constant():
    same = momentum_run(0.1, "heavy-ball") - momentum_run(0.1, "velocity")
    np.testing.assert_allclose(same, 0, atol=1e-12)
    apart = momentum_run((0.1, 0.01), "heavy-ball") - momentum_run((0.1, 0.01), "velocity")
    assert np.abs(apart).max() > 0.01


def test_heavy_ball_is_momentum_of_sgd():
    params = leaves()
    train(SGD(params, lr=0.1, momentum=0.9), params, gradients(60))
    sgd = np.concatenate([v.ravel() for v in values(params)])
    np.testing.assert_array_equal(momentum_run(0.1, "heavy-ball"), sgd)


def test_bias_corrected_average_begins_as_the_gradient():
    (w,) = leaves(shapes=((3,),))
    before = values([w])[0]
    ((g,),) = gradients(1, shapes=((3,),))
    optimizer = Momentum([w], lr=0.1, form="ema", bias_correction=True)
    train(optimizer, [w], [[g]])
    np.testing.assert_allclose(w.detach().numpy(), before - 0.1 * g)
    train(optimizer, [w], [[g]])  # of equal gradients the corrected average is that gradient
    np.testing.assert_allclose(w.detach().numpy(), before - 0.2 * g)


def test_maximize_climbs():
    w = Tensor(1.0, requires_grad=True)
    optimizer = SGD([w], lr=0.1, maximize=True)
    (-((w - 3) ** 2)).backward()
    optimizer.step()
    assert w.item() == pytest.approx(1.4)


# ---- kernels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_blocks_and_layouts_do_not_change_a_bit(name, settings, monkeypatch):
    shapes = ((7, 11), (1, 5), (0, 3))
    steps = gradients(5, shapes=shapes)

    def run(arrange):
        params = leaves(shapes=shapes)
        for p in params:
            p.array = arrange(p.array)
        train(OPTIMIZERS[name](params, **settings), params, steps)
        return values(params)

    whole = run(np.ascontiguousarray)
    for block in (Reference.block, 4):
        monkeypatch.setattr(Reference, "block", block)
        assert_same(whole, run(np.ascontiguousarray))
        assert_same(whole, run(np.asfortranarray))
        assert_same(whole, run(lambda v: np.repeat(v, 2, axis=1)[:, ::2]))


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_gradients_are_only_read(name, settings):
    params = leaves()
    for p, g in zip(params, gradients(1)[0], strict=True):
        p.grad = Tensor(g, dtype="float64")
    before = values([p.grad for p in params])
    optimizer = OPTIMIZERS[name](params, **settings)
    optimizer.step()
    optimizer.step()
    assert_same(before, values([p.grad for p in params]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float16_keeps_float32_averages_and_small_gradients_count(name):
    w = Parameter(Tensor(np.ones(4), dtype="float16"))
    optimizer = OPTIMIZERS[name]([w], lr=0.125)
    for _ in range(3):
        w.grad = Tensor(np.array([0.0, 1e-4, -1e-4, 6e-8]), dtype="float16")
        optimizer.step()
    assert np.isfinite(w.detach().numpy()).all()
    assert w.dtype == "float16"
    for key, value in optimizer.state[w].items():
        assert value.dtype == "float32", key


# ---- the step ----------------------------------------------------------------------------------


def test_parameters_without_gradient_are_skipped():
    a, b, c = leaves()
    b.requires_grad_(False)
    (a.sum() + b.sum()).backward()
    before = values([b, c])
    optimizer = AdamW([a, b, c], weight_decay=0.5)
    optimizer.step()
    assert_same(before, values([b, c]))
    assert set(optimizer.state) == {a}
    assert set(optimizer.state_dict()["state"]) == {0}


def test_a_late_parameter_counts_its_own_steps():
    a, b = leaves(shapes=((2,), (2,)))
    optimizer = Adam([a, b])
    a.grad = Tensor(np.ones(2), dtype="float64")
    optimizer.step()
    b.grad = Tensor(np.ones(2), dtype="float64")
    optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in (a, b)] == [2, 1]


def test_zero_grad():
    (w,) = leaves(shapes=((2,),))
    optimizer = SGD([w])
    optimizer.zero_grad(set_to_none=False)
    assert w.grad is None
    w.grad = Tensor([1.0, 2.0], dtype="float64")
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert w.grad is None


def test_closure_runs_with_recording_and_its_loss_is_returned():
    w = Tensor(0.0, requires_grad=True)
    optimizer = SGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w - 5) ** 2
        loss.backward()
        return loss

    with no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 25
    assert w.item() == pytest.approx(1)
    assert SGD([w]).step() is None


@pytest.mark.parity
def test_step_hooks_see_what_pytorchs_see():
    torch = pytest.importorskip("torch")

    def calls(library, tensor):
        w = tensor([1.0], requires_grad=True)
        optimizer, seen = library.optim.SGD([w], lr=0.5), []

        def loss():
            optimizer.zero_grad()
            value = (w * w).sum()
            value.backward()
            return value

        def note(who):
            def hook(given, args, kwargs):
                assert given is args[0] is optimizer
                seen.append((who, len(args), dict(kwargs), float(w.detach()[0])))

            return hook

        first = optimizer.register_step_pre_hook(note("pre"))
        last = optimizer.register_step_post_hook(note("post"))
        optimizer.step()
        loss()
        optimizer.step()
        optimizer.step(loss)
        first.remove()
        with optimizer.register_step_pre_hook(lambda given, args, kwargs: ((given, loss), {})):
            seen.append(("loss", float(optimizer.step().detach())))
        with (
            optimizer.register_step_pre_hook(lambda given, args, kwargs: 3),
            pytest.raises(RuntimeError),
        ):
            optimizer.step()
        last.remove()
        optimizer.step()
        return seen

    ours = calls(minigrad, Tensor)
    assert ours == calls(torch, torch.tensor)
    assert [who for who, *_ in ours] == ["pre", "post"] * 3 + ["post", "loss"]


def test_settings_may_be_numpy_numbers_or_tensors():
    def run(number):
        params = leaves("float32")
        optimizer = Adam(params)
        optimizer.param_groups[0]["lr"] = number(0.125)
        optimizer.param_groups[0]["betas"] = (number(0.5), number(0.75))
        train(optimizer, params, gradients(5, "float32"))
        return values(params)

    plain = run(float)
    assert_same(plain, run(np.float64))
    assert_same(plain, run(Tensor))


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_a_step_is_a_change_in_place_that_backward_notices(name, settings):
    w = Tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    w.grad = Tensor([1.0, 1.0])
    OPTIMIZERS[name]([w], **settings).step()
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("key", ["step", "exp_avg", "exp_avg_sq"])
def test_what_is_kept_is_changed_in_place_too(key):
    params = leaves()
    optimizer = Adam(params)
    train(optimizer, params, gradients(1))
    x = Tensor(1.0, requires_grad=True, dtype=optimizer.state[params[0]][key].dtype)
    loss = (x * optimizer.state[params[0]][key]).sum()
    train(optimizer, params, gradients(1))
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_groups_have_settings_of_their_own():
    a, b, c = leaves()
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.5)
    optimizer.add_param_group({"params": iter([c]), "lr": 0.0, "note": "kept"})
    before = values([a, b, c])
    train(optimizer, [a, b, c], [[np.ones(p.shape) for p in (a, b, c)]])
    after = values([a, b, c])
    for x, y, lr in zip(before, after, (0.5, 1.0, 0.0), strict=True):
        np.testing.assert_allclose(x - y, lr)
    assert optimizer.param_groups[2]["note"] == "kept"


def test_named_parameters():
    a, b, _ = leaves()
    optimizer = SGD([("first", a), ("second", b)])
    assert optimizer.param_groups[0]["param_names"] == ["first", "second"]
    assert "param_names: ['first', 'second']" in repr(optimizer)
    b.grad = Tensor(np.ones(7))
    with pytest.raises(ShapeError, match=r"parameter 1 \(second\) has shape \(7,\)"):
        optimizer.step()


def test_repr():
    optimizer = SGD([{"params": leaves()}, {"params": leaves(), "lr": 0.5}], lr=0.1)
    assert repr(optimizer) == (
        "SGD (\n"
        "Parameter Group 0\n    dampening: 0\n    lr: 0.1\n    maximize: False\n    momentum: 0\n"
        "    nesterov: False\n    weight_decay: 0\n"
        "Parameter Group 1\n    dampening: 0\n    lr: 0.5\n    maximize: False\n    momentum: 0\n"
        "    nesterov: False\n    weight_decay: 0\n)"
    )


# ---- state -------------------------------------------------------------------------------------


def uninterrupted(name, settings, dtype):
    params = leaves(dtype)
    optimizer = OPTIMIZERS[name](params, **settings)
    train(optimizer, params, gradients(20, dtype))
    return values(params)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_training_resumes_bit_for_bit(name, settings, dtype):
    params, steps = leaves(dtype), gradients(20, dtype)
    optimizer = OPTIMIZERS[name](params, **settings)
    train(optimizer, params, steps[:10])
    saved = pickle.loads(pickle.dumps((values(params), optimizer.state_dict())))

    params = [Parameter(Tensor(v, dtype=dtype)) for v in saved[0]]
    restored = OPTIMIZERS[name](params, lr=77)
    restored.load_state_dict(saved[1])
    train(restored, params, steps[10:])
    assert_same(values(params), uninterrupted(name, settings, dtype))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_copies_and_pickles_go_on_alone(name, settings, copied):
    params, steps = leaves(), gradients(20)
    optimizer = OPTIMIZERS[name](params, **settings)
    train(optimizer, params, steps[:10])
    before = values(params)
    twins, twin = copied((params, optimizer))
    train(twin, twins, steps[10:])
    assert_same(before, values(params))
    assert_same(values(twins), uninterrupted(name, settings, "float64"))


def test_loaded_state_is_a_copy():
    params = leaves()
    optimizer = Adam(params)
    train(optimizer, params, gradients(1))
    saved = optimizer.state_dict()
    other = Adam(leaves())
    other.load_state_dict(saved)
    kept = other.state_dict()["state"][0]["exp_avg"].numpy().copy()
    train(optimizer, params, gradients(3))
    np.testing.assert_array_equal(other.state_dict()["state"][0]["exp_avg"].numpy(), kept)


def test_state_follows_a_converted_model():
    params = leaves("float32")
    optimizer = Adam(params)
    train(optimizer, params, gradients(2))
    for p in params:
        p.grad = None
        p.array = p.array.astype("float64")
    before = contents(optimizer)
    with pytest.raises(RuntimeError, match="exp_avg of parameter 0 is float32"):
        train(optimizer, params, gradients(1))
    assert_unchanged(before, contents(optimizer))
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, params, gradients(1))
    assert optimizer.state[params[0]]["exp_avg"].dtype == "float64"


def test_unknown_settings_of_a_group_survive():
    optimizer = SGD(leaves())
    optimizer.param_groups[0]["initial_lr"] = 0.5
    other = SGD(leaves())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["initial_lr"] == 0.5


def test_adamw_decays_decoupled_with_the_state_of_adam():
    params = leaves()
    optimizer = Adam(params, weight_decay=0.5)
    train(optimizer, params, gradients(1))
    other = AdamW(leaves())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["decoupled_weight_decay"] is True
    assert other.param_groups[0]["weight_decay"] == 0.5


def test_a_setting_switched_on_later_begins_its_average_then():
    params = leaves()
    optimizer = RMSprop(params)
    train(optimizer, params, gradients(1))
    optimizer.param_groups[0]["momentum"] = 0.9
    train(optimizer, params, gradients(1))
    assert "momentum_buffer" in optimizer.state[params[0]]


def test_an_optimizer_of_ones_own_may_keep_anything():
    class Counting(Optimizer):
        def update(self, param, grad, state, group):
            state["calls"] = state.get("calls", 0) + 1
            state["mean"] = Tensor(grad.mean())
            param -= group["lr"] * grad

    params = leaves()
    optimizer = Counting(params, {"lr": 0.1})
    train(optimizer, params, gradients(3))
    other = Counting(leaves(), {"lr": 0.2})
    other.load_state_dict(optimizer.state_dict())
    state = next(iter(other.state.values()))
    assert state["calls"] == 3
    assert other.param_groups[0]["lr"] == 0.1
    with pytest.raises(NotImplementedError, match="define one"):
        broken = Optimizer(params, {})
        broken.step()


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        (lambda: [], ValueError, "empty parameter list"),
        (lambda: iter(()), ValueError, "empty parameter list"),
        (lambda: Tensor([1.0]), TypeError, r"pass model.parameters\(\)"),
        (lambda: {"w": leaves()[0]}, TypeError, "got dict"),
        (lambda: 3, TypeError, "got int"),
        (lambda: set(leaves()), TypeError, "the same in every run"),
        (lambda: [np.zeros(3)], TypeError, "parameter 0 is a ndarray"),
        (lambda: [leaves()[0] * 2], ValueError, "can't optimize a non-leaf"),
        (lambda: leaves()[:1] * 2, ValueError, "parameter 1 appears twice"),
        (lambda: [("a", leaves()[0]), leaves()[1]], ValueError, "1 names for 2 parameters"),
        (lambda: [{"params": leaves()}, leaves()[0]], TypeError, "got Parameter"),
        (lambda: [{"lr": 0.1}], ValueError, "needs 'params'"),
        (lambda: [{"params": set(leaves())}], TypeError, "the same in every run"),
        (lambda: [{"params": leaves(), "lr": -1}], ValueError, "lr must be at least 0"),
    ],
)
def test_wrong_parameters(params, error, match):
    with pytest.raises(error, match=match):
        SGD(params())


@pytest.mark.parametrize(
    ("name", "settings", "error", "match"),
    [
        ("SGD", {"lr": -0.1}, ValueError, "lr must be at least 0 and finite, got -0.1"),
        ("SGD", {"lr": float("nan")}, ValueError, "got nan"),
        ("SGD", {"lr": "1e-3"}, TypeError, r"lr must be a number, got '1e-3' \(str\)"),
        ("SGD", {"lr": None}, TypeError, "must be a number"),
        ("SGD", {"momentum": -1}, ValueError, "momentum"),
        ("SGD", {"weight_decay": -1}, ValueError, "weight_decay"),
        ("SGD", {"nesterov": True}, ValueError, "nesterov=True needs momentum"),
        (
            "SGD",
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "dampening=0.1",
        ),
        ("Momentum", {"momentum": 1}, ValueError, "below 1"),
        ("Momentum", {"form": "polyak"}, ValueError, "'heavy-ball', 'ema', 'velocity'"),
        ("Momentum", {"bias_correction": True}, ValueError, 'needs form="ema"'),
        ("RMSprop", {"alpha": -0.1}, ValueError, "alpha"),
        ("RMSprop", {"eps": -0.1}, ValueError, "eps"),
        ("Adam", {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] must be at least 0 and below 1"),
        ("Adam", {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\]"),
        ("Adam", {"betas": 0.9}, ValueError, "a pair"),
        ("AdamW", {"eps": -1}, ValueError, "eps"),
        ("Adagrad", {"lr_decay": -1}, ValueError, "lr_decay must be at least 0"),
        ("Adagrad", {"initial_accumulator_value": -1}, ValueError, "initial_accumulator_value"),
        ("Adagrad", {"eps": "small"}, TypeError, "eps must be a number, got 'small'"),
        ("Adadelta", {"rho": 1.1}, ValueError, "rho must be at least 0 and at most 1, got 1.1"),
        ("Adadelta", {"eps": -1}, ValueError, "eps"),
        ("Adamax", {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
        ("Adamax", {"betas": (0.9,)}, ValueError, "a pair"),
        ("NAdam", {"momentum_decay": -1}, ValueError, "momentum_decay"),
        ("NAdam", {"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\]"),
        ("RAdam", {"weight_decay": -1}, ValueError, "weight_decay"),
        ("RAdam", {"lr": float("inf")}, ValueError, "finite, got inf"),
    ],
)
def test_wrong_settings(name, settings, error, match):
    with pytest.raises(error, match=match):
        OPTIMIZERS[name](leaves(), **settings)


def test_a_parameter_in_two_groups_is_refused_and_nothing_added():
    a, b, _ = leaves()
    optimizer = SGD([a])
    with pytest.raises(ValueError, match="parameter 1 appears twice"):
        optimizer.add_param_group({"params": [b, a]})
    with pytest.raises(ValueError, match="before this one have none"):
        optimizer.add_param_group({"params": [("b", b)]})
    assert len(optimizer.param_groups) == 1


def make_wrong_shape(p, optimizer):
    p.grad = Tensor(np.ones((2, 2)), dtype="float64")


def make_wrong_dtype(p, optimizer):
    p.grad = Tensor(np.ones(p.shape), dtype="float32")


def make_no_tensor(p, optimizer):
    p.grad = np.ones(p.shape)


def make_read_only(p, optimizer):
    p.array = p.array.copy()
    p.array.flags.writeable = False


def make_wrong_lr(p, optimizer):
    optimizer.param_groups[1]["lr"] = -1


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (make_wrong_shape, ShapeError, r"parameter 1 has shape \(2, 2\), the parameter \(\)"),
        (make_wrong_dtype, DtypeError, "is float32, the parameter float64"),
        (make_no_tensor, TypeError, "must be a tensor, got ndarray"),
        (make_read_only, ValueError, "read-only"),
        (make_wrong_lr, ValueError, "lr must be at least 0"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_a_step_that_fails_changes_nothing(name, settings, begun, spoil, error, match):
    params = leaves()
    optimizer = OPTIMIZERS[name]([{"params": params[:1]}, {"params": params[1:]}], **settings)
    if begun:
        train(optimizer, params, gradients(2))
    for p, g in zip(params, gradients(1)[0], strict=True):
        p.grad = Tensor(g, dtype="float64")
    spoil(params[2], optimizer)
    before = contents(optimizer)
    with pytest.raises(error, match=match):
        optimizer.step()
    assert_unchanged(before, contents(optimizer))


def spoiled(change):
    params = leaves()
    optimizer = Adam(params, lr=0.5)
    train(optimizer, params, gradients(2))
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("state"), "is it a model's"),
        (lambda s: s["param_groups"].append(s["param_groups"][0]), r"2 parameter group\(s\)"),
        (lambda s: s["param_groups"][0]["params"].pop(), "build the groups as they were"),
        (lambda s: s["state"].update({9: {}}), "state for parameter 9"),
        (lambda s: s["state"][2].pop("exp_avg"), "is it that of another optimizer"),
        (lambda s: s["state"][2].update(momentum_buffer=Tensor(1.0)), "momentum_buffer"),
        (
            lambda s: s["state"][1].update(exp_avg_sq=Tensor([1.0])),
            r"exp_avg_sq of parameter 1 has shape \(1,\) in the state dict, the parameter \(3,\)",
        ),
        (lambda s: s["param_groups"][0].update(lr=-1), "lr must be at least 0"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, match):
    params = leaves()
    optimizer = Adam(params)
    train(optimizer, params, gradients(1))
    before = contents(optimizer)
    with pytest.raises(ValueError, match=match):
        optimizer.load_state_dict(spoiled(change))
    assert_unchanged(before, contents(optimizer))


def test_the_state_of_another_optimizer_is_refused():
    params = leaves()
    optimizer = SGD(params, momentum=0.9)
    train(optimizer, params, gradients(1))
    with pytest.raises(ValueError, match="is it that of another optimizer"):
        Adam(leaves()).load_state_dict(optimizer.state_dict())
