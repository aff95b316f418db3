"""Wrong calls of tensor functions: PyTorch's type of error, and a message that helps.

A row is a call, a type, and what the message must name: what was expected, and what came.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg

DATA = {
    "x": np.arange(6.0).reshape(2, 3),
    "y": np.arange(8.0).reshape(2, 4),
    "v": np.arange(3.0),
    "q": np.arange(24.0).reshape(2, 3, 4),
    "s": np.array(1.5),
    "e": np.zeros((0, 3)),
    "i": np.arange(6).reshape(2, 3),
    "k": np.array([0, 1, 2]),
    "far": np.array([0, 1, 7]),
    "c": np.array([[True, False, True], [False, True, True]]),
}

TABLE: list[tuple[str, type[Exception], tuple[str, ...]]] = [
    # shapes
    ("x + y", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.mul(x, y)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("x == y", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.maximum(x, y)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.where(c, x, y)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("x @ y", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("x @ s", RuntimeError, ("(2, 3)", "()")),
    ("t.mm(x, v)", RuntimeError, ("matrices", "(3,)")),
    ("t.bmm(x, x)", RuntimeError, ("(2, 3)",)),
    ("t.mv(v, x)", RuntimeError, ("vector", "(3,)")),
    ("t.dot(x, x)", RuntimeError, ("vectors", "(2, 3)")),
    ("t.dot(v, v[:2])", RuntimeError, ("3", "2")),
    ("t.outer(x, v)", RuntimeError, ("vectors", "(2, 3)")),
    ("t.addmm(y, x, q[0].T)", RuntimeError, ("(2, 3)", "(4, 3)")),
    ("t.addmm(x, x, q[0])", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.baddbmm(q, q, q)", RuntimeError, ("(2, 3, 4)",)),
    ("t.einsum('ij,jk->ik', x, y)", RuntimeError, ("'j'", "3", "2")),
    ("t.einsum('ij->i', v)", RuntimeError, ("(3,)",)),
    ("t.tensordot(x, y, 1)", RuntimeError, ("3", "2")),
    ("t.reshape(x, (4, 2))", RuntimeError, ("(2, 3)", "(4, 2)")),
    ("x.view(5, -1)", RuntimeError, ("(2, 3)", "(5, -1)")),
    ("x.expand(4, 3)", RuntimeError, ("(2, 3)", "(4, 3)")),
    ("t.broadcast_to(x, (3, 3))", RuntimeError, ("(2, 3)", "(3, 3)")),
    ("x.repeat(2)", RuntimeError, ("(2, 3)", "(2,)")),
    ("t.permute(q, (0, 1))", RuntimeError, ("3", "(0, 1)")),
    ("t.permute(q, (0, 1, 1))", RuntimeError, ("twice", "(0, 1, 1)")),
    ("t.t(q)", RuntimeError, ("2", "(2, 3, 4)")),
    ("t.trace(v)", RuntimeError, ("matrix", "(3,)")),
    ("t.diag(q)", RuntimeError, ("matrix", "(2, 3, 4)")),
    ("t.tril(v)", RuntimeError, ("matrix", "(3,)")),
    ("t.fliplr(v)", RuntimeError, ("2 axes", "(3,)")),
    ("t.flipud(s)", RuntimeError, ("1 axis",)),
    ("t.cat((x, y))", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.cat((x, q))", RuntimeError, ("(2, 3)", "(2, 3, 4)")),
    ("t.stack((x, y))", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.split(x, [1, 1], 1)", RuntimeError, ("[1, 1]", "3")),
    ("t.split(x, -1)", RuntimeError, ("-1",)),
    ("t.chunk(x, 0)", RuntimeError, ("0",)),
    ("t.flatten(q, 2, 1)", RuntimeError, ("2", "1")),
    ("t.unflatten(x, 1, (2, 2))", RuntimeError, ("(2, 3)",)),
    ("t.gather(x, 1, k)", RuntimeError, ("2", "(3,)")),
    ("t.scatter(x, 1, k, 1.0)", RuntimeError, ("2", "(3,)")),
    ("t.scatter(x, 1, i * 0, y[:1])", RuntimeError, ("(2, 3)", "(1, 4)")),
    ("t.scatter_add(x, 0, i * 0, x[:1])", RuntimeError, ("(2, 3)", "(1, 3)")),
    ("t.masked_fill(x, c, v)", RuntimeError, ("0-d", "(3,)")),
    ("t.masked_fill(y, c, 1)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.masked_select(y, c)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("t.index_fill(x, 1, k, v)", RuntimeError, ("0-d", "(3,)")),
    ("t.bincount(i)", RuntimeError, ("vector", "(2, 3)")),
    ("t.meshgrid(x, v, indexing='ij')", RuntimeError, ("(2, 3)",)),
    ("x.item()", RuntimeError, ("one element", "(2, 3)")),
    ("bool(x)", RuntimeError, ("(2, 3)",)),
    ("x.clone().add_(q)", RuntimeError, ("(2, 3)", "(2, 3, 4)")),
    ("x.clone().copy_(y)", RuntimeError, ("(2, 3)", "(2, 4)")),
    ("v.clone().add_(x)", RuntimeError, ("(3,)", "(2, 3)")),
    ("x.clone().fill_(v)", RuntimeError, ("0-d", "(3,)")),
    ("t.repeat_interleave(x, k[:2], 1)", RuntimeError, ("3",)),
    ("t.diff(s)", RuntimeError, ("1 axis",)),
    # ranges
    ("t.sum(x, 2)", IndexError, ("[-2, 1]", "2")),
    ("t.softmax(x, -3)", IndexError, ("[-2, 1]", "-3")),
    ("t.transpose(x, 0, 5)", IndexError, ("[-2, 1]", "5")),
    ("t.unsqueeze(x, 4)", IndexError, ("[-3, 2]", "4")),
    ("t.squeeze(x, 2)", IndexError, ("[-2, 1]", "2")),
    ("t.cat((x, x), 2)", IndexError, ("[-2, 1]", "2")),
    ("t.sum(x, (0, 0))", RuntimeError, ("twice", "(0, 0)")),
    ("t.argmax(e, 0)", IndexError, ("(0, 3)",)),
    ("t.argmax(e)", IndexError, ("(0, 3)",)),
    ("t.amax(e, 0)", IndexError, ("(0, 3)",)),
    ("t.max(e, 0)", IndexError, ("(0, 3)",)),
    ("t.max(e)", RuntimeError, ("(0, 3)",)),
    ("t.topk(x, 4)", RuntimeError, ("3", "4")),
    ("t.narrow(x, 1, 2, 2)", RuntimeError, ("(2, 3)", "4")),
    ("t.narrow(x, 1, 5, 1)", IndexError, ("5",)),
    ("t.select(x, 1, 3)", IndexError, ("3",)),
    ("x[2]", IndexError, ("2",)),
    ("x[0, 0, 0]", IndexError, ("2", "3")),
    ("x[:, far]", IndexError, ("7", "3")),
    ("x[c[:, :2]]", IndexError, ("3", "2")),
    ("t.index_select(x, 1, far)", RuntimeError, ("[0, 2]", "7")),
    ("t.gather(x, 1, i)", RuntimeError, ("[0, 2]", "5")),
    ("t.scatter(x, 1, i, 1.0)", RuntimeError, ("[0, 2]", "5")),
    ("t.bincount(-k)", RuntimeError, ("-2",)),
    ("i // 0", RuntimeError, ("0",)),
    ("t.diagonal(x, 0, 1, 1)", RuntimeError, ("1",)),
    ("t.arange(0, 5, 0)", RuntimeError, ("0",)),
    ("t.zeros(-1)", RuntimeError, ("-1",)),
    ("t.eye(-1)", RuntimeError, ("-1",)),
    # dtypes
    ("t.mean(i)", RuntimeError, ("floating", "int64")),
    ("t.std(i)", RuntimeError, ("floating", "int64")),
    ("t.norm(i)", RuntimeError, ("floating", "int64")),
    ("x @ i.T", RuntimeError, ("float64", "int64")),
    ("-c", RuntimeError, ("bool",)),
    ("c - c", RuntimeError, ("bool",)),
    ("~x", TypeError, ("float64",)),
    ("t.where(x, x, x)", RuntimeError, ("bool", "float64")),
    ("t.masked_fill(x, i, 1)", RuntimeError, ("bool", "int64")),
    ("t.masked_select(x, i)", RuntimeError, ("bool", "int64")),
    ("x[v]", IndexError, ("integers", "float64")),
    ("t.gather(x, 1, x)", RuntimeError, ("integers", "float64")),
    ("t.index_select(x, 1, v)", RuntimeError, ("integers", "float64")),
    ("t.scatter(x, 1, i * 0, i)", RuntimeError, ("int64", "float64")),
    ("t.softmax(i, 1)", RuntimeError, ("int64",)),
    ("t.frac(i)", RuntimeError, ("floating", "int64")),
    ("i.clone().add_(0.5)", RuntimeError, ("int64", "float")),
    ("i.clone().exp_()", RuntimeError, ("int64", "float")),
    ("i.pow(-1)", RuntimeError, ("negative",)),
    ("t.lerp(x, i, 0.5)", RuntimeError, ("float64", "int64")),
    ("t.isclose(x, i)", RuntimeError, ("float64", "int64")),
    ("i.clone().requires_grad_()", RuntimeError, ("floating", "int64")),
    ("x & x", RuntimeError, ("float64",)),
    # types and modes
    ("t.exp(3.0)", TypeError, ("tensor", "float")),
    ("t.sum([1, 2])", TypeError, ("tensor", "list")),
    ("x + 'a'", TypeError, ("str",)),
    ("x + None", TypeError, ("None",)),
    ("t.cat(x)", TypeError, ("list or tuple", "Tensor")),
    ("t.cat([])", ValueError, ("at least one",)),
    ("t.stack([])", RuntimeError, ("at least one",)),
    ("t.maximum(x, 1.0)", TypeError, ("tensor", "float")),
    ("t.atan2(x, 1.0)", TypeError, ("tensor", "float")),
    ("x[1.5]", IndexError, ("float",)),
    ("t.div(x, x, rounding_mode='up')", RuntimeError, ("floor", "trunc", "'up'")),
    ("t.meshgrid(v, v, indexing='yx')", RuntimeError, ("ij", "xy", "'yx'")),
    ("t.clamp(x)", RuntimeError, ("min", "max")),
    ("t.norm(x, 'nuclear')", RuntimeError, ("fro", "'nuclear'")),
    ("t.cumsum(x)", TypeError, ("dim",)),
    ("len(s)", TypeError, ("0-d",)),
    ("list(s)", TypeError, ("0-d",)),
    ("t.tensor([[1, 2], [3]])", ValueError, ("rows",)),
    ("t.roll(x, (1, 2), 0)", RuntimeError, ("shift",)),
]


@pytest.mark.parametrize(("call", "kind", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_wrong_calls(call: str, kind: type[Exception], words: tuple[str, ...]) -> None:
    names: dict[str, Any] = {n: mg.tensor(a) for n, a in DATA.items()}
    with pytest.raises(kind) as found:
        eval(call, {"t": mg, **names})
    missing = [word for word in words if word not in str(found.value)]
    assert not missing, f"{missing} not in: {found.value}"


@pytest.mark.parity
@pytest.mark.parametrize(("call", "kind", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_pytorch_raises_the_same(call: str, kind: type[Exception], words: Any) -> None:
    torch = pytest.importorskip("torch")
    names: dict[str, Any] = {n: torch.tensor(a) for n, a in DATA.items()}
    with pytest.raises(kind):
        eval(call, {"t": torch, **names})
