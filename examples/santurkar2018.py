"""Santurkar et al. 2018: does batch normalization help by less covariate shift or a smoother loss?

A small VGG on CIFAR-10: plain, with BN, and with BN and noise that shifts every distribution each
step. Measured: internal covariate shift, and how the loss and its gradient vary down the gradient.
"""

import numpy as np
from experiment import BLUE, GREEN, ORANGE, Experiment, above, spread, stream

import minigrad as mg
from minigrad import inspect, nn, optim
from minigrad.nn import functional as F

PAPER = "Santurkar et al. 2018"


class NoisyBatchNorm(nn.BatchNorm2d):
    """BN, then a random shift and scale for each unit and step, and each sample near those."""

    def forward(self, input: mg.Tensor) -> mg.Tensor:
        y = super().forward(input)
        n, channels = y.shape[:2]
        shift = mg.rand(channels) - 0.5 + 0.2 * mg.rand(n, channels) - 0.1
        scale = 1 + 0.25 * mg.rand(channels) + 0.2 * mg.rand(n, channels) - 0.1
        return y * scale[..., None, None].to(y.device) + shift[..., None, None].to(y.device)


NORMS = {"plain": nn.Identity, "BN": nn.BatchNorm2d, "noisy BN": NoisyBatchNorm}


def network(norm: str) -> nn.Sequential:
    layers, inputs = [], x.shape[1]
    for i, channels in enumerate((16, 16, 32, 32)):
        layers.append(nn.Conv2d(inputs, channels, 3, padding=1))
        nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="relu")
        layers += [NORMS[norm](channels), nn.ReLU(), nn.MaxPool2d(2) if i % 2 else nn.Identity()]
        inputs = channels
    flat = inputs * (x.shape[2] // 4) * (x.shape[3] // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 10)).to(lab.device)


def measure(net: nn.Module, batch: list[mg.Tensor]) -> list[float]:
    """Over steps of 1/2 to 4 lr down the gradient, the range of the loss, the largest change of the
    gradient and of that over the distance; and the covariate shift of the last layer, 1 - cosine.
    """

    def loss() -> mg.Tensor:
        return F.cross_entropy(net(batch[0]), batch[1])

    steps = [lr * factor for factor in (0.5, 1, 2, 4)]
    return [
        inspect.loss_variation(net, loss, steps).width,
        inspect.gradient_predictiveness(net, loss, steps).largest,
        inspect.smoothness(net, loss, steps),
        1 - inspect.covariate_shift(net, loss, lr=lr)[-1].cosine,
    ]


def run(norm: str, seed: int) -> tuple[list[float], list[list[float]]]:
    """The losses of a training, and what was measured every ``every`` steps."""
    mg.manual_seed(seed)
    net, losses, seen = network(norm), [], []
    optimizer = optim.SGD(net.parameters(), lr=lr)
    for step, batch in zip(range(steps), stream(x, y, 64), strict=False):
        if step % every == every - 1:
            seen.append(measure(net, batch))
        optimizer.zero_grad()
        loss = F.cross_entropy(net(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, seen


lab = Experiment(__doc__, image="cifar10")
x, y, *_ = lab.load()
x = (x - x.mean()) / x.std()
x = F.avg_pool2d(x, 2) if x.shape[-1] == 32 else x  # half as wide and high: four times as fast
steps, every, lr = (40, 20, 0.1) if lab.quick else (500, 50, 0.1)
loss, figures, rows = {}, {}, []
for norm in NORMS:
    runs = [run(norm, seed) for seed in lab.seeds]
    loss[norm], figures[norm] = (np.array(part) for part in zip(*runs, strict=True))
    ends = loss[norm][:, -every:].mean(1)
    rows.append([norm, spread(ends), *(spread(v, 2) for v in figures[norm].mean(1).T)])
    lab.say(", ".join(rows[-1]))
head = ["network", "loss at the end", "loss range", "gradient change", "smoothness", "shift"]
lab.table(head, rows, f"SGD, lr {lr}, {steps} steps of 64; measures: means over the training.")
plain, bn, noisy = (loss[norm][:, -every:].mean(1) for norm in NORMS)
for name, ends in (
    ("BN helps", bn),
    ("BN helps even if noise shifts its outputs at every step", noisy),
):
    number, ahead = above(plain - ends, "in loss ahead of the plain network")
    lab.claim(name, number, f"B1: {PAPER}, figure 2", ahead)
a, b = (figures[norm].mean((0, 1)) for norm in ("plain", "BN"))
number = f"1 - cosine: plain {a[3]:.3f}, BN {b[3]:.3f}"
lab.claim("BN does not lessen covariate shift", number, f"B1: {PAPER}, figure 3", b[3] > 0.9 * a[3])
for i, name in enumerate(("loss varies less", "gradient changes less", "loss is smoother")):
    number, text = f"plain {a[i]:.2f}, BN {b[i]:.2f}", f"with BN the {name} down the gradient"
    lab.claim(text, number, f"W10: {PAPER}, figure 4", b[i] < a[i])

with lab.figure("santurkar2018", 9, 2.9) as fig:
    at, (left, *others) = every * np.arange(1, steps // every + 1), fig.subplots(1, 3)
    for norm, colour in zip(NORMS, (BLUE, ORANGE, GREEN), strict=True):
        curves = loss[norm].reshape(-1, len(at), every).mean(2), *figures[norm].T[2:].swapaxes(1, 2)
        for axes, curve in zip((left, *others), curves, strict=True):
            axes.plot(at, curve.mean(0), color=colour, label=norm)
            axes.fill_between(at, curve.min(0), curve.max(0), color=colour, alpha=0.2, lw=0)
    left.set(title="training loss", xlabel="step")
    left.legend()
    others[0].set(title="smoothness (low is smooth)", xlabel="step", yscale="log")
    others[1].set(title="covariate shift", xlabel="step", yscale="log")
lab.finish()
