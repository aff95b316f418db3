"""Other frameworks' conventions in plain NumPy, against minigrad with converted settings."""

import copy
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import conventions
from minigrad.nn.conventions import ConventionError, adopt, convert, defaults

rng = np.random.default_rng(0)
STEPS = 20
BATCHES = [(rng.standard_normal((8, 4)) * 2 + 1, rng.standard_normal((8, 2))) for _ in range(STEPS)]


# ---- a network by hand: Linear, BatchNorm, tanh, Linear, mean square ----------------------------


def start():
    r = np.random.default_rng(1)
    return {
        "W": r.standard_normal((4, 5)) / 2,
        "gamma": r.uniform(0.5, 1.5, 5),
        "beta": r.standard_normal(5) / 3,
        "V": r.standard_normal((5, 2)) / 2,
        "c": np.zeros(2),
    }


def gradients(p, x, target, eps):
    """The gradients, and the batch's mean and variance (biased)."""
    u = x @ p["W"]
    mean, var = u.mean(0), u.var(0)
    std = np.sqrt(var + eps)
    u_hat = (u - mean) / std
    h = np.tanh(u_hat * p["gamma"] + p["beta"])
    dy = 2 * (h @ p["V"] + p["c"] - target) / target.size
    dz = dy @ p["V"].T * (1 - h * h)
    du_hat = dz * p["gamma"]
    du = (du_hat - du_hat.mean(0) - u_hat * (du_hat * u_hat).mean(0)) / std
    return {
        "W": x.T @ du,
        "gamma": (dz * u_hat).sum(0),
        "beta": dz.sum(0),
        "V": h.T @ dy,
        "c": dy.sum(0),
    }, (mean, var)


def follow_pytorch(r, b, t, momentum, **_):
    factor = 8 / 7
    return (1 - momentum) * r[0] + momentum * b[0], (1 - momentum) * r[1] + momentum * factor * b[1]


def follow_keras(r, b, t, momentum, **_):
    return tuple(momentum * old + (1 - momentum) * new for old, new in zip(r, b, strict=True))


def follow_chainer(r, b, t, decay, **_):
    adjust = 8 / max(8 - 1, 1)
    return decay * r[0] + (1 - decay) * b[0], decay * r[1] + (1 - decay) * adjust * b[1]


def follow_paper(r, b, t, **_):
    return r[0] + (b[0] - r[0]) / t, r[1] + (b[1] * 8 / 7 - r[1]) / t


FOLLOW = {
    "pytorch": follow_pytorch,
    "keras": follow_keras,
    "chainer": follow_chainer,
    "paper": follow_paper,
}


# ---- optimizers by hand: (w, g, what they keep, t, settings) -> the new w -----------------------


def kept(state, name, like):
    return state.setdefault(name, np.zeros_like(like))


def sgd_pytorch(w, g, s, t, lr, momentum, nesterov):
    v = s["v"] = momentum * kept(s, "v", w) + g
    return w - lr * (g + momentum * v if nesterov else v)


def sgd_keras(w, g, s, t, learning_rate, momentum, nesterov):
    v = s["v"] = momentum * kept(s, "v", w) - learning_rate * g
    return w + (momentum * v - learning_rate * g if nesterov else v)


def sgd_chainer(w, g, s, t, lr, momentum):
    v = s["v"] = momentum * kept(s, "v", w) - lr * g
    return w + v


def sgd_paper(w, g, s, t, epsilon, mu):
    v = s["v"] = mu * kept(s, "v", w) - epsilon * g
    return w + v


def sgd_lecture(w, g, s, t, alpha, beta):
    v = s["v"] = beta * kept(s, "v", w) + (1 - beta) * g
    return w - alpha * v


def rmsprop_pytorch(w, g, s, t, lr, alpha, eps, momentum, centered):
    square = s["s"] = alpha * kept(s, "s", w) + (1 - alpha) * g * g
    if centered:
        s["m"] = alpha * kept(s, "m", w) + (1 - alpha) * g
        square = square - s["m"] ** 2
    step = g / (np.sqrt(square) + eps)
    if momentum:
        step = s["v"] = momentum * kept(s, "v", w) + step
    return w - lr * step


