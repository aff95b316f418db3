"""The table of operations with CUDA's kernels: emulated, on the stand-in for CuPy, or on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backends import Reference
from minigrad.backends.cuda import launch
from tests import test_ops as table
from tests.cases import CASES
from tests.gpu import device, emulator, mockcupy

pytestmark = pytest.mark.skipif(
    emulator.COMPILER is None and not device.REAL,
    reason="needs g++, which compiles the kernels for the CPU, or a GPU",
)


@pytest.fixture(autouse=True)
def kernels():
    with device.cuda(kernels=True) as backend:
        backend.launch.functions.clear()
        yield backend
        launched.update(name for name, _, _ in backend.launch.functions)


launched: set[str] = set()


def rows(test):
    """The rows of fused ops, and of ReLU, that take part in a test."""
    chosen = [c for c in CASES if test not in c.exempt and (c.op.fused or c.op is mg.ops.ReLU)]
    return pytest.mark.parametrize("case", chosen, ids=lambda c: c.name)


@rows("first")
def test_first_derivatives(case):
    table.test_first_derivatives(case, "cupy")


@rows("composed")
def test_composed(case):
    if case.op.fused:
        table.test_composed_arrays(case, "cupy")


@pytest.mark.parametrize("dtype", table.FLOATS)
@rows("dtypes")
def test_dtype_is_kept(case, dtype):
    table.test_dtype_is_kept(case, "cupy", dtype)


@rows("strided")
def test_strided_inputs(case):
    table.test_strided_inputs(case, "cupy")


@rows("empty")
def test_empty_inputs(case):
    table.test_empty_inputs(case, "cupy")


@rows("scalar")
def test_scalar_inputs(case):
    table.test_scalar_inputs(case, "cupy")


@rows("parity")
def test_parity(case):
    table.test_parity(case, "cupy")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n in table.KERNELS if hasattr(Reference, n)])
def test_override_equals_reference(name, dtype, kernels):
    rng = np.random.default_rng(3)

    def draw(*shape):
        return table.put(np.asarray(rng.standard_normal(shape)).astype(dtype), "cupy")

    for host in table.KERNELS[name](lambda *shape: np.asarray(draw(*shape).get()), 17):
        arguments = [table.put(a, "cupy") if isinstance(a, np.ndarray) else a for a in host]
        expected = getattr(Reference, name)(kernels, *arguments)
        found = getattr(kernels, name)(*arguments)
        if not isinstance(expected, tuple):
            expected, found = (expected,), (found,)
        tolerance = 1e-11 if dtype == "float64" else 5e-5
        for e, f in zip(expected, found, strict=True):
            if e is None:
                assert f is None
                continue
            assert (f.shape, f.dtype) == (e.shape, e.dtype)
            np.testing.assert_allclose(f.get(), e.get(), rtol=tolerance, atol=tolerance)


def trained(where, optimizer):
    """Losses and parameters of a small network after a few steps."""
    mg.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(4 * 16, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    ).double()
    x, labels = mg.randn(6, 1, 8, 8, dtype=mg.float64), mg.tensor([0, 1, 2, 0, 1, 2])
    net, x, labels = net.to(where), x.to(where), labels.to(where)
    optimizer = optimizer(net.parameters())
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.to("cpu").numpy() for p in net.state_dict().values()]


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_layers_of_which_only_one_gradient_is_wanted(kind, wanted):
    """The first layer, whose input wants none, and a frozen one."""
    grads = []
    for where in ("cpu", "cuda"):
        mg.manual_seed(0)
        layer = nn.Linear(4, 3) if kind == "linear" else nn.Conv2d(2, 3, 3)
        layer.requires_grad_(wanted == "weight").double().to(where)
        x = mg.randn(*((5, 4) if kind == "linear" else (2, 2, 5, 5)), dtype=mg.float64).to(where)
        x.requires_grad_(wanted == "input")
        (layer(x) ** 2).sum().backward()
        grads.append((x if wanted == "input" else layer.weight).grad.cpu().numpy())
    np.testing.assert_allclose(*grads, rtol=1e-9)


OPTIMIZERS = {
    "sgd": lambda p: mg.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "momentum": lambda p: mg.optim.Momentum(p, lr=0.1, form="ema", bias_correction=True),
    "rmsprop": lambda p: mg.optim.RMSprop(p, lr=0.01, centered=True),
    "adam": lambda p: mg.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: mg.optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_as_on_the_cpu(name):
    (losses, ours), (expected, theirs) = (trained(d, OPTIMIZERS[name]) for d in ("cuda", "cpu"))
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def names_launched(backend, monkeypatch):
    """The names of the kernels that are launched from now on, in a list that grows."""
    names, launcher = [], type(backend.launch).__call__

    def noted(self, name, *args, **arguments):
        names.append(name)
        launcher(self, name, *args, **arguments)

    monkeypatch.setattr(type(backend.launch), "__call__", noted)
    return names


@pytest.mark.skipif(device.REAL, reason="the stand-in counts")
def test_clipping_waits_for_nothing(kernels, monkeypatch):
    w, b = (mg.zeros(*shape, device="cuda", requires_grad=True) for shape in ((3, 4), (4,)))
    w.grad, b.grad = mg.ones(3, 4).cuda(), mg.ones(4).cuda()
    names = names_launched(kernels, monkeypatch)
    with mockcupy.counting() as found:
        norm = nn.utils.clip_grad_norm_([w, b], 2.0)
    assert (found["waits"], found["uploads"]) == (0, 0)
    squares, scale = ["optim.sum_of_squares"] * 2, ["optim.scale_to_norm"] * 2
    assert names == [*squares, "optim.total_norm", *scale]
    assert norm.item() == 4 and norm.shape == ()
    assert w.grad[0, 0].item() == b.grad[0].item() == pytest.approx(0.5)


@pytest.mark.skipif(device.REAL, reason="the stand-in counts")
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics_cost_no_launch(kernels, monkeypatch, parts, dtype):
    """With estimates to move, a batch norm launches what it launches without."""
    if parts > 1:
        monkeypatch.setattr(launch, "CHANNEL_PART", 8)
    x = mg.randn(32, 3, dtype=dtype).cuda()
    estimates = mg.zeros(3, dtype=dtype).cuda(), mg.ones(3, dtype=dtype).cuda()
    own, found = names_launched(kernels, monkeypatch), []
    for running in ((None, None), estimates):
        own.clear()
        with mockcupy.counting() as counted:
            nn.functional.batch_norm(x, *running, training=True)
        found.append((list(own), counted["kernels"], counted["waits"], counted["uploads"]))
    assert found[0] == found[1]
    assert (
        found[0][0]
        == [
            ["norm.batch_norm"],
            ["norm.batch_norm_moments", "norm.batch_norm_normalize"],
        ][parts > 1]
    )
    np.testing.assert_allclose(estimates[0].tolist(), 0.1 * x.cpu().numpy().mean(0), rtol=1e-5)


def test_the_kernels_were_launched():
    """What was compared above were kernels, not the reference with itself."""
    assert {name.split(".")[0] for name in launched} == {
        *("elementwise", "im2col", "norm", "optim", "pool", "softmax")
    }
