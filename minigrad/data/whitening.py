"""Whitening: features without correlation, each of variance 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.creation import as_tensor
from minigrad.data.transforms import Fitted, parts
from minigrad.errors import ShapeError
from minigrad.shapes import prod
from minigrad.tensor import Tensor


class _Whitening(Fitted):
    """What both kinds share: the eigenvectors U and eigenvalues λ of the covariance.

    C = 1/N Σ (x − mean)(x − mean)ᵀ = U diag(λ) Uᵀ, found in float64 on the CPU; d features cost d²
    memory and d³ time, which is why a network does not do it in every layer.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor

    def __init__(self, eps: float = 1e-5) -> None:
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, got {eps}.")
        self.eps = eps

    def _label(self) -> str:
        return type(self).__name__

    def _fit(self, x: Tensor, dtype: Any) -> None:
        n, d = len(x), prod(x.shape[1:])
        if n < 2 or not d:
            raise ShapeError(
                f"{self._label()} is fitted on at least two samples (N, ...), got {x.shape}."
            )
        total: Any = sum(part.double().reshape(-1, d).sum(0) for part in parts(x))
        mean = total / n
        outer: Any = 0.0
        for part in parts(x):
            centred = part.double().reshape(-1, d) - mean
            outer = outer + centred.T @ centred
        values, vectors = np.linalg.eigh((outer / n).cpu().numpy())
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        # of the two directions of an eigenvector, the one whose largest number is positive
        largest = np.abs(vectors).argmax(0)
        vectors = vectors * np.sign(vectors[largest, np.arange(d)])
        kept = self._kept(values)
        flat = int((values[:kept] + self.eps <= values[0] * d * 1e-15).sum())
        if flat:
            raise ValueError(
                f"{flat} of {kept} directions of the training set have no variance to divide by; "
                f"use eps > 0{self._fewer()}."
            )
        self.expected = x.shape[1:]
        place = {"dtype": dtype, "device": x.device}
        self.mean = mean.to(dtype).reshape(self.expected)
        self.variances = as_tensor(values[:kept].copy(), **place)
        self.directions = as_tensor(np.ascontiguousarray(vectors[:, :kept].T), **place)
        root = np.sqrt(values[:kept] + self.eps)
        there, back = self._matrices(vectors[:, :kept], root)
        self._there, self._back = (
            as_tensor(np.ascontiguousarray(m), **place) for m in (there, back)
        )

    def _kept(self, values: Any) -> int:
        return len(values)

    def _fewer(self) -> str:
        return ""

    def _matrices(self, vectors: Any, root: Any) -> tuple[Any, Any]:
        """What a row is multiplied with, there and back."""
        raise NotImplementedError

    def _rows(self, x: Tensor) -> tuple[Tensor, bool]:
        self._check(x)
        single = x.ndim == len(self.expected)
        centred = x - self.mean.to(x.device)
        return centred.reshape(1 if single else len(x), -1), single


