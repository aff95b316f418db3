"""What batch normalization tolerates: learning rates, first weights, and doing without Dropout.

First a grid: which multilayer perceptrons learn, over learning rates and scales of the first
weights? Then networks that learn a few images by heart, with and without BN and Dropout, and with
several batch sizes: how good are they at the test images?
"""

import numpy as np
from experiment import Experiment, above, accuracy, spread, train

import minigrad as mg
from minigrad import nn, optim

PAPER = "Ioffe and Szegedy 2015, sections 3.3, 3.4 and 4.2.1"
RATES, SCALES = [0.001, 0.01, 0.1, 1.0, 10.0], [0.01, 0.1, 1.0, 3.0, 10.0]


def network(inputs: int, bn: bool, scale: float = 1.0, dropout: float = 0.0, layers: int = 3):
    """ReLU layers of 100 units, their first weights He's times ``scale``."""
    parts = []
    for _ in range(layers):
        parts.append(nn.Linear(inputs, 100, bias=not bn))
        nn.init.kaiming_normal_(parts[-1].weight, nonlinearity="relu")
        with mg.no_grad():
            parts[-1].weight.mul_(scale)
        parts += [nn.BatchNorm1d(100)] * bn + [nn.ReLU()] + [nn.Dropout(dropout)] * (dropout > 0)
        inputs = 100
    return nn.Sequential(*parts, nn.Linear(inputs, 10)).to(lab.device)


lab = Experiment(__doc__, image="mnist")
x, y, x_test, y_test = lab.load()
x, x_test = x.flatten(1), x_test.flatten(1)

steps = 60 if lab.quick else 250
rates, scales = (RATES[2:4], SCALES[::2]) if lab.quick else (RATES, SCALES)
grid = {bn: np.zeros((len(lab.seeds), len(scales), len(rates))) for bn in (False, True)}
for seed in lab.seeds:
    for bn, results in grid.items():
        for i, scale in enumerate(scales):
            for j, lr in enumerate(rates):
                mg.manual_seed(seed)
                net = network(x.shape[1], bn, scale)
                with np.errstate(all="ignore"):  # some of these diverge: that is the question
                    train(net, optim.SGD(net.parameters(), lr=lr), x, y, steps)
                    results[seed, i, j] = accuracy(net, x_test, y_test)
    lab.say(f"seed {seed}: {steps} steps at each of {len(scales)} x {len(rates)} places")
learns = {bn: results.mean(0) > 0.7 for bn, results in grid.items()}
top = {bn: max(np.array(rates)[ok.any(0)], default=0) for bn, ok in learns.items()}
text, number = "BN allows larger learning rates", f"up to {top[True]:g} against {top[False]:g}"
lab.claim(text, number, f"W5: {PAPER}", top[True] > top[False])
wide = {bn: int(ok.sum(0).max()) for bn, ok in learns.items()}
number = f"at its best rate {wide[True]} of {len(scales)} scales learn, without BN {wide[False]}"
lab.claim("with BN the first weights matter less", number, f"W5: {PAPER}", wide[True] > wide[False])

few, few_steps = (400, 200) if lab.quick else (1000, 1000)
cases = [(bn, p, 50) for bn in (False, True) for p in (0.0, 0.2, 0.5)]
cases += [(True, 0.0, size) for size in ((200,) if lab.quick else (10, 200, 1000))]
rows, test, gap = [], {}, {}
for case in cases:
    bn, p, size = case
    known, test[case] = [], []
    for seed in lab.seeds:
        mg.manual_seed(seed)
        net = network(x.shape[1], bn, dropout=p)
        train(net, optim.SGD(net.parameters(), lr=0.1), x[:few], y[:few], few_steps, size)
        known.append(accuracy(net, x[:few], y[:few]))
        test[case].append(accuracy(net, x_test, y_test))
    gap[case] = np.subtract(known, test[case])
    name = f"{'with' if bn else 'without'} BN, Dropout {p:g}, batches of {size}"
    rows.append([name, spread(known), spread(test[case]), spread(gap[case])])
    lab.say(", ".join(rows[-1]))
head = ["network", "training accuracy", "test accuracy", "gap"]
lab.table(head, rows, f"{few} training images, {few_steps} steps of SGD, lr 0.1.")


def ahead(a: tuple, b: tuple) -> tuple[str, bool | None]:
    """By how much a's test accuracy is above b's, and whether it surely is."""
    return above(100 * np.subtract(test[a], test[b]), "points of test accuracy")


plain, normed = (False, 0.0, 50), (True, 0.0, 50)
both = max(cases[4:6], key=lambda case: np.mean(test[case]))
number, more = ahead(normed, plain)
lab.claim("BN alone regularizes", number, f"W7: {PAPER}", more)
number, more = ahead(both, normed)
nothing = None if more is None else not more
lab.claim("with BN, Dropout brings nothing more", number, f"W7: {PAPER}", nothing)
sizes = sorted(size for bn, p, size in cases if bn and p == 0)
number, less = ahead((True, 0.0, sizes[0]), (True, 0.0, sizes[-1]))
text = f"BN regularizes less with larger batches ({sizes[0]} against {sizes[-1]} images)"
lab.claim(text, number, "W7: Ng, Improving deep neural networks, week 3, 3.6", less)

with lab.figure("tolerance", 8, 3.2) as fig:
    for (bn, results), axes in zip(grid.items(), fig.subplots(1, 2), strict=True):
        axes.imshow(
            results.mean(0), vmin=0.1, vmax=1, cmap="cividis", origin="lower", aspect="auto"
        )
        for (i, j), value in np.ndenumerate(results.mean(0)):
            colour = "black" if value > 0.6 else "white"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set(title=f"test accuracy, {'with' if bn else 'without'} BN", xlabel="learning rate")
        axes.set(xticks=range(len(rates)), xticklabels=rates, ylabel="scale of the first weights")
        axes.set(yticks=range(len(scales)), yticklabels=scales)
        axes.grid(visible=False)
lab.finish()
