"""The measures of Santurkar et al. (2018), on functions whose answers are known."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.nn import functional as F
from tests.fingerprint import fingerprint


class Quadratic(nn.Module):
    """½ wᵀ H w."""

    def __init__(self, hessian, start):
        super().__init__()
        self.w = nn.Parameter(mg.tensor(start, dtype="float64"))
        self.register_buffer("hessian", mg.tensor(hessian, dtype="float64"))

    def forward(self):
        return 0.5 * self.w @ self.hessian @ self.w


H = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])
W = np.array([1.0, -2.0, 0.5])
G = H @ W


def test_the_measures_of_a_quadratic():
    model, steps = Quadratic(H, W), [0.1, 0.3, 0.5]
    values = [0.5 * (W - s * G) @ H @ (W - s * G) for s in steps]
    low, high = inspect.loss_variation(model, model, steps)
    assert (low, high) == pytest.approx((min(values), max(values)), rel=1e-12)
    assert inspect.loss_variation(model, model, steps).width == high - low
    changes = [s * np.linalg.norm(H @ G) for s in steps]  # g(w) - g(w - ηg) = η H g
    found = inspect.gradient_predictiveness(model, model, steps)
    assert found == pytest.approx((min(changes), max(changes)), rel=1e-12)
    for some in (steps, [0.01], [0.0, 0.2], [-0.3, 0.1]):  # whatever the steps
        beta = inspect.smoothness(model, model, some)
        assert beta == pytest.approx(np.linalg.norm(H @ G) / np.linalg.norm(G), rel=1e-12)
        assert beta <= np.linalg.eigvalsh(H).max()
    curve = inspect.loss_landscape(model, model, steps)
    np.testing.assert_allclose(curve.losses, values, rtol=1e-12)
    assert inspect.loss_landscape(model, model).steps.tolist()[:2] == [0.0, 0.05]


def test_a_gradient_along_an_eigenvector_meets_its_eigenvalue():
    values, vectors = np.linalg.eigh(H)
    for value, vector in zip(values, vectors.T, strict=True):
        model = Quadratic(H, vector)
        assert inspect.smoothness(model, model) == pytest.approx(value, rel=1e-12)


def test_a_linear_loss_is_perfectly_predictable():
    model = nn.Linear(3, 1).double()
    x = mg.randn(5, 3, dtype="float64")
    loss = lambda: model(x).sum()  # noqa: E731
    assert inspect.gradient_predictiveness(model, loss) == (0.0, 0.0)
    assert inspect.smoothness(model, loss) == 0.0


def test_the_smoothness_of_a_kink():
    """|w| has the gradient 1 on one side and -1 on the other: 2 over the way past 0."""
    model = nn.ParameterList([nn.Parameter(mg.tensor([0.1]))])
    loss = lambda: model[0].abs().sum()  # noqa: E731
    assert inspect.gradient_predictiveness(model, loss, [0.05, 0.2]) == (0.0, 2.0)
    assert inspect.smoothness(model, loss, [0.05, 0.2]) == pytest.approx(10.0)


def test_the_plane_is_filter_normalised():
    model = nn.Sequential(nn.Linear(3, 4).double(), nn.Conv1d(1, 2, 3).double())
    with mg.no_grad():
        model[0].weight[0] = 0.0
    seen = []

    def loss():
        seen.append([p.array.copy() for p in model.parameters()])
        return sum((p * p).sum() for p in model.parameters())

    flat = inspect.loss_landscape(model, loss, [0.0, 1.0], dims=2)
    assert flat.losses.shape == (2, 2)
    start, first, second, both = seen
    for w, a, b, ab in zip(start, first, second, both, strict=True):
        d, e = a - w, b - w
        np.testing.assert_allclose(ab, w + d + e, atol=1e-12)
        if w.ndim == 1:  # biases stay
            assert not d.any() and not e.any()
            continue
        axes = tuple(range(1, w.ndim))
        for direction in (d, e):
            norms = np.sqrt((direction**2).sum(axes))
            np.testing.assert_allclose(norms, np.sqrt((w**2).sum(axes)), atol=1e-12)
    np.testing.assert_allclose(flat.losses[0, 1], sum((p**2).sum() for p in first))
    again = inspect.loss_landscape(model, loss, [0.0, 1.0], dims=2)
    np.testing.assert_array_equal(flat.losses, again.losses)
    other = inspect.loss_landscape(
        model, loss, [0.0, 1.0], dims=2, generator=mg.Generator().manual_seed(1)
    )
    assert (flat.losses != other.losses).any()


def test_batchnorm_makes_the_plane_blind_to_the_scale_of_weights():
    """With filter-normalised directions a network and its rescaled twin look the same."""
    mg.manual_seed(0)
    x, y = mg.randn(32, 6, dtype="float64"), mg.randint(0, 3, (32,))

    def planes(scale):
        mg.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8, eps=1e-12), nn.ReLU(), nn.Linear(8, 3)
        ).double()
        model[0].weight.array *= scale
        return inspect.loss_landscape(
            model, lambda: F.cross_entropy(model(x), y), np.linspace(-1, 1, 5), dims=2
        )

    np.testing.assert_allclose(planes(1.0).losses, planes(7.0).losses, rtol=1e-9)


# ---- internal covariate shift ----------------------------------------------------------------


class Product(nn.Module):
    """The loss (c b a - 1)² / 2 of a chain of three scalar layers."""

    def __init__(self):
        super().__init__()
        for name, value in (("third", 0.5), ("first", 2.0), ("second", 3.0)):
            layer = nn.Linear(1, 1, bias=False).double()
            layer.weight.array[:] = value
            setattr(self, name, layer)  # not in the order of use

    def forward(self, x):
        return self.third(self.second(self.first(x)))


def test_the_covariate_shift_of_three_scalars():
    model, x = Product(), mg.ones(1, 1, dtype="float64")
    loss = lambda: 0.5 * (model(x) - 1).square().sum()  # noqa: E731
    a, b, c, lr = 2.0, 3.0, 0.5, 0.1
    error = a * b * c - 1
    da, db, dc = error * b * c, error * a * c, error * a * b
    a2, b2 = a - lr * da, b - lr * db
    after = {
        "first": (da, da),
        "second": (db, (a2 * b * c - 1) * a2 * c),
        "third": (dc, (a2 * b2 * c - 1) * a2 * b2),
    }
    for given in ({"lr": lr}, {"optimizer": optim.SGD(model.parameters(), lr=lr)}):
        found = inspect.covariate_shift(model, loss, **given)
        assert [s.layer for s in found] == ["first", "second", "third"]
        for shift in found:
            now, then = after[shift.layer]
            assert shift.l2 == pytest.approx(abs(now - then), rel=1e-12)
            assert shift.cosine == pytest.approx(np.sign(now * then), rel=1e-12)
    assert "cos(G, G')" in str(found)


def test_the_first_layer_never_shifts_and_norms_move_with_the_layers_before():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 2))
    x, y = mg.randn(16, 4), mg.randint(0, 2, (16,))
    found = inspect.covariate_shift(model, lambda: F.cross_entropy(model(x), y), lr=0.5)
    assert [s.layer for s in found] == ["0", "2", "3"]
    assert found[0].l2 == 0.0
    assert found[0].cosine == pytest.approx(1.0)
    assert all(s.l2 > 1e-4 for s in found[1:])
    model[0].requires_grad_(False)  # now only the norm stands before layer 2, and it still moves
    found = inspect.covariate_shift(model, lambda: F.cross_entropy(model(x), y), lr=0.5)
    assert [s.layer for s in found] == ["2", "3"]
    assert found[0].l2 > 1e-4


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.RMSprop, optim.Momentum])
def test_the_step_is_the_one_that_the_optimizer_takes(kind):
    model = Product()
    optimizer = kind(model.parameters(), lr=0.01)
    x = mg.ones(1, 1, dtype="float64")
    loss = lambda: 0.5 * (model(x) - 1).square().sum()  # noqa: E731
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    inspected = inspect.covariate_shift(model, loss, optimizer)
    grads = mg.grad(loss(), list(model.parameters()))
    before = dict(zip(("third", "first", "second"), grads, strict=True))
    optimizer.zero_grad()
    loss().backward()
    third = model.third.weight.array.copy()
    optimizer.step()
    model.third.weight.array[:] = third
    (after,) = mg.grad(loss(), model.third.weight)
    assert inspected[-1].l2 == pytest.approx(abs((before["third"] - after).item()), rel=1e-9)


# ---- nothing changes -------------------------------------------------------------------------


def test_measuring_changes_nothing_and_repeats():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    optimizer = optim.Adam(model.parameters())
    x, y = mg.randn(16, 4), mg.randint(0, 3, (16,))
    loss = lambda: F.cross_entropy(model(x), y)  # noqa: E731
    loss().backward()
    optimizer.step()
    before = fingerprint(model, optimizer=optimizer)
    measures = [
        lambda: inspect.loss_variation(model, loss),
        lambda: inspect.gradient_predictiveness(model, loss),
        lambda: inspect.smoothness(model, loss),
        lambda: inspect.loss_landscape(model, loss, [-0.1, 0.1], dims=2).losses.tolist(),
        lambda: list(inspect.covariate_shift(model, loss, optimizer)),
    ]
    for measure in measures:
        with mg.no_grad():  # recording is switched on where it is needed
            assert measure() == measure()  # Dropout draws the same masks
        assert fingerprint(model, optimizer=optimizer) == before
    with pytest.raises(ZeroDivisionError):
        inspect.smoothness(model, lambda: 1 / 0)
    assert fingerprint(model, optimizer=optimizer) == before


def test_misuse():
    model = nn.Linear(2, 2)
    loss = lambda: model(mg.ones(1, 2)).sum()  # noqa: E731
    with pytest.raises(TypeError, match="returns the loss, a tensor of one element"):
        inspect.smoothness(model, lambda: model(mg.ones(1, 2)))
    with pytest.raises(TypeError, match="got float"):
        inspect.smoothness(model, lambda: 1.0)
    with pytest.raises(TypeError, match=r"must be an nn\.Module, got function"):
        inspect.smoothness(loss, loss)
    with pytest.raises(ValueError, match="nowhere to walk"):
        inspect.smoothness(nn.ReLU(), loss)
    with pytest.raises(ValueError, match="at least one step"):
        inspect.loss_variation(model, loss, [])
    with pytest.raises(ValueError, match=r"dims=1 .* or 2, got 3"):
        inspect.loss_landscape(model, loss, dims=3)
    for both in ({}, {"lr": 0.1, "optimizer": optim.SGD(model.parameters(), lr=0.1)}):
        with pytest.raises(ValueError, match="either optimizer= or lr="):
            inspect.covariate_shift(model, loss, **both)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_plots(theme, tmp_path):
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    loss = lambda: model(mg.ones(2, 2)).square().sum()  # noqa: E731
    for dims in (1, 2):
        plane = inspect.loss_landscape(model, loss, np.linspace(-0.5, 0.5, 5), dims=dims)
        plane.plot(tmp_path / f"{dims}.png", theme=theme)
        assert (tmp_path / f"{dims}.png").stat().st_size > 5_000
        assert repr(plane).startswith("<Landscape of Sequential: 5")
