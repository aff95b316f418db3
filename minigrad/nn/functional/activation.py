"""Activation functions.

Those that take ``inplace`` then write into their input. Integers are refused where PyTorch has no
kernel for them.
"""

from __future__ import annotations

import warnings
from typing import Any

from minigrad import ops
from minigrad.errors import DtypeError, ShapeError
from minigrad.nn.functional.fused import run
from minigrad.shapes import as_axis
from minigrad.tensor import Tensor, apply


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). Source: Nair and Hinton (2010), ICML."""
    if input.dtype.kind not in "fiu":
        _check_dtype("relu", input, "fiu")
    return input.relu_() if inplace else apply(ops.ReLU(), input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6). Source: Howard et al. (2017), arXiv:1704.04861."""
    return _activation("relu6", input, inplace, takes="fiu")


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, negative_slope · x elsewhere. Source: Maas et al. (2013), ICML."""
    return _activation("leaky_relu", input, inplace, negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where positive, weight · x elsewhere.

    Shapes: input (N, C, ...), weight (C,): a slope for each channel; or weight (1,) for all.
    Source: He et al. (2015), arXiv:1502.01852, equation 1.
    """
    _check_dtype("prelu", input, "f")
    if weight.ndim > 1:
        raise ShapeError(
            f"prelu expects a weight of shape (C,) or (), got {weight.shape}; flatten it."
        )
    if input.dtype != weight.dtype:
        raise DtypeError(
            f"prelu expects input and weight of one dtype, got {input.dtype} and {weight.dtype}; "
            "convert one with .to()."
        )
    if weight.ndim and weight.numel() != 1:
        if not input.ndim:
            raise ShapeError(
                f"prelu of a 0-d tensor has no channels for a weight of shape {weight.shape}; "
                "give one of shape (1,)."
            )
        channels = input.shape[1] if input.ndim > 1 else 1
        if channels != weight.numel():
            raise ShapeError(
                f"prelu expects one slope for each of {channels} channels of {input.shape} (axis "
                f"1), or one for all, got {weight.numel()}."
            )
        weight = weight.reshape([-1] + [1] * (input.ndim - 2))
    elif weight.ndim > input.ndim:
        weight = weight.reshape(())
    return apply(ops.PReLU(), input, weight)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, alpha · (exp(x) - 1) elsewhere.

    Source: Clevert et al. (2016), arXiv:1511.07289, equation 1.
    """
    return _activation("elu", input, inplace, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 · elu(x, 1.6733): keeps mean 0 and variance 1 from layer to layer.

    Source: Klambauer et al. (2017), arXiv:1706.02515, equation 2.
    """
    return _activation("selu", input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, alpha · (exp(x / alpha) - 1) elsewhere. Source: arXiv:1704.07483."""
    if alpha == 0:
        raise RuntimeError("celu expects an alpha other than 0, by which x is divided; got 0.")
    return _activation("celu", input, inplace, alpha)


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """x Φ(x), with Φ the normal distribution function; ``"tanh"`` approximates it.

    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu expects approximate 'none' or 'tanh', got {approximate!r}.")
    return _activation("gelu" if approximate == "none" else "gelu_tanh", input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x σ(x), also called swish. Source: arXiv:1702.03118, arXiv:1710.05941."""
    return _activation("silu", input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)). Source: Misra (2019), arXiv:1908.08681."""
    return _activation("mish", input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply(ops.Sigmoid(), input)


def logsigmoid(input: Tensor) -> Tensor:
    """ln σ(x), without taking the logarithm of a rounded zero."""
    return _activation("logsigmoid", input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply(ops.Tanh(), input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + exp(beta · x)) / beta; x itself where beta · x > threshold."""
    return _activation("softplus", input, False, beta, threshold)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _activation("softsign", input, takes="fiu")


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x held between ``min_val`` and ``max_val``; at these the slope is 0."""
    if min_val > max_val:
        raise ValueError(f"hardtanh expects min_val <= max_val, got {min_val} and {max_val}.")
    min_val, max_val = _like("hardtanh", input, min_val, max_val)
    return _activation("hardtanh", input, inplace, min_val, max_val, takes="fiu")


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x · relu6(x + 3) / 6. Source: Howard et al. (2019), arXiv:1905.02244, section 5.2."""
    return _activation("hardswish", input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6."""
    return _activation("hardsigmoid", input, inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return _activation("hardshrink", input, False, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by ``lambd``, at most to 0."""
    if lambd < 0:
        raise RuntimeError(f"softshrink expects lambd of at least 0, got {lambd}.")
    return _activation("softshrink", input, False, lambd)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _activation("tanhshrink", input, takes="fiu")


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else ``value``."""
    threshold, value = _like("threshold", input, threshold, value)
    return _activation("threshold", input, inplace, threshold, value, takes="fiu")


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a σ(b), where a and b are the halves of ``input`` along ``dim``.

    Source: Dauphin et al. (2017), arXiv:1612.08083, equation 1.
    """
    _check_dtype("glu", input, "f")
    if not input.ndim:
        raise ShapeError("glu expects at least one axis to halve, got a 0-d tensor.")
    axis = as_axis(dim, input.ndim)
    if input.shape[axis] % 2:
        raise ShapeError(
            f"glu expects an even size along dim {dim}, got {input.shape[axis]} in {input.shape}; "
            "a Linear before it can make twice the features."
        )
    half = input.shape[axis] // 2
    gated: Tensor = input.narrow(axis, 0, half) * sigmoid(input.narrow(axis, half, half))
    return gated


def softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """exp(x) / Σ exp(x) along ``dim``."""
    x = input if dtype is None else input.to(dtype)
    return run(ops.Softmax(_softmax_axis("softmax", dim, x)), fused, x)


def softmin(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """softmax(-x) along ``dim``."""
    x = input if dtype is None else input.to(dtype)
    return run(ops.Softmax(_softmax_axis("softmin", dim, x)), fused, -x)


def log_softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, fused: bool = True
) -> Tensor:
    """ln softmax(x) along ``dim``, computed as x - ln Σ exp(x)."""
    x = input if dtype is None else input.to(dtype)
    return run(ops.LogSoftmax(_softmax_axis("log_softmax", dim, x)), fused, x)


def _softmax_axis(name: str, dim: int | None, x: Tensor) -> int:
    if dim is None:  # PyTorch's guess, kept with its warning
        dim = 0 if x.ndim in (0, 1, 3) else 1
        warnings.warn(
            f"{name} without dim takes dim={dim} for a tensor of {x.ndim} axes; say which axis "
            "shall sum to 1, usually dim=-1.",
            stacklevel=3,
        )
    return as_axis(dim, x.ndim)


def _activation(
    kind: str, input: Tensor, inplace: bool = False, *parameters: Any, takes: str = "f"
) -> Tensor:
    """A row of the table of activations; ``takes`` are the kinds of dtype that PyTorch has."""
    _check_dtype(kind, input, takes)
    op = ops.Activation(kind, *parameters)
    return input._change(op) if inplace else apply(op, input)


def _like(name: str, input: Tensor, *numbers: float) -> tuple[float, ...]:
    """Numbers that go with ``input``: cut to integers where it holds integers."""
    if input.dtype.kind == "u" and min(numbers) < 0:
        raise DtypeError(
            f"{name} of a {input.dtype} tensor expects numbers of at least 0, got {numbers}; "
            "convert it first, as in x.float()."
        )
    return numbers if input.dtype.kind == "f" else tuple(int(n) for n in numbers)


def _check_dtype(name: str, input: Tensor, takes: str) -> None:
    if input.dtype.kind not in takes:
        kinds = "floating or integer" if "i" in takes else "floating"
        raise DtypeError(
            f"{name} expects a {kinds} tensor, got {input.dtype}; convert it, as in x.float()."
        )