def rmsprop_keras(w, g, s, t, learning_rate, rho, momentum, epsilon, centered):
    square = s["s"] = rho * kept(s, "s", w) + (1 - rho) * g * g
    if centered:
        s["m"] = rho * kept(s, "m", w) + (1 - rho) * g
        square = square - s["m"] ** 2
    step = learning_rate * g / np.sqrt(square + epsilon)
    if momentum:
        step = s["v"] = momentum * kept(s, "v", w) + step
    return w - step


def rmsprop_chainer(w, g, s, t, lr, alpha, eps, eps_inside_sqrt):
    s["s"] = alpha * kept(s, "s", w) + (1 - alpha) * g * g
    return w - lr * g / (np.sqrt(s["s"] + eps) if eps_inside_sqrt else np.sqrt(s["s"]) + eps)


def rmsprop_lecture(w, g, s, t, lr, decay):
    s["s"] = decay * kept(s, "s", w) + (1 - decay) * g * g
    return w - lr * g / np.sqrt(s["s"])


def moments(w, g, s, beta1, beta2):
    s["m"] = beta1 * kept(s, "m", w) + (1 - beta1) * g
    s["v"] = beta2 * kept(s, "v", w) + (1 - beta2) * g * g
    return s["m"], s["v"]


def adam_paper(w, g, s, t, alpha, beta1, beta2, epsilon, amsgrad=False):
    m, v = moments(w, g, s, beta1, beta2)
    if amsgrad:
        v = s["u"] = np.maximum(kept(s, "u", w), v)
    return w - alpha * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adam_pytorch(w, g, s, t, lr, betas, eps, amsgrad):
    return adam_paper(w, g, s, t, lr, *betas, eps, amsgrad)


def adam_keras(w, g, s, t, learning_rate, beta_1, beta_2, epsilon, amsgrad):
    m, v = moments(w, g, s, beta_1, beta_2)
    if amsgrad:
        v = s["u"] = np.maximum(kept(s, "u", w), v)
    rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - rate * m / (np.sqrt(v) + epsilon)


def adam_chainer(w, g, s, t, alpha, beta1, beta2, eps):
    return adam_keras(w, g, s, t, alpha, beta1, beta2, eps, False)


