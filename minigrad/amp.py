"""Mixed precision: products in float16, everything that needs its range or digits in float32.

Weights stay float32, and so do their gradients: under ``autocast`` an op's inputs are cast by a
recorded op, and the gradient comes back in the dtype that the value had. Gradients in float16 fall
below 6e-8, the least number it has; ``GradScaler`` multiplies the loss so that they do not.

Source: Micikevicius et al. (2018), "Mixed precision training", arXiv:1710.03740.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextvars import Token
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

from minigrad import ops
from minigrad.dtypes import as_dtype, float16, float32
from minigrad.engine import set_recording
from minigrad.errors import DeviceError, DtypeError
from minigrad.ops import Op
from minigrad.tensor import Tensor, apply, casting

__all__ = ["GradScaler", "autocast", "is_autocast_available", "is_autocast_enabled"]

F = TypeVar("F", bound=Callable[..., Any])

#: Ops that run in the low dtype: products, whose sums are kept in float32.
LOW = (ops.Linear, ops.MatMul, ops.Einsum, ops.Conv2d, ops.ConvTranspose2d)
#: Ops that run in float32: what overflows, what cancels, and sums of many.
WIDE = (
    *(ops.Exp, ops.Expm1, ops.Log, ops.Log10, ops.Log1p, ops.Log2, ops.Pow, ops.LogAddExp),
    *(ops.Acos, ops.Asin, ops.Cosh, ops.Sinh, ops.Tan, ops.LogSumExp),
    *(ops.Sum, ops.Prod, ops.CumSum, ops.CumProd, ops.Norm, ops.Var, ops.Std),
    *(ops.Softmax, ops.LogSoftmax, ops.CrossEntropy, ops.LayerNorm, ops.GroupNorm, ops.RMSNorm),
)
_DTYPE_OF: dict[type[Op], Any] = {**dict.fromkeys(LOW, None), **dict.fromkeys(WIDE, float32)}


class Casting(NamedTuple):
    """What ``autocast`` does to the inputs of ops on a kind of device."""

    device_type: str
    dtype: Any

    def __call__(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        kind = type(op)
        if kind not in _DTYPE_OF:
            return inputs
        return tuple(self.lowered(x, _DTYPE_OF[kind] or self.dtype) for x in inputs)

    def lowered(self, x: Any, dtype: Any) -> Any:
        """``x`` in ``dtype`` where it is a tensor of float16 or float32 on such a device."""
        if not isinstance(x, Tensor) or x.dtype not in (float16, float32) or x.dtype == dtype:
            return x
        return apply(ops.Cast(dtype), x) if x.device.type == self.device_type else x


class autocast:  # noqa: N801 - PyTorch's name
    """``with autocast("cuda"):`` products in float16, losses and statistics in float32.

    Also a decorator. What is neither a product nor needs float32 runs in the dtype that it is
    given; operands of two dtypes in the wider one. Wrap forward and loss; backward follows by
    itself. BatchNorm takes float16 with weights and statistics in float32.

    Args:
        device_type: ``"cuda"`` or ``"cpu"``: ops on such a device are cast.
        dtype: float16.
        enabled: False changes nothing, or within another ``autocast`` switches it off.
        cache_enabled: taken for PyTorch's sake: a weight is cast at each use.

    Example:
        >>> from minigrad import nn, randn
        >>> with autocast("cpu"):
        ...     y = nn.Linear(3, 2)(randn(4, 3))
        >>> y.dtype
        dtype('float16')

    Differs: there is no bfloat16, which PyTorch takes on the CPU by default; and the ops are those
        that PyTorch casts on a GPU, on either device.
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if device_type not in ("cuda", "cpu"):
            raise DeviceError(f'autocast needs "cuda" or "cpu", got {device_type!r}.')
        if str(dtype).rpartition(".")[2] == "bfloat16":
            raise DtypeError("autocast has no bfloat16, as NumPy has none; use float16.")
        self.dtype = float16 if dtype is None else as_dtype(dtype)
        if self.dtype != float16:
            raise DtypeError(f"autocast lowers to float16, got {self.dtype}.")
        self._casting = Casting(device_type, self.dtype) if enabled else None
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> autocast:
        self._tokens.append(casting.set(self._casting))
        return self

    def __exit__(self, *error: Any) -> None:
        casting.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        """``function``, run under it."""

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast(F, inside)


