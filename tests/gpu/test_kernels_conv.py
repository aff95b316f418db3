"""kernels/im2col.cu and products: linear and convolution, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import convolution, launch
from tests.gpu import device
from tests.gpu.close import DTYPES, SIZES, assert_near, exact, normal
from tests.gpu.test_kernels_blas import Blas, Cupy, address, library  # noqa: F401
from tests.gpu.test_kernels_pool import windows

few = settings(max_examples=25, derandomize=True)
dtypes = st.sampled_from(DTYPES)


@pytest.fixture(scope="module", params=["cuBLAS", "the array library's products"])
def cuda(request, cuda, library):  # noqa: F811
    if device.REAL:
        if request.param != "cuBLAS":
            pytest.skip("a GPU has cuBLAS")
        return cuda
    blas = Blas(Cupy(), library, address) if request.param == "cuBLAS" else None
    backend = type(cuda)(cuda.module)
    backend.blas = blas
    return backend


@few
@given(window=windows(), dtype=dtypes)
def test_columns_and_back(cuda, reference, window, dtype):
    shape, kernel, stride, pads, dilation, _ = window
    x = normal(2, 3, *shape[-2:], dtype=dtype)
    options = kernel, stride, pads, dilation
    columns = cuda.unfold(x, *options)
    np.testing.assert_array_equal(columns, reference.unfold(x, *options))
    back = normal(*columns.shape, dtype=dtype, seed=1)
    found = cuda.fold(back, shape[-2:], *options)
    assert found.dtype == dtype
    assert_near(found, reference.fold(exact(back), shape[-2:], *options), scale=20)


def test_threads_stride_over_columns(cuda, reference, monkeypatch):
    monkeypatch.setattr(launch, "BLOCKS", 2)
    x, options = normal(2, 3, 15, 14), ((3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2))
    columns = cuda.unfold(x, *options)
    np.testing.assert_array_equal(columns, reference.unfold(x, *options))
    assert_near(cuda.fold(columns, (15, 14), *options), reference.fold(columns, (15, 14), *options))


@few
@given(
    window=windows(),
    dtype=dtypes,
    groups=st.sampled_from([1, 2, 3]),
    bias=st.booleans(),
    needs=st.tuples(*[st.booleans()] * 3),
    portions=st.booleans(),
)
def test_conv2d(cuda, reference, window, dtype, groups, bias, needs, portions):
    shape, kernel, stride, pads, dilation, size = window
    x = normal(3, 2 * groups, *shape[-2:], dtype=dtype)
    weight = normal(4 * groups, 2, *kernel, dtype=dtype, seed=1)
    b = normal(4 * groups, dtype=dtype, seed=2) if bias else None
    options = stride, pads, dilation, groups
    before = convolution.COLUMNS
    convolution.COLUMNS = 1 if portions else before  # an image at a time
    try:
        y = cuda.conv2d(x, weight, b, *options)
        dy = normal(*y.shape, dtype=dtype, seed=3)
        found = cuda.conv2d_backward(dy, x, weight, *options, needs)
    finally:
        convolution.COLUMNS = before
    assert y.dtype == dtype and y.shape[2:] == size
    assert_near(y, reference.conv2d(exact(x), exact(weight), exact(b), *options), scale=20)
    wide = [exact(a) for a in (dy, x, weight)]
    # a weight's gradient in float16 is a sum over images of sums already rounded
    for f, o in zip(found, reference.conv2d_backward(*wide, *options, needs), strict=True):
        assert f is None or f.dtype == dtype
        assert_near(f, o, scale=100)


def test_a_1_x_1_convolution_needs_no_columns(cuda, reference, monkeypatch):
    if not device.REAL:
        monkeypatch.setattr(type(cuda), "unfold", None)
    x, weight = normal(2, 3, 5, 6), normal(4, 3, 1, 1)
    options = (1, 1), ((0, 0), (0, 0)), (1, 1), 1
    assert_near(cuda.conv2d(x, weight, None, *options), reference.conv2d(x, weight, None, *options))


def test_conv_transpose2d(cuda, reference):
    x, weight, bias = normal(2, 4, 5, 6), normal(4, 3, 3, 2, seed=1), normal(6, seed=2)
    options = (2, 1), ((1, 0), (0, 1)), (1, 2), 2
    y = cuda.conv_transpose2d(x, weight, bias, *options)
    assert_near(y, reference.conv_transpose2d(x, weight, bias, *options))
    dy, needs = normal(*y.shape, seed=3), (True, True, True)
    found = cuda.conv_transpose2d_backward(dy, x, weight, *options, needs)
    oracle = reference.conv_transpose2d_backward(dy, x, weight, *options, needs)
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)


@few
@given(
    batch=st.sampled_from([(), (3,), (2, 5)]),
    rows=SIZES,
    columns=SIZES,
    inner=SIZES,
    dtype=dtypes,
    bias=st.booleans(),
    needs=st.tuples(*[st.booleans()] * 3),
)
def test_linear(cuda, reference, batch, rows, columns, inner, dtype, bias, needs):
    x = normal(*batch, rows, inner, dtype=dtype)
    weight = normal(columns, inner, dtype=dtype, seed=1)
    b = normal(columns, dtype=dtype, seed=2) if bias else None
    y = cuda.linear(x, weight, b)
    assert y.dtype == dtype
    assert_near(y, reference.linear(exact(x), exact(weight), exact(b)), scale=30)
    dy = normal(*y.shape, dtype=dtype, seed=3)
    found = cuda.linear_backward(dy, x, weight, needs)
    oracle = reference.linear_backward(exact(dy), exact(x), exact(weight), needs)
    for f, o in zip(found, oracle, strict=True):
        assert f is None or f.dtype == dtype
        assert_near(f, o, scale=100)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((1, 3, 4), (2, 4, 5)),
        ((2, 6, 3, 4), (4, 5)),
        ((2, 6, 3, 4), (6, 4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
    ],
)
def test_matmul_as_numpy_has_it(cuda, a, b):
    x, y = normal(*a), normal(*b, seed=1)
    np.testing.assert_allclose(cuda.matmul(x, y), x @ y, rtol=1e-12)
    if len(b) > 1:
        turned = np.ascontiguousarray(y.swapaxes(-1, -2)).swapaxes(-1, -2)
        np.testing.assert_allclose(cuda.matmul(x, turned), x @ y, rtol=1e-12)
    whole = np.arange(6).reshape(2, 3)
    assert cuda.matmul(whole, whole.T).tolist() == (whole @ whole.T).tolist()


def test_dtypes_that_differ_go_to_the_reference(cuda, reference):
    x, weight = normal(3, 4, dtype="float32"), normal(5, 4)
    assert cuda.linear(x, weight, None).dtype == np.float64
    assert cuda.linear_backward(normal(3, 5), x, weight, (True, True, True))[0].dtype == np.float64
