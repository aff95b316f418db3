"""The CUDA backend: CuPy, with NumPy's names on the GPU, runs the reference kernels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from minigrad.backends import capture, cuda
from minigrad.backends.base import Array
from minigrad.backends.cuda.graph import Lane
from minigrad.backends.reference import Reference
from minigrad.errors import DeviceError

#: Constants kept on the GPUs, such as the index of a padding: those used last.
CONSTANTS = 256


class CupyBackend(Reference):
    """Arrays are ``cupy.ndarray``, on one GPU or several; nothing here waits for a device.

    Every kernel of ``reference/`` runs as it is written, an array function at a time. A class of
    faster ones stands before it among the bases of ``CudaBackend`` and has methods of their names.
    """

    name = "cupy"
    synchronous = False
    host_random = False

    def __init__(self, cupy: Any) -> None:
        self.array_type = cupy.ndarray
        super().__init__(cupy)
        self.runtime = cupy.cuda.runtime
        self.Device: Callable[[int], Any] = cupy.cuda.Device
        self.count: int = self.runtime.getDeviceCount()
        self.several = self.count > 1
        self._special: Any = None
        self._hook: Any = None
        self._sent: deque[tuple[Any, Any]] = deque()  # (event after a copy, what was copied)
        self._constants: dict[Any, Array] = {}
        self._lanes: dict[int, Lane] = {}
        self.peaks: dict[int, int] = {}  #: of memory, by the number of the device

    # ---- devices --------------------------------------------------------------------------------

    def full_name(self, index: str) -> str:
        """``"cuda:1"`` of the "1" in it; without a number, that of the current device."""
        number = int(index) if index else self.runtime.getDevice()
        if number >= self.count:
            there = "is 1 GPU" if self.count == 1 else f"are {self.count} GPUs"
            names = ", ".join(f'"cuda:{i}"' for i in range(self.count))
            raise DeviceError(f'device "cuda:{number}" was asked for, but there {there}: {names}.')
        return f"cuda:{number}"

    def use(self, x: Array) -> int:
        """Make the device of ``x`` the current one; gives the number of the one before."""
        before: int = self.runtime.getDevice()
        number: int = getattr(x.device, "id", before)  # an array of NumPy has a name there
        if number != before:
            self.runtime.setDevice(number)
        return before

    def current(self) -> int:
        """The number of the current device."""
        return int(self.runtime.getDevice())

    def use_again(self, number: int) -> None:
        """Make a device the current one again."""
        self.runtime.setDevice(number)

    def device_of(self, x: Array) -> str:
        return f"cuda:{x.device.id}"

    def to_host(self, x: Array) -> Any:
        with x.device:
            return capture.read(x).get()

    def from_host(self, x: Any, device: str) -> Array:
        with self.on(device):
            return capture.sending(lambda: self.module.asarray(x), x, device)

    def constant(self, x: Any, device: str) -> Array:
        key = device, x.dtype.str, x.shape, x.tobytes()
        found = self._constants.pop(key, None)
        self._constants[key] = found = self.from_host(x, device) if found is None else found
        if capture.active is not None:
            capture.active.keep(found)
        if len(self._constants) > CONSTANTS:
            del self._constants[next(iter(self._constants))]
        return found

    def lane(self, device: int) -> Lane:
        """Where steps are recorded on a GPU."""
        if device not in self._lanes:
            self._lanes[device] = Lane(self.module, device)
        return self._lanes[device]

    # ---- memory of the host that a GPU reads by itself -----------------------------------------

    def pinned(self, x: Any) -> Any:
        """A copy of a NumPy array in page-locked memory, from which copies go on by themselves."""
        if not x.size:
            return x.copy()
        y = cuda.import_cupyx().empty_pinned(x.shape, x.dtype)
        y[...] = x
        return y

    def from_pinned(self, x: Any, device: str) -> Array:
        """As ``from_host`` of a pinned array; the host goes on before the copy is done."""
        if capture.active is not None:
            return self.from_host(x, device)
        while self._sent and self._sent[0][0].done:
            self._sent.popleft()
        with self.on(device):
            y, stream = self.empty(x.shape, dtype=x.dtype), self.module.cuda.get_current_stream()
            y.set(x, stream=stream)
            self._sent.append((stream.record(), x))  # its memory is not to be used before
        return y

    def on(self, device: str) -> Any:
        """``with backend.on("cuda:1"):`` that GPU is the current one."""
        return self.Device(int(device.partition(":")[2] or self.runtime.getDevice()))

    def move(self, x: Array, device: str) -> Array:
        """A copy on another GPU."""
        with self.on(device):
            return self.module.array(x)

    def count_peaks(self) -> None:
        """Note from now on how much memory is in use at most."""
        if self._hook is None:
            peaks, pool = self.peaks, self.module.get_default_memory_pool

            class Peaks(self.module.cuda.MemoryHook):  # type: ignore[name-defined,misc]
                name = "minigrad peaks"

                def malloc_postprocess(self, **found: Any) -> None:
                    used, number = pool().used_bytes(), found["device_id"]
                    if used > peaks.get(number, used):
                        peaks[number] = used

            self._hook = Peaks()
            self._hook.__enter__()

    def check_values(self, check: bool = True) -> None:
        """Look at indices, targets and probabilities to check them, as on the CPU, or (at first) do
        not: each check waits for the GPU. Without, a class out of range is no error.
        """
        self.synchronous = check

    def set_precision(self, precision: str) -> None:
        """See ``set_float32_matmul_precision``. CuPy's own products are exact, unless the
        environment variable CUPY_TF32 says otherwise.
        """

    # ---- what CuPy does otherwise, or has elsewhere ---------------------------------------------

    def writable(self, x: Array) -> bool:
        """Whether no element is shared: CuPy lets a broadcast array be written to."""
        return all(stride or n < 2 for n, stride in zip(x.shape, x.strides, strict=True))

    def index_add(self, x: Array, index: Any, shape: tuple[int, ...]) -> Array:
        y = self.zeros(shape, dtype=x.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if any(getattr(p, "dtype", None) is not None and p.dtype.kind != "b" for p in parts):
            self._add_at(y, index, x)
        else:
            y[index] = x
        return y

    def scatter_add(self, x: Array, index: Array, axis: int, shape: tuple[int, ...]) -> Array:
        y = self.zeros(shape, dtype=x.dtype)
        places: list[Any] = [
            self.module.arange(n).reshape([-1 if i == j else 1 for j in range(index.ndim)])
            for i, n in enumerate(index.shape)
        ]
        places[axis] = index
        self._add_at(y, tuple(places), x[tuple(slice(n) for n in index.shape)])
        return y

    def _add_at(self, y: Array, index: Any, x: Array) -> None:
        """y[index] += x, repeated places adding up, in any order: rounding may differ from run to
        run. CuPy has it for few dtypes; int64 adds up as uint64 does, bit for bit.
        """
        dtype = y.dtype
        if dtype.char in "lq":
            self.add.at(y.view("uint64"), index, x.view("uint64"))  # type: ignore[attr-defined]
        elif dtype.kind in "iub" and dtype.char not in "iILQ":
            wide = y.astype("int32")
            self.add.at(wide, index, x.astype("int32"))  # type: ignore[attr-defined]
            y[...] = wide.astype(dtype)
        else:
            self.add.at(y, index, x)  # type: ignore[attr-defined]

    @property
    def special(self) -> Any:
        """CuPy's error functions, in cupyx."""
        if self._special is None:
            self._special = cuda.import_cupyx().scipy.special
        return self._special

    def erf(self, x: Array) -> Array:
        return self.special.erf(x).astype(x.dtype, copy=False)  # float64 of float16

    def erfc(self, x: Array) -> Array:
        return self.special.erfc(x).astype(x.dtype, copy=False)
