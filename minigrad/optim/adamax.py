"""Adamax: Adam with the largest gradient in place of the mean square."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, check_betas, in_range


class Adamax(Optimizer):
    """Adamax: Adam with the infinity norm.

    ::

        g <- g + lambda w                          weight decay
        m <- beta1 m + (1 - beta1) g
        u <- max(beta2 u, |g| + eps)               a maximum that fades: needs no correction
        w <- w - lr / (1 - beta1^t) m / u

    Adam's sqrt(v) is the 2-norm of the past gradients, weighted; with the p-norm instead and
    p -> infinity only the largest counts. No step is longer than lr, and a tiny gradient among
    large ones does not move u at all.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size, a bound of every coordinate's step.
        betas: (beta1, beta2), the shares of the old m and u that are kept.
        eps: keeps u away from 0.
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        maximize: climb instead: g <- -g before everything else.

    Source: Kingma and Ba (2015), "Adam: a method for stochastic optimization", arXiv:1412.6980,
        algorithm 2 (section 7.1).
    Differs: the paper has no eps, and 0 / 0 where every gradient so far was 0. Keras adds eps to u
        at the division; here and in PyTorch it stands in the maximum, and is remembered in u.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.02], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> Adamax([w], lr=0.01).step()
        >>> w
        tensor([ 3.9900, -0.0100], requires_grad=True)
    """

    keeps = ("step", "exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay")
        check_betas(group)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        beta1, beta2 = group["betas"]
        backend_of(param).adamax_update(
            param,
            grad,
            m=self.average(state, "exp_avg", param),
            u=self.average(state, "exp_inf", param),
            lr=float(group["lr"]),
            beta1=float(beta1),
            beta2=float(beta2),
            eps=float(group["eps"]),
            t=self.count(state),
            weight_decay=float(group["weight_decay"]),
        )
