"""The reference's kernels in CUDA C++."""

from minigrad.backends.cuda.activation import Activation
from minigrad.backends.cuda.clipping import Clipping
from minigrad.backends.cuda.convolution import Convolution
from minigrad.backends.cuda.normalization import Normalization
from minigrad.backends.cuda.pooling import Pooling
from minigrad.backends.cuda.random import Random
from minigrad.backends.cuda.softmax import Softmax
from minigrad.backends.cuda.updates import Updates


class CudaKernels(
    Convolution, Pooling, Normalization, Activation, Softmax, Random, Updates, Clipping
):
    """Overrides that launch CUDA kernels: the class that stands before the backend's own.

    ``self.module`` is CuPy (or what stands in for it): its ``RawModule`` compiles, its ``empty``
    makes room. ``self.blas``, where it is set, multiplies matrices.
    """
