"""What introductions tell about normalization and training, in numbers small enough for a test.

docs/topics.md lists which topic is shown by which of them.
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.data import DataLoader, PCAWhitening, Standardize, TensorDataset, load_digits
from minigrad.nn import functional as F


@pytest.fixture(autouse=True)
def seed():
    mg.manual_seed(0)


def normal(*shape, mean=0.0, std=1.0):
    return mg.randn(*shape, dtype=mg.float64) * std + mean


def train(model, steps, lr=0.1, size=32, kind=optim.SGD):
    (x, y), _ = (part.tensors for part in load_digits())
    optimizer = kind(model.parameters(), lr=lr)
    for _ in range(steps):
        rows = mg.randint(0, len(x), (size,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval()


def accuracy(model, shift=0.0):
    x, y = load_digits()[1].tensors
    with mg.no_grad():
        return (model(x + shift).argmax(1) == y).float().mean().item()


# ---- inputs -------------------------------------------------------------------------------------


def test_a_test_set_fitted_on_itself_hides_that_it_differs():
    """Standardized by its own mean, a shifted test set looks as the training set does."""
    inside, outside = normal(500, 3), normal(500, 3, mean=2.0)
    right = Standardize().fit(inside)
    assert right(outside).mean().item() == pytest.approx(2.0, abs=0.15)
    leaked = Standardize().fit(outside)
    assert leaked(outside).mean().item() == pytest.approx(0.0, abs=1e-6)


def test_where_eigenvalues_meet_whitening_jumps():
    """Eigenvectors have gradients of 1 / (λi - λj): why no layer whitens by PCA in full.

    A change of 1e-5 in one sample turns the directions of round data by as much as they can turn;
    standardized data move by 1e-5.
    """
    round_ = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]) + 1e-9
    moved = {}
    for name, make in ("pca", PCAWhitening), ("standardize", Standardize):
        results = []
        for step in (1e-5, -1e-5):
            x = round_.copy()
            x[0, 1] += step  # a covariance of a sign or of the other
            x = mg.tensor(x)
            results.append(make().fit(x)(x).numpy())
        moved[name] = np.abs(results[0] - results[1]).max()
    assert moved["standardize"] < 1e-4
    assert moved["pca"] > 0.5


def test_a_shift_of_the_inputs_and_statistics_made_anew():
    """Digits half a grey level brighter: 96 % becomes 63 %, and 96 % again with new statistics."""
    scores = []
    for run in range(3):
        mg.manual_seed(run)
        model = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU()),
            nn.Linear(32, 10),
        )
        train(model, 300, lr=0.01, kind=optim.Adam)
        row = [accuracy(model), accuracy(model, shift=0.5)]
        optim.swa_utils.update_bn([load_digits()[1].tensors[0] + 0.5], model)
        scores.append([*row, accuracy(model, shift=0.5)])
    before, shifted, anew = np.mean(scores, axis=0)
    assert before > 0.94
    assert shifted < before - 0.2
    assert abs(anew - before) < 0.02


# ---- the algorithm ------------------------------------------------------------------------------


def test_shapes_of_a_fully_connected_batch():
    """(10, 256): a mean and a variance for each of 256 features, over 10 samples."""
    opened = inspect.trace(nn.BatchNorm1d(256), mg.randn(10, 256))
    assert (opened.mu.shape, opened.var.shape, opened.y.shape) == ((256,), (256,), (10, 256))


def test_parameters_of_images_belong_to_the_map_not_to_the_place():
    """Six maps of 100 x 100: six pairs of γ and β; one pair a place would be 120,000 numbers."""
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(nn.BatchNorm2d(6)) == 12
    assert count(nn.LayerNorm((6, 100, 100))) == 120_000
    x = mg.randn(2, 6, 100, 100)
    assert inspect.trace(nn.BatchNorm2d(6), x).mu.shape == (6,)
    assert nn.BatchNorm2d(6)(x).shape == x.shape


def test_means_of_means():
    """The mean of equal groups' means is the mean; the mean of variances is not the variance."""
    x = mg.arange(16.0).reshape(2, 2, 2, 2).double()
    chain = x.mean(0, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)
    assert chain.shape == (1, 2, 1, 1)
    assert chain.flatten().tolist() == x.mean((0, 2, 3)).tolist() == [5.5, 9.5]
    assert x.var((0, 2, 3), correction=0).tolist() == [17.25, 17.25]
    assert x.var((2, 3), correction=0).mean(0).tolist() == [1.25, 1.25]  # the batch axis is lost
    groups = [mg.tensor([0.0, 0.0, 0.0]), mg.tensor([4.0])]  # of unequal size: masks, padding
    assert np.mean([g.mean().item() for g in groups]) == 2.0 != mg.cat(groups).mean().item()


