"""Tensor's operators, methods, indexing and conversions; where PyTorch is at hand, against it."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, GraphError, RangeError, ShapeError

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def torch_dtype(torch: Any, dtype: str) -> Any:
    return getattr(torch, dtype)


def same(ours: Any, theirs: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Equal results: numbers, tensors, or tuples of them."""
    if isinstance(ours, tuple | list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, rtol, atol)
    elif isinstance(ours, mg.Tensor):
        assert isinstance(ours.array, np.ndarray)
        assert ours.shape == tuple(theirs.shape)
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=atol
        )
    else:
        assert type(ours) is type(theirs)
        assert ours == pytest.approx(theirs, nan_ok=True)


# ---- calls alike here and in PyTorch ------------------------------------------------------------

X = np.array([[0.5, -1.25, 2.0], [1.5, 0.25, -0.75]])
DATA = {
    "x": X,
    "y": np.array([[1.0, 2.0, -1.0], [0.5, 0.5, 3.0]]),
    "v": np.array([0.3, -0.2, 0.9]),
    "w": np.array([1.0, 2.0]),
    "s": np.array(1.75),
    "q": np.arange(24.0).reshape(2, 3, 4) / 10 - 1,
    "m": np.array([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [1.0, 0.0, 1.0]]),
    "ties": np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 1.0, 2.0]]),
    "i": np.array([[3, -1, 2], [0, 5, -4]]),
    "k": np.array([2, 0, 1, 2]),
    "b": np.array([[True, False, True], [False, False, True]]),
    "u": np.array([3, 200, 255], dtype=np.uint8),
    "e": np.zeros((0, 3)),
}

