"""The profiler: what it sees, what it costs while it is off, and that it changes nothing."""

import gzip
import json
import sys
import threading

import pytest

import minigrad as mg
from minigrad import nn, ops, viz
from minigrad.nn import functional as F
from minigrad.profiler import profile, record_function, subclasses
from minigrad.viz.tables import duration, memory
from tests.fingerprint import fingerprint


def net():
    mg.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Sequential(nn.ReLU(), nn.Linear(8, 3))]
    return nn.Sequential(*layers)


X = mg.randn(16, 4, generator=mg.Generator().manual_seed(0))
TARGET = mg.tensor([0, 1, 2, 0] * 4)


def step(model, optimizer=None):
    loss = F.cross_entropy(model(X), TARGET)
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    return loss


def seen(prof, kind):
    return [(e.name, e.path) for e in prof.events if e.kind == kind]


def test_every_op_with_its_module_forward_and_backward():
    model = net()
    with profile() as prof:
        step(model)
    forward = [("linear", "0"), ("batch_norm", "1"), ("relu", "2.0"), ("linear", "2.1")]
    forward.append(("cross_entropy", ""))
    assert seen(prof, "forward") == forward
    assert seen(prof, "backward") == forward[::-1]
    assert seen(prof, "module") == [
        ("Sequential", ""), ("Linear", "0"), ("BatchNorm1d", "1"), ("Sequential", "2"),
        ("ReLU", "2.0"), ("Linear", "2.1"),
    ]  # fmt: skip
    assert [e.root for e in prof.events if e.name == "cross_entropy"] == ["", ""]
    assert all(0 < e.seconds <= prof.seconds and e.start >= 0 for e in prof.events)
    starts = [e.start for e in prof.events]
    assert starts == sorted(starts)
    assert [e.shape for e in prof.events if e.kind == "forward"] == [
        (16, 8), (16, 8), (16, 8), (16, 3), (),
    ]  # fmt: skip


def test_nothing_changes_bit_for_bit():
    def trained(watched):
        model = net()
        optimizer = mg.optim.Adam(model.parameters())
        mg.manual_seed(1)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            if watched:
                with profile():
                    losses.append(step(model, optimizer).item())
            else:
                losses.append(step(model, optimizer).item())
        state = fingerprint(model, optimizer=optimizer)
        kept = [v for k, v in state.items() if k[0] == "optimizer"]
        return losses, kept, [p.array.tobytes() for p in model.state_dict().values()]

    assert trained(True) == trained(False)


def originals():
    rules = [(c, r) for c in subclasses(ops.Op) for r in ("forward", "backward")]
    heart = sys.modules["minigrad.tensor"]
    found = {(c, r): c.__dict__.get(r) for c, r in rules}
    return found | {"call": nn.Module.__call__, "step": mg.optim.Optimizer.step, "grow": heart.grow}


def test_off_it_leaves_nothing_behind():
    """The functions that the engine calls are the very same before and after: off, it is free."""
    before = originals()
    with profile():
        assert originals() != before
    assert originals() == before
    with pytest.raises(ZeroDivisionError), profile():
        1 / 0  # noqa: B018
    assert originals() == before
    with profile():  # none is on any more
        pass


def test_memory_by_hand():
    x = mg.zeros(1000, 1000, requires_grad=True)  # 4 MB, from outside
    with profile() as prof:
        y = x * 2.0
        z = y.tanh()
        del y
        total = z.sum()
        total.backward()
    rows = {row.key: row for row in prof.key_averages()}
    assert rows["mul"].allocated == 8_000_000  # the value and, backward, the gradient
    assert rows["tanh"].allocated == 8_000_000
    assert rows["tanh"].kept == 4_000_000  # its output
    assert rows["sum"].kept == rows["mul"].kept == 0
    live = {(e.name, e.kind): e.live for e in prof.events}
    assert live["mul", "forward"] == 4_000_000
    assert live["tanh", "forward"] == 8_000_000  # y and z
    assert live["sum", "forward"] == 4_000_000  # y is gone
    # z, the gradient of tanh, and that of mul; sum's is a stretched view of one number
    assert prof.peak.bytes == pytest.approx(12_000_000, abs=100)
    assert (prof.peak.event.name, prof.peak.event.kind) == ("mul", "backward")
    assert "12.0 MB in the backward of mul" in str(prof.table())


