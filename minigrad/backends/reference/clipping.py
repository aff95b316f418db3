"""Gradients held within a bound."""

from __future__ import annotations

from collections.abc import Sequence

from minigrad.backends.base import Array, Backend


class Clipping(Backend):
    """All gradients by their norm as one vector."""

    def clip_grad_norm(self, grads: Sequence[Array], max_norm: float) -> Array:
        """g <- g min(1, max_norm / (norm + 1e-6)), in place; gives the norm before, without axes.

        The gradients are of one dtype. Norms of float16 are taken in float32, and kept in float16.
        Source: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1.
        """
        total = self._norm(self.stack([self._norm(g) for g in grads]))
        share = self.clip(max_norm / (total + 1e-6), None, 1.0)
        for g in grads:
            g *= share
        return total

    def _norm(self, x: Array) -> Array:
        wide = self._wide(x)
        return self.astype(self.sqrt((wide * wide).sum(axis=tuple(range(x.ndim)))), x.dtype)
