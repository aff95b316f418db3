"""Ladders: the backward graph as data, the numbers in it, and the DOT written from both."""

import json
import re
import shutil
import subprocess
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import picture as pictures
from minigrad.viz.style import THEMES

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)


def leaf(*shape, requires_grad=True):
    count = int(np.prod(shape))
    values = np.linspace(-1, 1, count).reshape(shape).astype("float32")
    return mg.tensor(values, requires_grad=requires_grad)


def data(*shape):
    return leaf(*shape, requires_grad=False)


class MLP(nn.Module):
    def __init__(self, p=0.0):
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.bn1 = nn.BatchNorm1d(8)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(p)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.drop(self.act(self.bn1(self.fc1(x)))))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.pool(self.bn(self.conv(x)).relu()).flatten(1))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x).tanh() + x


X, TARGET = data(4, 4), mg.tensor([0, 1, 2, 0])
IMAGES, LABELS = data(2, 1, 4, 4), mg.tensor([0, 1])


def summary(g):
    """Every vjp, gradient and edge of the backward graph, a line each."""
    d = g.to_dict()
    lines = []
    for n in d["nodes"]:
        if n["of"] is not None:
            said = [n["kind"], n["name"], str(tuple(n["shape"] or ())), *n["notes"], n["formula"]]
            lines.append(f"{n['id']}: {' '.join(filter(None, said))}")
    saved = {n["id"]: [s["name"] for s in n["saved"]] for n in d["nodes"]}
    for e in d["edges"]:
        if e["kind"] in ("value", "update"):
            continue
        said = [f"{e['source']} -> {e['target']}", e["kind"]]
        said += [", ".join(saved[e["source"]])] if e["kind"] == "saved" else []
        said += [f"summed from {tuple(e['stretched'])}"] if e["stretched"] else []
        lines.append(" ".join(said))
    return "\n".join(lines)


# ---- the data --------------------------------------------------------------------------------


def scalar():
    a, b = mg.tensor(2.0, requires_grad=True), mg.tensor(-3.0, requires_grad=True)
    y = (a * b + a).tanh()
    return y, None, {"names": {"a": a, "b": b, "y": y}}


def broadcast():
    w = leaf(3, 1)
    y = (w * X[0]).mean(dim=0, keepdim=True).reshape(-1).sum()
    return y, None, {"names": {"w": w}}


def mlp():
    model = MLP()
    return F.cross_entropy(model(X), TARGET), model, {}


def mlp_eval():
    model = MLP().eval()
    return F.cross_entropy(model(X), TARGET), model, {}


def cnn():
    model = CNN()
    return F.cross_entropy(model(IMAGES), LABELS), model, {}


def residual():
    model = nn.Sequential(Block(), Block())
    return model(X).sum(), model, {}


def residual_closed():
    model = nn.Sequential(Block(), Block())
    return model(X).sum(), model, {"depth": 1}


def shared_weight():
    layer = nn.Linear(4, 4, bias=False)
    return layer(layer(X)).sum(), layer, {}


def recurrent():
    cell, h = nn.RNNCell(2, 2, bias=False), data(1, 2)
    for x in (data(1, 2), data(1, 2)):
        h = cell(x, h)
    return h.sum(), cell, {}


def frozen():
    model = nn.Linear(4, 2)
    model.weight.requires_grad_(False)
    return model(X).sum(), model, {}


def no_grad_part():
    w = leaf(2, 2)
    with mg.no_grad():
        h = (w @ w).tanh()
    return (w * h).sum(), None, {"names": {"w": w, "h": h}}


def detached():
    w = leaf(2, 2)
    h = w.tanh()
    return (h * h.detach()).sum(), None, {"names": {"w": w}}


def double_backward():
    x = mg.tensor(3.0, requires_grad=True)
    (slope,) = mg.autograd.grad(x.exp(), x, create_graph=True)
    return slope, None, {"names": {"x": x, "slope": slope}}


def several_outputs():
    x = leaf(2)
    h = x * 2
    return [h.sum(), h], None, {"names": {"x": x, "h": h}}


