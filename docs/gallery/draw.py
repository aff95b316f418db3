"""The gallery: ``python -m docs.gallery.draw`` draws every picture of it, light and dark.

``PICTURES`` has a model, its input and how it is drawn for each; the tests draw the same and hold
that drawing changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad import Tensor, nn, viz
from minigrad.nn import functional as F

HERE = Path(__file__).resolve().parent
THEMES = ("light", "dark")


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.bn1 = nn.BatchNorm1d(8)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        return self.fc2(self.act(self.bn1(self.fc1(x))))


class CNN(nn.Module):
    """A convolution with BatchNorm, pooling, dropout and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        x = self.pool(self.act(self.bn(self.conv(x))))
        return self.fc(self.drop(x.flatten(1)))


class Block(nn.Module):
    """A residual block: x + relu(bn(fc(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.bn = nn.BatchNorm1d(8)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the block adds."""
        return x + self.act(self.bn(self.fc(x)))


class Residual(nn.Module):
    """A stem, equal blocks, a head."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.Sequential(*[Block() for _ in range(blocks)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        return self.head(self.blocks(self.stem(x)))


TARGET = [0, 1, 2, 0, 1, 2, 0, 1]


def classified(model: nn.Module, *shape: int) -> Tensor:
    """The loss of a model that tells three classes apart, on eight samples."""
    return F.cross_entropy(model(mg.randn(8, *shape)), mg.tensor(TARGET))


def encoded(model: nn.Module) -> Tensor:
    """A transformer block on two sentences of five words."""
    return F.mse_loss(model(mg.randn(2, 5, 8)), mg.randn(2, 5, 8))


def penalized(model: nn.Module) -> Tensor:
    """The norm of the gradient with respect to the input, as gradient penalties have it."""
    x = mg.randn(8, 4, requires_grad=True)
    (dx,) = mg.autograd.grad(model(x).square().mean(), x, create_graph=True)
    return dx.square().sum()


@dataclass(frozen=True)
class Picture:
    """How one picture is made."""

    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module], Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    train: bool = True

    def setup(self) -> tuple[nn.Module, Tensor]:
        """The model and its loss, always the same."""
        mg.manual_seed(0)
        model = self.model().train(self.train)
        return model, self.loss(model)

    def draw(self, model: nn.Module, loss: Tensor, theme: str = "light") -> viz.Graph:
        """The graph."""
        return viz.graph(loss, model, theme=theme, **self.options)


def encoder() -> nn.Module:
    """A transformer block of PyTorch's usual making."""
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


def smooth() -> nn.Module:
    """A net whose second derivative is not zero."""
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def mlp_loss(model: nn.Module) -> Tensor:
    """The loss of the MLP."""
    return classified(model, 4)


def cnn_loss(model: nn.Module) -> Tensor:
    """The loss of the CNN, on images of 8 x 8."""
    return classified(model, 1, 8, 8)


LADDER = {"backward": True, "values": True, "grads": True}

PICTURES: dict[str, Picture] = {
    "mlp": Picture(MLP, mlp_loss, LADDER),
    "batchnorm": Picture(MLP, mlp_loss, {"expand": "bn1"}),
    "cnn-train": Picture(CNN, cnn_loss, LADDER),
    "cnn-eval": Picture(CNN, cnn_loss, LADDER, train=False),
    "residual": Picture(Residual, mlp_loss),
    "residual-unrolled": Picture(lambda: Residual(3), mlp_loss, {"roll": False}),
    "transformer": Picture(encoder, encoded),
    "transformer-ladder": Picture(encoder, encoded, LADDER | {"depth": 1}),
    "double-backward": Picture(smooth, penalized, {"backward": 2}),
}


def main() -> None:
    """Write the pictures."""
    for name, picture in PICTURES.items():
        model, loss = picture.setup()
        for theme in THEMES:
            path = HERE / f"{name}-{theme}.svg"
            picture.draw(model, loss, theme).render(path)
            print(path.relative_to(HERE.parent.parent))
    for theme in THEMES:
        path = HERE / f"batch_norm-formula-{theme}.svg"
        viz.formula("batch_norm", theme=theme).render(path)
        print(path.relative_to(HERE.parent.parent))


if __name__ == "__main__":
    main()
