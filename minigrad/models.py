"""The two small classifiers that ``minigrad train`` knows: a multilayer perceptron and a CNN."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from minigrad import nn

NORMS = ("batch", "layer", "none")


def mlp(
    image: Sequence[int], classes: int = 10, norm: str = "batch", hidden: Sequence[int] = (256, 128)
) -> nn.Sequential:
    """Linear layers with normalization and ReLU between them.

    Args:
        image: shape (C, H, W) of one image.
        norm: ``"batch"``, ``"layer"`` or ``"none"``; with a norm the Linear before it has no bias,
            which the norm would take away again.
    """
    _check_norm(norm)
    layers: list[nn.Module] = [nn.Flatten()]
    into = prod(image)
    for out in hidden:
        layers.append(nn.Linear(into, out, bias=norm == "none"))
        if norm != "none":
            layers.append(nn.BatchNorm1d(out) if norm == "batch" else nn.LayerNorm(out))
        layers.append(nn.ReLU())
        into = out
    return nn.Sequential(*layers, nn.Linear(into, classes))


def cnn(
    image: Sequence[int], classes: int = 10, norm: str = "batch", channels: Sequence[int] = (16, 32)
) -> nn.Sequential:
    """Convolutions 3 x 3 with normalization, ReLU and max pooling, then two Linear layers.

    Pooling halves images from 16 x 16 on; smaller ones only once, at the end.

    Args:
        image: shape (C, H, W) of one image.
        norm: ``"batch"``, ``"layer"`` or ``"none"``; with a norm the convolution has no bias.
    """
    _check_norm(norm)
    layers: list[nn.Module] = []
    into, height, width = image
    for i, out in enumerate(channels):
        layers.append(nn.Conv2d(into, out, 3, padding=1, bias=norm == "none"))
        if norm != "none":
            layers.append(
                nn.BatchNorm2d(out) if norm == "batch" else nn.LayerNorm((out, height, width))
            )
        layers.append(nn.ReLU())
        if min(height, width) >= 16 or i == len(channels) - 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        into = out
    flat = into * height * width
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, classes)
    )


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}.")
