"""Stochastic gradient descent, as PyTorch defines it."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, in_range


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant.

    ::

        g <- g + lambda w                      weight decay
        v <- mu v + (1 - tau) g                momentum; the first step sets v <- g
        w <- w - lr v                          nesterov=False
        w <- w - lr (g + mu v)                 nesterov=True

    Without momentum, w <- w - lr g.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size.
        momentum: mu, the share of the old velocity that is kept; usual is 0.9.
        dampening: tau; ``dampening=momentum`` makes v an average of the gradients (but see
            Differs).
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        nesterov: step along the velocity as it will be after this gradient; needs momentum.
        maximize: climb instead: g <- -g before everything else.

    Source: Robbins and Monro (1951); Polyak (1964); Nesterov's in the form of Sutskever et al.
        (2013), "On the importance of initialization and momentum in deep learning", equations 3 and
        4, rewritten so that the gradient is taken at w.
    Differs: dampening does not apply to the first step (as in PyTorch), so that v begins as g, not
        as (1 - tau) g. Keras and Sutskever et al. put lr into the velocity; ``Momentum`` has their
        form and the others.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor(0.0, requires_grad=True)
        >>> optimizer = SGD([w], lr=0.1)
        >>> (w**2 - 10 * w + 25).backward()
        >>> optimizer.step()
        >>> w
        tensor(1., requires_grad=True)
    """

    keeps = ()
    may_keep = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "momentum", "dampening", "weight_decay")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov=True needs momentum above 0 and dampening 0, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}."
            )

    def numbers(self, group: Group, t: float) -> tuple[float, ...]:
        """The learning rate."""
        return (float(group["lr"]),)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        first = "momentum_buffer" not in state
        backend_of(param).sgd_update(
            param,
            grad,
            self.average(state, "momentum_buffer", param) if group["momentum"] else None,
            lr=float(group["lr"]),
            momentum=float(group["momentum"]),
            dampening=float(group["dampening"]),
            nesterov=group["nesterov"],
            first=first,
            weight_decay=float(group["weight_decay"]),
        )
