"""kernels/pool.cu, executed on the CPU, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import launch
from minigrad.shapes import conv_size
from tests.gpu.close import DTYPES, assert_near, exact, normal

few = settings(max_examples=40, derandomize=True)
dtypes = st.sampled_from(DTYPES)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def windows(draw, dilated=True):
    """An image's shape and windows that fit: kernel, stride, padding, dilation, output size."""
    kernel, stride = draw(pairs), draw(pairs)
    dilation = draw(pairs) if dilated else (1, 1)
    pads = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    image = tuple(
        draw(st.integers(max(d * (k - 1) + 1 - sum(p), 1), 19))
        for k, d, p in zip(kernel, dilation, pads, strict=True)
    )
    size = tuple(
        conv_size(n + sum(p), k, s, 0, d)
        for n, k, s, p, d in zip(image, kernel, stride, pads, dilation, strict=True)
    )
    planes = draw(st.sampled_from([(1, 1), (2, 3), (7,), ()]))
    return (*planes, *image), kernel, stride, pads, dilation, size


@pytest.fixture(autouse=True, params=["a thread a place", "threads stride"])
def blocks(request, monkeypatch):
    if request.param == "threads stride":
        monkeypatch.setattr(launch, "BLOCKS", 2)


@few
@given(window=windows(), dtype=dtypes, whole=st.booleans(), holes=st.booleans())
def test_max_pool(cuda, reference, window, dtype, whole, holes):
    shape, kernel, stride, pads, dilation, size = window
    x = normal(*shape, dtype=dtype)
    if whole:
        x = np.round(x)  # many equal values
    if holes:
        x.reshape(-1)[::5], x.reshape(-1)[::7] = np.nan, -np.inf
    y, winner = cuda.max_pool2d(x, kernel, stride, pads, dilation, size)
    oracle = reference.max_pool2d(x, kernel, stride, pads, dilation, size)
    inside = np.isfinite(oracle[0]) | np.isnan(oracle[0])
    np.testing.assert_array_equal(y, oracle[0])
    np.testing.assert_array_equal(winner[inside], oracle[1][inside])
    assert winner.dtype == oracle[1].dtype == np.uint8
    dy = normal(*y.shape, dtype=dtype, seed=1)
    dx = cuda.max_pool2d_backward(dy, oracle[1], kernel, stride, pads, dilation, shape)
    assert dx.dtype == dtype
    exactly = exact(dy), oracle[1], kernel, stride, pads, dilation, shape
    assert_near(dx, reference.max_pool2d_backward(*exactly), scale=4)


def test_windows_of_many_cells(cuda, reference):
    x, window = normal(2, 40, 50, dtype="float32"), ((16, 17), (3, 2), ((0, 0), (1, 0)), (1, 1))
    size = conv_size(40, 16, 3, 0), conv_size(51, 17, 2, 0)
    y, winner = cuda.max_pool2d(x, *window, size)
    oracle = reference.max_pool2d(x, *window, size)
    assert winner.dtype == np.int64 and winner.max() > 255
    np.testing.assert_array_equal(y, oracle[0])
    np.testing.assert_array_equal(winner, oracle[1])
    dy = normal(*y.shape, dtype="float32", seed=1)
    dx = cuda.max_pool2d_backward(dy, winner, *window, x.shape)
    expected = reference.max_pool2d_backward(exact(dy), winner, *window, x.shape)
    assert_near(dx, expected, units=64)


@few
@given(window=windows(dilated=False), dtype=dtypes, one=st.booleans())
def test_avg_pool(cuda, reference, window, dtype, one):
    shape, kernel, stride, pads, _, size = window
    x = normal(*shape, dtype=dtype)
    share = np.full((1, 1) if one else size, 0.25, dtype)
    if not one:
        share = share + normal(*size, dtype=dtype, seed=2) ** 2
    found = cuda.avg_pool2d(x, kernel, stride, pads, size, share)
    assert found.dtype == dtype
    oracle = reference.avg_pool2d(exact(x), kernel, stride, pads, size, exact(share))
    assert_near(found, oracle, scale=20)
    dy = normal(*found.shape, dtype=dtype, seed=1)
    found = cuda.avg_pool2d_backward(dy, kernel, stride, pads, share, shape)
    oracle = reference.avg_pool2d_backward(exact(dy), kernel, stride, pads, exact(share), shape)
    assert_near(found, oracle, scale=20)


def test_nothing_and_whole_numbers_go_to_the_reference(cuda, reference):
    window = (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (2, 2)
    for x in (np.zeros((0, 3, 4, 4), "f"), np.arange(32).reshape(2, 4, 4)):
        for f, o in zip(cuda.max_pool2d(x, *window), reference.max_pool2d(x, *window), strict=True):
            np.testing.assert_array_equal(f, o)
