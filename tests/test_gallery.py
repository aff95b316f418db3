"""The gallery: drawing changes nothing, and every picture is there, light and dark."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from docs.gallery.draw import PICTURES, THEMES
from minigrad.viz.trace import tape

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"


def state(model, loss):
    """Everything a picture might change, bit for bit."""
    held = {
        "loss": loss.array.copy(),
        "random": np.frombuffer(repr(mg.get_rng_state()).encode(), np.uint8),
    }
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        held[name] = tensor.array.copy()
        held[f"{name}.grad"] = None if tensor.grad is None else tensor.grad.array.copy()
    for i, op in enumerate(tape([loss])):
        held[f"tape {i}"] = np.array([op.seq, op.saved is None, len(op.hooks or ())])
        for j, array in enumerate(op.saved or ()):
            held[f"tape {i} saved {j}"] = array.copy() if hasattr(array, "dtype") else None
    held["modes"] = np.array([m.training for m in model.modules()])
    return held


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if a[name] is None or b[name] is None:
            assert a[name] is b[name], name
        else:
            assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("train", [True, False])
def test_drawing_changes_nothing(name, train):
    picture = PICTURES[name]
    mg.manual_seed(0)
    model = picture.model().train(train)
    loss = picture.loss(model)
    before = state(model, loss)
    first = picture.draw(model, loss)
    first.to_dot(), str(first), first.to_dict()
    same(before, state(model, loss))
    loss.backward()
    after = state(model, loss)
    second = picture.draw(model, loss)
    second.to_dot(), str(second), second.to_dict()
    same(after, state(model, loss))
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", PICTURES)
def test_training_goes_on_as_if_nothing_had_been_drawn(name):
    picture = PICTURES[name]
    ends = []
    for draws in (False, True):
        mg.manual_seed(0)
        model = picture.model()
        optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = picture.loss(model)
            if draws:
                picture.draw(model, loss).to_dot()
            loss.backward()
            if draws:
                picture.draw(model, loss).to_dot()
            optimizer.step()
        ends.append({k: v.array.copy() for k, v in model.state_dict().items()})
    same(*ends)


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_picture_twice(name):
    texts = [p.draw(*p.setup()).to_dot() for p in (PICTURES[name], deepcopy(PICTURES[name]))]
    assert texts[0] == texts[1]


def test_every_picture_is_shown():
    page = (GALLERY / "README.md").read_text()
    for name in [*PICTURES, "batch_norm-formula"]:
        for theme in THEMES:
            assert (GALLERY / f"{name}-{theme}.svg").is_file(), "run python -m docs.gallery.draw"
            assert f"{name}-{theme}.svg" in page
