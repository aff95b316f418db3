"""Random graphs, the same here and in PyTorch: values and derivatives to the third order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

ONE = ("tanh", "sin", "sigmoid", "exp", "relu", "abs", "cos", "erf")


def _set(a: Any, b: Any) -> Any:
    y = a * 1.0
    y[1] = b[0] * 2
    return y


def _in_place(a: Any, b: Any) -> Any:
    y = a * 1.0
    y += b
    y *= 0.5
    return y


#: (library, a, b), both (3, 3): a step of a graph, of any kind, of moderate size.
STEPS: list[Callable[[Any, Any, Any], Any]] = [
    *(lambda t, a, b, name=name: getattr(a, name)() for name in ONE),
    lambda t, a, b: a + b,
    lambda t, a, b: a * b * 0.5,
    lambda t, a, b: a / (b * b + 1),
    lambda t, a, b: a - b * 0.3,
    lambda t, a, b: a @ b.T @ a * 0.1,
    lambda t, a, b: a.sum(0, keepdim=True) * 0.2 + b,
    lambda t, a, b: a.softmax(1),
    lambda t, a, b: a.log_softmax(0) * 0.3 + b,
    lambda t, a, b: a.logsumexp(0, keepdim=True).expand(3, 3) - b,
    lambda t, a, b: a.reshape(-1).reshape(3, 3)[:, [0, 2, 2]] + b,
    lambda t, a, b: a.gather(1, t.tensor([[0, 1, 1], [2, 0, 0], [1, 1, 2]])) + b,
    lambda t, a, b: t.cat((a[:2], b[2:])),
    lambda t, a, b: t.where(a > b.detach(), a, b * b),
    lambda t, a, b: a.var(1, keepdim=True) + b.T,
    lambda t, a, b: a.amax(1, keepdim=True) * b,
    lambda t, a, b: a.max(1, keepdim=True)[0] + b.sort(0)[0] * 0.3,
    lambda t, a, b: (a * a + 0.5) ** (b.tanh() * 0.5),
    lambda t, a, b: t.einsum("ij,kj->ik", a, b) * 0.3,
    lambda t, a, b: a.cumsum(0) * 0.3 + b.flip(1),
    lambda t, a, b: a.clamp(-0.7, 0.9) + b.tril(),
    lambda t, a, b: a.prod(1, keepdim=True) * 0.3 + b,
    lambda t, a, b: _set(a, b),
    lambda t, a, b: _in_place(a, b),
]


def derivatives(t: Any, grad: Any, arrays: list[Any], plan: Any) -> list[Any]:
    """A value, its gradients, and those of their squares, and of theirs."""
    xs = [t.tensor(a) for a in arrays]
    for x in xs:
        x.requires_grad_()
    nodes = list(xs)
    for kind, i, j in plan:
        nodes.append(STEPS[kind](t, nodes[i % len(nodes)], nodes[j % len(nodes)]))
    total = sum((n * n).mean() for n in nodes[-3:])
    found = [total, *grad(total, xs, retain_graph=True, allow_unused=True)]
    for _ in range(3):
        slopes = grad(total, xs, create_graph=True, allow_unused=True)
        found += slopes
        total = sum((g * g).sum() * 0.3 for g in slopes if g is not None)
        if isinstance(total, int) or not total.requires_grad:
            break
    return found


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((3, 3)) for _ in range(3)]
    length = rng.integers(3, 12)
    plan = [(rng.integers(len(STEPS)), *rng.integers(0, 99, 2)) for _ in range(length)]
    ours = derivatives(mg, mg.grad, arrays, plan)
    theirs = derivatives(torch, torch.autograd.grad, arrays, plan)
    for a, b in zip(ours, theirs, strict=False):  # PyTorch may go on where all is zero
        found = np.zeros((3, 3)) if a is None else a.detach().numpy()
        expected = np.zeros((3, 3)) if b is None else b.detach().numpy()
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10 * scale)
