"""Normalizations opened: every intermediate value, the terms of dx, and the whole Jacobian."""

import json
import shutil

import numpy as np
import pytest

import minigrad as mg
from minigrad import inspect, nn
from minigrad.inspect import flow
from minigrad.unchanged import looking, unchanged
from minigrad.viz import GraphvizError
from minigrad.viz.style import THEMES
from minigrad.viz.tables import number, numbers, table
from tests.fingerprint import fingerprint

TERMS = ("dx_direct", "dx_var", "dx_mu", "dx_mean_square", "dx_neighbours")


def learnt(norm):
    """γ and β that are neither 1 nor 0, running statistics that are neither 0 nor 1."""
    for name, t in [*norm.named_parameters(), *norm.named_buffers()]:
        if t.dtype.kind == "f":
            low = 0.5 if "var" in name or "weight" in name else -1.0
            t.array = np.linspace(low, 2.0, t.numel(), dtype=t.dtype).reshape(t.shape)
    return norm


NORMS = {
    "batch 2-d": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "batch sequence": (lambda: nn.BatchNorm1d(3), (5, 3, 4)),
    "batch image": (lambda: nn.BatchNorm2d(3), (4, 3, 2, 5)),
    "batch volume": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 3, 2)),
    "batch no affine": (lambda: nn.BatchNorm1d(3, affine=False), (5, 3)),
    "batch no bias": (lambda: nn.BatchNorm1d(3, bias=False), (5, 3)),
    "batch untracked": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (5, 3)),
    "batch primitives": (lambda: nn.BatchNorm2d(3, fused=False), (4, 3, 2, 5)),
    "layer": (lambda: nn.LayerNorm(4), (3, 4)),
    "layer two axes": (lambda: nn.LayerNorm((2, 3), eps=1e-3), (5, 4, 2, 3)),
    "layer plain": (lambda: nn.LayerNorm(4, elementwise_affine=False), (2, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 6), (3, 6, 2, 2)),
    "group flat": (lambda: nn.GroupNorm(2, 6), (3, 6)),
    "instance": (lambda: nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 2)),
    "instance unbatched": (lambda: nn.InstanceNorm2d(3), (3, 4, 2)),
    "instance tracked": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), (2, 3, 5)),
    "rms": (lambda: nn.RMSNorm(4), (3, 4)),
    "rms two axes": (lambda: nn.RMSNorm((2, 3), fused=False), (5, 2, 3)),
    "local response": (lambda: nn.LocalResponseNorm(3, alpha=2.0, k=2.0), (2, 5, 3)),
    "local response even": (lambda: nn.LocalResponseNorm(4, alpha=2.0, beta=0.5), (2, 5, 3, 2)),
}


def pair(name, mode="train", dtype="float64"):
    make, shape = NORMS[name]
    mg.manual_seed(len(name))
    norm = learnt(make().to(dtype)).train(mode == "train")
    x = (mg.randn(*shape, dtype=dtype) * 2 + 0.5).requires_grad_()
    return norm, x, mg.randn(*shape, dtype=dtype)


