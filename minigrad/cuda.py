"""GPUs, as PyTorch's ``torch.cuda`` names them: are there any, which is current, how full are they.

Tensors are made on, or moved to, ``"cuda"`` (the current GPU) or ``"cuda:1"``. Nothing here imports
CuPy before it is asked for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from minigrad import backends
from minigrad.errors import DeviceError
from minigrad.generator import device_generator

__all__ = [
    "current_device",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "initial_seed",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device",
    "set_rng_state",
    "synchronize",
]


def is_available() -> bool:
    """Whether there is a GPU to use; ``minigrad.backends.available()`` says why there is none."""
    return bool(backends.cuda.probe())


def device_count() -> int:
    """How many GPUs there are to use."""
    return backends.cuda.probe().count


def current_device() -> int:
    """The number of the GPU that ``"cuda"`` means."""
    return backends.cuda_backend().current()


def set_device(device: Any) -> None:
    """Make a GPU the one that ``"cuda"`` means, in this thread."""
    backend, number = _numbered(device)
    backend.use_again(number)


class device:  # noqa: N801 - PyTorch's name
    """``with cuda.device(1):`` that GPU is the current one."""

    def __init__(self, device: Any) -> None:
        self._backend, self._number = _numbered(device)

    def __enter__(self) -> None:
        self._before = self._backend.current()
        self._backend.use_again(self._number)

    def __exit__(self, *error: Any) -> None:
        self._backend.use_again(self._before)


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all that it was asked for; for timing."""
    backend, number = _numbered(device)
    backend.Device(number).synchronize()


def get_device_name(device: Any = None) -> str:
    """What the GPU is called."""
    return str(get_device_properties(device).name)


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """(major, minor) of what its processors can do, such as (9, 0) for an H200."""
    found = get_device_properties(device)
    return found.major, found.minor


def get_device_properties(device: Any = None) -> Any:
    """``name``, ``major``, ``minor``, ``total_memory`` in bytes, ``multi_processor_count``."""
    backend, number = _numbered(device)
    found = backend.runtime.getDeviceProperties(number)
    name = found["name"]
    return SimpleNamespace(
        name=name.decode() if isinstance(name, bytes) else name,
        major=found["major"],
        minor=found["minor"],
        total_memory=found["totalGlobalMem"],
        multi_processor_count=found["multiProcessorCount"],
    )


# ---- memory -------------------------------------------------------------------------------------


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays take up."""
    return int(_in_pool(device, "used_bytes"))


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the GPU: what arrays take up, and what is kept for the next ones."""
    return int(_in_pool(device, "total_bytes"))


def max_memory_allocated(device: Any = None) -> int:
    """The largest ``memory_allocated`` since ``reset_peak_memory_stats``, or since this was first
    asked for.

    Differs: PyTorch counts from the beginning of the program. Here counting, which takes part of
    a microsecond for each array, begins when it is first asked for.
    """
    backend, number = _numbered(device)
    if number not in backend.peaks:
        reset_peak_memory_stats(device)
    return int(max(backend.peaks[number], memory_allocated(device)))


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let ``max_memory_allocated`` begin anew."""
    backend, number = _numbered(device)
    backend.count_peaks()
    backend.peaks[number] = memory_allocated(device)


def memory_stats(device: Any = None) -> dict[str, int]:
    """The figures above under PyTorch's names, and the number of free blocks."""
    return {
        "allocated_bytes.all.current": memory_allocated(device),
        "allocated_bytes.all.peak": max_memory_allocated(device),
        "reserved_bytes.all.current": memory_reserved(device),
        "inactive_split_bytes.all.current": int(_in_pool(device, "free_bytes")),
        "inactive_split.all.current": int(_in_pool(device, "n_free_blocks")),
    }


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of the GPU, whoever uses them."""
    backend, number = _numbered(device)
    free, total = backend.Device(number).mem_info
    return int(free), int(total)


def empty_cache() -> None:
    """Give memory that no array takes up back to the GPU; nothing where there is none."""
    if is_available():
        backend = backends.cuda_backend()
        for number in range(backend.count):
            with backend.Device(number):
                backend.module.get_default_memory_pool().free_all_blocks()


def _in_pool(device: Any, name: str) -> Any:
    backend, number = _numbered(device)
    with backend.Device(number):
        return getattr(backend.module.get_default_memory_pool(), name)()


# ---- random numbers -----------------------------------------------------------------------------


def manual_seed(seed: int) -> None:
    """Seed dropout on the current GPU; nothing where there is none.

    Everything else that is random is drawn on the host (``minigrad.manual_seed``), so that the same
    seed gives the same numbers on every device.
    """
    if is_available():
        device_generator.manual_seed(seed, _name(None))


def manual_seed_all(seed: int) -> None:
    """Seed dropout on every GPU."""
    device_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed that the current GPU's generator was started with."""
    return device_generator.initial_seed(_name(None))


def get_rng_state(device: Any = "cuda") -> tuple[int, int]:
    """The place in a GPU's stream of random numbers, as plain data; waits for the GPU."""
    return device_generator.get_state(_name(device))


def set_rng_state(new_state: tuple[int, int], device: Any = "cuda") -> None:
    """Go on from a place that ``get_rng_state`` returned."""
    device_generator.set_state(_name(device), *new_state)


def _name(device: Any) -> str:
    return f"cuda:{_numbered(device)[1]}"


def _numbered(device: Any) -> tuple[Any, int]:
    """The backend, and the number of a GPU given as ``"cuda:1"``, 1 or None for the current one."""
    backend = backends.cuda_backend()
    if device is None:
        return backend, backend.current()
    name = backends.for_device(device)[1]
    if name == "cpu":
        raise DeviceError('expected a GPU, "cuda" or "cuda:1", got "cpu".')
    return backend, int(name.partition(":")[2])
