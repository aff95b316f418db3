"""Mixed precision: which op runs in which dtype, and the scaler, as in PyTorch (parity)."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from tests.gpu.mockcupy import counting

PLACES = ["cpu", "cuda"]


@pytest.fixture(params=PLACES)
def place(request):
    from tests.gpu import device

    if request.param == "cpu":
        yield "cpu"
        return
    with device.cuda():
        yield "cuda"


def net(place):
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).to(place)


def batch(place):
    generator = mg.Generator().manual_seed(1)
    x = mg.randn(8, 1, 4, 4, generator=generator).to(place)
    return x, (mg.arange(8) % 3).to(place)


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        (lambda x: x @ x, "float16"),
        (lambda x: F.linear(x, x, x[0]), "float16"),
        (lambda x: mg.einsum("ij,jk->ik", x, x), "float16"),
        (lambda x: F.conv2d(x[None, None], x[None, None]), "float16"),
        (lambda x: F.relu(x @ x), "float16"),
        (lambda x: (x @ x) + x, "float32"),
        (lambda x: (x @ x).exp(), "float32"),
        (lambda x: (x @ x).sum(), "float32"),
        (lambda x: (x @ x) ** 2, "float32"),
        (lambda x: F.softmax(x @ x, -1), "float32"),
        (lambda x: F.log_softmax(x @ x, -1), "float32"),
        (lambda x: F.layer_norm(x @ x, (3,)), "float32"),
        (lambda x: F.mse_loss(x @ x, x), "float32"),
        (lambda x: F.smooth_l1_loss(x @ x, x), "float32"),
        (lambda x: F.cross_entropy(x @ x, mg.arange(3).to(x.device)), "float32"),
        (lambda x: F.binary_cross_entropy_with_logits(x @ x, F.sigmoid(x)), "float32"),
        (lambda x: x * 2, "float32"),
        (lambda x: x.double() @ x.double(), "float64"),
    ],
)
def test_which_op_runs_in_which_dtype(place, call, dtype):
    x = mg.randn(3, 3, generator=mg.Generator().manual_seed(0)).to(place)
    with mg.autocast(place):
        assert call(x).dtype == dtype
        with mg.autocast(place, enabled=False):
            assert (x @ x).dtype == "float32"
    assert (x @ x).dtype == "float32"
    other = "cuda" if place == "cpu" else "cpu"
    with mg.autocast(other):
        assert (x @ x).dtype == "float32", "ops on another kind of device are left alone"


def test_weights_and_gradients_stay_in_float32(place):
    model, (x, t) = net(place), batch(place)
    with mg.autocast(place):
        scores = model(x)
        loss = F.cross_entropy(scores, t)
    assert (scores.dtype, loss.dtype) == ("float16", "float32")
    loss.backward()
    assert {p.grad.dtype for p in model.parameters()} == {mg.float32}
    assert {p.dtype for p in model.parameters()} == {mg.float32}
    assert model[1].running_var.dtype == "float32"
    exact = net(place)
    F.cross_entropy(exact(x), t).backward()
    for p, q in zip(model.parameters(), exact.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.cpu().numpy(), q.grad.cpu().numpy(), rtol=0.05, atol=2e-3)


def test_as_a_decorator_and_nested():
    @mg.autocast("cpu")
    def product(x):
        """Its name stays."""
        assert mg.is_autocast_enabled("cpu")
        assert not mg.is_autocast_enabled("cuda")
        return x @ x

    assert product(mg.ones(2, 2)).dtype == "float16"
    assert product.__doc__ == "Its name stays."
    assert not mg.is_autocast_enabled("cpu")
    assert mg.is_autocast_available("cuda") and not mg.is_autocast_available("tpu")
    with mg.autocast("cpu") as outer, outer:
        assert mg.is_autocast_enabled("cpu")
    assert not mg.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: mg.autocast("tpu"), mg.DeviceError, "needs"),
        (lambda: mg.autocast("cpu", "bfloat16"), mg.DtypeError, "no bfloat16"),
        (lambda: mg.autocast("cpu", mg.float32), mg.DtypeError, "lowers to float16"),
        (lambda: mg.amp.GradScaler(growth_factor=1.0), ValueError, "above 1"),
        (lambda: mg.amp.GradScaler(backoff_factor=1.0), ValueError, "between 0 and 1"),
    ],
)
def test_what_is_refused(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_second_derivatives_go_through_the_casts():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    with mg.autocast("cpu"):
        y = (x @ x).sum()
    (g,) = mg.grad(y, x, create_graph=True)
    (h,) = mg.grad((g * g).sum(), x)
    assert (g.dtype, h.dtype) == ("float32", "float32")
    exact = (x.detach().requires_grad_(),)
    (e,) = mg.grad((exact[0] @ exact[0]).sum(), exact[0], create_graph=True)
    (f,) = mg.grad((e * e).sum(), exact[0])
    assert mg.allclose(h, f, rtol=1e-2)


def test_a_compiled_step_is_one_for_each_mode():
    step = mg.compile(lambda x: x @ x)
    x = mg.ones(2, 2)
    for _ in range(3):
        assert step(x).dtype == "float32"
        with mg.autocast("cpu"):
            assert step(x).dtype == "float16"
    assert step.captures == 2


# ---- the scaler ---------------------------------------------------------------------------------


def test_training_with_a_scaler(place):
    model, (x, t) = net(place), batch(place)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    scaler = mg.amp.GradScaler(place)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with mg.autocast(place):
            loss = F.cross_entropy(model(x), t)
        scaler.scale(loss).backward()
        with counting() as found:
            scaler.step(optimizer)
            scaler.update()
        assert found["waits"] <= 1
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(map(math.isfinite, losses))


def test_a_step_that_overflows_is_left_out(place):
    w = mg.ones(2, device=place, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    scaler = mg.amp.GradScaler(place, init_scale=4.0, growth_interval=2)
    scales = []
    for value in (1.0, math.inf, 1.0, math.nan, 1.0, 1.0, 1.0):
        before = w.tolist()
        optimizer.zero_grad()
        scaler.scale((w * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        assert (w.tolist() == before) != math.isfinite(value)
    assert scales == [4, 2, 2, 1, 1, 2, 2]
    twin = mg.amp.GradScaler(place)
    twin.load_state_dict(scaler.state_dict())
    assert twin.state_dict() == scaler.state_dict()


def test_the_order_of_calls():
    w = mg.ones(2, requires_grad=True)
    optimizer, scaler = optim.SGD([w], lr=0.1), mg.amp.GradScaler(init_scale=8.0)
    with pytest.raises(AssertionError, match="prior to update"):
        scaler.update()
    with pytest.raises(AssertionError, match="for this optimizer"):
        scaler.step(optimizer)
    scaler.update(8.0)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called since"):
        scaler.step(optimizer)
    scaler.update()
    half = mg.ones(2, dtype="float16", requires_grad=True)
    half.sum().backward()
    with pytest.raises(ValueError, match="FP16 gradients"):
        scaler.unscale_(optim.SGD([half], lr=0.1))
    off = mg.amp.GradScaler(enabled=False)
    assert off.scale(w) is w and off.get_scale() == 1 and off.state_dict() == {}
    off.step(optimizer)
    off.update()
    assert [v.item() for v in scaler.scale([w.sum()])] == [8 * w.sum().item()]


@pytest.mark.parity
def test_scalers_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = rng.choice([1.0, np.inf, 3.0, np.nan, 2.0], 40, p=[0.4, 0.1, 0.3, 0.1, 0.1])
    results = []
    for library, adam in ((mg, optim.SGD), (torch, torch.optim.SGD)):
        w = library.ones(3, requires_grad=True)
        optimizer = adam([w], lr=0.1)
        scaler = library.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        scales = []
        for value in values:
            optimizer.zero_grad()
            scaler.scale((w * float(value)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        results.append((scales, w.detach().numpy(), scaler.state_dict()))
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6)
    assert results[0][2] == results[1][2]


@pytest.mark.parity
def test_autocast_computes_what_pytorchs_does():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("float32") for s in ((6, 5), (4, 5)))
    t = rng.integers(0, 4, 6)
    results = []
    for library, functional in ((mg, F), (torch, torch.nn.functional)):
        weight = library.tensor(w, requires_grad=True)
        with library.autocast("cpu", dtype=library.float16):
            scores = functional.linear(library.tensor(x), weight)
            loss = functional.cross_entropy(scores, library.tensor(t))
        loss.backward()
        results.append((scores.detach().numpy(), loss.detach().numpy(), weight.grad.numpy()))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