def autograd(norm, x, grad):
    """y, dx and the gradients of the parameters, from a copy that trains as usual."""
    x = x.detach().clone().requires_grad_()
    norm.zero_grad()
    y = norm(x)
    y.backward(grad)
    return y, x.grad, {n: p.grad for n, p in norm.named_parameters()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_the_terms_sum_to_what_autograd_says(name, mode):
    norm, x, grad = pair(name, mode)
    t = inspect.trace(norm, x, grad)
    y, dx, grads = autograd(norm, x, grad)
    np.testing.assert_allclose(t.y, y.detach().numpy(), rtol=0, atol=1e-12)
    terms = [t[k] for k in t if k in TERMS]
    assert len(terms) in (2, 3)
    assert all(term.shape == x.shape for term in terms)
    np.testing.assert_allclose(sum(terms), dx.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(t.dx, dx.numpy(), rtol=0, atol=1e-12)
    for parameter, opened in (("weight", "dgamma"), ("bias", "dbeta")):
        assert (parameter in grads) == (opened in t)
        if parameter in grads:
            np.testing.assert_allclose(t[opened], grads[parameter].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_tracing_changes_nothing(name, mode):
    norm, x, grad = pair(name, mode)
    norm(x).sum().backward()
    before, kept = fingerprint(norm), x.grad
    inspect.trace(norm, x, grad)
    inspect.jacobian(norm, x)
    assert fingerprint(norm) == before
    assert x.grad is kept


def test_the_values_are_those_of_the_definition():
    norm, x, grad = pair("batch image")
    t = inspect.trace(norm, x, grad)
    v, axes = x.detach().numpy(), (0, 2, 3)
    m = v.size // 3
    wide = (slice(None), None, None)
    np.testing.assert_allclose(t.mu, v.mean(axes))
    np.testing.assert_allclose(t.var, v.var(axes))
    np.testing.assert_allclose(t.inv_std, 1 / np.sqrt(v.var(axes) + 1e-5))
    np.testing.assert_allclose(t.x_hat, (v - t.mu[wide]) * t.inv_std[wide])
    np.testing.assert_allclose(t.dx_hat, grad.numpy() * t.gamma[wide])
    # the paper's chain rule, section 3
    np.testing.assert_allclose(t.dx_var, (t.dvar[wide] * 2 * (v - t.mu[wide])) / m)
    np.testing.assert_allclose(t.dx_mu, np.broadcast_to(t.dmu[wide] / m, v.shape))
    np.testing.assert_allclose(t.dx_direct, t.dx_hat * t.inv_std[wide])
    np.testing.assert_allclose(t.dx_mu.sum(axes), t.dmu)
    norm(x)
    np.testing.assert_allclose(t.running_mean, norm.running_mean.numpy())
    np.testing.assert_allclose(t.running_var, norm.running_var.numpy())


def test_theorem_4_1_of_santurkar_et_al():
    """What BatchNorm takes from a gradient: its mean, and its part along x̂ (for ε = 0)."""
    norm = learnt(nn.BatchNorm1d(3, eps=1e-30).double())
    mg.manual_seed(0)
    t = inspect.trace(norm, mg.randn(16, 3, dtype="float64"), mg.randn(16, 3, dtype="float64"))
    g, m = t.dy, 16
    inner = (g**2).sum(0) - g.sum(0) ** 2 / m - (g * t.x_hat).sum(0) ** 2 / m
    np.testing.assert_allclose((t.dx**2).sum(0), (t.gamma * t.inv_std) ** 2 * inner, rtol=1e-12)


def test_the_gradient_of_a_sum_of_normalized_values_is_nothing():
    """Why a check of BatchNorm's gradient with sum() as the loss passes for any formula."""
    t = inspect.trace(nn.BatchNorm1d(3).double(), mg.randn(8, 3).double(), mg.ones(8, 3).double())
    np.testing.assert_allclose(t.dx, 0, atol=1e-12)
    np.testing.assert_allclose(t.dx_direct, -t.dx_mu, atol=1e-12)


def test_in_eval_mode_statistics_are_constants():
    norm, x, grad = pair("batch 2-d", "eval")
    t = inspect.trace(norm, x, grad)
    np.testing.assert_array_equal(t.mu, norm.running_mean.numpy())
    np.testing.assert_array_equal(t.var, norm.running_var.numpy())
    assert not t.dx_mu.any() and not t.dx_var.any()
    assert "dvar" not in t and "running_mean" not in t
    assert "eval mode: running statistics" in t.table()


def test_a_norm_that_the_caller_froze_is_opened_as_it_runs():
    """Which statistics normalize is read off the op that ran, not off the mode."""

    class Frozen(nn.BatchNorm1d):
        def forward(self, input):
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False
            )

    t = inspect.trace(Frozen(3), mg.randn(4, 3))
    assert t.title == "Frozen, train mode: running statistics, constants"
    assert t.mu.tolist() == [0, 0, 0]


def test_shapes_of_statistics():
    for name, shape in {
        "batch image": (3,),
        "layer two axes": (5, 4),
        "group": (3, 2),
        "instance": (2, 3),
    }.items():
        norm, x, _ = pair(name)
        assert inspect.trace(norm, x).mu.shape == shape


def test_gradients_of_the_graph_before_stay_possible():
    """A look at the module between forward and backward touches no memory that the graph kept."""
    norm, x, grad = pair("batch 2-d", "eval")
    y = norm(x)
    inspect.trace(norm.train(), x, grad)
    y.backward(grad)
    assert x.grad is not None


def test_float32_and_float16():
    for dtype, atol in (("float32", 1e-5), ("float16", 2e-2)):
        norm, x, grad = pair("batch 2-d", dtype=dtype)
        t = inspect.trace(norm, x, grad)
        _, dx, _ = autograd(norm, x, grad)
        np.testing.assert_allclose(t.dx_direct + t.dx_var + t.dx_mu, dx.numpy(), atol=atol)


def test_frozen_and_parametrized_weights():
    norm, x, grad = pair("batch 2-d")
    whole = inspect.trace(norm, x, grad)
    norm.requires_grad_(False)
    frozen = inspect.trace(norm, x, grad)
    for name in whole:
        np.testing.assert_array_equal(whole[name], frozen[name])


def test_without_a_gradient_there_is_no_backward_pass():
    t = inspect.trace(nn.LayerNorm(3), mg.randn(2, 3))
    assert list(t) == ["x", "mu", "var", "inv_std", "x_hat", "gamma", "beta", "y"]
    with pytest.raises(AttributeError, match="pass grad= for the backward pass"):
        t.dx  # noqa: B018
    with pytest.raises(KeyError, match="not among x, mu"):
        t["dx"]
    assert "x_hat" in dir(t)


def test_what_is_no_norm_is_refused():
    x = mg.randn(4, 3)
    with pytest.raises(TypeError, match="got Linear, which computes 0 of them"):
        inspect.trace(nn.Linear(3, 3), x)
    two = nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3))
    with pytest.raises(TypeError, match="got Sequential, which computes 2 of them"):
        inspect.trace(two, x)
    for more in (nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()), nn.Sequential(nn.ReLU(), two[1])):
        with pytest.raises(TypeError, match="Sequential computes more besides"):
            inspect.trace(more, x)
    with pytest.raises(TypeError, match="BatchRenorm1d computes more besides"):
        inspect.trace(nn.BatchRenorm1d(3), x)
    frozen = nn.BatchNorm1d(3).freeze()
    assert "train mode: running statistics, constants" in inspect.trace(frozen, x).title
    with pytest.raises(TypeError, match="got function and Tensor"):
        inspect.trace(mg.relu, x)
    with pytest.raises(mg.ShapeError, match=r"shape of the output, \(4, 3\)"):
        inspect.trace(nn.LayerNorm(3), x, mg.randn(3))
    norm, one = nn.BatchNorm1d(3), mg.randn(1, 3)
    before = fingerprint(norm)
    with pytest.raises(ValueError, match="more than one value per channel"):
        inspect.trace(norm, one)
    assert fingerprint(norm) == before