class PCAWhitening(_Whitening):
    """y = Λ^(-1/2) Uᵀ (x − mean): along the principal axes, each divided by its deviation.

    U and Λ = diag(λ + eps) are the eigenvectors and eigenvalues of the training set's covariance.
    The first numbers of y are the directions in which the samples differ most; y has no places any
    more, it is a vector.

    Shapes: fitted on (N, ...), takes (N, ...) and gives (N, k), or a sample (...) and gives (k,).

    Args:
        eps: added to the variances, so that what hardly varies is not blown up: in a direction
            without variance, noise of the test set is multiplied by 1 / √eps. For pixels between
            0 and 1, 0.01 to 0.1.
        components: how many directions are kept; a share below 1, as many as hold that share of
            the variance; None: all.

    After ``fit``: ``mean``, ``variances`` (λ, the largest first) and ``directions``, a row each.

    Source: Kessy, Lewin, Strimmer (2018), "Optimal whitening and decorrelation", arXiv:1512.00809,
        table 1; LeCun, Bottou, Orr, Müller (1998), "Efficient BackProp", section 4.3.

    Example:
        >>> from minigrad import tensor
        >>> whiten = PCAWhitening(eps=0).fit(tensor([[1.0, 0], [-1, 0], [0, 3], [0, -3]]))
        >>> whiten(tensor([0.0, 3.0]))
        tensor([1.4142, 0.0000])
    """

    def __init__(self, eps: float = 1e-5, components: int | float | None = None) -> None:
        super().__init__(eps)
        whole = isinstance(components, int) and not isinstance(components, bool)
        if not (
            components is None
            or (whole and components >= 1)
            or (isinstance(components, float) and 0 < components < 1)
        ):
            raise ValueError(
                "components must be a number of directions from 1, or a share of the variance "
                f"between 0 and 1, got {components!r}."
            )
        self.components = components

    def _kept(self, values: Any) -> int:
        if self.components is None:
            return len(values)
        if isinstance(self.components, float):
            shares = np.cumsum(values) / values.sum()
            return int((shares < self.components).sum()) + 1
        if self.components > len(values):
            raise ShapeError(
                f"PCAWhitening(components={self.components}) of samples with {len(values)} "
                "features; keep at most as many."
            )
        return self.components

    def _fewer(self) -> str:
        return ", or fewer components"

    def _matrices(self, vectors: Any, root: Any) -> tuple[Any, Any]:
        return vectors / root, (vectors * root).T

    def __call__(self, x: Tensor) -> Tensor:
        """(N, k), of variance 1 in every direction and without correlation."""
        rows, single = self._rows(x)
        y = rows @ self._there.to(x.device)
        return y[0] if single else y

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives ``y``; with fewer components, the nearest to it in their span."""
        if not hasattr(self, "expected"):
            raise RuntimeError("PCAWhitening knows no mean yet; call .fit(train) first.")
        k = len(self.variances)
        if y.ndim not in (1, 2) or y.shape[-1] != k:
            raise ShapeError(f"PCAWhitening.inverse() expects (N, {k}) or ({k},), got {y.shape}.")
        x = y @ self._back.to(y.device)
        return x.reshape(*y.shape[:-1], *self.expected) + self.mean.to(y.device)

    def __repr__(self) -> str:
        return f"PCAWhitening(eps={self.eps}, components={self.components})"


class ZCAWhitening(_Whitening):
    """y = U Λ^(-1/2) Uᵀ (x − mean): white, and as near to x as can be.

    Of all whitening maps (each is this one, turned) it moves the samples least: images stay
    images, with their edges brought out.

    Shapes: what was fitted on (N, ...) takes batches (N, ...) and single samples (...).

    Args:
        eps: added to the variances, as in PCAWhitening.

    After ``fit``: ``mean``, ``variances`` (λ, the largest first) and ``directions``, a row each.

    Source: Bell and Sejnowski (1997), "The independent components of natural scenes are edge
        filters"; Kessy, Lewin, Strimmer (2018), arXiv:1512.00809, section 3.1.
    """

    def _matrices(self, vectors: Any, root: Any) -> tuple[Any, Any]:
        return vectors / root @ vectors.T, vectors * root @ vectors.T

    def _through(self, rows: Tensor, matrix: Tensor, single: bool) -> Tensor:
        y = (rows @ matrix.to(rows.device)).reshape(-1, *self.expected)
        return y[0] if single else y

    def __call__(self, x: Tensor) -> Tensor:
        """As ``x`` in shape, of variance 1 and without correlation."""
        rows, single = self._rows(x)
        return self._through(rows, self._there, single)

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives ``y``."""
        self._check(y)
        single = y.ndim == len(self.expected)
        x = self._through(y.reshape(1 if single else len(y), -1), self._back, single)
        return x + self.mean.to(y.device)

    def __repr__(self) -> str:
        return f"ZCAWhitening(eps={self.eps})"
