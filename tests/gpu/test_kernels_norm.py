"""kernels/norm.cu, executed on the CPU, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends import Running
from minigrad.backends.cuda import launch
from tests.gpu.close import DTYPES, SIZES, assert_near, exact, normal

EPS = 1e-5
few = settings(max_examples=20, derandomize=True)
shapes = st.one_of(
    st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES, SIZES), st.tuples(st.just(2), SIZES, SIZES)
)
dtypes = st.sampled_from(DTYPES)


@pytest.fixture(scope="module", params=["one block a channel", "several"])
def parts(request):
    """Channels taken by one block each, or in small parts by several."""
    before = launch.CHANNEL_PART, launch.CHANNEL_THREADS
    if request.param == "several":
        launch.CHANNEL_PART, launch.CHANNEL_THREADS = 256, 64
    yield
    launch.CHANNEL_PART, launch.CHANNEL_THREADS = before


def both(cuda, reference, name, *args):
    """The kernels' results, and the reference's on the same numbers in float64."""
    wide = [exact(a) for a in args]
    return getattr(cuda, name)(*args), getattr(reference, name)(*wide)


def parameters(width, dtype, present=True):
    if not present:
        return None, None
    return normal(*np.atleast_1d(width), dtype=dtype, seed=1), normal(
        *np.atleast_1d(width), dtype=dtype, seed=2
    )


@few
@given(shape=shapes, dtype=dtypes, affine=st.booleans(), mean=st.sampled_from([0.0, 30.0, -1e4]))
def test_batch_norm(cuda, reference, parts, shape, dtype, affine, mean):
    mean = min(mean, 30.0) if dtype == "float16" else mean
    x = normal(*shape, dtype=dtype, mean=0 if dtype == "float16" and mean < 0 else mean)
    if x.size == x.shape[1]:
        return  # one value a channel
    gamma, beta = parameters(shape[1], dtype, affine)
    found, oracle = both(cuda, reference, "batch_norm", x, gamma, beta, EPS)
    wide = "float64" if dtype == "float64" else "float32"
    # a channel of almost equal values: 1 / sqrt(var + eps) stretches what is left of rounding
    stretch = max(1.0, float(oracle[3].max()) / 100) * max(1, abs(mean) * EPS)
    assert found[0].dtype == dtype and found[1].dtype == wide
    assert_near(found[0], oracle[0], units=8 * stretch)
    assert_near(found[1], oracle[1], wide, scale=float(np.abs(x).max()))
    assert_near(found[2], oracle[2], wide, units=64 * stretch)
    assert_near(found[3], oracle[3], wide, units=64 * stretch)


@few
@given(shape=shapes, dtype=dtypes, affine=st.booleans(), needs=st.tuples(*[st.booleans()] * 3))
def test_batch_norm_backward(cuda, reference, parts, shape, dtype, affine, needs):
    x, grad = (normal(*shape, dtype=dtype, seed=s) for s in (3, 4))
    wide = "float64" if dtype == "float64" else "float32"
    gamma, _ = parameters(shape[1], dtype, affine)
    mean, inv_std = normal(shape[1], dtype=wide), normal(shape[1], dtype=wide, mean=2, seed=1)
    found, oracle = both(
        cuda, reference, "batch_norm_backward", grad, x, gamma, mean, inv_std, needs
    )
    for f, o in zip(found, oracle, strict=True):
        assert f is None or f.dtype == dtype
        assert_near(f, o, units=64)


@few
@given(shape=shapes, dtype=dtypes, affine=st.booleans())
def test_batch_norm_inference_and_its_gradients(cuda, reference, parts, shape, dtype, affine):
    x, grad = (normal(*shape, dtype=dtype, seed=s) for s in (3, 4))
    gamma, beta = parameters(shape[1], dtype, affine)
    mean, var = normal(shape[1], dtype=dtype), normal(shape[1], dtype=dtype, seed=1) ** 2 + 1
    found, oracle = both(
        cuda, reference, "batch_norm_inference", x, gamma, beta, mean, var.astype(dtype), EPS
    )
    assert_near(found, oracle)
    found, oracle = both(
        *(cuda, reference, "batch_norm_inference_backward", grad, x, gamma),
        *(mean, var.astype(dtype), EPS, (True, True, True)),
    )
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)


@few
@given(shape=shapes, unbiased=st.booleans())
def test_running_statistics_move_in_the_same_kernel(cuda, reference, parts, shape, unbiased):
    x = normal(*shape, dtype="float32", mean=5)
    m = x.size // shape[1]
    bessel = m / (m - 1) if unbiased and m > 1 else 1.0
    found = Running(*(normal(shape[1], dtype="float32", seed=s) for s in (1, 2)), 0.1, bessel)
    expected = Running(*(exact(a.copy()) for a in found[:2]), 0.1, bessel)
    reference.batch_norm(exact(x), None, None, EPS, expected)
    cuda.batch_norm(x, None, None, EPS, found)
    assert_near(found.mean, expected.mean, scale=10)
    assert_near(found.var, expected.var, units=64)


@pytest.mark.parametrize("dtype", ["float16", "int64"])
def test_running_statistics_that_the_kernel_does_not_take_move_all_the_same(
    cuda, reference, parts, dtype
):
    """Estimates in float16, or data that goes to the reference."""
    x = normal(40, 3, dtype="float32", mean=5).astype(dtype)
    kept = "float16" if dtype == "float16" else "float64"
    found = Running(np.zeros(3, kept), None, 0.5, 1.0)
    cuda.batch_norm(x, None, None, EPS, found)
    np.testing.assert_allclose(found.mean, 0.5 * exact(x).mean(axis=0), rtol=1e-3)


def test_a_first_value_far_off_costs_no_digits(cuda, reference, parts):
    """x - x_first is then large, and Welford's sums are what holds."""
    x = normal(300, 3, dtype="float32")
    x[0] = 1e4
    found, oracle = both(cuda, reference, "batch_norm", x, None, None, EPS)
    for f, o, scale in zip(found, oracle, (None, 1e4, None, None), strict=True):
        assert_near(f, o, scale=scale)


