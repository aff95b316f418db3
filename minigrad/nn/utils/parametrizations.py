"""Ready-made parametrizations of weights."""

from __future__ import annotations

from typing import Any

from minigrad.creation import randn
from minigrad.engine import set_recording
from minigrad.nn.module import Buffer, Module
from minigrad.nn.utils import parametrize
from minigrad.tensor import Tensor


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn a weight's length and direction apart: W = g · V / |V|.

    ``original0`` is g, ``original1`` V; V starts as W and g as its norms.

    Args:
        dim: the axis with a g for each place; None: one g for the whole weight.
    Source: Salimans and Kingma (2016), arXiv:1602.07868, equation 2.
    """
    return parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value: W / σ(W), so that |W x| ≤ |x|.

    σ = uᵀ W v, where u and v follow the singular vectors by the power method: a few steps at each
    forward in train mode, none in eval mode.

    Args:
        dim: the axis that becomes the rows of a matrix; 0, but 1 for transposed convolutions.
    Source: Miyato et al. (2018), arXiv:1802.05957, algorithm 1.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"{type(module).__name__} has no parameter or buffer {name!r}; it has "
            f"{', '.join([*module._parameters, *module._buffers]) or 'none'}."
        )
    if dim is None:
        transposed = any("ConvTranspose" in kind.__name__ for kind in type(module).__mro__)
        dim = 1 if transposed else 0
    made = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return parametrize.register_parametrization(module, name, made)


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def _norm(self, weight: Tensor) -> Tensor:
        """|V|: of every place along ``dim``, shaped to broadcast; of everything for -1."""
        if self.dim == -1:
            return weight.norm()
        if not 0 <= self.dim < weight.ndim:
            raise IndexError(
                f"weight_norm needs a dim from 0 to {weight.ndim - 1}, or None, for a weight of "
                f"shape {weight.shape}, got {self.dim}."
            )
        rest = tuple(i for i in range(weight.ndim) if i != self.dim)
        return weight.norm(2, rest, True) if rest else weight.abs()

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / self._norm(weight_v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(weight), weight


class _SpectralNorm(Module):
    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"spectral_norm needs a dim from {-weight.ndim} to {weight.ndim - 1} for a weight "
                f"of shape {weight.shape}, got {dim}."
            )
        if n_power_iterations <= 0:
            raise ValueError(
                f"spectral_norm needs n_power_iterations of at least 1, got {n_power_iterations}."
            )
        self.dim, self.eps = dim % weight.ndim, eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight.detach())
            for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                start = randn(size, dtype=weight.dtype, device=weight.device)
                setattr(self, name, Buffer(_normalized(start, eps)))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    def _iterate(self, matrix: Tensor, steps: int) -> None:
        with set_recording(False):
            for _ in range(steps):
                for own, value in (("_u", matrix.mv), ("_v", matrix.t().mv)):
                    other = self._v if own == "_u" else self._u
                    new = _normalized(value(other), self.eps)
                    buffer = getattr(self, own)
                    buffer.copy_(new)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return _normalized(weight, self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # the next forward changes the buffers
        sigma: Any = u.dot(matrix.mv(v))
        scaled: Tensor = weight / sigma
        return scaled

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def _normalized(x: Tensor, eps: float) -> Tensor:
    unit: Tensor = x / x.norm().clamp(min=eps)
    return unit
