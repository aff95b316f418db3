"""A model and its input, a forward that failed, the graph as data: parts, paths, differences."""

import gc
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import mermaid, render
from minigrad.viz.picture import Graph
from minigrad.viz.trace import Edge, Facts, Node, Scope, Trace

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)


def drawn(text, form="svg"):
    """What dot writes; it must not complain."""
    done = subprocess.run(["dot", f"-T{form}"], input=text.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr[:500]
    return done.stdout.decode()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(48, 5)

    def forward(self, images):
        h = self.bn1(self.conv1(images)).relu()
        return self.fc1(self.drop(h.flatten(1)))


IMAGES = mg.tensor(np.linspace(-1, 1, 32).reshape(2, 1, 4, 4).astype("float32"))


# ---- a model and an example ------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("fails", [False, True], ids=["runs", "fails"])
def test_a_model_is_run_once_and_put_back(training, fails):
    model = Net().train(training)
    model(IMAGES).sum().backward()
    x = IMAGES if not fails else mg.zeros(2, 1, 4, 5)

    def everything():
        values = [t.detach().numpy().tobytes() for t in model.state_dict().values()]
        memory = [id(t.array) for t in (*model.parameters(), *model.buffers())]
        grads = [p.grad.numpy().tobytes() for p in model.parameters()]
        versions = [t._version for t in (*model.parameters(), *model.buffers())]
        modes = [m.training for m in model.modules()]
        return values, memory, grads, versions, modes, str(mg.get_rng_state()), x.requires_grad

    before = everything()
    graph = viz.graph(model, x)
    str(graph), graph.to_dot()
    assert everything() == before
    assert graph.trace.facts.model == "Net"
    assert graph.find(kind="input")[0].name == "images"


def test_inputs_of_a_model():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, first, second):
            return {"sum": self.fc(first) + second}

    two = Sum()
    a, b = mg.ones(2, 3), mg.ones(2, 4)
    several = viz.graph(two, (a, b))
    named = viz.graph(two, {"first": a, "second": b})
    assert several.to_dict() == named.to_dict()
    assert [n.name for n in several.find(kind="input")] == ["first", "second"]
    assert viz.graph(nn.ReLU(), a).find(op="relu")  # no parameter: the input is watched
    assert not a.requires_grad
    lstm = viz.graph(nn.LSTM(3, 4), mg.ones(6, 2, 3))
    assert len(lstm.find(kind="output")) == 3  # y, h, c