def test_gamma_begins_at_1_and_beta_at_0():
    for norm in (nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4)):
        assert norm.weight.tolist() == [1] * 4
        assert norm.bias.tolist() == [0] * 4


def test_the_identity_is_within_reach_and_still_normalized():
    """γ = √(σ² + ε) and β = μ give x back. The gradient is not that of the identity, though:

    γ and β are parameters, not functions of the batch, so what flows back to x has still lost its
    mean and its part along x̂.
    """
    x, bn = normal(32, 3, mean=4, std=2), nn.BatchNorm1d(3).double()
    with mg.no_grad():
        bn.weight.copy_((x.var(0, correction=0) + bn.eps).sqrt())
        bn.bias.copy_(x.mean(0))
    opened = inspect.trace(bn, x, normal(32, 3))
    np.testing.assert_allclose(opened.y, x.numpy(), atol=1e-12)
    assert np.abs(opened.dx - opened.dy).max() > 0.1
    np.testing.assert_allclose(opened.dx.sum(0), 0, atol=1e-12)
    assert np.abs((opened.dx * opened.x_hat).sum(0)).max() < 1e-4  # 0 but for ε
    assert np.abs((opened.dy * opened.x_hat).sum(0)).max() > 1


def test_scale_and_shift_of_the_input_are_lost():
    """BN(a x + b) = BN(x) for a > 0, up to ε."""
    x, bn = normal(16, 3), nn.BatchNorm1d(3, eps=1e-12).double()
    np.testing.assert_allclose(bn(5 * x - 7).detach(), bn(x).detach(), atol=1e-9)
    np.testing.assert_allclose(bn(-5 * x).detach(), -bn(x).detach(), atol=1e-9)


def test_a_single_sample_at_inference():
    """Eval mode does not wait for a batch: one sample gets what it got among others."""
    bn = nn.BatchNorm1d(3)
    bn(mg.randn(64, 3))
    bn.eval()
    x = mg.randn(5, 3)
    np.testing.assert_allclose(bn(x[:1]).detach(), bn(x)[:1].detach(), rtol=1e-6)
    with pytest.raises(ValueError, match="needs more than one value per channel"):
        bn.train()(x[:1])


def test_larger_batches_point_closer_to_the_gradient_of_all():
    """Cosine of a batch's gradient with that of all 1,438 digits: 0.12 for one, 0.91 for 256."""
    x, y = load_digits()[0].tensors
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def gradient(rows):
        model.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        flat = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
        return flat / np.linalg.norm(flat)

    everything = gradient(mg.arange(len(x)))
    cosines = [
        np.mean([gradient(mg.randperm(len(x))[:size]) @ everything for _ in range(50)])
        for size in (1, 4, 16, 64, 256)
    ]
    assert cosines == sorted(cosines)
    assert cosines[0] == pytest.approx(0.12, abs=0.05)
    assert cosines[-1] == pytest.approx(0.91, abs=0.03)


