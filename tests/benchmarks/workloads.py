"""The workloads, written once: ``torch`` is PyTorch or minigrad, whose surface is the same.

Each function returns what is to be timed; a "step" is zero_grad, forward, loss, backward and
optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Step = Callable[[], Any]


def ops(torch: Any) -> Step:
    """1000 adds and multiplications of 16 x 16 tensors, forward and backward."""
    x = torch.full((16, 16), 0.999, requires_grad=True)
    w = torch.full((16, 16), 0.999, requires_grad=True)

    def step() -> None:
        y = x
        for _ in range(500):
            y = y * w
            y = y + x
        y.sum().backward()
        x.grad = w.grad = None

    return step


def _step(torch: Any, net: Any, x: Any, labels: Any) -> Step:
    loss_fn = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(net(x), labels).backward()
        optimizer.step()

    return step


def tinymlp(torch: Any) -> Step:
    """64-32-10, batch 32, step."""
    nn = torch.nn
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return _step(torch, net, torch.randn(32, 64), torch.randint(0, 10, (32,)))


def mlp(torch: Any) -> Step:
    """784-512-256-10, batch 128, step."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    return _step(torch, net, torch.randn(128, 784), torch.randint(0, 10, (128,)))


def mlpbn(torch: Any) -> Step:
    """The same with BatchNorm1d."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(784, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )
    return _step(torch, net, torch.randn(128, 784), torch.randint(0, 10, (128,)))


def papermlp(torch: Any) -> Step:
    """784-100-100-100-10 with sigmoid and BatchNorm1d, batch 60 (Ioffe and Szegedy, 4.1), step."""
    nn = torch.nn
    layers, into = [], 784
    for _ in range(3):
        layers += [nn.Linear(into, 100, bias=False), nn.BatchNorm1d(100), nn.Sigmoid()]
        into = 100
    net = nn.Sequential(*layers, nn.Linear(100, 10))
    return _step(torch, net, torch.randn(60, 784), torch.randint(0, 10, (60,)))


def _cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def cnn(torch: Any) -> Step:
    """Two blocks conv 3x3, BatchNorm2d, ReLU, max pool; two Linear; batch 64 of 28x28; step."""
    return _step(torch, _cnn(torch), torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,)))


def resnet(torch: Any) -> Step:
    """Three residual stages 16-32-64 on 32x32 images, batch 32, step."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, into: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out)
            self.relu = nn.ReLU()
            self.short = (
                nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                if stride > 1 or into != out
                else nn.Identity()
            )

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.short(x))

    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    return _step(torch, net, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,)))


def _both_ways(module: Any, x: Any, seed: Any) -> Step:
    def step() -> None:
        module(x).backward(seed)
        x.grad = None
        for p in module.parameters():
            p.grad = None

    return step


def conv(torch: Any) -> Step:
    """conv2d (32,64,32,32) * (64,64,3,3), padding 1, forward and both gradients."""
    x = torch.randn(32, 64, 32, 32, requires_grad=True)
    return _both_ways(torch.nn.Conv2d(64, 64, 3, padding=1), x, torch.randn(32, 64, 32, 32))


def bn2d(torch: Any) -> Step:
    """BatchNorm2d of (64,64,32,32), forward and backward."""
    x = torch.randn(64, 64, 32, 32, requires_grad=True)
    return _both_ways(torch.nn.BatchNorm2d(64), x, torch.randn(64, 64, 32, 32))


def ln(torch: Any) -> Step:
    """LayerNorm of (4096,768), forward and backward."""
    x = torch.randn(4096, 768, requires_grad=True)
    return _both_ways(torch.nn.LayerNorm(768), x, torch.randn(4096, 768))


def linear(torch: Any) -> Step:
    """(512,1024) x (1024,1024) + bias, forward and backward."""
    x = torch.randn(512, 1024, requires_grad=True)
    return _both_ways(torch.nn.Linear(1024, 1024), x, torch.randn(512, 1024))


def adam(torch: Any) -> Step:
    """One Adam step over 20 arrays of 1000 x 1000."""
    params = [torch.nn.Parameter(torch.randn(1000, 1000)) for _ in range(20)]
    for p in params:
        p.grad = torch.randn(1000, 1000)
    return torch.optim.Adam(params, lr=1e-3).step


def infer(torch: Any) -> Step:
    """The cnn in eval mode under no_grad, batch 1."""
    net = _cnn(torch).eval()
    x = torch.randn(1, 1, 28, 28)

    def step() -> None:
        with torch.no_grad():
            net(x)

    return step


ROWS: dict[str, Callable[[Any], Step]] = {
    f.__name__: f
    for f in (ops, tinymlp, mlp, mlpbn, papermlp, cnn, resnet, conv, bn2d, ln, linear, adam, infer)
}
