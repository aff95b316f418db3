"""RMSprop: steps divided by the running size of the gradient."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, in_range


class RMSprop(Optimizer):
    """RMSprop: each coordinate's step is divided by the root of its mean squared gradient.

    ::

        g <- g + lambda w                                  weight decay
        s <- alpha s + (1 - alpha) g^2
        h <- alpha h + (1 - alpha) g                       centered: the mean gradient
        d  = sqrt(s) + eps,   centered: sqrt(s - h^2) + eps
        d  = sqrt(s + eps),   centered: sqrt(s - h^2 + eps)    eps_inside_sqrt
        w <- w - lr g / d                                  momentum=0
        v <- mu v + g / d;   w <- w - lr v                 momentum=mu

    A direction in which the gradient swings from side to side has a large s and takes short steps,
    so that lr can be larger.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size.
        alpha: the share of the old average that is kept.
        eps: keeps d away from 0.
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        momentum: mu, for the scaled gradients.
        centered: divide by an estimate of the standard deviation instead.
        maximize: climb instead: g <- -g before everything else.
        eps_inside_sqrt: eps stands inside the root, as in Keras and TensorFlow, instead of outside,
            as in PyTorch.

    Source: Tieleman and Hinton (2012), "Lecture 6.5: rmsprop", Neural networks for machine
        learning; centered, with momentum: Graves (2013), arXiv:1308.0850, equations 38 to 41.
    Differs: the lecture has alpha 0.9 and no eps. Keras and TensorFlow (rho 0.9, eps 1e-7) and
        Graves put eps inside the root, as ``eps_inside_sqrt=True`` does: near s = 0 it acts there
        like sqrt(eps) outside, 3e-4 for 1e-7. Their momentum holds lr, v <- mu v + lr g / d, which
        parts from this one when lr changes. s begins at 0 and is not corrected for it: the first
        step is lr / sqrt(1 - alpha) long, 10 times lr by default. Where rounding makes s - h^2
        negative it is taken as 0; PyTorch gives NaN.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.02], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> RMSprop([w], lr=0.001).step()
        >>> w  # the same step, whatever the size of the gradient
        tensor([ 3.9900, -0.0100], requires_grad=True)
    """

    keeps = ("step", "square_avg")
    may_keep = ("momentum_buffer", "grad_avg")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        eps_inside_sqrt: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "eps_inside_sqrt": eps_inside_sqrt,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay", "momentum")
        in_range(group, "alpha", up_to=1)

    def numbers(self, group: Group, t: float) -> tuple[float, ...]:
        """The learning rate."""
        return (float(group["lr"]),)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        self.count(state)
        backend_of(param).rmsprop_update(
            param,
            grad,
            self.average(state, "square_avg", param),
            self.average(state, "grad_avg", param) if group["centered"] else None,
            self.average(state, "momentum_buffer", param) if group["momentum"] else None,
            lr=float(group["lr"]),
            alpha=float(group["alpha"]),
            eps=float(group["eps"]),
            momentum=float(group["momentum"]),
            weight_decay=float(group["weight_decay"]),
            eps_inside=group["eps_inside_sqrt"],
        )
