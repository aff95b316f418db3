"""Adadelta: steps measured in the units of the steps before."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, in_range


class Adadelta(Optimizer):
    """Adadelta: the gradient, divided by its running size, times the running size of the steps.

    ::

        g <- g + lambda w                                  weight decay
        s <- rho s + (1 - rho) g^2
        d  = g sqrt(u + eps) / sqrt(s + eps)
        u <- rho u + (1 - rho) d^2
        w <- w - lr d

    g / sqrt(s) has no unit, so the step would be right for one scale of w alone; the factor sqrt(u)
    gives it the unit of w. No step size is needed. u begins at 0 and only eps gets it going:
    the first steps are sqrt(eps / (1 - rho)) long, 0.003 by default, and grow from there.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: a factor of the step; 1 is the paper's method.
        rho: the share of the old averages that is kept.
        eps: inside both roots: it begins the first step and keeps the divisor away from 0.
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        maximize: climb instead: g <- -g before everything else.

    Source: Zeiler (2012), "ADADELTA: an adaptive learning rate method", arXiv:1212.5701,
        algorithm 1 (rho 0.95, eps 1e-6 in its experiments).
    Differs: Keras has lr 0.001, rho 0.95 and eps 1e-7; its lr has to be set to 1 for the method of
        the paper.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.2], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> Adadelta([w]).step()
        >>> w  # sqrt(1e-6 / 0.1) = 0.0032
        tensor([ 3.9968, -0.1968], requires_grad=True)
    """

    keeps = ("step", "square_avg", "acc_delta")

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay")
        in_range(group, "rho", up_to=1)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        self.count(state)
        backend_of(param).adadelta_update(
            param,
            grad,
            self.average(state, "square_avg", param),
            self.average(state, "acc_delta", param),
            lr=float(group["lr"]),
            rho=float(group["rho"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
        )
