"""Conventions: the same words mean other things elsewhere. Settings and weights, translated.

    momentum of BatchNorm    the weight of the new batch (PyTorch), or of the old estimate (Keras,
                             Chainer's decay)
    the running variance     unbiased (PyTorch, Chainer, the paper) or biased (Keras)
    Momentum                 v = μ v + g (PyTorch), v = μ v - lr g (Keras, Chainer, Sutskever et
                             al.), v = β v + (1 - β) g (Ng's lectures)
    eps of RMSprop           √s + eps (PyTorch, Chainer) or √(s + eps) (Keras)
    eps of Adam              √(v / (1 - β₂ᵗ)) + eps (the paper's algorithm 1, PyTorch) or, before
                             the correction, √v + eps (Keras, Chainer)

Every convention is read into minigrad's settings, which can express all of them, and written from
there. What another framework cannot express is refused, not approximated.

Keras stands for TensorFlow, too, whose ``tf.keras`` it is. Sources: the frameworks' code, Keras
3 (``layers/normalization``, ``optimizers``), Chainer 7 (``functions/normalization``,
``optimizers``), PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.engine import set_recording
from minigrad.errors import CheckpointError
from minigrad.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from minigrad.nn.embedding import Embedding
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import LayerNorm, _BatchNorm
from minigrad.tensor import Tensor

__all__ = [
    "FRAMEWORKS",
    "KINDS",
    "ConventionError",
    "adopt",
    "convert",
    "defaults",
    "load_weights",
    "table",
    "weights",
]

Settings = dict[str, Any]


class ConventionError(ValueError):
    """A setting that the other framework has no exact counterpart for."""


@dataclass(frozen=True)
class Form:
    """How one framework sets one thing: its names with their defaults, and what they mean here."""

    rule: str  #: the update, in its own names
    defaults: Settings
    read: Callable[[Settings], Settings]  #: its settings -> minigrad's
    write: Callable[[Settings], Settings]  #: minigrad's -> its; ConventionError where it has none


def _renamed(**names: str) -> tuple[Any, Any]:
    """(read, write) where only names differ: ``theirs="ours"``."""
    return (
        lambda s: {ours: s[theirs] for theirs, ours in names.items()},
        lambda s: {theirs: s[ours] for theirs, ours in names.items()},
    )


def _must(s: Settings, name: str, value: Any, why: str) -> None:
    if s[name] != value:
        raise ConventionError(f"{name}={s[name]!r} has no counterpart: {why}")


# ---- BatchNorm ----------------------------------------------------------------------------------

_BATCH_NORM: Settings = {"eps": 1e-5, "momentum": 0.1, "unbiased": True}


def _bn_pytorch(s: Settings) -> Settings:
    _must(s, "unbiased", True, "PyTorch keeps the unbiased variance only")
    return {"eps": s["eps"], "momentum": s["momentum"]}


def _bn_of_decay(decay: str, eps: str, unbiased: bool, whose: str, average: str) -> tuple[Any, Any]:
    def read(s: Settings) -> Settings:
        return {"eps": s[eps], "momentum": _rest(s[decay]), "unbiased": unbiased}

    def write(s: Settings) -> Settings:
        kind = "unbiased" if unbiased else "biased"
        _must(s, "unbiased", unbiased, f"{whose} keeps the {kind} variance only")
        if s["momentum"] is None:
            raise ConventionError(f"momentum=None, the mean of all batches, {average}")
        return {decay: _rest(s["momentum"]), eps: s["eps"]}

    return read, write


def _rest(share: float) -> float:
    """1 - share, without the tail that binary fractions leave: 0.99 -> 0.01."""
    return float(f"{1 - share:.12g}")


def _bn_paper(s: Settings) -> Settings:
    _must(s, "unbiased", True, "the paper has m / (m - 1) E[var]")
    _must(s, "momentum", None, "the paper's algorithm 2 takes the mean over batches")
    return {"eps": s["eps"]}


# ---- Momentum -----------------------------------------------------------------------------------

_MOMENTUM: Settings = {"lr": 1e-2, "momentum": 0.9, "form": "heavy-ball", "nesterov": False}


def _momentum(lr: str, mu: str, form: str, nesterov: str | None, whose: str) -> tuple[Any, Any]:
    """A framework with one form; ``nesterov`` is its name for that variant, None: it has none."""

    def read(s: Settings) -> Settings:
        ahead = bool(nesterov and s[nesterov])
        return {"lr": s[lr], "momentum": s[mu], "form": form, "nesterov": ahead}

    def write(s: Settings) -> Settings:
        if s["nesterov"] and nesterov is None:
            raise ConventionError(f"nesterov=True has no counterpart: {whose} has no such variant")
        rate, beta, constant = s["lr"], s["momentum"], s.get("constant_lr", True)
        if form != s["form"] and "velocity" in (form, s["form"]) and not constant and beta:
            raise ConventionError(
                f"form={s['form']!r} is not {form!r} while lr changes: one holds past gradients "
                "with the lr they came with, the other rescales them to the present lr. "
                f'minigrad has both: optim.Momentum(form="{s["form"]}")'
            )
        if form == "ema" != s["form"]:
            rate = rate / _rest(beta)
        elif form != "ema" == s["form"]:
            rate = rate * _rest(beta)
        return {lr: rate, mu: beta, **({nesterov: s["nesterov"]} if nesterov else {})}

    return read, write


def _momentum_here(s: Settings) -> Settings:
    """minigrad's optim.Momentum, or optim.SGD for Nesterov's variant, which is a heavy ball."""
    if not s["nesterov"]:
        return {name: s[name] for name in ("lr", "momentum", "form")}
    write = _momentum("lr", "momentum", "heavy-ball", "nesterov", "")[1]
    return dict(write(s))


# ---- RMSprop ------------------------------------------------------------------------------------

_RMSPROP: Settings = {
    "lr": 1e-2,
    "alpha": 0.99,
    "eps": 1e-8,
    "momentum": 0,
    "centered": False,
    "eps_inside_sqrt": False,
}


def _rmsprop(names: Settings, inside: bool | None, lr_inside: bool, whose: str) -> tuple[Any, Any]:
    """``names``: ours -> theirs. inside None: it has the switch; lr_inside: velocities hold lr."""

    def read(s: Settings) -> Settings:
        ours = {**_RMSPROP, "eps": 0.0, **{our: s[their] for our, their in names.items()}}
        if inside is not None:
            ours["eps_inside_sqrt"] = inside
        if lr_inside and ours["momentum"] and not s.get("constant_lr", True):
            raise ConventionError(_LR_INSIDE.format(whose=whose))
        return ours

    def write(s: Settings) -> Settings:
        if inside is not None and s["eps"] and s["eps_inside_sqrt"] != inside:
            raise ConventionError(
                f"eps={s['eps']!r} {'inside' if s['eps_inside_sqrt'] else 'outside'} the root has "
                f"no counterpart: {whose} has it {'inside' if inside else 'outside'}, and "
                "√(s + eps) is √s + another eps at one s only. "
                f"minigrad has both: optim.RMSprop(eps_inside_sqrt={s['eps_inside_sqrt']})"
            )
        for name, value in _RMSPROP.items():
            if name not in names and name in ("momentum", "centered"):
                _must(s, name, value, f"{whose} has none")
        if "eps" not in names:
            _must(s, "eps", 0.0, f"{whose} has none")
        if lr_inside and s["momentum"] and not s.get("constant_lr", True):
            raise ConventionError(_LR_INSIDE.format(whose=whose))
        return {their: s[our] for our, their in names.items()}

    return read, write


_LR_INSIDE = (
    "momentum of {whose}'s RMSprop holds past steps with the lr they came with, minigrad's and "
    "PyTorch's rescale them: they are the same while lr is constant only"
)


# ---- Adam ---------------------------------------------------------------------------------------

_ADAM: Settings = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "amsgrad": False,
    "eps_hat": False,
}


def _adam(names: Settings, hat: bool, whose: str) -> tuple[Any, Any]:
    """``names``: ours -> theirs, with beta1 and beta2 for the two betas."""

    def read(s: Settings) -> Settings:
        betas = (s[names["beta1"]], s[names["beta2"]]) if "beta1" in names else s["betas"]
        amsgrad = s[names["amsgrad"]] if "amsgrad" in names else False
        return {
            "lr": s[names["lr"]],
            "betas": tuple(betas),
            "eps": s[names["eps"]],
            "amsgrad": amsgrad,
            "eps_hat": hat,
        }

    def write(s: Settings) -> Settings:
        if s["eps"] and s["eps_hat"] != hat:
            raise ConventionError(
                f"eps={s['eps']!r} {'before' if s['eps_hat'] else 'after'} the correction has no "
                f"counterpart: {whose} adds it {'before' if hat else 'after'}, and the two differ "
                "by √(1 - beta2^t), another factor at each step. "
                f"minigrad has both: optim.Adam(eps_hat={s['eps_hat']})"
            )
        if "amsgrad" not in names:
            _must(s, "amsgrad", False, f"{whose} has none that keeps its maximum")
        given = {**s, "beta1": s["betas"][0], "beta2": s["betas"][1]}
        return {their: given[our] for our, their in names.items()}

    return read, write


# ---- the table ----------------------------------------------------------------------------------


def _form(rule: str, defaults: Settings, both: tuple[Any, Any]) -> Form:
    return Form(rule, defaults, *both)


def _same(s: Settings) -> Settings:
    return {k: v for k, v in s.items() if k != "constant_lr"}


_RMS_NAMES = {n: n for n in ("lr", "alpha", "eps", "momentum", "centered")}
_ADAM_NAMES = {n: n for n in ("lr", "betas", "eps", "amsgrad")}

FORMS: dict[str, dict[str, Form]] = {
    "BatchNorm": {
        "minigrad": Form(
            "r = (1 - momentum) r + momentum b, either variance", _BATCH_NORM, _same, _same
        ),
        "pytorch": Form(
            "r = (1 - momentum) r + momentum b, variance unbiased",
            {"eps": 1e-5, "momentum": 0.1},
            lambda s: {**s, "unbiased": True},
            _bn_pytorch,
        ),
        "keras": _form(
            "r = momentum r + (1 - momentum) b, variance biased",
            {"momentum": 0.99, "epsilon": 1e-3},
            _bn_of_decay("momentum", "epsilon", False, "Keras", "is not there in Keras"),
        ),
        "chainer": _form(
            "r = decay r + (1 - decay) b, variance unbiased",
            {"decay": 0.9, "eps": 2e-5},
            _bn_of_decay("decay", "eps", True, "Chainer", "is finetune=True of a call in Chainer"),
        ),
        "paper": Form(
            "r = mean of all b, variance m / (m - 1) E[b]",
            {"eps": 1e-5},
            lambda s: {"eps": s["eps"], "momentum": None, "unbiased": True},
            _bn_paper,
        ),
    },
    "Momentum": {
        "minigrad": Form("all three", _MOMENTUM, _same, _momentum_here),
        "pytorch": _form(
            "v = momentum v + g; w = w - lr v",
            {"lr": 1e-3, "momentum": 0.0, "nesterov": False},
            _momentum("lr", "momentum", "heavy-ball", "nesterov", "PyTorch"),
        ),
        "keras": _form(
            "v = momentum v - learning_rate g; w = w + v",
            {"learning_rate": 1e-2, "momentum": 0.0, "nesterov": False},
            _momentum("learning_rate", "momentum", "velocity", "nesterov", "Keras"),
        ),
        "chainer": _form(
            "v = momentum v - lr g; w = w + v",
            {"lr": 1e-2, "momentum": 0.9},
            _momentum("lr", "momentum", "velocity", None, "Chainer's MomentumSGD"),
        ),
        "paper": _form(
            "v = mu v - epsilon g; w = w + v (Sutskever et al. 2013, eq. 1 and 2)",
            {"epsilon": 1e-2, "mu": 0.9},
            _momentum("epsilon", "mu", "velocity", None, "its equation 1"),
        ),
        "lecture": _form(
            "v = beta v + (1 - beta) g; w = w - alpha v",
            {"alpha": 1e-2, "beta": 0.9},
            _momentum("alpha", "beta", "ema", None, "the lecture"),
        ),
    },
    "RMSprop": {
        "minigrad": Form("either", _RMSPROP, _same, _same),
        "pytorch": _form(
            "w = w - lr g / (√s + eps)",
            {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False},
            _rmsprop(_RMS_NAMES, False, False, "PyTorch"),
        ),
        "keras": _form(
            "w = w - learning_rate g / √(s + epsilon)",
            {
                "learning_rate": 1e-3,
                "rho": 0.9,
                "momentum": 0.0,
                "epsilon": 1e-7,
                "centered": False,
            },
            _rmsprop(
                {
                    "lr": "learning_rate",
                    "alpha": "rho",
                    "eps": "epsilon",
                    "momentum": "momentum",
                    "centered": "centered",
                },
                True,
                True,
                "Keras",
            ),
        ),
        "chainer": _form(
            "either",
            {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "eps_inside_sqrt": False},
            _rmsprop(
                {n: n for n in ("lr", "alpha", "eps", "eps_inside_sqrt")}, None, False, "Chainer"
            ),
        ),
        "lecture": _form(
            "w = w - lr g / √s (Tieleman and Hinton 2012)",
            {"lr": 1e-3, "decay": 0.9},
            _rmsprop({"lr": "lr", "alpha": "decay"}, False, False, "the lecture"),
        ),
    },
    "Adam": {
        "minigrad": Form("either", _ADAM, _same, _same),
        "pytorch": _form(
            "w = w - lr m̂ / (√v̂ + eps)",
            {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False},
            _adam(_ADAM_NAMES, False, "PyTorch"),
        ),
        "keras": _form(
            "w = w - learning_rate √(1 - beta_2^t) / (1 - beta_1^t) m / (√v + epsilon)",
            {
                "learning_rate": 1e-3,
                "beta_1": 0.9,
                "beta_2": 0.999,
                "epsilon": 1e-7,
                "amsgrad": False,
            },
            _adam(
                {
                    "lr": "learning_rate",
                    "beta1": "beta_1",
                    "beta2": "beta_2",
                    "eps": "epsilon",
                    "amsgrad": "amsgrad",
                },
                True,
                "Keras",
            ),
        ),
        "chainer": _form(
            "w = w - alpha √(1 - beta2^t) / (1 - beta1^t) m / (√v + eps)",
            {"alpha": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
            _adam(
                {"lr": "alpha", "beta1": "beta1", "beta2": "beta2", "eps": "eps"}, True, "Chainer"
            ),
        ),
        "paper": _form(
            "w = w - alpha m̂ / (√v̂ + epsilon) (Kingma and Ba 2015, algorithm 1)",
            {"alpha": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
            _adam(
                {"lr": "alpha", "beta1": "beta1", "beta2": "beta2", "eps": "epsilon"},
                False,
                "algorithm 1",
            ),
        ),
    },
}

KINDS = tuple(FORMS)
FRAMEWORKS = ("minigrad", "pytorch", "keras", "chainer", "paper", "lecture")


# ---- settings -----------------------------------------------------------------------------------


def defaults(kind: str, framework: str) -> Settings:
    """A framework's default settings, in its own names."""
    return dict(_find(kind, framework).defaults)


