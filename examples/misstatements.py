"""What introductions to batch normalization get wrong: what their snippets really compute.

The claim is what is written somewhere, the number what comes out. Opinions (why BN works, before or
after the activation, is Dropout still needed) have experiments of their own.
"""

from math import erf, sqrt
from time import perf_counter

import numpy as np
from experiment import BLUE, ORANGE, Experiment

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

QIU, NG, POSTS = "X. Qiu's book", "A. Ng's course", "posts on batch normalization"

lab = Experiment(__doc__, seeds=5)
x = mg.randn(32, 8, dtype=mg.float64) * mg.arange(1, 9) + mg.arange(8)  # a batch of 32, 8 features


def running(keep: float, batches: np.ndarray) -> np.ndarray:
    """The running mean after each batch."""
    means = [0.0]
    for mean in batches:
        means.append(keep * means[-1] + (1 - keep) * mean)
    return np.array(means[1:])


seen = np.random.default_rng(0).normal(1, 0.5, (2000 * len(lab.seeds),))
kept, weighed = running(0.1, seen), running(0.9, seen)
number = f"{kept[100:].std() / 0.5:.2f} of a batch's noise is left; with 0.9 and 0.1: "
number += f"{weighed[100:].std() / 0.5:.2f} (PyTorch's momentum=0.1)"
text = "running <- p running + (1 - p) batch with p = 0.1 averages the batches"
lab.claim(text, number, f"row 1: {QIU}, H.-y. Lee's slides", kept[100:].std() < 0.25)

rows = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
like = (rows - F.layer_norm(x, (8,), eps=0)).abs().max().item()
means = rows.mean(0)
number = f"features' means: {means.min():.1f} to {means.max():.1f}; LayerNorm differs by {like:.0e}"
text = "K.mean(X, axis=-1) of (samples, features) normalizes as BN does"
lab.claim(text, number, f"row 2: {POSTS}", means.abs().max().item() < 0.01)

eps = 1e-3
once, twice = (lambda s: s / np.sqrt(s**2 + eps)), (lambda s: s / (np.sqrt(s**2 + eps) + eps))
text = "eps may be added to the variance and to the deviation"
number = f"features of deviation 0.03 come out with {twice(0.03):.3f} instead of {once(0.03):.3f}"
lab.claim(text, number, f"row 3: {POSTS}", abs(twice(0.03) / once(0.03) - 1) < 0.01)

batches = mg.randn(2000, 8, dtype=mg.float64)
stds = batches.std(1, correction=0).mean().item(), sqrt(batches.var(1, correction=0).mean().item())
text = "the running mean of the deviations serves for inference"
number = f"batches of 8: {stds[0]:.3f}; the root of the mean variance is {stds[1]:.3f}"
lab.claim(text, number, f"row 4: {POSTS} (old Keras)", abs(stds[0] / stds[1] - 1) < 0.01)

few, many = (100 / (m - 1) for m in (32, 64 * 28 * 28))
text = "whether the running variance is the unbiased one makes no difference"
number = f"m/(m-1): {few:.1f} % for a batch of 32, {many:.3f} % for 64 maps of 28 x 28"
lab.claim(text, number, "row 5: d2l.ai, Keras against PyTorch", few < 1)

wrong = ((x - x.mean(0)) / x.var(0, correction=0)).std(0, correction=0)
text = "normalizing is: subtract E(x), divide by the variance"
number = f"deviations come out from {wrong.min().item():.2f} to {wrong.max().item():.2f}"
lab.claim(text, number, f"row 6: {POSTS}", (wrong - 1).abs().max().item() < 0.05)

inside, text = erf(1 / sqrt(2)), "64 % lie within one deviation"
lab.claim(text, f"{inside:.2%}", f"row 7: {POSTS}", abs(inside - 0.64) < 0.01)

bn = nn.BatchNorm2d(6)
count = sum(p.numel() for p in bn.parameters())
number, text = f"{count} numbers for 6 maps, whatever the batch", "γ and β differ between instances"
lab.claim(text, number, f"row 8: {POSTS}", count != 12)

net, costs = nn.Linear(256, 256), {}
for size in (62, 64, 66, 126, 128, 130):
    images, times = mg.randn(size, 256), []
    for _ in range(50 if lab.quick else 400):
        start = perf_counter()
        net(images).sum().backward()
        times.append(perf_counter() - start)
    costs[size] = 1e6 * np.median(times) / size
number = ", ".join(f"{size}: {cost:.2f}" for size, cost in costs.items()) + " µs an image"
gain = min(costs[62] / costs[64], costs[66] / costs[64], costs[126] / costs[128])
lab.claim("batch sizes of a power of two are faster", number, f"row 11: {NG}", gain > 1.05)

spike = mg.zeros(1, 11, 1, 1)
spike[0, 5] = 1.0
flat, raised = (F.local_response_norm(1 + z, 5, alpha=1.0) for z in (0 * spike, spike))
felt = int((flat != raised).sum())
text = "a window of n = 5 in local response normalization covers n + 1 channels"
lab.claim(text, f"a channel is felt by {felt}", f"row 12: {QIU}", felt == 6)

z, grad = x.clone().requires_grad_(), mg.randn_like(x)
y = F.batch_norm(z, None, None, x.std(0, correction=0), x.mean(0), training=True, eps=1e-12)
y.backward(grad)
off, mean, left = ((t.detach()).abs().max().item() for t in (y - z, grad.mean(0), z.grad.mean(0)))
number = (
    f"γ = σ, β = μ: y is x to {off:.0e}, but of a gradient's mean, {mean:.2f}, {left:.0e} is left"
)
text = "γ and β can undo BN, so BN can do nothing"
lab.claim(text, number, f"row 13: asked in {QIU} and {POSTS}", left > 0.9 * mean)

with lab.figure("misstatements", 8, 2.8) as fig:
    left, right = fig.subplots(1, 2)
    left.plot(seen[:100], ".", ms=3, color="#888888", label="batch means")
    left.plot(kept[:100], color=ORANGE, label="0.1 running + 0.9 batch")
    left.plot(weighed[:100], color=BLUE, label="0.9 running + 0.1 batch")
    left.set(title="row 1: p = 0.1, read in two ways", xlabel="batch", ylim=(-1.5, 2.5))
    left.legend(ncols=2, fontsize=7, loc="lower center")
    sigma = np.logspace(-3, 1, 100)
    for out, name in (once, "√(σ² + ε)"), (twice, "√(σ² + ε) + ε"), (lambda s: 1 / s, "σ²"):
        right.semilogx(sigma, out(sigma), label=f"divided by {name}")
    right.set(title="3 and 6: what comes out of deviation σ", xlabel="σ", ylim=(0, 2))
    right.legend(loc="upper left", fontsize=7)
lab.finish()