def test_what_is_kept_counts_once_a_step():
    model = net()
    with profile() as prof:
        for _ in range(2):
            step(model)
    kept = [e.kept for e in prof.events if e.kind == "forward"]
    values = 16 * 8 * 4
    # x; the norm's input, mean, variance and 1/σ; what relu gives; nothing new; the losses' scores
    first = [16 * 4 * 4, values + 3 * 8 * 4, values, 0]
    assert kept[:4] == kept[5:9] == first
    assert kept[4] == kept[9] > 0


def test_flops_where_asked_for():
    model = net()
    with profile(with_flops=True) as prof:
        step(model)
    rows = {row.key: row.flops for row in prof.key_averages()}
    assert rows["linear"] == 2 * 16 * (4 * 8 + 8 * 3)
    assert rows["batch_norm"] == 2 * 3 * 16 * 8
    assert prof.table("flops").splitlines()[0].endswith("flops")
    assert prof.table("flops").splitlines()[1].startswith("linear")


def test_views_take_no_memory():
    x = mg.zeros(10, 10, requires_grad=True)
    with profile() as prof:
        y = (x + 1).reshape(100)[:50].sum()
    assert [e.allocated for e in prof.events if e.kind == "forward"] == [400, 0, 0, 0]
    assert y.item() == 50


def test_without_memory():
    with profile(profile_memory=False) as prof:
        step(net())
    assert prof.peak.bytes == 0
    assert all(e.allocated == e.live == 0 for e in prof.events)
    assert "peak" not in prof.table()


def test_recorded_ops_can_be_found_by_their_number():
    model = net()
    with profile() as prof:
        loss = F.cross_entropy(model(X), TARGET)
        loss.backward()
    found = prof.by_op()
    tape = viz.trace.tape([loss])
    assert list(found) == [op.seq for op in tape]
    assert all(row["forward"] > 0 and row["backward"] > 0 for row in found.values())
    assert found[tape[0].seq]["kept"] == X.array.nbytes  # nobody wants dx: no weight
    with mg.no_grad(), profile() as prof:
        model(X)
    assert prof.by_op() == {}
    assert len(seen(prof, "forward")) == 4


def test_time_inside_is_not_counted_twice():
    x = mg.randn(8, 4, requires_grad=True)
    with profile() as prof:
        y = F.silu(x).sum()  # computes a sigmoid inside
        (g,) = mg.grad(y, x, create_graph=True)
        g.sum().backward()
    rules = [e for e in prof.events if e.kind in ("forward", "backward")]
    assert sum(e.self_seconds for e in rules) <= prof.seconds
    assert all(e.self_seconds >= 0 for e in rules)
    outer = next(e for e in rules if e.name == "silu")
    assert outer.within > 0
    assert any(e.name == "sigmoid" for e in rules)


def test_tables():
    model = net()
    with profile() as prof:
        step(model)
        step(model)
    by_op = prof.key_averages()
    assert {row.key: row.count for row in by_op} == {
        "linear": 4, "batch_norm": 2, "relu": 2, "cross_entropy": 2,
    }  # fmt: skip
    assert sum(row.share for row in by_op) == pytest.approx(1)
    head, first, *_ = prof.table(sort_by="name").splitlines()
    assert head.split() == ["op", "calls", "forward", "backward", "share", "allocated", "kept"]
    assert first.startswith("batch_norm")
    by_module = prof.key_averages("module")
    assert [r.key for r in by_module] == ["Sequential", "0", "1", "2", "2.0", "2.1", "(no module)"]
    times = {r.key: r.time for r in by_module}
    assert times["2"] == pytest.approx(times["2.0"] + times["2.1"])
    assert times["Sequential"] == pytest.approx(times["0"] + times["1"] + times["2"])
    assert {r.key: r.count for r in by_module}["2.1"] == 2
    times = [row.time for row in by_op]
    assert by_op[0].cpu_time_total == pytest.approx(1e6 * times[0])
    assert prof.table("calls").splitlines()[1].startswith("linear")
    assert prof.table("self_cpu_time_total") == prof.table("time")
    assert "... and 2 more" in prof.table(row_limit=2)
    assert str(by_op) == repr(by_op) == prof.table()
    with pytest.raises(ValueError, match=r"one of op, module, range; got 'layer'"):
        prof.table(group_by="layer")
    with pytest.raises(ValueError, match=r"one of time, forward.*got 'speed'"):
        prof.table(sort_by="speed")


