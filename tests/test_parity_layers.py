"""Dropout, embeddings, bilinear maps and distances against PyTorch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
rng = np.random.default_rng(0)


def agree(call: Any, *arrays: Any, order: int = 2, tolerance: float = 1e-7) -> None:
    """Value, gradients and the gradients of these in every floating array, in both libraries."""
    found: list[list[Any]] = []
    for lib, f in ((torch, torch.nn.functional), (mg, F)):
        tensors = [lib.tensor(a.copy()) for a in arrays]
        leaves = [t for t, a in zip(tensors, arrays, strict=True) if a.dtype.kind == "f"]
        for t in leaves:
            t.requires_grad = True
        grad = mg.grad if lib is mg else torch.autograd.grad
        outputs, draws, values = [call(f, *tensors)], np.random.default_rng(1), []
        values += outputs
        for _ in range(order):
            outputs = [o for o in outputs if o is not None and o.requires_grad]
            if not outputs:
                break
            seeds = [lib.tensor(np.asarray(draws.standard_normal(o.shape))) for o in outputs]
            outputs = grad(outputs, leaves, seeds, create_graph=True, allow_unused=True)
            values += [o for o in outputs if o is not None]
        found.append([np.asarray(v.detach().numpy()) for v in values])
    for theirs, ours in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"padding_idx": -2}])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)])
@pytest.mark.parametrize("scaled", [False, True])
def test_embedding(options: Any, shape: Any, scaled: bool) -> None:
    index = np.asarray(rng.integers(0, 4, shape))
    call = lambda f, i, w: f.embedding(i, w, scale_grad_by_freq=scaled, **options)  # noqa: E731
    agree(call, index, rng.standard_normal((4, 3)), order=1)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
def test_embedding_max_norm(norm_type: float) -> None:
    index, weight = np.array([[0, 2], [2, 3]]), rng.standard_normal((5, 3)) * 2
    ours, theirs = mg.tensor(weight), torch.tensor(weight)
    y = F.embedding(mg.tensor(index), ours, max_norm=1.0, norm_type=norm_type)
    ty = torch.nn.functional.embedding(
        torch.tensor(index), theirs, max_norm=1.0, norm_type=norm_type
    )
    np.testing.assert_allclose(y.numpy(), ty.numpy(), rtol=1e-7)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-7)


@pytest.mark.parametrize("arguments", [(4, 3), (4, 3, 1, 2.0, 1.0, True), (4, 3, -1)])
def test_embedding_module(arguments: Any) -> None:
    ours, theirs = nn.Embedding(*arguments), torch.nn.Embedding(*arguments)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if ours.padding_idx is not None:
        assert (ours.weight[ours.padding_idx] == 0).all()


def test_embedding_from_pretrained() -> None:
    table = rng.standard_normal((4, 3))
    layer = nn.Embedding.from_pretrained(mg.tensor(table), padding_idx=0)
    assert not layer.weight.requires_grad
    assert repr(layer) == "Embedding(4, 3, padding_idx=0)"
    np.testing.assert_array_equal(layer(mg.tensor([2, 0])).numpy(), table[[2, 0]])
    assert nn.Embedding.from_pretrained(mg.tensor(table), freeze=False).weight.requires_grad


def test_one_hot() -> None:
    for shape, classes in (((3, 2), -1), ((4,), 7), ((), 4), ((0,), 3)):
        x = np.asarray(rng.integers(0, 4, shape))
        ours = F.one_hot(mg.tensor(x), classes)
        theirs = torch.nn.functional.one_hot(torch.tensor(x), classes)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_bilinear(batch: Any, bias: bool) -> None:
    arrays = [rng.standard_normal(s) for s in ((*batch, 2), (*batch, 3), (4, 2, 3), (4,))]
    agree(lambda f, *t: f.bilinear(*t), *arrays[: 4 if bias else 3], order=2)
    ours, theirs = nn.Bilinear(2, 3, 4, bias), torch.nn.Bilinear(2, 3, 4, bias)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("options", [{}, {"dim": 0}, {"dim": -1, "eps": 1.0}])
def test_cosine_similarity(options: Any) -> None:
    call = lambda f, a, b: f.cosine_similarity(a, b, **options)  # noqa: E731
    for shapes in (((3, 4), (3, 4)), ((3, 4), (1, 4)), ((2, 3, 4), (3, 4)), ((0, 3), (0, 3))):
        agree(call, *(rng.standard_normal(s) for s in shapes))
    small = np.array([[0.0, 0.0], [1e-9, 2e-9], [1.0, 2.0]])
    agree(call, small, np.ones((3, 2)), order=1)
    assert repr(nn.CosineSimilarity()) == repr(torch.nn.CosineSimilarity())
    assert nn.CosineSimilarity(**options)(mg.ones(2, 3), mg.ones(2, 3)).max().item() <= 1.01


@pytest.mark.parametrize("p", [2.0, 1.0, 3, 0.5, float("inf")])
@pytest.mark.parametrize("keepdim", [False, True])
def test_pairwise_distance(p: float, keepdim: bool) -> None:
    call = lambda f, a, b: f.pairwise_distance(a, b, p, 1e-3, keepdim)  # noqa: E731
    for shapes in (((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (4,))):
        agree(call, *(rng.standard_normal(s) for s in shapes), order=1)
    assert repr(nn.PairwiseDistance()) == repr(torch.nn.PairwiseDistance())
    y = nn.PairwiseDistance(p, keepdim=keepdim)(mg.ones(2, 3), mg.zeros(2, 3))
    assert y.shape == ((2, 1) if keepdim else (2,))


@pytest.mark.parametrize("p", [2.0, 1.0, 3, 0.5, float("inf")])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_normalize(p: float, dim: int) -> None:
    x = rng.standard_normal((3, 4, 2))
    agree(lambda f, x: f.normalize(x, p, dim), x, order=1)
    agree(lambda f, x: f.normalize(x, p, dim), x * 0, order=1)


@pytest.mark.parametrize(
    ("name", "shape", "whole"),
    [
        ("Dropout", (40, 50), 0),
        ("Dropout1d", (40, 30, 3), 1),
        ("Dropout1d", (900, 3), 1),
        ("Dropout2d", (40, 30, 3, 2), 2),
        ("Dropout3d", (40, 30, 3, 2, 2), 3),
        ("Dropout3d", (900, 3, 2, 2), 3),
        ("AlphaDropout", (60, 50), 0),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_dropout(name: str, shape: Any, whole: int, inplace: bool) -> None:
    """The values drawn from are PyTorch's, whole channels go, and about as many as asked for."""
    mg.manual_seed(0), torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(0.3, inplace), getattr(torch.nn, name)(0.3, inplace)
    assert repr(ours) == repr(theirs)
    x = mg.ones(*shape)
    y, z = ours(x).numpy(), theirs(torch.ones(shape)).numpy()
    np.testing.assert_allclose(np.unique(y.round(5)), np.unique(z.round(5)), rtol=1e-4)
    axes = tuple(range(len(shape) - whole, len(shape)))
    assert (y.max(axes, keepdims=True) == y).all()
    assert abs((y > 1).mean() - 0.7) < 0.06 if name != "AlphaDropout" else True
    assert inplace == bool((x.numpy() == y).all())
    assert ours.eval()(x) is x
    everything = getattr(nn, name)(1.0)(mg.ones(*shape))
    assert (everything.numpy() == 0).all()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    mg.manual_seed(0)
    y = F.alpha_dropout(mg.randn(200_000), 0.4, training=True)
    assert abs(y.mean().item()) < 0.02
    assert abs(y.var().item() - 1) < 0.02