NORM = "dx = γ/σ (dy - mean dy - x̂ · mean(dy · x̂))"
SNAPSHOTS = {
    scalar: """
        output0_seed: seed dy = 1 ()
        op2_vjp: vjp tanh′ () dx = dy · (1 - y²)
        op1_vjp: vjp add′ () da = dy,  db = dy
        op0_vjp: vjp mul′ () da = dy · b,  db = dy · a
        input1_grad: gradient b.grad ()
        input0_grad: gradient a.grad () 2 gradients add
        output0 -> output0_seed call
        op2 -> op2_vjp saved y
        op0 -> op0_vjp saved a, b
        op0_vjp -> input0_grad gradient
        op1_vjp -> input0_grad gradient
        op0_vjp -> input1_grad gradient
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        output0_seed -> op2_vjp gradient
    """,
    broadcast: """
        output0_seed: seed doutput = 1 ()
        op3_vjp: vjp sum′ () dx = dy, stretched
        op2_vjp: vjp reshape′ (4,) dx = dy as x's shape
        op1_vjp: vjp mean′ (1, 4) dx = dy / n, stretched
        op0_vjp: vjp mul′ (3, 4) da = dy · b
        input1_stop: stop stops here: b.requires_grad = False ()
        input0_grad: gradient w.grad (3, 1)
        output0 -> output0_seed call
        op0 -> op0_vjp saved b
        op0_vjp -> input1_stop stop
        op0_vjp -> input0_grad gradient summed from (3, 4)
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_vjp gradient
        output0_seed -> op3_vjp gradient
    """,
    mlp: """
        output0_seed: seed dloss = 1 ()
        op4_vjp: vjp cross_entropy′ () dz = dy · (softmax(z) - onehot t)
        op3_vjp: vjp linear′ (4, 3) dx = dy W,  dW = dyᵀ x,  db = Σ dy
        parameter5_grad: gradient fc2.bias.grad (3,)
        parameter4_grad: gradient fc2.weight.grad (3, 8)
        op2_vjp: vjp relu′ (4, 8) dx = dy · [y > 0]
        op1_vjp: vjp batch_norm′ (4, 8) NORM,  dγ = Σ dy · x̂,  dβ = Σ dy
        parameter3_grad: gradient bn1.bias.grad (8,)
        parameter2_grad: gradient bn1.weight.grad (8,)
        op0_vjp: vjp linear′ (4, 8) dW = dyᵀ x,  db = Σ dy
        parameter1_grad: gradient fc1.bias.grad (8,)
        parameter0_grad: gradient fc1.weight.grad (8, 4)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op4 -> op4_vjp saved logits, target, probabilities, count
        op3 -> op3_vjp saved x, weight
        op2 -> op2_vjp saved y
        op1 -> op1_vjp saved x, gamma, mean, inv_std, var
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op0_vjp -> parameter1_grad gradient
        op1_vjp -> op0_vjp gradient
        op1_vjp -> parameter2_grad gradient
        op1_vjp -> parameter3_grad gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_vjp gradient
        op3_vjp -> parameter4_grad gradient
        op3_vjp -> parameter5_grad gradient
        op4_vjp -> op3_vjp gradient
        output0_seed -> op4_vjp gradient
    """,
    mlp_eval: """
        output0_seed: seed dloss = 1 ()
        op4_vjp: vjp cross_entropy′ () dz = dy · (softmax(z) - onehot t)
        op3_vjp: vjp linear′ (4, 3) dx = dy W,  dW = dyᵀ x,  db = Σ dy
        parameter5_grad: gradient fc2.bias.grad (3,)
        parameter4_grad: gradient fc2.weight.grad (3, 8)
        op2_vjp: vjp relu′ (4, 8) dx = dy · [y > 0]
        op1_vjp: vjp batch_norm_inference′ (4, 8) dx = γ/σ dy,  dγ = Σ dy · x̂,  dβ = Σ dy
        parameter3_grad: gradient bn1.bias.grad (8,)
        parameter2_grad: gradient bn1.weight.grad (8,)
        op0_vjp: vjp linear′ (4, 8) dW = dyᵀ x,  db = Σ dy
        parameter1_grad: gradient fc1.bias.grad (8,)
        parameter0_grad: gradient fc1.weight.grad (8, 4)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op4 -> op4_vjp saved logits, target, probabilities, count
        op3 -> op3_vjp saved x, weight
        op2 -> op2_vjp saved y
        op1 -> op1_vjp saved x, gamma, mean, var
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op0_vjp -> parameter1_grad gradient
        op1_vjp -> op0_vjp gradient
        op1_vjp -> parameter2_grad gradient
        op1_vjp -> parameter3_grad gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_vjp gradient
        op3_vjp -> parameter4_grad gradient
        op3_vjp -> parameter5_grad gradient
        op4_vjp -> op3_vjp gradient
        output0_seed -> op4_vjp gradient
    """,
    cnn: """
        output0_seed: seed dloss = 1 ()
        op6_vjp: vjp cross_entropy′ () dz = dy · (softmax(z) - onehot t)
        op5_vjp: vjp linear′ (2, 2) dx = dy W,  dW = dyᵀ x,  db = Σ dy
        parameter4_grad: gradient fc.bias.grad (2,)
        parameter3_grad: gradient fc.weight.grad (2, 2)
        op4_vjp: vjp reshape′ (2, 2) dx = dy as x's shape
        op3_vjp: vjp max_pool2d′ (2, 2, 1, 1) dx = dy at the winner, 0 elsewhere
        op2_vjp: vjp relu′ (2, 2, 2, 2) dx = dy · [y > 0]
        op1_vjp: vjp batch_norm′ (2, 2, 2, 2) NORM,  dγ = Σ dy · x̂,  dβ = Σ dy
        parameter2_grad: gradient bn.bias.grad (2,)
        parameter1_grad: gradient bn.weight.grad (2,)
        op0_vjp: vjp conv2d′ (2, 2, 2, 2) dw = Σ dy · x shifted
        parameter0_grad: gradient conv.weight.grad (2, 1, 3, 3)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op6 -> op6_vjp saved logits, target, probabilities, count
        op5 -> op5_vjp saved x, weight
        op3 -> op3_vjp saved x, winner
        op2 -> op2_vjp saved y
        op1 -> op1_vjp saved x, gamma, mean, inv_std, var
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op1_vjp -> op0_vjp gradient
        op1_vjp -> parameter1_grad gradient
        op1_vjp -> parameter2_grad gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_vjp gradient
        op4_vjp -> op3_vjp gradient
        op5_vjp -> op4_vjp gradient
        op5_vjp -> parameter3_grad gradient
        op5_vjp -> parameter4_grad gradient
        op6_vjp -> op5_vjp gradient
        output0_seed -> op6_vjp gradient
    """,
    residual: """
        output0_seed: seed dloss = 1 ()
        op6_vjp: vjp sum′ () dx = dy, stretched
        op5_vjp: vjp add′ (4, 4) da = dy,  db = dy
        op4_vjp: vjp tanh′ (4, 4) dx = dy · (1 - y²)
        op3_vjp: vjp linear′ (4, 4) dx = dy W,  dW = dyᵀ x,  db = Σ dy
        parameter3_grad: gradient 1.fc.bias.grad (4,)
        parameter2_grad: gradient 1.fc.weight.grad (4, 4)
        op2_sum: sum + (4, 4)
        op2_vjp: vjp add′ (4, 4) da = dy
        op1_vjp: vjp tanh′ (4, 4) dx = dy · (1 - y²)
        op0_vjp: vjp linear′ (4, 4) dW = dyᵀ x,  db = Σ dy
        parameter1_grad: gradient 0.fc.bias.grad (4,)
        parameter0_grad: gradient 0.fc.weight.grad (4, 4)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op4 -> op4_vjp saved y
        op3 -> op3_vjp saved x, weight
        op2_sum -> op2_vjp gradient
        op1 -> op1_vjp saved y
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op2_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op0_vjp -> parameter1_grad gradient
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_sum gradient
        op5_vjp -> op2_sum gradient
        op3_vjp -> parameter2_grad gradient
        op3_vjp -> parameter3_grad gradient
        op4_vjp -> op3_vjp gradient
        op5_vjp -> op4_vjp gradient
        op6_vjp -> op5_vjp gradient
        output0_seed -> op6_vjp gradient
    """,
    residual_closed: """
        output0_seed: seed dloss = 1 ()
        op6_vjp: vjp sum′ () dx = dy, stretched
        op5_vjp: vjp add′ (4, 4) da = dy,  db = dy
        op4_vjp: vjp tanh′ (4, 4) dx = dy · (1 - y²)
        op3_vjp: vjp linear′ (4, 4) dx = dy W,  dW = dyᵀ x,  db = Σ dy
        parameter3_grad: gradient 1.fc.bias.grad (4,)
        parameter2_grad: gradient 1.fc.weight.grad (4, 4)
        op2_sum: sum + (4, 4)
        op2_vjp: vjp add′ (4, 4) da = dy
        op1_vjp: vjp tanh′ (4, 4) dx = dy · (1 - y²)
        op0_vjp: vjp linear′ (4, 4) dW = dyᵀ x,  db = Σ dy
        parameter1_grad: gradient 0.fc.bias.grad (4,)
        parameter0_grad: gradient 0.fc.weight.grad (4, 4)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op4 -> op4_vjp saved y
        op3 -> op3_vjp saved x, weight
        op2_sum -> op2_vjp gradient
        op1 -> op1_vjp saved y
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op2_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op0_vjp -> parameter1_grad gradient
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_sum gradient
        op5_vjp -> op2_sum gradient
        op3_vjp -> parameter2_grad gradient
        op3_vjp -> parameter3_grad gradient
        op4_vjp -> op3_vjp gradient
        op5_vjp -> op4_vjp gradient
        op6_vjp -> op5_vjp gradient
        output0_seed -> op6_vjp gradient
    """,
    shared_weight: """
        output0_seed: seed dloss = 1 ()
        op2_vjp: vjp sum′ () dx = dy, stretched
        op1_vjp: vjp linear′ (4, 4) dx = dy W,  dW = dyᵀ x
        op0_vjp: vjp linear′ (4, 4) dW = dyᵀ x
        parameter0_grad: gradient weight.grad (4, 4) 2 gradients add
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op1 -> op1_vjp saved x, weight
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op1_vjp -> parameter0_grad gradient
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        output0_seed -> op2_vjp gradient
    """,
    recurrent: """
        output0_seed: seed dloss = 1 ()
        op8_vjp: vjp sum′ () dx = dy, stretched
        op7_vjp: vjp tanh′ (1, 2) dx = dy · (1 - y²)
        op6_vjp: vjp add′ (1, 2) da = dy,  db = dy
        op5_vjp: vjp linear′ (1, 2) dx = dy W,  dW = dyᵀ x
        op4_vjp: vjp linear′ (1, 2) dW = dyᵀ x
        input2_stop: stop stops here: data 3.requires_grad = False ()
        op3_vjp: vjp tanh′ (1, 2) dx = dy · (1 - y²)
        op2_vjp: vjp add′ (1, 2) da = dy,  db = dy
        op1_vjp: vjp linear′ (1, 2) dW = dyᵀ x
        parameter1_grad: gradient weight_hh.grad (2, 2) 2 gradients add
        input1_stop: stop stops here: data 2.requires_grad = False ()
        op0_vjp: vjp linear′ (1, 2) dW = dyᵀ x
        parameter0_grad: gradient weight_ih.grad (2, 2) 2 gradients add
        input0_stop: stop stops here: data 1.requires_grad = False ()
        output0 -> output0_seed call
        op7 -> op7_vjp saved y
        op5 -> op5_vjp saved x, weight
        op4 -> op4_vjp saved x
        op4_vjp -> input2_stop stop
        op3 -> op3_vjp saved y
        op1 -> op1_vjp saved x
        op1_vjp -> input1_stop stop
        op0 -> op0_vjp saved x
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter0_grad gradient
        op4_vjp -> parameter0_grad gradient
        op1_vjp -> parameter1_grad gradient
        op5_vjp -> parameter1_grad gradient
        op2_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        op3_vjp -> op2_vjp gradient
        op5_vjp -> op3_vjp gradient
        op6_vjp -> op4_vjp gradient
        op6_vjp -> op5_vjp gradient
        op7_vjp -> op6_vjp gradient
        op8_vjp -> op7_vjp gradient
        output0_seed -> op8_vjp gradient
    """,
    frozen: """
        output0_seed: seed dloss = 1 ()
        op1_vjp: vjp sum′ () dx = dy, stretched
        op0_vjp: vjp linear′ (4, 2) db = Σ dy
        parameter1_grad: gradient bias.grad (2,)
        input0_stop: stop stops here: x.requires_grad = False ()
        output0 -> output0_seed call
        op0_vjp -> input0_stop stop
        op0_vjp -> parameter1_grad gradient
        op1_vjp -> op0_vjp gradient
        output0_seed -> op1_vjp gradient
    """,
    no_grad_part: """
        output0_seed: seed doutput = 1 ()
        op1_vjp: vjp sum′ () dx = dy, stretched
        op0_vjp: vjp mul′ (2, 2) da = dy · b
        input1_stop: stop stops here: h.requires_grad = False ()
        input0_grad: gradient w.grad (2, 2)
        output0 -> output0_seed call
        op0 -> op0_vjp saved b
        op0_vjp -> input1_stop stop
        op0_vjp -> input0_grad gradient
        op1_vjp -> op0_vjp gradient
        output0_seed -> op1_vjp gradient
    """,
    detached: """
        output0_seed: seed doutput = 1 ()
        op2_vjp: vjp sum′ () dx = dy, stretched
        op1_vjp: vjp mul′ (2, 2) da = dy · b
        input1_stop: stop stops here: b is detached from tanh ()
        op0_vjp: vjp tanh′ (2, 2) dx = dy · (1 - y²)
        input0_grad: gradient w.grad (2, 2)
        output0 -> output0_seed call
        op1 -> op1_vjp saved b
        op1_vjp -> input1_stop stop
        op0 -> op0_vjp saved y
        op0_vjp -> input0_grad gradient
        op1_vjp -> op0_vjp gradient
        op2_vjp -> op1_vjp gradient
        output0_seed -> op2_vjp gradient
    """,
    double_backward: """
        output0_seed: seed dslope = 1 ()
        op1_vjp: vjp mul′ () db = dy · a
        input1_stop: stop stops here: a.requires_grad = False ()
        op0_vjp: vjp exp′ () dx = dy · y
        input0_grad: gradient x.grad ()
        output0 -> output0_seed call
        op1 -> op1_vjp saved a
        op1_vjp -> input1_stop stop
        op0 -> op0_vjp saved y
        op0_vjp -> input0_grad gradient
        op1_vjp -> op0_vjp gradient
        output0_seed -> op1_vjp gradient
    """,
    several_outputs: """
        output0_seed: seed doutput = 1 ()
        output1_seed: seed dh, given (2,)
        op1_vjp: vjp sum′ () dx = dy, stretched
        op0_sum: sum + (2,)
        op0_vjp: vjp mul′ (2,) da = dy · b
        input0_grad: gradient x.grad (2,)
        output0 -> output0_seed call
        output1 -> output1_seed call
        op0_sum -> op0_vjp gradient
        op0_vjp -> input0_grad gradient
        op1_vjp -> op0_sum gradient
        output1_seed -> op0_sum gradient
        output0_seed -> op1_vjp gradient
    """,
}