# eps large enough to matter
CASES = [
    ("Momentum", "pytorch", sgd_pytorch, {"lr": 0.1, "momentum": 0.9}),
    ("Momentum", "pytorch", sgd_pytorch, {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    ("Momentum", "keras", sgd_keras, {"learning_rate": 0.1, "momentum": 0.9}),
    ("Momentum", "keras", sgd_keras, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Momentum", "keras", sgd_keras, {}),
    ("Momentum", "chainer", sgd_chainer, {"lr": 0.05}),
    ("Momentum", "paper", sgd_paper, {"epsilon": 0.1, "mu": 0.7}),
    ("Momentum", "lecture", sgd_lecture, {"alpha": 0.5, "beta": 0.9}),
    ("RMSprop", "pytorch", rmsprop_pytorch, {"eps": 0.01}),
    ("RMSprop", "pytorch", rmsprop_pytorch, {"eps": 0.01, "momentum": 0.5, "centered": True}),
    ("RMSprop", "keras", rmsprop_keras, {"epsilon": 1e-3}),
    (
        "RMSprop",
        "keras",
        rmsprop_keras,
        {"learning_rate": 0.01, "momentum": 0.5, "centered": True, "epsilon": 1e-3},
    ),
    ("RMSprop", "chainer", rmsprop_chainer, {"eps": 0.01}),
    ("RMSprop", "chainer", rmsprop_chainer, {"eps": 0.01, "eps_inside_sqrt": True}),
    ("RMSprop", "lecture", rmsprop_lecture, {}),
    ("Adam", "pytorch", adam_pytorch, {"lr": 0.01, "eps": 0.01}),
    ("Adam", "pytorch", adam_pytorch, {"lr": 0.01, "eps": 0.01, "amsgrad": True}),
    ("Adam", "keras", adam_keras, {"learning_rate": 0.01, "epsilon": 0.01}),
    ("Adam", "keras", adam_keras, {"epsilon": 0.01, "amsgrad": True, "beta_2": 0.9}),
    ("Adam", "chainer", adam_chainer, {"eps": 0.01, "beta1": 0.5}),
    ("Adam", "paper", adam_paper, {"alpha": 0.01, "epsilon": 0.01}),
]


def by_hand(kind, framework, rule, given, rates=None):
    """20 steps of the network with a framework's BatchNorm and optimizer."""
    norm = framework if framework in FOLLOW else "pytorch"
    bn, p, states = defaults("BatchNorm", norm), start(), {}
    settings = {**defaults(kind, framework), **given}
    eps = bn.get("eps", bn.get("epsilon"))
    running = np.zeros(5), np.ones(5)
    lr = next(n for n in ("lr", "learning_rate", "alpha", "epsilon") if n in settings)
    for t, (x, target) in enumerate(BATCHES, 1):
        grads, batch = gradients(p, x, target, eps)
        running = FOLLOW[norm](running, batch, t, **bn)
        if rates:
            settings[lr] = rates[t - 1]
        for name, g in grads.items():
            p[name] = rule(p[name], g, states.setdefault(name, {}), t, **settings)
    x = BATCHES[0][0]
    h = (x @ p["W"] - running[0]) / np.sqrt(running[1] + eps) * p["gamma"] + p["beta"]
    return {**p, "mean": running[0], "var": running[1], "y": np.tanh(h) @ p["V"] + p["c"]}


def model(framework):
    p = start()
    made = nn.Sequential(nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    made.double()
    adopt(made, framework)
    with mg.no_grad():
        made[0].weight.copy_(mg.tensor(p["W"].T))
        made[1].weight.copy_(mg.tensor(p["gamma"]))
        made[1].bias.copy_(mg.tensor(p["beta"]))
        made[3].weight.copy_(mg.tensor(p["V"].T))
        made[3].bias.copy_(mg.tensor(p["c"]))
    return made


def optimizer_of(kind, made, settings):
    if kind == "Momentum":
        kind = "SGD" if "nesterov" in settings else "Momentum"
    return getattr(optim, kind)(made.parameters(), **settings)


def trained(made, optimizer, rates=None):
    made.train()
    for t, (x, target) in enumerate(BATCHES):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[t]
        optimizer.zero_grad()
        nn.functional.mse_loss(made(mg.tensor(x)), mg.tensor(target)).backward()
        optimizer.step()
    y = made.eval()(mg.tensor(BATCHES[0][0]))
    return {
        "W": made[0].weight.T,
        "gamma": made[1].weight,
        "beta": made[1].bias,
        "V": made[3].weight.T,
        "c": made[3].bias,
        "mean": made[1].running_mean,
        "var": made[1].running_var,
        "y": y,
    }


def apart(found, expected):
    return max(np.abs(found[k].detach().numpy() - expected[k]).max() for k in expected)


def label(value):
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("kind", "framework", "rule", "given"), CASES, ids=label)
def test_20_steps_of_another_framework(kind, framework, rule, given):
    made = model(framework if framework in FOLLOW else "pytorch")
    found = trained(made, optimizer_of(kind, made, convert(kind, given, framework)))
    expected = by_hand(kind, framework, rule, given)
    assert apart(found, expected) < 1e-9
    assert max(np.abs(expected[k] - v).max() for k, v in start().items()) > 1e-2  # it did train


@pytest.mark.parametrize(
    ("framework", "rule", "given"),
    [(f, r, g) for k, f, r, g in CASES if k == "Momentum" and not g.get("nesterov")],
    ids=label,
)
def test_the_forms_of_momentum_hold_when_lr_changes(framework, rule, given):
    rates = [0.1 / (1 + t / 5) for t in range(STEPS)]
    made = model(framework if framework in FOLLOW else "pytorch")
    settings = convert("Momentum", given, framework, constant_lr=False)
    found = trained(made, optimizer_of("Momentum", made, settings), rates)
    assert apart(found, by_hand("Momentum", framework, rule, given, rates)) < 1e-9


def test_and_part_where_they_are_said_to():
    """Keras' form as PyTorch's: the same while lr is constant, another way when it changes."""
    given = {"learning_rate": 0.1, "momentum": 0.9}
    settings = convert("Momentum", given, "keras", "pytorch")
    assert settings == {"lr": 0.1, "momentum": 0.9, "nesterov": False}
    with pytest.raises(ConventionError, match=r'while lr changes.*form="velocity"'):
        convert("Momentum", given, "keras", "pytorch", constant_lr=False)
    for rates, off in ((None, 1e-9), ([0.1] * 10 + [0.01] * 10, None)):
        made = model("keras")
        found = trained(made, optim.SGD(made.parameters(), lr=0.1, momentum=0.9), rates)
        gap = apart(found, by_hand("Momentum", "keras", sgd_keras, given, rates))
        assert gap < off if off else gap > 1e-3


CHAINS = [
    (kind, source, target)
    for kind in conventions.KINDS
    for source in conventions.FORMS[kind]
    for target in conventions.FORMS[kind]
]
RULES = {(k, f): r for k, f, r, _ in CASES}
GIVEN = {
    "pytorch": {"eps": 0.01},
    "keras": {"epsilon": 0.01},
    "chainer": {"eps": 0.01},
    "paper": {"epsilon": 0.01},
    "lecture": {},
    "minigrad": {"eps": 0.01},
}


@pytest.mark.parametrize(("kind", "source", "target"), CHAINS, ids=str)
def test_what_can_go_elsewhere_does_the_same_there(kind, source, target):
    """Both sides by hand, or by minigrad: wherever convert() does not refuse."""
    if kind == "BatchNorm":
        given = {}
    elif kind == "Momentum":
        given = {"momentum": 0.8} if "momentum" in defaults(kind, source) else {}
    else:
        given = GIVEN[source]
    try:
        settings = convert(kind, given, source, target)
    except ConventionError as error:
        assert f"{kind}, {source} to {target}" in str(error)
        return
    if "minigrad" not in (source, target):  # and back again
        back, before = convert(kind, settings, target, source), {**defaults(kind, source), **given}
        assert back.keys() == before.keys()
        assert all(back[k] == pytest.approx(v) for k, v in before.items())
    if kind == "BatchNorm" or "minigrad" in (source, target):
        return
    w, v = (np.array([1.0, -2.0, 0.5]) for _ in range(2))
    here, there = {}, {}
    for t, g in enumerate(rng.standard_normal((STEPS, 3)), 1):
        w = RULES[kind, source](w, g, here, t, **{**defaults(kind, source), **given})
        v = RULES[kind, target](v, g, there, t, **settings)
    np.testing.assert_allclose(w, v, rtol=0, atol=1e-9)


@pytest.mark.parity
def test_pytorch_with_converted_settings_is_pytorch():
    """The same settings, taken by the library itself, step as our PyTorch by hand does."""
    torch = pytest.importorskip("torch")
    for kind, framework, rule, given in CASES:
        if framework != "pytorch":
            continue
        name = {"Momentum": "SGD"}.get(kind, kind)
        w, state = np.array([1.0, -2.0, 0.5]), {}
        theirs = torch.nn.Parameter(torch.tensor(w))
        optimizer = getattr(torch.optim, name)([theirs], **{**defaults(kind, framework), **given})
        for t, g in enumerate(rng.standard_normal((STEPS, 3)), 1):
            w = rule(w, g, state, t, **{**defaults(kind, framework), **given})
            theirs.grad = torch.tensor(g)
            optimizer.step()
        np.testing.assert_allclose(theirs.detach().numpy(), w, rtol=1e-12)
    for kind in ("Momentum", "RMSprop", "Adam"):  # and our defaults of theirs are theirs
        made = getattr(torch.optim, {"Momentum": "SGD"}.get(kind, kind))([theirs])
        assert defaults(kind, "pytorch").items() <= made.defaults.items()
    bn = torch.nn.BatchNorm1d(1)
    assert defaults("BatchNorm", "pytorch") == {"eps": bn.eps, "momentum": bn.momentum}


def test_what_has_no_counterpart_is_refused():
    for kind, given, source, target, says in [
        ("BatchNorm", {}, "keras", "pytorch", "unbiased variance only"),
        ("BatchNorm", {}, "chainer", "keras", "biased variance only"),
        ("BatchNorm", {"momentum": None, "unbiased": False}, "minigrad", "keras", "mean of all"),
        ("BatchNorm", {}, "pytorch", "paper", "mean over batches"),
        ("RMSprop", {}, "keras", "pytorch", "eps_inside_sqrt=True"),
        ("RMSprop", {"momentum": 0.9}, "pytorch", "chainer", "momentum=0.9 has no counterpart"),
        ("Adam", {}, "keras", "pytorch", "eps_hat=True"),
        ("Adam", {"amsgrad": True, "eps": 0}, "pytorch", "chainer", "amsgrad=True"),
        ("Momentum", {"nesterov": True}, "keras", "lecture", "nesterov=True"),
    ]:
        with pytest.raises(ConventionError, match=says):
            convert(kind, given, source, target)
    assert convert("RMSprop", {"epsilon": 0.0}, "keras", "pytorch")["eps"] == 0
    with pytest.raises(ConventionError, match="while lr is constant only"):
        convert("RMSprop", {"momentum": 0.9}, "keras", constant_lr=False)
    with pytest.raises(TypeError, match=r"Adam of keras takes learning_rate, .* got lr"):
        convert("Adam", {"lr": 0.1}, "keras")
    with pytest.raises(ValueError, match="kind must be one of"):
        convert("SGD", {}, "keras")
    with pytest.raises(ValueError, match=r"BatchNorm is known of .* got 'caffe'"):
        convert("BatchNorm", {}, "caffe")


def test_adopting_a_convention():
    made = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2)))
    assert adopt(made, "keras") is made
    for norm in (made[1], made[2][0]):
        assert (norm.momentum, norm.eps, norm.unbiased) == (0.01, 1e-3, False)
    adopt(made, "paper", eps=0.1)
    assert (made[1].momentum, made[1].eps, made[1].unbiased) == (None, 0.1, True)


