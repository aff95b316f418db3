"""Other dtypes and devices; new tensors of a tensor's own dtype and device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad.backends import backend_of, cuda_backend, is_pinned
from minigrad.dtypes import as_dtype, float16, float32, float64, int64
from minigrad.dtypes import bool as bool_dtype
from minigrad.dtypes import int32 as int32_dtype
from minigrad.errors import DeviceError
from minigrad.methods.base import Base
from minigrad.methods.operators import Operators
from minigrad.shapes import new_shape

if TYPE_CHECKING:
    from minigrad.tensor import Tensor


class Conversions(Operators):
    """Other dtypes and devices; new tensors of a tensor's own dtype and device."""

    __slots__ = ()

    def type(self, dtype: Any = None) -> Any:
        """This tensor as ``dtype``; without one, the name of its type."""
        return f"minigrad.{self.dtype}" if dtype is None else self.to(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in the dtype of ``other``."""
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(float64)

    def half(self) -> Tensor:
        """As float16."""
        return self.to(float16)

    def long(self) -> Tensor:
        """As int64."""
        return self.to(int64)

    def int(self) -> Tensor:
        """As int32."""
        return self.to(int32_dtype)

    def bool(self) -> Tensor:
        """As bool: whether not zero."""
        return self.to(bool_dtype)

    def cpu(self) -> Tensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: Any = False) -> Tensor:
        """On a GPU: the current one, or that of a name or number."""
        return self.to(device="cuda" if device is None else device, non_blocking=non_blocking)

    def pin_memory(self) -> Any:
        """A copy in page-locked memory of the CPU, which a GPU can read while the host goes on;
        itself where it is there already. See ``to(non_blocking=True)``.
        """
        if self.device != "cpu":
            raise DeviceError(f"pin_memory() needs a CPU tensor, got {self.device}.")
        return self if self.is_pinned() else self._wrap(cuda_backend().pinned(self.array))

    def is_pinned(self) -> Any:
        """Whether it lies in page-locked memory."""
        return is_pinned(self.array)

    def is_floating_point(self) -> Any:
        """Whether the dtype is floating."""
        return self.dtype.kind == "f"

    @property
    def is_cuda(self) -> Any:
        """Whether it lives on a GPU."""
        return self.device.startswith("cuda")

    # ---- new tensors like this one ---------------------------------------------------------------

    def new_zeros(self, *size: Any, dtype: Any = None) -> Tensor:
        """Zeros of this dtype and device."""
        return self._filled(0, size, dtype)

    def new_empty(self, *size: Any, dtype: Any = None) -> Tensor:
        """Memory of this dtype and device, whose values are not set."""
        return self._filled(0, size, dtype)

    def new_ones(self, *size: Any, dtype: Any = None) -> Tensor:
        """Ones of this dtype and device."""
        return self._filled(1, size, dtype)

    def new_full(self, size: Any, fill_value: Any, dtype: Any = None) -> Tensor:
        """A constant of this dtype and device."""
        return self._filled(fill_value, (size,), dtype)

    def new_tensor(self, data: Any, dtype: Any = None) -> Tensor:
        """``data`` in this dtype, on this device."""
        data = data.array if isinstance(data, Base) else data
        xp = backend_of(self.array)
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        return self._wrap(xp.asarray(data, dtype=dtype).copy())

    def _filled(self, value: Any, size: Any, dtype: Any) -> Tensor:
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        return self._wrap(backend_of(self.array).full(new_shape(size), value, dtype=dtype))
