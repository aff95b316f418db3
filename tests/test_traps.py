"""Where courses, posts and frameworks err or disagree: what is told, run, and what it does.

A test for each row of the last table of docs/topics.md. What is wrong is written out as it is
told; the numbers say what it computes in truth.
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.data import DataLoader, load_digits
from minigrad.nn import functional as F


@pytest.fixture(autouse=True)
def seed():
    mg.manual_seed(0)


def normal(*shape, mean=0.0, std=1.0):
    return mg.randn(*shape, dtype=mg.float64) * std + mean


def test_momentum_with_its_sides_exchanged():
    """ "p = 0.1: running = p running + (1 - p) batch" forgets 90 % at every step."""
    told, meant = nn.BatchNorm1d(1, momentum=0.9), nn.BatchNorm1d(1, momentum=0.1)
    assert "0.1 running + 0.9 batch" in repr(told)
    assert "0.9 running + 0.1 batch" in repr(meant)
    means = {told: [], meant: []}
    for _ in range(2000):
        x = normal(32, 1).float()
        for bn, seen in means.items():
            bn(x)
            seen.append(bn.running_mean.item() * math.sqrt(32))
    for bn, seen in means.items():  # noise of an average, in units of the noise of one batch's mean
        p = bn.momentum
        assert np.std(seen[100:]) == pytest.approx(math.sqrt(p / (2 - p)), rel=0.15)
    assert np.std(means[told]) > 3.5 * np.std(means[meant])  # 0.90 and 0.23
    x = normal(32, 1, mean=5).float()
    told(x)
    assert told.running_mean.item() == pytest.approx(0.9 * x.mean().item(), rel=0.05)


def test_mean_over_the_last_axis_is_layer_norm():
    """``K.mean(X, axis=-1)`` of (batch, features) averages the features of one sample."""
    x = normal(6, 4) * mg.tensor([1.0, 2.0, 3.0, 4.0]).double() + mg.arange(4.0).double()
    mean, std = x.mean(-1, keepdim=True), x.std(-1, correction=0, keepdim=True)
    told = (x - mean) / (std + 1e-7)
    np.testing.assert_allclose(told.numpy(), F.layer_norm(x, (4,), eps=0.0).numpy(), atol=1e-6)
    assert told.mean(1).abs().max().item() < 1e-12  # rows have mean 0
    assert told.mean(0).abs().max().item() > 0.5  # columns have not
    right = F.batch_norm(x, None, None, training=True)
    assert right.mean(0).abs().max().item() < 1e-12


@pytest.mark.parametrize(
    ("variance", "std_told", "std_right"),
    [(1.0, 0.99850, 0.99950), (1e-3, 0.69164, 0.70711), (1e-6, 0.030639, 0.031607)],
)
def test_eps_added_twice(variance, std_told, std_right):
    """``std = sqrt(var + eps)`` and then ``(x - mean) / (std + eps)``, here with Keras' 1e-3."""
    x, eps = normal(1000, 1), 1e-3
    x = (x - x.mean()) / x.std(correction=0) * math.sqrt(variance)
    told = x / ((x.var(0, correction=0) + eps).sqrt() + eps)
    right = F.batch_norm(x, None, None, training=True, eps=eps)
    assert told.std(correction=0).item() == pytest.approx(std_told, rel=1e-4)
    assert right.std(correction=0).item() == pytest.approx(std_right, rel=1e-4)
    # the second eps takes off a share of 1 - 1 / (1 + sqrt(eps)) = 3.1 % at most; the first decides


@pytest.mark.parametrize(("m", "ratio"), [(2, math.sqrt(2 / math.pi)), (32, 0.9922)])
def test_a_running_deviation_is_too_small(m, ratio):
    """The mean of standard deviations is below the root of the mean variance (Jensen)."""
    deviations = normal(20_000, m).std(1, correction=0)
    mean_of_roots, root_of_mean = deviations.mean().item(), (deviations**2).mean().sqrt().item()
    assert mean_of_roots < root_of_mean
    assert mean_of_roots / root_of_mean == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(("shape", "percent"), [((32, 1), 3.226), ((64, 1, 28, 28), 0.00199)])
def test_biased_or_unbiased_is_a_matter_of_m(shape, percent):
    """m / (m - 1) is 3.2 % for 32 values and nothing for a layer of images."""
    x, kept = normal(*shape), []
    for unbiased in (True, False):
        make = nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d
        bn = make(1, momentum=1.0, unbiased=unbiased).double()
        bn(x)
        kept.append(bn.running_var.item())
    assert 100 * (kept[0] / kept[1] - 1) == pytest.approx(percent, rel=1e-2)


