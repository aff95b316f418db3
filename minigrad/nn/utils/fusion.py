"""BatchNorm in eval mode is an affine map: folded into the layer before it, it costs nothing.

With s = γ / √(σ² + ε), BatchNorm(W x + b) = s (W x + b - μ) + β = (s W) x + s (b - μ) + β.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from minigrad.creation import ones_like, zeros_like
from minigrad.nn.module import Module, Parameter
from minigrad.tensor import Tensor


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of ``conv`` that does what ``bn(conv(x))`` does in eval mode.

    Args:
        transpose: conv is a transposed convolution, whose output channels are axis 1.
    """
    _check(conv, bn)
    fused = deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        bn.running_mean,
        bn.running_var,
        bn.eps,
        bn.weight,
        bn.bias,
        transpose,
    )
    return fused


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of the convolution that ``fuse_conv_bn_eval`` makes."""
    scale, bias = _affine(conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    shape = [1, -1] if transpose else [-1, 1]
    weight = conv_w.detach() * scale.reshape(shape + [1] * (conv_w.ndim - 2))
    return _parameters(weight, bias, conv_w, conv_b)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of ``linear`` that does what ``bn(linear(x))`` does in eval mode."""
    _check(linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError(
            f"fuse_linear_bn_eval needs a BatchNorm of {linear.out_features} features, or of 1, "
            f"after a Linear with out_features={linear.out_features}, got {bn.num_features}."
        )
    fused = deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of the Linear that ``fuse_linear_bn_eval`` makes."""
    scale, bias = _affine(linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
    return _parameters(linear_w.detach() * scale.unsqueeze(-1), bias, linear_w, linear_b)


def _affine(
    b: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    gamma: Tensor | None,
    beta: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(s, s (b - μ) + β)."""
    b = zeros_like(mean) if b is None else b.detach()
    gamma = ones_like(mean) if gamma is None else gamma.detach()
    beta = zeros_like(mean) if beta is None else beta.detach()
    scale = gamma * (var.detach() + eps).rsqrt()
    return scale, (b - mean.detach()) * scale + beta


def _parameters(
    weight: Tensor, bias: Tensor, old_weight: Tensor, old_bias: Tensor | None
) -> tuple[Parameter, Parameter]:
    """In the dtypes of the old ones, learnt where those were."""
    like = old_weight if old_bias is None else old_bias
    return (
        Parameter(weight.to(old_weight.dtype), old_weight.requires_grad),
        Parameter(bias.to(like.dtype), old_bias is not None and old_bias.requires_grad),
    )


def _check(layer: Module, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError(
            "folding a BatchNorm into the layer before it is right in eval mode only, where its "
            f"statistics are fixed, got training={layer.training} and {bn.training}; call .eval() "
            "on both."
        )
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(
            "folding a BatchNorm needs its running statistics, got None; build it with "
            "track_running_stats=True."
        )
