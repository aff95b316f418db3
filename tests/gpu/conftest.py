"""A GPU for the tests of this folder, and backends whose kernels run in the emulator."""

import numpy as np
import pytest

from minigrad.backends.numpy_backend import NumpyBackend
from minigrad.backends.reference import Reference
from tests.gpu import device, emulator


@pytest.fixture
def gpu():
    """The backend of one GPU: of the stand-in, or with ``--cuda`` a real one."""
    with device.cuda() as backend:
        yield backend


@pytest.fixture
def two_gpus():
    """The backend of two GPUs of the stand-in."""
    if device.REAL:
        pytest.skip("two GPUs are those of the stand-in")
    with device.cuda(2) as backend:
        yield backend


@pytest.fixture(scope="session")
def reference():
    """The oracle: plain array code on NumPy arrays."""
    return oracle()


def oracle():
    """Reference kernels on NumPy arrays, with the memory functions of the CPU backend."""

    class Oracle(Reference):
        name, array_type, synchronous = "oracle", np.ndarray, True
        scatter_add = NumpyBackend.scatter_add
        index_add = NumpyBackend.index_add
        erf = NumpyBackend.erf
        _erf_tail = NumpyBackend._erf_tail

    return Oracle(np)


@pytest.fixture(scope="session")
def cuda():
    """The overrides, launched in the emulator on NumPy arrays."""
    if emulator.COMPILER is None:
        pytest.skip("needs g++, which compiles the kernels for the CPU")
    return emulated()


def emulated():
    from minigrad.backends.cuda.kernels import CudaKernels

    class Emulated(CudaKernels, type(oracle())):
        pass

    return Emulated(emulator.Module())
