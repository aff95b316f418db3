"""Every module and every optimizer on a GPU: what the CPU computes, and nothing waits."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.optim import lr_scheduler
from tests.gpu import device, layers
from tests.gpu.mockcupy import counting

pytestmark = pytest.mark.usefixtures("gpu")
MODULES = [n for n in nn.__all__ if isinstance(getattr(nn, n), type)]


def test_every_module_has_a_row():
    assert set(MODULES) == set(layers.ROWS) | set(layers.WITHOUT)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", layers.ROWS)
def test_modules(name, mode):
    here, there = (layers.outcome(name, place, mode == "train") for place in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


# ---- optimizers ---------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}],
    "Momentum": [{"lr": 0.1}, {"lr": 0.1, "form": "velocity"}, {"lr": 0.1, "form": "ema"}],
    "RMSprop": [{"lr": 0.01}, {"lr": 0.01, "centered": True, "momentum": 0.5}],
    "Adam": [{"lr": 0.01}, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}],
    "AdamW": [{"lr": 0.01}],
    "Adagrad": [{"lr": 0.1, "lr_decay": 0.1}],
    "Adadelta": [{}],
    "Adamax": [{"lr": 0.01}],
    "NAdam": [{"lr": 0.01}],
    "RAdam": [{"lr": 0.01}],
}
SETTINGS = [(name, options) for name, several in OPTIMIZERS.items() for options in several]


def test_every_optimizer_has_a_row():
    kinds = {
        n
        for n in optim.__all__
        if isinstance(getattr(optim, n), type) and issubclass(getattr(optim, n), optim.Optimizer)
    }
    assert kinds - {"Optimizer"} == set(OPTIMIZERS)


@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=lambda v: str(v))
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_optimizers(name, options, dtype):
    results = []
    for place in ("cpu", "cuda"):
        w = mg.linspace(-1, 1, 7, dtype="float64").to(place, dtype).requires_grad_()
        b = mg.tensor(0.5, dtype=dtype, device=place).requires_grad_()
        optimizer = getattr(optim, name)([w, b], **options)
        for i in range(6):
            optimizer.zero_grad()
            ((w * w * (i + 1)).sum() + b * b).backward()
            optimizer.step()
        kept = [t for s in optimizer.state.values() for t in s.values()]
        results.append([t.detach().cpu().numpy() for t in (w, b, *kept)])
    for a, c in zip(*results, strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-11 if dtype == "float64" else 1e-2, atol=1e-12)


# ---- nothing waits ------------------------------------------------------------------------------


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(F.dropout(F.relu(self.norm(self.a(x.flatten(1)))), 0.3, self.training))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
            nn.AvgPool2d(2),
            nn.Dropout2d(0.2),
            nn.Flatten(),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        return self.layers(x)


CLIPS = {
    "none": lambda model: None,
    "norm": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
    "value": lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.1),
}
SCHEDULES = {
    "none": lambda optimizer: None,
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10),
}
STEPS = [
    *((model, name, options, "none", "none") for model in (MLP, CNN) for name, options in SETTINGS),
    *((CNN, "Adam", {"lr": 0.01}, clip, "none") for clip in CLIPS),
    *((MLP, "SGD", {"lr": 0.01, "momentum": 0.9}, "norm", s) for s in SCHEDULES),
]


@pytest.mark.skipif(device.REAL, reason="the stand-in counts")
@pytest.mark.parametrize(("kind", "name", "options", "clip", "schedule"), STEPS, ids=str)
def test_no_step_waits_or_sends(kind, name, options, clip, schedule):
    """From the second step on: neither does the host wait for the device, nor send it values."""
    model = kind().cuda()
    optimizer = getattr(optim, name)(model.parameters(), **options)
    scheduler = SCHEDULES[schedule](optimizer)
    x = mg.randn(6, 1, 4, 4).cuda()
    t = mg.randint(3, (6,)).cuda()
    total = mg.zeros((), device="cuda")

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        CLIPS[clip](model)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        total.add_(loss.detach())

    step()
    with counting() as found:
        for _ in range(3):
            step()
    assert (found["waits"], found["uploads"]) == (0, 0), found
    assert np.isfinite(total.item())


@pytest.mark.skipif(device.REAL, reason="the stand-in counts")
@pytest.mark.parametrize("name", layers.ROWS)
def test_no_module_waits_or_sends(name):
    make, inputs = layers.ROWS[name]
    module = make().double().cuda()
    tensors = [mg.tensor(x).cuda() for x in inputs]
    for t in tensors:
        t.requires_grad_(t.dtype.kind == "f")

    def call():
        y = module(*tensors)
        y = layers.flat(y if isinstance(y, tuple) else (y,))
        if y[0].requires_grad:
            sum((t * t).sum() for t in y if t.requires_grad).backward()

    call()
    with counting() as found:
        call()
    assert (found["waits"], found["uploads"]) == (0, 0), found
