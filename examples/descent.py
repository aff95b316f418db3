"""Six ways down four surfaces: SGD, the forms of Momentum, RMSprop and Adam.

Each optimizer with the best of a row of learning rates, and the steps it takes. Then the forms of
Momentum, noise at a saddle, and the place of RMSprop's eps.
"""

from functools import partial

import numpy as np
from experiment import COLOURS, Experiment

import minigrad as mg
from minigrad import optim

NG = "A. Ng, Improving deep neural networks"
SURFACES = {  # the loss of w, where to start, and the loss at which we are through
    "bowl": (lambda w: (w[0] ** 2 + w[1] ** 2) / 2, (2.0, 1.5), 1e-3),
    "ravine": (lambda w: (w[0] ** 2 + 100 * w[1] ** 2) / 2, (2.0, 1.5), 1e-3),
    "saddle": (lambda w: (w[0] ** 2 - w[1] ** 2) / 2, (2.0, 1e-3), -1.0),
    "plateau": (lambda w: 1 - (-(w[0] ** 2 + w[1] ** 2) / 2).exp(), (2.8, 2.2), 1e-2),
}
OPTIMIZERS = {
    "SGD": optim.SGD,
    "Momentum": optim.Momentum,
    "Momentum, ema": partial(optim.Momentum, form="ema"),
    "Momentum, velocity": partial(optim.Momentum, form="velocity"),
    "RMSprop": partial(optim.RMSprop, alpha=0.9),
    "Adam": optim.Adam,
}


def descend(surface: str, make, lr: float, steps: int, noise: float = 0, cut: int = -1):
    """The path, and after how many steps we are through for good; at step ``cut`` lr /= 10."""
    loss, start, level = SURFACES[surface]
    w = mg.tensor(start, requires_grad=True, dtype=mg.float64)
    optimizer, path, done = make([w], lr=lr), [start], []
    for step in range(steps):
        optimizer.zero_grad()
        value = loss(w)
        value.backward()
        done.append(value.item() < level)
        if np.abs(path[-1]).max() > 3:  # out of the picture, the right way or the wrong
            break
        w.grad += noise * mg.randn_like(w) if noise else 0
        optimizer.param_groups[0]["lr"] /= 10 if step == cut else 1
        optimizer.step()
        path.append(w.tolist())
    return np.array(path), (len(done) - np.argmin(done[::-1]) if done[-1] else np.inf)


lab = Experiment(__doc__, seeds=20)
limit, rates = (300, np.logspace(-2, 0, 5)) if lab.quick else (1000, np.logspace(-3, 1, 25))
best = {}
for surface in SURFACES:
    for name, make in OPTIMIZERS.items():
        runs = [(*descend(surface, make, lr, limit), lr) for lr in rates]
        best[surface, name] = min(runs, key=lambda run: run[1])
steps = {key: run[1] for key, run in best.items()}
shown = {key: f"{n:.0f}" if np.isfinite(n) else f"over {limit}" for key, n in steps.items()}
rows = [[n, *(f"{shown[s, n]} (lr {best[s, n][2]:.3g})" for s in SURFACES)] for n in OPTIMIZERS]
caption = "Steps to losses of 0.001, 0.001, -1 and 0.01, with the best learning rate."
lab.table(["optimizer", *SURFACES], rows, caption)


for text, surface, slow, fast, source in (
    ("momentum is faster along a ravine", "ravine", "SGD", "Momentum", "O4: {}, 2.6"),
    ("RMSprop damps oscillation across a ravine", "ravine", "SGD", "RMSprop", "O6: {}, 2.7"),
    ("Adam unites both", "ravine", "RMSprop", "Adam", "O7: {}, 2.8"),
    ("adaptive steps cross plateaus", "plateau", "SGD", "Adam", "O9: {}, 2.10"),
    ("momentum leaves a saddle sooner", "saddle", "SGD", "Momentum", "O9: {}, 2.10"),
):
    number = f"{surface}: {slow} {shown[surface, slow]} steps, {fast} {shown[surface, fast]}"
    faster = steps[surface, fast] < steps[surface, slow]
    lab.claim(text, number, source.format(NG), faster)


def apart(form: str, ratio: float, cut: int) -> float:
    """How far the path of a form of Momentum parts from plain Momentum's in 60 steps."""
    forms = ("Momentum", 0.002), (form, 0.002 * ratio)
    a, b = (descend("ravine", OPTIMIZERS[name], lr, 60, cut=cut)[0] for name, lr in forms)
    return np.abs(a - b).max()


same = [apart("Momentum, ema", 10, cut) for cut in (-1, 30)]
parted = [apart("Momentum, velocity", 1, cut) for cut in (-1, 30)]
text = "v = β v + (1-β) g is v = β v + g with a tenth of the rate (β 0.9)"
lab.claim(text, f"paths differ by {max(same):.0e}", f"O5: {NG}, 2.6", max(same) < 1e-9)
text = "whether lr stands inside the velocity makes no difference"
number = f"paths differ by {parted[0]:.0e}; by {parted[1]:.2f} when lr is cut"
lab.claim(text, number, "O5: Sutskever et al. 2013 against PyTorch", max(parted) < 1e-9)

SURFACES["0"] = (SURFACES["saddle"][0], (0.0, 0.0), -1.0)
still = descend("0", optim.SGD, 0.1, limit)[1]
kicked = [descend("0", optim.SGD, 0.1, limit, noise=0.01)[1] for _ in lab.seeds]
text = "the noise of mini-batches kicks off saddles"
number = (
    f"from x = y = 0: {np.median(kicked):.0f} steps with noise of 0.01, without it over {limit}"
)
lab.claim(text, number, f"O10: {NG}, 2.10", max(kicked) < still)

first = {}
for inside in (False, True):
    w = mg.zeros(1, requires_grad=True)
    w.grad = mg.full((1,), 1e-4)
    optim.RMSprop([w], lr=0.01, alpha=0.9, eps=1e-7, eps_inside_sqrt=inside).step()
    first[inside] = -w.item()
text = "eps may stand inside RMSprop's root or outside"
number = f"eps 1e-7, gradient 1e-4: first step {first[True]:.4f} inside, {first[False]:.4f} outside"
lab.claim(text, number, "O6: Keras, PyTorch", first[True] > 0.99 * first[False])

with lab.figure("descent", 9, 5.4) as fig:
    for surface, axes in zip(list(SURFACES)[:4], fig.subplots(2, 2).flat, strict=True):
        x, y = np.meshgrid(np.linspace(-3, 3, 40), np.linspace(-3, 3, 40))
        z = SURFACES[surface][0](mg.tensor(np.stack([x, y]))).numpy()
        axes.contour(x, y, z, 10, colors="#888888", linewidths=0.5)
        for name, colour in zip(OPTIMIZERS, COLOURS, strict=True):
            axes.plot(*best[surface, name][0][:200].T, lw=0.9, color=colour, label=name)
        axes.set(title=surface, xlim=(-3, 3), ylim=(-2.5, 2.5))
    axes.legend(fontsize=7, loc="lower left")
lab.finish()
