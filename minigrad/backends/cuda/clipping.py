"""Clipping by kernels/optim.cu."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.reference import clipping as reference


class Clipping(Launching, reference.Clipping):
    """Two kernels a gradient, and one for the norm of all."""

    clip_gradients: Callable[[Sequence[Array], float], Array]  #: of Updates

    def clip_grad_norm(self, grads: Sequence[Array], max_norm: float) -> Array:
        if not (self.takes(*grads) and all(g.flags.c_contiguous for g in grads)):
            return super().clip_grad_norm(grads, max_norm)
        return self.clip_gradients(grads, max_norm).astype(grads[0].dtype, copy=False).reshape(())