@pytest.mark.parametrize("net", SNAPSHOTS, ids=lambda f: f.__name__)
def test_backward_graph_data(net):
    output, model, options = net()
    assert summary(viz.graph(output, model, backward=True, **options)) == (
        dedent(SNAPSHOTS[net]).strip().replace("NORM", NORM)
    )


def test_the_forward_graph_stays_as_it_is():
    for net in SNAPSHOTS:
        output, model, options = net()
        forward = viz.graph(output, model, **options).to_dict()
        both = viz.graph(output, model, backward=True, **options).to_dict()
        assert both["nodes"][: len(forward["nodes"])] == forward["nodes"]
        assert both["edges"][: len(forward["edges"])] == forward["edges"]
        assert both["schema"] == 2


def test_a_closed_module_has_one_vjp():
    output, model, _ = residual()
    shown = viz.graph(output, model, backward=True, saved=True, depth=1).shown
    found = {n.name: n for n in shown.nodes}
    assert {"0", "1", "0′", "1′", "sum′"} <= found.keys()
    assert [s.name for s in found["1"].saved] == ["x", "weight", "y"]
    assert sum(s.bytes for s in found["1"].saved) == 3 * 64
    assert "3 arrays" in viz.graph(output, model, backward=True, depth=1).to_dot()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_vjp_for_every_op_and_a_gradient_for_every_use(pairs):
    values = [mg.tensor(0.5, requires_grad=True)]
    for i, j in pairs:
        values.append(values[i % len(values)] * values[j % len(values)])
    total = sum(values[1:], start=values[0])
    trace = viz.graph(total, backward=True).trace
    count = {kind: sum(n.kind == kind for n in trace.nodes) for kind in ("op", "vjp", "sum")}
    assert count["vjp"] == count["op"] == trace.facts.backward
    flows = [e for e in trace.edges if e.kind == "gradient"]
    uses = [e for e in trace.edges if e.kind == "value"]
    assert len(flows) == len(uses) + count["sum"]
    place = {n.id: i for i, n in enumerate(trace.nodes)}
    assert all(place[e.source] < place[e.target] for e in flows)
    assert len(place) == len(trace.nodes)


