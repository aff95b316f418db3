"""kernels/optim.cu, executed on the CPU, against the reference in float64, over several steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import launch
from tests.gpu import device
from tests.gpu.close import DTYPES, assert_near, exact, normal

few = settings(max_examples=25, derandomize=True)
sizes = st.sampled_from([(1,), (5,), (17, 3), (33,), (257,), (3, 300), (5000,)])
dtypes = st.sampled_from(DTYPES)
decays = st.sampled_from([0.0, 0.1])
STEPS = 3


@pytest.fixture(autouse=True, params=["a thread an element", "threads stride"])
def blocks(request, monkeypatch):
    if request.param == "threads stride":
        monkeypatch.setattr(launch, "BLOCKS", 2)


def wide(dtype):
    return "float64" if dtype == "float64" else "float32"


def steps(cuda, reference, name, shape, dtype, kept, settings, placed=False):
    """Several updates, each compared with the reference's from the same place."""
    param = normal(*shape, dtype=dtype)
    mine = [param, *(np.zeros(shape, wide(dtype)) if k else None for k in kept)]
    for i in range(STEPS):
        theirs = [None if a is None else exact(a.copy()) for a in mine]
        grad = normal(*shape, dtype=wide(dtype), seed=i + 1)
        changing = {k: f(i) for k, f in settings.items() if callable(f)}
        fixed = {k: v for k, v in settings.items() if not callable(v)}
        mine_fixed = {**fixed, "lr": np.full(1, fixed["lr"], wide(dtype))} if placed else fixed
        getattr(cuda, name)(mine[0], grad, *mine[1:], **mine_fixed, **changing)
        getattr(reference, name)(theirs[0], exact(grad), *theirs[1:], **fixed, **changing)
        same(mine, theirs)


def same(mine, theirs):
    for found, oracle in zip(mine, theirs, strict=True):
        if found is not None:
            assert_near(found, oracle)


@few
@given(
    shape=sizes,
    dtype=dtypes,
    momentum=st.sampled_from([0.0, 0.9]),
    dampening=st.sampled_from([0.0, 0.3]),
    nesterov=st.booleans(),
    weight_decay=decays,
    placed=st.booleans(),
)
def test_sgd(cuda, reference, shape, dtype, momentum, dampening, nesterov, weight_decay, placed):
    nesterov = nesterov and momentum > 0
    settings = {
        "lr": 0.1,
        "momentum": momentum,
        "dampening": 0.0 if nesterov else dampening,
        "nesterov": nesterov,
        "first": lambda i: i == 0,
        "weight_decay": weight_decay,
    }
    steps(cuda, reference, "sgd_update", shape, dtype, [momentum > 0], settings, placed)


@few
@given(
    shape=sizes,
    dtype=dtypes,
    form=st.sampled_from(["velocity", "heavy-ball", "ema"]),
    weight_decay=decays,
    placed=st.booleans(),
)
def test_momentum(cuda, reference, shape, dtype, form, weight_decay, placed):
    settings = {"lr": 0.1, "momentum": 0.9, "form": form, "weight_decay": weight_decay}
    settings["correction"] = lambda i: 1 - 0.9 ** (i + 1) if form == "ema" else 1.0
    steps(cuda, reference, "momentum_update", shape, dtype, [True], settings, placed)


