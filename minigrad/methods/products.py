"""Products of vectors, of matrices, and of batches of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Products(Operators):
    """Products of vectors, of matrices, and of batches of them."""

    __slots__ = ()

    def matmul(self, other: Any) -> Tensor:
        """The matrix product, for vectors, matrices and batches of matrices."""
        a: Any = self
        b: Any = (
            other if isinstance(other, Base) else self._wrap(backend_of(self.array).asarray(other))
        )
        if a.dtype != b.dtype:
            raise DtypeError(
                f"matmul needs equal dtypes, got {a.dtype} and {b.dtype}; convert one."
            )
        if not a.ndim or not b.ndim:
            raise ShapeError(f"matmul needs at least one axis, got {a.shape} and {b.shape}; use *.")
        left, right = a.ndim == 1, b.ndim == 1
        if left:
            a = a.reshape(1, -1)
        if right:
            b = b.reshape(-1, 1)
        y = self._apply(ops.MatMul(), a, b)
        if left:
            y = y.squeeze(-2)
        return y.squeeze(-1) if right else y

    def mm(self, mat2: Tensor) -> Tensor:
        """The product of two matrices."""
        if self.ndim != 2 or mat2.ndim != 2:
            raise ShapeError(
                f"mm needs two matrices, got {self.shape} and {mat2.shape}; use matmul."
            )
        return self.matmul(mat2)

    def bmm(self, mat2: Tensor) -> Tensor:
        """The products of two batches of matrices."""
        if self.ndim != 3 or mat2.ndim != 3 or self.shape[0] != mat2.shape[0]:
            raise ShapeError(
                f"bmm needs (B, n, k) and (B, k, m), got {self.shape} and {mat2.shape}; use matmul."
            )
        return self.matmul(mat2)

    def mv(self, vec: Tensor) -> Tensor:
        """A matrix times a vector."""
        if self.ndim != 2 or vec.ndim != 1:
            raise ShapeError(f"mv needs a matrix and a vector, got {self.shape} and {vec.shape}.")
        return self.matmul(vec)

    def dot(self, other: Tensor) -> Tensor:
        """The inner product of two vectors."""
        if self.ndim != 1 or other.ndim != 1:
            raise ShapeError(f"dot needs two vectors, got {self.shape} and {other.shape}.")
        return self.matmul(other)

    def outer(self, vec2: Tensor) -> Tensor:
        """y[i, j] = self[i] · vec2[j]."""
        if self.ndim != 1 or vec2.ndim != 1:
            raise ShapeError(f"outer needs two vectors, got {self.shape} and {vec2.shape}.")
        return self.reshape(-1, 1) * vec2

    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta · self + alpha · mat1 mat2."""
        return self._plus(mat1.mm(mat2), beta, alpha)

    def baddbmm(
        self, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        """beta · self + alpha · batch1 batch2, for batches of matrices."""
        return self._plus(batch1.bmm(batch2), beta, alpha)

    def _plus(self, product: Any, beta: float, alpha: float) -> Tensor:
        if self.dtype != product.dtype:
            raise DtypeError(
                f"a sum with a product needs equal dtypes, got {self.dtype} and {product.dtype}."
            )
        product = product if alpha == 1 else product * alpha
        if not beta:  # PyTorch: what is in self does not count then, not even NaN
            return product  # type: ignore[no-any-return]
        x: Any = self
        if len(x.shape) > product.ndim:
            raise ShapeError(f"the sum has shape {product.shape}, {x.shape} does not fit.")
        return (x if beta == 1 else x * beta) + product  # type: ignore[no-any-return]