def test_two_models_are_told_apart():
    one, other = net(), nn.ModuleList([nn.Linear(4, 2)])
    other.forward = lambda x: other[0](x)
    with profile() as prof:
        one(X)
        other(X)
    keys = [row.key for row in prof.key_averages("module")]
    assert keys[:2] == ["Sequential", "Sequential.0"]
    assert keys[-2:] == ["ModuleList", "ModuleList.0"]


def test_ranges():
    model = net()
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    @record_function("a step")
    def named():
        step(model, optimizer)

    named()  # without a profile it does nothing
    with profile() as prof:
        named()
        with record_function("a block"):
            pass
        named()
    rows = {row.key: row.count for row in prof.key_averages("range")}
    assert rows == {"a step": 2, "backward": 2, "Optimizer.step#SGD.step": 2, "a block": 1}
    assert "a step" in prof.table(group_by="range")
    with pytest.raises(TypeError, match="string"):
        record_function(3)


def test_a_captured_step_is_one_range():
    model = net()
    captured = mg.compile(lambda: step(model).detach())
    for _ in range(2):
        captured()
    with profile() as prof:
        captured()
        captured()
    assert captured.plain is None
    assert [e.name for e in prof.events] == ["captured step"] * 2
    with profile() as prof:  # while it is captured, it runs as it is
        fresh = mg.compile(lambda: step(net()).detach())
        fresh()
    assert len(seen(prof, "forward")) == 5
    assert fresh.plain is None


def test_one_at_a_time_and_once():
    with profile() as prof:
        with pytest.raises(RuntimeError, match="on already"), profile():
            pass
        _ = mg.ones(2) + 1
    with pytest.raises(RuntimeError, match="has been used"), prof:
        pass
    assert "<profile: 1 runs of ops in" in repr(prof)
    assert "nothing recorded" in repr(profile())


def test_an_op_that_fails_is_closed():
    with profile() as prof:
        with pytest.raises(mg.ShapeError):
            mg.ones(2, 3) @ mg.ones(2, 3)
        _ = mg.ones(2) + 1
    assert [e.name for e in prof.events] == ["matmul", "add"]
    assert prof.events[0].within == 0


def test_threads_have_rows_of_their_own():
    def work():
        _ = mg.ones(3) * 2

    with profile() as prof:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(seen(prof, "forward")) == 3
    assert all(e.within == 0 for e in prof.events)


def test_a_graph_can_be_drawn_and_an_op_defined_meanwhile():
    with profile():
        text = str(viz.graph(step(net())))

        class Twice(ops.Op):
            def forward(self, xp, x):
                return x * 2

            def backward(self, xp, grad, x):
                return (grad * 2,)

        class Again(ops.Exp):
            pass

    assert "linear(x, weight, bias)" in text
    assert Twice.reads == ("x",)
    assert Again.reads == ops.Exp.reads == ("y",)


def test_chrome_trace(tmp_path):
    model = net()
    with profile() as prof:
        step(model)
    prof.export_chrome_trace(tmp_path / "trace.json")
    prof.export_chrome_trace(tmp_path / "trace.json.gz")
    data = json.loads((tmp_path / "trace.json").read_text())
    assert data == json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    spans = {e["name"]: e for e in data["traceEvents"] if e["ph"] == "X"}
    outer, inner = spans["2: Sequential"], spans["2.1: Linear"]
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert spans["batch_norm backward"]["args"]["module"] == "1"
    assert spans["backward"]["cat"] == "range"
    counts = [e["args"]["bytes"] for e in data["traceEvents"] if e["ph"] == "C"]
    assert max(counts) > 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0.00 µs"),
        (12.34e-6, "12.3 µs"),
        (1.5e-3, "1.50 ms"),
        (0.25, "250 ms"),
        (62, "62.0 s"),
    ],
)
def test_durations(value, said):
    assert duration(value) == said


def test_the_names_are_pytorchs():
    theirs = pytest.importorskip("torch").profiler
    assert theirs.profile and theirs.record_function
    for name in ("key_averages", "export_chrome_trace"):
        assert hasattr(theirs.profile, name)
        assert hasattr(profile, name)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (4100, "4.10 kB"), (1_048_576, "1.05 MB"), (999_999, "1.00 MB")],
)
def test_bytes(value, said):
    assert memory(value) == said
