"""The backend of the GPUs: CuPy's arrays, our kernels."""

from __future__ import annotations

from typing import Any

from minigrad.backends import cuda
from minigrad.backends.cuda.blas import Blas
from minigrad.backends.cuda.cudnn import Cudnn
from minigrad.backends.cuda.kernels import CudaKernels
from minigrad.backends.cupy_backend import CupyBackend


class CudaBackend(CudaKernels, CupyBackend):
    """Named kernels are CUDA C++, products cuBLAS's; everything else is CuPy's.

    Convolutions are cuDNN's where it and its front end are installed; ``cudnn = None`` has them
    computed as products with columns.
    """

    def __init__(self, cupy: Any) -> None:
        super().__init__(cupy)
        self.use_kernels()

    def use_kernels(self, use: bool = True) -> None:
        """Launch kernels of our own (at first), or run the reference in CuPy."""
        self.kernels = use
        self.blas = Blas(self.module) if use else None
        self.cudnn = Cudnn(self.module) if use else None
        self.set_precision(cuda.precision)

    def set_precision(self, precision: str) -> None:
        """See ``set_float32_matmul_precision``."""
        for products in (self.blas, self.cudnn):
            if products is not None:
                products.tf32 = precision != "highest"
