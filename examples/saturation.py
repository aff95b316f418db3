"""Saturated sigmoids, vanishing gradients, and what batch normalization does about them.

First in numbers: how much slope a sigmoid has where its input is N(-6, 1) and where it is N(0, 1).
Then in networks of 30 sigmoid layers: the gradient of each layer's weights before the first step,
without and with batch normalization, and whether the networks learn.
"""

from math import erf, pi, sqrt

import numpy as np
from experiment import BLUE, GREEN, ORANGE, Experiment, accuracy, spread, train

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

NOTES = "posts on batch normalization"  # W1, W2, W3: what many introductions to it say
DEPTH, UNITS = 30, 50


def slope(mean: float) -> float:
    """The mean of the sigmoid's derivative where its input is N(mean, 1): by autograd."""
    x = (mg.randn(1_000_000, dtype=mg.float64) + mean).requires_grad_()
    F.sigmoid(x).sum().backward()
    return x.grad.mean().item()


def network(inputs: int, bn: bool) -> nn.Sequential:
    layers = []
    for _ in range(DEPTH):
        layers.append(nn.Linear(inputs, UNITS, bias=not bn))
        nn.init.xavier_normal_(layers[-1].weight)
        layers += [nn.BatchNorm1d(UNITS), nn.Sigmoid()] if bn else [nn.Sigmoid()]
        inputs = UNITS
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def gradient_norms(net: nn.Sequential, x: mg.Tensor, y: mg.Tensor) -> np.ndarray:
    """The norm of the loss' gradient with respect to each hidden layer's weights."""
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    hidden = [m for m in net if isinstance(m, nn.Linear)][:-1]
    return np.array([m.weight.grad.norm().item() for m in hidden])


def normal(x: np.ndarray, mean: float, var: float) -> np.ndarray:
    return np.exp(-((x - mean) ** 2) / (2 * var)) / sqrt(2 * pi * var)


lab = Experiment(__doc__, image="mnist")
x, y, x_test, y_test = lab.load()
x, x_test = x.flatten(1), x_test.flatten(1)

mg.manual_seed(0)
far, near = slope(-6), slope(0)
lab.claim("0.9 thirty times over is 0.04", f"{0.9**DEPTH:.4f}", f"W1, {NOTES}", 0.9**30 < 0.045)
lab.claim(
    "a sigmoid's mean slope at N(-6, 1) is a fraction of that at N(0, 1)",
    f"{far:.4f} against {near:.4f}: {near / far:.1f} times less",
    f"W2, {NOTES}",
    near / far > 50,
)
inside = erf(2 / sqrt(2))
text = "95 % of N(-6, 1) are in [-8, -4]"
lab.claim(text, f"{inside:.2%}", f"W2, {NOTES}", abs(inside - 0.95) < 0.006)

first = {False: [], True: []}
for seed in lab.seeds:
    for bn in first:
        mg.manual_seed(seed)
        net = network(x.shape[1], bn).to(lab.device)
        first[bn].append(gradient_norms(net, x[:256], y[:256]))
plain, normed = (np.array(first[bn]) for bn in (False, True))
rows = []
for name, norms in ("without BN", plain), ("with BN", normed):
    per_layer = (norms[:, 1] / norms[:, -1]) ** (1 / (DEPTH - 2))
    rows.append([name, *norms[:, [0, 1, 14, -1]].mean(0), spread(per_layer)])
head = ["network", "layer 1", "layer 2", "layer 15", f"layer {DEPTH}", "factor a layer"]
lab.table(head, rows, "Norms of the weights' gradients before training, means over the seeds.")
kept, kept_bn = (np.median(norms[:, 0] / norms[:, -1]) for norms in (plain, normed))
text = "without BN the gradient of a deep sigmoid network vanishes towards the input"
lab.claim(text, f"layer 1 has {kept:.1e} of layer {DEPTH}'s", f"W1, {NOTES}", kept < 1e-3)
text = "with BN it neither vanishes nor explodes"
lab.claim(text, f"{kept_bn:.3g} of it", f"W2, {NOTES}", 0.01 < kept_bn < 100)

steps, right = 100 if lab.quick else 600, {False: [], True: []}
for seed in lab.seeds:
    for bn in right:
        mg.manual_seed(seed)
        net = network(x.shape[1], bn).to(lab.device)
        train(net, optim.SGD(net.parameters(), lr=0.1), x, y, steps)
        right[bn].append(accuracy(net, x_test, y_test))
        lab.say(f"seed {seed}, BN {bn}: test accuracy {right[bn][-1]:.3f} after {steps} steps")
rows = [[name, spread(right[bn])] for name, bn in (("without BN", False), ("with BN", True))]
lab.table(["network", "test accuracy"], rows, f"After {steps} steps of SGD, lr 0.1, batches of 64.")
lab.claim(
    f"with BN {DEPTH} layers of sigmoids can be trained, without they cannot",
    f"test accuracy {spread(right[True])} against {spread(right[False])}",
    f"W1, {NOTES}",
    min(right[True]) > 0.5 > 0.2 > max(right[False]),
)

with lab.figure("saturation", 9, 3) as fig:
    left, other = fig.subplots(1, 2)
    z = np.linspace(-10, 5, 400)
    sigmoid = 1 / (1 + np.exp(-z))
    left.plot(z, sigmoid, color=GREEN, label="sigmoid")
    left.plot(z, sigmoid * (1 - sigmoid), "--", color=GREEN, label="its slope")
    for mean, var, colour in (-6, 1, BLUE), (-2, 0.5, "#888888"), (0, 1, ORANGE):
        left.fill_between(z, normal(z, mean, var), color=colour, alpha=0.35, lw=0)
        left.annotate(f"N({mean}, {var:g})", (mean, normal(mean, mean, var) + 0.02), ha="center")
    left.set(title="where the inputs lie", xlabel="input of the sigmoid", ylim=(0, 1.05))
    left.legend(loc="upper left")
    depth = np.arange(1, DEPTH + 1)
    for norms, colour, name in (plain, BLUE, "without BN"), (normed, ORANGE, "with BN"):
        other.semilogy(depth, norms.T, "o-", ms=2.5, lw=0.8, color=colour)
        other.plot([], [], color=colour, label=name)
    other.set(title="norm of the weights' gradient before training", xlabel="layer")
    other.legend(loc="center right")
lab.finish()
