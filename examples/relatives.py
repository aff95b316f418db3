"""Batch normalization and its relatives: before or after the activation, and at which batch sizes.

A small convolutional network with Batch, Layer, Instance or Group normalization or none, trained on
the same number of images in batches of 1 to 128; then with BN before and after its activations.
"""

import numpy as np
from experiment import Experiment, accuracy, spread, train

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

NORMS = {
    "Batch": nn.BatchNorm2d,
    "Layer": lambda channels: nn.GroupNorm(1, channels),  # over all of a sample, gamma by channel
    "Group": lambda channels: nn.GroupNorm(4, channels),
    "Instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "none": None,
}


def convolutional(norm: str, after: bool = False) -> nn.Sequential:
    """Two convolutions, normalized before the activation or after it, and a Linear layer."""
    layers, inputs = [], x.shape[1]
    for channels in 8, 16:
        layers.append(nn.Conv2d(inputs, channels, 3, padding=1, bias=norm == "none"))
        normalize = [NORMS[norm](channels)] if NORMS[norm] else []
        layers += [nn.ReLU(), *normalize] if after else [*normalize, nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = channels
    flat = inputs * (x.shape[2] // 4) * (x.shape[3] // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 10)).to(lab.device)


def perceptron(norm: str) -> nn.Sequential:
    """Two layers of 64: here a batch of N gives a feature N values to average, no more."""
    layers, inputs = [nn.Flatten()], x[0].numel()
    for _ in range(2):
        layers.append(nn.Linear(inputs, 64, bias=norm == "none"))
        layers += {"Batch": [nn.BatchNorm1d(64)], "Layer": [nn.LayerNorm(64)], "none": []}[norm]
        layers.append(nn.ReLU())
        inputs = 64
    return nn.Sequential(*layers, nn.Linear(64, 10)).to(lab.device)


def score(net: nn.Module, size: int, images: int) -> float:
    """Test accuracy after ``images`` images; the learning rate is in proportion to the batch."""
    train(net, optim.SGD(net.parameters(), lr=0.1 * size / 32), x, y, images // size, size)
    return accuracy(net, x_test, y_test)


lab = Experiment(__doc__, image="mnist")
x, y, x_test, y_test = lab.load()
if x.shape[-1] > 16:  # half as wide and high: four times as fast
    x, x_test = F.avg_pool2d(x, 2), F.avg_pool2d(x_test, 2)

sizes = (4, 64) if lab.quick else (1, 2, 4, 8, 16, 32, 64, 128)
images, columns, results = 512 if lab.quick else 2048, ["network", *map(str, sizes)], {}
for make, norms in (convolutional, NORMS), (perceptron, ("Batch", "Layer", "none")):
    for norm in norms:
        for size in sizes:
            scores = results[make, norm, size] = []
            for seed in lab.seeds:
                mg.manual_seed(seed)
                refused = (make, norm, size) == (perceptron, "Batch", 1)  # one value per channel
                scores.append(np.nan if refused else score(make(norm), size, images))
        lab.say(f"{make.__name__}, {norm}: done")
names = [(make, norm) for make, norm, size in results if size == sizes[0]]
rows = [[f"{m.__name__}, {n}", *(spread(results[m, n, s]) for s in sizes)] for m, n in names]
lab.table(columns, rows, f"Test accuracy after {images} training images, by batch size.")


def ahead(norm: str, other: str, size: int, make=convolutional) -> np.ndarray:
    """By how many points of test accuracy a norm is ahead of another, seed by seed."""
    return 100 * np.subtract(results[make, norm, size], results[make, other, size])


small, large = (4, 64) if lab.quick else (2, 32)
few, many = (ahead("Batch", "Layer", size, perceptron) for size in (small, large))
text = f"small batches are bad for BN: perceptron, batches of {small} and of {large}"
number = f"{spread(few, 1)} and {spread(many, 1)} points ahead of LayerNorm"
lab.claim(text, number, "B18: X. Qiu's book, 7.5", few.mean() < 0 < many.mean())
few, many = (ahead("Batch", "Group", size) for size in (sizes[0], large))
text = f"GroupNorm is better than BN at small batches ({sizes[0]}), not at large ({large})"
number = f"BN is {spread(few, 1)} and {spread(many, 1)} points ahead"
lab.claim(text, number, "Wu and He 2018, figure 1", few.mean() < 0 < many.mean())

hidden = nn.Linear(x[0].numel(), 64)(x.flatten(1)).detach()
ratio = []  # of the variance of the means of batches to variance / m
for m in sizes[1:]:
    picks = mg.randint(0, len(x), (2000, m)).to(lab.device)
    ratio.append((hidden[picks].mean(1).var(0) * m / hidden.var(0)).mean().item())
text = "the variance of a batch's mean is that of the data over m"
number = f"{min(ratio):.2f} to {max(ratio):.2f} of it, m from {sizes[1]} to {sizes[-1]}"
lab.claim(text, number, "B18", 0.9 < min(ratio) <= max(ratio) < 1.1)

before, behind, images = [], [], 1024 if lab.quick else 16_000
for seed in lab.seeds:
    for after, scores in (False, before), (True, behind):
        mg.manual_seed(seed)
        scores.append(score(convolutional("Batch", after), 32, images))
rows = [["before", spread(before, 4)], ["after", spread(behind, 4)]]
lab.table(["BN before or after ReLU", "test accuracy"], rows, f"After {images} images.")
text = "BN before or after the activation makes little difference (less than a point)"
difference = 100 * np.subtract(behind, before)
number = f"after - before: {spread(difference, 2)} points"
lab.claim(text, number, "B11: H.-y. Lee's slides", abs(difference.mean()) < 1)

with lab.figure("relatives", 8, 3.2) as fig:
    for make, axes in zip((convolutional, perceptron), fig.subplots(1, 2), strict=True):
        for norm in [n for m, n in names if m is make]:
            scores = np.array([results[make, norm, size] for size in sizes])
            axes.errorbar(sizes, scores.mean(1), scores.std(1, ddof=1), fmt="o-", ms=3, label=norm)
        axes.set(title=make.__name__, xlabel="batch size", ylabel="test accuracy", xscale="log")
        axes.minorticks_off()
        axes.set_xticks(sizes, sizes)
        axes.legend(loc="center")
lab.finish()
