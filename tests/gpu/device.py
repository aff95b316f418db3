"""The GPU of the tests: the stand-in, or with ``pytest --cuda`` a real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minigrad import backends
from tests.gpu import emulator, mockcupy

#: Whether ``pytest --cuda`` runs: CuPy and a GPU instead of the stand-in.
REAL = "--cuda" in sys.argv


@contextmanager
def cuda(gpus: int = 1, kernels: bool = False) -> Iterator[Any]:
    """``with cuda() as backend:`` there is a device "cuda", and ``backend`` computes on it.

    Args:
        kernels: the stand-in launches our CUDA kernels, in the emulator; a real GPU always does.
    """
    if REAL:
        yield backends.cuda_backend()
        return
    before = {name: sys.modules.get(name) for name in mockcupy.MODULES}
    mockcupy.install()
    backend = backends.cuda_backend()
    backend.count, backend.several = gpus, gpus > 1
    backend.use_kernels(kernels)
    backend.blas = backend.cudnn = None  # products are those of the stand-in
    if kernels:
        backend.launch.several = gpus > 1
        mockcupy.module.RawModule = emulator.RawModule
    try:
        with mockcupy.devices(gpus):
            yield backend
    finally:
        backend.count, backend.several = 1, False
        backend.use_kernels(False)
        vars(mockcupy.module).pop("RawModule", None)
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
