"""Softmax regression: its gradient a - y, logistic regression, straight boundaries.

With scores z = W x + b, shares a = softmax(z) and the loss L = -log a_y, dL/dz = a - y, y being the
label as a vector of zeros and a one. Then the regions it decides for, alone and behind a layer.
"""

import numpy as np
from experiment import COLOURS, Experiment, accuracy, spread, train

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

NG = "Ng, Improving deep neural networks, week 3"


def compare(n: int = 8, classes: int = 5, h: float = 1e-6) -> tuple[float, float]:
    """How far a - y is from autograd's gradient and from finite differences, at random scores."""
    z = mg.randn(n, classes, dtype=mg.float64, requires_grad=True)
    y = mg.randint(0, classes, (n,))
    loss = nn.CrossEntropyLoss(reduction="sum")
    loss(z, y).backward()
    formula = F.softmax(z.detach(), 1) - F.one_hot(y, classes)
    steps = h * mg.eye(z.numel(), dtype=mg.float64).reshape(-1, n, classes)
    slopes = mg.stack([(loss(z + step, y) - loss(z - step, y)) / (2 * h) for step in steps])
    differences = slopes.detach().reshape(n, classes)
    return (formula - z.grad).abs().max().item(), (formula - differences).abs().max().item()


lab = Experiment(__doc__, image="mnist")
autograd, differences = np.max([compare() for _ in lab.seeds], axis=0)
text = "the gradient of softmax and cross entropy is a - y"
number = f"off by {autograd:.0e} from autograd, {differences:.0e} from finite differences"
lab.claim(text, number, f"O16: {NG}, 3.9", autograd < 1e-14 and differences < 1e-8)

z = mg.randn(1000, 1, dtype=mg.float64) * 3
labels = mg.randint(0, 2, (1000,))
two = F.cross_entropy(mg.cat([mg.zeros_like(z), z], 1), labels)
one = F.binary_cross_entropy_with_logits(z[:, 0], labels.double())
text = "with two classes it is logistic regression on the difference of the scores"
difference = (two - one).abs().item()
lab.claim(text, f"losses differ by {difference:.0e}", f"O16: {NG}, 3.8", difference < 1e-14)

z = mg.randn(100, 10, dtype=mg.float64)
shift = (F.softmax(z + 1000, 1) - F.softmax(z, 1)).abs().max().item()
big = mg.tensor([1000.0, 1001.0])
naive = (big.exp() / big.exp().sum()).tolist()
text = "softmax does not feel a shift of all scores; written as e^z / sum e^z it overflows"
right = F.softmax(big, 0)[1].item()
number = f"z + 1000: {shift:.0e}; z = (1000, 1001): {right:.4f}, as written {naive[1]}"
lab.claim(text, number, f"O15: {NG}, 3.8", shift < 1e-12 and np.isnan(naive[1]))


def spirals(classes: int, n: int = 150, noise: float = 0.15) -> tuple[mg.Tensor, mg.Tensor]:
    """Points on the arms of a spiral, an arm a class: no straight lines part them."""
    arms = mg.arange(classes).repeat_interleave(n)
    r = mg.rand(classes * n) * 0.9 + 0.1
    angle = 3.0 * r + arms * (2 * np.pi / classes) + noise * mg.randn(classes * n)
    return mg.stack([r * angle.cos(), r * angle.sin()], 1), arms


def convexity(net: nn.Module, n: int = 20_000) -> float:
    """Of random pairs of points that get the same answer, how many get it half-way between, too."""
    a, b = mg.rand(n, 2) * 2 - 1, mg.rand(n, 2) * 2 - 1
    with mg.no_grad():
        at_a, at_b, between = (net(p).argmax(1) for p in (a, b, (a + b) / 2))
    same = at_a == at_b
    return (between[same] == at_a[same]).float().mean().item()


NETS = {
    "softmax alone": lambda c: nn.Linear(2, c),
    "hidden layer of 32": lambda c: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, c)),
}
steps, scores = 300 if lab.quick else 2000, {}
axis = mg.linspace(-1, 1, 150)
plane = mg.stack([t.flatten() for t in mg.meshgrid(axis, axis, indexing="xy")], 1)
with lab.figure("softmax", 7, 4.5) as fig:
    grid = fig.subplots(2, 3)
    for (name, make), row in zip(NETS.items(), grid, strict=True):
        for classes, axes in zip((3, 4, 6), row, strict=True):
            scores[name, classes] = right, convex = [], []
            for seed in lab.seeds:
                mg.manual_seed(seed)
                x, y = spirals(classes)
                net = make(classes)
                train(net, optim.Adam(net.parameters(), lr=0.02), x, y, steps)
                right.append(accuracy(net, x, y))
                convex.append(convexity(net))
            with mg.no_grad():
                regions = net(plane).argmax(1).reshape(150, 150).numpy()
            axes.contourf(axis, axis, regions, np.arange(-0.5, classes), colors=COLOURS, alpha=0.5)
            for label, colour in zip(range(classes), COLOURS, strict=False):
                axes.plot(*x[y == label].numpy().T, ".", ms=2, color=colour)
            axes.set(title=f"{name}: {right[-1]:.0%}", xticks=[], yticks=[])
            axes.axis((-1, 1, -1, 1))
            axes.set_rasterization_zorder(2.1)
rows = [[n, str(c), spread(a), spread(v)] for (n, c), (a, v) in scores.items()]
caption = (
    "Spirals, an arm a class; convex: the share of pairs with one answer that have it between."
)
lab.table(["network", "classes", "accuracy", "convex"], rows, caption)
alone, hidden = ([v[1] for (n, _), v in scores.items() if n == name] for name in NETS)
text = "softmax alone parts the plane by straight lines, a hidden layer by curves"
number = f"convex regions: {np.min(alone):.0%} against {np.mean(hidden):.0%}"
lab.claim(text, number, f"O15: {NG}, 3.8", np.min(alone) == 1 > np.max(hidden))

x, y, x_test, y_test = lab.load()
right = []
for seed in lab.seeds:
    mg.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).to(lab.device)
    train(net, optim.Adam(net.parameters(), lr=0.003), x, y, steps, size=100)
    right.append(accuracy(net, x_test, y_test))
text = "softmax regression reads about 92 % of MNIST's digits (60,000 training images)"
lab.claim(
    text, f"{spread(right)} with {len(x):,}", "tcnguyen.github.io/mnist_1", np.mean(right) > 0.9
)
lab.finish()