@pytest.mark.parametrize("std", [0.1, 1.0, 10.0])
def test_dividing_by_the_variance(std):
    """ "Subtract E(x), divide by the variance": the deviation is then 1 / σ, not 1."""
    x = normal(10_000, 1, std=std)
    told = (x - x.mean(0)) / x.var(0, correction=0)
    assert told.std(correction=0).item() == pytest.approx(1 / std, rel=0.03)
    right = F.batch_norm(x, None, None, training=True, eps=1e-12)
    assert right.std(correction=0).item() == pytest.approx(1)


def test_one_sigma_holds_68_percent():
    """Not 64 %: erf(1 / √2) = 0.6827, and 0.9545 within two."""
    within = mg.erf(mg.tensor([1.0, 2.0]).double() / math.sqrt(2))
    np.testing.assert_allclose(within.numpy(), [0.682689, 0.954500], atol=1e-6)
    assert (normal(100_000).abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=0.005)


def test_scale_and_shift_belong_to_the_channel():
    """They do not differ "for each instance": every sample of a channel has the same γ and β."""
    bn = nn.BatchNorm1d(3).double()
    with mg.no_grad():
        bn.weight.copy_(mg.tensor([2.0, 5.0, 0.5]))
        bn.bias.copy_(mg.tensor([3.0, 8.0, -1.0]))
    for n in (4, 40):
        opened = inspect.trace(bn, normal(n, 3))
        for c in range(3):
            slope, shift = np.polyfit(opened.x_hat[:, c], opened.y[:, c], 1)
            assert slope == pytest.approx(opened.gamma[c])
            assert shift == pytest.approx(opened.beta[c])
        assert sum(p.numel() for p in bn.parameters()) == 6  # for any number of samples


def deep(norm, layers=12):
    mg.manual_seed(1)
    parts = [nn.Flatten()]
    for i in range(layers):
        parts.append(nn.Linear(64 if i == 0 else 32, 32, bias=not norm))
        parts += [nn.BatchNorm1d(32)] if norm else []
        parts.append(nn.Sigmoid())
    return nn.Sequential(*parts, nn.Linear(32, 10))


def test_three_reasons_why_are_three_measurements():
    """Vanishing gradients, covariate shift, regularization: BN mends the first, not the second.

    (The third, and how smooth the loss is: docs/experiments/tolerance.md and docs/inspect.md.)
    """
    train, _ = load_digits()
    images, labels = next(iter(DataLoader(train, 128)))
    reaches, shifts = {}, {}
    for norm in (False, True):
        model = deep(norm)
        loss = lambda model=model: F.cross_entropy(model(images), labels)  # noqa: E731
        loss().backward()
        first, last = (model[i].weight.grad.norm().item() for i in (1, -1))
        reaches[norm] = first / last
        shift = inspect.covariate_shift(model, loss, lr=0.1)
        shifts[norm] = np.mean([row.cosine for row in shift][1:])
    assert reaches[False] < 1e-6 < 0.1 < reaches[True]
    assert shifts[True] < shifts[False]  # with BN an update turns the next gradients *more*


def test_a_saddle_has_no_slope():
    """The gradient is zero there in every direction; the curvatures differ in sign."""
    point = mg.zeros(2, dtype=mg.float64, requires_grad=True)
    (slope,) = mg.grad(point[0] ** 2 - point[1] ** 2, point, create_graph=True)
    assert slope.tolist() == [0, 0]
    hessian = [mg.grad(slope[i], point, retain_graph=True)[0].tolist() for i in (0, 1)]
    assert hessian == [[2, 0], [0, -2]]
    # 0.5ⁿ supposes independent signs; a symmetric 2 x 2 Gaussian matrix has (2 - √2) / 4 = 0.146
    a = np.random.default_rng(0).normal(size=(40_000, 2, 2))
    minima = (np.linalg.eigvalsh(a + a.swapaxes(1, 2)) > 0).all(1).mean()
    assert minima == pytest.approx((2 - math.sqrt(2)) / 4, abs=0.006)
    assert minima < 0.2 < 0.5**2


@pytest.mark.parametrize("size", [6, 50, 64, 100])
def test_batches_need_no_power_of_two(size):
    """ "A multiple of 2" (said) is not a power of two (meant), and the last batch is neither."""
    train, _ = load_digits()
    sizes = [len(labels) for _, labels in DataLoader(train, size)]
    assert set(sizes[:-1]) == {size}
    assert sizes[-1] == (len(train) % size or size)
    assert (size & (size - 1) == 0) == (size == 64)  # three of the four are multiples only


@pytest.mark.parametrize(("n", "seen"), [(5, 5), (4, 4), (3, 3)])
def test_a_window_of_n_has_n_channels(n, seen):
    """Not "n + 1 points": for n = 5 two on each side. And whether α is divided by n differs.

    With an even n the paper's n // 2 on both sides would give n + 1; PyTorch and minigrad give n.
    """
    x = normal(1, 11, 1, 1).requires_grad_()
    F.local_response_norm(x, n, alpha=1.0)[0, 5].sum().backward()
    assert (x.grad != 0).sum().item() == seen
    ones = mg.ones(1, 11, 1, 1)
    middle = F.local_response_norm(ones, n, alpha=1.0, beta=1.0, k=1.0)[0, 5].item()
    assert middle == pytest.approx(1 / (1 + 1))  # PyTorch: α / n times n ones
    undivided = F.local_response_norm(ones, n, alpha=1.0 * n, beta=1.0, k=1.0)[0, 5].item()
    assert undivided == pytest.approx(1 / (1 + n))  # AlexNet, Chainer: pass n α


