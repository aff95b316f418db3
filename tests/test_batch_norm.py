"""Batch normalization in practice: its estimates, its switches, what it says of itself."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

rng = np.random.default_rng(0)


def state(module):
    return {k: v.numpy().copy() for k, v in module.state_dict().items()}


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


# ---- what the running estimates follow ----------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("make", "shape", "axes"),
    [
        (nn.BatchNorm1d, (6, 3), (0,)),
        (nn.BatchNorm1d, (6, 3, 4), (0, 2)),
        (nn.BatchNorm2d, (3, 3, 4, 2), (0, 2, 3)),
        (nn.BatchNorm3d, (2, 3, 2, 2, 2), (0, 2, 3, 4)),
    ],
)
@pytest.mark.parametrize("unbiased", [True, False])
def test_biased_normalises_and_either_is_kept(make, shape, axes, unbiased, fused):
    bn = make(3, momentum=1.0, unbiased=unbiased, fused=fused).double()
    x = rng.standard_normal(shape) * 2 + 1
    y = bn(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-4)
    assert np.allclose(bn.running_mean.numpy(), x.mean(axes))
    assert np.allclose(bn.running_var.numpy(), x.var(axes, ddof=int(unbiased)))
    # with momentum 1 train and eval differ by that factor alone
    m = x.size // 3
    z = bn.eval()(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(z, y * np.sqrt((m - 1) / m if unbiased else 1), atol=1e-5)


def test_an_op_that_is_run_again_moves_nothing():
    """As pictures do, to see values."""
    bn = nn.BatchNorm1d(3)
    x = mg.randn(6, 3)
    op = bn(x).grad_fn
    before = state(bn)
    op.forward(op.xp, x.array, bn.weight.array, bn.bias.array)
    assert same(before, state(bn))


@pytest.mark.parametrize("fused", [True, False])
def test_one_estimate_alone_moves(fused):
    x, mean, var = mg.randn(6, 3), mg.zeros(3), mg.ones(3)
    options = {"training": True, "momentum": 1.0, "fused": fused}
    F.batch_norm(x, mean, None, **options)
    F.batch_norm(x, None, var, **options)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(var.numpy(), x.numpy().var(0, ddof=1), rtol=1e-5)


def test_momentum_weighs_the_new_batch():
    """After 10 steps 65 % of the true mean, after 22 90 %, after 44 99 %; debiased, at once."""
    plain, debiased = nn.BatchNorm1d(1).double(), nn.BatchNorm1d(1, debias=True).double()
    x = mg.tensor([[99.0], [101.0]], dtype=mg.float64)
    for t in range(1, 45):
        plain(x), debiased(x)
        if t in (10, 22, 44):
            share = plain.running_mean.item() / 100
            assert share == pytest.approx(1 - 0.9**t, rel=1e-12)
            assert round(share, 2) == {10: 0.65, 22: 0.90, 44: 0.99}[t]
        assert debiased.running_mean.item() == pytest.approx(100, rel=1e-12)
        assert debiased.running_var.item() == pytest.approx(2, rel=1e-12)


def test_debiased_at_the_first_step_is_the_batch():
    bn = nn.BatchNorm2d(2, debias=True).double()
    x = rng.standard_normal((3, 2, 4, 4)) * 3 + 7
    bn(mg.tensor(x))
    assert np.array_equal(bn.running_mean.numpy(), F_stats(x)[0])
    assert np.allclose(bn.running_var.numpy(), F_stats(x)[1], rtol=1e-14)
    bn.reset_running_stats()
    assert bn.num_batches_tracked.item() == 0
    bn(mg.tensor(x))
    assert np.array_equal(bn.running_mean.numpy(), F_stats(x)[0])


def F_stats(x):  # noqa: N802 - what F.batch_norm itself finds
    mean, var = mg.zeros(2, dtype=mg.float64), mg.zeros(2, dtype=mg.float64)
    F.batch_norm(mg.tensor(x), mean, var, training=True, momentum=1.0)
    return mean.numpy(), var.numpy()


def test_the_same_keys_with_every_option():
    """A state goes from a layer with options to one without, and to PyTorch."""
    ours = nn.BatchNorm1d(3, debias=True, unbiased=False)
    ours(mg.randn(4, 3))
    plain = nn.BatchNorm1d(3)
    plain.load_state_dict(ours.state_dict())
    assert same(state(plain), state(ours))


# ---- switches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("updates", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_three_switches_that_train_does_not_undo(statistics, updates, affine, fused):
    bn = nn.BatchNorm1d(3, fused=fused).double()
    bn(mg.tensor(rng.standard_normal((8, 3)) * 2 + 1))
    bn.freeze(statistics=statistics, updates=updates, affine=affine)
    for wrap in (bn, nn.Sequential(bn)):
        wrap.train()
    before = state(bn)
    x = rng.standard_normal((5, 3)) - 4
    leaf = mg.tensor(x, requires_grad=True)
    y = bn(leaf)
    mean, var = (x.mean(0), x.var(0))
    if statistics:
        mean, var = before["running_mean"], before["running_var"]
    np.testing.assert_allclose(y.detach().numpy(), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-10)
    after = state(bn)
    if updates:
        assert same(before, after)
    else:
        assert after["num_batches_tracked"] == 2
        for key, new in (("running_mean", x.mean(0)), ("running_var", x.var(0, ddof=1))):
            np.testing.assert_allclose(after[key], 0.9 * before[key] + 0.1 * new, rtol=1e-12)
    y.square().sum().backward()
    assert (bn.weight.grad is None) == (bn.bias.grad is None) == affine
    expected = mg.tensor(x, requires_grad=True)
    (
        F.batch_norm(expected, *map(mg.tensor, (mean, var)))
        if statistics
        else F.batch_norm(expected, None, None, training=True)
    ).square().sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), expected.grad.numpy(), rtol=1e-9, atol=1e-12)

    bn.unfreeze()
    assert (bn.normalize_by, bn.update_running, bn.weight.requires_grad) == ("mode", True, True)
    bn(mg.tensor(x))
    assert not np.array_equal(state(bn)["running_mean"], after["running_mean"])


def test_switches_survive_copies_and_files(tmp_path):
    bn = nn.BatchNorm1d(3).freeze()
    for twin in (copy.deepcopy(bn), pickle.loads(pickle.dumps(bn))):
        assert (twin.normalize_by, twin.update_running) == ("running", False)
        assert not twin.weight.requires_grad


def test_update_bn_leaves_what_is_frozen():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model(mg.randn(8, 3) + 1)
    model[1].freeze()
    model[2].freeze(updates=False)
    before = state(model)
    mg.optim.swa_utils.update_bn([mg.randn(8, 3), mg.randn(8, 3)], model)
    after = state(model)
    for key, value in before.items():
        stays = key.startswith("1") or key.endswith(("weight", "bias", "tracked"))
        assert np.array_equal(value, after[key]) == stays or key.endswith("tracked"), key
    assert (model[1].normalize_by, model[2].normalize_by) == ("running", "running")


def test_frozen_takes_a_batch_of_one():
    bn = nn.BatchNorm1d(3).freeze().train()
    assert bn(mg.randn(1, 3)).shape == (1, 3)
    bn.unfreeze(statistics=False)  # its variance would be wanted
    with pytest.raises(ValueError, match="more than one value"):
        bn(mg.randn(1, 3))


def test_the_batch_may_normalise_in_eval_mode():
    bn = nn.BatchNorm1d(3).eval()
    bn.normalize_by = "batch"
    before = state(bn)
    y = bn(mg.randn(50, 3) * 3 + 2).detach().numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    assert same(before, state(bn))


def test_wrong_switches():
    bn = nn.BatchNorm1d(3, track_running_stats=False)
    with pytest.raises(ValueError, match=r"no running estimates.*track_running_stats=True"):
        bn.freeze()
    assert not bn.freeze(statistics=False).weight.requires_grad
    bn.normalize_by = "sample"
    with pytest.raises(ValueError, match='"mode", "batch" or "running", got \'sample\''):
        bn(mg.randn(2, 3))


def test_a_model_frozen_layer_by_layer():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.freeze()
    optimizer = mg.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = state(model[1])
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        model(mg.randn(6, 4)).square().sum().backward()
        optimizer.step()
    assert same(before, state(model[1]))


# ---- what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bn", "words"),
    [
        (nn.BatchNorm1d(3), "running = 0.9 running + 0.1 batch"),
        (nn.BatchNorm2d(3, momentum=0.01), "running = 0.99 running + 0.01 batch"),
        (nn.BatchNorm1d(3, momentum=0.9), "running = 0.1 running + 0.9 batch"),
        (nn.BatchNorm1d(3, momentum=None), "running = the mean of all batches"),
        (
            nn.BatchNorm1d(3, debias=True, unbiased=False),
            "running = 0.9 running + 0.1 batch, debiased, variance biased",
        ),
        (nn.BatchNorm1d(3).freeze(), "running stays as it is, and normalises"),
        (
            nn.BatchNorm1d(3).freeze(updates=False),
            "running = 0.9 running + 0.1 batch, and normalises",
        ),
        (nn.BatchNorm1d(3, track_running_stats=False), ""),
    ],
)
def test_the_update_is_spelled_out(bn, words):
    assert bn.update_in_words() == words
    line = repr(bn)
    assert line.endswith(f"  # {words}") if words else "#" not in line
    eval(line.split("  #")[0], {**vars(nn)})  # still Python
    assert line in repr(nn.Sequential(bn))


def test_options_are_printed_where_they_are_set():
    assert "unbiased" not in repr(nn.BatchNorm1d(3)) and "debias" not in repr(nn.BatchNorm1d(3))
    shown = nn.BatchNorm1d(3, debias=True, unbiased=False).extra_repr()
    assert shown.endswith("track_running_stats=True, unbiased=False, debias=True")


def test_one_value_per_channel_is_refused_with_remedies():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    with pytest.raises(ValueError) as caught:
        model(mg.randn(1, 4))
    said = str(caught.value)
    for part in ("BatchNorm1d", "(1, 3)", "drop_last=True", "model.eval()", "LayerNorm"):
        assert part in said
    assert said.endswith("[model.1.1]")


# ---- an affine map ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"bias": False}, {"eps": 0.1}, {"momentum": None}]
)
def test_in_eval_mode_it_is_an_affine_map(options):
    bn = nn.BatchNorm2d(3, **options).double()
    with mg.no_grad():
        for p in bn.parameters():
            p += mg.tensor(rng.standard_normal(3))
    for _ in range(3):
        bn(mg.tensor(rng.standard_normal((4, 3, 2, 2)) * 2 + 1))
    scale, shift = bn.as_affine()
    assert scale.shape == shift.shape == (3,)
    x = mg.tensor(rng.standard_normal((4, 3, 2, 2)))
    wide = (3, 1, 1)
    y = scale.reshape(wide) * x + shift.reshape(wide)
    np.testing.assert_allclose(
        y.detach().numpy(), bn.eval()(x).detach().numpy(), rtol=1e-12, atol=1e-13
    )


def test_without_estimates_it_is_none():
    with pytest.raises(ValueError, match="affine map in no mode"):
        nn.BatchNorm1d(3, track_running_stats=False).as_affine()


# ---- the functional form ------------------------------------------------------------------------


def test_update_is_a_switch_of_its_own():
    x = mg.tensor(rng.standard_normal((5, 3)) + 2)
    mean, var = mg.zeros(3, dtype=mg.float64), mg.ones(3, dtype=mg.float64)
    F.batch_norm(x, mean, var, training=True, update=False)
    assert mean.equal(mg.zeros(3, dtype=mg.float64))
    F.batch_norm(x, mean, var, training=False, update=True, momentum=lambda: 0.5, unbiased=False)
    assert np.allclose(mean.numpy(), x.numpy().mean(0) / 2)
    assert np.allclose(var.numpy(), 0.5 + x.numpy().var(0) / 2)


def test_drawing_a_frozen_norm_shows_no_update():
    def edges(bn):
        x = mg.randn(4, 3, requires_grad=True)
        return mg.viz.graph(bn(x).sum(), model=bn).to_dot()

    assert "updated in place" in edges(nn.BatchNorm1d(3))
    assert "updated in place" not in edges(nn.BatchNorm1d(3).freeze(statistics=False))