# ---- table and picture -----------------------------------------------------------------------


def test_the_table_lines_up():
    text = inspect.trace(*pair("batch 2-d")).table()
    lines = text.splitlines()
    column = lines[1].index("values")
    plain = [line.replace("\u0302", "") for line in lines[1:]]  # a hat takes no place
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in plain)
    assert table(("a", "b"), [("1", "x̂"), ("22", "")]) == "a   b\n1   x̂\n22"
    assert (number(1.23456), number(float("nan")), number(1e-7)) == ("1.235", "–", "1e-07")
    assert numbers(np.arange(6.0), 3) == "0. 1. 2. …"


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture(theme, tmp_path):
    t = inspect.trace(*pair("batch 2-d"))
    picture = t.picture(theme)
    dot = picture.to_dot()
    for name in t:
        assert f"\t{name} [" in dot.replace("\t\t", "\t")
    assert dot == t.picture(theme).to_dot()
    assert str(picture) == t.table()
    data = json.loads(picture.render(tmp_path / "bn.json").read_text())
    assert data["steps"][1]["name"] == "mu"
    assert data["steps"][1]["values"] == t.mu.tolist()
    if shutil.which("dot"):
        svg = picture.to_svg()
        assert "BatchNorm1d, train mode" in svg
        assert t.render(tmp_path / "bn.png", theme).stat().st_size > 10_000
        assert "image/svg+xml" in t._repr_mimebundle_()
    with pytest.raises(ValueError, match="theme= must be one of light, dark"):
        t.picture("pink")


def test_without_graphviz_the_numbers_are_shown(monkeypatch, tmp_path):
    monkeypatch.setattr("minigrad.viz.render.programs", lambda form: iter(()))
    t = inspect.trace(*pair("layer"))
    with pytest.raises(GraphvizError, match="mean x over the features"):
        t.render(tmp_path / "ln.svg")
    assert (tmp_path / "ln.dot").exists()
    assert "text/plain" in t._repr_mimebundle_()


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_numbers_are_legible_on_their_colours(theme):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value in (-1.0, -0.5, 0.0, 0.5, 1.0, float("nan")):
        a, b = sorted((luminance(theme.text), luminance(flow.heat(value, 1.0, theme))))
        assert (b + 0.05) / (a + 0.05) >= 4.5


