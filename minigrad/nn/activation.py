"""Activation layers: each holds the settings of the function of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from minigrad.creation import empty
from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.nn import init as initial
from minigrad.nn.module import Module, Parameter
from minigrad.tensor import Tensor


class _Activation(Module):
    """Calls ``function`` with the settings, the constructor's arguments by name."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        """The function of every element."""
        return type(self).function(input, **{n: getattr(self, n) for n in self._settings})

    def extra_repr(self) -> str:
        """The settings."""
        shown = [(n, getattr(self, n)) for n in self._settings]
        return ", ".join(f"{n}={v!r}" for n, v in shown if n != "inplace" or v)


class ReLU(_Activation):
    """max(x, 0)."""

    function = staticmethod(F.relu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)

    def forward(self, input: Tensor) -> Tensor:
        """The larger of 0 and each element."""
        return F.relu(input, self.inplace)


class Hardtanh(_Activation):
    """x held between ``min_val`` and ``max_val``."""

    function = staticmethod(F.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)
        if max_val <= min_val:
            raise ValueError(f"Hardtanh expects min_val < max_val, got {min_val} and {max_val}.")


class ReLU6(Hardtanh):
    """min(max(x, 0), 6)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def forward(self, input: Tensor) -> Tensor:
        """x between 0 and 6."""
        return F.relu6(input, self.inplace)

    def extra_repr(self) -> str:
        """Whether it works in place."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(_Activation):
    """x where positive, negative_slope · x elsewhere."""

    function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class PReLU(Module):
    """x where positive, weight · x elsewhere, the weight learnt.

    Shapes: x (N, C, ...); weight (num_parameters,), 1 for all channels or one for each of the C.
    Source: He et al. (2015), arXiv:1502.01852, equation 1, which starts from 0.25, too.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again from the initial slope."""
        initial.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        """The bent line."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """How many slopes it has."""
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """x where positive, alpha · (exp(x) - 1) elsewhere."""

    function = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class SELU(_Activation):
    """The scaled ELU, which keeps mean 0 and variance 1 from layer to layer."""

    function = staticmethod(F.selu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class CELU(_Activation):
    """x where positive, alpha · (exp(x / alpha) - 1) elsewhere: ELU without a kink at 0."""

    function = staticmethod(F.celu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class GELU(_Activation):
    """x Φ(x), with Φ the normal distribution function; ``"tanh"`` approximates it."""

    function = staticmethod(F.gelu)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class SiLU(_Activation):
    """x σ(x), also called swish."""

    function = staticmethod(F.silu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Mish(_Activation):
    """x tanh(softplus(x))."""

    function = staticmethod(F.mish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Activation):
    """ln σ(x)."""

    function = staticmethod(F.logsigmoid)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = staticmethod(F.tanh)


class Softplus(_Activation):
    """ln(1 + exp(beta · x)) / beta, a smooth ReLU."""

    function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Hardswish(_Activation):
    """x · relu6(x + 3) / 6."""

    function = staticmethod(F.hardswish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        """Nothing, as in PyTorch."""
        return ""


class Hardsigmoid(_Activation):
    """relu6(x + 3) / 6."""

    function = staticmethod(F.hardsigmoid)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        """Nothing, as in PyTorch."""
        return ""


class _Shrink(_Activation):
    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def extra_repr(self) -> str:
        """The half-width of what becomes 0."""
        return str(self.lambd)


class Hardshrink(_Shrink):
    """x where |x| > lambd, else 0."""

    function = staticmethod(F.hardshrink)


class Softshrink(_Shrink):
    """x moved towards 0 by ``lambd``, at most to 0."""

    function = staticmethod(F.softshrink)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Threshold(_Activation):
    """x where x > threshold, else ``value``."""

    function = staticmethod(F.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value, inplace=inplace)


class GLU(_Activation):
    """a σ(b), where a and b are the halves of the input along ``dim``."""

    function = staticmethod(F.glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class _AlongAxis(_Activation):
    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class Softmax(_AlongAxis):
    """exp(x) / Σ exp(x) along ``dim``."""

    function = staticmethod(F.softmax)


class Softmin(_AlongAxis):
    """softmax(-x) along ``dim``."""

    function = staticmethod(F.softmin)


class LogSoftmax(_AlongAxis):
    """ln softmax(x) along ``dim``."""

    function = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """Softmax over the channels: of (N, C, H, W) or (C, H, W), along C."""

    def forward(self, input: Tensor) -> Tensor:
        """Positive numbers that sum to 1 at every place of the image."""
        if input.ndim not in (3, 4):
            raise ShapeError(
                f"Softmax2d expects (N, C, H, W) or (C, H, W), got {input.shape}; "
                "for other shapes take nn.Softmax(dim)."
            )
        return F.softmax(input, -3)
