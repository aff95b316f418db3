"""Batch renormalization against its formula, its gradients, and the two norms it lies between."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.nn.utils import fold

rng = np.random.default_rng(0)
EPS = 1e-5


def draw(*shape, scale=1.0, shift=0.0):
    return rng.standard_normal(shape) * scale + shift


def vectors(channels=3):
    """running mean and variance, gamma, beta."""
    return [
        draw(channels),
        rng.uniform(0.5, 2, channels),
        draw(channels, shift=1),
        draw(channels),
    ]


def by_hand(x, mean, var, gamma, beta, rmax, dmax, momentum=0.01, unbiased=False):
    """Algorithm 1, with variances averaged: y, and the new estimates."""
    axes = (0, *range(2, x.ndim))
    wide = (1, -1) + (1,) * (x.ndim - 2)
    mu, s2 = x.mean(axes), x.var(axes)
    r = np.clip(np.sqrt(s2 + EPS) / np.sqrt(var + EPS), 1 / rmax, rmax)
    d = np.clip((mu - mean) / np.sqrt(var + EPS), -dmax, dmax)
    x_hat = (x - mu.reshape(wide)) / np.sqrt(s2 + EPS).reshape(wide)
    y = (x_hat * r.reshape(wide) + d.reshape(wide)) * gamma.reshape(wide) + beta.reshape(wide)
    kept = x.var(axes, ddof=int(unbiased))
    return y, mean + momentum * (mu - mean), var + momentum * (kept - var)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("rmax", "dmax"), [(1.0, 0.0), (1.2, 0.3), (3.0, 5.0), (1e9, 1e9)])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 4, 2)])
def test_the_formula(shape, rmax, dmax, unbiased, fused):
    x, given = draw(*shape, scale=2, shift=1), vectors()
    mean, var, gamma, beta = map(mg.tensor, given)
    y = F.batch_renorm(
        mg.tensor(x),
        mean,
        var,
        gamma,
        beta,
        True,
        rmax=rmax,
        dmax=dmax,
        unbiased=unbiased,
        fused=fused,
    )
    expected = by_hand(x, *given, rmax, dmax, unbiased=unbiased)
    for found, wanted in zip((y, mean, var), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-11, atol=1e-13)


def test_between_batch_norm_and_inference():
    x, given = mg.tensor(draw(6, 3, scale=2, shift=1)), vectors()

    def by(function, training, **options):
        return function(x, *map(mg.tensor, given), training, eps=EPS, **options).numpy()

    close = np.testing.assert_allclose
    close(by(F.batch_renorm, True, rmax=1, dmax=0), by(F.batch_norm, True), rtol=1e-12)
    close(by(F.batch_renorm, True, rmax=1e9, dmax=1e9), by(F.batch_norm, False), rtol=1e-11)
    close(by(F.batch_renorm, False), by(F.batch_norm, False), rtol=0)


def test_r_and_d_are_constants_to_the_gradient():
    """dx is that of batch normalization with gamma r: r and d, taken at x, held still."""
    x, given = draw(6, 3, scale=2, shift=1), vectors()
    mean, var, gamma, beta = given
    r = np.clip(np.sqrt(x.var(0) + EPS) / np.sqrt(var + EPS), 1 / 1.5, 1.5)
    d = np.clip((x.mean(0) - mean) / np.sqrt(var + EPS), -0.4, 0.4)
    seed = draw(6, 3)
    results = []
    for renorm in (True, False):
        leaves = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
        if renorm:
            y = F.batch_renorm(
                leaves[0], *map(mg.tensor, (mean, var)), *leaves[1:], True, rmax=1.5, dmax=0.4
            )
        else:
            x_hat = F.batch_norm(leaves[0], None, None, training=True)
            y = (x_hat * mg.tensor(r) + mg.tensor(d)) * leaves[1] + leaves[2]
        (y * mg.tensor(seed)).sum().backward()
        results.append([leaf.grad.numpy() for leaf in leaves])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fused", [True, False])
def test_gradients_where_every_channel_is_clipped(fused):
    """r and d are then constants in truth, and finite differences see the same."""
    x = mg.tensor(draw(5, 2, scale=9, shift=30), requires_grad=True)
    gamma, beta = (mg.tensor(draw(2), requires_grad=True) for _ in range(2))

    def run(x, gamma, beta):
        mean, var = mg.zeros(2, dtype=mg.float64), mg.ones(2, dtype=mg.float64)
        return F.batch_renorm(
            x, mean, var, gamma, beta, True, rmax=1.3, dmax=0.5, fused=fused
        ).sin()

    assert mg.gradcheck(run, (x, gamma, beta), atol=1e-7, rtol=1e-6)
    assert mg.gradgradcheck(run, (x, gamma, beta), atol=1e-6, rtol=1e-5)


def test_ramp():
    """The paper's: batch normalization for 5000 steps, then slowly apart."""
    bn = nn.BatchRenorm1d(3)
    assert [bn.rmax(t) for t in (0, 5000, 22500, 40000, 10**6)] == [1, 1, 2, 3, 3]
    assert [bn.dmax(t) for t in (0, 5000, 15000, 25000, 10**6)] == [0, 0, 2.5, 5, 5]
    assert bn.rmax(mg.tensor(22500)).item() == 2
    with pytest.raises(ValueError, match="start < stop"):
        nn.Ramp(1, 3, 10, 10)