def test_large_and_odd_arrays_are_drawn_in_part():
    t = inspect.trace(nn.BatchNorm2d(20), mg.randn(20, 20, 5, 5) * 1e5)
    dot = t.picture().to_dot()
    assert "392 more rows" in dot
    assert len(dot) < 60_000
    x = mg.tensor([[1.0], [float("inf")], [float("nan")]])
    assert "nan" in inspect.trace(nn.LayerNorm(1), x).picture().to_dot()


# ---- the Jacobian ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["batch image", "layer", "group", "instance", "rms"])
def test_the_jacobian_is_that_of_finite_differences(name, mode):
    norm, x, _ = pair(name, mode)
    j = inspect.jacobian(norm, x)
    assert j.array.shape == (*x.shape, *x.shape)
    h, v = 1e-6, x.detach().numpy()
    matrix = np.zeros((v.size, v.size))
    with unchanged(norm):
        for k in range(v.size):
            step = np.zeros(v.size)
            step[k] = h
            up, down = (norm(mg.tensor(v + s * step.reshape(v.shape))) for s in (1, -1))
            matrix[:, k] = (up - down).detach().numpy().ravel() / (2 * h)
    np.testing.assert_allclose(j.matrix(), matrix, atol=1e-8)


def test_train_mode_is_dense_within_a_channel_and_eval_mode_diagonal():
    norm, x, _ = pair("batch 2-d")
    blocks = inspect.jacobian(norm, x).matrix("channel")
    same = np.kron(np.eye(3), np.ones((5, 5))).astype(bool)
    assert (blocks[same] != 0).all() and not blocks[~same].any()
    t = inspect.trace(norm, x)
    for c in range(3):  # the closed form of one block: γ/σ (I - 1/m - x̂ x̂ᵀ/m)
        hat = t.x_hat[:, c]
        closed = t.gamma[c] * t.inv_std[c] * (np.eye(5) - 1 / 5 - np.outer(hat, hat) / 5)
        np.testing.assert_allclose(blocks[5 * c : 5 * c + 5, 5 * c : 5 * c + 5], closed, atol=1e-12)
    j = inspect.jacobian(norm.eval(), x)
    assert j.density == 1 / 15
    assert not (j.matrix() - np.diag(np.diag(j.matrix()))).any()


def test_jacobians_of_functions_and_of_random_layers():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    j = inspect.jacobian(lambda x: (x * x).sum(1), x)
    np.testing.assert_array_equal(j.array[0], [[2, 4], [0, 0]])
    layer = nn.Dropout(0.5)
    before = fingerprint(layer)
    j = inspect.jacobian(layer, mg.ones(6, 6))
    assert fingerprint(layer) == before
    np.testing.assert_array_equal(np.diag(j.matrix()), layer(mg.ones(6, 6)).numpy().ravel())
    with pytest.raises(mg.ShapeError, match="at most 4096"):
        inspect.jacobian(nn.ReLU(), mg.ones(100, 100))
    with pytest.raises(ValueError, match="order= must be one of"):
        j.matrix("rows")
    assert repr(j).startswith("<Jacobian of Dropout, train mode: (6, 6) by (6, 6)")


@pytest.mark.parametrize("theme", THEMES)
def test_the_heat_map(theme, tmp_path):
    pytest.importorskip("matplotlib")
    j = inspect.jacobian(nn.BatchNorm1d(2), mg.randn(4, 2))
    figure = j.plot(tmp_path / "j.png", theme=theme)
    assert (tmp_path / "j.png").stat().st_size > 5_000
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), j.matrix("channel"))
    with pytest.raises(ValueError, match="theme= must be one of"):
        j.plot(theme="pink")


# ---- the look itself -------------------------------------------------------------------------


def test_a_look_puts_everything_back_even_after_an_error():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.drop, self.calls = nn.BatchNorm1d(2), nn.Dropout(0.5), 0
            self.register_buffer("seen", mg.zeros(1))

        def forward(self, x):
            self.calls += 1
            self.new = "attribute"
            self.seen = self.seen + 1
            return self.drop(self.bn(x))

    model = Odd()
    model(mg.randn(4, 2)).sum().backward()
    before = fingerprint(model)
    with pytest.raises(ZeroDivisionError), mg.no_grad(), unchanged(model):
        assert looking.get()
        model.eval()
        y = model.train()(mg.randn(4, 2))
        y.sum().backward()
        assert model.bn.weight.grad is not None and mg.is_grad_enabled()
        model.bn.weight.array = model.bn.weight.array + 1
        mg.manual_seed(5)
        raise ZeroDivisionError
    assert not looking.get()
    assert fingerprint(model) == before