# ---- weights ------------------------------------------------------------------------------------


def network():
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), bias=False),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(3 * 2 * 4, 5),
        nn.LayerNorm(5),
    ).double()


def test_weights_in_the_layout_of_keras():
    """By hand as Keras runs them: channels last, kernels (h, w, in, out), Flatten in that order."""
    made = network()
    made(mg.tensor(rng.standard_normal((6, 2, 4, 5))))
    made.eval()
    w = conventions.weights(made, "keras", flattened={"3": (3, 2, 4)})
    assert {k: v.shape for k, v in w.items()} == {
        "0/kernel": (3, 2, 2, 3),
        "1/gamma": (3,),
        "1/beta": (3,),
        "1/moving_mean": (3,),
        "1/moving_variance": (3,),
        "3/kernel": (24, 5),
        "3/bias": (5,),
        "4/gamma": (5,),
        "4/beta": (5,),
    }
    x = rng.standard_normal((6, 2, 4, 5))
    last = np.moveaxis(x, 1, -1)
    y = np.zeros((6, 2, 4, 3))
    for i in range(3):
        for j in range(2):
            y += last[:, i : i + 2, j : j + 4] @ w["0/kernel"][i, j]
    y = (y - w["1/moving_mean"]) / np.sqrt(w["1/moving_variance"] + 1e-5)
    y = (y * w["1/gamma"] + w["1/beta"]).reshape(6, -1) @ w["3/kernel"] + w["3/bias"]
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
    expected = made(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y * w["4/gamma"] + w["4/beta"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("framework", ["keras", "chainer"])
def test_weights_there_and_back(framework):
    made, other = (
        nn.Sequential(
            nn.Embedding(4, 3),
            nn.Conv1d(2, 3, 2),
            nn.ConvTranspose2d(2, 3, (1, 2)),
            network(),
        )
        for _ in range(2)
    )
    options = {"flattened": {"3.3": (3, 2, 4)}}
    arrays = conventions.weights(made, framework, **options)
    assert conventions.load_weights(other, arrays, framework, **options) is other
    for (name, a), b in zip(made.state_dict().items(), other.state_dict().values(), strict=True):
        assert a.equal(b), name
    if framework == "chainer":
        assert {"1/W", "1/b", "3.1/avg_mean", "3.1/avg_var"} <= set(arrays)


def test_weights_that_do_not_fit_change_nothing():
    made = network()
    before = copy.deepcopy(made.state_dict())
    arrays = conventions.weights(made, "keras")
    for wrong in ({}, {**arrays, "9/bias": 0}, {**arrays, "3/kernel": arrays["3/kernel"].T}):
        with pytest.raises(mg.CheckpointError):
            conventions.load_weights(made, wrong, "keras")
    assert all(before[k].equal(v) for k, v in made.state_dict().items())
    with pytest.raises(ConventionError, match=r"LSTM \(the model\) is not in the table"):
        conventions.weights(nn.LSTM(2, 2), "keras")
    with pytest.raises(ValueError, match='"keras" and "chainer", got \'caffe\''):
        conventions.weights(made, "caffe")


# ---- the page -----------------------------------------------------------------------------------


def test_the_page_shows_what_convert_computes():
    page = Path(__file__).resolve().parents[1] / "docs" / "conventions.md"
    _, _, rest = page.read_text().partition("<!-- conventions.table() -->\n")
    shown, end, _ = rest.partition("<!-- end -->")
    assert end and shown.strip() == conventions.table()