# ---- the numbers -----------------------------------------------------------------------------


def node(g, name, kind=None):
    return next(n for n in g.trace.nodes if n.name == name and kind in (None, n.kind))


def test_values_and_gradients_are_in_the_data():
    mg.manual_seed(0)
    model = MLP()
    loss = F.cross_entropy(model(X), TARGET)
    loss.backward(retain_graph=True)
    g = viz.graph(loss, model, backward=True, values=True)
    h = model.fc1(X).detach().numpy()
    said = node(g, "linear", "op").statistics
    assert said["std"] == pytest.approx(h.std(), rel=1e-4)
    assert np.shape(said["values"]) == (4, 8)
    grad = model.fc2.weight.grad.numpy()
    assert node(g, "fc2.weight.grad").gradient["norm"] == pytest.approx(
        np.linalg.norm(grad), rel=1e-4
    )
    assert {s.name: s.bytes for s in node(g, "relu", "op").saved} == {"y": 128}
    text = g.to_dot()
    assert "|g| " in text and "σ " in text and "% zeros" in text and "128 B" in text
    assert "all 1" in text  # gamma, before the first step
    assert "≈ 0" in text  # the bias that the norm takes off again
    json.dumps(g.to_dict(), allow_nan=False)


def test_gradients_that_are_not_there_are_asked_for():
    output, model, _ = mlp()
    g = viz.graph(output, model, backward=True)
    hint = "call loss.backward() to see gradients"
    assert hint in g.to_dot() and hint in str(g)
    assert "|g|" not in viz.graph(output, model, backward=True, values=True).to_dot()
    shown = viz.graph(output, model, backward=True, grads=True)
    assert "|g|" in shown.to_dot() and hint not in shown.to_dot()
    assert model.fc1.weight.grad is None
    output.backward()
    g = viz.graph(output, model, backward=True)
    assert "|g|" in g.to_dot() and hint not in g.to_dot()
    assert "|g|" not in viz.graph(output, model, backward=True, grads=False).to_dot()
    expected = node(shown, "fc1.weight.grad").gradient["norm"]
    assert node(g, "fc1.weight.grad").gradient["norm"] == pytest.approx(expected, rel=1e-4)