def test_gamma_and_beta_do_not_bring_the_drift_back():
    """They restore two moments, as free parameters; what the layers before do no longer moves them.

    So that γ = σ and β = μ undo the normalization for one batch does not undo it for the training.
    """
    x, w = normal(256, 8), normal(8, 4)
    bn = nn.BatchNorm1d(4, eps=1e-30).double()
    with mg.no_grad():
        before = x @ w
        bn.weight.copy_(before.std(0, correction=0))
        bn.bias.copy_(before.mean(0))
        np.testing.assert_allclose(bn(before).numpy(), before.numpy(), atol=1e-12)  # the identity
        after = 3 * (x @ w) + 2  # the layers before have moved
        restored = bn(after)
    np.testing.assert_allclose(restored.numpy(), before.numpy(), atol=1e-12)
    assert (after.mean(0) - before.mean(0)).abs().min().item() > 1.5


def small(order):
    parts = [nn.Flatten()]
    for inner in (64, 32):
        layer = {"norm": nn.BatchNorm1d(32), "act": nn.ReLU()}
        parts += [nn.Linear(inner, 32, bias=order == ["act"]), *(layer[k] for k in order)]
    return nn.Sequential(*parts, nn.Linear(32, 10))


def learn(model, steps, lr=0.1, mark=None):
    """The test accuracy after so many steps; or the steps (in tens) until it reaches the mark."""
    train, test = load_digits()
    (x, y), (x_test, y_test) = train.tensors, test.tensors
    optimizer = optim.SGD(model.parameters(), lr=lr)
    for step in range(1, steps + 1):
        rows = mg.randint(0, len(x), (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if step == steps or (mark and step % 10 == 0):
            model.eval()
            with mg.no_grad():
                right = (model(x_test).argmax(1) == y_test).float().mean().item()
            model.train()
            if mark and right >= mark:
                return step
    return steps if mark else right


def test_before_or_after_the_activation():
    """Two functions: one's output has mean 0, the other's no negative value.

    "No big difference" is true of the convolutional network of docs/experiments/relatives.md. In
    this perceptron before is two points ahead after 300 steps: 0.964 against 0.942.
    """
    x = normal(64, 5)
    bn = nn.BatchNorm1d(5).double()
    assert F.relu(bn(x)).min().item() == 0
    assert bn(F.relu(x)).min().item() < 0
    before, after = [], []
    for run in range(3):
        for order, scores in (["norm", "act"], before), (["act", "norm"], after):
            mg.manual_seed(run)
            scores.append(learn(small(order), 300))
    assert min(before + after) > 0.93
    assert min(before) > max(after)
    assert 0.01 < np.mean(before) - np.mean(after) < 0.04


def test_ten_times_faster_depends():
    """How much faster BN gets to 90 %: it depends on the rate; 8 times at 0.1, 4.3 at 0.5."""
    times = {}
    for lr in (0.1, 0.5):
        steps = {}
        for order in (["norm", "act"], ["act"]):
            counts = []
            for run in range(3):
                mg.manual_seed(run)
                counts.append(learn(small(order), 500, lr, mark=0.9))
            steps["norm" in order] = np.median(counts)
        times[lr] = steps[False] / steps[True]
    assert 5 < times[0.1] < 12
    assert 1 < times[0.5] < times[0.1] / 1.5


def test_where_eps_stands():
    """RMSprop with eps 1e-7 inside the root (Keras) or outside (PyTorch): a factor of ten."""
    steps = []
    for inside in (True, False):
        w = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        w.grad = mg.tensor([1e-4]).double()
        optim.RMSprop([w], lr=0.01, alpha=0.9, eps=1e-7, eps_inside_sqrt=inside).step()
        steps.append(-w.item())
    assert steps == pytest.approx(
        [0.01e-4 / math.sqrt(1e-9 + 1e-7), 0.01e-4 / (math.sqrt(1e-9) + 1e-7)]
    )
    assert steps[1] / steps[0] == pytest.approx(10, rel=0.02)
    first = []
    for hat in (True, False):  # Adam, before the correction (Keras, paper's ε̂) or after it
        w = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        w.grad = mg.tensor([1e-6]).double()
        optim.Adam([w], lr=0.01, eps=1e-7, eps_hat=hat).step()
        first.append(-w.item())
    root = math.sqrt(0.001)
    assert first == pytest.approx([0.01 * 1e-6 / (1e-6 + 1e-7 / root), 0.01 / 1.1], rel=1e-6)