def convert(
    kind: str,
    settings: Mapping[str, Any],
    source: str,
    target: str = "minigrad",
    *,
    constant_lr: bool = True,
) -> Settings:
    """Settings of one framework, in its names, as those of another that do the same.

    Args:
        kind: ``"BatchNorm"``, ``"Momentum"``, ``"RMSprop"`` or ``"Adam"``.
        settings: in the names of ``source``; what is left out has the default there, not here.
        source, target: of ``FRAMEWORKS``. ``"keras"`` is TensorFlow's, too; ``"lecture"`` has the
            Momentum of Ng's course and the RMSprop of Hinton's; ``"paper"`` Ioffe and Szegedy,
            Sutskever et al., Kingma and Ba.
        constant_lr: whether lr stays as it is. The forms of Momentum that hold lr in the velocity
            and those that do not are the same only then.

    Returns:
        Settings in the names of ``target``. Of minigrad they are arguments of ``nn.BatchNorm1d``,
        ``optim.Momentum`` (``optim.SGD`` where nesterov is among them), ``optim.RMSprop`` and
        ``optim.Adam``.

    Raises:
        ConventionError: where the target has no settings that compute the same.
        TypeError: a setting that the source does not have.

    Example:
        >>> convert("BatchNorm", {"momentum": 0.99}, "keras")
        {'eps': 0.001, 'momentum': 0.01, 'unbiased': False}
        >>> convert("Momentum", {"lr": 0.1, "momentum": 0.9}, "pytorch", "lecture")
        {'alpha': 1.0, 'beta': 0.9}
    """
    there, here = _find(kind, source), _find(kind, target)
    unknown = sorted(set(settings) - set(there.defaults))
    if unknown:
        raise TypeError(
            f"{kind} of {source} takes {', '.join(there.defaults)}, got {', '.join(unknown)}."
        )
    flag = {"constant_lr": constant_lr}
    try:
        ours = there.read({**there.defaults, **settings, **flag})
        return dict(here.write({**ours, **flag}))
    except ConventionError as error:
        raise ConventionError(f"{kind}, {source} to {target}: {error}.") from None


