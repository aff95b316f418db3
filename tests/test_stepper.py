"""Stepping through a tape: the numbers of every step, the finite differences, the opened ops."""

import gc
import json
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import differences, stepper, values
from minigrad.viz import trace as traces
from tests.test_pages import loss_of, network


def arange(*shape, requires_grad=False):
    count = int(np.prod(shape))
    numbers = np.sin(np.arange(1.0, count + 1)).reshape(shape).astype("float32")
    return mg.tensor(numbers, requires_grad=requires_grad)


def product():
    a, b, c = (mg.tensor(v, requires_grad=True) for v in (2.0, -3.0, 10.0))
    y = (a * b + c).tanh() * a
    return viz.step(y, names={"a": a, "b": b, "c": c})


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        h = self.pool(self.norm(self.conv(x)).tanh())
        return self.head(self.drop(h.flatten(1)))


def mlp():
    model = network()
    return model, loss_of(model)


def opened_norm():
    model = network(fused=False)
    return model, loss_of(model)


def convolutions():
    mg.manual_seed(1)
    model = Convolutions()
    return model, F.cross_entropy(model(arange(3, 2, 4, 4)), mg.tensor([0, 2, 1]))


def attention():
    mg.manual_seed(2)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return model, model(arange(2, 3, 8)).square().mean()


def recurrent():
    mg.manual_seed(3)
    model = nn.RNN(3, 4, batch_first=True)
    return model, model(arange(2, 3, 3))[0].square().mean()


def evaluated():
    model = network().eval()
    return model, loss_of(model)


MODELS = [mlp, opened_norm, convolutions, attention, recurrent, evaluated]


def items(page):
    """(walk, step, section title, item) of everything a page says."""
    for walk in page.walks:
        for at in walk.steps:
            for section in at["sections"]:
                for item in section["items"]:
                    yield walk, at, section["title"], item


# ---- what is said ----------------------------------------------------------------------------


def test_the_steps_of_a_small_graph():
    assert (
        str(product())
        == """\
forward, then backward · float32 · 4 ops
forward 1: %1 = mul(a, b) ()   y = a · b   -6
forward 2: %2 = add(%1, c) ()   y = a + b   4
forward 3: %3 = tanh(%2) ()   y = tanh x   0.9993
forward 4: %4 = mul(%3, a) ()   y = a · b   1.999
backward 4: mul: da = dy · b,  db = dy · a   dy 1   da 2   db 0.9993
backward 3: tanh: dx = dy · (1 - y²)   dy 2   dx 0.002682
backward 2: add: da = dy,  db = dy   dy 0.002682   da 0.002682   db 0.002682
backward 1: mul: da = dy · b,  db = dy · a   dy 0.002682   da -0.008045   da 0.9913   db 0.005363
gradient of a (): 0.9913
gradient of b (): 0.005363
gradient of c (): 0.002682"""
    )


def test_gradients_that_add_up_are_counted():
    parts = [
        (item["part"], page.arrays.rows[item["array"]]["value"])
        for page in [product()]
        for _, _, title, item in items(page)
        if item.get("of") == "input0" and title == "gradient leaving"
    ]
    assert parts == [("1 of 2", "0.9993"), ("2 of 2", "-0.008045"), ("total", "0.9913")]


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_the_gradients_of_the_leaves_are_those_of_backward(build):
    model, loss = build()
    page = viz.step(loss, model)
    loss.backward()
    said = {
        item["name"]: page.arrays.rows[item["array"]]
        for _, at, _, item in items(page)
        if at["phase"] == "done" and page.walks[0].steps[-1] is at
    }
    for name, parameter in model.named_parameters():
        assert said[name] == stepper.table(parameter.grad.array)


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_finite_differences_agree_with_the_gradients(build):
    model, loss = build()
    page = viz.step(loss, model)
    found = [
        (walk.of, at["node"], item["name"], key, check)
        for walk, at, _, item in items(page)
        for key, check in item.get("checks", {}).items()
    ]
    assert len(found) > 30
    largest = max(abs(check[1]) for *_, check in found)
    for *where, (difference, vjp, _, *kink) in found:
        assert kink or difference == pytest.approx(vjp, rel=2e-4, abs=1e-6 * largest), where


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_an_opened_op_passes_on_what_the_fused_one_does(build):
    model, loss = build()
    page = viz.step(loss, model)
    fused = [n for n in page.walks[0].shown.nodes if n.fused]
    assert len(page.walks) - 1 + len(page.closed) == len(fused)
    for walk in page.walks[1:]:
        assert len([n for n in walk.shown.nodes if n.kind == "op"]) > 1
        whole = next(
            at for at in page.walks[0].steps if at["node"] == walk.of and at["phase"] == "backward"
        )
        outside = [i["array"] for i in whole["sections"][-1]["items"] if i.get("part") != "total"]
        inside = [item["array"] for item in walk.steps[-1]["sections"][0]["items"]]
        outside, inside = (
            sorted((page.arrays.rows[i]["shape"], page.arrays.rows[i]["norm"]) for i in side)
            for side in (outside, inside)
        )
        assert [shape for shape, _ in outside] == [shape for shape, _ in inside]
        np.testing.assert_allclose(
            [n for _, n in inside], [n for _, n in outside], rtol=2e-3, atol=1e-6
        )


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_every_number_of_a_fresh_tape_is_known(build):
    model, loss = build()
    page = viz.step(loss, model)
    lost = [
        (walk.of, at["phase"], at["node"], item["name"])
        for walk, at, _, item in items(page)
        if item["array"] is None
    ]
    inputs = [n.id for n in page.walks[0].shown.nodes if n.kind == "input"]
    assert all(walk == "" and inputs for walk, *_ in lost), lost  # batches that nobody holds