def test_values_that_are_gone_are_left_out():
    model = MLP()
    loss = F.cross_entropy(model(data(4, 4)), TARGET)
    loss.backward()
    g = viz.graph(loss, model, backward=True, values=True)
    assert node(g, "linear", "op").statistics is None
    assert "some values are gone" in g.to_dot()
    assert node(g, "fc1.weight.grad").gradient is not None


def test_what_is_no_number_stands_out():
    x = mg.tensor([1.0, 0.0, -1.0], requires_grad=True)
    g = viz.graph((1 / x).sqrt().sum(), values=True)
    assert "1 inf" in g.to_dot() and "1 nan" in g.to_dot()
    json.dumps(g.to_dict(), allow_nan=False)


def test_numbers_in_the_forward_graph_alone():
    output, model, _ = mlp()
    g = viz.graph(output, model, values=True)
    assert "σ " in g.to_dot() and "σ " in str(g)
    assert all(n.of is None for n in g.trace.nodes)


# ---- drawing is a pure read ------------------------------------------------------------------


@pytest.mark.parametrize("called", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("backward", [True, "only"])
def test_drawing_changes_nothing(backward, called, tmp_path):
    model = MLP(p=0.5)
    F.cross_entropy(model(X), TARGET).backward()  # something in every grad
    loss = F.cross_entropy(model(X), TARGET)
    if called:
        loss.backward()

    def everything():
        ops = viz.trace.tape([loss])
        return (
            [t.detach().numpy().tobytes() for t in model.state_dict().values()],
            [p.grad.numpy().tobytes() for p in model.parameters()],
            [t._version for t in (*model.parameters(), *model.buffers())],
            [None if op.saved is None else [id(a) for a in op.saved] for op in ops],
            [{k: id(v) for k, v in vars(op).items()} for op in ops],
            [m.training for m in model.modules()],
            str(mg.get_rng_state()),
        )

    before = everything()
    for grads in ("auto", True, False):
        g = viz.graph(loss, model, backward=backward, values=True, saved=True, grads=grads)
        g.render(tmp_path / "net.dot")
        str(g), repr(g), g.to_dict(), g._repr_mimebundle_()
    assert everything() == before


def test_the_same_program_gives_the_same_bytes():
    def draw():
        mg.manual_seed(0)
        output, model, _ = mlp()
        output.backward()
        return viz.graph(output, model, backward=True, values=True)

    first, second = draw(), draw()
    assert first.to_dot() == second.to_dot() and "0x" not in first.to_dot()
    assert str(first) == str(second) and first.to_dict() == second.to_dict()


# ---- the picture -----------------------------------------------------------------------------


def drawn(text, form="svg"):
    """What dot writes; it must not complain."""
    done = subprocess.run(["dot", f"-T{form}"], input=text.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr[:500]
    return done.stdout.decode()


def places(text):
    """Where dot puts the boxes: x, y, width, height by name."""
    rows = [line.split() for line in drawn(text, "plain").splitlines()]
    return {r[1]: tuple(map(float, r[2:6])) for r in rows if r[0] == "node"}


@needs_dot
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("backward", [True, "only"])
@pytest.mark.parametrize("net", SNAPSHOTS, ids=lambda f: f.__name__)
def test_dot_draws_without_complaint(net, backward, theme):
    output, model, options = net()
    g = viz.graph(output, model, backward=backward, values=True, theme=theme, **options)
    svg = drawn(g.to_dot())
    assert all(svg.count(f'id="{n.id}"') == 1 for n in g.shown.nodes if n.kind == "vjp")
    assert g._repr_mimebundle_()["text/plain"] == str(g)


@needs_dot
@pytest.mark.parametrize("net", SNAPSHOTS, ids=lambda f: f.__name__)
def test_rails_are_straight_and_rows_level(net):
    output, model, options = net()
    g = viz.graph(output, model, backward=True, **options)
    at = places(g.to_dot())
    ops = [n.id for n in g.shown.nodes if n.ops and n.of is None]
    assert len({at[op][0] for op in ops}) == 1
    assert len({at[f"{op}_vjp"][0] for op in ops}) == 1
    heights = [at[op][1] for op in ops]
    assert heights == sorted(set(heights), reverse=True)  # one below the other
    for op in ops:
        assert at[op][1] == at[f"{op}_vjp"][1]
        row = [at[i][0] for i in (f"{op}_leaves", op, f"{op}_vjp", f"{op}_ends") if i in at]
        assert row == sorted(row)


@needs_dot
@pytest.mark.parametrize("net", [mlp, cnn, residual, recurrent], ids=lambda f: f.__name__)
def test_boxes_do_not_overlap(net):
    output, model, options = net()
    at = list(places(viz.graph(output, model, backward=True, **options).to_dot()).values())
    for i, (x, y, w, h) in enumerate(at):
        for u, v, width, height in at[:i]:
            assert abs(x - u) >= (w + width) / 2 - 0.01 or abs(y - v) >= (h + height) / 2 - 0.01


@needs_dot
def test_frames_hold_both_rails():
    output, model, _ = mlp()
    svg = drawn(viz.graph(output, model, backward=True).to_dot())
    frame = re.search(r'<title>cluster_module1</title>.*?points="([^"]*)"|d="([^"]*)"', svg, re.S)
    assert svg.count('class="cluster"') == 4 and frame


def test_the_legend_explains_what_is_there():
    def said(net, **options):
        output, model, more = net()
        text = viz.graph(output, model, backward=True, **options, **more).to_dot()
        return {mark for mark, said in viz.dot.LEGEND.items() if f">{said}\u00a0" in text}

    base = {"input", "op", "output", "gradient", "flow", "rung"}
    assert said(scalar) == base | {"shared"}
    assert said(residual) == base | {"parameter", "fused", "reduces", "shared", "join"}
    assert "stretched" in said(broadcast) and "join" not in said(broadcast)


def test_marks_of_the_backward_rail():
    output, model, options = broadcast()
    assert "Σ axis 1" in viz.graph(output, model, backward=True, **options).to_dot()
    w = leaf(3)
    h = leaf(2, 3).tanh()
    assert "Σ axis 0" in viz.graph((h * w).sum(), backward=True).to_dot()  # beside the op
    kept = h.exp()
    skipping = viz.graph((kept.sum(0) * 2 + kept).sum(), backward=True).to_dot()
    assert "a ⇒ (2, 3)" in skipping or "⇒ (2, 3)" in skipping
    output, model, _ = detached()
    assert "detached from tanh" in viz.graph(output, backward=True).to_dot()


def test_formulas_speak_of_the_gradients_that_are_wanted():
    x, w = data(2, 2), leaf(2, 2)
    assert node(viz.graph((x @ w).sum(), backward=True), "matmul′").formula == "db = aᵀ dy"
    assert node(viz.graph(w.maximum(w * 2).sum(), backward=True), "maximum′").formula.count(",  ")
    condition = mg.tensor([[True, False], [False, True]])
    chosen = viz.graph(mg.where(condition, w, x).sum(), backward=True)
    assert node(chosen, "where′").formula == "da = [c] dy"


def test_ladders_as_text():
    output, model, _ = mlp()
    output.backward()
    text = str(viz.graph(output, model, backward=True))
    assert text.startswith("MLP  ·  forward + backward · train mode · float32 · 5 forward + 5 back")
    assert "seed dloss = 1\n%5′ = cross_entropy′(dloss) ()   dz = dy · (softmax" in text
    assert re.search(r"gradient fc1.weight.grad \(8, 4\): %1′   \|g\| \d", text)
    only = str(viz.graph(output, model, backward="only"))
    assert "%1 = " not in only and "%1′ = linear′(%2′)" in only
    output, model, _ = residual()
    assert "add′(%4′ + %6′)" in str(viz.graph(output, model, backward=True))


@needs_dot
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), max_size=80), st.booleans())
def test_names_may_hold_anything(name, only):
    output, model, _ = mlp()
    trace = viz.graph(output, model).trace
    for n in trace.nodes:
        n.name, n.value, n.notes = name, name, [name]
        n.formula = n.vjp = name
    for s in trace.scopes:
        s.name = s.cls = s.config = s.path = name
    drawn(pictures.Graph(trace, backward="only" if only else True).to_dot(), "dot")


