"""Where arrays live and who computes on them. The array decides: ``backend_of(array)``."""

from __future__ import annotations

from typing import Any

from minigrad.backends import capture
from minigrad.backends.base import Array, Backend, Namespace
from minigrad.backends.cpu.threads import get_num_threads, set_num_threads
from minigrad.backends.numpy_backend import NumpyBackend, quiet
from minigrad.backends.reference import Reference
from minigrad.errors import DeviceError

__all__ = [
    "Array",
    "Backend",
    "Namespace",
    "NumpyBackend",
    "Reference",
    "available",
    "backend_of",
    "backends",
    "for_device",
    "get_num_threads",
    "numpy",
    "quiet",
    "register",
    "set_num_threads",
]

numpy = NumpyBackend()
backends: dict[type, Any] = {}  #: array type -> backend; apply looks here once an op


def register(backend: Any) -> None:
    """Make ``backend`` the one that computes on its ``array_type``."""
    backends[backend.array_type] = backend


register(numpy)
register(capture.CaptureBackend(numpy))


def backend_of(array: Array) -> Any:
    """The backend of an array."""
    try:
        return backends[type(array)]
    except KeyError:
        for kind, backend in backends.items():
            if isinstance(array, kind):
                return backend
        raise TypeError(
            f"no backend computes on {type(array).__name__}; use minigrad.tensor(...)."
        ) from None


def for_device(device: Any) -> tuple[Any, str]:
    """The backend of ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, and the device's full name."""
    name = str(device)
    if name == "cpu":
        return numpy if capture.active is None else backends[capture.Captured], "cpu"
    if name.split(":")[0] == "cuda":
        raise DeviceError(
            'device "cuda" needs CuPy: pip install "minigrad[cuda13]". CPU needs nothing more.'
        )
    raise DeviceError(f'device "{name}" is not known; use "cpu", "cuda" or "cuda:1".')


def available() -> dict[str, str]:
    """Every device by name, with ``"available"`` or the reason why it is not."""
    found = {"cpu": "available"}
    try:
        for_device("cuda")
        found["cuda"] = "available"
    except DeviceError as error:
        found["cuda"] = str(error)
    return found
