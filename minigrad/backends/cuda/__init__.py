"""CUDA: whether a GPU can be used, and if not, why.

CuPy is imported here and nowhere else, and nothing imports it before a GPU is asked for.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from minigrad.errors import DeviceError

#: What the CUDA runtime says by number (cudaError_t).
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100


@dataclass(frozen=True)
class Status:
    """What ``probe`` found: true where there is a GPU to use.

    ``reason`` says what is missing, ``hint`` what to do about it, ``count`` how many GPUs there
    are.
    """

    ok: bool
    reason: str = ""
    hint: str = ""
    count: int = 0

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return f"{self.count} GPU(s)" if self.ok else f"{self.reason} {self.hint}".rstrip()


def import_cupy() -> Any:
    """CuPy: the one place that imports it."""
    return import_module("cupy")


def import_cupyx() -> Any:
    """What belongs to CuPy beside NumPy's functions: pinned memory, special functions."""
    import_module("cupyx.scipy.special")
    return import_module("cupyx")


def probe() -> Status:
    """Look for CuPy, a driver and a GPU; every cause of "no GPU" has its own message."""
    try:
        cupy = import_cupy()
    except ModuleNotFoundError as error:
        if error.name != "cupy":  # CuPy is there, a part that it needs is not
            return _broken(error)
        return Status(
            False,
            'device "cuda" needs CuPy: pip install "minigrad[cuda13]".',
            "CPU needs nothing more.",
        )
    except Exception as error:  # a CuPy of another CUDA, two CuPys, a damaged one: its own words
        return _broken(error)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return _without_devices(cupy, error)
    if not count:
        return _no_device()
    return Status(True, count=count)


def _broken(error: Exception) -> Status:
    return Status(
        False,
        f"CuPy is installed but cannot be imported ({type(error).__name__}: {_line(error)}).",
        'Install the one for your CUDA alone: pip install "minigrad[cuda13]" (or cuda12).',
    )


def _without_devices(cupy: Any, error: Exception) -> Status:
    status = getattr(error, "status", None)
    if status == NO_DEVICE:
        return _no_device()
    if status == INSUFFICIENT_DRIVER:
        return Status(
            False,
            f"CuPy {cupy.__version__} is installed but no usable NVIDIA driver was found "
            "(cudaErrorInsufficientDriver).",
            "Install the driver, or one that is new enough for this CUDA; nvidia-smi shows it.",
        )
    if is_missing_library(error):
        return missing_libraries(error)
    return Status(
        False,
        f"CUDA cannot be used ({type(error).__name__}: {_line(error)}).",
        "nvidia-smi shows the driver's own view.",
    )


def _no_device() -> Status:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = " is not set" if visible is None else f'="{visible}"'
    return Status(
        False,
        "A driver was found, but no GPU is visible (cudaErrorNoDevice).",
        f"CUDA_VISIBLE_DEVICES{shown}; nvidia-smi -L lists the GPUs.",
    )


def is_missing_library(error: BaseException) -> bool:
    """Whether an error means that libraries of CUDA (NVRTC, cuBLAS) are not there."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "DynamicLibNotFoundError" in names or isinstance(error, ImportError | OSError)


def missing_libraries(error: BaseException) -> Status:
    """The status where a kernel or a product cannot be had for want of a library."""
    return Status(
        False,
        f"Libraries of CUDA are missing ({_line(error)}).",
        'pip install "cupy-cuda13x[ctk]" (or cupy-cuda12x[ctk]) brings them.',
    )


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


precision = "highest"  #: of products of float32 matrices
_usable: Any = None  # the CuPy that a GPU was found for


def usable() -> Any:
    """CuPy, where there is a GPU to use.

    Raises:
        DeviceError: there is none; the message says why and what to do.
    """
    global _usable
    if _usable is None or sys.modules.get("cupy") is not _usable:
        status = probe()
        if not status:
            raise DeviceError(str(status))
        _usable = sys.modules["cupy"]
    return _usable
