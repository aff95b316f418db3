"""Every norm, two views: fused and from primitives agree, and both are right at every order."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backends import backends
from minigrad.nn import functional as F
from tests.test_ops import STENCIL

KERNELS = ["plain", *(["compiled"] if find_spec("numba") else [])]

#: Every norm, with every option that changes what it computes.
NORMS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "batch of rows": (lambda **o: nn.BatchNorm1d(3, **o), (5, 3)),
    "batch of sequences": (lambda **o: nn.BatchNorm1d(2, **o), (3, 2, 4)),
    "batch of images": (lambda **o: nn.BatchNorm2d(2, **o), (2, 2, 2, 3)),
    "batch of volumes": (lambda **o: nn.BatchNorm3d(2, **o), (2, 2, 2, 1, 2)),
    "batch, eps": (lambda **o: nn.BatchNorm1d(3, eps=0.3, **o), (5, 3)),
    "batch, no affine": (lambda **o: nn.BatchNorm1d(3, affine=False, **o), (5, 3)),
    "batch, no bias": (lambda **o: nn.BatchNorm2d(2, bias=False, **o), (2, 2, 2, 3)),
    "batch, cumulative": (lambda **o: nn.BatchNorm1d(3, momentum=None, **o), (5, 3)),
    "batch, momentum": (lambda **o: nn.BatchNorm1d(3, momentum=0.6, **o), (5, 3)),
    "batch, no estimates": (lambda **o: nn.BatchNorm1d(3, track_running_stats=False, **o), (5, 3)),
    "layer": (lambda **o: nn.LayerNorm(4, **o), (3, 4)),
    "layer, two axes": (lambda **o: nn.LayerNorm((2, 3), **o), (2, 2, 3)),
    "layer, plain": (lambda **o: nn.LayerNorm(4, elementwise_affine=False, **o), (3, 4)),
    "layer, no bias": (lambda **o: nn.LayerNorm(4, eps=0.2, bias=False, **o), (3, 4)),
    "group": (lambda **o: nn.GroupNorm(2, 4, **o), (2, 4, 3)),
    "group, plain": (lambda **o: nn.GroupNorm(2, 4, affine=False, **o), (2, 4, 2, 2)),
    "group, one": (lambda **o: nn.GroupNorm(1, 2, bias=False, **o), (3, 2, 3)),
    "instance": (lambda **o: nn.InstanceNorm1d(2, **o), (2, 2, 4)),
    "instance, estimates": (
        lambda **o: nn.InstanceNorm2d(2, affine=True, track_running_stats=True, **o),
        (2, 2, 2, 3),
    ),
    "local response": (lambda **o: nn.LocalResponseNorm(3, alpha=0.5, **o), (2, 4, 3)),
    "local response, even": (
        lambda **o: nn.LocalResponseNorm(2, alpha=1.5, beta=0.5, k=2.0, **o),
        (2, 3, 2),
    ),
    "root mean square": (lambda **o: nn.RMSNorm(4, **o), (3, 4)),
    "root mean square, plain": (
        lambda **o: nn.RMSNorm((2, 3), eps=0.1, elementwise_affine=False, **o),
        (2, 2, 3),
    ),
}


@pytest.fixture(params=KERNELS)
def kernels(request: Any, monkeypatch: Any) -> str:
    """With compiled kernels and without, however little there is to do."""
    backend = backends[np.ndarray]
    monkeypatch.setattr(backend, "numba", request.param == "compiled")
    monkeypatch.setattr(backend, "smallest", 0)
    return str(request.param)


def made(name: str, train: bool, **options: Any) -> tuple[Any, Any]:
    """The norm, with parameters and estimates of its own, and an input."""
    make, shape = NORMS[name]
    rng = np.random.default_rng(2)
    norm = make(**options).double().train(train)
    with mg.no_grad():
        for name_, t in (*norm.named_parameters(), *norm.named_buffers()):
            if t.is_floating_point():
                t += mg.tensor(rng.uniform(0.1 if "var" in name_ else -0.4, 0.4, t.shape))
    return norm, rng.standard_normal(shape)


def derivative(norm: Any, x: Any, order: int, at: float = 0.0) -> Any:
    """The ``order``-th derivative, along one direction of x and the parameters, of a number."""
    rng = np.random.default_rng(5)
    norm = copy.deepcopy(norm)  # its estimates move
    ways = [rng.uniform(-1, 1, x.shape), *(rng.uniform(-1, 1, p.shape) for p in norm.parameters())]
    x = mg.tensor(x + at * ways[0], requires_grad=True)
    with mg.no_grad():
        for p, way in zip(norm.parameters(), ways[1:], strict=True):
            p += mg.tensor(at * way)
    y = norm(x)
    weights = mg.tensor(rng.uniform(0.5, 1.5, y.shape))
    total = (weights * y * y).sum() + (weights * y).sum()
    sought = [x, *norm.parameters()]
    for i in range(order):
        slopes = mg.grad(
            total,
            sought,
            create_graph=i + 1 < order,  # the last one by the kernels
            allow_unused=True,
            materialize_grads=True,
        )
        total = sum((g * mg.tensor(way)).sum() for g, way in zip(slopes, ways, strict=True))
        if i + 1 < order and not total.requires_grad:
            return 0.0
    return total.item()


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_both_views_agree_and_are_right(name: str, train: bool, order: int, kernels: str) -> None:
    fused, x = made(name, train)
    composed, _ = made(name, train, fused=False)
    found, opened = (derivative(norm, x, order) for norm in (fused, composed))
    assert found == pytest.approx(opened, rel=1e-12, abs=1e-12)
    if order:
        h = 4e-3
        below = [
            (sign * c, derivative(fused, x, order - 1, sign * k * h))
            for k, c in enumerate(STENCIL, 1)
            for sign in (1, -1)
        ]
        slope = sum(c * v for c, v in below) / h
        scale = max(abs(v) for _, v in below)
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-9 + 1e-9 * scale)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_both_views_keep_the_same_estimates(name: str, train: bool, kernels: str) -> None:
    fused, x = made(name, train)
    composed, _ = made(name, train, fused=False)
    for scale in (1.0, 2.0, -0.5):
        y, z = (norm(mg.tensor(scale * x)).detach().numpy() for norm in (fused, composed))
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-12)
    before = made(name, train)[0].state_dict()
    for key, value in fused.state_dict().items():
        np.testing.assert_allclose(value.numpy(), composed.state_dict()[key].numpy(), rtol=1e-12)
        if key.startswith("running"):
            assert value.equal(before[key]) != train, key


# ---- where PyTorch is right, and where not ------------------------------------------------------

#: Functions of x, for either library, and the order from which PyTorch 2.13 is wrong.
FUNCTIONS = {
    "batch_norm": (lambda f, x: f.batch_norm(x, None, None, training=True), (5, 3), 3),
    "batch_norm of images": (
        lambda f, x: f.batch_norm(x, None, None, training=True),
        (2, 3, 2, 2),
        3,
    ),
    "layer_norm": (lambda f, x: f.layer_norm(x, (3,)), (5, 3), 3),
    "instance_norm": (lambda f, x: f.instance_norm(x), (3, 4, 5), 3),
    "group_norm": (lambda f, x: f.group_norm(x, 2), (3, 4, 2), None),
    "rms_norm": (lambda f, x: f.rms_norm(x, (3,)), (5, 3), None),
    "local_response_norm": (lambda f, x: f.local_response_norm(x, 3, 0.5), (3, 4, 2), None),
}


def along(library: Any, function: Any, x: Any, order: int, at: float = 0.0) -> float:
    """The ``order``-th derivative of a number made of function(x), along one direction."""
    rng = np.random.default_rng(1)
    way, weights = rng.uniform(-1, 1, x.shape), rng.uniform(0.5, 1.5, x.shape)
    functional = F if library is mg else library.nn.functional
    x = library.tensor(x + at * way, requires_grad=True)
    y = function(functional, x)
    total = (library.tensor(weights) * (y * y + y)).sum()
    for _ in range(order):
        (slope,) = library.autograd.grad(total, x, create_graph=True)
        total = (slope * library.tensor(way)).sum()
    return float(total.item())


def slope_of(library: Any, function: Any, x: Any, order: int) -> float:
    """The same, by differences of the library's own derivative one order below."""
    h = 4e-3
    return sum(
        sign * c * along(library, function, x, order - 1, sign * k * h) / h
        for k, c in enumerate(STENCIL, 1)
        for sign in (1, -1)
    )


@pytest.mark.parity
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_pytorch_is_right_and_where_not(name: str, order: int) -> None:
    """Differences of the derivative one order below judge both."""
    torch = pytest.importorskip("torch")
    function, shape, wrong_from = FUNCTIONS[name]
    x = np.random.default_rng(0).standard_normal(shape)
    truth = slope_of(mg, function, x, order)
    assert along(mg, function, x, order) == pytest.approx(truth, rel=1e-7)
    theirs = along(torch, function, x, order)
    if wrong_from is None or order < wrong_from:
        assert theirs == pytest.approx(truth, rel=1e-7)
        return
    if order == wrong_from:  # by PyTorch's own second derivative, which is right
        assert slope_of(torch, function, x, order) == pytest.approx(truth, rel=1e-7)
    if not torch.__version__.startswith("2.13"):
        pytest.skip(f"known of PyTorch 2.13, this is {torch.__version__}")
    assert abs(theirs - truth) > 0.1 * abs(truth), "PyTorch is right here: say so in the docs"
