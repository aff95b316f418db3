"""The GPU of the tests: the stand-in, or with ``pytest --cuda`` a real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from minigrad import backends
from minigrad.backends.cuda import graph
from tests.gpu import emulator, mockcupy

#: Whether ``pytest --cuda`` runs: CuPy and a GPU instead of the stand-in.
REAL = "--cuda" in sys.argv


class Emulated(emulator.RawModule):
    """A compiled kernel file whose kernels a stream of the stand-in can capture."""

    def get_function(self, name: str) -> Any:
        launch = super().get_function(name)

        def call(grid: Any, block: Any, args: Any) -> None:
            hosts = [getattr(x, "_host", x) for x in args]  # a graph keeps no array
            mockcupy._run(lambda: launch(grid, block, hosts), writes=True)

        return call


@contextmanager
def thread_local() -> Iterator[None]:
    """Streams capture in the strict mode."""
    before, graph.mode = graph.mode, graph.THREAD_LOCAL
    try:
        yield
    finally:
        graph.mode = before


@contextmanager
def cuda(gpus: int = 1, kernels: bool = False, captures: bool = False) -> Iterator[Any]:
    """``with cuda() as backend:`` there is a device "cuda", and ``backend`` computes on it.

    Args:
        kernels: the stand-in launches our CUDA kernels, in the emulator; a real GPU always does.
        captures: the stand-in's products can be captured, as those of our cuBLAS; memory of arrays
            that are gone is spoilt; and hidden allocations while capturing are errors.
    """
    if REAL:
        with thread_local() if captures else nullcontext():
            yield backends.cuda_backend()
        return
    before = {name: sys.modules.get(name) for name in mockcupy.MODULES}
    mockcupy.install()
    backend = backends.cuda_backend()
    settings = ("count", "several", "kernels", "blas", "cudnn")
    outer = {name: getattr(backend, name) for name in settings}
    raw, strict = vars(mockcupy.module).pop("RawModule", None), mockcupy.strict_memory
    if before["cupy"] is not mockcupy.module:  # the outermost
        outer |= {"count": 1, "several": False, "kernels": False, "blas": None, "cudnn": None}
    backend.count, backend.several = gpus, gpus > 1
    backend.use_kernels(kernels)
    backend.blas = backend.cudnn = None  # products are those of the stand-in
    if kernels:
        backend.launch.several = gpus > 1
        mockcupy.module.RawModule = Emulated
    if captures:
        backend.blas = mockcupy.Blas()
    mockcupy.strict_memory = captures
    try:
        with mockcupy.devices(gpus), thread_local() if captures else nullcontext():
            yield backend
    finally:
        for name, value in outer.items():
            setattr(backend, name, value)
        mockcupy.strict_memory = strict
        vars(mockcupy.module).pop("RawModule", None)
        if raw is not None:
            mockcupy.module.RawModule = raw
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
