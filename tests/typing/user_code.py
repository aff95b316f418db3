"""Typical user code, fully typed: ``mypy --strict`` accepts it (tests/test_typing.py)."""

from __future__ import annotations

from pathlib import Path

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.data import DataLoader, TensorDataset
from minigrad.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(mg.ones(width))
        self.register_buffer("calls", mg.zeros((), dtype=mg.int64))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dropout(F.relu(self.norm(self.linear(x))))
        return x + self.scale * h


def make(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(Block(width), Block(width), nn.Linear(width, classes))


def train(model: nn.Module, data: TensorDataset, epochs: int) -> list[float]:
    optimizer = optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    losses: list[float] = []
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=8, shuffle=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@mg.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    right: Tensor = model(x).argmax(dim=1) == y
    return float(right.float().mean())


def penalty(model: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = mg.grad(model(x).sum(), x, create_graph=True)
    return ((gradient.norm(2, dim=1) - 1) ** 2).mean()


def save(model: nn.Module, path: Path) -> None:
    mg.save(model.state_dict(), path)
    model.load_state_dict(mg.load(path))


def main() -> None:
    mg.manual_seed(0)
    x, y = mg.randn(64, 4), mg.randint(0, 3, (64,))
    model = make(4, 3)
    losses = train(model, TensorDataset(x, y), epochs=2)
    values, indices = x.max(dim=1)
    stacked = mg.stack([values, indices.float()], dim=0)[..., None].squeeze(-1)
    print(losses[-1], accuracy(model, x, y), penalty(model, x).item(), stacked.shape)
    mg.viz.graph(F.cross_entropy(model(x), y), model=model)


if __name__ == "__main__":
    main()