@needs_dot
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.booleans()), max_size=8))
def test_any_graph_is_drawn(steps):
    """Modules in modules, values that skip rows, parameters shared between frames."""
    shared = nn.Parameter(data(2))
    values = [data(2) * nn.Parameter(data(2))]

    class Outer(nn.Module):
        def __init__(self, depth, use, common):
            super().__init__()
            self.own, self.use, self.common = nn.Parameter(data(2)), use, common
            self.inner = Outer(depth - 1, use, common) if depth else None

        def forward(self, x):
            x = x if self.inner is None else self.inner(x)
            other = values[self.use % len(values)]
            return x * self.own + other * (shared if self.common else 1.0)

    modules = []  # a graph does not keep them
    for step in steps:
        modules.append(Outer(*step))
        values.append(modules[-1](values[-1]))
    assert "<svg" in viz.graph(values[-1], backward=True).to_svg()


@needs_dot
def test_where_dot_gives_up_the_arrows_that_skip_rows_are_left_out(monkeypatch):
    tried = []

    def failing(source, form):
        tried.append(source)
        if len(tried) == 1:
            raise viz.GraphvizError("trouble in init_rank")
        return drawn(source).encode()

    monkeypatch.setattr(pictures, "draw", failing)
    output, model, _ = residual()
    assert "<svg" in viz.graph(output, model, backward=True).to_svg()
    assert "arrow left out" in tried[1] and "arrow left out" not in tried[0]


