"""Opened ops, formulas without data, rolled repetition: what pictures show of a graph."""

import gc
import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops, viz
from minigrad.backends import Outline, outline
from minigrad.namespace import tensors
from minigrad.nn import functional as F
from minigrad.ops.activation import KINDS
from minigrad.tensor import wrap
from minigrad.viz import formulas, inside

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)

OPS = [
    op for op in (getattr(ops, name) for name in ops.__all__) if hasattr(op, "forward")
]  # every op there is
FUSED = [op for op in OPS if op.fused]


def drawn(graph):
    """The picture as SVG; Graphviz must not complain."""
    text = graph.to_dot()
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr[:500]
    return done.stdout.decode()


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.bn1 = nn.BatchNorm1d(8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.bn1(self.fc1(x)).relu())


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(4, width)
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        return self.out(self.fc(x).tanh()) + x


class Residual(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.body = nn.Sequential(*[Block(w) for w in widths])

    def forward(self, x):
        return self.body(self.stem(x)).sum()


def mlp(**kwargs):
    mg.manual_seed(0)
    model = MLP()
    loss = F.cross_entropy(model(mg.zeros(6, 4)), mg.tensor([0, 1, 2, 0, 1, 2]))
    return viz.graph(loss, model, **kwargs)


def ops_of(graph):
    return [n for n in graph.shown.nodes if n.ops]


# ---- outlines --------------------------------------------------------------------------------


NO_PAD = ((0, 0), (0, 0))
SMALL = {  # a fused op, the shapes of its inputs
    ops.AvgPool2d: (ops.AvgPool2d((2, 2), (2, 2), NO_PAD, (2, 2), np.ones((2, 2))), [(2, 3, 4, 5)]),
    ops.BatchNorm: (ops.BatchNorm(), [(2, 3, 4), (3,), (3,)]),
    ops.BatchNormInference: (ops.BatchNormInference(), [(2, 3), (3,), (3,), (3,), (3,)]),
    ops.Conv2d: (ops.Conv2d((2, 1), ((1, 0), (1, 1))), [(2, 3, 5, 6), (4, 3, 3, 2), (4,)]),
    ops.ConvTranspose2d: (ops.ConvTranspose2d((2, 1)), [(2, 3, 4, 5), (3, 4, 2, 3), (4,)]),
    ops.CrossEntropy: (ops.CrossEntropy(), [(4, 3), (4,)]),
    ops.Fold: (ops.Fold((4, 5), (2, 2), (1, 1), NO_PAD, (1, 1)), [(2, 12, 12)]),
    ops.GroupNorm: (ops.GroupNorm(3), [(2, 6, 4), (6,), (6,)]),
    ops.LayerNorm: (ops.LayerNorm((3, 4)), [(2, 3, 4), (3, 4), (3, 4)]),
    ops.Linear: (ops.Linear(), [(2, 5, 3), (4, 3), (4,)]),
    ops.LocalResponseNorm: (ops.LocalResponseNorm(3, 1e-4, 0.75, 1.0), [(2, 5, 3)]),
    ops.LogSoftmax: (ops.LogSoftmax(0), [(2, 3)]),
    ops.MaxPool2d: (
        ops.MaxPool2d((2, 2), (1, 2), ((1, 0), (0, 0)), (1, 1), (4, 2)),
        [(2, 3, 4, 5)],
    ),
    ops.RMSNorm: (ops.RMSNorm((3,), 1e-6), [(2, 3), (3,)]),
    ops.Softmax: (ops.Softmax(1), [(2, 3, 4)]),
    ops.Unfold: (ops.Unfold((2, 3), (1, 2), ((1, 1), (0, 0)), (1, 1)), [(2, 3, 4, 5)]),
}


@pytest.mark.parametrize("op", FUSED, ids=lambda op: op.__name__)
def test_outlines_have_the_shape_and_dtype_of_values(op):
    """``composed`` on outlines and on arrays gives the same shapes, primitive by primitive."""
    node, sizes = SMALL[op]
    names = node.forward.__code__.co_varnames[2:]

    def run(make):
        given = []
        for name, shape in zip(names, sizes, strict=False):
            kind = "int64" if name == "target" else "float32"
            given.append(wrap(make(shape, np.dtype(kind))))
            given[-1]._requires_grad = kind == "float32"
        y = node.composed(tensors, *given)
        return [(o.name, o.shape, o.dtype) for o in viz.trace.tape([y])]

    assert run(outline) == run(lambda shape, dtype: np.ones(shape, dtype))


def test_outlines_take_no_memory():
    tracemalloc.start()
    x = wrap(outline((10_000, 1000, 100, 100), np.dtype("float32")))
    x._requires_grad = True
    y = ops.BatchNorm().composed(tensors, x, None, None)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert y.shape == (10_000, 1000, 100, 100) and isinstance(y.array, Outline)
    assert used < 1_000_000


def test_an_outline_refuses_what_it_cannot_know():
    x = outline((3, 4), np.dtype("float32"))
    with pytest.raises(ValueError, match="cannot reshape"):
        x.reshape(5, 2)
    with pytest.raises(ValueError, match="matmul"):
        x @ x
    with pytest.raises(NotImplementedError, match="histogram of outlines"):
        np.histogram(x)
    x[0] = 7  # there are no values
    assert x.min(axis=0, keepdims=True).shape == (1, 4)
    assert x.any().dtype == bool and x.argmax(axis=1).dtype == np.int64
    assert x[np.array([0, 2, 2, 1, 0])].shape == (5, 4) and x[None, ..., 1].shape == (1, 3)


def test_looking_inside_changes_nothing():
    model = MLP()
    x = mg.randn(6, 4)
    loss = F.cross_entropy(model(x), mg.tensor([0, 1, 2, 0, 1, 2]))
    loss.backward(retain_graph=True)
    op = viz.trace.tape([loss])[1]

    def state():
        kept = [id(a) for o in viz.trace.tape([loss]) for a in o.saved]
        values = [t.detach().numpy().tobytes() for t in model.state_dict().values()]
        grads = [p.grad.numpy().tobytes() for p in model.parameters()]
        held = [id(v) for v in vars(op).values()]
        return kept, values, grads, held, str(mg.get_rng_state())

    before = state()
    graph = viz.graph(loss, model, expand="all")
    str(graph), graph.to_dot()
    assert state() == before
    loss.backward()


def test_what_cannot_be_told_without_values_stays_closed():
    class Wanting(ops.Fused):
        formula, vjp = "y = x", "dx = dy"

        def forward(self, xp, x):
            return x * 1

        def backward(self, xp, grad):
            return (grad,)

        def composed(self, xp, x):
            return x * 1 if x.array.item() else x

    x = mg.ones(2, requires_grad=True)
    graph = viz.graph(x._apply(Wanting(), x), expand="all")
    assert [n.name for n in ops_of(graph)] == ["wanting"]
    assert graph.trace.insides == {}


# ---- opened ops ------------------------------------------------------------------------------


def test_batch_norm_opens_in_place():
    graph = mlp(expand="batch_norm")
    frame = next(s for s in graph.shown.scopes if s.kind == "op")
    assert frame.name == "batch_norm" and graph.shown.root
    assert "the vjps multiply out to:  dx = γ/σ (dy - mean dy" in frame.notes[0]
    groups = [s.name for s in graph.shown.scopes if s.kind == "group"]
    assert groups == ["statistics", "normalise", "scale and shift", "running statistics"]
    inner = [n for n in ops_of(graph) if n.id.startswith("op1_")]
    assert [n.formula for n in inner] == [
        "μ = 1/n Σ x",
        "c = x - μ",
        "q = c · c",
        "v = 1/n Σ q",
        "w = v + ε",
        "s = √w",
        "x̂ = c / s",
        "γ as (1, 8)",
        "u = x̂ · γ",
        "β as (1, 8)",
        "y = u + β",
    ]
    assert [n.vjp for n in inner][:9] == [
        "dx += dμ / n, stretched",
        "dx += dc,  dμ = -Σ dc",
        "dc += 2 dq · c",
        "dq = dv / n, stretched",
        "dv = dw",
        "dw = ds / (2 s)",
        "dc += dx̂ / s,  ds = -Σ dx̂ · x̂ / s",
        "dγ: back to (8,)",
        "dx̂ = du · γ,  dγ = Σ du · x̂",
    ]
    assert [n.keeps for n in inner][5:7] == [["s"], ["s", "x̂"]]
    assert [n.reduces for n in inner][:4] == [True, False, False, True]
    named = {(e.name, e.target) for e in graph.shown.edges if e.name}
    assert {("μ", "op1_1"), ("c", "op1_6"), ("x̂", "op1_8")} <= named
    moved = [n for n in graph.shown.nodes if n.updates]
    assert [n.formula for n in moved] == ["m ← 0.9 m + 0.1 μ", "s² ← 0.9 s² + 0.1 v n/(n-1)"]
    assert [e.name for e in graph.shown.edges if e.kind == "detached"] == ["μ", "v"]


def test_in_eval_mode_the_statistics_come_from_the_buffers():
    norm = nn.BatchNorm1d(8).eval()
    graph = viz.graph(norm(mg.zeros(6, 8)), norm, expand="BatchNorm1d")
    edges = {(e.source, e.name) for e in graph.shown.edges}
    assert {("buffer0", "μ"), ("buffer1", "σ²")} <= edges
    assert not [e for e in graph.shown.edges if e.kind == "detached"]
    by_formula = {n.formula: n.vjp for n in ops_of(graph)}
    assert by_formula["w = σ² + ε"] == "" and by_formula["c = x - μ"] == "dx = dc"
    assert [s.name for s in graph.shown.scopes if s.kind == "group"] == [
        "normalise",
        "scale and shift",
    ]


@pytest.mark.parametrize(
    ("which", "opened"),
    [
        ("batch_norm", ["batch_norm"]),
        ("BatchNorm", ["batch_norm"]),
        ("bn1", ["batch_norm"]),
        (["fc1", "cross_entropy"], ["linear", "cross_entropy"]),
        ("Linear", ["linear", "linear"]),
        ("all", ["linear", "batch_norm", "linear", "cross_entropy"]),
        (lambda node: node.name == "linear" and node.shape == (6, 3), ["linear"]),
        ((), []),
    ],
)
def test_what_expand_chooses(which, opened):
    frames = [s.name for s in mlp(expand=which).shown.scopes if s.kind == "op"]
    assert frames == opened


def test_expand_of_nothing_says_what_there_is():
    with pytest.raises(ValueError, match=r"expand= names an op type.*'batchnorm9'.*batch_norm"):
        mlp(expand="batchnorm9")


def test_a_closed_fused_op_says_how_many_it_is_made_of():
    graph = mlp()
    assert {n.name: n.primitives for n in ops_of(graph) if n.fused} == {
        "linear": 3,
        "batch_norm": 11,
        "cross_entropy": 12,
    }
    assert "⊞ 11<" in graph.to_dot()


def test_alike_ops_are_looked_into_once(monkeypatch):
    looked = []
    monkeypatch.setattr(inside, "look", lambda op, look=inside.look: looked.append(op) or look(op))
    model = Residual(4, 4, 4, 4)
    viz.graph(model(mg.zeros(2, 4)), model)
    assert len(looked) == 1  # nine Linear(4, 4) on one shape


def test_opened_graphs_are_whole():
    """No edge leads nowhere, each value is counted as often as it is used, frames nest."""
    graph = mlp(expand="all")
    ids = [n.id for n in graph.shown.nodes]
    scopes = {s.id: s for s in graph.shown.scopes}
    assert len(set(ids)) == len(ids)
    assert all(e.source in ids and e.target in ids for e in graph.shown.edges)
    assert all(n.scope is None or n.scope in scopes for n in graph.shown.nodes)
    assert all(s.parent is None or s.parent in scopes for s in scopes.values())
    for e in graph.shown.edges:
        if e.kind == "value":
            same = [o for o in graph.shown.edges if o.source == e.source and o.kind == "value"]
            assert e.uses == len(same)
    assert graph.to_dict() == mlp().to_dict()  # the data is that of the tape


@needs_dot
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("direction", ["TB", "LR"])
def test_opened_graphs_are_drawn(direction, theme):
    svg = drawn(mlp(expand="all", direction=direction, theme=theme))
    assert svg.count('id="op1_6"') == 1


def test_the_same_bytes_each_time():
    def draw():
        gc.collect()
        return mlp(expand="all")

    first, second = draw(), draw()
    assert first.to_dot() == second.to_dot() and str(first) == str(second)


# ---- formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_op_has_a_formula_a_vjp_and_a_picture(op):
    graph = viz.formula(op)
    node = next(n for n in graph.trace.nodes if n.ops)
    assert node.formula and node.vjp
    assert bool(graph.trace.insides) == op.fused
    for n in graph.shown.nodes:
        if n.ops:
            assert n.formula, n
            constant = op is ops.BatchNormInference
            assert n.vjp or constant, n
        for size in n.shape or ():
            assert isinstance(size, formulas.Symbol) or size < 20, (n, size)
    assert graph.to_dot() and str(graph)


@pytest.mark.parametrize("kind", KINDS)
def test_every_activation_has_a_formula(kind):
    graph = viz.formula(kind)
    assert KINDS[kind].formula in str(graph) and KINDS[kind].vjp in str(graph)


@needs_dot
@pytest.mark.parametrize("op", FUSED, ids=lambda op: op.__name__)
def test_formulas_of_fused_ops_are_drawn(op):
    drawn(viz.formula(op, theme="dark"))


def test_formula_of_batch_norm_is_all_there():
    graph = viz.formula(F.batch_norm)
    text = str(graph)
    for said in ("(N, C)", "x̂ = c / s", "running statistics", "m ← 0.9 m + 0.1 μ", "gamma γ (C,)"):
        assert said in text
    assert graph.title == "batch_norm"
    assert viz.formula("batch_norm").to_dot() == viz.formula(ops.BatchNorm).to_dot()


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.BatchNorm1d(8), {"batch_norm"}),
        (nn.BatchNorm2d(8).eval(), {"batch_norm_inference"}),
        (nn.Conv2d(3, 5, 3), {"conv2d"}),
        (nn.LayerNorm((5, 6)), {"layer_norm"}),
        (nn.LSTM(4, 5), {"linear"}),
        (nn.ReLU(), set()),
        (nn.MSELoss(), set()),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_formula_of_a_module(module, names):
    before = {k: v.numpy().tobytes() for k, v in module.state_dict().items()}
    rng = str(mg.get_rng_state())
    graph = viz.formula(module)
    frames = {s.name for s in graph.shown.scopes if s.kind == "op"}
    assert frames >= names
    assert {k: v.numpy().tobytes() for k, v in module.state_dict().items()} == before
    assert str(mg.get_rng_state()) == rng
    assert ("eval mode" in graph.title) == (not module.training)


