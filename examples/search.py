"""Hyperparameter search: random against grid, on a log scale, coarse to fine, and with Optuna.

A perceptron learns for some dozen steps of Adam; its learning rate, 1 - beta1 and hidden units are
to be found in 27 trials, each of which trains a network. Needs Optuna.
"""

import numpy as np
from experiment import BLUE, COLOURS, ORANGE, Experiment, above, accuracy, spread, train

import minigrad as mg
from minigrad import nn, optim

try:
    import optuna
except ModuleNotFoundError:
    raise SystemExit('this experiment needs Optuna: pip install "minigrad[search]".') from None

NG, BERGSTRA = "A. Ng, Improving deep neural networks", "Bergstra and Bengio 2012"
NAMES = "learning rate", "1 - beta1", "hidden units"
LOW, HIGH = np.array([1e-4, 1e-3, 8]), np.array([1, 1, 128])


def settings(u: np.ndarray, log: bool = True) -> np.ndarray:
    """A point of the unit cube as settings, on log scales or on linear ones."""
    return LOW * (HIGH / LOW) ** u if log else LOW + (HIGH - LOW) * u


def score(values: np.ndarray, seed: int) -> float:
    """Test accuracy with these settings."""
    mg.manual_seed(seed)
    rate, forget, units = values
    hidden = nn.Linear(x.shape[1], round(units))
    net = nn.Sequential(hidden, nn.ReLU(), nn.Linear(round(units), 10)).to(lab.device)
    optimizer = optim.Adam(net.parameters(), lr=rate, betas=(1 - forget, 0.999))
    train(net, optimizer, x, y, steps)
    return accuracy(net, x_test, y_test)


def grid(rng: np.random.Generator, seed: int) -> list[float]:
    """Every combination of ``side`` values of each, on log scales."""
    axis = (np.arange(side) + 0.5) / side
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    return [score(settings(u), seed) for u in rng.permutation(points)]


def linear(rng: np.random.Generator, seed: int) -> list[float]:
    return [score(settings(rng.random(3), log=False), seed) for _ in range(trials)]


def random(rng: np.random.Generator, seed: int) -> list[float]:
    points = rng.random((trials, 3))
    found = [score(settings(u), seed) for u in points]
    tried.extend(zip(points, found, strict=True))
    return found


def coarse_to_fine(rng: np.random.Generator, seed: int) -> list[float]:
    """Half of the trials anywhere, half in the cube of side 0.3 around the best of them."""
    points = rng.random((trials // 2, 3))
    found = [score(settings(u), seed) for u in points]
    near = points[np.argmax(found)] + rng.uniform(-0.15, 0.15, (trials - len(points), 3))
    return found + [score(settings(u), seed) for u in np.clip(near, 0, 1)]


def tpe(rng: np.random.Generator, seed: int) -> list[float]:
    """Optuna's tree-structured Parzen estimator."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)))
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        return score(settings(np.array([trial.suggest_float(n, 0, 1) for n in NAMES])), seed)

    study.optimize(objective, n_trials=trials)
    return [trial.value for trial in study.trials]


lab = Experiment(__doc__, seeds=10, image="mnist")
x, y, x_test, y_test = lab.load()
x, x_test, y_test = x.flatten(1), x_test[:500].flatten(1), y_test[:500]  # to choose by
steps, side = (30, 2) if lab.quick else (60, 3)
trials, tried, best = side**3, [], {}
for search in grid, linear, random, coarse_to_fine, tpe:
    runs = [search(np.random.default_rng(seed), seed) for seed in lab.seeds]
    best[search.__name__] = np.maximum.accumulate(runs, axis=1)
    lab.say(f"{search.__name__}: {spread(best[search.__name__][:, -1])}")
ends = {name: b[:, -1] for name, b in best.items()}
rows = [[n, spread(b[:, trials // 3]), spread(b[:, -1])] for n, b in best.items()]
head = ["search", f"best of {trials // 3 + 1}", f"best of {trials}"]
lab.table(head, rows, "Test accuracy of the best network found, by trials.")


for text, one, other, source in (
    ("random search finds better than a grid", "random", "grid", f"O12: {BERGSTRA}, {NG}, 3.1"),
    ("scales of rates must be logarithmic", "random", "linear", f"O13: {NG}, 3.2"),
    ("coarse to fine is better still", "coarse_to_fine", "random", f"O12: {NG}, 3.1"),
    ("a model of the results is better still", "tpe", "random", "Optuna's documentation"),
):
    number, better = above(100 * (ends[one] - ends[other]), "points")
    lab.claim(text, f"{one} - {other}: {number}", source, better)
points, found = (np.array(part) for part in zip(*tried, strict=True))
fifths = np.minimum((points * 5).astype(int), 4)
explained = []  # the share of the variance that the means of a setting's fifths explain
for fifth in fifths.T:
    means = {k: found[fifth == k].mean() for k in set(fifth)}
    explained.append(np.var([means[k] for k in fifth]) / found.var())
number = ", ".join(f"{name} {share:.0%}" for name, share in zip(NAMES, explained, strict=True))
lab.claim("the learning rate matters most", number, f"O11: {NG}, 3.1", np.argmax(explained) == 0)

with lab.figure("search", 9, 2.9) as fig:
    *pair, last = fig.subplots(1, 3)
    for axes, i in zip(pair, (0, 2), strict=True):
        axes.plot(settings(points)[:, i], found, ".", ms=3, color=(BLUE, None, ORANGE)[i])
        axes.set(title=f"random search: {NAMES[i]}", ylabel="test accuracy", xscale="log")
    for (name, b), colour in zip(best.items(), COLOURS, strict=False):
        last.plot(np.arange(1, trials + 1), b.mean(0), color=colour, label=name)
    floor = min(b.mean(0)[trials // 4] for b in best.values())
    last.set(title="best so far", xlabel="trial", ylim=(floor, None))
    last.legend(fontsize=7)
lab.finish()
