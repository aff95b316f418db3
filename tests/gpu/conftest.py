"""A GPU for the tests of this folder, and backends whose kernels run in the emulator."""

import numpy as np
import pytest

from minigrad.backends.numpy_backend import NumpyBackend
from minigrad.backends.reference import Reference, Running
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
    """The overrides on NumPy arrays: launched in the emulator, or with ``--cuda`` on a GPU."""
    if device.REAL:
        with device.cuda() as backend:
            return OnGpu(backend)
    if emulator.COMPILER is None:
        pytest.skip("needs g++, which compiles the kernels for the CPU")
    return emulated()


class OnGpu:
    """A backend's methods for NumPy arrays: they travel, and what was changed in place, back."""

    def __init__(self, backend):
        self.backend = backend

    def __getattr__(self, name):
        method = getattr(self.backend, name)

        def call(*args, **kwargs):
            sent = []
            found = method(*self.there(args, sent), **self.there(kwargs, sent))
            for host, array in sent:
                host[...] = array.get()
            return self.back(found)

        return call if callable(method) else method

    def there(self, x, sent):
        """NumPy arrays on the GPU; each is noted."""
        if isinstance(x, np.ndarray):
            sent.append((x, self.backend.from_host(x, "cuda")))
            return sent[-1][1]
        if isinstance(x, dict):
            return {k: self.there(v, sent) for k, v in x.items()}
        if isinstance(x, Running):
            return Running(*(self.there(v, sent) for v in x))
        return type(x)(self.there(v, sent) for v in x) if isinstance(x, list | tuple) else x

    def back(self, x):
        """Arrays of the GPU as NumPy arrays."""
        if isinstance(x, self.backend.array_type):
            return x.get()
        return type(x)(map(self.back, x)) if isinstance(x, list | tuple) else x


def emulated():
    from minigrad.backends.cuda.kernels import CudaKernels

    class Emulated(CudaKernels, type(oracle())):
        pass

    return Emulated(emulator.Module())
