"""Error surfaces: what normalized features do to them, and where minima, saddles and slopes are.

The loss of a linear model of two features, raw and standardized: its curvatures are the eigenvalues
of H = X^T X / m, gradient descent is stable up to lr = 2 / the largest, and takes steps by their
ratio, the condition number. Then what a saddle is, and how rare a minimum.
"""

import numpy as np
from experiment import BLUE, ORANGE, Experiment

import minigrad as mg
from minigrad import optim
from minigrad.data import Standardize

NG, LEE = "A. Ng's course", "H.-y. Lee's slides"


def descend(x: mg.Tensor, y: mg.Tensor, lr: float, steps: int) -> np.ndarray:
    """The weights (steps + 1, 2) on gradient descent's way from (2.5, 2.5)."""
    w = mg.full((2,), 2.5, dtype=mg.float64, requires_grad=True)
    optimizer, path = optim.SGD([w], lr=lr), [w.tolist()]
    for _ in range(steps):
        optimizer.zero_grad()
        (((x @ w - y) ** 2).mean() / 2).backward()
        optimizer.step()
        path.append(w.tolist())
    return np.array(path)


lab = Experiment(__doc__)
steps, rows, walks = 200 if lab.quick else 2000, [], {}
for name in "raw", "standardized":
    counts = []
    for seed in lab.seeds:
        mg.manual_seed(seed)
        features = mg.stack([mg.rand(200) * 2 - 0.5, mg.rand(200) * 8 - 3], 1).double()
        x = features if name == "raw" else Standardize().fit(features)(features)
        best = np.array([1.0, 0.5])
        y = x @ mg.tensor(best)
        low, high = np.linalg.eigvalsh((x.T @ x / len(x)).numpy())
        path = descend(x, y, 2 / (low + high), steps)  # the best constant rate
        far = np.abs(path - best).max(1)
        stable, unstable = (
            np.abs(descend(x, y, f * 2 / high, 400)[-1] - best).max() for f in (0.98, 1.02)
        )
        counts.append([high / low, 2 / high, np.argmax(far < 0.01), stable, unstable])
    rows.append([name, *np.median(counts, axis=0)])
    walks[name] = x.numpy(), y.numpy(), path
head = [
    "features",
    "condition number",
    "2/λmax",
    "steps to 0.01",
    "error at 0.98 · 2/λmax",
    "at 1.02",
]
lab.table(head, rows, "Medians over the seeds; error: after 400 steps.")
raw, normed = rows
text = "normalized features make the error surface round, and the way down short"
number = (
    f"condition number {raw[1]:.1f} and {raw[3]:.0f} steps; {normed[1]:.2f} and {normed[3]:.0f}"
)
lab.claim(text, number, f"N2: {LEE}, {NG}", raw[1] > 5 * normed[1] and raw[3] > 5 * normed[3])
text = "gradient descent is stable up to a rate of 2/λmax"
number = f"error {raw[4]:.0e} at 0.98 of it, {raw[5]:.0e} at 1.02"
lab.claim(text, number, "N2", raw[4] < 0.1 < 1 < raw[5])

point = mg.zeros(2, dtype=mg.float64, requires_grad=True)
(slope,) = mg.grad(point[0] ** 2 - point[1] ** 2, point, create_graph=True)
hessian = mg.stack([mg.grad(slope[i], point, retain_graph=True)[0] for i in (0, 1)])
text = "at a saddle the gradient is not zero in some direction"
number = f"x² - y² at 0: gradient {slope.tolist()}, curvatures {hessian.diagonal().tolist()}"
lab.claim(text, number, f"O9: additions to {NG}", slope.abs().max().item() > 0)

rng, draws, shares = np.random.default_rng(0), 2000 if lab.quick else 40_000, {}
for n in range(1, 8):
    a = rng.normal(size=(draws, n, n))
    coupled = np.linalg.eigvalsh(a + a.swapaxes(1, 2)) > 0  # a random symmetric Hessian
    shares[n] = (rng.normal(size=(draws, n)) > 0).all(1).mean(), coupled.all(1).mean()
rows = [[str(n), 0.5**n, *s] for n, s in shares.items()]
lab.table(
    ["n", "0.5^n", "n independent curvatures", "n x n matrices"],
    rows,
    "How many have all curvatures positive.",
)
text = "a point without slope is a minimum with probability 0.5^n"
number = "n = 4: 0.0625; independent curvatures {:.4f}, random Hessians {:.4f}".format(*shares[4])
lab.claim(text, number, f"O9: {NG}, 2.10", abs(shares[4][1] - 0.5**4) < 0.01)
text = "in many dimensions hardly a point without slope is a minimum"
number = f"n = 7: {shares[7][1]:.2%} of random Hessians have positive curvatures only"
lab.claim(text, number, f"O9: {NG}, 2.10", shares[7][1] < 0.01)

with lab.figure("surfaces", 9, 3) as fig:
    *pair, last = fig.subplots(1, 3)
    a, b = np.meshgrid(np.linspace(-1, 3, 60), np.linspace(-2, 3, 60))
    for axes, (name, (x, y, path)) in zip(pair, walks.items(), strict=True):
        losses = ((np.multiply.outer(a, x[:, 0]) + np.multiply.outer(b, x[:, 1]) - y) ** 2).mean(
            -1
        ) / 2
        axes.contour(a, b, np.sqrt(losses), 12, colors="#888888", linewidths=0.6)
        axes.plot(*path[:100].T, "o-", ms=2, lw=0.8, color=ORANGE)
        axes.set(
            title=f"loss, {name} features", xlabel="w1", ylabel="w2", xlim=(-1, 3), ylim=(-2, 3)
        )
    last.semilogy(list(shares), [0.5**n for n in shares], "--", color="#888888", label="0.5^n")
    for i, name, colour in (0, "independent curvatures", BLUE), (1, "random Hessians", ORANGE):
        last.semilogy(
            list(shares),
            [s[i] or np.nan for s in shares.values()],
            "o-",
            ms=3,
            color=colour,
            label=name,
        )
    last.set(title="points without slope that are minima", xlabel="n")
    last.legend(fontsize=7)
lab.finish()