def test_equal_values_have_no_variance(cuda, parts):
    y, mean, var, inv_std = cuda.batch_norm(np.full((50, 2), 0.1, "f"), None, None, EPS)
    assert not y.any() and not var.any() and (mean == np.float32(0.1)).all()
    np.testing.assert_allclose(inv_std, EPS**-0.5, rtol=1e-6)


def test_a_channel_that_is_not_finite_spoils_itself_alone(cuda, parts):
    x = normal(40, 3, dtype="float32")
    x[7, 1] = np.inf
    y = cuda.batch_norm(x, None, None, EPS)[0]
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, ::2]).all()


def test_the_same_call_gives_the_same_bits(cuda, parts):
    """Whatever the order of the threads: it is another one in every launch."""
    x, grad = (normal(70, 5, 9, dtype="float32", seed=s) for s in (0, 1))
    results = []
    for _ in range(3):
        y, mean, _, inv_std = cuda.batch_norm(x, None, None, EPS)
        dx, dgamma, _ = cuda.batch_norm_backward(grad, x, None, mean, inv_std, (True, True, True))
        results.append(b"".join(a.tobytes() for a in (y, mean, inv_std, dx, dgamma)))
    assert len(set(results)) == 1


rows = st.tuples(SIZES, st.sampled_from((1, 2, 31, 32, 33, 100, 1024, 1025, 2500)))


@few
@given(shape=rows, dtype=dtypes, affine=st.booleans(), mean=st.sampled_from([0.0, 1e4]))
def test_layer_norm(cuda, reference, shape, dtype, affine, mean):
    x = normal(*shape, dtype=dtype, mean=0 if dtype == "float16" else mean)
    gamma, beta = parameters(shape[1], dtype, affine)
    found, oracle = both(cuda, reference, "layer_norm", x, gamma, beta, (1,), EPS)
    wide = "float64" if dtype == "float64" else "float32"
    stretch = max(1.0, float(oracle[2].max()) / 100)
    assert_near(found[0], oracle[0], units=8 * stretch)
    assert_near(found[1], oracle[1], wide, scale=float(np.abs(x).max()))
    assert_near(found[2], oracle[2], wide, units=64 * stretch)


