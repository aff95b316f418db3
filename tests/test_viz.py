"""Pictures of graphs: the data read off the tape, the DOT written from it, and what draws it."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import dot, render
from minigrad.viz import picture as pictures
from minigrad.viz.style import THEMES

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)


def leaf(*shape, dtype="float32", requires_grad=True):
    count = int(np.prod(shape))
    values = np.linspace(-1, 1, count).reshape(shape).astype(dtype)
    return mg.tensor(values, requires_grad=requires_grad)


def data(*shape):
    return leaf(*shape, requires_grad=False)


class MLP(nn.Module):
    def __init__(self, **norm):
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.bn1 = nn.BatchNorm1d(8, **norm)
        self.act = nn.Tanh()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.act(self.bn1(self.fc1(x))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.Tanh()

    def forward(self, x):
        return self.act(self.fc(x)) + x


class Deep(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.body = nn.Sequential(*[Block() for _ in range(blocks)])

    def forward(self, x):
        return self.body(self.stem(x)).sum()


TARGET = mg.tensor([0, 1, 2, 0])


def mlp_loss(model=None):
    return F.cross_entropy((model or MLP())(data(4, 4)), TARGET)


def summary(g):
    """Every node and edge with its marks, a line each."""
    d = g.to_dict()
    scopes = {s["id"]: s["path"] or s["cls"] for s in d["scopes"]}
    lines = []
    for n in d["nodes"]:
        marks = [m for m in ("frozen", "reduces", "view", "fused") if n[m]]
        where = [f"in {scopes[n['scope']]}"] if n["scope"] and n["kind"] == "op" else []
        said = [n["kind"], n["name"], str(tuple(n["shape"])), *marks, *n["notes"], *where]
        lines.append(f"{n['id']}: {' '.join(said)}")
    for e in d["edges"]:
        said = [f"{e['source']} -> {e['target']}", e["argument"]]
        said += [f"used {e['uses']}x"] if e["uses"] > 1 else []
        said += [f"to {tuple(e['stretched'])}"] if e["stretched"] else []
        said += [e["kind"]] if e["kind"] != "value" else []
        lines.append(" ".join(filter(None, said)))
    return "\n".join(lines)


# ---- the data --------------------------------------------------------------------------------


def scalar():
    a, b = mg.tensor(2.0, requires_grad=True), mg.tensor(-3.0, requires_grad=True)
    y = (a * b + 1).tanh()
    return viz.graph(y, names={"a": a, "b": b, "y": y})


def broadcast():
    w = leaf(3, 1)
    return viz.graph((w * data(2, 1, 4)).mean(dim=0, keepdim=True).reshape(-1))


def mlp():
    model = MLP()
    return viz.graph(mlp_loss(model), model)


def shared_weight():
    layer = nn.Linear(4, 4, bias=False)
    return viz.graph(layer(layer(data(2, 4))), layer)


def residual():
    block = Block()
    return viz.graph(block(data(2, 4)))


def no_grad_part():
    w = leaf(2, 2)
    with mg.no_grad():
        h = (w @ w).tanh()
    return viz.graph(w * h, names=locals())


def frozen():
    model = nn.Linear(4, 2)
    model.weight.requires_grad_(False)
    return viz.graph(model(data(3, 4)), model)


def batch_norm_train():
    norm = nn.BatchNorm1d(4)
    return viz.graph(norm(data(6, 4)), norm)


def batch_norm_eval():
    norm = nn.BatchNorm1d(4).eval()
    return viz.graph(norm(data(6, 4)), norm)


def batch_norm_opened():
    norm = nn.BatchNorm1d(4, affine=False, fused=False)
    x = leaf(6, 4)
    return viz.graph(norm(x), norm)


SNAPSHOTS = {
    scalar: """
        input0: input a () requires grad
        input1: input b () requires grad
        op0: op mul ()
        op1: op add () b = 1
        op2: op tanh ()
        output0: output y ()
        input0 -> op0 a
        input1 -> op0 b
        op0 -> op1 a
        op1 -> op2 x
        op2 -> output0
    """,
    broadcast: """
        input0: input a (3, 1) requires grad
        input1: input b (2, 1, 4)
        op0: op mul (2, 3, 4)
        op1: op mean (1, 3, 4) reduces axes=(0,) keepdim=True
        op2: op reshape (12,) view
        output0: output output (12,)
        input0 -> op0 a to (2, 3, 4)
        input1 -> op0 b to (2, 3, 4)
        op0 -> op1 x
        op1 -> op2 x
        op2 -> output0
    """,
    mlp: """
        input0: input x (4, 4)
        parameter0: parameter fc1.weight (8, 4)
        parameter1: parameter fc1.bias (8,)
        op0: op linear (4, 8) fused in fc1
        parameter2: parameter bn1.weight (8,)
        parameter3: parameter bn1.bias (8,)
        op1: op batch_norm (4, 8) fused statistics of this batch in bn1
        buffer0: buffer bn1.running_mean (8,) updated in place
        buffer1: buffer bn1.running_var (8,) updated in place
        op2: op tanh (4, 8) in act
        parameter4: parameter fc2.weight (3, 8)
        parameter5: parameter fc2.bias (3,)
        op3: op linear (4, 3) fused in fc2
        input1: input target (4,)
        op4: op cross_entropy () fused
        output0: output loss ()
        input0 -> op0 x
        parameter0 -> op0 weight
        parameter1 -> op0 bias
        op0 -> op1 x
        parameter2 -> op1 gamma
        parameter3 -> op1 beta
        op1 -> buffer0 update
        op1 -> buffer1 update
        op1 -> op2 x
        op2 -> op3 x
        parameter4 -> op3 weight
        parameter5 -> op3 bias
        op3 -> op4 logits
        input1 -> op4 target
        op4 -> output0
    """,
    shared_weight: """
        input0: input x (2, 4)
        parameter0: parameter weight (4, 4)
        op0: op linear (2, 4) fused no bias in Linear
        op1: op linear (2, 4) fused no bias in Linear
        output0: output output (2, 4)
        input0 -> op0 x
        parameter0 -> op0 weight used 2x
        op0 -> op1 x
        parameter0 -> op1 weight used 2x
        op1 -> output0
    """,
    residual: """
        input0: input x (2, 4)
        parameter0: parameter fc.weight (4, 4)
        parameter1: parameter fc.bias (4,)
        op0: op linear (2, 4) fused in fc
        op1: op tanh (2, 4) in act
        op2: op add (2, 4) in Block
        output0: output output (2, 4)
        input0 -> op0 x used 2x
        parameter0 -> op0 weight
        parameter1 -> op0 bias
        op0 -> op1 x
        op1 -> op2 a
        input0 -> op2 b used 2x
        op2 -> output0
    """,
    no_grad_part: """
        input0: input w (2, 2) requires grad
        input1: input h (2, 2)
        op0: op mul (2, 2)
        output0: output output (2, 2)
        input0 -> op0 a
        input1 -> op0 b
        op0 -> output0
    """,
    frozen: """
        input0: input x (3, 4)
        parameter0: parameter weight (2, 4) frozen
        parameter1: parameter bias (2,)
        op0: op linear (3, 2) fused in Linear
        output0: output output (3, 2)
        input0 -> op0 x
        parameter0 -> op0 weight
        parameter1 -> op0 bias
        op0 -> output0
    """,
    batch_norm_train: """
        input0: input x (6, 4)
        parameter0: parameter weight (4,)
        parameter1: parameter bias (4,)
        op0: op batch_norm (6, 4) fused statistics of this batch in BatchNorm1d
        buffer0: buffer running_mean (4,) updated in place
        buffer1: buffer running_var (4,) updated in place
        output0: output output (6, 4)
        input0 -> op0 x
        parameter0 -> op0 gamma
        parameter1 -> op0 beta
        op0 -> buffer0 update
        op0 -> buffer1 update
        op0 -> output0
    """,
    batch_norm_eval: """
        input0: input x (6, 4)
        parameter0: parameter weight (4,)
        parameter1: parameter bias (4,)
        buffer0: buffer running_mean (4,)
        buffer1: buffer running_var (4,)
        op0: op batch_norm_inference (6, 4) fused running statistics, constants in BatchNorm1d
        output0: output output (6, 4)
        input0 -> op0 x
        parameter0 -> op0 gamma
        parameter1 -> op0 beta
        buffer0 -> op0 mean
        buffer1 -> op0 var
        op0 -> output0
    """,
    batch_norm_opened: """
        input0: input x (6, 4) requires grad
        op0: op mean (1, 4) reduces axes=(0,) keepdim=True in BatchNorm1d
        buffer0: buffer running_mean (4,) updated in place
        op1: op sub (6, 4) in BatchNorm1d
        op2: op mul (6, 4) in BatchNorm1d
        op3: op mean (1, 4) reduces axes=(0,) keepdim=True in BatchNorm1d
        buffer1: buffer running_var (4,) updated in place
        op4: op add (1, 4) b = 1e-05 in BatchNorm1d
        op5: op sqrt (1, 4) in BatchNorm1d
        op6: op div (6, 4) in BatchNorm1d
        output0: output output (6, 4)
        input0 -> op0 x used 2x
        op0 -> buffer0 update
        input0 -> op1 a used 2x
        op0 -> op1 b to (6, 4)
        op1 -> op2 a used 3x
        op1 -> op2 b used 3x
        op2 -> op3 x
        op3 -> buffer1 update
        op3 -> op4 a
        op4 -> op5 x
        op1 -> op6 a used 3x
        op5 -> op6 b to (6, 4)
        op6 -> output0
    """,
}


@pytest.mark.parametrize("net", SNAPSHOTS, ids=lambda f: f.__name__)
def test_graph_data(net):
    assert summary(net()) == dedent(SNAPSHOTS[net]).strip()


def test_state_of_the_layers_is_told_by_the_tape():
    model = MLP()
    loss = mlp_loss(model)
    assert (
        viz.graph(loss, model.eval()).trace.facts.mode == "train"
    )  # it was recorded in train mode
    assert viz.graph(mlp_loss(model), model).trace.facts.mode == "eval"
    opened = MLP(fused=False)
    assert "train" in viz.graph(mlp_loss(opened), opened).to_dot()


def test_the_data_is_the_same_before_and_after_backward():
    model = MLP()
    loss = mlp_loss(model)
    before = viz.graph(loss, model).to_dict()
    loss.backward()
    assert viz.graph(loss, model).to_dict() == before


def test_names_do_not_need_the_model():
    model = MLP()
    loss = mlp_loss(model)
    assert viz.graph(loss).to_dict() == viz.graph(loss, model).to_dict()


def test_every_parameter_of_the_model_appears_once_or_is_said_to_be_missing():
    model = MLP()
    model.unused = nn.Linear(2, 2)
    found = viz.graph(mlp_loss(model), model)
    drawn = [n.name for n in found.trace.nodes if n.kind == "parameter"]
    assert found.trace.facts.unreached == ["unused.weight", "unused.bias"]
    assert drawn + found.trace.facts.unreached == [name for name, _ in model.named_parameters()]
    assert found.trace.facts.parameters == sum(p.numel() for p in model.parameters())
    assert "not in the graph: unused.weight, unused.bias" in str(found)


def test_a_module_called_twice_has_two_frames():
    outer = nn.Module()
    outer.twice = nn.Linear(4, 4)
    outer.forward = lambda x: outer.twice(outer.twice(x))
    found = viz.graph(outer(data(2, 4)), outer)
    assert [s.label for s in found.trace.scopes[1:]] == [
        "twice, call 1 of 2",
        "twice, call 2 of 2",
    ]


def test_what_is_gone_is_drawn_by_what_the_tape_remembers():
    w = leaf(4, 2)
    y = data(3, 4) @ w + data(2)  # both constants are dropped at once
    found = viz.graph(y)
    assert [n.shape for n in found.trace.nodes if n.kind == "input"] == [(3, 4), (4, 2), None]
    model = MLP()
    loss = mlp_loss(model)
    del model
    gc.collect()
    left = viz.graph(loss)
    assert left.trace.scopes == [] and left.trace.facts.ops == 5
    assert "(shape not kept)" in str(found) and "not kept" in found.to_dot()


def test_inputs_of_one_name_are_told_apart():
    a, b, c = leaf(2), leaf(2), leaf(2)
    names = [n.name for n in viz.graph(a * b + c).trace.nodes if n.kind == "input"]
    assert names == ["a", "data 2", "data 3"]


def test_matrix_products_broadcast_their_batches_only():
    edges = (
        viz.graph(leaf(4, 1) @ leaf(1, 4)).trace.edges
        + viz.graph(leaf(3, 2, 4) @ leaf(4, 2)).trace.edges
    )
    assert [e.stretched for e in edges] == [None, None, None, None, (3, 4, 2), None]


def test_settings_are_said_where_they_are_not_the_default():
    x = leaf(2, 3, 6, 6)
    y = F.max_pool2d(F.conv2d(x, leaf(4, 3, 3, 3), stride=2, padding=1), 3)
    notes = [n.notes for n in viz.graph(y.softmax(0)).trace.nodes if n.kind == "op"]
    assert notes == [
        ["no bias", "stride=(2, 2)", "padding=((1, 1), (1, 1))"],
        ["kernel=(3, 3)", "stride=(3, 3)"],
        ["axis=0"],
    ]
    everything = [n.attributes for n in viz.graph(y).trace.nodes if n.kind == "op"]
    assert everything[0]["dilation"] == [1, 1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_node_for_every_op_and_an_edge_for_every_use(pairs):
    values = [mg.tensor(0.5, requires_grad=True)]
    for i, j in pairs:
        values.append(values[i % len(values)] * values[j % len(values)])
    total = sum(values[1:], start=values[0])
    found = viz.graph(total).trace
    made = [n.id for n in found.nodes if n.kind == "op"]
    assert len(made) == 2 * len(pairs)
    assert len(found.edges) == 4 * len(pairs) + 1
    place = {n.id: i for i, n in enumerate(found.nodes)}
    assert all(place[e.source] < place[e.target] for e in found.edges)


def test_json_round_trip(tmp_path):
    found = mlp()
    with open(found.render(tmp_path / "net.json"), encoding="utf-8") as f:
        assert json.load(f) == found.to_dict()
    assert list(found.to_dict()) == [
        "schema", "title", "nodes", "edges", "scopes", "root", "facts",
    ]  # fmt: skip
    assert plain_types(found.to_dict()) <= {dict, list, str, int, float, bool, type(None)}


def plain_types(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*map(plain_types, inner))


def test_attributes_are_plain_data():
    x = leaf(4, 4)
    y = x[mg.tensor([0, 2])][..., 1:] + x.gather(1, mg.tensor([[0, 1, 2]] * 2)).clamp(
        max=float("inf")
    )
    found = viz.graph(y.to("float64"))
    assert plain_types(found.to_dict()) <= {dict, list, str, int, float, bool, type(None)}
    assert json.dumps(found.to_dict(), allow_nan=False)


# ---- drawing is a pure read ------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_drawing_changes_nothing(mode, tmp_path):
    model = nn.Sequential(MLP(), nn.Dropout(0.5)).train(mode)
    mlp_loss(model).backward()  # something in every grad
    loss = mlp_loss(model)

    def everything():
        state = [t.detach().numpy().tobytes() for t in model.state_dict().values()]
        grads = [p.grad.numpy().tobytes() for p in model.parameters()]
        versions = [t._version for t in (*model.parameters(), *model.buffers())]
        saved = [id(a) for op in viz.trace.tape([loss]) for a in op.saved]
        modes = [m.training for m in model.modules()]
        return state, grads, versions, saved, modes, str(mg.get_rng_state())

    before = everything()
    picture = viz.graph(loss, model)
    picture.render(tmp_path / "net.dot")
    str(picture), repr(picture), picture.to_dict(), picture._repr_mimebundle_()
    assert everything() == before
    loss.backward()  # and the graph is still whole


def test_a_graph_holds_no_tensor():
    model = MLP()
    loss = mlp_loss(model)
    op = loss.grad_fn
    picture = viz.graph(loss, model)
    held = sys.getrefcount(op)
    del picture
    gc.collect()
    assert sys.getrefcount(op) == held


def test_the_same_program_gives_the_same_bytes():
    def draw():
        mg.manual_seed(0)
        gc.collect()
        return mlp()

    first, second = draw(), draw()
    assert first.to_dot() == second.to_dot()
    assert str(first) == str(second)
    assert first.to_dict() == second.to_dict()
    assert "0x" not in first.to_dot() + str(first)


# ---- large graphs ----------------------------------------------------------------------------


def test_a_long_chain_does_not_recurse():
    y = mg.tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = y * 1.0
    picture = viz.graph(y, roll=False)
    assert picture.trace.facts.ops == 100_000
    assert len(picture.shown.nodes) == 402  # 400 boxes, the input and the output
    assert "100 000 ops, its middle in one box" in str(picture)
    assert picture.to_dot()


def test_modules_are_closed_from_the_inside_until_it_fits():
    model = Deep(50)
    loss = model(data(2, 4))
    whole = viz.graph(loss, model, max_nodes=1000, roll=False).shown
    assert sum(n.kind == "op" for n in whole.nodes) == 152
    blocks = viz.graph(loss, model, max_nodes=100, roll=False).shown
    assert [n.kind for n in blocks.nodes if n.ops] == ["op"] + ["module"] * 50 + ["op"]
    assert blocks.facts.shown == "shown at depth 2"
    assert sum(n.ops for n in blocks.nodes) == 152
    assert sum(n.parameters for n in blocks.nodes) == blocks.facts.parameters
    body = viz.graph(loss, model, depth=1).shown
    assert [n.name for n in body.nodes if n.ops] == ["stem", "body", "sum"]
    assert "152 ops, shown at depth 1" in viz.graph(loss, model, depth=1).to_dot()
    assert viz.graph(loss, model, depth=9).shown is not None
    few = viz.graph(loss, model, max_nodes=3, depth=2).shown
    assert len([n for n in few.nodes if n.ops]) <= 3


def test_a_closed_graph_has_no_loose_ends():
    model = Deep(6)
    loss = model(data(2, 4))
    for kwargs in ({"depth": 1}, {"depth": 2}, {"max_nodes": 7}, {"max_nodes": 3}):
        shown = viz.graph(loss, model, **kwargs).shown
        ids = [n.id for n in shown.nodes]
        scopes = {s.id for s in shown.scopes}
        assert len(set(ids)) == len(ids)
        assert all(
            e.source in ids and e.target in ids and e.source != e.target for e in shown.edges
        )
        assert all(n.scope is None or n.scope in scopes for n in shown.nodes)
        assert all(s.parent is None or s.parent in scopes for s in shown.scopes)


def skips(n, reach):
    """A chain in which each value is also used again later, somewhere."""
    pick = np.random.default_rng(0)
    values = [mg.tensor(1.0, requires_grad=True) * 1.0]
    for i in range(n):
        values.append(values[-1] * 0.25 + values[pick.integers(max(0, i - reach), i + 1)] * 0.25)
    return values[-1]


def recurrent(n):
    """One parameter used at every step."""
    w = h = mg.tensor(1.0, requires_grad=True)
    for _ in range(n):
        h = h * 0.5 + w
    return h


@needs_dot
@pytest.mark.parametrize(
    "output",
    [
        lambda: skips(1000, 5),
        lambda: skips(1000, 1500),
        lambda: recurrent(1500),
        lambda: Deep(1000)(data(2, 4)),
    ],
    ids=["skips", "tangle", "recurrent", "modules"],
)
def test_3000_ops_are_drawn(output):
    picture = viz.graph(output())  # in seconds; Graphviz given all of them would take minutes
    assert picture.trace.facts.ops >= 3000
    assert "<svg" in picture.to_svg()


# ---- the DOT text ----------------------------------------------------------------------------


def drawn(text, form="svg"):
    """What dot writes; it must not complain."""
    done = subprocess.run(["dot", f"-T{form}"], input=text.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr[:500]
    return done.stdout


@needs_dot
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("net", SNAPSHOTS, ids=lambda f: f.__name__)
def test_dot_draws_without_complaint(net, direction, theme):
    trace = net().trace
    svg = drawn(pictures.Graph(trace, direction=direction, theme=theme).to_dot()).decode()
    boxes = [n.id for n in trace.nodes if n.kind in ("op", "output")]
    assert all(svg.count(f'id="{i}"') == 1 for i in boxes)
    assert svg.count('class="cluster"') == len(trace.scopes) - (trace.root is not None)


HARD = [
    "",
    " ",
    "a\nb",
    "\\",
    "\\N\\L\\G",
    "\"quoted\" 'single'",
    "<b>&amp;</b>",
    "]]>",
    "&#x0;",
    "\x00\x07\x1b\ufffe\udc80",
    "日本語 ∂γ/∂x é 🙂 \u202eltr",
    "x" * 10_000,
    "<" * 10_000,
    "{a|b} [c] ;#//",
    "%%HTML<<",
]


def renamed(name):
    """A graph in which everything that a user may name has that name."""
    trace = mlp().trace
    for n in trace.nodes:
        n.name, n.value, n.notes = name, name, [name]
        n.formula, n.attributes = name, {name: name}
    for s in trace.scopes:
        s.name = s.cls = s.config = s.path = name
    trace.facts.model = name
    return pictures.Graph(trace)


@needs_dot
@pytest.mark.parametrize("name", HARD, ids=range(len(HARD)))
def test_names_may_hold_anything(name):
    picture = renamed(name)
    drawn(picture.to_dot())
    assert "aria-label" in picture.to_svg()


@needs_dot
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), max_size=80))
def test_names_may_hold_anything_random(name):
    drawn(renamed(name).to_dot(), "dot")


@needs_dot
@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 3)), max_size=9),
    st.sampled_from(["TB", "LR"]),
)
def test_any_nesting_of_modules_is_drawn(steps, direction):
    """Modules in modules, values that skip, parameters shared between frames."""
    shared = nn.Parameter(data(2))
    values = [data(2) * nn.Parameter(data(2))]

    def call(depth, use, kind):
        module = nn.Module()
        module.own = nn.Parameter(data(2))
        if depth:
            module.inner = call(depth - 1, use, kind)[0]

        def forward(x):
            x = module.inner(x) if depth else x
            weight = (module.own, shared, None, module.own)[kind]
            return (x.tanh() if weight is None else x * weight) + values[use % len(values)]

        module.forward = forward
        return module, forward

    modules = []  # a graph does not keep them
    for depth, use, kind in steps:
        modules.append(call(depth, use, kind)[0])
        values.append(modules[-1](values[-1]))
    drawn(viz.graph(values[-1], direction=direction).to_dot(), "dot")


def test_where_arrows_are_too_many_the_longest_become_numbers():
    values = [leaf(2) * i for i in range(200)]
    total = values[0]
    for v in values[1:]:
        total = total + v
    text = viz.graph(total).to_dot()
    ends = set(re.findall(r">\u00a0\u00a0(%\d+)<", text))
    assert ends - {"%1"} == set(re.findall(r"b = (%\d+)", text)) != set()  # the legend shows a %1
    assert "arrow left out" in text
    assert all(f"{end} = " in str(viz.graph(total)) for end in ends)  # as the text has them


def test_the_legend_explains_the_marks_present_and_no_others():
    def legend(g):
        return {mark for mark, said in dot.LEGEND.items() if f">{said}\u00a0" in g.to_dot()}

    assert legend(scalar()) == {"input", "op", "output"}
    assert legend(batch_norm_train()) == {
        "input", "op", "parameter", "buffer", "output", "fused",
    }  # fmt: skip
    assert legend(frozen()) == {"input", "op", "parameter", "frozen", "output", "fused"}
    assert legend(broadcast()) == {"input", "op", "reduces", "view", "output", "stretched"}
    w = nn.Parameter(leaf(2))
    mixed = viz.graph((w.to("float64") * w.to("float64")).sum())
    assert "alert" in legend(mixed) and "shared" in legend(mixed)
    assert legend(viz.graph(skips(30, 3), max_nodes=9)) >= {"hidden"}
    assert legend(viz.graph(Deep(2)(data(2, 4)), depth=1)) >= {"module"}


def test_marks_in_the_dot():
    text = broadcast().to_dot()
    assert "penwidth=2.4 shape=box style=filled" in text  # reduces: square corners, thick line
    assert "peripheries=2" in text  # a view: double line
    assert "⇒ (2, 3, 4)" in text
    assert "ROUNDED,DASHED" in batch_norm_train().to_dot()


# ---- colours ---------------------------------------------------------------------------------


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", THEMES)
def test_every_text_can_be_read(name):
    """A contrast of 4.5:1: WCAG 2.1, success criterion 1.4.3."""
    for where, ink, paper in THEMES[name].inks():
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        ratio = (light + 0.05) / (dark + 0.05)
        assert ratio >= 4.5, f"{where}: {ink} on {paper} is {ratio:.2f}:1"


@pytest.mark.parametrize("name", THEMES)
def test_a_picture_has_no_colours_but_those_of_its_theme(name):
    theme = THEMES[name]
    known = {theme.page, theme.text, theme.muted, theme.alert, theme.mark}
    known |= {*theme.fill.values(), *theme.line.values()}
    for net in SNAPSHOTS:
        text = pictures.Graph(net().trace, theme=name).to_dot()
        found = {text[i : i + 7] for i in range(len(text)) if text[i] == "#" and text[i - 1] != "&"}
        assert found <= known


# ---- files, notebooks, browsers --------------------------------------------------------------


@needs_dot
@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")],
)
def test_render_draws(suffix, start, tmp_path):
    path = mlp().render(str(tmp_path / f"net{suffix}"))
    assert path.read_bytes().startswith(start)


def test_render_writes_text(tmp_path):
    picture = mlp()
    assert picture.render(tmp_path / "net.dot").read_text(encoding="utf-8").startswith("digraph")
    assert picture.render(tmp_path / "net.txt").read_text(encoding="utf-8") == f"{picture}\n"


def test_render_names_the_choices(tmp_path):
    with pytest.raises(
        ValueError, match=r"\.svg, \.png, \.pdf, \.html, \.dot, \.json, \.txt.*net\.jpg"
    ):
        mlp().render(tmp_path / "net.jpg")
    with pytest.raises(FileNotFoundError, match=r"no folder '.*plots'; make it"):
        mlp().render(tmp_path / "plots" / "net.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setattr(render, "which", lambda name: None)
    monkeypatch.setattr(render, "find_spec", lambda name: None)


def test_without_graphviz_render_saves_the_dot_and_says_so(no_graphviz, tmp_path):
    picture = mlp()
    with pytest.raises(viz.GraphvizError) as raised:
        picture.render(tmp_path / "net.png")
    message = str(raised.value)
    assert "pip install" in message and "graphviz.org" in message
    assert "net.dot" in message and str(picture) in message
    assert (tmp_path / "net.dot").read_text(encoding="utf-8") == picture.to_dot()
    assert not (tmp_path / "net.png").exists()


def test_without_graphviz_a_notebook_shows_the_text(no_graphviz, capsys):
    picture = mlp()
    bundle = picture._repr_mimebundle_()
    assert list(bundle) == ["text/plain"]
    assert bundle["text/plain"].startswith(str(picture)) and "pip install" in bundle["text/plain"]
    picture.show()
    assert str(picture) in capsys.readouterr().out


def test_graphviz_that_fails_is_reported_in_its_own_words(monkeypatch):
    failing = [sys.executable, "-c", "import sys; sys.exit('no such layout')"]
    monkeypatch.setattr(render, "programs", lambda form: iter([failing]))
    with pytest.raises(viz.GraphvizError, match="no such layout"):
        mlp().to_svg()
    assert "no such layout" in mlp()._repr_mimebundle_()["text/plain"]


def test_pygraphviz_draws_where_dot_is_missing(monkeypatch):
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    monkeypatch.setattr(render, "which", lambda name: None)
    picture = mlp()
    assert picture.to_svg() == picture.to_svg()
    assert render.draw(picture.to_dot(), "png").startswith(b"\x89PNG")


@needs_dot
def test_notebooks_get_text_and_svg():
    picture = mlp()
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["image/svg+xml"].startswith('<svg role="img" aria-label="MLP')
    assert "<desc>MLP  ·  forward · train mode · float32" in bundle["image/svg+xml"]
    assert len(bundle["image/svg+xml"]) < 300_000
    assert set(picture._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}
    assert set(picture._repr_mimebundle_(exclude=["image/svg+xml"])) == {"text/plain", "text/html"}


@needs_dot
def test_show_opens_a_browser(monkeypatch, tmp_path, capsys):
    opened = []
    monkeypatch.setattr(pictures.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(pictures.webbrowser, "open", lambda uri: bool(opened.append(uri)))
    mlp().show()
    assert opened == [(tmp_path / "graph.html").as_uri()]
    assert "graph.html" in capsys.readouterr().out  # no browser came up, so it says where it is


def test_show_in_a_notebook(monkeypatch):
    displayed = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    picture = mlp()
    picture.show()
    assert displayed == [picture]


def test_the_text_tree():
    model = MLP()
    picture = viz.graph(mlp_loss(model), model, title="A net")
    assert str(picture).startswith(
        dedent("""\
        A net · train mode · float32 · 5 ops · 83 parameters
        input x (4, 4)
        fc1: Linear(4 → 8)
          parameter weight (8, 4)
          parameter bias (8,)
          %1 = linear(x, weight, bias) (4, 8)   y = x Wᵀ + b
        bn1: BatchNorm1d(8)
          parameter weight γ (8,)
          parameter bias β (8,)
          %2 = batch_norm(%1, weight, bias) (4, 8)   y = γ (x - μ) / √(σ² + ε) + β""")
    )
    assert "input target (4,) int64" in str(picture)
    assert repr(picture) == "<Graph 'A net': train mode, float32, 5 ops, 83 parameters>"


def test_the_demo_runs():
    done = subprocess.run(
        [sys.executable, "-m", "minigrad.viz"], capture_output=True, encoding="utf-8", check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert "batch_norm" in done.stdout


# ---- what cannot be drawn --------------------------------------------------------------------


def test_a_tensor_without_a_graph():
    with pytest.raises(mg.errors.GraphError, match=r"output, of shape \(2,\).*requires_grad=True"):
        viz.graph(data(2) * 2)
    with pytest.raises(mg.errors.GraphError, match="nothing to draw"):
        viz.graph(leaf(2))
    with pytest.raises(mg.errors.GraphError, match=r"output\[1\]"):
        viz.graph([leaf(2) * 2, data(2)])
    with pytest.raises(mg.errors.GraphError, match="empty"):
        viz.graph([])
    with pytest.raises(TypeError, match="got str"):
        viz.graph(["loss"])


def test_several_outputs():
    x = leaf(2)
    h = x * 2
    trace = viz.graph([h.sum(), h], names={"h": h}).trace
    assert [n.name for n in trace.nodes if n.kind == "output"] == ["output", "h"]
    assert [e.uses for e in trace.edges if e.source == "op0"] == [2, 2]


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("direction", "up", "TB, LR"),
        ("theme", "pink", "light, dark"),
        ("depth", 0, "counts from 1"),
        ("max_nodes", 2, "at least 3"),
    ],
)
def test_arguments_that_make_no_sense(argument, value, said):
    with pytest.raises(ValueError, match=said):
        viz.graph(leaf(2) * 2, **{argument: value})