@pytest.mark.parametrize("name", THEMES)
def test_a_ladder_has_no_colours_but_those_of_its_theme(name):
    theme = THEMES[name]
    known = {theme.page, theme.text, theme.muted, theme.alert, theme.mark}
    known |= {*theme.fill.values(), *theme.line.values()}
    papers = {"page": theme.page, **theme.fill}
    inks = {(ink, paper) for _, ink, paper in theme.inks()}
    for where in ("page", "op", "module"):  # gradients' labels stand on these
        assert (theme.line["gradient"], papers[where]) in inks
    for net in SNAPSHOTS:
        output, model, options = net()
        text = viz.graph(output, model, backward=True, theme=name, **options).to_dot()
        found = {text[i : i + 7] for i in range(len(text)) if text[i] == "#" and text[i - 1] != "&"}
        assert found <= known


@needs_dot
def test_3000_ops_are_drawn():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*[Block() for _ in range(1000)])

        def forward(self, x):
            return self.body(x).sum()

    y = mg.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        y = y * 1.0
    for output in (y, Deep()(X)):
        g = viz.graph(output, backward=True, max_nodes=100)
        assert g.trace.facts.backward >= 3000
        drawn(g.to_dot(), "dot")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backward": "both"}, "backward= must be one of False, True, only"),
        ({"grads": "yes"}, "grads= must be one of True, False, auto"),
        ({"backward": True, "direction": "LR"}, "from top to bottom"),
    ],
)
def test_arguments_that_make_no_sense(options, said):
    with pytest.raises(ValueError, match=said):
        viz.graph(leaf(2) * 2, **options)


