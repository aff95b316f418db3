"""The numbers of a graph, read off the tape before and after backward()."""

import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.recompute import checkpoint
from minigrad.viz import trace, values


def data(*shape, requires_grad=False):
    count = int(np.prod(shape))
    array = np.linspace(-1, 1, count).reshape(shape).astype("float32")
    return mg.tensor(array, requires_grad=requires_grad)


class Net(nn.Module):
    """Convolution, batch normalization, dropout, a weight used twice."""

    def __init__(self, p=0.0):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(p)
        self.fc = nn.Linear(12, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        x = self.pool(self.bn(self.conv(x)).relu())
        x = self.drop(x.flatten(1))
        return self.out(self.fc(self.fc(x).tanh() * 0.5) + x)


X, TARGET = data(4, 1, 4, 4), mg.tensor([0, 1, 2, 0])


def loss_of(model):
    return F.cross_entropy(model(X), TARGET)


def everything(found):
    """Every number of a reading, by op."""
    return [
        (found.value(op), found.saved(op), found.arriving(op), found.leaving(op))
        for op in found.ops
    ]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return (a is None and b is None) or np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_the_numbers_are_the_same_before_and_after_backward(train):
    model = Net().train(train)
    loss = loss_of(model)
    before = everything(values.read(loss))
    assert all(value is not None and arriving is not None for value, _, arriving, _ in before)
    loss.backward()
    assert all(op.saved is None for op in trace.tape([loss]) if op.reads)
    after = everything(values.read(loss))
    assert all(map(same, before, after))


def test_gradients_of_leaves_are_those_of_backward():
    model = Net()
    loss = loss_of(model)
    found = values.read(loss)
    expected = [found.gradient(p) for p in model.parameters()]
    loss.backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        np.testing.assert_array_equal(grad, p.grad.numpy())


def test_what_arrives_and_leaves_at_a_broadcast_and_at_a_join():
    x, w = data(3, 2, requires_grad=True), data(2, requires_grad=True)
    y = x * w
    found = values.read((y + y).sum())
    np.testing.assert_array_equal(found.arriving("op0"), np.full((3, 2), 2.0))
    dx, dw = found.leaving("op0")
    np.testing.assert_array_equal(dx, np.broadcast_to(2 * w.detach().numpy(), (3, 2)))
    np.testing.assert_allclose(dw, 2 * x.detach().numpy().sum(0), atol=1e-6)
    np.testing.assert_array_equal(found.leaving("op1")[0], np.ones((3, 2)))
    assert same(found.value(y.grad_fn), y.detach().numpy())
    assert found.inputs("op0")[1] is w.array


def snapshot(model, tensors):
    """All that a reading must leave alone."""
    ops = trace.tape(tensors)
    return (
        [t.detach().numpy().tobytes() for t in model.state_dict().values()],
        [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        [id(p.grad) for p in model.parameters()],
        [t._version for t in (*model.parameters(), *model.buffers())],
        [None if op.saved is None else [id(a) for a in op.saved] for op in ops],
        [[a.tobytes() for a in op.saved or () if hasattr(a, "tobytes")] for op in ops],
        [{k: id(v) for k, v in vars(op).items()} for op in ops],
        [(id(op.inputs), op.seq, op.constants, op.viewed, op.retains) for op in ops],
        [list(op.hooks or ()) for op in ops],
        [m.training for m in model.modules()],
        str(mg.get_rng_state()),
    )


@pytest.mark.parametrize("when", ["before", "retained", "after"])
def test_reading_changes_nothing(when):
    model = Net(p=0.5)
    loss_of(model).backward()  # something in every grad
    seen = []
    h = model.fc(data(2, 12))
    h.register_hook(seen.append)
    h.retain_grad()
    loss = loss_of(model) + h.sum()
    if when != "before":
        loss.backward(retain_graph=when == "retained")
    seen.clear()
    before, held = snapshot(model, [loss]), h.grad
    everything(values.read(loss))
    assert snapshot(model, [loss]) == before
    assert seen == [] and h.grad is held
    if when != "after":
        loss.backward()


def test_dropout_reuses_its_mask_and_is_absent_without_it():
    x = data(4, 4, requires_grad=True)
    h = F.dropout(x, 0.5)
    loss = (h * h).sum()
    found = values.read(loss)
    np.testing.assert_array_equal(found.value("op0"), h.detach().numpy())
    np.testing.assert_array_equal(found.arriving("op0"), 2 * h.detach().numpy())
    mask = found.saved("op0")["mask"]
    assert set(np.unique(mask)) <= {0, 2}
    loss.backward()
    del h
    after = values.read(loss)
    assert [after.value(op) is None for op in after.ops] == [True, True, False]  # loss is held
    assert [after.arriving(op) is None for op in after.ops] == [True, False, False]
    assert after.saved("op0") == {} and after.leaving("op0") == (None, None)
    assert after.gradient(x) is None and x.grad is not None


def test_what_was_changed_since_is_absent():
    model = Net()
    loss = loss_of(model)
    loss.backward()
    with mg.no_grad():
        model.fc.weight.mul_(2.0)
    found = values.read(loss)
    names = {op.name: found.value(op) is not None for op in found.ops}
    assert names["conv2d"] and names["batch_norm"] and not names["tanh"]
    assert found.gradient(model.conv.weight) is None
    assert found.value(found.ops[-1]) is not None  # loss itself is held
    model.conv.weight.data = data(2, 2)  # of another shape, not noted as a change
    assert values.read(loss).value("op0") is None


def test_an_array_that_backward_would_refuse_is_computed_anew():
    x = data(3, requires_grad=True)
    y = x.exp()
    z = (y * 1.0).sum()
    with mg.no_grad():
        y.mul_(0.0)
    found = values.read(z)
    np.testing.assert_array_equal(found.value("op0"), np.exp(x.detach().numpy()))
    np.testing.assert_array_equal(found.saved("op0")["y"], found.value("op0"))
    assert found.gradient(x).all()


def test_inputs_that_are_gone_are_absent():
    w = data(3, 2, requires_grad=True)
    loss = (data(4, 3) @ w).sum()
    assert values.read(loss).gradient(w) is not None
    loss.backward()
    found = values.read(loss)
    assert found.value("op0") is None and found.inputs("op0")[0] is None
    assert found.arriving("op0") is not None and found.gradient(w) is None


def test_functions_that_run_more_than_arrays_are_not_run():
    norm = nn.BatchNorm1d(3)
    x = data(4, 3, requires_grad=True)
    loss = checkpoint(norm, x * 1.0).sum()
    before = norm.running_mean.numpy().copy()
    found = values.read(loss)
    assert found.arriving("op1") is not None and found.gradient(x) is None
    np.testing.assert_array_equal(norm.running_mean.numpy(), before)


def test_a_hook_may_replace_a_gradient_so_none_is_known_behind_it():
    x = data(3, requires_grad=True)
    y = x * 2.0
    remove = y.register_hook(lambda grad: grad * 0)
    loss = y.sum()
    found = values.read(loss)
    assert found.arriving("op0") is not None and found.gradient(x) is None
    remove()
    assert values.read(loss).gradient(x) is not None


def test_seeds():
    x = data(3, requires_grad=True)
    y = x * x
    assert values.read(y).gradient(x) is None  # of which of its elements?
    found = values.read([y, y.sum()], seeds=[mg.tensor([1.0, 0.0, 0.0])])
    np.testing.assert_allclose(found.gradient(x), 2 * x.detach().numpy() * [2, 1, 1])
    with pytest.raises(ShapeError, match=r"\(3,\), got \(2,\)"):
        values.read(y, seeds=[data(2)]).gradient(x)


def test_saved_arrays_have_the_names_of_the_rule():
    model = Net()
    found = values.read(loss_of(model))
    saved = {op.name: list(found.saved(op)) for op in found.ops}
    assert saved["conv2d"] == ["x"]  # nobody wants dx, so the weight was let go
    assert saved["batch_norm"] == ["x", "gamma", "mean", "inv_std", "var"]
    assert saved["relu"] == ["y"] and saved["add"] == []
    assert saved["cross_entropy"][:3] == ["logits", "target", "probabilities"]
    a, b = data(2, 2, requires_grad=True), data(2, 2, requires_grad=True)
    found = values.read(mg.einsum("ij,jk->ik", a, b))
    assert ["x1", "x2"] in [list(found.saved(op)) for op in found.ops]  # of any number of inputs


def test_the_second_derivative_is_a_graph_like_any_other():
    x = mg.tensor(3.0, requires_grad=True)
    (slope,) = mg.autograd.grad(x**3, x, create_graph=True)
    found = values.read(slope)
    assert found.gradient(x) == 18


def test_statistics():
    s = values.statistics(np.array([0, 3, -4, 0], "float32"))
    assert (s.mean, s.min, s.max, s.norm, s.zeros, s.bytes) == (-0.25, -4, 3, 5, 0.5, 16)
    assert s.std == pytest.approx(np.std([0, 3, -4, 0]))
    s = values.statistics(np.array([np.nan, np.inf, -np.inf, 2.0]))
    assert (s.mean, s.max, s.norm, s.nan, s.inf) == (2, 2, 2, 1, 2)
    assert values.statistics(np.array([1e200, 1e200])).norm == pytest.approx(2**0.5 * 1e200)
    assert values.statistics(np.zeros((0, 3))).bytes == 0
    assert values.statistics(np.array([np.nan])).mean == 0
    assert values.statistics(np.array([True, False])).zeros == 0.5


def test_a_long_chain_does_not_recurse():
    x = y = mg.tensor(1.0, requires_grad=True)
    for _ in range(20_000):
        y = y * 1.0
    y.backward()
    found = values.read(y)
    assert len(found.ops) == 20_000 > sys.getrecursionlimit()
    assert found.gradient(x) == 1 and found.value("op0") == 1
