"""param_groups: which parameters get weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad import nn
from minigrad.nn.module import Module
from minigrad.optim.optimizer import in_range

NORMS = tuple(
    kind
    for name, kind in sorted(vars(nn).items())
    if "norm" in name.lower() and isinstance(kind, type) and issubclass(kind, Module)
)
WORDS = ("norm", "bias", "embedding")


def param_groups(
    model: Module,
    weight_decay: float,
    no_decay: str | Iterable[str] = "norm,bias",
    *,
    lr: float | None = None,
) -> list[dict[str, Any]]:
    """The model's parameters in two groups for an optimizer: with weight decay, and without.

    Weight decay keeps a layer's map from growing steep. γ and β of a normalization and biases do
    not make it steep: to pull them to 0 fights the normalization and helps nobody, and since a
    weight before a normalization can shrink without any effect, decay acts there on the learning
    rate alone. PyTorch decays them all unless told otherwise.

    Args:
        model: whose parameters; each comes with its name, which the optimizer keeps.
        weight_decay: λ of the first group; the second has 0.
        no_decay: what goes into the second group, words with commas or a list of them: ``"norm"``
            (the parameters of normalization layers), ``"bias"`` (what is called so),
            ``"embedding"``.
        lr: the learning rate of both; None: the optimizer's.

    Returns:
        Groups for any optimizer; one that would be empty is left out.

    Source: He et al. (2019), "Bag of tricks", arXiv:1812.01187, section 3.1: no bias decay.

    Example:
        >>> from minigrad import optim
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> optimizer = optim.AdamW(param_groups(model, weight_decay=0.01))
        >>> [(g["weight_decay"], g["param_names"]) for g in optimizer.param_groups]
        [(0.01, ['0.weight']), (0.0, ['0.bias', '1.weight', '1.bias'])]
    """
    if not isinstance(model, Module):
        raise TypeError(
            f"param_groups() takes a model, an nn.Module, got {type(model).__name__}: it looks at "
            "the layers that the parameters belong to."
        )
    in_range({"weight_decay": weight_decay}, "weight_decay")
    rate = {} if lr is None else {"lr": lr}
    in_range(rate, *rate)
    words = _words(no_decay)
    spared = set()
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if (
                ("norm" in words and isinstance(module, NORMS))
                or ("bias" in words and name.split("_")[0] == "bias")
                or ("embedding" in words and "Embedding" in type(module).__name__)
            ):
                spared.add(id(p))
    named = list(model.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [(n, p) for n, p in named if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [(n, p) for n, p in named if id(p) in spared], "weight_decay": 0.0},
    ]
    return [{**group, **rate} for group in groups if group["params"]]


def _words(no_decay: Any) -> set[str]:
    if isinstance(no_decay, str):
        no_decay = no_decay.split(",")
    elif not isinstance(no_decay, Iterable):
        raise TypeError(f'no_decay takes words such as "norm,bias", got {no_decay!r}.')
    words = {str(word).strip() for word in no_decay} - {""}
    unknown = sorted(words - set(WORDS))
    if unknown:
        raise ValueError(
            f"no_decay takes {', '.join(map(repr, WORDS))}, got {', '.join(map(repr, unknown))}."
        )
    return words