def test_before_and_after_backward_the_steps_are_the_same():
    model, loss = mlp()
    before = viz.step(loss, model).to_dict()
    loss.backward(retain_graph=True)
    assert viz.step(loss, model).to_dict() == before


def test_what_is_gone_is_said_to_be_gone():
    w = arange(4, 2, requires_grad=True)
    loss = (arange(3, 4) @ w).sum()  # nobody holds the batch
    loss.backward()
    page = viz.step(loss)
    assert "y   not known" not in str(page) and "not known any more" in str(page)
    assert json.dumps(page.to_dict(), allow_nan=False)


def test_an_output_with_a_gradient_of_its_own():
    x = arange(3, requires_grad=True)
    page = viz.step(x * x, gradient=mg.tensor([1.0, 0.0, 2.0]), names={"x": x})
    start = next(at for at in page.walks[0].steps if at["node"] == "output0")
    assert page.arrays.rows[start["sections"][0]["items"][0]["array"]]["rows"] == [[1, 0, 2]]
    checks = [c for *_, i in items(page) for c in i.get("checks", {}).values()]
    assert checks and all(c[0] == pytest.approx(c[1], rel=1e-5) for c in checks)


# ---- nothing changes -------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before backward", "after backward"])
@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_stepping_changes_nothing(build, after):
    model, loss = build()
    loss.backward(retain_graph=True)  # something in every grad
    model, loss = build()
    if after:
        loss.backward()

    def everything():
        return (
            [(k, t.detach().numpy().tobytes()) for k, t in model.state_dict().items()],
            [p.grad is not None and p.grad.numpy().tobytes() for p in model.parameters()],
            [t._version for t in (*model.parameters(), *model.buffers())],
            [[id(a) for a in op.saved or ()] for op in traces.tape([loss])],
            [[id(a) for a in map(vars(op).get, getattr(op, "residuals", ()))]
             for op in traces.tape([loss])],
            [m.training for m in model.modules()],
            str(mg.get_rng_state()),
            str(np.random.get_state()),
            mg.is_grad_enabled(),
            loss.detach().numpy().tobytes(),
        )  # fmt: skip

    before = everything()
    page = viz.step(loss, model)
    str(page), page.to_dict(), page.to_dot()
    assert everything() == before
    if not after:
        loss.backward()  # and the graph is still whole


def test_a_stepper_holds_no_tensor():
    model, loss = mlp()
    op = loss.grad_fn
    page = viz.step(loss, model)
    gc.collect()
    held = sys.getrefcount(op)
    del page
    gc.collect()
    assert sys.getrefcount(op) == held


def test_the_same_program_gives_the_same_data():
    def made():
        model, loss = mlp()
        return viz.step(loss, model)

    assert made().to_dict() == made().to_dict()
    assert json.dumps(made().to_dict(), allow_nan=False)