def _find(kind: str, framework: str) -> Form:
    if kind not in FORMS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    if framework not in FORMS[kind]:
        raise ValueError(
            f"{kind} is known of {', '.join(map(repr, FORMS[kind]))}, got {framework!r}."
        )
    return FORMS[kind][framework]


def adopt(model: Module, framework: str, **settings: Any) -> Module:
    """Give every BatchNorm of a model a framework's convention; gives the model.

    Momentum, eps and which variance is kept are set; weights and running estimates stay.

    Args:
        framework: of ``FRAMEWORKS``.
        settings: in its names; what is left out has its default.

    Example:
        >>> from minigrad import nn
        >>> adopt(nn.BatchNorm1d(3), "keras", momentum=0.9)
        BatchNorm1d(3, eps=0.001, momentum=0.1, affine=True, bias=True, track_running_stats=True,
            unbiased=False)  # running = 0.9 running + 0.1 batch, variance biased
    """
    ours = convert("BatchNorm", settings, framework)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eps, module.momentum = ours["eps"], ours["momentum"]
            module.unbiased = ours["unbiased"]
    return model


# ---- weights ------------------------------------------------------------------------------------

#: For each layer and framework: our name -> (its name, its order of our axes).
Places = dict[str, tuple[str, tuple[int, ...] | None]]
_KERAS: list[tuple[Any, Places]] = [
    (Linear, {"weight": ("kernel", (1, 0)), "bias": ("bias", None)}),
    (Conv1d, {"weight": ("kernel", (2, 1, 0)), "bias": ("bias", None)}),
    (Conv2d, {"weight": ("kernel", (2, 3, 1, 0)), "bias": ("bias", None)}),
    (ConvTranspose1d, {"weight": ("kernel", (2, 1, 0)), "bias": ("bias", None)}),
    (ConvTranspose2d, {"weight": ("kernel", (2, 3, 1, 0)), "bias": ("bias", None)}),
    (
        _BatchNorm,
        {
            "weight": ("gamma", None),
            "bias": ("beta", None),
            "running_mean": ("moving_mean", None),
            "running_var": ("moving_variance", None),
        },
    ),
    (LayerNorm, {"weight": ("gamma", None), "bias": ("beta", None)}),
    (Embedding, {"weight": ("embeddings", None)}),
]
_CHAINER: list[tuple[Any, Places]] = [
    (Linear, {"weight": ("W", None), "bias": ("b", None)}),
    (
        (Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d),
        {"weight": ("W", None), "bias": ("b", None)},
    ),
    (
        _BatchNorm,
        {
            "weight": ("gamma", None),
            "bias": ("beta", None),
            "running_mean": ("avg_mean", None),
            "running_var": ("avg_var", None),
        },
    ),
    (LayerNorm, {"weight": ("gamma", None), "bias": ("beta", None)}),
    (Embedding, {"weight": ("W", None)}),
]