@few
@given(
    shape=sizes,
    dtype=dtypes,
    centered=st.booleans(),
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=decays,
    eps_inside=st.booleans(),
    placed=st.booleans(),
)
def test_rmsprop(
    cuda, reference, shape, dtype, centered, momentum, weight_decay, eps_inside, placed
):
    settings = {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": momentum}
    settings |= {"weight_decay": weight_decay, "eps_inside": eps_inside}
    kept = [True, centered, momentum > 0]
    steps(cuda, reference, "rmsprop_update", shape, dtype, kept, settings, placed)


def test_a_variance_that_rounding_makes_negative_is_none(cuda):
    """The gradient hardly changes: s less the mean gradient's square is a little below 0."""
    p, square, mean = (np.full(64, v, "f") for v in (1.0, 0.1, np.sqrt(np.float32(0.1)) * 1.01))
    grad = np.full(64, np.sqrt(np.float32(0.1)), "f")
    cuda.rmsprop_update(p, grad, square, mean, None, lr=1e-3, alpha=0.99, eps=1e-3, momentum=0.0)
    assert np.isfinite(p).all()


adams = {
    "weight_decay": decays,
    "decoupled": st.booleans(),
    "eps_hat": st.booleans(),
    "amsgrad": st.booleans(),
}
BETAS = {"beta1": 0.9, "beta2": 0.999}


@few
@given(shape=sizes, dtype=dtypes, **adams)
def test_adam(cuda, reference, shape, dtype, weight_decay, decoupled, eps_hat, amsgrad):
    settings = {"lr": 0.01, **BETAS, "eps": 1e-8, "t": lambda i: float(i + 1)}
    settings |= {"weight_decay": weight_decay, "decoupled": decoupled, "eps_hat": eps_hat}
    steps(cuda, reference, "adam_update", shape, dtype, [True, True, amsgrad], settings)


class Placed:
    """Numbers in memory that ``put_numbers`` fills, one after another."""

    def __init__(self, cuda):
        self.cuda, self.asked = cuda, []

    def __call__(self, values, dtype):
        at = np.full(8, np.nan, dtype)
        numbers = {f"n{i}": values[i] if i < len(values) else 0.0 for i in range(8)}
        one = launch.Grid((1, 1, 1), (1, 1, 1))
        self.cuda.launch("optim.put_numbers", one, at.dtype.char, at=at, count=8, **numbers)
        self.asked.append(values)
        return at[: len(values)]


RULES = {
    "sgd_update": (
        1,
        {
            **{"momentum": 0.9, "dampening": 0.1, "nesterov": False, "first": False},
            "weight_decay": 0.1,
        },
    ),
    "momentum_update": (1, {"momentum": 0.9, "form": "ema", "correction": 0.3}),
    "rmsprop_update": (3, {"alpha": 0.9, "eps": 1e-8, "momentum": 0.5}),
    "adam_update": (
        3,
        {
            **{"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "t": 3.0},
            **{"weight_decay": 0.1, "decoupled": True},
        },
    ),
}


@pytest.mark.skipif(device.REAL, reason="hands NumPy arrays to the launcher")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_numbers_in_memory_are_the_same_to_the_last_bit(cuda, monkeypatch, name, dtype):
    kept, settings = RULES[name]
    results = []
    for placing in (None, Placed(cuda)):
        monkeypatch.setattr(cuda, "placing", placing)
        arrays = [normal(3, 300, dtype=dtype)]
        arrays += [np.abs(normal(3, 300, dtype=wide(dtype), seed=i)) for i in range(kept)]
        grad = normal(3, 300, dtype=wide(dtype), seed=9)
        getattr(cuda, name)(arrays[0], grad, *arrays[1:], lr=0.1 / 3, **settings)
        results.append([a.tobytes() for a in arrays])
    assert results[0] == results[1]
    assert len(placing.asked) == 1 and placing.asked[0][0] != 0


def test_many_parameters_and_what_kernels_do_not_take(cuda, reference):
    view = np.zeros((4, 6), "f")[:, ::2]  # not contiguous
    found, oracle = [], []
    for backend, out in ((cuda, found), (reference, oracle)):
        arrays = []
        for i, like in enumerate([normal(5, dtype="float32"), view.copy(order="F"), normal(3)]):
            p = like.copy(order="K") + 1
            state = (np.zeros_like(p) for _ in range(2))
            grad = normal(*p.shape, dtype=p.dtype, seed=i)
            arrays.append((p, grad, *state, None, np.asarray(0.0, "f")))
        backend.adam_updates(arrays, lr=0.1, **BETAS, eps=1e-8)
        backend.adam_updates(arrays, lr=0.1, **BETAS, eps=1e-8)
        out += [a for entry in arrays for a in entry if a is not None]
    for f, o in zip(found, oracle, strict=True):
        np.testing.assert_allclose(f, o, rtol=1e-5, atol=1e-7)


@few
@given(shape=sizes, dtype=dtypes, batch=st.sampled_from(["float32", "float64"]))
def test_running_statistics(cuda, reference, shape, dtype, batch):
    value, x = normal(*shape, dtype=dtype), normal(*shape, dtype=batch, seed=1)
    expected = exact(value.copy())
    reference.move_average(expected, exact(x), 0.9, 0.1)
    cuda.move_average(value, x, 0.9, 0.1)
    assert_near(value, expected)


# ---- clipping -----------------------------------------------------------------------------------


@few
@given(
    shapes=st.lists(sizes, min_size=1, max_size=4),
    dtype=dtypes,
    max_norm=st.sampled_from([0.1, 1.0, 1e6]),
)
def test_clipping(cuda, reference, shapes, dtype, max_norm):
    grads = [normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    expected = [exact(g.copy()) for g in grads]
    norm = reference.clip_grad_norm(expected, max_norm)
    found = cuda.clip_grad_norm(grads, max_norm)
    assert (found.shape, found.dtype) == ((), dtype)
    np.testing.assert_allclose(found, norm, rtol=1e-3 if dtype == "float16" else 1e-5)
    for g, e in zip(grads, expected, strict=True):
        assert_near(g, e, units=16 if dtype != "float64" else 1e3)


def test_gradients_that_are_not_finite_spoil_all(cuda, reference):
    for backend in (cuda, reference):
        grads = [np.array([1.0, np.nan], "f"), np.ones(3, "f")]
        assert np.isnan(backend.clip_grad_norm(grads, 1.0))
        assert all(np.isnan(g).all() for g in grads)


def test_gradients_that_the_kernels_do_not_take_are_clipped_by_the_reference(cuda):
    grads = [np.full((3, 2), 3.0, "f").T, np.zeros((0, 2), "f"), np.full(2, 3.0, "f")]
    assert cuda.clip_grad_norm(grads, 1.0) == pytest.approx(72**0.5)
    assert sum((g**2).sum() for g in grads) == pytest.approx(1, rel=1e-5)
