"""Santurkar et al. 2018, section 3.3: normalization by other norms than the standard deviation.

Like BN it removes each channel's mean, but then divides by the channel's mean p-norm, which leaves
no fixed variance. If BN works by stable distributions, these should do worse.
"""

import numpy as np
from experiment import COLOURS, Experiment, spread, stream

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

PAPER = "Santurkar et al. 2018, section 3.3"


class LpNorm(nn.Module):
    """y = gamma (x - mean) / |x|_p + beta for each channel, |x|_p being a mean over the batch."""

    def __init__(self, channels: int, p: float):
        super().__init__()
        self.weight, self.bias = nn.Parameter(mg.ones(channels)), nn.Parameter(mg.zeros(channels))
        self.p = p

    def forward(self, input: mg.Tensor) -> mg.Tensor:
        size = input.abs()
        if self.p == np.inf:  # the largest of each sample, averaged over samples
            norm = size.amax((2, 3), keepdim=True).mean(0, keepdim=True)
        else:
            norm = (size**self.p).mean((0, 2, 3), keepdim=True) ** (1 / self.p)
        y = (input - input.mean((0, 2, 3), keepdim=True)) / (norm + 1e-5)
        return y * self.weight[:, None, None] + self.bias[:, None, None]


NORMS = {
    "plain": lambda channels: nn.Identity(),
    "BN": nn.BatchNorm2d,
    "L1": lambda channels: LpNorm(channels, 1),
    "L2": lambda channels: LpNorm(channels, 2),
    "L∞": lambda channels: LpNorm(channels, np.inf),
}


def network(norm: str) -> nn.Sequential:
    layers, inputs = [], x.shape[1]
    for i, channels in enumerate((16, 16, 32, 32)):
        layers.append(nn.Conv2d(inputs, channels, 3, padding=1))
        nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="relu")
        layers += [NORMS[norm](channels), nn.ReLU(), nn.MaxPool2d(2) if i % 2 else nn.Identity()]
        inputs = channels
    flat = inputs * (x.shape[2] // 4) * (x.shape[3] // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 10)).to(lab.device)


def run(norm: str, seed: int) -> tuple[list[float], list[float], float]:
    """The losses, the deviations of what the first norm puts out, and test accuracy."""
    mg.manual_seed(seed)
    net, losses = network(norm), []
    optimizer = optim.SGD(net.parameters(), lr=lr)
    for _, (inputs, labels) in zip(range(steps), stream(x, y, 64), strict=False):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with mg.no_grad():  # with the statistics of the test images: not every norm keeps running ones
        out = net[:2](x_test[:500]).transpose(0, 1).flatten(1)
        right = (net(x_test).argmax(1) == y_test).float().mean().item()
    return losses, out.std(1).tolist(), right


lab = Experiment(__doc__, image="cifar10")
x, y, x_test, y_test = lab.load()
x, x_test = (x - x.mean()) / x.std(), (x_test - x.mean()) / x.std()
if x.shape[-1] == 32:  # half as wide and high: four times as fast
    x, x_test = F.avg_pool2d(x, 2), F.avg_pool2d(x_test, 2)
steps, every, lr = (40, 20, 0.1) if lab.quick else (300, 20, 0.1)
losses, rows, ends, deviations = {}, [], {}, {}
for norm in NORMS:
    curves, spreads, right = zip(*(run(norm, seed) for seed in lab.seeds), strict=True)
    losses[norm] = np.array(curves).reshape(len(lab.seeds), -1, every).mean(2)
    ends[norm], deviations[norm] = losses[norm][:, -1], np.array(spreads)
    low, high = deviations[norm].min(1).mean(), deviations[norm].max(1).mean()
    rows.append([norm, spread(ends[norm]), spread(right), f"{low:.2f} to {high:.2f}"])
    lab.say(", ".join(rows[-1]))
head = ["network", "training loss", "test accuracy", "deviations after the first norm"]
lab.table(head, rows, f"SGD, lr {lr}, {steps} steps of 64.")
plain, bn, *others = (end.mean() for end in ends.values())
text = "dividing by another norm trains as well as BN (at most a tenth of its gain is lost)"
number = f"loss: plain {plain:.3f}, BN {bn:.3f}, L1, L2, L∞ " + ", ".join(
    f"{v:.3f}" for v in others
)
as_well = max(others) < bn + (plain - bn) / 10 if bn < plain else None
lab.claim(text, number, PAPER, as_well)
ranges = [(np.ptp(d, 1) / d.mean(1)).mean() for d in (deviations["BN"], deviations["L∞"])]
text = "although the channels' deviations are no longer the same"
number = "they differ by {:.0%} with BN, by {:.0%} with L∞".format(*ranges)
lab.claim(text, number, PAPER, ranges[1] > 2 * ranges[0])
with lab.figure("lpnorms", 6, 3) as fig:
    axes = fig.subplots()
    for (norm, curves), colour in zip(losses.items(), COLOURS, strict=False):
        at = every * np.arange(1, curves.shape[1] + 1)
        axes.plot(at, curves.mean(0), color=colour, label=norm)
        axes.fill_between(at, curves.min(0), curves.max(0), color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="step", ylabel="training loss")
    axes.legend()
lab.finish()
