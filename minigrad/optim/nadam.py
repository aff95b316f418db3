"""NAdam: Adam with Nesterov's look ahead."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, check_betas, in_range


class NAdam(Optimizer):
    """NAdam: Adam whose momentum already counts the gradient at hand, as Nesterov's does.

    ::

        g <- g + lambda w                                weight decay (coupled)
        w <- w - lr lambda w                             instead, with decoupled_weight_decay
        mu_t = beta1 (1 - 0.96^(t psi) / 2)              momentum: rises from beta1 / 2 to beta1
        P   <- P mu_t                                    P = mu_1 mu_2 ... mu_t, begins at 1
        m   <- beta1 m + (1 - beta1) g
        v   <- beta2 v + (1 - beta2) g^2
        m_hat = mu_{t+1} m / (1 - P mu_{t+1})  +  (1 - mu_t) g / (1 - P)
        v_hat = v / (1 - beta2^t)
        w   <- w - lr m_hat / (sqrt(v_hat) + eps)

    Adam steps along m; Nesterov's idea is to step along the m of the next step, as far as it is
    known: its momentum part with the next mu, and the present gradient in full.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size.
        betas: (beta1, beta2), as in Adam.
        eps: keeps the root away from 0; it stands outside the corrected root.
        weight_decay: lambda.
        momentum_decay: psi; 0.004 lets mu reach 0.75 beta1 after some 4250 steps.
        decoupled_weight_decay: shrink the weights directly, as AdamW does.
        maximize: climb instead: g <- -g before everything else.

    Source: Dozat (2016), "Incorporating Nesterov momentum into Adam", ICLR workshop, algorithm 2
        (there without the schedule of mu); the schedule: Sutskever et al. (2013).
    Differs: Keras fixes psi at 0.004 and has lr 0.001; its eps is 1e-7. PyTorch keeps P in float32
        ("mu_product"), and so does this.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.02], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> NAdam([w], lr=0.01).step()
        >>> w  # longer than lr: 1 + (1 - beta1) mu_2 / (1 - mu_1 mu_2), 1.056 times
        tensor([ 3.9894, -0.0094], requires_grad=True)
    """

    keeps = ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay", "momentum_decay")
        check_betas(group)

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        weight_decay, psi = float(group["weight_decay"]), float(group["momentum_decay"])
        t, product = self.count(state), self.number(state, "mu_product", 1.0)
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (n * psi)) for n in (t, t + 1))
        product *= mu
        decoupled = group["decoupled_weight_decay"]
        backend_of(param).nadam_update(
            param,
            grad,
            m=self.average(state, "exp_avg", param),
            v=self.average(state, "exp_avg_sq", param),
            beta1=beta1,
            beta2=beta2,
            eps=float(group["eps"]),
            t=t,
            grad_rate=lr * (1 - mu) / (1 - float(product)),
            mean_rate=lr * mu_next / (1 - float(product) * mu_next),
            shrink=lr * weight_decay if decoupled else 0.0,
            weight_decay=0.0 if decoupled else weight_decay,
        )