def test_formula_of_what_is_no_op():
    with pytest.raises(ValueError, match=r"none is called 'sotfmax'.*softmax"):
        viz.formula("sotfmax")
    with pytest.raises(ValueError, match=r"viz\.graph"):
        viz.formula(F.mse_loss)
    with pytest.raises(TypeError, match="got <class 'int'>"):
        viz.formula(int)

    class Strange(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(ValueError, match=r"viz\.graph\(module, x\)"):
        viz.formula(Strange())


# ---- modules closed and rolled ---------------------------------------------------------------


def test_collapse_closes_modules():
    model = Residual(4, 5, 4)
    loss = model(mg.zeros(2, 4))
    closed = viz.graph(loss, model, collapse="Block")
    assert [n.name for n in ops_of(closed)] == ["linear", "0", "1", "2", "sum"]
    assert sum(n.ops for n in ops_of(closed)) == closed.trace.facts.ops
    assert [n.name for n in ops_of(viz.graph(loss, model, collapse="body.1"))].count("1") == 1
    small = viz.graph(loss, model, collapse=lambda scope: scope.name == "fc")
    assert [n.name for n in ops_of(small)].count("fc") == 3
    assert viz.graph(loss, model, collapse=("Dropout",)).shown.nodes  # there is none: nothing to do
    with pytest.raises(TypeError, match="collapse= takes names"):
        viz.graph(loss, model, collapse=[3])


def test_equal_blocks_in_a_row_are_one():
    model = Residual(*[4] * 12)
    loss = model(mg.zeros(2, 4))
    graph = viz.graph(loss, model)
    block = next(s for s in graph.shown.scopes if s.cls == "Block")
    assert (block.label, block.copies) == ("0 … 11", 12)
    assert [n.name for n in ops_of(graph)] == ["linear", "linear", "tanh", "linear", "add", "sum"]
    assert sum(n.ops for n in ops_of(graph)) == graph.trace.facts.ops
    assert sum(n.parameters for n in graph.shown.nodes) == graph.trace.facts.parameters
    weight = next(n for n in graph.shown.nodes if n.name == "body.0.fc.weight")
    assert (weight.shape, weight.copies, weight.parameters) == ((4, 4), 12, 192)
    text = graph.to_dot()
    assert "× 12" in text and "192 numbers in all" in text and "× 12" in str(graph)
    assert len(ops_of(viz.graph(loss, model, roll=False))) == graph.trace.facts.ops
    closed = viz.graph(loss, model, depth=2)
    box = next(n for n in ops_of(closed) if n.kind == "module" and n.copies == 12)
    assert box.parameters == 12 * 40


@pytest.mark.parametrize(
    "widths", [(4, 4), (4, 5, 4, 5), (4, 5, 6)], ids=["two", "other shapes", "all different"]
)
def test_what_is_not_three_times_the_same_is_not_rolled(widths):
    model = Residual(*widths)
    graph = viz.graph(model(mg.zeros(2, 4)), model)
    assert len(ops_of(graph)) == graph.trace.facts.ops


def test_blocks_connected_otherwise_are_not_rolled_together():
    blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = blocks

        def forward(self, x):
            first = blocks[0](x)
            h = blocks[2](blocks[1](first))
            return blocks[5](blocks[4](blocks[3](first))) + h  # the fourth goes on from the first

    model = Net()
    shown = viz.graph(model(mg.zeros(2, 4)), model).shown
    copies = [s.copies for s in shown.scopes if s.cls == "Linear"]
    assert copies == [1, 1, 1, 3]


def test_a_shared_weight_stays_one():
    layer = nn.Linear(4, 4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            for _ in range(5):
                x = layer(x)
            return x

    model = Net()
    shown = viz.graph(model(mg.zeros(2, 4)), model).shown
    weight = next(n for n in shown.nodes if n.name == "layer.weight")
    assert (weight.copies, weight.parameters) == (1, 16)
    assert [e.copies for e in shown.edges if e.kind == "loop"] == [5]  # its value comes back


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM], ids=lambda c: c.__name__)
@pytest.mark.parametrize("steps", [4, 5, 8, 13])
def test_time_steps_roll(layer, steps):
    model = layer(3, 4)
    graph = viz.graph(model(mg.randn(steps, 2, 3))[0].sum(), model)
    frame = next(s for s in graph.shown.scopes if s.kind == "steps")
    assert frame.copies == steps
    loops = {e.name for e in graph.shown.edges if e.kind == "loop"}
    assert loops == ({"h", "c"} if layer is nn.LSTM else {"h"})
    assert sum(n.ops for n in ops_of(graph)) == graph.trace.facts.ops
    assert sum(n.parameters for n in graph.shown.nodes) == graph.trace.facts.parameters
    ids = {n.id for n in graph.shown.nodes}
    assert all(e.source in ids and e.target in ids for e in graph.shown.edges)
    assert f"× {steps}" in graph.to_dot()


