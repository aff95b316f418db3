"""kernels/softmax.cu, executed on the CPU, against the reference in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gpu.close import DTYPES, SIZES, assert_near, exact, normal

few = settings(max_examples=25, derandomize=True)
rows = st.tuples(SIZES, st.sampled_from((1, 2, 10, 31, 32, 33, 1000, 1025, 2500)))
dtypes = st.sampled_from(DTYPES)


@few
@given(shape=rows, dtype=dtypes, size=st.sampled_from([1.0, 100.0]))
def test_softmax_and_its_logarithm(cuda, reference, shape, dtype, size):
    x = (size * normal(*shape)).astype(dtype)
    for name in ("softmax", "log_softmax"):
        found = getattr(cuda, name)(x, 1)
        assert found.dtype == dtype
        assert_near(found, getattr(reference, name)(exact(x), 1), units=64 * size**0.5)


@few
@given(shape=st.tuples(SIZES, SIZES, st.sampled_from((1, 5))), axis=st.sampled_from((0, 1, -2)))
def test_softmax_over_any_axis(cuda, reference, shape, axis):
    x = normal(*shape, dtype="float32")
    found = cuda.softmax(x, axis)
    assert found.flags.c_contiguous
    assert_near(found, reference.softmax(exact(x), axis))


def test_infinite_scores(cuda, reference):
    x = normal(5, 40, dtype="float32")
    x[0, :3] = -np.inf  # nothing at these places
    x[1] = -np.inf  # nothing anywhere
    x[2, 5] = np.inf
    x[3, 5] = np.nan
    with np.errstate(invalid="ignore"):
        for name in ("softmax", "log_softmax"):
            found, oracle = (getattr(b, name)(x, 1) for b in (cuda, reference))
            np.testing.assert_allclose(found, oracle, rtol=1e-5, atol=1e-6)


@few
@given(
    shape=rows,
    dtype=dtypes,
    ignored=st.sampled_from(["none", "some", "all"]),
    whole=st.sampled_from(["int64", "int32"]),
    one=st.booleans(),
)
def test_cross_entropy(cuda, reference, shape, dtype, ignored, whole, one):
    logits = normal(*shape, dtype=dtype)
    rng = np.random.default_rng(shape)
    target = rng.integers(0, shape[1], shape[0]).astype(whole)
    if ignored != "none":
        target[:: 2 if ignored == "some" else 1] = -100
    found = cuda.softmax_cross_entropy(logits, target, -100)
    oracle = reference.softmax_cross_entropy(exact(logits), target, -100)
    for f, o in zip(found, oracle, strict=True):
        assert f.dtype == dtype
        assert_near(f, o, units=32)
    grad = np.asarray(0.3, dtype) if one else normal(shape[0], dtype=dtype, seed=7)
    back = cuda.softmax_cross_entropy_backward(grad, found[1], target, -100)
    assert_near(
        back,
        reference.softmax_cross_entropy_backward(exact(grad), exact(found[1]), target, -100),
    )


def test_a_class_to_ignore_may_be_one_of_the_classes(cuda, reference):
    logits, target = normal(7, 3), np.array([0, 1, 2, 0, 1, 2, 1])
    found = cuda.softmax_cross_entropy(logits, target, 1)
    oracle = reference.softmax_cross_entropy(logits, target, 1)
    for f, o in zip(found, oracle, strict=True):
        assert_near(f, o)
    grad = np.asarray(1.0)
    back = [b.softmax_cross_entropy_backward(grad, oracle[1], target, 1) for b in (cuda, reference)]
    assert_near(*back)


def test_a_target_that_is_no_class_gives_nan(cuda):
    loss, _, _ = cuda.softmax_cross_entropy(normal(3, 4), np.array([4, -1, 2]), -100)
    assert np.isnan(loss[:2]).all() and np.isfinite(loss[2])


def test_many_targets_are_counted_in_one_block(cuda):
    target = np.where(np.arange(3000) % 3, 0, -100)
    assert cuda.softmax_cross_entropy(np.zeros((3000, 1)), target, -100)[2] == 2000


def test_nothing(cuda):
    loss, probabilities, count = cuda.softmax_cross_entropy(
        np.zeros((0, 3)), np.zeros(0, int), -100
    )
    assert loss.shape == (0,) and probabilities.shape == (0, 3) and count == 0
