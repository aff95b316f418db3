"""One moving average under momentum, RMSprop, Adam and the running statistics."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ExponentialAverage, nn, optim
from minigrad.backends import backends

rng = np.random.default_rng(0)
GRADIENTS = rng.standard_normal((12, 7))


def test_a_value_weighs_less_with_every_step():
    beta, values = 0.8, rng.standard_normal(30)
    average = ExponentialAverage(beta)
    for x in values:
        found = average.update(x)
    weights = (1 - beta) * beta ** np.arange(29, -1, -1.0)
    assert found == pytest.approx(weights @ values, rel=1e-12)
    assert weights.sum() == pytest.approx(average.correction(30))


@pytest.mark.parametrize(("beta", "window"), [(0.5, 2), (0.9, 10), (0.98, 50)])
def test_the_window(beta, window):
    """What is older than 1 / (1 - beta) steps weighs about 1/e: 0.25, 0.35, 0.364 of it all."""
    assert 1 / (1 - beta) == pytest.approx(window)
    assert beta**window == pytest.approx({2: 0.25, 10: 0.3487, 50: 0.3642}[window], abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_debiased_is_divided_by_what_the_weights_add_up_to(beta):
    plain, debiased = ExponentialAverage(beta), ExponentialAverage(beta, debias=True)
    total = 0.0
    for t, x in enumerate(rng.standard_normal(20), 1):
        raw, found, total = plain.update(x), debiased.update(x), total + x
        expected = raw / plain.correction(t) if beta < 1 else total / t  # the limit: the mean
        assert found == pytest.approx(expected, rel=1e-12)
    assert ExponentialAverage(beta, debias=True).weights(1) == (0, 1)


def test_either_side_may_be_given():
    assert ExponentialAverage(0.75).share == ExponentialAverage(share=0.25).share == 0.25
    assert repr(ExponentialAverage(share=0.1)) == (
        "<ExponentialAverage: average = 0.9 average + 0.1 new>"
    )
    assert repr(ExponentialAverage(0.99, debias=True)).endswith("0.01 new, debiased>")
    for wrong in ({}, {"beta": 0.9, "share": 0.1}, {"beta": 1.1}, {"share": -0.1}):
        with pytest.raises(ValueError, match=r"beta|share"):
            ExponentialAverage(**wrong)


def averaged(beta, values, **options):
    average = ExponentialAverage(beta, **options)
    return [average.update(x) for x in values]


@pytest.mark.parametrize("kernels", ["plain", "compiled"])
@pytest.mark.parametrize(
    ("make", "name", "beta", "of"),
    [
        (
            lambda p: optim.Momentum(p, lr=0.1, momentum=0.8, form="ema"),
            "momentum_buffer",
            0.8,
            lambda g: g,
        ),
        (lambda p: optim.RMSprop(p, lr=0.1, alpha=0.7), "square_avg", 0.7, np.square),
        (
            lambda p: optim.RMSprop(p, lr=0.1, alpha=0.7, centered=True),
            "grad_avg",
            0.7,
            lambda g: g,
        ),
        (lambda p: optim.Adam(p, betas=(0.6, 0.9)), "exp_avg", 0.6, lambda g: g),
        (lambda p: optim.Adam(p, betas=(0.6, 0.9)), "exp_avg_sq", 0.9, np.square),
        (lambda p: optim.AdamW(p, betas=(0.6, 0.9)), "exp_avg_sq", 0.9, np.square),
        (lambda p: optim.NAdam(p, betas=(0.6, 0.9)), "exp_avg", 0.6, lambda g: g),
        (lambda p: optim.RAdam(p, betas=(0.6, 0.9)), "exp_avg_sq", 0.9, np.square),
        (lambda p: optim.Adamax(p, betas=(0.6, 0.9)), "exp_avg", 0.6, lambda g: g),
        (lambda p: optim.Adadelta(p, rho=0.7), "square_avg", 0.7, np.square),
    ],
)
def test_the_optimizers_keep_it(make, name, beta, of, kernels, monkeypatch):
    backend = backends[np.ndarray]
    monkeypatch.setattr(backend, "numba", kernels == "compiled" and backend.numba)
    monkeypatch.setattr(backend, "smallest", 0)
    w = mg.tensor(np.zeros(7), requires_grad=True)
    optimizer = make([w])
    for g, expected in zip(GRADIENTS, averaged(beta, of(GRADIENTS)), strict=True):
        w.grad = mg.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(optimizer.state[w][name].numpy(), expected, rtol=1e-12)


def test_adam_steps_along_debiased_averages():
    w = mg.tensor(np.zeros(7), requires_grad=True)
    optimizer = optim.Adam([w], lr=0.1, betas=(0.6, 0.9), eps=1e-3)
    means = averaged(0.6, GRADIENTS, debias=True)
    squares = averaged(0.9, GRADIENTS**2, debias=True)
    expected = np.zeros(7)
    for g, m, v in zip(GRADIENTS, means, squares, strict=True):
        w.grad = mg.tensor(g)
        optimizer.step()
        expected -= 0.1 * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("debias", [False, True])
def test_batch_norm_keeps_it(debias):
    bn = nn.BatchNorm1d(7, momentum=0.3, debias=debias).double()
    batches = rng.standard_normal((6, 5, 7)) * 2 + 3
    mean, var = (ExponentialAverage(share=0.3, debias=debias) for _ in range(2))
    if not debias:  # it begins where the layer begins
        mean.value, var.value = np.zeros(7), np.ones(7)
    for x in batches:
        bn(mg.tensor(x))
        np.testing.assert_allclose(bn.running_mean.numpy(), mean.update(x.mean(0)), rtol=1e-12)
        np.testing.assert_allclose(bn.running_var.numpy(), var.update(x.var(0, ddof=1)), rtol=1e-12)
