"""The writer for TensorBoard, by reading back the event files."""

import struct

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import tensorboard

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
from tensorboardX.proto import event_pb2, graph_pb2


def events(folder):
    """Every event of every file in a folder: records of length, checksum, data, checksum."""
    found = []
    for path in sorted(folder.rglob("*tfevents*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def values(folder):
    return [(v.tag, e.step, v) for e in events(folder) for v in e.summary.value]


def test_scalars(tmp_path):
    with tensorboard.SummaryWriter(tmp_path) as writer:
        assert writer.log_dir == str(tmp_path)
        writer.add_scalar("loss", mg.tensor(0.25, requires_grad=True), 3)
        writer.add_scalar("loss", np.float64(0.125), 4, walltime=5.0)
        writer.add_scalar("lr", 1)
        with pytest.raises(ValueError, match=r"'loss'\) takes one number, got shape \(2,\)"):
            writer.add_scalar("loss", mg.ones(2))
        with pytest.raises(TypeError, match="got str"):
            writer.add_scalar("loss", "low")
        writer.flush()
    found = [(tag, step, v.simple_value) for tag, step, v in values(tmp_path)]
    assert found == [("loss", 3, 0.25), ("loss", 4, 0.125), ("lr", 0, 1.0)]
    assert [e.wall_time for e in events(tmp_path) if e.step == 4] == [5.0]


def test_several_scalars_in_one_chart(tmp_path):
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_scalars("loss", {"train": mg.tensor(0.5), "test": 0.75}, 2)
    found = {(tag, step, v.simple_value) for tag, step, v in values(tmp_path)}
    assert {(0.5), (0.75)} == {v for _, _, v in found}


def test_histograms(tmp_path):
    x = mg.tensor([0.0, 1.0, 2.0, float("nan")])
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("x", x, 1)
        with pytest.raises(ValueError, match="no finite values"):
            writer.add_histogram("x", x[3:])
    ((tag, step, v),) = values(tmp_path)
    assert (tag, step, v.histo.min, v.histo.max) == ("x", 1, 0, 2)
    assert (v.histo.num, v.histo.sum, sum(v.histo.bucket)) == (3, 3, 3)


def test_images_figures_and_texts(tmp_path):
    pytest.importorskip("matplotlib")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_image("one", mg.rand(3, 4, 5), 1)
        writer.add_image("grey", mg.rand(4, 5), 1, dataformats="HW")
        writer.add_images("four", mg.rand(4, 1, 4, 5), 1)
        writer.add_figure("figure", viz.plots.filters(mg.randn(2, 1, 3, 3)), 1)
        writer.add_text("note", "**bold**", 1)
        with pytest.raises(ValueError, match=r"axes 'CHW' \(dataformats=\), got shape \(4, 5\)"):
            writer.add_image("one", mg.rand(4, 5))
    found = {tag: v for tag, _, v in values(tmp_path)}
    assert (found["one"].image.height, found["one"].image.width) == (4, 5)
    assert found["grey"].image.height == 4
    assert found["four"].image.width * found["four"].image.height >= 80
    assert found["figure"].image.encoded_image_string.startswith(b"\x89PNG")
    assert any(tag.startswith("note") for tag in found)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.bn(self.fc1(x)).relu())


def described(folder):
    (graph,) = [e.graph_def for e in events(folder) if e.graph_def]
    return {n.name: n for n in graph_pb2.GraphDef.FromString(graph).node}


def test_graph(tmp_path):
    model, x = Net(), mg.randn(16, 4)
    loss = F.cross_entropy(model(x), mg.randint(0, 3, (16,)))
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_graph(loss, model)
    nodes = described(tmp_path)
    linear = nodes["Net/fc1/linear"]
    assert linear.op == "linear"
    assert list(linear.input) == ["x", "Net/fc1/weight", "Net/fc1/bias"]
    assert linear.attr["formula"].s.decode() == "y = x Wᵀ + b"
    (shape,) = linear.attr["_output_shapes"].list.shape
    assert [d.size for d in shape.dim] == [16, 8]
    assert nodes["Net/fc1/weight"].op == "parameter"
    assert nodes["Net/bn/batch_norm"].attr["eps"].s == b"1e-05"
    assert list(nodes["Net/relu"].input) == ["Net/bn/batch_norm"]
    assert all(name in nodes for n in nodes.values() for name in n.input)


def test_names_of_a_graph_are_unique_and_plain(tmp_path):
    layer, x = nn.Linear(3, 3), mg.randn(2, 3)
    y = layer(layer(x).tanh()).tanh()
    trace = viz.graph(y, names={"a b/c": x}).trace
    names = tensorboard.names_of(trace)
    assert len(set(names.values())) == len(trace.nodes)
    assert {"Linear/linear", "Linear_2/linear", "tanh", "tanh_2", "a_b_c"} <= set(names.values())
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_graph(viz.graph(y))
    assert len(described(tmp_path)) == len(trace.nodes)


def test_the_names_are_pytorchs():
    source = pytest.importorskip("tensorboardX").SummaryWriter
    for name in vars(tensorboard.SummaryWriter):
        assert name[0] == "_" or name == "log_dir" or hasattr(source, name)


def test_without_tensorboardx(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(tensorboard, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "minigrad\[tensorboard\]"'):
        tensorboard.SummaryWriter()
