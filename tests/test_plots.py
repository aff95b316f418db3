"""Plots: what they show, in both themes, into axes of others; and what they refuse."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.training import Epoch, History
from minigrad.viz import plots
from minigrad.viz.style import THEMES

pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

G = mg.Generator().manual_seed(0)
IMAGES = mg.rand(8, 1, 6, 6, generator=G)
LABELS = mg.tensor([0, 1, 2, 0, 1, 2, 0, 1])
SCORES = mg.randn(8, 3, generator=G)


def history(epochs=3, test=True):
    rows = [
        Epoch(
            i + 1, 1 / (i + 1), 0.5 + 0.1 * i, *((0.9, 0.4) if test else (np.nan, np.nan)), 0.1, 2.0
        )
        for i in range(epochs)
    ]
    return History(rows)


def net():
    mg.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def stepped():
    model = net()
    with mg.profiler.profile() as prof:
        loss = F.cross_entropy(model(IMAGES), LABELS)
        loss.backward()
    return model, loss, prof


MODEL, LOSS, PROF = stepped()
PLOTS = {
    "learning curves": lambda **o: plots.learning_curves(history(), **o),
    "confusion matrix": lambda **o: plots.confusion_matrix(LABELS, SCORES, **o),
    "shares": lambda **o: plots.confusion_matrix(LABELS, LABELS, normalize=True, **o),
    "filters": lambda **o: plots.filters(MODEL[0], **o),
    "filters of many channels": lambda **o: plots.filters(mg.randn(5, 7, 3, 3), **o),
    "filters in colour": lambda **o: plots.filters(mg.randn(5, 3, 4, 4), **o),
    "feature maps": lambda **o: plots.feature_maps(MODEL[0](IMAGES), **o),
    "feature maps above 0": lambda **o: plots.feature_maps(MODEL[:2](IMAGES)[2], **o),
    "weights": lambda **o: plots.histograms(MODEL, **o),
    "gradients": lambda **o: plots.histograms(MODEL, "gradients", **o),
    "activations": lambda **o: plots.histograms(LOSS, "activations", **o),
    "gradients of a tape": lambda **o: plots.histograms(LOSS, "gradients", **o),
    "arrays": lambda **o: plots.histograms({"a": [1, 2, 2], "b": np.zeros(5)}, "data", **o),
    "predictions": lambda **o: plots.predictions(IMAGES, SCORES, LABELS, **o),
    "live memory": lambda **o: plots.live_memory(PROF, **o),
}


def texts(fig):
    return [t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


def panels(fig):
    return [a for a in fig.axes if a.get_visible() and a.get_label() != "<colorbar>"]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_written_and_says_what_it_shows(name, theme, tmp_path):
    fig = PLOTS[name](theme=theme, path=tmp_path / "plot.png")
    assert isinstance(fig, Figure)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert to_hex(fig.get_facecolor()).upper() == THEMES[theme].page
    for axes in panels(fig):
        assert axes.get_title(loc="left")
        if axes.get_xticks().size and axes.lines and name != "live memory":
            assert axes.get_xlabel() or axes.texts  # what the axis counts, or the statistics
    allowed = {THEMES[theme].text, THEMES[theme].muted, THEMES[theme].alert, THEMES[theme].page}
    allowed |= set(THEMES[theme].line.values())
    for axes in panels(fig):
        for text in axes.texts:
            assert to_hex(text.get_color()).upper() in allowed


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_fits_into_axes_that_are_there(name):
    count = len(panels(PLOTS[name]()))
    fig = Figure()
    axes = fig.subplots(1, count)
    assert PLOTS[name](ax=axes) is fig
    with pytest.raises(ValueError, match="ax= must be"):
        PLOTS[name](ax=[1] * count)
    with pytest.raises(ValueError, match=r"ax= must be|theme= must be"):
        PLOTS[name](ax=Figure().subplots(1, count + 1))


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_leaves_the_state_of_pyplot_alone(name):
    import matplotlib.pyplot as plt

    PLOTS[name]()
    assert plt.get_fignums() == []


def test_learning_curves(tmp_path):
    fig = plots.learning_curves(history())
    loss, accuracy = fig.axes
    train, test = loss.lines
    assert list(train.get_ydata()) == pytest.approx([1, 1 / 2, 1 / 3])
    assert (train.get_linestyle(), train.get_marker()) != (test.get_linestyle(), test.get_marker())
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([50, 60, 70])
    assert (loss.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy (%)")
    history().save(tmp_path / "history.csv")
    again = plots.learning_curves(tmp_path / "history.csv")
    assert list(again.axes[0].lines[0].get_ydata()) == list(train.get_ydata())
    assert len(plots.learning_curves(history(test=False)).axes[0].lines) == 1
    with pytest.raises(ValueError, match="no epoch is finished"):
        plots.learning_curves(History())
    with pytest.raises(TypeError, match="got list"):
        plots.learning_curves([1, 2])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no history\.csv: its columns are a, b"):
        plots.learning_curves(tmp_path / "other.csv")


def test_confusion_matrix():
    said = mg.tensor([0, 1, 1, 0, 1, 2, 2, 1])
    fig = plots.confusion_matrix(LABELS, said, classes=["ant", "bee", "cat"])
    axes = fig.axes[0]
    written = {
        (round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts
    }
    assert written == {(0, 0): "2", (0, 2): "1", (1, 1): "3", (2, 1): "1", (2, 2): "1"}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["ant", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "is")
    assert "75.00% right" in axes.get_title(loc="left")
    shares = plots.confusion_matrix(LABELS, said, normalize=True).axes[0]
    assert "67" in [t.get_text() for t in shares.texts]
    large = plots.confusion_matrix(np.arange(60), np.arange(60))
    assert not large.axes[0].texts and len(large.axes[0].get_xticks()) == 30
    for targets, answers, said in [
        (LABELS, LABELS[:3], "3 predictions for 8 labels"),
        (SCORES, SCORES, "targets= must be labels"),
        (LABELS, LABELS.float(), "predicted= must be labels"),
        (LABELS, -LABELS, "whole numbers from 0"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            plots.confusion_matrix(targets, answers)
    with pytest.raises(ValueError, match="names 2 classes, but there are 3"):
        plots.confusion_matrix(LABELS, LABELS, classes=["a", "b"])


def test_filters():
    weight = mg.randn(40, 1, 3, 3)
    fig = plots.filters(weight)
    assert "40 filters of 1 channel, 3 × 3 each" in texts(fig)
    low, high = fig.axes[0].images[0].get_clim()
    assert -low == high == pytest.approx(float(abs(weight.array).max()))  # 0 is the page's colour
    assert "(the first 64)" in " ".join(texts(plots.filters(mg.randn(70, 1, 3, 3))))
    assert "one a row (the first 16)" in " ".join(texts(plots.filters(mg.randn(20, 2, 3, 3))))
    with pytest.raises(ValueError, match=r"weights \(out, in, kh, kw\) of a Conv2d, got \(3, 64\)"):
        plots.filters(MODEL[3])


def test_feature_maps():
    maps = mg.zeros(2, 3, 4, 4)
    maps[1, 0] = 2.0
    fig = plots.feature_maps(maps, sample=1)
    assert "3 channels of 4 × 4; 2 of them 0 throughout" in texts(fig)
    assert fig.axes[0].images[0].get_clim() == (0, 2)
    for wrong in (maps[0, 0], mg.zeros(0, 4, 4)):
        with pytest.raises(ValueError, match=r"channels \(C, H, W\)"):
            plots.feature_maps(wrong)
    with pytest.raises(ValueError, match="sample 7"):
        plots.feature_maps(maps, sample=7)


def test_histograms():
    fig = plots.histograms({"a": [0.0, 0, 1, 3], "b": [1.0, float("nan")]}, "values", bins=3)
    first, second = panels(fig)
    assert first.patches[0].get_data().values.tolist() == [2, 1, 1]
    assert [t.get_text() for t in first.texts] == ["mean 1, σ 1.2, 50% zeros"]
    assert second.patches[0].get_data().values.sum() == 1  # NaN is left out
    names = [a.get_title(loc="left").strip() for a in panels(plots.histograms(MODEL))]
    assert names == [n for n, _ in MODEL.named_parameters()]
    names = [a.get_title(loc="left").strip() for a in panels(plots.histograms(LOSS, "activations"))]
    assert names == ["%1 conv2d", "%2 relu", "%3 reshape", "%4 linear"]
    assert panels(plots.histograms(MODEL, "gradients"))[0].get_yscale() == "log"
    with pytest.raises(ValueError, match=r"no gradients to show; was backward\(\) called"):
        plots.histograms(net(), "gradients")
    with pytest.raises(ValueError, match="of= of a module must be weights or gradients"):
        plots.histograms(MODEL, "activations")
    with pytest.raises(TypeError, match="got list"):
        plots.histograms([1, 2])
    with pytest.raises(ValueError, match="at least 1"):
        plots.histograms(MODEL, bins=0)


def test_predictions():
    fig = plots.predictions(IMAGES, SCORES, LABELS, classes=["ant", "bee", "cat"])
    axes = fig.axes[0]
    right = int((SCORES.argmax(1) == LABELS).sum())
    assert f"8 of 8 images, {right} of all 8 right" in texts(fig)
    wrong = [t.get_text() for t in axes.texts if t.get_text()[0] == "✗"]
    assert len(axes.patches) == len(wrong) == 8 - right  # a frame, and a sign
    assert all("(is " in text for text in wrong)
    share = F.softmax(SCORES, 1).array.max(1)[0]
    assert f"{share:.0%}" in axes.texts[0].get_text()
    plain = plots.predictions(IMAGES[:, 0], LABELS, count=3)
    assert [t.get_text() for t in plain.axes[0].texts] == ["0", "1", "2"]
    assert len(plots.predictions(mg.rand(4, 3, 5, 5), LABELS[:4]).axes[0].images) == 4
    with pytest.raises(ValueError, match=r"got \(8, 2, 6, 6\)"):
        plots.predictions(mg.rand(8, 2, 6, 6), LABELS)
    with pytest.raises(ValueError, match="predicted= has 3 entries for 8 images"):
        plots.predictions(IMAGES, LABELS[:3])
    with pytest.raises(ValueError, match="count= must be at least 1"):
        plots.predictions(IMAGES, LABELS, count=0)


def test_live_memory():
    fig = plots.live_memory(PROF)
    said = " ".join(texts(fig))
    assert f"peak {PROF.peak}" in said and "backward" in said
    assert fig.axes[0].get_xlabel() == "time (ms)" and fig.axes[0].get_ylabel() in ("kB", "MB")
    with mg.profiler.profile(profile_memory=False) as blind:
        _ = mg.ones(2) + 1
    with pytest.raises(ValueError, match="profile_memory=True"):
        plots.live_memory(blind)


def test_without_matplotlib(monkeypatch):
    from minigrad.viz import charts

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(charts, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "minigrad\[viz\]"'):
        plots.filters(MODEL[0])
    with pytest.raises(ValueError, match="theme= must be one of light, dark"):
        plots.filters(MODEL[0], theme="pink")
