"""How near a kernel's results must come to the exact ones, and arrays to try it on."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

DTYPES = ("float32", "float64", "float16")
#: Sizes around those of warps and blocks.
SIZES = st.sampled_from((1, 2, 3, 5, 8, 17, 31, 32, 33, 64, 70))


def normal(*shape, dtype="float64", mean=0.0, seed=0):
    rng = np.random.default_rng((seed, *shape))
    return (rng.standard_normal(shape) + mean).astype(dtype)


def exact(x):
    """float64, in which the oracle computes; anything else as it is."""
    return x.astype("float64") if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def assert_near(found, oracle, dtype=None, units=16.0, scale=None):
    """``found`` within ``units`` units of rounding, relative to the largest value, or to scale."""
    if oracle is None:
        assert found is None
        return
    assert found.shape == np.shape(oracle), (found.shape, np.shape(oracle))
    if not found.size:
        return
    if scale is None:
        scale = max(float(np.abs(oracle[np.isfinite(oracle)]).max(initial=0)), 1e-30)
    eps = np.finfo(dtype or found.dtype).eps
    np.testing.assert_allclose(exact(found), oracle, rtol=units * eps, atol=units * eps * scale)