def test_with_other_neighbours_a_sample_is_another():
    """In train mode a sample's output depends on its batch; shuffling gives it new neighbours."""
    data = TensorDataset(mg.arange(64))

    def neighbours(loader):
        return next({*b.tolist()} - {0} for (b,) in loader if 0 in b.tolist())

    fixed, mixed = DataLoader(data, 8), DataLoader(data, 8, shuffle=True)
    assert neighbours(fixed) == neighbours(fixed) == set(range(1, 8))
    assert len({frozenset(neighbours(mixed)) for _ in range(5)}) == 5
    bn, x = nn.BatchNorm1d(3), mg.randn(8, 3)
    other = mg.cat([x[:1], mg.randn(7, 3)])
    assert (bn(x)[0] - bn(other)[0]).abs().max().item() > 0.1
    bn.eval()
    assert (bn(x)[0] - bn(other)[0]).abs().max().item() == 0


# ---- why it works -------------------------------------------------------------------------------


def test_a_sigmoid_before_and_after():
    """N(-2, variance 0.5) taken to N(0, 1): a mean slope of 0.112 becomes 0.207."""
    z, slopes = normal(200_000), []
    for x in (z * math.sqrt(0.5) - 2, z):
        x.requires_grad_()
        mg.sigmoid(x).sum().backward()
        slopes.append(x.grad.mean().item())
    assert slopes == pytest.approx([0.1123, 0.2066], abs=5e-4)


def test_what_normalizing_costs_a_sigmoid_and_gamma_buys_back():
    """For N(0, 1) a straight line explains 98 % of a sigmoid; with γ = 8 only 75 %.

    So normalized inputs leave it nearly linear, and γ decides how far it bends.
    """
    z, explained = normal(200_000), []
    for gamma in (1, 2, 4, 8):
        s = mg.sigmoid(gamma * z)
        explained.append(np.corrcoef(z.numpy(), s.numpy())[0, 1] ** 2)
    assert explained == pytest.approx([0.984, 0.930, 0.838, 0.752], abs=3e-3)


@pytest.mark.parametrize(("norm", "moved"), [(False, 0.25), (True, 0.014)])
def test_layers_above_feel_less_of_the_first(norm, moved):
    """The first weights drawn anew in part: how far the third layer's outputs' means go.

    Measured in deviations of these outputs: 0.25 without BN, 0.014 with it.
    """
    mg.manual_seed(1)
    layers = [nn.Flatten()]
    for inner in (64, 32, 32):
        layers.append(nn.Linear(inner, 32))
        layers += [nn.BatchNorm1d(32), nn.ReLU()] if norm else [nn.ReLU()]
    model, x = nn.Sequential(*layers), load_digits()[0].tensors[0]
    with mg.no_grad():
        model[1].weight.mul_(3.0)
        before = model(x).numpy()
        mg.manual_seed(2)
        model[1].weight.add_(mg.randn(32, 64) * 0.2)
        after = model(x).numpy()
    shift = np.abs(after.mean(0) - before.mean(0)).mean() / before.std()
    assert shift == pytest.approx(moved, rel=0.3)


@pytest.mark.parametrize("a", [0.1, 3.0, 100.0])
def test_weights_times_a_have_gradients_over_a(a):
    """BN(a W u) = BN(W u), and dL/d(a W) = dL/dW / a."""
    u, target = normal(32, 5), normal(32, 4)
    weight, results = normal(4, 5), []
    for scale in (1.0, a):
        w = (weight * scale).requires_grad_()
        y = F.batch_norm(u @ w.T, None, None, training=True, eps=1e-14)
        ((y - target) ** 2).sum().backward()
        results.append((y.detach().numpy(), w.grad.numpy()))
    (y, grad), (y_a, grad_a) = results
    np.testing.assert_allclose(y_a, y, atol=1e-9)
    np.testing.assert_allclose(grad_a * a, grad, rtol=1e-6, atol=1e-9)


