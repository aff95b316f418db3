"""Looking at a number that another thread changes, without Python's lock."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel


@kernel
def spin(count: Array, wanted: int, looks: int, pause: int, scratch: Array) -> bool:
    """Look until ``count`` has the value wanted; False after so many looks in vain.

    Once it has, ``pause`` steps more. What is written to ``scratch`` (16,) might be ``count``, for
    all that the compiler knows, so it has to look again each time.
    """
    k = 0
    while count[0] < wanted:
        scratch[k & 15] += 1
        k += 1
        if k >= looks:
            return False
    for i in range(pause):
        scratch[i & 15] += 1
    return True