# ---- the user's lines ------------------------------------------------------------------------


def test_the_lines_of_the_program_are_kept_where_asked_for():
    x = leaf(2)
    before = x.exp()
    with viz.recording():
        y = before.tanh()  # this line
        with viz.recording():
            pass
        z = nn.Linear(2, 2)(y).sum()
    after = z * 2
    ops = {op.name: op for op in viz.trace.tape([after])}
    assert ops["exp"].source == ops["mul"].source == ""
    assert ops["tanh"].source.endswith("test_ladder.py:" + ops["tanh"].source.rpartition(":")[2])
    for backward in (False, True):
        g = viz.graph(after, backward=backward)
        assert node(g, "tanh", "op").code == "y = before.tanh()  # this line"
        assert node(g, "linear", "op").code == "z = nn.Linear(2, 2)(y).sum()"
        assert "# this line" in g.to_dot()
    assert "# this line" not in viz.graph(after, source=False).to_dot()


def test_lines_inside_a_model_are_those_of_its_forward():
    with viz.recording():
        output, model, _ = mlp()
    said = {n.name: n.code for n in viz.graph(output, model).trace.nodes if n.kind == "op"}
    assert said["batch_norm"] == "return self.fc2(self.drop(self.act(self.bn1(self.fc1(x)))))"
    assert said["cross_entropy"] == "return F.cross_entropy(model(X), TARGET), model, {}"


@needs_dot
def test_a_picture_that_follows_its_readers_screen(tmp_path):
    output, model, _ = mlp()
    output.backward()
    g = viz.graph(output, model, backward=True, values=True, theme="auto")
    svg = g.render(tmp_path / "net.svg").read_text(encoding="utf-8")
    head, body = svg.split("</style>")
    rules = dict(re.findall(r'\[(?:fill|stroke)="([^"]+)"\]\{(?:fill|stroke):([^}]+)\}', head))
    used = set(re.findall(r'(?:fill|stroke)="(#?\w+)"', body)) - {"none", "transparent"}
    assert used <= rules.keys()  # every colour has its counterpart
    dark = THEMES["dark"]
    assert rules["#fffffe"] == dark.page and rules["white"] == dark.fill["op"]
    assert rules[THEMES["light"].line["gradient"].lower()] == dark.line["gradient"]
    assert "<style>" in g.to_svg() and g.to_dot()
    assert g.render(tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


def test_no_gradient_flows_into_the_statistics_of_an_opened_eval_mode_norm():
    output, model, _ = mlp_eval()
    shown = viz.graph(output, model, backward=True, expand="bn1").shown
    kinds = {n.id: n.kind for n in shown.nodes}
    flows = [e for e in shown.edges if e.kind == "gradient"]
    buffers = [n.id for n in shown.nodes if n.kind == "buffer"]
    assert buffers and flows
    assert not any(e.wanted for e in shown.edges if kinds[e.source] == "buffer")
    assert not any(e.target.startswith(tuple(buffers)) for e in flows)