@needs_dot
def test_rolled_graphs_are_drawn():
    model = nn.LSTM(3, 4)
    drawn(viz.graph(model(mg.randn(8, 2, 3))[0].sum(), model, theme="dark"))
    model = Residual(*[4] * 5)
    for options in ({}, {"depth": 2}, {"expand": "all"}, {"direction": "LR"}):
        drawn(viz.graph(model(mg.zeros(2, 4)), model, **options))


def test_too_many_ops_in_a_row_are_rolled_at_last_and_the_title_says_so():
    y = mg.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        y = (y * 0.5).tanh()
    graph = viz.graph(y)
    assert graph.shown.facts.shown == "rolled" and "× 3000" in graph.to_dot()
    assert len(ops_of(graph)) == 2


def test_a_large_graph_is_made_small_without_recursion():
    """100,000 ops take seconds; a test takes fewer."""
    model = Residual(*[4] * 2500)
    loss = model(mg.zeros(2, 4))
    graph = viz.graph(loss, model)
    assert graph.trace.facts.ops == 10_002 and len(ops_of(graph)) == 6
    assert "× 2500" in graph.to_dot()
    assert len(ops_of(viz.graph(loss, model, roll=False))) <= 400


@needs_dot
def test_the_ladder_of_what_is_opened_and_rolled():
    graph = mlp(expand="batch_norm", backward=True)
    assert not [e for e in graph.shown.edges if e.kind == "detached"]  # beside their op instead
    assert {e.source for e in graph.shown.edges if e.kind == "update"} == {"op1_0", "op1_3"}
    made = {n.name for n in graph.shown.nodes if n.kind == "vjp"}
    assert {"mean′", "sub′", "mul′", "sqrt′", "div′"} <= made
    drawn(graph)
    model = Residual(4, 4, 4, 4)
    rolled = viz.graph(model(mg.zeros(2, 4)), model, backward=True)
    assert "× 4" in rolled.to_dot()
    drawn(rolled)
