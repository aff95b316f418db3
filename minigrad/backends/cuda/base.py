"""What the overrides by CUDA kernels share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from minigrad.backends.base import Array, Backend
from minigrad.backends.cuda.launch import Launcher, channels
from minigrad.shapes import prod

#: Values an array may have: kernels count in 32 bits where they can.
MOST = 2**31 - 1


class Launching(Backend):
    """Arrays as kernels take them.

    A kernel takes contiguous arrays of one dtype, float16, float32 or float64, and parameters and
    statistics in float32 (float64 for float64). What it does not take goes to the reference; so
    does everything where ``kernels`` is False.
    """

    kernels: bool = True

    @cached_property
    def launch(self) -> Launcher:
        """The launcher of this backend's kernels."""
        return Launcher(self.module, self.several)

    def takes(self, *arrays: Array) -> bool:
        """Whether kernels take these: floating, and neither empty nor too large."""
        return self.kernels and all(x.dtype.char in "efd" and 0 < x.size <= MOST for x in arrays)

    def plain(self, x: Array, dtype: Any = None) -> Array:
        """``x``, or a copy of it that is contiguous and of this dtype."""
        if dtype is not None and x.dtype != dtype:
            x = x.astype(dtype)
        return x if x.flags.c_contiguous else self.ascontiguousarray(x)

    def wide(self, x: Array) -> str:
        """The dtype of sums and parameters beside ``x``: float32, or float64 for float64."""
        return "float64" if x.dtype.char == "d" else "float32"

    def parameter(self, p: Array | None, x: Array) -> Array | None:
        """A parameter as the kernels take it beside ``x``."""
        return None if p is None else self.plain(p, self.wide(x)).reshape(-1)

    def bias_backward(self, grad: Array, axis: int = 1) -> Array:
        """The sum of dy over every axis but ``axis``."""
        axis %= grad.ndim
        if not self.takes(grad):
            return grad.sum(axis=tuple(i for i in range(grad.ndim) if i != axis))
        grad = self.plain(grad)
        n, c, s = prod(grad.shape[:axis]), grad.shape[axis], prod(grad.shape[axis + 1 :])
        grid, part, parts = channels(n, c, s)
        dbias = self.empty((parts, c), dtype=self.wide(grad))
        self.launch(
            "elementwise.bias_backward",
            grid,
            grad.dtype.char,
            grad=grad,
            dbias=dbias,
            count=n * s,
            C=c,
            S=s,
            part=part,
            parts=parts,
        )
        total = dbias[0] if parts == 1 else dbias.sum(axis=0)
        return total.astype(grad.dtype, copy=False)
