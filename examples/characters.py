"""A small transformer learns text letter by letter, with LayerNorm before or after its blocks.

The text is the reference of the Python language, which comes with Python. Post-norm (Vaswani et al.
2017) normalizes the sum of a block and its input, pre-norm what goes into the block.
"""

from functools import partial
from math import log
from pydoc_data.topics import topics

import numpy as np
from experiment import COLOURS, Experiment, above, spread

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

XIONG = "Xiong et al. 2020, arXiv:2002.04745"
WIDTH, HEADS, CONTEXT, SIZE = 32, 4, 32, 16


class Transformer(nn.Module):
    """Embeddings, ``depth`` causal layers, and the scores of the next letter at every place."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(alphabet), WIDTH)
        self.places = nn.Embedding(CONTEXT, WIDTH)
        options = {"dropout": 0.0, "batch_first": True, "norm_first": norm == "pre-norm"}
        new = partial(nn.TransformerEncoderLayer, WIDTH, HEADS, 4 * WIDTH, **options)
        self.layers = nn.ModuleList(new() for _ in range(depth))
        for layer in self.layers if norm == "no norm" else ():
            layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()
        self.norm = nn.LayerNorm(WIDTH) if norm == "pre-norm" else nn.Identity()
        self.scores = nn.Linear(WIDTH, len(alphabet))

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        places = mg.arange(x.shape[1]).to(x.device)
        h, later = self.letters(x) + self.places(places), places > places[:, None]
        for layer in self.layers:
            h = layer(h, later)  # what is later must not be looked at
        return self.scores(self.norm(h))


def windows(text: mg.Tensor, n: int) -> tuple[mg.Tensor, mg.Tensor]:
    """``n`` random pieces of the text, and the same one letter further on."""
    places = mg.randint(0, len(text) - CONTEXT, (n, 1)) + mg.arange(CONTEXT)
    return text[places], text[places + 1]


def bits(net: nn.Module, x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
    return F.cross_entropy(net(x).flatten(0, 1), y.flatten()) / log(2)  # a letter's mean surprise


def write(net: nn.Module, start: str, n: int) -> str:
    """``n`` letters more, each drawn by its probability."""
    written = [alphabet.index(letter) for letter in start]
    with mg.no_grad():
        for _ in range(n):
            scores = net(mg.tensor([written[-CONTEXT:]]).to(lab.device))[0, -1]
            written.append(mg.multinomial(F.softmax(scores, 0), 1).item())
    return "".join(alphabet[i] for i in written)


def learn(norm: str, warm_up: int, lr: float, seed: int) -> tuple[nn.Module, list[float]]:
    """A trained network and its losses; the learning rate rises for ``warm_up`` steps."""
    mg.manual_seed(seed)
    net, losses = Transformer(norm).to(lab.device), []
    optimizer = optim.Adam(net.parameters(), lr=lr)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr * min(1, step / (warm_up + 1))
        optimizer.zero_grad()
        loss = bits(net, *windows(learnt, SIZE))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


lab = Experiment(__doc__, used="the reference of the Python language")
reference = "\n".join(topics[name] for name in sorted(topics))
alphabet = sorted(set(reference))
text = mg.tensor([alphabet.index(letter) for letter in reference]).to(lab.device)
learnt, unseen = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
depth, steps, rates = (2, 40, (0.01,)) if lab.quick else (6, 240, (0.003, 0.01))
every, curves, ends, rows = steps // 10, {}, {}, []
forms = [(norm, norm, 0) for norm in ("pre-norm", "post-norm", "no norm")]
forms.append(("post-norm, warm-up", "post-norm", steps // 3))
for name, norm, warm_up in forms:
    for lr in rates:
        curves[name, lr], ends[name, lr] = [], []
        for seed in lab.seeds:
            net, losses = learn(norm, warm_up, lr, seed)
            curves[name, lr].append(np.reshape(losses, (-1, every)).mean(1))
            ends[name, lr].append(bits(net, *windows(unseen, 200)).item())
        sample = repr(write(net, "The ", 60 if lab.quick else 120)).replace("|", "¦")
        rows.append([name, f"{lr:g}", spread(ends[name, lr]), f"`{sample}`"])
        lab.say(", ".join(rows[-1]))
lab.table(
    ["network", "lr", "bits", "writes"], rows, f"Bits a letter of unseen text, {steps} steps."
)
for text, one, other, source in (
    ("without warm-up pre-norm learns better", "pre-norm", "post-norm", XIONG),
    ("post-norm needs a warm-up", "post-norm, warm-up", "post-norm", XIONG),
    ("a transformer needs a norm", "pre-norm", "no norm", "L1: Ba et al. 2016, arXiv:1607.06450"),
):
    number, better = above(np.subtract(ends[other, rates[-1]], ends[one, rates[-1]]), "bits")
    lab.claim(f"{text} (lr {rates[-1]:g})", f"{one} ahead by {number}", source, better)
with lab.figure("characters", 8, 3) as fig:
    at = every * np.arange(1, 11)
    for lr, axes in zip(rates, np.atleast_1d(fig.subplots(1, len(rates))), strict=True):
        for (name, _), colour in zip(
            [key for key in curves if key[1] == lr], COLOURS, strict=False
        ):
            low, mid, high = (f(curves[name, lr], axis=0) for f in (np.min, np.mean, np.max))
            axes.plot(at, mid, color=colour, label=name)
            axes.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
        axes.set(title=f"lr {lr:g}", xlabel="step", ylabel="bits a letter")
        axes.legend()
lab.finish()
