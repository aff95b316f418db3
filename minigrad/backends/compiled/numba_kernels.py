"""``kernel``: a function of loops that is compiled when it is first called, and kept on disk."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from minigrad.backends import capture

#: Sums may be put in another order, a product and a sum rounded once: what vector units need. NaN
#: and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


_compiling = threading.RLock()


class Kernel:
    """A function, and its machine code from the first call on.

    Python's lock is released while it runs. The first call ever takes about a second a kernel
    and says so; later ones, in other processes too, load the code in milliseconds.
    """

    def __init__(self, function: Callable[..., Any], exact: bool = False) -> None:
        self.function = function
        self.fastmath: Any = False if exact else _FASTMATH
        self.ready: Any = None
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __call__(self, *args: Any) -> Any:
        if capture.active is not None:
            return capture.run(self.ready or self, args, pure=False)
        if self.ready is not None:
            return self.ready(*args)
        with _compiling:
            start, compiled = time.perf_counter(), self.jitted()
            result = compiled(*args)
            seconds = time.perf_counter() - start
            if self.ready is None and compiled.stats.cache_misses and seconds > 0.1:
                print(
                    f"minigrad: compiled {self.__name__} in {seconds:.1f} s; kept for next time.",
                    file=sys.stderr,
                )
            self.ready = compiled
        return result

    def jitted(self) -> Any:
        """Numba's function, which compiles when it is first called."""
        if self.ready is not None:
            return self.ready
        numba = import_module("numba")  # 0.5 s
        scope = self.function.__globals__
        for name in self.function.__code__.co_names:
            if isinstance(scope.get(name), Kernel):  # one that this one calls
                scope[name] = scope[name].jitted()
        return numba.njit(cache=True, nogil=True, fastmath=self.fastmath, error_model="numpy")(
            self.function
        )


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` on its first call."""
    return Kernel(function)


def exact_kernel(function: Callable[..., Any]) -> Any:
    """The same, every operation rounded for itself and in the order written."""
    return Kernel(function, exact=True)


def plain(x: Any) -> Any:
    """``x`` as kernels take it: contiguous, writable; a copy where it is not so."""
    return x if x.flags.carray else x.copy()
