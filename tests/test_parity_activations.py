"""Activation functions and their modules against PyTorch: values, derivatives, printing, misuse."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.nn import functional as F
from minigrad.ops.activation import KINDS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

#: Function, module, and the keyword arguments to try: the defaults, and others.
TABLE: tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...] = (
    ("relu", "ReLU", ({}, {"inplace": True})),
    ("relu6", "ReLU6", ({}, {"inplace": True})),
    ("leaky_relu", "LeakyReLU", ({}, {"negative_slope": 0.3}, {"inplace": True})),
    ("elu", "ELU", ({}, {"alpha": 0.3}, {"alpha": 2, "inplace": True})),
    ("selu", "SELU", ({}, {"inplace": True})),
    ("celu", "CELU", ({}, {"alpha": 0.5}, {"alpha": 2.0, "inplace": True})),
    ("gelu", "GELU", ({}, {"approximate": "tanh"}, {"approximate": "none"})),
    ("silu", "SiLU", ({}, {"inplace": True})),
    ("mish", "Mish", ({}, {"inplace": True})),
    ("softplus", "Softplus", ({}, {"beta": 2.0, "threshold": 1.1}, {"beta": 0.5})),
    ("softsign", "Softsign", ({},)),
    ("hardtanh", "Hardtanh", ({}, {"min_val": -2, "max_val": 0.5}, {"inplace": True})),
    ("hardswish", "Hardswish", ({}, {"inplace": True})),
    ("hardsigmoid", "Hardsigmoid", ({}, {"inplace": True})),
    ("hardshrink", "Hardshrink", ({}, {"lambd": 1.0}, {"lambd": 0})),
    ("softshrink", "Softshrink", ({}, {"lambd": 1.0}, {"lambd": 0})),
    ("tanhshrink", "Tanhshrink", ({},)),
    ("threshold", "Threshold", ({"threshold": 0.1, "value": 20}, {"threshold": 1, "value": -2.5})),
    ("logsigmoid", "LogSigmoid", ({},)),
    ("sigmoid", "Sigmoid", ({},)),
    ("tanh", "Tanh", ({},)),
    ("glu", "GLU", ({}, {"dim": 1}, {"dim": -2})),
    ("softmax", "Softmax", ({"dim": 1}, {"dim": -1})),
    ("log_softmax", "LogSoftmax", ({"dim": 1}, {"dim": -2})),
    ("softmin", "Softmin", ({"dim": 1}, {"dim": -1})),
)
ELSEWHERE = {"prelu": "PReLU"}  # has a weight
MODULES_ONLY = {"Softmax2d"}

NAMES = (
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("softplus", "softsign", "softmin", "hardtanh", "hardswish", "hardsigmoid", "hardshrink"),
    *("softshrink", "tanhshrink", "threshold", "logsigmoid", "glu", "softmax", "log_softmax"),
    *("sigmoid", "tanh"),
)

SAMPLES = [
    pytest.param(function, module, options, id=f"{function}-{options}".replace(" ", ""))
    for function, module, choices in TABLE
    for options in choices
]
#: Where the functions have their kinks, where exp overflows, and what lies between.
POINTS = np.array(
    [0, 0.1, 0.5, -0.5, 1, -1, 3, -3, 6, -6, 2, -2, 0.3, -0.7, 30, -30, 800, -800, 5.9, 1e-9]
)
#: PyTorch's slope 1/6 is a float32, and has no derivative.
HARDSIGMOID = 1e-7


def inputs(dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((2, 4, 6)) * 2
    arrays = {
        "points": np.resize(POINTS, (1, 2, 10)),
        "drawn": drawn,
        "strided": np.repeat(drawn, 2, axis=0).transpose(0, 2, 1)[::2, ::-1],
        "empty": drawn[:0],
    }
    return {name: a.astype(dtype) for name, a in arrays.items()}


def leaf(lib: Any, array: Any) -> tuple[Any, Any]:
    """A leaf, and what is given to the function: a copy, so that it may work in place."""
    x = (mg if lib is mg else torch).tensor(np.ascontiguousarray(array), requires_grad=True)
    strided = x if array.flags["C_CONTIGUOUS"] else x.permute(0, 2, 1).clone().permute(0, 2, 1)
    return x, strided * 1


def derivatives(lib: Any, call: Any, array: Any, order: int) -> list[Any]:
    """The value and its first derivatives, weighed with numbers that are drawn."""
    x, given = leaf(lib, array)
    y = call(given)
    found = [y]
    grad = mg.grad if lib is mg else torch.autograd.grad
    rng = np.random.default_rng(1)
    for _ in range(order):
        if not y.requires_grad:
            break
        seed = np.asarray(rng.standard_normal(tuple(y.shape))).astype(array.dtype)
        weights = (mg if lib is mg else torch).tensor(seed)
        (y,) = grad(y, x, weights, create_graph=True, allow_unused=True)
        if y is None:
            break
        found.append(y)
    return [np.asarray(f.detach().numpy()) for f in found]


def agree(ours: list[Any], theirs: list[Any], tolerance: float) -> None:
    for order, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        kwargs = {"rtol": tolerance, "atol": tolerance, "err_msg": f"derivative {order}"}
        np.testing.assert_allclose(a, b, **kwargs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_values_and_derivatives(function: str, module: str, options: Any, dtype: str) -> None:
    tolerance = 1e-7 if dtype == "float64" else 2e-5
    order = 1 if function == "hardsigmoid" or dtype == "float32" else 2
    for array in inputs(dtype).values():
        theirs = derivatives(
            torch, lambda x: getattr(torch.nn.functional, function)(x, **options), array, order
        )
        finite = [np.where(np.isfinite(t), t, 0) for t in theirs]
        for call in (
            lambda x: getattr(F, function)(x, **options),
            lambda x: getattr(nn, module)(**options)(x),
        ):
            ours = derivatives(mg, call, array, order)
            assert all(np.isfinite(o).all() for o in ours)  # PyTorch's mish is not, far out
            known = [np.where(np.isfinite(t), o, 0) for o, t in zip(ours, theirs, strict=False)]
            agree(known, finite, tolerance)


@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_0d(function: str, module: str, options: Any) -> None:
    if function == "glu":
        with pytest.raises(RuntimeError):
            torch.nn.functional.glu(torch.tensor(1.0))
        with pytest.raises(RuntimeError, match="0-d"):
            F.glu(mg.tensor(1.0))
        return
    options = {**options, "dim": -1} if "dim" in options else options
    for value in POINTS[:6]:
        ours, theirs = (
            derivatives(lib, lambda x, f=f: getattr(f, function)(x, **options), np.array(value), 1)
            for lib, f in ((mg, F), (torch, torch.nn.functional))
        )
        agree(ours, theirs, 1e-7)


@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_gradgradcheck(function: str, module: str, options: Any) -> None:
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.uniform(-0.04, 0.04, (2, 4, 4)) + rng.choice([-1.7, 0.7, 1.6], (2, 4, 4)))
    x.requires_grad = True
    call = getattr(F, function)
    assert mg.gradcheck(lambda x: call(x * 1, **options), x, atol=1e-7)
    assert mg.gradgradcheck(lambda x: call(x * 1, **options), x, atol=1e-6)


@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_modules(function: str, module: str, options: Any) -> None:
    ours, theirs = getattr(nn, module)(**options), getattr(torch.nn, module)(**options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if "inplace" not in options:
        assert repr(getattr(nn, module)(*options.values())) == repr(theirs)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_other_dtypes(function: str, module: str, options: Any, dtype: str) -> None:
    """Where PyTorch takes integers, so does minigrad; elsewhere it refuses them or gives floats."""
    array = np.array([[0, 1, 2, 7], [9, 3, 1, 1]]).astype(dtype)
    options = {k: v for k, v in options.items() if k != "inplace"}
    try:
        theirs = getattr(torch.nn.functional, function)(torch.tensor(array), **options)
    except RuntimeError:
        if function not in ("softmax", "log_softmax", "softmin"):
            with pytest.raises(RuntimeError, match="expects"):
                getattr(F, function)(mg.tensor(array), **options)
        return
    ours = getattr(F, function)(mg.tensor(array), **options)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_float16(function: str, module: str, options: Any) -> None:
    array = np.linspace(-4, 4, 24).reshape(2, 2, 6).astype("float16")
    theirs = getattr(torch.nn.functional, function)(torch.tensor(array), **options)
    x = mg.tensor(array, requires_grad=True)
    ours = getattr(F, function)(x * 1, **options)
    ours.sum().backward()
    assert ours.dtype == x.grad.dtype == mg.float16
    np.testing.assert_allclose(ours.detach().numpy(), theirs.numpy(), rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize(("function", "module", "options"), SAMPLES)
def test_inplace_writes_into_the_input(function: str, module: str, options: Any) -> None:
    if not options.get("inplace"):
        pytest.skip("not in place")
    x = mg.tensor(POINTS)
    y = getattr(F, function)(x, **options)
    assert y is x
    theirs = torch.tensor(POINTS)
    getattr(torch.nn.functional, function)(theirs, **options)
    np.testing.assert_allclose(x.numpy(), theirs.numpy(), rtol=1e-12)


# ---- the two that are not in the table ----------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "weight"),
    [
        ((3, 4), (1,)),
        ((3, 4), (4,)),
        ((3, 4, 2), (4,)),
        ((3, 4, 2, 2), (4,)),
        ((5,), (1,)),
        ((), (1,)),
        ((), ()),
        ((0, 4), (4,)),
        ((3, 4), ()),
    ],
)
@pytest.mark.parametrize("kink", [False, True])
def test_prelu(shape: Any, weight: Any, kink: bool) -> None:
    """At 0 the first derivatives; the second are nobody's there."""
    rng = np.random.default_rng(3)
    x, w = np.asarray(rng.standard_normal(shape)), np.asarray(rng.random(weight))
    if x.size and kink:
        x.reshape(-1)[0] = 0
    results = []
    for lib, f in ((torch, torch.nn.functional), (mg, F)):
        leaves = [lib.tensor(x, requires_grad=True), lib.tensor(w, requires_grad=True)]
        y = f.prelu(*leaves)
        seed = lib.tensor(np.asarray(np.random.default_rng(4).standard_normal(shape)))
        grad = (mg.grad if lib is mg else torch.autograd.grad)(y, leaves, seed, create_graph=True)
        total = sum((g * g).sum() for g in grad)
        second = (mg.grad if lib is mg else torch.autograd.grad)(total, leaves)
        results.append([np.asarray(t.detach().numpy()) for t in (y, *grad, *second)])
    agree(results[1][: 3 if kink else 5], results[0], 1e-7)