#: Differentiated with respect to every floating tensor named in them, too.
SMOOTH = """
x + y ; x - 2 ; 2 - x ; x * v ; x / y ; 1 / y ; x ** 2 ; x ** 3.0 ; 2 ** x ; x % 0.7 ; -x ; +x
abs(x) ; x.add(y, alpha=2) ; x.sub(y, alpha=0.5) ; x.mul(2) ; x.div(y) ; t.add(x, 1) ; x.pow(2)
t.pow(2.0, x) ; x.neg() ; x.square() ; y.reciprocal() ; x.abs() ; x.exp() ; x.expm1()
y.abs().log() ; y.abs().log2() ; y.abs().log10() ; y.abs().sqrt() ; y.abs().rsqrt() ; x.sin()
x.cos() ; x.tan() ; x.sinh() ; x.cosh() ; x.tanh() ; x.erf() ; x.sigmoid() ; x.relu()
x.abs().log1p() ; x.sign() ; t.square(x) ; t.sigmoid(x) ; x.softmax(0) ; x.softmax(-1)
x.log_softmax(1) ; t.softmax(x, dim=1) ; x.clamp(-0.5, 1) ; x.clip(min=0) ; x.clamp(max=0.25)
x.clamp(y - 1, y) ; x.clamp(min=y) ; x.clamp(max=v) ; t.clamp(x, 0.0, 1.0) ; x.sum() ; x.sum(0)
x.sum(1, keepdim=True) ; q.sum((0, 2)) ; x.sum(dim=-1) ; x.sum(axis=1) ; s.sum() ; s.sum(0)
x.mean() ; x.mean(1) ; q.mean((0, 1), True) ; s.mean(0) ; e.mean() ; e.sum() ; e.sum(0)
e.mean(1) ; e.mean(0) ; x.var() ; x.var(1) ; x.var(0, False) ; x.std() ; x.std(1, keepdim=True)
x.var(1, correction=0) ; q.std((0, 2)) ; x.amax() ; x.amax(1) ; x.amin((0, 1)) ; ties.amax(1)
ties.amin(1, True) ; ties.max() ; ties.min() ; x.max(1)[0] ; x.min(0).values
x.max(1, keepdim=True)[0] ; x.max(y) ; x.min(y) ; t.max(x, 1)[0] ; s.max(0)[0] ; x.prod()
x.prod(0) ; x.prod(1, keepdim=True) ; x.logsumexp(1) ; x.logsumexp((0, 1)) ; q.logsumexp(-1, True)
x.cumsum(0) ; x.cumsum(-1) ; s.cumsum(0) ; x.norm() ; x.norm(dim=1) ; x.norm(1) ; x.norm(3, 1)
(x * 0).norm() ; x.norm(float("inf")) ; x.norm(p=2, dim=0, keepdim=True) ; e.norm()
t.norm(x, 2, 1) ; x.norm(p="fro") ; x.reshape(3, 2) ; x.reshape(-1) ; x.reshape((6, 1))
x.view(2, -1) ; x.view(6) ; s.reshape(1, 1) ; e.reshape(3, 0) ; x.flatten() ; q.flatten(1)
q.flatten(0, 1) ; s.flatten() ; x.ravel() ; q.unflatten(2, (2, 2)) ; q.unflatten(-1, (2, -1))
x.unsqueeze(0) ; x.unsqueeze(-1) ; s.unsqueeze(0) ; x.reshape(1, 2, 1, 3).squeeze()
x.reshape(1, 2, 1, 3).squeeze(0) ; x.reshape(1, 2, 1, 3).squeeze((0, 2)) ; x.squeeze(0)
s.squeeze() ; q.permute(2, 0, 1) ; q.permute((1, 0, 2)) ; q.permute(-1, 0, 1) ; x.transpose(0, 1)
q.transpose(-1, 0) ; x.swapaxes(0, 1) ; x.t() ; v.t() ; x.T ; q.mT ; q.movedim(0, 2)
q.movedim((0, 1), (2, 0)) ; q.moveaxis(-1, 0) ; v.expand(2, 3) ; w[:, None].expand(-1, 3)
s.expand(2) ; v.expand_as(x) ; v.broadcast_to((2, 3)) ; x.repeat(2, 1) ; v.repeat(2, 2)
s.repeat(3) ; x.tile((2,)) ; x.tile(2, 1, 2) ; x.flip(0) ; x.flip(0, 1) ; x.flip((1,))
t.flip(x, (0,)) ; x.roll(1) ; x.roll(1, 0) ; x.roll((1, -1), (0, 1)) ; e.roll(1, 0) ; m.tril()
m.triu(1) ; m.tril(-1) ; x.triu() ; m.diagonal() ; x.diagonal(1) ; q.diagonal(0, 1, 2)
q.diagonal(-1, 0, 2) ; m.trace() ; x.split(2, 1) ; x.split([1, 2], 1) ; q.split(3, -1)
x.chunk(2, 1) ; q.chunk(3, 2) ; q.chunk(5, 2) ; e.split(2) ; x.narrow(1, 1, 2)
x.narrow(1, -2, 1) ; q.select(1, 2) ; q.select(-1, -1) ; x.unbind() ; q.unbind(1) ; tuple(x)
x @ m ; m @ v ; v @ m ; v @ v ; q @ q.mT ; m.mm(m) ; m.mv(v) ; v.dot(v) ; v.outer(w) ; q.bmm(q.mT)
t.matmul(x, m) ; m.matmul(q.mT[..., :3].mT) ; x.gather(1, k[:2, None]) ; x.index_select(1, k)
x.masked_select(b) ; x.masked_fill(b, 0.5) ; x.masked_fill(b, s) ; x.take_along_dim(k[None], 1)
t.take_along_dim(x, k[:1, None] * 0, 1) ; x.where(b, y) ; t.where(b, x, y) ; t.where(b, x, 0.0)
t.where(b, 1.0, x) ; t.where(x > 0, x, x * 0.1) ; t.where(b, s, x)
x.scatter(1, k[:2, None], y[:, 1:2]) ; x.scatter(1, k[:2, None], 9.0)
x.scatter_add(1, k[:2, None], y[:, :1]) ; x.gather(0, k[None, 1:3] * 0) ; x[0] ; x[-1] ; x[:, 1]
x[:, ::2] ; x[..., 0] ; x[None] ; x[0, 1] ; q[:, None, 1] ; q[1, ..., 2] ; q[..., 1:3, :]
x[k * 0] ; x[:, k] ; x[b] ; x[[0, 1, 0]] ; x[[0, 1], [2, 2]] ; q[k * 0, :, k] ; q[:, [0, 2], 1]
q[:, k, k] ; x[k * 0, 1:] ; x[x > 0] ; q[:, b[0]] ; q[0, k, None] ; x[()] ; x[...] ; s[()]
s[None] ; x[0:0] ; x[k[:0]] ; x[1:, [True, False, True]] ; q[[1], :, [2]] ; x.sort()[0]
x.sort(0, descending=True)[0] ; ties.sort(dim=1, stable=True).values ; x.topk(2)[0]
x.topk(1, 0, False)[0] ; t.cat((x, y)) ; t.cat([x, y, x], 1) ; t.cat((x, y), dim=-1)
t.concat((x, y)) ; t.stack((x, y)) ; t.stack([x, y], 1) ; t.stack((x, y), -1) ; t.stack((s, s))
t.cat((x, t.tensor([]))) ; t.cat((e, x)) ; t.addmm(m, m, m, beta=0.5, alpha=2)
t.baddbmm(m[None], m[None], m[None]) ; t.std_mean(x, 1) ; t.var_mean(x, 0)
t.broadcast_tensors(x, v) ; t.meshgrid(v, w, indexing="xy") ; t.meshgrid(v, w, indexing="ij")
t.maximum(x, y) ; t.minimum(ties, ties) ; t.outer(v, w) ; x.contiguous() ; x.clone() ; q.nbytes
x.double() ; x.half().float() ; x.to(t.float32) ; x.to(y) ; x.type_as(y) ; x.float().double()
t.mm(x, m) ; t.dot(v, v)
"""

