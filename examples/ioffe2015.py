"""Ioffe and Szegedy 2015, section 4.1: batch normalization and the drift of activations.

Three hidden layers of 100 sigmoid units on binary images, mini-batches of 60. Recorded: accuracy
against steps (figure 1a); the 15th, 50th and 85th percentiles of what the last hidden layer's
sigmoids receive (1b, 1c). The paper names no learning rate and no deviation of the first weights.
"""

from copy import deepcopy

import numpy as np
from experiment import BLUE, ORANGE, Experiment, accuracy, spread, stream

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

PAPER = "Ioffe and Szegedy 2015, section 4.1, figure 1"
SETTINGS = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.01)]  # (learning rate, deviation of the weights)


def network(inputs: int, bn: int, sigma: float) -> nn.Sequential:
    layers = []
    for units in inputs, 100, 100:
        layers.append(nn.Linear(units, 100, bias=not bn))  # BN takes a bias away again
        layers += [nn.BatchNorm1d(100), nn.Sigmoid()] if bn else [nn.Sigmoid()]
    net = nn.Sequential(*layers, nn.Linear(100, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, sigma)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def observe(net: nn.Sequential, images: list[mg.Tensor]):
    """Test and training accuracy, and percentiles (3, 100) of the last sigmoids' inputs."""
    x, y, x_test, y_test = (t[:2000] for t in images)
    test, train = accuracy(net, x_test, y_test), accuracy(net, x, y)
    with mg.no_grad():
        received = deepcopy(net[:-2])(x_test)  # as in training; a copy, so no statistic is moved
    return test, train, np.percentile(received.cpu().numpy(), [15, 50, 85], axis=0)


def train(bn: int, lr: float, sigma: float, seed: int, images: list[mg.Tensor], at: np.ndarray):
    """What ``observe`` saw at the steps ``at``: three arrays whose first axis is that of ``at``."""
    mg.manual_seed(seed)
    net = network(images[0].shape[1], bn, sigma).to(images[0].device)
    optimizer = optim.SGD(net.parameters(), lr=lr)
    seen = []
    for step, (inputs, labels) in enumerate(stream(*images[:2], 60)):
        if step in at:
            seen.append(observe(net, images))
        if step == at[-1]:
            return [np.array(column) for column in zip(*seen, strict=True)]
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()


def first(at: np.ndarray, right: np.ndarray, level: float) -> float:
    """The first step at which ``level`` is reached."""
    return float(at[np.argmax(right >= level)]) if (right >= level).any() else np.inf


def share(at: np.ndarray, plain: np.ndarray, normed: np.ndarray) -> float:
    """BN's part of the steps that the plain network needs for its own final accuracy."""
    end = plain[-3:].mean()
    return first(at, normed, end) / first(at, plain, end)


lab = Experiment(__doc__, image="mnist")
x, y, x_test, y_test = lab.load()
images = [(x > 0.5).float().flatten(1), y, (x_test > 0.5).float().flatten(1), y_test]
steps = 600 if lab.quick else 6700  # 50 epochs of 8,000 images; the paper's 50,000 are 50 of 60,000
at = np.unique([round(steps * (k / 60) ** 2) for k in range(61)])
rows = []
for lr, sigma in SETTINGS[1:2] if lab.quick else SETTINGS:
    plain, normed = ([train(n, lr, sigma, i, images, at) for i in lab.seeds] for n in (0, 1))
    pairs = list(zip(plain, normed, strict=True))
    shares = [np.median([share(at, p[which], n[which]) for p, n in pairs]) for which in (0, 1)]
    row, drifts = [lr, sigma], []
    for runs in plain, normed:
        drifts.append(np.array([np.ptp(run[2], axis=0).mean() for run in runs]))
        row += [spread([run[0][-3:].mean() for run in runs]), spread(drifts[-1], 2)]
        row.append(np.median([first(at, run[0], 0.85) for run in runs]))
    where = f"(lr {lr:g}, σ {sigma:g})"
    text = f"BN reaches the plain net's final test accuracy in a third of its steps {where}"
    parts = ["never" if np.isinf(s) else f"in {s:.2f}" for s in shares]
    rows.append([*row, *parts])
    number = f"{parts[0]}; its final training accuracy {parts[1]}"
    lab.claim(text, number, PAPER, shares[0] <= 1 / 3)
    less, text = drifts[0] / drifts[1], f"BN's percentiles drift at least 3 times less {where}"
    lab.claim(text, f"{spread(less, 1)} times", PAPER, less.mean() >= 3)

    with lab.figure(f"lr{lr}-sigma{sigma}", 9, 2.9) as fig:
        left, *pair = fig.subplots(1, 3)
        pair[1].sharey(pair[0])
        for runs, colour, name in (plain, BLUE, "without BN"), (normed, ORANGE, "with BN"):
            right = np.array([run[0] for run in runs])
            left.plot(at, right.mean(0), color=colour, label=name)
            left.fill_between(at, right.min(0), right.max(0), color=colour, alpha=0.2, lw=0)
            unit = np.argsort(np.ptp(runs[0][2], axis=0).mean(0))[50]  # it drifts middlingly
            axes = pair.pop(0)
            axes.plot(at, runs[0][2][:, :, unit], color=colour)
            axes.set(title=f"a last sigmoid's input, {name}", xlabel="step")
        left.set(title=f"test accuracy, lr {lr:g}, σ {sigma:g}", xlabel="step", ylim=(0, 1))
        left.legend(loc="lower right")

head = ["end, {}", "drift, {}", "steps to 85 %, {}"]
lab.table(
    ["lr", "σ", *(h.format(n) for n in ("plain", "BN") for h in head), "share, test", "training"],
    rows,
    "Test accuracy at the end; drift, the range of a percentile over the training (mean over "
    "percentiles and units); steps to 85 % (median); BN's share of the plain network's steps to "
    "its own final accuracy (median).",
)
lab.finish()