def test_a_model_needs_an_input():
    with pytest.raises(TypeError, match=r"viz\.graph\(Net, x\)"):
        viz.graph(Net())
    with pytest.raises(TypeError, match="the model comes first"):
        viz.graph(IMAGES, IMAGES)

    class Constant(nn.Module):
        def forward(self, x):
            return 3.0

    with pytest.raises(mg.errors.GraphError, match="Constant gave float"):
        viz.graph(Constant(), IMAGES)

    class Own(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        viz.graph(Own(), IMAGES)


def test_tensors_draw_their_graph():
    model = Net()
    y = model(IMAGES)
    assert y.graph(model).to_dict() == viz.graph(y, model).to_dict()
    assert y.graph(depth=1).shown.facts.shown == "shown at depth 1"


# ---- a forward that failed -------------------------------------------------------------------


def test_what_ran_and_what_failed():
    model = Net()
    graph = viz.graph(model, mg.zeros(2, 1, 4, 5))
    assert [n.name for n in graph.trace.nodes if n.ops] == [
        "conv2d", "batch_norm", "relu", "reshape", "dropout", "linear",
    ]  # fmt: skip
    failed = graph["failed"]
    assert failed.failed and graph.trace.scopes[-1].path == "fc1"
    assert "ShapeError: Linear(48 -> 5) got (2, 60): last axis is 60" in failed.notes[0]
    shapes = [e.shape for e in graph.trace.edges if e.target == "failed"]
    assert shapes == [(2, 60), (5, 48), (5,)]  # both, and the bias
    text = graph.to_dot()
    assert "✗ linear" in text and "(2, 60)" in text and "it stopped here" in text
    assert "✗" in str(graph)


def test_the_graph_of_an_error():
    w = mg.ones(3, 4, requires_grad=True)
    with pytest.raises(mg.errors.ShapeError) as raised:
        w.tanh() + mg.ones(5)
    graph = viz.graph(raised.value, names={"w": w})
    assert [n.name for n in graph.trace.nodes] == ["w", "tanh", "x2", "add"]
    assert "do not broadcast" in str(graph)
    with pytest.raises(mg.errors.ShapeError) as raised:
        w.tanh() @ mg.ones(5, 2)
    assert [n.name for n in viz.graph(raised.value).find(kind="op")] == ["tanh", "matmul"]
    model = Net()
    with pytest.raises(ValueError) as raised:
        model(mg.zeros(2, 7, 4, 4))
    assert "conv1" in str(viz.graph(raised.value, model))
    with pytest.raises(mg.errors.GraphError, match="none did this KeyError"):
        viz.graph(KeyError("mine"))


def test_an_error_keeps_no_tensor_alive():
    a, b = mg.ones(3, requires_grad=True), mg.ones(4)
    with pytest.raises(mg.errors.ShapeError) as raised:
        a * b
    failure = raised.value._failure
    assert [type(x).__name__ for x in failure.inputs] == ["ReferenceType"] * 2
    del a, b, raised
    gc.collect()
    assert [x() for x in failure.inputs] == [None, None]


@needs_dot
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_failure_is_drawn(theme):
    svg = drawn(viz.graph(Net(), mg.zeros(2, 1, 4, 5), theme=theme).to_dot())
    assert svg.count('id="failed"') == 1


def test_values_taken_out_of_the_graph_are_marked():
    w = mg.ones(3, 3, requires_grad=True)
    h = (w @ w).tanh()
    graph = viz.graph((h * h.detach()).sum(), names={"w": w})
    assert graph["input1"].notes == ["detached from tanh"]


# ---- questions -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph():
    model = Net()
    mg.manual_seed(0)
    return viz.graph(F.cross_entropy(model(IMAGES), mg.tensor([0, 1])), model)


def test_find(graph):
    assert [n.id for n in graph.find(op="batch_norm")] == ["op1"]
    assert graph.find(op="BatchNorm") == graph.find(op="batch_norm")
    assert len(graph.find(kind="parameter")) == 6
    assert [n.name for n in graph.find(module="fc1", kind="parameter")] == [
        "fc1.weight",
        "fc1.bias",
    ]
    assert graph.find(name="loss")[0].kind == "output"
    assert graph.find(op="conv2d", module="fc1") == []


def test_items(graph):
    assert graph["fc1"].cls == "Linear" and graph["fc1.weight"].shape == (5, 48)
    assert graph["op1"].name == "batch_norm" and graph["loss"].kind == "output"
    with pytest.raises(KeyError, match=r"fc2.*'fc1'"):
        graph["fc2"]


def test_subgraph(graph):
    part = graph.subgraph("bn1")
    assert [n.name for n in part.trace.nodes if n.ops] == ["batch_norm"]
    assert [n.name for n in part.find(kind="input")] == ["x"]
    assert part.find(kind="input")[0].notes == ["from conv2d"]
    assert len(part.find(kind="output")) == 1 and len(part.find(kind="buffer")) == 2
    assert part.trace.facts.parameters == 6 and "bn1" in part.title
    whole(part)
    with pytest.raises(KeyError, match="bn2"):
        graph.subgraph("bn2")
    with pytest.raises(KeyError, match="no module"):
        graph.subgraph("loss")


def test_path():
    a, b = mg.ones(2, requires_grad=True), mg.ones(2, requires_grad=True)
    h = a * 2
    other = b.exp()
    loss = (h.tanh() + other).sum()
    found = viz.graph(loss, names={"a": a, "b": b})
    way = found.path(a, loss)
    assert [n.name for n in way.trace.nodes if n.ops] == ["mul", "tanh", "add", "sum"]
    assert [n.name for n in way.find(kind="input")] == ["a", "b"]  # b: what comes from beside
    assert found.path(h, loss).find(kind="op")[0].name == "mul"
    assert found.path("a", "output").find(kind="op") == way.find(kind="op")
    whole(way)
    with pytest.raises(ValueError, match=r"no value goes from sum \(op4\) to a"):
        found.path(loss, a)
    with pytest.raises(KeyError, match=r"shape \(5,\) is not in the graph"):
        found.path(mg.ones(5), loss)
    with pytest.raises(TypeError, match="got int"):
        found.path(3, loss)


def whole(graph):
    """Every edge has its ends, every node its frame; and it can be written."""
    ids = [n.id for n in graph.trace.nodes]
    scopes = {s.id for s in graph.trace.scopes}
    assert len(set(ids)) == len(ids)
    assert all(e.source in ids and e.target in ids for e in graph.trace.edges)
    assert all(n.scope is None or n.scope in scopes for n in graph.trace.nodes)
    assert graph.to_dot() and str(graph) and graph.to_mermaid() and graph.to_dict()


# ---- two graphs ------------------------------------------------------------------------------


def test_train_against_eval():
    model = Net()
    train = viz.graph(model, IMAGES)
    both = train.diff(viz.graph(model.eval(), IMAGES))
    change = {n.name: n.change for n in both.trace.nodes}
    assert change["batch_norm"] == change["dropout"] == "removed"
    assert change["batch_norm_inference"] == "added"
    assert change["bn1.running_mean"] == "changed"
    assert change["conv2d"] == change["linear"] == change["fc1.weight"] == ""
    assert both.trace.facts.mode == "train → eval" and "train  ⇢  eval" in both.title
    text = both.to_dot()
    for mark in ("−", "+", "≠", "only in the first", "only in the second", "dotted"):
        assert mark in text  # a sign and a line beside the colour
    assert "- %" in str(both) and "+ %" in str(both)
    whole(both)


def test_a_graph_against_itself_and_against_changes(graph):
    same = graph.diff(graph)
    assert "the same" in str(same) and not any(n.change for n in same.trace.nodes)
    x = mg.ones(2, 3, requires_grad=True)
    first, second = viz.graph(x.sum(0)), viz.graph(x.sum(1))
    node = first.diff(second).find(op="sum")[0]
    assert node.change == "changed" and "axes [0] → [1]" in node.notes
    with pytest.raises(TypeError, match="got str"):
        graph.diff("net")


@needs_dot
def test_differences_are_drawn():
    model = Net()
    train = viz.graph(model, IMAGES)
    drawn(train.diff(viz.graph(model.eval(), IMAGES)).to_dot())


# ---- Mermaid ---------------------------------------------------------------------------------

ID = r"[A-Za-z]\w*"
LABEL = r'"[^"<>\n]*(?:<br/>[^"<>\n]*)*"'
LINES = [
    rf"\s*{ID}(?:\(\[{LABEL}\]\)|\[/{LABEL}/\]|\[\[{LABEL}\]\]|\[{LABEL}\]|\({LABEL}\))",
    rf"\s*subgraph {ID}\[{LABEL}\]",
    r"\s*end",
    rf"  {ID} (?:-->|-\.->|==>)\|{LABEL}\| {ID}",
    r"  classDef \w+_ fill:#\w{6},stroke:#\w{6},color:#\w{6}(?:,stroke-[\w-]+:\w+)*",
    rf"  class {ID}(?:,{ID})* \w+_",
    r"%% [^\n]*",
]


def check_mermaid(text):
    """That every line has one of the forms of the flowchart grammar, and frames are closed."""
    head = text.splitlines()
    assert head[0] == head[2] == "---" and re.fullmatch(r'title: ".*"', head[1])
    assert re.fullmatch("flowchart (TB|LR)", head[3])
    depth = 0
    for line in head[4:]:
        assert any(re.fullmatch(form, line) for form in LINES), line
        depth += line.lstrip().startswith("subgraph ") - (line.strip() == "end")
        assert depth >= 0
    assert depth == 0


def test_mermaid(graph, tmp_path):
    text = graph.to_mermaid()
    check_mermaid(text)
    assert 'op1("batch_norm<br/>y = γ (x - μ) / √(σ² + ε) + β' in text
    assert 'op0 -->|"(2, 3, 4, 4)"| op1' in text and "op1 -.->" in text
    assert graph.render(tmp_path / "net.mmd").read_text(encoding="utf-8") == text + "\n"
    assert text == graph.to_mermaid()
    lstm = nn.LSTM(3, 4)
    check_mermaid(viz.graph(lstm(mg.ones(5, 2, 3))[0].sum(), lstm, expand="all").to_mermaid())


def test_mermaid_escapes():
    assert mermaid.escaped('a"b<c>&#`') == "a#34;b#60;c#62;#38;#35;#96;"
    assert mermaid.escaped("") == " " and "\n" not in mermaid.escaped("a\nb")


# ---- 200 graphs with hostile names -----------------------------------------------------------

WORDS = [
    "", " ", "a\nb", "\r\n\t", "\\", "\\N\\L", '"', "'", "<b>&amp;</b>", "]]>", "&#x0;", "\x00\x1b",
    "日本語 ∂γ/∂x é 🙂 \u202eltr", "x" * 10_000, "<" * 10_000, "{a|b} [c] ;#//", "%%HTML<<", "--",
    "end", "subgraph x", "graph", "```", "\udc80", "a: b", "- c", "#quot;", "|",
]  # fmt: skip


def hostile(seed):
    """A random graph in which everything that a user may name has a hostile name."""
    pick = np.random.default_rng(seed)

    def word():
        return WORDS[int(pick.integers(len(WORDS)))]

    scopes = []
    for i in range(int(pick.integers(0, 4))):
        parent = f"module{i - 1}" if i and pick.random() < 0.6 else None
        copies = int(pick.integers(1, 4))
        scopes.append(
            Scope(f"module{i}", word(), word(), word(), word(), "train", parent, copies=copies)
        )
    nodes, edges, made = [], [], []
    count = int(pick.integers(1, 12))
    for i in range(count):
        scope = scopes[i * len(scopes) // count].id if scopes else None
        for kind in ("input", "parameter", "buffer"):
            if pick.random() < 0.4 or (kind == "input" and not made):
                leaf = Node(f"{kind}{len(nodes)}", kind, word(), scope, (2, 3), "float32")
                leaf.value, leaf.notes, leaf.copies = word(), [word()], int(pick.integers(1, 3))
                nodes.append(leaf)
                edges.append(Edge(leaf.id, f"op{i}", argument=word(), shape=(2, 3), name=word()))
        op = Node(f"op{i}", "op", word(), scope, (2, 3), "float32", notes=[word()], ops=1)
        op.formula, op.vjp, op.keeps, op.attributes = word(), word(), [word()], {word(): word()}
        op.failed, op.copies = bool(pick.random() < 0.1), int(pick.integers(1, 3))
        op.change = ["", "added", "removed", "changed"][int(pick.integers(4))]
        nodes.append(op)
        for back, source in enumerate(reversed(made[-3:])):
            if not back or pick.random() < 0.4:
                edges.append(Edge(source, op.id, shape=(2, 3), stretched=(4, 3), name=word()))
        if made and nodes[-2].scope == scope and pick.random() < 0.1:
            edges.append(Edge(op.id, made[-1], name=word(), kind="loop", copies=3))
        made.append(op.id)
    nodes.append(Node("output0", "output", word(), None, (), "float32", value=word()))
    edges.append(Edge(made[-1], "output0", shape=()))
    facts = Facts(word(), word(), "float32", len(made), 12, [word()], word())
    return Graph(Trace(nodes, edges, scopes, None, facts), title=word(), roll=False)


@needs_dot
@pytest.mark.parametrize("part", range(8))
def test_200_hostile_graphs(part):
    """Each 25 in one run of dot, which must be silent; as text and as Mermaid as well."""
    texts = []
    for seed in range(part * 25, part * 25 + 25):
        picture = hostile(seed)
        texts.append(picture.to_dot())
        str(picture), picture.to_dict()
        check_mermaid(picture.to_mermaid())
    drawn("\n".join(texts), "dot")


def test_hostile_graphs_with_pygraphviz_and_an_empty_path(tmp_path):
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    texts = [hostile(seed).to_dot() for seed in range(0, 200, 8)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.dot").write_text(text, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from minigrad.viz.render import draw\n"
        "for p in sorted(Path(sys.argv[1]).glob('*.dot')):\n"
        "    svg = draw(p.read_text(encoding='utf-8'), 'svg')\n"
        "    assert b'<svg' in svg, p"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**{k: v for k, v in os.environ.items() if k != "PATH"}, "PATH": ""},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr[-500:]


def test_hostile_graphs_without_graphviz(monkeypatch, tmp_path):
    monkeypatch.setattr(render, "which", lambda name: None)
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    for seed in range(0, 200, 20):
        picture = hostile(seed)
        with pytest.raises(viz.GraphvizError, match=r"pip install"):
            picture.render(tmp_path / f"{seed}.svg")
        assert (tmp_path / f"{seed}.dot").read_text(encoding="utf-8") == picture.to_dot()
        assert "pip install" in picture._repr_mimebundle_()["text/plain"]