#: No gradient: comparisons, logic, rounding, places, integers, facts.
PLAIN = """
x > y ; x >= 0 ; x < v ; x <= y ; x == y ; x != 0.5 ; 1 > x ; x.eq(y) ; x.lt(0) ; t.ge(x, y)
i == 2 ; i > 1.5 ; b == 1 ; i & 3 ; i | 1 ; i ^ 2 ; b & ~b ; b | b ; b ^ True ; ~b ; ~i
x.logical_and(y) ; i.logical_or(b) ; t.logical_xor(i, x) ; x.logical_not() ; t.logical_and(i, b)
3 & i ; i.logical_not() ; x.isnan() ; (x / 0).isinf() ; x.isfinite() ; x.floor() ; x.ceil()
x.round() ; x.trunc() ; s.floor() ; s.isnan() ; s.round() ; x.round(decimals=1) ; i.floor()
i.ceil() ; i.round() ; i.trunc() ; x // 0.5 ; 2 // y ; i // 2 ; i // 0.7 ; i.div(2) ; i / 2
i.div(2, rounding_mode="trunc") ; i.div(2, rounding_mode="floor")
x.div(y, rounding_mode="trunc") ; x.floor_divide(y) ; i.div(i + 7, rounding_mode="trunc") ; i % 3
i % -3 ; x.remainder(-0.7) ; i ** 2 ; 2 ** i.abs() ; i * 2.5 ; i + True ; b + b ; b * 2 ; b + 1.5
u + 100 ; u - 1 ; u * -2 ; -u ; 300 - u ; u // 7 ; u + i[0] ; u.float() ; u & 7 ; u.sum()
u.prod() ; u.cumsum(0) ; b.sum() ; b.sum(0) ; i.sum() ; i.prod(1) ; b.prod() ; i.cumsum(1)
i.float().mean() ; i.sum(dtype=t.float32) ; i.mean(dtype=t.float64) ; i.exp() ; i.sqrt() ; b.sin()
i.sigmoid() ; i.abs() ; i.sign() ; b.sign() ; i.relu() ; i.clamp(0, 2) ; i.clamp(0.5)
i.clamp(min=-1) ; i.max() ; i.min(1) ; i.amax(0) ; i.argmax() ; x.argmax() ; x.argmax(1)
x.argmin(0, keepdim=True) ; x.argmax(keepdim=True) ; ties.argmax(1) ; ties.max(1) ; ties.min(1)[1]
s.argmax() ; s.argmin(0) ; x.any() ; b.any(0) ; b.all(1) ; x.all() ; b.all() ; e.any() ; e.all()
b.any(1, keepdim=True) ; (x > 9).any() ; x.nonzero() ; b.nonzero() ; s.nonzero()
b.nonzero(as_tuple=True) ; t.nonzero(i) ; t.where(b) ; x.argsort() ; x.argsort(0, descending=True)
ties.argsort(dim=1, stable=True) ; x.sort(0) ; ties.sort(dim=1, descending=True, stable=True)
x.topk(2) ; x.topk(2, 1, largest=False) ; i.topk(1, 0) ; i.sort() ; s.sort() ; s.argsort()
x.numel() ; x.nelement() ; x.dim() ; x.ndim ; tuple(x.shape) ; tuple(x.size()) ; x.size(1)
x.size(-1) ; len(x) ; x.element_size() ; x.itemsize ; x.stride() ; x.t().stride() ; x.stride(0)
x.t().is_contiguous() ; x.is_contiguous() ; x.t().contiguous().stride() ; x.is_floating_point()
i.is_floating_point() ; x.tolist() ; s.item() ; i.tolist() ; b.tolist() ; s.tolist() ; float(s)
int(s) ; bool(s) ; x[0, 1].item() ; t.tensor(3).item() ; 0.5 in x ; 7 in x
[0, 1, 2][t.tensor(2)] ; x.equal(x) ; x.equal(y) ; x.allclose(x + 1e-9) ; t.equal(x, v)
t.allclose(x, y) ; x.is_cuda ; t.is_tensor(x) ; t.is_tensor(3) ; x.requires_grad ; x.is_leaf
(x + 1).is_leaf ; x.long() ; x.int() ; x.bool() ; b.float() ; b.long() ; i.bool() ; i.double()
(x * 100).to(t.int8) ; i.half() ; i @ i.T ; i[0].dot(i[1]) ; t.where(b, i, 7) ; t.where(b, 1, 2)
t.where(b, 1.0, 2.0) ; t.where(b, i, x) ; t.cat((i, x)) ; t.stack((i[0], b[0]))
i.masked_fill(b, 9) ; x.new_zeros(2, 2) ; x.new_ones((3,)) ; i.new_full((2,), 7)
x.new_tensor([1, 2]) ; x == None ; x != None ; x == "x" ; (x + y).bool()
i.gather(1, k[:2, None]) ; i.T ; i.flip(0) ; i.tril() ; b.tril() ; i.roll(1) ; i[:, k] ; b[b]
i.unique if False else 0 ; u[1] ; i.reshape(-1)[k] ; (i > 0).float().mean() ; t.maximum(i, i * 0)
"""


def expressions(table: str) -> list[str]:
    return [e.strip() for line in table.strip().splitlines() for e in line.split(" ; ")]


@pytest.mark.parity
@pytest.mark.parametrize("expression", expressions(SMOOTH) + expressions(PLAIN))
def test_same_as_pytorch(expression: str) -> None:
    torch = pytest.importorskip("torch")
    ours = {n: mg.tensor(a) for n, a in DATA.items()}
    theirs = {n: torch.tensor(a) for n, a in DATA.items()}
    a = eval(expression, {"t": mg, **ours})
    b = eval(expression, {"t": torch, **theirs})
    if isinstance(b, torch.Size):
        b = tuple(b)
    same(a, b)