@pytest.mark.parametrize("arguments", [(), (3,), (3, 0.1)])
def test_prelu_module(arguments: Any) -> None:
    ours, theirs = nn.PReLU(*arguments), torch.nn.PReLU(*arguments)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    np.testing.assert_array_equal(ours.weight.detach().numpy(), theirs.weight.detach().numpy())
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    np.testing.assert_allclose(
        ours(mg.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5)])
def test_softmax2d(shape: Any) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    agree(
        derivatives(mg, nn.Softmax2d(), x, 2), derivatives(torch, torch.nn.Softmax2d(), x, 2), 1e-7
    )
    assert repr(nn.Softmax2d()) == repr(torch.nn.Softmax2d())


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 2)])
def test_softmax_without_dim_guesses_as_pytorch_and_warns(name: str, shape: Any) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape))
    with pytest.warns(UserWarning, match="dim="):
        ours = getattr(F, name)(mg.tensor(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(torch.nn.functional, name)(torch.tensor(x))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-10)


def test_softmax_in_another_dtype() -> None:
    x = mg.tensor([[1.0, 2.0]])
    for name in ("softmax", "log_softmax", "softmin"):
        assert getattr(F, name)(x, 1, dtype=mg.float64).dtype == mg.float64


# ---- the tables are complete --------------------------------------------------------------------


def test_every_name_is_covered() -> None:
    covered = {function: module for function, module, _ in TABLE} | ELSEWHERE
    assert set(covered) == set(NAMES)
    assert set(covered) <= set(F.__all__)
    assert set(covered.values()) | MODULES_ONLY <= set(nn.__all__)
    own = {n for n, m in vars(nn).items() if getattr(m, "__module__", "") == nn.activation.__name__}
    assert own == set(covered.values()) | MODULES_ONLY


def test_every_kind_is_reached_and_says_its_name() -> None:
    reached = set()
    for function, _, choices in TABLE:
        for options in choices:
            options = {k: v for k, v in options.items() if k != "inplace"}
            y = getattr(F, function)(mg.ones(2, 2, requires_grad=True), **options)
            if isinstance(y.grad_fn, ops.Activation):
                reached.add(y.grad_fn.name)
                assert len(y.grad_fn.attributes()) == len(y.grad_fn.parameters)
    assert reached == set(KINDS)


def test_ops_that_read_only_y_keep_only_y() -> None:
    x = mg.randn(3, requires_grad=True)
    for kind in ("relu6", "hardsigmoid", "logsigmoid"):
        y = getattr(F, kind)(x)
        assert y.grad_fn.saved[0] is y.array
        assert y.grad_fn.reads == ("y",)


# ---- misuse -------------------------------------------------------------------------------------

x34 = (3, 4)
MISUSE: list[tuple[str, Any]] = [
    ("odd half", lambda lib, f, n: f.glu(lib.ones(3, 5))),
    ("dim out of range", lambda lib, f, n: f.glu(lib.ones(3, 4), 2)),
    ("softmax dim out of range", lambda lib, f, n: f.softmax(lib.ones(3, 4), 2)),
    ("log_softmax dim out of range", lambda lib, f, n: f.log_softmax(lib.ones(3), -2)),
    ("softmin dim out of range", lambda lib, f, n: f.softmin(lib.ones(3), 1)),
    ("bounds crossed", lambda lib, f, n: f.hardtanh(lib.ones(3), 1.0, -1.0)),
    ("negative lambd", lambda lib, f, n: f.softshrink(lib.ones(3), -0.1)),
    ("mode of gelu", lambda lib, f, n: f.gelu(lib.ones(3), approximate="exact")),
    ("alpha 0", lambda lib, f, n: f.celu(lib.ones(3), 0.0)),
    ("prelu channels", lambda lib, f, n: f.prelu(lib.ones(3, 4), lib.ones(3))),
    ("prelu of 0-d", lambda lib, f, n: f.prelu(lib.ones(()), lib.ones(3))),
    ("prelu weight 2-d", lambda lib, f, n: f.prelu(lib.ones(3, 4), lib.ones(4, 2))),
    ("prelu dtypes", lambda lib, f, n: f.prelu(lib.ones(3, 4), lib.ones(4).double())),
    ("Softmax2d of 2-d", lambda lib, f, n: n.Softmax2d()(lib.ones(3, 4))),
    ("elu of integers", lambda lib, f, n: f.elu(lib.ones(3).long())),
    ("gelu of bool", lambda lib, f, n: f.gelu(lib.ones(3).bool())),
    ("relu of bool", lambda lib, f, n: f.relu(lib.ones(3).bool())),
    ("hardtanh of uint8", lambda lib, f, n: f.hardtanh(lib.ones(3, dtype=lib.uint8))),
    ("gelu by position", lambda lib, f, n: f.gelu(lib.ones(3), "tanh")),
    ("threshold without value", lambda lib, f, n: n.Threshold(1.0)),
    ("in place on a leaf", lambda lib, f, n: f.elu(lib.ones(3, requires_grad=True), 1.0, True)),
]


@pytest.mark.parametrize(("name", "call"), MISUSE, ids=[m[0] for m in MISUSE])
def test_misuse(name: str, call: Any) -> None:
    with pytest.raises(Exception) as theirs:
        call(torch, torch.nn.functional, torch.nn)
    with pytest.raises(Exception) as ours:
        call(mg, F, nn)
    kind = RuntimeError if theirs.type is NotImplementedError else theirs.type
    assert issubclass(ours.type, kind), f"{ours.type.__name__} is no {kind.__name__}"
    assert len(str(ours.value)) > 25