def test_dropout2d_of_three_axes_warns() -> None:
    with pytest.warns(UserWarning, match="dropout1d"):
        y = F.dropout2d(mg.ones(20, 30, 4)).numpy()
    assert ((y == 0).all(-1) | (y == 2).all(-1)).all()


MISUSE: list[tuple[str, Any]] = [
    ("probability", lambda o, f, n: f.dropout(o(3), 1.5)),
    ("probability of the module", lambda o, f, n: n.Dropout(-0.1)),
    ("probability of alpha", lambda o, f, n: f.alpha_dropout(o(3), 2.0, True)),
    ("dropout of integers", lambda o, f, n: f.dropout(o(3).long())),
    ("dropout1d of a vector", lambda o, f, n: f.dropout1d(o(3))),
    ("dropout2d of a vector", lambda o, f, n: f.dropout2d(o(3))),
    ("one_hot of floats", lambda o, f, n: f.one_hot(o(3))),
    ("one_hot below 0", lambda o, f, n: f.one_hot(-o(3).long())),
    ("one_hot beyond", lambda o, f, n: f.one_hot(o(3).long(), 1)),
    ("one_hot of nothing", lambda o, f, n: f.one_hot(o(0).long())),
    ("embedding of floats", lambda o, f, n: f.embedding(o(3), o(3, 2))),
    ("embedding of bytes", lambda o, f, n: f.embedding(o(3).long() > 0, o(3, 2))),
    ("embedding beyond", lambda o, f, n: f.embedding(o(3).long() * 3, o(3, 2))),
    ("embedding below 0", lambda o, f, n: f.embedding(-o(3).long(), o(3, 2))),
    ("embedding of vectors", lambda o, f, n: f.embedding(o(3).long(), o(3))),
    ("bilinear weight", lambda o, f, n: f.bilinear(o(3, 2), o(3, 3), o(4, 2, 2))),
    ("bilinear batch", lambda o, f, n: f.bilinear(o(3, 2), o(4, 3), o(4, 2, 3))),
    ("bilinear bias", lambda o, f, n: f.bilinear(o(3, 2), o(3, 3), o(4, 2, 3), o(3))),
    ("bilinear of nothing", lambda o, f, n: n.Bilinear(0, 2, 3)),
    ("cosine shapes", lambda o, f, n: f.cosine_similarity(o(3, 2), o(4, 2))),
    ("cosine of integers", lambda o, f, n: f.cosine_similarity(o(3, 2).long(), o(3, 2).long())),
    ("cosine axis", lambda o, f, n: f.cosine_similarity(o(3, 2), o(3, 2), dim=2)),
    ("distance shapes", lambda o, f, n: f.pairwise_distance(o(3, 2), o(4, 2))),
    ("normalize axis", lambda o, f, n: f.normalize(o(3))),
    ("normalize integers", lambda o, f, n: f.normalize(o(3).long(), dim=0)),
]


@pytest.mark.parametrize(("name", "call"), MISUSE, ids=[m[0] for m in MISUSE])
def test_misuse(name: str, call: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as theirs:
            call(torch.ones, torch.nn.functional, torch.nn)
        with pytest.raises(Exception) as ours:
            call(mg.ones, F, nn)
    assert issubclass(ours.type, theirs.type), f"{ours.type.__name__} is no {theirs.type.__name__}"
    assert len(str(ours.value)) > 25


def test_misuse_that_pytorch_asserts() -> None:
    with pytest.raises(ValueError, match="padding_idx"):
        nn.Embedding(3, 2, 5)
    with pytest.raises(ValueError, match="padding_idx"):
        F.embedding(mg.tensor([0]), mg.ones(3, 2), padding_idx=3)
    with pytest.raises(ValueError, match="num_embeddings"):
        nn.Embedding.from_pretrained(mg.ones(3))