@pytest.mark.parity
@pytest.mark.parametrize("expression", expressions(SMOOTH))
def test_same_gradients_as_pytorch(expression: str) -> None:
    torch = pytest.importorskip("torch")
    results = []
    for t, grad in ((mg, mg.grad), (torch, torch.autograd.grad)):
        names = {n: t.tensor(a) for n, a in DATA.items()}
        for x in names.values():
            x.requires_grad_(x.is_floating_point())
        out = eval(expression, {"t": t, **names})
        out = out if isinstance(out, tuple | list) else (out,)
        out = [o for o in out if t.is_tensor(o) and o.requires_grad]
        if not out:
            results.append([None] * len(DATA))
            continue
        total = sum((o * (o.detach() + 0.5)).sum() for o in out)
        sought = [x for x in names.values() if x.requires_grad]
        results.append(grad(total, sought, allow_unused=True))
    for a, b in zip(*results, strict=True):
        if b is None or a is None:
            assert (a is None or not a.array.any()) and (b is None or not b.numpy().any())
        else:
            same(a, b)


# ---- promotion ----------------------------------------------------------------------------------

SCALARS: dict[str, Any] = {"bool": True, "int": 3, "float": 1.5}


@pytest.mark.parity
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())], ids=str)
@pytest.mark.parametrize(("left", "right"), list(itertools.product(DTYPES, DTYPES)))
def test_promotion_of_tensors(left: str, right: str, shapes: Any) -> None:
    torch = pytest.importorskip("torch")
    for call in (
        lambda a, b: a + b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a == b,
        lambda a, b: a // b,
        lambda a, b: b - a,
        lambda a, b: a**b,
        lambda a, b: a % b,
    ):
        ours = [mg.ones(s, dtype=d) for s, d in zip(shapes, (left, right), strict=True)]
        theirs = [
            torch.ones(s, dtype=getattr(torch, d))
            for s, d in zip(shapes, (left, right), strict=True)
        ]
        try:
            expected = call(*theirs)
        except (RuntimeError, NotImplementedError):  # minus and powers of two bools
            continue
        same(call(*ours), expected, rtol=1e-2)


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(2,), ()], ids=str)
@pytest.mark.parametrize(("dtype", "scalar"), list(itertools.product(DTYPES, SCALARS)))
def test_promotion_of_numbers(dtype: str, scalar: str, shape: Any) -> None:
    torch = pytest.importorskip("torch")
    number = SCALARS[scalar]
    ours, theirs = mg.ones(shape, dtype=dtype), torch.ones(shape, dtype=getattr(torch, dtype))
    for call in (
        lambda x: x + number,
        lambda x: number * x,
        lambda x: x / number,
        lambda x: number / x,
        lambda x: x > number,
        lambda x: x // number,
        lambda x: number - x,
        lambda x: x**number,
        lambda x: number**x,
        lambda x: x % number,
    ):
        try:
            expected = call(theirs)
        except (RuntimeError, NotImplementedError):
            continue
        if expected.dtype == torch.bool and call(mg.ones(1, dtype="bool")).dtype == mg.int8:
            continue  # True ** True: a bool in PyTorch, an int8 in NumPy
        same(call(ours), expected, rtol=1e-2)


@pytest.mark.parametrize("number", [np.float64(2.5), np.float32(2.5), np.int64(2), np.bool_(True)])
def test_numpy_numbers_count_as_python_numbers(number: Any) -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for y in (x * number, number * x, x + number, number + x, number - x, number / x, x / number):
        assert isinstance(y, mg.Tensor)
        assert y.dtype == mg.float32
        assert y.requires_grad
    for y in (x > number, number > x, x == number, number == x):
        assert isinstance(y, mg.Tensor)
        assert y.dtype == mg.bool


def test_numpy_arrays_on_either_side() -> None:
    a = np.array([3.0, 4.0], dtype=np.float32)
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for y, expected in (
        (x + a, [4, 6]),
        (a + x, [4, 6]),
        (a - x, [2, 2]),
        (x * a, [3, 8]),
        (a / x, [3, 2]),
        (a**x, [3, 16]),
        (a @ x, 11),
        (x @ a, 11),
        (a % x, [0, 0]),
    ):
        assert isinstance(y, mg.Tensor)
        assert y.requires_grad
        assert y.tolist() == expected
    for y, flags in ((a > x, [True, True]), (x == a, [False, False]), (a == x, [False, False])):
        assert isinstance(y, mg.Tensor)
        assert y.tolist() == flags
    for y in (np.array(2.0) * x, x * np.array(2.0), np.array(2.0) > x):
        assert isinstance(y, mg.Tensor)


def test_operands_that_are_neither() -> None:
    x = mg.ones(2)
    for bad in ("2", None, [1, 2], {}, 1j, object()):
        for call in (lambda: x + bad, lambda: bad * x, lambda: x**bad):  # noqa: B023
            with pytest.raises(TypeError):
                call()
    for bad in ("2", None):
        with pytest.raises(TypeError):
            _ = x < bad
        assert (x == bad) is False
        assert (x != bad) is True