def is_autocast_available(device_type: str) -> bool:
    """Whether ``autocast`` knows this kind of device."""
    return device_type in ("cuda", "cpu")


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether ops on such a device are cast here."""
    found = casting.get()
    return found is not None and found.device_type == device_type


def in_float32(function: F) -> F:
    """A function whose tensors are float32 under ``autocast``, and which casts none itself."""

    @wraps(function)
    def wide(*args: Any, **kwargs: Any) -> Any:
        found = casting.get()
        if found is None:
            return function(*args, **kwargs)
        args = tuple(found.lowered(x, float32) for x in args)
        kwargs = {name: found.lowered(x, float32) for name, x in kwargs.items()}
        token = casting.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            casting.reset(token)

    return cast(F, wide)


class GradScaler:
    """Multiplies the loss by a scale, and the gradients by its inverse before the step.

    ::

        scaler.scale(loss).backward()
        scaler.step(optimizer)      # unscales; leaves the step out where a gradient is not finite
        scaler.update()             # then halves the scale; doubles it after so many good steps

    To clip gradients, ``scaler.unscale_(optimizer)`` first. ``step`` waits for the GPU once, for
    whether a gradient was not finite.

    Args:
        device: taken for PyTorch's sake; the scale is a number of the host.
        init_scale, growth_factor, backoff_factor, growth_interval: the scale at first, what it is
            multiplied by after ``growth_interval`` steps without, and after one with a gradient
            that is not finite.
        enabled: False: ``scale`` gives its argument, ``step`` is the optimizer's.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if not growth_factor > 1:
            raise ValueError(f"the growth factor must be above 1, got {growth_factor}.")
        if not 0 < backoff_factor < 1:
            raise ValueError(f"the backoff factor must be between 0 and 1, got {backoff_factor}.")
        self._scale, self._growth_tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._enabled = growth_interval, enabled
        #: By id of an optimizer: "ready", "unscaled" or "stepped"; and the flags of its gradients.
        self._stages: defaultdict[int, str] = defaultdict(lambda: "ready")
        self._finite: dict[int, list[Tensor]] = {}

    def scale(self, outputs: Any) -> Any:
        """A tensor, or an iterable of them, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            scaled = [self.scale(output) for output in outputs]
            return tuple(scaled) if isinstance(outputs, tuple) else scaled
        raise ValueError("outputs must be a tensor or an iterable of tensors.")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, in place."""
        if not self._enabled:
            return
        stage = self._stages[id(optimizer)]
        if stage == "unscaled":
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if stage == "stepped":
            raise RuntimeError("unscale_() is being called after step().")
        finite = []
        with set_recording(False):
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.grad.dtype == float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    p.grad.mul_(1 / self._scale)
                    finite.append(p.grad.isfinite().all())
        self._stages[id(optimizer)], self._finite[id(optimizer)] = "unscaled", finite

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step, unless a gradient is not finite."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if self._stages[id(optimizer)] == "stepped":
            raise RuntimeError("step() has already been called since the last update().")
        if self._stages[id(optimizer)] == "ready":
            self.unscale_(optimizer)
        if not self._finite[id(optimizer)]:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        self._stages[id(optimizer)] = "stepped"
        return optimizer.step() if self._all_finite(id(optimizer)) else None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale to what the gradients since the last update were, or set it."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        else:
            if not any(self._finite.values()):
                raise AssertionError("No inf checks were recorded prior to update.")
            if not all(map(self._all_finite, list(self._finite))):
                self._scale, self._growth_tracker = self._scale * self._backoff_factor, 0
            else:
                self._growth_tracker += 1
                if self._growth_tracker == self._growth_interval:
                    self._scale, self._growth_tracker = self._scale * self._growth_factor, 0
        self._stages.clear()
        self._finite.clear()

    def _all_finite(self, number: int) -> bool:
        """Whether all gradients of an optimizer were finite; waits for a GPU, once."""
        flags = self._finite[number]
        while len(flags) > 1:
            last = flags.pop()
            flags[-1] = flags[-1] & last.to(flags[-1].device)
        flags[:] = [flag.cpu() for flag in flags]
        return all(map(bool, flags))

    def get_scale(self) -> float:
        """The scale; 1 where it is not enabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by."""
        return self._backoff_factor

    def get_growth_interval(self) -> int:
        """After how many good steps it grows."""
        return self._growth_interval

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale and its settings, as PyTorch has them; empty where it is not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "the state dict is empty: it was saved from a GradScaler that was not enabled."
            )
        self._scale = float(state_dict["scale"])
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker = state_dict["_growth_tracker"]
