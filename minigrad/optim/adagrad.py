"""Adagrad: steps divided by the root of all squared gradients so far."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, in_range


class Adagrad(Optimizer):
    """Adagrad: each coordinate's step is divided by the root of its summed squared gradients.

    ::

        g  <- g + lambda w                     weight decay
        s  <- s + g^2                          s begins at tau
        lr_t = lr / (1 + (t - 1) eta)          t counts the steps from 1
        w  <- w - lr_t g / (sqrt(s) + eps)

    A coordinate that seldom has a gradient, such as that of a rare word, keeps a small s and takes
    long steps when it has one. s only grows: with gradients of one size the steps shrink as
    lr / sqrt(t), without any schedule. RMSprop and Adadelta replace the sum by a running mean.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size, the length of the first step in every coordinate (with tau = 0).
        lr_decay: eta, a decay of lr besides that of s.
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        initial_accumulator_value: tau; above 0 it shortens the first steps.
        eps: keeps the divisor away from 0; it stands outside the root.
        maximize: climb instead: g <- -g before everything else.

    Source: Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and
        stochastic optimization", figure 1 with diagonal matrices (their delta is eps).
    Differs: Keras and TensorFlow begin with s = 0.1 and lr 0.001, and put eps (1e-7) inside the
        root. The paper has no lr_decay. PyTorch makes s when the optimizer is made, minigrad at a
        parameter's first step.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.02], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> Adagrad([w], lr=0.01).step()
        >>> w  # the first step is lr, whatever the size of the gradient
        tensor([ 3.9900, -0.0100], requires_grad=True)
    """

    keeps = ("step", "sum")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        t = self.count(state)
        backend_of(param).adagrad_update(
            param,
            grad,
            self.average(state, "sum", param, float(group["initial_accumulator_value"])),
            lr=float(group["lr"]) / (1 + (t - 1) * float(group["lr_decay"])),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
        )
