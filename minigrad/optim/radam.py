"""RAdam: Adam that waits until its mean square can be trusted."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, check_betas, in_range


class RAdam(Optimizer):
    """Rectified Adam: plain momentum first, Adam as soon as v has seen enough gradients.

    ::

        g <- g + lambda w                                weight decay (coupled)
        w <- w - lr lambda w                             instead, with decoupled_weight_decay
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        m_hat = m / (1 - beta1^t)
        rho_inf = 2 / (1 - beta2) - 1                    how many gradients v holds in the end,
        rho_t   = rho_inf - 2 t beta2^t / (1 - beta2^t)  and at step t
        rho_t <= 5:   w <- w - lr m_hat
        rho_t >  5:   r^2 = (rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t)
                      w <- w - lr r m_hat sqrt(1 - beta2^t) / (sqrt(v) + eps)

    In the first steps v is a mean of a few squares and its variance is enormous: Adam then needs a
    warm-up of lr, or it runs away. r is that warm-up, derived: it grows from 0 to 1 with the number
    of gradients in v. By default the first 5 steps are those of momentum.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size; the first steps are lr times the gradient, not lr.
        betas: (beta1, beta2), as in Adam.
        eps: keeps the root away from 0.
        weight_decay: lambda.
        decoupled_weight_decay: shrink the weights directly, as AdamW and the paper's code do.
        maximize: climb instead: g <- -g before everything else.

    Source: Liu et al. (2020), "On the variance of the adaptive learning rate and beyond",
        arXiv:1908.03265, algorithm 2.
    Differs: the paper asks for rho_t > 4, its code and PyTorch for rho_t > 5. The paper has no eps;
        here as in PyTorch it is added to the uncorrected root, unlike in ``Adam``.
    """

    keeps = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay")
        check_betas(group)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        weight_decay, decoupled = float(group["weight_decay"]), group["decoupled_weight_decay"]
        t = self.count(state)
        correction = 1 - beta2**t
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * t * beta2**t / correction
        rate, adaptive = lr / (1 - beta1**t), rho > 5
        if adaptive:
            r = ((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) ** 0.5
            rate *= r * correction**0.5
        backend_of(param).radam_update(
            param,
            grad,
            m=self.average(state, "exp_avg", param),
            v=self.average(state, "exp_avg_sq", param),
            beta1=beta1,
            beta2=beta2,
            eps=float(group["eps"]),
            rate=rate,
            adaptive=adaptive,
            shrink=lr * weight_decay if decoupled else 0.0,
            weight_decay=0.0 if decoupled else weight_decay,
        )