# ---- indexing -----------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, True, True]])
INDICES = [
    0,
    -1,
    (0, 1),
    (0, 1, 2),
    slice(None),
    slice(1, None),
    slice(None, None, 2),
    (slice(None), slice(None, 2), -1),
    None,
    (None, 0, None),
    ...,
    (..., 0),
    (0, ..., slice(1, 3)),
    (),
    MASK,
    (slice(None), np.array([True, False, True])),
    (0, np.array([True, False, True]), slice(1, None)),
    np.array([1, 0, 1]),
    [1, 0, 1],
    [[0, 1], [1, 1]],
    (slice(None), [2, 0]),
    ([0, 1], [2, 0]),
    ([0, 1], slice(None), [3, 0]),
    ([[0], [1]], [2, 0]),
    (..., [0, 0, 3]),
    (None, [1, 1]),
    ([1, 1], None, [0, 2]),
    np.array(1),
    np.int64(1),
    (np.array([1, 0]), 2),
    slice(0, 0),
    np.zeros(0, dtype=np.int64),
    [],
    True,
    range(2),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_like_numpy(index: Any) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    plain = array[list(index) if isinstance(index, range) else index]
    x = mg.tensor(array, requires_grad=True)
    y = x[index]
    assert y.shape == plain.shape
    np.testing.assert_array_equal(y.detach().numpy(), plain)
    # the gradient: each element gets what its copies in y got
    weights = np.random.default_rng(0).standard_normal(plain.shape)
    (y * mg.tensor(weights)).sum().backward()
    expected = np.zeros_like(array)
    np.add.at(expected, list(index) if isinstance(index, range) else index, weights)
    np.testing.assert_allclose(x.grad.numpy(), expected)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_made_of_tensors(index: Any) -> None:
    def tensors(part: Any) -> Any:
        return mg.tensor(part) if isinstance(part, np.ndarray | list) else part

    x = mg.arange(24.0).reshape(2, 3, 4)
    given = tuple(map(tensors, index)) if isinstance(index, tuple) else tensors(index)
    if isinstance(index, list) and not index:
        given = mg.tensor([], dtype="int64")
    assert x[given].tolist() == x[index].tolist()


@pytest.mark.parametrize("value", ["number", "row", "full", "leading axes"])
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_setitem_and_its_gradients(index: Any, value: str) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    places = list(index) if isinstance(index, range) else index
    shape = array[places].shape
    shape = {"number": (), "row": shape[-1:], "full": shape, "leading axes": (1, 1, *shape)}[value]
    new = np.random.default_rng(0).standard_normal(shape)
    expected = array.copy()
    expected[places] = new[0, 0] if value == "leading axes" else new
    x, v = mg.tensor(array, requires_grad=True), mg.tensor(new, requires_grad=True)
    y = x * 1.0
    y[index] = v
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    weights = np.random.default_rng(1).standard_normal(array.shape)
    y.backward(mg.tensor(weights))
    untouched = np.ones_like(array)
    untouched[places] = 0
    np.testing.assert_allclose(x.grad.numpy(), weights * untouched)
    assert v.grad.shape == shape
    if value != "number" or not shape:
        np.testing.assert_allclose(v.grad.sum().item(), weights[places].sum(), atol=1e-12)


def test_setitem_outside_a_graph() -> None:
    x = mg.zeros(2, 3)
    x[0] = 1
    x[:, 1] = mg.tensor([5, 6])
    x[x == 0] = -1.5
    x[1, 2] = np.float64(9)
    x[0, 2] = True
    assert x.tolist() == [[1, 5, 1], [-1.5, 6, 9]]
    i = mg.zeros(2, dtype="int64")
    i[0] = 2.9
    assert i.tolist() == [2, 0]
    with pytest.raises(ShapeError, match="SetItem"):
        x[0] = mg.ones(2)
    with pytest.raises(IndexError):
        x[5] = 0


def test_index_errors() -> None:
    x = mg.ones(2, 3)
    for index in (2, (0, 3), (0, 0, 0), mg.tensor([0, 2]), mg.tensor([True]), (..., ...)):
        with pytest.raises(IndexError):
            x[index]
    with pytest.raises(IndexError, match="integers or booleans"):
        x[mg.tensor([0.0])]
    for index in (1.5, "a", np.float64(1)):
        with pytest.raises((TypeError, IndexError)):
            x[index]
    with pytest.raises(IndexError):
        mg.tensor(1.0)[0]


def test_index_arrays_are_the_callers() -> None:
    """A later change of the index does not change where the gradient goes."""
    x, k = mg.arange(4.0).requires_grad_(), mg.tensor([0, 1])
    for y in (x[k], x.gather(0, k), x.index_select(0, k), mg.zeros(4).scatter_add(0, k, x[:2])):
        x.grad = None
        y = (y * y).sum()
        k.fill_(3)
        y.backward()
        k.copy_(mg.tensor([0, 1]))
        assert x.grad.tolist() == [0, 2, 0, 0]


# ---- products -----------------------------------------------------------------------------------

SHAPES = [(3,), (2, 3), (4, 2, 3), (1, 2, 3), (5, 1, 2, 3), (0, 3), (4, 0, 3)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (a, b)
        for a in SHAPES
        for b in [(s[-1],) if len(s) == 1 else (*s[:-2], s[-1], s[-2]) for s in SHAPES]
        if len(a) < 3
        or len(b) < 3
        or all(m == n or 1 in (m, n) for m, n in zip(a[-3::-1], b[-3::-1], strict=False))
    ],
    ids=str,
)
def test_matmul_of_all_ranks(left: Any, right: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    x, y = mg.tensor(a, requires_grad=True), mg.tensor(b, requires_grad=True)
    z = x @ y
    expected = np.matmul(a, b)
    assert z.shape == expected.shape
    np.testing.assert_allclose(z.detach().numpy(), expected)
    assert mg.gradcheck(mg.matmul, (x, y))


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,jk": ((2, 3), (3, 4)),
    "ij,kj->ki": ((2, 3), (4, 3)),
    "i,i->": ((3,), (3,)),
    "i,i": ((3,), (3,)),
    "i,j": ((3,), (2,)),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "iji->j": ((3, 2, 3),),
    "iij->ji": ((3, 3, 2),),
    "iii": ((2, 2, 2),),
    "ij->": ((2, 3),),
    "ij->j": ((2, 3),),
    "ji": ((2, 3),),
    "ba": ((2, 3),),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 2)),
    "...ij,...jk->...ik": ((2, 1, 3, 4), (5, 4, 2)),
    "...ij,jk": ((2, 3, 4), (4, 2)),
    "...i->...": ((2, 3, 4),),
    "i...->...": ((2, 3, 4),),
    "...": ((2, 3),),
    "...,...": ((2, 3), (3,)),
    "i...j,...->j...i": ((2, 3, 4), (3,)),
    "ij,ij->ij": ((2, 3), (2, 3)),
    "ij,ij,ij->i": ((2, 3), (2, 3), (2, 3)),
    "ab,bc,cd->ad": ((2, 3), (3, 2), (2, 4)),
    "ij,kl->ijkl": ((2, 3), (1, 2)),
    "bhid,bhjd->bhij": ((2, 2, 3, 4), (2, 2, 5, 4)),
    "ij , jk -> ik": ((2, 3), (3, 4)),
    "Ab,bC": ((2, 3), (3, 4)),
    "ij,ij->i": ((2, 3), (1, 3)),
    "xj,jy->xy": ((2, 1), (3, 4)),
    "ik,jk->": ((2, 3), (4, 3)),
    "ij,k->i": ((2, 3), (4,)),
    ",ij->ij": ((), (2, 3)),
    "ij,jk->ki ": ((0, 3), (3, 4)),
    "ij,jk->i": ((2, 0), (0, 4)),
    "bij,bjk->ikb": ((2, 40, 60), (2, 60, 3)),  # large enough to be planned
}


