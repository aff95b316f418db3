"""The gradient of a gradient as a picture: what each gradient recorded is one box."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, viz


def penalty():
    mg.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = mg.randn(2, 3, requires_grad=True)
    (dx,) = mg.autograd.grad(net(x).sum(), x, create_graph=True)
    return net, dx.square().sum()


def test_what_a_gradient_recorded_is_one_box():
    net, loss = penalty()
    g = viz.graph(loss, net, backward=2)
    boxes = [n for n in g.shown.nodes if n.kind == "module"]
    assert [n.name for n in boxes] == ["linear′", "tanh′", "linear′"]
    linear = "dx = dy W,  dW = dyᵀ x,  db = Σ dy"
    assert [n.formula for n in boxes] == [linear, "dx = dy · (1 - y²)", linear]
    assert all(n.scope is None and n.ops > 1 for n in boxes)
    names = [n.name for n in g.shown.nodes if n.kind == "vjp"]
    assert [n for n in names if "″" in n] == ["linear″", "tanh″", "linear″"]
    assert g.shown.facts.ops == len(viz.graph(loss, net).to_dict()["nodes"]) - 6
    assert "forward, gradient + backward" in g.to_dot()
    assert "linear″" in str(g)


def test_a_graph_without_gradients_is_a_ladder():
    net = nn.Linear(3, 1)
    loss = net(mg.randn(2, 3)).sum()
    two, one = (viz.graph(loss, net, backward=b, title="t").to_dot() for b in (2, True))
    assert two == one


def test_without_backward_every_op_stands_for_itself():
    net, loss = penalty()
    nodes = viz.graph(loss, net).to_dict()["nodes"]
    recorded = [n for n in nodes if n["rule"]]
    assert {n["rule"][1] for n in recorded} == {"linear", "tanh"}
    assert all(n["scope"] is None for n in recorded)


def test_gradients_are_those_of_before():
    net, loss = penalty()
    loss.backward()
    expected = [p.grad.numpy().copy() for p in net.parameters() if p.grad is not None]
    net, loss = penalty()
    viz.graph(loss, net, backward=2).to_dot()
    loss.backward()
    found = [p.grad.numpy() for p in net.parameters() if p.grad is not None]
    assert len(found) == len(expected) > 1
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_errors_in_a_gradient_name_the_module():
    class Odd(nn.Module):
        def forward(self, x):
            y = x * x
            y.register_hook(lambda grad: nn.Linear(7, 7)(grad))
            return y

    x = mg.randn(2, 3, requires_grad=True)
    with pytest.raises(mg.errors.ShapeError):
        mg.autograd.grad(Odd()(x).sum(), x, create_graph=True)