def test_local_response_normalization_does_not_do_what_batch_norm_does():
    """One small network after 150 steps at rate 0.3: BN 0.96, none 0.89, LRN 0.74.

    LRN as in AlexNet (n = 5, k = 2, α = 1e-4, β = 0.75) is here little but a factor 2^-0.75 = 0.59
    at every layer.
    """
    x = mg.randn(2, 16, 4, 4)
    lrn = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    np.testing.assert_allclose(lrn(x), x * 2**-0.75, rtol=1e-3)
    kinds = {"batch": nn.BatchNorm2d, "local": lambda _: lrn, "none": lambda _: nn.Identity()}
    scores = {}
    for name, make in kinds.items():
        mg.manual_seed(0)
        blocks = []
        for channels, wide in ((1, 8), (8, 16)):
            conv = nn.Conv2d(channels, wide, 3, padding=1)
            blocks += [conv, make(wide), nn.ReLU(), nn.MaxPool2d(2)]
        model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, 10))
        scores[name] = accuracy(train(model, 150, lr=0.3))
    assert scores["batch"] > 0.93
    assert scores["batch"] > scores["none"] > scores["local"]


# ---- relatives ----------------------------------------------------------------------------------


def test_columns_and_rows_of_the_same_table():
    """Two samples of four units: BN averages columns, LN rows."""
    x = mg.tensor([[1.0, 2.0, 3.0, 6.0], [3.0, 6.0, 3.0, 0.0]]).double()
    batch = inspect.trace(nn.BatchNorm1d(4, eps=1e-12).double(), x)
    layer = inspect.trace(nn.LayerNorm(4, eps=1e-12).double(), x)
    assert (batch.mu.tolist(), layer.mu.tolist()) == ([2, 4, 3, 3], [3, 3])
    assert (batch.var.tolist(), layer.var.tolist()) == ([1, 4, 0, 9], [3.5, 4.5])
    np.testing.assert_allclose(batch.y, [[-1, -1, 0, 1], [1, 1, 0, -1]], atol=1e-6)
    rows = [np.array([-2, -1, 0, 3]) / 3.5**0.5, np.array([0, 3, 0, -3]) / 4.5**0.5]
    np.testing.assert_allclose(layer.y, rows, atol=1e-6)


def test_layer_norm_knows_neither_batch_nor_mode():
    norm, x = nn.LayerNorm(5), mg.randn(8, 5)
    y = norm(x)
    np.testing.assert_array_equal(norm(x[:1]).detach(), y[:1].detach())
    np.testing.assert_array_equal(norm.eval()(x).detach(), y.detach())


def test_layer_norm_of_images_is_group_norm_of_one_group():
    """All neurons of the layer: (C, H, W). Over W alone it would be a norm of single lines."""
    x = normal(3, 4, 5, 6)
    whole = F.layer_norm(x, (4, 5, 6))
    np.testing.assert_allclose(whole, F.group_norm(x, 1), atol=1e-12)
    assert whole.mean((1, 2, 3)).abs().max().item() < 1e-12
    assert F.layer_norm(x, (6,)).mean(3).abs().max().item() < 1e-12
    np.testing.assert_allclose(F.instance_norm(x), F.group_norm(x, 4), atol=1e-12)


# ---- optimization -------------------------------------------------------------------------------


def test_one_sample_a_batch_and_all_of_them():
    """Five epochs at rate 0.1: loss 0.10 with batches of 1, 0.48 with 32, 2.3 with all at once.

    With all at once the loss never rises; otherwise it rises at about every second step.
    """
    x, y = load_digits()[0].tensors
    found = {}
    for size in (1, 32, len(x)):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer, losses = optim.SGD(model.parameters(), lr=0.1), []
        for _ in range(5):
            for rows in mg.randperm(len(x)).split(size):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        with mg.no_grad():
            found[size] = F.cross_entropy(model(x), y).item(), (np.diff(losses) > 0).mean()
    ends, rising = zip(*found.values(), strict=True)
    assert ends == pytest.approx([0.095, 0.48, 2.31], rel=0.15)
    assert rising[2] == 0
    assert min(rising[:2]) > 0.4