@pytest.mark.parity
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_as_in_pytorch(equation: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in EQUATIONS[equation]]
    ours = [mg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = mg.einsum(equation, *ours), torch.einsum(equation, *theirs)
    same(y, z)
    same(list(mg.grad((y * y).sum(), ours)), list(torch.autograd.grad((z * z).sum(), theirs)))


@pytest.mark.parametrize("equation", [e for e in EQUATIONS if e != "bij,bjk->ikb"])
def test_einsum_gradients(equation: str) -> None:
    rng = np.random.default_rng(0)
    xs = [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in EQUATIONS[equation]]
    assert mg.gradcheck(lambda *x: mg.einsum(equation, *x), xs)


def test_einsum_errors() -> None:
    x = mg.ones(2, 3)
    for equation in ("ij", "ijk,ij", "i,ij", "ij,ij->ik", "ij,ij->ii", "ij,ji"):
        with pytest.raises(ShapeError, match="einsum"):
            mg.einsum(equation, x, x)


# ---- errors are ours ----------------------------------------------------------------------------


def _errors() -> Any:
    x, i, s = mg.ones(2, 3), mg.ones(2, 3, dtype="int64"), mg.tensor(1.0)
    b = i > 0
    yield "shapes (2, 3) and (2,) do not broadcast", ShapeError, lambda: x + mg.ones(2)
    yield "do not broadcast", ShapeError, lambda: x == mg.ones(4)
    yield "do not broadcast", ShapeError, lambda: x // mg.ones(4)
    yield "do not broadcast", ShapeError, lambda: mg.where(b, x, mg.ones(4))
    yield "do not broadcast", ShapeError, lambda: mg.maximum(x, mg.ones(4))
    yield "does not fit (4, 2)", ShapeError, lambda: x.reshape(4, 2)
    yield "does not fit", ShapeError, lambda: x.reshape(-1, 4)
    yield "does not fit", ShapeError, lambda: x.unflatten(1, (2, 2))
    yield "cannot be expanded", ShapeError, lambda: x.expand(4, 3)
    yield "cannot be expanded", ShapeError, lambda: x.expand(3)
    yield "cannot be expanded", ShapeError, lambda: x.expand(-1, 2, 3)
    yield "the last axis of the first is 3", ShapeError, lambda: x @ x
    yield "use *", ShapeError, lambda: x @ s
    yield "equal dtypes", DtypeError, lambda: x @ i
    yield "do not broadcast", ShapeError, lambda: mg.ones(2, 2, 3) @ mg.ones(3, 3, 2)
    yield "mm needs two matrices", ShapeError, lambda: x.mm(mg.ones(3))
    yield "bmm needs", ShapeError, lambda: x.bmm(x)
    yield "two vectors", ShapeError, lambda: x.dot(x)
    yield "equal shapes", ShapeError, lambda: mg.cat((x, mg.ones(3, 2)))
    yield "equal shapes", ShapeError, lambda: mg.cat((x, mg.ones(2)))
    yield "one shape", ShapeError, lambda: mg.stack((x, mg.ones(2)))
    yield "at least one", ShapeError, lambda: mg.cat([])
    yield "one element", ShapeError, lambda: x.item()
    yield "not clear", ShapeError, lambda: bool(x)
    yield "not clear", ShapeError, lambda: bool(mg.ones(0))
    yield "0-d", TypeError, lambda: len(s)
    yield "0-d", TypeError, lambda: list(s)
    yield "out of range", IndexError, lambda: x.sum(2)
    yield "out of range", IndexError, lambda: x.softmax(-3)
    yield "named twice", ShapeError, lambda: x.sum((0, 0))
    yield "each of the 2 axes", ShapeError, lambda: x.permute(0)
    yield "floating", DtypeError, lambda: i.mean()
    yield "floating", DtypeError, lambda: i.std()
    yield "only floating", DtypeError, lambda: i.requires_grad_()
    yield "bool condition", DtypeError, lambda: mg.where(i, x, x)
    yield "integers", DtypeError, lambda: x.gather(0, x)
    yield "must be in [0, 1]", RangeError, lambda: x.gather(0, i * 5)
    yield "2 axes", ShapeError, lambda: x.gather(0, i[0])
    yield "no larger", ShapeError, lambda: x.gather(0, mg.zeros(1, 4, dtype="int64"))
    yield "no elements", RangeError, lambda: mg.ones(0).max()
    yield "no elements", RangeError, lambda: mg.ones(0, 3).argmin(0)
    yield "does not fit", RangeError, lambda: x.narrow(1, 2, 2)
    yield "add up", ShapeError, lambda: x.split([1, 1], 1)
    yield "0 <= k <= 3", RuntimeError, lambda: x.topk(4)
    yield "at most 2", ShapeError, lambda: mg.ones(1, 1, 1).t()
    yield "matrix", ShapeError, lambda: mg.ones(3).tril()
    yield "negative power", DtypeError, lambda: i**-1
    yield "bool or integer", DtypeError, lambda: ~x
    yield "dtypes do not allow", DtypeError, lambda: x & x
    yield "does not accept bool", DtypeError, lambda: b - b
    yield "does not accept bool", DtypeError, lambda: -b
    yield "stored in place", DtypeError, lambda: i.add_(0.5)
    yield "stored in place", DtypeError, lambda: b.add_(1)
    yield "in-place result", ShapeError, lambda: mg.ones(3).add_(x)
    yield "shared", ShapeError, lambda: mg.ones(1).expand(3).add_(1)
    yield "shared", ShapeError, lambda: mg.ones(1).expand(3).zero_()
    yield "use x.float()", DtypeError, lambda: i.masked_fill(b, 0.5)
    yield "not a dtype", DtypeError, lambda: x.to("float33")
    yield "not supported", DtypeError, lambda: x.to("complex64")
    yield "needs CuPy", RuntimeError, lambda: x.to("cuda:7")
    yield "does not require", GraphError, lambda: x.backward()


@pytest.mark.parametrize(("message", "kind", "call"), list(_errors()))
def test_error_messages(message: str, kind: type[Exception], call: Any) -> None:
    with pytest.raises(kind) as found:
        call()
    text = str(found.value)
    assert message in text or (message == "shared" and "share" in text)
    assert type(found.value) is kind or kind in (RuntimeError, TypeError)


def test_extremes_are_silent() -> None:
    """Infinities and NaN come without warnings, and the caller's np.errstate is untouched."""
    x = mg.tensor([0.0, -1.0, 1e38], requires_grad=True)
    before = np.geterr()
    y = x.log() + x.sqrt() + 1 / x + x.exp() + x * 1e38 + (x / 0) - (x / 0) + x.pow(-0.5)
    y.sum().backward()
    assert (x // 0).isnan().any()
    assert x.double().mul(1e300).to("float32").isinf().any()
    assert np.geterr() == before
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        np.ones(1) / np.zeros(1)


# ---- conversion ---------------------------------------------------------------------------------


def test_numpy_shares_memory() -> None:
    x = mg.zeros(3)
    x.numpy()[0] = 5
    assert x.tolist() == [5, 0, 0]
    array = np.zeros(3, dtype=np.float32)
    y = mg.from_numpy(array)
    y[1] = 2
    assert array[1] == 2
    assert mg.tensor(array).numpy() is not array
    assert np.shares_memory(mg.as_tensor(array).numpy(), array)
    with pytest.raises(GraphError, match="detach"):
        mg.zeros(1, requires_grad=True).numpy()


def test_array_protocol() -> None:
    x = mg.arange(3.0)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.shares_memory(np.array(x, copy=False), x.numpy())
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float64, copy=False)
    np.testing.assert_array_equal(np.stack([x, x]), [[0, 1, 2]] * 2)
    assert np.sum(mg.ones(3).numpy()) == 3
    with pytest.raises(GraphError):
        np.asarray(x.requires_grad_())


def test_dlpack_with_numpy() -> None:
    x = mg.arange(6.0).reshape(2, 3)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.numpy())
    assert np.shares_memory(mg.from_dlpack(array).numpy(), array)
    with pytest.raises(GraphError):
        np.from_dlpack(mg.ones(2, requires_grad=True))