@few
@given(shape=rows, dtype=dtypes, affine=st.booleans(), needs=st.tuples(*[st.booleans()] * 3))
def test_layer_norm_backward(cuda, reference, parts, shape, dtype, affine, needs):
    wide = "float64" if dtype == "float64" else "float32"
    x, grad = (normal(*shape, dtype=dtype, seed=s) for s in (3, 4))
    gamma, _ = parameters(shape[1], dtype, affine)
    mean, inv_std = normal(shape[0], 1, dtype=wide), normal(shape[0], 1, dtype=wide, mean=2, seed=1)
    found, oracle = both(
        cuda, reference, "layer_norm_backward", grad, x, gamma, mean, inv_std, (1,), needs
    )
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)


def test_layer_norm_over_several_axes(cuda, reference):
    x, grad = (normal(3, 4, 5, 6, dtype="float32", seed=s) for s in (0, 1))
    gamma, beta = parameters((5, 6), "float32")
    found, oracle = both(cuda, reference, "layer_norm", x, gamma, beta, (2, 3), EPS)
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)
    needs = (True, True, True)
    found, oracle = both(
        cuda, reference, "layer_norm_backward", grad, x, gamma, *found[1:], (2, 3), needs
    )
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)


@few
@given(
    n=st.sampled_from((1, 2, 5)),
    groups=st.sampled_from((1, 2, 3)),
    per_group=st.sampled_from((1, 2, 5)),
    image=st.sampled_from(((), (1,), (7,), (5, 9), (20, 21))),
    dtype=dtypes,
    affine=st.booleans(),
)
def test_group_norm(cuda, reference, parts, n, groups, per_group, image, dtype, affine):
    shape = (n, groups * per_group, *image)
    x, grad = (normal(*shape, dtype=dtype, seed=s) for s in (0, 1))
    gamma, beta = parameters(shape[1], dtype, affine)
    found, oracle = both(cuda, reference, "group_norm", x, gamma, beta, groups, EPS)
    wide = "float64" if dtype == "float64" else "float32"
    stretch = max(1.0, float(oracle[3].max()) / 100)
    assert_near(found[0], oracle[0], units=8 * stretch)
    for f, o in zip(found[1:], oracle[1:], strict=True):
        assert_near(f, o, wide, units=64 * stretch)
    statistics = (normal(n, groups, dtype=wide), normal(n, groups, dtype=wide, mean=2, seed=1))
    found, oracle = both(
        *(cuda, reference, "group_norm_backward", grad, x, gamma, *statistics, groups),
        (True, True, True),
    )
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o, units=64)


@few
@given(shape=rows, dtype=dtypes, affine=st.booleans())
def test_rms_norm(cuda, reference, parts, shape, dtype, affine):
    x, grad = (normal(*shape, dtype=dtype, seed=s) for s in (0, 1))
    gamma, _ = parameters(shape[1], dtype, affine)
    found, oracle = both(cuda, reference, "rms_norm", x, gamma, (1,), EPS)
    assert_near(found[0], oracle[0])
    assert_near(found[1], oracle[1], "float64" if dtype == "float64" else "float32")
    inv_rms = found[1]
    found, oracle = both(
        cuda, reference, "rms_norm_backward", grad, x, gamma, inv_rms, (1,), (True, True)
    )
    assert_near(found[0], oracle[0], scale=5 * float(inv_rms.max()))  # g and x_hat g x_hat cancel
    assert_near(found[1], oracle[1], units=64)


def test_what_kernels_do_not_take_goes_to_the_reference(cuda, reference):
    x = np.arange(12).reshape(4, 3)  # whole numbers
    for f, o in zip(*both(cuda, reference, "batch_norm", x, None, None, EPS), strict=True):
        np.testing.assert_array_equal(f, o)
    assert cuda.layer_norm(np.zeros((0, 3), "f"), None, None, (1,), EPS)[0].shape == (0, 3)
    middle = normal(4, 5, 6)
    found, oracle = both(cuda, reference, "layer_norm", middle, None, None, (1,), EPS)
    np.testing.assert_array_equal(found[0], oracle[0])


def test_views_are_copied(cuda, reference):
    x = normal(6, 5, 40, dtype="float32").transpose(2, 1, 0)
    found, oracle = both(cuda, reference, "batch_norm", x, None, None, EPS)
    assert_near(found[0], oracle[0])