def test_the_layer_follows_its_ramp_and_its_estimates():
    bn = nn.BatchRenorm2d(3, momentum=0.2, rmax=nn.Ramp(1, 2, 1, 4), dmax=nn.Ramp(0, 1, 1, 4))
    bn.double()
    with mg.no_grad():
        bn.weight += mg.tensor(draw(3) / 3)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(7):
        x = draw(3, 3, 2, 2, scale=3, shift=2)
        share = min(max((step - 1) / 3, 0), 1)
        y, mean, var = by_hand(
            x, mean, var, bn.weight.detach().numpy(), np.zeros(3), 1 + share, share, 0.2
        )
        np.testing.assert_allclose(bn(mg.tensor(x)).detach().numpy(), y, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(bn.running_mean.numpy(), mean, rtol=1e-10)
        np.testing.assert_allclose(bn.running_var.numpy(), var, rtol=1e-10)
    assert bn.num_batches_tracked.item() == 7


def test_it_trains_on_what_inference_does():
    """Batches of two: training and inference differ far less than with batch normalization."""
    x = mg.tensor(draw(400, 3, scale=2, shift=1))
    gaps = []
    for norm in (nn.BatchNorm1d(3, momentum=0.01), nn.BatchRenorm1d(3, rmax=1e9, dmax=1e9)):
        norm.double()
        for _ in range(300):
            norm(x)
        norm.update_running = False
        twin = copy.deepcopy(norm).eval()
        gaps.append(max((norm(b) - twin(b)).abs().max().item() for b in x[:20].split(2)))
    assert gaps[0] > 0.5
    assert gaps[1] < 1e-9


def test_it_is_a_batch_norm_in_every_other_respect():
    renorm, bn = nn.BatchRenorm1d(3).double(), nn.BatchNorm1d(3).double()
    assert list(renorm.state_dict()) == list(bn.state_dict())
    renorm.load_state_dict(bn.state_dict())
    x = mg.tensor(draw(6, 3))
    renorm.normalize_by = "batch"
    np.testing.assert_allclose(renorm(x).detach().numpy(), bn(x).detach().numpy(), rtol=1e-12)
    renorm.unfreeze()
    model = nn.Sequential(nn.Linear(2, 3), renorm).double().eval()
    z = mg.tensor(draw(4, 2))
    made, folded, _ = fold(model, z)
    assert folded == [("0", "1")]
    np.testing.assert_allclose(made(z).detach().numpy(), model(z).detach().numpy(), rtol=1e-12)
    assert mg.optim.param_groups(model, 0.1)[1]["params"][1][0] == "1.weight"
    before = renorm.running_mean.clone()
    renorm.freeze().train()(x)
    assert renorm.running_mean.equal(before)


def test_update_bn_normalises_by_the_batch():
    """r and d against estimates that are being found anew would mean nothing."""
    model = nn.Sequential(nn.BatchRenorm1d(3, rmax=3.0, dmax=5.0), nn.BatchRenorm1d(3, rmax=3.0))
    model.double()
    batches = [mg.tensor(draw(6, 3, scale=5, shift=9)) for _ in range(4)]
    mg.optim.swa_utils.update_bn(batches, model)
    np.testing.assert_allclose(model[1].running_mean.numpy(), 0, atol=1e-12)
    assert model[0].normalize_by == "mode" and model[0].momentum == 0.01


def test_half_precision_and_printing():
    bn = nn.BatchRenorm1d(2, rmax=2.0, dmax=1.0)
    x = mg.tensor(draw(8, 2)).half()
    assert bn(x).dtype == mg.float16
    assert nn.BatchRenorm1d(2).half()(x).dtype == mg.float16
    assert repr(bn) == (
        "BatchRenorm1d(2, eps=1e-05, momentum=0.01, affine=True, rmax=2.0, dmax=1.0, bias=True)"
        "  # running = 0.99 running + 0.01 batch, variance biased"
    )
    assert "rmax=Ramp(1.0, 3.0, 5000, 40000)" in repr(nn.BatchRenorm2d(2))


def test_misuse():
    with pytest.raises(ValueError, match=r"rmax of at least 1, got 0.5"):
        nn.BatchRenorm1d(2, rmax=0.5)
    mean, var, x = mg.zeros(2), mg.ones(2), mg.randn(4, 2)
    with pytest.raises(ValueError, match="dmax of at least 0, got -1"):
        F.batch_renorm(x, mean, var, training=True, dmax=-1)
    with pytest.raises(mg.ShapeError, match="running_mean of shape"):
        F.batch_renorm(mg.randn(4, 3), mean, var, training=True)
    with pytest.raises(ValueError, match="more than one value"):
        F.batch_renorm(mg.randn(1, 2), mean, var, training=True)
    with pytest.raises(mg.ShapeError, match=r"BatchRenorm2d\(2\) expects"):
        nn.BatchRenorm2d(2)(x)
    assert mean.equal(mg.zeros(2))