@pytest.mark.parity
def test_dlpack_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = mg.arange(6.0).reshape(2, 3)
    theirs = torch.from_dlpack(x)
    theirs[0, 0] = 7
    assert x[0, 0].item() == 7
    back = mg.from_dlpack(torch.arange(4))
    assert back.tolist() == [0, 1, 2, 3]
    assert back.dtype == mg.int64


def test_python_protocols() -> None:
    x = mg.tensor([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert len(x) == 2
    assert 3 in x
    assert 5 not in x
    assert x[1, 0].item() == 3
    assert type(x[1, 0].item()) is int
    assert type(mg.tensor(True).item()) is bool
    assert f"{mg.tensor(0.125):.2f}" == "0.12"
    assert f"{x}" == repr(x)
    assert hash(x) == hash(x)
    assert len({x, x, mg.tensor(1)}) == 2
    assert range(10)[mg.tensor(3)] == 3
    assert round(float(mg.tensor(2.5)), 1) == 2.5
    with pytest.raises(TypeError, match="index"):
        range(3)[mg.tensor(1.0)]
    a, b = mg.tensor([1.0, 2.0], requires_grad=True)
    (a * b).backward()


class Labelled(mg.Tensor):
    __slots__ = ("label",)


class Open(mg.Tensor):
    pass


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles(duplicate: Any) -> None:
    for kind in (mg.Tensor, Labelled, Open, mg.nn.Parameter):
        x = kind([1.0, 2.0])
        x.requires_grad_()
        if kind is Labelled:
            x.label = "a"
        if kind is Open:
            x.notes = ["b"]
        y = duplicate(x)
        assert type(y) is kind
        assert y.tolist() == x.tolist()
        assert y.requires_grad
        assert not np.shares_memory(y.array, x.array)
        assert kind is not Labelled or y.label == "a"
        assert kind is not Open or (y.notes == ["b"] and y.notes is not x.notes)
        with pytest.raises(GraphError):
            duplicate(x * 2)
    buffer = mg.nn.Buffer(mg.zeros(2), persistent=False)
    assert duplicate(buffer).persistent is False
    x = mg.ones(3, 2).t()
    assert duplicate(x).tolist() == x.tolist()


def test_deepcopy_keeps_the_gradient_and_shares_within() -> None:
    x = mg.tensor([2.0], requires_grad=True)
    (x * x).sum().backward()
    a, b = copy.deepcopy([x, x])
    assert a is b
    assert a.grad.item() == 4
    assert a.grad is not x.grad
    (a * a).sum().backward()
    assert (a.grad.item(), x.grad.item()) == (8, 4)


def test_detach_and_clone() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.detach()
    assert not y.requires_grad
    assert np.shares_memory(y.array, x.array)
    z = x.clone()
    assert z.requires_grad
    assert not np.shares_memory(z.array, x.array)
    w = (x * 2).detach_()
    assert w.is_leaf
    assert not w.requires_grad


def test_to() -> None:
    x = mg.ones(2)
    assert x.to("float32") is x
    assert x.to("cpu") is x
    assert x.to(mg.float32, copy=True) is not x
    assert x.to("cpu", mg.float64).dtype == mg.float64
    assert x.to(device="cpu", dtype="int64").dtype == mg.int64
    assert x.to(mg.ones(1, dtype="float16")).dtype == mg.float16
    assert x.to(torch_like := "float64", True).dtype == torch_like
    assert not x.requires_grad_().to("int64").requires_grad
    assert x.to("float64").requires_grad


# ---- changes in place ---------------------------------------------------------------------------


def test_in_place_arithmetic() -> None:
    x = mg.tensor([1.0, 4.0])
    y = x
    x += 1
    x *= 2
    x -= mg.tensor([0.0, 2.0])
    x /= 4
    x **= 2
    assert x is y
    assert x.tolist() == [1, 4]
    assert x.sqrt_().tolist() == [1, 2]
    assert x.neg_().abs_().exp_().clamp_(0, 3).tolist() == pytest.approx([2.7182817, 3])
    assert x.copy_(mg.tensor([3, 5])).add_(mg.ones(2), alpha=2).tolist() == [5, 7]
    assert x.addcmul_(mg.ones(2), mg.ones(2), value=0.5).tolist() == [5.5, 7.5]
    assert x.addcdiv_(mg.ones(2), mg.tensor([2.0, 4.0])).tolist() == [6, 7.75]
    assert x.lerp_(mg.zeros(2), 0.5).tolist() == [3, 3.875]
    assert x.masked_fill_(x > 3.5, -1).tolist() == [3, -1]
    assert x.relu_().fill_(7).zero_().tolist() == [0, 0]
    i = mg.tensor([1, 2])
    i += 1
    i *= True
    assert i.tolist() == [2, 3]
    half = mg.ones(2, dtype="float16")
    half += mg.ones(2, dtype="float64")
    assert half.dtype == mg.float16


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_random_in_place(shape: Any, dtype: str) -> None:
    x = mg.empty(shape, dtype=dtype)
    for y in (x.normal_(1, 2), x.uniform_(-1, 1), x.bernoulli_(0.5), x.random_(3)):
        assert y is x
        assert y.dtype == dtype
        assert y.shape == shape
    assert x.floor().equal(x)