def weights(
    model: Module,
    framework: str,
    *,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """A model's weights in a framework's names and layouts, by layer: ``"0/kernel"``.

    Keras has weights of Linear as (in, out) and of convolutions as (h, w, in, out), Chainer as
    minigrad has them.

    Args:
        framework: ``"keras"`` or ``"chainer"``.
        flattened: for each Linear that follows a Flatten of images, by its path, their (C, H, W):
            Keras flattens them as (H, W, C), so that the rows of its kernel come in that order.

    Raises:
        ConventionError: a layer with weights that is not in the table.
    """
    images = flattened or {}
    found = {}
    for key, tensor, axes, path in _entries(model, framework):
        array = tensor.detach().cpu().numpy()
        if path in images and framework == "keras" and array.ndim == 2:
            array = np.moveaxis(array.reshape(-1, *images[path]), 1, -1).reshape(array.shape)
        found[key] = np.ascontiguousarray(array if axes is None else array.transpose(axes))
    return found


def load_weights(
    model: Module,
    arrays: Mapping[str, Any],
    framework: str,
    *,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> Module:
    """The other way: put a framework's weights, as ``weights`` names them, into a model.

    Raises:
        CheckpointError: where names or shapes do not fit; nothing is changed then.
    """
    images = flattened or {}
    entries = list(_entries(model, framework))
    names = {key for key, *_ in entries}
    if names != set(arrays):
        raise CheckpointError(
            f"the weights of {framework} do not fit: missing {sorted(names - set(arrays))}, "
            f"unknown {sorted(set(arrays) - names)}."
        )
    new = []
    for key, tensor, axes, path in entries:
        array = np.asarray(arrays[key])
        expected = tuple(tensor.shape if axes is None else (tensor.shape[i] for i in axes))
        if array.shape != expected:
            raise CheckpointError(f"{key} has shape {array.shape}, expected {expected}.")
        array = array if axes is None else array.transpose(np.argsort(axes))
        if path in images and framework == "keras" and array.ndim == 2:
            c, *places = images[path]
            array = np.moveaxis(array.reshape(-1, *places, c), -1, 1).reshape(array.shape)
        new.append((tensor, Tensor(np.ascontiguousarray(array))))
    with set_recording(False):
        for tensor, value in new:
            tensor.copy_(value)
    return model


def _entries(model: Module, framework: str) -> Any:
    """(name there, tensor, order of axes, path) of every weight and running estimate."""
    layouts = {"keras": _KERAS, "chainer": _CHAINER}
    if framework not in layouts:
        raise ValueError(f'weights are known of "keras" and "chainer", got {framework!r}.')
    for path, module in model.named_modules():
        own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        own |= {n: b for n, b in module.named_buffers(recurse=False) if n != "num_batches_tracked"}
        if not own:
            continue
        places = next((p for kind, p in layouts[framework] if isinstance(module, kind)), None)
        if places is None or set(own) - set(places):
            raise ConventionError(
                f"{type(module).__name__} ({path or 'the model'}) is not in the table of "
                f"{framework}; convert its weights by hand."
            )
        for name, tensor in own.items():
            theirs, axes = places[name]
            yield f"{path}/{theirs}" if path else theirs, tensor, axes, path


# ---- printing -----------------------------------------------------------------------------------


def table() -> str:
    """All of it as Markdown: each framework's rule and defaults, what they are here, and which
    settings can go where. Every cell is computed by ``convert``.
    """
    blocks = []
    for kind, forms in FORMS.items():
        lines = [
            f"### {kind}",
            "",
            "| whose | rule | defaults | the same in minigrad |",
            "|---|---|---|---|",
        ]
        for name, form in forms.items():
            if name != "minigrad":
                ours = _listed(convert(kind, {}, name))
                lines.append(f"| {name} | {form.rule} | {_listed(form.defaults)} | {ours} |")
        lines += ["", f"| {kind} of | to {' | to '.join(forms)} |", "|---" * (len(forms) + 1) + "|"]
        for source in forms:
            cells = [_verdict(kind, source, target) for target in forms]
            lines.append(f"| {source} | {' | '.join(cells)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _listed(settings: Settings) -> str:
    return ", ".join(
        f"`{k}={v:g}`" if isinstance(v, float) else f"`{k}={v}`" for k, v in settings.items()
    )


def _verdict(kind: str, source: str, target: str) -> str:
    """Whether the source's defaults (with momentum, where it has some) can go to the target."""
    given = {"momentum": 0.9} if kind == "Momentum" and source in ("pytorch", "keras") else {}
    for constant, verdict in ((False, "yes"), (True, "while lr is constant")):
        try:
            convert(kind, given, source, target, constant_lr=constant)
        except ConventionError:
            continue
        return verdict
    return "no"
