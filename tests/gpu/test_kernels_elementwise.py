"""kernels/elementwise.cu, executed on the CPU: ReLU, the gradient of a bias, dropout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import launch
from tests.gpu.close import DTYPES, SIZES, assert_near, exact, normal

few = settings(max_examples=15, derandomize=True)
shapes = st.one_of(
    st.tuples(SIZES, SIZES), st.tuples(st.just(3), SIZES, SIZES), st.tuples(st.just(3000), SIZES)
)
dtypes = st.sampled_from(DTYPES)


@pytest.fixture(autouse=True, params=["a thread an element", "threads stride"])
def blocks(request, monkeypatch):
    if request.param == "threads stride":
        monkeypatch.setattr(launch, "BLOCKS", 3)


@few
@given(shape=shapes, dtype=dtypes)
def test_relu_and_its_gradient(cuda, reference, shape, dtype):
    x, dy = (normal(*shape, dtype=dtype, seed=s) for s in (0, 1))
    y = cuda.relu(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.relu(x))
    dx = cuda.relu_backward(dy, y)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, np.where(y > 0, dy, 0))


def test_relu_as_the_reference_has_it(cuda, reference):
    x = np.array([-2, -0.0, 0, 3, np.nan, np.inf, -np.inf], "f")
    y = cuda.relu(x)
    np.testing.assert_array_equal(y, reference.relu(x))
    np.testing.assert_array_equal(cuda.relu_backward(np.full(7, 2, "f"), y), 2.0 * (y > 0))
    assert cuda.relu(np.array([-1, 2])).tolist() == [0, 2], "whole numbers: the reference"
    assert cuda.relu(np.zeros((0, 2), "f")).shape == (0, 2)


@few
@given(shape=shapes, dtype=dtypes)
def test_the_logistic_function_and_its_gradient(cuda, reference, shape, dtype):
    x, dy = (normal(*shape, dtype=dtype, seed=s) for s in (0, 1))
    y = cuda.sigmoid(x * 20)
    assert y.dtype == dtype
    assert_near(y, reference.sigmoid(exact(x * 20)))
    dx = cuda.sigmoid_backward(dy, y)
    assert dx.dtype == dtype
    assert_near(dx, reference.sigmoid_backward(exact(dy), exact(y)))


def test_the_logistic_function_at_its_ends(cuda):
    x = np.array([-1e30, -90, 0, 90, np.inf, -np.inf, np.nan], "f")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(cuda.sigmoid(x), [0, 8.2e-40, 0.5, 1, 1, 0, np.nan], atol=1e-39)


@few
@given(shape=shapes, dtype=dtypes, axis=st.sampled_from([0, 1, -1]))
def test_the_gradient_of_a_bias(cuda, shape, dtype, axis):
    dy = normal(*shape, dtype=dtype)
    others = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    found = cuda.bias_backward(dy, axis)
    assert found.dtype == dtype
    terms = float(np.sqrt(dy.size / dy.shape[axis]))
    assert_near(found, exact(dy).sum(axis=others), units=8, scale=4 * terms + 1)


# ---- dropout ------------------------------------------------------------------------------------


def philox(key, counter):
    """Philox 4x32-10 (Salmon et al., 2011) in Python's integers."""
    (k0, k1), c = key, list(counter)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        low = 2**32 - 1
        c = [(q >> 32) ^ c[1] ^ k0, q & low, (p >> 32) ^ c[3] ^ k1, p & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c


def test_philox_gives_the_published_numbers():
    """Known answers of the authors' Random123 library."""
    answers = {
        ((0, 0), (0, 0, 0, 0)): "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ((2**32 - 1,) * 2, (2**32 - 1,) * 4): "408f276d 41c83b0e a20bc7c6 6d5451fd",
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        ): "d16cfe09 94fdcceb 5001e420 24126ea1",
    }
    for (key, counter), words in answers.items():
        assert " ".join(f"{w:08x}" for w in philox(key, counter)) == words


@few
@given(
    n=st.sampled_from((1, 3, 4, 5, 100, 3001)),
    p=st.sampled_from((0.1, 0.5, 0.9)),
    seed=st.integers(0, 2**64 - 1),
    call=st.integers(0, 2**63),
    dtype=dtypes,
)
def test_dropout_keeps_what_philox_says(cuda, reference, n, p, seed, call, dtype):
    x, state = normal(n, dtype=dtype, mean=3), np.array([seed, call], "uint64")
    y, taken = cuda.dropout(x, p, state)
    assert state.tolist() == [seed, call + 1] and taken.tolist() == [seed, call]
    key = seed % 2**32, seed >> 32
    words = [w for i in range(-(-n // 4)) for w in philox(key, (i, 0, call % 2**32, call >> 32))]
    kept = np.array(words[:n]) < round((1 - p) * 2**32)
    assert ((y != 0) == (kept & (x != 0))).all()
    assert_near(y, np.where(kept, exact(x) / (1 - p), 0), units=4)
    same = reference.dropout(x, p, np.array([seed, call], "uint64"))
    assert ((same[0] != 0) == (y != 0)).all() and (same[1] == taken).all()
    dy = normal(n, dtype=dtype, mean=3, seed=1)
    assert ((cuda.dropout_backward(dy, p, taken) != 0) == (kept & (dy != 0))).all()
    assert (cuda.dropout(x, p, state)[0] != y).any() or n < 100, "the next call draws others"


def test_dropout_of_nothing_and_of_all(cuda):
    x, state = normal(50), np.zeros(2, "uint64")
    np.testing.assert_array_equal(cuda.dropout(x, 0.0, state)[0], x)
    assert not cuda.dropout(x, 1.0, state)[0].any()
    assert cuda.dropout(np.zeros(0), 0.5, state)[0].shape == (0,)


def test_dropout_keeps_its_share(cuda):
    kept = cuda.dropout(np.ones(20000, "f"), 0.3, np.array([5, 0], "uint64"))[0] > 0
    assert abs(kept.mean() - 0.7) < 4 * (0.21 / 20000) ** 0.5