# ---- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "said"),
    [
        ([[0.5, -0.25]], {"shape": "(1, 2)", "power": 0, "decimals": 3, "rows": [[0.5, -0.25]]}),
        ([1.5e-6, 0.0], {"power": -6, "rows": [[1.5, 0.0]]}),
        ([123.456, -1.0], {"power": 0, "decimals": 1, "rows": [[123.5, -1.0]]}),
        ([4.2e9], {"power": 9, "rows": [[4.2]], "value": "4.2e+09"}),
        ([np.nan, np.inf, 1.0], {"rows": [["nan", "inf", 1.0]], "nan": 1, "inf": 1, "norm": 1.0}),
        (3.25, {"shape": "()", "rows": [[3.25]], "value": "3.25"}),
        (np.zeros((0, 3)), {"shape": "(0, 3)", "rows": [], "norm": 0.0}),
        (np.zeros((2, 0, 3)), {"shape": "(2, 0, 3)", "rows": []}),
        (np.ones((9, 30)), {"corner": "[:8, :8]", "norm": 16.43}),
        (np.ones((2, 3, 4, 9)), {"corner": "[0, 0, :, :8]"}),
        (np.ones(20), {"corner": "[:8]"}),
        (np.array([3, 1]), {"decimals": 0, "rows": [[3, 1]]}),
        (np.array([True]), {"rows": [[1]], "value": "1"}),
        ([-0.0001, 1.0], {"rows": [[0.0, 1.0]]}),
    ],
)
def test_what_a_table_shows(array, said):
    table = stepper.table(np.asarray(array))
    assert {key: table.get(key) for key in said} == said
    assert "-0.0" not in json.dumps(table["rows"])
    assert ("norm" in table) == (np.asarray(array).dtype.kind == "f")


def test_a_page_of_large_arrays_stays_small():
    model = nn.Sequential(nn.Linear(1000, 400), nn.ReLU(), nn.Linear(400, 1))
    page = viz.step(model(arange(64, 1000)).sum(), model)
    assert len(json.dumps(page.to_dict())) < 60_000


# ---- finite differences ----------------------------------------------------------------------


def replay(output, **seeds):
    found = values.read([output])
    return found, differences.Replay(found, {found.ops[-1]: np.ones(output.shape)})


def test_a_difference_of_one_use_and_of_all():
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    h = x * x
    found, played = replay((h * h).sum())
    assert played.of_use(found.ops[0], 0, (0,)).value == pytest.approx(16)
    assert played.of_value(x, (0,)).value == pytest.approx(32)
    assert played.of_value(found.ops[0], (1,)).value == pytest.approx(18)


def test_a_kink_is_called_one():
    x = mg.tensor([0.0, 1.0], requires_grad=True)
    found, played = replay(x.relu().sum())
    at_zero = played.of_value(x, (0,))
    assert at_zero.kink and at_zero.value == pytest.approx(0.5)
    assert not played.of_value(x, (1,)).kink
    del found


def test_where_the_tape_cannot_be_computed_anew_there_is_no_difference():
    w = arange(4, 2, requires_grad=True)
    loss = (arange(3, 4) @ w).sum()
    loss.backward()
    gc.collect()
    _, played = replay(loss)
    assert played.of_value(w, (0, 0)) is None
    narrow = (w.to("float16") * 3).sum()  # float16 in between: no ten digits
    assert replay(narrow)[1].of_value(w, (0, 0)) is None


def test_a_missing_input_is_not_taken_for_an_absent_one():
    """A bias that is gone would be None, as one that was never there."""
    x = arange(3, 4, requires_grad=True)
    y = F.linear(x, arange(2, 4), mg.tensor([5.0, 6.0]))
    gc.collect()
    found = values.read([y.sum()])
    played = differences.Replay(found, {found.ops[-1]: np.ones(())})
    assert played.of_value(x, (0, 0)) is None or found.inputs("op0")[2] is not None


# ---- errors ----------------------------------------------------------------------------------


def test_what_cannot_be_stepped_through():
    x = arange(3, requires_grad=True)
    with pytest.raises(TypeError, match="got str"):
        viz.step("loss")
    with pytest.raises(mg.errors.GraphError, match=r"nothing to go through.*requires_grad=True"):
        viz.step(arange(3) * 2)
    with pytest.raises(mg.errors.GraphError, match=r"shape \(3,\).*gradient="):
        viz.step(x * 2)
    with pytest.raises(mg.errors.ShapeError, match=r"\(3,\), got \(2,\)"):
        viz.step(x * 2, gradient=arange(2))
    with pytest.raises(ValueError, match="auto, light, dark"):
        viz.step(x.sum(), theme="pink")
    with pytest.raises(ValueError, match="TB, LR"):
        viz.step(x.sum(), direction="up")
    y = x
    for _ in range(300):
        y = y * 1.0
    with pytest.raises(mg.errors.GraphError, match=r"at most 250 operations.*has 301"):
        viz.step(y.sum())
