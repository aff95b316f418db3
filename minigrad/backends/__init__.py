"""Where arrays live and who computes on them. The array decides: ``backend_of(array)``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from minigrad.backends import capture, cuda
from minigrad.backends.base import Array, Backend, Namespace
from minigrad.backends.cpu.threads import get_num_threads, set_num_threads
from minigrad.backends.cupy_backend import CupyBackend
from minigrad.backends.numpy_backend import NumpyBackend, quiet
from minigrad.backends.outline import Outline, OutlineBackend, outline
from minigrad.backends.reference import Reference, Running
from minigrad.errors import DeviceError

__all__ = [
    "Array",
    "Backend",
    "CupyBackend",
    "Namespace",
    "NumpyBackend",
    "Outline",
    "Reference",
    "Running",
    "available",
    "backend_of",
    "backends",
    "bounds",
    "cuda",
    "cuda_backend",
    "device_of",
    "for_device",
    "get_float32_matmul_precision",
    "get_num_threads",
    "is_pinned",
    "numpy",
    "outline",
    "quiet",
    "register",
    "same_device",
    "set_float32_matmul_precision",
    "set_num_threads",
]

PRECISIONS = ("highest", "high", "medium")
numpy = NumpyBackend()
backends: dict[type, Any] = {}  #: array type -> backend; apply looks here once an op


def register(backend: Any) -> None:
    """Make ``backend`` the one that computes on its ``array_type``."""
    backends[backend.array_type] = backend


register(numpy)
register(capture.CaptureBackend(numpy))
register(OutlineBackend())


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


def cuda_backend() -> CupyBackend:
    """The backend of the GPUs, imported and made when it is first asked for.

    Raises:
        DeviceError: there is no GPU to use; the message says why.
    """
    cupy = cuda.usable()
    found: Any = backends.get(cupy.ndarray)
    if found is None:
        found = import_module("minigrad.backends.cuda.backend").CudaBackend(cupy)
        found.set_precision(cuda.precision)
        register(found)
    return found  # type: ignore[no-any-return]


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products of float32 matrices are on a GPU.

    Args:
        precision: ``"highest"`` (so at first), in float32 throughout; ``"high"`` or ``"medium"``,
            with the factors rounded to TF32 (10 bits of mantissa, relative error about 5e-4) and
            the sums in float32, on the tensor cores, which are several times as fast.

    Differs: ``"medium"`` may mean bfloat16 in PyTorch, here the same as ``"high"``. It holds for
        products and for convolutions alike, which PyTorch switches each for itself (its
        convolutions are in TF32 from the start). On the CPU it changes nothing.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    cuda.precision = precision
    for backend in backends.values():
        if isinstance(backend, CupyBackend):
            backend.set_precision(precision)


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` set."""
    return cuda.precision


def for_device(device: Any) -> tuple[Any, str]:
    """The backend of ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, and the device's full name."""
    name = f"cuda:{device}" if isinstance(device, int) else str(device)
    if name == "cpu":
        watch = capture.active
        return numpy if watch is None or not watch.host else backends[capture.Captured], "cpu"
    kind, colon, index = name.partition(":")
    if kind == "cuda" and (index.isdigit() if colon else True):
        backend = cuda_backend()
        return backend, backend.full_name(index)
    raise DeviceError(f'device "{name}" is not known; use "cpu", "cuda" or "cuda:1".')


def bounds(array: Array) -> tuple[Any, Any] | None:
    """The least and the largest value, to check them; None where there are none, or where looking
    at them would wait for a device (``CupyBackend.check_values``).
    """
    if not (backend_of(array).synchronous and array.size):
        return None
    with device_of(array):
        return array.min().item(), array.max().item()


class device_of:  # noqa: N801 - named as quiet
    """``with device_of(array):`` its device is the current one, where there are several."""

    __slots__ = ("backend", "before")

    def __init__(self, array: Array) -> None:
        backend = backend_of(array)
        self.backend = backend if backend.several else None
        if self.backend is not None:
            self.before = backend.use(array)

    def __enter__(self) -> None:
        """See the class."""

    def __exit__(self, *error: Any) -> None:
        if self.backend is not None:
            self.backend.use_again(self.before)


class same_device:  # noqa: N801 - named as quiet
    """``with same_device():`` afterwards the device is current that was before."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = [(b, b.current()) for b in backends.values() if b.several]

    def __exit__(self, *error: Any) -> None:
        for backend, number in self.before:
            backend.use_again(number)


def is_pinned(array: Any) -> bool:
    """Whether a NumPy array lies in page-locked memory (``Tensor.pin_memory``)."""
    base = getattr(array, "base", None)
    while base is not None:
        if type(base).__name__ == "PinnedMemoryPointer":
            return True
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return False


def available() -> dict[str, str]:
    """Every device by name, with ``"available"`` or the reason why it is not."""
    found = {"cpu": "available"}
    status = cuda.probe()
    if status:
        return found | {f"cuda:{i}": "available" for i in range(status.count)}
    return found | {"cuda": str(status)}
