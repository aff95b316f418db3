"""What is marked on graphs: findings in words and rings, heat as stripes and numbers."""

import re
import shutil

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import render
from minigrad.viz.style import THEMES
from minigrad.viz.tables import duration
from tests.fingerprint import fingerprint

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)
BACKWARD = {"TB": (True, "only"), "LR": ()}
G = mg.Generator().manual_seed(0)
X, Y = mg.randn(64, 10, generator=G), mg.randint(0, 4, (64,), generator=G)


def net(dead=30, bias=True):
    mg.manual_seed(0)
    first = [nn.Linear(10, 64, bias=bias), nn.BatchNorm1d(64), nn.ReLU()]
    model = nn.Sequential(nn.Sequential(*first), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    with mg.no_grad():
        model[1].bias[:dead] = -100.0
    return model


def loss_of(model, x=X):
    return F.cross_entropy(model(x), Y)


def profiled(model):
    with mg.profiler.profile() as prof:
        loss = loss_of(model)
        loss.backward(retain_graph=True)
    return loss, prof


def nodes(g, kind="op"):
    return {n.name if kind != "op" else n.id: n for n in g.trace.nodes if n.kind == kind}


def stripes(g):
    """How opaque the stripe of each op is, in their order."""
    colour = THEMES[g.theme].line["gradient"]
    found = re.findall(rf'^\s*(op\d+) \[.*?BGCOLOR="{colour}(\w\w)"', g.to_dot(), re.M)
    shares = {op: int(share, 16) / 255 for op, share in found}
    return [shares[op] for op in nodes(g)]


# ---- health ----------------------------------------------------------------------------------


def test_findings_stand_where_they_belong():
    model = net()
    g = viz.graph(loss_of(model), model, health=True)
    assert nodes(g)["op4"].findings == ["dead units: 30 of 64 units"]
    bias = nodes(g, "parameter")["0.0.bias"]
    assert bias.findings == ["0.1 (BatchNorm1d) takes the mean off again, and with it this bias"]
    assert "2 findings" in str(g).splitlines()[0]
    assert "⚠ dead units: 30 of 64 units" in str(g)
    text = g.to_dot()
    assert "⚠\u00a0dead" in text or "⚠ dead" in text
    assert ">finding\u00a0" in text  # the legend explains the sign
    assert g.to_dict()["facts"]["health"] == "2 findings"


def test_the_healthy_have_no_marks():
    model = net(dead=0, bias=False)
    g = viz.graph(loss_of(model), model, health=True)
    assert "no findings" in str(g)
    plain = viz.graph(loss_of(model), model)
    assert "⚠" not in g.to_dot()
    assert g.to_dot().replace(" no findings", "").count("\n") == plain.to_dot().count("\n")


def test_few_dead_units_are_a_note():
    model = net(dead=12)
    g = viz.graph(loss_of(model), model, health=True)
    assert nodes(g)["op4"].findings == []
    assert nodes(g)["op4"].notes == ["12 of 64 units dead"]


def test_the_way_of_a_nan_is_marked():
    model = net(dead=0, bias=False)
    bad = (model(X).abs() * 0).log().mean() * 2
    g = viz.graph(bad, model, health=True)
    ring = [n for n in g.trace.nodes if n.ring]
    assert [n.name for n in ring] == ["log"]
    assert ring[0].findings[0].startswith("log makes infinity of finite numbers")
    way = [(e.source, e.target) for e in g.trace.edges if e.lost]
    names = {n.id: n.name for n in g.trace.nodes}
    assert [(names[a], names[b]) for a, b in way] == [
        ("log", "mean"), ("mean", "mul"), ("mul", "loss"),
    ]  # fmt: skip
    for theme in THEMES:
        text = viz.graph(bad, model, health=True, theme=theme).to_dot()
        alert = THEMES[theme].alert
        assert f'color="{alert}"' in text and "penwidth=4" in text
        assert text.count("NaN/∞") == 3  # never colour alone
        assert ">not finite\u00a0" in text
    x = X.clone()
    x[0, 0] = float("nan")
    loss = loss_of(model, x)
    g = viz.graph(loss, model, health=True)
    assert [n.name for n in g.trace.nodes if n.ring] == ["x"]


def test_findings_stay_visible_in_closed_modules():
    model = net()
    g = viz.graph(loss_of(model), model, health=True, depth=1)
    boxes = {n.name: n for n in g.shown.nodes if n.kind == "module"}
    assert boxes["0"].findings[0].startswith("0.0.bias: 0.1 (BatchNorm1d) takes the mean off")
    assert "⚠" in g.to_dot()


# ---- heat ------------------------------------------------------------------------------------


def test_time():
    model = net()
    loss, prof = profiled(model)
    g = viz.graph(loss, model, heat="time", profile=prof)
    rows = prof.by_op()
    costs = [n.cost for n in nodes(g).values()]
    tape = viz.trace.tape([loss])
    assert costs == [rows[op.seq]["forward"] + rows[op.seq]["backward"] for op in tape]
    shown = stripes(g)
    assert len(shown) == 7 and max(shown) == 1
    assert np.argmax(shown) == np.argmax(costs)
    assert shown == pytest.approx([max(c / max(costs), 0.03) for c in costs], abs=0.01)
    assert "stripe: time, forward and backward, up to" in str(g).splitlines()[1]
    assert len(re.findall(r"s · \d+%|s · <1%", str(g))) == 7
    closed = viz.graph(loss, model, heat="time", profile=prof, depth=1)
    (box,) = [n for n in closed.shown.nodes if n.name == "0"]
    assert box.cost == pytest.approx(sum(costs[:3]))


def test_time_on_the_ladder():
    """Each box has its own: the op its forward, the vjp its backward."""
    model = net()
    loss, prof = profiled(model)
    g = viz.graph(loss, model, backward=True, heat="time", profile=prof)
    text, rows = g.to_dot(), prof.by_op()
    for op, node in zip(viz.trace.tape([loss]), nodes(g).values(), strict=True):
        for kind, box in (("forward", node.id), ("backward", f"{node.id}_vjp")):
            (line,) = re.findall(rf"^\s*{box} \[.*$", text, re.M)
            assert f">{duration(rows[op.seq][kind])} ·" in line.replace("\u00a0", " ")
    assert "stripe: time, up to" in text
    assert sum(map(float, re.findall(r"· (\d+)%", text))) == pytest.approx(100, abs=7)


def test_memory_from_the_tape():
    model = net()
    loss = loss_of(model)
    g = viz.graph(loss, model, heat="memory")
    costs = {
        n.name: [m.cost for m in nodes(g).values() if m.name == n.name] for n in nodes(g).values()
    }
    values = 64 * 64 * 4
    assert costs["linear"] == [64 * 10 * 4, 0, 0]  # x; what the others read is kept already
    assert costs["relu"] == [values, values]  # their outputs
    assert costs["batch_norm"] == [values + 3 * 64 * 4]  # its input, mean, variance, 1/σ
    live = [n.live for n in nodes(g).values()]
    assert live == sorted(live) and live[-1] == sum(sum(c) for c in costs.values())
    assert "keeps nothing new" in str(g) and "so far" in str(g)
    loss.backward()
    again = viz.graph(loss, model, heat="memory")  # freed, and known all the same
    assert [n.cost for n in nodes(again).values()] == [n.cost for n in nodes(g).values()]


def test_memory_of_a_run_marks_the_peak():
    model = net()
    loss, prof = profiled(model)
    g = viz.graph(loss, model, heat="memory", profile=prof)
    rows = prof.by_op()
    live = [n.live for n in nodes(g).values()]
    assert live == [rows[op.seq]["live"] for op in viz.trace.tape([loss])]
    assert str(g).count("◀ peak") == live.count(max(live))
    assert "◀ peak" in g.to_dot()


def test_grad_norm():
    model = net()
    loss = loss_of(model)
    g = viz.graph(loss, model, heat="grad_norm")
    norms = [n.cost for n in nodes(g).values()]
    assert norms[-1] == 1  # dL/dL
    out = model[:3](X)
    hidden = out.detach().requires_grad_()
    F.cross_entropy(model[3](hidden), Y).backward()
    assert norms[4] == pytest.approx(float(np.linalg.norm(hidden.grad.array)), rel=1e-5)
    shown = stripes(g)
    assert shown[int(np.argmax(norms))] == 1 and min(shown) == pytest.approx(0.08, abs=0.01)
    assert "|dy| = 1" in str(g)
    closed = viz.graph(loss, model, heat="grad_norm", depth=1)
    (box,) = [n for n in closed.shown.nodes if n.name == "0"]
    assert box.cost == norms[2]  # of the value that leaves it


def test_what_heat_asks_for():
    model = net()
    loss, prof = profiled(model)
    with pytest.raises(ValueError, match="heat= must be one of time, memory, grad_norm"):
        viz.graph(loss, heat="hot")
    with pytest.raises(ValueError, match="pass profile=prof"):
        viz.graph(loss, heat="time")
    with pytest.raises(ValueError, match="none of these ops ran under that profile"):
        viz.graph(loss_of(model), heat="time", profile=prof)
    with pytest.raises(ValueError, match="profile= goes with heat="):
        viz.graph(loss, profile=prof)


@needs_dot
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("direction", ["TB", "LR"])
def test_graphviz_draws_them(theme, direction, recwarn):
    model = net()
    loss, prof = profiled(model)
    bad = (model(X).abs() * 0).log().mean() * 2
    for options in (
        {"health": True},
        {"heat": "time", "profile": prof},
        {"heat": "memory", "health": True},
        {"heat": "grad_norm"},
        *({"backward": b, "health": True, "heat": "memory"} for b in BACKWARD[direction]),
    ):
        for output in (loss, bad) if "profile" not in options else (loss,):
            g = viz.graph(output, model, theme=theme, direction=direction, **options)
            assert render.draw(g.to_dot(), "svg").startswith(b"<?xml")
            assert "<svg" in g.to_html()


def test_marking_changes_nothing():
    model = net()
    loss = loss_of(model)
    before = fingerprint(model)
    for options in ({"health": True}, {"heat": "memory"}, {"heat": "grad_norm"}):
        viz.graph(loss, model, **options).to_dot()
    assert fingerprint(model) == before
    loss.backward()
