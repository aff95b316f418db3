"""Second derivatives of layers and functions, and a gradient penalty as people train it."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

rng = np.random.default_rng(0)


def leaf(*shape):
    return mg.tensor(rng.standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda w: F.embedding(mg.tensor([[0, 2], [2, 1]]), w), [(3, 2)]),
        (F.pairwise_distance, [(3, 4), (3, 4)]),
        (lambda x, y: F.pairwise_distance(x, y, p=3.0), [(3, 4), (3, 4)]),
        (F.cosine_similarity, [(3, 4), (3, 4)]),
        (F.normalize, [(3, 4)]),
        (F.bilinear, [(2, 3), (2, 2), (2, 3, 2), (2,)]),
    ],
)
def test_second_derivatives(function, shapes):
    inputs = [leaf(*s) for s in shapes]
    assert mg.gradcheck(function, inputs)
    assert mg.gradgradcheck(function, inputs)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (
            lambda n: n.Sequential(n.Linear(4, 5), n.BatchNorm1d(5), n.Tanh(), n.Linear(5, 1)),
            (6, 4),
        ),
        (lambda n: n.Sequential(n.LayerNorm(4), n.Linear(4, 3), n.Sigmoid()), (6, 4)),
        (
            lambda n: n.Sequential(
                n.Conv2d(2, 3, 3, 2, 1), n.BatchNorm2d(3), n.Tanh(), n.Flatten()
            ),
            (3, 2, 5, 5),
        ),
    ],
)
def test_gradient_penalty(make, shape):
    """The gradient of (|df/dx| - 1)² with respect to the parameters; Gulrajani et al. (2017)."""
    torch = pytest.importorskip("torch")
    x, theirs = rng.standard_normal(shape), make(torch.nn).double()
    ours = make(nn).double()
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    for t, net in ((torch, theirs), (mg, ours)):
        z = t.tensor(x, requires_grad=True)
        (g,) = t.autograd.grad(net(z).sin().sum(), z, create_graph=True)
        ((g.reshape(len(g), -1).norm(2, dim=1) - 1) ** 2).mean().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if q.grad is None:  # a bias after which nothing depends on it
            assert p.grad is None or np.allclose(p.grad.numpy(), 0), name
            continue
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), 1e-7, 1e-10, err_msg=name)
