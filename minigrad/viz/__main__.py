"""``python -m minigrad.viz [net.svg]``: the graph of a small network, as text and as a picture."""

from __future__ import annotations

import sys
from collections import OrderedDict

from minigrad import nn
from minigrad.creation import randn, tensor
from minigrad.generator import manual_seed
from minigrad.viz import Graph, graph


def demo() -> Graph:
    """One training step of a multilayer perceptron with batch normalization."""
    manual_seed(0)
    layers = {
        "fc1": nn.Linear(4, 8),
        "bn1": nn.BatchNorm1d(8),
        "act": nn.ReLU(),
        "fc2": nn.Linear(8, 3),
    }
    model = nn.Sequential(OrderedDict(layers))
    loss = nn.functional.cross_entropy(model(randn(16, 4)), tensor([0, 1, 2, 0] * 4))
    return graph(loss, model, title="A small network")


if __name__ == "__main__":
    picture = demo()
    print(picture)
    for path in sys.argv[1:]:
        print(f"written to {picture.render(path)}")
